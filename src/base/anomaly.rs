//! What is unusual in a row of numbers: a backup that is much smaller, larger, faster or slower than its forerunners.
//!
//! *Problem*: a backup that suddenly holds half of its data is complete, intact and useless. *Decision*: the newest value is held
//! against the median of those before it, which one outlier does not move. *Rejected*: the mean, and the value before:
//! after one bad backup either takes the next good one for the bad one.

use serde::{Deserialize, Serialize};

/// Fewest values of the past that a new one is held against.
pub const FEWEST: usize = 3;

/// So many values make the history: what grows slowly must not look like an anomaly.
pub const HISTORY: usize = 30;

/// By how much a value may be off, in percent, unless said otherwise.
pub const PERCENT: u32 = 50;

/// A value that is far off the median of its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// The value.
    pub newest: u64,
    /// The median of the values before; of an even number of them the lower one in the middle, so that it is a value that
    /// was there.
    pub median: u64,
    /// By how much it is off, in percent of the median, rounded down; negative when it is less.
    pub percent: i64,
}

/// Tells whether `newest` is more than `percent` percent off the median of `history`. `None` if it is not, or if the history has
/// less than [`FEWEST`] values.
pub fn off_median(history: &[u64], newest: u64, percent: u32) -> Option<Anomaly> {
    if history.len() < FEWEST {
        return None;
    }
    let mut sorted = history.to_vec();
    sorted.sort_unstable();
    let median = sorted[(sorted.len() - 1) / 2];
    let off = u128::from(newest.abs_diff(median)) * 100;
    if off <= u128::from(median) * u128::from(percent) {
        return None;
    }
    // From nothing to something is a growth beyond every percentage.
    let whole = off.checked_div(u128::from(median)).unwrap_or(u128::MAX);
    let whole = i64::try_from(whole).unwrap_or(i64::MAX);
    Some(Anomaly { newest, median, percent: if newest < median { -whole } else { whole } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn more_than_half_off_is_an_anomaly_and_half_is_not() {
        let history = [90, 100, 110];
        assert_eq!(off_median(&history, 150, 50), None);
        assert_eq!(off_median(&history, 50, 50), None);
        assert_eq!(off_median(&history, 151, 50), Some(Anomaly { newest: 151, median: 100, percent: 51 }));
        assert_eq!(off_median(&history, 49, 50), Some(Anomaly { newest: 49, median: 100, percent: -51 }));
        assert_eq!(off_median(&history, 0, 50), Some(Anomaly { newest: 0, median: 100, percent: -100 }));
        assert_eq!(off_median(&history, 151, 60), None);
    }

    #[test]
    fn a_short_history_says_nothing() {
        assert_eq!(off_median(&[], 1, 50), None);
        assert_eq!(off_median(&[100, 100], 1, 50), None);
        assert!(off_median(&[100, 100, 100], 1, 50).is_some());
    }

    #[test]
    fn one_outlier_does_not_move_it() {
        assert_eq!(off_median(&[100, 3, 104, 98], 101, 50), None);
        let next = off_median(&[100, 3, 104, 98], 2, 50);
        assert_eq!(next, Some(Anomaly { newest: 2, median: 98, percent: -97 }));
    }

    #[test]
    fn nothing_that_becomes_something_is_off() {
        assert_eq!(off_median(&[0, 0, 0], 0, 50), None);
        assert_eq!(off_median(&[0, 0, 0], 1, 50).unwrap().percent, i64::MAX);
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_the_median_itself_is_usual(
            mut history in proptest::collection::vec(any::<u64>(), 3..9), newest: u64, percent in 0_u32..500
        ) {
            let found = off_median(&history, newest, percent);
            history.reverse();
            prop_assert_eq!(off_median(&history, newest, percent), found);
            history.sort_unstable();
            let median = history[(history.len() - 1) / 2];
            prop_assert_eq!(off_median(&history, median, percent), None);
            if let Some(found) = found {
                prop_assert_eq!((found.newest, found.median), (newest, median));
                prop_assert_eq!(found.percent < 0, newest < median);
                prop_assert!(found.percent.unsigned_abs() >= u64::from(percent));
            }
        }
    }
}
