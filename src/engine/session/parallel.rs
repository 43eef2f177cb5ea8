//! A list of actions that are carried out at the same time.
//!
//! *Problem*: the script engine lives on one thread, and actions take hours. *Decision*: a playbook hands over actions as
//! values; all of them are planned, authorized and asked about in order before any begins, and each is then carried out on a
//! plain thread. *Rejected*: closures on threads, whose shared variables are locked or lost.

use super::{Begun, LiveRun, Prepared, Session};
use crate::action::Action;
use crate::base::cancel::Cancel;
use crate::base::event::What;
use crate::base::failure::{Code, Failure, Place};
use crate::base::plan::{Later, Need, Plan, Touch};
use crate::sys::beside::Beside;
use crate::sys::fs;
use crate::sys::host::Host;
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Reserved for each thread, not used: what an action does is not deep, but must not depend on who carries it out.
const STACK: usize = 16 << 20;

/// An action of any kind, as a list holds it; what it returns is JSON, as the journal has it.
pub trait AnyAction: Send + Sync {
    /// Itself in a few words.
    fn in_short(&self, host: &Host) -> String;
    /// Plans it in a session.
    ///
    /// # Errors
    /// As [`Session::perform`].
    fn ready<'a>(&'a self, session: &Session, at: Option<Place>, nth: u64) -> Result<Readied<'a>, Failure>;
}

/// An action that was planned.
pub struct Readied<'a>(State<'a>);

enum State<'a> {
    Settled { output: Later<Value>, touches: Vec<Touch> },
    Ready(Box<dyn Job + 'a>),
}

/// One action of a list.
pub struct Listed<'a> {
    /// What is done.
    pub action: &'a dyn AnyAction,
    /// Where the playbook makes it.
    pub at: Option<Place>,
}

/// How a list is performed.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How many are carried out at the same time.
    pub jobs: usize,
    /// Whether the run goes on when one fails.
    pub tolerant: bool,
}

/// What came of one action of a list.
pub type Outcome = Result<Later<Value>, Failure>;

impl<A: Action> AnyAction for A {
    fn in_short(&self, host: &Host) -> String {
        Action::in_short(self, host)
    }

    fn ready<'a>(&'a self, session: &Session, at: Option<Place>, nth: u64) -> Result<Readied<'a>, Failure> {
        Ok(Readied(match session.prepare(self, at, Some(nth))? {
            Prepared::Settled { output, touches } => State::Settled { output: coded(output)?, touches },
            Prepared::Ready { plan, returned } => {
                State::Ready(Box::new(Planned { action: self, plan, returned, nth, begun: None }))
            }
        }))
    }
}

fn coded<O: serde::Serialize>(output: Later<O>) -> Result<Later<Value>, Failure> {
    match output {
        Later::Now(output) => serde_json::to_value(output)
            .map(Later::Now)
            .map_err(|error| Failure::new(Code::Internal, "cannot write an output as JSON").caused_by(error)),
        Later::AfterRun => Ok(Later::AfterRun),
    }
}

/// An action that is to be carried out, whatever its kind.
trait Job: Send {
    /// What it leaves behind.
    fn touches(&self) -> &[Touch];
    /// What the policy allowed it.
    fn needs(&self) -> &[Need];
    /// The question that comes first.
    fn question(&self) -> Option<&str>;
    /// What it is going to return, as far as that is known.
    fn forecast(&self) -> Result<Later<Value>, Failure>;
    /// Takes what it needs for itself and tells that it begins.
    fn begin(&mut self, session: &Session, run: &LiveRun, crowd: usize) -> Result<(), Failure>;
    /// Carries it out.
    fn carry_out(&mut self, session: &Session) -> Outcome;
}

struct Planned<'a, A: Action> {
    action: &'a A,
    plan: Box<Plan<A::Output>>,
    returned: Option<Value>,
    nth: u64,
    begun: Option<Begun>,
}

impl<A: Action> Job for Planned<'_, A> {
    fn touches(&self) -> &[Touch] {
        &self.plan.touches
    }

    fn needs(&self) -> &[Need] {
        &self.plan.needs
    }

    fn question(&self) -> Option<&str> {
        self.plan.confirm.as_deref()
    }

    fn forecast(&self) -> Result<Later<Value>, Failure> {
        coded(self.plan.forecast.clone())
    }

    fn begin(&mut self, session: &Session, run: &LiveRun, crowd: usize) -> Result<(), Failure> {
        self.begun = Some(session.begin::<A>(&self.plan, run, Some(self.nth), crowd)?);
        Ok(())
    }

    fn carry_out(&mut self, session: &Session) -> Outcome {
        let Some(begun) = &self.begun else {
            return Err(Failure::new(Code::Internal, "an action is carried out that has not begun"));
        };
        let _beside = Beside::others(begun.number);
        let returned = self.returned.take();
        coded(Later::Now(session.carry_out(self.action, &self.plan, begun, returned)?))
    }
}

impl Session {
    /// Performs a list of actions at the same time, and waits until all have ended. What each returned, in the order of the
    /// list; those that failed are among it only if that is tolerated.
    ///
    /// # Errors
    /// What refuses one of them refuses all, before any begins. Otherwise all that failed, joined into one failure.
    pub fn perform_all(
        &self,
        list: &[Listed<'_>],
        terms: Terms,
        at: Option<&Place>,
    ) -> Result<Vec<Outcome>, Failure> {
        self.facts.cancel().check()?;
        let mut outcomes: Vec<Option<Outcome>> = Vec::new();
        let mut jobs: VecDeque<(usize, Box<dyn Job + '_>)> = VecDeque::new();
        let mut left = Vec::new();
        for (index, one) in list.iter().enumerate() {
            outcomes.push(match one.action.ready(self, one.at.clone(), index as u64 + 1) {
                Ok(Readied(State::Settled { output, touches })) => {
                    left.extend(touches);
                    Some(Ok(output))
                }
                Ok(Readied(State::Ready(job))) => {
                    jobs.push_back((index, job));
                    None
                }
                // What refuses or ends the run is no failure of this action alone.
                Err(failure) if failure.code.ends_the_run() => return Err(failure.at(one.at.clone())),
                Err(failure) => Some(Err(failure.at(one.at.clone()))),
            });
        }
        self.refuse_conflicts(list, &jobs)?;
        for (index, job) in &jobs {
            if let Some(question) = job.question() {
                self.confirm(question).map_err(|failure| failure.at(list[*index].at.clone()))?;
            }
        }
        for (one, outcome) in list.iter().zip(&outcomes) {
            if let (true, Some(Err(failure))) = (terms.tolerant, outcome) {
                self.tolerate(one, failure);
            }
        }
        match &self.live {
            None => {
                for (index, job) in &jobs {
                    left.extend_from_slice(job.touches());
                    outcomes[*index] = Some(job.forecast());
                }
            }
            Some(run) => self.work(list, jobs, run, terms, &mut outcomes),
        }
        // Each was planned as if it were alone; what follows sees what all of them leave.
        self.foresee(&left);
        let missing = || Err(Failure::new(Code::Internal, "an action of a list was left out"));
        let outcomes: Vec<Outcome> =
            outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect();
        self.settle(list, outcomes, terms, at)
    }

    /// Carries out what is planned, on this thread and as many more as it takes.
    fn work(
        &self,
        list: &[Listed<'_>],
        jobs: VecDeque<(usize, Box<dyn Job + '_>)>,
        run: &LiveRun,
        terms: Terms,
        outcomes: &mut [Option<Outcome>],
    ) {
        let crowd = terms.jobs.clamp(1, jobs.len().max(1));
        let (jobs, outcomes) = (Mutex::new(jobs), Mutex::new(outcomes));
        let work = || {
            loop {
                // The next one begins under the lock: they begin in the order of the list, whoever takes them.
                let (index, begun) = {
                    let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some((index, mut job)) = jobs.pop_front() else { return };
                    (index, job.begin(self, run, crowd).map(|()| job))
                };
                let one = &list[index];
                let outcome = begun.and_then(|mut job| self.guarded(one, || job.carry_out(self)));
                let outcome = outcome.map_err(|failure| failure.at(one.at.clone()));
                if let (true, Err(failure)) = (terms.tolerant, &outcome) {
                    self.tolerate(one, failure);
                }
                outcomes.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(outcome);
            }
        };
        thread::scope(|scope| {
            for _ in 1..crowd {
                let thread = thread::Builder::new().name("lifeboat-action".to_owned()).stack_size(STACK);
                // Where there is no thread to be had, fewer are carried out at the same time.
                if let Err(error) = thread.spawn_scoped(scope, work) {
                    tracing::debug!(%error, "no further thread");
                }
            }
            work();
        });
    }

    /// A panic of one action is that one's failure: the others come to their end.
    fn guarded(&self, one: &Listed<'_>, work: impl FnOnce() -> Outcome) -> Outcome {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let message = format!("a defect in Lifeboat ended `{}`", one.action.in_short(&self.host));
            Err(Failure::new(Code::Internal, message)
                .caused_by(text.unwrap_or_else(|| "panic".to_owned()))
                .hint("Please report it with the playbook and the run's record."))
        })
    }

    /// Refuses a list in which two write the same: whichever came first, the other would fail or undo it.
    fn refuse_conflicts(
        &self,
        list: &[Listed<'_>],
        jobs: &VecDeque<(usize, Box<dyn Job + '_>)>,
    ) -> Result<(), Failure> {
        let mut written: Vec<(PathBuf, usize)> = Vec::new();
        for (index, job) in jobs {
            for path in targets(job.needs()) {
                let Some((_, other)) = written.iter().find(|(known, _)| *known == path) else {
                    written.push((path, *index));
                    continue;
                };
                let shown = self.host.shown(&path);
                let message = format!("two actions that run at the same time write `{shown}`");
                let both = [*other, *index].map(|index| {
                    let one = &list[index];
                    let at = one.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
                    format!("`{}`{at}", one.action.in_short(&self.host))
                });
                return Err(Failure::new(Code::Usage, message)
                    .caused_by(format!("{} and {}", both[0], both[1]))
                    .hint("Give each of them a path of its own, or perform them one after the other.")
                    .at(list[*index].at.clone()));
            }
        }
        Ok(())
    }

    /// Tells of a failure in spite of which the run goes on. Rotation removes nothing from here on.
    fn tolerate(&self, one: &Listed<'_>, failure: &Failure) {
        if failure.code.is_tolerable() {
            self.host.set_troubled();
            let mut failure = failure.clone();
            failure.step.get_or_insert(self.step());
            self.host.emit(What::ActionTolerated {
                action: one.action.in_short(&self.host),
                step: self.step(),
                failure,
            });
        }
    }

    /// What a list comes to once all of it has ended.
    fn settle(
        &self,
        list: &[Listed<'_>],
        outcomes: Vec<Outcome>,
        terms: Terms,
        at: Option<&Place>,
    ) -> Result<Vec<Outcome>, Failure> {
        let failed: Vec<(&Listed<'_>, &Failure)> = list
            .iter()
            .zip(&outcomes)
            .filter_map(|(one, outcome)| Some((one, outcome.as_ref().err()?)))
            .filter(|(_, failure)| !(terms.tolerant && failure.code.is_tolerable()))
            .collect();
        if !failed.is_empty() {
            return Err(self.joined(list.len(), &failed, at));
        }
        for (one, outcome) in list.iter().zip(&outcomes) {
            if let Err(failure) = outcome {
                let warning = format!("{}: {}: {failure}", self.step(), one.action.in_short(&self.host));
                self.host.add_warning(self.host.masker().mask(&warning));
            }
        }
        Ok(outcomes)
    }

    /// One failure as it is; several as one that names each. The end of the run counts before what it made fail.
    fn joined(&self, all: usize, failed: &[(&Listed<'_>, &Failure)], at: Option<&Place>) -> Failure {
        if let Some(reason) = self.facts.cancel().reason()
            && failed.iter().any(|(_, failure)| failure.code == Cancel::failure(reason).code)
        {
            return Cancel::failure(reason);
        }
        if let [(_, only)] = failed {
            return (*only).clone();
        }
        let worst = failed.iter().map(|(_, failure)| failure.code).min_by_key(|code| severity(*code));
        let message = match failed.len() {
            some if some == all => format!("all {all} actions that ran at the same time failed"),
            some => format!("{some} of {all} actions that ran at the same time failed"),
        };
        let mut joined = Failure::new(worst.unwrap_or(Code::Failed), message).at(at.cloned());
        for (one, failure) in failed {
            let place = failure.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
            joined = joined.caused_by(format!("`{}`{place}: {failure}", one.action.in_short(&self.host)));
            joined = failure.hints.iter().fold(joined, |joined, hint| joined.hint(hint));
        }
        joined
    }
}

/// What counts first when several fail; among equals the first of the list.
fn severity(code: Code) -> u8 {
    match code {
        _ if code.ends_the_run() => 0,
        Code::Internal => 1,
        Code::Unknown => 3,
        _ => 2,
    }
}

/// What is written, without the folders that only hold it.
fn targets(needs: &[Need]) -> BTreeSet<PathBuf> {
    let written = needs.iter().filter_map(|need| match need {
        Need::Write(path) | Need::Restore(path) => Some(fs::resolved(path)),
        _ => None,
    });
    let written: BTreeSet<PathBuf> = written.collect();
    let holds_another = |path: &PathBuf| written.iter().any(|other| other != path && other.starts_with(path));
    written.iter().filter(|path| !holds_another(path)).cloned().collect()
}
