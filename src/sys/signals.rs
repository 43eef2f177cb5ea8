//! Signals that ask this process to end.

use crate::base::cancel::{Cancel, Reason};
use crate::base::failure::{Code, Exit, Failure};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Turns SIGINT and SIGTERM into `cancel`. A second SIGINT ends the process at once, for a person whose first one did not
/// help; what it leaves behind is that of a killed run, which is inert. `last_words` is called then, and not waited for when it
/// cannot be told.
///
/// SIGTERM lets the current step end first if that takes no longer than `grace`; a second one does not wait.
pub fn cancel_on_signals(
    cancel: Cancel,
    grace: Duration,
    last_words: impl FnOnce() + Send + 'static,
) -> Result<(), Failure> {
    let refused = |error| Failure::new(Code::Internal, "cannot listen for signals").caused_by(error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(refused)?;
    std::thread::Builder::new()
        .name("lifeboat-signals".to_owned())
        .spawn(move || {
            let (mut interrupted, mut winding_down) = (false, false);
            for signal in signals.forever() {
                if signal == SIGTERM && !winding_down && !grace.is_zero() {
                    winding_down = true;
                    cancel.wind_down();
                    let cancel = cancel.clone();
                    std::thread::spawn(move || {
                        std::thread::sleep(grace);
                        cancel.cancel(Reason::Terminated);
                    });
                } else if signal == SIGTERM {
                    cancel.cancel(Reason::Terminated);
                } else if interrupted {
                    break;
                } else {
                    interrupted = true;
                    cancel.cancel(Reason::Interrupted);
                }
            }
            // Whoever holds the screen at this moment may never let go of it.
            let (told, heard) = channel();
            let speaker = std::thread::Builder::new().spawn(move || {
                last_words();
                let _ = told.send(());
            });
            if speaker.is_ok() {
                let _ = heard.recv_timeout(LAST_WORDS);
            }
            std::process::exit(Exit::Interrupted.code().into());
        })
        .map(|_| ())
        .map_err(refused)
}

/// What a daemon is asked by signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGINT or SIGTERM.
    End,
    /// SIGHUP.
    Reload,
}

/// Hands signals to `handler`, one at a time, on a thread of its own.
pub fn listen(handler: impl Fn(Asked) + Send + 'static) -> Result<(), Failure> {
    let refused = |error| Failure::new(Code::Internal, "cannot listen for signals").caused_by(error);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(refused)?;
    std::thread::Builder::new()
        .name("lifeboat-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                handler(if signal == SIGHUP { Asked::Reload } else { Asked::End });
            }
        })
        .map(|_| ())
        .map_err(refused)
}

/// Asks another process to end.
pub fn terminate(pid: u32) {
    send(pid, Signal::TERM);
}

/// Ends another process without asking.
pub fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

fn send(pid: u32, signal: Signal) {
    // One that has ended already is what was wanted.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
