//! This process itself: where it works, which file it is.

use crate::base::failure::{Code, Failure};
use std::path::PathBuf;

/// What `main` returns to the system.
pub type ExitCode = std::process::ExitCode;

/// The folder it was started in.
pub fn working_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::new(Code::Io, "cannot tell which folder this is")
            .caused_by(error)
            .hint("The folder may have been removed: change to one that exists.")
    })
}

/// The file that is being executed, absolute.
pub fn executable() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new(Code::Io, "cannot tell which file this program is").caused_by(error))
}

/// A variable of its environment that is not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Ends this process as a power cut would: nothing is tidied up. For failures on purpose.
pub fn kill() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
