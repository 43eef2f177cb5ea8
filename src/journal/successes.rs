//! The newest run of each playbook that succeeded: known at once, however many runs are on record, and never removed.

use crate::base::failure::{Code, Failure};
use crate::base::task::SuccessRecord;
use crate::sys::state::newest::{self, Of};
use std::path::Path;

/// Keeps a run as the newest success of its playbook, unless one that began later is known.
pub fn keep(state: &Path, record: &SuccessRecord) -> Result<(), Failure> {
    if newest(state, &record.playbook)
        .is_some_and(|known| known.began > record.began && known.began <= record.ended)
    {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(record)
        .map_err(|error| Failure::new(Code::Internal, "cannot write a record as JSON").caused_by(error))?;
    newest::write(state, Of::Successes, &record.playbook, &(text + "\n"), record.run.as_str())
}

/// The newest run of a playbook that succeeded without a warning; `None` if there is none, or its record cannot be read.
pub fn newest(state: &Path, playbook: &str) -> Option<SuccessRecord> {
    let record: SuccessRecord = serde_json::from_str(&newest::read(state, Of::Successes, playbook)?).ok()?;
    (record.playbook == playbook).then_some(record)
}
