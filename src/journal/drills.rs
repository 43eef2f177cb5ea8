//! The newest drill of each playbook: evidence that outlives the records of runs.

use crate::base::drill::Verdict;
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::base::units;
use crate::sys::state;
use chrono::{DateTime, FixedOffset, Local};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// Version of the format that this build writes.
const FORMAT: u32 = 1;

/// A drill on record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// Format version.
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Playbook name.
    pub playbook: String,
    /// When it began.
    pub began: DateTime<FixedOffset>,
    /// How the run ended.
    pub exit: Exit,
    /// What it found out.
    pub verdict: Verdict,
    /// The parameters it ran with, without secrets.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// Names of those that are no defaults.
    #[serde(default)]
    pub given: Vec<String>,
}

impl DrillRecord {
    /// The record of a drill.
    pub fn new(
        run: &RunId,
        playbook: &str,
        began: DateTime<FixedOffset>,
        exit: Exit,
        verdict: Verdict,
    ) -> Self {
        let playbook = playbook.to_owned();
        let (params, given) = (Map::new(), Vec::new());
        Self { version: FORMAT, run: run.clone(), playbook, began, exit, verdict, params, given }
    }

    /// The same with the parameters it ran with; `given` names those that are no defaults. Both hold no secrets.
    #[must_use]
    pub fn with(self, params: Map<String, Value>, given: Vec<String>) -> Self {
        Self { params, given, ..self }
    }

    /// How it went: `>= 4 min 12 s, passed in part`.
    pub fn in_short(&self) -> String {
        let least = if self.verdict.at_least { ">= " } else { "" };
        let took = units::duration(Duration::from_millis(self.verdict.millis));
        format!("{least}{took}, {}", self.verdict.result.words())
    }

    /// When it was and how it went: `last drilled 3 days ago: 4 min 12 s, passed; with latest = true`.
    pub fn told(&self, now: DateTime<Local>) -> String {
        let age = (now.fixed_offset() - self.began).num_seconds();
        let ago = |n: i64, what: &str| format!("{n} {what}{} ago", if n == 1 { "" } else { "s" });
        let when = match age {
            ..60 => "just now".to_owned(),
            60..3600 => ago(age / 60, "minute"),
            3600..86_400 => ago(age / 3600, "hour"),
            _ => ago(age / 86_400, "day"),
        };
        let given = self.given.iter().filter_map(|name| Some(format!("{name} = {}", self.params.get(name)?)));
        let given: Vec<String> = given.collect();
        let with = if given.is_empty() { String::new() } else { format!("; with {}", given.join(", ")) };
        format!("last drilled {when}: {}{with}", self.in_short())
    }
}

/// Keeps a drill as the newest one of its playbook.
pub fn keep(state: &Path, record: &DrillRecord) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(record)
        .map_err(|error| Failure::new(Code::Internal, "cannot write a record as JSON").caused_by(error))?;
    state::write_drill(state, &record.playbook, &(text + "\n"))
}

/// The newest drill of a playbook; `None` if there was none, or its record cannot be read.
pub fn newest(state: &Path, playbook: &str) -> Option<DrillRecord> {
    let record: DrillRecord = serde_json::from_str(&state::read_drill(state, playbook)?).ok()?;
    (record.playbook == playbook).then_some(record)
}

/// The newest drill of every playbook that was drilled, by name.
pub fn all(state: &Path) -> Result<Vec<DrillRecord>, Failure> {
    let mut found: Vec<DrillRecord> =
        state::drills(state)?.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    found.sort_by(|a, b| a.playbook.cmp(&b.playbook));
    Ok(found)
}
