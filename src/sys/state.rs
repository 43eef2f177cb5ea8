//! Files of the journal. Closed to actions: what a playbook does never reaches them but as events.
//!
//! *Problem*: the record of a run must tell a run that was killed from one that still works, and must be writable on a
//! full disk, or the disk forbids its own clean-up. *Decision*: the live process holds a flock on `run.lock`, which the
//! kernel frees with it; each run preallocates a reserve, and clean-up may use a second one that the host keeps.
//! *Rejected*: process ids in a file, which are used again after a reboot.

pub mod alerts;
pub mod live;
pub mod newest;
mod reopen;
pub mod schedule;
pub mod stamps;

use crate::base::failure::{Code, Failure};
use crate::base::ids::RunId;
use crate::sys::flock::{self, Held};
use crate::sys::fs;
use crate::sys::names;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes that each run sets aside for its own journal.
pub const RUN_RESERVE: u64 = 64 << 10;
/// Bytes that each run sets aside to write down how it ended, whatever became of the rest.
pub const END_RESERVE: u64 = 16 << 10;
/// Bytes that the host sets aside for runs that free space.
pub const HOST_RESERVE: u64 = 1 << 20;

const EVENTS: &str = "events.jsonl";
const LOCK: &str = "run.lock";
const RESERVE: &str = "reserve";
const RESERVE_OF_END: &str = "reserve.end";
const MAKING: &str = ".part";
/// Ends the name of a lock that has no folder yet.
const LOCKING: &str = "lock";
const LEAVING: &str = ".gone";
/// A folder without a lock is that of a run which is just being made, unless it is older than this.
const MAKING_TAKES: Duration = Duration::from_secs(3600);

/// What a run may use when the disk of the journal is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// What it set aside itself.
    Own,
    /// The host's as well: rotation and clean-up, which make space.
    Host,
}

/// The files of a run that is being recorded.
#[derive(Debug)]
pub struct RunFiles {
    state: PathBuf,
    run: RunId,
    dir: PathBuf,
    events: Mutex<Tail>,
    host: AtomicBool,
    _lock: Held,
}

#[derive(Debug)]
struct Tail {
    file: File,
    /// Length up to the last complete line.
    length: u64,
}

impl RunFiles {
    /// Makes the folder of a run with `files` (names relative to it) in it. It gets its name last, so that whoever sees it
    /// sees it whole and locked.
    pub fn create(
        state: &Path,
        run: &RunId,
        files: &[(PathBuf, String)],
        reserve: Reserve,
    ) -> Result<Self, Failure> {
        let made = match Self::make(state, run, files) {
            Err(failure)
                if failure.code == Code::DiskFull && reserve == Reserve::Host && release_host(state) =>
            {
                Self::make(state, run, files)
            }
            made => made,
        };
        let made = made.map_err(|failure| no_space(state, failure))?;
        made.host.store(reserve == Reserve::Host, Ordering::Relaxed);
        Ok(made)
    }

    fn make(state: &Path, run: &RunId, files: &[(PathBuf, String)]) -> Result<Self, Failure> {
        let runs = state.join("runs");
        fs::create_dir(&runs)?;
        let making = making(state, run);
        DirBuilder::new()
            .mode(0o700)
            .create(&making)
            .map_err(|error| Failure::io("create the folder", &making, &error))?;
        let made = Self::fill(state, &making, run, files);
        if made.is_err() {
            live::unmark(state, run);
            let _ = std::fs::remove_file(making.with_extension(LOCKING));
            let _ = std::fs::remove_dir_all(&making);
        }
        made
    }

    fn fill(state: &Path, making: &Path, run: &RunId, files: &[(PathBuf, String)]) -> Result<Self, Failure> {
        let dir = &folder(state, run);
        // It is locked before it is where others look for it: they would take it for that of a killed run.
        let locking = making.with_extension(LOCKING);
        let Claim::Held(lock) = held(&locking, Held::take(create_new(&locking)?))? else {
            return Err(Failure::new(Code::Journal, format!("`{}` is another run's", locking.display())));
        };
        std::fs::rename(&locking, making.join(LOCK))
            .map_err(|error| Failure::io("create", &making.join(LOCK), &error))?;
        allocate(&making.join(RESERVE), RUN_RESERVE)?;
        allocate(&making.join(RESERVE_OF_END), END_RESERVE)?;
        for (name, content) in files {
            let path = making.join(inside(name));
            if let Some(parent) = path.parent() {
                fs::create_dir(parent)?;
            }
            let mut file = create_new(&path)?;
            file.write_all(content.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|error| Failure::io("write", &path, &error))?;
        }
        let events = create_new(&making.join(EVENTS))?;
        if fs::exists(dir)? {
            return Err(Failure::new(Code::Journal, format!("`{}` exists already", dir.display())));
        }
        live::mark(state, run);
        std::fs::rename(making, dir).map_err(|error| Failure::io("create the folder", dir, &error))?;
        fs::sync_dir(dir)?;
        Ok(Self {
            state: state.to_path_buf(),
            run: run.clone(),
            dir: dir.to_path_buf(),
            events: Mutex::new(Tail { file: events, length: 0 }),
            host: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The run's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets the run use the host's reserve from now on.
    pub fn allow_host_reserve(&self) {
        self.host.store(true, Ordering::Relaxed);
    }

    /// Appends one line to the events, which `line` ends with a newline; `durable` returns only when it is on stable storage.
    pub fn append(&self, line: &str, durable: bool) -> Result<(), Failure> {
        let mut tail = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let written = tail
                .append(line.as_bytes())
                .and_then(|()| if durable { tail.file.sync_data() } else { Ok(()) });
            match written {
                Ok(()) => {
                    tail.length += line.len() as u64;
                    return Ok(());
                }
                Err(error) if is_full(&error) && self.release() => {}
                Err(error) => {
                    // Half a line would read as the trace of a kill.
                    let _ = tail.file.set_len(tail.length);
                    return Err(Failure::io("write", &self.dir.join(EVENTS), &error));
                }
            }
        }
    }

    /// Writes a file of the run, atomically and durably.
    pub fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        loop {
            match replace(&self.dir, name, content) {
                Err(failure)
                    if failure.code == Code::DiskFull
                        && (self.release() || release(&self.dir.join(RESERVE_OF_END))) => {}
                written => return written,
            }
        }
    }

    /// Its end is on record: gives back its mark and what is set aside, and fills the host's reserve up again if there is space.
    pub fn end(&self) {
        live::unmark(&self.state, &self.run);
        release_all(&self.dir);
        top_up_host(&self.state);
    }

    /// Frees a reserve; false when there is none left.
    fn release(&self) -> bool {
        release(&self.dir.join(RESERVE)) || (self.host.load(Ordering::Relaxed) && release_host(&self.state))
    }
}

impl Tail {
    /// Writes after the last complete line, so that what an earlier failure left behind is overwritten.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(line)
    }
}

/// Replaces a file of a run, whose lock is held: what is staged already was left by a process that was killed.
fn replace(dir: &Path, name: &str, content: &str) -> Result<(), Failure> {
    const STAGE: &str = "new";
    let _ = std::fs::remove_file(dir.join(format!(".{name}.{STAGE}{}", fs::STAGED_SUFFIX)));
    fs::replace(&dir.join(name), content.as_bytes(), STAGE)
}

fn no_space(state: &Path, failure: Failure) -> Failure {
    if failure.code != Code::DiskFull {
        return failure;
    }
    let mut told =
        Failure::new(Code::DiskFull, format!("there is no space for the journal in `{}`", state.display()))
            .caused_by(&failure);
    told.hints = Failure::io("write", state, &io::Error::from(io::ErrorKind::StorageFull)).hints;
    told
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A path that stays inside its folder, whatever it says.
fn inside(name: &Path) -> PathBuf {
    name.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn create_new(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::io("create", path, &error))
}

/// Makes a file whose blocks are really taken.
fn allocate(path: &Path, size: u64) -> Result<(), Failure> {
    let mut file = create_new(path)?;
    let taken = match fallocate(&file, FallocateFlags::empty(), 0, size) {
        // A file system that cannot preallocate still takes blocks for what is written.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            io::copy(&mut io::repeat(0xa5).take(size), &mut file).map(|_| ()).and_then(|()| file.sync_all())
        }
        taken => taken.map_err(io::Error::from),
    };
    taken.map_err(|error| {
        let _ = std::fs::remove_file(path);
        Failure::io("set aside space in", path, &error)
    })
}

fn release(reserve: &Path) -> bool {
    std::fs::remove_file(reserve).is_ok()
}

fn release_all(dir: &Path) {
    release(&dir.join(RESERVE));
    release(&dir.join(RESERVE_OF_END));
}

fn release_host(state: &Path) -> bool {
    release(&state.join(RESERVE))
}

/// Fills the host's reserve up, if there is space for it; a host without one is told so when it is needed.
pub fn top_up_host(state: &Path) {
    let path = state.join(RESERVE);
    if !path.exists() {
        let _ = allocate(&path, HOST_RESERVE);
    }
}

/// Id of this process.
pub fn process_id() -> u32 {
    std::process::id()
}

/// Ids of the runs on record, newest first.
pub fn runs(state: &Path) -> Result<Vec<RunId>, Failure> {
    Ok(runs_and_hidden(state)?.0)
}

/// Ids of the runs on record, newest first, and names of what is half made or half removed, to be [swept](sweep).
pub fn runs_and_hidden(state: &Path) -> Result<(Vec<RunId>, Vec<String>), Failure> {
    let (mut found, mut hidden) = (Vec::new(), Vec::new());
    each_name(&state.join("runs"), |name| match name {
        name if name.starts_with('.') => hidden.push(name.to_owned()),
        name => found.extend(RunId::parse(name)),
    })?;
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok((found, hidden))
}

/// Hands out the names of what is in a folder, as far as they are UTF-8; there are none if it is not there.
fn each_name(dir: &Path, take: impl FnMut(&str)) -> Result<(), Failure> {
    match names::open(dir).and_then(|folder| names::each(folder, take)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::io("list", dir, &error)),
        _ => Ok(()),
    }
}

/// Folder of a run that is being made.
fn making(state: &Path, run: &RunId) -> PathBuf {
    state.join("runs").join(format!(".{run}{MAKING}"))
}

/// Folder of a run.
pub fn folder(state: &Path, run: &RunId) -> PathBuf {
    state.join("runs").join(run.as_str())
}

/// A file of a run as text; `None` if it is not there. Bytes that are not UTF-8 are replaced.
pub fn read(state: &Path, run: &RunId, name: &Path) -> Result<Option<String>, Failure> {
    read_text(&folder(state, run).join(inside(name)))
}

/// Whether a run has such a file.
pub fn has(state: &Path, run: &RunId, name: &str) -> bool {
    folder(state, run).join(name).exists()
}

/// The events of a run as written.
pub fn read_events(state: &Path, run: &RunId) -> Result<String, Failure> {
    Ok(read(state, run, Path::new(EVENTS))?.unwrap_or_default())
}

/// Bytes of a run's events from `offset` on, to follow them.
pub fn read_events_from(state: &Path, run: &RunId, offset: u64) -> Result<Vec<u8>, Failure> {
    read_from(&folder(state, run).join(EVENTS), offset)
}

/// A file as text; `None` if it is not there. Bytes that are not UTF-8 are replaced.
pub fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(String::from_utf8_lossy(&content).into_owned())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Failure::io("read", path, &error)),
    }
}

/// What a file holds from `offset` on; nothing if it is not there.
pub fn read_from(path: &Path, offset: u64) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    match File::open(path) {
        Ok(mut file) => file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_to_end(&mut content))
            .map_err(|error| Failure::io("read", path, &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(Failure::io("read", path, &error)),
    };
    Ok(content)
}

/// Whether the process of a run still lives.
pub fn is_alive(state: &Path, run: &RunId) -> Result<bool, Failure> {
    let path = folder(state, run).join(LOCK);
    let Some(file) = open_lock(&path)? else { return Ok(false) };
    flock::is_held(file).map_err(|error| Failure::io("lock", &path, &error))
}

#[derive(Debug)]
enum Claim {
    Held(Held),
    Taken,
    NoLock,
}

/// The lock of a run; `None` if it is not there.
fn open_lock(path: &Path) -> Result<Option<File>, Failure> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("open the lock", path, &error)),
    }
}

/// Takes the lock of a run that may be dead.
fn claim(dir: &Path) -> Result<Claim, Failure> {
    let path = dir.join(LOCK);
    match open_lock(&path)? {
        Some(file) => held(&path, Held::take_from_lookers(file)),
        None => Ok(Claim::NoLock),
    }
}

fn held(path: &Path, taken: io::Result<Result<Held, File>>) -> Result<Claim, Failure> {
    match taken {
        Ok(Ok(lock)) => Ok(Claim::Held(lock)),
        Ok(Err(_)) => Ok(Claim::Taken),
        Err(error) => Err(Failure::io("lock", path, &error)),
    }
}

/// A dead run that this process alone may add files to.
#[derive(Debug)]
pub struct DeadRun {
    state: PathBuf,
    run: RunId,
    dir: PathBuf,
    _lock: Claim,
}

impl DeadRun {
    /// Takes over a run whose process is gone; `None` when it lives, or another process was first.
    pub fn take(state: &Path, run: &RunId) -> Result<Option<Self>, Failure> {
        let dir = folder(state, run);
        let lock = claim(&dir)?;
        let is_dead = !matches!(lock, Claim::Taken) && fs::exists(&dir)?;
        let (state, run) = (state.to_path_buf(), run.clone());
        Ok(is_dead.then_some(Self { state, run, dir, _lock: lock }))
    }

    /// Its end is on record, or somebody was told of it: gives back its mark.
    pub fn settle(&self) {
        live::unmark(&self.state, &self.run);
    }

    /// Writes a file of the run, atomically and durably.
    pub fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        // The dead need no reserve.
        release_all(&self.dir);
        replace(&self.dir, name, content)
    }

    /// Removes the run. It loses its name first, so that nobody sees half of it.
    pub fn remove(self) -> Result<(), Failure> {
        let name = self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let leaving = self.dir.with_file_name(format!(".{name}{LEAVING}"));
        std::fs::rename(&self.dir, &leaving)
            .and_then(|()| std::fs::remove_dir_all(&leaving))
            .map_err(|error| Failure::io("remove", &self.dir, &error))
    }
}

/// Removes what killed processes left half made or half removed, of what was found hidden among the runs.
pub fn sweep(state: &Path, hidden: &[String]) -> Result<(), Failure> {
    let runs = state.join("runs");
    // Another process may have swept since.
    let removed = |result: io::Result<()>, path: &Path| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::io("remove", path, &error)),
        _ => Ok(()),
    };
    for name in hidden {
        let dir = runs.join(name);
        if dir.extension().is_some_and(|end| end == LOCKING) && age(&dir) > MAKING_TAKES {
            removed(std::fs::remove_file(&dir), &dir)?;
        }
        let orphan = name.ends_with(LEAVING)
            || (name.ends_with(MAKING)
                && match claim(&dir)? {
                    Claim::Held(_) => true,
                    Claim::Taken => false,
                    Claim::NoLock => age(&dir) > MAKING_TAKES,
                });
        if orphan {
            removed(std::fs::remove_dir_all(&dir), &dir)?;
        }
    }
    Ok(())
}

fn age(path: &Path) -> Duration {
    std::fs::metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|time| time.elapsed().ok())
        .unwrap_or_default()
}
