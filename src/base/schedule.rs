//! When something is due: cron expressions in a time zone, and what becomes of instants at which nobody was there.
//!
//! *Problem*: a schedule must make no double and no silent miss, over clock changes, sleep and restarts. *Decision*: what was
//! decided last is an instant of the schedule, never the time of deciding; all that lies between it and now is decided at
//! once, and each instant either runs or is told as passed over. In the gap of a clock change a fixed time runs at the first
//! instant behind it; in the hour that comes twice it runs once; what runs every so often does so in real time (the rules of
//! Vixie's cron, which croner keeps).

use chrono::{DateTime, Duration as Span, FixedOffset, LocalResult, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Fields of a cron expression, in their order.
const FIELDS: [&str; 5] = ["minute", "hour", "day of month", "month", "day of week"];

/// A run that begins later than this behind its instant is a catch-up.
pub const ON_TIME: Duration = Duration::from_secs(60);
/// How far back `missed: "all"` reaches when no window is named.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);
/// No more instants than this are looked at one by one; beyond, only their ends are.
const MANY: usize = 2000;

/// The instants of a cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Timetable {
    text: String,
    cron: Cron,
    zone: Tz,
}

/// One instant of a timetable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When.
    pub at: DateTime<Tz>,
    /// What a clock change does to it.
    pub change: Option<ClockChange>,
}

impl Slot {
    /// The instant with its offset, as it is recorded.
    pub fn fixed(&self) -> DateTime<FixedOffset> {
        self.at.fixed_offset()
    }

    fn utc(&self) -> DateTime<Utc> {
        self.at.with_timezone(&Utc)
    }
}

/// What a change of clocks does to an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockChange {
    /// Its time of day does not exist that day, so that it is the first instant behind the gap.
    Moved,
    /// Its time of day comes twice that day, and this is the first one.
    First,
    /// Its time of day comes twice that day, and this is the second one.
    Second,
}

impl Timetable {
    /// Reads a cron expression: five fields, or six with one of seconds first.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with its name.
    pub fn new(cron: &str, seconds: bool, zone: Tz) -> Result<Self, String> {
        let wanted = if seconds { Seconds::Required } else { Seconds::Disallowed };
        let parser = CronParser::builder().seconds(wanted).build();
        let fields: Vec<&str> = cron.split_whitespace().collect();
        let names: Vec<&str> =
            if seconds { vec!["second"] } else { vec![] }.into_iter().chain(FIELDS).collect();
        if fields.len() != names.len() {
            let wanted = if seconds { "six, as `seconds: true` asks for" } else { "five" };
            return Err(format!("is `{cron}`, which has {} fields instead of {wanted}", fields.len()));
        }
        for (index, field) in fields.iter().enumerate() {
            let mut alone = vec!["*"; names.len()];
            alone[index] = field;
            if parser.parse(&alone.join(" ")).is_err() {
                return Err(format!("is `{cron}`, whose {} `{field}` is not valid", names[index]));
            }
        }
        let parsed =
            parser.parse(cron).map_err(|_| format!("is `{cron}`, which is not a cron expression"))?;
        let timetable = Self { text: cron.to_owned(), cron: parsed, zone };
        if timetable.after(DateTime::UNIX_EPOCH).is_none() {
            return Err(format!("is `{cron}`, which never comes"));
        }
        Ok(timetable)
    }

    /// The expression.
    pub fn cron(&self) -> &str {
        &self.text
    }

    /// The expression as it was read.
    pub fn parsed(&self) -> &Cron {
        &self.cron
    }

    /// The time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first instant behind another.
    pub fn after(&self, instant: DateTime<Utc>) -> Option<Slot> {
        let from = instant.with_timezone(&self.zone);
        let at = self.cron.find_next_occurrence(&from, false).ok()?;
        let change = if matches!(self.cron.is_time_matching(&at), Ok(false)) {
            Some(ClockChange::Moved)
        } else {
            match self.zone.from_local_datetime(&at.naive_local()) {
                LocalResult::Ambiguous(first, _) if first == at => Some(ClockChange::First),
                LocalResult::Ambiguous(..) => Some(ClockChange::Second),
                _ => None,
            }
        };
        Some(Slot { at, change })
    }

    /// The instants behind `after`, up to and with `until`, and whether there are more than are worth naming: then only the
    /// first ones are here.
    fn between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> (Vec<Slot>, bool) {
        let mut slots = Vec::new();
        let mut last = after;
        while let Some(slot) = self.after(last).filter(|slot| slot.utc() <= until) {
            if slots.len() == MANY {
                return (slots, true);
            }
            last = slot.utc();
            slots.push(slot);
        }
        (slots, false)
    }

    /// The shortest time between two instants, of those of a week, or of the first two.
    pub fn shortest_gap(&self) -> Option<Duration> {
        let (slots, _) = self.between(DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + Span::days(8));
        let far = || {
            let first = self.after(DateTime::UNIX_EPOCH)?;
            Some(vec![first.clone(), self.after(first.utc())?])
        };
        let slots = if slots.len() < 2 { far()? } else { slots };
        slots.windows(2).filter_map(|pair| (pair[1].utc() - pair[0].utc()).to_std().ok()).min()
    }

    /// The newest instant up to and with `until`.
    pub fn newest(&self, until: DateTime<Utc>) -> Option<Slot> {
        // Searching backwards is not the mirror of searching forwards where clocks change, so it is done forwards.
        [Span::minutes(2), Span::hours(2), Span::days(2), Span::days(40), Span::days(400), Span::days(3000)]
            .iter()
            .find_map(|back| {
                let mut newest = None;
                let mut last = until - *back;
                while let Some(slot) = self.after(last).filter(|slot| slot.utc() <= until) {
                    last = slot.utc();
                    newest = Some(slot);
                }
                newest
            })
    }
}

/// The time between two backups that may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The earlier backup.
    pub from: DateTime<Tz>,
    /// The later one.
    pub to: DateTime<Tz>,
}

impl Gap {
    /// How long it is in real time.
    pub fn length(&self) -> Duration {
        (self.to.with_timezone(&Utc) - self.from.with_timezone(&Utc)).to_std().unwrap_or_default()
    }
}

/// The longest time from one instant of several timetables to the next one, from `from` on: the data that a schedule may
/// lose, even if every run succeeds. A year is looked at, or as many instants as fit into a moment.
pub fn widest_gap(timetables: &[Timetable], from: DateTime<Utc>) -> Option<Gap> {
    let next = |after| timetables.iter().filter_map(|table| table.after(after)).min_by_key(Slot::utc);
    let mut widest: Option<Gap> = None;
    let mut last = next(from)?;
    for _ in 0..MANY {
        let Some(slot) = next(last.utc()) else { break };
        let gap = Gap { from: last.at, to: slot.at };
        if widest.as_ref().is_none_or(|widest| gap.length() > widest.length()) {
            widest = Some(gap);
        }
        if slot.utc() - from > Span::days(366) {
            break;
        }
        last = slot;
    }
    widest
}

/// What becomes of a run whose playbook still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out, on record.
    #[default]
    Skip,
    /// It waits for the end of the other.
    Queue,
    /// It ends the other, and runs.
    Kill,
}

/// What becomes of instants at which nobody was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// The newest is made up for, once.
    #[default]
    Once,
    /// They are left out, on record.
    Skip,
    /// Each is made up for, within a window.
    All,
}

/// How a schedule is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What becomes of a run whose playbook still runs.
    pub overlap: Overlap,
    /// What becomes of instants at which nobody was there.
    pub missed: Missed,
    /// How far back [`Missed::All`] reaches; [`WINDOW`] if none is named.
    pub window: Option<Duration>,
    /// Up to so long after its instant a run begins, always as long on one machine.
    pub jitter: Duration,
    /// So long a run may take.
    pub timeout: Option<Duration>,
    /// A run does not begin later than this.
    pub max_lateness: Option<Duration>,
    /// The recovery point objective: so much of the newest data may be lost.
    pub rpo: Option<Duration>,
}

impl Terms {
    /// The delay that this machine has by the jitter; `key` names machine, project, playbook and schedule. It is the same
    /// each time, so that the distance of two runs stays that of the schedule.
    pub fn delay(&self, key: &str) -> Duration {
        let millis = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 { Duration::ZERO } else { Duration::from_millis(xxh3_64(key.as_bytes()) % millis) }
    }
}

/// Why instants do not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nobody was there, and a later instant is made up for.
    Missed,
    /// Nobody was there, and the schedule says that nothing is made up for.
    MissedAndSkipped,
    /// Nobody was there for longer than the window reaches.
    BeyondWindow,
    /// It would begin later than the schedule allows.
    TooLate,
    /// The playbook still ran.
    Overlapped,
}

impl Why {
    /// The reason as the end of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Missed => "nothing was there to start it; a later one was run",
            Self::MissedAndSkipped => {
                "nothing was there to start it, and `missed: \"skip\"` makes up for none"
            }
            Self::BeyondWindow => "nothing was there to start it for longer than its `window`",
            Self::TooLate => "it would have begun later than its `max_lateness`",
            Self::Overlapped => "the one before was still running",
        }
    }
}

/// Instants in a row that do not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The first one.
    pub first: DateTime<FixedOffset>,
    /// The last one.
    pub last: DateTime<FixedOffset>,
    /// How many there are; a lower bound if there are very many.
    pub count: usize,
    /// Why.
    pub why: Why,
}

/// What is to be done about all instants since the last decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Those that run, the oldest first.
    pub run: Vec<Slot>,
    /// Those that do not.
    pub passed: Vec<Passed>,
}

impl Due {
    /// The newest instant that is decided by this.
    pub fn decided(&self) -> Option<DateTime<FixedOffset>> {
        let passed = self.passed.iter().map(|passed| passed.last);
        passed.chain(self.run.iter().map(Slot::fixed)).max()
    }
}

/// Decides about the instants behind `last`, the newest that is decided already, at the time `now`; `delay` is that of the jitter.
pub fn due(
    timetable: &Timetable,
    terms: &Terms,
    delay: Duration,
    last: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Due {
    let span = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
    let until = now.checked_sub_signed(span(delay)).unwrap_or(now);
    let (mut slots, more) = timetable.between(last, until);
    if more && let Some(newest) = timetable.newest(until) {
        slots.push(newest);
    }
    let late = |slot: &Slot, limit: Duration| until - slot.utc() > span(limit);
    let mut passed: Vec<(Slot, Why)> = Vec::new();
    let mut run: Vec<Slot> = Vec::new();
    let newest = slots.len().saturating_sub(1);
    for (index, slot) in slots.into_iter().enumerate() {
        let why = if terms.max_lateness.is_some_and(|limit| late(&slot, limit)) {
            Some(Why::TooLate)
        } else {
            match terms.missed {
                Missed::Once => (index < newest).then_some(Why::Missed),
                Missed::Skip => (index < newest || late(&slot, ON_TIME)).then_some(Why::MissedAndSkipped),
                Missed::All => late(&slot, terms.window.unwrap_or(WINDOW)).then_some(Why::BeyondWindow),
            }
        };
        match why {
            Some(why) => passed.push((slot, why)),
            None => run.push(slot),
        }
    }
    let rows = passed.chunk_by(|(_, a), (_, b)| a == b).filter_map(|row| {
        let ((first, why), (last, _)) = (row.first()?, row.last()?);
        Some(Passed { first: first.fixed(), last: last.fixed(), count: row.len(), why: *why })
    });
    Due { passed: rows.collect(), run }
}

/// That a run is one of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// Name of the schedule in the header.
    pub schedule: String,
    /// Its instant, which is the time of the run.
    pub slot: DateTime<FixedOffset>,
}

#[cfg(test)]
mod tests;
