//! `latest`: the newest backup of a folder.

use crate::base::backup::Backup;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need};
use crate::observe::Observation;
use crate::observe::backups::{BackupFilter, listed, one};
use crate::sys::facts::Facts;
use std::path::PathBuf;

/// Asks for the newest backup of a folder; there must be one.
#[derive(Clone, Debug)]
pub struct Latest {
    /// The folder.
    pub dir: PathBuf,
    /// Which ones count.
    pub filter: BackupFilter,
}

impl Observation for Latest {
    const NAME: &'static str = "latest";
    type Answer = Backup;

    fn question(&self) -> String {
        format!("the newest backup in `{}`", self.dir.display())
    }

    fn answer(&self, answer: &Backup) -> String {
        answer.name.clone()
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        vec![Need::Read(facts.absolute(&self.dir))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Backup>, Failure> {
        let path = facts.absolute(&self.dir);
        let newest = match one(facts, &path)? {
            Some(backup) => Later::Now(Some(backup).filter(|backup| self.filter.admits(backup))),
            None => facts
                .newest_in(&listed(facts, &path)?, &[1], |backup| self.filter.admits(backup).then_some(0))
                .map(|mut all| all.pop()),
        };
        let Later::Now(newest) = newest else { return Ok(Later::AfterRun) };
        newest.map(Later::Now).ok_or_else(|| {
            let which = match (&self.filter.tag, self.filter.verified) {
                (Some(tag), Some(true)) => format!("verified backup tagged `{tag}`"),
                (Some(tag), _) => format!("backup tagged `{tag}`"),
                (None, Some(true)) => "verified backup".to_owned(),
                (None, _) => "backup".to_owned(),
            };
            Failure::new(Code::NotFound, format!("there is no {which} in `{}`", self.dir.display())).hint(
                format!(
                    "Look with `lifeboat backups {}`, or make one with `lifeboat run backup_all`.",
                    self.dir.display()
                ),
            )
        })
    }
}
