//! Which records of runs are kept.

use crate::base::failure::Failure;
use crate::base::ids::RunId;
use crate::journal::store::{ALERT, EXIT};
use crate::sys::state::{self, DeadRun};
use chrono::{DateTime, Days, Local, NaiveDateTime};
use std::path::Path;

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

/// The runs to remove. `runs` are newest first; `needed` says which of them must stay: those that still work, and those that
/// were killed and not reported yet. It is asked only about runs that are old enough.
pub fn plan(runs: &[RunId], now: NaiveDateTime, keep: Keep, needed: impl Fn(&RunId) -> bool) -> Vec<RunId> {
    let Some(oldest) = now.checked_sub_days(Days::new(keep.days)) else { return Vec::new() };
    runs.iter()
        .skip(keep.last)
        .filter(|run| began(run).is_some_and(|began| began < oldest))
        .filter(|run| !needed(run))
        .cloned()
        .collect()
}

/// When a run began, as its name says.
fn began(run: &RunId) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(run.as_str().get(..15)?, "%Y%m%d-%H%M%S").ok()
}

/// Removes records beyond retention and what killed processes left half made.
pub fn apply(state: &Path, now: DateTime<Local>) -> Result<(), Failure> {
    let runs = state::runs(state)?;
    let untold = |run: &RunId| !state::has(state, run, EXIT) && !state::has(state, run, ALERT);
    for run in plan(&runs, now.naive_local(), Keep::default(), untold) {
        // Taking it over proves that its process is gone.
        if let Some(dead) = DeadRun::take(state, &run)? {
            dead.remove()?;
        }
    }
    state::sweep(state)
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
