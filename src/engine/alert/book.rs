//! The book of alerts: what was sent within the last hour, what is known already, what is still to be delivered.
//!
//! *Problem*: a run every minute that fails every time would bury its reader under alerts; one that is lost because the
//! receiver was down for a minute is the one that mattered. *Decision*: what is told twice is told once a day, more than a number
//! of alerts an hour become one, and what nobody accepted is kept until somebody does. *Rejected*: a queue in the
//! daemon's memory, which cron's runs would not share.

use crate::base::event::Alert;
use crate::base::failure::{Code, Failure};
use crate::base::notice::{Kind, Notice};
use crate::sys::state::alerts;
use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the book's format.
const FORMAT: u32 = 1;
/// Most alerts that wait for delivery; older ones are dropped, and that is told.
pub(super) const MOST_PENDING: usize = 50;
/// Days for which an alert waits for delivery.
pub(super) const PENDING_DAYS: i64 = 7;
/// Hours for which the same thing is not told again.
const SILENT_HOURS: i64 = 24;
/// Conditions that are remembered at most.
const MOST_RAISED: usize = 500;
/// Most messages that a summary quotes.
const QUOTED: usize = 3;

/// An alert that nobody has accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The alert.
    pub notice: Notice,
    /// Since when it waits.
    pub since: DateTime<FixedOffset>,
    /// Why it was not delivered the last time.
    pub why: String,
}

/// Alerts that were held back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<DateTime<FixedOffset>>,
    /// The first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SentAt {
    at: DateTime<FixedOffset>,
    good_news: bool,
}

/// Something that is so since it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    at: DateTime<FixedOffset>,
    message: String,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The book.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    version: u32,
    #[serde(default)]
    sent: Vec<SentAt>,
    #[serde(default)]
    held: Held,
    #[serde(default)]
    held_good_news: Held,
    #[serde(default)]
    raised: BTreeMap<String, Known>,
    #[serde(default)]
    pub(super) pending: Vec<Pending>,
    /// How many alerts were dropped before anybody accepted them.
    #[serde(default)]
    dropped: u64,
    /// That the book before could not be read, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
}

/// What becomes of an alert that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// It is sent.
    Send,
    /// It is held back, and is the first one.
    HoldFirst,
    /// It is held back.
    Hold,
}

impl Book {
    /// The book of a state folder; an empty one where there is none, or none that can be read.
    pub(super) fn read(state: &Path) -> Self {
        Self::load(state).unwrap_or_default()
    }

    /// The book of a state folder; an empty one where there is none.
    ///
    /// # Errors
    /// `Journal` if it is damaged, or of a newer Lifeboat.
    pub(super) fn load(state: &Path) -> Result<Self, Failure> {
        alerts::read_book(state)?.map_or_else(|| Ok(Self::default()), |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let damaged =
            |why: String| Failure::new(Code::Journal, "the book of alerts cannot be read").caused_by(why);
        let version =
            serde_json::from_str::<Version>(text).map_err(|error| damaged(error.to_string()))?.version;
        if version > FORMAT {
            return Err(damaged(format!("it has format {version}, this Lifeboat reads {FORMAT}"))
                .hint("Use a Lifeboat at least as new as the one that wrote it."));
        }
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))
    }

    /// What goes on where a book was that cannot be read, which is kept beside it.
    fn instead_of(failure: &Failure) -> Self {
        let unread = format!(
            "{failure}; what waited in it is not delivered, and is kept in alerts/{}",
            alerts::SET_ASIDE
        );
        Self { unread: Some(unread), ..Self::default() }
    }

    /// Changes the book of a state folder, alone.
    ///
    /// # Errors
    /// If it cannot be written; then nothing is changed.
    pub(super) fn change<T>(state: &Path, change: impl FnOnce(&mut Self) -> T) -> Result<T, Failure> {
        alerts::change_book(state, |text| {
            // What cannot be read must not keep the next alert from being sent, and is not thrown away.
            let mut book = match text.as_deref().map(Self::parse) {
                None => Self::default(),
                Some(Ok(book)) => book,
                Some(Err(failure)) => {
                    alerts::set_book_aside(state)?;
                    Self::instead_of(&failure)
                }
            };
            let value = change(&mut book);
            book.version = FORMAT;
            let text = serde_json::to_string_pretty(&book).map_err(|error| {
                Failure::new(Code::Internal, "cannot write the book of alerts").caused_by(error)
            })?;
            Ok((text + "\n", value))
        })
    }

    /// Whether something is to be told: not if it was within a day, and has not been settled since. Takes note of it.
    pub(super) fn is_news(&mut self, key: &str, message: &str, now: DateTime<FixedOffset>) -> bool {
        let silent = TimeDelta::hours(SILENT_HOURS);
        self.raised.retain(|_, known| (now - known.at).abs() < silent);
        if self.raised.contains_key(key) {
            return false;
        }
        if self.raised.len() >= MOST_RAISED {
            let oldest = self.raised.iter().min_by_key(|(_, known)| known.at).map(|(key, _)| key.clone());
            oldest.map(|key| self.raised.remove(&key));
        }
        self.raised.insert(key.to_owned(), Known { at: now, message: message.to_owned() });
        true
    }

    /// Notes that something is so no longer; false if it was not known.
    pub(super) fn settle(&mut self, key: &str) -> bool {
        self.raised.remove(key).is_some()
    }

    /// Whether something is known.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.raised.contains_key(key)
    }

    /// Decides on one alert, and takes note of it; `limit` is the number of alerts an hour, 0 for any number.
    pub(super) fn permit(&mut self, notice: &Notice, limit: u32, now: DateTime<FixedOffset>) -> Permit {
        let good_news = notice.is_good_news();
        if self.has_room(good_news, limit, now) {
            self.sent.push(SentAt { at: now, good_news });
            return Permit::Send;
        }
        let held = if good_news { &mut self.held_good_news } else { &mut self.held };
        held.count += 1;
        held.since.get_or_insert(now);
        if held.messages.len() < QUOTED {
            held.messages.push(notice.alert.message.clone());
        }
        if held.count == 1 { Permit::HoldFirst } else { Permit::Hold }
    }

    fn has_room(&mut self, good_news: bool, limit: u32, now: DateTime<FixedOffset>) -> bool {
        self.sent.retain(|sent| (now - sent.at).abs() < TimeDelta::hours(1));
        let sent = self.sent.iter().filter(|sent| sent.good_news == good_news).count();
        limit == 0 || u32::try_from(sent).is_ok_and(|sent| sent < limit)
    }

    /// What was held back, as alerts, as soon as there is room for them again.
    pub(super) fn summaries(&mut self, limit: u32, now: DateTime<FixedOffset>) -> Vec<Notice> {
        let mut summaries = Vec::new();
        for (good_news, status) in [(false, "error"), (true, "success")] {
            if !self.has_room(good_news, limit, now) {
                continue;
            }
            let held = std::mem::take(if good_news { &mut self.held_good_news } else { &mut self.held });
            if held.count > 0 {
                self.sent.push(SentAt { at: now, good_news });
                summaries.push(notice(status, held.told(), now));
            }
        }
        summaries
    }

    /// Keeps an alert that nobody accepted.
    pub(super) fn keep(&mut self, notice: Notice, why: &str, now: DateTime<FixedOffset>) {
        self.pending.push(Pending { notice, since: now, why: why.to_owned() });
        self.prune(now);
    }

    /// Drops what has waited for too long, or is too much.
    pub(super) fn prune(&mut self, now: DateTime<FixedOffset>) {
        let before = self.pending.len();
        self.pending.retain(|pending| (now - pending.since).abs() < TimeDelta::days(PENDING_DAYS));
        let excess = self.pending.len().saturating_sub(MOST_PENDING);
        self.pending.drain(..excess);
        self.dropped += (before - self.pending.len()) as u64;
    }

    /// The alert that tells of those that were dropped or lost, if any were.
    pub(super) fn of_dropped(&self, now: DateTime<FixedOffset>) -> Option<Notice> {
        let dropped = match self.dropped {
            0 => None,
            1 => Some("1 alert was dropped, since nobody accepted it in time".to_owned()),
            n => Some(format!("{n} alerts were dropped, since nobody accepted them in time")),
        };
        let told: Vec<String> = dropped.into_iter().chain(self.unread.clone()).collect();
        (!told.is_empty()).then(|| notice("error", told.join("; "), now))
    }

    /// Notes that somebody was told of those that were dropped or lost.
    pub(super) fn told_of_dropped(&mut self) {
        self.dropped = 0;
        self.unread = None;
    }
}

impl Held {
    fn told(&self) -> String {
        let since =
            self.since.map(|since| format!(" since {}", since.format("%Y-%m-%d %H:%M"))).unwrap_or_default();
        let count =
            if self.count == 1 { "1 alert was".to_owned() } else { format!("{} alerts were", self.count) };
        let mut text = format!("{count} held back{since}: {}", self.messages.join("; "));
        let more = self.count.saturating_sub(self.messages.len() as u64);
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        text
    }
}

/// An alert about alerts.
pub(super) fn notice(status: &str, message: String, now: DateTime<FixedOffset>) -> Notice {
    let timestamp = now.to_rfc3339_opts(SecondsFormat::Secs, false);
    Notice::new(Kind::HeldBack, Alert { status: status.to_owned(), message, timestamp })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<FixedOffset> {
        DateTime::parse_from_rfc3339("2025-11-10T02:00:00+00:00").unwrap() + TimeDelta::minutes(minute)
    }

    fn told(status: &str, message: &str) -> Notice {
        let alert = Alert { status: status.into(), message: message.into(), timestamp: String::new() };
        Notice::new(Kind::Failed, alert)
    }

    #[test]
    fn the_same_is_told_once_a_day_unless_it_was_settled() {
        let mut book = Book::default();
        assert!(book.is_news("disk:1", "full", at(0)));
        assert!(!book.is_news("disk:1", "fuller", at(24 * 60 - 1)));
        assert!(book.is_news("disk:2", "full", at(1)));
        assert!(book.is_news("disk:1", "fuller", at(24 * 60)));
        assert!(book.settle("disk:1"));
        assert!(!book.settle("disk:1"));
        assert!(book.is_news("disk:1", "full", at(24 * 60 + 1)));
        // A clock that was set back must not silence it for longer.
        assert!(book.is_news("disk:1", "full", at(-24 * 60)));
    }

    #[test]
    fn what_is_too_much_is_held_back_and_summed_up() {
        let mut book = Book::default();
        let permit =
            |book: &mut Book, n: i64, minute| book.permit(&told("error", &format!("m{n}")), 2, at(minute));
        assert_eq!(permit(&mut book, 1, 0), Permit::Send);
        assert_eq!(permit(&mut book, 2, 10), Permit::Send);
        assert_eq!(permit(&mut book, 3, 11), Permit::HoldFirst);
        assert_eq!(book.summaries(2, at(12)), []);
        for n in 4..=7 {
            assert_eq!(permit(&mut book, n, 12), Permit::Hold);
        }
        // Good news has room of its own.
        assert_eq!(book.permit(&told("success", "well"), 2, at(12)), Permit::Send);
        let summaries = book.summaries(2, at(60));
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].alert.status, "error");
        assert_eq!(
            summaries[0].alert.message,
            "5 alerts were held back since 2025-11-10 02:11: m3; m4; m5; and 2 more"
        );
        assert_eq!(book.summaries(2, at(61)), [], "it is told once");
        assert_eq!(permit(&mut book, 8, 61), Permit::HoldFirst, "the summary counts too");
        let summaries = book.summaries(2, at(200));
        assert_eq!(summaries[0].alert.message, "1 alert was held back since 2025-11-10 03:01: m8");
        for n in 0..99 {
            assert_eq!(book.permit(&told("error", &format!("{n}")), 0, at(201)), Permit::Send, "no limit");
        }
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_age() {
        let mut book = Book::default();
        for n in 0..60 {
            book.keep(told("error", &format!("m{n}")), "gone", at(n));
        }
        assert_eq!(book.pending.len(), MOST_PENDING);
        assert_eq!(book.pending[0].notice.alert.message, "m10");
        book.prune(at(7 * 24 * 60 + 20));
        assert_eq!(book.pending[0].notice.alert.message, "m21");
        assert_eq!(
            book.of_dropped(at(0)).unwrap().alert.message,
            "21 alerts were dropped, since nobody accepted them in time"
        );
        book.told_of_dropped();
        assert_eq!(book.of_dropped(at(0)), None);
    }

    #[test]
    fn a_book_that_cannot_be_read_is_kept_and_told_of() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Book::read(dir.path()), Book::default());
        Book::change(dir.path(), |book| book.keep(told("error", "m"), "gone", at(0))).unwrap();
        assert_eq!(Book::read(dir.path()).pending.len(), 1);
        let path = dir.path().join("alerts/book.json");
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777,
            0o600
        );
        for (text, why) in [
            ("{ torn", "key must be a string at line 1 column 3"),
            ("{\"version\": 2, \"waiting\": []}", "it has format 2, this Lifeboat reads 1"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Book::read(dir.path()), Book::default());
            let failure = Book::load(dir.path()).unwrap_err();
            assert_eq!(failure.to_string(), format!("the book of alerts cannot be read: {why}"));
            Book::change(dir.path(), |book| book.keep(told("error", "n"), "gone", at(0))).unwrap();
            let book = Book::load(dir.path()).unwrap();
            assert_eq!(book.pending[0].notice.alert.message, "n");
            assert_eq!(
                book.of_dropped(at(0)).unwrap().alert.message,
                format!(
                    "the book of alerts cannot be read: {why}; what waited in it is not delivered, and is kept in \
                     alerts/book.json.unreadable"
                )
            );
            let kept = std::fs::read_to_string(dir.path().join("alerts/book.json.unreadable")).unwrap();
            assert_eq!(kept, text);
        }
    }
}
