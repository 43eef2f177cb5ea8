//! What tells whether the record of a run is still as it was read.

use crate::base::ids::RunId;
use crate::sys::cache::Stamp;
use crate::sys::names;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The folder of all records, open to be looked at.
#[derive(Debug)]
pub struct Records(OwnedFd);

impl Records {
    /// Opens the folder; `None` if it is not there, or not for this user.
    pub fn open(state: &Path) -> Option<Self> {
        names::open(&state.join("runs")).ok().map(Self)
    }

    /// A file of a run as it is now; `None` if it is not there or cannot be looked at.
    pub fn stamp(&self, run: &RunId, name: &str) -> Option<Stamp> {
        Stamp::at(&self.0, [run.as_str(), "/", name].concat())
            .ok()
            .filter(|(_, is_file)| *is_file)
            .map(|(stamp, _)| stamp)
    }
}
