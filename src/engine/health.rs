//! The check-up of the backups: what the journal tells, put beside what the folders do.

use crate::base::failure::{Code, Failure};
use crate::base::health::{Drilled, Missed, NotSeen, Ran, RanState, Terms, Undelivered, age};
use crate::base::units;
use crate::engine::alert;
use crate::journal::drills::{self, DrillRecord};
use crate::journal::reader::{self, RunState, RunSummary};
use crate::journal::slots::{self, Became, Decision};
use crate::observe::health_check::{Checkup, Health, History};
use crate::sys::channel;
use crate::sys::facts::{Facts, Reality};
use crate::sys::host::Host;
use chrono::{DateTime, FixedOffset, TimeDelta};
use std::cell::LazyCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Names the age of a source's newest backup that is a warning.
const MAX_AGE: &str = "BACKUP_MAX_AGE";
/// Names the age of a source's last verification that is a warning.
const VERIFY_AGE: &str = "BACKUP_VERIFY_AGE";
/// Names the age of a source's last drill that is a warning.
const DRILL_AGE: &str = "BACKUP_DRILL_AGE";
/// Names how many copies there should be.
const COPIES: &str = "BACKUP_COPIES";
/// Names on how many types of storage they should lie.
const STORAGE: &str = "BACKUP_STORAGE_TYPES";
/// Names how many of them should be off-site.
const OFFSITE: &str = "BACKUP_OFFSITE_COPIES";

/// The usual terms, as the environment changes them: what a project accepts is said once, for all who judge.
///
/// # Errors
/// `Usage` if a variable holds no number or no duration.
pub fn terms(host: &Host) -> Result<Terms, Failure> {
    let usual = Terms::default();
    let number = |name: &str, usual: u32| match channel::number(host, name, usual) {
        (number, None) => Ok(number),
        (_, Some(failure)) => Err(failure),
    };
    let period = |name: &str, usual: Duration| {
        let env = host.env();
        let Some((text, origin)) = env.get(name) else { return Ok(usual) };
        units::parse_duration(text.trim()).ok_or_else(|| {
            Failure::new(Code::Usage, format!("{} is not a duration", origin.describe(name))).hint(format!(
                "Set {name} to a duration such as `36h` or `7d`, or remove it: then it is {}.",
                age(usual.as_secs())
            ))
        })
    };
    Ok(Terms {
        max_age: period(MAX_AGE, usual.max_age)?,
        verify_age: period(VERIFY_AGE, usual.verify_age)?,
        drill_age: period(DRILL_AGE, usual.drill_age)?,
        copies: number(COPIES, usual.copies)?,
        storage: number(STORAGE, usual.storage)?,
        offsite: number(OFFSITE, usual.offsite)?,
        ..usual
    })
}

/// What the record of runs in `state` tells, what `pick` takes of the runs, which are newest first, and the drills.
pub fn recorded<T>(
    state: &Path,
    now: DateTime<FixedOffset>,
    terms: &Terms,
    pick: impl FnOnce(&[RunSummary]) -> T,
) -> (History, T, Vec<DrillRecord>) {
    let mut unknown = Vec::new();
    let mut note = |what: &str, failure: &Failure| {
        unknown.push(NotSeen { what: format!("{what}: {failure}"), matters: true });
    };
    let runs = reader::list(state).unwrap_or_else(|failure| {
        note("runs", &failure);
        Vec::new()
    });
    let drills = drills::all(state).unwrap_or_else(|failure| {
        note("drills", &failure);
        Vec::new()
    });
    let since = now - TimeDelta::days(i64::from(terms.days));
    let missed = missed(state, since, now, &runs).unwrap_or_else(|failure| {
        note("schedules", &failure);
        Vec::new()
    });
    let pending = alert::pending(state).unwrap_or_else(|failure| {
        note("alerts", &failure);
        Vec::new()
    });
    let undelivered = pending.first().zip(pending.last()).map(|(oldest, newest)| Undelivered {
        count: pending.len(),
        since: oldest.since,
        why: newest.why.clone(),
    });
    let picked = pick(&runs);
    let history = History {
        runs: Arc::new(runs.into_iter().map(ran).collect()),
        drills: drills.iter().map(drilled).collect(),
        missed,
        undelivered,
        unknown,
    };
    (history, picked, drills)
}

/// How long a run that is said to begin may go without a record; then its process was gone before it could make one.
const UNBEGUN: TimeDelta = TimeDelta::minutes(30);

/// Scheduled runs that were not made since then: those that somebody left out, those that ended before they had a record
/// among `runs`, and those of which nobody knows.
///
/// # Errors
/// If the record of schedules cannot be read.
fn missed(
    state: &Path,
    since: DateTime<FixedOffset>,
    now: DateTime<FixedOffset>,
    runs: &[RunSummary],
) -> Result<Vec<Missed>, Failure> {
    let decisions = slots::decisions(state, since)?;
    let of = |decision: &Decision, why: &str| Missed {
        playbook: decision.playbook.clone(),
        schedule: decision.schedule.clone(),
        slot: decision.slot,
        why: why.to_owned(),
    };
    let key = |decision: &Decision| (decision.playbook.clone(), decision.schedule.clone(), decision.slot);
    let is_end = |decision: &&Decision| matches!(decision.what, Became::Ended { .. });
    let ended: HashSet<_> = decisions.iter().filter(is_end).map(key).collect();
    let has_ended = |begun: &Decision| ended.contains(&key(begun));
    let began: LazyCell<HashSet<(&str, i64)>, _> = LazyCell::new(|| {
        runs.iter().filter_map(|run| Some((run.playbook.as_str(), run.began?.timestamp()))).collect()
    });
    // In the hour that comes twice a run's time is a second later than its instant.
    let has_record = |begun: &Decision| {
        let slot = begun.slot.timestamp();
        (slot - 1..=slot + 1).any(|second| began.contains(&(begun.playbook.as_str(), second)))
    };
    let left_out = decisions.iter().filter_map(|decision| match &decision.what {
        Became::PassedOver { why, .. } => Some(of(decision, why.words())),
        Became::Begun if now - decision.at > UNBEGUN && !has_record(decision) && !has_ended(decision) => {
            Some(of(decision, "its process was gone before it had begun"))
        }
        Became::Begun | Became::Ended { .. } => None,
    });
    let silent = slots::silent(state, now)?.into_iter().map(|(stamp, slot)| Missed {
        playbook: stamp.playbook,
        schedule: stamp.schedule,
        slot,
        why: "nothing has started it: is the daemon, cron or the timer still there?".to_owned(),
    });
    Ok(left_out.chain(silent).collect())
}

fn ran(run: RunSummary) -> Ran {
    Ran {
        run: run.run,
        playbook: run.playbook,
        began: run.began,
        state: match run.state {
            RunState::Running => RanState::Running,
            RunState::Killed => RanState::Killed,
            RunState::Ended(exit) => RanState::Ended(exit),
        },
        millis: run.millis,
        warnings: run.warnings.len(),
        failure: run.failure.as_ref().map(|failure| (failure.code, failure.to_string())),
        is_drill: run.is_drill,
        owes: !run.owes.is_empty(),
        is_resumed: run.resumed > 0,
    }
}

fn drilled(record: &DrillRecord) -> Drilled {
    Drilled {
        playbook: record.playbook.clone(),
        began: record.began,
        result: record.verdict.result,
        millis: record.verdict.millis,
    }
}

/// A check-up of the usual folders on the [terms] of the project, which asks no server: what is fit to be done often.
///
/// # Errors
/// Of what cannot even be asked; what cannot be looked at stands in the report.
pub fn quick(host: &Arc<Host>) -> Result<(Checkup, Vec<DrillRecord>), Failure> {
    let terms = terms(host)?;
    let now = host.clock().now().fixed_offset();
    let facts = Facts::new(host.clone(), Arc::new(Reality));
    let mut drills = Vec::new();
    let checkup = Health { terms, offline: true, ..Health::default() }.ask_beside(&facts, || {
        let (history, (), recorded) = recorded(host.state(), now, &terms, |_| ());
        drills = recorded;
        history
    })?;
    Ok((checkup, drills))
}
