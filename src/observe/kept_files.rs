//! `kept_files`: what extractions into a folder have kept, and what killed ones left behind.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::base::units;
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::kept::{self, State};
use chrono::{DateTime, FixedOffset};
use serde::Serialize;
use std::path::PathBuf;

/// What one extraction has kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptFiles {
    /// The folder that keeps it.
    pub path: PathBuf,
    /// What has become of the extraction.
    pub state: State,
    /// The run.
    pub run: String,
    /// When it began.
    pub at: DateTime<FixedOffset>,
    /// Seconds since then.
    pub age: u64,
    /// Bytes of what is kept.
    pub size: u64,
    /// How many files and links changed places.
    pub files: u64,
}

/// Asks what is kept of the files in a folder.
pub struct AskKeptFiles {
    /// The folder into which was extracted.
    pub dir: PathBuf,
}

impl Observation for AskKeptFiles {
    const NAME: &'static str = "kept_files";
    type Answer = Vec<KeptFiles>;

    fn question(&self) -> String {
        format!("what is kept of files in {}", self.dir.display())
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        let times = if answer.len() == 1 { "extraction" } else { "extractions" };
        format!("{} {times}, {}", answer.len(), units::bytes(answer.iter().map(|kept| kept.size).sum()))
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        vec![Need::Read(facts.absolute(&self.dir))]
    }

    fn concerns(&self, facts: &Facts) -> Vec<Target> {
        vec![Target::Path(facts.absolute(&self.dir).join(crate::sys::tree::KEPT))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        let dir = fs::resolved(&facts.absolute(&self.dir));
        let now = facts.now().fixed_offset();
        let mut found = Vec::new();
        for kept in kept::list(&dir)? {
            found.push(KeptFiles {
                path: kept.path(),
                state: kept.state,
                run: kept.index.run.clone(),
                at: kept.index.created,
                age: u64::try_from((now - kept.index.created).num_seconds()).unwrap_or_default(),
                size: kept.size(),
                files: kept.files_count(),
            });
        }
        Ok(Later::Now(found))
    }
}
