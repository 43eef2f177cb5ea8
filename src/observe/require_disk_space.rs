//! Makes sure that a file system has enough space.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Target};
use crate::base::units;
use crate::observe::Observation;
use crate::observe::disk_space::shown;
use crate::sys::facts::{DiskSpace, Facts};
use std::path::PathBuf;

/// Space that must be free for files in a folder, whether that exists or will be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequireDiskSpace {
    /// The folder.
    pub dir: PathBuf,
    /// How many bytes must be free.
    pub bytes: u64,
}

impl Observation for RequireDiskSpace {
    const NAME: &'static str = "require_disk_space";
    type Answer = DiskSpace;

    fn question(&self) -> String {
        format!("are {} free for `{}`?", units::bytes(self.bytes), self.dir.display())
    }

    fn answer(&self, answer: &DiskSpace) -> String {
        shown(answer)
    }

    fn ask(&self, facts: &Facts) -> Result<Later<DiskSpace>, Failure> {
        let dir = facts.absolute(&self.dir);
        let space = facts.disk_space(&dir)?;
        if space.available >= self.bytes {
            return Ok(Later::Now(space));
        }
        // An earlier step may make room, as rotation does.
        if facts.view().is_touched(&Target::Path(dir.clone())) {
            return Ok(Later::AfterRun);
        }
        let dir = facts.host().shown(&dir);
        Err(Failure::new(Code::DiskFull, format!("insufficient disk space for `{dir}`"))
            .caused_by(format!(
                "{} are needed, {} are available",
                units::bytes(self.bytes),
                units::bytes(space.available)
            ))
            .hint(format!(
                "Free space on the file system of `{dir}`: `lifeboat run rotate_backups` removes backups that \
                 retention no longer keeps."
            ))
            .hint("Or let the backups go to another file system: name another folder."))
    }
}
