//! A session of a run that goes on: steps and actions that stand are kept.

use super::{OpenStep, Session};
use crate::action::{Action, Recorded};
use crate::base::event::What;
use crate::base::failure::Failure;
use crate::base::plan::Plan;
use crate::engine::resume::Past;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// What an earlier attempt of this run left of an action.
pub(super) enum Kept<O> {
    /// It stands, and this is what it returned.
    Stands(O),
    /// It has to be done; what it returned then, as the journal has it.
    Not(Option<serde_json::Value>),
}

impl Session {
    /// The same session, of a run that goes on: what earlier attempts did and what still stands is not repeated.
    #[must_use]
    pub fn resuming(mut self, past: Past) -> Self {
        self.number = AtomicU64::new(past.last_number);
        self.past = Some(Mutex::new(past));
        self
    }

    /// The output of the action that an earlier attempt of this run carried out, if it still stands.
    pub(super) fn kept<A: Action>(
        &self,
        plan: Option<&Plan<serde_json::Value>>,
        nth: Option<u64>,
    ) -> Result<Kept<A::Output>, Failure> {
        let Some(past) = &self.past else { return Ok(Kept::Not(None)) };
        let plan = plan.map(|plan| self.masked(plan));
        let (claimed, run, settle) = {
            let mut past = past.lock().unwrap_or_else(PoisonError::into_inner);
            (past.claim(&self.step(), A::NAME, plan.as_ref(), nth), past.run.clone(), past.settle)
        };
        let Some(was) = claimed else { return Ok(Kept::Not(None)) };
        let Some(output) = was.settled::<A>(&run, settle, &self.facts)? else {
            return Ok(Kept::Not(was.output));
        };
        if plan.is_none() {
            self.host.emit(What::Planned {
                action: A::NAME.to_owned(),
                step: self.step(),
                at: None,
                plan: was.plan.clone(),
                nth,
            });
        }
        was.warnings().iter().for_each(|warning| self.host.add_warning(warning.clone()));
        self.host.emit(What::ActionKept {
            action: A::NAME.to_owned(),
            number: was.number,
            output: serde_json::to_value(&output).unwrap_or_default(),
            summary: output.summary(),
        });
        Ok(Kept::Stands(output))
    }

    /// A plan as the journal has it.
    fn masked(&self, plan: &Plan<serde_json::Value>) -> Plan<serde_json::Value> {
        let Ok(mut value) = serde_json::to_value(plan) else { return plan.clone() };
        self.host.masker().mask_json(&mut value);
        serde_json::from_value(value).unwrap_or_else(|_| plan.clone())
    }

    /// The recorded value of the step that is open, if an earlier attempt of this run completed it and all that it did still
    /// stands: the step then ends here.
    pub fn keep_step(&self, step: &OpenStep) -> Result<Option<serde_json::Value>, Failure> {
        let Some(past) = &self.past else { return Ok(None) };
        let kept = past.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((value, warnings)) = kept.kept_step(&step.path, &self.facts)? else { return Ok(None) };
        warnings.into_iter().for_each(|warning| self.host.add_warning(warning));
        Ok(Some(value))
    }

    /// Holds the end of a step against what is recorded of it.
    pub(super) fn compare_step(&self, path: &str, failure: Option<&Failure>) {
        if let Some(past) = &self.past {
            past.lock().unwrap_or_else(PoisonError::into_inner).step_ended(path, &self.step(), failure);
        }
    }

    /// Holds what an action returned against what it `returned` in an earlier attempt.
    pub(super) fn compare_action<O: Recorded>(
        &self,
        result: Result<&O, &Failure>,
        returned: Option<serde_json::Value>,
    ) {
        let Some(past) = &self.past else { return };
        let output = result.ok().and_then(|output| serde_json::to_value(output).ok()).map(|mut output| {
            self.host.masker().mask_json(&mut output);
            output
        });
        past.lock().unwrap_or_else(PoisonError::into_inner).acted(&self.step(), output, returned);
    }

    /// Ends a step that was kept.
    pub fn end_kept_step(&self, step: OpenStep) {
        self.state().open.retain(|open| *open != step.path);
        self.host.emit(What::StepKept { step: step.path });
    }

    /// Records the value of a step that is done, unless it would tell a secret.
    pub fn step_value(&self, step: &OpenStep, value: serde_json::Value) {
        let mut masked = value.clone();
        self.host.masker().mask_json(&mut masked);
        if masked == value {
            if let Some(past) = &self.past {
                let mut past = past.lock().unwrap_or_else(PoisonError::into_inner);
                past.step_value(&step.path, &value);
            }
            self.host.emit(What::StepValue { step: step.path.clone(), value });
        }
    }
}
