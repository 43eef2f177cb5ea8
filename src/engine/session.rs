//! One run's session. Nothing reaches the world but through its two doors.
//!
//! *Problem*: a mode passed as a parameter is a mode that somebody ignores. *Decision*: a dry run has no
//! [`Effects`], so no action can act in it; only `Session::perform` of a live session makes them. *Rejected*: a
//! `dry_run` flag per action.

mod flow;
mod keeping;
mod parallel;
mod tasks;
mod walls;

pub use parallel::{AnyAction, Listed, Terms};

use crate::action::{Action, Recorded};
use crate::base::event::{Level, Mode, Outcome, What};
use crate::base::failure::{Code, Failure, Place};
use crate::base::plan::{Later, Plan, Target, Touch};
use crate::engine::injection::{Injection, Kind};
use crate::engine::overlay::Overlay;
use crate::engine::policy::Policy;
use crate::engine::resume::Past;
use crate::observe::Observation;
use crate::sys::effects::{Effects, IntentLog};
use crate::sys::facts::{Facts, Reality, View};
use crate::sys::fs;
use crate::sys::host::Host;
use crate::sys::lock::{FolderLocks, Lock};
use crate::sys::program;
use keeping::Kept;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names a block with a clean-up in its path.
const ENSURE: &str = "ensure";

/// What a live session needs beyond a dry one.
#[derive(Clone)]
pub struct LiveRun {
    /// The run's id.
    pub run: String,
    /// Where intents become durable.
    pub intents: Arc<dyn IntentLog>,
}

/// A step that has begun.
#[derive(Debug)]
pub struct OpenStep {
    path: String,
    began: Instant,
    /// What a drill's sandbox had done for itself by then.
    idle: Duration,
}

/// What planning an action leaves to do.
enum Prepared<O> {
    /// Nothing: it stands already, or is captured. What it leaves behind for those that follow.
    Settled { output: Later<O>, touches: Vec<Touch> },
    /// All of it. What it returned in an earlier attempt of this run that does not stand any more.
    Ready { plan: Box<Plan<O>>, returned: Option<serde_json::Value> },
}

/// An action that has begun.
struct Begun {
    number: u64,
    began: Instant,
    effects: Effects,
    injection: Option<Injection>,
    /// How many actions this process has begun with it.
    carried_out: u64,
}

#[derive(Default)]
struct Progressed {
    /// Paths of the steps that are open, outermost first.
    open: Vec<String>,
    /// How often each path was begun.
    counts: BTreeMap<String, u64>,
    /// How often each block with a clean-up was begun.
    ensures: BTreeMap<String, u64>,
    incomplete: bool,
    declined: bool,
}

/// The session of one run.
pub struct Session {
    host: Arc<Host>,
    facts: Facts,
    policy: Policy,
    overlay: Option<Arc<Overlay>>,
    live: Option<LiveRun>,
    number: AtomicU64,
    progressed: Mutex<Progressed>,
    locks: Mutex<BTreeMap<Target, Lock>>,
    folders: Arc<FolderLocks>,
    /// What earlier attempts of a resumed run left.
    past: Option<Mutex<Past>>,
    /// How many actions this process has carried out.
    carried_out: AtomicU64,
}

impl Session {
    /// A session that acts.
    pub fn live(host: Arc<Host>, policy: Policy, run: LiveRun) -> Self {
        let facts = Facts::new(host.clone(), Arc::new(Reality));
        Self::new(host, facts, policy, None, Some(run))
    }

    /// A session that shows what it would do.
    pub fn dry(host: Arc<Host>, policy: Policy) -> Self {
        let overlay = Arc::new(Overlay::new());
        let view: Arc<dyn View> = overlay.clone();
        let facts = Facts::new(host.clone(), view);
        Self::new(host, facts, policy, Some(overlay), None)
    }

    /// A session that acts in a sandbox: `host` is that sandbox's.
    pub fn drill(host: Arc<Host>, policy: Policy, run: LiveRun) -> Self {
        // What a captured command would have changed is not known; all else is as the sandbox has it.
        let overlay = Arc::new(Overlay::new());
        let view: Arc<dyn View> = overlay.clone();
        let facts = Facts::new(host.clone(), view);
        Self::new(host, facts, policy, Some(overlay), Some(run))
    }

    fn new(
        host: Arc<Host>,
        facts: Facts,
        policy: Policy,
        overlay: Option<Arc<Overlay>>,
        live: Option<LiveRun>,
    ) -> Self {
        Self {
            host,
            facts,
            policy,
            overlay,
            live,
            number: AtomicU64::new(0),
            progressed: Mutex::default(),
            locks: Mutex::default(),
            folders: Arc::default(),
            past: None,
            carried_out: AtomicU64::new(0),
        }
    }

    /// The host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Facts, as this session sees them.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How this session treats the world; for the report, never for actions.
    pub fn mode(&self) -> Mode {
        match &self.live {
            None => Mode::DryRun,
            Some(_) if self.host.sandbox().is_some() => Mode::Drill,
            Some(_) => Mode::Live,
        }
    }

    /// The door of effects: plan, authorize, then show (dry) or carry out exactly what was planned (live).
    pub fn perform<A: Action>(&self, action: &A, at: Option<Place>) -> Result<Later<A::Output>, Failure> {
        self.facts.cancel().check()?;
        let placed = |failure: Failure| failure.at(at.clone());
        let (plan, returned) = match self.prepare(action, at.clone(), None).map_err(placed)? {
            Prepared::Settled { output, touches } => {
                self.foresee(&touches);
                return Ok(output);
            }
            Prepared::Ready { plan, returned } => (plan, returned),
        };
        if let Some(question) = &plan.confirm {
            self.confirm(question).map_err(placed)?;
        }
        match &self.live {
            None => {
                self.foresee(&plan.touches);
                Ok(plan.forecast)
            }
            Some(run) => {
                let begun = self.begin::<A>(&plan, run, None, 1).map_err(placed)?;
                self.carry_out(action, &plan, &begun, returned).map(Later::Now).map_err(placed)
            }
        }
    }

    /// Plans an action, and tells what is left to do about it. `nth` is its place in the list of a `parallel`.
    fn prepare<A: Action>(
        &self,
        action: &A,
        at: Option<Place>,
        nth: Option<u64>,
    ) -> Result<Prepared<A::Output>, Failure> {
        self.policy.authorize(&action.asks(), A::NAME)?;
        let captured = action.captured(&self.facts);
        let plan = match (action.plan(&self.facts), &captured) {
            // What it would need may be what the sandbox does not have.
            (Err(failure), Some(why)) if matches!(failure.code, Code::ProgramMissing | Code::NotFound) => {
                self.capture(&action.in_short(&self.host), &format!("{why}; {failure}"));
                return Ok(Prepared::Settled { output: Later::AfterRun, touches: Vec::new() });
            }
            (Ok(plan), _) => plan,
            // What stands already often cannot be planned once more.
            (Err(failure), _) => {
                return match self.kept::<A>(None, nth)? {
                    Kept::Stands(output) => {
                        Ok(Prepared::Settled { output: Later::Now(output), touches: Vec::new() })
                    }
                    Kept::Not(_) => Err(failure),
                };
            }
        };
        tracing::debug!(action = A::NAME, summary = plan.summary, "planned");
        self.policy.authorize(&plan.needs, A::NAME)?;
        self.host.emit(What::Planned {
            action: A::NAME.to_owned(),
            step: self.step(),
            at,
            plan: plan.shown(),
            nth,
        });
        let shown = self.past.as_ref().map(|_| plan.shown());
        let returned = match self.kept::<A>(shown.as_ref(), nth)? {
            Kept::Stands(output) => {
                return Ok(Prepared::Settled { output: Later::Now(output), touches: Vec::new() });
            }
            Kept::Not(returned) => returned,
        };
        if let Some(why) = captured {
            self.capture(&action.in_short(&self.host), &why);
            // That it may have changed anything is said; what it says of itself is held against what follows.
            let named = |touch: &&Touch| !matches!(touch, Touch::Changed(Target::Everything));
            let touches = plan.touches.iter().filter(named).cloned().collect();
            return Ok(Prepared::Settled { output: Later::AfterRun, touches });
        }
        if self.mode() == Mode::Drill {
            self.check_rehearsable(&plan.needs, A::NAME)?;
        }
        Ok(Prepared::Ready { plan: Box::new(plan), returned })
    }

    /// Lays what is predicted over what is there.
    fn foresee(&self, touches: &[Touch]) {
        if let Some(overlay) = &self.overlay {
            overlay.add(touches);
        }
    }

    /// Takes what the action needs for itself, and tells that it begins; `crowd` is how many may run at the same time.
    fn begin<A: Action>(
        &self,
        plan: &Plan<A::Output>,
        run: &LiveRun,
        nth: Option<u64>,
        crowd: usize,
    ) -> Result<Begun, Failure> {
        self.check_inside(&plan.needs, A::NAME)?;
        for target in &plan.locks {
            self.lock(target, run)?;
        }
        // The end may have been asked for while it was planned; from here on the action itself looks out for that.
        self.facts.cancel().check()?;
        let injection = Injection::of(&self.host)?;
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let began = self.host.clock().instant();
        self.host.emit(What::ActionBegun {
            action: A::NAME.to_owned(),
            number,
            summary: plan.summary.clone(),
            nth,
        });
        let folders = self.folders.clone();
        let effects = Effects::new(self.facts.clone(), run.intents.clone(), number, run.run.clone(), folders);
        let carried_out = self.carried_out.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Begun { number, began, effects: effects.among(crowd), injection, carried_out })
    }

    fn carry_out<A: Action>(
        &self,
        action: &A,
        plan: &Plan<A::Output>,
        begun: &Begun,
        returned: Option<serde_json::Value>,
    ) -> Result<A::Output, Failure> {
        let number = begun.number;
        let hits = |kind| begun.injection.filter(|injection| injection.hits(kind, begun.carried_out));
        if hits(Kind::KillBefore).is_some() {
            program::kill();
        }
        let result = match hits(Kind::Fail) {
            Some(injection) => Err(injection.failure(A::NAME)),
            None => action.execute(plan, &begun.effects),
        };
        if hits(Kind::KillAfter).is_some() {
            program::kill();
        }
        let millis = elapsed(begun.began);
        tracing::debug!(action = A::NAME, number, millis, done = result.is_ok(), "executed");
        self.compare_action(result.as_ref(), returned);
        match &result {
            Ok(output) => self.host.emit(What::ActionEnded {
                action: A::NAME.to_owned(),
                number,
                output: serde_json::to_value(output).unwrap_or_default(),
                summary: output.summary(),
                millis,
            }),
            Err(failure) => self.host.emit(What::ActionFailed {
                action: A::NAME.to_owned(),
                number,
                failure: failure.clone(),
                millis,
            }),
        }
        result
    }

    /// The door of questions. `independent` says that no earlier effect of the run can change the answer.
    pub fn observe<O: Observation>(
        &self,
        observation: &O,
        independent: bool,
        at: Option<Place>,
    ) -> Result<Later<O::Answer>, Failure> {
        self.facts.cancel().check()?;
        let placed = |failure: Failure| failure.at(at.clone());
        self.policy.authorize(&observation.needs(&self.facts), O::NAME).map_err(placed)?;
        let touched = !independent
            && observation.concerns(&self.facts).iter().any(|target| self.facts.view().is_touched(target));
        let unread = self.live.is_none() && !observation.is_literal();
        let captured = observation.captured(&self.facts);
        if let Some(why) = &captured {
            let question = observation.question();
            self.capture(question.strip_prefix("$ ").unwrap_or(&question), why);
        }
        let answer = if touched || unread || captured.is_some() {
            Later::AfterRun
        } else {
            observation.ask(&self.facts).map_err(placed)?
        };
        self.host.emit(What::Observed {
            name: O::NAME.to_owned(),
            question: observation.question(),
            answer: match &answer {
                Later::Now(answer) => observation.answer(answer),
                Later::AfterRun => "(known after run)".to_owned(),
            },
        });
        Ok(answer)
    }

    /// Says that a drill does not do something.
    fn capture(&self, what: &str, why: &str) {
        self.host.emit(What::Captured { what: what.to_owned(), step: self.step(), why: why.to_owned() });
    }

    /// Begins a step inside those that are open.
    pub fn begin_step(&self, name: &str) -> OpenStep {
        let mut state = self.state();
        let path = state.open.last().map_or_else(|| name.to_owned(), |outer| format!("{outer}/{name}"));
        let path = numbered(&mut state.counts, path);
        state.open.push(path.clone());
        drop(state);
        OpenStep { path, began: self.host.clock().instant(), idle: self.host.idle() }
    }

    /// Tells that a step begins, once it is known that it does not stand already.
    pub fn tell_step(&self, step: &OpenStep) {
        self.host.emit(What::StepBegun { step: step.path.clone() });
    }

    /// Ends a step. A tolerated failure becomes a warning of the run; an unknown makes the plan incomplete.
    pub fn end_step(&self, step: OpenStep, outcome: Outcome, failure: Option<&Failure>) {
        let mut state = self.state();
        state.open.retain(|open| *open != step.path);
        if let (Outcome::Tolerated, Some(failure)) = (outcome, failure) {
            self.host.add_warning(self.host.masker().mask(&format!("{}: {failure}", step.path)));
            self.host.set_troubled();
        }
        drop(state);
        self.compare_step(&step.path, failure);
        if let (Outcome::Unknown, Some(failure)) = (outcome, failure) {
            self.incomplete(&step.path, &failure.message, failure.at.clone());
        }
        self.host.emit(What::StepEnded {
            step: step.path,
            outcome,
            millis: elapsed(step.began).saturating_sub(millis(self.host.idle() - step.idle)),
            failure: failure.cloned(),
        });
    }

    /// The path of the innermost open step, or "".
    pub fn step(&self) -> String {
        self.state().open.last().cloned().unwrap_or_default()
    }

    /// Says a line. A warning makes the run complete with warnings.
    pub fn log(&self, level: Level, message: &str) {
        match level {
            Level::Warn => self.host.warn(message),
            // What a playbook calls an error cannot leave the run green.
            Level::Error => {
                self.host.add_warning(self.host.masker().mask(message));
                self.host.emit(What::Log { level, message: message.to_owned() });
            }
            _ => self.host.emit(What::Log { level, message: message.to_owned() }),
        }
    }

    /// Whether an action was carried out.
    pub fn has_acted(&self) -> bool {
        self.number.load(Ordering::Relaxed) > 0
    }

    /// Notes that part of a dry run could not be known.
    pub fn incomplete(&self, step: &str, reason: &str, at: Option<Place>) {
        self.state().incomplete = true;
        self.host.emit(What::Incomplete { step: step.to_owned(), reason: reason.to_owned(), at });
    }

    /// Whether part of the dry run could not be known.
    pub fn is_incomplete(&self) -> bool {
        self.state().incomplete
    }

    /// Warnings and tolerated failures so far.
    pub fn warnings(&self) -> Vec<String> {
        self.host.warnings()
    }

    fn lock(&self, target: &Target, run: &LiveRun) -> Result<(), Failure> {
        // Two spellings of one folder are one target, which this run may hold already.
        let known = match target {
            Target::Path(path) => Target::Path(fs::resolved(path)),
            other => other.clone(),
        };
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(free) = locks.entry(known) {
            free.insert(Lock::take(self.host.state(), target, &run.run)?);
        }
        if let Target::Path(dir) = target {
            self.folders.hold(dir)?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, Progressed> {
        self.progressed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path with its occurrence, from the second on.
fn numbered(counts: &mut BTreeMap<String, u64>, path: String) -> String {
    let count = counts.entry(path.clone()).or_default();
    *count += 1;
    if *count > 1 { format!("{path}#{count}") } else { path }
}

fn elapsed(began: Instant) -> u64 {
    millis(began.elapsed())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
