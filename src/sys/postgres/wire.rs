//! What carries the bytes of one session: a runtime of its own.
//!
//! *Problem*: on a runtime that all sessions share, each piece of a COPY wakes one thread that reads it and another one that
//! takes it. *Decision*: each session reads in the thread that waits for it. While nobody waits, nothing is read; the server's
//! last words are read with the next question.

use super::refusal;
use crate::base::cancel::Cancel;
use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::Error;

/// How long a farewell may take; the server notices the end of a connection in any case.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);

/// The runtime of a session.
pub(super) struct Wire {
    runtime: Option<Runtime>,
    attended: Mutex<Option<JoinHandle<()>>>,
    words: Arc<Mutex<Option<String>>>,
}

impl Wire {
    pub(super) fn new() -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unprepared(&error))?;
        Ok(Self { runtime: Some(runtime), attended: Mutex::default(), words: Arc::default() })
    }

    /// Waits for a future, or fails when the run is asked to end. Must be called from a plain thread.
    pub(super) fn wait<T>(&self, host: &Host, future: impl Future<Output = T>) -> Result<T, Failure> {
        let cancel = host.cancel().clone();
        self.wait_to_the_end(async move {
            tokio::select! {
                biased;
                reason = cancel.cancelled() => Err(Cancel::failure(reason)),
                value = future => Ok(value),
            }
        })?
    }

    /// Waits for a future even when the run is asked to end, so that it must be bounded in time or see to that itself.
    pub(super) fn wait_to_the_end<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let Some(runtime) = &self.runtime else {
            return Err(Failure::new(Code::Internal, "a connection is used behind its end"));
        };
        Ok(runtime.block_on(async {
            // What has arrived meanwhile is read before anything is sent: it may be the server's farewell.
            tokio::task::yield_now().await;
            future.await
        }))
    }

    /// Moves bytes for as long as the connection lasts, and keeps the server's last words. Called within a wait.
    pub(super) fn attend(&self, connection: impl Future<Output = Result<(), Error>> + Send + 'static) {
        let words = self.words.clone();
        let attended = tokio::spawn(async move {
            if let Err(error) = connection.await {
                *words.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal::innermost(&error));
            }
        });
        *self.attended.lock().unwrap_or_else(PoisonError::into_inner) = Some(attended);
    }

    /// What ended the connection, if the server said so before it hung up.
    pub(super) fn last_words(&self) -> Option<String> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn unprepared(error: &io::Error) -> Failure {
    Failure::new(Code::Io, "cannot prepare a connection")
        .caused_by(error)
        .hint("Ask for fewer connections with `jobs`, or raise the limit of open files (`ulimit -n`).")
}

impl Drop for Wire {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let attended = self.attended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(attended) = attended
            && !std::thread::panicking()
        {
            // The client is gone, which ends the connection with a word to the server.
            let _ = runtime.block_on(async { tokio::time::timeout(FAREWELL_LIMIT, attended).await });
        }
        // A name look-up that was given up still blocks a thread, which is not waited for.
        runtime.shutdown_background();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn what_keeps_a_connection_from_being_prepared_is_told_with_the_remedy() {
        let failure = unprepared(&io::Error::from_raw_os_error(24));
        expect![[r#"
            (
                "cannot prepare a connection",
                [
                    "Too many open files (os error 24)",
                ],
                [
                    "Ask for fewer connections with `jobs`, or raise the limit of open files (`ulimit -n`).",
                ],
            )
        "#]]
        .assert_debug_eq(&(&failure.message, &failure.causes, &failure.hints));
    }
}
