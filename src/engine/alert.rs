//! The one alert of a run: which it is, and how it gets to its receivers; and all else that people are told of.
//!
//! *Problem*: a playbook that fails cannot be relied on to say so. *Decision*: the playbook sets the alert of a run that
//! succeeds; for every other end the host makes its own. *Rejected*: `notify` that sends at once, which tells of a
//! success that the next step takes back.
//!
//! What is wrong without a run being wrong is [raised](raise). Every alert goes one way: a book, shared by all processes of a
//! project, tells whether it was told before or is too much, all channels are tried at once, and what nobody accepted is
//! kept for the [next chance](deliver_pending).

mod after;
mod announce;
mod book;
mod courier;
mod pings;

pub use after::{Finished, finish};
pub use announce::{Raised, deliver_pending, pending, raise, send, settle};
pub use book::Pending;
pub use courier::{Outcome, Sent};
pub use pings::Pings;

use crate::base::event::Alert;
use crate::base::failure::{Exit, Failure};
use crate::base::notice::{Kind, Notice};
use crate::journal::reader::KilledRun;
use crate::journal::store::ChannelResult;
use crate::sys::channel::{self, ping};
use crate::sys::host::Host;
use after::Trouble;
use chrono::{DateTime, Local, SecondsFormat};
use std::sync::Arc;

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
        Exit::Terminated => {
            ("error", format!("was terminated{}{}", in_step(end.failure), by_whom(end.failure)))
        }
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

/// The alert of a run that succeeded, when somebody was told that others before it had not.
fn well_again(playbook: &str, trouble: &Trouble, now: DateTime<Local>) -> Alert {
    let times = |n: u32| if n == 1 { "once".to_owned() } else { format!("{n} times") };
    let mut told = Vec::new();
    if trouble.failed > 0 {
        told.push(format!("failed {}", times(trouble.failed)));
    }
    if trouble.warned > 0 {
        told.push(format!("completed with warnings {}", times(trouble.warned)));
    }
    let since = trouble.since.map(|since| format!(" since {}", since.format("%Y-%m-%d %H:%M")));
    let message = format!("{playbook} is well again: it {}{}", told.join(" and "), since.unwrap_or_default());
    alert("success", message, now)
}

/// How a run ended, for who is told of every end: its alert's message, or that it completed.
pub fn in_words(host: &Host, end: End<'_>) -> String {
    decide(host.alert(), end, host.clock().now())
        .map_or_else(|| format!("{} completed", end.playbook), |alert| alert.message)
}

/// What the alert of this end tells of.
fn kind(exit: Exit) -> Kind {
    match exit {
        Exit::Success => Kind::Success,
        Exit::Warnings => Kind::Warning,
        _ => Kind::Failed,
    }
}

/// The notice of a drill that failed; a drill sends no other.
pub fn of_drill(end: End<'_>, run: &str, now: DateTime<Local>) -> Option<Notice> {
    let alert = decide(None, end, now)?;
    Some(Notice::new(kind(end.exit), alert).of_playbook(end.playbook).of_run(run))
}

/// Tells of a killed run, once; false when nobody could be told.
pub fn tell_of_killed(host: &Arc<Host>, killed: &KilledRun) -> bool {
    let name =
        if killed.is_drill { format!("drill of {}", killed.playbook) } else { killed.playbook.clone() };
    let alert = self::killed(&name, killed.run.as_str(), host.clock().now());
    let notice = Notice::new(Kind::Killed, alert).of_playbook(&killed.playbook).of_run(killed.run.as_str());
    let sent = announce::announce(host, vec![notice], courier::HURRIED).pop();
    let Some(sent) = sent else { return false };
    if sent.outcome == (Outcome::GivenUp { kept: false }) {
        return false;
    }
    // Not noted, it is sent once more by the next run: better twice than never.
    let _ = killed.alert_sent(host.clock(), &sent.result());
    !matches!(sent.outcome, Outcome::GivenUp { .. })
}

/// Sends a test alert through every channel that is set, and a line to the log of the check for all playbooks. Nothing of it is
/// kept, and no limit holds it back.
pub fn test(host: &Arc<Host>) -> Vec<ChannelResult> {
    let message = "this is a test of the alerts: nothing happened".to_owned();
    let notice = Notice::new(Kind::Test, alert("success", message.clone(), host.clock().now()));
    let mut results =
        courier::carry(host, &[notice], courier::PATIENT).pop().map(|sent| sent.channels).unwrap_or_default();
    let sent = match ping::check(host, channel::PING_URL) {
        Ok(None) => return results,
        Ok(Some(check)) => {
            let began = host.clock().instant();
            let run = host.letters();
            courier::persistently(host, courier::HURRIED, began, false, |attempt| {
                ping::ping(host, &check, ping::Signal::Log, &run, &message, attempt)
            })
            .map(|()| check.host().to_owned())
        }
        Err(failure) => Err(failure),
    };
    let delivered = sent.is_ok();
    let detail = sent.unwrap_or_else(|failure| failure.to_string());
    results.push(ChannelResult {
        channel: "ping".to_owned(),
        delivered,
        detail: host.masker().mask(&detail),
    });
    results
}

fn alert(status: &str, message: String, now: DateTime<Local>) -> Alert {
    let timestamp = now.to_rfc3339_opts(SecondsFormat::Secs, false);
    Alert { status: status.to_owned(), message, timestamp }
}

fn in_step(failure: Option<&Failure>) -> String {
    let step = failure.and_then(|failure| failure.step.as_ref());
    step.map_or_else(String::new, |step| format!(" in step `{step}`"))
}

/// Why a run was terminated, unless it was simply asked to end.
fn by_whom(failure: Option<&Failure>) -> String {
    let why = failure.map(|failure| failure.message.as_str()).filter(|why| !why.starts_with("terminated"));
    why.map_or_else(String::new, |why| format!(": {why}"))
}

fn listed(warnings: &[String]) -> String {
    let mut text = warnings.iter().take(QUOTED).cloned().collect::<Vec<_>>().join("; ");
    if warnings.len() > QUOTED {
        text.push_str(&format!("; and {} more", warnings.len() - QUOTED));
    }
    text
}

#[cfg(test)]
mod tests;
