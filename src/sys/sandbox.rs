//! Where a drill happens: a folder with a copy of the project, scratch servers in place of real ones, and nothing beyond.
//!
//! *Problem*: a rehearsal that can reach production will one day change it. *Decision*: the sandbox is another [`Host`]:
//! paths, servers and programs are mapped where they enter the program, so that no action knows of it, and connections to
//! anything but a scratch server are refused once more where they are made. *Rejected*: a flag that actions look at.
//!
//! [`Host`]: crate::sys::host::Host

mod commands;
mod copy;
mod folder;
mod servers;

pub use servers::Loader;

use crate::base::cancel::Cancel;
use crate::base::drill::{StoodIn, Terms};
use crate::base::failure::Failure;
use crate::base::secret::Secret;
use crate::sys::beside;
use crate::sys::fs;
use crate::sys::host::Host;
use crate::sys::store::{self, Listed};
use copy::{Copied, Taking};
use folder::Folder;
use servers::Server;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A sandbox. [`Sandbox::end`] or dropping it ends its servers and removes its folder.
pub struct Sandbox {
    /// The real project.
    project: PathBuf,
    /// The real state folder.
    state: PathBuf,
    /// The user's real home folder.
    home: Option<PathBuf>,
    root: PathBuf,
    terms: Terms,
    /// Six letters of the run, for names that must be its own.
    letters: String,
    password: Secret,
    cancel: Cancel,
    loader: Mutex<Option<Arc<dyn Loader>>>,
    files: Mutex<Files>,
    servers: Mutex<Vec<Server>>,
    idle: Mutex<Duration>,
    /// Command lines of programs that really ran.
    ran: Mutex<Vec<String>>,
    broken: Mutex<Option<Failure>>,
    folder: Mutex<Option<Folder>>,
}

/// Device files that are the same everywhere. What else is below `/dev` may be a disk, or files: `/dev/shm`.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/tty",
    "/dev/urandom",
    "/dev/random",
];

/// Whether a path names a device that does no harm, or a file that a program was given open.
fn is_device(path: &Path) -> bool {
    let is_open_file = path
        .strip_prefix("/dev/fd")
        .is_ok_and(|rest| rest.to_str().is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())));
    is_open_file || DEVICES.iter().any(|device| path == Path::new(device))
}

/// What is known of the copied files.
#[derive(Default)]
struct Files {
    /// Paths outside of the project that were looked at already.
    brought: BTreeSet<PathBuf>,
    copied: Copied,
    /// Paths outside of the project that could not be copied, and why.
    beyond: BTreeMap<PathBuf, String>,
}

impl Sandbox {
    /// Makes the sandbox of a run: removes what killed drills left, and copies the project.
    ///
    /// # Errors
    /// `DiskFull` if the copy would not leave enough room for those who work here, and what the system says.
    pub fn make(real: &Host, run: &str, terms: Terms) -> Result<Self, Failure> {
        let began = Instant::now();
        let folder = Folder::make(real.state(), run)?;
        let root = folder.path().to_path_buf();
        let sandbox = Self {
            project: real.project().to_path_buf(),
            state: real.state().to_path_buf(),
            home: real.env().value("HOME").map(PathBuf::from),
            root,
            terms,
            letters: run.rsplit('-').next().unwrap_or(run).to_owned(),
            password: Secret::new(format!("{}{}", real.letters(), real.letters())),
            cancel: real.cancel().clone(),
            loader: Mutex::default(),
            files: Mutex::default(),
            servers: Mutex::default(),
            idle: Mutex::default(),
            ran: Mutex::default(),
            broken: Mutex::default(),
            folder: Mutex::new(Some(folder)),
        };
        for dir in [sandbox.project(), sandbox.state(), sandbox.home(), sandbox.tmp(), sandbox.outside()] {
            fs::create_dir(&dir)?;
        }
        sandbox.copy(&sandbox.project, &sandbox.project())?;
        sandbox.add_idle(began);
        Ok(sandbox)
    }

    /// Ends it: servers first, then the folder. What cannot be removed is left to the next drill.
    pub fn end(&self) {
        self.loader.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.servers().clear();
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Who fills databases from backups; without one they stay empty.
    pub fn set_loader(&self, loader: Arc<dyn Loader>) {
        *self.loader.lock().unwrap_or_else(PoisonError::into_inner) = Some(loader);
    }

    /// How the drill is to be.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The folder that holds everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The copy of the project.
    pub fn project(&self) -> PathBuf {
        self.root.join("project")
    }

    /// The state folder of the copy: its locks.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The home folder of children.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// The folder for temporary files of children.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// The user's real home folder, where only settings are looked up.
    pub fn real_home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Where an absolute path of the real machine lies in the sandbox; what lies there already stays where it is.
    pub fn inside(&self, path: &Path) -> PathBuf {
        if path.starts_with(&self.root) || is_device(path) {
            return path.to_path_buf();
        }
        for (real, copy) in [(&self.state, self.state()), (&self.project, self.project())] {
            if let Ok(rest) = path.strip_prefix(real) {
                return if rest.as_os_str().is_empty() { copy } else { copy.join(rest) };
            }
        }
        let rest: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        self.outside().join(rest)
    }

    /// Whether writing at `path` stays in the sandbox, with links followed. A link to a file counts as what it is: files
    /// are replaced and removed, never written into.
    pub fn keeps(&self, path: &Path) -> bool {
        let real = match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) if path.is_symlink() && !path.is_dir() => fs::resolved(dir).join(name),
            _ => fs::resolved(path),
        };
        let climbs = real.components().any(|part| part == Component::ParentDir);
        is_device(path) || (!climbs && real.starts_with(fs::resolved(&self.root)))
    }

    /// The path of the real machine that a path in the sandbox stands for; any other path stands for itself.
    pub fn original(&self, path: &Path) -> PathBuf {
        let places = [
            (self.project(), &self.project),
            (self.state(), &self.state),
            (self.outside(), &PathBuf::from("/")),
        ];
        for (copy, real) in places {
            if let Ok(rest) = path.strip_prefix(copy) {
                return if rest.as_os_str().is_empty() { real.clone() } else { real.join(rest) };
            }
        }
        path.to_path_buf()
    }

    /// Copies what the real machine has at a path of the sandbox, unless that is done: paths outside of the project come
    /// when they are used. One that cannot be copied is [beyond](Sandbox::beyond) the sandbox.
    pub fn bring(&self, inside: &Path) {
        let Ok(rest) = inside.strip_prefix(self.outside()) else { return };
        let real = Path::new("/").join(rest);
        let began = Instant::now();
        {
            let mut files = self.files();
            let is_done = files.brought.iter().any(|brought| real.starts_with(brought));
            if is_done || files.beyond.contains_key(inside) || !real.exists() {
                return;
            }
            files.brought.insert(real.clone());
        }
        if let Err(failure) = self.copy(&real, inside) {
            let mut files = self.files();
            // What lies below it may still be small enough.
            files.brought.remove(&real);
            files.beyond.insert(inside.to_path_buf(), failure.to_string());
        }
        self.add_idle(began);
    }

    /// Why a path of the sandbox does not hold what the real machine has there; `None` if it does.
    pub fn beyond(&self, inside: &Path) -> Option<String> {
        let files = self.files();
        let real = self.original(inside);
        if let Some((_, why)) = files.copied.unread.iter().find(|(unread, _)| inside.starts_with(unread)) {
            return Some(why.clone());
        }
        if files.brought.iter().any(|brought| real.starts_with(brought)) {
            return None;
        }
        files.beyond.iter().find(|(beyond, _)| inside.starts_with(beyond)).map(|(_, why)| why.clone())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        let taking = Taking {
            start: self.terms.start,
            programs_run: !self.terms.run.is_empty(),
            project: &self.project,
            state: &self.state,
            cancel: &self.cancel,
            inside: &|path| self.inside(path),
        };
        let copied = taking.copy(from, to)?;
        // What a link leads to is needed where the link is.
        let led_to = copied.led_to.clone();
        self.files().copied.add(copied);
        for path in led_to {
            self.bring(&self.inside(&path));
        }
        Ok(())
    }

    /// What the copies went without, as names, and what else is odd about them.
    pub fn left_out(&self) -> Vec<String> {
        self.files().copied.left_out.iter().cloned().collect()
    }

    /// Real folders that links of the sandbox lead to, to be read only.
    pub fn linked(&self) -> Vec<PathBuf> {
        self.files().copied.linked.iter().cloned().collect()
    }

    /// Backups of a database, newest first, wherever in the sandbox they are.
    pub fn backups_of(&self, database: &str) -> Vec<store::Found> {
        let dirs: Vec<PathBuf> = self.files().copied.backups.iter().cloned().collect();
        let listed = dirs.iter().flat_map(|dir| store::scan(dir).unwrap_or_default());
        let mut found: Vec<store::Found> = listed
            .filter(|listed| servers::is_of(&listed.backup, database))
            .map(|listed| {
                let found = store::look(&listed.backup.path).ok().flatten();
                let Listed { backup, oddity, .. } = listed;
                found.unwrap_or(store::Found { backup, manifest: None, oddity })
            })
            .collect();
        found.sort_by(|a, b| (b.backup.created, &b.backup.name).cmp(&(a.backup.created, &a.backup.name)));
        found
    }

    /// The scratch servers and what they stood in for.
    pub fn stood_in(&self) -> Vec<StoodIn> {
        self.servers().iter().map(Server::told).collect()
    }

    /// Roles of the scratch servers that no backup tells the rights of: they were superusers.
    pub fn without_rights(&self) -> Vec<String> {
        self.servers().iter().flat_map(|server| server.without_rights.clone()).collect()
    }

    fn note_run(&self, line: String) {
        let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        if !ran.contains(&line) {
            ran.push(line);
        }
    }

    /// Command lines of the programs that really ran, each once. What they reach beside the databases that they are told
    /// of is up to them.
    pub fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to be known about the scratch servers.
    pub fn notes(&self) -> Vec<String> {
        let dirs = self.files().copied.backups.clone();
        let found: Vec<Listed> = dirs.iter().flat_map(|dir| store::scan(dir).unwrap_or_default()).collect();
        self.servers().iter().flat_map(|server| server.all_notes(&found)).collect()
    }

    /// How long the sandbox has worked for itself: copying, starting servers, filling them. Not the playbook's time.
    pub fn idle(&self) -> Duration {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the sandbox could not be made as the drill needs it; the drill has then failed, whatever the playbook did.
    pub fn broken(&self) -> Option<Failure> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add_idle(&self, began: Instant) {
        // Beside other actions it does not stand still: what is measured may be too long then, and never too short.
        if beside::number().is_some() {
            return;
        }
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) += began.elapsed();
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn servers(&self) -> MutexGuard<'_, Vec<Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
