//! What was read from many small files, kept so that only what has changed is read again. It is disposable.
//!
//! *Problem*: a folder of 100,000 backups has as many manifests, and a journal of 100,000 runs twice as many files. Reading
//! them for each question takes seconds. *Decision*: one file per folder in `cache/` of the state folder, with a line for each
//! thing that was read and the [`Stamp`] of the file it was read from, in words that are quickly read ([`line`]); what many
//! lines share is in a glossary before them. Every question still looks at every file: a line counts
//! only for the file it was read from, as it was. What is torn, foreign, damaged or of another version is as good as none, and
//! what cannot be written is not written; no question fails by it. Nothing is destroyed on its word. *Rejected*: trusting the
//! time of the folder, which does not change when a file in it is edited in place; a database, which is more to go wrong.

pub mod line;

use self::line::{Lines, Words};
use crate::sys::fs::{STAGED_SUFFIX, create_dir, open_lock};
use crate::sys::stream::Digest;
use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, FileType, FlockOperation, OFlags, flock, statat};
use rustix::path::Arg;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use xxhash_rust::xxh3::Xxh3;

/// Version of the format that this build writes and reads.
const FORMAT: u32 = 2;
/// A cache that is larger than this was not written by anybody who meant well.
const LARGEST: u64 = 1 << 30;
/// So many caches are kept; of folders that nobody asks about any more none is needed.
const MOST: usize = 32;
/// What changed so short a time ago may change again without another time.
const RACY: Duration = Duration::from_secs(3);
/// So many things that have to be read are worth a cache.
pub const FEWEST: usize = 256;
/// So many make it worth writing however large it is.
const PLENTY: usize = 2048;

/// What tells a file from any other, and from what it was before it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Nobody can set this one back.
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file that was looked at.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of the file `name` in an open folder, which links may lead to, and whether it is a file at all.
    ///
    /// # Errors
    /// `NotFound` if there is none, and whatever keeps it from being looked at.
    pub fn at(folder: impl AsFd, name: impl Arg) -> io::Result<(Self, bool)> {
        let stat = statat(folder, name, AtFlags::empty())?;
        #[expect(clippy::cast_sign_loss, reason = "no file has a negative size")]
        let stamp = Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime, stat.st_ctime_nsec as i64),
        };
        Ok((stamp, FileType::from_raw_mode(stat.st_mode).is_file()))
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When its content was changed last.
    pub fn modified(&self) -> DateTime<Utc> {
        let nanos = u32::try_from(self.modified.1).unwrap_or(0);
        DateTime::from_timestamp(self.modified.0, nanos).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Whether another change would show by the time: it was changed some time before the moment of `settled`.
    pub fn is_settled(self, settled: i64) -> bool {
        self.modified.0 < settled && self.changed.0 < settled
    }
}

/// What was changed before this moment, in seconds of the epoch, shows any other change by its time.
pub fn settled() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.saturating_sub(RACY).as_secs()).unwrap_or(0)
}

/// Whether it is worth writing a cache of `all` entries because `fresh` of them had to be read.
pub fn is_worth_writing(fresh: usize, all: usize) -> bool {
    fresh >= FEWEST && (fresh >= PLENTY || fresh * 8 >= all)
}

/// The first line of a cache.
#[derive(PartialEq, Serialize, Deserialize)]
struct Head {
    format: u32,
    build: String,
    of: PathBuf,
}

/// What a cache holds.
#[derive(Debug)]
pub struct Kept {
    text: String,
    glossary: Range<usize>,
}

impl Kept {
    /// What its lines share; `None` if it is no such glossary.
    pub fn glossary<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.text.get(self.glossary.clone())?).ok()
    }

    /// Where its lines are, in the order in which they were written.
    pub fn lines(&self) -> impl Iterator<Item = Range<usize>> {
        let begin = self.glossary.end + 1;
        let bytes = self.text.as_bytes().get(begin..).unwrap_or_default();
        let mut next = 0;
        memchr::memchr_iter(b'\n', bytes).map(move |end| {
            let line = begin + next..begin + end;
            next = end + 1;
            line
        })
    }

    /// The words of a line.
    pub fn words(&self, line: Range<usize>) -> Words<'_> {
        Words::of(self.text.get(line).unwrap_or_default())
    }
}

/// The cache of one folder.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    name: String,
    of: PathBuf,
}

impl Cache {
    /// The cache of a folder for things of a kind, below a state folder; `None` if the folder has no one name.
    pub fn new(state: &Path, kind: &str, folder: &Path) -> Option<Self> {
        let of = folder.canonicalize().ok()?;
        let digest = Digest::of_bytes(of.as_os_str().as_encoded_bytes()).to_string();
        let name = format!("{kind}-{}", digest.get(..24)?);
        Some(Self { dir: state.join("cache"), name, of })
    }

    fn head(&self) -> Head {
        Head { format: FORMAT, build: env!("CARGO_PKG_VERSION").to_owned(), of: self.of.clone() }
    }

    /// What is kept; `None` if there is nothing that can be relied on.
    pub fn read(&self) -> Option<Kept> {
        // Whoever may write here could say of a damaged backup that it is intact.
        is_ours(&std::fs::symlink_metadata(&self.dir).ok()?).then_some(())?;
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).ok()?;
        let mut file =
            OpenOptions::new().read(true).custom_flags(flags).open(self.dir.join(&self.name)).ok()?;
        let metadata = file.metadata().ok().filter(|metadata| metadata.is_file() && is_ours(metadata))?;
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LARGEST)).ok()? + 1);
        Read::by_ref(&mut file).take(LARGEST).read_to_end(&mut bytes).ok()?;
        let (body, hash) = bytes.strip_suffix(b"\n")?.split_last_chunk::<16>()?;
        let told = u64::from_str_radix(std::str::from_utf8(hash).ok()?, 16).ok()?;
        (xxhash_rust::xxh3::xxh3_64(body) == told).then_some(())?;
        let head = memchr::memchr(b'\n', body)?;
        (serde_json::from_slice::<Head>(&body[..head]).ok()? == self.head()).then_some(())?;
        let glossary = head + 1..head + 1 + memchr::memchr(b'\n', &body[head + 1..])?;
        bytes.truncate(body.len());
        Some(Kept { text: String::from_utf8(bytes).ok()?, glossary })
    }

    /// Keeps lines instead of what is kept, and a glossary of what they share. It is left as it is while another process writes
    /// it, where it cannot be written, and where there is no state folder of this user's.
    pub fn write(&self, glossary: &impl Serialize, lines: &Lines) {
        let written = serde_json::to_vec(glossary).map_err(io::Error::from);
        if let Err(error) = written.and_then(|glossary| self.try_write(&glossary, lines)) {
            tracing::debug!(cache = %self.dir.join(&self.name).display(), %error, "not written");
        }
    }

    fn try_write(&self, glossary: &[u8], lines: &Lines) -> io::Result<()> {
        let refused = |_| io::Error::from(io::ErrorKind::PermissionDenied);
        let state = self.dir.parent().unwrap_or(&self.dir);
        if !is_ours(&std::fs::metadata(state)?) {
            return Err(refused(()));
        }
        if !self.dir.exists() {
            create_dir(&self.dir).map_err(|_| refused(()))?;
        }
        if !is_ours(&std::fs::symlink_metadata(&self.dir)?) {
            return Err(refused(()));
        }
        let staged = self.dir.join(format!(".{}{STAGED_SUFFIX}", self.name));
        let file = match std::fs::symlink_metadata(&staged) {
            Ok(there) if !there.is_file() => return Err(refused(())),
            _ => open_lock(&staged).map_err(|_| refused(()))?,
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Whoever held the lock before may have given the file its name since it was opened.
        if file.metadata()?.ino() != std::fs::symlink_metadata(&staged)?.ino() {
            return Ok(());
        }
        file.set_len(0)?;
        let written = self.fill(&file, glossary, lines);
        let named = written.and_then(|()| std::fs::rename(&staged, self.dir.join(&self.name)));
        if named.is_err() {
            let _ = std::fs::remove_file(&staged);
        }
        named?;
        self.forget_others()
    }

    fn fill(&self, file: &File, glossary: &[u8], lines: &Lines) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 18, file);
        let mut hash = Xxh3::new();
        let head = serde_json::to_vec(&self.head())?;
        for part in [head.as_slice(), b"\n", glossary, b"\n", lines.as_bytes()] {
            hash.update(part);
            out.write_all(part)?;
        }
        writeln!(out, "{:016x}", hash.digest())?;
        out.flush()
    }

    /// Removes the caches that were written longest ago, if there are too many.
    fn forget_others(&self) -> io::Result<()> {
        let mut all: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            all.push((entry.metadata()?.modified()?, entry.path()));
        }
        all.sort_unstable_by(|a, b| b.cmp(a));
        for (_, path) in all.iter().skip(MOST) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Whether only this user may have written something.
fn is_ours(metadata: &Metadata) -> bool {
    !metadata.is_symlink()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o022 == 0
}
