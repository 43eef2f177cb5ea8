//! Folders under watch: that something in them may have changed, as the system tells.
//!
//! *Problem*: editors replace files, so a watch on a file follows the old one; folders are replaced too, and a system may
//! lose events. *Decision*: folders are watched, not files, each by its identity; what is told is only that it is time to
//! look again. *Rejected*: trusting what an event says about a file.

use crate::base::failure::{Code, Failure};
use crate::sys::fs::nearest_existing;
use crate::sys::host::Host;
use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

/// Says which paths count.
pub type Filter = Box<dyn Fn(&Path) -> bool + Send + Sync>;

/// When the events came that nobody has looked after yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stir {
    /// The first one.
    pub first: Instant,
    /// The last one.
    pub last: Instant,
}

struct Shared {
    stir: Mutex<Option<Stir>>,
    filter: RwLock<Filter>,
    news: tokio::sync::Notify,
}

impl Shared {
    fn new() -> Self {
        Self {
            stir: Mutex::new(None),
            filter: RwLock::new(Box::new(|_| false)),
            news: tokio::sync::Notify::new(),
        }
    }

    fn stir(&self) {
        let now = Instant::now();
        let mut stir = self.stir.lock().unwrap_or_else(PoisonError::into_inner);
        let first = stir.map_or(now, |stir| stir.first);
        *stir = Some(Stir { first, last: now });
        self.news.notify_one();
    }

    fn counts(&self, path: &Path) -> bool {
        self.filter.read().unwrap_or_else(PoisonError::into_inner)(path)
    }

    fn event(&self, event: notify::Result<notify::Event>) {
        match event {
            // Opening and reading changes nothing, and is what looking does.
            Ok(event) if is_reading(&event.kind) => {}
            Ok(event) if event.need_rescan() => self.stir(),
            Ok(event) => {
                if event.paths.iter().any(|path| self.counts(path)) {
                    self.stir();
                }
            }
            // Something may have been missed.
            Err(_) => self.stir(),
        }
    }
}

fn is_reading(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

/// Device, inode and time of birth: a folder that was removed and made again often gets the inode of the old one.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(dir: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(dir).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

/// Watches folders.
pub struct Watcher {
    /// None when the system is not to be asked: then somebody else notes what changed.
    inner: Option<RecommendedWatcher>,
    shared: Arc<Shared>,
    armed: BTreeMap<PathBuf, Identity>,
}

impl Watcher {
    /// A watcher of nothing.
    pub fn new() -> Result<Self, Failure> {
        let shared = Arc::new(Shared::new());
        let told = shared.clone();
        let inner = notify::recommended_watcher(move |event| told.event(event))
            .map_err(|error| refused("cannot watch files".to_owned(), &error))?;
        Ok(Self { inner: Some(inner), shared, armed: BTreeMap::new() })
    }

    /// A watcher that asks nothing of the system, for file systems that tell nothing, such as those of a network: it tells
    /// only what is [noted](Self::note).
    pub fn blind() -> Self {
        Self { inner: None, shared: Arc::new(Shared::new()), armed: BTreeMap::new() }
    }

    /// Sets which paths count from now on.
    pub fn admit(&self, filter: Filter) {
        *self.shared.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
    }

    /// Watches just these folders, not what is below them; instead of one that is not there, the nearest one above it.
    /// One that was replaced since the last call is watched anew.
    pub fn arm(&mut self, dirs: &BTreeSet<PathBuf>) -> Result<(), Failure> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let wanted: BTreeMap<PathBuf, Identity> = dirs
            .iter()
            .map(|dir| nearest_existing(dir))
            .filter_map(|dir| identity(&dir).map(|identity| (dir, identity)))
            .collect();
        let stale: Vec<PathBuf> = self
            .armed
            .iter()
            .filter(|(dir, id)| wanted.get(*dir) != Some(id))
            .map(|(dir, _)| dir.clone())
            .collect();
        for dir in stale {
            // A folder that is gone took its watch with it.
            let _ = inner.unwatch(&dir);
            self.armed.remove(&dir);
        }
        for (dir, identity) in wanted {
            if self.armed.contains_key(&dir) {
                continue;
            }
            match inner.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.armed.insert(dir, identity);
                }
                // Removed since it was looked at; the next call finds what is there then.
                Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => self.shared.stir(),
                Err(error) => return Err(refused(format!("cannot watch `{}`", dir.display()), &error)),
            }
        }
        Ok(())
    }

    /// The events since [`Self::settle`].
    pub fn stir(&self) -> Option<Stir> {
        *self.shared.stir.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something that no event has told.
    pub fn note(&self) {
        self.shared.stir();
    }

    /// Forgets the events: they are being looked after.
    pub fn settle(&self) {
        *self.shared.stir.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits for the next event, at most `within`; fails when `host` is asked to end.
    pub fn wait(&self, host: &Host, within: Duration) -> Result<(), Failure> {
        host.wait(async { tokio::time::timeout(within, self.shared.news.notified()).await.is_ok() })
            .map(|_| ())
    }
}

fn refused(message: String, error: &notify::Error) -> Failure {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Failure::new(Code::Io, message)
            .caused_by("the system's limit of watched folders is reached")
            .hint("Raise it: `sudo sysctl fs.inotify.max_user_watches=524288`, or watch fewer folders."),
        ErrorKind::Io(error) => Failure::new(Code::Io, message).caused_by(error),
        _ => Failure::new(Code::Io, message).caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::Reason;
    use crate::sys::env::Env;
    use std::fs;

    struct Bench {
        dir: tempfile::TempDir,
        host: Host,
        watcher: Watcher,
        wanted: BTreeSet<PathBuf>,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let sub = dir.path().join("sub");
            fs::create_dir(&sub).unwrap();
            let host = Host::new(dir.path().into(), dir.path().join(".lifeboat"), Env::default());
            let mut watcher = Watcher::new().unwrap();
            let wanted = BTreeSet::from([sub.clone()]);
            let above = sub.clone();
            watcher.admit(Box::new(move |path| path.ends_with("file") || path == above));
            watcher.arm(&wanted).unwrap();
            Self { dir, host, watcher, wanted }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Whether something is told within a time that is long enough for a slow machine.
        fn stirs(&self, within: Duration) -> bool {
            let began = Instant::now();
            while self.watcher.stir().is_none() && began.elapsed() < within {
                self.watcher.wait(&self.host, within.saturating_sub(began.elapsed())).unwrap();
            }
            let stirred = self.watcher.stir().is_some();
            // What belongs to the same change has come, too.
            std::thread::sleep(Duration::from_millis(500));
            self.watcher.settle();
            stirred
        }
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn changes_of_files_that_count_are_told_and_reading_is_not() {
        let bench = Bench::new();
        let file = bench.at("sub/file");
        fs::write(&file, "1").unwrap();
        assert!(bench.stirs(LONG), "created");
        fs::read(&file).unwrap();
        fs::read_dir(bench.at("sub")).unwrap().count();
        fs::write(bench.at("sub/other"), "1").unwrap();
        fs::write(bench.at("file"), "not below the folder").unwrap();
        assert!(!bench.stirs(SHORT), "read");
        fs::write(bench.at("sub/new"), "2").unwrap();
        fs::rename(bench.at("sub/new"), &file).unwrap();
        assert!(bench.stirs(LONG), "replaced");
        fs::write(&file, "3").unwrap();
        assert!(bench.stirs(LONG), "edited after it was replaced");
        fs::remove_file(&file).unwrap();
        assert!(bench.stirs(LONG), "removed");
    }

    #[test]
    fn a_folder_that_was_replaced_is_watched_anew() {
        let mut bench = Bench::new();
        fs::remove_dir(bench.at("sub")).unwrap();
        assert!(bench.stirs(LONG), "the folder itself");
        bench.watcher.arm(&bench.wanted).unwrap();
        fs::create_dir(bench.at("sub")).unwrap();
        assert!(bench.stirs(LONG), "watched from above");
        bench.watcher.arm(&bench.wanted).unwrap();
        fs::write(bench.at("sub/file"), "1").unwrap();
        assert!(bench.stirs(LONG), "the new folder");
    }

    #[test]
    fn waiting_ends_when_the_end_is_asked_for() {
        let bench = Bench::new();
        let cancel = bench.host.cancel().clone();
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                cancel.cancel(Reason::Terminated);
            });
            assert_eq!(bench.watcher.wait(&bench.host, LONG).unwrap_err().code, Code::Terminated);
        });
        assert!(began.elapsed() < LONG / 2);
    }
}
