//! The newest drill of each playbook: evidence that outlives the records of runs.

pub use crate::base::drill::DrillRecord;
use crate::base::failure::{Code, Failure};
use crate::sys::state::newest::{self, Of};
use std::path::Path;

/// Keeps a drill as the newest one of its playbook.
pub fn keep(state: &Path, record: &DrillRecord) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(record)
        .map_err(|error| Failure::new(Code::Internal, "cannot write a record as JSON").caused_by(error))?;
    newest::write(state, Of::Drills, &record.playbook, &(text + "\n"), record.run.as_str())
}

/// The newest drill of a playbook; `None` if there was none, or its record cannot be read.
pub fn newest(state: &Path, playbook: &str) -> Option<DrillRecord> {
    DrillRecord::read(&newest::read(state, Of::Drills, playbook)?, playbook)
}

/// The newest drill of every playbook that was drilled, by name.
pub fn all(state: &Path) -> Result<Vec<DrillRecord>, Failure> {
    let mut found: Vec<DrillRecord> =
        newest::all(state, Of::Drills)?.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    found.sort_by(|a, b| a.playbook.cmp(&b.playbook));
    Ok(found)
}
