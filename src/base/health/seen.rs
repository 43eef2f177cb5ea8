//! What was seen: plain values, gathered elsewhere.

use crate::base::backup::{Content, Source};
use crate::base::drill::Passed;
use crate::base::failure::{Code, Exit};
use crate::base::health::copies::Place;
use crate::base::ids::RunId;
use chrono::{DateTime, FixedOffset};
use serde::Serialize;
use std::sync::Arc;

/// Everything that is judged.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it was seen.
    pub now: DateTime<FixedOffset>,
    /// Folders that were looked at.
    pub folders: Vec<Folder>,
    /// Backups in them.
    pub backups: Vec<Stored>,
    /// Where production is, by source.
    pub live: Vec<(Source, Live)>,
    /// The database that the environment names, if it names one.
    pub database: Option<String>,
    /// Runs on record, newest first.
    pub runs: Arc<Vec<Ran>>,
    /// The newest drill of each playbook.
    pub drills: Vec<Drilled>,
    /// What restores have kept or left behind.
    pub kept: Vec<Kept>,
    /// Scheduled runs that were not made.
    pub missed: Vec<Missed>,
    /// Alerts that nobody has accepted yet.
    pub undelivered: Option<Undelivered>,
    /// What could not be looked at.
    pub unknown: Vec<NotSeen>,
}

/// Alerts that nobody has accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Undelivered {
    /// How many.
    pub count: usize,
    /// Since when the oldest waits.
    pub since: DateTime<FixedOffset>,
    /// Why the newest was not delivered the last time.
    pub why: String,
}

/// A folder of backups.
#[derive(Clone, Debug)]
pub struct Folder {
    /// As people see it.
    pub path: String,
    /// Whether it is there.
    pub exists: bool,
    /// Whether whoever asks named it, so that it should hold backups.
    pub is_named: bool,
    /// Whether it was declared to be off-site.
    pub is_offsite: bool,
    /// What it lies on, as far as that is known.
    pub place: Place,
    /// Space of its file system.
    pub space: Option<Space>,
    /// Files that killed runs have left.
    pub leftovers: usize,
    /// Backups that are gone, though their manifests are there.
    pub lost: Vec<String>,
}

/// Space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for the user that asks.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// A backup as it lies in a folder.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its folder, by number.
    pub folder: usize,
    /// Its name.
    pub name: String,
    /// What was backed up.
    pub source: Source,
    /// Kind of content.
    pub content: Content,
    /// What of the source was taken, if not all of it.
    pub selection: Option<String>,
    /// Whether all that was to be taken could be read.
    pub complete: bool,
    /// Why it was made.
    pub tag: String,
    /// When it was made.
    pub created: DateTime<FixedOffset>,
    /// Bytes.
    pub size: u64,
    /// When it was verified last.
    pub verified_at: Option<DateTime<FixedOffset>>,
    /// Whether it is intact; `None` if that was never looked at.
    pub intact: Option<bool>,
    /// Why it is not intact.
    pub problem: Option<String>,
    /// When a drill last restored it.
    pub drilled_at: Option<DateTime<FixedOffset>>,
    /// The run that made it.
    pub run: Option<String>,
}

/// Where production is, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// On this place.
    At(Place),
    /// On another host.
    Elsewhere(String),
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RanState {
    /// It goes on.
    Running,
    /// Its process is gone without an end.
    Killed,
    /// It ended.
    Ended(Exit),
}

/// A run on record.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its id.
    pub run: RunId,
    /// Playbook name.
    pub playbook: String,
    /// When it began.
    pub began: Option<DateTime<FixedOffset>>,
    /// Where it stands.
    pub state: RanState,
    /// Milliseconds it took.
    pub millis: Option<u64>,
    /// Warnings and tolerated failures.
    pub warnings: usize,
    /// What ended it.
    pub failure: Option<(Code, String)>,
    /// Whether it was a drill.
    pub is_drill: bool,
    /// Whether it owes a clean-up.
    pub owes: bool,
    /// Whether it was resumed, so that its duration is that of its last attempt.
    pub is_resumed: bool,
}

/// The newest drill of a playbook.
#[derive(Clone, Debug)]
pub struct Drilled {
    /// Playbook name.
    pub playbook: String,
    /// When it began.
    pub began: DateTime<FixedOffset>,
    /// How it ended.
    pub result: Passed,
    /// Milliseconds of recovery.
    pub millis: u64,
}

/// What kind of thing a restore kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptKind {
    /// A database or files that were replaced: kept on purpose.
    Replaced,
    /// What an interrupted restore left behind.
    Left,
    /// Files of which some changed places, and others did not.
    Half,
}

/// What a restore kept or left behind.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Name of the database, or path of the files.
    pub name: String,
    /// What it is.
    pub kind: KeptKind,
    /// The letters of its run.
    pub letters: String,
    /// Seconds since then.
    pub age: u64,
    /// Bytes, if they are known.
    pub size: Option<u64>,
}

/// A scheduled run that was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// Playbook name.
    pub playbook: String,
    /// The schedule, as its cron expression.
    pub schedule: String,
    /// When it should have begun.
    pub slot: DateTime<FixedOffset>,
    /// Why it did not, for people.
    pub why: String,
}

/// What could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSeen {
    /// What, and why.
    pub what: String,
    /// Whether the verdict depends on it: backups and journal, but not what restores have kept on a server.
    pub matters: bool,
}
