//! What is found, as everybody gets it.

use crate::base::backup::Source;
use crate::base::health::copies::Copies;
use crate::base::health::{Missed, Terms, Undelivered};
use crate::base::units;
use chrono::{DateTime, FixedOffset};
use serde::Serialize;
use std::time::Duration;

/// How grave a finding is, in this order: what could not be looked at is graver than what is well, and less grave than
/// what is known to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// A person should look at it.
    Warning,
    /// Backups are missing, broken, or about to fail.
    Critical,
}

impl Severity {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a finding is about; stable, for scripts and for monitoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// There are no backups at all, or none in a folder that was named, or none of the database that the environment names.
    NoBackups,
    /// The newest backup of a source is too old.
    Age,
    /// The newest backup of a tag is late by the tag's own rhythm.
    Late,
    /// A backup is not intact.
    NotIntact,
    /// A backup is gone, though its manifest is there.
    Lost,
    /// A backup does not hold all it should.
    Incomplete,
    /// The newest backup was never verified.
    NotVerified,
    /// The last verification is too long ago.
    VerifyOld,
    /// No backup of the source was ever restored by a drill.
    NeverDrilled,
    /// The last drill is too long ago.
    DrillOld,
    /// The newest drill of a playbook failed.
    DrillFailed,
    /// The newest backup is much larger or smaller than those before.
    Size,
    /// The newest backup took much longer or shorter than those before.
    Duration,
    /// Copies, types of storage or copies off-site are missing.
    Copies,
    /// The newest run of a playbook failed.
    RunFailed,
    /// Runs of a playbook failed and were made good since.
    Failures,
    /// A run goes on for too long.
    Stuck,
    /// A run owes a clean-up.
    OwedCleanUp,
    /// Scheduled runs were not made.
    Missed,
    /// A file system with backups fills up.
    Disk,
    /// Killed runs have left something behind.
    Leftovers,
    /// What restores have kept lies about for long.
    KeptOld,
    /// Alerts that nobody has accepted.
    Undelivered,
    /// Something that the verdict depends on could not be looked at.
    Unreadable,
}

/// One thing that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// What it is about.
    pub code: Problem,
    /// The source, playbook, folder or file that it is about; empty if it is about all of them.
    pub about: String,
    /// The tag, if it is about one.
    pub tag: Option<String>,
    /// What was found.
    pub message: String,
    /// The exact remedy.
    pub hint: String,
}

/// The newest backup of a source or a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Newest {
    /// Its name.
    pub name: String,
    /// Its folder, as people see it.
    pub folder: String,
    /// When it was made.
    pub created: DateTime<FixedOffset>,
    /// Seconds since then; 0 if that is in the future.
    pub age: u64,
    /// Bytes.
    pub size: u64,
    /// Whether its last verification found it intact; `None` if there was none.
    pub verified: Option<bool>,
}

/// The backups of one source with one tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// The tag; empty for backups without a manifest.
    pub tag: String,
    /// How many there are.
    pub backups: usize,
    /// The newest.
    pub newest: Newest,
    /// Median size of those before, if there are at least 3.
    pub usual_size: Option<u64>,
    /// Milliseconds of the run that made the newest.
    pub millis: Option<u64>,
    /// Median of those before, if there are at least 3.
    pub usual_millis: Option<u64>,
    /// When one of them was last found intact.
    pub verified: Option<DateTime<FixedOffset>>,
    /// When a drill last restored one of them.
    pub drilled: Option<DateTime<FixedOffset>>,
}

/// The backups of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    /// Its name for people: `database shop`.
    pub source: String,
    /// What it is exactly.
    pub identity: Source,
    /// The worst of what was found about it.
    pub status: Severity,
    /// Whether another source has taken its place: the same database on a new server, the same folder on a new host. It is
    /// not judged any more.
    pub superseded: bool,
    /// How many backups there are, copies of the same one counted once.
    pub backups: usize,
    /// Names of those that are not intact.
    pub damaged: Vec<String>,
    /// The newest.
    pub newest: Newest,
    /// When one of them was last found intact.
    pub verified: Option<DateTime<FixedOffset>>,
    /// When a drill last restored one of them.
    pub drilled: Option<DateTime<FixedOffset>>,
    /// How many copies there are, and where.
    pub copies: Copies,
    /// Each tag on its own.
    pub tags: Vec<Chain>,
}

/// The runs of one playbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlaybookReport {
    /// Its name.
    pub playbook: String,
    /// Runs that ended within the days that count.
    pub runs: usize,
    /// Those of them that failed.
    pub failures: usize,
    /// Percent of them that completed, rounded down; `None` if there were none.
    pub completion: Option<u8>,
    /// When the newest began.
    pub last: Option<DateTime<FixedOffset>>,
    /// Exit code of the newest that ended; `None` if it was killed.
    pub last_exit: Option<u8>,
    /// Milliseconds that it took.
    pub last_millis: Option<u64>,
    /// When the newest that completed began.
    pub last_success: Option<DateTime<FixedOffset>>,
}

/// A file system with backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskReport {
    /// Folders on it.
    pub folders: Vec<String>,
    /// What it lies on: `disk sda`.
    pub place: String,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// Percent that is free, rounded down.
    pub percent: u8,
}

/// The verdict and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether there is no finding at all.
    pub ok: bool,
    /// The worst finding's severity.
    pub status: Severity,
    /// When it was judged.
    pub at: DateTime<FixedOffset>,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// Sources by name.
    pub sources: Vec<SourceReport>,
    /// Playbooks by name.
    pub playbooks: Vec<PlaybookReport>,
    /// File systems with backups.
    pub disks: Vec<DiskReport>,
    /// Scheduled runs that were not made.
    pub missed: Vec<Missed>,
    /// Alerts that nobody has accepted yet.
    pub undelivered: Option<Undelivered>,
    /// What could not be looked at, and why.
    pub unknown: Vec<String>,
    /// From where on something is a finding.
    #[serde(skip)]
    pub terms: Terms,
}

impl Report {
    /// How many findings of a severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// All in one line: `critical: 1 critical, 2 warnings in 3 sources; newest backup 2 h 5 min ago`.
    pub fn headline(&self) -> String {
        let counted = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        let mut parts = Vec::new();
        for (severity, one, many) in [
            (Severity::Critical, "critical", "critical"),
            (Severity::Warning, "warning", "warnings"),
            (Severity::Unknown, "unknown", "unknown"),
        ] {
            let n = self.count(severity);
            if n > 0 {
                parts.push(counted(n, one, many));
            }
        }
        if parts.is_empty() {
            parts.push("nothing is wrong".to_owned());
        }
        let judged: Vec<&SourceReport> = self.sources.iter().filter(|source| !source.superseded).collect();
        let newest = judged.iter().map(|source| source.newest.age).min();
        let newest =
            newest.map_or_else(|| "no backup".to_owned(), |age| format!("newest backup {}", ago(age)));
        format!(
            "{}: {}; {}, {newest}",
            self.status.word(),
            parts.join(", "),
            counted(judged.len(), "source", "sources")
        )
    }
}

/// A span as people say it: nobody counts hours beyond two days.
pub fn age(seconds: u64) -> String {
    const DAY: u64 = 24 * 3600;
    if seconds >= 2 * DAY {
        return format!("{} days", seconds / DAY);
    }
    units::duration(Duration::from_secs(seconds))
}

fn ago(seconds: u64) -> String {
    if seconds == 0 { "just now".to_owned() } else { format!("{} ago", age(seconds)) }
}
