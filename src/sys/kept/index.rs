//! What one extraction does, as it stands beside the files.
//!
//! A few thousand rows stand in `index.json` itself, as version 1 had all of them. More stand in files of their own, one JSON
//! value in a line, so that nobody need hold them all: `entries.jsonl`, `folders.jsonl` and `changes.jsonl`, by name. The
//! index is written behind them and tells how many they are.

use crate::base::failure::Failure;
use crate::sys::fs;
use crate::sys::kept::changes::{Change, Changes};
use crate::sys::kept::rows::{Lines, Writing, inside, part, put, unreadable};
use crate::sys::kept::{Identity, Kept};
use crate::sys::stream::Digest;
use crate::sys::untar::Name;
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::Path;

/// A file or link that changes places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name in the tree.
    #[serde(deserialize_with = "inside")]
    pub name: Name,
    /// What stood aside when files began to be put forward; nothing if it was to be taken away only.
    pub aside: Option<Identity>,
    /// What stood aside when they began to be put back: what it had replaced, if anything.
    pub replaced: Option<Identity>,
    /// SHA-256 of what was extracted, if it is a file.
    pub sha256: Option<Digest>,
    /// Whether that is the digest of a file with holes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holes: bool,
    /// Its permissions, or where a link leads.
    pub mode: u32,
    /// Where it leads, if it is a link.
    pub to: Option<Name>,
}

/// A folder that is made, or gets other permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Its name in the tree.
    #[serde(deserialize_with = "inside")]
    pub name: Name,
    /// The permissions it gets.
    pub mode: u32,
    /// Those it had; `None` if it was made.
    pub before: Option<u32>,
    /// The time it gets, in seconds and nanoseconds since 1970.
    pub modified: Option<(i64, u32)>,
    /// The owner it gets.
    pub owner: Option<(u32, u32)>,
}

/// What one extraction does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Version of this format.
    pub version: u32,
    /// The run.
    #[serde(deserialize_with = "part")]
    pub run: String,
    /// When it began.
    pub created: DateTime<FixedOffset>,
    /// The archive.
    pub backup: Name,
    /// Its SHA-256.
    pub sha256: String,
    /// What of it was wanted, if not all, as JSON.
    pub selection: Option<String>,
    /// What was shown, unless it stands beside.
    #[serde(default)]
    pub(super) changes: Vec<Change>,
    /// Entries that were the same.
    pub same: u64,
    /// Files of the tree that the archive does not hold.
    pub others: u64,
    /// Files and links, unless they stand beside.
    #[serde(default)]
    pub(super) entries: Vec<Entry>,
    /// Folders, unless they stand beside.
    #[serde(default)]
    pub(super) folders: Vec<Folder>,
    /// How many stand beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) beside: Option<Beside>,
}

#[cfg(test)]
impl Index {
    /// Tells of so many rows in files of their own.
    pub(super) fn stand_beside(&mut self, changes: u64, entries: u64, folders: u64) {
        self.beside = Some(Beside { changes, new: 0, entries, folders });
    }
}

/// How many rows stand in files of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beside {
    changes: u64,
    new: u64,
    entries: u64,
    folders: u64,
}

/// The newest version of the index that this build knows: that of one whose rows stand beside.
const VERSION: u32 = 2;

/// That of one that holds all of them.
const WHOLE: u32 = 1;

/// So many rows stand in the index itself, at most.
const INSIDE: usize = 10_000;

pub(super) const INDEX: &str = "index.json";
pub(super) const FILES: &str = "files";
const ENTRIES: &str = "entries.jsonl";
const FOLDERS: &str = "folders.jsonl";
const CHANGES: &str = "changes.jsonl";

/// What an extraction is about.
#[derive(Clone, Debug)]
pub struct About {
    /// The run.
    pub run: String,
    /// When it began.
    pub created: DateTime<FixedOffset>,
    /// The archive.
    pub backup: Name,
    /// Its SHA-256.
    pub sha256: String,
    /// What of it was wanted, if not all, as JSON.
    pub selection: Option<String>,
    /// Entries that were the same.
    pub same: u64,
    /// Files of the tree that the archive does not hold.
    pub others: u64,
}

/// Rows of an index, as they are found, by name.
pub(super) struct Filling<'a> {
    at: &'a Path,
    index: Index,
    beside: Option<(Writing<Entry>, Writing<Folder>)>,
    counts: (u64, u64),
}

impl<'a> Filling<'a> {
    /// That of an index in the folder `at`.
    pub(super) fn new(at: &'a Path, about: About) -> Self {
        let About { run, created, backup, sha256, selection, same, others } = about;
        let (changes, entries, folders) = (Vec::new(), Vec::new(), Vec::new());
        let index = Index {
            version: WHOLE,
            run,
            created,
            backup,
            sha256,
            selection,
            changes,
            same,
            others,
            entries,
            folders,
            beside: None,
        };
        Self { at, index, beside: None, counts: (0, 0) }
    }

    pub(super) fn entry(&mut self, entry: Entry) -> Result<(), Failure> {
        self.counts.0 += 1;
        if let Some((entries, _)) = &mut self.beside {
            return entries.push(&entry);
        }
        self.index.entries.push(entry);
        self.part()
    }

    pub(super) fn folder(&mut self, folder: Folder) -> Result<(), Failure> {
        self.counts.1 += 1;
        if let Some((_, folders)) = &mut self.beside {
            return folders.push(&folder);
        }
        self.index.folders.push(folder);
        self.part()
    }

    /// Puts the rows beside, if they are too many.
    fn part(&mut self) -> Result<(), Failure> {
        let Index { entries, folders, .. } = &mut self.index;
        if entries.len() + folders.len() <= INSIDE {
            return Ok(());
        }
        let mut beside = (Writing::create(self.at.join(ENTRIES))?, Writing::create(self.at.join(FOLDERS))?);
        std::mem::take(entries).iter().try_for_each(|entry| beside.0.push(entry))?;
        std::mem::take(folders).iter().try_for_each(|folder| beside.1.push(folder))?;
        self.beside = Some(beside);
        Ok(())
    }

    /// The index, which is yet to be written; what stands beside is on stable storage.
    pub(super) fn end(self, changes: &Changes) -> Result<Index, Failure> {
        let mut index = self.index;
        let Some((entries, folders)) = self.beside else {
            index.changes = changes.iter().collect::<Result<_, _>>()?;
            return Ok(index);
        };
        entries.end()?;
        folders.end()?;
        let mut told = Writing::create(self.at.join(CHANGES))?;
        changes.iter().try_for_each(|change| told.push(&change?))?;
        told.end()?;
        let (entries, folders) = self.counts;
        index.version = VERSION;
        index.beside = Some(Beside { changes: changes.len(), new: changes.new_ones(), entries, folders });
        Ok(index)
    }
}

type Each<'a, T> = Box<dyn Iterator<Item = Result<T, Failure>> + Send + 'a>;

impl Kept {
    /// What was shown.
    pub fn changes(&self) -> Result<Changes, Failure> {
        match self.index.beside {
            None => Ok(self.index.changes.clone().into()),
            Some(Beside { changes, new, .. }) => {
                Changes::kept(Lines::open(&self.at.join(CHANGES), changes)?, changes, new)
            }
        }
    }

    /// How many files and links change places.
    pub fn files_count(&self) -> u64 {
        self.index.beside.map_or(self.index.entries.len() as u64, |beside| beside.entries)
    }

    /// How many folders are made, or get other permissions.
    pub(super) fn folders_count(&self) -> u64 {
        self.index.beside.map_or(self.index.folders.len() as u64, |beside| beside.folders)
    }

    /// Files and links, by name.
    pub(super) fn entries(&self) -> Result<Each<'_, Entry>, Failure> {
        Ok(match self.index.beside {
            None => Box::new(self.index.entries.iter().cloned().map(Ok)),
            Some(beside) => Box::new(Lines::open(&self.at.join(ENTRIES), beside.entries)?.iter()),
        })
    }

    /// Folders, by name.
    pub(super) fn folders(&self) -> Result<Each<'_, Folder>, Failure> {
        Ok(match self.index.beside {
            None => Box::new(self.index.folders.iter().cloned().map(Ok)),
            Some(beside) => Box::new(Lines::open(&self.at.join(FOLDERS), beside.folders)?.iter()),
        })
    }

    /// Changes every file and link, and writes them down again if that makes a difference.
    pub(super) fn update(
        &mut self,
        change: &mut dyn FnMut(&mut Entry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.index.beside.is_none() {
            let before = self.index.entries.clone();
            self.index.entries.iter_mut().try_for_each(change)?;
            return if self.index.entries == before { Ok(()) } else { self.write_index() };
        }
        let mut differs = false;
        for entry in self.entries()? {
            let entry = entry?;
            let mut changed = entry.clone();
            change(&mut changed)?;
            differs |= changed != entry;
            if differs {
                break;
            }
        }
        if !differs {
            return Ok(());
        }
        let mut failed = None;
        let written = self.replace(ENTRIES, |file| {
            let mut rows = self.entries().map_err(|failure| stopped(&mut failed, failure))?;
            rows.try_for_each(|entry| {
                let mut entry = entry.map_err(|failure| stopped(&mut failed, failure))?;
                change(&mut entry).map_err(|failure| stopped(&mut failed, failure))?;
                put(&mut *file, &entry)
            })
        });
        failed.map_or(written, Err)
    }

    pub(super) fn write_index(&self) -> Result<(), Failure> {
        self.replace(INDEX, |file| serde_json::to_writer(file, &self.index).map_err(io::Error::from))
    }

    /// Writes a file of the index anew. The tree is locked: what a killed run was still writing is nobody's any more.
    fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let path = self.at.join(name);
        fs::remove(&fs::staged_path(&path, &self.index.run)?)?;
        fs::replace_with(&path, &self.index.run, write)
    }
}

/// Keeps a failure that writing a file cannot hand on.
fn stopped(failed: &mut Option<Failure>, failure: Failure) -> io::Error {
    *failed = Some(failure);
    io::ErrorKind::Other.into()
}

pub(super) fn read_index(at: &Path) -> Result<Option<Index>, Failure> {
    let path = at.join(INDEX);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Failure::io("read", &path, &error)),
    };
    let index: Index = match serde_json::from_reader(io::BufReader::new(file)) {
        Ok(index) => index,
        Err(error) if error.is_io() => return Err(Failure::io("read", &path, &error.into())),
        Err(error) => return Err(unreadable(&path, error)),
    };
    if index.version > VERSION {
        let cause = format!("it has version {}, this Lifeboat knows {VERSION}", index.version);
        let hint = "Use a Lifeboat at least as new as the one that wrote it.";
        return Err(unreadable(&path, cause).hint(hint));
    }
    Ok(Some(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failure::Code;
    use crate::sys::kept::{How, Kind, State};
    use chrono::DateTime;

    fn about() -> About {
        About {
            run: "20261110-020000-abcdef".to_owned(),
            created: DateTime::parse_from_rfc3339("2026-11-10T02:00:00+01:00").unwrap(),
            backup: Name("/in/a.tar.gz".into()),
            sha256: "00".repeat(32),
            selection: None,
            same: 7,
            others: 3,
        }
    }

    fn entry_of(n: u64) -> Entry {
        let identity = |inode| Some(Identity { device: 1, inode });
        Entry {
            name: Name(format!("d/{n:06}").into()),
            aside: identity(n),
            replaced: identity(n + 1),
            sha256: Some(Digest([9; 32])),
            holes: false,
            mode: 0o644,
            to: None,
        }
    }

    fn change(n: u64) -> Change {
        let (kind, how) = (Kind::File, if n.is_multiple_of(2) { How::New } else { How::Content });
        Change { name: entry_of(n).name, kind, how, before: 1, after: n, stored: None, mode: 0o644 }
    }

    /// What is kept of so many files in a folder.
    fn kept(dir: &Path, files: u64) -> Kept {
        let at = dir.join(".lifeboat-kept/run-1");
        std::fs::create_dir_all(&at).unwrap();
        let mut filling = Filling::new(&at, about());
        let name = Name("d".into());
        filling.folder(Folder { name, mode: 0o755, before: None, modified: None, owner: None }).unwrap();
        (0..files).for_each(|n| filling.entry(entry_of(n)).unwrap());
        let index = filling.end(&(0..files).map(change).collect::<Vec<_>>().into()).unwrap();
        let kept = Kept { dir: dir.to_path_buf(), at, state: State::Swapped, index };
        kept.write_index().unwrap();
        kept
    }

    #[test]
    fn few_rows_stand_in_the_index_and_many_beside_it() {
        for (files, is_beside) in
            [(5, false), (INSIDE as u64 - 1, false), (INSIDE as u64, true), (25_000, true)]
        {
            let dir = tempfile::tempdir().unwrap();
            let written = kept(dir.path(), files);
            let kept = Kept::open(&written.at).unwrap();
            assert_eq!(kept, written);
            assert_eq!(kept.index.version, if is_beside { 2 } else { 1 });
            assert_eq!(kept.at.join(ENTRIES).exists(), is_beside);
            assert_eq!((kept.files_count(), kept.folders_count()), (files, 1));
            let entries: Vec<Entry> = kept.entries().unwrap().map(Result::unwrap).collect();
            assert!(entries == (0..files).map(entry_of).collect::<Vec<_>>());
            assert_eq!(kept.folders().unwrap().count(), 1);
            let changes = kept.changes().unwrap();
            assert_eq!((changes.len(), changes.new_ones()), (files, files.div_ceil(2)));
            let all: Vec<Change> = changes.iter().map(Result::unwrap).collect();
            assert!(all == (0..files).map(change).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_changes_is_written_down_again_and_nothing_else() {
        for files in [5, 12_000] {
            let dir = tempfile::tempdir().unwrap();
            let mut kept = kept(dir.path(), files);
            let at = kept.at.join(if files == 5 { INDEX } else { ENTRIES });
            let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&at).unwrap());
            let before = inode();
            kept.update(&mut |_| Ok(())).unwrap();
            assert_eq!(inode(), before);
            let mut last = |entry: &mut Entry| {
                if entry.name == entry_of(files - 1).name {
                    entry.aside = None;
                }
                Ok(())
            };
            kept.update(&mut last).unwrap();
            assert_ne!(inode(), before);
            let read: Vec<Entry> =
                Kept::open(&kept.at).unwrap().entries().unwrap().map(Result::unwrap).collect();
            assert_eq!(read.iter().filter(|entry| entry.aside.is_none()).count(), 1);
            assert_eq!(read.len() as u64, files);
            // What a killed run was writing is not in the way of the next.
            std::fs::write(fs::staged_path(&at, &kept.index.run).unwrap(), "half").unwrap();
            kept.update(&mut |entry| {
                entry.replaced = None;
                Ok(())
            })
            .unwrap();
            let entries = || Kept::open(&kept.at).unwrap().entries().unwrap().map(Result::unwrap).collect();
            let read: Vec<Entry> = entries();
            assert!(read.iter().all(|entry| entry.replaced.is_none()));
            // What fails leaves it as it was.
            let failed = kept.update(&mut |entry| {
                entry.mode += 1;
                if entry.name == entry_of(3).name {
                    return Err(Failure::new(Code::Io, "cannot look"));
                }
                Ok(())
            });
            assert_eq!(failed.unwrap_err().message, "cannot look");
            let again: Vec<Entry> =
                Kept::open(&kept.at).unwrap().entries().unwrap().map(Result::unwrap).collect();
            assert_eq!(again, read);
        }
    }

    #[test]
    fn what_an_older_version_wrote_is_read_and_a_newer_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let text = |version| {
            format!(
                r#"{{"version":{version},"run":"r","created":"2026-11-10T02:00:00+01:00","backup":"/in/a.tar.gz",
                "sha256":"00","selection":null,
                "changes":[{{"name":"f","kind":"file","how":{{"mode":420}},"before":1,"after":2,"mode":384}}],
                "same":7,"others":3,
                "entries":[{{"name":"f","aside":{{"device":1,"inode":2}},"replaced":null,"sha256":null,"mode":384,"to":"x"}}],
                "folders":[{{"name":[100,255],"mode":493,"before":null,"modified":[1,2],"owner":[0,0]}}]}}"#
            )
        };
        std::fs::write(dir.path().join(INDEX), text(1)).unwrap();
        let index = read_index(dir.path()).unwrap().unwrap();
        assert_eq!((index.version, index.same, index.others, index.beside), (1, 7, 3, None));
        assert_eq!((index.changes.len(), index.entries.len(), index.folders.len()), (1, 1, 1));
        std::fs::write(dir.path().join(INDEX), text(3)).unwrap();
        let failure = read_index(dir.path()).unwrap_err();
        assert_eq!(failure.code, Code::NotIntact);
        assert_eq!(failure.causes, ["it has version 3, this Lifeboat knows 2"]);
        assert_eq!(failure.hints, ["Use a Lifeboat at least as new as the one that wrote it."]);
    }
}
