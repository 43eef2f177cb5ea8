//! `lifeboat status`: what a person must know before trusting the backups, at a glance; and the same for monitoring.

mod nagios;
mod table;

use crate::base::failure::{Code, Exit, Failure, PluginExit};
use crate::base::health::{Report, Severity, Terms};
use crate::base::units;
use crate::cli::global::Context;
use crate::cli::run::Stopped;
use crate::engine::health::{self, recorded};
use crate::engine::metrics;
use crate::journal::drills::DrillRecord;
use crate::journal::reader::{RunState, RunSummary};
use crate::observe::health_check::{Checkup, Health, History};
use crate::observe::kept::KeptDatabase;
use crate::observe::kept_files::KeptFiles;
use crate::sys::facts::{Facts, Reality};
use crate::sys::host::Host;
use chrono::{DateTime, FixedOffset};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Show how the backups fare: what is wrong and its remedy, sources, runs, drills, disks, and what restores have kept
///
/// Looked at, per source and tag: the newest backup and its age, size and duration against the median of those before (at
/// least 3), the last verification, the last drill (a restore test or a restore counts as well); further runs that failed,
/// damaged and lost backups, disk space, what is left over, scheduled runs that were not made, alerts that nobody accepted,
/// and the copies of 3-2-1. Two backups on one disk are one copy; memory is none;
/// production counts where it is known to lie (BACKUP_PRODUCTION_DIR); a copy is off-site if it is declared to be
/// (`--offsite`, BACKUP_OFFSITE_DIRS) and does not lie on a disk of this place.
///
/// The exit code is 0 whatever is found. With `--check` it is 1 when something is critical or could not be looked at, and 3 when
/// there are warnings. With `--nagios` it is that of monitoring plugins: 0 ok, 1 warning, 2 critical, 3 unknown.
///
/// Kept databases are looked for on the server that the environment names, for 3 seconds; when it cannot be asked, that is said.
///
/// With `--json`: an object with `ok`, `status` (`ok`, `unknown`, `warning`, `critical`), `at`, `findings` (worst first:
/// `severity`, `code`, `about`, `tag`, `message`, `hint`), `sources` (`source`, `identity`, `status`, `superseded`, `backups`,
/// `damaged`, `newest` (`name`, `folder`, `created`, `age` in seconds, `size`, `verified`), `verified`, `drilled`, `copies` (`copies`,
/// `storage`, `offsite`, `places`, `notes`), `tags` (`tag`, `backups`, `newest`, `usual_size`, `millis`, `usual_millis`, `verified`,
/// `drilled`)), `playbooks` (`playbook`, `runs`, `failures`, `completion` in percent, `last`, `last_exit`, `last_millis`,
/// `last_success`), `disks` (`folders`, `place`, `free`, `total`, `percent`), `missed` (`playbook`, `schedule`, `slot`, `why`),
/// `undelivered` (alerts that nobody has accepted: `count`, `since`, `why`; or null), `runs` (as in
/// `history`: those that failed or were killed and not made good since, or owe a clean-up), `drills` (`playbook`, `run`,
/// `began`, `result`, `millis`, `at_least`, `params`), `kept` (`databases`: `name`, `kind`, `run`, `at`, `size`; `files`: `path`,
/// `state`, `run`, `at`, `size`, `files`) and `unknown` (what could not be looked at, and why).
///
/// Codes of findings: `no_backups`, `age`, `late`, `not_intact`, `lost`, `incomplete`, `not_verified`, `verify_old`,
/// `never_drilled`, `drill_old`, `drill_failed`, `size`, `duration`, `copies`, `run_failed`, `failures`, `stuck`,
/// `owed_clean_up`, `missed`, `disk`, `leftovers`, `kept_old`, `undelivered`, `unreadable`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Folders of backups, relative to the project [default: as in `backups`]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Age of a source's newest backup that is a warning; twice as old is critical [env: BACKUP_MAX_AGE] [default: 24h]
    #[arg(long, value_name = "AGE", value_parser = period)]
    max_age: Option<Duration>,
    /// Percent that size and duration may be off the median of those before [default: 50]
    #[arg(long, value_name = "PERCENT")]
    max_change: Option<u32>,
    /// Percent of a disk with backups that should be free [default: 10]
    #[arg(long, value_name = "PERCENT")]
    min_free: Option<u32>,
    /// Age of a source's last verification that is a warning [env: BACKUP_VERIFY_AGE] [default: 7d]
    #[arg(long, value_name = "AGE", value_parser = period)]
    verify_age: Option<Duration>,
    /// Age of a source's last drill that is a warning [env: BACKUP_DRILL_AGE] [default: 35d]
    #[arg(long, value_name = "AGE", value_parser = period)]
    drill_age: Option<Duration>,
    /// How long what restores have kept may lie about [default: 7d]
    #[arg(long, value_name = "AGE", value_parser = period)]
    kept_age: Option<Duration>,
    /// Days of runs that count [default: 7]
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// Copies on disks of their own, production among them [env: BACKUP_COPIES] [default: 3]
    #[arg(long, value_name = "N")]
    copies: Option<u32>,
    /// Types of storage [env: BACKUP_STORAGE_TYPES] [default: 2]
    #[arg(long, value_name = "N")]
    storage: Option<u32>,
    /// Copies off-site [env: BACKUP_OFFSITE_COPIES] [default: 1]
    #[arg(long, value_name = "N")]
    offsite_copies: Option<u32>,
    /// A folder of copies off-site, besides those that BACKUP_OFFSITE_DIRS names apart by `:`
    #[arg(long, value_name = "DIR")]
    offsite: Vec<PathBuf>,
    /// Where the database server keeps its data, if that is on this machine [env: BACKUP_PRODUCTION_DIR]
    #[arg(long, value_name = "DIR")]
    production: Option<PathBuf>,
    /// Exit with 1 when something is critical or unknown, with 3 when there are warnings
    #[arg(long)]
    check: bool,
    /// One line for Nagios and its like, and their exit codes: 0 ok, 1 warning, 2 critical, 3 unknown
    #[arg(long, conflicts_with_all = ["check", "prometheus"])]
    nagios: bool,
    /// The metrics for Prometheus, on the terms of the environment
    #[arg(long, conflicts_with = "check")]
    prometheus: bool,
}

fn period(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).ok_or_else(|| "it is no duration such as `24h` or `7d`".to_owned())
}

impl Args {
    fn terms(&self, host: &Host) -> Result<Terms, Failure> {
        let usual = health::terms(host)?;
        Ok(Terms {
            max_age: self.max_age.unwrap_or(usual.max_age),
            max_change: self.max_change.unwrap_or(usual.max_change),
            min_free: self.min_free.unwrap_or(usual.min_free),
            verify_age: self.verify_age.unwrap_or(usual.verify_age),
            drill_age: self.drill_age.unwrap_or(usual.drill_age),
            kept_age: self.kept_age.unwrap_or(usual.kept_age),
            days: self.days.unwrap_or(usual.days),
            copies: self.copies.unwrap_or(usual.copies),
            storage: self.storage.unwrap_or(usual.storage),
            offsite: self.offsite_copies.unwrap_or(usual.offsite),
        })
    }
}

#[derive(Debug, Serialize)]
struct Drill<'a> {
    playbook: &'a str,
    run: &'a str,
    began: DateTime<FixedOffset>,
    result: crate::base::drill::Passed,
    millis: u64,
    at_least: bool,
    params: &'a serde_json::Map<String, serde_json::Value>,
}

impl<'a> From<&'a DrillRecord> for Drill<'a> {
    fn from(record: &'a DrillRecord) -> Self {
        Self {
            playbook: &record.playbook,
            run: record.run.as_str(),
            began: record.began,
            result: record.verdict.result,
            millis: record.verdict.millis,
            at_least: record.verdict.at_least,
            params: &record.params,
        }
    }
}

#[derive(Debug, Serialize)]
struct AllKept<'a> {
    databases: &'a [KeptDatabase],
    files: &'a [KeptFiles],
}

/// The contract of `--json`: the fields of the report, and what only this command shows.
#[derive(Debug, Serialize)]
struct Document<'a> {
    ok: bool,
    status: Severity,
    at: DateTime<FixedOffset>,
    findings: &'a [crate::base::health::Finding],
    sources: &'a [crate::base::health::SourceReport],
    playbooks: &'a [crate::base::health::PlaybookReport],
    disks: &'a [crate::base::health::DiskReport],
    missed: &'a [crate::base::health::Missed],
    undelivered: Option<&'a crate::base::health::Undelivered>,
    runs: Vec<crate::cli::history::RunRow<'a>>,
    drills: Vec<Drill<'a>>,
    kept: AllKept<'a>,
    unknown: &'a [String],
}

/// Everything that is known.
struct Status {
    report: Report,
    runs: Vec<RunSummary>,
    drills: Vec<DrillRecord>,
    databases: Vec<KeptDatabase>,
    files: Vec<KeptFiles>,
}

/// Shows the status.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Stopped> {
    let host = cx.host()?;
    if args.prometheus {
        cx.screen.data(&metrics::text(&host));
        return Ok(Exit::Success);
    }
    let status = look(args, &host)?;
    if args.nagios {
        cx.screen.data(&nagios::line(&status.report));
        return Err(Stopped::Plugin(nagios::exit(status.report.status)));
    }
    if cx.global.json {
        cx.screen.json(&status.document());
    } else {
        cx.screen.data(&status.told(&host, cx.screen.out_paint));
    }
    Ok(match status.report.status {
        Severity::Critical | Severity::Unknown if args.check => Exit::Failed,
        Severity::Warning if args.check => Exit::Warnings,
        _ => Exit::Success,
    })
}

/// What monitoring is told when the status cannot even be asked for.
pub fn unknown_to_nagios(why: &str) -> (String, PluginExit) {
    (nagios::unknown(why), PluginExit::Unknown)
}

fn look(args: &Args, host: &Arc<Host>) -> Result<Status, Failure> {
    let facts = Facts::new(host.clone(), Arc::new(Reality));
    let terms = args.terms(host)?;
    let now = facts.now().fixed_offset();
    let asked = Health {
        dirs: args.dirs.clone(),
        offsite: args.offsite.clone(),
        production: args.production.clone(),
        terms,
        history: History::default(),
        offline: false,
    };
    let (mut runs, mut drills) = (Vec::new(), Vec::new());
    let Checkup { report, databases, files } = asked.ask_beside(&facts, || {
        let (history, open, recorded) = recorded(host.state(), now, &terms, open);
        (runs, drills) = (open, recorded);
        history
    })?;
    Ok(Status { report, runs, drills, databases, files })
}

/// Of runs, newest first, those that need a person: the newest of its playbook if that failed or was killed, and all that
/// owe a clean-up.
fn open(runs: &[RunSummary]) -> Vec<RunSummary> {
    let mut seen = BTreeSet::new();
    let needs = |run: &&RunSummary| {
        let is_newest = !run.is_drill
            && run.state != RunState::Running
            && !seen.contains(&run.playbook)
            && seen.insert(run.playbook.clone());
        let went_well = matches!(run.state, RunState::Ended(Exit::Success | Exit::Warnings));
        // What such a run found is shown as it is now.
        let found_something = run.failure.as_ref().is_some_and(|failure| failure.code == Code::Unhealthy);
        (is_newest && !went_well && !found_something) || !run.owes.is_empty()
    };
    runs.iter().filter(needs).cloned().collect()
}

impl Status {
    fn document(&self) -> Document<'_> {
        let report = &self.report;
        Document {
            ok: report.ok,
            status: report.status,
            at: report.at,
            findings: &report.findings,
            sources: &report.sources,
            playbooks: &report.playbooks,
            disks: &report.disks,
            missed: &report.missed,
            undelivered: report.undelivered.as_ref(),
            runs: self.runs.iter().map(Into::into).collect(),
            drills: self.drills.iter().map(Into::into).collect(),
            kept: AllKept { databases: &self.databases, files: &self.files },
            unknown: &report.unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use crate::cli::recorded;
    use expect_test::expect;

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".env"), "LIFEBOAT_NOW=2025-11-12T14:02:00Z\n").unwrap();
        recorded::three_runs(dir.path());
        dir
    }

    /// The screen without the space of this machine's disk.
    fn steady(text: &str) -> String {
        let steady = |line: &str| match line.split_once(" % free ") {
            Some(_) => "  (a disk)\n".to_owned(),
            None => format!("{line}\n"),
        };
        text.lines().map(steady).collect()
    }

    #[test]
    fn runs_that_need_a_person_are_named_and_what_cannot_be_asked_is_said() {
        let dir = project();
        let (cx, out, err) = test::context(dir.path(), Global::default());
        let args = Args { min_free: Some(0), ..Args::default() };
        assert_eq!(run(&args, &cx).unwrap(), Exit::Success);
        expect![[r#"
            CRITICAL: 2 critical; 0 sources, no backup
            Problems
              critical  there are no backups in `backups/database` and `backups/config`
                        Make some with `lifeboat backup_all`, and schedule it; BACKUP_DIR and CONFIG_BACKUP_DIR name other folders.
              critical  the last run of backup_database failed 2 days ago: cannot connect to `db1`: Connection refused
                        `lifeboat show mmmmmm` tells more; mend it, then `lifeboat resume mmmmmm` or run it again.
            Newest backups
              none; `lifeboat backup_all` makes some
            Runs that need you
              mmmmmm  backup_database  2 days ago  failed (exit 1): cannot connect to `db1` (playbooks/p.rhai:1:3)  lifeboat resume mmmmmm
            Runs of the last 7 days
              backup_config    1 run   0 failed  100 % completed  2 days ago
              backup_database  2 runs  2 failed  0 % completed    2 days ago
            Drills
              none; `lifeboat drill full_recovery` rehearses a recovery
            Disks
              (a disk)
            Kept by restores; `lifeboat cleanup` removes it
              nothing
            Alerts
              no channel is set: nobody is told when something fails; `lifeboat alert test --help` names them
            warning: not looked at: kept databases: no database is named: neither the playbook nor DB_NAME, DATABASE_URL, PGDATABASE or PGSERVICE says which one is meant
        "#]].assert_eq(&steady(&out.text()));
        assert_eq!(err.text(), "");
    }

    /// Times without this machine's zone.
    fn in_utc(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => {
                if let Ok(time) = DateTime::parse_from_rfc3339(text) {
                    *text = time.to_utc().to_rfc3339();
                }
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(in_utc),
            serde_json::Value::Object(map) => map.values_mut().for_each(in_utc),
            _ => {}
        }
    }

    #[test]
    fn json_is_the_documented_contract() {
        let dir = project();
        let (cx, out, _) = test::context(dir.path(), Global { json: true, ..Global::default() });
        let args = Args { min_free: Some(0), check: true, ..Args::default() };
        assert_eq!(run(&args, &cx).unwrap(), Exit::Failed);
        let mut json: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        let disk = json["disks"].take();
        let disk: Vec<&String> = disk[0].as_object().unwrap().keys().collect();
        assert_eq!(disk, ["folders", "free", "percent", "place", "total"]);
        json["runs"][0]["failure"].take();
        in_utc(&mut json);
        expect![[r#"
            {
              "at": "2025-11-12T14:02:00+00:00",
              "disks": null,
              "drills": [],
              "findings": [
                {
                  "about": "",
                  "code": "no_backups",
                  "hint": "Make some with `lifeboat backup_all`, and schedule it; BACKUP_DIR and CONFIG_BACKUP_DIR name other folders.",
                  "message": "there are no backups in `backups/database` and `backups/config`",
                  "severity": "critical",
                  "tag": null
                },
                {
                  "about": "backup_database",
                  "code": "run_failed",
                  "hint": "`lifeboat show mmmmmm` tells more; mend it, then `lifeboat resume mmmmmm` or run it again.",
                  "message": "the last run of backup_database failed 2 days ago: cannot connect to `db1`: Connection refused",
                  "severity": "critical",
                  "tag": null
                }
              ],
              "kept": {
                "databases": [],
                "files": []
              },
              "missed": [],
              "ok": false,
              "playbooks": [
                {
                  "completion": 100,
                  "failures": 0,
                  "last": "2025-11-10T02:00:00+00:00",
                  "last_exit": 0,
                  "last_millis": 222000,
                  "last_success": "2025-11-10T02:00:00+00:00",
                  "playbook": "backup_config",
                  "runs": 1
                },
                {
                  "completion": 0,
                  "failures": 2,
                  "last": "2025-11-10T02:02:00+00:00",
                  "last_exit": 1,
                  "last_millis": 222000,
                  "last_success": null,
                  "playbook": "backup_database",
                  "runs": 2
                }
              ],
              "runs": [
                {
                  "began": "2025-11-10T02:02:00+00:00",
                  "bytes": 0,
                  "drill": null,
                  "exit": 1,
                  "failure": null,
                  "is_drill": false,
                  "millis": 222000,
                  "notes": [],
                  "owes": [],
                  "playbook": "backup_database",
                  "resumed": 0,
                  "run": "20251110-020200-mmmmmm",
                  "state": "ended",
                  "warnings": [
                    "Announce: cannot connect"
                  ]
                }
              ],
              "sources": [],
              "status": "critical",
              "undelivered": null,
              "unknown": [
                "kept databases: no database is named: neither the playbook nor DB_NAME, DATABASE_URL, PGDATABASE or PGSERVICE says which one is meant"
              ]
            }"#]].assert_eq(&serde_json::to_string_pretty(&json).unwrap());
    }

    #[test]
    fn monitoring_gets_one_line_and_its_own_codes() {
        let dir = project();
        let (cx, out, _) = test::context(dir.path(), Global::default());
        let args = Args { min_free: Some(0), nagios: true, ..Args::default() };
        let stopped = run(&args, &cx).unwrap_err();
        assert!(matches!(stopped, Stopped::Plugin(PluginExit::Critical)), "{stopped:?}");
        let line = out.text();
        let (line, failures) = line.split_once(" 'backups/database backups/config free'=").unwrap();
        expect![
            "BACKUP CRITICAL - there are no backups in `backups/database` and `backups/config` (and 1 more) |"
        ]
        .assert_eq(line);
        assert!(failures.ends_with("%;0:;;0;100 'failures'=2;;;0\n"), "{failures}");
    }
}
