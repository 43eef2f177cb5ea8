//! What happens in a run. Terminal, `--json`, log files and the journal consume the same events; nothing else tells
//! the outside what a run does.

use crate::base::drill::Verdict;
use crate::base::failure::{Exit, Failure, Place};
use crate::base::ids::RunId;
use crate::base::plan::Plan;
use crate::base::schedule::Scheduled;
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: DateTime<FixedOffset>,
    /// What.
    pub what: What,
    /// Number of the action that says so, where several are carried out at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<u64>,
}

impl Event {
    /// An event of the run as a whole, or of the only action that is being carried out.
    pub fn new(time: DateTime<FixedOffset>, what: What) -> Self {
        Self { time, what, action: None }
    }
}

/// How a run treats the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Acts.
    Live,
    /// Shows what it would do.
    DryRun,
    /// Acts, in a sandbox.
    Drill,
}

/// How a step, an action or a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Failed, and the playbook said in advance that it may.
    Tolerated,
    /// A dry run could not know it, or a drill could not rehearse it to its end.
    Unknown,
}

/// Level of a line meant for people; the guide's four log patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// `✅ SUCCESS - `
    Success,
    /// `ℹ️  INFO - `
    Info,
    /// `⚠️  WARN - `
    Warn,
    /// `❌ ERROR - `
    Error,
}

impl Level {
    /// The guide's pattern that begins such a line.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Success => "✅ SUCCESS - ",
            Self::Info => "ℹ️  INFO - ",
            Self::Warn => "⚠️  WARN - ",
            Self::Error => "❌ ERROR - ",
        }
    }
}

/// The alert of a run: the guide's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// `success`, `warning`, `error`, or what the playbook says.
    pub status: String,
    /// One sentence for a person.
    pub message: String,
    /// ISO 8601 with offset.
    pub timestamp: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A run begins.
    RunBegun {
        /// Its id.
        run: RunId,
        /// Playbook name.
        playbook: String,
        /// Where the playbook came from: a path, or `embedded`.
        origin: String,
        /// SHA-256 of playbook and modules.
        code: String,
        /// Live or dry.
        mode: Mode,
        /// Parameters; secret ones as `***`.
        params: serde_json::Map<String, serde_json::Value>,
        /// Process id.
        pid: u32,
        /// Version of Lifeboat.
        lifeboat: String,
        /// The schedule whose run it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scheduled: Option<Scheduled>,
    },
    /// A run that ended early goes on.
    RunResumed {
        /// Its id.
        run: RunId,
        /// Playbook name.
        playbook: String,
        /// SHA-256 of playbook and modules, as they run now.
        code: String,
        /// Files whose text is not that of the record; whoever resumed the run accepted that.
        changed: Vec<String>,
        /// Process id.
        pid: u32,
        /// Version of Lifeboat.
        lifeboat: String,
    },
    /// A setting was resolved: what, its value, where each part came from.
    Resolved {
        /// For example `postgres`.
        what: String,
        /// For example `shop at db1:5432 as app`.
        value: String,
        /// For example `host from DB_HOST`.
        from: Vec<String>,
    },
    /// A step begins.
    StepBegun {
        /// Path of step names, with occurrence from the second on: `Dump`, `Dump#2`, `All/Dump`.
        step: String,
    },
    /// The value of a step that is done, in a codec that a resumed run reads; right before its end. It is missing when the
    /// value has none, or would tell a secret.
    StepValue {
        /// Path of step names.
        step: String,
        /// The value.
        value: serde_json::Value,
    },
    /// A resumed run does not repeat a step: it was completed, and what it did still stands.
    StepKept {
        /// Path of step names.
        step: String,
    },
    /// A step ended.
    StepEnded {
        /// Path of step names.
        step: String,
        /// How.
        outcome: Outcome,
        /// Milliseconds.
        millis: u64,
        /// Why, unless it is done.
        failure: Option<Failure>,
    },
    /// An observation was made.
    Observed {
        /// Its NAME.
        name: String,
        /// The question in one line.
        question: String,
        /// The answer in short, or `(known after run)`.
        answer: String,
    },
    /// An action was planned; a dry run ends here.
    Planned {
        /// Its NAME.
        action: String,
        /// The step it stands in.
        step: String,
        /// Where in the playbook.
        at: Option<Place>,
        /// The plan.
        plan: Plan<serde_json::Value>,
        /// Its place in the list of its `parallel`, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nth: Option<u64>,
    },
    /// A person is asked whether the run may go on; a dry run only tells that it would ask.
    Asked {
        /// The step it stands in.
        step: String,
        /// The question.
        question: String,
    },
    /// The question was answered, or given up.
    Answered {
        /// The question.
        question: String,
        /// Whether the run may go on.
        yes: bool,
        /// Who answered: `a person`, `--yes`, or why nobody did.
        by: String,
    },
    /// A block begins whose clean-up must follow, whatever happens.
    EnsureBegun {
        /// Its path: that of the step it stands in, and `ensure` with its occurrence from the second on.
        ensure: String,
    },
    /// Its clean-up begins.
    CleanUpBegun {
        /// Path of the block.
        ensure: String,
    },
    /// Its clean-up ended.
    CleanUpEnded {
        /// Path of the block.
        ensure: String,
        /// What went wrong, if it did not end well: the clean-up is then still owed.
        failure: Option<Failure>,
    },
    /// An action begins.
    ActionBegun {
        /// Its NAME.
        action: String,
        /// Number of the action in this run, from 1.
        number: u64,
        /// Summary of its plan, which tells it from others that are carried out at the same time.
        #[serde(default)]
        summary: String,
        /// Its place in the list of its `parallel`, from 1, which tells it from others with the same summary.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nth: Option<u64>,
    },
    /// A destructive effect is about to happen; durable before it does.
    Intent {
        /// Number of the action.
        number: u64,
        /// What is going to be destroyed or replaced.
        intent: String,
    },
    /// Progress of the action that runs.
    Progress(Progress),
    /// An action ended well.
    ActionEnded {
        /// Its NAME.
        action: String,
        /// Number of the action.
        number: u64,
        /// Output as tagged JSON.
        output: serde_json::Value,
        /// One line for people.
        summary: String,
        /// Milliseconds.
        millis: u64,
    },
    /// A resumed run does not repeat an action: what it did still stands.
    ActionKept {
        /// Its NAME.
        action: String,
        /// Its number when it was carried out.
        number: u64,
        /// Output as tagged JSON.
        output: serde_json::Value,
        /// One line for people.
        summary: String,
    },
    /// An action failed.
    ActionFailed {
        /// Its NAME.
        action: String,
        /// Number of the action.
        number: u64,
        /// Why.
        failure: Failure,
        /// Milliseconds.
        millis: u64,
    },
    /// An action failed, and the playbook said in advance that it may: those beside it go on, and so does the run.
    ActionTolerated {
        /// The action in a few words.
        action: String,
        /// The step it stands in.
        step: String,
        /// Why.
        failure: Failure,
    },
    /// A line from a child process.
    Output {
        /// Program.
        program: String,
        /// `stdout` or `stderr`.
        stream: String,
        /// The line, masked.
        line: String,
    },
    /// A line for people. A `Warn` makes the run complete with warnings.
    Log {
        /// Level.
        level: Level,
        /// Text.
        message: String,
    },
    /// A task of maintenance was done, or a person says that it was.
    TaskDone {
        /// The task.
        task: String,
        /// What was done, in short.
        detail: String,
    },
    /// A drill did not do this, because it would have reached beyond the sandbox.
    Captured {
        /// What, in short: `docker compose build`.
        what: String,
        /// The step it stands in.
        step: String,
        /// Why.
        why: String,
    },
    /// Part of a dry run could not be known, or part of a drill could not be rehearsed.
    Incomplete {
        /// The step.
        step: String,
        /// Why.
        reason: String,
        /// Where.
        at: Option<Place>,
    },
    /// The verdict of a drill, just before its end.
    Drilled(Box<Verdict>),
    /// The playbook set the run's alert.
    AlertSet(Alert),
    /// The alert was delivered, or given up.
    AlertSent {
        /// Whether the receiver accepted it.
        delivered: bool,
        /// Receiver's host, or why it failed.
        detail: String,
    },
    /// A run ended.
    RunEnded {
        /// Exit code.
        exit: Exit,
        /// Milliseconds.
        millis: u64,
        /// The failure that ended it.
        failure: Option<Failure>,
        /// Warnings and tolerated failures.
        warnings: Vec<String>,
        /// Value of the playbook's last expression, if it has a codec.
        value: Option<serde_json::Value>,
    },
}

/// Progress of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, for example `dump shop`.
    pub label: String,
    /// Units done.
    pub done: u64,
    /// Units in all, if known or estimated.
    pub total: Option<u64>,
    /// `bytes`, `files`, `backups`; empty where nothing is counted.
    pub unit: String,
}

/// Receives events.
pub trait EventSink: Send + Sync {
    /// Takes one event. Must not block for long and must not fail: a journal that cannot be written is reported by the
    /// intent of the next destructive effect.
    fn event(&self, event: &Event);
}

/// A sink shared by everything in a run.
pub type Events = Arc<dyn EventSink>;
