//! Spreads work on many small things over the cores.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// So many are handed out at once: enough that handing out costs nothing, few enough that the cores end together.
const BATCH: usize = 256;
/// More threads than this wait for each other in the file system.
const MOST_THREADS: usize = 8;

/// What `work` makes of each item, in their order. Few items are worked on by the calling thread alone.
pub fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    map_batches(items, BATCH, work)
}

/// The same for items that are much work each.
pub fn map_large<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    map_batches(items, 1, work)
}

fn map_batches<T: Send, R: Send>(items: Vec<T>, size: usize, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let count = items.len().div_ceil(size);
    let threads = cores.min(MOST_THREADS).min(count);
    if threads <= 1 {
        return items.into_iter().map(work).collect();
    }
    let mut items = items.into_iter();
    let batches: Vec<Vec<T>> = (0..count).map(|_| items.by_ref().take(size).collect()).collect();
    let queue = Mutex::new(batches.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || -> Vec<(usize, Vec<R>)> {
        std::iter::from_fn(next).map(|(at, batch)| (at, batch.into_iter().map(&work).collect())).collect()
    };
    let mut done = thread::scope(|scope| {
        // Where no more threads may be started, fewer do the work.
        let others: Vec<_> =
            (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, worker).ok()).collect();
        let mut done = worker();
        for other in others {
            match other.join() {
                Ok(theirs) => done.extend(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    let mut all = Vec::with_capacity(done.iter().map(|(_, batch)| batch.len()).sum());
    done.into_iter().for_each(|(_, batch)| all.extend(batch));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays_whoever_does_the_work() {
        for count in [0, 1, BATCH, BATCH + 1, 10 * BATCH + 7] {
            let items: Vec<usize> = (0..count).collect();
            let expected: Vec<usize> = items.iter().map(|item| item * 3).collect();
            assert_eq!(map(items.clone(), |item| item * 3), expected);
            assert_eq!(map_large(items, |item| item * 3), expected);
        }
    }

    #[test]
    #[should_panic(expected = "item 700")]
    fn a_panic_is_not_swallowed() {
        let items: Vec<usize> = (0..1000).collect();
        map(items, |item| assert_ne!(item, 700, "item 700"));
    }
}
