//! `backups`: which backups a folder holds, with what a dry run predicts laid over it.

use crate::base::backup::Backup;
use crate::base::failure::Failure;
use crate::base::plan::{Later, Need};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which backups are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupFilter {
    /// Only those with this tag.
    pub tag: Option<String>,
    /// Only those whose last verification found them intact.
    pub verified: Option<bool>,
}

impl BackupFilter {
    fn admits(&self, backup: &Backup) -> bool {
        self.tag.as_ref().is_none_or(|tag| backup.tag == *tag)
            && self.verified.is_none_or(|wanted| (backup.verified == Later::Now(Some(true))) == wanted)
    }
}

/// Asks for the backups of a folder, oldest first.
#[derive(Clone, Debug)]
pub struct Backups {
    /// The folder.
    pub dir: PathBuf,
    /// Which ones.
    pub filter: BackupFilter,
}

impl Observation for Backups {
    const NAME: &'static str = "backups";
    type Answer = Vec<Backup>;

    fn question(&self) -> String {
        format!("backups in `{}`", self.dir.display())
    }

    fn answer(&self, answer: &Vec<Backup>) -> String {
        match answer.len() {
            1 => "1 backup".to_owned(),
            n => format!("{n} backups"),
        }
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        vec![Need::Read(facts.absolute(&self.dir))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Vec<Backup>>, Failure> {
        Ok(facts
            .backups(&facts.absolute(&self.dir))?
            .map(|all| all.into_iter().filter(|backup| self.filter.admits(backup)).collect()))
    }
}
