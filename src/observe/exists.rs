//! `exists`: whether something is at a path.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Need};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use std::path::PathBuf;

/// Asks whether a file or folder is at a path.
#[derive(Clone, Debug)]
pub struct Exists {
    /// The path.
    pub path: PathBuf,
}

impl Observation for Exists {
    const NAME: &'static str = "exists";
    type Answer = bool;

    fn question(&self) -> String {
        format!("is there something at `{}`?", self.path.display())
    }

    fn answer(&self, answer: &bool) -> String {
        if *answer { "yes" } else { "no" }.to_owned()
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        vec![Need::Read(facts.absolute(&self.path))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<bool>, Failure> {
        facts.exists(&facts.absolute(&self.path))
    }
}
