//! Tasks of maintenance as values: that one was done, and when.
//!
//! *Problem*: whether a task is due must be known for longer than runs are on record, and people do tasks that no run sees.
//! *Decision*: whoever did a task says so by its name, and the newest word on each name is kept. *Rejected*: telling it from
//! the runs of playbooks, which does not show what a run was asked to do.

use crate::base::ids::RunId;
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

/// Version of the format that this build writes.
const FORMAT: u32 = 1;

/// That a task was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Format version.
    pub version: u32,
    /// The task: `Verify backups`.
    pub task: String,
    /// When the run began that did it, or noted that a person did.
    pub at: DateTime<FixedOffset>,
    /// That run.
    pub run: String,
    /// What was done, in short: `12 backups are intact`.
    pub detail: String,
}

impl TaskRecord {
    /// The record of a task that `run` did, or was told of.
    pub fn new(task: &str, at: DateTime<FixedOffset>, run: &str, detail: &str) -> Self {
        let [task, run, detail] = [task, run, detail].map(str::to_owned);
        Self { version: FORMAT, task, at, run, detail }
    }

    /// The record that was written for a task; `None` if it cannot be read, or is that of another one.
    pub fn read(text: &str, task: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|record: &Self| record.task == task)
    }
}

/// A playbook's newest run that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessRecord {
    /// Format version.
    pub version: u32,
    /// The playbook.
    pub playbook: String,
    /// The run.
    pub run: RunId,
    /// When it began.
    pub began: DateTime<FixedOffset>,
    /// When it ended.
    pub ended: DateTime<FixedOffset>,
}

impl SuccessRecord {
    /// The record of a run that succeeded.
    pub fn new(
        playbook: &str,
        run: &RunId,
        began: DateTime<FixedOffset>,
        ended: DateTime<FixedOffset>,
    ) -> Self {
        Self { version: FORMAT, playbook: playbook.to_owned(), run: run.clone(), began, ended }
    }
}
