//! Sets the run's alert. It is sent when the run ends, by the engine; a later alert of the run replaces it.

use crate::action::{Action, Recorded};
use crate::base::event::Alert;
use crate::base::failure::Failure;
use crate::base::plan::{Effect, Later, Plan, Reconciled, Was};
use crate::sys::channel;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use serde::{Deserialize, Serialize};

/// The run's alert, as the guide's JSON has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// `success`, `warning`, `error`, or any other word.
    pub status: String,
    /// One sentence for a person.
    pub message: String,
}

/// The alert that was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// The status.
    pub status: String,
    /// The message.
    pub message: String,
}

impl Recorded for Notified {
    fn summary(&self) -> String {
        format!("alert `{}`: {}", self.status, self.message)
    }
}

impl Action for Notify {
    const NAME: &'static str = "notify";
    type Output = Notified;

    fn plan(&self, facts: &Facts) -> Result<Plan<Notified>, Failure> {
        let output = Notified { status: self.status.clone(), message: self.message.clone() };
        // A channel that is not valid is the sender's warning: it must not fail a backup.
        let channels = channel::configured(facts.host());
        let mut receivers: Vec<String> = channels
            .iter()
            .map(|channel| match &channel.channel {
                Ok(sound) => format!("to {} when the run ends", sound.shown()),
                Err(failure) => format!("{}: nothing will be sent", failure.message),
            })
            .collect();
        if receivers.is_empty() {
            receivers.push("no channel is set: nothing will be sent".to_owned());
        }
        let mut plan =
            Plan::new(format!("set the alert `{}`", self.status), Effect::Notify, Later::Now(output));
        plan.details = vec![format!("message: {}", self.message)];
        plan.details.extend(receivers);
        Ok(plan)
    }

    fn execute(&self, _plan: &Plan<Notified>, effects: &Effects) -> Result<Notified, Failure> {
        let facts = effects.facts();
        effects.set_alert(Alert {
            status: self.status.clone(),
            message: self.message.clone(),
            timestamp: facts.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, false),
        });
        Ok(Notified { status: self.status.clone(), message: self.message.clone() })
    }

    /// Never done: the alert is sent when the run ends, and this process has to know it.
    fn reconcile(_: &Was<Notified>, _: &Facts) -> Result<Reconciled<Notified>, Failure> {
        Ok(Reconciled::NotDone)
    }
}
