//! The folder of a sandbox: private, locked by its drill, removed with it, or by the next drill if that was killed.

use crate::base::failure::{Code, Failure};
use crate::sys::fs;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Below the state folder.
const SANDBOXES: &str = "sandboxes";
/// Ends the name of the lock that stands beside a sandbox.
const LOCK: &str = "lock";

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder of a run, after removing those of killed ones.
    pub fn make(state: &Path, run: &str) -> Result<Self, Failure> {
        let parent = state.join(SANDBOXES);
        fs::create_dir(&parent)?;
        sweep(&parent);
        let path = parent.join(run);
        let at = path.with_extension(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&at)
            .map_err(|error| Failure::io("create", &at, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Failure::io("lock", &at, &error.into()))?;
        if fs::exists(&path)? {
            return Err(Failure::new(Code::Io, format!("`{}` exists already", path.display())));
        }
        fs::create_dir(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the sandboxes whose drill is gone.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let at = entry.path();
        if at.extension().is_some_and(|end| end == LOCK)
            && let Ok(lock) = File::open(&at)
            && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            remove(&at.with_extension(""));
        }
    }
}

/// Removes a sandbox, its lock last, so that a removal that is itself killed is taken up again.
fn remove(path: &Path) {
    if std::fs::remove_dir_all(path).is_err() && path.exists() {
        // A program may have left folders that not even their owner may write.
        for entry in
            walkdir::WalkDir::new(path).into_iter().flatten().filter(|entry| entry.file_type().is_dir())
        {
            let _ = std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o700));
        }
        let _ = std::fs::remove_dir_all(path);
    }
    if !path.exists() {
        let _ = std::fs::remove_file(path.with_extension(LOCK));
    }
}
