//! `backups`: which backups a folder holds, with what a dry run predicts laid over it.

use crate::base::backup::Backup;
use crate::base::failure::Failure;
use crate::base::plan::{Later, Need};
use crate::observe::Observation;
use crate::sys::facts::{Facts, Seen};
use crate::sys::store::{self, Catalog, Listing};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
    pub(super) fn admits(&self, backup: &Backup) -> bool {
        self.tag.as_ref().is_none_or(|tag| backup.tag == *tag)
            && self.verified.is_none_or(|wanted| (backup.verified == Later::Now(Some(true))) == wanted)
    }
}

/// Asks for the backups of a folder, oldest first; a file stands for itself.
#[derive(Clone, Debug)]
pub struct Backups {
    /// The folder, or one backup's file.
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
        let path = facts.absolute(&self.dir);
        let all = match one(facts, &path)? {
            Some(backup) => Later::Now(vec![backup]),
            None => facts.backups_in(&listed(facts, &path)?, Catalog::Cached(facts.host().state())),
        };
        Ok(all.map(|all| all.into_iter().filter(|backup| self.filter.admits(backup)).collect()))
    }
}

/// The names in a folder; of backups that are gone it is told.
pub(super) fn listed(facts: &Facts, dir: &Path) -> Result<Listing, Failure> {
    let listing = Listing::read(dir)?;
    for name in listing.orphans()? {
        facts.host().warn(&format!("`{name}` is gone, only its sidecars are left"));
    }
    Ok(listing)
}

/// The backup that `path` itself is, if it is a file, as this run sees it.
pub(super) fn one(facts: &Facts, path: &Path) -> Result<Option<Backup>, Failure> {
    if facts.view().path(path) == Seen::Gone {
        return Ok(None);
    }
    let found = store::look_at_any(path)?;
    Ok(found.map(|found| {
        let mut backup = found.backup;
        if facts.view().is_verified(path) {
            backup.verified = Later::Now(Some(true));
        }
        backup
    }))
}
