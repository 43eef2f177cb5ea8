//! The token that asks work to end.

use crate::base::failure::{Code, Failure};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// Why a run is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

#[derive(Debug, Default)]
struct State {
    reason: AtomicU8,
    notify: Notify,
}

/// Asks everything that shares it to end; cheap to clone and to poll.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<State>);

impl Cancel {
    /// A token that nobody has set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end. The first reason stays.
    pub fn cancel(&self, reason: Reason) {
        let value = match reason {
            Reason::Interrupted => 1,
            Reason::Terminated => 2,
        };
        let _ = self.0.reason.compare_exchange(0, value, Ordering::SeqCst, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    /// Why the end was asked for, if it was.
    pub fn reason(&self) -> Option<Reason> {
        match self.0.reason.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Reason::Interrupted),
            _ => Some(Reason::Terminated),
        }
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Fails when the end was asked for.
    pub fn check(&self) -> Result<(), Failure> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => Err(Self::failure(reason)),
        }
    }

    /// The failure that `reason` stands for.
    pub fn failure(reason: Reason) -> Failure {
        match reason {
            Reason::Interrupted => Failure::new(Code::Interrupted, "interrupted"),
            Reason::Terminated => Failure::new(Code::Terminated, "terminated"),
        }
    }

    /// Waits until the end is asked for.
    pub async fn cancelled(&self) -> Reason {
        loop {
            let notified = self.0.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(reason) = self.reason() {
                return reason;
            }
            notified.await;
        }
    }
}
