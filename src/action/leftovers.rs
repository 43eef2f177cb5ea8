//! What killed runs left in a folder of backups.

use crate::base::failure::Failure;
use crate::sys::effects::Effects;
use crate::sys::store::{self, Leftover};
use std::path::Path;

/// Their names, for people.
pub fn names(leftovers: &[Leftover]) -> String {
    let names: Vec<String> = leftovers
        .iter()
        .filter_map(|leftover| Some(leftover.staged.file_name()?.to_string_lossy().into_owned()))
        .collect();
    names.join(", ")
}

/// Removes what killed runs left in the folder; the folder's lock is held, so nobody is still writing. Of this run it removes
/// only what an earlier attempt left of `path`, which is going to be made: other actions of it may be at work in the folder.
pub fn clean(effects: &Effects, dir: &Path, path: Option<&Path>) -> Result<(), Failure> {
    effects.tidying(|| {
        let mut leftovers = store::leftovers(dir, effects.run())?;
        if let Some(path) = path {
            leftovers.extend(store::own_leftover(path, effects.run())?);
        }
        remove(effects, &leftovers)
    })
}

fn remove(effects: &Effects, leftovers: &[Leftover]) -> Result<(), Failure> {
    if leftovers.is_empty() {
        return Ok(());
    }
    let names = names(leftovers);
    let intent = effects.intend(&format!("remove what killed runs left: {names}"))?;
    for leftover in leftovers {
        effects.remove_leftover(&intent, leftover)?;
    }
    effects.facts().host().info(&format!("cleaned up after a run that was killed: {names}"));
    Ok(())
}
