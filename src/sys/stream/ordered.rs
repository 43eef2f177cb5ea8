//! A parallel map that keeps its order: one producer, many workers, one consumer.
//!
//! Items are numbered as they are sent and consumed in that order, whatever order the workers finish in. At most
//! `ahead` items are between sending and the end of consumption, so memory is bounded, and since the item that
//! everybody waits for is always among them, it cannot deadlock. Items that say how many bytes they take are bounded
//! by these too, since a block of rows may be several times as large as others are. The first failure, a panic or a
//! cancellation ends all waits; `ordered` returns only after all its threads have.

use crate::base::cancel::Cancel;
use crate::base::failure::{Code, Failure};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often a waiting thread looks at the cancel token, which cannot wake it.
const POLL: Duration = Duration::from_millis(50);

/// More threads than this only cost memory: one writer cannot keep up with them.
const MOST_THREADS: usize = 32;

/// So many bytes may be in flight for each item that may be: somewhat more than usual blocks have, packed and raw.
const BYTES_EACH: u64 = 2 << 20;

/// How wide an ordered map is.
pub(in crate::sys) struct Width<'a> {
    /// Workers.
    pub(in crate::sys) threads: usize,
    /// Ends it early.
    pub(in crate::sys) cancel: &'a Cancel,
}

/// Where the producer sends its items.
pub(in crate::sys) struct Feed<'a, I, O> {
    state: Mutex<State<I, O>>,
    room: Condvar,
    work: Condvar,
    ready: Condvar,
    ahead: u64,
    cancel: &'a Cancel,
}

struct State<I, O> {
    jobs: VecDeque<(u64, I)>,
    done: BTreeMap<u64, O>,
    sent: u64,
    consumed: u64,
    /// Bytes of each item in flight, in order, and their sum.
    sizes: VecDeque<u64>,
    bytes: u64,
    ended: bool,
    failure: Option<Failure>,
}

impl<I, O> Feed<'_, I, O> {
    /// Sends the next item; waits for room.
    pub(in crate::sys) fn send(&self, item: I) -> Result<(), Failure> {
        self.send_sized(item, 0)
    }

    /// Sends the next item, which takes so many bytes from now to the end of its consumption; waits for room.
    pub(super) fn send_sized(&self, item: I, bytes: u64) -> Result<(), Failure> {
        let mut item = Some(item);
        self.wait(&self.room, |state| {
            let in_flight = state.sent - state.consumed;
            let is_full = in_flight > 0 && state.bytes + bytes > self.ahead * BYTES_EACH;
            if in_flight >= self.ahead || is_full {
                return None;
            }
            state.bytes += bytes;
            state.sizes.push_back(bytes);
            state.jobs.push_back((state.sent, item.take()?));
            state.sent += 1;
            Some(())
        })?;
        self.work.notify_one();
        Ok(())
    }

    /// Fails when the map has ended early.
    pub(in crate::sys) fn check(&self) -> Result<(), Failure> {
        if let Err(failure) = self.cancel.check() {
            return Err(self.stop(failure));
        }
        self.lock().failure.clone().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits on `condition` until `ready` yields something, or the map ends early.
    fn wait<R>(
        &self,
        condition: &Condvar,
        mut ready: impl FnMut(&mut State<I, O>) -> Option<R>,
    ) -> Result<R, Failure> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if let Err(failure) = self.cancel.check() {
                drop(state);
                return Err(self.stop(failure));
            }
            if let Some(found) = ready(&mut state) {
                return Ok(found);
            }
            state = condition.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends everything with `failure`, unless something failed before; returns the failure that counts. What
    /// fails after a cancellation fails because of it, as a killed child does, so the cancellation counts.
    fn stop(&self, failure: Failure) -> Failure {
        let failure = self.cancel.check().err().unwrap_or(failure);
        let first = self.lock().failure.get_or_insert(failure).clone();
        self.room.notify_all();
        self.work.notify_all();
        self.ready.notify_all();
        first
    }

    fn end(&self) {
        self.lock().ended = true;
        self.work.notify_all();
        self.ready.notify_all();
    }

    fn work_off(&self, mut worker: impl FnMut(I) -> Result<O, Failure>) -> Result<(), Failure> {
        while let Some((number, item)) = self.wait(&self.work, |state| match state.jobs.pop_front() {
            Some(job) => Some(Some(job)),
            None => state.ended.then_some(None),
        })? {
            let result = worker(item)?;
            self.lock().done.insert(number, result);
            self.ready.notify_one();
        }
        Ok(())
    }

    fn consume(&self, mut consumer: impl FnMut(O) -> Result<(), Failure>) -> Result<(), Failure> {
        while let Some(result) = self.wait(&self.ready, |state| match state.done.remove(&state.consumed) {
            Some(result) => Some(Some(result)),
            None => (state.ended && state.sent == state.consumed).then_some(None),
        })? {
            consumer(result)?;
            let mut state = self.lock();
            state.consumed += 1;
            state.bytes -= state.sizes.pop_front().unwrap_or_default();
            drop(state);
            self.room.notify_one();
        }
        Ok(())
    }
}

/// Runs `produce` on a thread of its own, each item through a worker (`worker` makes one per thread), and each
/// result through `consume` on the calling thread, in the order of sending. Returns what `produce` returned.
pub(in crate::sys) fn ordered<I, O, T, W>(
    width: &Width<'_>,
    produce: impl FnOnce(&Feed<'_, I, O>) -> Result<T, Failure> + Send,
    worker: impl Fn() -> W + Sync,
    consume: impl FnMut(O) -> Result<(), Failure>,
) -> Result<T, Failure>
where
    I: Send,
    O: Send,
    T: Send,
    W: FnMut(I) -> Result<O, Failure>,
{
    let threads = width.threads.clamp(1, MOST_THREADS);
    let feed = Feed {
        state: Mutex::new(State {
            jobs: VecDeque::new(),
            done: BTreeMap::new(),
            sent: 0,
            consumed: 0,
            sizes: VecDeque::new(),
            bytes: 0,
            ended: false,
            failure: None,
        }),
        room: Condvar::new(),
        work: Condvar::new(),
        ready: Condvar::new(),
        ahead: (2 * threads).max(6) as u64,
        cancel: width.cancel,
    };
    let (feed_of, worker) = (&feed, &worker);
    let produced = thread::scope(|scope| {
        let source = thread::Builder::new().name("stream-source".into()).spawn_scoped(scope, move || {
            let result = guarded(|| produce(feed_of));
            match result {
                Ok(value) => {
                    feed_of.end();
                    Some(value)
                }
                Err(failure) => {
                    feed_of.stop(failure);
                    None
                }
            }
        });
        let mut spawned = source.as_ref().map(|_| ()).map_err(|error| error.to_string());
        for number in 0..threads {
            if spawned.is_err() {
                break;
            }
            spawned = thread::Builder::new()
                .name(format!("stream-{number}"))
                .spawn_scoped(scope, move || {
                    if let Err(failure) = guarded(|| feed_of.work_off(worker())) {
                        feed_of.stop(failure);
                    }
                })
                .map(|_| ())
                .map_err(|error| error.to_string());
        }
        let consumed = match spawned {
            Ok(()) => guarded(|| feed_of.consume(consume)),
            Err(error) => Err(Failure::new(Code::Io, "cannot start a thread").caused_by(error)),
        };
        if let Err(failure) = consumed {
            feed_of.stop(failure);
        }
        source.ok().and_then(|handle| handle.join().ok().flatten())
    });
    let failure = feed.state.into_inner().unwrap_or_else(PoisonError::into_inner).failure;
    match (failure, produced) {
        (Some(failure), _) => Err(failure),
        (None, Some(value)) => Ok(value),
        (None, None) => Err(Failure::new(Code::Internal, "a stream ended without its source's result")),
    }
}

/// Turns a panic of `work` into a failure: a stream whose thread just vanished would wait for ever.
pub(in crate::sys) fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Failure::new(Code::Internal, "a thread of the stream panicked").caused_by(said(panic.as_ref())))
    })
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::Reason;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// Sleeps for up to 2 ms, differently for each number.
    fn jitter(n: u64) {
        thread::sleep(Duration::from_micros(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53));
    }

    #[test]
    fn order_is_kept_and_little_is_in_flight_under_jitter() {
        let cancel = Cancel::new();
        let (consumed, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut seen = Vec::new();
        let count = ordered(
            &Width { threads: 6, cancel: &cancel },
            |feed| {
                for n in 0..300_u64 {
                    feed.send(n)?;
                    most.fetch_max(n + 1 - consumed.load(Ordering::SeqCst), Ordering::SeqCst);
                }
                Ok(300)
            },
            || {
                |n: u64| {
                    jitter(n);
                    Ok(n * n)
                }
            },
            |square| {
                seen.push(square);
                jitter(square + 1);
                consumed.fetch_add(1, Ordering::SeqCst);
                Ok(())
            },
        );
        assert_eq!(count, Ok(300));
        assert_eq!(seen, (0..300).map(|n| n * n).collect::<Vec<_>>());
        // One more than twelve, since the counter here is raised just before the item counts as consumed.
        assert!((2..=13).contains(&most.into_inner()));
    }

    #[test]
    fn few_large_items_are_in_flight_and_one_of_any_size_always_may_be() {
        let cancel = Cancel::new();
        let (consumed, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let sizes = |n: u64| if n < 40 { 7 << 20 } else { u64::MAX / 2 };
        let mut seen = 0;
        let sent = ordered(
            &Width { threads: 2, cancel: &cancel },
            |feed| {
                for n in 0..60_u64 {
                    feed.send_sized(n, sizes(n))?;
                    let in_flight = n + 1 - consumed.load(Ordering::SeqCst);
                    most.fetch_max(if n < 40 { in_flight } else { in_flight + 1 }, Ordering::SeqCst);
                }
                Ok(60)
            },
            || {
                |n: u64| {
                    jitter(n);
                    Ok(n)
                }
            },
            |n| {
                assert_eq!(n, seen);
                seen += 1;
                jitter(n + 1);
                consumed.fetch_add(1, Ordering::SeqCst);
                Ok(())
            },
        );
        assert_eq!(sent, Ok(60));
        // Two of 7 MiB in 16 MiB, or one larger than all; and one more, as above.
        assert!((2..=3).contains(&most.into_inner()));
    }

    /// Runs an endless producer against the given parts; returns the failure, and what the producer was told.
    fn endless(
        cancel: &Cancel,
        worker: impl Fn(u64) -> Result<u64, Failure> + Sync,
        consume: impl FnMut(u64) -> Result<(), Failure>,
    ) -> (Failure, Failure) {
        let told = Mutex::new(None);
        let ended = ordered(
            &Width { threads: 3, cancel },
            |feed| {
                for n in 0.. {
                    if let Err(failure) = feed.send(n) {
                        *told.lock().unwrap() = Some(failure);
                        // A producer that swallows it must not turn the stream into a success.
                        break;
                    }
                }
                Ok(())
            },
            || &worker,
            consume,
        );
        (ended.unwrap_err(), told.into_inner().unwrap().unwrap())
    }

    #[test]
    fn a_failing_worker_ends_all() {
        let broken = |n| if n == 17 { Err(Failure::new(Code::Io, "seventeen")) } else { Ok(n) };
        let mut last = 0;
        let (failure, told) = endless(&Cancel::new(), broken, |n| {
            last = n;
            Ok(())
        });
        assert_eq!(failure.message, "seventeen");
        assert_eq!(told, failure);
        assert!(last < 17);
    }

    #[test]
    fn a_failing_consumer_ends_all() {
        let consume = |n| if n == 9 { Err(Failure::new(Code::DiskFull, "full")) } else { Ok(()) };
        let (failure, told) = endless(&Cancel::new(), Ok, consume);
        assert_eq!((failure.code, failure.message.as_str()), (Code::DiskFull, "full"));
        assert_eq!(told, failure);
    }

    #[test]
    fn panics_become_failures() {
        let (failure, _) =
            endless(&Cancel::new(), |n| if n == 5 { panic!("worker {n}") } else { Ok(n) }, |_| Ok(()));
        assert_eq!((failure.code, failure.causes), (Code::Internal, vec!["worker 5".to_owned()]));
        let (failure, _) = endless(&Cancel::new(), Ok, |n| if n == 5 { panic!("consumer") } else { Ok(()) });
        assert_eq!((failure.code, failure.causes), (Code::Internal, vec!["consumer".to_owned()]));
        let failure = ordered(
            &Width { threads: 2, cancel: &Cancel::new() },
            |feed: &Feed<'_, u64, u64>| {
                feed.send(1)?;
                if feed.check().is_ok() { panic!("producer") } else { Ok(()) }
            },
            || Ok,
            |_| Ok(()),
        );
        assert_eq!(failure.unwrap_err().causes, ["producer"]);
    }

    #[test]
    fn cancelling_ends_every_wait() {
        let cancel = Cancel::new();
        let token = cancel.clone();
        let (failure, told) = endless(&cancel, Ok, move |n| {
            if n == 30 {
                token.cancel(Reason::Terminated);
            }
            Ok(())
        });
        assert_eq!((failure.code, told.code), (Code::Terminated, Code::Terminated));
    }

    #[test]
    fn cancelling_counts_before_what_it_made_fail_and_reaches_idle_threads() {
        let cancel = Cancel::new();
        let left = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(30));
                cancel.cancel(Reason::Interrupted);
            });
            let failure = ordered(
                &Width { threads: 2, cancel: &cancel },
                |feed: &Feed<'_, u64, u64>| {
                    while feed.check().is_ok() {
                        thread::sleep(Duration::from_millis(1));
                    }
                    left.store(true, Ordering::SeqCst);
                    Err::<(), _>(Failure::new(Code::ProcessFailed, "killed"))
                },
                || Ok,
                |_| Ok(()),
            );
            assert_eq!(failure.unwrap_err().code, Code::Interrupted);
        });
        assert!(left.into_inner());
    }
}
