//! Changing the world. Only a live session makes an [`Effects`]; what destroys demands an [`IntentToken`].

use crate::base::event::Alert;
use crate::base::failure::Failure;
use crate::sys::facts::Facts;
use crate::sys::fs::{self, Staged};
use crate::sys::kept::{self, Comparison, Kept, Staging, State};
use crate::sys::lock::FolderLocks;
use crate::sys::postgres::binaries;
use crate::sys::postgres::databases::{self, Doomed, NewDatabase};
use crate::sys::postgres::maintenance::{Maintenance, Standing};
use crate::sys::postgres::swap::{self, Swap, Swapped};
use crate::sys::scratch::{ScratchCluster, ScratchOptions, ScratchTarget};
use crate::sys::store;
use crate::sys::stream;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long taking back a database may keep a run from ending.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(30);

/// Writes intents durably; the journal implements it.
pub trait IntentLog: Send + Sync {
    /// Returns only when the intent is on stable storage.
    fn record(&self, number: u64, intent: &str) -> Result<(), Failure>;
}

/// Proof that an intent is durable. Nothing else makes one.
#[derive(Debug)]
pub struct IntentToken {
    _private: (),
}

/// The handle through which an action that is being executed changes the world.
pub struct Effects {
    facts: Facts,
    intents: Arc<dyn IntentLog>,
    number: u64,
    run: String,
    folders: Arc<FolderLocks>,
    /// How many actions may be carried out at the same time.
    crowd: usize,
}

impl Effects {
    /// Effects of action `number` of `run`. Only the live session calls this.
    pub fn new(
        facts: Facts,
        intents: Arc<dyn IntentLog>,
        number: u64,
        run: String,
        folders: Arc<FolderLocks>,
    ) -> Self {
        Self { facts, intents, number, run, folders, crowd: 1 }
    }

    /// The same, of an action beside which others are carried out: `crowd` of them at most, it included.
    #[must_use]
    pub fn among(mut self, crowd: usize) -> Self {
        self.crowd = crowd;
        self
    }

    /// How many threads may compress for the action; all cores if it is not said.
    pub fn threads(&self) -> Option<NonZeroUsize> {
        stream::share(self.crowd)
    }

    /// Facts, to look again just before destroying.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The run this belongs to.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Number of the action in its run.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Records durably what is going to be destroyed or replaced.
    pub fn intend(&self, intent: &str) -> Result<IntentToken, Failure> {
        self.facts.cancel().check()?;
        self.intents.record(self.number, intent)?;
        Ok(IntentToken { _private: () })
    }

    /// Makes a folder and those above it, 0700 where new.
    pub fn create_dir(&self, dir: &Path) -> Result<(), Failure> {
        fs::create_dir(dir)
    }

    /// Locks a folder until the run ends: one that was just made could not be locked before.
    pub fn lock_folder(&self, dir: &Path) -> Result<(), Failure> {
        self.folders.hold(dir)
    }

    /// Lets one action at a time of this run tidy up.
    pub fn tidying<T>(&self, tidy: impl FnOnce() -> T) -> T {
        self.folders.tidying(tidy)
    }

    /// Opens a staged file (0600) that becomes `path` when published; dropped unpublished, it removes itself.
    pub fn stage(&self, path: &Path) -> Result<Staged, Failure> {
        fs::stage(path, &self.run)
    }

    /// Publishes a staged file: fsync, rename without replacing, fsync of the folder.
    pub fn publish(&self, staged: &mut Staged) -> Result<(), Failure> {
        self.facts.cancel().check()?;
        staged.publish()
    }

    /// Sets the alert that is sent when the run ends.
    pub fn set_alert(&self, alert: Alert) {
        self.facts.host().set_alert(alert);
    }

    /// Replaces a file's content atomically.
    pub fn replace_file(&self, _intent: &IntentToken, path: &Path, content: &[u8]) -> Result<(), Failure> {
        fs::replace(path, content, &self.run)
    }

    /// Writes a new file (0600) to stable storage; one that is there is not replaced.
    pub fn write_new(&self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        self.facts.cancel().check()?;
        fs::write_new(path, content, &self.run)
    }

    /// Takes back a file that this very action has made, after a failure.
    pub fn withdraw(&self, path: &Path) {
        // A failure is being reported already; what stays behind is a leftover that the next run removes.
        let _ = fs::remove(path);
    }

    /// Starts a PostgreSQL server that ends with this run.
    pub fn start_scratch_cluster(&self) -> Result<ScratchTarget, Failure> {
        let host = self.facts.host();
        let programs = binaries::find_server(None, &|name| host.env().value(name).map(str::to_owned))?;
        let mut options = ScratchOptions::new(programs);
        options.cancel = self.facts.cancel().clone();
        let cluster = ScratchCluster::start(&options)?;
        let target = cluster.target("postgres");
        host.keep_scratch(cluster);
        Ok(target)
    }

    /// Makes an empty database from `template0` and marks it.
    ///
    /// # Errors
    /// `Query` with the server's words, `Version` if the server does not know the locale's provider.
    pub fn create_database(&self, maintenance: &Maintenance, new: &NewDatabase) -> Result<Standing, Failure> {
        self.facts.cancel().check()?;
        databases::create(maintenance, new)
    }

    /// Drops a database that Lifeboat has marked; one that is gone already is fine.
    ///
    /// # Errors
    /// `Failed` if it has no mark or is another one by now, `Query` if it is in use and may not be forced.
    pub fn drop_database(
        &self,
        _intent: &IntentToken,
        maintenance: &Maintenance,
        doomed: &Doomed,
    ) -> Result<(), Failure> {
        self.facts.cancel().check()?;
        databases::drop(maintenance, doomed)
    }

    /// Takes back a database that this very action has made, after a failure or when the run is asked to end.
    pub fn withdraw_database(&self, maintenance: &Maintenance, made: &Standing) {
        let doomed = Doomed { name: made.name.clone(), oid: made.oid, force: true };
        let session = maintenance.session();
        session.see_through(true);
        // A failure is being reported already; what stays behind is a leftover that the next restore removes.
        let _ = session.limit(Some(WITHDRAWN_WITHIN)).and_then(|()| databases::drop(maintenance, &doomed));
        session.see_through(false);
    }

    /// Gives a database the live name in one transaction, and keeps what had it.
    ///
    /// # Errors
    /// Nothing has changed then, unless the failure says otherwise; it names what held on.
    pub fn swap_databases(
        &self,
        _intent: &IntentToken,
        maintenance: &Maintenance,
        swap: &Swap,
    ) -> Result<Swapped, Failure> {
        self.facts.cancel().check()?;
        swap::swap(maintenance, swap)
    }

    /// Removes a file; one that is gone already is fine.
    pub fn remove_file(&self, _intent: &IntentToken, path: &Path) -> Result<(), Failure> {
        fs::remove(path)
    }

    /// Removes a backup with its sidecars. It first loses its final name at once, so that whatever interrupts the rest
    /// leaves nothing that looks like a backup; the next run cleans up.
    pub fn remove_backup(&self, _intent: &IntentToken, path: &Path) -> Result<(), Failure> {
        let Some(hidden) = fs::hide(path, &self.run)? else { return Ok(()) };
        for suffix in store::SIDECARS {
            fs::remove(&store::sidecar(path, suffix))?;
        }
        fs::remove(&hidden)
    }

    /// Removes what a killed run left behind; its staged file last.
    pub fn remove_leftover(&self, _intent: &IntentToken, leftover: &store::Leftover) -> Result<(), Failure> {
        for path in &leftover.sidecars {
            // Somebody may have put a backup there by now.
            if fs::exists(&leftover.target)? {
                break;
            }
            fs::remove(path)?;
        }
        fs::remove(&leftover.staged)
    }

    /// Opens a folder of no meaning in the tree at `dir`, where what is not the same by `compared` is extracted to; with `owner`,
    /// it gets the owner that the archive names. Dropped before it is whole, it removes itself.
    pub fn stage_tree(&self, dir: &Path, compared: &Comparison, owner: bool) -> Result<Staging, Failure> {
        Staging::begin(dir, &self.run, self.number, compared, owner)
    }

    /// Puts what was staged into its tree, or what was rolled back once more: all of it or nothing. What it replaces is
    /// kept.
    pub fn put_forward(&self, _intent: &IntentToken, kept: &mut Kept) -> Result<(), Failure> {
        kept::forward(kept)
    }

    /// Puts into the tree again what had been replaced in it; what had been extracted is kept. Where a killed run left
    /// files on both sides, it brings them all to that one.
    pub fn put_back(&self, _intent: &IntentToken, kept: &mut Kept) -> Result<(), Failure> {
        match kept.state {
            State::Swapping => kept::revert(kept),
            State::Undoing => kept::finish(kept),
            _ => kept::back(kept),
        }
    }

    /// Goes on where a killed run stopped putting files forward.
    pub fn finish_exchange(&self, _intent: &IntentToken, kept: &mut Kept) -> Result<(), Failure> {
        kept::finish(kept)
    }

    /// Removes what is kept of an extraction for good.
    pub fn remove_kept(&self, _intent: &IntentToken, kept: Kept) -> Result<(), Failure> {
        kept.remove()
    }

    /// Takes back what this very action has staged, after a failure, unless it keeps what stands nowhere else by now.
    pub fn withdraw_tree(&self, kept: Kept) {
        kept.withdraw();
    }

    /// Removes a folder that a killed run was still staging files in.
    pub fn remove_staging(&self, _intent: &IntentToken, path: &Path) -> Result<(), Failure> {
        kept::discard(path)
    }
}
