//! Writing what is to be extracted aside, whole and on stable storage, before anything changes places.

use crate::base::failure::{Code, Failure};
use crate::sys::fs;
use crate::sys::kept::{Change, Entry, FILES, Folder, How, Identity, Index, Kept, State, discard, look};
use crate::sys::stream::Digest;
use crate::sys::tree::KEPT;
use crate::sys::untar::{Item, Name, Sink, What, shown};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A folder of no meaning that is being filled; dropped before it is whole, it removes itself.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    at: PathBuf,
    wanted: BTreeSet<PathBuf>,
    is_whole: bool,
}

impl Staging {
    /// Makes the folder in the tree at `dir` for action `number` of `run`; the files named in `wanted` will be written.
    pub fn begin(dir: &Path, run: &str, number: u64, wanted: BTreeSet<PathBuf>) -> Result<Self, Failure> {
        let kept = dir.join(KEPT);
        fs::create_dir(&kept)?;
        let at = kept.join(State::Staging.name(&format!("{run}-{number}")));
        let staging = Self { dir: dir.to_path_buf(), at, wanted, is_whole: false };
        for folder in [staging.at.clone(), staging.files()] {
            let made = DirBuilder::new().mode(0o700).create(&folder);
            made.map_err(|error| Failure::io("create the folder", &folder, &error))?;
        }
        Ok(staging)
    }

    fn files(&self) -> PathBuf {
        self.at.join(FILES)
    }

    fn place(&self, name: &Path) -> Result<PathBuf, Failure> {
        let path = self.files().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir(parent)?;
        }
        Ok(path)
    }

    /// Gives what was written its links, permissions, times and owners, and writes the index: all is on stable storage.
    ///
    /// # Errors
    /// Whatever could not be written; nothing of it is left then.
    pub fn complete(mut self, items: &[Item], mut index: Index, owner: bool) -> Result<Kept, Failure> {
        let changed: BTreeMap<&Path, &Change> =
            index.changes.iter().map(|change| (change.name.0.as_path(), change)).collect();
        let root_user = rustix::process::geteuid().is_root();
        let mut folders = Vec::new();
        let mut entries = Vec::new();
        // Second names come last, when their files are there.
        let is_second = |item: &&Item| matches!(item.what, What::File { first: Some(_), .. });
        let (second, first): (Vec<&Item>, Vec<&Item>) = items.iter().partition(is_second);
        for item in first.into_iter().chain(second) {
            let Some(change) = changed.get(item.name.as_path()) else {
                // What a folder holds follows it in this order.
                let next = changed.range(item.name.as_path()..).next();
                if item.what == What::Folder && next.is_some_and(|(name, _)| name.starts_with(&item.name)) {
                    folders.push(self.folder(item, None, Some(item.mode))?);
                }
                continue;
            };
            let user = match item.owner.filter(|_| owner) {
                Some(told) => Some(told),
                None if root_user => Some(self.owner_here(&item.name)?),
                None => None,
            };
            match &item.what {
                What::Folder => {
                    let before = match change.how {
                        How::New => None,
                        How::Mode(before) => Some(before),
                        _ => Some(item.mode),
                    };
                    folders.push(self.folder(item, user.filter(|_| before.is_none()), before)?);
                }
                What::File { sha256, first, .. } => {
                    entries.push(self.file(item, sha256, first.as_deref(), user)?);
                }
                What::Link { to } => entries.push(self.link(item, to, user)?),
            }
        }
        // Folders that the archive has no entry of are made as they are needed.
        let mut known: BTreeSet<PathBuf> = folders.iter().map(|folder| folder.name.0.clone()).collect();
        for name in changed.keys() {
            for above in name.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                if known.insert(above.to_path_buf()) && look(&self.dir.join(above))?.is_none() {
                    let owner = if root_user { Some(self.owner_here(above)?) } else { None };
                    let name = Name(above.to_path_buf());
                    folders.push(Folder { name, mode: 0o755, before: None, modified: None, owner });
                }
            }
        }
        folders.sort_by(|a, b| a.name.cmp(&b.name));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        index.folders = folders;
        index.entries = entries;
        sync_below(&self.files())?;
        let kept = Kept { dir: self.dir.clone(), at: self.at.clone(), state: State::Staging, index };
        kept.write_index()?;
        fs::sync_dir(&self.at)?;
        self.is_whole = true;
        Ok(kept)
    }

    fn folder(&self, item: &Item, owner: Option<(u32, u32)>, before: Option<u32>) -> Result<Folder, Failure> {
        Ok(Folder {
            name: Name(item.name.clone()),
            // One that only holds what is wanted stays as it is.
            mode: if item.taken || before.is_none() { item.mode } else { self.mode_here(&item.name)? },
            before: if item.taken || before.is_none() { before } else { Some(self.mode_here(&item.name)?) },
            modified: Some(item.modified),
            owner,
        })
    }

    fn mode_here(&self, name: &Path) -> Result<u32, Failure> {
        Ok(look(&self.dir.join(name))?.map_or(0o755, |found| found.mode() & 0o777))
    }

    /// The owner of what stands under that name, or of the nearest folder above it: what is extracted by root stays
    /// readable for whom it is meant.
    fn owner_here(&self, name: &Path) -> Result<(u32, u32), Failure> {
        for path in name.ancestors() {
            if let Some(found) = look(&self.dir.join(path))? {
                return Ok((found.uid(), found.gid()));
            }
        }
        Ok((0, 0))
    }

    fn file(
        &self,
        item: &Item,
        sha256: &Digest,
        first: Option<&Path>,
        owner: Option<(u32, u32)>,
    ) -> Result<Entry, Failure> {
        let path = self.place(&item.name)?;
        let failed = |error: &std::io::Error| Failure::io("write", &path, error);
        match first {
            Some(first) => {
                std::fs::hard_link(self.files().join(first), &path).map_err(|error| failed(&error))?;
            }
            None => {
                let file = File::open(&path).map_err(|error| failed(&error))?;
                if let Some((user, group)) = owner {
                    give(&path, user, group)?;
                }
                file.set_permissions(Permissions::from_mode(item.mode)).map_err(|error| failed(&error))?;
                set_time(&path, item.modified);
                file.sync_all().map_err(|error| failed(&error))?;
            }
        }
        self.entry(item, &path, Some(sha256.to_string()), None)
    }

    fn link(&self, item: &Item, to: &Path, owner: Option<(u32, u32)>) -> Result<Entry, Failure> {
        let path = self.place(&item.name)?;
        symlink(to, &path).map_err(|error| taken_or(&path, &item.name, &error))?;
        if let Some((user, group)) = owner {
            give(&path, user, group)?;
        }
        set_time(&path, item.modified);
        self.entry(item, &path, None, Some(Name(to.to_path_buf())))
    }

    fn entry(
        &self,
        item: &Item,
        path: &Path,
        sha256: Option<String>,
        to: Option<Name>,
    ) -> Result<Entry, Failure> {
        let identity = |path: &Path| Ok::<_, Failure>(look(path)?.map(|metadata| Identity::of(&metadata)));
        let (aside, replaced) = (identity(path)?, identity(&self.dir.join(&item.name))?);
        Ok(Entry { name: Name(item.name.clone()), aside, replaced, sha256, mode: item.mode, to })
    }
}

impl Sink for Staging {
    fn wants(&self, name: &Path) -> bool {
        self.wanted.contains(name)
    }

    fn write(&mut self, name: &Path, content: &mut dyn Read) -> Result<(), Failure> {
        let path = self.place(name)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.map_err(|error| taken_or(&path, name, &error))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) => {
                    return Err(Failure::new(Code::NotIntact, format!("`{}` cannot be read", shown(name)))
                        .caused_by(error));
                }
            };
            file.write_all(&buffer[..n]).map_err(|error| Failure::io("write", &path, &error))?;
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = discard(&self.at);
        }
    }
}

/// On a file system that does not tell letters apart, two names may be one.
fn taken_or(path: &Path, name: &Path, error: &std::io::Error) -> Failure {
    if error.kind() != std::io::ErrorKind::AlreadyExists {
        return Failure::io("create", path, error);
    }
    Failure::new(Code::Io, format!("`{}` and another entry have one name on this file system", shown(name)))
        .hint("Nothing was written. Leave one of them out with `except`.")
}

pub(super) fn give(path: &Path, user: u32, group: u32) -> Result<(), Failure> {
    let (user, group) = (Uid::from_raw_unchecked(user), Gid::from_raw_unchecked(group));
    rustix::fs::chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| Failure::io("set the owner of", path, &error.into()))
}

/// Sets the time of a file, folder or link. One that the file system cannot hold is no reason to fail.
pub(super) fn set_time(path: &Path, (seconds, nanos): (i64, u32)) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
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
