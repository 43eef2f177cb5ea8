//! One line as monitoring plugins print it: `BACKUP OK - text | perfdata`.
//!
//! After the guidelines of the Monitoring Plugins project: the state's word, text without `|`, labels in single quotes,
//! values with a unit and the thresholds `warn;crit;min;max`.

use crate::base::failure::PluginExit;
use crate::base::health::{Report, Severity};

/// The plugin's exit code for a verdict.
pub fn exit(status: Severity) -> PluginExit {
    match status {
        Severity::Ok => PluginExit::Ok,
        Severity::Warning => PluginExit::Warning,
        Severity::Critical => PluginExit::Critical,
        Severity::Unknown => PluginExit::Unknown,
    }
}

/// The line for a report.
pub fn line(report: &Report) -> String {
    let text = match report.findings.as_slice() {
        [] => report.headline().split_once(": ").map(|(_, rest)| rest.to_owned()).unwrap_or_default(),
        [one] => one.message.clone(),
        [worst, others @ ..] => format!("{} (and {} more)", worst.message, others.len()),
    };
    let mut data = Vec::new();
    let terms = &report.terms;
    for source in report.sources.iter().filter(|source| !source.superseded) {
        let (warn, critical) = (terms.max_age.as_secs(), terms.critical_age().as_secs());
        data.push(format!("{}={}s;{warn};{critical};0", label(&source.source, "age"), source.newest.age));
        data.push(format!("{}={}B;;;0", label(&source.source, "size"), source.newest.size));
    }
    for disk in &report.disks {
        let least = terms.min_free;
        data.push(format!("{}={}%;{least}:;;0;100", label(&disk.folders.join(" "), "free"), disk.percent));
    }
    let failures: usize = report.playbooks.iter().map(|playbook| playbook.failures).sum();
    data.push(format!("'failures'={failures};;;0"));
    format!("BACKUP {} - {} | {}\n", exit(report.status).word(), one_line(&text), data.join(" "))
}

/// The line when nothing could be looked at.
pub fn unknown(why: &str) -> String {
    format!("BACKUP {} - {}\n", PluginExit::Unknown.word(), one_line(why))
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "/")
}

/// A label: no `=`, and a quote is doubled.
fn label(of: &str, what: &str) -> String {
    format!("'{} {what}'", one_line(of).replace('=', "-").replace('\'', "''"))
}
