//! Reading an archive that somebody else may have made: what it holds is checked before any of it is believed.
//!
//! *Problem*: a tar archive can name any path, lead through links it has just made, and claim any size. *Decision*: all of
//! it is read once without writing, each entry is held against those before it, and one that is out of order refuses the
//! whole archive. *Rejected*: leaving out the odd entries, since nobody would know what is missing.
//!
//! Refused are absolute names, `..`, links whose target is not in the tree, entries below a link or a file, names that come
//! twice, devices, pipes and sockets, and more than the limits. Of permissions only `rwxrwxrwx` is read.

mod content;
mod entries;
mod entry;
mod held;
mod packed;
mod reader;
#[cfg(test)]
mod tests;

pub use content::Created;
pub use entry::Attributes;

use crate::base::cancel::Cancel;
use crate::base::failure::{Code, Failure};
use crate::sys::content::Pieces;
use crate::sys::fs;
use crate::sys::spill::Rows;
use crate::sys::stream::{Control, Digest, Inspection, hash, inspect};
use crate::sys::tree::Selection;
use crate::sys::untar::reader::Reader;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

/// Content up to this size is never taken for a bomb because of its ratio.
const HARMLESS: u64 = 64 << 20;

/// A path whose bytes survive its codec: a text where it is UTF-8, else an array of bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub PathBuf);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => text.serialize(serializer),
            None => self.0.as_os_str().as_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Bytes(Vec<u8>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into(),
            Form::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }))
    }
}

/// A path in one line: what is not printable is escaped.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// How much an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of content, and of names and attributes that a header has no room for.
    pub size: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of content for each byte of the file, above 64 MiB of content.
    pub ratio: u64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Bytes that stand in the archive.
        stored: u64,
        /// Whether it has holes; its digest is then a [`HoleyDigest`](crate::sys::tree::HoleyDigest).
        holes: bool,
        /// SHA-256 of the content.
        sha256: Digest,
        /// The entry whose second name it is.
        first: Option<PathBuf>,
    },
    /// A symbolic link.
    Link {
        /// Where it leads, as it stands in the archive.
        to: PathBuf,
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name, relative and without `.` and `..`.
    pub name: PathBuf,
    /// Which of the archive's entries it is, counted from 1.
    pub number: u64,
    /// What it is.
    pub what: What,
    /// What else its headers say.
    pub attributes: Attributes,
    /// Whether it is wanted itself, and not only as the folder of something that is.
    pub taken: bool,
}

/// What an archive holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What is wanted of it, by name; none if that was not asked for.
    pub items: Rows<Item>,
    /// SHA-256 of the file that was read.
    pub sha256: Digest,
    /// Entries in all.
    pub entries: u64,
}

/// What happens to the content of files while it is read. Several threads ask at once. Entries are told by their number.
pub trait Sink: Sync {
    /// Whether the content of this file is to be written.
    fn wants(&self, number: u64) -> bool;
    /// Makes the file that the content goes into.
    fn create(&self, name: &Path) -> Result<Created, Failure>;
    /// Takes note that all of its content is there.
    fn end(&self, _file: &Written<'_>, _created: &Created) -> Result<(), Failure> {
        Ok(())
    }
}

/// A file whose content was written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Which of the archive's entries it is.
    pub number: u64,
    /// Its name.
    pub name: &'a Path,
    /// What its headers say.
    pub attributes: &'a Attributes,
}

/// Looks only.
pub struct Nowhere;

impl Sink for Nowhere {
    fn wants(&self, _: u64) -> bool {
        false
    }
    fn create(&self, name: &Path) -> Result<Created, Failure> {
        Err(Failure::new(Code::Internal, format!("`{}` is not to be written", shown(name))))
    }
}

/// Refuses what is plainly something else than a tar archive.
///
/// # Errors
/// `Usage` that says what it is, and those of reading it.
pub fn check_kind(path: &Path) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let head = fs::head(path, 8)?;
    let magics: [(&[u8], &str); 6] = [
        (b"PK\x03\x04", "a zip archive"),
        (b"BZh", "compressed by bzip2"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
        (b"7z\xbc\xaf", "a 7z archive"),
        (b"PGDMP", "a dump in PostgreSQL's own format"),
    ];
    let found = magics.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what);
    let sql = name.ends_with(".sql") || name.ends_with(".sql.gz");
    match found.or_else(|| sql.then_some("a dump of a database")) {
        None => Ok(()),
        Some(what) => Err(Failure::new(Code::Usage, format!("`{name}` cannot be extracted"))
            .caused_by(format!("it is {what}"))
            .hint("`extract` reads tar archives, as they are or compressed by gzip; `restore` reads dumps.")),
    }
}

/// Reads the archive at `path`, compressed or not, to its end.
///
/// # Errors
/// `Policy` for an entry that is refused, `NotIntact` for an archive that is damaged.
pub fn read(path: &Path, wanted: Wanted<'_>, control: Control<'_>) -> Result<Contents, Failure> {
    let (sha256, read) = read_while(path, wanted, control.cancel, |consume| stream(path, control, consume))?;
    // What is wrong with the file itself comes before what its reader makes of that.
    let sha256 = sha256?;
    let (items, entries) = read?;
    Ok(Contents { items, sha256, entries })
}

/// What of an archive is wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Which entries.
    pub selection: &'a Selection,
    /// How much it may hold.
    pub limits: Limits,
    /// What happens to the content.
    pub sink: &'a dyn Sink,
    /// Where a list of what it holds may be kept, should it be long. Without it there is none, entries are not held against
    /// each other, and their content is not hashed: for bytes of which all this is known.
    pub list: Option<&'a Path>,
}

/// The wanted entries by name, and how many entries there are in all.
pub type Entered = Result<(Rows<Item>, u64), Failure>;

/// Takes the content of an archive, piece by piece.
pub type Consume<'a> = dyn FnMut(&[u8]) -> Result<(), Failure> + 'a;

/// Reads the content of the archive at `path` while `source` goes through it, which a refused entry ends. Damage does not
/// end it, so that it can tell what is wrong with the file.
pub fn read_while<T>(
    path: &Path,
    wanted: Wanted<'_>,
    cancel: &Cancel,
    source: impl FnOnce(&mut Consume<'_>) -> Result<T, Failure>,
) -> Result<(Result<T, Failure>, Entered), Failure> {
    let archive = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Wanted { limits, sink, .. } = wanted;
    let most = limits.size.min(HARMLESS.max(fs::size(path)?.saturating_mul(limits.ratio)));
    let (pipe, pieces) = sync_channel::<Vec<u8>>(8);
    Ok(std::thread::scope(|scope| {
        let reader = Reader::new(&archive, wanted, most);
        let mut reader = Some(scope.spawn(move || reader.run(Pieces::of(pieces), sink, cancel)));
        let mut joined = || match reader.take().map(|reader| reader.join()) {
            Some(Ok(read)) => read,
            _ => Err(Failure::new(Code::Internal, "the reader of the archive panicked")),
        };
        let mut pipe = Some(pipe);
        let mut read = None;
        let sourced = source(&mut |bytes| {
            let is_open = pipe.as_ref().is_some_and(|pipe| pipe.send(bytes.to_vec()).is_ok());
            if !is_open && pipe.take().is_some() {
                let ended = joined();
                let refused = ended.as_ref().err().filter(|failure| failure.code != Code::NotIntact).cloned();
                read = Some(ended);
                refused.map_or(Ok(()), Err)?;
            }
            Ok(())
        });
        drop(pipe);
        let read = read.unwrap_or_else(joined);
        (sourced, read)
    }))
}

/// Reads the file to its end, inflated if it is compressed; returns its SHA-256.
fn stream(path: &Path, control: Control<'_>, consume: &mut Consume<'_>) -> Result<Digest, Failure> {
    if !fs::is_gzip(path)? {
        return hash(fs::open(path)?, path, control, consume).map(|(_, digest)| digest);
    }
    let inspection = Inspection { path: Some(path), expected: None, threads: None };
    let inspected = inspect(fs::open(path)?, &inspection, control, consume)?;
    match inspected.defects.first() {
        None => Ok(inspected.sha256),
        Some(defect) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Err(Failure::new(Code::NotIntact, format!("`{name}` is not intact"))
                .caused_by(format!("{name} {defect}")))
        }
    }
}

fn damaged(archive: &str, cause: impl std::fmt::Display) -> Failure {
    Failure::new(Code::NotIntact, format!("`{archive}` is not intact"))
        .caused_by(format!("the archive is damaged: {cause}"))
}

fn unsafe_archive(archive: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Policy, format!("`{archive}` is not safe to extract")).caused_by(why)
}
