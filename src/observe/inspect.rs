//! `inspect`: proves a backup without writing anything down, so that a dry run can do it too.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need, Target};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::proof::{self, Verification};
use std::path::PathBuf;

/// Asks whether the backup at a path is intact: it is read from the first byte to the last.
#[derive(Clone, Debug)]
pub struct Inspect {
    /// The file.
    pub path: PathBuf,
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
        match proof::examine(facts, &path) {
            // What cannot be read is not intact; the next older one may be.
            Err(failure) if proof::is_about_the_file(&failure) => {
                Ok(Later::Now(proof::unread(&path, &failure)))
            }
            other => other.map(Later::Now),
        }
    }
}
