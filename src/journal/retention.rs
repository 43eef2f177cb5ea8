//! Which records of runs are kept.
//!
//! *Problem*: records must not fill the disk, and must not vanish while somebody depends on them. *Decision*: those of some
//! days stay, and the newest ones whatever their age; beyond that stay runs that go on, that were killed and not reported,
//! that owe a clean-up, and the newest success of each playbook. What else is lost with a record is said. *Rejected*: reading
//! all records to find that out, which with ten thousand of them would cost every run a second.

use crate::base::event::What;
use crate::base::failure::{Exit, Failure};
use crate::base::ids::RunId;
use crate::journal::reader::{self, RunState, RunSummary};
use crate::journal::store::{ALERT, EXIT};
use crate::journal::successes;
use crate::sys::env::Env;
use crate::sys::logs;
use crate::sys::state::{self, DeadRun};
use chrono::{DateTime, Days, Local, NaiveDateTime};
use std::collections::BTreeSet;
use std::path::Path;

/// Names how many days records of runs are kept.
pub const JOURNAL_DAYS: &str = "LIFEBOAT_JOURNAL_DAYS";
/// Names how many days logs are kept.
pub const LOG_DAYS: &str = "LIFEBOAT_LOG_DAYS";
/// So many are removed at once: a backup does not wait until years of records are gone. The next run removes the next ones.
const AT_ONCE: usize = 200;
/// So many removals are told one by one.
const TOLD: usize = 10;

/// How many records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Records of so many days.
    pub days: u64,
    /// At least so many records, however old.
    pub last: usize,
}

impl Default for Keep {
    /// More than a year, so that a yearly job can be compared with the one before.
    fn default() -> Self {
        Self { days: 400, last: 100 }
    }
}

impl Keep {
    /// What `LIFEBOAT_JOURNAL_DAYS` says; the usual time, and why for people, when that is not understood.
    pub fn of(env: &Env) -> (Self, Option<String>) {
        let usual = Self::default();
        let (days, wrong) = days(env, JOURNAL_DAYS, usual.days);
        (Self { days, ..usual }, wrong)
    }
}

/// How many days the variable `name` says; `usual`, and why, when that is not understood.
fn days(env: &Env, name: &str, usual: u64) -> (u64, Option<String>) {
    let Some(text) = env.value(name) else { return (usual, None) };
    match text.trim().parse() {
        Ok(days @ 1..=36_500) => (days, None),
        _ => (
            usual,
            Some(format!("`{name}` is no number of days from 1 to 36500, so {usual} are kept: `{text}`")),
        ),
    }
}

/// Removes logs that are too old, and sets aside what has grown large. Returns the names of those that were removed, and what
/// is wrong, for people: it keeps no run from its work.
pub fn retire_logs(dir: &Path, now: DateTime<Local>, env: &Env) -> (Vec<String>, Vec<String>) {
    let (days, wrong) = days(env, LOG_DAYS, logs::DAYS);
    let mut told: Vec<String> = wrong.into_iter().collect();
    let removed = logs::retire(dir, now.date_naive(), days).unwrap_or_else(|failure| {
        told.push(format!("old logs could not be removed: {failure}"));
        Vec::new()
    });
    (removed, told)
}

/// The runs to remove. `runs` are newest first; `needed` says which of them must stay. It is asked only about runs that are
/// old enough.
pub fn plan(
    runs: &[RunId],
    now: NaiveDateTime,
    keep: Keep,
    mut needed: impl FnMut(&RunId) -> bool,
) -> Vec<RunId> {
    let Some(oldest) = now.checked_sub_days(Days::new(keep.days)) else { return Vec::new() };
    // Ids are in the order of their times; to read the time of each would take longer.
    let about = oldest.format("%Y%m%d-%H%M%S").to_string();
    runs.iter()
        .skip(keep.last)
        .filter(|run| run.second() <= about.as_str())
        .filter(|run| began(run).is_some_and(|began| began < oldest))
        .filter(|run| !needed(run))
        .take(AT_ONCE)
        .cloned()
        .collect()
}

/// When a run began, as its name says.
fn began(run: &RunId) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(run.second(), "%Y%m%d-%H%M%S").ok()
}

/// Removes records beyond retention and what killed processes left half made. Returns what was lost with them, for people.
pub fn apply(state: &Path, now: DateTime<Local>, keep: Keep) -> Result<Vec<String>, Failure> {
    let (runs, hidden) = state::runs_and_hidden(state)?;
    let mut stays = Stays { state, found: BTreeSet::new() };
    let mut lost = Vec::new();
    for run in plan(&runs, now.naive_local(), keep, |run| stays.needs(run)) {
        let told = loss(state, &reader::summary(state, &run));
        // Taking it over proves that its process is gone.
        if let Some(dead) = DeadRun::take(state, &run)? {
            dead.remove()?;
            lost.extend(
                told.map(|what| {
                    format!("the record of run {run} is removed after {} days: {what}", keep.days)
                }),
            );
        }
    }
    if lost.len() > TOLD {
        let more = lost.len() - TOLD;
        lost.truncate(TOLD);
        lost.push(format!("{more} more records of runs that failed or kept something are removed"));
    }
    state::sweep(state, &hidden)?;
    Ok(lost)
}

/// Which old records must stay.
struct Stays<'a> {
    state: &'a Path,
    /// Playbooks whose newest success was found among the old runs, newest first.
    found: BTreeSet<String>,
}

impl Stays<'_> {
    fn needs(&mut self, run: &RunId) -> bool {
        let state = self.state;
        if !state::has(state, run, EXIT) && !state::has(state, run, ALERT) {
            return true;
        }
        let summary = reader::summary(state, run);
        summary.state == RunState::Running || !summary.owes.is_empty() || self.is_newest_success(&summary)
    }

    fn is_newest_success(&mut self, summary: &RunSummary) -> bool {
        if summary.is_drill || summary.state != RunState::Ended(Exit::Success) {
            return false;
        }
        match successes::newest(self.state, &summary.playbook) {
            Some(newest) => newest.run == summary.run,
            // Nothing was noted yet when it ended: the newest of its age stays.
            None => self.found.insert(summary.playbook.clone()),
        }
    }
}

/// What goes with a record, if a person may still count on it.
fn loss(state: &Path, summary: &RunSummary) -> Option<String> {
    if summary.is_drill {
        return None;
    }
    let recording = reader::events(state, &summary.run).ok()?;
    let kept: Vec<String> = recording
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::ActionEnded { output, .. } => output.get("kept")?.as_str().map(str::to_owned),
            _ => None,
        })
        .collect();
    let playbook = &summary.playbook;
    match summary.state {
        _ if !kept.is_empty() => Some(format!(
            "`{playbook}` kept {}, which `lifeboat rollback` no longer finds by the run; `lifeboat cleanup` lists what is still there",
            kept.join(", ")
        )),
        RunState::Ended(Exit::Success | Exit::Warnings) => None,
        _ => Some(format!("`{playbook}` had not succeeded, and cannot be resumed any more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;
    use proptest::prelude::*;

    fn now() -> NaiveDateTime {
        NaiveDate::from_ymd_opt(2025, 11, 10).unwrap().and_hms_opt(2, 0, 0).unwrap()
    }

    fn run(days_ago: u64, letters: &str) -> RunId {
        let began = now().checked_sub_days(Days::new(days_ago)).unwrap();
        RunId::parse(&format!("{}-{letters}", began.format("%Y%m%d-%H%M%S"))).unwrap()
    }

    #[test]
    fn old_runs_go_unless_they_are_among_the_last_or_needed() {
        let runs = [run(1, "aaaaaa"), run(399, "bbbbbb"), run(401, "cccccc"), run(500, "dddddd")];
        let keep = |last| Keep { days: 400, last };
        assert_eq!(plan(&runs, now(), keep(0), |_| false), runs[2..]);
        assert_eq!(plan(&runs, now(), keep(3), |_| false), runs[3..]);
        assert_eq!(plan(&runs, now(), keep(100), |_| false), []);
        assert_eq!(plan(&runs, now(), keep(0), |run| run.letters() == "cccccc"), runs[3..]);
    }

    /// Puts a run on record that ended long ago.
    fn record(state: &Path, letters: &str, exit: Option<Exit>, owes: &[&str], kept: Option<&str>) -> RunId {
        let run = run(500, letters);
        let dir = state::folder(state, &run);
        std::fs::create_dir_all(&dir).unwrap();
        let time = "2024-06-28T02:00:00+00:00";
        let about =
            serde_json::json!({ "version": 1, "run": run, "playbook": letters, "pid": 1, "began": time });
        std::fs::write(dir.join("run.json"), about.to_string()).unwrap();
        if let Some(exit) = exit {
            let ended = serde_json::json!({ "version": 1, "exit": exit, "ended": time, "owes": owes });
            std::fs::write(dir.join(EXIT), ended.to_string()).unwrap();
        }
        let ended = What::ActionEnded {
            action: "restore".into(),
            number: 1,
            output: serde_json::json!({ "kept": kept }),
            summary: String::new(),
            millis: 1,
        };
        let event = crate::base::event::Event::new(DateTime::parse_from_rfc3339(time).unwrap(), ended);
        std::fs::write(dir.join("events.jsonl"), serde_json::to_string(&event).unwrap() + "\n").unwrap();
        run
    }

    #[test]
    fn what_somebody_counts_on_stays_or_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let owing = record(state, "owesit", Some(Exit::Failed), &["ensure"], None);
        let untold = record(state, "killed", None, &[], None);
        let success = record(state, "onlyon", Some(Exit::Success), &[], None);
        record(state, "failed", Some(Exit::Failed), &[], None);
        record(state, "keptdb", Some(Exit::Warnings), &[], Some("shop_before_20240628_020000"));
        record(state, "warned", Some(Exit::Warnings), &[], None);
        let began = now().and_utc().with_timezone(&Local);
        let lost = apply(state, began, Keep { days: 400, last: 0 }).unwrap();
        let mut left = state::runs(state).unwrap();
        left.sort_by_key(ToString::to_string);
        assert_eq!(left, [untold, success, owing]);
        let told: Vec<&str> = lost.iter().map(|line| line.split_once("-020000-").unwrap().1).collect();
        expect_test::expect![[r#"
            keptdb is removed after 400 days: `keptdb` kept shop_before_20240628_020000, which `lifeboat rollback` no longer finds by the run; `lifeboat cleanup` lists what is still there
            failed is removed after 400 days: `failed` had not succeeded, and cannot be resumed any more"#]]
        .assert_eq(&told.join("\n"));
    }

    #[test]
    fn many_go_bit_by_bit() {
        let runs: Vec<_> = (0..500).map(|n| run(1000 + n, "aaaaaa")).collect();
        assert_eq!(plan(&runs, now(), Keep { days: 400, last: 0 }, |_| false), runs[..AT_ONCE]);
    }

    proptest! {
        #[test]
        fn what_goes_is_old_and_beyond_the_last(
            mut ages in prop::collection::vec(0_u64..1000, 0..60), days in 0_u64..800, last in 0_usize..50,
        ) {
            ages.sort_unstable();
            let runs: Vec<_> = ages.iter().map(|&age| run(age, "aaaaaa")).collect();
            let gone = plan(&runs, now(), Keep { days, last }, |_| false);
            let expected = ages.iter().skip(last).filter(|&&age| age > days).count();
            prop_assert_eq!(gone.len(), expected);
            prop_assert_eq!(&runs[runs.len() - expected..], &gone[..]);
        }
    }
}
