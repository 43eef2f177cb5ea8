//! How the backups fare: what was seen of them goes in, a report with findings comes out.
//!
//! *Problem*: backups fail in silence. Nothing tells that one was not made, has shrunk, was never proved, or lies on the
//! disk that it is to survive. *Decision*: one judgement without effects, [`judge`], which everybody shares: the function
//! `health_check` of playbooks, `lifeboat status`, and the metrics. It knows nothing but [`Seen`] and [`Terms`], and claims
//! nothing that is not among them. *Rejected*: a verdict for each of its readers, which would differ in time.

pub mod copies;
mod judge;
mod report;
mod runs;
mod seen;
mod source;

pub use judge::judge;
pub use report::{
    Chain, DiskReport, Finding, Newest, PlaybookReport, Problem, Report, Severity, SourceReport, age,
};
pub use seen::{
    Drilled, Folder, Kept, KeptKind, Live, Missed, NotSeen, Ran, RanState, Seen, Space, Stored, Undelivered,
};

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// From where on something is a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The age of a source's newest backup that is a warning; twice as old is critical.
    pub max_age: Duration,
    /// By how many percent size and duration of the newest backup may be off the median of those before.
    pub max_change: u32,
    /// Percent of a file system with backups that should be free.
    pub min_free: u32,
    /// The age of the last verification that is a warning. The shipped schedule verifies daily.
    pub verify_age: Duration,
    /// The age of the last drill that restored a backup of the source. The shipped schedule tests monthly.
    pub drill_age: Duration,
    /// How long what restores have kept may lie about.
    pub kept_age: Duration,
    /// For how many days runs count.
    pub days: u32,
    /// Copies on disks of their own, production among them.
    pub copies: u32,
    /// Types of storage.
    pub storage: u32,
    /// Copies off-site.
    pub offsite: u32,
}

impl Default for Terms {
    /// The guide's: 24 hours, 50 percent, 10 percent, and 3-2-1.
    fn default() -> Self {
        Self {
            max_age: DAY,
            max_change: crate::base::anomaly::PERCENT,
            min_free: 10,
            verify_age: 7 * DAY,
            drill_age: 35 * DAY,
            kept_age: 7 * DAY,
            days: 7,
            copies: 3,
            storage: 2,
            offsite: 1,
        }
    }
}

impl Terms {
    /// From which age on a backup is critical.
    pub fn critical_age(&self) -> Duration {
        self.max_age.saturating_mul(2)
    }
}
