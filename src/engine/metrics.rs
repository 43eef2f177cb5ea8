//! The check-up as Prometheus text: a file for the node exporter's textfile collector, and the daemon's `/metrics`.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>, the text the exposition format 0.0.4. Times are timestamps, so
//! that a file that is not written any more is seen to grow old. There are no counters: the journal forgets, and a counter
//! must not fall. How many runs there were is a gauge over the last 7 days; its help says so, since a name with `days` is no base unit.

use crate::base::failure::{Code, Failure};
use crate::base::health::{Report, Severity};
use crate::engine::health::quick;
use crate::journal::drills::DrillRecord;
use crate::sys::fs;
use crate::sys::host::Host;
use chrono::{DateTime, FixedOffset};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Names the file that is replaced after every run, or a folder in which it is called `lifeboat.prom`.
pub const FILE_VARIABLE: &str = "LIFEBOAT_METRICS_FILE";
/// Name of the file in a folder.
const FILE: &str = "lifeboat.prom";

/// A metric's name and help, in the order in which they are written. All are gauges.
const METRICS: [(&str, &str); 25] = [
    ("lifeboat_build_info", "Version of Lifeboat; always 1."),
    ("lifeboat_health_status", "The verdict on the usual terms: 0 ok, 1 warning, 2 critical, 3 unknown."),
    ("lifeboat_health_findings", "Findings by severity."),
    ("lifeboat_health_checked_timestamp_seconds", "When the backups were looked at."),
    ("lifeboat_backup_last_success_timestamp_seconds", "When the newest backup was made."),
    ("lifeboat_backup_last_size_bytes", "Size of the newest backup."),
    ("lifeboat_backup_last_duration_seconds", "Duration of the run that made the newest backup."),
    (
        "lifeboat_backup_last_intact",
        "Whether the newest backup is intact: 1, or 0; absent if it was never verified.",
    ),
    ("lifeboat_backup_last_verified_timestamp_seconds", "When a backup was last found intact."),
    ("lifeboat_backup_last_drilled_timestamp_seconds", "When a drill last restored a backup."),
    ("lifeboat_backups", "Backups that are there."),
    ("lifeboat_backups_damaged", "Backups that are not intact."),
    ("lifeboat_backup_copies", "Copies on disks of their own."),
    ("lifeboat_backup_offsite_copies", "Copies off-site."),
    ("lifeboat_run_last_timestamp_seconds", "When the newest run of a playbook began."),
    (
        "lifeboat_run_last_success_timestamp_seconds",
        "When the newest run of a playbook that completed began.",
    ),
    ("lifeboat_run_last_duration_seconds", "Duration of the newest run of a playbook."),
    ("lifeboat_run_last_exit_code", "Exit code of the newest run of a playbook; 137 if it was killed."),
    ("lifeboat_runs_recent", "Runs of a playbook that ended in the last 7 days."),
    ("lifeboat_run_failures_recent", "Runs of a playbook that failed in the last 7 days."),
    ("lifeboat_drill_last_timestamp_seconds", "When the newest drill of a playbook began."),
    ("lifeboat_drill_last_recovery_seconds", "Recovery time that the newest drill of a playbook measured."),
    ("lifeboat_alerts_undelivered", "Alerts that nobody has accepted yet."),
    ("lifeboat_disk_free_bytes", "Bytes that are free where backups are."),
    ("lifeboat_disk_size_bytes", "Size of the file system where backups are."),
];

/// Exit code of a killed run, as shells tell it.
const KILLED: u8 = 137;

/// The metrics of the project, on the usual terms; no server is asked. What fails is itself a metric: the status is unknown.
pub fn text(host: &Arc<Host>) -> String {
    match quick(host) {
        Ok((checkup, drills)) => render(&checkup.report, &drills),
        Err(_) => {
            let mut samples = Samples::default();
            samples.add("lifeboat_health_status", &[], "3");
            samples.build_info();
            samples.text()
        }
    }
}

/// Replaces the file that the environment names, if it names one.
///
/// # Errors
/// If it cannot be written.
pub fn write(host: &Arc<Host>) -> Result<(), Failure> {
    let env = host.env();
    let Some(named) = env.value(FILE_VARIABLE).filter(|named| !named.is_empty()) else { return Ok(()) };
    let named = host.absolute(PathBuf::from(named));
    let file = if named.is_dir() { named.join(FILE) } else { named };
    let name = format!("{}-{}", host.began().format("%Y%m%d-%H%M%S"), host.letters());
    fs::replace_readable(&file, text(host).as_bytes(), &name).map_err(|failure| {
        let mut told =
            Failure::new(Code::Io, format!("the metrics could not be written to `{}`", file.display()))
                .caused_by(&failure);
        told.hints = failure.hints;
        told.hint(format!("Set {FILE_VARIABLE} to a file in a folder that is there, or to that folder."))
    })
}

/// A report as Prometheus text.
pub fn render(report: &Report, drills: &[DrillRecord]) -> String {
    let mut samples = Samples::default();
    samples.build_info();
    samples.add("lifeboat_health_status", &[], status(report.status));
    for severity in [Severity::Critical, Severity::Warning, Severity::Unknown] {
        samples.add("lifeboat_health_findings", &[("severity", severity.word())], report.count(severity));
    }
    samples.add("lifeboat_health_checked_timestamp_seconds", &[], report.at.timestamp());
    for source in report.sources.iter().filter(|source| !source.superseded) {
        let of = [("source", source.source.as_str())];
        samples.add("lifeboat_backups_damaged", &of, source.damaged.len());
        samples.add("lifeboat_backup_copies", &of, source.copies.copies);
        samples.add("lifeboat_backup_offsite_copies", &of, source.copies.offsite);
        let database = match &source.identity {
            crate::base::backup::Source::Database { name, .. } => name.as_str(),
            _ => "",
        };
        for chain in &source.tags {
            let of = [("source", source.source.as_str()), ("tag", &chain.tag), ("database", database)];
            samples.add("lifeboat_backups", &of, chain.backups);
            samples.time("lifeboat_backup_last_success_timestamp_seconds", &of, Some(chain.newest.created));
            samples.add("lifeboat_backup_last_size_bytes", &of, chain.newest.size);
            samples.millis("lifeboat_backup_last_duration_seconds", &of, chain.millis);
            if let Some(intact) = chain.newest.verified {
                samples.add("lifeboat_backup_last_intact", &of, u8::from(intact));
            }
            samples.time("lifeboat_backup_last_verified_timestamp_seconds", &of, chain.verified);
            samples.time("lifeboat_backup_last_drilled_timestamp_seconds", &of, chain.drilled);
        }
    }
    for playbook in &report.playbooks {
        let of = [("playbook", playbook.playbook.as_str())];
        samples.add("lifeboat_runs_recent", &of, playbook.runs);
        samples.add("lifeboat_run_failures_recent", &of, playbook.failures);
        samples.time("lifeboat_run_last_success_timestamp_seconds", &of, playbook.last_success);
        if playbook.last.is_some() {
            samples.time("lifeboat_run_last_timestamp_seconds", &of, playbook.last);
            samples.millis("lifeboat_run_last_duration_seconds", &of, playbook.last_millis);
            samples.add("lifeboat_run_last_exit_code", &of, playbook.last_exit.unwrap_or(KILLED));
        }
    }
    for drill in drills {
        let of = [("playbook", drill.playbook.as_str()), ("result", drill.verdict.result.words())];
        samples.time("lifeboat_drill_last_timestamp_seconds", &of, Some(drill.began));
        samples.millis("lifeboat_drill_last_recovery_seconds", &of, Some(drill.verdict.millis));
    }
    let undelivered = report.undelivered.as_ref().map_or(0, |undelivered| undelivered.count);
    samples.add("lifeboat_alerts_undelivered", &[], undelivered);
    for disk in &report.disks {
        for folder in &disk.folders {
            samples.add("lifeboat_disk_free_bytes", &[("path", folder)], disk.free);
            samples.add("lifeboat_disk_size_bytes", &[("path", folder)], disk.total);
        }
    }
    samples.text()
}

/// Monitoring's number for a verdict.
fn status(status: Severity) -> u8 {
    match status {
        Severity::Ok => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
        Severity::Unknown => 3,
    }
}

/// Lines by metric: those of one must stand together.
#[derive(Default)]
struct Samples(BTreeMap<&'static str, Vec<String>>);

impl Samples {
    fn add(&mut self, name: &'static str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.0.entry(name).or_default().push(format!("{name}{labels} {value}\n"));
    }

    fn time(&mut self, name: &'static str, labels: &[(&str, &str)], time: Option<DateTime<FixedOffset>>) {
        if let Some(time) = time {
            self.add(name, labels, time.timestamp());
        }
    }

    fn millis(&mut self, name: &'static str, labels: &[(&str, &str)], millis: Option<u64>) {
        if let Some(millis) = millis {
            self.add(name, labels, format!("{}.{:03}", millis / 1000, millis % 1000));
        }
    }

    fn build_info(&mut self) {
        self.add("lifeboat_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, help) in METRICS {
            if let Some(lines) = self.0.get(name) {
                text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{}", lines.concat());
            }
        }
        text
    }
}

/// A label's value: backslash, quote and newline are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
