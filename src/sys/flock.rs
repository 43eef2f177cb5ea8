//! A flock that ends when its holder drops it.
//!
//! *Problem*: closing the file does not free a flock: a child that another thread has just forked holds the same open file, until it is
//! another program, and whoever asks next finds the lock taken. *Decision*: dropping unlocks the file, which frees it for all who
//! have it open.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::time::Duration;

/// How often the lock is tried again that only those have who look whether it is held.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// A lock that is held; dropping it frees it.
#[derive(Debug)]
pub(super) struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Held {
    /// Takes the lock alone; what was opened comes back if it is taken.
    ///
    /// # Errors
    /// What the system says, where files cannot be locked.
    pub fn take(file: File) -> std::io::Result<Result<Self, File>> {
        Self::with(file, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes a lock that others take shared for a moment, to see [whether it is held](is_held): they are no reason to fail.
    ///
    /// # Errors
    /// As [`Held::take`].
    pub fn take_from_lookers(mut file: File) -> std::io::Result<Result<Self, File>> {
        for _ in 0..TRIES {
            file = match Self::take(file)? {
                Err(file) => file,
                held => return Ok(held),
            };
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => flock(&file, FlockOperation::Unlock)?,
                Err(Errno::WOULDBLOCK) => return Ok(Err(file)),
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Err(file))
    }

    fn with(file: File, how: FlockOperation) -> std::io::Result<Result<Self, File>> {
        match flock(&file, how) {
            Ok(()) => Ok(Ok(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(Err(file)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes who holds it. That is a courtesy to whoever finds it taken; the lock holds without it.
    pub fn say(&mut self, who: &str) {
        let _ = self.0.set_len(0).and_then(|()| self.0.rewind()).and_then(|()| writeln!(self.0, "{who}"));
    }
}

/// Whether somebody holds the lock alone.
///
/// # Errors
/// As [`Held::take`].
pub(super) fn is_held(file: File) -> std::io::Result<bool> {
    Ok(Held::with(file, FlockOperation::NonBlockingLockShared)?.is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn open(path: &std::path::Path) -> File {
        File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    #[test]
    fn it_ends_with_its_holder_and_not_with_a_child_that_inherited_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        for how in [FlockOperation::NonBlockingLockExclusive, FlockOperation::NonBlockingLockShared] {
            let held = Held::with(open(&path), how).unwrap().unwrap();
            assert!(Held::take(open(&path)).unwrap().is_err());
            // What a forked child holds is the same open file.
            let inherited = held.0.try_clone().unwrap();
            drop(held);
            Held::take(open(&path)).unwrap().unwrap();
            drop(inherited);
        }
    }

    #[test]
    fn those_who_look_keep_nobody_from_taking_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let look = || {
                while !over.load(Ordering::Relaxed) {
                    is_held(open(&path)).unwrap();
                }
            };
            scope.spawn(look);
            for _ in 0..200 {
                // One who keeps looking for a while is waited for.
                let looking =
                    Held::with(open(&path), FlockOperation::NonBlockingLockShared).unwrap().unwrap();
                let waiting = scope.spawn(|| Held::take_from_lookers(open(&path)).unwrap().is_ok());
                drop(looking);
                assert!(waiting.join().unwrap());
            }
            over.store(true, Ordering::Relaxed);
        });
        let held = Held::take(open(&path)).unwrap().unwrap();
        assert!(is_held(open(&path)).unwrap());
        assert!(Held::take_from_lookers(open(&path)).unwrap().is_err());
        drop(held);
    }
}
