//! Changing places: what stands aside and what stands in the tree, one file after the other, each in one step.

use crate::base::failure::Failure;
use crate::sys::kept::stage::{give, set_time};
use crate::sys::kept::{Entry, Folder, Identity, Kept, State, look};
use crate::sys::untar::shown;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// Where the file of an entry stands for one step, where the file system cannot exchange two in one.
fn between(number: usize) -> String {
    format!("between-{number}")
}

/// Puts what was staged, or was rolled back, into the tree. After a failure the tree is as it was before, or the failure
/// says that it is not.
pub fn forward(kept: &mut Kept) -> Result<(), Failure> {
    begin(kept, State::Swapping)?;
    complete(kept)
}

/// Puts what had been replaced into the tree again.
pub fn back(kept: &mut Kept) -> Result<(), Failure> {
    begin(kept, State::Undoing)?;
    complete(kept)
}

/// Goes on where a killed run stopped.
pub fn finish(kept: &mut Kept) -> Result<(), Failure> {
    complete(kept)
}

/// Undoes what a killed run had done of putting files into the tree.
pub fn revert(kept: &mut Kept) -> Result<(), Failure> {
    Places::open(kept)?.all(kept, false, false)?;
    kept.become_state(State::Undone)
}

/// Notes what stands aside now, and that it is going to move.
fn begin(kept: &mut Kept, state: State) -> Result<(), Failure> {
    if kept.state != State::Staging {
        let files = kept.files();
        let before = kept.index.entries.clone();
        for entry in &mut kept.index.entries {
            let aside = look(&files.join(&entry.name.0))?.map(|metadata| Identity::of(&metadata));
            if state == State::Undoing {
                entry.replaced = aside;
            } else {
                entry.aside = aside;
            }
        }
        // It is as foreseen, unless somebody has changed files in the tree since.
        if kept.index.entries != before {
            kept.write_index()?;
        }
    }
    kept.become_state(state)
}

fn complete(kept: &mut Kept) -> Result<(), Failure> {
    let (from, to, to_new) = match kept.state {
        State::Undoing => (State::Swapped, State::Undone, false),
        _ => (State::Undone, State::Swapped, true),
    };
    let places = Places::open(kept)?;
    let Err(failure) = places.all(kept, true, to_new) else {
        return kept.become_state(to);
    };
    // The places are changed back: all or nothing.
    match places.all(kept, false, !to_new) {
        Ok(()) => {
            kept.become_state(from)?;
            Err(failure)
        }
        Err(second) => {
            let told = Failure::new(failure.code, "the files are half replaced".to_owned())
                .caused_by(failure)
                .caused_by(format!("putting them back failed too: {second}"));
            Err(told.hint(format!(
                "Remove the cause and run the same again: it goes on where it stopped. Both versions are in `{}`.",
                kept.at.display()
            )))
        }
    }
}

struct Places {
    root: OwnedFd,
    files: OwnedFd,
    at: OwnedFd,
}

fn opened(dir: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| Failure::io("open", dir, &error.into()))
}

impl Places {
    fn open(kept: &Kept) -> Result<Self, Failure> {
        Ok(Self { root: opened(&kept.dir)?, files: opened(&kept.files())?, at: opened(&kept.at)? })
    }

    /// Brings every entry to the side that `moved` says; `to_new` tells whether the tree then has what was extracted.
    fn all(&self, kept: &Kept, moved: bool, to_new: bool) -> Result<(), Failure> {
        if to_new {
            kept.index.folders.iter().try_for_each(|folder| self.make(kept, folder))?;
        }
        for (number, entry) in kept.index.entries.iter().enumerate() {
            self.one(kept, entry, &between(number), moved).map_err(|error| {
                Failure::io("replace", &kept.dir.join(&entry.name.0), &error).hint(
                    "Nothing was replaced. A file that is mounted by itself, or marked as immutable, cannot be replaced.",
                )
            })?;
        }
        // What is below a folder changes its time, and it may be that nothing can be written in it afterwards.
        for folder in kept.index.folders.iter().rev() {
            self.settle(kept, folder, to_new)?;
        }
        self.sync(kept)
    }

    fn make(&self, kept: &Kept, folder: &Folder) -> Result<(), Failure> {
        let at = kept.dir.join(&folder.name.0);
        if folder.before.is_some() || look(&at)?.is_some() {
            return Ok(());
        }
        let made = below(&self.root, &folder.name.0)
            .and_then(|(parent, name)| Ok(rustix::fs::mkdirat(&parent, name, Mode::RWXU)?));
        made.map_err(|error| Failure::io("create the folder", &at, &error))
    }

    fn settle(&self, kept: &Kept, folder: &Folder, to_new: bool) -> Result<(), Failure> {
        let at = kept.dir.join(&folder.name.0);
        let (parent, name) = match below(&self.root, &folder.name.0) {
            // Somebody has removed the folder above it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| Failure::io("open", &at, &error))?,
        };
        let Some(mode) = (if to_new { Some(folder.mode) } else { folder.before }) else {
            // It was made, and goes again unless somebody has put something into it.
            return match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
                Err(error) => Err(Failure::io("remove", &at, &error.into())),
            };
        };
        let Some(found) = look(&at)?.filter(std::fs::Metadata::is_dir) else { return Ok(()) };
        if let (true, Some((user, group))) = (to_new, folder.owner) {
            give(&at, user, group)?;
        }
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let special = found.mode() & 0o7000;
        if found.mode() & 0o777 != mode {
            let permissions = std::fs::Permissions::from_mode(special | mode);
            std::fs::set_permissions(&at, permissions)
                .map_err(|error| Failure::io("set the permissions of", &at, &error))?;
        }
        if let (true, Some(modified)) = (to_new, folder.modified) {
            set_time(&at, modified);
        }
        Ok(())
    }

    fn one(&self, kept: &Kept, entry: &Entry, between: &str, moved: bool) -> io::Result<()> {
        let (aside, name) = below(&self.files, &entry.name.0)?;
        self.clear_between(between, &aside, name)?;
        let here = identity(&aside, name)?;
        let has_moved = here != kept.aside(entry);
        if has_moved == moved {
            return Ok(());
        }
        let (tree, live) = match below(&self.root, &entry.name.0) {
            // Somebody has removed its folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound && here.is_none() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = kept.dir.join(entry.name.0.parent().unwrap_or(Path::new("")));
                std::fs::create_dir_all(&folder)?;
                below(&self.root, &entry.name.0)?
            }
            found => found?,
        };
        tracing::debug!(file = %shown(&kept.dir.join(&entry.name.0)), "changes places");
        match (here.is_some(), identity(&tree, live)?.is_some()) {
            (true, true) => self.exchange(between, (&aside, name), (&tree, live)),
            (true, false) => renamed(&aside, name, &tree, live),
            (false, true) => renamed(&tree, live, &aside, name),
            (false, false) => Ok(()),
        }
    }

    fn exchange(
        &self,
        between: &str,
        (aside, name): (&OwnedFd, &OsStr),
        (tree, live): (&OwnedFd, &OsStr),
    ) -> io::Result<()> {
        match renameat_with(aside, name, tree, live, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                self.exchange_in_steps(between, (aside, name), (tree, live), 3)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The name in the tree is never without a file: the old one gets a second name first.
    fn exchange_in_steps(
        &self,
        between: &str,
        (aside, name): (&OwnedFd, &OsStr),
        (tree, live): (&OwnedFd, &OsStr),
        steps: u32,
    ) -> io::Result<()> {
        rustix::fs::linkat(tree, live, &self.at, between, AtFlags::empty())?;
        if steps > 1 {
            rustix::fs::renameat(aside, name, tree, live)?;
        }
        if steps > 2 {
            rustix::fs::renameat(&self.at, between, aside, name)?;
        }
        Ok(())
    }

    /// Ends an exchange that was killed between its steps.
    fn clear_between(&self, between: &str, aside: &OwnedFd, name: &OsStr) -> io::Result<()> {
        if identity(&self.at, OsStr::new(between))?.is_none() {
            return Ok(());
        }
        if identity(aside, name)?.is_none() {
            return Ok(rustix::fs::renameat(&self.at, between, aside, name)?);
        }
        Ok(rustix::fs::unlinkat(&self.at, between, AtFlags::empty())?)
    }

    /// Makes the names in every folder that was touched durable.
    fn sync(&self, kept: &Kept) -> Result<(), Failure> {
        let folders: BTreeSet<&Path> =
            kept.index.entries.iter().filter_map(|entry| entry.name.0.parent()).collect();
        let made = kept.index.folders.iter().filter_map(|folder| folder.name.0.parent());
        for folder in folders.into_iter().chain(made) {
            for base in [kept.dir.clone(), kept.files()] {
                let at: PathBuf = base.join(folder);
                match std::fs::File::open(&at).and_then(|dir| dir.sync_all()) {
                    Ok(()) => {}
                    // A folder that was removed has nothing to sync; one that may not be read is synced by the system.
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                        ) => {}
                    Err(error) => return Err(Failure::io("write", &at, &error)),
                }
            }
        }
        Ok(())
    }
}

/// Renames where nothing stands.
fn renamed(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> io::Result<()> {
    match renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if identity(to, new)?.is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(rustix::fs::renameat(from, name, to, new)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn identity(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<Identity>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Identity { device: stat.st_dev, inode: stat.st_ino })),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The folder that holds `name`, and the name in it. No link is followed on the way, whoever has put one there.
fn below<'a>(root: &OwnedFd, name: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = openat(root, ".", flags, Mode::empty())?;
    for part in name.parent().into_iter().flat_map(Path::components) {
        dir = openat(&dir, part.as_os_str(), flags, Mode::empty())?;
    }
    let name = name.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((dir, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("real/sub")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let root = opened(dir.path()).unwrap();
        assert_eq!(below(&root, Path::new("real/sub/x")).unwrap().1, "x");
        assert!(below(&root, Path::new("link/sub/x")).is_err());
        assert!(below(&root, Path::new("link/x")).is_err());
    }
    #[test]
    fn an_exchange_in_steps_may_be_killed_after_each() {
        for steps in 1..=3 {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["tree", "at/files"] {
                std::fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            let (aside, live) = (dir.path().join("at/files/f"), dir.path().join("tree/f"));
            std::fs::write(&aside, "new").unwrap();
            std::fs::write(&live, "old").unwrap();
            let [root, files, at] =
                ["tree", "at/files", "at"].map(|name| opened(&dir.path().join(name)).unwrap());
            let places = Places { root, files, at };
            let name = OsStr::new("f");
            places
                .exchange_in_steps("between-0", (&places.files, name), (&places.root, name), steps)
                .unwrap();
            let is_moved = steps > 1;
            assert_eq!(std::fs::read_to_string(&live).unwrap(), if is_moved { "new" } else { "old" });
            places.clear_between("between-0", &places.files, name).unwrap();
            assert_eq!(std::fs::read_to_string(&aside).unwrap(), if is_moved { "old" } else { "new" });
            assert_eq!(std::fs::read_dir(dir.path().join("at")).unwrap().count(), 1);
        }
    }
}
