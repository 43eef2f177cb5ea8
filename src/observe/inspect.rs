//! `inspect`: proves a backup without writing anything down, so that a dry run can do it too.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need, Target};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::proof::{self, Reread, Verification};
use serde::Deserialize;
use std::path::PathBuf;

/// How a backup is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InspectOptions {
    /// Whether what a dump of ours holds is read again, although its very bytes were verified before.
    pub reread: bool,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self { reread: true }
    }
}

/// Asks whether the backup at a path is intact: it is read from the first byte to the last.
#[derive(Clone, Debug)]
pub struct Inspect {
    /// The file.
    pub path: PathBuf,
    /// How.
    pub options: InspectOptions,
}

impl Observation for Inspect {
    const NAME: &'static str = "inspect";
    type Answer = Verification;

    fn question(&self) -> String {
        format!("is `{}` intact?", self.path.display())
    }

    fn answer(&self, answer: &Verification) -> String {
        if answer.intact { "yes".to_owned() } else { format!("no: {}", answer.problems.join("; ")) }
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        vec![Need::Read(facts.absolute(&self.path))]
    }

    fn concerns(&self, facts: &Facts) -> Vec<Target> {
        vec![Target::Path(facts.absolute(&self.path))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Verification>, Failure> {
        let path = facts.absolute(&self.path);
        if !fs::exists(&path)? {
            return Err(Failure::new(Code::NotFound, format!("there is no backup `{}`", path.display()))
                .hint("`lifeboat restore --list` shows the backups of the usual folders."));
        }
        let reread = if self.options.reread { Reread::Always } else { Reread::UnlessVerified };
        match proof::examine(facts, &path, reread) {
            // What cannot be read is not intact; the next older one may be.
            Err(failure) if proof::is_about_the_file(&failure) => {
                Ok(Later::Now(proof::unread(&path, &failure)))
            }
            other => other.map(Later::Now),
        }
    }
}
