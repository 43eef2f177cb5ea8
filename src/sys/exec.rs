//! A program as playbooks name it: run by an action, or asked by an observation if it only reads.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{DoneIf, Need, Target};
use crate::base::secret::Secret;
use crate::base::units;
use crate::sys::env::names_secret;
use crate::sys::facts::Facts;
use crate::sys::process::{Command, Ended, Input, Status, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Most bytes of each output stream that a script gets.
const KEPT: usize = 1 << 20;

/// An environment variable of the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The value that Lifeboat's own environment has, if any.
    Passed,
    /// This value.
    Set(Value),
}

/// A program to run, with all that it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments. They never hold a secret.
    pub argv: Vec<String>,
    /// Environment variables beside those that every child gets.
    pub env: BTreeMap<String, Variable>,
    /// The folder it runs in; the project if there is none.
    pub cwd: Option<PathBuf>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// What it reads.
    pub input: Input,
    /// Whether another exit status than 0 is a failure.
    pub check: bool,
    /// What it changes, or, if it only reads, what it asks about; everything if that is not said.
    pub touches: Option<Vec<Target>>,
    /// What tells that it need not be run again when its run is resumed.
    pub done_if: Option<DoneIf>,
}

impl Exec {
    /// Runs `argv`, checks its exit status, and says nothing of what it changes.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            cwd: None,
            timeout: None,
            input: Input::Nothing,
            check: true,
            touches: None,
            done_if: None,
        }
    }

    /// The program as it was named; empty if there is none.
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// The command line as one would type it.
    pub fn command_line(&self) -> String {
        self.argv.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ")
    }

    /// What the policy must allow.
    pub fn needs(&self, facts: &Facts) -> Vec<Need> {
        let mut needs = vec![Need::Program(self.program().to_owned())];
        needs.extend(self.cwd.iter().map(|dir| Need::Read(facts.absolute(dir))));
        if let Some(DoneIf::Succeeds { argv, .. }) = &self.done_if {
            needs.extend(argv.first().cloned().map(Need::Program));
        }
        let passed = self.env.iter().filter(|(_, variable)| **variable == Variable::Passed);
        needs.extend(passed.map(|(name, _)| Need::Env(name.clone())));
        needs
    }

    /// What it changes or asks about.
    pub fn targets(&self) -> Vec<Target> {
        self.touches.clone().unwrap_or_else(|| vec![Target::Everything])
    }

    /// Runs it.
    ///
    /// # Errors
    /// Those of [`Command::run`]; `ProcessFailed` for another exit status than 0, if that is to be checked.
    pub fn run(&self, facts: &Facts) -> Result<ExecResult, Failure> {
        let command = match facts.host().sandbox() {
            Some(sandbox) => sandbox.confined(self, facts.host())?.command(facts),
            None => self.command(facts),
        };
        let ended = command.run(facts.host()).map_err(|failure| match failure.code {
            Code::TimedOut => failure.hint("Raise the option `timeout` if the program needs longer."),
            _ => failure,
        })?;
        let ended = if self.check { ended.checked()? } else { ended };
        Ok(ExecResult::of(ended))
    }

    /// Why a drill does not run it; `None` outside of one, and where it may really run.
    pub fn captured(&self, facts: &Facts) -> Option<String> {
        facts.host().sandbox()?.captures(self)
    }

    /// What is started.
    pub fn command(&self, facts: &Facts) -> Command {
        let command = Command::new(self.program()).args(self.argv.iter().skip(1)).keep(KEPT);
        let command = self.cwd.iter().fold(command, |command, dir| command.cwd(dir));
        let command = self.timeout.iter().fold(command, |command, limit| command.timeout(*limit));
        let command = command.input(self.input.clone());
        self.env.iter().fold(command, |command, (name, variable)| match variable {
            Variable::Set(value) => command.env(name, value.clone()),
            Variable::Passed => match facts.host().env().value(name) {
                Some(value) => command.env(name, passed(name, value)),
                None => command,
            },
        })
    }

    /// All that is given to it, in lines for people.
    pub fn details(&self, facts: &Facts) -> Vec<String> {
        let mut details = vec![format!("$ {}", self.command_line())];
        if let Some(dir) = &self.cwd {
            details.push(format!("in {}", facts.host().shown(&facts.absolute(dir))));
        }
        if !self.env.is_empty() {
            let name = |(name, variable): (&String, &Variable)| match variable {
                Variable::Passed if facts.host().env().value(name).is_none() => format!("{name} (not set)"),
                _ => name.clone(),
            };
            details
                .push(format!("environment: {}", self.env.iter().map(name).collect::<Vec<_>>().join(", ")));
        }
        match &self.input {
            Input::Nothing => {}
            Input::Bytes(bytes) => details.push(format!("input: {}", units::bytes(bytes.len() as u64))),
            Input::Secret(_) => details.push("input: a secret".to_owned()),
        }
        match &self.done_if {
            Some(DoneIf::Exists(path)) => {
                details
                    .push(format!("not again in a resumed run if `{}` is there", facts.host().shown(path)));
            }
            Some(DoneIf::Succeeds { argv, .. }) => {
                let words: Vec<String> = argv.iter().map(|arg| quoted(arg)).collect();
                details.push(format!("not again in a resumed run if `{}` succeeds", words.join(" ")));
            }
            None => {}
        }
        if let Some(limit) = self.timeout {
            details.push(format!("at most {}", units::duration(limit)));
        }
        details
    }
}

/// A variable that is passed on; its name tells whether it is a secret.
fn passed(name: &str, value: &str) -> Value {
    if names_secret(name) { Value::Secret(Secret::new(value)) } else { Value::Plain(value.to_owned()) }
}

/// An argument as a shell would have to read it.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}

/// What a program that was run left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecResult {
    /// The program as it was named.
    pub program: String,
    /// Its exit status; 128 and the signal's number if a signal ended it, as shells have it.
    pub code: i32,
    /// Standard output, masked, its last MiB.
    pub stdout: String,
    /// Standard error, masked, its last MiB.
    pub stderr: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl ExecResult {
    fn of(ended: Ended) -> Self {
        let code = match ended.status {
            Status::Code(code) => code,
            Status::Signal(signal) => 128 + signal,
        };
        Self {
            program: ended.program,
            code,
            stdout: ended.stdout.text,
            stderr: ended.stderr.text,
            millis: u64::try_from(ended.elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
