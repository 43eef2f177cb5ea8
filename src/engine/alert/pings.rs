//! The pings of a run: its beginning and its end, told to a check of its own.
//!
//! *Decision*: a thread sends them, in their order, so that a check that does not answer keeps no run from working. The last
//! one is waited for, together with the alerts. *Rejected*: keeping a ping that was not delivered, since a check takes it for
//! the time at which it comes.

use super::courier::{HURRIED, PATIENT, persistently};
use crate::base::event::{Level, What};
use crate::base::failure::{Exit, Failure};
use crate::base::ids::RunId;
use crate::base::notice::Notify;
use crate::sys::channel::PING_URL;
use crate::sys::channel::ping::{Signal, check, ping};
use crate::sys::host::Host;
use crate::sys::http::Address;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Instant;

/// What is told at the end.
struct Last {
    signal: Signal,
    body: String,
    asked: Instant,
}

/// The pings of a run that has begun.
#[derive(Debug)]
pub struct Pings {
    end: Sender<Last>,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for Last {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Last({:?})", self.signal)
    }
}

impl Pings {
    /// Tells the check of a playbook that a run begins, if the playbook has one: that of its header, or, if it is scheduled, the one
    /// that is set for all.
    pub fn begin(host: &Arc<Host>, notify: &Notify, is_scheduled: bool, run: &RunId) -> Option<Self> {
        let variable = match &notify.ping_env {
            Some(name) => name.as_str(),
            None if is_scheduled => PING_URL,
            None => return None,
        };
        let check = match check(host, variable) {
            Ok(check) => check?,
            Err(failure) => {
                undelivered(host, &failure);
                return None;
            }
        };
        let (end, ended) = mpsc::channel();
        let (host, run) = (host.clone(), run.clone());
        let thread = std::thread::Builder::new()
            .name("lifeboat-ping".to_owned())
            .spawn(move || tell(&host, &check, run.as_str(), &ended));
        Some(Self { end, thread: thread.ok()? })
    }

    /// Tells the check how the run ended, in the background.
    pub fn end(&self, exit: Exit, body: String) {
        let signal = if exit == Exit::Success { Signal::Success } else { Signal::Fail };
        let _ = self.end.send(Last { signal, body, asked: Instant::now() });
    }

    /// Waits until the last one is sent, or given up.
    pub fn wait(self) {
        drop(self.end);
        let _ = self.thread.join();
    }
}

fn tell(host: &Arc<Host>, check: &Address, run: &str, ended: &Receiver<Last>) {
    let send = |signal, body: &str, even_if_ending, patience, began| {
        persistently(host, patience, began, even_if_ending, |attempt| {
            ping(host, check, signal, run, body, attempt)
        })
    };
    // Once and in short: by the end it would be too late.
    let began = super::courier::Patience { pauses: &[], ..HURRIED };
    let start = send(Signal::Start, "", false, began, host.clock().instant());
    match start {
        Err(failure) if !failure.code.ends_the_run() => undelivered(host, &failure),
        _ => {}
    }
    let Ok(Last { signal, body, asked }) = ended.recv() else { return };
    let last = match send(signal, &body, false, PATIENT, asked) {
        Err(failure) if failure.code.ends_the_run() => {
            send(signal, &body, true, HURRIED, host.clock().instant())
        }
        last => last,
    };
    if let Err(failure) = last {
        undelivered(host, &failure);
    }
}

fn undelivered(host: &Host, failure: &Failure) {
    let hint = failure.hints.first().map_or_else(String::new, |hint| format!(". {hint}"));
    host.emit(What::Log {
        level: Level::Warn,
        message: format!("the ping was not delivered: {failure}{hint}"),
    });
}
