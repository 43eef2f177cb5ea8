//! What an extraction changes, entry by entry.

use crate::base::failure::Failure;
use crate::base::units;
use crate::sys::kept::rows::{Lines, inside};
use crate::sys::spill::{Gather, Packed, Rows, Unpack, put_bytes, put_number};
use crate::sys::untar::{Name, shown};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// What an archive has under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Link => "link",
        }
    }
}

/// One entry that is not the same. No content is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name in the tree.
    #[serde(deserialize_with = "inside")]
    pub name: Name,
    /// What the archive has.
    pub kind: Kind,
    /// How it differs.
    pub how: How,
    /// Bytes that stand in the tree.
    pub before: u64,
    /// Bytes that the archive has.
    pub after: u64,
    /// Bytes that it takes, if it has holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// Permissions in the archive.
    pub mode: u32,
}

impl Change {
    /// Bytes that it takes on a disk.
    pub fn room(&self) -> u64 {
        self.stored.unwrap_or(self.after)
    }

    /// Whether nothing stood there.
    pub fn is_new(&self) -> bool {
        self.how == How::New
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = shown(&self.name.0);
        let (before, after) = (units::bytes(self.before), units::bytes(self.after));
        match (&self.how, self.kind) {
            (How::New, Kind::File) => write!(f, "+ {name} (new, {after})"),
            (How::New, kind) => write!(f, "+ {name} (new {})", kind.word()),
            (How::Content, _) => write!(f, "~ {name} (changed, {before} → {after})"),
            (How::Mode(before), _) => write!(f, "~ {name} (mode {before:03o} → {:03o})", self.mode),
            (How::Owner, _) => write!(f, "~ {name} (another owner)"),
            (How::Link, _) => write!(f, "~ {name} (the link leads elsewhere)"),
            (How::Kind, Kind::Link) => write!(f, "~ {name} (a file there, a link in the archive)"),
            (How::Kind, _) => write!(f, "~ {name} (a link there, a file in the archive)"),
            (How::SecondName, _) => write!(f, "~ {name} (a second name of another file)"),
        }
    }
}

/// Changes by name. There may be very many: those that are told are in memory, all of them on a disk.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    told: Arc<Vec<Change>>,
    count: u64,
    new: u64,
    all: All,
}

/// Where those are that are not told.
#[derive(Clone, Debug, Default)]
enum All {
    /// There are none.
    #[default]
    Told,
    /// As they were found.
    Found(Rows<Change>),
    /// Beside what is kept.
    Kept(Lines<Change>),
}

impl PartialEq for Changes {
    fn eq(&self, other: &Self) -> bool {
        (self.count, &self.told) == (other.count, &other.told)
    }
}

impl Changes {
    /// So many are told each by itself, where something is told; counts count them all.
    pub const TOLD: usize = 10_000;

    /// Those that are told.
    pub fn told(&self) -> &[Change] {
        &self.told
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many of them stand where nothing stood.
    pub fn new_ones(&self) -> u64 {
        self.new
    }

    /// Each of them, by name.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Result<Change, Failure>> + Send + '_> {
        match &self.all {
            All::Told => Box::new(self.told.iter().cloned().map(Ok)),
            All::Found(rows) => Box::new(rows.iter()),
            All::Kept(lines) => Box::new(lines.iter()),
        }
    }

    /// The name of the first that is not the same among others.
    pub fn first_difference(&self, other: &Self) -> Result<Option<PathBuf>, Failure> {
        let (mut these, mut those) = (self.iter(), other.iter());
        loop {
            match (these.next().transpose()?, those.next().transpose()?) {
                (None, None) => return Ok(None),
                (this, that) if this == that => {}
                (this, that) => return Ok(this.into_iter().chain(that).map(|change| change.name.0).min()),
            }
        }
    }

    /// Those that an index tells of, in lines of a file.
    pub(super) fn kept(lines: Lines<Change>, count: u64, new: u64) -> Result<Self, Failure> {
        let told: Result<Vec<Change>, Failure> = lines.iter().take(Self::TOLD).collect();
        Ok(Self { told: Arc::new(told?), count, new, all: All::Kept(lines) })
    }
}

impl From<Vec<Change>> for Changes {
    fn from(changes: Vec<Change>) -> Self {
        let new = changes.iter().filter(|change| change.is_new()).count() as u64;
        Self { count: changes.len() as u64, new, told: Arc::new(changes), all: All::Told }
    }
}

/// Those that are told.
impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.told.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

/// Changes as they are found, by name.
pub(super) struct Finding<'a> {
    dir: &'a Path,
    told: Vec<Change>,
    count: u64,
    new: u64,
    rest: Option<Gather<Change>>,
}

impl<'a> Finding<'a> {
    /// None yet; very many go to a file in `dir`.
    pub(super) fn new(dir: &'a Path) -> Self {
        Self { dir, told: Vec::new(), count: 0, new: 0, rest: None }
    }

    pub(super) fn push(&mut self, change: Change) -> Result<(), Failure> {
        self.count += 1;
        self.new += u64::from(change.is_new());
        if self.told.len() < Changes::TOLD {
            self.told.push(change);
            return Ok(());
        }
        let rest = match &mut self.rest {
            Some(rest) => rest,
            none => {
                let rest = none.insert(Gather::new(self.dir));
                self.told.iter().try_for_each(|change| rest.push(change))?;
                rest
            }
        };
        rest.push(&change)
    }

    pub(super) fn end(self) -> Result<Changes, Failure> {
        let all = self.rest.map_or(Ok(All::Told), |rest| rest.end().map(All::Found))?;
        Ok(Changes { told: Arc::new(self.told), count: self.count, new: self.new, all })
    }
}

impl Packed for Change {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self { name, kind, how, before, after, stored, mode } = self;
        put_bytes(out, name.0.as_os_str().as_bytes());
        out.push(*kind as u8);
        let (how, was) = match how {
            How::New => (0, 0),
            How::Content => (1, 0),
            How::Mode(was) => (2, *was),
            How::Owner => (3, 0),
            How::Link => (4, 0),
            How::Kind => (5, 0),
            How::SecondName => (6, 0),
        };
        out.push(how);
        for number in [u64::from(was), *before, *after, stored.is_some().into(), stored.unwrap_or(0)] {
            put_number(out, number);
        }
        put_number(out, (*mode).into());
    }

    fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        let name = Name(OsStr::from_bytes(from.bytes()?).into());
        let kind = match from.number()? {
            0 => Kind::File,
            1 => Kind::Folder,
            2 => Kind::Link,
            _ => return None,
        };
        let (how, was) = (from.number()?, from.small()?);
        let how = match how {
            0 => How::New,
            1 => How::Content,
            2 => How::Mode(was),
            3 => How::Owner,
            4 => How::Link,
            5 => How::Kind,
            6 => How::SecondName,
            _ => return None,
        };
        let (before, after) = (from.number()?, from.number()?);
        let stored = (from.number()? != 0, from.number()?);
        let stored = stored.0.then_some(stored.1);
        Some(Self { name, kind, how, before, after, stored, mode: from.small()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n: usize) -> Change {
        let hows =
            [How::New, How::Content, How::Mode(0o640), How::Owner, How::Link, How::Kind, How::SecondName];
        Change {
            name: Name(format!("{n:06}").into()),
            kind: [Kind::File, Kind::Folder, Kind::Link][n % 3],
            how: hows[n % 7].clone(),
            before: n as u64,
            after: 1,
            stored: (n % 2 == 1).then_some(n as u64 * 1000),
            mode: 0o644,
        }
    }

    fn found(dir: &Path, numbers: impl Iterator<Item = usize>) -> Changes {
        let mut finding = Finding::new(dir);
        numbers.for_each(|n| finding.push(change(n)).unwrap());
        finding.end().unwrap()
    }

    #[test]
    fn of_very_many_changes_the_first_are_told_and_all_are_known() {
        let dir = tempfile::tempdir().unwrap();
        for count in [3, Changes::TOLD, Changes::TOLD + 1] {
            let changes = found(dir.path(), 0..count);
            assert_eq!((changes.len(), changes.new_ones()), (count as u64, count.div_ceil(7) as u64));
            let all: Vec<Change> = changes.iter().map(Result::unwrap).collect();
            assert!(all == (0..count).map(change).collect::<Vec<_>>());
            let json = serde_json::to_string(&changes).unwrap();
            let read: Changes = serde_json::from_str(&json).unwrap();
            assert_eq!(read.told(), &all[..count.min(Changes::TOLD)]);
        }
        let json = serde_json::to_value(found(dir.path(), 0..1)).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{"name": "000000", "kind": "file", "how": "new", "before": 0, "after": 1, "mode": 0o644}])
        );
    }

    #[test]
    fn the_first_that_differs_is_named_however_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        for count in [4, Changes::TOLD + 5] {
            let all = found(dir.path(), 0..count);
            assert_eq!(all.first_difference(&found(dir.path(), 0..count)).unwrap(), None);
            let last = Some(PathBuf::from(format!("{:06}", count - 1)));
            assert_eq!(all.first_difference(&found(dir.path(), 0..count - 1)).unwrap(), last);
            let without = found(dir.path(), (0..count).filter(|n| *n != count - 2));
            let missing = Some(PathBuf::from(format!("{:06}", count - 2)));
            assert_eq!(without.first_difference(&all).unwrap(), missing);
        }
    }
}
