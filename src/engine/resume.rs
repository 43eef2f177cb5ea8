//! What an earlier attempt of a run left, read from its journal: which steps it completed, and what became of each action.
//!
//! *Problem*: a record says what was done, the world says what stands, and they may differ. *Decision*: the record only tells
//! what to ask; [`Action::reconcile`] asks the world, and nothing is taken for done that it does not say is done.
//! *Rejected*: skipping what the record calls done.

use crate::action::{self, Action, notify, write};
use crate::base::event::{Event, Level, Outcome, What};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Plan, Reconciled, Was};
use crate::base::resume::Settle;
use crate::base::secret::MASK;
use crate::sys::facts::Facts;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An action of an earlier attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct PastAction {
    /// Its NAME.
    pub name: String,
    /// Its number in the run; 0 if it was never begun.
    pub number: u64,
    /// The plan, as it was shown.
    pub plan: Plan<Value>,
    /// Its place in the list of its `parallel`.
    pub nth: Option<u64>,
    /// Whether it was begun.
    pub begun: bool,
    /// What it returned, if it ended well.
    pub output: Option<Value>,
    /// What it warned of.
    warnings: Vec<String>,
    claimed: bool,
}

#[derive(Clone, Debug, Default)]
struct PastStep {
    done: bool,
    /// Why it failed, whether that was tolerated or not.
    failed: Option<Failure>,
    /// An action of it failed, which was tolerated.
    tolerates: bool,
    value: Option<Value>,
    /// Blocks around it that have a clean-up.
    ensures: Vec<String>,
    /// It is part of a clean-up, which is done again with its block.
    cleans_up: bool,
    warnings: Vec<String>,
}

/// What earlier attempts of a run left.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The run's id.
    pub run: String,
    /// Whether other code runs now.
    pub changed: bool,
    /// How doubts are settled.
    pub settle: Settle,
    /// The highest number of an action.
    pub last_number: u64,
    steps: BTreeMap<String, PastStep>,
    actions: BTreeMap<String, Vec<PastAction>>,
    now: Now,
}

/// How this attempt differs from what is recorded.
#[derive(Clone, Debug, Default)]
struct Now {
    /// An action was carried out.
    has_acted: bool,
    /// Steps in which something came out otherwise than recorded; "" is the playbook itself.
    differs_in: BTreeSet<String>,
    /// Values of the steps that were done.
    values: BTreeMap<String, Value>,
}

/// Actions that are cheap to repeat, and whose only purpose is to tell of others.
const TELLING: [&str; 2] = [write::Write::NAME, notify::Notify::NAME];

/// Where the reader of the events stands.
#[derive(Default)]
struct Reading {
    open: Vec<String>,
    ensures: Vec<String>,
    cleaning: Vec<String>,
    /// Steps, indices and plans of actions that are planned in this attempt.
    planned: Vec<(String, usize, Plan<Value>)>,
    begun: BTreeMap<u64, (String, usize)>,
    /// How many actions each step planned in this attempt, of each NAME.
    counts: BTreeMap<(String, String), usize>,
    /// Steps and indices of all actions that were planned in this attempt.
    seen: BTreeSet<(String, usize)>,
}

impl Past {
    /// Reads the events of a run.
    pub fn of(run: &str, events: &[Event]) -> Self {
        let mut past = Self { run: run.to_owned(), ..Self::default() };
        let mut reading = Reading::default();
        for event in events {
            past.note(&mut reading, event);
        }
        past
    }

    fn note(&mut self, at: &mut Reading, event: &Event) {
        match &event.what {
            What::RunResumed { .. } => *at = Reading::default(),
            What::StepBegun { step } => {
                at.open.push(step.clone());
                let begun = PastStep {
                    ensures: at.ensures.clone(),
                    cleans_up: !at.cleaning.is_empty(),
                    ..PastStep::default()
                };
                self.steps.insert(step.clone(), begun);
            }
            What::StepValue { step, value } => {
                if let Some(known) = self.steps.get_mut(step) {
                    known.value = Some(value.clone());
                }
            }
            What::StepEnded { step, outcome, failure, .. } => {
                at.open.retain(|open| open != step);
                if let Some(known) = self.steps.get_mut(step) {
                    known.done = *outcome == Outcome::Done;
                    known.failed.clone_from(failure);
                }
                // What an attempt before this one planned beyond that is no part of the step any more.
                if *outcome == Outcome::Done
                    && let Some(actions) = self.actions.get_mut(step)
                {
                    let mut index = 0..;
                    actions.retain(|_| index.next().is_some_and(|i| at.seen.contains(&(step.clone(), i))));
                }
            }
            What::EnsureBegun { ensure } => {
                at.ensures.push(ensure.clone());
            }
            What::CleanUpBegun { ensure } => {
                at.ensures.retain(|open| open != ensure);
                at.cleaning.push(ensure.clone());
                // What was cleaned up is done again with its block.
                let within = self.steps.values_mut().filter(|step| step.ensures.contains(ensure));
                within.for_each(|step| step.done = false);
            }
            What::CleanUpEnded { ensure, .. } => at.cleaning.retain(|open| open != ensure),
            What::ActionTolerated { step, .. } => {
                if let Some(known) = self.steps.get_mut(step) {
                    known.tolerates = true;
                }
            }
            What::Planned { action, step, plan, nth, .. } => {
                let index = match nth {
                    None => self.place(at, step, action, plan),
                    Some(nth) => self.place_beside(step, action, plan, *nth),
                };
                at.seen.insert((step.clone(), index));
                at.planned.push((step.clone(), index, plan.clone()));
            }
            What::ActionBegun { action, number, summary, nth } => {
                self.last_number = self.last_number.max(*number);
                let named = |(step, index, plan): &(String, usize, Plan<Value>)| {
                    let known = self.actions.get(step).and_then(|actions| actions.get(*index));
                    known.is_some_and(|known| known.name == *action && known.nth == *nth)
                        && (summary.is_empty() || plan.summary == *summary)
                };
                // An action is begun right after it was planned; one that was refused in between left its plan behind.
                let Some(position) = at.planned.iter().rposition(named) else { return };
                let (step, index, plan) = at.planned.remove(position);
                if let Some(known) = self.actions.get_mut(&step).and_then(|actions| actions.get_mut(index)) {
                    known.plan = plan;
                    known.begun = true;
                    known.number = *number;
                    known.output = None;
                    known.warnings.clear();
                }
                at.begun.insert(*number, (step, index));
            }
            What::ActionKept { number, output, .. } | What::ActionEnded { number, output, .. } => {
                let place = at.begun.remove(number).or_else(|| self.numbered(*number));
                if let Some((step, index)) = place
                    && let Some(known) =
                        self.actions.get_mut(&step).and_then(|actions| actions.get_mut(index))
                {
                    known.output = Some(output.clone());
                }
            }
            What::ActionFailed { number, .. } => {
                at.begun.remove(number);
            }
            What::Log { level: Level::Warn | Level::Error, message } => {
                self.warned(at, event.action, message);
            }
            _ => {}
        }
    }

    /// Where the plan of an action is kept: in the place of the one that it repeats, else behind the others.
    fn place(&mut self, at: &mut Reading, step: &str, name: &str, plan: &Plan<Value>) -> usize {
        let count = at.counts.entry((step.to_owned(), name.to_owned())).or_default();
        let nth = *count;
        *count += 1;
        let actions = self.actions.entry(step.to_owned()).or_default();
        let before = actions.iter().enumerate().filter(|(_, action)| action.name == name).nth(nth);
        if let Some((index, _)) = before {
            // What was begun before and is only planned again stays begun, if it is the same.
            if !is_same(&actions[index].plan, plan) {
                actions[index] = PastAction::of(name, plan);
            }
            return index;
        }
        actions.push(PastAction::of(name, plan));
        actions.len() - 1
    }

    /// As [`Past::place`], for an action in a list: its place in that tells it from all others, whatever else was planned.
    fn place_beside(&mut self, step: &str, name: &str, plan: &Plan<Value>, nth: u64) -> usize {
        let actions = self.actions.entry(step.to_owned()).or_default();
        let is_it =
            |known: &PastAction| known.name == name && known.nth == Some(nth) && is_same(&known.plan, plan);
        actions.iter().position(is_it).unwrap_or_else(|| {
            actions.push(PastAction { nth: Some(nth), ..PastAction::of(name, plan) });
            actions.len() - 1
        })
    }

    fn numbered(&self, number: u64) -> Option<(String, usize)> {
        self.actions.iter().find_map(|(step, actions)| {
            let index = actions.iter().position(|action| action.begun && action.number == number)?;
            Some((step.clone(), index))
        })
    }

    /// `by` is the action that warned, where several were carried out at the same time.
    fn warned(&mut self, at: &Reading, by: Option<u64>, message: &str) {
        let begun = by.and_then(|number| at.begun.get(&number)).or_else(|| at.begun.values().next_back());
        if let Some((step, index)) = begun
            && let Some(known) = self.actions.get_mut(step).and_then(|actions| actions.get_mut(*index))
        {
            known.warnings.push(message.to_owned());
        } else if let Some(known) = at.open.last().and_then(|step| self.steps.get_mut(step)) {
            known.warnings.push(message.to_owned());
        }
    }

    /// The recorded value of a step that need not be done again, and what it warned of: it completed, and all that it did still
    /// stands. If it did nothing, its value was a decision, such as which backup is restored, and what was decided stays
    /// decided: a newer backup does not turn the run to it, and `restore` proves again what it restores. A step without a
    /// value that did nothing is a check, which is made again.
    ///
    /// No step is kept behind what came out otherwise than recorded, such as an attempt that failed and now succeeds, or a step
    /// with another value: it may depend on that. Its actions are then kept one by one, where they are the same. And as soon
    /// as anything was done anew, steps that only told of it, by `write` and `notify`, tell again.
    ///
    /// # Errors
    /// If the world cannot be asked.
    pub fn kept_step(&self, path: &str, facts: &Facts) -> Result<Option<(Value, Vec<String>)>, Failure> {
        let Some(step) = self.steps.get(path) else { return Ok(None) };
        let Some(value) = step.value.clone().filter(|_| step.done && !step.cleans_up) else {
            return Ok(None);
        };
        if self.now.differs_in.iter().any(|outer| is_within(path, outer)) {
            return Ok(None);
        }
        let within = |other: &String| is_within(other, path);
        let actions: Vec<&PastAction> =
            self.actions.iter().filter(|(step, _)| within(step)).flat_map(|(_, actions)| actions).collect();
        let failed = |past: &PastStep| past.failed.is_some() || past.tolerates;
        let failed = self.steps.iter().any(|(step, past)| within(step) && failed(past));
        if failed || (actions.is_empty() && value.is_null()) {
            return Ok(None);
        }
        let tells = !actions.is_empty() && actions.iter().all(|action| TELLING.contains(&&*action.name));
        if tells && self.now.has_acted {
            return Ok(None);
        }
        for action in &actions {
            let was = Was {
                run: self.run.clone(),
                plan: action.plan.clone(),
                begun: action.begun,
                output: action.output.clone(),
            };
            match action::reconcile(&action.name, &was, facts)? {
                Some(Reconciled::Done(_)) if action.output.is_some() => {}
                _ => return Ok(None),
            }
        }
        let steps = self.steps.iter().filter(|(step, _)| within(step)).flat_map(|(_, step)| &step.warnings);
        let warnings = steps.chain(actions.iter().flat_map(|action| &action.warnings)).cloned().collect();
        Ok(Some((value, warnings)))
    }

    /// The action of an earlier attempt that this one repeats. `plan` is its plan as shown and masked; `None` if it cannot be
    /// planned any more, as it is with much that is done already. `nth` is its place in the list of a `parallel`.
    pub fn claim(
        &mut self,
        step: &str,
        name: &str,
        plan: Option<&Plan<Value>>,
        nth: Option<u64>,
    ) -> Option<PastAction> {
        let changed = self.changed;
        // Other code may have the same in another place, or in a list by now.
        let open = |action: &PastAction| {
            action.name == name && !action.claimed && (action.nth == nth || (changed && plan.is_some()))
        };
        let actions = self.actions.get_mut(step)?;
        let same = plan.and_then(|plan| {
            let position = |is: &dyn Fn(&PastAction) -> bool| actions.iter().position(|a| open(a) && is(a));
            position(&|action| is_same(&action.plan, plan) && action.plan.summary == plan.summary)
                .or_else(|| position(&|action| is_same(&action.plan, plan)))
        });
        let index = match same {
            Some(index) => index,
            // It is about something else by now, such as another scratch server; and other code may do other things here.
            None if changed || plan.is_some() => return None,
            None => actions.iter().position(open)?,
        };
        let action = &mut actions[index];
        action.claimed = true;
        Some(action.clone())
    }

    /// Takes note of an action that was carried out in this attempt: what it returned, masked, and what in the one before.
    pub fn acted(&mut self, step: &str, output: Option<Value>, returned: Option<Value>) {
        self.now.has_acted = true;
        if output.is_none() || returned != output {
            self.now.differs_in.insert(step.to_owned());
        }
    }

    /// Takes note of the value of a step of this attempt, right before its end.
    pub fn step_value(&mut self, path: &str, value: &Value) {
        self.now.values.insert(path.to_owned(), value.clone());
    }

    /// Takes note of the end of a step of this attempt. A step speaks only through its value, so whatever went otherwise inside
    /// does not matter behind it if that is the same. `outer` is the step around it, or "".
    pub fn step_ended(&mut self, path: &str, outer: &str, failure: Option<&Failure>) {
        self.now.differs_in.retain(|other| other.is_empty() || !is_within(other, path));
        let before = self.steps.get(path);
        let failed = before.and_then(|step| step.failed.as_ref());
        let value = self.now.values.remove(path);
        let is_same = match (failure, failed) {
            (Some(now), Some(before)) => (now.code, &now.message) == (before.code, &before.message),
            (None, None) => match (value, before.and_then(|step| step.value.as_ref())) {
                (Some(now), Some(before)) => now == *before,
                // Without a value it tells nothing; one that no record can hold is the person's, such as a password.
                (now, None) => now.is_none_or(|now| now.is_null()) || before.is_some_and(|step| step.done),
                (None, Some(_)) => false,
            },
            _ => false,
        };
        if failure.is_some() {
            self.now.has_acted = true;
        }
        if !is_same {
            self.now.differs_in.insert(outer.to_owned());
        }
    }
}

/// Whether a step is `outer` or inside of it; everything is inside of "".
fn is_within(path: &str, outer: &str) -> bool {
    let rest = path.strip_prefix(outer);
    outer.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl PastAction {
    fn of(name: &str, plan: &Plan<Value>) -> Self {
        Self {
            name: name.to_owned(),
            number: 0,
            plan: plan.clone(),
            nth: None,
            begun: false,
            output: None,
            warnings: Vec::new(),
            claimed: false,
        }
    }

    /// What it warned of.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What became of it, as far as the world tells.
    ///
    /// # Errors
    /// `Confirm` when nobody can tell and the person has not said what to make of it.
    pub fn settled<A: Action>(
        &self,
        run: &str,
        settle: Settle,
        facts: &Facts,
    ) -> Result<Option<A::Output>, Failure> {
        if !self.begun {
            return Ok(None);
        }
        let found = match self.was::<A>(run) {
            Some(was) => A::reconcile(&was, facts)?,
            None => Reconciled::InDoubt("its record cannot be read by this version of Lifeboat".to_owned()),
        };
        let known = |output: &A::Output| {
            // What stands for a secret is no value.
            !serde_json::to_string(output).is_ok_and(|text| text.contains(MASK))
        };
        let why = match found {
            Reconciled::Done(output) if known(&output) => return Ok(Some(output)),
            Reconciled::Done(_) => "what it returned holds a secret, which no record holds".to_owned(),
            Reconciled::NotDone => return Ok(None),
            Reconciled::InDoubt(why) => why,
        };
        let output = self.was::<A>(run).and_then(|was| was.output.or_else(|| was.plan.forecast.now()));
        match (settle, output) {
            (Settle::Redo, _) => Ok(None),
            (Settle::Trust, Some(output)) if known(&output) => Ok(Some(output)),
            (Settle::Trust, _) => Err(self.doubt::<A>(&why).caused_by("what it returned is not known").hint(
                format!("It cannot be trusted: undo what it did, then `lifeboat resume {run} --redo`."),
            )),
            (Settle::Ask, _) => Err(self.doubt::<A>(&why).hint(format!(
                "Look at it. If it is done: `lifeboat resume {run} --trust`; if it is not: `lifeboat resume {run} --redo`."
            ))),
        }
    }

    fn doubt<A: Action>(&self, why: &str) -> Failure {
        Failure::new(Code::Confirm, format!("nobody can tell what became of `{}`: {why}", A::NAME)).caused_by(
            if self.output.is_some() {
                format!("the run had completed it: {}", self.plan.summary)
            } else {
                format!("no end of it is on record: {}", self.plan.summary)
            },
        )
    }

    fn was<A: Action>(&self, run: &str) -> Option<Was<A::Output>> {
        Some(Was {
            run: run.to_owned(),
            plan: typed(&self.plan)?,
            begun: self.begun,
            output: match &self.output {
                Some(output) => Some(serde_json::from_value(output.clone()).ok()?),
                None => None,
            },
        })
    }
}

/// The plan with the forecast that its action makes.
pub fn typed<O: serde::de::DeserializeOwned>(plan: &Plan<Value>) -> Option<Plan<O>> {
    serde_json::from_value(serde_json::to_value(plan).ok()?).ok()
}

/// Whether two plans are about the same: their identities say so; without them their summaries, or that they take the same
/// locks and need the same.
fn is_same(a: &Plan<Value>, b: &Plan<Value>) -> bool {
    if let (Some(a), Some(b)) = (&a.identity, &b.identity) {
        return a == b;
    }
    a.summary == b.summary
        || (a.effect == b.effect && !a.locks.is_empty() && a.locks == b.locks && a.needs == b.needs)
}
