//! Marks of the runs that go on, by which those that were killed are found.
//!
//! *Problem*: every run looks for others that were killed, and to look at each of 100,000 that ended well cost it a quarter of a
//! second. *Decision*: a run has a mark from before its folder gets its name until its end is on record, and who has a mark
//! and no process was killed. Once an hour all records are looked at nevertheless, since a mark may have been lost, or the
//! run be that of a Lifeboat without marks. *Rejected*: a list of what has ended, which is as long as the records are many;
//! the newest thousand, since a run of last week may have been resumed and killed a minute ago.

use super::{each_name, folder, making};
use crate::base::failure::Failure;
use crate::base::ids::RunId;
use crate::sys::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLDER: &str = "live";
/// When it was written, all records were looked at.
const LOOKED: &str = ".looked";
/// So often all records are looked at.
const LOOK_AT_ALL: Duration = Duration::from_secs(3600);

fn path(state: &Path, name: &str) -> PathBuf {
    state.join(FOLDER).join(name)
}

/// Marks a run. Where that cannot be done, the next look is at all records.
pub(super) fn mark(state: &Path, run: &RunId) {
    let at = path(state, run.as_str());
    let made = fs::create_dir(&state.join(FOLDER)).and_then(|()| fs::open_lock(&at));
    if made.and_then(|_| fs::sync_dir(&at)).is_err() {
        let _ = std::fs::remove_file(path(state, LOOKED));
    }
}

/// Takes the mark of a run away: its end is on record, or somebody was told of it.
pub(super) fn unmark(state: &Path, run: &RunId) {
    let _ = std::fs::remove_file(path(state, run.as_str()));
}

/// The runs that have a mark, newest first.
///
/// # Errors
/// `Io` if the folder of the marks cannot be read.
pub fn marked(state: &Path) -> Result<Vec<RunId>, Failure> {
    let mut found = Vec::new();
    each_name(&state.join(FOLDER), |name| found.extend(RunId::parse(name)))?;
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Whether all records are to be looked at: for an hour nobody has.
pub fn is_look_due(state: &Path) -> bool {
    let looked = std::fs::metadata(path(state, LOOKED)).and_then(|looked| looked.modified());
    // A time that is still to come was written by another clock.
    !looked.is_ok_and(|looked| looked.elapsed().is_ok_and(|age| age < LOOK_AT_ALL))
}

/// All records were looked at, and these runs have not ended: those without a mark get one.
pub fn looked(state: &Path, open: &[RunId]) {
    let is_there = |run: &RunId| path(state, run.as_str()).exists();
    open.iter().filter(|run| !is_there(run)).for_each(|run| mark(state, run));
    let at = path(state, LOOKED);
    let _ = std::fs::remove_file(&at);
    let _ = fs::create_dir(&state.join(FOLDER)).and_then(|()| fs::open_lock(&at));
}

/// Forgets a mark whose run was removed, or never got its folder.
pub fn forget_gone(state: &Path, run: &RunId) {
    // One that is being made has its mark before its name.
    if !making(state, run).exists() && !folder(state, run).exists() {
        unmark(state, run);
    }
}
