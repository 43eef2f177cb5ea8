//! The newest of each kind: one small file per name, which outlives the records of runs.

use super::read_text;
use crate::base::failure::Failure;
use crate::sys::fs;
use crate::sys::stream::Digest;
use std::path::{Path, PathBuf};

/// What the newest is kept of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Drills, by playbook.
    Drills,
    /// Runs that succeeded, by playbook.
    Successes,
    /// Tasks that were done, by task.
    Tasks,
}

impl Of {
    fn folder(self) -> &'static str {
        match self {
            Self::Drills => "drills",
            Self::Successes => "successes",
            Self::Tasks => "tasks",
        }
    }

    /// Where the newest one of a name is kept. What a file's name cannot hold is told by a digest.
    fn file(self, state: &Path, name: &str) -> PathBuf {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) && name.len() < 100;
        let file = if plain && !name.is_empty() {
            name.to_owned()
        } else {
            Digest::of_bytes(name.as_bytes()).to_string()
        };
        state.join(self.folder()).join(format!("{file}.json"))
    }
}

/// Keeps the newest one of a name, atomically and durably. `by` tells writers of the same moment apart.
pub fn write(state: &Path, of: Of, name: &str, content: &str, by: &str) -> Result<(), Failure> {
    fs::create_dir(&state.join(of.folder()))?;
    fs::replace(&of.file(state, name), content.as_bytes(), by)
}

/// The newest one of a name; `None` if there is none, or it cannot be read.
pub fn read(state: &Path, of: Of, name: &str) -> Option<String> {
    read_text(&of.file(state, name)).ok().flatten()
}

/// The newest ones of all names.
pub fn all(state: &Path, of: Of) -> Result<Vec<String>, Failure> {
    let dir = state.join(of.folder());
    let names = fs::file_names(&dir)?;
    let texts = names.iter().filter(|name| name.ends_with(".json") && !name.starts_with('.'));
    Ok(texts.filter_map(|name| read_text(&dir.join(name)).ok().flatten()).collect())
}
