//! Reading an archive that somebody else may have made: what it holds is checked before any of it is believed.
//!
//! *Problem*: a tar archive can name any path, lead through links it has just made, and claim any size. *Decision*: all of
//! it is read once without writing, each entry is held against those before it, and one that is out of order refuses the
//! whole archive. *Rejected*: leaving out the odd entries, since nobody would know what is missing.
//!
//! Refused are absolute names, `..`, links whose target is not in the tree, entries below a link or a file, names that come
//! twice, devices, pipes and sockets, and more than the limits. Of permissions only `rwxrwxrwx` is read.

mod entry;

use crate::base::failure::{Code, Failure};
use crate::sys::content::Pieces;
use crate::sys::fs;
use crate::sys::stream::{Control, Digest, Inspection, hash, inspect};
use crate::sys::tree::{KEPT, Selection};
use crate::sys::untar::entry::{Attributes, Hashed, Metered, TooLong, stays_inside, unfit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::sync_channel;

/// Bytes of headers that one entry may have: long names, attributes.
const HEADERS: u64 = 1 << 20;

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
    /// Bytes of content.
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
    /// What it is.
    pub what: What,
    /// Its permissions, without setuid, setgid and sticky bits.
    pub mode: u32,
    /// Seconds and nanoseconds of its modification since 1970.
    pub modified: (i64, u32),
    /// Numbers of its user and group, if it tells them.
    pub owner: Option<(u32, u32)>,
    /// Whether it is wanted itself, and not only as the folder of something that is.
    pub taken: bool,
}

/// What an archive holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What is wanted of it, by name.
    pub items: Vec<Item>,
    /// SHA-256 of the file that was read.
    pub sha256: Digest,
    /// Entries in all.
    pub entries: u64,
}

/// What happens to the content of files while it is read.
pub trait Sink: Send {
    /// Whether the content of this file is to be written.
    fn wants(&self, name: &Path) -> bool;
    /// Writes it. What `content` fails with is the archive's fault.
    fn write(&mut self, name: &Path, content: &mut dyn Read) -> Result<(), Failure>;
}

/// Looks only.
pub struct Nowhere;

impl Sink for Nowhere {
    fn wants(&self, _: &Path) -> bool {
        false
    }
    fn write(&mut self, _: &Path, _: &mut dyn Read) -> Result<(), Failure> {
        Ok(())
    }
}

/// Reads the archive at `path`, compressed or not, to its end.
///
/// # Errors
/// `Policy` for an entry that is refused, `NotIntact` for an archive that is damaged.
pub fn read(
    path: &Path,
    selection: &Selection,
    limits: Limits,
    control: Control<'_>,
    sink: &mut dyn Sink,
) -> Result<Contents, Failure> {
    let archive = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let most = limits.size.min(HARMLESS.max(fs::size(path)?.saturating_mul(limits.ratio)));
    let (pipe, pieces) = sync_channel::<Vec<u8>>(8);
    let (read, streamed) = std::thread::scope(|scope| {
        let archive = archive.as_str();
        let reader = scope.spawn(move || {
            let reader = Reader {
                archive,
                selection,
                limits,
                most,
                content: 0,
                seen: BTreeMap::new(),
                items: BTreeMap::new(),
            };
            reader.run(Pieces::of(pieces), sink)
        });
        let mut hung_up = false;
        let streamed = stream(path, control, &mut |bytes| {
            pipe.send(bytes.to_vec()).map_err(|_| {
                hung_up = true;
                Failure::new(Code::NotIntact, format!("`{archive}` is not read any further"))
            })
        });
        drop(pipe);
        (reader.join(), if hung_up { None } else { Some(streamed) })
    });
    let read = read.map_err(|_| Failure::new(Code::Internal, "the reader of the archive panicked"))?;
    // What is wrong with the file itself comes before what its reader makes of that.
    let sha256 = match streamed {
        Some(streamed) => streamed?,
        None => return Err(read.err().unwrap_or_else(|| damaged(&archive, "it goes on behind its end"))),
    };
    let (items, entries) = read?;
    Ok(Contents { items, sha256, entries })
}

/// Reads the file to its end, inflated if it is compressed; returns its SHA-256.
fn stream(
    path: &Path,
    control: Control<'_>,
    consume: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Digest, Failure> {
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

/// What was seen under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Folder,
    File,
    Link,
}

struct Reader<'a> {
    archive: &'a str,
    selection: &'a Selection,
    limits: Limits,
    /// Bytes of content that are the most.
    most: u64,
    content: u64,
    seen: BTreeMap<PathBuf, Seen>,
    items: BTreeMap<PathBuf, Item>,
}

impl Reader<'_> {
    fn run(mut self, pieces: Pieces, sink: &mut dyn Sink) -> Result<(Vec<Item>, u64), Failure> {
        let headers = Rc::new(Cell::new(HEADERS));
        let mut archive = tar::Archive::new(Metered { inner: pieces, headers: headers.clone() });
        let broken = |error: io::Error| match error.into_inner().map(|inner| inner.downcast::<TooLong>()) {
            Some(Ok(_)) => unsafe_archive(self.archive, "an entry's header is longer than 1 MiB"),
            Some(Err(other)) => damaged(self.archive, other),
            None => damaged(self.archive, "it cannot be read"),
        };
        let mut entries = 0;
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            headers.set(u64::MAX);
            entries += 1;
            if entries > self.limits.entries {
                return Err(unsafe_archive(
                    self.archive,
                    format!("it holds more than {} entries", self.limits.entries),
                )
                .hint("Nothing was written. If it is meant to, raise the limit: `max_entries`."));
            }
            if !entry.header().entry_type().is_pax_global_extensions() {
                self.take(&mut entry, sink)?;
            }
            headers.set(HEADERS);
        }
        headers.set(u64::MAX);
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| damaged(self.archive, error))?;
        self.only_what_is_needed();
        Ok((self.items.into_values().collect(), entries))
    }

    /// An entry that no honest archive holds.
    fn refuse(&self, name: &Path, why: impl std::fmt::Display) -> Failure {
        unsafe_archive(self.archive, format!("`{}` {why}", shown(name))).hint(
            "Nothing was written. Backups do not hold such an entry: find out where this archive comes from.",
        )
    }

    /// An entry that may be left out.
    fn spared(&self, name: &Path, why: impl std::fmt::Display) -> Failure {
        unsafe_archive(self.archive, format!("`{}` {why}", shown(name))).hint(format!(
            "Nothing was written. To extract the rest, leave the entry out: `except: [\"{}\"]`.",
            shown(name)
        ))
    }

    fn take(
        &mut self,
        entry: &mut tar::Entry<'_, Metered<Pieces>>,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let raw = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let Some(name) = self.name(&raw)? else { return Ok(()) };
        let kind = entry.header().entry_type();
        let is_file = kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse();
        let is_folder = kind.is_dir() || (is_file && raw.as_os_str().as_bytes().ends_with(b"/"));
        let taken = self.selection.takes(&name) && !self.selection.leaves_out(&name);
        let seen = match kind {
            _ if is_folder => Seen::Folder,
            _ if is_file || kind.is_hard_link() => Seen::File,
            _ if kind.is_symlink() => Seen::Link,
            _ if taken => return Err(self.spared(&name, unfit(kind))),
            // What is left out is not written, and nothing may lie below it.
            _ => return self.place(&name, Seen::File),
        };
        self.place(&name, seen)?;
        if name.starts_with(KEPT) && taken {
            return Err(self.spared(&name, "is what Lifeboat keeps of an earlier extraction"));
        }
        let attributes = Attributes::of(entry).map_err(|why| self.spared(&name, why))?;
        let linked =
            || entry.link_name_bytes().map(|bytes| PathBuf::from(OsString::from_vec(bytes.into_owned())));
        let what = match seen {
            Seen::Folder => What::Folder,
            Seen::Link => {
                let to = linked().unwrap_or_default();
                if taken {
                    stays_inside(&name, &to).map_err(|why| self.spared(&name, why))?;
                }
                What::Link { to }
            }
            Seen::File if kind.is_hard_link() => {
                self.second_name(&name, &linked().unwrap_or_default(), taken)?
            }
            Seen::File => self.content(entry, &name, taken, sink)?,
        };
        let Attributes { mode, modified, owner } = attributes;
        let item = Item { name: name.clone(), what, mode, modified, owner, taken };
        self.items.insert(name, item);
        Ok(())
    }

    /// The name without `.`; `None` for the root itself.
    fn name(&self, raw: &Path) -> Result<Option<PathBuf>, Failure> {
        if raw.as_os_str().as_bytes().contains(&0) {
            return Err(self.refuse(raw, "has a NUL in its name"));
        }
        let mut name = PathBuf::new();
        for part in raw.components() {
            match part {
                Component::Normal(part) => name.push(part),
                Component::CurDir => {}
                Component::ParentDir => return Err(self.refuse(raw, "leads out of the folder")),
                _ => return Err(self.refuse(raw, "has an absolute name")),
            }
        }
        if raw.as_os_str().is_empty() {
            return Err(unsafe_archive(self.archive, "an entry has no name"));
        }
        Ok((!name.as_os_str().is_empty()).then_some(name))
    }

    /// Holds a name against those before it.
    fn place(&mut self, name: &Path, seen: Seen) -> Result<(), Failure> {
        for above in name.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            match self.seen.get(above) {
                Some(Seen::Link) => {
                    return Err(self.refuse(name, format!("lies behind the link `{}`", shown(above))));
                }
                Some(Seen::File) => {
                    return Err(self.refuse(name, format!("lies below the file `{}`", shown(above))));
                }
                Some(Seen::Folder) => break,
                None => {
                    self.seen.insert(above.to_path_buf(), Seen::Folder);
                }
            }
        }
        match self.seen.insert(name.to_path_buf(), seen) {
            None => Ok(()),
            // The later one tells its permissions.
            Some(Seen::Folder) if seen == Seen::Folder => Ok(()),
            Some(_) => Err(self.refuse(name, "comes twice")),
        }
    }

    fn second_name(&self, name: &Path, to: &Path, taken: bool) -> Result<What, Failure> {
        let first: PathBuf = to.components().filter(|part| !matches!(part, Component::CurDir)).collect();
        let found = self.items.get(&first);
        let Some(Item { what: What::File { size, sha256, first: earlier }, taken: with, .. }) = found else {
            let why = format!("is a second name of `{}`, which is no file of the archive", shown(to));
            return Err(self.spared(name, why));
        };
        if taken && !with {
            let why = format!("is a second name of `{}`, which is left out", shown(&first));
            return Err(self.spared(name, why));
        }
        let first = earlier.clone().unwrap_or(first);
        Ok(What::File { size: *size, sha256: *sha256, first: Some(first) })
    }

    fn content(
        &mut self,
        entry: &mut tar::Entry<'_, Metered<Pieces>>,
        name: &Path,
        taken: bool,
        sink: &mut dyn Sink,
    ) -> Result<What, Failure> {
        let size = entry.size();
        self.content = self.content.saturating_add(size);
        if self.content > self.most {
            let unit = |bytes| crate::base::units::bytes(bytes);
            let (why, hint) = if self.most == self.limits.size {
                (format!("it holds more than {}", unit(self.most)), "`max_size`")
            } else {
                let times = format!("more than {} times", self.limits.ratio);
                (format!("it holds {times} its own size, {} and more", unit(self.most)), "`max_ratio`")
            };
            return Err(unsafe_archive(self.archive, why)
                .hint(format!("Nothing was written. If it is meant to, raise the limit: {hint}.")));
        }
        let mut content = Hashed { inner: entry, hasher: Sha256::new(), read: 0 };
        if taken && sink.wants(name) {
            sink.write(name, &mut content)?;
        }
        io::copy(&mut content, &mut io::sink()).map_err(|error| damaged(self.archive, error))?;
        if content.read != size {
            return Err(damaged(self.archive, format!("`{}` is cut off", shown(name))));
        }
        Ok(What::File { size, sha256: Digest(content.hasher.finalize().into()), first: None })
    }

    /// Drops what is neither wanted nor the folder of something that is.
    fn only_what_is_needed(&mut self) {
        let above: BTreeSet<PathBuf> = self
            .items
            .values()
            .filter(|item| item.taken)
            .flat_map(|item| item.name.ancestors().skip(1).map(Path::to_path_buf))
            .collect();
        self.items.retain(|name, item| item.taken || (item.what == What::Folder && above.contains(name)));
    }
}

fn unsafe_archive(archive: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Policy, format!("`{archive}` is not safe to extract")).caused_by(why)
}
