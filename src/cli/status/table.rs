//! The status as a person reads it: the worst first.

use super::Status;
use crate::base::health::{Severity, SourceReport, age};
use crate::base::units;
use crate::cli::history::result;
use crate::cli::report::counted;
use crate::cli::screen::{Paint, columns};
use crate::journal::drills::DrillRecord;
use crate::journal::reader::RunSummary;
use crate::observe::kept::KeptDatabase;
use crate::observe::kept_files::KeptFiles;
use crate::sys::channel;
use crate::sys::host::Host;
use crate::sys::postgres::mark::Kind;
use chrono::{DateTime, FixedOffset};

fn painted(severity: Severity, text: &str, paint: Paint) -> String {
    match severity {
        Severity::Ok => paint.good(text),
        Severity::Unknown | Severity::Warning => paint.warning(text),
        Severity::Critical => paint.error(text),
    }
}

impl Status {
    /// The whole screen.
    pub(super) fn told(&self, host: &Host, paint: Paint) -> String {
        let report = &self.report;
        let headline = report.headline();
        let (word, rest) = headline.split_once(": ").unwrap_or((&headline, ""));
        let mut text = format!("{}: {rest}\n", painted(report.status, &word.to_uppercase(), paint));
        let mut section = |title: &str, rows: &[Vec<String>], otherwise: &str| {
            text += &format!("{}\n", paint.heading(title));
            match columns(rows) {
                empty if empty.is_empty() => text += &format!("  {otherwise}\n"),
                lines => lines.lines().for_each(|line| text += &format!("  {line}\n")),
            }
        };
        if !report.findings.is_empty() {
            let width =
                report.findings.iter().map(|finding| finding.severity.word().len()).max().unwrap_or(0);
            let rows: Vec<Vec<String>> = report
                .findings
                .iter()
                .flat_map(|finding| {
                    let word = painted(finding.severity, finding.severity.word(), paint);
                    let pad = " ".repeat(width - finding.severity.word().len());
                    let tag = finding.tag.as_ref().filter(|tag| !tag.is_empty());
                    let tag = tag.map_or_else(String::new, |tag| format!(" [{tag}]"));
                    [
                        vec![format!("{word}{pad}  {}{tag}", finding.message)],
                        vec![format!("{}  {}", " ".repeat(width), paint.hint(&finding.hint))],
                    ]
                })
                .collect();
            section("Problems", &rows, "none");
        }
        let sources: Vec<Vec<String>> =
            report.sources.iter().flat_map(|source| of_source(source, report.at, paint)).collect();
        section("Newest backups", &sources, "none; `lifeboat backup_all` makes some");
        let now = report.at;
        let runs: Vec<Vec<String>> = self.runs.iter().map(|run| open_run(run, now, paint)).collect();
        section("Runs that need you", &runs, "none");
        let playbooks: Vec<Vec<String>> = report
            .playbooks
            .iter()
            .filter(|playbook| playbook.runs > 0)
            .map(|playbook| {
                let completed =
                    playbook.completion.map_or_else(String::new, |percent| format!("{percent} % completed"));
                let failed = format!("{} failed", playbook.failures);
                vec![
                    playbook.playbook.clone(),
                    counted(playbook.runs, "run"),
                    if playbook.failures > 0 { paint.error(&failed) } else { failed },
                    completed,
                    playbook.last.map(|last| ago(now, last)).unwrap_or_default(),
                ]
            })
            .collect();
        section(
            &format!("Runs of the last {}", counted(report.terms.days as usize, "day")),
            &playbooks,
            "none",
        );
        let drilled = |drill: &DrillRecord| vec![drill.playbook.clone(), drill.told(host.clock().now())];
        let drills: Vec<Vec<String>> = self.drills.iter().map(drilled).collect();
        section("Drills", &drills, "none; `lifeboat drill full_recovery` rehearses a recovery");
        let disks: Vec<Vec<String>> = report
            .disks
            .iter()
            .map(|disk| {
                let free = format!("{} % free", disk.percent);
                let is_low = u32::from(disk.percent) < report.terms.min_free;
                vec![
                    disk.folders.join(", "),
                    if is_low { paint.error(&free) } else { free },
                    format!("{} of {}", units::bytes(disk.free), units::bytes(disk.total)),
                    disk.place.clone(),
                ]
            })
            .collect();
        section("Disks", &disks, "none could be looked at");
        let databases = self.databases.iter().map(kept_database);
        let kept: Vec<Vec<String>> =
            databases.chain(self.files.iter().map(|kept| kept_files(kept, host))).collect();
        section("Kept by restores; `lifeboat cleanup` removes it", &kept, "nothing");
        let channels: Vec<Vec<String>> = channel::configured(host)
            .iter()
            .map(|channel| vec![channel.name.to_owned(), channel.receiver()])
            .collect();
        section(
            "Alerts",
            &channels,
            "no channel is set: nobody is told when something fails; `lifeboat alert test --help` names them",
        );
        for unknown in &report.unknown {
            text += &format!("{} not looked at: {unknown}\n", paint.warning("warning:"));
        }
        text
    }
}

/// A source, and its tags if it has several.
fn of_source(source: &SourceReport, now: DateTime<FixedOffset>, paint: Paint) -> Vec<Vec<String>> {
    let newest = &source.newest;
    let state = match (newest.verified, source.superseded) {
        (_, true) => paint.faint("superseded"),
        (Some(false), _) => paint.error("NOT INTACT"),
        (None, _) => paint.warning("never verified"),
        (Some(true), _) => match source.verified {
            Some(at) => paint.good(&format!("verified {}", ago(now, at))),
            None => paint.good("verified"),
        },
    };
    let drilled = match source.drilled {
        Some(at) => format!("drilled {}", ago(now, at)),
        None => "never drilled".to_owned(),
    };
    let copies = &source.copies;
    let copied = format!("{}, {} off-site", counted_copies(copies.copies), copies.offsite);
    let mut rows = vec![vec![
        source.source.clone(),
        newest.name.clone(),
        ago(now, newest.created),
        units::bytes(newest.size),
        state,
        drilled,
        copied,
    ]];
    if source.tags.len() > 1 {
        rows.extend(source.tags.iter().map(|chain| {
            let tag = if chain.tag.is_empty() { "(no tag)" } else { &chain.tag };
            vec![
                format!("  {tag}"),
                chain.newest.name.clone(),
                ago(now, chain.newest.created),
                units::bytes(chain.newest.size),
                chain.usual_size.map_or_else(String::new, |usual| format!("usually {}", units::bytes(usual))),
                String::new(),
                counted(chain.backups, "backup"),
            ]
        }));
    }
    rows
}

fn counted_copies(n: u32) -> String {
    if n == 1 { "1 copy".to_owned() } else { format!("{n} copies") }
}

fn open_run(run: &RunSummary, now: DateTime<FixedOffset>, paint: Paint) -> Vec<String> {
    vec![
        run.run.letters().to_owned(),
        run.playbook.clone(),
        run.began.map(|began| ago(now, began)).unwrap_or_default(),
        result(run, paint),
        paint.hint(&format!("lifeboat resume {}", run.run.letters())),
    ]
}

fn kept_database(kept: &KeptDatabase) -> Vec<String> {
    let what = if kept.kind == Kind::Kept { "database" } else { "left by an interrupted restore" };
    kept_row(what, &kept.name, kept.size, kept.age, &kept.run)
}

fn kept_files(kept: &KeptFiles, host: &Host) -> Vec<String> {
    kept_row("files", &host.shown(&kept.path), Some(kept.size), kept.age, &kept.run)
}

fn kept_row(what: &str, name: &str, size: Option<u64>, seconds: u64, run: &str) -> Vec<String> {
    vec![
        what.to_owned(),
        name.to_owned(),
        size.map(units::bytes).unwrap_or_default(),
        format!("{} old", age(seconds)),
        format!("by run {run}"),
    ]
}

fn ago(now: DateTime<FixedOffset>, then: DateTime<FixedOffset>) -> String {
    match u64::try_from((now - then).num_seconds()) {
        Ok(..60) => "just now".to_owned(),
        Ok(seconds) => format!("{} ago", age(seconds)),
        Err(_) => "in the future".to_owned(),
    }
}
