//! Child processes: what they are given, how they are watched, how they end.
//!
//! *Problem*: a child that outlives its run goes on writing, asks a terminal nobody watches, or shows a secret to all
//! users of the machine. *Decision*: each child leads a session of its own, so that it has no terminal to ask and can be
//! ended with all its descendants; it gets a clean environment; arguments that hold a secret are refused; a thread
//! starts it, watches it and reaps it. *Rejected*: `tokio::process`, because the kernel's parent-death signal follows
//! the thread that forked, and workers of a runtime come and go.

mod capture;
mod child;
mod find;

pub use capture::{Captured, plain};
pub use child::{Child, ChildStdout, Ended, Status};
pub use find::find;

use crate::base::failure::{Code, Failure};
use crate::base::secret::Secret;
use crate::sys::host::Host;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a child may take to end after SIGTERM, before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// How much of a stream is kept, unless said otherwise, in bytes.
const KEPT: usize = 64 * 1024;

/// The value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Shown where it appears.
    Plain(String),
    /// Never shown.
    Secret(Secret),
}

impl Value {
    /// The value itself, for the child.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// What a child reads from its standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// Nothing: the end at once.
    #[default]
    Nothing,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// This text, then the end.
    Secret(Secret),
}

/// A program to run, with all that it is given.
#[derive(Clone, Debug)]
pub struct Command {
    program: String,
    args: Vec<String>,
    cwd: Option<PathBuf>,
    env: BTreeMap<String, Value>,
    input: Input,
    kept: usize,
    shown: bool,
    timeout: Option<Duration>,
    grace: Duration,
}

impl Command {
    /// Runs `program`, a name looked for on PATH or a path. Output is captured and shown as events line by line.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            cwd: None,
            env: BTreeMap::new(),
            input: Input::Nothing,
            kept: KEPT,
            shown: true,
            timeout: None,
            grace: GRACE,
        }
    }

    /// Adds an argument. Every user of the machine can read arguments: one that holds a secret is refused.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the working folder; without it, it is the project.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: Value) -> Self {
        self.env.insert(name.into(), value);
        self
    }

    /// Sets what the child reads.
    #[must_use]
    pub fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Keeps at most the last `bytes` of each captured stream; 64 KiB without it.
    #[must_use]
    pub fn keep(mut self, bytes: usize) -> Self {
        self.kept = bytes;
        self
    }

    /// Emits no events for lines of output.
    #[must_use]
    pub fn unseen(mut self) -> Self {
        self.shown = false;
        self
    }

    /// Ends the child when it takes longer than this.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// How long the child may take to end after SIGTERM; 5 s without it.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the child and waits for its end. A non-zero exit is no failure here; see [`Ended::checked`].
    ///
    /// # Errors
    /// `ProgramMissing`, `TimedOut`, the run's end, an argument that holds a secret, or what the system says.
    pub fn run(self, host: &Arc<Host>) -> Result<Ended, Failure> {
        self.spawn(host)?.wait()
    }

    /// Starts the child; its output is captured.
    ///
    /// # Errors
    /// As [`Command::run`].
    pub fn spawn(self, host: &Arc<Host>) -> Result<Child, Failure> {
        child::start(self, host, false).map(|(child, _)| child)
    }

    /// Starts the child and hands out its standard output as a stream; standard error is captured.
    ///
    /// The end of the stream alone proves nothing: ask [`Child::wait`] for the exit status before using what was read.
    ///
    /// # Errors
    /// As [`Command::run`].
    pub fn spawn_streaming(self, host: &Arc<Host>) -> Result<(Child, ChildStdout), Failure> {
        let (child, stdout) = child::start(self, host, true)?;
        stdout
            .map(|stdout| (child, stdout))
            .ok_or_else(|| Failure::new(Code::Internal, "a child has no standard output"))
    }

    /// Where the child will run, checked.
    fn folder(&self, host: &Host) -> Result<PathBuf, Failure> {
        let dir = self.cwd.as_ref().map_or_else(|| host.project().to_path_buf(), |dir| host.absolute(dir));
        // The system reports a missing folder as if the program were missing.
        match std::fs::metadata(&dir) {
            Ok(meta) if meta.is_dir() => Ok(dir),
            Ok(_) => Err(Failure::new(Code::Io, format!("cannot run `{}`", self.program))
                .caused_by(format!("`{}` is not a folder", dir.display()))),
            Err(error) => Err(Failure::io("enter the folder", &dir, &error)),
        }
    }

    /// The program's path and the folder it would run in, if all that can be known before it runs is in order. Makes
    /// the secrets that it is given known to the masker.
    ///
    /// # Errors
    /// An argument that holds a secret, `ProgramMissing`, or a folder that is not there.
    pub fn check(&self, host: &Host) -> Result<(PathBuf, PathBuf), Failure> {
        for value in self.env.values() {
            if let Value::Secret(secret) = value {
                host.masker().add(secret);
            }
        }
        if let Input::Secret(secret) = &self.input {
            host.masker().add(secret);
        }
        if let Some(arg) = self.args.iter().find(|arg| host.masker().mask(arg) != **arg) {
            return Err(argument_holds_secret(&self.program, &host.masker().mask(arg)));
        }
        let dir = self.folder(host)?;
        Ok((find::find_from(host, &self.program, &dir)?, dir))
    }

    /// The system's command, ready to be started, and the program's path.
    fn prepared(&self, host: &Host) -> Result<(std::process::Command, PathBuf), Failure> {
        let (path, dir) = self.check(host)?;
        let mut command = std::process::Command::new(&path);
        command.args(&self.args).current_dir(&dir).env_clear().env("PATH", find::search_path(host));
        for (name, value) in host.env().inherited() {
            command.env(name, value);
        }
        for (name, value) in &self.env {
            match value {
                Value::Plain(value) => command.env(name, value),
                Value::Secret(value) => command.env(name, value.expose()),
            };
        }
        lead_own_session(&mut command);
        Ok((command, path))
    }
}

fn argument_holds_secret(program: &str, masked: &str) -> Failure {
    Failure::new(Code::Usage, format!("an argument of `{program}` holds a secret"))
        .caused_by(format!(
            "the argument `{}` would show it to every user of this machine",
            shortened(masked)
        ))
        .hint("Pass the secret with the option `env`, or as `input`, and let the program read it there.")
}

/// The beginning of a text that may be long.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Why a program that was found does not start.
fn cannot_start(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Code::ProcessFailed, format!("cannot run `{}`", path.display()));
    match error.raw_os_error() {
        Some(libc::ENOENT) => failure
            .caused_by("the interpreter that its first line names does not exist")
            .hint("Correct the line that begins with `#!`, or install that interpreter."),
        Some(libc::E2BIG) => failure
            .caused_by("arguments and environment are too long")
            .hint("Pass long data with the option `input`."),
        _ => failure.caused_by(error),
    }
}

/// Makes the child the leader of a session, and on Linux lets the kernel end it when its starter dies.
#[allow(unsafe_code)] // `pre_exec` is the only way to act between fork and exec.
fn lead_own_session(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    #[cfg(target_os = "linux")]
    let parent = rustix::process::getpid();
    let detach = move || {
        rustix::process::setsid()?;
        #[cfg(target_os = "linux")]
        {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            // A parent that died before the line above sends no signal any more.
            if rustix::process::getppid() != Some(parent) {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(detach);
    }
}

#[cfg(test)]
mod tests;
