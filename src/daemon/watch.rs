//! Waiting for a change of what a playbook depends on.
//!
//! *Problem*: a run must follow every change of content, and nothing else: no touch, no write of its own. *Decision*:
//! events say when to look, and the content says what changed since the last run began, so that all changes during a run
//! make one more run. *Rejected*: ending a run when something changes, which would kill a dump in the middle.

use crate::base::event::{Event, EventSink, What};
use crate::base::failure::Failure;
use crate::base::plan::{Target, Touch};
use crate::daemon::debounce;
use crate::daemon::watch_set::WatchSet;
use crate::sys::host::Host;
use crate::sys::snapshot::Snapshot;
use crate::sys::watcher::Watcher;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So often the named files are looked at without any event: some file systems tell nothing.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The system tells; files that are known are looked at now and then too.
    Told,
    /// All is looked at so often, for file systems that tell nothing, such as those of a network.
    Looked(Duration),
}

impl Notice {
    fn every(self) -> Duration {
        match self {
            Self::Told => LOOK_EVERY,
            Self::Looked(every) => every,
        }
    }
}

/// Knows what the run that was made last has seen.
pub struct Watching {
    host: Arc<Host>,
    watcher: Watcher,
    set: WatchSet,
    /// Those of the set when it was last looked at.
    folders: BTreeSet<PathBuf>,
    seen: Snapshot,
    notice: Notice,
    looked: Instant,
}

impl Watching {
    /// Begins to watch. `host` waits; its token ends the waiting.
    pub fn new(host: Arc<Host>, set: WatchSet, notice: Notice) -> Result<Self, Failure> {
        let watcher = match notice {
            Notice::Told => Watcher::new()?,
            Notice::Looked(_) => Watcher::blind(),
        };
        let looked = host.clock().instant();
        let (folders, seen) = (BTreeSet::new(), Snapshot::default());
        let mut watching = Self { host, watcher, set, folders, seen, notice, looked };
        watching.arm()?;
        watching.seen = watching.look();
        Ok(watching)
    }

    /// Changes what is watched. The content of what is new is what it is now.
    pub fn refresh(&mut self, set: WatchSet) -> Result<(), Failure> {
        let before = self.set.all();
        self.set = set;
        let armed = self.arm();
        let now = self.look();
        // A change of what was watched already is still to be found.
        self.seen.adopt(&now, |path| !before.contains(path));
        armed
    }

    /// Looks at all files now and then from now on, since the system cannot be asked to tell of changes. No change is lost.
    pub fn look_instead(&mut self) {
        self.notice = Notice::Looked(LOOK_EVERY);
        self.watcher = Watcher::blind();
        self.watcher.note();
    }

    /// What is watched.
    pub fn set(&self) -> &WatchSet {
        &self.set
    }

    /// How many of the files are there.
    pub fn files(&self) -> usize {
        self.seen.len()
    }

    /// Takes over what a run has written itself, which is no change.
    pub fn adopt(&mut self, written: &BTreeSet<PathBuf>) {
        if written.is_empty() {
            return;
        }
        let now = self.look();
        self.seen.adopt(&now, |path| written.iter().any(|own| is_of(path, own)));
    }

    /// Waits until content has changed since the last call; returns the files, sorted.
    ///
    /// # Errors
    /// `Interrupted` or `Terminated` when the end is asked for; what keeps folders from being watched.
    pub fn wait(&mut self) -> Result<Vec<PathBuf>, Failure> {
        loop {
            if let Some(changed) = self.poll()? {
                return Ok(changed);
            }
            self.watcher.wait(&self.host, self.rest())?;
        }
    }

    /// The files whose content has changed since the last call, sorted, if a series of changes is over; does not wait.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn poll(&mut self) -> Result<Option<Vec<PathBuf>>, Failure> {
        self.host.cancel().check()?;
        let now = self.host.clock().instant();
        match self.watcher.stir().map(debounce::over) {
            Some(over) if over <= now => self.changed(),
            Some(_) => Ok(None),
            None => {
                if now - self.looked >= self.notice.every() {
                    self.looked = now;
                    self.look_without_events()?;
                }
                Ok(None)
            }
        }
    }

    /// How long nothing is to be expected of [`Self::poll`], unless the system tells something.
    pub fn rest(&self) -> Duration {
        let now = self.host.clock().instant();
        match self.watcher.stir().map(debounce::over) {
            Some(over) => over.saturating_duration_since(now),
            None => (self.looked + self.notice.every()).saturating_duration_since(now),
        }
    }

    fn changed(&mut self) -> Result<Option<Vec<PathBuf>>, Failure> {
        // What comes while it is looked at is told again.
        self.watcher.settle();
        self.arm()?;
        let now = self.look();
        self.host.cancel().check()?;
        let changed = now.changed_since(&self.seen);
        self.seen = now;
        Ok((!changed.is_empty()).then_some(changed))
    }

    /// Notes a change that no event told.
    fn look_without_events(&mut self) -> Result<(), Failure> {
        if self.watcher.stir().is_some() {
            return Ok(());
        }
        let mut files = match self.notice {
            Notice::Told => self.set.named().clone(),
            Notice::Looked(_) => self.set.all(),
        };
        // What a link leads to may change where no folder is watched.
        files.extend(self.seen.files().cloned());
        let now = Snapshot::of(files, &self.seen, self.host.cancel());
        if !now.changed_since(&self.seen).is_empty() {
            self.watcher.note();
        }
        self.watcher.arm(&self.folders)
    }

    fn arm(&mut self) -> Result<(), Failure> {
        self.folders = self.set.folders();
        let (set, folders) = (self.set.clone(), self.folders.clone());
        self.watcher.admit(Box::new(move |path| set.admits(path, &folders)));
        self.watcher.arm(&self.folders)
    }

    fn look(&self) -> Snapshot {
        Snapshot::of(self.set.all(), &self.seen, self.host.cancel())
    }
}

/// Whether `path` is what was written, lies below it, or stands beside it as a sidecar.
fn is_of(path: &Path, written: &Path) -> bool {
    let sidecar = || {
        let rest = path.as_os_str().as_encoded_bytes().strip_prefix(written.as_os_str().as_encoded_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"."))
    };
    path.starts_with(written) || sidecar()
}

/// Keeps which files a run says that it writes.
#[derive(Default)]
pub struct Written(Mutex<BTreeSet<PathBuf>>);

impl Written {
    /// The files and folders so far.
    pub fn paths(&self) -> BTreeSet<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventSink for Written {
    fn event(&self, event: &Event) {
        let What::Planned { plan, .. } = &event.what else { return };
        let paths = plan.touches.iter().filter_map(|touch| match touch {
            Touch::BackupMade(backup) => Some(backup.path.clone()),
            Touch::BackupVerified(path)
            | Touch::PathMade(path)
            | Touch::PathGone(path)
            | Touch::Changed(Target::Path(path)) => Some(path.clone()),
            Touch::Changed(_) => None,
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_writes_is_told_from_what_it_does_not() {
        let own = Path::new("/p/b/x.sql.gz");
        for path in ["/p/b/x.sql.gz", "/p/b/x.sql.gz.json", "/p/b/x.sql.gz/below"] {
            assert!(is_of(Path::new(path), own), "{path}");
        }
        for path in ["/p/b/x.sql", "/p/b/x.sql.gz2", "/p/b"] {
            assert!(!is_of(Path::new(path), own), "{path}");
        }
    }
}
