//! What became of the instants of schedules: one that runs, one that is left out, each on record.
//!
//! *Problem*: cron, a daemon and a person may all start the same schedule, and silence must be noticed. *Decision*: whoever
//! decides holds the schedule's lock and writes down the newest instant that is decided, after the decision; every instant
//! that does not run is a line of its own. *Rejected*: the time of deciding as the mark, which loses or doubles instants
//! when clocks change.

use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::base::schedule::{Passed, Timetable, Why};
use crate::sys::state::schedule::{self as files, BeginLock, ScheduleLock};
use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// Version of the format that this build writes.
const FORMAT: u32 = 1;
/// An instant that is due for longer than this is missed if nobody has decided about it: jitter, queues and a starting machine
/// take less.
const LONG_DUE: TimeDelta = TimeDelta::minutes(30);
/// A mark that lies further ahead than this was made by a clock that was wrong, and counts for nothing: else nothing would run
/// until that time comes. Less is what the correction of a clock takes back, which must make no instant run twice.
pub const AHEAD: TimeDelta = TimeDelta::hours(1);

/// What was decided last about a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Format version.
    pub version: u32,
    /// Playbook name.
    pub playbook: String,
    /// Name of the schedule.
    pub schedule: String,
    /// Its expression, as it was then.
    pub cron: String,
    /// Its time zone, as it was then.
    pub zone: String,
    /// The newest instant that is decided.
    pub slot: DateTime<FixedOffset>,
    /// When it was decided.
    pub at: DateTime<FixedOffset>,
}

/// What became of one instant, or of several in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When it was decided.
    pub at: DateTime<FixedOffset>,
    /// Playbook name.
    pub playbook: String,
    /// Name of the schedule.
    pub schedule: String,
    /// The instant; the last one of several.
    pub slot: DateTime<FixedOffset>,
    /// What became of it.
    pub what: Became,
}

/// What became of an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "became", rename_all = "snake_case")]
pub enum Became {
    /// Its run begins.
    Begun,
    /// Its run ended.
    Ended {
        /// The run, unless it could not begin.
        run: Option<RunId>,
        /// How.
        exit: Exit,
    },
    /// It does not run.
    PassedOver {
        /// Why.
        why: Why,
        /// The first one of several.
        first: DateTime<FixedOffset>,
        /// How many.
        count: usize,
        /// The run that was in the way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<RunId>,
    },
}

/// The right to begin a run of a playbook by a schedule, as long as the value lives. Whoever looks whether another run goes on
/// keeps it until its own run is on record: two schedules may have the same instant.
#[derive(Debug)]
pub struct Beginning(#[expect(dead_code, reason = "held, not read")] BeginLock);

impl Beginning {
    /// Takes the right; `None` while another process begins a run of the playbook.
    pub fn take(state: &Path, playbook: &str) -> Result<Option<Self>, Failure> {
        Ok(BeginLock::take(state, playbook)?.map(Self))
    }
}

/// A schedule about which this process alone decides, as long as the value lives.
#[derive(Debug)]
pub struct Claim<'a> {
    state: &'a Path,
    playbook: &'a str,
    schedule: &'a str,
    lock: ScheduleLock,
}

impl<'a> Claim<'a> {
    /// Takes the schedule; `None` while another process decides about it.
    pub fn take(state: &'a Path, playbook: &'a str, schedule: &'a str) -> Result<Option<Self>, Failure> {
        let lock = ScheduleLock::take(state, playbook, schedule)?;
        Ok(lock.map(|lock| Self { state, playbook, schedule, lock }))
    }

    /// The newest instant that is decided; `None` if none is, if another expression or zone stood there then, since instants
    /// of the new one are not behind it, or if it lies in the future.
    pub fn last(
        &self,
        timetable: &Timetable,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<FixedOffset>>, Failure> {
        Ok(read(self.lock.read()?.as_deref(), timetable, now))
    }

    /// Writes down which instant is decided.
    pub fn decide(
        &self,
        timetable: &Timetable,
        slot: DateTime<FixedOffset>,
        now: DateTime<FixedOffset>,
    ) -> Result<(), Failure> {
        let stamp = Stamp {
            version: FORMAT,
            playbook: self.playbook.to_owned(),
            schedule: self.schedule.to_owned(),
            cron: timetable.cron().to_owned(),
            zone: timetable.zone().name().to_owned(),
            slot,
            at: now,
        };
        self.lock.write(&json(&stamp)?)
    }

    /// Records what became of an instant.
    pub fn record(
        &self,
        now: DateTime<FixedOffset>,
        slot: DateTime<FixedOffset>,
        what: Became,
    ) -> Result<(), Failure> {
        record(self.state, &self.decision(now, slot, what))
    }

    /// Records which instants do not run.
    pub fn pass_over(
        &self,
        now: DateTime<FixedOffset>,
        passed: &Passed,
        by: Option<RunId>,
    ) -> Result<(), Failure> {
        let Passed { first, last, count, why } = *passed;
        self.record(now, last, Became::PassedOver { why, first, count, by })
    }

    fn decision(&self, at: DateTime<FixedOffset>, slot: DateTime<FixedOffset>, what: Became) -> Decision {
        let (playbook, schedule) = (self.playbook.to_owned(), self.schedule.to_owned());
        Decision { at, playbook, schedule, slot, what }
    }
}

/// Appends a decision to the record.
pub fn record(state: &Path, decision: &Decision) -> Result<(), Failure> {
    files::append_decisions(state, &(json(decision)? + "\n"))
}

/// The newest instant of a schedule that is decided; `None` as [`Claim::last`].
pub fn last(
    state: &Path,
    playbook: &str,
    schedule: &str,
    timetable: &Timetable,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<FixedOffset>>, Failure> {
    Ok(read(files::read_stamp(state, playbook, schedule)?.as_deref(), timetable, now))
}

/// Schedules whose newest instant nobody has decided about though it is long due, with that instant. One that has been silent for
/// longer than a week and three of its intervals is taken for one that is gone.
///
/// # Errors
/// If the marks cannot be read.
pub fn silent(
    state: &Path,
    now: DateTime<FixedOffset>,
) -> Result<Vec<(Stamp, DateTime<FixedOffset>)>, Failure> {
    let stamps = files::stamps(state)?;
    let read = stamps.iter().filter_map(|text| serde_json::from_str::<Stamp>(text).ok());
    Ok(read.filter_map(|stamp| silence(&stamp, now).map(|slot| (stamp, slot))).collect())
}

fn silence(stamp: &Stamp, now: DateTime<FixedOffset>) -> Option<DateTime<FixedOffset>> {
    let seconds = stamp.cron.split_whitespace().count() == 6;
    let timetable = Timetable::new(&stamp.cron, seconds, stamp.zone.parse().ok()?).ok()?;
    let newest = timetable.newest((now - LONG_DUE).with_timezone(&Utc))?.fixed();
    if stamp.slot > now + AHEAD {
        return Some(newest);
    }
    if newest <= stamp.slot {
        return None;
    }
    let first = timetable.after(stamp.slot.with_timezone(&Utc))?.fixed();
    let interval = timetable.after(first.with_timezone(&Utc))?.fixed() - first;
    (now - first <= TimeDelta::days(7) + interval * 3).then_some(newest)
}

/// Removes the marks of schedules that a playbook has no longer: `names` are those that it has.
///
/// # Errors
/// If they cannot be read or removed.
pub fn forget_others(state: &Path, playbook: &str, names: &[&str]) -> Result<(), Failure> {
    for text in files::stamps(state)? {
        let Ok(stamp) = serde_json::from_str::<Stamp>(&text) else { continue };
        if stamp.playbook == playbook && !names.contains(&stamp.schedule.as_str()) {
            files::remove_stamp(state, playbook, &stamp.schedule)?;
        }
    }
    Ok(())
}

/// Removes the marks of schedules whose playbook is not there any more: `playbooks` are those that are.
///
/// # Errors
/// If they cannot be read or removed.
pub fn forget_gone(state: &Path, playbooks: &BTreeSet<String>) -> Result<(), Failure> {
    for text in files::stamps(state)? {
        let Ok(stamp) = serde_json::from_str::<Stamp>(&text) else { continue };
        if !playbooks.contains(&stamp.playbook) {
            files::remove_stamp(state, &stamp.playbook, &stamp.schedule)?;
        }
    }
    Ok(())
}

/// What cannot be read is as good as none: the schedule begins anew.
fn read(text: Option<&str>, timetable: &Timetable, now: DateTime<Utc>) -> Option<DateTime<FixedOffset>> {
    let stamp: Stamp = serde_json::from_str(text?).ok()?;
    let is_same = stamp.cron == timetable.cron() && stamp.zone == timetable.zone().name();
    (is_same && stamp.slot <= now + AHEAD).then_some(stamp.slot)
}

/// The decisions since an instant, the oldest first. A line that cannot be read is left out.
pub fn decisions(state: &Path, since: DateTime<FixedOffset>) -> Result<Vec<Decision>, Failure> {
    let text = files::read_decisions(state)?;
    let read = text.lines().filter_map(|line| serde_json::from_str::<Decision>(line).ok());
    Ok(read.filter(|decision| decision.at >= since).collect())
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::new(Code::Internal, "cannot write a record as JSON").caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;

    fn at(text: &str) -> DateTime<FixedOffset> {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    #[test]
    fn what_is_decided_stays_decided_until_the_schedule_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let table = |cron, zone| Timetable::new(cron, false, zone).unwrap();
        let daily = table("0 2 * * *", Tz::Europe__Berlin);
        let slot = at("2026-05-05T02:00:00+02:00");
        {
            let claim = Claim::take(dir.path(), "backup_database", "daily").unwrap().unwrap();
            assert!(Claim::take(dir.path(), "backup_database", "daily").unwrap().is_none());
            assert_eq!(claim.last(&daily, slot.into()), Ok(None));
            claim.decide(&daily, slot, slot).unwrap();
            assert_eq!(claim.last(&daily, slot.into()), Ok(Some(slot)));
        }
        let last = |name, table: &Timetable| {
            super::last(dir.path(), "backup_database", name, table, slot.into()).unwrap()
        };
        assert_eq!(last("daily", &daily), Some(slot));
        assert_eq!(last("weekly", &daily), None);
        assert_eq!(last("daily", &table("0 3 * * *", Tz::Europe__Berlin)), None);
        assert_eq!(last("daily", &table("0 2 * * *", Tz::UTC)), None);
    }

    #[test]
    fn a_mark_from_the_future_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let daily = Timetable::new("0 2 * * *", false, Tz::UTC).unwrap();
        let slot = at("2030-05-05T02:00:00Z");
        Claim::take(dir.path(), "p", "daily").unwrap().unwrap().decide(&daily, slot, slot).unwrap();
        let last = |now: &str| last(dir.path(), "p", "daily", &daily, at(now).into()).unwrap();
        assert_eq!(last("2030-05-05T01:00:00Z"), Some(slot));
        assert_eq!(last("2030-05-05T00:59:59Z"), None);
        assert_eq!(last("2026-05-05T02:00:00Z"), None);
    }

    #[test]
    fn decisions_are_kept_in_their_order_and_torn_lines_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let claim = Claim::take(dir.path(), "p", "0 2 * * *").unwrap().unwrap();
        let (first, last) = (at("2026-05-03T02:00:00Z"), at("2026-05-04T02:00:00Z"));
        let passed = Passed { first, last, count: 2, why: Why::Missed };
        let now = at("2026-05-05T09:00:00Z");
        claim.pass_over(now, &passed, None).unwrap();
        let begun = at("2026-05-05T02:00:00Z");
        claim.record(now, begun, Became::Begun).unwrap();
        files::append_decisions(dir.path(), "{\"at\": torn\n").unwrap();
        let run = RunId::parse("20260505-020000-abcdef");
        claim.record(now, begun, Became::Ended { run: run.clone(), exit: Exit::Success }).unwrap();
        let found: Vec<Became> =
            decisions(dir.path(), now).unwrap().into_iter().map(|decision| decision.what).collect();
        let over = Became::PassedOver { why: Why::Missed, first, count: 2, by: None };
        assert_eq!(found, [over, Became::Begun, Became::Ended { run, exit: Exit::Success }]);
        assert_eq!(decisions(dir.path(), at("2026-05-05T09:00:01Z")), Ok(vec![]));
    }

    #[test]
    fn a_schedule_that_nobody_starts_is_found_out_until_it_is_taken_for_gone() {
        let dir = tempfile::tempdir().unwrap();
        let daily = Timetable::new("0 2 * * *", false, Tz::UTC).unwrap();
        let slot = at("2026-05-05T02:00:00Z");
        Claim::take(dir.path(), "p", "daily").unwrap().unwrap().decide(&daily, slot, slot).unwrap();
        let silent = |now: &str| {
            let found = silent(dir.path(), at(now)).unwrap();
            found.into_iter().map(|(stamp, slot)| (stamp.schedule, slot.to_rfc3339())).collect::<Vec<_>>()
        };
        assert_eq!(silent("2026-05-06T02:29:00Z"), []);
        let missed = |slot: &str| vec![("daily".to_owned(), slot.to_owned())];
        assert_eq!(silent("2026-05-06T02:30:00Z"), missed("2026-05-06T02:00:00+00:00"));
        assert_eq!(silent("2026-05-15T12:00:00Z"), missed("2026-05-15T02:00:00+00:00"));
        assert_eq!(silent("2026-05-17T12:00:00Z"), []);
        // A clock that was wrong decided ahead: what is due now has nobody started.
        assert_eq!(silent("2026-05-05T01:30:00Z"), []);
        assert_eq!(silent("2026-05-04T12:00:00Z"), missed("2026-05-04T02:00:00+00:00"));
        forget_others(dir.path(), "q", &[]).unwrap();
        forget_others(dir.path(), "p", &["daily"]).unwrap();
        assert_eq!(silent("2026-05-06T02:30:00Z").len(), 1);
        forget_others(dir.path(), "p", &["weekly"]).unwrap();
        assert_eq!(silent("2026-05-06T02:30:00Z"), []);
        Claim::take(dir.path(), "p", "daily").unwrap().unwrap().decide(&daily, slot, slot).unwrap();
        forget_gone(dir.path(), &BTreeSet::from(["p".to_owned()])).unwrap();
        assert_eq!(silent("2026-05-06T02:30:00Z").len(), 1);
        forget_gone(dir.path(), &BTreeSet::from(["q".to_owned()])).unwrap();
        assert_eq!(silent("2026-05-06T02:30:00Z"), []);
    }

    #[test]
    fn the_record_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("schedule")).unwrap();
        let line = "x".repeat(1000) + "\n";
        (0..3000).for_each(|_| files::append_decisions(dir.path(), &line).unwrap());
        let size = files::read_decisions(dir.path()).unwrap().len();
        assert!((1_000_000..2_200_000).contains(&size), "{size}");
    }
}
