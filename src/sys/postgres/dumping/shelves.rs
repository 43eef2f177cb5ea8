//! Where readers put what they read until its turn in the file has come.
//!
//! The work is a row of units in the order of the file. Readers claim units in that order and read them at once; the
//! dump takes their pieces out one unit after the other. What is read ahead is bounded in bytes. The unit whose turn it is
//! has room of its own, so that it never waits for those behind it, and nobody waits for ever.

use crate::base::failure::Failure;
use crate::sys::postgres::fingerprint::Fingerprint;
use crate::sys::stream::{BLOCK, Block};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may be held for each reader before who reads ahead has to wait: somewhat more than a part of a large table.
const AHEAD: usize = 3 << 20;
/// Bytes that the unit whose turn it is may hold in any case.
const AT_HAND: usize = 2 * BLOCK;
/// Buffers that are kept to be used again.
const SPARE: usize = 4;
/// How far readers may be ahead in units, each of which costs a little whatever it holds.
const UNITS_AHEAD: usize = 4096;
/// How often a waiting thread looks whether the run is to end.
const POLL: Duration = Duration::from_millis(50);

/// What a unit consists of.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes of the file.
    Block(Block),
    /// The unit is complete; the rows that it held.
    End(Fingerprint),
}

/// Shelves for the pieces of the units.
pub(super) struct Shelves {
    units: usize,
    ahead: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    claimed: usize,
    turn: usize,
    shelves: BTreeMap<usize, Shelf>,
    /// Bytes on all shelves.
    held: usize,
    spare: Vec<Vec<u8>>,
    failure: Option<Failure>,
}

#[derive(Default)]
struct Shelf {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

impl Shelves {
    pub(super) fn new(units: usize, readers: usize) -> Self {
        Self { units, ahead: readers * AHEAD, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The next unit to read; `None` when there is none left. Waits while readers are far ahead.
    pub(super) fn claim(&self) -> Result<Option<usize>, Failure> {
        let (units, ahead) = (self.units, self.ahead);
        self.wait(
            |state| {
                if state.claimed >= units {
                    return Some(None);
                }
                if state.claimed > state.turn + UNITS_AHEAD || state.held >= ahead {
                    return None;
                }
                state.claimed += 1;
                Some(Some(state.claimed - 1))
            },
            &|| Ok(()),
        )
    }

    /// Puts a piece of a unit on its shelf; waits for room.
    pub(super) fn put(&self, unit: usize, piece: Piece) -> Result<(), Failure> {
        let bytes = match &piece {
            Piece::Block(block) => block.bytes.len(),
            Piece::End(_) => 0,
        };
        let mut piece = Some(piece);
        let ahead = self.ahead;
        self.wait(
            |state| {
                let is_turn = state.turn == unit;
                let taken = state.shelves.get(&unit).map_or(0, |shelf| shelf.bytes);
                let has_room =
                    if is_turn { taken < AT_HAND } else { state.held == 0 || state.held + bytes <= ahead };
                if bytes > 0 && !has_room {
                    return None;
                }
                let shelf = state.shelves.entry(unit).or_default();
                shelf.pieces.push_back(piece.take()?);
                shelf.bytes += bytes;
                state.held += bytes;
                Some(())
            },
            &|| Ok(()),
        )?;
        self.changed.notify_all();
        Ok(())
    }

    /// The next piece in the order of the file; `None` behind the last unit. `check` fails when the run is to end.
    pub(super) fn take(&self, check: &dyn Fn() -> Result<(), Failure>) -> Result<Option<Piece>, Failure> {
        let units = self.units;
        let piece = self.wait(
            |state| {
                if state.turn >= units {
                    return Some(None);
                }
                let turn = state.turn;
                let shelf = state.shelves.get_mut(&turn)?;
                let piece = shelf.pieces.pop_front()?;
                match &piece {
                    Piece::Block(block) => {
                        shelf.bytes -= block.bytes.len();
                        state.held -= block.bytes.len();
                    }
                    Piece::End(_) => {
                        state.shelves.remove(&turn);
                        state.turn += 1;
                    }
                }
                Some(Some(piece))
            },
            check,
        )?;
        self.changed.notify_all();
        Ok(piece)
    }

    /// A buffer that was used before, or a new one; empty.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let spare = self.lock().spare.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(BLOCK))
    }

    /// Gives readers a buffer to use again.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut state = self.lock();
        // Enough for the next ones; all others cost memory for nothing.
        if state.spare.len() < SPARE {
            state.spare.push(buffer);
        }
    }

    /// Fails if something has failed.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// Ends all waits, unless something failed before.
    pub(super) fn fail(&self, failure: Failure) {
        self.lock().failure.get_or_insert(failure);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<R>(
        &self,
        mut ready: impl FnMut(&mut State) -> Option<R>,
        check: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<R, Failure> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if let Some(found) = ready(&mut state) {
                return Ok(found);
            }
            state = self.changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
            check()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failure::Code;
    use crate::sys::stream::Kind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn block(unit: usize, number: usize, size: usize) -> Piece {
        let mut bytes = vec![0; size];
        bytes[..16].copy_from_slice(&[(unit as u64).to_le_bytes(), (number as u64).to_le_bytes()].concat());
        Piece::Block(Block { kind: Kind::Rows, table: None, bytes })
    }

    fn fine() -> Result<(), Failure> {
        Ok(())
    }

    #[test]
    fn pieces_come_out_in_the_order_of_the_file_and_little_is_ahead() {
        let (units, size) = (60, BLOCK / 2);
        let shelves = Shelves::new(units, 4);
        let (put, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(unit) = shelves.claim().unwrap() {
                        // The first units are the longest, so that the others have to wait.
                        for number in 0..=(units - unit) {
                            shelves.put(unit, block(unit, number, size)).unwrap();
                            let held = put.fetch_add(1, Ordering::SeqCst) + 1 - taken.load(Ordering::SeqCst);
                            most.fetch_max(held, Ordering::SeqCst);
                        }
                        shelves.put(unit, Piece::End(Fingerprint::default())).unwrap();
                    }
                });
            }
            let mut seen = Vec::new();
            let mut ended = 0;
            while let Some(piece) = shelves.take(&fine).unwrap() {
                match piece {
                    Piece::Block(block) => {
                        taken.fetch_add(1, Ordering::SeqCst);
                        let word = |at: usize| {
                            block.bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | usize::from(*b))
                        };
                        assert_eq!(word(0), ended);
                        seen.push((word(0), word(8)));
                        std::thread::yield_now();
                    }
                    Piece::End(_) => ended += 1,
                }
            }
            assert_eq!(ended, units);
            assert!(seen.is_sorted() && seen.len() == (0..units).map(|unit| units - unit + 1).sum::<usize>());
        });
        // Each of the four may be one piece above the limit, and one is between its count and ours.
        assert!(most.into_inner() <= (shelves.ahead + AT_HAND) / size + 10);
    }

    #[test]
    fn the_first_failure_ends_every_wait() {
        let shelves = Shelves::new(3, 2);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| shelves.take(&fine).unwrap_err());
            let full = scope.spawn(|| {
                loop {
                    if let Err(failure) = shelves.put(1, block(1, 0, BLOCK)) {
                        return failure;
                    }
                }
            });
            while shelves.lock().held < shelves.ahead {
                std::thread::yield_now();
            }
            shelves.fail(Failure::new(Code::Io, "first"));
            shelves.fail(Failure::new(Code::Io, "second"));
            assert_eq!(full.join().unwrap().message, "first");
            assert_eq!(waits.join().unwrap().message, "first");
        });
        assert_eq!(shelves.claim().unwrap_err().message, "first");
    }

    #[test]
    fn a_run_that_is_to_end_waits_for_nothing() {
        let shelves = Shelves::new(1, 1);
        let failure = shelves.take(&|| Err(Failure::new(Code::Interrupted, "Ctrl-C"))).unwrap_err();
        assert_eq!(failure.message, "Ctrl-C");
    }
}
