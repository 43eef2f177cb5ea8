//! Changing places of whole folders: one that an extraction makes goes into the tree in one step, with all that is in it.
//!
//! *Problem*: a step for each of very many new files takes longer than writing them did. *Decision*: a folder that is made
//! changes places with its like, which holds nothing but folders; so each file still stands on the one side or on the
//! other, which is all that needs to be known after a killed run. *Rejected*: renaming the folder alone, since putting it
//! back would then make folders again, and a full disk forbids that.
//!
//! What does not look as it should is left to the steps for each file: where one of the two holds what somebody else has
//! put there, where they differ in owner or attributes, or where the file system cannot exchange folders.

use crate::base::failure::Failure;
use crate::sys::kept::swap::{Places, below};
use crate::sys::kept::{Folder, Kept};
use crate::sys::stream::Digest;
use crate::sys::untar::shown;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::fs::{fgetxattr, flistxattr, openat, renameat_with, statat};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of attributes, or of the value of one, that are compared; folders with more are taken for different.
const ATTRIBUTES: usize = 16 << 10;

/// The topmost of the folders that are made; they come by name.
pub(super) fn topmost(
    folders: impl Iterator<Item = Result<Folder, Failure>> + Send,
) -> impl Iterator<Item = Result<Folder, Failure>> + Send {
    let mut last: Option<PathBuf> = None;
    folders.filter(move |folder| match folder {
        Ok(folder) => {
            let name = &folder.name.0;
            let is_topmost =
                folder.before.is_none() && last.as_ref().is_none_or(|last| !name.starts_with(last));
            if is_topmost {
                last = Some(name.clone());
            }
            is_topmost
        }
        Err(_) => true,
    })
}

/// Tells of names, in their order, whether they lie in folders that have changed places.
pub(super) struct Inside<'a> {
    folders: Box<dyn Iterator<Item = Result<(PathBuf, bool), Failure>> + Send + 'a>,
    last: Option<(PathBuf, bool)>,
    next: Option<(PathBuf, bool)>,
}

impl<'a> Inside<'a> {
    /// `moved` says of each of the topmost folders whether it has.
    pub(super) fn of(kept: &'a Kept, moved: &'a [bool]) -> Result<Self, Failure> {
        let folders = topmost(kept.folders()?).zip(moved);
        let mut folders = folders.map(|(folder, moved)| Ok((folder?.name.0, *moved)));
        let next = folders.next().transpose()?;
        Ok(Self { folders: Box::new(folders), last: None, next })
    }

    pub(super) fn has(&mut self, name: &Path) -> Result<bool, Failure> {
        while self.next.as_ref().is_some_and(|(next, _)| next.as_path() <= name) {
            self.last = std::mem::replace(&mut self.next, self.folders.next().transpose()?);
        }
        Ok(self.last.as_ref().is_some_and(|(folder, moved)| *moved && name.starts_with(folder)))
    }
}

/// What an extraction knows of: digests of names, since names are many bytes. That two have one does not happen; it would
/// leave somebody else's file in a folder that changes places, and lose nothing.
pub(super) struct Known {
    folders: Vec<[u8; 16]>,
    /// Files and links, if they may be in the tree.
    entries: Vec<[u8; 16]>,
}

impl Known {
    /// With `to_new` nothing but folders is looked for.
    pub(super) fn of(kept: &Kept, to_new: bool) -> Result<Self, Failure> {
        let room = |count: u64| Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut known = Self { folders: room(kept.folders_count()), entries: Vec::new() };
        for folder in kept.folders()? {
            known.folders.push(brief(&folder?.name.0));
        }
        if !to_new {
            known.entries = room(kept.files_count());
            for entry in kept.entries()? {
                known.entries.push(brief(&entry?.name.0));
            }
        }
        known.folders.sort_unstable();
        known.entries.sort_unstable();
        Ok(known)
    }

    fn has(&self, name: &Path, is_dir: bool) -> bool {
        let among = if is_dir { &self.folders } else { &self.entries };
        among.binary_search(&brief(name)).is_ok()
    }
}

fn brief(name: &Path) -> [u8; 16] {
    let mut brief = [0; 16];
    brief.copy_from_slice(&Digest::of_bytes(name.as_os_str().as_bytes()).0[..16]);
    brief
}

/// Lets a folder that is made change places with its like; `to_new` tells whether what was extracted comes into the tree.
/// Says whether it did: all that is in it has moved then.
///
/// # Errors
/// If something may be on the wrong side. As long as nothing has moved, there are none.
pub(super) fn exchange(
    places: &Places,
    kept: &Kept,
    known: &Known,
    folder: &Folder,
    to_new: bool,
) -> io::Result<bool> {
    let name = &folder.name.0;
    let ready = || {
        let ((aside, last), (tree, _)) = (below(&places.files, name)?, below(&places.root, name)?);
        let (inner, outer) = (opened(&aside, last)?, opened(&tree, last)?);
        let (full, empty) = if to_new { (&inner, &outer) } else { (&outer, &inner) };
        // What stands aside is nobody else's.
        let is_clean = strangers(empty, known, name, false)?.is_empty()
            && (to_new || strangers(full, known, name, true)?.is_empty());
        Ok::<_, io::Error>((is_clean && alike(&inner, &outer)?).then_some((aside, tree, outer, last)))
    };
    let Ok(Some((aside, tree, outer, last))) = ready() else { return Ok(false) };
    if renameat_with(&aside, last, &tree, last, RenameFlags::EXCHANGE).is_err() {
        return Ok(false);
    }
    tracing::debug!(folder = %shown(&kept.dir.join(name)), "changes places");
    // Somebody may have put something into it between looking and renaming.
    for stranger in strangers(&outer, known, name, !to_new)? {
        let (from, last) = below(&places.files, &stranger)?;
        let (to, _) = below(&places.root, &stranger)?;
        renameat_with(&from, last, &to, last, RenameFlags::NOREPLACE)?;
    }
    Ok(true)
}

/// What is in a folder that the extraction knows nothing of; with `filled`, it knows its files and links, else only folders.
fn strangers(dir: &OwnedFd, known: &Known, name: &Path, filled: bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(dir, name, &mut |path, is_dir| {
        let is_ours = (is_dir || filled) && known.has(path, is_dir);
        if !is_ours {
            found.push(path.to_path_buf());
        }
        is_ours
    })?;
    Ok(found)
}

/// A folder, links not followed.
fn opened(dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// Shows all that is below a folder to `look`, and whether it is a folder; below one that it says no to it does not go.
fn walk(dir: &OwnedFd, name: &Path, look: &mut impl FnMut(&Path, bool) -> bool) -> io::Result<()> {
    let mut folders: Vec<OsString> = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let last = entry.file_name();
        if last == c"." || last == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                FileType::from_raw_mode(statat(dir, last, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            kind => kind,
        };
        let last = OsStr::from_bytes(last.to_bytes());
        if look(&name.join(last), kind.is_dir()) && kind.is_dir() {
            folders.push(last.to_owned());
        }
    }
    folders.iter().try_for_each(|last| walk(&opened(dir, last)?, &name.join(last), look))
}

/// Whether two folders have the same owner, special permissions and extended attributes, such as default ACLs: one that is
/// made in the tree gets them from the folder above it.
fn alike(one: &OwnedFd, other: &OwnedFd) -> io::Result<bool> {
    let owned =
        |dir: &OwnedFd| rustix::fs::fstat(dir).map(|stat| (stat.st_uid, stat.st_gid, stat.st_mode & 0o7000));
    if owned(one)? != owned(other)? {
        return Ok(false);
    }
    let names = attributes(|buffer| flistxattr(one, buffer))?;
    if names != attributes(|buffer| flistxattr(other, buffer))? {
        return Ok(false);
    }
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        let value = |dir| attributes(|buffer| fgetxattr(dir, name, buffer));
        if value(one)? != value(other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a question about extended attributes is answered with; nothing where there are none.
fn attributes(ask: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; ATTRIBUTES];
    match ask(&mut buffer) {
        Ok(length) => buffer.truncate(length),
        Err(Errno::NOTSUP | Errno::NOSYS) => buffer.clear(),
        Err(error) => return Err(error.into()),
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::kept::{Entry, Index, State};
    use crate::sys::untar::Name;

    /// A folder `new` with a file and a folder in it, staged, and its like in the tree.
    fn staged() -> (tempfile::TempDir, Kept) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("tree");
        let at = temp.path().join("at");
        for folder in ["at/files/new/sub", "tree/new/sub"] {
            std::fs::create_dir_all(temp.path().join(folder)).unwrap();
        }
        for file in ["a", "sub/b"] {
            std::fs::write(at.join("files/new").join(file), file).unwrap();
        }
        let name = |name: &str| Name(name.into());
        let entry = |at: &str| Entry {
            name: name(at),
            aside: None,
            replaced: None,
            sha256: None,
            holes: false,
            mode: 0o600,
            to: None,
        };
        let folder =
            |at: &str| Folder { name: name(at), mode: 0o755, before: None, modified: None, owner: None };
        let index = Index {
            version: 1,
            run: "run".to_owned(),
            created: chrono::DateTime::UNIX_EPOCH.fixed_offset(),
            backup: name("a.tar.gz"),
            sha256: String::new(),
            selection: None,
            changes: Vec::new(),
            same: 0,
            others: 0,
            entries: vec![entry("new/a"), entry("new/sub/b")],
            folders: vec![folder("new"), folder("new/sub")],
            beside: None,
        };
        (temp, Kept { dir, at, state: State::Swapping, index })
    }

    fn exchanged(kept: &Kept, to_new: bool) -> bool {
        let places = Places::open(kept).unwrap();
        let known = Known::of(kept, to_new).unwrap();
        exchange(&places, kept, &known, &kept.index.folders[0], to_new).unwrap()
    }

    #[test]
    fn a_folder_moves_with_all_that_is_in_it_and_back() {
        let (_temp, kept) = staged();
        let (tree, aside) = (kept.dir.join("new"), kept.files().join("new"));
        assert!(exchanged(&kept, true));
        assert_eq!(std::fs::read_to_string(tree.join("sub/b")).unwrap(), "sub/b");
        assert!(aside.join("sub").exists() && !aside.join("a").exists() && !aside.join("sub/b").exists());
        // A second time there is something in it.
        assert!(!exchanged(&kept, true));
        assert!(exchanged(&kept, false));
        assert_eq!(std::fs::read_to_string(aside.join("a")).unwrap(), "a");
        assert!(tree.join("sub").exists() && !tree.join("a").exists());
    }

    #[test]
    fn what_somebody_else_has_put_there_stays() {
        for stranger in ["mine", "sub/mine"] {
            let (_temp, kept) = staged();
            let tree = kept.dir.join("new");
            std::fs::write(tree.join(stranger), "mine").unwrap();
            assert!(!exchanged(&kept, true), "{stranger}");
            std::fs::remove_file(tree.join(stranger)).unwrap();
            assert!(exchanged(&kept, true));
            std::fs::write(tree.join(stranger), "mine").unwrap();
            assert!(!exchanged(&kept, false), "{stranger}");
            assert_eq!(std::fs::read_to_string(tree.join("a")).unwrap(), "a");
        }
        let (_temp, kept) = staged();
        std::fs::create_dir(kept.dir.join("new/own")).unwrap();
        assert!(!exchanged(&kept, true));
        // So does a folder that is none, or is not there.
        std::fs::remove_dir_all(kept.dir.join("new")).unwrap();
        assert!(!exchanged(&kept, true));
        std::os::unix::fs::symlink("/", kept.dir.join("new")).unwrap();
        assert!(!exchanged(&kept, true));
    }

    #[test]
    fn folders_of_different_owners_or_attributes_stay_where_they_are() {
        use std::os::unix::fs::PermissionsExt;
        let (_temp, kept) = staged();
        let tree = kept.dir.join("new");
        let set_mode = |mode| std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(mode)).unwrap();
        set_mode(0o2755);
        assert!(!exchanged(&kept, true));
        set_mode(0o711);
        if rustix::fs::setxattr(&tree, "user.lifeboat", b"x", rustix::fs::XattrFlags::empty()).is_ok() {
            assert!(!exchanged(&kept, true));
            rustix::fs::removexattr(&tree, "user.lifeboat").unwrap();
        }
        assert!(exchanged(&kept, true));
    }

    #[test]
    fn only_the_topmost_folders_that_are_made_move() {
        let (_temp, mut kept) = staged();
        let mut folders = Vec::new();
        for (name, before) in
            [("a", Some(0o755)), ("a/b", None), ("a/b/c", None), ("a/bb", None), ("d", None), ("d/e", None)]
        {
            folders.push(Folder { name: Name(name.into()), before, ..kept.index.folders[0].clone() });
        }
        kept.index.folders = folders;
        let topmost: Vec<Folder> = topmost(kept.folders().unwrap()).map(Result::unwrap).collect();
        let names: Vec<&Path> = topmost.iter().map(|folder| folder.name.0.as_path()).collect();
        assert_eq!(names, [Path::new("a/b"), Path::new("a/bb"), Path::new("d")]);
        let mut inside = Inside::of(&kept, &[true, false, true]).unwrap();
        for (name, is_inside) in [
            ("a", false),
            ("a/b", true),
            ("a/b/c/x", true),
            ("a/b-c", false),
            ("a/bb", false),
            ("a/bb/x", false),
            ("c", false),
            ("d/e/f", true),
            ("dd", false),
        ] {
            assert_eq!(inside.has(Path::new(name)).unwrap(), is_inside, "{name}");
        }
    }
}
