//! The check-up of the backups: each finding provoked in a real project, and told to people, playbooks and monitoring.

use crate::cluster::sample_database;
use crate::project::{Ran, TestProject};
use expect_test::expect;
use serde_json::Value;

/// Terms on which neither this machine's disks nor the number of its copies count.
const HERE: [&str; 8] = ["--copies", "0", "--storage", "0", "--offsite-copies", "0", "--min-free", "0"];

const MORNING: &str = "2025-11-10T02:00:00+00:00";

/// A project with backups of its configuration, one on each of the given days of November 2025.
fn with_days(days: &[u32]) -> TestProject {
    let mut project = TestProject::in_memory().file("package.json", "{ \"a\": 1 }\n");
    for day in days {
        project = project.env("LIFEBOAT_NOW", format!("2025-11-{day:02}T02:00:00+00:00"));
        project.run(&["backup_config", "--tag", "daily", "--retention", "300"]).exits(0);
    }
    project
}

fn status(project: &TestProject, args: &[&str]) -> Ran {
    project.run(&[&["status"], &HERE[..], args].concat())
}

/// Severity and code of each finding.
fn found(project: &TestProject, args: &[&str]) -> Vec<String> {
    let ran = status(project, &[&["--json"], args].concat()).exits(0);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = |one: &Value| {
        assert!(!text(&one["hint"]).is_empty() && !text(&one["message"]).is_empty(), "{one}");
        format!("{} {}", text(&one["severity"]), text(&one["code"]))
    };
    json["findings"].as_array().unwrap().iter().map(told).collect()
}

fn newest(project: &TestProject, ending: &str) -> String {
    let names = project.names("backups/config");
    names.into_iter().rfind(|name| name.ends_with(ending)).unwrap()
}

#[test]
fn a_fresh_backup_is_well_and_a_database_without_one_is_not() {
    let project = with_days(&[10]);
    assert_eq!(found(&project, &[]), [""; 0]);
    status(&project, &["--check"]).exits(0);
    let project =
        project.env("DB_NAME", "shop").env("DB_HOST", "127.0.0.1").env("DB_PORT", "1").env("DB_USER", "me");
    assert_eq!(found(&project, &[]), ["critical no_backups"]);
    let shown = status(&project, &["--check"]).exits(1).stdout;
    assert!(shown.contains("warning: not looked at: kept databases: "), "{shown}");
}

#[test]
fn age_is_a_warning_and_then_critical() {
    let project = with_days(&[10]).env("LIFEBOAT_NOW", "2025-11-11T02:00:00+00:00");
    assert_eq!(found(&project, &[]), [""; 0]);
    let project = project.env("LIFEBOAT_NOW", "2025-11-11T02:00:01+00:00");
    assert_eq!(found(&project, &[]), ["warning age"]);
    assert_eq!(found(&project, &["--max-age", "26h"]), [""; 0]);
    let project = project.env("LIFEBOAT_NOW", "2025-11-12T02:00:01+00:00");
    assert_eq!(found(&project, &[])[0], "critical age");
    let project = project.env("LIFEBOAT_NOW", "2025-11-18T02:00:01+00:00");
    let late = found(&project, &["--max-age", "30d"]);
    assert_eq!(late, ["warning verify_old"]);
}

#[test]
fn a_tag_that_stops_is_noticed_while_another_goes_on() {
    let project = with_days(&[1, 2, 3, 4]).env("LIFEBOAT_NOW", MORNING);
    project.run(&["backup_config", "--tag", "hourly", "--retention", "300"]).exits(0);
    assert_eq!(found(&project, &[]), ["warning late"]);
}

#[test]
fn a_backup_that_shrinks_or_takes_long_is_an_anomaly() {
    let project = TestProject::in_memory().file("package.json", &noise());
    let mut project = project;
    for day in 7..=9 {
        project = project.env("LIFEBOAT_NOW", format!("2025-11-{day:02}T02:00:00+00:00"));
        project.run(&["backup_config", "--tag", "daily"]).exits(0);
    }
    let project = project.file("package.json", "{}\n").env("LIFEBOAT_NOW", MORNING);
    project.run(&["backup_config", "--tag", "daily"]).exits(0);
    assert_eq!(found(&project, &[]), ["warning size"]);
    assert_eq!(found(&project, &["--max-change", "100"]), [""; 0]);
    let runs = project.names(".lifeboat/runs");
    let exit = project.at(format!(".lifeboat/runs/{}/exit.json", runs.last().unwrap()));
    let mut ended: Value = serde_json::from_str(&std::fs::read_to_string(&exit).unwrap()).unwrap();
    ended["millis"] = 600_000.into();
    std::fs::write(&exit, ended.to_string()).unwrap();
    assert_eq!(found(&project, &[]), ["warning size", "warning duration"]);
}

/// Text that gzip cannot make small.
fn noise() -> String {
    let mut seed = 1_u64;
    let letters = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + u8::try_from((seed >> 33) % 26).unwrap())
    });
    letters.take(20_000).collect()
}

#[test]
fn what_is_damaged_or_lost_is_critical() {
    let project = with_days(&[9, 10]);
    let file = newest(&project, ".tar.gz");
    let path = project.at(format!("backups/config/{file}"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    project.run(&["verify", "--all"]).exits(12);
    assert_eq!(found(&project, &[]), ["critical not_intact", "critical run_failed"]);
    std::fs::remove_file(&path).unwrap();
    let told = found(&project, &[]);
    assert_eq!(told[0], "critical lost", "{told:?}");
    assert!(told.contains(&"warning age".to_owned()) || !told.contains(&"critical not_intact".to_owned()));
}

#[test]
fn failed_runs_count_until_they_are_made_good_and_then_as_failures() {
    let project = with_days(&[10]).playbook("nightly", "fail(\"no power\");\n");
    project.run(&["nightly"]).exits(1);
    assert_eq!(found(&project, &[]), ["critical run_failed"]);
    let project = project.playbook("nightly", "info(\"power\");\n");
    std::thread::sleep(std::time::Duration::from_millis(5));
    let project = project.env("LIFEBOAT_NOW", "2025-11-10T02:00:01+00:00");
    project.run(&["nightly"]).exits(0);
    assert_eq!(found(&project, &[]), ["warning failures"]);
}

#[test]
fn leftovers_and_full_disks_are_told() {
    let project = with_days(&[10]);
    std::fs::write(project.at("backups/config/.a.tar.gz.20251109-020000-abcdef.part"), "x").unwrap();
    assert_eq!(found(&project, &[]), ["warning leftovers"]);
    let args = [&["status", "--json"], &HERE[..6], &["--min-free", "101"]].concat();
    let shown = project.run(&args).exits(0).stdout;
    assert!(shown.contains("\"code\": \"disk\""), "{shown}");
}

#[test]
fn copies_on_one_disk_or_in_memory_are_not_two() {
    let project = TestProject::new().file("package.json", "{}\n").env("LIFEBOAT_NOW", MORNING);
    project.run(&["backup_config", "--tag", "daily"]).exits(0);
    std::fs::create_dir_all(project.at("remote/aurora")).unwrap();
    for name in project.names("backups/config") {
        std::fs::copy(project.at("backups/config").join(&name), project.at("remote/aurora").join(&name))
            .unwrap();
    }
    let project = project.env("BACKUP_OFFSITE_DIRS", "remote");
    let ran = project.run(&["status", "--json", "--min-free", "0"]).exits(0);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let copies = &json["sources"][0]["copies"];
    assert!(copies["copies"].as_u64().unwrap() <= 1, "{copies}");
    assert_eq!(copies["offsite"], 0, "{copies}");
    assert_eq!(json["sources"][0]["backups"], 1);
    let finding = json["findings"].as_array().unwrap().iter().find(|one| one["code"] == "copies").unwrap();
    let message = finding["message"].as_str().unwrap();
    assert!(message.contains("of 3 copies") && message.contains("0 of 1 copies off-site"), "{message}");
}

#[test]
fn monitoring_always_gets_a_line_of_its_own_kind() {
    let project = with_days(&[10]);
    let ran = status(&project, &["--nagios"]).exits(0);
    assert!(ran.stdout.starts_with("BACKUP OK - "), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 1);
    assert!(ran.stdout.contains(" age'=0s;86400;172800;0 "), "{}", ran.stdout);
    let project = project.env("LIFEBOAT_NOW", "2025-11-11T02:00:01+00:00");
    status(&project, &["--nagios"]).exits(1);
    status(&project, &["--check"]).exits(3);
    let project = project.env("LIFEBOAT_NOW", "2025-11-20T02:00:01+00:00");
    status(&project, &["--nagios"]).exits(2);
    for (args, env) in
        [(&["status", "--nagios", "--no-such"][..], ""), (&["status", "--nagios"], "yesterday")]
    {
        let project = with_days(&[]).env("LIFEBOAT_NOW", env);
        let ran = project.run(args).exits(3);
        assert!(ran.stdout.starts_with("BACKUP UNKNOWN - "), "{}", ran.stdout);
    }
}

#[test]
fn the_playbook_warns_and_fails_and_does_not_find_itself() {
    let project = with_days(&[10]);
    let args = [&["health_check"], &HERE[..]].concat();
    project.run(&args).exits(0).says("nothing is wrong");
    let project = project.env("LIFEBOAT_NOW", "2025-11-11T03:00:00+00:00");
    project.run(&args).exits(3).says("the newest backup is 25 h 0 min old (limit 24 h 0 min)");
    let project = project.env("LIFEBOAT_NOW", "2025-11-12T03:00:00+00:00");
    project.run(&args).exits(1).says("the backups are not as they should be");
    assert_eq!(found(&project, &[])[..1], ["critical age"]);
    assert!(!found(&project, &[]).iter().any(|one| one.ends_with("run_failed")));
    let shown = project.run(&["doc", "health_check"]).exits(0).stdout;
    assert!(shown.contains("Whether the backups are as they should be"), "{shown}");
    project.run(&[&args[..], &["--dry-run"]].concat()).exits(1);
}

#[test]
fn a_database_is_checked_too_and_its_drill_counts() {
    let source = sample_database("health");
    let project = TestProject::new().database(&source);
    project.run(&["backup_database", "--tag", "daily"]).exits(0);
    assert_eq!(found(&project, &[]), ["warning never_drilled"]);
    // What a schedule does counts: the restore test, and not only a drill.
    project.run(&["restore_test", "--no-tests"]).exits(0);
    assert_eq!(found(&project, &[]), [""; 0]);
    let later = chrono::Local::now() + chrono::TimeDelta::days(36);
    let lenient = ["--max-age", "99d", "--verify-age", "99d"];
    let project = project.env("LIFEBOAT_NOW", later.to_rfc3339());
    assert_eq!(found(&project, &lenient), ["warning drill_old"]);
    project.run(&["drill", "restore", "--database", "--latest"]).exits(0);
    assert_eq!(found(&project, &lenient), [""; 0]);
    let project = project.env("LIFEBOAT_NOW", "");
    assert!(status(&project, &[]).stdout.starts_with("OK: nothing is wrong; 1 source, newest backup "));
    status(&project, &["--nagios"]).exits(0);
    project.run(&[&["health_check"], &HERE[..]].concat()).exits(0);
}

#[test]
fn what_needs_a_person_is_shown_whole() {
    let project = with_days(&[7, 8, 9, 10])
        .playbook("rehearse", "step \"Recover\" { write(\"made\", \"x\"); fail(\"no way\"); }")
        .playbook("owing", "ensure { info(\"worked\"); } always { step \"Clean up\" { fail(\"cannot\"); } }")
        .playbook("endless", "step \"Wait\" { write(\"begun\", \"x\"); exec([\"sleep\", \"600\"]); }");
    project.run(&["drill", "rehearse"]).exits(5);
    project.run(&["owing"]);
    let mut endless = project.start(&["endless"]);
    crate::aftermath::wait_for("the run to begin", || project.at("begun").exists());
    let project = project.env("LIFEBOAT_NOW", "2025-11-11T03:00:00+00:00");
    let shown = status(&project, &[]).exits(0).stdout;
    let line = status(&project, &["--nagios"]).exits(2).stdout;
    let json: Value = serde_json::from_str(&status(&project, &["--json"]).exits(0).stdout).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&endless), rustix::process::Signal::TERM)
        .unwrap();
    endless.wait().unwrap();
    expect![[r#"
        CRITICAL: 2 critical, 3 warnings; 1 source, newest backup 25 h 0 min ago
        Problems
          critical  the last drill of rehearse failed, 25 h 0 min ago
                    `lifeboat history --playbook rehearse` tells why; drill it again when that is mended.
          critical  the last run of owing failed 25 h 0 min ago: cannot
                    `lifeboat show LETTERS` tells more; mend it, then `lifeboat resume LETTERS` or run it again.
          warning   tree PROJECT: the newest backup is 25 h 0 min old (limit 24 h 0 min)
                    Make one now, see with `lifeboat history` why none was made, and check the schedule.
          warning   run LETTERS of endless has been going on for 25 h 0 min
                    `lifeboat logs -f LETTERS` tells what it does.
          warning   run LETTERS of owing owes a clean-up
                    `lifeboat resume LETTERS` makes up for it.
        Newest backups
          tree PROJECT  aurora_config_STAMP.tar.gz  25 h 0 min ago  SIZE  verified 25 h 0 min ago  never drilled  0 copies, 0 off-site
        Runs that need you
          LETTERS  owing  25 h 0 min ago  failed (exit 1): cannot (playbooks/owing.rhai:2:55), owes a clean-up  lifeboat resume LETTERS
        Runs of the last 7 days
          backup_config  4 runs  0 failed  100 % completed  25 h 0 min ago
          owing          1 run   1 failed  0 % completed    25 h 0 min ago
        Drills
          rehearse  last drilled 1 day ago: >= TIME, failed
        Disks
          (a disk)
        Kept by restores; `lifeboat cleanup` removes it
          nothing
        Alerts
          no channel is set: nobody is told when something fails; `lifeboat alert test --help` names them
        warning: not looked at: kept databases: no database is named: neither the playbook nor DB_NAME, DATABASE_URL, PGDATABASE or PGSERVICE says which one is meant
    "#]].assert_eq(&steady(&project, &shown));
    let size = json["sources"][0]["newest"]["size"].as_u64().unwrap();
    let line = line.replace(&format!("={size}B"), "=SIZE");
    expect![[r#"
        BACKUP CRITICAL - the last drill of rehearse failed, 25 h 0 min ago (and 4 more) | 'tree PROJECT age'=90000s;86400;172800;0 'tree PROJECT size'=SIZE;;;0 'backups/database backups/config free'=N%;0:;;0;100 'failures'=1;;;0
    "#]].assert_eq(&steady(&project, &line));
    let mut source = json["sources"][0].clone();
    for part in ["copies", "identity", "verified"] {
        source[part].take();
    }
    for part in ["created", "size"] {
        source["newest"][part].take();
        source["tags"][0]["newest"][part].take();
    }
    for part in ["millis", "usual_millis", "usual_size", "verified"] {
        assert!(source["tags"][0][part].take() != Value::Null, "{part}");
    }
    let source = serde_json::to_string_pretty(&source).unwrap();
    expect![[r#"
        {
          "backups": 4,
          "copies": null,
          "damaged": [],
          "drilled": null,
          "identity": null,
          "newest": {
            "age": 90000,
            "created": null,
            "folder": "backups/config",
            "name": "aurora_config_STAMP.tar.gz",
            "size": null,
            "verified": true
          },
          "source": "tree PROJECT",
          "status": "warning",
          "superseded": false,
          "tags": [
            {
              "backups": 4,
              "drilled": null,
              "millis": null,
              "newest": {
                "age": 90000,
                "created": null,
                "folder": "backups/config",
                "name": "aurora_config_STAMP.tar.gz",
                "size": null,
                "verified": true
              },
              "tag": "daily",
              "usual_millis": null,
              "usual_size": null,
              "verified": null
            }
          ],
          "verified": null
        }
    "#]]
    .assert_eq(&steady(&project, &source));
}

/// A text without what differs from machine to machine and from run to run.
fn steady(project: &TestProject, text: &str) -> String {
    let mut text = project.steady(text);
    for run in project.names(".lifeboat/runs") {
        let letters = run.rsplit('-').next().unwrap();
        text = text.replace(letters, "LETTERS");
    }
    let line = |line: &str| match line {
        _ if line.contains(" % free ") => "  (a disk)".to_owned(),
        _ => match line.split_once(" free'=") {
            Some((before, after)) => format!("{before} free'=N%{}", after.split_once('%').unwrap().1),
            None => line.to_owned(),
        },
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn what_is_accepted_is_said_once_for_all() {
    let project = with_days(&[10]).file(
        ".env",
        "BACKUP_COPIES=0\nBACKUP_STORAGE_TYPES=0\nBACKUP_OFFSITE_COPIES=0\nBACKUP_MAX_AGE=8d\nBACKUP_VERIFY_AGE=30d\n",
    );
    let project = project.env("LIFEBOAT_NOW", "2025-11-17T02:00:00+00:00");
    project.run(&["status", "--check", "--min-free", "0"]).exits(0);
    project.run(&["health_check", "--min-free", "0"]).exits(0).says("nothing is wrong");
    let metrics = project.run(&["status", "--prometheus"]).exits(0).stdout;
    assert!(!metrics.contains("lifeboat_health_findings{severity=\"critical\"} 1"), "{metrics}");
    project.run(&["status", "--check", "--min-free", "0", "--max-age", "3d"]).exits(1);
    let project = project.env("BACKUP_MAX_AGE", "a week");
    let ran = project.run(&["status"]).exits(2);
    expect![[r#"
        error: BACKUP_MAX_AGE is not a duration
        hint: Set BACKUP_MAX_AGE to a duration such as `36h` or `7d`, or remove it: then it is 24 h 0 min.
    "#]]
    .assert_eq(&ran.stderr);
    project.run(&["status", "--nagios"]).exits(3).says("");
    let project = project.env("BACKUP_MAX_AGE", "").env("BACKUP_COPIES", "many");
    project.run(&["status"]).exits(2).says("error: BACKUP_COPIES is not a number");
}
