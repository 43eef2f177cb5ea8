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

/// Removes what killed runs left in the folder; the folder's lock is held, so nobody is still writing.
pub fn clean(effects: &Effects, dir: &Path) -> Result<(), Failure> {
    let leftovers = store::leftovers(dir, effects.run())?;
    if leftovers.is_empty() {
        return Ok(());
    }
    let names = names(&leftovers);
    let intent = effects.intend(&format!("remove what killed runs left: {names}"))?;
    for leftover in &leftovers {
        effects.remove_leftover(&intent, leftover)?;
    }
    effects.facts().host().info(&format!("cleaned up after a run that was killed: {names}"));
    Ok(())
}
