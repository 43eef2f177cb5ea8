//! `lifeboat status`: what a person must know before trusting the backups, at a glance.

use crate::base::backup::{Content, Source};
use crate::base::failure::{Exit, Failure};
use crate::base::units;
use crate::cli::backups::usual;
use crate::cli::global::Context;
use crate::cli::history::result;
use crate::cli::screen::{Paint, columns};
use crate::journal::drills::{self, DrillRecord};
use crate::journal::reader::{self, RunState, RunSummary};
use crate::observe::Observation;
use crate::observe::kept::{Kept, KeptDatabase};
use crate::observe::kept_files::{AskKeptFiles, KeptFiles};
use crate::sys::facts::{Facts, Reality};
use crate::sys::host::Host;
use crate::sys::postgres::mark::Kind;
use crate::sys::postgres::settings::{Explicit, reach};
use crate::sys::store::{self, Found};
use chrono::{DateTime, FixedOffset};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Show the newest backups, runs that need a person, the newest drills, and what restores have kept
///
/// Kept databases are looked for on the server that the environment names; when it cannot be asked, that is said.
///
/// With `--json`: an object with `backups` (`source`, `name`, `created`, `size`, `verified`, `drilled`), `runs` (as in
/// `history`: those that failed or were killed and not made good since, or owe a clean-up), `drills` (`playbook`, `run`,
/// `began`, `result`, `millis`, `at_least`, `params`), `kept` (`databases`: `name`, `kind`, `run`, `at`, `size`; `files`: `path`,
/// `state`, `run`, `at`, `size`, `files`) and `unknown` (what could not be looked at, and why).
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The newest backup of one source.
#[derive(Debug, Serialize)]
struct Newest {
    source: String,
    name: String,
    created: DateTime<FixedOffset>,
    size: Option<u64>,
    verified: Option<bool>,
    drilled: Option<DateTime<FixedOffset>>,
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

#[derive(Debug, Serialize)]
struct Report<'a> {
    backups: &'a [Newest],
    runs: Vec<crate::cli::history::RunRow<'a>>,
    drills: Vec<Drill<'a>>,
    kept: AllKept<'a>,
    unknown: &'a [String],
}

/// Everything that is known.
struct Status {
    backups: Vec<Newest>,
    runs: Vec<RunSummary>,
    drills: Vec<DrillRecord>,
    databases: Vec<KeptDatabase>,
    files: Vec<KeptFiles>,
    unknown: Vec<String>,
}

/// Shows the status.
pub fn run(_: &Args, cx: &Context) -> Result<Exit, Failure> {
    let host = cx.host()?;
    let mut unknown = Vec::new();
    let mut found = Vec::new();
    for dir in usual(&host.env()) {
        found.extend(store::scan(&cx.project.join(dir))?);
    }
    let facts = Facts::new(host.clone(), Arc::new(Reality));
    let databases = databases(&host, &facts).unwrap_or_else(|failure| {
        unknown.push(format!("kept databases: {}", host.masker().mask(&failure.to_string())));
        Vec::new()
    });
    let files = AskKeptFiles { dir: cx.project.clone() }.ask(&facts).map_or_else(
        |failure| {
            unknown.push(format!("kept files: {failure}"));
            Vec::new()
        },
        |answer| answer.now().unwrap_or_default(),
    );
    let status = Status {
        backups: newest(&found),
        runs: open(&reader::list(&cx.state)?),
        drills: drills::all(&cx.state)?,
        databases,
        files,
        unknown,
    };
    if cx.global.json {
        cx.screen.json(&status.report());
    } else {
        cx.screen.data(&status.told(&host, cx.screen.out_paint));
    }
    Ok(Exit::Success)
}

/// What is kept on the server that the environment names.
fn databases(host: &Arc<Host>, facts: &Facts) -> Result<Vec<KeptDatabase>, Failure> {
    let settings = reach(host, &Explicit::default())?;
    Ok(Kept { settings }.ask(facts)?.now().unwrap_or_default())
}

/// The newest backup of each source.
fn newest(found: &[Found]) -> Vec<Newest> {
    let mut newest: BTreeMap<String, &Found> = BTreeMap::new();
    for one in found {
        let source = match &one.backup.source {
            Source::Database { name, .. } => format!("database {name}"),
            Source::Tree { root, .. } => format!("tree {root}"),
            Source::Named { name } if one.backup.content == Content::Sql => format!("database {name}"),
            Source::Named { name } => name.clone(),
        };
        let entry = newest.entry(source).or_insert(one);
        if (one.backup.created, &one.backup.name) > (entry.backup.created, &entry.backup.name) {
            *entry = one;
        }
    }
    let of = |(source, found): (String, &Found)| Newest {
        source,
        name: found.backup.name.clone(),
        created: found.backup.created,
        size: found.backup.size.as_now().copied(),
        verified: found.backup.verified.as_now().copied().flatten(),
        drilled: found.manifest.as_ref().and_then(|manifest| Some(manifest.drilled.as_ref()?.at)),
    };
    newest.into_iter().map(of).collect()
}

/// Of runs, newest first, those that need a person: the newest of its playbook if that failed or was killed, and all that
/// owe a clean-up.
fn open(runs: &[RunSummary]) -> Vec<RunSummary> {
    let mut seen = BTreeSet::new();
    let needs = |run: &&RunSummary| {
        let is_newest = !run.is_drill && run.state != RunState::Running && seen.insert(run.playbook.clone());
        let went_well = matches!(run.state, RunState::Ended(Exit::Success | Exit::Warnings));
        (is_newest && !went_well) || !run.owes.is_empty()
    };
    runs.iter().filter(needs).cloned().collect()
}

impl Status {
    fn report(&self) -> Report<'_> {
        Report {
            backups: &self.backups,
            runs: self.runs.iter().map(Into::into).collect(),
            drills: self.drills.iter().map(Into::into).collect(),
            kept: AllKept { databases: &self.databases, files: &self.files },
            unknown: &self.unknown,
        }
    }

    fn told(&self, host: &Host, paint: Paint) -> String {
        let now = host.clock().now();
        let mut text = String::new();
        let mut section = |title: &str, rows: &[Vec<String>], otherwise: &str| {
            text += &format!("{}\n", paint.heading(title));
            match columns(rows) {
                empty if empty.is_empty() => text += &format!("  {otherwise}\n"),
                lines => lines.lines().for_each(|line| text += &format!("  {line}\n")),
            }
        };
        let backups = self.backups.iter().map(|backup| {
            vec![
                backup.source.clone(),
                backup.name.clone(),
                age(now.fixed_offset(), backup.created),
                backup.size.map(units::bytes).unwrap_or_default(),
                match (backup.verified, backup.drilled) {
                    (Some(false), _) => paint.error("NOT INTACT"),
                    (Some(true), Some(_)) => paint.good("verified, drilled"),
                    (Some(true), None) => paint.good("verified"),
                    (None, _) => paint.warning("never verified"),
                },
            ]
        });
        section("Newest backups", &backups.collect::<Vec<_>>(), "none; `lifeboat backup_all` makes some");
        let runs = self.runs.iter().map(|run| {
            vec![
                run.run.letters().to_owned(),
                run.playbook.clone(),
                run.began.map(|began| age(now.fixed_offset(), began)).unwrap_or_default(),
                result(run, paint),
                paint.hint(&format!("lifeboat resume {}", run.run.letters())),
            ]
        });
        section("Runs that need you", &runs.collect::<Vec<_>>(), "none");
        let drills = self.drills.iter().map(|drill| vec![drill.playbook.clone(), drill.told(now)]);
        section(
            "Drills",
            &drills.collect::<Vec<_>>(),
            "none; `lifeboat drill full_recovery` rehearses a recovery",
        );
        let databases = self.databases.iter().map(|kept| {
            let what = if kept.kind == Kind::Kept { "database" } else { "left by an interrupted restore" };
            kept_row(what, &kept.name, kept.size, kept.age, &kept.run)
        });
        let files = self
            .files
            .iter()
            .map(|kept| kept_row("files", &host.shown(&kept.path), Some(kept.size), kept.age, &kept.run));
        section(
            "Kept by restores; `lifeboat cleanup` removes it",
            &databases.chain(files).collect::<Vec<_>>(),
            "nothing",
        );
        for unknown in &self.unknown {
            text += &format!("{} not looked at: {unknown}\n", paint.warning("warning:"));
        }
        text
    }
}

fn kept_row(what: &str, name: &str, size: Option<u64>, seconds: u64, run: &str) -> Vec<String> {
    vec![
        what.to_owned(),
        name.to_owned(),
        size.map(units::bytes).unwrap_or_default(),
        format!("{} old", span(seconds)),
        format!("by run {run}"),
    ]
}

/// A span as people say it: nobody counts hours beyond two days.
fn span(seconds: u64) -> String {
    const DAY: u64 = 24 * 3600;
    if seconds >= 2 * DAY {
        return format!("{} days", seconds / DAY);
    }
    units::duration(Duration::from_secs(seconds))
}

fn age(now: DateTime<FixedOffset>, then: DateTime<FixedOffset>) -> String {
    match u64::try_from((now - then).num_seconds()) {
        Ok(seconds) => format!("{} ago", span(seconds)),
        Err(_) => "in the future".to_owned(),
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

    #[test]
    fn runs_that_need_a_person_are_named_and_what_cannot_be_asked_is_said() {
        let dir = project();
        let (cx, out, err) = test::context(dir.path(), Global::default());
        assert_eq!(run(&Args {}, &cx), Ok(Exit::Success));
        expect![[r#"
            Newest backups
              none; `lifeboat backup_all` makes some
            Runs that need you
              mmmmmm  backup_database  2 days ago  failed (exit 1): cannot connect to `db1` (playbooks/p.rhai:1:3)  lifeboat resume mmmmmm
            Drills
              none; `lifeboat drill full_recovery` rehearses a recovery
            Kept by restores; `lifeboat cleanup` removes it
              nothing
            warning: not looked at: kept databases: no database is named: neither the playbook nor DB_NAME, DATABASE_URL, PGDATABASE or PGSERVICE says which one is meant
        "#]].assert_eq(&out.text());
        assert_eq!(err.text(), "");
    }

    #[test]
    fn json_is_the_documented_contract() {
        let dir = project();
        let (cx, out, _) = test::context(dir.path(), Global { json: true, ..Global::default() });
        run(&Args {}, &cx).unwrap();
        let json: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        let runs: Vec<&str> =
            json["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap()).collect();
        assert_eq!(runs, ["20251110-020200-mmmmmm"]);
        assert_eq!(json["kept"], serde_json::json!({ "databases": [], "files": [] }));
        assert_eq!((&json["backups"], &json["drills"]), (&serde_json::json!([]), &serde_json::json!([])));
        assert_eq!(
            json["unknown"],
            serde_json::json!([
                "kept databases: no database is named: neither the playbook nor DB_NAME, DATABASE_URL, PGDATABASE or PGSERVICE says which one is meant"
            ])
        );
    }
}
