//! Events as lines for people: while a run goes on, and when it is shown again.

use crate::base::event::{Level, Mode, Outcome, What};
use crate::base::failure::Failure;
use crate::base::units;
use crate::cli::screen::Paint;
use std::time::Duration;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Errors and nothing else.
    Errors,
    /// Steps, what actions did, log lines.
    Steps,
    /// Also what was asked, and what children print.
    All,
}

/// The lines of an event, each ended by a newline. The end of a run is told by [`crate::cli::summary`], a dry run's plan by
/// [`crate::cli::plan`].
pub fn lines(what: &What, detail: Detail, paint: Paint) -> String {
    if detail == Detail::Errors {
        return match what {
            What::Log { level: level @ (Level::Error | Level::Warn), message } => {
                logged(*level, message, paint)
            }
            What::CleanUpEnded { failure: Some(failure), .. } => clean_up_failed(failure, paint),
            What::StepEnded { step, outcome: Outcome::Tolerated, failure: Some(failure), .. }
            | What::ActionTolerated { action: step, failure, .. } => {
                format!("{} {step}: {failure}\n", paint.warning("warning:"))
                    + remedies(failure, paint).as_str()
            }
            _ => String::new(),
        };
    }
    match what {
        What::RunBegun { run, playbook, mode, .. } => {
            let dry = match mode {
                Mode::DryRun => "dry run",
                Mode::Drill => "drill",
                Mode::Live => "run",
            };
            format!("{} {}\n", paint.heading(playbook), paint.faint(&format!("{dry} {run}")))
        }
        What::RunResumed { run, playbook, changed, .. } => {
            let changed = match changed.as_slice() {
                [] => String::new(),
                changed => format!("  with changed code: {}\n", changed.join(", ")),
            };
            format!("{} {}\n{changed}", paint.heading(playbook), paint.faint(&format!("run {run} resumed")))
        }
        What::StepKept { step } => format!("{} {step} {}\n", paint.good("✔"), paint.faint("(kept)")),
        What::ActionKept { action, summary, .. } => {
            format!("  {action}: {summary} {}\n", paint.faint("(kept)"))
        }
        What::Resolved { what, value, from } => {
            let from = if from.is_empty() { String::new() } else { format!(" ({})", from.join(", ")) };
            format!("{what}: {value}{}\n", paint.faint(&from))
        }
        What::StepBegun { step } => format!("▶ {step}\n"),
        What::StepEnded { step, outcome: Outcome::Tolerated, millis, failure: Some(failure) } => {
            step_ended(step, Outcome::Tolerated, *millis, paint)
                + format!("  {failure}\n").as_str()
                + remedies(failure, paint).as_str()
        }
        What::ActionTolerated { action, failure, .. } => {
            format!("{} {action} {}\n", paint.warning("!"), paint.warning("failed, the run goes on"))
                + format!("  {failure}\n").as_str()
                + remedies(failure, paint).as_str()
        }
        What::StepEnded { step, outcome, millis, .. } => step_ended(step, *outcome, *millis, paint),
        What::ActionEnded { action, summary, .. } => format!("  {action}: {summary}\n"),
        What::Log { level, message } => logged(*level, message, paint),
        What::TaskDone { task, detail } => {
            logged(Level::Info, &format!("{task} is done: {detail}"), paint)
        }
        What::Answered { question, yes: true, by } => format!("  confirmed by {by}: {question}\n"),
        What::CleanUpBegun { .. } => "  cleaning up\n".to_owned(),
        What::CleanUpEnded { failure: Some(failure), .. } => clean_up_failed(failure, paint),
        What::AlertSent { delivered: true, detail } => format!("alert sent to {detail}\n"),
        What::Observed { name, question, answer } if detail == Detail::All => {
            paint.faint(&format!("  {name}: {question}: {answer}")) + "\n"
        }
        What::Output { program, line, .. } if detail == Detail::All => {
            format!("{}{line}\n", paint.faint(&format!("  {program}: ")))
        }
        What::Intent { intent, .. } if detail == Detail::All => {
            paint.faint(&format!("  going to {intent}")) + "\n"
        }
        What::Captured { what, why, .. } => {
            format!("  {} {what} {}\n", paint.warning("not run:"), paint.faint(&format!("({why})")))
        }
        // It is told at the end, and as a whole.
        What::Drilled(_)
        | What::Observed { .. }
        | What::Output { .. }
        | What::Intent { .. }
        // A warning with its remedy tells of that too.
        | What::AlertSent { delivered: false, .. }
        | What::StepValue { .. }
        | What::Planned { .. }
        | What::Asked { .. }
        // The failure that it becomes tells of it.
        | What::Answered { yes: false, .. }
        | What::EnsureBegun { .. }
        | What::CleanUpEnded { failure: None, .. }
        | What::ActionBegun { .. }
        | What::Progress(_)
        | What::ActionFailed { .. }
        | What::Incomplete { .. }
        | What::AlertSet(_)
        | What::RunEnded { .. } => String::new(),
    }
}

/// Where a tolerated failure happened, and what to do about it.
fn remedies(failure: &Failure, paint: Paint) -> String {
    let place = failure.at.as_ref().map(|at| format!("  at {at}\n")).unwrap_or_default();
    failure
        .hints
        .iter()
        .fold(place, |text, hint| text + format!("  {} {hint}\n", paint.hint("hint:")).as_str())
}

fn clean_up_failed(failure: &Failure, paint: Paint) -> String {
    format!("{} {failure}\n", paint.error("the clean-up failed:")) + remedies(failure, paint).as_str()
}

/// How a step ended, in one line.
pub fn step_ended(step: &str, outcome: Outcome, millis: u64, paint: Paint) -> String {
    let time = paint.faint(&format!("({})", took(millis)));
    match outcome {
        Outcome::Done => format!("{} {step} {time}\n", paint.good("✔")),
        Outcome::Failed => format!("{} {step} {} {time}\n", paint.error("✘"), paint.error("failed")),
        Outcome::Tolerated => {
            format!("{} {step} {} {time}\n", paint.warning("!"), paint.warning("failed, the run goes on"))
        }
        Outcome::Unknown => format!("? {step} was not rehearsed to its end {time}\n"),
    }
}

fn logged(level: Level, message: &str, paint: Paint) -> String {
    let one = |line: &str| {
        let text = format!("{}{line}", level.pattern());
        match level {
            Level::Error => paint.error(&text),
            Level::Warn => paint.warning(&text),
            Level::Success => paint.good(&text),
            Level::Info => text,
        }
    };
    message.lines().map(|line| one(line) + "\n").collect()
}

/// Milliseconds for people.
pub fn took(millis: u64) -> String {
    units::duration(Duration::from_millis(millis))
}

/// Events that tests of several files show.
#[cfg(test)]
pub mod example {
    use crate::base::event::{Event, Level, Mode, Outcome, Progress, What};
    use crate::base::failure::{Code, Failure, Place};
    use crate::base::ids::RunId;
    use crate::base::plan::{Effect, Later, Plan};
    use serde_json::Value;

    /// An event at a fixed time.
    pub fn at(what: What) -> Event {
        Event::new(chrono::DateTime::parse_from_rfc3339("2025-11-10T02:00:00+01:00").unwrap(), what)
    }

    /// A failure with a hint.
    pub fn failure() -> Failure {
        Failure::new(Code::Connect, "cannot connect to `db1`")
            .caused_by("Connection refused")
            .hint("Check that PostgreSQL listens on `db1:5432`.")
            .at(Some(Place { file: "playbooks/p.rhai".into(), line: 1, column: 3 }))
    }

    /// A run's beginning.
    pub fn begun(mode: Mode) -> What {
        What::RunBegun {
            run: RunId::parse("20251110-020000-abcdef").unwrap(),
            playbook: "backup_database".into(),
            origin: "embedded".into(),
            code: "c0de".into(),
            mode,
            params: serde_json::Map::new(),
            pid: 1,
            lifeboat: "0.1.0".into(),
            scheduled: None,
        }
    }

    /// A planned action.
    pub fn planned(step: &str, action: &str, summary: &str, effect: Effect) -> What {
        What::Planned {
            action: action.into(),
            step: step.into(),
            at: None,
            plan: Plan::new(summary, effect, Later::<Value>::AfterRun),
            nth: None,
        }
    }

    /// A run that fails in its second step.
    pub fn failed_run() -> Vec<What> {
        let step = |step: &str| step.to_owned();
        vec![
            begun(Mode::Live),
            What::Resolved {
                what: "postgres".into(),
                value: "shop at db1:5432 as app".into(),
                from: vec!["host from DB_HOST".into(), "database from DB_NAME in .env".into()],
            },
            What::StepBegun { step: step("Dump") },
            What::Observed {
                name: "disk_space".into(),
                question: "space on backups".into(),
                answer: "1.0 GiB".into(),
            },
            planned("Dump", "dump", "dump shop", Effect::Create),
            What::ActionBegun { action: "dump".into(), number: 1, summary: String::new(), nth: None },
            What::Output { program: "pg_dump".into(), stream: "stderr".into(), line: "a notice".into() },
            What::Progress(Progress {
                label: "dump shop".into(),
                done: 1 << 20,
                total: Some(4 << 20),
                unit: "bytes".into(),
            }),
            What::ActionEnded {
                action: "dump".into(),
                number: 1,
                output: Value::Null,
                summary: "saved shop_db.sql.gz, 1.2 MiB".into(),
                millis: 3100,
            },
            What::StepEnded { step: step("Dump"), outcome: Outcome::Done, millis: 3100, failure: None },
            What::StepBegun { step: step("Announce") },
            What::StepEnded {
                step: step("Announce"),
                outcome: Outcome::Tolerated,
                millis: 20,
                failure: Some(failure()),
            },
            What::Log { level: Level::Info, message: "two\nlines".into() },
            What::StepBegun { step: step("Rotate") },
            What::Intent { number: 2, intent: "remove `old.sql.gz`".into() },
            What::ActionFailed { action: "rotate".into(), number: 2, failure: failure(), millis: 5 },
            What::StepEnded {
                step: step("Rotate"),
                outcome: Outcome::Failed,
                millis: 30,
                failure: Some(failure()),
            },
            What::Log { level: Level::Error, message: "it broke".into() },
            What::AlertSent { delivered: true, detail: "hooks.example".into() },
            What::AlertSent { delivered: false, detail: "hooks.example: 500".into() },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn shows(detail: Detail, expected: Expect) {
        let text: String =
            example::failed_run().iter().map(|what| lines(what, detail, Paint::PLAIN)).collect();
        expected.assert_eq(&text);
    }

    #[test]
    fn steps_are_told() {
        shows(
            Detail::Steps,
            expect![[r#"
                backup_database run 20251110-020000-abcdef
                postgres: shop at db1:5432 as app (host from DB_HOST, database from DB_NAME in .env)
                ▶ Dump
                  dump: saved shop_db.sql.gz, 1.2 MiB
                ✔ Dump (3.1 s)
                ▶ Announce
                ! Announce failed, the run goes on (20 ms)
                  cannot connect to `db1`: Connection refused
                  at playbooks/p.rhai:1:3
                  hint: Check that PostgreSQL listens on `db1:5432`.
                ℹ️  INFO - two
                ℹ️  INFO - lines
                ▶ Rotate
                ✘ Rotate failed (30 ms)
                ❌ ERROR - it broke
                alert sent to hooks.example
            "#]],
        );
    }

    #[test]
    fn everything_is_told_on_request() {
        shows(
            Detail::All,
            expect![[r#"
                backup_database run 20251110-020000-abcdef
                postgres: shop at db1:5432 as app (host from DB_HOST, database from DB_NAME in .env)
                ▶ Dump
                  disk_space: space on backups: 1.0 GiB
                  pg_dump: a notice
                  dump: saved shop_db.sql.gz, 1.2 MiB
                ✔ Dump (3.1 s)
                ▶ Announce
                ! Announce failed, the run goes on (20 ms)
                  cannot connect to `db1`: Connection refused
                  at playbooks/p.rhai:1:3
                  hint: Check that PostgreSQL listens on `db1:5432`.
                ℹ️  INFO - two
                ℹ️  INFO - lines
                ▶ Rotate
                  going to remove `old.sql.gz`
                ✘ Rotate failed (30 ms)
                ❌ ERROR - it broke
                alert sent to hooks.example
            "#]],
        );
    }

    #[test]
    fn errors_alone_are_told_when_quiet() {
        shows(
            Detail::Errors,
            expect![[r#"
                warning: Announce: cannot connect to `db1`: Connection refused
                  at playbooks/p.rhai:1:3
                  hint: Check that PostgreSQL listens on `db1:5432`.
                ❌ ERROR - it broke
            "#]],
        );
    }
}
