//! The turn of a schedule: which of its instants run now, which do not, and what becomes of each.
//!
//! *Problem*: cron, systemd, a daemon and people may start the same schedule at the same moment, late, twice, or while the run
//! before is still going on. *Decision*: whoever starts it asks here; one process at a time decides, writes down what is
//! decided, and only then runs. *Rejected*: to hold the schedule's lock while its run goes on, which would make the next
//! instant wait where it is to be left out on record.

use crate::base::failure::{Exit, Failure};
use crate::base::ids::RunId;
use crate::base::schedule::{Due, Overlap, Passed, Scheduled, Slot, Timetable, Why, due};
use crate::journal::reader;
use crate::journal::slots::{Became, Beginning, Claim, Decision, record};
use crate::script::header::Schedule;
use crate::sys::host::Host;
use crate::sys::signals;
use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use std::path::Path;
use std::time::Duration;

/// So often it is looked whether what is in the way is gone.
const LOOK: Duration = Duration::from_millis(200);

/// So long a run that is to end for its successor may take to clean up; then it is killed.
const GRACE: Duration = Duration::from_secs(60);

/// The world as a turn needs it.
pub trait World {
    /// Now.
    fn now(&self) -> DateTime<Utc>;
    /// Waits; fails when the end is asked for.
    fn pause(&self, time: Duration) -> Result<(), Failure>;
    /// A run of the playbook that goes on, if there is one.
    fn running(&self, playbook: &str) -> Result<Option<RunId>, Failure>;
    /// Ends the runs of a playbook, and waits until they have ended.
    fn end(&self, playbook: &str) -> Result<(), Failure>;
}

/// The machine itself; its clock, its journal and its processes.
pub struct Machine<'a>(pub &'a Host);

impl World for Machine<'_> {
    fn now(&self) -> DateTime<Utc> {
        self.0.clock().now().with_timezone(&Utc)
    }

    fn pause(&self, time: Duration) -> Result<(), Failure> {
        self.0.wait(async { tokio::time::sleep(time).await })
    }

    fn running(&self, playbook: &str) -> Result<Option<RunId>, Failure> {
        Ok(reader::running(self.0.state(), playbook)?.map(|(run, _)| run))
    }

    fn end(&self, playbook: &str) -> Result<(), Failure> {
        let began = self.0.clock().instant();
        let mut asked = None;
        while let Some((run, pid)) = reader::running(self.0.state(), playbook)? {
            if asked.as_ref() != Some(&run) {
                signals::terminate(pid);
                asked = Some(run);
            } else if began.elapsed() > GRACE {
                signals::kill(pid);
            }
            self.pause(LOOK)?;
        }
        Ok(())
    }
}

/// A schedule whose turn it may be.
pub struct Turn<'a> {
    /// Folder of the journal.
    pub state: &'a Path,
    /// Name of the playbook.
    pub playbook: &'a str,
    /// The schedule.
    pub schedule: &'a Schedule,
    /// Its instants.
    pub timetable: &'a Timetable,
    /// So long after its instant a run begins on this machine.
    pub delay: Duration,
}

/// What came of a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The instants that ran, and how.
    pub ran: Vec<(DateTime<FixedOffset>, Exit)>,
    /// Those that did not.
    pub passed: Vec<(Passed, Option<RunId>)>,
    /// The newest instant, decided by somebody else before, when there was nothing to decide.
    pub decided_before: Option<DateTime<FixedOffset>>,
}

/// Runs what is due: tells the run, if it could begin, and its end. It gives the right to begin back once the run is on record.
pub type Run<'a> = dyn FnMut(&Scheduled, Beginning) -> (Option<RunId>, Exit) + 'a;

impl Turn<'_> {
    /// Decides, and runs what is due.
    ///
    /// # Errors
    /// When the end is asked for while something is waited for, or what is to be decided cannot be written down: then it does
    /// not run, and is decided by whoever comes next.
    pub fn take(&self, world: &dyn World, run: &mut Run<'_>) -> Result<Taken, Failure> {
        let mut taken = Taken::default();
        let mut bound = None;
        while let Some(slot) = self.decide(world, &mut bound, &mut taken)? {
            let cleared = self.clear_the_way(world, &slot);
            if cleared.is_err() {
                self.give_back(world, &slot);
            }
            let beginning = match cleared? {
                Ok(beginning) => beginning,
                Err(by) => {
                    let at = slot.fixed();
                    let passed = Passed { first: at, last: at, count: 1, why: Why::Overlapped };
                    self.note(world, at, over(&passed, Some(by.clone())))?;
                    taken.passed.push((passed, Some(by)));
                    continue;
                }
            };
            let scheduled = Scheduled { schedule: self.schedule.name.clone(), slot: slot.fixed() };
            // It is decided, and would not run later: a full disk may keep it from being recorded, and not from being tried.
            // The run has a record of its own.
            let _ = self.note(world, slot.fixed(), Became::Begun);
            let (began, exit) = run(&scheduled, beginning);
            let _ = self.note(world, slot.fixed(), Became::Ended { run: began, exit });
            taken.ran.push((slot.fixed(), exit));
            if matches!(exit, Exit::Interrupted | Exit::Terminated) {
                break;
            }
        }
        Ok(taken)
    }

    /// The next instant that runs, written down as decided. `bound` is the newest instant when the turn began: what comes
    /// meanwhile is another turn's.
    fn decide(
        &self,
        world: &dyn World,
        bound: &mut Option<DateTime<Utc>>,
        taken: &mut Taken,
    ) -> Result<Option<Slot>, Failure> {
        let claim = loop {
            if let Some(claim) = Claim::take(self.state, self.playbook, &self.schedule.name)? {
                break claim;
            }
            world.pause(LOOK)?;
        };
        let first = bound.is_none();
        let until = bound.unwrap_or_else(|| world.now());
        let Some(newest) = self.timetable.newest(until) else { return Ok(None) };
        let last = claim.last(self.timetable, world.now())?;
        if first && last.is_some_and(|last| last >= newest.fixed()) {
            taken.decided_before = Some(newest.fixed());
            return Ok(None);
        }
        if !first && last.is_none() {
            // The schedule or the clock became another one since this turn decided: that is for the next turn.
            return Ok(None);
        }
        // Without a mark nothing before the newest instant is known to have been missed.
        let last = last.unwrap_or_else(|| newest.fixed() - TimeDelta::milliseconds(1)).with_timezone(&Utc);
        let begin = newest.at.with_timezone(&Utc) + TimeDelta::from_std(self.delay).unwrap_or_default();
        if first && let Ok(early) = (begin - world.now()).to_std() {
            world.pause(early)?;
        }
        let until = *bound.insert(until.max(begin));
        let Due { run, passed } = due(self.timetable, &self.schedule.terms, self.delay, last, until);
        let now = world.now().fixed_offset();
        for passed in passed {
            claim.pass_over(now, &passed, None)?;
            claim.decide(self.timetable, passed.last, now)?;
            taken.passed.push((passed, None));
        }
        let Some(slot) = run.into_iter().next() else { return Ok(None) };
        claim.decide(self.timetable, slot.fixed(), now)?;
        Ok(Some(slot))
    }

    /// Waits for, or ends, a run of the same playbook; returns the right to begin, or the run that stays in the way.
    fn clear_the_way(&self, world: &dyn World, slot: &Slot) -> Result<Result<Beginning, RunId>, Failure> {
        // One waits at most: when the next instant comes, that one is to have its turn.
        let next = self.timetable.after(slot.at.with_timezone(&Utc));
        loop {
            let Some(beginning) = Beginning::take(self.state, self.playbook)? else {
                world.pause(LOOK)?;
                continue;
            };
            let Some(other) = world.running(self.playbook)? else { return Ok(Ok(beginning)) };
            drop(beginning);
            match self.schedule.terms.overlap {
                Overlap::Skip => return Ok(Err(other)),
                Overlap::Kill => world.end(self.playbook)?,
                Overlap::Queue if next.as_ref().is_some_and(|next| next.at <= world.now()) => {
                    return Ok(Err(other));
                }
                Overlap::Queue => world.pause(LOOK)?,
            }
        }
    }

    /// Takes back that an instant is decided, since the end was asked for while it waited: whoever comes next decides about it.
    fn give_back(&self, world: &dyn World, slot: &Slot) {
        // One that cannot be given back is as one whose run is killed.
        let Ok(Some(claim)) = Claim::take(self.state, self.playbook, &self.schedule.name) else { return };
        let now = world.now();
        if claim.last(self.timetable, now) == Ok(Some(slot.fixed())) {
            let before = slot.fixed() - TimeDelta::milliseconds(1);
            let _ = claim.decide(self.timetable, before, now.fixed_offset());
        }
    }

    fn note(&self, world: &dyn World, slot: DateTime<FixedOffset>, what: Became) -> Result<(), Failure> {
        let (playbook, schedule) = (self.playbook.to_owned(), self.schedule.name.clone());
        record(self.state, &Decision { at: world.now().fixed_offset(), playbook, schedule, slot, what })
    }
}

fn over(passed: &Passed, by: Option<RunId>) -> Became {
    Became::PassedOver { why: passed.why, first: passed.first, count: passed.count, by }
}
