//! Getting what was staged onto stable storage: all of it, and not one after the other.
//!
//! *Problem*: an fsync of each of many thousand files takes minutes, since each may wait for a journal of its own.
//! *Decision*: where there are many, the whole file system is synced once when all are written, if it is one of those that
//! are known to report errors of files that are closed by then: Linux does since 5.8, for errors since the descriptor was
//! opened, which is before the first file is written. Everywhere else each file is synced, by several threads at once, whose
//! waits a journal brings together. *Rejected*: syncing everything always, which for a few files would wait for what other
//! programs have written.

use crate::base::failure::{Code, Failure};
use crate::sys::stream::cores;
use std::fs::File;
use std::io;
use std::path::Path;

/// From so many files on, the file system is synced as a whole.
const MANY: usize = 128;

/// Threads that sync files, whatever the cores: they wait for the disk.
const SYNCING: usize = 16;

/// The file systems of one machine that report what could not be written: ext4, XFS, Btrfs, F2FS and tmpfs, by their magic
/// numbers. Others pass a sync on to somebody else, who need not report anything.
const REPORTING: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// How what is staged becomes durable.
#[derive(Debug)]
pub(super) enum Durable {
    /// File by file.
    Each,
    /// All at once: the folder whose file system is synced.
    Whole(File),
}

impl Durable {
    /// Decides for a folder in which so many files are going to be written.
    pub(super) fn of(folder: &Path, files: usize) -> Result<Self, Failure> {
        if files < MANY || !tells_errors(rustix::system::uname().release().to_str().unwrap_or_default()) {
            return Ok(Self::Each);
        }
        let failed = |error: &io::Error| Failure::io("open", folder, error);
        let opened = File::open(folder).map_err(|error| failed(&error))?;
        let kind = rustix::fs::fstatfs(&opened).map_err(|error| failed(&error.into()))?.f_type;
        let reports = u64::try_from(kind).is_ok_and(|kind| REPORTING.contains(&kind));
        Ok(if reports { Self::Whole(opened) } else { Self::Each })
    }

    /// Threads that write and sync.
    pub(super) fn threads(&self) -> usize {
        match self {
            Self::Each => SYNCING,
            Self::Whole(_) => cores().max(4),
        }
    }

    /// Syncs all files, unless each was synced by itself, and all folders below.
    pub(super) fn finish(&self, files: &Path) -> Result<(), Failure> {
        match self {
            Self::Each => sync_below(files),
            Self::Whole(folder) => {
                rustix::fs::syncfs(folder).map_err(|error| Failure::io("write", files, &error.into()))
            }
        }
    }
}

/// Whether a Linux of that release reports errors of a file system that is synced as a whole.
fn tells_errors(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
}

/// Makes the names in all folders below durable.
fn sync_below(dir: &Path) -> Result<(), Failure> {
    for entry in walkdir::WalkDir::new(dir) {
        let entry =
            entry.map_err(|error| Failure::new(Code::Io, "cannot list what was staged").caused_by(error))?;
        if entry.file_type().is_dir() {
            let synced = File::open(entry.path()).and_then(|dir| dir.sync_all());
            synced.map_err(|error| Failure::io("write", entry.path(), &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_tells_errors_is_trusted_with_all_files() {
        for (release, told) in [
            ("5.8.0", true),
            ("6.18.44-fc-v657", true),
            ("5.7.19", false),
            ("4.19.0-27-amd64", false),
            ("", false),
        ] {
            assert_eq!(tells_errors(release), told, "{release}");
        }
    }

    #[test]
    fn few_files_are_synced_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Durable::of(dir.path(), MANY - 1), Ok(Durable::Each)));
        let many = Durable::of(dir.path(), MANY).unwrap();
        std::fs::write(dir.path().join("a"), "a").unwrap();
        many.finish(dir.path()).unwrap();
        assert!(Durable::of(&dir.path().join("none"), MANY).is_err());
    }
}
