//! Which schedule is to be started when: a pure table of instants, which real and simulated clocks drive.
//!
//! It starts, and does not decide: whether an instant runs is for the [turn](crate::daemon::turn) of whoever is started.

use crate::base::failure::Failure;
use crate::base::schedule::Timetable;
use crate::journal::slots::{self, Claim};
use crate::script::header::Schedule;
use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use std::path::Path;
use std::time::Duration;

/// What could not be decided is started again after this time.
const AGAIN: TimeDelta = TimeDelta::minutes(1);

/// A schedule of a playbook on this machine.
#[derive(Clone, Debug)]
pub struct Job {
    /// Playbook name.
    pub playbook: String,
    /// The schedule.
    pub schedule: Schedule,
    /// Its instants.
    pub timetable: Timetable,
    /// So long after its instant a run begins here.
    pub delay: Duration,
}

impl Job {
    /// What it is called: playbook and schedule.
    pub fn name(&self) -> (&str, &str) {
        (&self.playbook, &self.schedule.name)
    }

    /// When it is to be started next, if all up to `last` is decided.
    fn begin_after(&self, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let slot = self.timetable.after(last)?;
        Some(slot.at.with_timezone(&Utc) + TimeDelta::from_std(self.delay).unwrap_or_default())
    }
}

#[derive(Debug)]
struct Entry {
    job: Job,
    /// When it is to be started next.
    next: Option<DateTime<Utc>>,
}

/// When what is to be started.
#[derive(Debug, Default)]
pub struct Timer {
    entries: Vec<Entry>,
}

impl Timer {
    /// A table of jobs. One that nobody has ever decided about begins now: what was before it came is not missed.
    ///
    /// # Errors
    /// If what was decided cannot be read, or that it begins now cannot be written down.
    pub fn new(jobs: Vec<Job>, state: &Path, now: DateTime<Utc>) -> Result<Self, Failure> {
        let mut entries = Vec::new();
        for job in jobs {
            let last = match last(&job, state, now)? {
                Some(last) => last,
                None => anchor(&job, state, now)?,
            };
            let next = job.begin_after(last.with_timezone(&Utc));
            entries.push(Entry { job, next });
        }
        Ok(Self { entries })
    }

    /// The jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.entries.iter().map(|entry| &entry.job)
    }

    /// The table anew, after the clock was set back: what was to be started at a time that is far ahead now.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn anew(&self, state: &Path, now: DateTime<Utc>) -> Result<Self, Failure> {
        Self::new(self.jobs().cloned().collect(), state, now)
    }

    /// When something is to be started next, and what.
    pub fn next(&self) -> Option<(DateTime<Utc>, &Job)> {
        let due = self.entries.iter().filter_map(|entry| Some((entry.next?, &entry.job)));
        due.min_by_key(|(next, _)| *next)
    }

    /// The jobs that are to be started now, those first that are due longest. Each is handed out once for all its instants up
    /// to now.
    pub fn due(&mut self, now: DateTime<Utc>) -> Vec<Job> {
        let mut due: Vec<(DateTime<Utc>, Job)> = Vec::new();
        for entry in &mut self.entries {
            let Some(next) = entry.next.filter(|next| *next <= now) else { continue };
            let delay = TimeDelta::from_std(entry.job.delay).unwrap_or_default();
            entry.next = entry.job.begin_after(now - delay);
            due.push((next, entry.job.clone()));
        }
        due.sort_by_key(|(next, _)| *next);
        due.into_iter().map(|(_, job)| job).collect()
    }

    /// A job that was handed out at `handed` has ended: what it left undecided is started again in a minute. Returns whether
    /// all is decided.
    pub fn settle(
        &mut self,
        job: &Job,
        handed: DateTime<Utc>,
        state: &Path,
        now: DateTime<Utc>,
    ) -> Result<bool, Failure> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.job.name() == job.name()) else {
            return Ok(true);
        };
        let delay = TimeDelta::from_std(entry.job.delay).unwrap_or_default();
        let newest = entry.job.timetable.newest(handed - delay);
        let decided = match (last(&entry.job, state, now)?, newest) {
            (Some(last), Some(newest)) => last >= newest.fixed(),
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if !decided && entry.next.is_none_or(|next| next > now + AGAIN) {
            entry.next = Some(now + AGAIN);
        }
        Ok(decided)
    }
}

fn last(job: &Job, state: &Path, now: DateTime<Utc>) -> Result<Option<DateTime<FixedOffset>>, Failure> {
    slots::last(state, &job.playbook, &job.schedule.name, &job.timetable, now)
}

/// Writes down that the schedule begins now.
fn anchor(job: &Job, state: &Path, now: DateTime<Utc>) -> Result<DateTime<FixedOffset>, Failure> {
    // Whoever holds it is just deciding, and writes down more than this.
    if let Some(claim) = Claim::take(state, &job.playbook, &job.schedule.name)?
        && claim.last(&job.timetable, now)?.is_none()
    {
        claim.decide(&job.timetable, now.fixed_offset(), now.fixed_offset())?;
    }
    Ok(last(job, state, now)?.unwrap_or(now.fixed_offset()))
}
