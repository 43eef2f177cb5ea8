//! The actions of a run on record: what each was to do, and what came of it.

use crate::base::event::{Event, What};
use crate::base::plan::Plan;
use serde_json::Value;

/// An action that a run began.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedAction {
    /// Its NAME.
    pub name: String,
    /// Its number in the run.
    pub number: u64,
    /// The plan, as it was shown.
    pub plan: Plan<Value>,
    /// What it returned; `None` if it failed, or if the run was killed meanwhile.
    pub output: Option<Value>,
}

/// The actions that the run of these events began, in the order in which they were begun.
pub fn actions(events: &[Event]) -> Vec<RecordedAction> {
    let mut planned: Vec<(&str, &Plan<Value>, Option<u64>)> = Vec::new();
    let mut begun: Vec<RecordedAction> = Vec::new();
    for event in events {
        match &event.what {
            What::Planned { action, plan, nth, .. } => planned.push((action, plan, *nth)),
            What::ActionBegun { action, number, summary, nth } => {
                // An action is begun right after it was planned; one that was refused between the two left its plan behind.
                let is_it = |(name, plan, place): &(&str, &Plan<Value>, Option<u64>)| {
                    name == action && place == nth && (summary.is_empty() || plan.summary == *summary)
                };
                let Some(at) = planned.iter().rposition(is_it) else { continue };
                let (name, plan, _) = planned.remove(at);
                begun.push(RecordedAction {
                    name: name.to_owned(),
                    number: *number,
                    plan: plan.clone(),
                    output: None,
                });
            }
            What::ActionEnded { number, output, .. } | What::ActionKept { number, output, .. } => {
                if let Some(action) = begun.iter_mut().rev().find(|action| action.number == *number) {
                    action.output = Some(output.clone());
                }
            }
            _ => {}
        }
    }
    begun
}
