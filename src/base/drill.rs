//! Drills as values: how one begins, and its verdict.
//!
//! A verdict never says more than was seen: what was not rehearsed is named, and a recovery time without it is a lower
//! bound.

use crate::base::event::{Alert, Outcome};
use crate::base::failure::Exit;
use crate::base::ids::RunId;
use crate::base::units;
use chrono::{DateTime, FixedOffset, Local};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// The recovery time that is aimed at where a header says nothing.
pub const RTO: Duration = Duration::from_secs(30 * 60);
/// The age of the restored data that is aimed at where a header says nothing.
pub const RPO: Duration = Duration::from_secs(60 * 60);

/// What is there when a drill begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A copy of the project, and each database as its newest intact backup has it.
    #[default]
    Latest,
    /// Nothing but backups, playbooks, modules and `lifeboat.toml`; servers are empty.
    Empty,
}

/// How a playbook is rehearsed: `drill` in its header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What is there at the beginning.
    pub start: Start,
    /// Programs that really run, in the sandbox; all others are captured.
    pub run: Vec<String>,
    /// The recovery time that must not be exceeded.
    pub rto: Option<Duration>,
    /// The age of restored data that must not be exceeded.
    pub rpo: Option<Duration>,
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passed {
    /// Everything was rehearsed, and it worked.
    Passed,
    /// What was rehearsed worked; the rest is named.
    PassedInPart,
    /// Something failed, or an objective of the header was missed.
    Failed,
}

impl Passed {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::PassedInPart => "passed in part",
            Self::Failed => "failed",
        }
    }
}

/// One step of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrilledStep {
    /// Path of step names.
    pub step: String,
    /// How it ended; `unknown` is a step that was not rehearsed to its end.
    pub outcome: Outcome,
    /// Milliseconds, without what the sandbox itself took.
    pub millis: u64,
}

/// Something that the playbook would have done and the drill did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRehearsed {
    /// What, in short: `docker compose build`.
    pub what: String,
    /// The step it stands in; empty outside of steps.
    pub step: String,
    /// Why.
    pub why: String,
}

/// A scratch server and the one that it stood in for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoodIn {
    /// The server that the playbook named, as `db1:5432`.
    pub server: String,
    /// Version of the scratch server.
    pub version: String,
    /// Version of the real one, as the newest backup tells it.
    pub original: Option<String>,
}

/// A database that was restored from a backup, before the playbook began or by the playbook itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredData {
    /// The database.
    pub database: String,
    /// Name of the backup.
    pub backup: String,
    /// The time whose data it holds.
    pub recovery_point: DateTime<FixedOffset>,
    /// How old that was when the drill began, in milliseconds: what a disaster at that moment would have cost.
    pub age_millis: u64,
    /// Whether the playbook restored it; the sandbox did otherwise.
    pub by_playbook: bool,
    /// Tables whose exact row counts and fingerprints were read back, and equal those of the backup.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
}

/// A limit and what was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// `recovery time` or `recovery point`.
    pub name: String,
    /// Milliseconds.
    pub limit_millis: u64,
    /// Milliseconds; none if nothing was restored.
    pub reached_millis: Option<u64>,
    /// Whether it is met; none if that cannot be told, as of a lower bound.
    pub met: Option<bool>,
    /// Whether it stands in the header: such a one fails the drill when it is missed.
    pub binding: bool,
}

/// What a drill found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it ended.
    pub result: Passed,
    /// Why it failed.
    pub reasons: Vec<String>,
    /// What was there when it began.
    pub start: Start,
    /// How long the playbook took, in milliseconds, without what the sandbox itself took.
    pub millis: u64,
    /// Whether that is a lower bound, because something was not rehearsed.
    pub at_least: bool,
    /// How long making the sandbox took, in milliseconds.
    pub sandbox_millis: u64,
    /// The steps, in the order of their ends.
    pub steps: Vec<DrilledStep>,
    /// What was not rehearsed.
    pub not_rehearsed: Vec<NotRehearsed>,
    /// Programs that really ran, as command lines: what they reached is not controlled.
    #[serde(default)]
    pub ran: Vec<String>,
    /// What else keeps a pass from being a whole one: tolerated failures, warnings, objectives of the header that are not
    /// proven.
    #[serde(default)]
    pub doubts: Vec<String>,
    /// Scratch servers.
    pub servers: Vec<StoodIn>,
    /// Restored data.
    pub data: Vec<RestoredData>,
    /// Objectives.
    pub objectives: Vec<Objective>,
    /// The announcement that the playbook would have made.
    pub announced: Option<Alert>,
    /// What the copy of the project went without, and what else is to be known about the sandbox.
    pub notes: Vec<String>,
}

/// Version of the format of records that this build writes.
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

    /// The record that was written for a playbook; `None` if it cannot be read, or is that of another one.
    pub fn read(text: &str, playbook: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|record: &Self| record.playbook == playbook)
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
