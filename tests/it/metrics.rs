//! The metrics for Prometheus, read by a strict reader of the exposition format.

use crate::project::TestProject;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

/// Reads the text format 0.0.4 strictly: HELP and TYPE before the samples of a metric, each once and together; valid names, escaped
/// labels, no sample twice, a newline at the end. Returns the samples.
fn read(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut samples = BTreeMap::new();
    let mut done = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        assert!(is_name(name) && name.starts_with("lifeboat_") && help.ends_with('.'), "{line}");
        assert!(done.insert(name.to_owned()), "{name} twice");
        assert_eq!(lines.next().unwrap(), format!("# TYPE {name} gauge"));
        assert!(lines.peek().is_some_and(|line| line.starts_with(name)), "{name} has no sample");
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let rest = key.strip_prefix(name).unwrap();
            if !rest.is_empty() {
                labels(rest.strip_prefix('{').unwrap().strip_suffix('}').unwrap());
            }
            assert_eq!(samples.insert(key.to_owned(), value.parse().unwrap()), None, "{line}");
        }
    }
    samples
}

/// Checks `a="b",c="d"`.
fn labels(mut text: &str) {
    loop {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        let mut escaped = false;
        let end = rest.find(|c| {
            let ends = c == '"' && !escaped;
            assert!(!escaped || ['\\', '"', 'n'].contains(&c), "{rest}");
            escaped = c == '\\' && !escaped;
            ends
        });
        match rest[end.unwrap() + 1..].strip_prefix(',') {
            Some(more) => text = more,
            None => return assert_eq!(&rest[end.unwrap() + 1..], ""),
        }
    }
}

fn project() -> TestProject {
    TestProject::in_memory().file("package.json", "{}\n").env("LIFEBOAT_NOW", "2025-11-10T02:00:00+00:00")
}

#[test]
fn every_run_replaces_the_file() {
    let project = project().env("LIFEBOAT_METRICS_FILE", "metrics");
    std::fs::create_dir(project.at("metrics")).unwrap();
    project.run(&["backup_config", "--tag", "da\"i\\ly"]).exits(0);
    assert_eq!(project.names("metrics"), ["lifeboat.prom"]);
    let file = project.at("metrics/lifeboat.prom");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let text = std::fs::read_to_string(&file).unwrap();
    let samples = read(&text);
    let tagged = |name: &str| {
        let wanted =
            |key: &&String| key.starts_with(&format!("{name}{{")) && key.contains(r#"tag="da\"i\\ly""#);
        samples[samples.keys().find(wanted).unwrap_or_else(|| panic!("{text}"))]
    };
    assert_eq!(tagged("lifeboat_backup_last_success_timestamp_seconds"), 1_762_740_000.0);
    assert_eq!(tagged("lifeboat_backup_last_verified_timestamp_seconds"), 1_762_740_000.0);
    assert_eq!(tagged("lifeboat_backup_last_intact"), 1.0);
    assert!(tagged("lifeboat_backup_last_size_bytes") > 0.0);
    assert_eq!(samples[r#"lifeboat_run_last_exit_code{playbook="backup_config"}"#], 0.0);
    // How full the disk of this machine is may make it worse than the copies that are missing.
    let status: serde_json::Value =
        serde_json::from_str(&project.run(&["status", "--json"]).exits(0).stdout).unwrap();
    let told = if status["status"] == "warning" { 1.0 } else { 2.0 };
    assert_eq!(samples["lifeboat_health_status"], told, "{status}");
    // A failed run is counted too, and a dry run writes nothing.
    let project = project.playbook("broken", "fail(\"x\");\n");
    project.run(&["broken"]).exits(1);
    let samples = read(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(samples[r#"lifeboat_run_failures_recent{playbook="broken"}"#], 1.0);
    assert_eq!(samples["lifeboat_health_status"], 2.0);
    std::fs::remove_file(&file).unwrap();
    project.run(&["rotate_backups", "--dry-run"]).exits(0);
    assert_eq!(project.names("metrics"), [""; 0]);
    let printed = project.run(&["status", "--prometheus"]).exits(0).stdout;
    // Other tests write to the same disk.
    let steady = |mut samples: BTreeMap<String, f64>| {
        samples.retain(|key, _| !key.starts_with("lifeboat_disk_free_bytes"));
        samples
    };
    assert_eq!(steady(read(&printed)), steady(samples));
}

#[test]
fn a_file_that_cannot_be_written_fails_no_run() {
    let project = project().env("LIFEBOAT_METRICS_FILE", "nowhere/lifeboat.prom");
    project.run(&["backup_config"]).exits(0).says("the metrics could not be written to");
}

#[test]
fn a_project_without_backups_has_metrics() {
    let samples = read(&project().run(&["status", "--prometheus"]).exits(0).stdout);
    assert_eq!(samples["lifeboat_health_status"], 2.0);
}
