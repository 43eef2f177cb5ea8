//! Asks for the space of a file system.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Target};
use crate::base::units;
use crate::observe::Observation;
use crate::sys::facts::{DiskSpace, Facts};
use std::path::PathBuf;

/// The space of the file system that holds a path, or will hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpaceOf {
    /// The path.
    pub path: PathBuf,
}

impl Observation for DiskSpaceOf {
    const NAME: &'static str = "disk_space";
    type Answer = DiskSpace;

    fn question(&self) -> String {
        format!("how much space is there for `{}`?", self.path.display())
    }

    fn answer(&self, answer: &DiskSpace) -> String {
        shown(answer)
    }

    fn concerns(&self, facts: &Facts) -> Vec<Target> {
        vec![Target::Path(facts.absolute(&self.path))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<DiskSpace>, Failure> {
        facts.disk_space(&facts.absolute(&self.path)).map(Later::Now)
    }
}

/// Space in one line.
pub(super) fn shown(space: &DiskSpace) -> String {
    format!("{} of {} are free", units::bytes(space.available), units::bytes(space.total))
}
