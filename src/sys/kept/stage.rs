//! Writing what is to be extracted aside, whole and on stable storage, before anything changes places.

use crate::base::cancel::Cancel;
use crate::base::failure::{Code, Failure};
use crate::sys::fs;
use crate::sys::kept::durable::Durable;
use crate::sys::kept::index::{FILES, Filling};
use crate::sys::kept::{
    About, Change, Changes, Comparison, Entry, Folder, How, Identity, Kept, Marks, State,
};
use crate::sys::kept::{discard, look};
use crate::sys::spill::Rows;
use crate::sys::stream::{Digest, Feed, Width, ordered};
use crate::sys::tree::KEPT;
use crate::sys::untar::{Created, Item, Name, Sink, What, Written, shown};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Items that one thread settles at a time, at most.
const TOGETHER: usize = 64;

/// Folders whose owners are remembered, at most.
const REMEMBERED: usize = 10_000;

/// A folder of no meaning that is being filled; dropped before it is whole, it removes itself.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    at: PathBuf,
    changes: Changes,
    marks: Marks,
    /// Whether files get the owner that the archive names.
    owner: bool,
    is_root: bool,
    is_whole: bool,
    durable: Durable,
    /// Owners of folders of the tree, or of the nearest ones above them.
    owners: Mutex<BTreeMap<PathBuf, (u32, u32)>>,
}

impl Staging {
    /// Makes the folder in the tree at `dir` for action `number` of `run`; the files that are not the same by `compared` will
    /// be written. With `owner` they get the owner that the archive names.
    pub fn begin(
        dir: &Path,
        run: &str,
        number: u64,
        compared: &Comparison,
        owner: bool,
    ) -> Result<Self, Failure> {
        let kept = dir.join(KEPT);
        fs::create_dir(&kept)?;
        // A run that was resumed counts its actions anew.
        let base = format!("{run}-{number}");
        let mut free = base.clone();
        for more in 2.. {
            if !is_taken(&kept, &free)? {
                break;
            }
            free = format!("{base}-{more}");
        }
        let at = kept.join(State::Staging.name(&free));
        for folder in [at.clone(), at.join(FILES)] {
            let made = DirBuilder::new().mode(0o700).create(&folder);
            made.map_err(|error| Failure::io("create the folder", &folder, &error))?;
        }
        let durable = match Durable::of(&at, usize::try_from(compared.changes.len()).unwrap_or(usize::MAX)) {
            Ok(durable) => durable,
            Err(failure) => {
                let _ = discard(&at);
                return Err(failure);
            }
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            at,
            changes: compared.changes.clone(),
            marks: compared.marks.clone(),
            owner,
            is_root: fs::is_root(),
            is_whole: false,
            durable,
            owners: Mutex::default(),
        })
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

    /// Gives what was written its links, permissions, times and owners, and writes the index: all is on stable storage. `items`
    /// is what the archive holds.
    ///
    /// # Errors
    /// Whatever could not be written; nothing of it is left then.
    pub fn complete(mut self, items: &Rows<Item>, about: About, cancel: &Cancel) -> Result<Kept, Failure> {
        let mut filling = Filling::new(&self.at, about);
        self.settle(items, cancel, &mut |settled| match settled {
            Settled::Folder(folder) => filling.folder(folder),
            Settled::Entry(entry) => filling.entry(entry),
        })?;
        let index = filling.end(&self.changes)?;
        self.durable.finish(&self.files())?;
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
            mode: if item.taken || before.is_none() {
                item.attributes.mode
            } else {
                self.mode_here(&item.name)?
            },
            before: if item.taken || before.is_none() { before } else { Some(self.mode_here(&item.name)?) },
            modified: Some(item.attributes.modified),
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

    /// The owner that what the archive has under that name gets, unless it stays that of the process.
    fn owner_of(
        &self,
        name: &Path,
        is_new: bool,
        told: Option<(u32, u32)>,
    ) -> Result<Option<(u32, u32)>, Failure> {
        if let Some(told) = told.filter(|_| self.owner) {
            return Ok(Some(told));
        }
        if !self.is_root {
            return Ok(None);
        }
        if !is_new {
            return self.owner_here(name).map(Some);
        }
        let folder = name.parent().unwrap_or(Path::new(""));
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = owners.get(folder) {
            return Ok(Some(*known));
        }
        let owner = self.owner_here(folder)?;
        if owners.len() >= REMEMBERED {
            owners.clear();
        }
        owners.insert(folder.to_path_buf(), owner);
        Ok(Some(owner))
    }

    /// Gives a file that has its content its owner, permissions and time.
    fn dress(&self, written: &Written<'_>, file: &File, path: &Path) -> Result<(), Failure> {
        let failed = |error: &std::io::Error| Failure::io("write", path, error);
        let Written { number, name, attributes: told } = *written;
        if let Some(owner) = self.owner_of(name, self.marks.is_new(number), told.owner)? {
            let found = file.metadata().map_err(|error| failed(&error))?;
            if owner != (found.uid(), found.gid()) {
                give(path, owner.0, owner.1)?;
            }
        }
        file.set_permissions(Permissions::from_mode(told.mode)).map_err(|error| failed(&error))?;
        let _ = rustix::fs::futimens(file, &times(told.modified));
        Ok(())
    }

    fn file(
        &self,
        item: &Item,
        change: &Change,
        (sha256, holes): (&Digest, bool),
        first: Option<&Path>,
    ) -> Result<Entry, Failure> {
        let path = self.files().join(&item.name);
        let failed = |error: &std::io::Error| Failure::io("write", &path, error);
        match (first, &self.durable) {
            (Some(first), _) => {
                self.place(&item.name)?;
                std::fs::hard_link(self.files().join(first), &path).map_err(|error| failed(&error))?;
            }
            (None, Durable::Each) => {
                let file = File::open(&path).map_err(|error| failed(&error))?;
                let Item { number, name, attributes, .. } = item;
                self.dress(&Written { number: *number, name, attributes }, &file, &path)?;
                file.sync_all().map_err(|error| failed(&error))?;
            }
            // It was given all when it was written.
            (None, Durable::Whole(_)) => {}
        }
        self.entry(item, change, &path, Some(*sha256), holes, None)
    }

    fn link(&self, item: &Item, change: &Change, to: &Path) -> Result<Entry, Failure> {
        let path = self.place(&item.name)?;
        symlink(to, &path).map_err(|error| taken_or(&path, &item.name, &error))?;
        if let Some((user, group)) = self.owner_of(&item.name, change.is_new(), item.attributes.owner)? {
            give(&path, user, group)?;
        }
        set_time(&path, item.attributes.modified);
        self.entry(item, change, &path, None, false, Some(Name(to.to_path_buf())))
    }

    fn entry(
        &self,
        item: &Item,
        change: &Change,
        path: &Path,
        sha256: Option<Digest>,
        holes: bool,
        to: Option<Name>,
    ) -> Result<Entry, Failure> {
        let identity = |path: &Path| Ok::<_, Failure>(look(path)?.map(|metadata| Identity::of(&metadata)));
        let replaced = if change.is_new() { None } else { identity(&self.dir.join(&item.name))? };
        let (name, mode) = (Name(item.name.clone()), item.attributes.mode);
        Ok(Entry { name, aside: identity(path)?, replaced, sha256, holes, mode, to })
    }

    /// Settles all items that are not the same, and the folders that they lie in, by several threads; they come by name.
    fn settle(
        &self,
        items: &Rows<Item>,
        cancel: &Cancel,
        settled: &mut dyn FnMut(Settled) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let threads = self.durable.threads();
        let changes = usize::try_from(self.changes.len()).unwrap_or(usize::MAX);
        let width = Width { threads: threads.min(changes), cancel };
        let together = changes.div_ceil(threads).clamp(1, TOGETHER);
        ordered(
            &width,
            |feed| {
                let mut jobs = Jobs { feed, together, some: Vec::new() };
                self.send(items, &mut jobs)?;
                jobs.feed.send(jobs.some)
            },
            || |some: Vec<Job>| some.iter().map(|job| self.one(job)).collect(),
            |some: Vec<Settled>| some.into_iter().try_for_each(&mut *settled),
        )
    }

    /// Finds what is to be settled.
    fn send(&self, items: &Rows<Item>, jobs: &mut Jobs<'_, '_>) -> Result<(), Failure> {
        let mut changes = self.changes.iter();
        let mut next = changes.next().transpose()?;
        // The folders above the item that came last, itself if it is one, but for those that need not be made.
        let mut above: Vec<PathBuf> = Vec::new();
        for item in items.iter() {
            let item = item?;
            let Some(change) = next.as_ref() else { break };
            while above.last().is_some_and(|folder| !item.name.starts_with(folder)) {
                above.pop();
            }
            let is_folder = item.what == What::Folder;
            if change.name.0 == item.name {
                let mut folders: Vec<&Path> = item.name.ancestors().skip(1).collect();
                folders.pop();
                for folder in folders.iter().rev() {
                    // Folders that the archive has no entry of are made as they are needed.
                    if !above.iter().any(|known| known == folder) && look(&self.dir.join(folder))?.is_none() {
                        jobs.send(Job::Between(folder.to_path_buf()))?;
                    }
                }
                above = folders.into_iter().rev().map(Path::to_path_buf).collect();
                above.extend(is_folder.then(|| item.name.clone()));
                let change = std::mem::replace(&mut next, changes.next().transpose()?);
                jobs.send(Job::Item(item, change))?;
            } else if is_folder {
                above.push(item.name.clone());
                // What a folder holds follows it in this order.
                if change.name.0.starts_with(&item.name) {
                    jobs.send(Job::Item(item, None))?;
                }
            }
        }
        match next {
            None => Ok(()),
            Some(change) => Err(Failure::new(
                Code::Internal,
                format!("`{}` is to be extracted, and not in the archive", shown(&change.name.0)),
            )),
        }
    }

    fn one(&self, job: &Job) -> Result<Settled, Failure> {
        let (item, change) = match job {
            Job::Between(name) => {
                let owner = if self.is_root { Some(self.owner_here(name)?) } else { None };
                let name = Name(name.clone());
                return Ok(Settled::Folder(Folder {
                    name,
                    mode: 0o755,
                    before: None,
                    modified: None,
                    owner,
                }));
            }
            Job::Item(item, None) => {
                return Ok(Settled::Folder(self.folder(item, None, Some(item.attributes.mode))?));
            }
            Job::Item(item, Some(change)) => (item, change),
        };
        Ok(match &item.what {
            What::Folder => {
                let before = match change.how {
                    How::New => None,
                    How::Mode(before) => Some(before),
                    _ => Some(item.attributes.mode),
                };
                let owner = match before {
                    None => self.owner_of(&item.name, change.is_new(), item.attributes.owner)?,
                    Some(_) => None,
                };
                Settled::Folder(self.folder(item, owner, before)?)
            }
            What::File { sha256, holes, first, .. } => {
                Settled::Entry(self.file(item, change, (sha256, *holes), first.as_deref())?)
            }
            What::Link { to } => Settled::Entry(self.link(item, change, to)?),
        })
    }
}

/// What is yet to be settled.
enum Job {
    /// An entry of the archive, and how it differs unless only something in it does.
    Item(Item, Option<Change>),
    /// A folder that the archive has no entry of.
    Between(PathBuf),
}

/// Sends jobs, several at a time.
struct Jobs<'a, 'c> {
    feed: &'a Feed<'c, Vec<Job>, Vec<Settled>>,
    together: usize,
    some: Vec<Job>,
}

impl Jobs<'_, '_> {
    fn send(&mut self, job: Job) -> Result<(), Failure> {
        self.some.push(job);
        if self.some.len() < self.together {
            return Ok(());
        }
        self.feed.send(std::mem::take(&mut self.some))
    }
}

enum Settled {
    Folder(Folder),
    Entry(Entry),
}

impl Sink for Staging {
    fn wants(&self, number: u64) -> bool {
        self.marks.is_changed(number)
    }

    fn create(&self, name: &Path) -> Result<Created, Failure> {
        let path = self.files().join(name);
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = match create() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.place(name)?;
                create()
            }
            file => file,
        };
        let file = file.map_err(|error| taken_or(&path, name, &error))?;
        Ok(Created { file, path })
    }

    fn end(&self, file: &Written<'_>, created: &Created) -> Result<(), Failure> {
        // One that is synced by itself gets all just before that, by as many threads as can wait for the disk.
        match &self.durable {
            Durable::Whole(_) => self.dress(file, &created.file, &created.path),
            Durable::Each => Ok(()),
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

/// Whether an extraction has that name, whatever it has come to.
fn is_taken(kept: &Path, base: &str) -> Result<bool, Failure> {
    for state in [State::Staging, State::Swapping, State::Swapped, State::Undoing, State::Undone] {
        if look(&kept.join(state.name(base)))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// On a file system that does not tell letters apart, two names may be one.
fn taken_or(path: &Path, name: &Path, error: &std::io::Error) -> Failure {
    if error.kind() != std::io::ErrorKind::AlreadyExists {
        return Failure::io("create", path, error);
    }
    Failure::new(Code::Io, format!("`{}` and another entry have one name on this file system", shown(name)))
        .hint("Nothing was written. Leave one of them out with `except`.")
}

fn give(path: &Path, user: u32, group: u32) -> Result<(), Failure> {
    let (user, group) = (Uid::from_raw_unchecked(user), Gid::from_raw_unchecked(group));
    rustix::fs::chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| Failure::io("set the owner of", path, &error.into()))
}

/// Sets the time of a folder or link. One that the file system cannot hold is no reason to fail.
fn set_time(path: &Path, modified: (i64, u32)) {
    let _ = rustix::fs::utimensat(CWD, path, &times(modified), AtFlags::SYMLINK_NOFOLLOW);
}

pub(super) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
