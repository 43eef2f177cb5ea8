//! Changing places: what stands aside and what stands in the tree, one file after the other, each in one step; folders that
//! are made with all that is in them.

use crate::base::failure::Failure;
use crate::sys::fs;
use crate::sys::kept::durable::Durable;
use crate::sys::kept::stage::times;
use crate::sys::kept::whole::{Inside, Known, exchange, topmost};
use crate::sys::kept::{Entry, Folder, Identity, Kept, State, look};
use crate::sys::untar::shown;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid, openat, renameat_with};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// Begins the name under which the file of an entry stands for one step, where the file system cannot exchange two in one.
const BETWEEN: &str = "between-";

/// Folders that are counted, and that are synced without looking whether they come again.
const TOGETHER: usize = 4096;

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
    kept.check_owner()?;
    complete(kept)
}

/// Undoes what a killed run had done of putting files into the tree. After a failure it can be done again.
pub fn revert(kept: &mut Kept) -> Result<(), Failure> {
    kept.check_owner()?;
    Places::open(kept)?.all(kept, false, false).map_err(|failure| half_replaced(kept, failure, None))?;
    kept.become_state(State::Undone).map_err(|failure| not_durable(kept, failure, false))
}

/// Notes what stands aside now, and that it is going to move.
fn begin(kept: &mut Kept, state: State) -> Result<(), Failure> {
    if kept.state != State::Staging {
        kept.check_owner()?;
        let files = kept.files();
        // It is as foreseen, unless somebody has changed files in the tree since.
        kept.update(&mut |entry| {
            let aside = look(&files.join(&entry.name.0))?.map(|metadata| Identity::of(&metadata));
            let noted = if state == State::Undoing { &mut entry.replaced } else { &mut entry.aside };
            *noted = aside;
            Ok(())
        })?;
    }
    let before = kept.state;
    // A name that may not last must not say that files are moving: none is.
    kept.become_state(state).inspect_err(|_| {
        let _ = kept.become_state(before);
    })
}

fn complete(kept: &mut Kept) -> Result<(), Failure> {
    let (from, to, to_new) = match kept.state {
        State::Undoing => (State::Swapped, State::Undone, false),
        _ => (State::Undone, State::Swapped, true),
    };
    let places = Places::open(kept)?;
    let Err(mut failure) = places.all(kept, true, to_new) else {
        return kept.become_state(to).map_err(|failure| not_durable(kept, failure, to_new));
    };
    // The places are changed back: all or nothing.
    if let Err(second) = places.all(kept, false, !to_new) {
        return Err(half_replaced(kept, failure, Some(second)));
    }
    if let Err(second) = kept.become_state(from) {
        failure = failure.caused_by(second);
    }
    Err(failure.hint(if to_new { "Nothing was replaced." } else { "Nothing was put back." }))
}

/// Some files are on the one side and some on the other; `second` tells why they could not be put back.
fn half_replaced(kept: &Kept, failure: Failure, second: Option<Failure>) -> Failure {
    let mut told =
        Failure::new(failure.code, format!("the files in `{}` are half replaced", kept.dir.display()));
    told.hints.clone_from(&failure.hints);
    told = told.caused_by(failure);
    if let Some(second) = second {
        told = told.caused_by(format!("putting them back failed too: {second}"));
    }
    told.hint(format!(
        "Remove the cause and run the same again: it goes on where it stopped. Both versions are in `{}`.",
        kept.at.display()
    ))
}

/// All files have changed places, and it is the name that says so which could not be given, or may not outlast a loss of power.
fn not_durable(kept: &Kept, failure: Failure, to_new: bool) -> Failure {
    let (done, others) = match to_new {
        true => ("replaced", "What was there before"),
        false => ("put back", "What had been extracted"),
    };
    let dir = kept.dir.display();
    let message = format!("all files in `{dir}` were {done}, but a loss of power may undo some of that");
    let remedy = match (kept.is_half_done(), to_new) {
        (true, _) => "Remove the cause and run the same again: it then ends.".to_owned(),
        (false, true) => format!("To put it back: `lifeboat rollback {}`.", kept.index.run),
        (false, false) => "Find out what is wrong with the disk: `dmesg` tells.".to_owned(),
    };
    let told = Failure::new(failure.code, message).caused_by(failure);
    told.hint(format!("{others} is kept in `{}`. {remedy}", kept.at.display()))
}

/// The folders between which files change places.
pub(super) struct Places {
    pub(super) root: OwnedFd,
    pub(super) files: OwnedFd,
    at: OwnedFd,
}

fn opened(dir: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| Failure::io("open", dir, &error.into()))
}

/// The folder that was opened last: of many entries that follow each other, it holds them all.
struct Last<'a> {
    root: &'a OwnedFd,
    folder: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Last<'a> {
    fn of(root: &'a OwnedFd) -> Self {
        Self { root, folder: None }
    }

    /// As [`below`].
    fn below<'n>(&mut self, name: &'n Path) -> io::Result<(&OwnedFd, &'n OsStr)> {
        let folder = name.parent().unwrap_or(Path::new(""));
        let last = name.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        if self.folder.as_ref().is_none_or(|(opened, _)| opened != folder) {
            self.folder = Some((folder.to_path_buf(), below(self.root, name)?.0));
        }
        let (_, opened) = self.folder.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok((opened, last))
    }
}

impl Places {
    pub(super) fn open(kept: &Kept) -> Result<Self, Failure> {
        Ok(Self { root: opened(&kept.dir)?, files: opened(&kept.files())?, at: opened(&kept.at)? })
    }

    /// Brings every entry to the side that `moved` says; `to_new` tells whether the tree then has what was extracted.
    fn all(&self, kept: &Kept, moved: bool, to_new: bool) -> Result<(), Failure> {
        // Opened before anything changes, so that it tells every error since.
        let durable = Durable::of(&kept.dir, touched(kept)?)?;
        self.open_up(kept)?;
        if to_new {
            kept.folders()?.try_for_each(|folder| self.make(kept, &folder?))?;
        }
        let cannot = |name: &Path, error: &io::Error| {
            Failure::io("replace", &kept.dir.join(name), error)
                .hint("A file that is mounted by itself, or marked as immutable, cannot be replaced.")
        };
        let mut whole = Vec::new();
        let mut known = None;
        for folder in topmost(kept.folders()?) {
            let folder = folder?;
            let known = match &mut known {
                Some(known) => known,
                none => none.insert(Known::of(kept, to_new)?),
            };
            let exchanged = exchange(self, kept, known, &folder, to_new);
            whole.push(exchanged.map_err(|error| cannot(&folder.name.0, &error))?);
        }
        drop(known);
        let between = self.between(kept)?;
        let (mut aside, mut tree) = (Last::of(&self.files), Last::of(&self.root));
        let mut inside = Inside::of(kept, &whole)?;
        for (number, entry) in kept.entries()?.enumerate() {
            let entry = entry?;
            if inside.has(&entry.name.0)? {
                continue;
            }
            let step = Step { kept, entry: &entry, between: format!("{BETWEEN}{number}"), moved };
            let was_between = between.contains(OsStr::new(&step.between));
            let done = self.one(&step, was_between, &mut aside, &mut tree);
            done.map_err(|error| cannot(&entry.name.0, &error))?;
        }
        if to_new && whole.contains(&true) {
            // One that was staged need not have those that nothing is in.
            let mut inside = Inside::of(kept, &whole)?;
            for folder in kept.folders()? {
                let folder = folder?;
                if inside.has(&folder.name.0)? {
                    self.make(kept, &folder)?;
                }
            }
        }
        // What is below a folder changes its time, and it may be that nothing can be written in it afterwards. So one comes
        // behind all that are in it.
        let mut open: Vec<Folder> = Vec::new();
        for folder in kept.folders()? {
            let folder = folder?;
            while let Some(done) = open.pop_if(|open| !folder.name.0.starts_with(&open.name.0)) {
                self.settle(kept, &done, to_new)?;
            }
            open.push(folder);
        }
        open.iter().rev().try_for_each(|folder| self.settle(kept, folder, to_new))?;
        match durable {
            Durable::Each => sync(kept),
            whole @ Durable::Whole(_) => whole.finish(&kept.dir),
        }
    }

    /// Names under which a killed run left files between two places.
    fn between(&self, kept: &Kept) -> Result<BTreeSet<OsString>, Failure> {
        let failed = |error: io::Error| Failure::io("list", &kept.at, &error);
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(&kept.at).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            found.extend(name.as_encoded_bytes().starts_with(BETWEEN.as_bytes()).then_some(name));
        }
        Ok(found)
    }

    /// Lets the process write in folders of its own user whose permissions deny it; [`Self::settle`] gives those in the tree
    /// the permissions that they are to have.
    fn open_up(&self, kept: &Kept) -> Result<(), Failure> {
        if fs::is_root() {
            return Ok(());
        }
        let user = fs::user();
        for folder in kept.folders()? {
            let name = folder?.name.0;
            for (root, at) in [(&self.root, &kept.dir), (&self.files, &kept.files())] {
                // What is not there, or is no folder, is told by what moves something in it.
                let Ok((parent, last)) = below(root, &name) else { continue };
                let Ok(found) = rustix::fs::statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW) else {
                    continue;
                };
                let mode = Mode::from_raw_mode(found.st_mode);
                let is_ours = FileType::from_raw_mode(found.st_mode).is_dir() && found.st_uid == user;
                if is_ours && !mode.contains(Mode::RWXU) {
                    rustix::fs::chmodat(&parent, last, mode | Mode::RWXU, AtFlags::empty()).map_err(
                        |error| Failure::io("set the permissions of", &at.join(&name), &error.into()),
                    )?;
                }
            }
        }
        Ok(())
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
        let at = &kept.dir.join(&folder.name.0);
        let (parent, name) = match below(&self.root, &folder.name.0) {
            // Somebody has removed the folder above it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| Failure::io("open", at, &error))?,
        };
        let Some(mode) = (if to_new { Some(folder.mode) } else { folder.before }) else {
            // It was made, and goes again unless somebody has put something into it.
            return match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
                Err(error) => Err(Failure::io("remove", at, &error.into())),
            };
        };
        // By the folder above it, and not by its path: no link that somebody puts there meanwhile leads elsewhere.
        let cannot = |what: &'static str| move |error: Errno| Failure::io(what, at, &error.into());
        let found = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode).is_dir() => found,
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(cannot("look at")(error)),
        };
        if let (true, Some((user, group))) = (to_new, folder.owner) {
            let (user, group) = (Uid::from_raw_unchecked(user), Gid::from_raw_unchecked(group));
            rustix::fs::chownat(&parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(cannot("set the owner of"))?;
        }
        let wanted = found.st_mode & 0o7000 | mode;
        if found.st_mode & 0o7777 != wanted {
            openat(&parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .and_then(|own| rustix::fs::fchmod(own, Mode::from_raw_mode(wanted)))
                .map_err(cannot("set the permissions of"))?;
        }
        if let (true, Some(modified)) = (to_new, folder.modified) {
            // A time that the file system cannot hold is no reason to fail.
            let _ = rustix::fs::utimensat(&parent, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW);
        }
        Ok(())
    }

    fn one(
        &self,
        step: &Step<'_>,
        was_between: bool,
        inside: &mut Last<'_>,
        outside: &mut Last<'_>,
    ) -> io::Result<()> {
        let Step { kept, entry, between, moved } = step;
        let name = entry.name.0.as_path();
        let (aside, last) = inside.below(name)?;
        if was_between {
            self.clear_between(between, aside, last)?;
        }
        let here = identity(aside, last)?;
        let has_moved = here != kept.aside(entry);
        if has_moved == *moved {
            return Ok(());
        }
        let tree = match outside.below(name) {
            // Somebody has removed its folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound && here.is_none() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = kept.dir.join(name.parent().unwrap_or(Path::new("")));
                std::fs::create_dir_all(&folder)?;
                outside.below(name)?.0
            }
            found => found?.0,
        };
        tracing::debug!(file = %shown(&kept.dir.join(name)), "changes places");
        match (here.is_some(), identity(tree, last)?.is_some()) {
            (true, true) => self.exchange(between, (aside, last), (tree, last)),
            (true, false) => renamed(aside, last, tree, last),
            (false, true) => renamed(tree, last, aside, last),
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
}

/// One entry on its way to the side that `moved` says.
struct Step<'a> {
    kept: &'a Kept,
    entry: &'a Entry,
    between: String,
    moved: bool,
}

/// Shows the folders in which names change to `look`, some of them more than once, until that says that it has enough.
fn each_touched(kept: &Kept, look: &mut dyn FnMut(&Path) -> Result<bool, Failure>) -> Result<(), Failure> {
    let entries = kept.entries()?.map(|entry| entry.map(|entry| entry.name));
    let folders = kept.folders()?.map(|folder| folder.map(|folder| folder.name));
    let mut last: Option<PathBuf> = None;
    for name in entries.chain(folders) {
        let name = name?.0;
        let Some(folder) = name.parent().filter(|folder| last.as_deref() != Some(folder)) else { continue };
        if !look(folder)? {
            return Ok(());
        }
        last = Some(folder.to_path_buf());
    }
    Ok(())
}

/// In how many folders names change, in the tree and aside; of very many not all are counted.
fn touched(kept: &Kept) -> Result<usize, Failure> {
    let mut folders = BTreeSet::new();
    each_touched(kept, &mut |folder| {
        folders.insert(folder.to_path_buf());
        Ok(folders.len() < TOGETHER)
    })?;
    Ok(2 * folders.len())
}

/// Makes the names in all folders durable in which names have changed.
fn sync(kept: &Kept) -> Result<(), Failure> {
    let mut folders = BTreeSet::new();
    each_touched(kept, &mut |folder| {
        folders.extend([kept.dir.join(folder), kept.files().join(folder)]);
        if folders.len() >= TOGETHER {
            std::mem::take(&mut folders).iter().try_for_each(|at| sync_one(at))?;
        }
        Ok(true)
    })?;
    folders.iter().try_for_each(|at| sync_one(at))
}

fn sync_one(at: &Path) -> Result<(), Failure> {
    match std::fs::File::open(at).and_then(|dir| dir.sync_all()) {
        Ok(()) => Ok(()),
        // A folder that was removed has nothing to sync; one that may not be read is synced by the system.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        Err(error) => Err(Failure::io("write", at, &error)),
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
pub(super) fn below<'a>(root: &OwnedFd, name: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
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
    use crate::base::failure::Code;
    use crate::sys::kept::tests::{extraction, told};
    use expect_test::expect;

    fn text(kept: &Kept, name: &str) -> String {
        std::fs::read_to_string(kept.dir.join(name)).unwrap()
    }

    /// Puts a file where the folder of an entry is, so that the entry cannot change places.
    fn block(kept: &Kept) {
        std::fs::rename(kept.dir.join("b"), kept.dir.join("aside")).unwrap();
        std::fs::write(kept.dir.join("b"), "in the way").unwrap();
    }

    #[test]
    fn nothing_was_replaced_is_said_only_where_it_is_true() {
        let (temp, mut kept) = extraction(State::Staging, &["a", "b/c"]);
        block(&kept);
        let failure = forward(&mut kept).unwrap_err();
        expect![[r#"
            cannot replace `TEMP/tree/b/c`
            caused by: Not a directory (os error 20)
            hint: A file that is mounted by itself, or marked as immutable, cannot be replaced.
            hint: Nothing was replaced.
        "#]]
        .assert_eq(&told(&temp, &failure));
        assert_eq!((kept.state, text(&kept, "a").as_str()), (State::Undone, "old"));

        // A killed run had replaced all but the last: undoing that stops at the other.
        let (temp, mut kept) = extraction(State::Swapping, &["a", "b/c", "d"]);
        let places = Places::open(&kept).unwrap();
        places.all(&kept, true, true).unwrap();
        block(&kept);
        let failure = revert(&mut kept).unwrap_err();
        expect![[r#"
            the files in `TEMP/tree` are half replaced
            caused by: cannot replace `TEMP/tree/b/c`: Not a directory (os error 20)
            hint: A file that is mounted by itself, or marked as immutable, cannot be replaced.
            hint: Remove the cause and run the same again: it goes on where it stopped. Both versions are in `TEMP/tree/.lifeboat-kept/run-1.swapping`.
        "#]].assert_eq(&told(&temp, &failure));
        assert_eq!(kept.state, State::Swapping);
        assert_eq!((text(&kept, "a"), text(&kept, "d")), ("old".to_owned(), "new".to_owned()));
        // Without the obstacle it goes on where it stopped.
        std::fs::remove_file(kept.dir.join("b")).unwrap();
        std::fs::rename(kept.dir.join("aside"), kept.dir.join("b")).unwrap();
        revert(&mut kept).unwrap();
        assert_eq!(["a", "b/c", "d"].map(|name| text(&kept, name)), ["old"; 3]);
        assert_eq!(kept.state, State::Undone);
    }

    #[test]
    fn when_the_last_name_cannot_be_given_all_files_have_changed_places() {
        let (temp, mut kept) = extraction(State::Staging, &["a"]);
        let blocked = kept.path().join("x");
        std::fs::create_dir_all(&blocked).unwrap();
        let failure = forward(&mut kept).unwrap_err();
        expect![[r#"
            all files in `TEMP/tree` were replaced, but a loss of power may undo some of that
            caused by: cannot rename `TEMP/tree/.lifeboat-kept/run-1.swapping`: Directory not empty (os error 39)
            hint: What was there before is kept in `TEMP/tree/.lifeboat-kept/run-1.swapping`. Remove the cause and run the same again: it then ends.
        "#]].assert_eq(&told(&temp, &failure));
        assert_eq!((kept.state, text(&kept, "a").as_str()), (State::Swapping, "new"));
        std::fs::remove_dir_all(kept.path()).unwrap();
        finish(&mut kept).unwrap();
        assert_eq!(kept.state, State::Swapped);
        // Where it has its name, a loss of power may take that again.
        let failed = Failure::new(Code::Io, "cannot write `x`");
        expect![[r#"
            all files in `TEMP/tree` were replaced, but a loss of power may undo some of that
            caused by: cannot write `x`
            hint: What was there before is kept in `TEMP/tree/.lifeboat-kept/run-1`. To put it back: `lifeboat rollback run`.
        "#]].assert_eq(&told(&temp, &not_durable(&kept, failed.clone(), true)));
        back(&mut kept).unwrap();
        expect![[r#"
            all files in `TEMP/tree` were put back, but a loss of power may undo some of that
            caused by: cannot write `x`
            hint: What had been extracted is kept in `TEMP/tree/.lifeboat-kept/run-1.undone`. Find out what is wrong with the disk: `dmesg` tells.
        "#]].assert_eq(&told(&temp, &not_durable(&kept, failed, false)));
    }

    #[test]
    fn files_that_do_not_move_yet_leave_the_name_as_it_was() {
        let (_temp, mut kept) = extraction(State::Staging, &["a"]);
        std::fs::create_dir_all(kept.named(State::Swapping).join("x")).unwrap();
        forward(&mut kept).unwrap_err();
        assert_eq!((kept.state, text(&kept, "a").as_str()), (State::Staging, "old"));
        assert!(kept.at.exists());
    }

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
