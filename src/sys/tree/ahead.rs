//! Reading ahead: what a batch of entries comes to in the archive, made by one of several threads.

use super::header::{Body, pad, put, reason};
use super::holes::may_have_holes;
use super::stream::{Reading, open_regular};
use super::walk::Entry;
use rustix::fs::Advice;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Entries of one batch: enough that handing them on costs nothing.
pub(super) const BATCH: usize = 32;

/// Bytes that a batch holds at most, but for headers. A larger file is read in its turn.
const ROOM: u64 = 1 << 20;

/// Bytes that the system is asked to read ahead of files that are read in their turn, for one batch.
const AHEAD: u64 = 4 << 20;

/// What entries come to, in their order.
#[derive(Default)]
pub(super) struct Batch {
    /// Whole entries of the archive, one behind the other.
    pub(super) bytes: Vec<u8>,
    /// How many they are.
    pub(super) entries: u64,
    /// What does not stand in `bytes`, and how many of those come before it.
    pub(super) others: Vec<(usize, Other)>,
}

/// What comes between ready entries.
pub(super) enum Other {
    /// A file that is read in its turn: it is large, has holes, or has several names.
    Later(Entry),
    /// What could not be read, in words.
    Problem(String),
}

/// One of the threads that read ahead.
pub(super) struct Reader<'a> {
    bytes: Vec<u8>,
    /// Called when a file's content was read, and before it is asked whether the file has changed.
    pub(super) on_read: &'a dyn Fn(&Entry),
}

/// What an entry came to.
enum Came {
    Ready,
    /// It stands in the archive, but not as it is.
    Flawed(String),
    Later,
    Problem(String),
}

impl<'a> Reader<'a> {
    pub(super) fn new(on_read: &'a dyn Fn(&Entry)) -> Self {
        Self { bytes: Vec::new(), on_read }
    }

    /// Reads a batch; `buffer` is used for its bytes.
    pub(super) fn read(&mut self, entries: Vec<Result<Entry, String>>, mut buffer: Vec<u8>) -> Batch {
        buffer.clear();
        self.bytes = buffer;
        let mut batch = Batch::default();
        let mut ahead = AHEAD;
        for entry in entries {
            let began = self.bytes.len();
            let other = match entry {
                Err(problem) => Some(Other::Problem(problem)),
                Ok(entry) => match self.entry(&entry, &mut ahead) {
                    Came::Ready => None,
                    Came::Flawed(problem) => Some(Other::Problem(entry.told(&problem))),
                    Came::Later => {
                        self.bytes.truncate(began);
                        Some(Other::Later(entry))
                    }
                    Came::Problem(problem) => {
                        self.bytes.truncate(began);
                        Some(Other::Problem(entry.told(&problem)))
                    }
                },
            };
            let at = self.bytes.len();
            batch.entries += u64::from(at > began);
            batch.others.extend(other.map(|other| (at, other)));
        }
        batch.bytes = std::mem::take(&mut self.bytes);
        batch
    }

    fn entry(&mut self, entry: &Entry, ahead: &mut u64) -> Came {
        let came = if entry.is_file { self.file(entry, ahead) } else { self.no_file(entry) };
        came.unwrap_or_else(|error| Came::Problem(reason(&error)))
    }

    fn no_file(&mut self, entry: &Entry) -> io::Result<Came> {
        let metadata = std::fs::symlink_metadata(&entry.path)?;
        let kind = metadata.file_type();
        let target;
        let body = if kind.is_dir() {
            Body::Folder
        } else if kind.is_symlink() {
            target = std::fs::read_link(&entry.path)?;
            Body::Link(&target)
        } else if kind.is_fifo() {
            Body::Pipe
        } else if kind.is_file() {
            // It took the place of something else.
            return Ok(Came::Later);
        } else {
            let what = if kind.is_socket() { "a socket" } else { "a device" };
            return Ok(Came::Problem(format!("{what} cannot be archived")));
        };
        put(&mut self.bytes, &entry.name, &metadata, &body)?;
        Ok(Came::Ready)
    }

    /// Reads a small file. One that changes meanwhile is read once more, so that the archive holds one version of it.
    fn file(&mut self, entry: &Entry, ahead: &mut u64) -> io::Result<Came> {
        let began = self.bytes.len();
        let mut again = true;
        loop {
            self.bytes.truncate(began);
            let (file, metadata) = open_regular(&entry.path)?;
            let size = metadata.len();
            if metadata.nlink() > 1 || may_have_holes(&metadata) || began as u64 + size > ROOM {
                read_ahead(&file, size, ahead);
                return Ok(Came::Later);
            }
            put(&mut self.bytes, &entry.name, &metadata, &Body::File(size))?;
            let bytes = &mut self.bytes;
            let content = bytes.len();
            bytes.resize(content + size as usize, 0);
            let mut reading = Reading::of(file, &metadata);
            reading.fill(&mut bytes[content..], 0);
            pad(bytes, size);
            (self.on_read)(entry);
            match reading.end() {
                Ok(()) => return Ok(Came::Ready),
                Err(_) if again => again = false,
                Err(problem) => return Ok(Came::Flawed(problem)),
            }
        }
    }
}

/// Asks the system to read the beginning of a file while others have their turn.
fn read_ahead(file: &File, size: u64, ahead: &mut u64) {
    if let Some(length) = NonZeroU64::new(size.min(*ahead)) {
        let _ = rustix::fs::fadvise(file, 0, Some(length), Advice::WillNeed);
        *ahead -= length.get();
    }
}
