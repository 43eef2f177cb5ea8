//! Makes sure that files can be made in a folder.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need, Target};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::fs;
use std::path::PathBuf;

/// A folder in which files must be makeable; it may be made itself by the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequireWritable {
    /// The folder.
    pub dir: PathBuf,
}

impl Observation for RequireWritable {
    const NAME: &'static str = "require_writable";
    type Answer = ();

    fn question(&self) -> String {
        format!("can files be made in `{}`?", self.dir.display())
    }

    fn answer(&self, (): &()) -> String {
        "yes".to_owned()
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        vec![Need::Write(facts.absolute(&self.dir))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<()>, Failure> {
        let dir = facts.absolute(&self.dir);
        let Some(obstacle) = fs::obstacle_to_writing(&facts.host().original(&dir))? else {
            return Ok(Later::Now(()));
        };
        // An earlier step may make the folder, or give access to it.
        if facts.view().is_touched(&Target::Path(dir.clone())) {
            return Ok(Later::AfterRun);
        }
        let dir = facts.host().shown(&dir);
        Err(Failure::new(Code::Io, format!("cannot write to the folder `{dir}`"))
            .caused_by(obstacle)
            .hint(format!("Give the user that runs Lifeboat access to `{dir}`, or name another folder.")))
    }
}
