//! `reread_env`: reads the project's `.env` again, after it was restored.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Target};
use crate::observe::Observation;
use crate::sys::facts::Facts;

/// Asks what the project's `.env` says now; from here on the run goes by it. Variables of the process itself still win.
#[derive(Clone, Copy, Debug)]
pub struct RereadEnv;

impl Observation for RereadEnv {
    const NAME: &'static str = "reread_env";
    type Answer = Vec<String>;

    fn question(&self) -> String {
        "what does `.env` say now?".to_owned()
    }

    fn answer(&self, answer: &Vec<String>) -> String {
        if answer.is_empty() {
            "what it said before".to_owned()
        } else {
            format!("new: {}", answer.join(", "))
        }
    }

    fn concerns(&self, facts: &Facts) -> Vec<Target> {
        vec![Target::Path(facts.absolute(".env"))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Vec<String>>, Failure> {
        facts.host().reread_env().map(Later::Now)
    }
}
