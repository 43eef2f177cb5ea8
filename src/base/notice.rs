//! What is announced to people: an alert with what it is about.

use crate::base::event::Alert;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes of a message: more than a person reads, and less than a variable of a command may hold.
const MESSAGE_LIMIT: usize = 16 * 1024;

/// What an alert tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A run that failed, was interrupted or refused, a failed verification or drill.
    Failed,
    /// A run that was killed.
    Killed,
    /// A run that completed with warnings.
    Warning,
    /// A run that succeeded, of which the playbook speaks itself.
    Success,
    /// The first run that succeeded after others that did not.
    Recovered,
    /// A backup whose size or duration is far off the usual.
    Anomaly,
    /// A scheduled run that did not take place.
    Missed,
    /// A scheduled run that was left out, since another one still worked.
    Skipped,
    /// A disk that is nearly full.
    Disk,
    /// Too many alerts at once, or what became of those that were held back.
    HeldBack,
    /// A person tries out the channels.
    Test,
}

impl Kind {
    /// The word in records and in the environment of commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Warning => "warning",
            Self::Success => "success",
            Self::Recovered => "recovered",
            Self::Anomaly => "anomaly",
            Self::Missed => "missed",
            Self::Skipped => "skipped",
            Self::Disk => "disk",
            Self::HeldBack => "held_back",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An alert, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it tells of.
    pub kind: Kind,
    /// Status, message and time.
    pub alert: Alert,
    /// Name of the playbook, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<String>,
    /// Id of the run, if it is about one that is on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The log file that tells more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

impl Notice {
    /// An alert that is about nothing in particular.
    pub fn new(kind: Kind, alert: Alert) -> Self {
        Self { kind, alert, playbook: None, run: None, log: None }
    }

    /// The same about a playbook.
    #[must_use]
    pub fn of_playbook(mut self, name: &str) -> Self {
        self.playbook = Some(name.to_owned()).filter(|name| !name.is_empty());
        self
    }

    /// The same about a run.
    #[must_use]
    pub fn of_run(mut self, run: &str) -> Self {
        self.run = Some(run.to_owned());
        self
    }

    /// The same with every text passed through `mask`.
    #[must_use]
    pub fn masked(mut self, mask: impl Fn(&str) -> String) -> Self {
        let texts = [&mut self.alert.status, &mut self.alert.message].into_iter();
        for text in texts.chain([&mut self.playbook, &mut self.log].into_iter().flatten()) {
            *text = mask(text);
        }
        self
    }

    /// The same with a message that every channel can carry: of bounded length, and without control characters but for ends
    /// of lines and tabs.
    #[must_use]
    pub fn tamed(mut self) -> Self {
        let message = &mut self.alert.message;
        if message.len() > MESSAGE_LIMIT {
            let end = (0..=MESSAGE_LIMIT).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        let is_odd = |c: char| c.is_control() && c != '\n' && c != '\t';
        *message = message.replace(is_odd, " ");
        self
    }

    /// Whether it tells of something good; good news is never held back for bad news, nor the other way round.
    pub fn is_good_news(&self) -> bool {
        self.alert.status == "success"
    }
}

/// How a header's `notify` announces the runs of its playbook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// The variable that holds the URL of the playbook's own check.
    pub ping_env: Option<String>,
}
