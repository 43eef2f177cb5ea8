//! Reading the world. Every question goes through a view, so that a dry run sees what its predicted effects leave.

use crate::base::backup::Backup;
use crate::base::cancel::Cancel;
use crate::base::event::{Progress, What};
use crate::base::failure::Failure;
use crate::base::plan::{Later, Target};
use crate::sys::host::Host;
use crate::sys::store::{self, Catalog, Depth, Listed, Listing};
use chrono::{DateTime, Local};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What predicted effects say about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: look at the real one.
    AsIs,
    /// It will be there.
    Made,
    /// It will be gone.
    Gone,
    /// It may have changed.
    Unknown,
}

/// How reality is seen: as it is, or with predicted effects laid over it.
pub trait View: Send + Sync {
    /// What was predicted about a path.
    fn path(&self, path: &Path) -> Seen;
    /// Whether a predicted effect may have changed the target in a way nobody knows.
    fn is_touched(&self, target: &Target) -> bool;
    /// Whether the target will have changed in a way nobody knows; what is merely made or removed does not count.
    fn is_changed(&self, target: &Target) -> bool;
    /// Backups that will be in `dir`.
    fn backups(&self, dir: &Path) -> Vec<Backup>;
    /// Whether the backup at `path` will have been verified.
    fn is_verified(&self, path: &Path) -> bool;
}

/// Reality as it is.
pub struct Reality;

impl View for Reality {
    fn path(&self, _: &Path) -> Seen {
        Seen::AsIs
    }
    fn is_touched(&self, _: &Target) -> bool {
        false
    }
    fn is_changed(&self, _: &Target) -> bool {
        false
    }
    fn backups(&self, _: &Path) -> Vec<Backup> {
        Vec::new()
    }
    fn is_verified(&self, _: &Path) -> bool {
        false
    }
}

/// Space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Free for the user that asks.
    pub available: u64,
    /// In all.
    pub total: u64,
}

/// The handle through which actions and observations read the world.
#[derive(Clone)]
pub struct Facts {
    host: Arc<Host>,
    view: Arc<dyn View>,
}

impl Facts {
    /// Facts of a host, seen through `view`.
    pub fn new(host: Arc<Host>, view: Arc<dyn View>) -> Self {
        Self { host, view }
    }

    /// The host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The view.
    pub fn view(&self) -> &dyn View {
        &*self.view
    }

    /// Now.
    pub fn now(&self) -> DateTime<Local> {
        self.host.clock().now()
    }

    /// When the run began.
    pub fn began(&self) -> DateTime<Local> {
        self.host.began()
    }

    /// The cancel token.
    pub fn cancel(&self) -> &Cancel {
        self.host.cancel()
    }

    /// Waits for a future, or fails when the run is asked to end.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        self.host.wait(future)
    }

    /// Reports progress.
    pub fn progress(&self, progress: Progress) {
        self.host.emit(What::Progress(progress));
    }

    /// An absolute path; relative ones are taken from the project's root.
    pub fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.host.absolute(path);
        if let Some(sandbox) = self.host.sandbox() {
            sandbox.bring(&path);
        }
        path
    }

    /// Whether something is at `path`.
    pub fn exists(&self, path: &Path) -> Result<Later<bool>, Failure> {
        Ok(match self.view.path(path) {
            Seen::Made => Later::Now(true),
            Seen::Gone => Later::Now(false),
            Seen::Unknown => Later::AfterRun,
            Seen::AsIs => Later::Now(crate::sys::fs::exists(path)?),
        })
    }

    /// The backups of a folder, oldest first, with what a dry run predicts laid over them. Nothing is to be destroyed on
    /// their word alone: [`Facts::is_current`] asks the files.
    pub fn backups(&self, dir: &Path) -> Result<Later<Vec<Backup>>, Failure> {
        if self.view.is_changed(&Target::Path(dir.to_path_buf())) {
            return Ok(Later::AfterRun);
        }
        Ok(self.backups_in(&Listing::read(dir)?, Catalog::Cached(self.host.state())))
    }

    /// The backups of a folder that was listed.
    pub fn backups_in(&self, listing: &Listing, catalog: Catalog<'_>) -> Later<Vec<Backup>> {
        let dir = listing.dir();
        if self.view.is_changed(&Target::Path(dir.to_path_buf())) {
            return Later::AfterRun;
        }
        let mut all: Vec<Backup> = listing
            .backups(catalog, Depth::Manifests)
            .into_iter()
            .map(|listed| listed.backup)
            .filter(|backup| self.view.path(&backup.path) != Seen::Gone)
            .collect();
        for backup in &mut all {
            if self.view.is_verified(&backup.path) {
                backup.verified = Later::Now(Some(true));
            }
        }
        let predicted = self.view.backups(dir);
        all.extend(predicted.into_iter().filter(|backup| backup.path.parent() == Some(dir)));
        all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Later::Now(all)
    }

    /// The newest backups of a folder that was listed, as [`Listing::newest`] finds them, with what a dry run predicts laid over
    /// them.
    pub fn newest_in(
        &self,
        listing: &Listing,
        most: &[usize],
        class: impl Fn(&Backup) -> Option<usize> + Sync,
    ) -> Later<Vec<Backup>> {
        let dir = listing.dir();
        if self.view.is_changed(&Target::Path(dir.to_path_buf())) {
            return Later::AfterRun;
        }
        let seen = |listed: &mut Listed| {
            let backup = &mut listed.backup;
            if self.view.path(&backup.path) == Seen::Gone {
                return None;
            }
            if self.view.is_verified(&backup.path) {
                backup.verified = Later::Now(Some(true));
            }
            class(backup)
        };
        let found = listing.newest(Catalog::Cached(self.host.state()), most, seen);
        let mut all: Vec<Backup> = found.into_iter().map(|listed| listed.backup).collect();
        let predicted = self.view.backups(dir);
        let is_here = |backup: &Backup| backup.path.parent() == Some(dir) && class(backup).is_some();
        all.extend(predicted.into_iter().filter(is_here));
        all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Later::Now(all)
    }

    /// Whether a backup is as its files say at this moment; one that a dry run predicts is as it is predicted.
    pub fn is_current(&self, backup: &Backup) -> bool {
        if self.view.path(&backup.path) == Seen::Made {
            return true;
        }
        let Ok(Some(found)) = store::look(&backup.path) else { return false };
        let mut now = found.backup;
        if self.view.is_verified(&now.path) {
            now.verified = Later::Now(Some(true));
        }
        now == *backup
    }

    /// Space of the file system that holds `path`, or its nearest ancestor that exists.
    pub fn disk_space(&self, path: &Path) -> Result<DiskSpace, Failure> {
        crate::sys::fs::disk_space(&self.host.original(path))
    }

    /// Whether files could be made in `dir`, or in its nearest ancestor that exists.
    pub fn writable(&self, dir: &Path) -> Result<bool, Failure> {
        crate::sys::fs::writable(&self.host.original(dir))
    }
}
