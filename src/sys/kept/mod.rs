//! What was replaced in a tree, kept beside what replaced it, so that both can change places again.
//!
//! In the tree's own folder `.lifeboat-kept` (0700, left out of archives) each extraction has a folder:
//!
//! ```text
//! .RUN-N.part        being staged; inert, removed by the next extraction if its run was killed
//! RUN-N.swapping     staged whole and on stable storage; files are changing places
//! RUN-N              done: `files` holds what was replaced
//! RUN-N.undoing      files are changing places back
//! RUN-N.undone       rolled back: `files` holds what had been extracted
//! ```
//!
//! The name is the state, so passing on to the next one is a rename, which needs no space on a full disk. `index.json`, with
//! the files beside it if it is long, tells what stood aside when the places began to change: a file that still stands there has not moved yet. It knows
//! beforehand what will stand aside when they are to change back, so that needs no space either. So whatever
//! interrupts, each single file is known to be on the one side or on the other, and the rest can be finished or undone.

mod changes;
mod compare;
mod durable;
mod index;
mod rows;
mod stage;
mod swap;
#[cfg(test)]
mod tests;
mod whole;

pub use changes::{Change, Changes, How, Kind};
pub use compare::{Against, Comparison, Marks, compare};
pub use index::{About, Entry, Folder, Index};
pub use stage::Staging;
pub use swap::{back, finish, forward, revert};

use crate::base::failure::{Code, Failure};
use crate::sys::fs;
use crate::sys::kept::index::{FILES, INDEX, read_index};
use crate::sys::tree::KEPT;
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What an extraction has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not whole; it never touched anything.
    Staging,
    /// Files are changing places.
    Swapping,
    /// What was extracted stands in the tree.
    Swapped,
    /// Files are changing places back.
    Undoing,
    /// What had been replaced stands in the tree again.
    Undone,
}

impl State {
    const SUFFIXES: [(Self, &'static str); 4] = [
        (Self::Staging, fs::STAGED_SUFFIX),
        (Self::Swapping, ".swapping"),
        (Self::Undoing, ".undoing"),
        (Self::Undone, ".undone"),
    ];

    fn of(name: &str) -> (Self, &str) {
        let found =
            Self::SUFFIXES.iter().find_map(|(state, suffix)| Some((*state, name.strip_suffix(suffix)?)));
        let (state, rest) = found.unwrap_or((Self::Swapped, name));
        (state, rest.trim_start_matches('.'))
    }

    fn name(self, base: &str) -> String {
        let suffix = Self::SUFFIXES.iter().find(|(state, _)| *state == self).map_or("", |(_, suffix)| suffix);
        let dot = if self == Self::Staging { "." } else { "" };
        format!("{dot}{base}{suffix}")
    }
}

/// One file among those that change places. All of them are on one file system, whose own number may be another one after a
/// restart: so that is only written down, for builds that expect it.
#[derive(Clone, Copy, Debug, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// An extraction whose index can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The tree.
    pub dir: PathBuf,
    /// Its folder, as it is called now.
    pub at: PathBuf,
    /// What it has come to.
    pub state: State,
    /// What it does.
    pub index: Index,
}

impl Kept {
    /// Reads the folder at `path`, under whichever of its names.
    ///
    /// # Errors
    /// `NotFound` if there is none; `NotIntact` for an index that cannot be understood.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let none = || Failure::new(Code::NotFound, format!("nothing is kept at `{}`", path.display()));
        let base = path.file_name().and_then(|name| name.to_str()).map(|name| State::of(name).1.to_owned());
        let (Some(base), Some(folder)) = (base, path.parent()) else { return Err(none()) };
        let dir = match folder.parent() {
            Some(dir) if folder.ends_with(KEPT) && is_folder(folder)? => dir.to_path_buf(),
            _ => return Err(none()),
        };
        for state in [State::Swapped, State::Swapping, State::Undoing, State::Undone] {
            let at = folder.join(state.name(&base));
            if is_folder(&at)?
                && let Some(index) = read_index(&at)?
            {
                return Ok(Self { dir, at, state, index });
            }
        }
        Err(none().hint("It may have been removed by a clean-up; `lifeboat cleanup` lists what is kept."))
    }

    /// Sees that it was written by the user that this process runs as: whoever can write the tree could have put a folder there
    /// that names any file.
    ///
    /// # Errors
    /// `Policy` if it belongs to another user.
    pub fn check_owner(&self) -> Result<(), Failure> {
        let (Some(found), user) = (look(&self.at)?, fs::user()) else { return Ok(()) };
        let (owner, at) = (found.uid(), self.at.display());
        if owner == user {
            return Ok(());
        }
        Err(Failure::new(Code::Policy, format!("`{at}` belongs to another user"))
            .caused_by(format!("user {owner} owns it, and Lifeboat runs as user {user}: it moves files by what it finds there"))
            .hint(format!(
                "Nothing was replaced. Run it as user {owner}; or, if you trust what that user has put there, make it yours: \
                 `chown {user} '{at}' '{at}/{INDEX}'`. One that nobody needs can be removed."
            )))
    }

    /// Its name when the files have changed places: the one it is known by.
    pub fn path(&self) -> PathBuf {
        self.named(State::Swapped)
    }

    fn named(&self, state: State) -> PathBuf {
        let name = self.at.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.at.with_file_name(state.name(State::of(&name).1))
    }

    /// Whether files are between two places.
    pub fn is_half_done(&self) -> bool {
        matches!(self.state, State::Swapping | State::Undoing)
    }

    /// The first file of the tree that is not, or not any more, what was extracted.
    pub fn first_difference(&self) -> Result<Option<PathBuf>, Failure> {
        for entry in self.entries()? {
            let entry = entry?;
            let path = self.dir.join(&entry.name.0);
            let Some(metadata) = look(&path)? else { return Ok(Some(path)) };
            let is_it = match (&entry.to, &entry.sha256) {
                (Some(to), _) => std::fs::read_link(&path).is_ok_and(|found| found == to.0),
                (None, Some(sha256)) if metadata.is_file() => {
                    metadata.mode() & 0o777 == entry.mode && compare::digest(&path, entry.holes)? == *sha256
                }
                _ => false,
            };
            if !is_it {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn files(&self) -> PathBuf {
        self.at.join(FILES)
    }

    /// What stood aside of an entry when the places began to change.
    fn aside(&self, entry: &Entry) -> Option<Identity> {
        if self.state == State::Undoing { entry.replaced } else { entry.aside }
    }

    /// Passes on to another state.
    fn become_state(&mut self, state: State) -> Result<(), Failure> {
        let to = self.named(state);
        std::fs::rename(&self.at, &to).map_err(|error| Failure::io("rename", &self.at, &error))?;
        self.at = to;
        self.state = state;
        fs::sync_dir(&self.at)
    }

    /// Bytes of what it keeps.
    pub fn size(&self) -> u64 {
        let files = walkdir::WalkDir::new(self.files()).into_iter().flatten();
        files.filter_map(|entry| entry.metadata().ok()).filter(Metadata::is_file).map(|file| file.len()).sum()
    }

    /// Removes it after a failure if the tree is as it was before: it holds nothing then but what an archive holds too. As
    /// long as it keeps what was replaced, nobody else has that.
    pub fn withdraw(self) {
        if matches!(self.state, State::Staging | State::Undone) {
            // A failure is being reported already; what stays behind is a leftover that the next run removes.
            let _ = self.remove();
        }
    }

    /// Removes it with all that it keeps. It loses its name first.
    pub fn remove(mut self) -> Result<(), Failure> {
        self.become_state(State::Staging)?;
        discard(&self.at)
    }
}

/// The extraction or rollback in `dir` that is between two places, if there is one. The indices of others are not read.
///
/// # Errors
/// As those of [`Kept::open`] and [`Kept::check_owner`].
pub fn half_done(dir: &Path) -> Result<Option<Kept>, Failure> {
    for name in names(dir)? {
        if !matches!(State::of(&name).0, State::Swapping | State::Undoing) {
            continue;
        }
        match Kept::open(&dir.join(KEPT).join(name)) {
            Err(failure) if failure.code == Code::NotFound => {}
            kept => {
                let kept = kept?;
                kept.check_owner()?;
                return Ok(Some(kept));
            }
        }
    }
    Ok(None)
}

/// All that is kept in `dir`, oldest first; what a killed run was still staging is not.
pub fn list(dir: &Path) -> Result<Vec<Kept>, Failure> {
    let mut found = Vec::new();
    for name in names(dir)? {
        if State::of(&name).0 == State::Staging {
            continue;
        }
        match Kept::open(&dir.join(KEPT).join(name)) {
            // A folder that somebody else has put there.
            Err(failure) if failure.code == Code::NotFound => {}
            kept => found.push(kept?),
        }
    }
    found.sort_by(|a, b| (a.index.created, &a.at).cmp(&(b.index.created, &b.at)));
    Ok(found)
}

/// Folders in which a killed run was staging; `dir` must be locked, so that nobody still is.
pub fn leftovers(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let names = names(dir)?.into_iter().filter(|name| State::of(name).0 == State::Staging);
    Ok(names.map(|name| dir.join(KEPT).join(name)).collect())
}

/// Removes a folder of no meaning, and the one that it stands in if that is then empty.
pub fn discard(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::io("remove", path, &error)),
    }
    if let Some(parent) = path.parent() {
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    let folder = dir.join(KEPT);
    let failed = |error: &io::Error| Failure::io("list", &folder, error);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(&error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(&error))?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a folder is at `path`, and no link to one.
fn is_folder(path: &Path) -> Result<bool, Failure> {
    Ok(look(path)?.is_some_and(|found| found.is_dir()))
}

/// What is at `path`, links not followed; `None` if nothing is.
fn look(path: &Path) -> Result<Option<Metadata>, Failure> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Failure::io("look at", path, &error)),
    }
}
