//! Reading one file: exactly as many bytes as its header promises, whatever happens to it meanwhile.

use super::header::reason;
use rustix::fs::{Mode, OFlags};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Opens a file without following a link and without waiting for a pipe that took its place.
pub(super) fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(io::Error::other("it is no file any more")) }
}

/// What a change of a file's content shows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trace {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Trace {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file that is being read.
pub(super) struct Reading {
    file: File,
    before: Trace,
    /// What went wrong, in words.
    problem: Option<String>,
}

impl Reading {
    /// Begins with what the file is now.
    pub(super) fn of(file: File, metadata: &Metadata) -> Self {
        Self { file, before: Trace::of(metadata), problem: None }
    }

    /// Fills `buffer` with what begins at `at`; what is missing is zeros, and a problem.
    pub(super) fn fill(&mut self, buffer: &mut [u8], at: u64) {
        let mut filled = 0;
        while filled < buffer.len() && self.problem.is_none() {
            match self.file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) => {
                    self.problem =
                        Some("it shrank while it was read; the rest is filled with zeros".to_owned());
                }
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.problem = Some(format!("{}; the rest is filled with zeros", reason(&error)));
                }
            }
        }
        buffer[filled..].fill(0);
    }

    /// Whether the file stayed what it was; if not, what happened, in words.
    pub(super) fn end(self) -> Result<(), String> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let after = match self.file.metadata() {
            Ok(metadata) => Trace::of(&metadata),
            Err(error) => return Err(reason(&error)),
        };
        // Some file systems make up files whose size they do not tell.
        let goes_on = matches!(self.file.read_at(&mut [0], self.before.size), Ok(1));
        if after.size > self.before.size || goes_on {
            return Err("it grew while it was read; the archive holds its beginning".to_owned());
        }
        if after != self.before {
            return Err(
                "it changed while it was read; the archive may hold parts of both versions".to_owned()
            );
        }
        Ok(())
    }
}
