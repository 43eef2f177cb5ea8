//! `lifeboat history`: the runs on record.

use crate::base::drill::Passed;
use crate::base::failure::{Exit, Failure};
use crate::base::units;
use crate::cli::global::Context;
use crate::cli::lines::took;
use crate::cli::report::{counted, in_short};
use crate::cli::screen::{Paint, Table};
use crate::journal::reader::{RunState, RunSummary};
use crate::journal::store::DrillResult;
use crate::journal::summaries::Summaries;
use serde::Serialize;

/// List runs, newest first
///
/// With `--json`: an array of objects with `run`, `playbook`, `began` (RFC 3339), `state` (`running`, `killed` or `ended`),
/// `exit` (the exit code, or null), `millis`, `bytes` (of the backups it made), `warnings`, `failure` (`code`, `message`,
/// `causes`, `hints`, `at`, or null), `is_drill`, `drill` (`result`, `millis` of recovery, `at_least`; null for a run that
/// is no drill or has not ended), `owes` (blocks whose clean-up is owed), `resumed` (how often) and `notes` (what of the
/// record cannot be read).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only runs of this playbook
    #[arg(long, value_name = "NAME")]
    playbook: Option<String>,
    /// How many runs; 0 for all [default: 20]
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, hide_default_value = true)]
    limit: usize,
}

/// A run in `--json`.
#[derive(Debug, Serialize)]
pub struct RunRow<'a> {
    run: &'a str,
    playbook: &'a str,
    began: Option<String>,
    state: &'static str,
    exit: Option<u8>,
    millis: Option<u64>,
    bytes: u64,
    warnings: &'a [String],
    failure: Option<&'a Failure>,
    is_drill: bool,
    drill: Option<&'a DrillResult>,
    owes: &'a [String],
    resumed: u32,
    notes: &'a [String],
}

impl<'a> From<&'a RunSummary> for RunRow<'a> {
    fn from(run: &'a RunSummary) -> Self {
        let (state, exit) = match run.state {
            RunState::Running => ("running", None),
            RunState::Killed => ("killed", None),
            RunState::Ended(exit) => ("ended", Some(exit.code())),
        };
        Self {
            run: run.run.as_str(),
            playbook: &run.playbook,
            began: run.began.map(|began| began.to_rfc3339()),
            state,
            exit,
            millis: run.millis,
            bytes: run.bytes,
            warnings: &run.warnings,
            failure: run.failure.as_ref(),
            is_drill: run.is_drill,
            drill: run.drill.as_ref(),
            owes: &run.owes,
            resumed: run.resumed,
            notes: &run.notes,
        }
    }
}

/// Lists runs.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    let wanted = |run: &RunSummary| args.playbook.as_ref().is_none_or(|name| *name == run.playbook);
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let runs: Vec<RunSummary> = Summaries::of(&cx.state)?.filter(wanted).take(limit).collect();
    if cx.global.json {
        cx.screen.json(&runs.iter().map(RunRow::from).collect::<Vec<_>>());
    } else if runs.is_empty() {
        cx.screen.talk(&match &args.playbook {
            Some(name) => format!("no run of `{name}` is on record\n"),
            None => "no run is on record yet\n".to_owned(),
        });
    } else {
        cx.screen.data(&table(&runs, cx.screen.out_paint));
    }
    Ok(Exit::Success)
}

fn table(runs: &[RunSummary], paint: Paint) -> String {
    let mut table = Table::with_titles(["RUN", "BEGAN", "PLAYBOOK", "TOOK", "BACKUPS", "RESULT"], paint);
    for run in runs {
        let playbook = match (run.playbook.as_str(), run.is_drill) {
            ("", _) => "?",
            (name, true) => &format!("{name} (drill)"),
            (name, false) => name,
        };
        table.row(&[
            run.run.letters(),
            &run.began.map_or_else(|| "?".to_owned(), units::clock),
            playbook,
            &run.millis.map_or_else(|| "-".to_owned(), took),
            &if run.bytes == 0 { "-".to_owned() } else { units::bytes(run.bytes) },
            &result(run, paint),
        ]);
    }
    table.text()
}

/// How a run ended, in short.
pub fn result(run: &RunSummary, paint: Paint) -> String {
    let with = |word: &str| match &run.failure {
        Some(failure) => format!("{word}: {}", in_short(failure)),
        None => word.to_owned(),
    };
    let owing = |word: &str| format!("{word}{}", if run.owes.is_empty() { "" } else { ", owes a clean-up" });
    if let (RunState::Ended(Exit::Success | Exit::Warnings | Exit::Drill), Some(drill)) =
        (run.state, &run.drill)
    {
        let least = if drill.at_least { ">= " } else { "" };
        return match drill.result {
            Passed::Passed => paint.good(&format!("passed, {}", took(drill.millis))),
            Passed::PassedInPart => paint.warning(&format!("passed in part, {least}{}", took(drill.millis))),
            Passed::Failed => paint.error(&with("drill failed")),
        };
    }
    match run.state {
        RunState::Running => paint.hint("running"),
        RunState::Killed => paint.error(&owing("killed")),
        RunState::Ended(Exit::Success) if run.resumed > 0 => paint.good("success (resumed)"),
        RunState::Ended(Exit::Success) => paint.good("success"),
        RunState::Ended(Exit::Warnings) => paint.warning(&counted(run.warnings.len(), "warning")),
        RunState::Ended(Exit::Interrupted) => paint.warning(&owing("interrupted")),
        RunState::Ended(Exit::Terminated) => paint.warning(&owing("terminated")),
        RunState::Ended(exit) => paint.error(&owing(&with(&format!("failed (exit {})", exit.code())))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use crate::cli::recorded;
    use expect_test::expect;

    fn args() -> Args {
        Args { playbook: None, limit: 20 }
    }

    #[test]
    fn runs_are_listed_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        recorded::three_runs(dir.path());
        let (cx, out, err) = test::context(dir.path(), Global::default());
        assert_eq!(run(&args(), &cx), Ok(Exit::Success));
        expect![[r#"
            RUN     BEGAN                PLAYBOOK         TOOK        BACKUPS  RESULT
            mmmmmm  2025-11-10 02:02:00  backup_database  3 min 42 s  -        failed (exit 1): cannot connect to `db1` (playbooks/p.rhai:1:3)
            kkkkkk  2025-11-10 02:01:00  backup_database  -           -        killed
            abcdef  2025-11-10 02:00:00  backup_config    3 min 42 s  -        success
        "#]].assert_eq(&out.text());
        assert_eq!(err.text(), "");
        let (cx, out, _) = test::context(dir.path(), Global::default());
        run(&Args { playbook: Some("backup_config".into()), limit: 1 }, &cx).unwrap();
        expect![[r#"
            RUN     BEGAN                PLAYBOOK       TOOK        BACKUPS  RESULT
            abcdef  2025-11-10 02:00:00  backup_config  3 min 42 s  -        success
        "#]]
        .assert_eq(&out.text());
    }

    #[test]
    fn json_is_the_documented_contract() {
        let dir = tempfile::tempdir().unwrap();
        recorded::three_runs(dir.path());
        let (cx, out, _) = test::context(dir.path(), Global { json: true, ..Global::default() });
        run(&Args { limit: 2, ..args() }, &cx).unwrap();
        expect![[r#"
            [
              {
                "run": "20251110-020200-mmmmmm",
                "playbook": "backup_database",
                "began": "2025-11-10T02:02:00+00:00",
                "state": "ended",
                "exit": 1,
                "millis": 222000,
                "bytes": 0,
                "warnings": [
                  "Announce: cannot connect"
                ],
                "failure": {
                  "code": "connect",
                  "message": "cannot connect to `db1`",
                  "causes": [
                    "Connection refused"
                  ],
                  "hints": [
                    "Check that PostgreSQL listens on `db1:5432`."
                  ],
                  "at": {
                    "file": "playbooks/p.rhai",
                    "line": 1,
                    "column": 3
                  },
                  "trail": [],
                  "step": "Rotate"
                },
                "is_drill": false,
                "drill": null,
                "owes": [],
                "resumed": 0,
                "notes": []
              },
              {
                "run": "20251110-020100-kkkkkk",
                "playbook": "backup_database",
                "began": "2025-11-10T02:01:00+00:00",
                "state": "killed",
                "exit": null,
                "millis": null,
                "bytes": 0,
                "warnings": [],
                "failure": null,
                "is_drill": false,
                "drill": null,
                "owes": [],
                "resumed": 0,
                "notes": []
              }
            ]
        "#]]
        .assert_eq(&out.text());
    }

    #[test]
    fn no_runs_are_said_on_stderr() {
        let dir = tempfile::tempdir().unwrap();
        let (cx, out, err) = test::context(dir.path(), Global::default());
        run(&args(), &cx).unwrap();
        assert_eq!((out.text().as_str(), err.text().as_str()), ("", "no run is on record yet\n"));
        let (cx, out, _) = test::context(dir.path(), Global { json: true, ..Global::default() });
        run(&args(), &cx).unwrap();
        assert_eq!(out.text(), "[]\n");
    }
}
