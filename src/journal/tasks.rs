//! When each task of maintenance was done last: it outlives the records of runs.

use crate::base::failure::{Code, Failure};
use crate::base::task::TaskRecord;
use crate::sys::state::newest::{self, Of};
use chrono::{DateTime, Local};
use std::path::Path;

/// Keeps that a task was done, unless a later time is known: a resumed run may end after one that began later. A time
/// that is yet to come was written by a wrong clock, and counts for nothing.
pub fn keep(state: &Path, record: &TaskRecord, now: DateTime<Local>) -> Result<(), Failure> {
    let known = newest::read(state, Of::Tasks, &record.task);
    let known = known.and_then(|text| TaskRecord::read(&text, &record.task));
    if known.is_some_and(|known| known.at > record.at && known.at <= now) {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(record)
        .map_err(|error| Failure::new(Code::Internal, "cannot write a record as JSON").caused_by(error))?;
    newest::write(state, Of::Tasks, &record.task, &(text + "\n"), &record.run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_counts_unless_it_comes_from_the_future() {
        let dir = tempfile::tempdir().unwrap();
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap();
        let now = at("2025-11-10T06:30:00Z").with_timezone(&Local);
        let kept = |when: &str| {
            keep(dir.path(), &TaskRecord::new("Test restore", at(when), "r", ""), now).unwrap();
            let text = newest::read(dir.path(), Of::Tasks, "Test restore").unwrap();
            TaskRecord::read(&text, "Test restore").unwrap().at
        };
        for (done, expected) in [
            ("2031-01-01T00:00:00Z", "2031-01-01T00:00:00Z"),
            ("2025-11-08T06:30:00Z", "2025-11-08T06:30:00Z"),
            ("2025-11-01T06:30:00Z", "2025-11-08T06:30:00Z"),
            ("2025-11-10T06:30:00Z", "2025-11-10T06:30:00Z"),
        ] {
            assert_eq!(kept(done), at(expected));
        }
    }
}
