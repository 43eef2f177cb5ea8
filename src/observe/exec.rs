//! Runs a program of which the playbook says that it only reads, and so in a dry run too.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::observe::Observation;
use crate::sys::exec::{Exec, ExecResult};
use crate::sys::facts::Facts;

/// A program that only reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnlyCommand(
    /// The program; its `touches` are what it asks about.
    pub Exec,
);

impl Observation for ReadOnlyCommand {
    const NAME: &'static str = "exec";
    type Answer = ExecResult;

    fn question(&self) -> String {
        format!("$ {}", self.0.command_line())
    }

    fn answer(&self, answer: &ExecResult) -> String {
        let first = answer.stdout.lines().next().unwrap_or_default();
        match (answer.code, first) {
            (0, "") => "exit status 0".to_owned(),
            (0, line) => line.to_owned(),
            (code, _) => format!("exit status {code}"),
        }
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        self.0.needs(facts)
    }

    fn concerns(&self, _facts: &Facts) -> Vec<Target> {
        self.0.targets()
    }

    fn captured(&self, facts: &Facts) -> Option<String> {
        self.0.captured(facts)
    }

    fn ask(&self, facts: &Facts) -> Result<Later<ExecResult>, Failure> {
        self.0.run(facts).map(Later::Now)
    }
}
