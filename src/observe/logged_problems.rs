//! `logged_problems`: errors and warnings of the daily logs, those that say the same together.

use crate::base::event::Level;
use crate::base::failure::Failure;
use crate::base::plan::{Later, Need};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::logs;
use chrono::{DateTime, FixedOffset, Local, NaiveDateTime};
use std::collections::BTreeMap;

/// Asks for the errors and warnings of the daily logs.
#[derive(Clone, Debug)]
pub struct LoggedProblems {
    /// Only those from this time on; all that are kept, if not given.
    pub since: Option<DateTime<FixedOffset>>,
}

/// Lines of the log that say the same, but for numbers and names of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedProblem {
    /// `Error` or `Warn`.
    pub level: Level,
    /// The newest of the lines, without time and pattern.
    pub message: String,
    /// How many lines there are.
    pub count: u64,
    /// When the first was written.
    pub first: NaiveDateTime,
    /// When the last was written.
    pub last: NaiveDateTime,
}

impl Observation for LoggedProblems {
    const NAME: &'static str = "logged_problems";
    type Answer = Vec<LoggedProblem>;

    fn question(&self) -> String {
        match self.since {
            Some(since) => format!("errors and warnings logged since {}", since.format("%Y-%m-%d %H:%M:%S")),
            None => "errors and warnings logged".to_owned(),
        }
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        let of = |level| answer.iter().filter(|one| one.level == level).map(|one| one.count).sum::<u64>();
        format!("{} errors, {} warnings", of(Level::Error), of(Level::Warn))
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        vec![Need::Read(facts.absolute(logs::DIR))]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        // What this run logs itself is for the next one that asks, so that nothing is told twice or left out.
        let until = facts.began().naive_local();
        let since = self.since.map(|since| since.with_timezone(&Local).naive_local());
        let mut groups = Groups::default();
        for (date, path) in logs::daily(&facts.absolute(logs::DIR))? {
            if since.is_some_and(|since| date < since.date()) || date > until.date() {
                continue;
            }
            facts.cancel().check()?;
            logs::each_line(&path, &mut |line| {
                if let Some((time, level, message)) = problem(line)
                    && since.is_none_or(|since| time >= since)
                    && time < until
                {
                    groups.add(time, level, message);
                }
            })?;
        }
        Ok(Later::Now(groups.sorted()))
    }
}

/// An error or warning of the log: its time, level and text.
fn problem(line: &str) -> Option<(NaiveDateTime, Level, &str)> {
    const TIME: &str = "%Y-%m-%d %H:%M:%S";
    let (time, rest) = (line.get(..19)?, line.get(20..)?);
    let time = NaiveDateTime::parse_from_str(time, TIME).ok()?;
    [Level::Error, Level::Warn].into_iter().find_map(|level| {
        let message = rest.strip_prefix(level.pattern())?;
        // A remedy stands behind the problem that it is for.
        (!message.starts_with("Hint: ")).then_some((time, level, message))
    })
}

#[derive(Default)]
struct Groups(BTreeMap<(bool, String), LoggedProblem>);

impl Groups {
    fn add(&mut self, time: NaiveDateTime, level: Level, message: &str) {
        let group = self.0.entry((level == Level::Error, pattern(message))).or_insert_with(|| {
            LoggedProblem { level, message: String::new(), count: 0, first: time, last: time }
        });
        group.count += 1;
        group.first = group.first.min(time);
        group.last = group.last.max(time);
        message.clone_into(&mut group.message);
    }

    /// Errors first, then what came most often, then what came last.
    fn sorted(self) -> Vec<LoggedProblem> {
        let mut all: Vec<LoggedProblem> = self.0.into_values().collect();
        all.sort_by(|a, b| {
            let key = |one: &LoggedProblem| (one.level == Level::Error, one.count, one.last);
            key(b).cmp(&key(a)).then_with(|| a.message.cmp(&b.message))
        });
        all
    }
}

/// What is the same in lines that say the same: words with digits in them, such as times, sizes and names of runs, are
/// left out.
fn pattern(message: &str) -> String {
    let words = message.split(|c: char| c.is_whitespace() || "`'\"(),;:=/".contains(c));
    let steady = words.map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
    steady.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_say_the_same_are_one_group() {
        let mut groups = Groups::default();
        for line in [
            "2025-11-10 02:00:00 ℹ️  INFO - Run 20251110-020000-abcdef of nightly begins",
            "2025-11-10 02:00:01 ❌ ERROR - cannot connect to `db1:5432`: refused after 30.0 s",
            "2025-11-10 02:00:02 ⚠️  WARN - the disk is nearly full: 4.1 GiB free",
            "2025-11-11 02:00:02 ⚠️  WARN - the disk is nearly full: 3.9 GiB free",
            "2025-11-11 02:00:03 ❌ ERROR - cannot connect to `db1:5433`: refused after 31.5 s",
            "2025-11-11 02:00:04 ⚠️  WARN - the disk is nearly full: 3.8 GiB free",
            "2025-11-11 02:00:05 ⚠️  WARN - no certificate",
            "2025-11-11 02:00:05 ⚠️  WARN - Hint: Make one.",
            "not a line of ours ❌ ERROR - x",
            "2025-11-11",
        ] {
            if let Some((time, level, message)) = problem(line) {
                groups.add(time, level, message);
            }
        }
        let told: Vec<String> = groups
            .sorted()
            .iter()
            .map(|one| {
                format!(
                    "{}{} x {}, {} to {}",
                    one.level.pattern(),
                    one.count,
                    one.message,
                    one.first,
                    one.last
                )
            })
            .collect();
        expect_test::expect![[r#"
            ❌ ERROR - 2 x cannot connect to `db1:5433`: refused after 31.5 s, 2025-11-10 02:00:01 to 2025-11-11 02:00:03
            ⚠️  WARN - 3 x the disk is nearly full: 3.8 GiB free, 2025-11-10 02:00:02 to 2025-11-11 02:00:04
            ⚠️  WARN - 1 x no certificate, 2025-11-11 02:00:05 to 2025-11-11 02:00:05"#]]
        .assert_eq(&told.join("\n"));
    }
}
