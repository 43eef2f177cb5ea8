//! Identifiers of runs.

use chrono::{DateTime, Local};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names one run: `YYYYMMDD-HHMMSS-xxxxxx`, the local time it began and six random letters.
///
/// People name a run by the shortest unique prefix of the letters or of the whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// An id from its time and its letters.
    pub fn new(began: DateTime<Local>, letters: &str) -> Self {
        Self(format!("{}-{letters}", began.format("%Y%m%d-%H%M%S")))
    }

    /// An id as it was written; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (date, time, letters) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_digit());
        (parts.next().is_none()
            && digits(date, 8)
            && digits(time, 6)
            && letters.len() == 6
            && letters.bytes().all(|b| b.is_ascii_lowercase()))
        .then(|| Self(text.to_owned()))
    }

    /// The random letters, the short name.
    pub fn letters(&self) -> &str {
        self.0.rsplit('-').next().unwrap_or_default()
    }

    /// The second in which it began, as it is written.
    pub fn second(&self) -> &str {
        self.0.get(.."YYYYMMDD-HHMMSS".len()).unwrap_or_default()
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `prefix` names this run.
    pub fn answers_to(&self, prefix: &str) -> bool {
        self.0.starts_with(prefix) || self.letters().starts_with(prefix)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
