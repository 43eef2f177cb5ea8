//! One lock per target: a flock below the state folder, which the kernel frees with its process.
//!
//! Two projects, each with a state folder of its own, may share a folder of backups: that folder is locked itself too.

use crate::base::failure::{Code, Failure};
use crate::base::plan::Target;
use crate::sys::flock::Held;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A lock that is held; dropping it frees it.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Held);

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
        let file = crate::sys::fs::open_lock(&path)?;
        let mut held = match Held::take(file).map_err(|error| Failure::io("lock", &path, &error))? {
            Ok(held) => held,
            Err(mut file) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.lines().next().unwrap_or_default().to_owned();
                let holder = (!holder.is_empty()).then(|| format!("held by {holder}"));
                return Err(taken(&name, holder.as_deref()));
            }
        };
        held.say(&format!("run {run}, process {}", std::process::id()));
        tracing::debug!(target = name, "locked");
        Ok(Self(held))
    }
}

fn taken(name: &str, holder: Option<&str>) -> Failure {
    let failure = Failure::new(Code::Locked, format!("another run works on `{name}`"));
    let failure = holder.into_iter().fold(failure, Failure::caused_by);
    failure.hint("Wait until that run has ended; a lock never outlives its process.")
}

/// The folders that a run works in, each locked until the run ends, against runs of other projects too.
#[derive(Debug, Default)]
pub struct FolderLocks {
    held: Mutex<BTreeMap<PathBuf, Lock>>,
    tidying: Mutex<()>,
}

impl FolderLocks {
    /// Lets one action at a time of the run that holds the folders tidy up in them: two would trip over each other.
    pub fn tidying<T>(&self, tidy: impl FnOnce() -> T) -> T {
        let _alone = self.tidying.lock().unwrap_or_else(PoisonError::into_inner);
        tidy()
    }

    /// Locks the folder itself, unless this run holds it already. One that is not there, or cannot be read, is left to
    /// whoever makes or lists it.
    ///
    /// # Errors
    /// `Locked` if another run holds it.
    pub fn hold(&self, dir: &Path) -> Result<(), Failure> {
        let real = crate::sys::fs::resolved(dir);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(&real) || !real.is_dir() {
            return Ok(());
        }
        let Ok(file) = File::open(&real) else { return Ok(()) };
        match Held::take(file) {
            Ok(Ok(lock)) => {
                held.insert(real, Lock(lock));
                Ok(())
            }
            Ok(Err(_)) => {
                Err(taken(&real.display().to_string(), Some("held by a run with another state folder")))
            }
            // Network file systems may know no such lock for folders; the one below the state folder still holds.
            Err(error) => {
                tracing::debug!(dir = %real.display(), %error, "the folder itself cannot be locked");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Service("backend".into());
        let take = || Lock::take(dir.path(), &target, "20251110-020000-abcdef");
        let lock = take().unwrap();
        let failure = take().unwrap_err();
        assert_eq!(failure.code, Code::Locked);
        assert_eq!(failure.message, "another run works on `backend`");
        let holder = format!("held by run 20251110-020000-abcdef, process {}", std::process::id());
        assert_eq!(failure.causes, [holder]);
        drop(lock);
        take().unwrap();
    }

    #[test]
    fn a_folder_is_held_against_runs_with_another_state_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (FolderLocks::default(), FolderLocks::default());
        one.hold(&dir.path().join("not there")).unwrap();
        one.hold(dir.path()).unwrap();
        one.hold(&dir.path().join(".")).unwrap();
        let failure = other.hold(dir.path()).unwrap_err();
        assert_eq!(failure.code, Code::Locked);
        assert_eq!(
            failure.message,
            format!("another run works on `{}`", dir.path().canonicalize().unwrap().display())
        );
        assert_eq!(failure.causes, ["held by a run with another state folder"]);
        drop(one);
        other.hold(dir.path()).unwrap();
    }
}
