//! A folder of backups: its names, listed once, and what the files of those names say.

use super::catalog::{Catalog, Catalogued};
use super::leftovers::{self, Leftover};
use super::{Known, SIDECARS, by_name, read_manifest, read_sha256, without_manifest};
use crate::base::backup::{Backup, HeadRest, ManifestHead};
use crate::base::failure::Failure;
use crate::base::plan::Later;
use crate::sys::cache::Stamp;
use crate::sys::{cache, names, spread};
use chrono::{DateTime, FixedOffset};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A backup as a listing shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// What it is.
    pub backup: Backup,
    /// What its manifest says beyond that; backups made by the guide's scripts have none.
    pub head: Option<HeadRest>,
    /// What is odd about it, for example a manifest that cannot be read.
    pub oddity: Option<String>,
    /// What is wrong with its `.sha256`, if that was looked at.
    pub sidecar_problem: Option<String>,
}

/// What of the backups is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The files and their manifests.
    Manifests,
    /// Their `.sha256` as well.
    Sidecars,
}

/// The names in a folder.
#[derive(Debug)]
pub struct Listing {
    dir: PathBuf,
    /// `None` if there is no such folder.
    folder: Option<OwnedFd>,
    /// Of what is in it and wanted, as far as they are UTF-8, in no order.
    names: Names,
}

/// Many names, one after the other: as many strings would take longer to make than the folder to be listed.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut begin = 0;
        self.ends.iter().map(move |end| &self.text[std::mem::replace(&mut begin, *end)..*end])
    }
}

impl Listing {
    /// Lists a folder; one that is not there is empty.
    ///
    /// # Errors
    /// `Io` if it cannot be listed.
    pub fn read(dir: &Path) -> Result<Self, Failure> {
        // Of these sidecars nobody asks whether they are there but by their own names.
        Self::read_where(dir, |name| !name.ends_with(".sha256") && !name.ends_with(".globals.sql"))
    }

    /// Lists of a folder only what is hidden.
    pub(super) fn read_hidden(dir: &Path) -> Result<Self, Failure> {
        Self::read_where(dir, |name| name.starts_with('.'))
    }

    fn read_where(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::io("list", dir, error);
        let folder = match names::open(dir) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { dir: dir.to_path_buf(), folder: None, names: Names::default() });
            }
            Err(error) => return Err(failed(&error)),
        };
        let mut names = Names::default();
        let take = |name: &str| {
            if is_wanted(name) {
                names.push(name);
            }
        };
        names::each(&folder, take).map_err(|error| failed(&error))?;
        Ok(Self { dir: dir.to_path_buf(), folder: Some(folder), names })
    }

    /// Where a name is, made at once: to join paths takes as long as to look at a file.
    fn at(&self, name: &str) -> PathBuf {
        let dir = self.dir.as_os_str();
        let mut path = OsString::with_capacity(dir.len() + 1 + name.len());
        path.push(dir);
        if !dir.is_empty() && !dir.as_encoded_bytes().ends_with(b"/") {
            path.push("/");
        }
        path.push(name);
        path.into()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The backups, oldest first. Files that are no backups are not reported, and one odd entry hides no other.
    pub fn backups(&self, catalog: Catalog<'_>, depth: Depth) -> Vec<Listed> {
        let mut looked = self.look_by(catalog, depth, cache::settled(), |_| ());
        let mut order: Vec<usize> = (0..looked.len()).filter(|at| looked[*at].found.is_some()).collect();
        let key =
            |at: &usize| looked[*at].found.as_ref().map(|found| (found.backup.created, &found.backup.name));
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let mut all = Vec::with_capacity(order.len());
        all.extend(order.into_iter().filter_map(|at| looked[at].found.take()).map(|found| *found));
        all
    }

    /// The newest backups of each class, at most so many of it, oldest first: `class` gives a backup one of the numbers below
    /// `most.len()`, or none. They are looked at as [`Self::backups`] looks at them, but only they are held.
    pub fn newest(
        &self,
        catalog: Catalog<'_>,
        most: &[usize],
        class: impl Fn(&mut Listed) -> Option<usize> + Sync,
    ) -> Vec<Listed> {
        let tops: Vec<Top> = most.iter().map(|most| Top::new(*most)).collect();
        let take = |looked: &mut Looked<'_>| {
            let Some(found) = &mut looked.found else { return };
            let top = class(found).and_then(|class| tops.get(class));
            if !top.is_some_and(|top| top.admits(&found.backup)) {
                looked.let_go();
            }
        };
        let looked = self.look_by(catalog, Depth::Manifests, cache::settled(), take);
        let mut classes: Vec<Vec<Listed>> = most.iter().map(|_| Vec::new()).collect();
        for mut found in looked.into_iter().filter_map(|looked| looked.found) {
            if let Some(class) = class(&mut found).and_then(|class| classes.get_mut(class)) {
                class.push(*found);
            }
        }
        let mut all = Vec::new();
        for (mut class, most) in classes.into_iter().zip(most) {
            class.sort_unstable_by(|a, b| order(&a.backup).cmp(&order(&b.backup)));
            all.extend(class.split_off(class.len().saturating_sub(*most)));
        }
        all.sort_unstable_by(|a, b| order(&a.backup).cmp(&order(&b.backup)));
        all
    }

    /// What became of each name that may be a backup's; what was changed before `settled` is fit to be kept.
    #[cfg(test)]
    pub(super) fn look(&self, catalog: Catalog<'_>, depth: Depth, settled: i64) -> Vec<Looked<'_>> {
        self.look_by(catalog, depth, settled, |_| ())
    }

    /// The same; `take` says what of it is held, for names that come later in the alphabet first.
    pub(super) fn look_by(
        &self,
        catalog: Catalog<'_>,
        depth: Depth,
        settled: i64,
        take: impl Fn(&mut Looked<'_>) + Sync,
    ) -> Vec<Looked<'_>> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let mut names: Vec<&str> =
            self.names.iter().filter(|name| !name.starts_with('.') && !is_sidecar(name)).collect();
        names.sort_unstable();
        let catalogued = Catalogued::of(catalog, &self.dir, names.len());
        let mut beside = catalogued.beside(&names);
        beside.reverse();
        let mut looked = spread::map(beside, |(name, kept)| {
            let looking = Looking { listing: self, folder, name, depth, read: 0 };
            let mut looked = looking.look(kept.map(|words| catalogued.told(words)).unwrap_or_default());
            take(&mut looked);
            looked
        });
        looked.reverse();
        catalogued.keep(&looked, settled);
        looked
    }

    /// Names of backups that are gone, though their manifests are there, sorted. One that is being published is not gone.
    ///
    /// # Errors
    /// `Io` if it cannot be told whether one is there.
    pub fn orphans(&self) -> Result<Vec<String>, Failure> {
        let in_work = self.names.iter().filter_map(|name| Some(leftovers::staged_name(name)?.0));
        // Backups that are called like sidecars are asked for below, one by one.
        let there: HashSet<&str> =
            self.names.iter().filter(|name| !is_sidecar(name)).chain(in_work).collect();
        let mut orphans = Vec::new();
        for file in self.names.iter().filter_map(|name| name.strip_suffix(".json")) {
            if there.contains(file) {
                continue;
            }
            let path = self.dir.join(file);
            let is_ours = matches!(read_manifest(&path), Ok(Some(manifest)) if manifest.file == file);
            if is_ours && !crate::sys::fs::exists(&path)? {
                orphans.push(file.to_owned());
            }
        }
        orphans.sort_unstable();
        Ok(orphans)
    }

    /// What killed runs left; `own` is the caller's run.
    ///
    /// # Errors
    /// `Io` if it cannot be told what is there.
    pub fn leftovers(&self, own: &str) -> Result<Vec<Leftover>, Failure> {
        leftovers::among(&self.dir, &self.names, own)
    }
}

fn is_sidecar(name: &str) -> bool {
    SIDECARS.iter().any(|suffix| name.ends_with(suffix))
}

/// By what backups are in order.
fn order(backup: &Backup) -> (DateTime<FixedOffset>, &str) {
    (backup.created, &backup.name)
}

type Key = (DateTime<FixedOffset>, String);

/// The newest of what was looked at so far, by several threads.
struct Top {
    most: usize,
    newest: Mutex<BinaryHeap<Reverse<Key>>>,
    /// What was made before this second is not among them.
    since: AtomicI64,
}

impl Top {
    fn new(most: usize) -> Self {
        Self { most, newest: Mutex::default(), since: AtomicI64::new(i64::MIN) }
    }

    /// Whether a backup may be among the newest.
    fn admits(&self, backup: &Backup) -> bool {
        if backup.created.timestamp() < self.since.load(Ordering::Relaxed) {
            return false;
        }
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.push(Reverse((backup.created, backup.name.clone())));
        if newest.len() <= self.most {
            return true;
        }
        let gone = newest.pop();
        let oldest = newest.peek().map_or(i64::MAX, |Reverse((created, _))| created.timestamp());
        self.since.store(oldest, Ordering::Relaxed);
        gone.is_none_or(|Reverse(gone)| gone != (backup.created, backup.name.clone()))
    }
}

/// What was read of the sidecars of a backup, and from which files.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub manifest: Option<(Stamp, ManifestHead)>,
    /// The digest is empty where it is the one that the manifest tells.
    pub sha256: Option<(Stamp, String)>,
}

/// What became of one name.
#[derive(Debug)]
pub(super) struct Looked<'a> {
    pub name: &'a str,
    /// Apart, since what became of a name is handed on several times.
    pub found: Option<Box<Listed>>,
    /// The files that were read, now or before; what the manifest says is in `found`.
    pub manifest: Option<Stamp>,
    pub sha256: Option<(Stamp, String)>,
    /// How many files had to be read.
    pub read: usize,
    /// Whether it was found as it is kept, and what was found is not held any more.
    pub is_let_go: bool,
}

impl Looked<'_> {
    /// Forgets what was found, unless it had to be read and may be fit to be kept.
    pub fn let_go(&mut self) {
        if self.read == 0 {
            self.found = None;
            self.is_let_go = true;
        }
    }
}

struct Looking<'a> {
    listing: &'a Listing,
    folder: &'a OwnedFd,
    name: &'a str,
    depth: Depth,
    read: usize,
}

impl<'a> Looking<'a> {
    fn path(&self) -> PathBuf {
        self.listing.at(self.name)
    }

    /// Looks at a file and what stands beside it. What is kept counts only for a file that is the one it was read from.
    fn look(mut self, kept: Kept) -> Looked<'a> {
        let nothing =
            Looked { name: self.name, found: None, manifest: None, sha256: None, read: 0, is_let_go: false };
        let stamp = match Stamp::at(self.folder, self.name) {
            Ok((stamp, true)) => stamp,
            Ok((_, false)) => return nothing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return nothing,
            Err(error) => {
                let path = self.path();
                let failure = Failure::io("look at", &path, &error);
                let found = unseen(&path, self.name.to_owned(), &failure).map(Box::new);
                return Looked { found, ..nothing };
            }
        };
        let (head, manifest) = self.manifest(kept.manifest);
        let known = Known { name: self.name.to_owned(), stamp, head };
        let mut sha256 = kept.sha256;
        let mut found = known.tell(self.path(), || self.sha256(&mut sha256, None, str::to_owned));
        if let Some(found) = found.as_mut().filter(|_| self.depth == Depth::Sidecars) {
            let told = found.head.as_ref().and(found.backup.sha256.as_now()).and_then(Option::as_deref);
            found.sidecar_problem = match self.sha256(&mut sha256, told, |_| ()) {
                Ok(Some(())) => None,
                Ok(None) => Some("its .sha256 is missing".to_owned()),
                Err(failure) => Some(failure.to_string()),
            };
        }
        let found = found.map(Box::new);
        Looked { name: self.name, found, manifest, sha256, read: self.read, is_let_go: false }
    }

    /// What the manifest says, and the file that says it, unless it cannot be understood.
    fn manifest(
        &mut self,
        kept: Option<(Stamp, ManifestHead)>,
    ) -> (Result<Option<ManifestHead>, Failure>, Option<Stamp>) {
        let stamp = match Stamp::at(self.folder, [self.name, ".json"].concat()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Ok(None), None),
            stamp => stamp.ok().map(|(stamp, _)| stamp),
        };
        match kept {
            Some((of, head)) if Some(of) == stamp => (Ok(Some(head)), stamp),
            _ => {
                self.read += 1;
                let head = read_manifest(&self.path()).map(|manifest| manifest.map(ManifestHead::from));
                let stamp = stamp.filter(|_| matches!(head, Ok(Some(_))));
                (head, stamp)
            }
        }
    }

    /// What `give` makes of the digest in the `.sha256`; `told` is the one in the manifest.
    fn sha256<T>(
        &mut self,
        kept: &mut Option<(Stamp, String)>,
        told: Option<&str>,
        give: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>, Failure> {
        let stamp = match Stamp::at(self.folder, [self.name, ".sha256"].concat()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *kept = None;
                return Ok(None);
            }
            stamp => stamp.ok().map(|(stamp, _)| stamp),
        };
        match kept {
            Some((of, digest)) if Some(*of) == stamp && (told.is_some() || !digest.is_empty()) => {
                let digest = if digest.is_empty() { told.unwrap_or_default() } else { digest };
                Ok(Some(give(digest)))
            }
            _ => {
                self.read += 1;
                let digest = read_sha256(&self.path());
                *kept = stamp.zip(digest.as_ref().ok().and_then(Option::as_ref)).map(|(stamp, digest)| {
                    let is_told = told == Some(digest.as_str());
                    (stamp, if is_told { String::new() } else { digest.clone() })
                });
                digest.map(|digest| digest.as_deref().map(give))
            }
        }
    }
}

/// A file that cannot even be looked at; `None` if neither its name nor a manifest says that it is a backup.
fn unseen(path: &Path, name: String, failure: &Failure) -> Option<Listed> {
    let (source, created, content) = by_name(&name).or_else(|| {
        let manifest = read_manifest(path).ok()??;
        Some((name.clone(), manifest.created, manifest.content))
    })?;
    let named = (source, created, content);
    let mut backup = without_manifest(path.to_path_buf(), name, 0, None, named);
    backup.verified = Later::Now(Some(false));
    Some(Listed { backup, head: None, oddity: Some(failure.to_string()), sidecar_problem: None })
}
