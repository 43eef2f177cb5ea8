//! What the predicted effects of a dry run leave behind, laid over reality.

use crate::base::backup::Backup;
use crate::base::plan::{Later, Target, Touch};
use crate::sys::facts::{Seen, View};
use std::path::Path;
use std::sync::RwLock;

/// Remembers predicted effects in their order.
#[derive(Default)]
pub struct Overlay {
    touches: RwLock<Vec<Touch>>,
}

impl Overlay {
    /// Nothing predicted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a plan leaves behind.
    pub fn add(&self, touches: &[Touch]) {
        self.touches.write().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(touches);
    }

    fn each<T>(&self, f: impl FnMut(&Touch) -> Option<T>) -> Option<T> {
        self.touches.read().unwrap_or_else(std::sync::PoisonError::into_inner).iter().rev().find_map(f)
    }
}

/// Whether one of the two paths is the other or holds it.
fn related(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

impl View for Overlay {
    fn path(&self, path: &Path) -> Seen {
        self.each(|touch| match touch {
            Touch::BackupMade(backup) if backup.path.starts_with(path) => Some(Seen::Made),
            Touch::PathMade(made) if made.starts_with(path) => Some(Seen::Made),
            Touch::PathGone(gone) if path.starts_with(gone) => Some(Seen::Gone),
            Touch::Changed(Target::Everything) => Some(Seen::Unknown),
            Touch::Changed(Target::Path(changed)) if related(changed, path) => Some(Seen::Unknown),
            _ => None,
        })
        .unwrap_or(Seen::AsIs)
    }

    fn is_touched(&self, target: &Target) -> bool {
        self.each(|touch| match (touch, target) {
            (Touch::BackupVerified(_), _) => None,
            (Touch::Changed(Target::Everything), _) | (_, Target::Everything) => Some(()),
            (Touch::BackupMade(backup), Target::Path(path)) => related(&backup.path, path).then_some(()),
            (Touch::PathMade(made) | Touch::PathGone(made), Target::Path(path)) => {
                related(made, path).then_some(())
            }
            (Touch::Changed(Target::Path(changed)), Target::Path(path)) => {
                related(changed, path).then_some(())
            }
            (Touch::Changed(changed), target) => (changed == target).then_some(()),
            _ => None,
        })
        .is_some()
    }

    fn is_changed(&self, target: &Target) -> bool {
        self.each(|touch| match (touch, target) {
            (Touch::Changed(Target::Everything), _) | (Touch::Changed(_), Target::Everything) => Some(()),
            (Touch::Changed(Target::Path(changed)), Target::Path(path)) => {
                related(changed, path).then_some(())
            }
            (Touch::Changed(changed), target) => (changed == target).then_some(()),
            _ => None,
        })
        .is_some()
    }

    fn backups(&self, dir: &Path) -> Vec<Backup> {
        let touches = self.touches.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut found: Vec<Backup> = Vec::new();
        for touch in touches.iter() {
            match touch {
                Touch::BackupMade(backup) if backup.path.starts_with(dir) => found.push((**backup).clone()),
                Touch::PathGone(gone) => found.retain(|backup| !backup.path.starts_with(gone)),
                Touch::BackupVerified(path) => {
                    for backup in found.iter_mut().filter(|backup| backup.path == *path) {
                        backup.verified = Later::Now(Some(true));
                    }
                }
                _ => {}
            }
        }
        found
    }

    fn is_verified(&self, path: &Path) -> bool {
        self.each(|touch| matches!(touch, Touch::BackupVerified(verified) if verified == path).then_some(()))
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_or_removed_is_touched_with_all_that_holds_it() {
        let overlay = Overlay::new();
        let path = |path: &str| Target::Path(path.into());
        assert!(!overlay.is_touched(&Target::Everything));
        overlay.add(&[Touch::BackupVerified("/b/old".into())]);
        assert!(!overlay.is_touched(&Target::Everything) && !overlay.is_touched(&path("/b/old")));
        overlay.add(&[Touch::PathMade("/b/new".into()), Touch::PathGone("/c/gone".into())]);
        for touched in [Target::Everything, path("/b"), path("/b/new"), path("/c"), path("/c/gone/below")] {
            assert!(overlay.is_touched(&touched), "{touched}");
        }
        for untouched in [path("/b/other"), path("/d"), Target::Host("db1:80".into())] {
            assert!(!overlay.is_touched(&untouched), "{untouched}");
        }
    }
}
