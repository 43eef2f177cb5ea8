//! The one alert of a run: which it is, and how it gets to its receiver.
//!
//! *Problem*: a playbook that fails cannot be relied on to say so. *Decision*: the playbook sets the alert of a run that
//! succeeds; for every other end the host makes its own. *Rejected*: `notify` that sends at once, which tells of a
//! success that the next step takes back.

use crate::base::event::{Alert, Level, What};
use crate::base::failure::{Code, Exit, Failure};
use crate::sys::host::Host;
use crate::sys::http::{self, Address, Terms, status_words};
use crate::sys::webhook;
use chrono::{DateTime, Local, SecondsFormat};
use std::time::Duration;

/// Most warnings that an alert quotes.
const QUOTED: usize = 3;

/// How a run ended, as far as its alert needs it.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The playbook's name.
    pub playbook: &'a str,
    /// The exit.
    pub exit: Exit,
    /// What ended it.
    pub failure: Option<&'a Failure>,
    /// Warnings and tolerated failures.
    pub warnings: &'a [String],
}

/// The alert of a live run: the one that the playbook set if it succeeded, else the host's own. A dry run has none.
///
/// A run that ended for a mistake in its playbook has one too: nobody watches a run that cron began. What is refused
/// before a run begins, such as a bad flag, never comes here.
pub fn decide(set: Option<Alert>, end: End, now: DateTime<Local>) -> Option<Alert> {
    let why = end.failure.map_or_else(String::new, |failure| {
        let step = failure.step.as_ref().map_or_else(String::new, |step| format!(" in step `{step}`"));
        format!("{step}: {failure}")
    });
    let (status, what) = match end.exit {
        Exit::Success => return set,
        Exit::Partial => return None,
        Exit::Warnings => ("warning", format!("completed with warnings: {}", listed(end.warnings))),
        Exit::Interrupted => ("error", format!("was interrupted{}", in_step(end.failure))),
        Exit::Terminated => ("error", format!("was terminated{}", in_step(end.failure))),
        Exit::Locked => ("error", format!("did not run{why}")),
        Exit::Confirm => ("error", format!("stopped{why}")),
        Exit::Policy => ("error", format!("was refused{why}")),
        Exit::Failed | Exit::Usage | Exit::Drill | Exit::NotIntact => ("error", format!("failed{why}")),
    };
    Some(alert(status, format!("{} {what}", end.playbook), now))
}

/// The alert of a run that was killed, which the next command sends.
pub fn killed(playbook: &str, run: &str, now: DateTime<Local>) -> Alert {
    alert("error", format!("{playbook} was killed: run {run} never ended"), now)
}

/// The alert of a run that completed after it was resumed, when somebody was told that it had not.
pub fn recovered(playbook: &str, run: &str, now: DateTime<Local>) -> Alert {
    alert("success", format!("{playbook} completed: run {run} was resumed"), now)
}

fn alert(status: &str, message: String, now: DateTime<Local>) -> Alert {
    let timestamp = now.to_rfc3339_opts(SecondsFormat::Secs, false);
    Alert { status: status.to_owned(), message, timestamp }
}

fn in_step(failure: Option<&Failure>) -> String {
    let step = failure.and_then(|failure| failure.step.as_ref());
    step.map_or_else(String::new, |step| format!(" in step `{step}`"))
}

fn listed(warnings: &[String]) -> String {
    let mut text = warnings.iter().take(QUOTED).cloned().collect::<Vec<_>>().join("; ");
    if warnings.len() > QUOTED {
        text.push_str(&format!("; and {} more", warnings.len() - QUOTED));
    }
    text
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The receiver accepted it.
    Delivered,
    /// No receiver is set.
    NoReceiver,
    /// It was given up.
    GivenUp(Failure),
}

impl Sent {
    /// Whether the receiver accepted it, and who it is or why it did not.
    pub fn told(&self) -> (bool, String) {
        match self {
            Self::Delivered => (true, "delivered".to_owned()),
            Self::NoReceiver => (false, "no receiver is set".to_owned()),
            Self::GivenUp(failure) => (false, failure.to_string()),
        }
    }
}

/// How long sending may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// One try.
    each: Duration,
    /// All tries and pauses.
    whole: Duration,
    /// Pauses before the second and further tries.
    pauses: &'static [Duration],
}

const PATIENT: Patience = Patience {
    each: Duration::from_secs(10),
    whole: Duration::from_secs(34),
    pauses: &[Duration::from_secs(1), Duration::from_secs(3)],
};

/// Somebody who ends a run waits for that end, and so does a container's ten seconds of grace.
const HURRIED: Patience = Patience { each: Duration::from_secs(4), whole: Duration::from_secs(8), ..PATIENT };

/// Sends an alert, in a run that is asked to end too. A failure becomes a warning for people, and never a failure of
/// the run.
pub fn send(host: &Host, alert: &Alert) -> Sent {
    send_with(host, alert, PATIENT)
}

fn send_with(host: &Host, alert: &Alert, patience: Patience) -> Sent {
    let given_up = |failure: Failure| {
        host.emit(What::AlertSent { delivered: false, detail: failure.to_string() });
        let hint = failure.hints.first().map_or_else(String::new, |hint| format!(". {hint}"));
        let message = format!("the alert was not delivered: {failure}{hint}");
        host.emit(What::Log { level: Level::Warn, message });
        Sent::GivenUp(failure)
    };
    let receiver = match webhook::receiver(host) {
        Ok(Some(receiver)) => receiver,
        Ok(None) => return Sent::NoReceiver,
        Err(failure) => return given_up(failure),
    };
    let delivered = match deliver(host, &receiver, alert, patience, false) {
        // Whoever asks for the end while the alert is under way gets it soon, but not before the alert had its chance.
        Err(failure) if failure.code.ends_the_run() => deliver(host, &receiver, alert, HURRIED, true),
        delivered => delivered,
    };
    match delivered {
        Ok(()) => {
            host.emit(What::AlertSent { delivered: true, detail: receiver.host().to_owned() });
            Sent::Delivered
        }
        Err(failure) => given_up(failure),
    }
}

fn deliver(
    host: &Host,
    receiver: &Address,
    alert: &Alert,
    patience: Patience,
    even_if_ending: bool,
) -> Result<(), Failure> {
    let json = serde_json::json!({
        "status": host.masker().mask(&alert.status),
        "message": host.masker().mask(&alert.message),
        "timestamp": alert.timestamp,
    });
    let began = host.clock().instant();
    let mut pauses = patience.pauses.iter();
    loop {
        let left = patience.whole.saturating_sub(began.elapsed());
        let terms = Terms { timeout: patience.each.min(left), limit: 4096, ..Terms::default() };
        let (failure, may_pass) = match http::post_json(host, receiver, &json, &terms, even_if_ending) {
            Ok(answer) if (200..300).contains(&answer.status) => return Ok(()),
            Ok(answer) => (refused(receiver, answer.status), passes(answer.status)),
            Err(failure) => {
                let may_pass = matches!(failure.code, Code::Http | Code::TimedOut);
                (failure, may_pass)
            }
        };
        let Some(pause) = pauses.next().filter(|_| may_pass) else { return Err(failure) };
        if began.elapsed() + *pause >= patience.whole {
            return Err(failure);
        }
        let pause = async { tokio::time::sleep(*pause).await };
        if even_if_ending { host.wait_to_the_end(pause)? } else { host.wait(pause)? }
    }
}

/// Whether asking again may help.
fn passes(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

fn refused(receiver: &Address, status: u16) -> Failure {
    let failure = Failure::new(Code::Http, format!("`{receiver}` answered {}", status_words(status)));
    if passes(status) {
        return failure;
    }
    failure.hint(format!(
        "Set {} to the receiver's own URL, as it is shown where the webhook was made.",
        webhook::WEBHOOK_URL
    ))
}

#[cfg(test)]
mod tests;
