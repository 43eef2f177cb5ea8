//! What a run saw of a folder when it planned a backup there, so that the new one is held against those before it without
//! looking at the whole folder once more.

use crate::base::backup::Backup;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After so long a wait the folder is looked at again.
const FRESH: Duration = Duration::from_secs(600);

/// Backups before one that is to be made, newest last: those that agree with it in source, selection and tag.
#[derive(Clone, Debug)]
pub struct Before {
    /// Where they are. What they are now is for whoever asks to look at.
    pub paths: Vec<PathBuf>,
    /// Whether there are no others.
    pub are_all: bool,
}

/// What was seen before each backup that a run makes.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<BTreeMap<PathBuf, (Instant, Before)>>);

impl Remembered {
    /// Remembers what was seen at the moment `now`, of a backup that is to be made at `path`: the newest `most` of its like.
    pub fn keep(&self, path: &Path, now: Instant, like: &[&Backup], most: usize) {
        let paths = like.iter().map(|backup| backup.path.clone()).collect();
        let before = Before { paths, are_all: like.len() < most };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_path_buf(), (now, before));
    }

    /// What was seen before the backup at `path` was made, unless that is long ago.
    pub fn of(&self, path: &Path, now: Instant) -> Option<Before> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, before) = remembered.get(path)?;
        (now.saturating_duration_since(*at) < FRESH).then(|| before.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_long_ago_does_not_count() {
        let (remembered, path, now) = (Remembered::default(), Path::new("/b/a.sql.gz"), Instant::now());
        assert!(remembered.of(path, now).is_none());
        remembered.keep(path, now, &[], 1);
        let before = remembered.of(path, now + FRESH - Duration::from_secs(1)).unwrap();
        assert_eq!((before.paths, before.are_all), (Vec::new(), true));
        assert!(remembered.of(path, now + FRESH).is_none());
        assert!(remembered.of(Path::new("/b/b.sql.gz"), now).is_none());
    }
}
