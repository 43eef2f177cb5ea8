//! `lifeboat show`: one run, as it was told when it ran.

use crate::base::event::{Event, What};
use crate::base::failure::{Exit, Failure};
use crate::base::ids::RunId;
use crate::cli::drill;
use crate::cli::global::Context;
use crate::cli::history::RunRow;
use crate::cli::lines::{Detail, lines};
use crate::cli::screen::Paint;
use crate::cli::summary::{self, Ended};
use crate::journal::reader::{self, RunState, RunSummary};
use serde::Serialize;

/// Show a run: its steps, what its actions did, how it ended
///
/// With `--json`: the object that `lifeboat history --json` has for the run, with `events` beside it: an array of the
/// recorded events, each with `time` and `what`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: `latest`, or the beginning of its name or of its letters [default: latest]
    #[arg(value_name = "RUN", default_value = "latest", hide_default_value = true)]
    run: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    summary: RunRow<'a>,
    events: &'a [Event],
}

/// Shows a run.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    let run = reader::find(&cx.state, &args.run)?;
    let summary = reader::summary(&cx.state, &run);
    let recording = reader::events(&cx.state, &run)?;
    for note in recording.notes.iter().chain(&summary.notes) {
        cx.screen.talk(&format!("{} {note}\n", cx.screen.err_paint.warning("warning:")));
    }
    if cx.global.json {
        cx.screen.json(&Shown { summary: RunRow::from(&summary), events: &recording.events });
    } else {
        let detail = if cx.global.quiet { Detail::Errors } else { Detail::All };
        let source = |file: &str| reader::source(&cx.state, &run, file);
        cx.screen.data(&text(&run, &summary, &recording.events, detail, cx.screen.out_paint, &source));
    }
    Ok(Exit::Success)
}

fn text(
    run: &RunId,
    summary: &RunSummary,
    events: &[Event],
    detail: Detail,
    paint: Paint,
    source: crate::cli::report::Source<'_>,
) -> String {
    let mut text: String = events
        .iter()
        .flat_map(|event| {
            let time = event.time.format("%H:%M:%S");
            let lines = match &event.what {
                What::Drilled(verdict) => drill::text(verdict, &summary.playbook, paint),
                what => lines(what, detail, paint),
            };
            lines.lines().map(|line| format!("{time} {line}\n")).collect::<Vec<_>>()
        })
        .collect();
    let began = summary.began.map(|began| began.format("%Y-%m-%d %H:%M:%S").to_string());
    let began = began.map(|began| format!(" began {began} and")).unwrap_or_default();
    text += &match summary.state {
        RunState::Running => format!("{} run {run}{began} is running\n", paint.hint("…")),
        RunState::Killed => {
            let open = open_step(events).map(|step| format!(" in step `{step}`")).unwrap_or_default();
            format!("{} run {run}{began} was killed{open}\n", paint.error("✘"))
        }
        RunState::Ended(exit) => summary::ended(
            &Ended {
                playbook: &summary.playbook,
                run: None,
                exit,
                millis: summary.millis,
                failure: summary.failure.as_ref(),
                warnings: &summary.warnings,
                log: None,
            },
            paint,
            source,
        ),
    };
    if !summary.owes.is_empty() {
        text +=
            &format!("{} it owes a clean-up: run `lifeboat resume {}`\n", paint.warning("!"), run.letters());
    }
    text
}

/// The innermost step that began and did not end.
fn open_step(events: &[Event]) -> Option<&str> {
    let mut open = Vec::new();
    for event in events {
        match &event.what {
            What::RunResumed { .. } => open.clear(),
            What::StepBegun { step } => open.push(step.as_str()),
            What::StepEnded { step, .. } => open.retain(|other| other != step),
            _ => {}
        }
    }
    open.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use crate::cli::recorded;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn shows(run_name: &str, global: Global, expected: Expect) {
        let dir = tempfile::tempdir().unwrap();
        recorded::three_runs(dir.path());
        let (cx, out, err) = test::context(dir.path(), global);
        assert_eq!(run(&Args { run: run_name.into() }, &cx), Ok(Exit::Success));
        expected.assert_eq(&out.text());
        assert_eq!(err.text(), "");
    }

    #[test]
    fn a_run_is_shown_as_it_was_told() {
        shows(
            "latest",
            Global::default(),
            expect![[r#"
                02:02:00 backup_database run 20251110-020000-abcdef
                02:02:00 postgres: shop at db1:5432 as app (host from DB_HOST, database from DB_NAME in .env)
                02:02:00 ▶ Dump
                02:02:00   disk_space: space on backups: 1.0 GiB
                02:02:00   pg_dump: a notice
                02:02:00   dump: saved shop_db.sql.gz, 1.2 MiB
                02:02:00 ✔ Dump (3.1 s)
                02:02:00 ▶ Announce
                02:02:00 ! Announce failed, the run goes on (20 ms)
                02:02:00   cannot connect to `db1`: Connection refused
                02:02:00   at playbooks/p.rhai:1:3
                02:02:00   hint: Check that PostgreSQL listens on `db1:5432`.
                02:02:00 ℹ️  INFO - two
                02:02:00 ℹ️  INFO - lines
                02:02:00 ▶ Rotate
                02:02:00   going to remove `old.sql.gz`
                02:02:00 ✘ Rotate failed (30 ms)
                02:02:00 ❌ ERROR - it broke
                02:02:00 alert sent to hooks.example
                warning: Announce: cannot connect
                error: cannot connect to `db1`
                  ——▶ playbooks/p.rhai:1:3
                  │
                1 │   dump(db)
                  │   ^
                caused by: Connection refused
                hint: Check that PostgreSQL listens on `db1:5432`.
                ✘ backup_database failed in step `Rotate` after 3 min 42 s (exit 1)
            "#]],
        );
        shows(
            "k",
            Global::default(),
            expect![[r#"
            ✘ run 20251110-020100-kkkkkk began 2025-11-10 02:01:00 and was killed
        "#]],
        );
        shows(
            "abc",
            Global::default(),
            expect![[r#"
            warning: Announce: cannot connect
            ✔ backup_config completed in 3 min 42 s
        "#]],
        );
    }

    #[test]
    fn json_has_the_summary_and_the_events() {
        shows(
            "abc",
            Global { json: true, ..Global::default() },
            expect![[r#"
                {
                  "run": "20251110-020000-abcdef",
                  "playbook": "backup_config",
                  "began": "2025-11-10T02:00:00+00:00",
                  "state": "ended",
                  "exit": 0,
                  "millis": 222000,
                  "bytes": 0,
                  "warnings": [
                    "Announce: cannot connect"
                  ],
                  "failure": null,
                  "is_drill": false,
                  "drill": null,
                  "owes": [],
                  "resumed": 0,
                  "notes": [],
                  "events": [
                    {
                      "time": "2025-11-10T02:00:00Z",
                      "what": {
                        "event": "run_ended",
                        "exit": "success",
                        "millis": 222000,
                        "failure": null,
                        "warnings": [
                          "Announce: cannot connect"
                        ],
                        "value": null
                      }
                    }
                  ]
                }
            "#]],
        );
    }

    #[test]
    fn the_step_in_which_it_was_killed_is_the_innermost_open_one() {
        let begun = |step: &str| crate::cli::lines::example::at(What::StepBegun { step: step.into() });
        let ended = |step: &str| {
            let outcome = crate::base::event::Outcome::Done;
            crate::cli::lines::example::at(What::StepEnded {
                step: step.into(),
                outcome,
                millis: 1,
                failure: None,
            })
        };
        assert_eq!(open_step(&[begun("A"), begun("A/B"), ended("A/B"), begun("A/C")]), Some("A/C"));
        assert_eq!(open_step(&[begun("A"), ended("A")]), None);
    }
}
