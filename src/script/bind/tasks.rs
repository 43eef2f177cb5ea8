//! Maintenance: what was done last, that a task is done, what the logs tell.

use crate::base::drill::{DrillRecord, Passed};
use crate::base::event::Level;
use crate::base::failure::{Code, Failure};
use crate::base::task::TaskRecord;
use crate::observe::last_done::LastDone;
use crate::observe::last_drill::LastDrill;
use crate::observe::logged_problems::{LoggedProblem, LoggedProblems};
use crate::script::bind::time::{Span, Time};
use crate::script::bind::{known_text, observe};
use crate::script::context::{Raised, RunContext, place};
use crate::script::value::IntoScript;
use crate::script::{fault, unknown};
use rhai::Map;
use rhai::plugin::*;
use std::time::Duration;

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

impl IntoScript for TaskRecord {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("task".into(), self.task.into());
        map.insert("at".into(), Dynamic::from(Time(self.at)));
        map.insert("run".into(), self.run.into());
        map.insert("detail".into(), self.detail.into());
        map.into()
    }
}

impl IntoScript for DrillRecord {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("told".into(), self.in_short().into());
        map.insert("playbook".into(), self.playbook.into());
        map.insert("at".into(), Dynamic::from(Time(self.began)));
        map.insert("run".into(), self.run.to_string().into());
        map.insert("passed".into(), (self.verdict.result != Passed::Failed).into());
        map.insert("result".into(), self.verdict.result.words().into());
        map.insert("took".into(), Dynamic::from(Span(Duration::from_millis(self.verdict.millis))));
        map.into()
    }
}

impl IntoScript for LoggedProblem {
    fn into_script(self) -> Dynamic {
        let level = if self.level == Level::Error { "error" } else { "warning" };
        let mut map = Map::new();
        map.insert("level".into(), level.into());
        map.insert("message".into(), self.message.into());
        map.insert("count".into(), i64::try_from(self.count).unwrap_or(i64::MAX).into());
        map.insert("first".into(), self.first.to_string().into());
        map.insert("last".into(), self.last.to_string().into());
        map.into()
    }
}

#[export_module]
mod functions {
    /// When a task was done last, or `()`: `last_done("Verify backups")`.
    ///
    /// It has `task`, `at`, `run` and `detail`: what `task_done` noted last, also when that run is not on record any more.
    #[rhai_fn(volatile, return_raw)]
    pub fn last_done(ctx: NativeCallContext, task: &str) -> Result<Dynamic, Raised> {
        observe(&ctx, &LastDone { task: known_text(task)?.to_owned() }, false)
    }

    /// The newest drill of a playbook, or `()`: `last_drill("full_recovery")`.
    ///
    /// It has `playbook`, `at`, `run`, `passed`, which is true also for one that passed in part, `result` in words, `took`,
    /// and `told`, which is all of it in one line.
    #[rhai_fn(volatile, return_raw)]
    pub fn last_drill(ctx: NativeCallContext, playbook: &str) -> Result<Dynamic, Raised> {
        observe(&ctx, &LastDrill { playbook: known_text(playbook)?.to_owned() }, false)
    }

    /// Notes that a task is done, and what was done: `task_done("Verify backups", "12 backups are intact")`.
    ///
    /// It is kept for longer than the record of the run, and counts from when the run began. A dry run only tells it.
    #[rhai_fn(volatile, return_raw)]
    pub fn task_done(ctx: NativeCallContext, task: &str, detail: &str) -> Result<(), Raised> {
        let task = known_text(task)?.trim();
        if task.is_empty() {
            return Err(fault::raise(Failure::new(Code::Script, "a task without a name cannot be noted")));
        }
        let context = RunContext::of(&ctx)?;
        let noted = context.session()?.task_done(task, &unknown::shown(detail));
        noted.map_err(|failure| fault::raise(failure.at(place(&ctx))))
    }

    /// Errors and warnings of the daily logs, those that say the same together: `logged_problems(last_done("Review logs")?.at)`.
    ///
    /// `since` is a time, or `()` for all that is kept; what this run logs itself is left to the next one. Each has `level`
    /// ("error" or "warning"), `message`, `count`, and `first` and `last` as texts. Errors come first, then what came often.
    #[rhai_fn(volatile, return_raw)]
    pub fn logged_problems(ctx: NativeCallContext, since: Dynamic) -> Result<Dynamic, Raised> {
        let since = match since.read_lock::<Time>() {
            Some(time) => Some(time.0),
            None if since.is_unit() => None,
            None if unknown::holds(&since) => {
                let message = "the time of `logged_problems` is known only after the run";
                return Err(fault::raise(unknown::failure(message)));
            }
            None => {
                let failure = Failure::new(Code::Script, format!("`{since}` is not a time"));
                return Err(fault::defect(
                    failure.hint("Give a time such as `now() - duration(\"7d\")`, or `()`."),
                ));
            }
        };
        observe(&ctx, &LoggedProblems { since }, false)
    }
}
