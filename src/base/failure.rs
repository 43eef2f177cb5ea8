//! Errors as data: what failed, where in the playbook, why, and the remedy.
//!
//! Lower layers use typed errors; actions and observations turn them into a [`Failure`], which scripts, the journal
//! and the terminal share. Only `cli::report` turns a failure into prose.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The process's exit code; the complete list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Everything that was asked was done and observed.
    Success,
    /// The run failed.
    Failed,
    /// The command line or the playbook is wrong; nothing was done.
    Usage,
    /// The run completed, with failures that the playbook tolerated or warnings.
    Warnings,
    /// The plan of a dry run could not be known in full.
    Partial,
    /// A drill failed or missed its objective.
    Drill,
    /// A person is needed: a question could not be asked, or was not answered with yes.
    Confirm,
    /// The policy refused.
    Policy,
    /// Another run holds the lock of a target.
    Locked,
    /// A backup is not intact.
    NotIntact,
    /// Ended by SIGINT.
    Interrupted,
    /// Ended by SIGTERM.
    Terminated,
}

impl Exit {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Warnings => 3,
            Self::Partial => 4,
            Self::Drill => 5,
            Self::Confirm => 6,
            Self::Policy => 10,
            Self::Locked => 11,
            Self::NotIntact => 12,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

/// The exit code of `status --nagios`, as monitoring plugins have it. It stands beside [`Exit`], not in it: no run ends so, and the
/// numbers mean something else there. Monitoring that reads one for the other would take a usage error for a critical backup,
/// so that with `--nagios` every failure, of the command line too, is `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginExit {
    /// Nothing is wrong.
    Ok,
    /// A person should look at it.
    Warning,
    /// Backups are missing, broken, or about to fail.
    Critical,
    /// It could not be looked at.
    Unknown,
}

impl PluginExit {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The word that the plugin's line has for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What kind of failure it is; stable, for scripts and for monitoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Bad command line, option or parameter.
    Usage,
    /// The playbook does not compile or lint refuses it.
    Playbook,
    /// The playbook raised an error while it ran.
    Script,
    /// A file or folder could not be read or written.
    Io,
    /// The disk is full.
    DiskFull,
    /// Something that must exist does not.
    NotFound,
    /// A program is not installed.
    ProgramMissing,
    /// A child process failed.
    ProcessFailed,
    /// A time limit passed.
    TimedOut,
    /// The database server, or a mail server, could not be reached or refused the session.
    Connect,
    /// A query failed.
    Query,
    /// A version does not fit another.
    Version,
    /// A backup is not intact.
    NotIntact,
    /// The policy refused.
    Policy,
    /// Another run holds the lock.
    Locked,
    /// The run was interrupted (SIGINT).
    Interrupted,
    /// The run was terminated (SIGTERM).
    Terminated,
    /// An HTTP request failed.
    Http,
    /// An expectation of the playbook does not hold.
    Expectation,
    /// The backups are not as they should be: what `health_check` found. Runs that end so are not failures of their own.
    Unhealthy,
    /// The playbook called `fail`.
    Failed,
    /// The journal could not be written.
    Journal,
    /// A value of a dry run is known only after the run.
    Unknown,
    /// Needs a person: a question that could not be asked, or was not answered with yes.
    Confirm,
    /// A defect in Lifeboat itself.
    Internal,
}

impl Code {
    /// The exit code of a run that ends with such a failure.
    pub fn exit(self) -> Exit {
        match self {
            Self::Usage | Self::Playbook => Exit::Usage,
            Self::NotIntact => Exit::NotIntact,
            Self::Policy => Exit::Policy,
            Self::Locked => Exit::Locked,
            Self::Interrupted => Exit::Interrupted,
            Self::Terminated => Exit::Terminated,
            Self::Unknown => Exit::Partial,
            Self::Confirm => Exit::Confirm,
            _ => Exit::Failed,
        }
    }

    /// The code as scripts and JSON see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Playbook => "playbook",
            Self::Script => "script",
            Self::Io => "io",
            Self::DiskFull => "disk_full",
            Self::NotFound => "not_found",
            Self::ProgramMissing => "program_missing",
            Self::ProcessFailed => "process_failed",
            Self::TimedOut => "timed_out",
            Self::Connect => "connect",
            Self::Query => "query",
            Self::Version => "version",
            Self::NotIntact => "not_intact",
            Self::Policy => "policy",
            Self::Locked => "locked",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
            Self::Http => "http",
            Self::Expectation => "expectation",
            Self::Unhealthy => "unhealthy",
            Self::Failed => "failed",
            Self::Journal => "journal",
            Self::Unknown => "unknown",
            Self::Confirm => "confirm",
            Self::Internal => "internal",
        }
    }

    /// Whether the run may go on in spite of it, where the playbook says so. What ends the run, what a dry run does not know
    /// and defects of Lifeboat are told as they are.
    pub fn is_tolerable(self) -> bool {
        !self.ends_the_run() && !matches!(self, Self::Unknown | Self::Internal)
    }

    /// Whether `attempt` and `retry` must let it through: the run is ending.
    pub fn ends_the_run(self) -> bool {
        matches!(self, Self::Interrupted | Self::Terminated | Self::Journal | Self::Policy | Self::Confirm)
    }
}

/// A place in a playbook or module. Lines and columns begin at 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// File as shown to people: a path relative to the project, or `std/backup`.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One frame of the call chain that led to a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The function that was being called, as `std/backup::nightly`.
    pub function: String,
    /// Where it was called.
    pub at: Place,
}

/// An error as data. Messages are lowercase fragments without a period; hints are full sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind it is.
    pub code: Code,
    /// What failed, naming the object in backticks.
    pub message: String,
    /// Why, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// The exact remedies.
    #[serde(default)]
    pub hints: Vec<String>,
    /// Where in the playbook.
    #[serde(default)]
    pub at: Option<Place>,
    /// The call chain, innermost first.
    #[serde(default)]
    pub trail: Vec<Frame>,
    /// The path of step names it happened in.
    #[serde(default)]
    pub step: Option<String>,
}

impl Failure {
    /// A failure without place, causes or hints.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            at: None,
            trail: Vec::new(),
            step: None,
        }
    }

    /// Adds a cause below those already there.
    #[must_use]
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds a hint; the same hint is kept once.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }

    /// Sets the place, unless a more exact one is known already.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        if self.at.is_none() {
            self.at = place;
        }
        self
    }

    /// Applies `mask` to every text in the failure.
    #[must_use]
    pub fn masked(mut self, mask: impl Fn(&str) -> String) -> Self {
        self.message = mask(&self.message);
        for text in self.causes.iter_mut().chain(self.hints.iter_mut()) {
            *text = mask(text);
        }
        self
    }

    /// An I/O failure on `path`; a full disk gets its own code and remedy.
    pub fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let message = format!("cannot {doing} `{}`", path.display());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::new(
                Code::DiskFull,
                message,
            )
            .caused_by(error)
            .hint(format!(
                "Free space on the file system of `{}`: `lifeboat run rotate_backups` removes backups that \
                     retention no longer keeps.",
                path.display()
            )),
            std::io::ErrorKind::NotFound => {
                Self::new(Code::NotFound, message).caused_by("no such file or folder")
            }
            std::io::ErrorKind::PermissionDenied => Self::new(Code::Io, message)
                .caused_by("permission denied")
                .hint(format!("Give the user that runs Lifeboat access to `{}`.", path.display())),
            _ => Self::new(Code::Io, message).caused_by(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
