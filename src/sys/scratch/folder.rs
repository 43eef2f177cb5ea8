//! The folder of a scratch cluster: private, locked by its owner, and removed by the next one if the owner was killed.
//!
//! The owner holds a flock on the file `owner` as long as it lives, and the kernel frees it however the owner ends; so a
//! folder whose lock can be taken is nobody's. The lock file is removed last, so that a clean-up that is itself killed
//! can be taken up again.

use crate::base::failure::{Code, Failure};
use crate::sys::scratch::user::User;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the folders' names begin with; the owner's process id and a number follow.
const PREFIX: &str = "lifeboat-pg-";

/// The lock file in the folder; it holds the owner's process id, for people.
const OWNER: &str = "owner";

/// How long a server whose owner is gone may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A private folder that is removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes a folder of mode 0700 below `parent`, owned by `user` if one is given.
    pub fn make(parent: &Path, user: Option<User>) -> Result<Self, Failure> {
        for number in 0..10_000 {
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Failure::io("make the folder", &path, &error)),
            }
            let failed = |error: io::Error| {
                let _ = remove(&path);
                Failure::io("prepare the folder", &path, &error)
            };
            match lock_new(&path) {
                Ok(Some(lock)) => {
                    if let Some(user) = user {
                        std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).map_err(failed)?;
                    }
                    return Ok(Self { path, _lock: lock });
                }
                // A clean-up took the folder before it was locked.
                Ok(None) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(Failure::new(
            Code::Io,
            format!("cannot make a folder in `{}`: all names are taken", parent.display()),
        )
        .hint(format!("Remove the folders `{PREFIX}*` of ended runs from `{}`.", parent.display())))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of mode 0600 in the folder, new, owned by `user` if one is given.
    pub fn file(&self, name: &str, user: Option<User>, content: &[u8]) -> Result<File, Failure> {
        let path = self.path.join(name);
        let write = || -> io::Result<File> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            if let Some(user) = user {
                std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid))?;
            }
            file.write_all(content)?;
            Ok(file)
        };
        write().map_err(|error| Failure::io("write", &path, &error))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is left to the next clean-up.
        let _ = remove(&self.path);
    }
}

/// Creates and locks the owner's file of a new folder; `None` if a clean-up was faster.
fn lock_new(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(OWNER);
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || file.metadata()?.nlink() == 0 {
        return Ok(None);
    }
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(file))
}

/// Removes the folders below `parent` whose owners are gone, after ending the servers that still run in them. Only
/// folders of this process's user and of `user` are touched; failures are left to the next clean-up.
pub(super) fn remove_ownerless(parent: &Path, user: Option<User>) {
    let me = rustix::process::geteuid().as_raw();
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        let ours = path.symlink_metadata().is_ok_and(|meta| {
            meta.is_dir() && (meta.uid() == me || user.is_some_and(|user| user.uid == meta.uid()))
        });
        if !ours {
            continue;
        }
        let lock = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path.join(OWNER));
        match lock {
            Ok(lock) => {
                if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    end_server(&path.join("data"));
                    let _ = remove(&path);
                }
            }
            // Not locked yet, or emptied by a clean-up that was killed: only an empty folder goes.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let _ = std::fs::remove_dir(&path);
            }
            Err(_) => {}
        }
    }
}

/// Removes a folder, its lock file last.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == OWNER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    match std::fs::remove_file(folder.join(OWNER)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::remove_dir(folder)
}

/// Ends the server of a data folder whose owner is gone; usually it ended with its owner.
fn end_server(data: &Path) {
    let begin = Instant::now();
    while let Some(pid) = server_of(data) {
        let late = begin.elapsed() > PATIENCE;
        let _ = kill_process(pid, if late { Signal::KILL } else { Signal::QUIT });
        if late {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The running server of a data folder.
fn server_of(data: &Path) -> Option<Pid> {
    let file = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let number: i32 = file.lines().next()?.trim().parse().ok()?;
    // The number may belong to another process by now.
    Pid::from_raw(number).filter(|_| works_in(number, data))
}

/// Whether process `pid` has `folder` as its current folder, as a server has its data.
#[cfg(target_os = "linux")]
fn works_in(pid: i32, folder: &Path) -> bool {
    let here = std::fs::read_link(format!("/proc/{pid}/cwd"));
    here.is_ok_and(|here| folder.canonicalize().is_ok_and(|folder| here == folder))
}

/// Whether process `pid` names `folder` in its command line, as a server names its data.
#[cfg(not(target_os = "linux"))]
fn works_in(pid: i32, folder: &Path) -> bool {
    let output = std::process::Command::new("/bin/ps").args(["-o", "args=", "-p", &pid.to_string()]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&folder.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_is_private_and_goes_when_dropped() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::make(parent.path(), None).unwrap();
        let path = folder.path().to_path_buf();
        folder.file("secret", None, b"x").unwrap();
        std::fs::create_dir(path.join("data")).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.join("secret").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn clean_up_takes_ownerless_folders_only() {
        let parent = tempfile::tempdir().unwrap();
        let live = Folder::make(parent.path(), None).unwrap();
        let path = |name: &str| parent.path().join(name);
        for name in ["lifeboat-pg-1-0", "lifeboat-pg-2-0", "lifeboat-pg-3-0", "other-1-0"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        // The first was left by a killed owner, the second is being made, the third is none of ours.
        for name in ["lifeboat-pg-1-0", "other-1-0"] {
            std::fs::write(path(name).join(OWNER), "1\n").unwrap();
            std::fs::create_dir(path(name).join("data")).unwrap();
        }
        std::fs::write(path("lifeboat-pg-3-0").join("precious"), "").unwrap();
        std::os::unix::fs::symlink(path("other-1-0"), path("lifeboat-pg-4-0")).unwrap();
        remove_ownerless(parent.path(), None);
        let mut left: Vec<_> =
            std::fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        let mut expected = vec![
            live.path().to_path_buf(),
            path("lifeboat-pg-3-0"),
            path("lifeboat-pg-4-0"),
            path("other-1-0"),
        ];
        expected.sort();
        assert_eq!(left, expected);
        assert!(path("other-1-0").join("data").exists());
    }
}
