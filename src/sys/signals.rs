//! Signals that ask this process to end.

use crate::base::cancel::{Cancel, Reason};
use crate::base::failure::{Code, Exit, Failure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Turns SIGINT and SIGTERM into `cancel`. A second SIGINT ends the process at once, for a person whose first one did not
/// help; what it leaves behind is that of a killed run, which is inert.
pub fn cancel_on_signals(cancel: Cancel) -> Result<(), Failure> {
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
                    std::process::exit(Exit::Interrupted.code().into());
                } else {
                    interrupted = true;
                    cancel.cancel(Reason::Interrupted);
                }
            }
        })
        .map(|_| ())
        .map_err(refused)
}
