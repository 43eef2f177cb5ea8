//! The one way of an alert to its receivers: told before? too many? nobody there?

use super::book::{Book, Pending, Permit, notice};
use super::courier::{HURRIED, Outcome, PATIENT, Patience, Sent, carry};
use crate::base::event::{Alert, Level, What};
use crate::base::failure::Failure;
use crate::base::ids::RunId;
use crate::base::notice::{Kind, Notice};
use crate::journal::reader;
use crate::sys::channel::{self, ALERTS_PER_HOUR};
use crate::sys::host::Host;
use crate::sys::state::alerts;
use chrono::{DateTime, FixedOffset, SecondsFormat};
use std::path::Path;
use std::sync::Arc;

/// Most alerts of an hour, unless said otherwise.
const PER_HOUR: u32 = 10;
/// Most alerts from before that are delivered at one chance.
const AT_ONCE: usize = 10;

/// Something that is not as it should be, apart from the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// What it tells of.
    pub kind: Kind,
    /// What it is about: the same kind and key is told once within 24 hours, unless it was [settled](settle) meanwhile.
    pub key: String,
    /// `warning` or `error`.
    pub status: String,
    /// One sentence for a person.
    pub message: String,
}

impl Raised {
    fn known_as(&self) -> String {
        known_as(self.kind, &self.key)
    }

    fn notice(self, now: DateTime<FixedOffset>) -> Notice {
        let timestamp = now.to_rfc3339_opts(SecondsFormat::Secs, false);
        Notice::new(self.kind, Alert { status: self.status, message: self.message, timestamp })
    }
}

fn known_as(kind: Kind, key: &str) -> String {
    format!("{kind}:{key}")
}

fn now(host: &Host) -> DateTime<FixedOffset> {
    host.clock().now().fixed_offset()
}

/// Sends one alert, in a run that is asked to end too. A failure becomes a warning for people, and never a failure of the run.
pub fn send(host: &Arc<Host>, notice: Notice) -> Sent {
    announce(host, vec![notice], PATIENT).pop().unwrap_or(Sent::not_tried(Outcome::NoReceiver))
}

/// Tells of something that is not as it should be, unless it was told within 24 hours and not [settled](settle) since. It says
/// nothing to the log: that is up to who raises it.
pub fn raise(host: &Arc<Host>, raised: Raised) -> Sent {
    match news(host, raised) {
        Some(notice) => send(host, notice),
        None => Sent::not_tried(Outcome::Known),
    }
}

/// The alert of something that is not as it should be, if it is news. Without a channel nobody is told, so it stays news.
pub(super) fn news(host: &Arc<Host>, raised: Raised) -> Option<Notice> {
    let now = now(host);
    if channel::configured(host).is_empty() {
        return Some(raised.notice(now));
    }
    let is_news = Book::change(host.state(), |book| book.is_news(&raised.known_as(), &raised.message, now))
        .unwrap_or(true);
    is_news.then(|| raised.notice(now))
}

/// Notes that something is as it should be again, so that it is news when it is not.
pub fn settle(host: &Host, kind: Kind, key: &str) {
    let key = known_as(kind, key);
    if Book::read(host.state()).knows(&key) {
        // Not noted, it is told a day later.
        let _ = Book::change(host.state(), |book| book.settle(&key));
    }
}

/// The alerts that nobody has accepted yet, oldest first.
///
/// # Errors
/// If their book is there and cannot be read.
pub fn pending(state: &Path) -> Result<Vec<Pending>, Failure> {
    Book::load(state).map(|book| book.pending)
}

/// Delivers what nobody has accepted yet, and tells of what was held back or dropped: for the beginning of a run, and for a
/// service now and then. Returns how many alerts were delivered; `None` when there was no getting through.
///
/// It takes some seconds at most, and does nothing when another process is at it.
pub fn deliver_pending(host: &Arc<Host>) -> Option<usize> {
    if Book::load(host.state()).is_ok_and(|book| book == Book::default())
        || channel::configured(host).is_empty()
    {
        return Some(0);
    }
    let now = now(host);
    let (limit, _) = channel::number(host, ALERTS_PER_HOUR, PER_HOUR);
    let Ok(Some(_claim)) = alerts::claim_delivery(host.state()) else { return Some(0) };
    let taken = Book::change(host.state(), |book| {
        book.prune(now);
        // It waits with the others, so that a process that is killed loses nothing.
        for summary in book.summaries(limit, now) {
            book.keep(summary, "not tried yet", now);
        }
        (book.pending.iter().take(AT_ONCE).cloned().collect::<Vec<_>>(), book.of_dropped(now))
    });
    let Ok((taken, of_dropped)) = taken else { return Some(0) };
    let mut notices: Vec<Notice> = taken.iter().map(|pending| pending.notice.clone()).collect();
    notices.extend(of_dropped.clone());
    if notices.is_empty() {
        return Some(0);
    }
    let sent = carry(host, &notices, HURRIED);
    let is_delivered = |index: usize| sent.get(index).is_some_and(|sent| sent.outcome == Outcome::Delivered);
    // Not noted, they are delivered once more: better twice than never.
    let _ = Book::change(host.state(), |book| {
        for (index, pending) in taken.iter().enumerate() {
            let Some(at) = book.pending.iter().position(|kept| kept == pending) else { continue };
            if is_delivered(index) {
                book.pending.remove(at);
            } else if let Some(sent) = sent.get(index) {
                book.pending[at].why = sent.why();
            }
        }
        if of_dropped.is_some() && is_delivered(taken.len()) {
            book.told_of_dropped();
        }
    });
    for (pending, sent) in taken.iter().zip(&sent).filter(|(_, sent)| sent.outcome == Outcome::Delivered) {
        if let Some(run) = pending.notice.run.as_deref().and_then(RunId::parse) {
            // The record of the run says then that nobody was told, though somebody was.
            let _ = reader::alert_delivered_late(host.state(), &run, host.clock(), &sent.result());
        }
    }
    let delivered = sent.iter().filter(|sent| sent.outcome == Outcome::Delivered).count();
    (delivered == sent.len()).then_some(delivered)
}

/// Sends alerts, within the limit of an hour, and keeps those that nobody accepted.
pub(super) fn announce(host: &Arc<Host>, notices: Vec<Notice>, patience: Patience) -> Vec<Sent> {
    if channel::configured(host).is_empty() {
        return notices.iter().map(|_| Sent::not_tried(Outcome::NoReceiver)).collect();
    }
    let now = now(host);
    let notices: Vec<Notice> =
        notices.into_iter().map(|notice| notice.masked(|text| host.masker().mask(text)).tamed()).collect();
    let (limit, invalid) = channel::number(host, ALERTS_PER_HOUR, PER_HOUR);
    if let Some(failure) = invalid {
        let hint = failure.hints.first().cloned().unwrap_or_default();
        host.emit(What::Log { level: Level::Warn, message: format!("{failure}. {hint}") });
    }
    // An alert that could not be noted is sent all the same.
    let (permits, summaries) = Book::change(host.state(), |book| {
        let summaries = book.summaries(limit, now);
        (notices.iter().map(|notice| book.permit(notice, limit, now)).collect::<Vec<_>>(), summaries)
    })
    .unwrap_or_else(|_| (vec![Permit::Send; notices.len()], Vec::new()));
    let first_own = summaries.len();
    let mut to_send = summaries;
    to_send.extend(
        notices
            .iter()
            .zip(&permits)
            .filter(|(_, permit)| **permit == Permit::Send)
            .map(|(notice, _)| notice.clone()),
    );
    let is_first =
        |(notice, permit): (&Notice, &Permit)| *permit == Permit::HoldFirst && !notice.is_good_news();
    if notices.iter().zip(&permits).any(is_first) {
        let told = format!("further alerts are held back: there were {limit} within an hour");
        to_send.push(self::notice("warning", told, now));
    }
    let mut sent = carry(host, &to_send, patience);
    keep_undelivered(host, &to_send, &mut sent, now);
    let mut own = sent.into_iter().skip(first_own);
    permits
        .iter()
        .map(|permit| match permit {
            Permit::Send => own.next().unwrap_or(Sent::not_tried(Outcome::NoReceiver)),
            Permit::Hold | Permit::HoldFirst => Sent::not_tried(Outcome::HeldBack),
        })
        .collect()
}

/// Keeps what nobody accepted for the next chance.
fn keep_undelivered(host: &Host, notices: &[Notice], sent: &mut [Sent], now: DateTime<FixedOffset>) {
    let given_up = |sent: &Sent| matches!(sent.outcome, Outcome::GivenUp { .. });
    if !sent.iter().any(given_up) {
        return;
    }
    let kept = Book::change(host.state(), |book| {
        for (notice, sent) in notices.iter().zip(sent.iter()).filter(|(_, sent)| given_up(sent)) {
            book.keep(notice.clone(), &sent.why(), now);
        }
    });
    if kept.is_ok() {
        for sent in sent.iter_mut().filter(|sent| given_up(sent)) {
            sent.outcome = Outcome::GivenUp { kept: true };
        }
    }
}
