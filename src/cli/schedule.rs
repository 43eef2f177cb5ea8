//! `lifeboat schedule`: when playbooks run by themselves.

pub mod export;
pub mod install;

use crate::base::failure::{Code, Exit, Failure};
use crate::base::schedule::{ClockChange, Gap, Missed, Overlap, Slot, Timetable, widest_gap};
use crate::base::units;
use crate::cli::global::Context;
use crate::cli::params;
use crate::cli::report::{self, Gravity, in_short};
use crate::cli::screen::Paint;
use crate::daemon::orders;
use crate::journal::slots;
use crate::script::header::{self, Header};
use crate::script::library::Library;
use chrono::{DateTime, FixedOffset, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use std::time::Duration;

/// How instants are shown.
const TIME: &str = "%a %Y-%m-%d %H:%M:%S %:z";

/// Schedules of the playbooks
///
/// Without a subcommand: the next runs of each schedule, with their offsets from UTC, and how much data the schedules of a
/// playbook may lose even if every run succeeds. An instant that a change of clocks moves or makes come twice is flagged.
///
/// With `--json`: an array of objects with `playbook`, `schedule` (its name), `cron`, `tz`, `params` (as words of a command
/// line), `next` (objects with `at` and `clock_change`, which is null, `moved`, `first` or `second`), `decided` (up to when
/// all instants have run, were left out on record, or lie before the schedule was kept; or null), `overlap`, `missed`, `widest_gap_seconds` (of all schedules of the
/// playbook) and `rpo_seconds` (the objective, or null).
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// How many runs of each schedule are shown
    #[arg(short = 'n', long, default_value_t = 5, value_name = "COUNT")]
    next: usize,
    /// Only the schedules of this playbook
    #[arg(value_name = "PLAYBOOK")]
    playbook: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Export(export::Args),
    Install(install::InstallArgs),
    Uninstall(install::UninstallArgs),
}

/// Carries out the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    match &args.action {
        Some(Action::Export(args)) => export::run(args, cx),
        Some(Action::Install(args)) => install::install(args, cx),
        Some(Action::Uninstall(args)) => install::uninstall(args, cx),
        None => list(args, &cx.library(), cx, cx.now().with_timezone(&Utc)),
    }
}

/// One schedule as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    playbook: String,
    schedule: String,
    cron: String,
    tz: String,
    params: Vec<String>,
    next: Vec<Next>,
    decided: Option<DateTime<FixedOffset>>,
    overlap: Overlap,
    missed: Missed,
    widest_gap_seconds: Option<u64>,
    rpo_seconds: Option<u64>,
    #[serde(skip)]
    delay: Duration,
    #[serde(skip)]
    is_of_machine: bool,
    #[serde(skip)]
    gap: Option<Gap>,
}

#[derive(Debug, Serialize)]
struct Next {
    at: DateTime<FixedOffset>,
    clock_change: Option<ClockChange>,
}

fn list(args: &Args, library: &Library, cx: &Context, now: DateTime<Utc>) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    let mut exit = Exit::Success;
    let names = match &args.playbook {
        Some(name) => vec![library.find(name)?.name],
        None => library.list()?.into_iter().map(|entry| entry.name).collect(),
    };
    for name in names {
        match library.find(&name).and_then(|playbook| header::header(&playbook)) {
            Ok(header) => rows.extend(of_playbook(&name, &header, args.next, cx, now)?),
            Err(failure) => {
                exit = Exit::Warnings;
                let told = left_out(&name, &failure);
                cx.screen.talk(&report::failure(&told, Gravity::Warning, cx.screen.err_paint, &|_| None));
            }
        }
    }
    if cx.global.json {
        cx.screen.json(&rows);
    } else if rows.is_empty() {
        cx.screen.talk("no playbook has a schedule\n");
    } else {
        cx.screen.data(&text(&rows, cx.screen.out_paint));
    }
    Ok(exit)
}

fn of_playbook(
    name: &str,
    header: &Header,
    next: usize,
    cx: &Context,
    now: DateTime<Utc>,
) -> Result<Vec<Row>, Failure> {
    if header.schedule.is_empty() {
        return Ok(Vec::new());
    }
    let tables = header
        .schedule
        .iter()
        .map(|schedule| schedule.timetable(orders::zone(schedule)?))
        .collect::<Result<Vec<Timetable>, Failure>>()?;
    let gap = widest_gap(&tables, now);
    // The strictest objective is that of the playbook: its schedules hold it together.
    let rpo = header.schedule.iter().filter_map(|schedule| schedule.terms.rpo).min();
    let rows = header.schedule.iter().zip(&tables).map(|(schedule, table)| {
        let mut after = now;
        let slots = std::iter::from_fn(|| {
            let slot = table.after(after)?;
            after = slot.at.with_timezone(&Utc);
            Some(slot)
        });
        Ok(Row {
            playbook: name.to_owned(),
            schedule: schedule.name.clone(),
            cron: schedule.cron.clone(),
            tz: table.zone().name().to_owned(),
            params: params::words(header, schedule),
            next: slots
                .take(next)
                .map(|slot: Slot| Next { at: slot.fixed(), clock_change: slot.change })
                .collect(),
            decided: slots::last(&cx.state, name, &schedule.name, table, now)?,
            overlap: schedule.terms.overlap,
            missed: schedule.terms.missed,
            widest_gap_seconds: gap.as_ref().map(|gap| gap.length().as_secs()),
            rpo_seconds: rpo.map(|rpo| rpo.as_secs()),
            delay: orders::delay(&cx.project, name, schedule),
            is_of_machine: schedule.tz.is_none(),
            gap: gap.clone(),
        })
    });
    rows.collect()
}

fn text(rows: &[Row], paint: Paint) -> String {
    let mut text = String::new();
    for of_one in rows.chunk_by(|a, b| a.playbook == b.playbook) {
        text += &format!("{}\n", paint.heading(&of_one[0].playbook));
        for row in of_one {
            let named = if row.schedule == row.cron { String::new() } else { format!("{}: ", row.schedule) };
            let zone = if row.is_of_machine { ", the zone of this machine" } else { "" };
            let params =
                if row.params.is_empty() { String::new() } else { format!("  {}", row.params.join(" ")) };
            text += &format!("  {named}{} ({}{zone}){params}\n", row.cron, row.tz);
            for next in &row.next {
                text += &format!("    {}{}\n", next.at.format(TIME), paint.warning(flag(next.clock_change)));
            }
            if !row.delay.is_zero() {
                text += &format!("    each begins {} later, by its jitter\n", units::duration(row.delay));
            }
            if let Some(decided) = row.decided {
                text += &format!("    {}\n", paint.faint(&format!("decided up to {}", decided.format(TIME))));
            }
        }
        text += &may_lose(&of_one[0], paint);
    }
    text
}

fn flag(change: Option<ClockChange>) -> &'static str {
    match change {
        None => "",
        Some(ClockChange::Moved) => "  clocks go forward: the first instant behind the gap",
        Some(ClockChange::First) => "  clocks go back: the first of two such times",
        Some(ClockChange::Second) => "  clocks go back: the second of two such times",
    }
}

/// What the schedules of a playbook may lose, and whether that is within the objective.
fn may_lose(row: &Row, paint: Paint) -> String {
    let (Some(gap), Some(seconds)) = (&row.gap, row.widest_gap_seconds) else { return String::new() };
    let hour = |at: &DateTime<Tz>| at.format("%a %H:%M").to_string();
    let held = match row.rpo_seconds {
        None => String::new(),
        Some(rpo) if seconds <= rpo => {
            format!("; {}", paint.good(&format!("the objective of {} is held", span(rpo))))
        }
        Some(rpo) => format!("; {}", paint.error(&format!("the objective of {} is NOT held", span(rpo)))),
    };
    format!(
        "  between two runs lie up to {} ({} to {}), and the time that a run takes{held}\n",
        span(seconds),
        hour(&gap.from),
        hour(&gap.to)
    )
}

/// A span to the minute, as people say it.
fn span(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60);
    let parts = [(minutes / 1440, "d"), (minutes / 60 % 24, "h"), (minutes % 60, "min")];
    let said: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    said.join(" ")
}

/// That the schedules of a broken playbook are not among those shown.
fn left_out(playbook: &str, failure: &Failure) -> Failure {
    Failure::new(Code::Playbook, format!("the schedules of `{playbook}` are left out: it is broken"))
        .caused_by(in_short(failure))
        .hint(format!("`lifeboat lint {playbook}` tells more."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use expect_test::expect;

    const PLAYBOOK: &str = "const PLAYBOOK = #{ summary: \"x\", params: #{ tag: #{ default_value: \"manual\" } }, schedule: [
        #{ cron: \"30 2 * * *\", tz: \"Europe/Berlin\", params: #{ tag: \"daily\" }, rpo: \"12h\" },
        #{ name: \"hourly\", cron: \"0 9-17 * * *\", tz: \"Europe/Berlin\", missed: \"skip\", overlap: \"queue\" },
    ] };";

    fn shown(json: bool, args: &Args) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("playbooks")).unwrap();
        let library =
            Library::of(dir.path(), &[("backup_database", PLAYBOOK), ("broken", "const PLAYBOOK = 1;")], &[]);
        let (cx, out, err) = test::context(dir.path(), Global { json, ..Global::default() });
        let now = DateTime::parse_from_rfc3339("2026-10-24T12:00:00Z").unwrap();
        assert_eq!(list(args, &library, &cx, now.with_timezone(&Utc)), Ok(Exit::Warnings));
        (out.text(), err.text())
    }

    #[test]
    fn runs_are_shown_with_their_offsets_and_what_may_be_lost() {
        let (out, err) = shown(false, &Args { next: 3, playbook: None, action: None });
        expect![[r#"
            backup_database
              30 2 * * * (Europe/Berlin)  --tag daily
                Sun 2026-10-25 02:30:00 +02:00  clocks go back: the first of two such times
                Mon 2026-10-26 02:30:00 +01:00
                Tue 2026-10-27 02:30:00 +01:00
              hourly: 0 9-17 * * * (Europe/Berlin)
                Sat 2026-10-24 15:00:00 +02:00
                Sat 2026-10-24 16:00:00 +02:00
                Sat 2026-10-24 17:00:00 +02:00
              between two runs lie up to 9 h 30 min (Sat 17:00 to Sun 02:30), and the time that a run takes; the objective of 12 h is held
        "#]].assert_eq(&out);
        expect![[r#"
            warning: the schedules of `broken` are left out: it is broken
            caused by: `PLAYBOOK` must be a map, not a whole number (playbooks/broken.rhai:1:18)
            hint: `lifeboat lint broken` tells more.
        "#]]
        .assert_eq(&err);
    }

    #[test]
    fn json_is_the_documented_contract() {
        let (out, _) = shown(true, &Args { next: 1, playbook: None, action: None });
        expect![[r#"
            [
              {
                "playbook": "backup_database",
                "schedule": "30 2 * * *",
                "cron": "30 2 * * *",
                "tz": "Europe/Berlin",
                "params": [
                  "--tag",
                  "daily"
                ],
                "next": [
                  {
                    "at": "2026-10-25T02:30:00+02:00",
                    "clock_change": "first"
                  }
                ],
                "decided": null,
                "overlap": "skip",
                "missed": "once",
                "widest_gap_seconds": 34200,
                "rpo_seconds": 43200
              },
              {
                "playbook": "backup_database",
                "schedule": "hourly",
                "cron": "0 9-17 * * *",
                "tz": "Europe/Berlin",
                "params": [],
                "next": [
                  {
                    "at": "2026-10-24T15:00:00+02:00",
                    "clock_change": null
                  }
                ],
                "decided": null,
                "overlap": "queue",
                "missed": "skip",
                "widest_gap_seconds": 34200,
                "rpo_seconds": 43200
              }
            ]
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn spans_are_said_to_the_minute() {
        for (seconds, said) in
            [(60, "1 min"), (61, "2 min"), (9 * 3600, "9 h"), (608_400, "7 d 1 h"), (5400, "1 h 30 min")]
        {
            assert_eq!(span(seconds), said);
        }
    }
}
