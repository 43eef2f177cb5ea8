//! A cron expression as the values of its fields, and in the dialects of other schedulers.
//!
//! *Problem*: each scheduler reads cron expressions a little differently: `7` for Sunday, names in ranges, a step in one of the
//! fields for days, `L`, `W` and `#`. *Decision*: what is written elsewhere is made from the values that the expression
//! stands for here, and what they cannot express is refused.

use crate::base::schedule::{ClockChange, Timetable};
use chrono::{DateTime, Datelike, Timelike, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// So many years of clock changes are written out for systemd.
pub const YEARS: i32 = 10;

/// Days of a week as systemd calls them, from Sunday on.
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// The values of a field, sorted, and those that it can have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    values: Vec<u16>,
    min: u16,
    max: u16,
}

impl Field {
    fn of(values: Vec<u16>, min: u16, max: u16) -> Self {
        // Sunday is both 0 and 7.
        let values: BTreeSet<u16> =
            values.into_iter().map(|value| if value > max { 0 } else { value }).collect();
        Self { values: values.into_iter().collect(), min, max }
    }

    fn is_every(&self) -> bool {
        self.values.len() == usize::from(self.max - self.min) + 1
    }

    /// The distance between its values if it is the same everywhere, and there are three or more.
    fn step(&self) -> Option<u16> {
        let step = self.values.get(1)? - self.values[0];
        (self.values.len() > 2 && self.values.windows(2).all(|pair| pair[1] - pair[0] == step))
            .then_some(step)
    }

    /// The values as cron writes them, without `*/n`, which Vixie's cron takes for a `*` in the fields for days.
    fn cron(&self, every: &str) -> String {
        if self.is_every() {
            return every.to_owned();
        }
        match (self.step(), self.values.first(), self.values.last()) {
            (Some(step), Some(first), Some(last)) if step > 1 => format!("{first}-{last}/{step}"),
            _ => ranges(&self.values, "-", |value| value.to_string()),
        }
    }

    /// The values as systemd writes them.
    fn systemd(&self, width: usize) -> String {
        if self.is_every() {
            return "*".to_owned();
        }
        match (self.step(), self.values.first(), self.values.last()) {
            (Some(step), Some(first), Some(last)) if step > 1 => {
                format!("{first:0width$}..{last:0width$}/{step}")
            }
            _ => ranges(&self.values, "..", |value| format!("{value:0width$}")),
        }
    }
}

/// Values as a list of single ones and of ranges of three or more.
fn ranges(values: &[u16], dash: &str, shown: impl Fn(u16) -> String) -> String {
    let rows = values.chunk_by(|a, b| a + 1 == *b).map(|row| match row {
        [first, _, .., last] => format!("{}{dash}{}", shown(*first), shown(*last)),
        row => row.iter().map(|value| shown(*value)).collect::<Vec<_>>().join(","),
    });
    rows.collect::<Vec<_>>().join(",")
}

/// The instants of a cron expression as values of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    seconds: Field,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    /// Days of the month and of the week both count, and a day need only be one of either.
    either: bool,
    /// Days of the month and of the week both count, and a day must be one of both.
    both: bool,
}

impl Calendar {
    /// The calendar of a timetable.
    ///
    /// # Errors
    /// When the expression has `L`, `W` or `#`, as the end of a sentence that begins with its name.
    pub fn of(timetable: &Timetable) -> Result<Self, String> {
        let pattern = &timetable.parsed().pattern;
        if pattern.days.has_modifiers() || pattern.days_of_week.has_modifiers() {
            return Err("has `L`, `W` or `#`".to_owned());
        }
        let restricts = !pattern.is_dom_wildcard() && !pattern.is_dow_wildcard();
        Ok(Self {
            seconds: Field::of(pattern.seconds.values(), 0, 59),
            minutes: Field::of(pattern.minutes.values(), 0, 59),
            hours: Field::of(pattern.hours.values(), 0, 23),
            days: Field::of(pattern.days.values(), 1, 31),
            months: Field::of(pattern.months.values(), 1, 12),
            weekdays: Field::of(pattern.days_of_week.values(), 0, 6),
            either: restricts && !pattern.matches_dom_and_dow(),
            both: restricts && pattern.matches_dom_and_dow(),
        })
    }

    /// Whether it has instants between whole minutes.
    pub fn has_seconds(&self) -> bool {
        self.seconds.values != [0]
    }

    /// How many instants a day has at most.
    pub fn most_in_a_day(&self) -> usize {
        self.hours.values.len() * self.minutes.values.len() * self.seconds.values.len()
    }

    /// Five fields that Vixie's cron, cronie, ofelia and Kubernetes read alike.
    ///
    /// # Errors
    /// When it has instants between whole minutes, or days that are to be of a month's and of a week's.
    pub fn cron(&self) -> Result<String, String> {
        if self.has_seconds() {
            return Err("has seconds".to_owned());
        }
        let days = self.days()?;
        Ok(format!("{} {} {days}", self.minutes.cron("*"), self.hours.cron("*")))
    }

    /// Six fields, with seconds first, as ofelia reads them.
    ///
    /// # Errors
    /// When days are to be of a month's and of a week's.
    pub fn cron_with_seconds(&self) -> Result<String, String> {
        let days = self.days()?;
        Ok(format!("{} {} {} {days}", self.seconds.cron("*"), self.minutes.cron("*"), self.hours.cron("*")))
    }

    fn days(&self) -> Result<String, String> {
        if self.both && !self.days.is_every() && !self.weekdays.is_every() {
            return Err("has `+`, by which a day must be one of both fields for days".to_owned());
        }
        // A field that has every value counts as one where either suffices; `*` would not.
        let (day, weekday) = if self.either { ("1-31", "0-6") } else { ("*", "*") };
        Ok(format!("{} {} {}", self.days.cron(day), self.months.cron("*"), self.weekdays.cron(weekday)))
    }

    /// Expressions of systemd, whose instants together are these, except where clocks change.
    pub fn systemd(&self, zone: &str) -> Vec<String> {
        let time =
            format!("{}:{}:{}", self.hours.systemd(2), self.minutes.systemd(2), self.seconds.systemd(2));
        let months = self.months.systemd(2);
        let zone = if zone.is_empty() { String::new() } else { format!(" {zone}") };
        let on = |days: &str, weekdays: &str| format!("{weekdays}*-{months}-{days} {time}{zone}");
        let weekdays = if self.weekdays.is_every() {
            String::new()
        } else {
            let names = self.weekdays.values.iter().map(|day| WEEKDAYS[usize::from(*day)]);
            format!("{} ", names.collect::<Vec<_>>().join(","))
        };
        let days = self.days.systemd(2);
        if self.either && (self.days.is_every() || self.weekdays.is_every()) {
            vec![on("*", "")]
        } else if self.either {
            vec![on(&days, ""), on("*", &weekdays)]
        } else {
            vec![on(&days, &weekdays)]
        }
    }
}

/// Expressions of systemd for the instants that it leaves out where clocks change: times of day that do not exist, which run
/// behind the gap, and the second of two. They are those of [`YEARS`] years, from the beginning of the year of `now` on.
pub fn at_clock_changes(timetable: &Timetable, now: DateTime<Utc>) -> Vec<String> {
    let Some(begin) = now
        .with_month(1)
        .and_then(|at| at.with_day(1))
        .map(|at| at.date_naive())
        .and_then(|date| date.and_hms_opt(0, 0, 0))
    else {
        return Vec::new();
    };
    let begin = begin.and_utc();
    let mut hours: BTreeMap<String, BTreeMap<u16, Vec<u16>>> = BTreeMap::new();
    for change in clock_changes(timetable, begin) {
        // What a change concerns lies within the hours around it.
        let mut last = change - chrono::Duration::hours(3);
        while let Some(slot) =
            timetable.after(last).filter(|slot| slot.at <= change + chrono::Duration::hours(3))
        {
            last = slot.at.with_timezone(&Utc);
            if matches!(slot.change, Some(ClockChange::Moved | ClockChange::Second)) {
                let hour = last.format("%Y-%m-%d %H").to_string();
                let [minute, second] = [last.minute(), last.second()].map(|n| u16::try_from(n).unwrap_or(0));
                hours.entry(hour).or_default().entry(minute).or_default().push(second);
            }
        }
    }
    let mut lines = Vec::new();
    let field = |values: Vec<u16>| Field { values, min: 0, max: 59 }.systemd(2);
    for (hour, minutes) in hours {
        let mut alike: BTreeMap<Vec<u16>, Vec<u16>> = BTreeMap::new();
        for (minute, seconds) in minutes {
            alike.entry(seconds).or_default().push(minute);
        }
        for (seconds, minutes) in alike {
            lines.push(format!("{hour}:{}:{} UTC", field(minutes), field(seconds)));
        }
    }
    lines
}

/// The hours at which the offset of the timetable's zone changes.
fn clock_changes(timetable: &Timetable, begin: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    use chrono::Offset;
    let zone = timetable.zone();
    let offset = |at: &DateTime<Utc>| at.with_timezone(&zone).offset().fix();
    let end = begin + chrono::Duration::days(i64::from(YEARS) * 366);
    let hours = std::iter::successors(Some(begin), |at| Some(*at + chrono::Duration::hours(1)));
    let hours: Vec<DateTime<Utc>> =
        hours.take_while(|at| *at < end && at.year() < begin.year() + YEARS).collect();
    hours.windows(2).filter(|pair| offset(&pair[0]) != offset(&pair[1])).map(|pair| pair[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;

    fn calendar(cron: &str) -> Result<Calendar, String> {
        Calendar::of(&Timetable::new(cron, cron.split(' ').count() == 6, Tz::UTC).unwrap())
    }

    #[test]
    fn an_expression_is_written_as_every_cron_reads_it() {
        for (cron, written) in [
            ("0 2 * * *", "0 2 * * *"),
            ("0 9-17 * * *", "0 9-17 * * *"),
            ("*/15 8,20 * JAN-MAR MON-FRI", "0-45/15 8,20 * 1-3 1-5"),
            ("0 3 * * 7", "0 3 * * 0"),
            ("0 3 */2 * 1", "0 3 1-31/2 * 1"),
            ("0 3 ? * 1", "0 3 * * 1"),
            ("0 3 1-31 * 1", "0 3 1-31 * 1"),
            ("0 3 1 * +1-7", "0 3 1 * *"),
        ] {
            assert_eq!(calendar(cron).unwrap().cron().unwrap(), written, "{cron}");
        }
        assert_eq!(calendar("30 0 2 * * 7").unwrap().cron_with_seconds().unwrap(), "30 0 2 * * 0");
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        assert_eq!(calendar("30 0 2 * * *").unwrap().cron().unwrap_err(), "has seconds");
        let both = calendar("0 2 1-7 * +1").unwrap().cron().unwrap_err();
        assert_eq!(both, "has `+`, by which a day must be one of both fields for days");
        for cron in ["0 2 L * *", "0 2 15W * *", "0 2 * * 1#2", "0 2 * * 5L"] {
            assert_eq!(calendar(cron).unwrap_err(), "has `L`, `W` or `#`", "{cron}");
        }
    }

    #[test]
    fn days_of_either_kind_are_two_expressions_of_systemd() {
        let systemd = |cron| calendar(cron).unwrap().systemd("Europe/Berlin");
        assert_eq!(systemd("0 2 * * *"), ["*-*-* 02:00:00 Europe/Berlin"]);
        assert_eq!(
            systemd("*/15 9-17 * * 1-5"),
            ["Mon,Tue,Wed,Thu,Fri *-*-* 09..17:00..45/15:00 Europe/Berlin"]
        );
        assert_eq!(
            systemd("0 2 1,15 * 0"),
            ["*-*-01,15 02:00:00 Europe/Berlin", "Sun *-*-* 02:00:00 Europe/Berlin"]
        );
        assert_eq!(systemd("0 2 1-7 * +1"), ["Mon *-*-01..07 02:00:00 Europe/Berlin"]);
    }

    #[test]
    fn instants_at_clock_changes_are_written_out() {
        let lines = |cron| {
            let table = Timetable::new(cron, false, Tz::Europe__Berlin).unwrap();
            let now = DateTime::parse_from_rfc3339("2026-05-05T00:00:00Z").unwrap();
            at_clock_changes(&table, now.with_timezone(&Utc))
        };
        assert_eq!(lines("0 3 * * *"), [""; 0]);
        let moved = lines("30 2 * * *");
        assert_eq!((moved.len(), moved[0].as_str()), (10, "2026-03-29 01:00:00 UTC"));
        let second = lines("*/15 * * * *");
        assert_eq!(second[0], "2026-10-25 01:00..45/15:00 UTC");
    }
}
