//! What an action is going to do, as a value: shown by a dry run, carried out by a live one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A value that is known now, or only after the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Later<T> {
    /// Known: execution returns the same value.
    Now(T),
    /// Known only after the run.
    AfterRun,
}

impl<T> Later<T> {
    /// The value, if it is known.
    pub fn now(self) -> Option<T> {
        match self {
            Self::Now(value) => Some(value),
            Self::AfterRun => None,
        }
    }

    /// The value by reference, if it is known.
    pub fn as_now(&self) -> Option<&T> {
        match self {
            Self::Now(value) => Some(value),
            Self::AfterRun => None,
        }
    }

    /// Applies `f` to a known value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Later<U> {
        match self {
            Self::Now(value) => Later::Now(f(value)),
            Self::AfterRun => Later::AfterRun,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Later<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(value) => value.fmt(f),
            Self::AfterRun => f.write_str("(known after run)"),
        }
    }
}

/// What an action does to the world; decided by facts, so it is part of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Makes something that is not there.
    Create,
    /// Changes something that is there.
    Replace,
    /// Removes something.
    Destroy,
    /// Tells somebody.
    Notify,
    /// Does what only the program that is run knows.
    Opaque,
}

/// A thing in the outside world that an effect touches or an observation asks about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A file or folder; a folder stands for everything below it.
    Path(PathBuf),
    /// A database as `host:port/name`.
    Database(String),
    /// A host as `host:port`.
    Host(String),
    /// A service by name.
    Service(String),
    /// Anything: what a command that was not run may have changed.
    Everything,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Database(name) | Self::Host(name) | Self::Service(name) => f.write_str(name),
            Self::Everything => f.write_str("everything"),
        }
    }
}

/// Something that an action or observation needs the policy to allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Run a program, as named in the playbook.
    Program(String),
    /// Read below a path.
    Read(PathBuf),
    /// Write below a path.
    Write(PathBuf),
    /// Put a file of a verified backup in its place. It is allowed where writing is, and for what playbooks never write
    /// by themselves too: the project's configuration with its secrets, playbooks and modules, which belong to a
    /// configuration backup. Their content then comes from the backup, not from the playbook, and the action asks a
    /// person before it replaces what decides about runs. The state folder is never restored into: it would tell of
    /// other runs than those that were.
    Restore(PathBuf),
    /// Talk to a host name.
    Host(String),
    /// Read an environment variable.
    Env(String),
}

/// What a predicted effect leaves behind, for the overlay of a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Touch {
    /// A backup will be there.
    BackupMade(Box<crate::base::backup::Backup>),
    /// A backup will have been verified.
    BackupVerified(PathBuf),
    /// A file or folder will be there.
    PathMade(PathBuf),
    /// A file or folder will be gone.
    PathGone(PathBuf),
    /// This will have changed, nobody knows how.
    Changed(Target),
}

/// What tells that an action need not be done again when its run is resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoneIf {
    /// Something is at this path.
    Exists(PathBuf),
    /// A command exits with status 0.
    Succeeds {
        /// The program and its arguments.
        argv: Vec<String>,
        /// The folder it runs in, if it is not the project.
        cwd: Option<PathBuf>,
    },
}

/// What became of an action in a run that was interrupted.
#[derive(Clone, Debug, PartialEq)]
pub enum Reconciled<O> {
    /// Its effect stands, and this is what it returned or would have returned.
    Done(O),
    /// Its effect is not there, or may safely be brought about once more.
    NotDone,
    /// Nobody can tell, in plain words: a person must look.
    InDoubt(String),
}

/// What the journal holds of an action in a run that was interrupted.
#[derive(Clone, Debug, PartialEq)]
pub struct Was<O> {
    /// The run's id.
    pub run: String,
    /// The plan, as it was shown.
    pub plan: Plan<O>,
    /// Whether it was begun.
    pub begun: bool,
    /// What it returned, if it ended well.
    pub output: Option<O>,
}

/// The plan of one action. `O` is the action's output.
///
/// It holds all that execution needs, and secrets by reference only, so it may be shown and recorded as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan<O> {
    /// What it does, in one line.
    pub summary: String,
    /// What it is about, as far as that tells it from others of its kind: by this a resumed run knows it again. Set where the
    /// summary varies with what stands already, or leaves out what matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What kind of effect it has.
    pub effect: Effect,
    /// Further lines for a dry run: the exact argv, files, counts.
    #[serde(default)]
    pub details: Vec<String>,
    /// Bytes that will be processed, as far as they can be estimated.
    #[serde(default)]
    pub estimate: Option<u64>,
    /// What cannot be known before the run, in plain words.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// What the policy must allow.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Targets that no other run may work on at the same time.
    #[serde(default)]
    pub locks: Vec<Target>,
    /// What it leaves behind.
    #[serde(default)]
    pub touches: Vec<Touch>,
    /// The question that a person must say yes to before it is carried out.
    #[serde(default)]
    pub confirm: Option<String>,
    /// What tells that it is done, where only the playbook knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_if: Option<DoneIf>,
    /// What execution and reconciliation need beyond the rest, as the action itself writes it. Never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<serde_json::Value>,
    /// What execution will return.
    pub forecast: Later<O>,
}

impl<O> Plan<O> {
    /// A plan with a summary, an effect and a forecast; the rest is empty.
    pub fn new(summary: impl Into<String>, effect: Effect, forecast: Later<O>) -> Self {
        Self {
            summary: summary.into(),
            identity: None,
            effect,
            details: Vec::new(),
            estimate: None,
            unknown: Vec::new(),
            needs: Vec::new(),
            locks: Vec::new(),
            touches: Vec::new(),
            confirm: None,
            done_if: None,
            basis: None,
            forecast,
        }
    }

    /// The plan without its forecast's type, as events carry it.
    pub fn shown(&self) -> Plan<serde_json::Value>
    where
        O: Serialize,
    {
        Plan {
            summary: self.summary.clone(),
            identity: self.identity.clone(),
            effect: self.effect,
            details: self.details.clone(),
            estimate: self.estimate,
            unknown: self.unknown.clone(),
            needs: self.needs.clone(),
            locks: self.locks.clone(),
            touches: self.touches.clone(),
            confirm: self.confirm.clone(),
            done_if: self.done_if.clone(),
            basis: self.basis.clone(),
            forecast: match &self.forecast {
                Later::Now(output) => serde_json::to_value(output).map_or(Later::AfterRun, Later::Now),
                Later::AfterRun => Later::AfterRun,
            },
        }
    }
}
