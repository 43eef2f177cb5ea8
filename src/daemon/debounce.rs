//! When a series of changes is over.
//!
//! *Problem*: an editor's save is several events, a checkout hundreds. *Decision*: wait until it has been quiet for a while,
//! but not for ever.

use crate::sys::watcher::Stir;
use std::time::{Duration, Instant};

/// So long it must have been quiet.
pub const QUIET: Duration = Duration::from_millis(250);
/// After this time it is over even if it goes on.
pub const AT_MOST: Duration = Duration::from_secs(2);

/// When a series of changes counts as over, as far as it is known.
pub fn over(stir: Stir) -> Instant {
    (stir.last + QUIET).min(stir.first + AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_ends_a_series_and_so_does_time() {
        let first = Instant::now();
        let after = |millis| first + Duration::from_millis(millis);
        let cases = [(0, 250), (100, 350), (1749, 1999), (1750, 2000), (1751, 2000), (60_000, 2000)];
        for (last, end) in cases {
            assert_eq!(over(Stir { first, last: after(last) }), after(end), "{last}");
        }
    }
}
