//! What is exported, read by the programs that it is for.

use crate::project::TestProject;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use lifeboat::base::calendar::{Calendar, at_clock_changes};
use lifeboat::base::schedule::Timetable;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

const PLAYBOOK: &str = r#"const PLAYBOOK = #{
    summary: "Back up 100% of \"it\"",
    params: #{ dir: #{ default_value: "/var/backups/it", path: true } },
    schedule: [
        #{ name: "daily", cron: "30 2 * * *", tz: "Europe/Berlin", timeout: "1h", max_lateness: "2h", overlap: "kill" },
        #{ name: "it's $HOME % \"x\"", cron: "0 3 1,15 * 7", missed: "skip" },
        #{ cron: "*/20 9-17 * JAN-MAR MON-FRI" },
    ],
};
"#;

fn project() -> TestProject {
    TestProject::new().playbook("p", PLAYBOOK).env("LIFEBOAT_NOW", "2026-05-05T02:00:00Z")
}

/// The texts of an export by their names.
fn pieces(project: &TestProject, format: &[&str]) -> Vec<(String, String)> {
    let args = [&["--json", "schedule", "export"], format].concat();
    let exported: Vec<Value> = serde_json::from_str(&project.run(&args).exits(0).stdout).unwrap();
    let text = |piece: &Value, key: &str| piece[key].as_str().unwrap_or_default().to_owned();
    exported.iter().map(|piece| (text(piece, "name"), text(piece, "text"))).collect()
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

/// The instants of systemd's expressions from one time to another.
fn of_systemd(expressions: &[String], from: DateTime<Utc>, until: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    let output = Command::new("systemd-analyze")
        .args([
            "calendar",
            "--iterations=400",
            "--base-time",
            &from.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        ])
        .args(expressions)
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{expressions:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let instants = text.lines().filter_map(|line| {
        let (label, instant) = line.split_once(": ")?;
        let is_instant = label.trim() == "Next elapse" || label.trim().starts_with("Iter. #");
        let instant = instant.trim().strip_suffix(" UTC").filter(|_| is_instant)?;
        // The day of the week stands before the date.
        let instant = instant.split_once(' ')?.1;
        chrono::NaiveDateTime::parse_from_str(instant, "%Y-%m-%d %H:%M:%S").ok()
    });
    instants.map(|instant| instant.and_utc()).filter(|instant| *instant <= until).collect()
}

#[test]
fn systemd_elapses_at_the_very_instants_of_the_timetable() {
    // Three weeks around changes of clocks, and a year for what is rare.
    let weeks = [
        (Tz::Europe__Berlin, "2026-03-15T12:00:00Z", "2026-04-05T12:00:00Z"),
        (Tz::Europe__Berlin, "2026-10-17T12:00:00Z", "2026-11-07T12:00:00Z"),
        (Tz::America__New_York, "2026-03-01T12:00:00Z", "2026-03-22T12:00:00Z"),
        (Tz::Australia__Lord_Howe, "2026-04-01T12:00:00Z", "2026-04-20T12:00:00Z"),
    ];
    let often = [
        "0 2 * * *",
        "30 2 * * *",
        "0 9-17 * * *",
        "15,45 1-3 * * *",
        "0 */2 * * *",
        "0 3 * * SUN",
        "30 1 */2 * 1-5",
    ];
    let rare =
        ["0 3 1,15 * 7", "0 4 1 * *", "30 2 29 2 *", "0 12 8-14 */3 +2", "0 0 31 * *", "10 2 1-31 6 MON"];
    let year = [(Tz::Europe__Berlin, "2026-01-01T12:00:00Z", "2027-01-01T12:00:00Z")];
    let cases = often.iter().flat_map(|cron| weeks.iter().map(move |when| (cron, when)));
    let cases = cases.chain(rare.iter().flat_map(|cron| year.iter().map(move |when| (cron, when))));
    for (cron, (zone, from, until)) in cases {
        let (from, until) = (at(from), at(until));
        let table = Timetable::new(cron, false, *zone).unwrap();
        let mut expressions = Calendar::of(&table).unwrap().systemd(zone.name());
        expressions.extend(at_clock_changes(&table, from));
        let next = |last: &DateTime<Utc>| table.after(*last).map(|slot| slot.at.with_timezone(&Utc));
        let own: BTreeSet<DateTime<Utc>> =
            std::iter::successors(next(&from), next).take_while(|instant| *instant <= until).collect();
        assert!(own.len() < 400, "{cron}");
        assert_eq!(of_systemd(&expressions, from, until), own, "{cron} {zone} {expressions:?}");
    }
}

#[test]
fn systemd_takes_the_units() {
    let project = project();
    let folder = project.at("it's 100% $HOME \\ \"x\"");
    std::fs::create_dir_all(folder.join("playbooks")).unwrap();
    std::fs::write(folder.join("playbooks/p.rhai"), PLAYBOOK).unwrap();
    let folder = folder.to_str().unwrap();
    let mut units = pieces(&project, &["systemd", "--user", "daemon", "--project", folder]);
    units.extend(pieces(&project, &["systemd", "--daemon", "--name", "all", "--project", folder]));
    assert_eq!(units.iter().filter(|(name, _)| name.contains("-p-")).count(), 6, "{units:?}");
    std::fs::create_dir(project.at("units")).unwrap();
    let mut paths = Vec::new();
    for (name, text) in &units {
        let path = project.at("units").join(name);
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(&paths)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", project.at("units").display()))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let about_ours: Vec<&str> = told.lines().filter(|line| line.contains("lifeboat-")).collect();
    assert!(output.status.success() && about_ours.is_empty(), "{told}");
}

#[test]
fn compose_takes_the_labels() {
    let project = project();
    let text = project
        .run(&["schedule", "export", "ofelia", "--image", "shop:1", "--dir", "/pro$ject"])
        .exits(0)
        .stdout;
    std::fs::write(project.at("ofelia.yml"), text).unwrap();
    let config = project.stock("", "docker-compose", &["-f", "ofelia.yml", "config"]);
    let config: Value = serde_saphyr::from_str(&config).unwrap();
    let target = &config["services"]["lifeboat"];
    let labels = target["labels"].as_object().unwrap();
    assert_eq!(labels["ofelia.enabled"], "true");
    assert_eq!(labels["ofelia.job-exec.p-daily.schedule"], "CRON_TZ=Europe/Berlin 0 30 2 * * *");
    // What is shown is to be read by compose again, so that its dollars are doubled.
    let dir = "/pro$$ject";
    assert_eq!(
        labels["ofelia.job-exec.p-daily.command"],
        format!("lifeboat --project {dir:?} run --scheduled daily p")
    );
    let awkward = labels
        .iter()
        .find(|(key, _)| key.starts_with("ofelia.job-exec.p-it-s-HOME-x-") && key.ends_with(".command"));
    assert_eq!(
        awkward.unwrap().1,
        &format!("lifeboat --project {dir:?} run --scheduled \"it's $$HOME % \\\"x\\\"\" p")
    );
    for key in labels.keys().filter(|key| key.contains("job-exec")) {
        assert_eq!(key.split('.').count(), 4, "{key}");
    }
}

#[test]
fn kubernetes_gets_the_fields_of_a_cron_job() {
    let project = project();
    let jobs: Vec<Value> = pieces(&project, &["kubernetes", "--image", "shop:1", "--claim", "shop"])
        .iter()
        .filter(|(name, _)| name.contains("-p-"))
        .map(|(_, text)| serde_saphyr::from_str(text).unwrap())
        .collect();
    let [daily, awkward, often] = &jobs[..] else { panic!("{jobs:?}") };
    for job in &jobs {
        assert_eq!((&job["apiVersion"], &job["kind"]), (&"batch/v1".into(), &"CronJob".into()));
        let name = job["metadata"]["name"].as_str().unwrap();
        let is_of_dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.len() <= 52 && name.chars().all(is_of_dns) && !name.ends_with('-'), "{name}");
    }
    let spec = |job: &Value, key: &str| job["spec"][key].clone();
    assert_eq!(spec(daily, "schedule"), "30 2 * * *");
    assert_eq!(spec(daily, "timeZone"), "Europe/Berlin");
    assert_eq!(spec(daily, "concurrencyPolicy"), "Replace");
    assert_eq!(spec(daily, "startingDeadlineSeconds"), 7200);
    assert_eq!(spec(awkward, "schedule"), "0 3 1,15 * 0");
    assert_eq!(spec(awkward, "concurrencyPolicy"), "Forbid");
    assert_eq!(spec(awkward, "startingDeadlineSeconds"), 60);
    assert_eq!(spec(often, "schedule"), "0-40/20 9-17 * 1-3 1-5");
    assert_eq!(spec(often, "startingDeadlineSeconds"), 86400);
    let of_job = &daily["spec"]["jobTemplate"]["spec"];
    assert_eq!((&of_job["backoffLimit"], &of_job["activeDeadlineSeconds"]), (&0.into(), &3720.into()));
    let pod = &of_job["template"]["spec"];
    assert_eq!((&pod["restartPolicy"], &pod["terminationGracePeriodSeconds"]), (&"Never".into(), &90.into()));
    assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "shop");
    let container = &awkward["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["image"], &container["workingDir"]), (&"shop:1".into(), &"/project".into()));
    let words = ["--project", "/project", "run", "--grace", "60s", "--scheduled", "it's $HOME % \"x\"", "p"];
    // Kubernetes replaces `$(NAME)` only.
    assert_eq!(container["args"], serde_json::json!(words));
}

#[test]
fn a_crontab_is_taken_by_the_real_program() {
    let project = project();
    let text = project.run(&["schedule", "export", "cron"]).exits(0).stdout;
    std::fs::write(project.at("crontab"), text).unwrap();
    // `crontab` reads the whole file before it installs it; here it installs into a folder of its own.
    let script = "mkdir -p /var/spool/cron && mount -t tmpfs none /var/spool/cron && mkdir -m 1730 /var/spool/cron/crontabs && \
                  crontab \"$1\" && crontab -l | cmp - \"$1\"";
    let crontab = project.at("crontab");
    project.stock("", "unshare", &["-m", "sh", "-c", script, "sh", crontab.to_str().unwrap()]);
}
