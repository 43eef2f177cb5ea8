//! What extracting files and rolling that back have in common: what is shown, what is asked, what is tidied up.

use crate::base::failure::Failure;
use crate::base::plan::{Need, Plan, Target, Touch};
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::kept::{self, Change, Changes};
use crate::sys::untar::shown;
use std::path::{Path, PathBuf};

/// Lines of changes that a plan shows.
pub const SHOWN: usize = 40;

/// The changes, as far as a plan shows them.
pub fn listed(changes: &Changes) -> Vec<String> {
    let mut lines: Vec<String> = changes.told().iter().take(SHOWN).map(Change::to_string).collect();
    if let Some(more) = changes.len().checked_sub(SHOWN as u64).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    if !changes.is_empty() {
        lines.push("what is replaced is kept for `rollback_files`".to_owned());
    }
    lines
}

/// Names in a plan what the changes in `dir` need, and what they leave behind; where there are very many, one for each folder.
pub fn name_each<O>(
    plan: &mut Plan<O>,
    facts: &Facts,
    dir: &Path,
    changes: &Changes,
    touch: impl Fn(&Change, PathBuf) -> Touch,
) -> Result<(), Failure> {
    if changes.len() <= Changes::TOLD as u64 {
        for change in changes.told() {
            let at = dir.join(&change.name.0);
            plan.needs.push(Need::Restore(at.clone()));
            plan.touches.push(touch(change, at));
        }
        return Ok(());
    }
    let state = fs::resolved(facts.host().state());
    let mut last = PathBuf::new();
    for change in changes.iter() {
        let at = dir.join(change?.name.0);
        let folder = at.parent().unwrap_or(dir);
        // One file stands for all in its folder, whose links are resolved for it; what is never restored is refused by its own
        // name.
        let is_first = folder != last;
        if is_first {
            last = folder.to_path_buf();
        }
        if is_first || at.starts_with(&state) {
            plan.needs.push(Need::Restore(at));
        }
    }
    plan.touches.push(Touch::Changed(Target::Path(dir.to_path_buf())));
    Ok(())
}

/// The question to ask before what decides about runs is replaced.
pub fn asks(facts: &Facts, dir: &Path, changes: &Changes) -> Result<Option<String>, Failure> {
    let project = fs::resolved(facts.host().project());
    let decides = ["playbooks", "stdlib", "lifeboat.toml", ".git"].map(|name| project.join(name));
    let (mut named, mut more) = (Vec::new(), 0_u64);
    // In a folder elsewhere there is none of it.
    let is_near = decides.iter().any(|decides| decides.starts_with(dir) || dir.starts_with(decides));
    for change in changes.iter().take_while(|_| is_near) {
        let path = dir.join(change?.name.0);
        if !decides.iter().any(|decides| path.starts_with(decides)) {
            continue;
        }
        if named.len() < 5 {
            named.push(shown(path.strip_prefix(&project).unwrap_or(&path)));
        } else {
            more += 1;
        }
    }
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Ok((!named.is_empty()).then(|| {
        format!("This replaces what decides about later runs: {}{more}. Replace it?", named.join(", "))
    }))
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
