//! One lock per target: a flock below the state folder, which the kernel frees with its process.

use crate::base::failure::{Code, Failure};
use crate::base::plan::Target;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A lock that is held; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would not do: a child that another thread has just forked holds it too, until it is another
        // program, and the next run of this process would find the target taken.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes the lock of `target`, or fails at once naming its holder. Two spellings of one folder are one target.
    pub fn take(state: &Path, target: &Target, run: &str) -> Result<Self, Failure> {
        let name = match target {
            Target::Path(path) => crate::sys::fs::resolved(path).display().to_string(),
            other => other.to_string(),
        };
        let dir = state.join("locks");
        crate::sys::fs::create_dir(&dir)?;
        let digest = Sha256::digest(name.as_bytes());
        let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let path = dir.join(format!("{short}.lock"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Failure::io("open the lock", &path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.lines().next().unwrap_or_default().to_owned();
                let failure = Failure::new(Code::Locked, format!("another run works on `{name}`"));
                let failure =
                    if holder.is_empty() { failure } else { failure.caused_by(format!("held by {holder}")) };
                return Err(failure.hint("Wait until that run has ended; a lock never outlives its process."));
            }
            Err(error) => return Err(Failure::io("lock", &path, &error.into())),
        }
        // Who holds it is a courtesy to the next one; the lock holds without it.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "run {run}, process {}", std::process::id()));
        tracing::debug!(target = name, "locked");
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_and_not_with_a_child_that_inherited_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Service("backend".into());
        let take = || Lock::take(dir.path(), &target, "20251110-020000-abcdef");
        let lock = take().unwrap();
        assert_eq!(take().unwrap_err().code, Code::Locked);
        // What a forked child holds is the same open file.
        let inherited = lock.file.try_clone().unwrap();
        drop(lock);
        take().unwrap();
        drop(inherited);
    }
}
