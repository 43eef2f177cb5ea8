//! The content of files as it was at one moment, to tell later which have changed.

use crate::base::cancel::Cancel;
use crate::sys::stream::{Control, Digest, hash};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that was written so shortly before it was looked at may have been written again within one tick of the file
/// system's clock, so its times prove nothing. FAT's ticks are the longest.
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
struct Look {
    stamp: Stamp,
    settled: bool,
    /// `None` for a file that cannot be read.
    digest: Option<Digest>,
}

/// What changes with every write, and with much that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Digests of files.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(BTreeMap<PathBuf, Look>);

impl Snapshot {
    /// Looks at files; those that are not there are left out. Content is read only where `before` does not tell it.
    /// Cancelled, it is not to be relied on.
    pub fn of(files: impl IntoIterator<Item = PathBuf>, before: &Self, cancel: &Cancel) -> Self {
        let look = |path: PathBuf| {
            let metadata = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
            let stamp = Stamp::of(&metadata);
            if let Some(known) = before.0.get(&path).filter(|known| known.settled && known.stamp == stamp) {
                return Some((path, known.clone()));
            }
            let age = SystemTime::now().duration_since(metadata.modified().ok()?).unwrap_or_default();
            let digest = digest(&path, cancel);
            Some((path, Look { stamp, settled: age > SETTLED, digest }))
        };
        Self(files.into_iter().filter_map(look).collect())
    }

    /// Files whose content differs from that in `before`, those that came and those that went; sorted.
    pub fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        let digest = |snapshot: &Self, path: &Path| snapshot.0.get(path).map(|look| look.digest);
        let mut paths: Vec<&PathBuf> = self.0.keys().chain(before.0.keys()).collect();
        paths.sort();
        paths.dedup();
        paths.into_iter().filter(|path| digest(self, path) != digest(before, path)).cloned().collect()
    }

    /// Takes over what `other` says about the paths that `which` picks.
    pub fn adopt(&mut self, other: &Self, which: impl Fn(&Path) -> bool) {
        self.0.retain(|path, _| !which(path));
        self.0.extend(
            other.0.iter().filter(|(path, _)| which(path)).map(|(path, look)| (path.clone(), look.clone())),
        );
    }

    /// The files that were there.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.keys()
    }

    /// Whether a file was there.
    pub fn holds(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// How many files there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there was no file.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn digest(path: &Path, cancel: &Cancel) -> Option<Digest> {
    let file = std::fs::File::open(path).ok()?;
    let control = Control { cancel, progress: &|_| {} };
    hash(file, path, control, &mut |_| Ok(())).ok().map(|(_, digest)| digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_content_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["same", "edited", "replaced", "gone"] {
            fs::write(at(name), "1").unwrap();
        }
        let files = || ["same", "edited", "replaced", "gone", "new", "dir"].map(at);
        let before = Snapshot::of(files(), &Snapshot::default(), &Cancel::new());
        assert_eq!((before.len(), before.holds(&at("new"))), (4, false));

        fs::set_permissions(at("same"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::File::open(at("same")).unwrap().set_modified(SystemTime::now() - SETTLED * 3).unwrap();
        fs::create_dir(at("dir")).unwrap();
        let touched = Snapshot::of(files(), &before, &Cancel::new());
        assert_eq!(touched.changed_since(&before), [""; 0].map(PathBuf::from));

        // As fast as it goes, so that size and perhaps time stay the same.
        fs::write(at("edited"), "2").unwrap();
        fs::write(at("other"), "2").unwrap();
        fs::rename(at("other"), at("replaced")).unwrap();
        fs::remove_file(at("gone")).unwrap();
        fs::write(at("new"), "1").unwrap();
        let mut after = Snapshot::of(files(), &touched, &Cancel::new());
        assert_eq!(after.changed_since(&before), ["edited", "gone", "new", "replaced"].map(at));

        after.adopt(&before, |path| path != at("new"));
        assert_eq!(after.changed_since(&before), [at("new")]);
    }

    #[test]
    fn a_settled_file_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "1").unwrap();
        fs::File::open(&path).unwrap().set_modified(SystemTime::now() - SETTLED * 3).unwrap();
        let mut before = Snapshot::of([path.clone()], &Snapshot::default(), &Cancel::new());
        // What the first look found is told again, so the file was not read.
        before.0.get_mut(&path).unwrap().digest = None;
        assert_eq!(Snapshot::of([path.clone()], &before, &Cancel::new()).0[&path].digest, None);
        fs::write(&path, "2").unwrap();
        assert!(Snapshot::of([path.clone()], &before, &Cancel::new()).0[&path].digest.is_some());
    }
}
