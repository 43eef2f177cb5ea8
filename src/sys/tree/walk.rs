//! Walking a tree by name. A folder's names are held packed while it is walked, so that one with a million of them is sorted
//! in the memory that the names themselves take.

use super::header::reason;
use super::{KEPT, Selection};
use std::fs::FileType;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// One thing to be archived.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Its name in the archive.
    pub name: PathBuf,
    /// Whether it was a regular file when it was found.
    pub is_file: bool,
}

impl Entry {
    /// Bytes of content, 0 for what is no regular file; or why they cannot be told, in words.
    pub fn size(&self) -> Result<u64, String> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(metadata) => Ok(if metadata.is_file() { metadata.len() } else { 0 }),
            Err(error) => Err(self.told(&reason(&error))),
        }
    }

    /// A problem with it.
    pub(super) fn told(&self, problem: &str) -> String {
        format!("{}: {problem}", self.name.display())
    }
}

/// The names of one folder, in order.
struct Listing {
    /// Its name in the tree.
    folder: PathBuf,
    /// All names, one behind the other.
    text: Vec<u8>,
    /// Where each begins, how long it is, and what it is.
    names: Vec<(u32, u16, Kind)>,
    next: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Other,
}

impl Kind {
    fn of(kind: FileType) -> Self {
        if kind.is_dir() {
            Self::Folder
        } else if kind.is_file() {
            Self::File
        } else {
            Self::Other
        }
    }
}

impl Listing {
    fn of(root: &Path, folder: PathBuf) -> io::Result<Self> {
        let (mut text, mut names) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            // A file system that does not tell the kind is asked, and what is gone by now is told when it is read.
            let kind = entry.file_type().map_or(Kind::File, Kind::of);
            let name = entry.file_name().into_vec();
            let (Ok(at), Ok(length)) = (u32::try_from(text.len()), u16::try_from(name.len())) else {
                return Err(io::Error::other("its names take more than 4 GiB"));
            };
            text.extend_from_slice(&name);
            names.push((at, length, kind));
        }
        let bytes =
            |&(at, length, _): &(u32, u16, Kind)| &text[at as usize..at as usize + usize::from(length)];
        names.sort_unstable_by(|a, b| bytes(a).cmp(bytes(b)));
        Ok(Self { folder, text, names, next: 0 })
    }
}

impl Iterator for Listing {
    type Item = (PathBuf, Kind);

    fn next(&mut self) -> Option<Self::Item> {
        let &(at, length, kind) = self.names.get(self.next)?;
        self.next += 1;
        let name = &self.text[at as usize..at as usize + usize::from(length)];
        Some((self.folder.join(std::ffi::OsStr::from_bytes(name)), kind))
    }
}

/// A walk that is on its way.
struct Walk<'a> {
    root: &'a Path,
    selection: &'a Selection,
    own: &'a [PathBuf],
    began: bool,
    /// The folders that are being walked, the root first.
    open: Vec<Listing>,
    /// The deepest folder that was found last: those above it were found too.
    last: PathBuf,
    /// What is found next, the last one first.
    found: Vec<Result<Entry, String>>,
}

impl Walk<'_> {
    fn enter(&mut self, folder: PathBuf) {
        match Listing::of(self.root, folder.clone()) {
            Ok(listing) => self.open.push(listing),
            Err(error) => self.found.insert(0, Err(format!("{}: {}", folder.display(), reason(&error)))),
        }
    }

    fn take(&mut self, name: PathBuf, kind: Kind) {
        let path = self.root.join(&name);
        let is_folder = kind == Kind::Folder;
        let is_kept = || name.file_name().is_some_and(|name| name == KEPT);
        if self.selection.is_excluded(&name)
            || self.own.contains(&path)
            || (is_folder && (is_kept() || !self.selection.may_hold(&name)))
        {
            return;
        }
        if self.selection.takes(&name) {
            // The folders above an entry come with it, so that their permissions are kept.
            let holds = if is_folder { &name } else { name.parent().unwrap_or(Path::new("")) };
            self.found.extend(
                (!is_folder).then(|| {
                    Ok(Entry { path: path.clone(), name: name.clone(), is_file: kind == Kind::File })
                }),
            );
            for folder in holds.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
                if self.last.starts_with(folder) {
                    break;
                }
                let path = self.root.join(folder);
                self.found.push(Ok(Entry { path, name: folder.to_path_buf(), is_file: false }));
            }
            self.last = holds.to_path_buf();
        }
        if is_folder {
            self.enter(name);
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if !std::mem::replace(&mut self.began, true) {
            self.enter(PathBuf::new());
        }
        loop {
            if let Some(found) = self.found.pop() {
                return Some(found);
            }
            match self.open.last_mut()?.next() {
                Some((name, kind)) => self.take(name, kind),
                None => {
                    self.open.pop();
                }
            }
        }
    }
}

/// Walks a tree by name, folders before what they hold. Folders in `own`, what is kept of replaced files, and what the
/// selection leaves out are not entered. An `Err` says what could not be read and why.
pub fn walk<'a>(
    root: &'a Path,
    selection: &'a Selection,
    own: &'a [PathBuf],
) -> impl Iterator<Item = Result<Entry, String>> + 'a {
    let (open, found) = (Vec::new(), Vec::new());
    Walk { root, selection, own, began: false, open, last: PathBuf::new(), found }
}

/// The folders below `root` that may hold what the selection takes, the root first. Those in `own` are not entered.
pub fn folders(root: &Path, selection: &Selection, own: &[PathBuf]) -> Vec<PathBuf> {
    let walker = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(|entry| {
        let name = entry.path().strip_prefix(root).unwrap_or(Path::new(""));
        entry.file_type().is_dir()
            && entry.file_name() != KEPT
            && !own.iter().any(|dir| entry.path() == dir)
            && !selection.is_excluded(name)
            && selection.may_hold(name)
    });
    // What cannot be entered holds nothing that could be taken.
    walker.filter_map(|entry| Some(entry.ok()?.into_path())).collect()
}
