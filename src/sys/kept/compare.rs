//! Holding what an archive has against what stands in a tree.

use crate::base::cancel::Cancel;
use crate::base::failure::{Code, Failure};
use crate::sys::fs;
use crate::sys::kept::changes::{Change, Changes, Finding, How, Kind};
use crate::sys::kept::look;
use crate::sys::spill::Rows;
use crate::sys::stream::{Digest, Width, cores, ordered};
use crate::sys::tree::{Extent, HoleyDigest, KEPT, extents};
use crate::sys::untar::{Item, Name, What, shown};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries that one thread compares at a time.
const TOGETHER: usize = 64;

/// An archive held against a tree.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// What is not the same.
    pub changes: Changes,
    /// Which entries of the archive these are.
    pub marks: Marks,
    /// Bytes that they take on a disk.
    pub room: u64,
    /// How many entries are the same.
    pub same: u64,
    /// How many files and folders stand beside what the archive holds.
    pub others: u64,
}

/// Entries of an archive that are not the same in the tree, by their numbers: two bits for each.
#[derive(Clone, Debug, Default)]
pub struct Marks(Arc<Vec<u8>>);

impl Marks {
    const CHANGED: u8 = 1;
    const NEW: u8 = 2;

    fn add(bits: &mut Vec<u8>, number: u64, is_new: bool) {
        let (at, shift) = ((number / 4) as usize, number % 4 * 2);
        bits.resize(bits.len().max(at + 1), 0);
        bits[at] |= (Self::CHANGED | if is_new { Self::NEW } else { 0 }) << shift;
    }

    fn has(&self, number: u64, mark: u8) -> bool {
        let byte = usize::try_from(number / 4).ok().and_then(|at| self.0.get(at));
        byte.is_some_and(|byte| byte >> (number % 4 * 2) & mark != 0)
    }

    /// Whether the entry of that number is not the same.
    pub fn is_changed(&self, number: u64) -> bool {
        self.has(number, Self::CHANGED)
    }

    /// Whether nothing stands there.
    pub fn is_new(&self, number: u64) -> bool {
        self.has(number, Self::NEW)
    }
}

/// What an archive is held against.
#[derive(Clone, Copy, Debug)]
pub struct Against<'a> {
    /// The tree, which need not be there.
    pub root: &'a Path,
    /// A folder that is no part of it, where a list of very many changes may be kept.
    pub own: &'a Path,
    /// Whether the owner of files matters.
    pub owner: bool,
}

/// Holds `items` against a tree.
///
/// # Errors
/// `Policy` where something would be written through a link, `Io` where one kind of thing would have to become another.
pub fn compare(items: &Rows<Item>, against: Against<'_>, cancel: &Cancel) -> Result<Comparison, Failure> {
    let named = named(items, against, cancel)?;
    let mut found = Finding::new(against.own);
    let (mut marks, mut room, mut same) = (Vec::new(), 0, 0);
    let others = held(items, against, cancel, &|_| true, &mut |item, mut held| {
        if let Some(how) = named.get(&item.number) {
            held.how.clone_from(how);
        }
        let Some(how) = held.how else {
            same += 1;
            return Ok(());
        };
        let is_second_name = matches!(&item.what, What::File { first: Some(_), .. });
        let (kind, after, stored) = match &item.what {
            What::Folder => (Kind::Folder, 0, None),
            What::Link { .. } => (Kind::Link, 0, None),
            What::File { size, stored, holes, .. } => (Kind::File, *size, holes.then_some(*stored)),
        };
        let (name, mode) = (Name(item.name), item.attributes.mode);
        let change = Change { name, kind, how, before: held.before, after, stored, mode };
        Marks::add(&mut marks, item.number, change.is_new());
        // Another name of a file that was counted takes no room.
        room += if is_second_name { 0 } else { change.room() };
        found.push(change)
    })?;
    let marks = Marks(Arc::new(marks));
    Ok(Comparison { changes: found.end()?, marks, room, same, others })
}

/// How an item differs, and the bytes that stand in the tree.
struct Held {
    how: Option<How>,
    before: u64,
    /// The file that stands in the tree.
    identity: Option<(u64, u64)>,
    /// Whether only reading it tells whether it differs.
    is_to_read: bool,
}

/// Holds those of the items that `which` says against a tree, several at a time; `take` gets them in their order. Returns how
/// many files and folders stand beside what the archive holds.
fn held(
    items: &Rows<Item>,
    against: Against<'_>,
    cancel: &Cancel,
    which: &(dyn Fn(&Item) -> bool + Sync),
    take: &mut dyn FnMut(Item, Held) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let root = against.root;
    ordered(
        &Width { threads: cores(), cancel },
        |feed| {
            let mut tree = Tree::open(against)?;
            let mut some = Vec::with_capacity(TOGETHER);
            for item in items.iter() {
                let item = item?;
                if !which(&item) {
                    continue;
                }
                let held = tree.look(&item)?;
                some.push((item, held));
                if some.len() == TOGETHER {
                    feed.send(std::mem::replace(&mut some, Vec::with_capacity(TOGETHER)))?;
                }
            }
            feed.send(some)?;
            Ok(tree.listed.saturating_sub(tree.known))
        },
        || {
            |mut some: Vec<(Item, Held)>| {
                for (item, held) in some.iter_mut().filter(|(_, held)| held.is_to_read) {
                    if let What::File { sha256, holes, .. } = &item.what
                        && digest(&root.join(&item.name), *holes)? != *sha256
                    {
                        held.how = Some(How::Content);
                    }
                }
                Ok::<_, Failure>(some)
            }
        },
        |some| some.into_iter().try_for_each(|(item, held)| take(item, held)),
    )
}

/// How the entries of files with several names differ, by their numbers. Such a file changes under all of them, or stays under
/// all: else they would become two files.
fn named(
    items: &Rows<Item>,
    against: Against<'_>,
    cancel: &Cancel,
) -> Result<HashMap<u64, Option<How>>, Failure> {
    let mut groups: HashMap<PathBuf, Vec<(u64, Held)>> = HashMap::new();
    for item in items.iter() {
        if let What::File { first: Some(first), .. } = item?.what {
            groups.entry(first).or_default();
        }
    }
    let mut found = HashMap::new();
    if groups.is_empty() {
        return Ok(found);
    }
    let first = |item: &Item| match &item.what {
        What::File { first, .. } => Some(first.clone().unwrap_or_else(|| item.name.clone())),
        _ => None,
    };
    let known: BTreeSet<PathBuf> = groups.keys().cloned().collect();
    let is_named = |item: &Item| first(item).is_some_and(|first| known.contains(&first));
    held(items, against, cancel, &is_named, &mut |item, held| {
        if let Some(group) = first(&item).and_then(|first| groups.get_mut(&first)) {
            group.push((item.number, held));
        }
        Ok(())
    })?;
    for group in groups.into_values() {
        let identities: BTreeSet<_> = group.iter().filter_map(|(_, held)| held.identity).collect();
        let changes = identities.len() > 1 || group.iter().any(|(_, held)| held.how.is_some());
        let how = |held: Held| if changes { Some(held.how.unwrap_or(How::SecondName)) } else { None };
        found.extend(group.into_iter().map(|(number, held)| (number, how(held))));
    }
    Ok(found)
}

/// A tree in which names are looked up in their order.
struct Tree<'a> {
    against: Against<'a>,
    device: Option<u64>,
    /// The folders above the name that came last, itself if it is one.
    above: Vec<Above>,
    /// What stands in those that are there, and how much of it the archive holds.
    listed: u64,
    known: u64,
}

/// A folder in which names are looked up.
struct Above {
    name: PathBuf,
    /// The file system that it is on, if it is there.
    device: Option<u64>,
}

impl<'a> Tree<'a> {
    fn open(against: Against<'a>) -> Result<Self, Failure> {
        let device = look(against.root)?.map(|metadata| metadata.dev());
        let tree = Self { against, device, above: Vec::new(), listed: 0, known: 0 };
        tree.no_link(Path::new(KEPT))?;
        Ok(tree)
    }

    /// What of an item can be told without reading a file.
    fn look(&mut self, item: &Item) -> Result<Held, Failure> {
        // What is not there has nothing below it.
        let is_above = self.folders_above(&item.name)?;
        let found = if is_above { look(&self.against.root.join(&item.name))? } else { None };
        self.known += u64::from(found.is_some());
        let before = found.as_ref().filter(|found| found.is_file()).map_or(0, Metadata::len);
        let (how, is_to_read) = self.differs(item, found.as_ref())?;
        if item.what == What::Folder {
            self.enter(&item.name, found.as_ref().map(Metadata::dev))?;
        }
        let identity = found.map(|found| (found.dev(), found.ino()));
        Ok(Held { how, before, identity, is_to_read })
    }

    /// Sees that all above `name` are folders, or are not there; says whether its own folder is.
    fn folders_above(&mut self, name: &Path) -> Result<bool, Failure> {
        while self.above.last().is_some_and(|above| !name.starts_with(&above.name)) {
            self.above.pop();
        }
        let deepest = self.above.last();
        let is_new = |above: &&Path| deepest.is_none_or(|deepest| deepest.name != **above);
        let new: Vec<&Path> = name.ancestors().skip(1).take_while(is_new).collect();
        let mut device = deepest.map_or(self.device, |deepest| deepest.device);
        if let Some(deepest) = deepest {
            self.on_this_file_system(&deepest.name, device)?;
        }
        for above in new.into_iter().rev() {
            device = if device.is_some() { self.folder(above, name)? } else { None };
            // The root itself stands in no folder that counts.
            self.known += u64::from(device.is_some() && !self.above.is_empty());
            self.on_this_file_system(above, device)?;
            self.enter(above, device)?;
        }
        Ok(device.is_some())
    }

    /// Takes note of a folder that the next names may lie below.
    fn enter(&mut self, folder: &Path, device: Option<u64>) -> Result<(), Failure> {
        self.above.push(Above { name: folder.to_path_buf(), device });
        if device.is_some() { self.list(folder) } else { Ok(()) }
    }

    /// Counts what stands in a folder.
    fn list(&mut self, folder: &Path) -> Result<(), Failure> {
        let at = self.against.root.join(folder);
        let failed = |error: &io::Error| Failure::io("list", &at, error);
        let entries = match std::fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(failed(&error)),
        };
        // The folder that is no part of the tree is in few others.
        let own = self.against.own.parent().filter(|parent| *parent == at);
        for entry in entries {
            let name = entry.map_err(|error| failed(&error))?.file_name();
            let is_own =
                name == KEPT || (own.is_some() && Some(name.as_os_str()) == self.against.own.file_name());
            self.listed += u64::from(!is_own);
        }
        Ok(())
    }

    fn no_link(&self, name: &Path) -> Result<(), Failure> {
        match look(&self.against.root.join(name))? {
            Some(metadata) if metadata.is_symlink() => Err(self.through_a_link(name, name)),
            _ => Ok(()),
        }
    }

    fn through_a_link(&self, link: &Path, name: &Path) -> Failure {
        let at = self.against.root.join(link);
        Failure::new(Code::Policy, format!("`{}` would be written through a link", shown(name)))
            .caused_by(format!("`{}` is a link to another place", at.display()))
            .hint(
                "Nothing was written. Extract into the folder that the link leads to, or take the link away.",
            )
    }

    /// Sees that a folder above `name` is one, or is not there; says on which file system it is.
    fn folder(&self, folder: &Path, name: &Path) -> Result<Option<u64>, Failure> {
        let at = self.against.root.join(folder);
        let Some(found) = look(&at)? else { return Ok(None) };
        if found.is_symlink() {
            return Err(self.through_a_link(folder, name));
        }
        if !found.is_dir() {
            return Err(in_the_way(&at, "is no folder", &format!("has `{}` below it", shown(name))));
        }
        Ok(Some(found.dev()))
    }

    /// Sees that a folder in which something is replaced is on the file system of the tree.
    fn on_this_file_system(&self, folder: &Path, device: Option<u64>) -> Result<(), Failure> {
        if device.is_none() || device == self.device {
            return Ok(());
        }
        let (at, root) = (self.against.root.join(folder), self.against.root.display());
        Err(Failure::new(Code::Io, format!("`{}` is on another file system", at.display()))
            .caused_by(format!("what replaces a file must be on its file system, that of `{root}`"))
            .hint(format!("Extract what belongs there by itself: give `{}` as the folder.", at.display())))
    }

    /// How it differs, as far as that can be told without reading a file, and whether one is yet to be read.
    fn differs(&self, item: &Item, found: Option<&Metadata>) -> Result<(Option<How>, bool), Failure> {
        let Some(found) = found else { return Ok((Some(How::New), false)) };
        let at = self.against.root.join(&item.name);
        let mode = found.mode() & 0o777;
        let is_other = self.against.owner
            && item.what != What::Folder
            && item.attributes.owner.is_some_and(|owner| owner != (found.uid(), found.gid()));
        let how = match &item.what {
            What::Folder if found.is_symlink() => return Err(self.through_a_link(&item.name, &item.name)),
            What::Folder if !found.is_dir() => return Err(in_the_way(&at, "is no folder", "has one there")),
            What::Folder if !item.taken => return Ok((None, false)),
            What::Folder => None,
            _ if found.is_dir() => return Err(in_the_way(&at, "is a folder", "has none there")),
            _ if !found.is_file() && !found.is_symlink() => {
                return Err(in_the_way(&at, "is a device, a pipe or a socket", "has a file there"));
            }
            What::Link { to } if found.is_symlink() => {
                let leads = std::fs::read_link(&at).map_err(|error| Failure::io("read", &at, &error))?;
                let how = if leads != *to { Some(How::Link) } else { is_other.then_some(How::Owner) };
                return Ok((how, false));
            }
            What::Link { .. } => return Ok((Some(How::Kind), false)),
            What::File { .. } if found.is_symlink() => return Ok((Some(How::Kind), false)),
            What::File { size, .. } if found.len() != *size => return Ok((Some(How::Content), false)),
            What::File { .. } => None,
        };
        let how = how.or((mode != item.attributes.mode).then_some(How::Mode(mode)));
        Ok((how.or(is_other.then_some(How::Owner)), item.what != What::Folder))
    }
}

/// Something that would have to become something else, which might destroy more than is kept.
fn in_the_way(at: &Path, is: &str, has: &str) -> Failure {
    Failure::new(Code::Io, format!("`{}` is in the way", at.display()))
        .caused_by(format!("it {is}, and the archive {has}"))
        .hint("Nothing was written. Move it away, or leave it out with `except`.")
}

/// Digest of a file in the tree; with `holes`, that of a file that an archive holds with holes.
pub(super) fn digest(path: &Path, holes: bool) -> Result<Digest, Failure> {
    let failed = |error: io::Error| Failure::io("read", path, &error);
    let file = fs::open(path)?;
    let size = file.metadata().map_err(failed)?.len();
    let found = if holes { extents(&file, &file.metadata().map_err(failed)?).map_err(failed)? } else { None };
    let mut plain = (!holes).then(Sha256::new);
    let mut holey = HoleyDigest::default();
    let mut buffer = vec![0; 1 << 16];
    // A file that grows meanwhile is read to its end, as one that is not.
    for extent in found.unwrap_or_else(|| vec![Extent { at: 0, length: u64::MAX }]) {
        let mut at = extent.at;
        while at < extent.end() {
            let want = (extent.end() - at).min(buffer.len() as u64) as usize;
            match file.read_at(&mut buffer[..want], at) {
                Ok(0) => break,
                Ok(n) => {
                    match &mut plain {
                        Some(plain) => plain.update(&buffer[..n]),
                        None => holey.update(at, &buffer[..n]),
                    }
                    at += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(plain.map_or_else(|| holey.end(size), |plain| Digest(plain.finalize().into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::spill::Gather;
    use crate::sys::untar::Attributes;

    #[test]
    fn second_names_of_a_file_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut items = Gather::new(dir.path());
        for (number, name) in (1..).zip(["a", "b", "c"]) {
            let first = (number > 1).then(|| "a".into());
            let what = What::File { size: 1000, stored: 1000, holes: false, sha256: Digest([0; 32]), first };
            let attributes = Attributes { mode: 0o644, modified: (0, 0), owner: None };
            items.push(&Item { name: name.into(), number, what, attributes, taken: true }).unwrap();
        }
        let (root, own) = (dir.path().join("tree"), dir.path());
        let against = Against { root: &root, own, owner: false };
        let found = compare(&items.end().unwrap(), against, &Cancel::new()).unwrap();
        assert_eq!((found.room, found.changes.len()), (1000, 3));
    }

    #[test]
    fn marks_tell_what_changes_and_what_is_new() {
        let mut bits = Vec::new();
        for number in (1..4000).filter(|number| number % 3 == 0) {
            Marks::add(&mut bits, number, number % 2 == 0);
        }
        let marks = Marks(Arc::new(bits));
        for number in 0..5000 {
            let changed = number > 0 && number < 4000 && number % 3 == 0;
            assert_eq!(marks.is_changed(number), changed, "{number}");
            assert_eq!(marks.is_new(number), changed && number % 2 == 0, "{number}");
        }
        assert!(!marks.is_changed(u64::MAX));
    }
}
