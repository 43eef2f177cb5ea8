//! The daily log file, `logs/backup-YYYYMMDD.log`, in the guide's line patterns.
//!
//! It tells a person what happened; it is no record. A log that cannot be written never fails a run.

use crate::base::event::{Event, EventSink, Level, Mode, Outcome, What};
use crate::base::failure::{Exit, Failure};
use crate::base::units;
use crate::sys::logs;
pub use crate::sys::logs::file_of;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Writes events of runs as lines of the daily log file.
pub struct DailyLog {
    dir: PathBuf,
    warned: AtomicBool,
    warn: Box<dyn Fn(&Failure) + Send + Sync>,
}

impl DailyLog {
    /// A log in the folder `dir`; `warn` is told once when it cannot be written.
    pub fn new(dir: PathBuf, warn: impl Fn(&Failure) + Send + Sync + 'static) -> Self {
        Self { dir, warned: AtomicBool::new(false), warn: Box::new(warn) }
    }
}

impl EventSink for DailyLog {
    fn event(&self, event: &Event) {
        let text = lines(event);
        if text.is_empty() {
            return;
        }
        let path = file_of(&self.dir, event.time.date_naive());
        if let Err(failure) = logs::append(&path, &text)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            (self.warn)(&failure);
        }
    }
}

/// The lines of an event, each with time and pattern and ended by a newline; empty for what the log does not tell.
pub fn lines(event: &Event) -> String {
    let time = event.time.format("%Y-%m-%d %H:%M:%S");
    told(&event.what)
        .into_iter()
        .flat_map(|(level, text)| {
            text.lines().map(|line| format!("{time} {}{line}\n", level.pattern())).collect::<Vec<_>>()
        })
        .collect()
}

fn took(millis: u64) -> String {
    units::duration(Duration::from_millis(millis))
}

fn told(what: &What) -> Vec<(Level, String)> {
    let one = |level, text| vec![(level, text)];
    match what {
        What::RunBegun { run, playbook, mode, .. } => {
            let dry = if *mode == Mode::DryRun { "Dry run" } else { "Run" };
            one(Level::Info, format!("{dry} {run} of {playbook} begins"))
        }
        What::RunResumed { run, playbook, .. } => {
            one(Level::Info, format!("Run {run} of {playbook} is resumed"))
        }
        What::StepKept { step } => one(Level::Info, format!("{step} is kept: it was completed before")),
        What::ActionKept { action, summary, .. } => one(Level::Info, format!("{action} is kept: {summary}")),
        What::Resolved { what, value, from } => {
            let from = if from.is_empty() { String::new() } else { format!(" ({})", from.join(", ")) };
            one(Level::Info, format!("{what}: {value}{from}"))
        }
        What::Log { level, message } => one(*level, message.clone()),
        What::TaskDone { task, detail } => one(Level::Info, format!("{task} is done: {detail}")),
        What::Answered { question, yes, by } => {
            let word = if *yes { "Confirmed" } else { "Not confirmed" };
            one(Level::Info, format!("{word} ({by}): {question}"))
        }
        What::CleanUpEnded { failure: Some(failure), .. } => {
            one(Level::Error, format!("the clean-up failed: {failure}"))
        }
        What::ActionEnded { action, summary, .. } => one(Level::Info, format!("{action}: {summary}")),
        What::StepEnded { step, outcome, millis, failure } => {
            let why = failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
            match outcome {
                Outcome::Done => one(Level::Success, format!("{step} completed in {}", took(*millis))),
                Outcome::Failed => one(Level::Error, format!("{step} failed{why}")),
                Outcome::Tolerated => tolerated(step, &why, failure.as_ref()),
                Outcome::Unknown => one(Level::Info, format!("{step} is known only after the run")),
            }
        }
        What::ActionTolerated { action, failure, .. } => {
            tolerated(action, &format!(": {failure}"), Some(failure))
        }
        What::AlertSent { delivered: true, detail } => one(Level::Info, format!("Alert sent to {detail}")),
        // A warning with its remedy tells of that too.
        What::AlertSent { delivered: false, .. } => Vec::new(),
        What::RunEnded { exit, millis, failure, warnings, .. } => {
            ended(*exit, *millis, failure.as_ref(), warnings)
        }
        What::StepBegun { .. }
        | What::Observed { .. }
        | What::StepValue { .. }
        | What::Planned { .. }
        | What::Asked { .. }
        | What::EnsureBegun { .. }
        | What::CleanUpBegun { .. }
        | What::CleanUpEnded { failure: None, .. }
        | What::ActionBegun { .. }
        | What::Intent { .. }
        | What::Progress(_)
        | What::ActionFailed { .. }
        | What::Output { .. }
        | What::Incomplete { .. }
        | What::Captured { .. }
        | What::Drilled(_)
        | What::AlertSet(_) => Vec::new(),
    }
}

fn tolerated(what: &str, why: &str, failure: Option<&Failure>) -> Vec<(Level, String)> {
    let mut lines = vec![(Level::Warn, format!("{what} failed, the run goes on{why}"))];
    let hints = failure.iter().flat_map(|failure| &failure.hints);
    lines.extend(hints.map(|hint| (Level::Warn, format!("Hint: {hint}"))));
    lines
}

fn ended(exit: Exit, millis: u64, failure: Option<&Failure>, warnings: &[String]) -> Vec<(Level, String)> {
    let time = took(millis);
    let mut told = Vec::new();
    if let Some(failure) = failure {
        told.push((Level::Error, failure.to_string()));
        told.extend(failure.hints.iter().map(|hint| (Level::Info, format!("Hint: {hint}"))));
    }
    told.push(match (exit, warnings.len()) {
        (Exit::Success, _) => (Level::Success, format!("Run completed in {time}")),
        (Exit::Warnings, 1) => (Level::Warn, format!("Run completed with 1 warning in {time}")),
        (Exit::Warnings, n) => (Level::Warn, format!("Run completed with {n} warnings in {time}")),
        (Exit::Interrupted, _) => (Level::Error, format!("Run interrupted after {time}")),
        (Exit::Terminated, _) => (Level::Error, format!("Run terminated after {time}")),
        (exit, _) => (Level::Error, format!("Run failed after {time} (exit {})", exit.code())),
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failure::Code;
    use crate::base::ids::RunId;
    use chrono::DateTime;
    use expect_test::expect;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn event(what: What) -> Event {
        Event::new(DateTime::parse_from_rfc3339("2025-11-10T02:00:00+01:00").unwrap(), what)
    }

    #[test]
    fn lines_have_the_time_and_then_the_guides_pattern() {
        let failure = Failure::new(Code::Connect, "cannot connect to `db1`")
            .caused_by("Connection refused")
            .hint("Check that PostgreSQL listens on `db1:5432`.");
        let text: String = [
            What::RunBegun {
                run: RunId::parse("20251110-020000-abcdef").unwrap(),
                playbook: "backup_database".into(),
                origin: "embedded".into(),
                code: String::new(),
                mode: Mode::Live,
                params: serde_json::Map::new(),
                pid: 1,
                lifeboat: "0.1.0".into(),
                scheduled: None,
            },
            What::Resolved {
                what: "postgres".into(),
                value: "shop at db1:5432".into(),
                from: vec!["host from DB_HOST".into()],
            },
            What::StepBegun { step: "Dump".into() },
            What::ActionEnded {
                action: "dump".into(),
                number: 1,
                output: serde_json::Value::Null,
                summary: "saved shop_db.sql.gz, 1.2 MiB".into(),
                millis: 3,
            },
            What::StepEnded { step: "Dump".into(), outcome: Outcome::Done, millis: 3100, failure: None },
            What::Log { level: Level::Success, message: "Backup completed".into() },
            What::Log { level: Level::Error, message: "Backup failed\non two lines".into() },
            What::Log { level: Level::Warn, message: "Warning condition".into() },
            What::Log { level: Level::Info, message: "Informational message".into() },
            What::StepEnded {
                step: "Config".into(),
                outcome: Outcome::Tolerated,
                millis: 1,
                failure: Some(failure.clone()),
            },
            What::StepEnded {
                step: "Verify".into(),
                outcome: Outcome::Failed,
                millis: 1,
                failure: Some(failure.clone()),
            },
            What::AlertSent { delivered: true, detail: "hooks.slack.com".into() },
            What::AlertSent { delivered: false, detail: "hooks.slack.com: 500".into() },
            What::RunEnded {
                exit: Exit::Failed,
                millis: 4200,
                failure: Some(failure),
                warnings: vec![],
                value: None,
            },
            What::RunEnded {
                exit: Exit::Success,
                millis: 4200,
                failure: None,
                warnings: vec![],
                value: None,
            },
            What::RunEnded {
                exit: Exit::Warnings,
                millis: 4200,
                failure: None,
                warnings: vec!["x".into()],
                value: None,
            },
            What::RunEnded {
                exit: Exit::Interrupted,
                millis: 4200,
                failure: None,
                warnings: vec![],
                value: None,
            },
        ]
        .into_iter()
        .map(|what| lines(&event(what)))
        .collect();
        expect![[r#"
            2025-11-10 02:00:00 ℹ️  INFO - Run 20251110-020000-abcdef of backup_database begins
            2025-11-10 02:00:00 ℹ️  INFO - postgres: shop at db1:5432 (host from DB_HOST)
            2025-11-10 02:00:00 ℹ️  INFO - dump: saved shop_db.sql.gz, 1.2 MiB
            2025-11-10 02:00:00 ✅ SUCCESS - Dump completed in 3.1 s
            2025-11-10 02:00:00 ✅ SUCCESS - Backup completed
            2025-11-10 02:00:00 ❌ ERROR - Backup failed
            2025-11-10 02:00:00 ❌ ERROR - on two lines
            2025-11-10 02:00:00 ⚠️  WARN - Warning condition
            2025-11-10 02:00:00 ℹ️  INFO - Informational message
            2025-11-10 02:00:00 ⚠️  WARN - Config failed, the run goes on: cannot connect to `db1`: Connection refused
            2025-11-10 02:00:00 ⚠️  WARN - Hint: Check that PostgreSQL listens on `db1:5432`.
            2025-11-10 02:00:00 ❌ ERROR - Verify failed: cannot connect to `db1`: Connection refused
            2025-11-10 02:00:00 ℹ️  INFO - Alert sent to hooks.slack.com
            2025-11-10 02:00:00 ❌ ERROR - cannot connect to `db1`: Connection refused
            2025-11-10 02:00:00 ℹ️  INFO - Hint: Check that PostgreSQL listens on `db1:5432`.
            2025-11-10 02:00:00 ❌ ERROR - Run failed after 4.2 s (exit 1)
            2025-11-10 02:00:00 ✅ SUCCESS - Run completed in 4.2 s
            2025-11-10 02:00:00 ⚠️  WARN - Run completed with 1 warning in 4.2 s
            2025-11-10 02:00:00 ❌ ERROR - Run interrupted after 4.2 s
        "#]].assert_eq(&text);
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let log = DailyLog::new(logs.clone(), |failure| panic!("{failure}"));
        log.event(&event(What::Log { level: Level::Info, message: "one".into() }));
        log.event(&event(What::Log { level: Level::Info, message: "two".into() }));
        let path = logs.join("backup-20251110.log");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "2025-11-10 02:00:00 ℹ️  INFO - one\n2025-11-10 02:00:00 ℹ️  INFO - two\n"
        );
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&logs)), (0o600, 0o700));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        std::fs::write(&logs, "in the way").unwrap();
        let told = Arc::new(AtomicUsize::new(0));
        let counter = told.clone();
        let log = DailyLog::new(logs, move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        for _ in 0..3 {
            log.event(&event(What::Log { level: Level::Info, message: "x".into() }));
        }
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
