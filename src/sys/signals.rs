//! Signals that ask this process to end.

use crate::base::cancel::{Cancel, Reason};
use crate::base::failure::{Code, Exit, Failure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Turns SIGINT and SIGTERM into `cancel`. A second SIGINT ends the process at once, for a person whose first one did not
/// help; what it leaves behind is that of a killed run, which is inert. `last_words` is called then, and not waited for when it
/// cannot be told.
pub fn cancel_on_signals(cancel: Cancel, last_words: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let refused = |error| Failure::new(Code::Internal, "cannot listen for signals").caused_by(error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(refused)?;
    std::thread::Builder::new()
        .name("lifeboat-signals".to_owned())
        .spawn(move || {
            let mut interrupted = false;
            for signal in signals.forever() {
                if signal == SIGTERM {
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
