//! Holding what an archive has against what stands in a tree.

use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::fs;
use crate::sys::kept::look;
use crate::sys::stream::Digest;
use crate::sys::tree::KEPT;
use crate::sys::untar::{Item, Name, What, shown};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How an entry differs from what stands in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Nothing stands there.
    New,
    /// Its content differs.
    Content,
    /// Its permissions differ: what they are.
    Mode(u32),
    /// Its owner differs.
    Owner,
    /// It is a link that leads elsewhere.
    Link,
    /// One of the two is a link, and the other a file.
    Kind,
    /// It is another name of a file that changes, or was one.
    SecondName,
}

/// One entry that is not the same. No content is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name in the tree.
    pub name: Name,
    /// What the archive has: `file`, `folder` or `link`.
    pub kind: String,
    /// How it differs.
    pub how: How,
    /// Bytes that stand in the tree.
    pub before: u64,
    /// Bytes that the archive has.
    pub after: u64,
    /// Permissions in the archive.
    pub mode: u32,
}

impl Change {
    /// Whether nothing stood there.
    pub fn is_new(&self) -> bool {
        self.how == How::New
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = shown(&self.name.0);
        let (before, after) = (units::bytes(self.before), units::bytes(self.after));
        match (&self.how, self.kind.as_str()) {
            (How::New, "file") => write!(f, "+ {name} (new, {after})"),
            (How::New, kind) => write!(f, "+ {name} (new {kind})"),
            (How::Content, _) => write!(f, "~ {name} (changed, {before} → {after})"),
            (How::Mode(before), _) => write!(f, "~ {name} (mode {before:03o} → {:03o})", self.mode),
            (How::Owner, _) => write!(f, "~ {name} (another owner)"),
            (How::Link, _) => write!(f, "~ {name} (the link leads elsewhere)"),
            (How::Kind, "link") => write!(f, "~ {name} (a file there, a link in the archive)"),
            (How::Kind, _) => write!(f, "~ {name} (a link there, a file in the archive)"),
            (How::SecondName, _) => write!(f, "~ {name} (a second name of another file)"),
        }
    }
}

/// An archive held against a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What is not the same, by name.
    pub changes: Vec<Change>,
    /// How many entries are the same.
    pub same: u64,
    /// How many files and folders stand beside what the archive holds.
    pub others: u64,
}

/// Holds `items` against the tree at `root`, which need not be there. `own` are folders that are no part of the tree.
///
/// # Errors
/// `Policy` where something would be written through a link, `Io` where one kind of thing would have to become another.
pub fn compare(root: &Path, items: &[Item], own: &[PathBuf], owner: bool) -> Result<Comparison, Failure> {
    let device = look(root)?.map(|metadata| metadata.dev());
    let mut tree = Tree { root, device, folders: BTreeMap::new() };
    tree.no_link(Path::new(KEPT))?;
    let mut how: BTreeMap<&Path, (Option<How>, u64)> = BTreeMap::new();
    for item in items {
        for above in item.name.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            tree.folder(above, &item.name)?;
        }
        let found = look(&root.join(&item.name))?;
        let before = found.as_ref().filter(|found| found.is_file()).map_or(0, Metadata::len);
        how.insert(&item.name, (tree.differs(item, found.as_ref(), owner)?, before));
    }
    join_names(root, items, &mut how)?;
    let mut comparison = Comparison { others: others(root, items, own)?, ..Comparison::default() };
    for item in items {
        let (how, before) = how.remove(item.name.as_path()).unwrap_or((None, 0));
        let Some(how) = how else {
            comparison.same += 1;
            continue;
        };
        let (kind, after) = match &item.what {
            What::Folder => ("folder", 0),
            What::Link { .. } => ("link", 0),
            What::File { size, .. } => ("file", *size),
        };
        let (name, kind) = (Name(item.name.clone()), kind.to_owned());
        comparison.changes.push(Change { name, kind, how, before, after, mode: item.mode });
    }
    Ok(comparison)
}

struct Tree<'a> {
    root: &'a Path,
    device: Option<u64>,
    /// Folders that were looked at, and whether they are there.
    folders: BTreeMap<PathBuf, bool>,
}

impl Tree<'_> {
    fn no_link(&self, name: &Path) -> Result<(), Failure> {
        match look(&self.root.join(name))? {
            Some(metadata) if metadata.is_symlink() => Err(self.through_a_link(name, name)),
            _ => Ok(()),
        }
    }

    fn through_a_link(&self, link: &Path, name: &Path) -> Failure {
        let at = self.root.join(link);
        Failure::new(Code::Policy, format!("`{}` would be written through a link", shown(name)))
            .caused_by(format!("`{}` is a link to another place", at.display()))
            .hint(
                "Nothing was written. Extract into the folder that the link leads to, or take the link away.",
            )
    }

    /// Sees that a folder above `name` is one, or is not there.
    fn folder(&mut self, folder: &Path, name: &Path) -> Result<(), Failure> {
        if self.folders.contains_key(folder) {
            return Ok(());
        }
        let at = self.root.join(folder);
        let found = look(&at)?;
        if let Some(found) = &found {
            if found.is_symlink() {
                return Err(self.through_a_link(folder, name));
            }
            if !found.is_dir() {
                return Err(in_the_way(&at, "is no folder", &format!("has `{}` below it", shown(name))));
            }
            if self.device.is_some_and(|device| device != found.dev()) {
                return Err(Failure::new(Code::Io, format!("`{}` is on another file system", at.display()))
                    .caused_by(format!(
                        "what replaces a file must be on its file system, that of `{}`",
                        self.root.display()
                    ))
                    .hint(format!(
                        "Extract what belongs there by itself: give `{}` as the folder.",
                        at.display()
                    )));
            }
        }
        self.folders.insert(folder.to_path_buf(), found.is_some());
        Ok(())
    }

    fn differs(&self, item: &Item, found: Option<&Metadata>, owner: bool) -> Result<Option<How>, Failure> {
        let Some(found) = found else { return Ok(Some(How::New)) };
        let at = self.root.join(&item.name);
        let mode = found.mode() & 0o777;
        let is_other = owner
            && item.what != What::Folder
            && item.owner.is_some_and(|owner| owner != (found.uid(), found.gid()));
        let how = match &item.what {
            What::Folder if found.is_symlink() => return Err(self.through_a_link(&item.name, &item.name)),
            What::Folder if !found.is_dir() => return Err(in_the_way(&at, "is no folder", "has one there")),
            What::Folder if !item.taken => return Ok(None),
            What::Folder => None,
            _ if found.is_dir() => return Err(in_the_way(&at, "is a folder", "has none there")),
            _ if !found.is_file() && !found.is_symlink() => {
                return Err(in_the_way(&at, "is a device, a pipe or a socket", "has a file there"));
            }
            What::Link { to } if found.is_symlink() => {
                let leads = std::fs::read_link(&at).map_err(|error| Failure::io("read", &at, &error))?;
                return Ok(if leads != *to { Some(How::Link) } else { is_other.then_some(How::Owner) });
            }
            What::Link { .. } => return Ok(Some(How::Kind)),
            What::File { .. } if found.is_symlink() => return Ok(Some(How::Kind)),
            What::File { size, sha256, .. } if found.len() != *size || digest(&at)? != *sha256 => {
                Some(How::Content)
            }
            What::File { .. } => None,
        };
        Ok(how.or((mode != item.mode).then_some(How::Mode(mode))).or(is_other.then_some(How::Owner)))
    }
}

/// Something that would have to become something else, which might destroy more than is kept.
fn in_the_way(at: &Path, is: &str, has: &str) -> Failure {
    Failure::new(Code::Io, format!("`{}` is in the way", at.display()))
        .caused_by(format!("it {is}, and the archive {has}"))
        .hint("Nothing was written. Move it away, or leave it out with `except`.")
}

/// A file with several names changes under all of them, or stays under all: else they would become two files.
fn join_names(
    root: &Path,
    items: &[Item],
    how: &mut BTreeMap<&Path, (Option<How>, u64)>,
) -> Result<(), Failure> {
    let mut groups: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for item in items {
        if let What::File { first: Some(first), .. } = &item.what {
            groups.entry(first).or_insert_with(|| vec![first]).push(&item.name);
        }
    }
    for names in groups.into_values() {
        let mut identities = BTreeSet::new();
        for name in &names {
            if let Some(found) = look(&root.join(name))? {
                identities.insert((found.dev(), found.ino()));
            }
        }
        let is_changed = |name: &&Path| how.get(*name).is_some_and(|(how, _)| how.is_some());
        if identities.len() < 2 && !names.iter().any(is_changed) {
            continue;
        }
        for name in names {
            if let Some((how, _)) = how.get_mut(name) {
                how.get_or_insert(How::SecondName);
            }
        }
    }
    Ok(())
}

/// How many files and folders stand in the root and in the archive's folders that the archive does not hold.
fn others(root: &Path, items: &[Item], own: &[PathBuf]) -> Result<u64, Failure> {
    let named: BTreeSet<&Path> = items.iter().map(|item| item.name.as_path()).collect();
    let mut folders: BTreeSet<&Path> = named.iter().filter_map(|name| name.parent()).collect();
    folders.extend(items.iter().filter(|item| item.what == What::Folder).map(|item| item.name.as_path()));
    folders.insert(Path::new(""));
    let mut others = 0;
    for folder in &folders {
        let at = root.join(folder);
        let failed = |error: &io::Error| Failure::io("list", &at, error);
        let entries = match std::fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(error) => return Err(failed(&error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed(&error))?;
            let name = folder.join(entry.file_name());
            let is_own = entry.file_name() == KEPT || own.iter().any(|own| *own == entry.path());
            others +=
                u64::from(!is_own && !named.contains(name.as_path()) && !folders.contains(name.as_path()));
        }
    }
    Ok(others)
}

/// SHA-256 of a file in the tree.
pub(super) fn digest(path: &Path) -> Result<Digest, Failure> {
    let mut file = fs::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest(hasher.finalize().into())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::io("read", path, &error)),
        }
    }
}
