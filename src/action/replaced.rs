//! What extracting files and rolling that back have in common: what is shown, what is asked, what is tidied up.

use crate::base::failure::Failure;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::kept::{self, Change};
use crate::sys::untar::shown;
use std::path::Path;

/// Lines of changes that a plan shows.
pub const SHOWN: usize = 40;

/// The changes, as far as a plan shows them.
pub fn listed(changes: &[Change]) -> Vec<String> {
    let mut lines: Vec<String> = changes.iter().take(SHOWN).map(Change::to_string).collect();
    if let Some(more) = changes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    if !changes.is_empty() {
        lines.push("what is replaced is kept for `rollback_files`".to_owned());
    }
    lines
}

/// The question to ask before what decides about runs is replaced.
pub fn asks(facts: &Facts, dir: &Path, changes: &[Change]) -> Option<String> {
    let project = fs::resolved(facts.host().project());
    let decides = ["playbooks", "stdlib", "lifeboat.toml", ".git"].map(|name| project.join(name));
    let names: Vec<String> = changes
        .iter()
        .map(|change| dir.join(&change.name.0))
        .filter(|path| decides.iter().any(|decides| path.starts_with(decides)))
        .map(|path| shown(path.strip_prefix(&project).unwrap_or(&path)))
        .collect();
    let (first, more) = names.split_at(names.len().min(5));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!names.is_empty()).then(|| {
        format!("This replaces what decides about later runs: {}{more}. Replace it?", first.join(", "))
    })
}

/// Removes what killed runs were still staging in the folder; its lock is held.
pub fn clean(effects: &Effects, dir: &Path) -> Result<(), Failure> {
    let left = kept::leftovers(dir)?;
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<String> =
        left.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    let names = names.join(", ");
    let intent = effects.intend(&format!("remove what killed runs left: {names}"))?;
    left.iter().try_for_each(|path| effects.remove_staging(&intent, path))?;
    effects.facts().host().info(&format!("cleaned up after a run that was killed: {names}"));
    Ok(())
}
