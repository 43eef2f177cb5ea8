//! Carries alerts to all channels at once, with patience that is bounded over all of them.

use crate::base::event::{Level, What};
use crate::base::failure::{Code, Failure};
use crate::base::notice::Notice;
use crate::journal::store::{AlertResult, ChannelResult};
use crate::sys::channel::{self, Attempt, Channel, Configured, Rejected};
use crate::sys::host::Host;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long sending may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// One try.
    pub(super) each: Duration,
    /// All tries and pauses of all alerts that are sent together.
    pub(super) whole: Duration,
    /// Pauses before the second and further tries.
    pub(super) pauses: &'static [Duration],
}

pub(super) const PATIENT: Patience = Patience {
    each: Duration::from_secs(10),
    whole: Duration::from_secs(34),
    pauses: &[Duration::from_secs(1), Duration::from_secs(3)],
};

/// Somebody who ends a run waits for that end, and so does a container's ten seconds of grace; and what is left from before
/// must not keep a run from beginning.
pub(super) const HURRIED: Patience =
    Patience { each: Duration::from_secs(4), whole: Duration::from_secs(8), ..PATIENT };

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one receiver accepted it.
    Delivered,
    /// No channel is set.
    NoReceiver,
    /// Nobody accepted it; `kept` tells whether it is kept for the next chance.
    GivenUp {
        /// Whether it is kept.
        kept: bool,
    },
    /// There were too many within the hour.
    HeldBack,
    /// It was told before, and is still so.
    Known,
}

/// What became of an alert, on every channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// In short.
    pub outcome: Outcome,
    /// On each channel that is set.
    pub channels: Vec<ChannelResult>,
}

impl Sent {
    pub(super) fn not_tried(outcome: Outcome) -> Self {
        Self { outcome, channels: Vec::new() }
    }

    /// As the record of a run has it.
    pub fn result(&self) -> AlertResult {
        let detail = match self.outcome {
            Outcome::Delivered => "delivered".to_owned(),
            Outcome::NoReceiver => "no receiver is set".to_owned(),
            Outcome::HeldBack => "held back: too many alerts within an hour".to_owned(),
            Outcome::Known => "told before".to_owned(),
            Outcome::GivenUp { .. } => self.why(),
        };
        AlertResult { delivered: self.outcome == Outcome::Delivered, detail, channels: self.channels.clone() }
    }

    /// Why it was not delivered.
    pub(super) fn why(&self) -> String {
        let failed = self.channels.iter().filter(|channel| !channel.delivered);
        failed.map(|channel| channel.detail.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// What became of one alert on one channel.
enum Tried {
    Delivered,
    Failed(Failure),
    /// One before it failed already, and that was said.
    Skipped(Failure),
}

/// Sends alerts on all channels at once; on each one in their order. What fails is told as a warning for people, and is never a
/// failure of a run.
pub(super) fn carry(host: &Arc<Host>, notices: &[Notice], patience: Patience) -> Vec<Sent> {
    let channels = channel::configured(host);
    if channels.is_empty() {
        return notices.iter().map(|_| Sent::not_tried(Outcome::NoReceiver)).collect();
    }
    let tried: Vec<Vec<Tried>> = std::thread::scope(|scope| {
        let threads: Vec<_> = channels
            .iter()
            .map(|channel| scope.spawn(|| through(host, channel, notices, patience)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let mut tried: Vec<_> = tried.into_iter().map(Vec::into_iter).collect();
    notices
        .iter()
        .map(|_| {
            let each = channels.iter().zip(&mut tried);
            let results: Vec<_> =
                each.map(|(channel, tried)| told(host, channel, tried.next().unwrap_or_else(lost))).collect();
            let delivered = results.iter().any(|result| result.delivered);
            let outcome = if delivered { Outcome::Delivered } else { Outcome::GivenUp { kept: false } };
            Sent { outcome, channels: results }
        })
        .collect()
}

/// A channel whose thread panicked.
fn lost() -> Tried {
    Tried::Failed(Failure::new(Code::Internal, "the channel was lost from sight"))
}

/// Tells of what became of one alert on one channel.
fn told(host: &Host, channel: &Configured, tried: Tried) -> ChannelResult {
    let (delivered, detail) = match &tried {
        Tried::Delivered => (true, channel.receiver()),
        Tried::Failed(failure) | Tried::Skipped(failure) => (false, failure.to_string()),
    };
    host.emit(What::AlertSent { delivered, detail: detail.clone() });
    if let Tried::Failed(failure) = &tried {
        let hint = failure.hints.first().map_or_else(String::new, |hint| format!(". {hint}"));
        let message = format!("the alert was not delivered: {failure}{hint}");
        host.emit(What::Log { level: Level::Warn, message });
    }
    ChannelResult { channel: channel.name.to_owned(), delivered, detail: host.masker().mask(&detail) }
}

/// Sends alerts through one channel, until it fails.
fn through(host: &Arc<Host>, channel: &Configured, notices: &[Notice], patience: Patience) -> Vec<Tried> {
    let began = host.clock().instant();
    let mut failed: Option<Failure> = None;
    let send = |notice: &Notice| {
        if let Some(failure) = &failed {
            return Tried::Skipped(failure.clone());
        }
        let sent = match &channel.channel {
            Err(failure) => Err(failure.clone()),
            Ok(channel) => deliver(host, channel, notice, patience, began),
        };
        match sent {
            Ok(()) => Tried::Delivered,
            Err(failure) => {
                failed = Some(failure.clone());
                Tried::Failed(failure)
            }
        }
    };
    notices.iter().map(send).collect()
}

/// Sends one alert through one channel, in a run that is asked to end too.
fn deliver(
    host: &Arc<Host>,
    channel: &Channel,
    notice: &Notice,
    patience: Patience,
    began: Instant,
) -> Result<(), Failure> {
    let send = |attempt: Attempt| channel.send(host, notice, attempt);
    match persistently(host, patience, began, false, send) {
        // Whoever asks for the end while the alert is under way gets it soon, but not before the alert had its chance.
        Err(failure) if failure.code.ends_the_run() => {
            persistently(host, HURRIED, host.clock().instant(), true, send)
        }
        sent => sent,
    }
}

/// Tries something until it is accepted, or will not be.
pub(super) fn persistently(
    host: &Host,
    patience: Patience,
    began: Instant,
    even_if_ending: bool,
    send: impl Fn(Attempt) -> Result<(), Rejected>,
) -> Result<(), Failure> {
    let mut pauses = patience.pauses.iter();
    loop {
        // What waited for others before it has a try of its own, however short.
        let left = patience.whole.saturating_sub(began.elapsed()).max(Duration::from_millis(100));
        let limit = patience.each.min(left);
        let Err(Rejected { failure, may_pass }) = send(Attempt { limit, even_if_ending }) else {
            return Ok(());
        };
        let Some(pause) = pauses.next().filter(|_| may_pass) else { return Err(failure) };
        if began.elapsed() + *pause >= patience.whole {
            return Err(failure);
        }
        let pause = async { tokio::time::sleep(*pause).await };
        if even_if_ending { host.wait_to_the_end(pause)? } else { host.wait(pause)? }
    }
}
