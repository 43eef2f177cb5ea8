//! What killed runs left in a folder of backups.

use super::listing::{Listing, Names};
use super::{SIDECARS, read_manifest, sidecar};
use crate::base::failure::Failure;
use crate::base::ids::RunId;
use crate::sys::fs::STAGED_SUFFIX;
use std::path::{Path, PathBuf};

/// What a killed run left in a folder: its staged file and the sidecars it had already written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The staged file, to be removed last.
    pub staged: PathBuf,
    /// The name that the file was to have, or had.
    pub target: PathBuf,
    /// Sidecars of a backup that never got its name.
    pub sidecars: Vec<PathBuf>,
}

/// Leftovers in `dir`; `own` is the caller's run. What a live run, perhaps of another project, still writes is none.
pub fn leftovers(dir: &Path, own: &str) -> Result<Vec<Leftover>, Failure> {
    Listing::read_hidden(dir)?.leftovers(own)
}

/// Leftovers among the names of what is in `dir`.
pub(super) fn among(dir: &Path, names: &Names, own: &str) -> Result<Vec<Leftover>, Failure> {
    let mut found = Vec::new();
    for name in names.iter() {
        let Some((target, run)) = staged_name(name) else { continue };
        if run.as_str() == own || crate::sys::fs::is_being_written(&dir.join(name)) {
            continue;
        }
        found.push(leftover(dir.join(name), dir.join(target), run.as_str())?);
    }
    found.sort_by(|a, b| a.staged.cmp(&b.staged));
    Ok(found)
}

/// What an earlier attempt of `run` left of the very file that the run is going to make at `path`.
pub fn own_leftover(path: &Path, run: &str) -> Result<Option<Leftover>, Failure> {
    let staged = crate::sys::fs::staged_path(path, run)?;
    if !crate::sys::fs::exists(&staged)? || crate::sys::fs::is_being_written(&staged) {
        return Ok(None);
    }
    leftover(staged, path.to_path_buf(), run).map(Some)
}

fn leftover(staged: PathBuf, target: PathBuf, run: &str) -> Result<Leftover, Failure> {
    let mut sidecars = Vec::new();
    if !crate::sys::fs::exists(&target)? && are_sidecars_of(&staged, &target, run) {
        for suffix in SIDECARS {
            let at = sidecar(&target, suffix);
            if crate::sys::fs::exists(&at)? {
                sidecars.push(at);
            }
        }
    }
    Ok(Leftover { staged, target, sidecars })
}

/// Whether what stands beside `target` was written for the staged file: by the run that staged it, or, if rotation has
/// hidden a backup under that name, for just that backup.
fn are_sidecars_of(staged: &Path, target: &Path, run: &str) -> bool {
    let Ok(Some(manifest)) = read_manifest(target) else { return false };
    let hidden = || crate::sys::fs::size(staged).is_ok_and(|size| size == manifest.size);
    target.file_name().is_some_and(|name| name.to_string_lossy() == manifest.file)
        && (manifest.run == run || hidden())
}

/// Target and run of a staged file's name `.TARGET.RUN.part`.
pub(super) fn staged_name(name: &str) -> Option<(&str, RunId)> {
    let (target, run) = name.strip_prefix('.')?.strip_suffix(STAGED_SUFFIX)?.rsplit_once('.')?;
    Some((target, RunId::parse(run)?))
}
