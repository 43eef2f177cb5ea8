//! `last_done`: when a task of maintenance was done last.

use crate::base::failure::Failure;
use crate::base::plan::Later;
use crate::base::task::TaskRecord;
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::state::newest::{self, Of};

/// Asks when a task was done last.
#[derive(Clone, Debug)]
pub struct LastDone {
    /// The task.
    pub task: String,
}

impl Observation for LastDone {
    const NAME: &'static str = "last_done";
    type Answer = Option<TaskRecord>;

    fn question(&self) -> String {
        format!("when was `{}` done last?", self.task)
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        match answer {
            Some(record) => record.at.format("%Y-%m-%d %H:%M:%S").to_string(),
            None => "never".to_owned(),
        }
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        let text = newest::read(facts.host().state(), Of::Tasks, &self.task);
        let record = text.and_then(|text| TaskRecord::read(&text, &self.task));
        // What is yet to come was written by a wrong clock; believed, it would hide for years that the task is due.
        Ok(Later::Now(record.filter(|record| record.at <= facts.now())))
    }
}
