//! Makes sure that a program is installed.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Target};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::host::Host;
use crate::sys::process;
use std::path::PathBuf;

/// Looks for a program.
pub type Finder = fn(&Host, &str) -> Result<PathBuf, Failure>;

/// A program that must be there. The answer is its path.
#[derive(Clone, Debug)]
pub struct RequireProgram {
    /// Its name, or a path.
    pub program: String,
    /// How it is looked for.
    pub finder: Finder,
}

impl RequireProgram {
    /// Looks for `program` on PATH.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), finder: process::find }
    }
}

impl Observation for RequireProgram {
    const NAME: &'static str = "require_program";
    type Answer = PathBuf;

    fn question(&self) -> String {
        format!("is `{}` installed?", self.program)
    }

    fn answer(&self, answer: &PathBuf) -> String {
        answer.display().to_string()
    }

    fn ask(&self, facts: &Facts) -> Result<Later<PathBuf>, Failure> {
        match (self.finder)(facts.host(), &self.program) {
            Ok(path) => Ok(Later::Now(path)),
            // An earlier step may install it.
            Err(failure)
                if failure.code == Code::ProgramMissing && facts.view().is_touched(&Target::Everything) =>
            {
                Ok(Later::AfterRun)
            }
            Err(failure) => Err(failure),
        }
    }
}
