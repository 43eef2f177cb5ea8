//! The `maintenance` playbook, with the clock moving over a year; and what outlives the records that it reads.

use crate::cluster::sample_database;
use crate::project::{Ran, TestProject};
use crate::receiver::Receiver;
use chrono::DateTime;
use lifeboat::base::drill::{DrillRecord, Passed, Start, Verdict};
use lifeboat::base::failure::Exit;
use lifeboat::base::ids::RunId;
use lifeboat::journal::drills;
use serde_json::Value;

const ALL: [&str; 6] = [
    "Verify backups",
    "Test restore",
    "Review logs",
    "Full recovery test",
    "Update documentation",
    "Review retention policy",
];

/// The project at a time.
fn at(project: TestProject, time: &str) -> TestProject {
    project.env("LIFEBOAT_NOW", time)
}

/// The value that a run ended with.
fn value(ran: &Ran) -> Value {
    let ends = |line: &&str| line.contains("\"run_ended\"");
    let line = ran.stdout.lines().rfind(ends).unwrap_or_else(|| panic!("{ran:?}"));
    let event: Value = serde_json::from_str(line).unwrap();
    event["what"]["value"].clone()
}

/// Names of the tasks that are due.
fn due(value: &Value) -> Vec<String> {
    let tasks = value.as_array().unwrap_or_else(|| panic!("{value}"));
    let due = tasks.iter().filter(|task| task["due"] == true);
    due.map(|task| task["name"].as_str().unwrap().to_owned()).collect()
}

/// What is due by the list, which changes nothing.
#[track_caller]
fn listed(project: &TestProject) -> Vec<String> {
    due(&value(&project.run(&["maintenance", "--list", "--json"]).exits(0)))
}

/// Notes the newest drill of `full_recovery`, as a drill does.
fn drilled(project: &TestProject, time: &str, result: Passed) {
    let began = DateTime::parse_from_rfc3339(time).unwrap();
    let run = RunId::parse(&began.format("%Y%m%d-%H%M%S-abcdef").to_string()).unwrap();
    let verdict = Verdict {
        result,
        reasons: vec![],
        start: Start::Empty,
        millis: 90_000,
        at_least: result == Passed::PassedInPart,
        sandbox_millis: 0,
        steps: vec![],
        not_rehearsed: vec![],
        ran: vec![],
        doubts: vec![],
        servers: vec![],
        data: vec![],
        objectives: vec![],
        announced: None,
        notes: vec![],
    };
    let exit = if result == Passed::Failed { Exit::Drill } else { Exit::Success };
    let record = DrillRecord::new(&run, "full_recovery", began, exit, verdict);
    drills::keep(&project.at(".lifeboat"), &record).unwrap();
}

fn configured() -> TestProject {
    let project = at(TestProject::new().file("app.yml", "name: shop\n"), "2025-11-10T02:00:00Z");
    project.run(&["backup_config", "--include", "app.yml"]).exits(0);
    project
}

#[test]
fn what_is_due_over_a_year_is_told_by_days() {
    // A database that is named wants its test, though nothing here asks it.
    let mut project = configured().env("DB_NAME", "shop");
    assert_eq!(listed(&project), ALL);
    // Machine and people do everything once.
    project = at(project, "2025-11-10T06:30:00Z");
    for task in ["verify backups", "Review logs"] {
        project.run(&["maintenance", "--only", task]).exits(0);
    }
    for task in ["Test restore", "full recovery test", "Update documentation", "Review retention policy"] {
        project.run(&["maintenance", "--done", task]).exits(0).says(" is done: noted by a person");
    }
    assert_eq!(listed(&project), [""; 0]);
    // The records of these runs are not needed to know it.
    std::fs::remove_dir_all(project.at(".lifeboat/runs")).unwrap();
    for (time, expected) in [
        ("2025-11-10T23:59:59Z", &[][..]),
        // A minute earlier than the day before.
        ("2025-11-11T06:29:00Z", &["Verify backups"]),
        ("2025-11-16T23:00:00Z", &["Verify backups"]),
        ("2025-11-17T00:00:00Z", &["Verify backups", "Test restore", "Review logs"]),
        ("2025-12-09T12:00:00Z", &["Verify backups", "Test restore", "Review logs"]),
        ("2025-12-10T12:00:00Z", &["Verify backups", "Test restore", "Review logs", "Full recovery test"]),
        ("2026-02-10T12:00:00Z", &ALL[..5]),
        ("2026-11-09T12:00:00Z", &ALL[..5]),
        ("2026-11-10T12:00:00Z", &ALL),
        // A clock that went back: what is yet to come is not believed.
        ("2025-11-09T12:00:00Z", &ALL),
    ] {
        project = at(project, time);
        assert_eq!(listed(&project), expected, "{time}");
    }
    // A month that has no 31st ends on its last day.
    project = at(project, "2026-12-31T12:00:00Z");
    project.run(&["maintenance", "--done", "Full recovery test"]).exits(0);
    project = at(project, "2027-01-30T12:00:00Z");
    assert!(!listed(&project).contains(&"Full recovery test".to_owned()));
    project = at(project, "2027-01-31T12:00:00Z");
    project.run(&["maintenance", "--done", "Full recovery test"]).exits(0);
    project = at(project, "2027-02-27T12:00:00Z");
    assert!(!listed(&project).contains(&"Full recovery test".to_owned()));
    project = at(project, "2027-02-28T12:00:00Z");
    assert!(listed(&project).contains(&"Full recovery test".to_owned()));
}

#[test]
fn a_passed_drill_is_the_full_recovery_test() {
    let mut project = at(configured(), "2025-12-01T12:00:00Z");
    let is_due = |project: &TestProject| listed(project).contains(&"Full recovery test".to_owned());
    for (drill, result, expected) in [
        ("2025-10-30T12:00:00Z", Passed::Passed, true),
        ("2025-11-02T12:00:00Z", Passed::Passed, false),
        ("2025-11-30T12:00:00Z", Passed::PassedInPart, false),
        ("2025-11-30T13:00:00Z", Passed::Failed, true),
        ("2026-11-30T13:00:00Z", Passed::Passed, true),
    ] {
        drilled(&project, drill, result);
        assert_eq!(is_due(&project), expected, "{drill} {result:?}");
    }
    drilled(&project, "2025-11-30T12:00:00Z", Passed::PassedInPart);
    project = at(project, "2025-12-29T12:00:00Z");
    let shown = project.run(&["maintenance", "--list"]).exits(0);
    let shown = shown.says("done 2025-11-30  due 2025-12-30  (drilled: >= 1 min 30 s, passed in part)");
    assert!(!shown.stderr.contains("Full recovery test is due"), "{shown:?}");
}

#[test]
fn the_machine_does_its_tasks_and_reminds_of_the_others() {
    let source = sample_database("maintained");
    let receiver = Receiver::new();
    let mut project = at(TestProject::new().database(&source), "2025-11-10T02:00:00Z")
        .file("app.yml", "name: shop\n")
        .env("BACKUP_WEBHOOK_URL", receiver.url())
        .playbook("noisy", "step \"Say\" { for n in 0..3 { warn(`the disk is ${90 + n} % full`); } }");
    project.run(&["backup_all", "--include", "app.yml"]).exits(0);
    project.run(&["noisy"]).exits(3);
    project = at(project, "2025-11-10T06:30:00Z");

    let before = project.tree(&[".lifeboat", "logs"]);
    let plan = project.run(&["maintenance", "--dry-run"]).exits(4).stdout;
    for text in ["verify: verify `backups/database/", "restore", "would note that Review logs is done"] {
        assert!(plan.contains(text), "{text}\n{plan}");
    }
    assert!(project.tree(&[".lifeboat", "logs"]) == before, "a dry run changes nothing");
    assert_eq!(listed(&project), ALL);
    // Nor does a drill note anything, though it does all of it.
    project.run(&["drill", "maintenance"]).exits(0);
    assert_eq!(listed(&project), ALL);

    let ran = project.run(&["maintenance"]).exits(0);
    for text in [
        "Verify backups is done: 2 backups are intact\n",
        "Test restore is done: ",
        "3 x warning: the disk is 92 % full  (last 2025-11-10 02:00:00)\n",
        "Review logs is done: 0 errors, 4 warnings\n",
        "✔ Verify backups           daily      Automated   done 2025-11-10  due 2025-11-11  (2 backups are intact)\n",
        "! Update documentation     quarterly  Team        never done       DUE\n",
        "Team: Full recovery test is due. Run: lifeboat drill full_recovery; it counts when it passes\n",
        "Management: Review retention policy is due. Compare lifeboat backups with what must be kept; \
         then: lifeboat maintenance --done \"Review retention policy\"\n",
    ] {
        assert!(ran.stderr.contains(text), "{text}\n{}", ran.stderr);
    }
    assert_eq!(project.names("reports/restore-tests").len(), 2);
    let people = "due for people: Full recovery test (Team), Update documentation (Team), Review retention policy (Management)";
    assert_eq!(
        receiver.messages("Maintenance"),
        [format!("Maintenance done: Verify backups, Test restore, Review logs; {people}")]
    );
    assert_eq!(listed(&project), ALL[3..]);

    // Once more on the same day there is nothing left for the machine.
    let ran = project.run(&["maintenance"]).exits(0);
    assert!(!ran.stderr.contains("verify: "), "{}", ran.stderr);
    assert_eq!(receiver.messages("nothing was due for the machine").len(), 1);

    // What other playbooks did counts, and a single backup that was verified does not.
    project = at(project, "2025-11-17T06:00:00Z");
    let backup = format!("backups/database/{}", project.only("backups/database", ".sql.gz"));
    project.run(&["verify_backups", &backup]).exits(0);
    assert_eq!(listed(&project)[..2], ["Verify backups", "Test restore"]);
    project.run(&["verify_backups"]).exits(0);
    project.run(&["restore_test", "--no-tests"]).exits(0);
    assert_eq!(listed(&project), ALL[2..]);

    // The next review tells only what came since.
    let ran = project.run(&["maintenance"]).exits(0);
    assert!(ran.stderr.contains("Review logs is done: 0 errors, 0 warnings\n"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("% full"), "{}", ran.stderr);
}

#[test]
fn a_damaged_backup_fails_with_12_and_the_rest_is_done() {
    let receiver = Receiver::new();
    let project = configured().env("BACKUP_WEBHOOK_URL", receiver.url());
    let project = project.file(
        "stdlib/maintenance.rhai",
        &include_str!("../../stdlib/maintenance.rhai").replace(
            "#{ name: \"Test restore\", frequency: \"weekly\"",
            "#{ name: \"Renew certificates\", frequency: \"annually\"",
        ),
    );
    let path = project.at("backups/config").join(project.only("backups/config", ".tar.gz"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ran = project.run(&["maintenance"]).exits(12);
    let ran = ran.says("maintenance failed: Verify backups: 1 of 1 backups are not intact");
    let ran = ran.says("✘ Verify backups ").says("✔ Review logs ");
    // A task of the project's own, which a person does.
    ran.says("DevOps: Renew certificates is due.");
    assert_eq!(receiver.messages("maintenance failed: Verify backups").len(), 1);
    assert_eq!(listed(&project)[..2], ["Verify backups", "Renew certificates"]);
}

#[test]
fn wrong_words_are_told() {
    let project = configured();
    let ran = project.run(&["maintenance", "--only", "Water the plants"]).exits(2);
    let ran = ran.says("error: there is no task \"Water the plants\"\n");
    ran.says("hint: The tasks are: Verify backups, Test restore, Review logs, Full recovery test, ");
    project.run(&["maintenance", "--done", "x", "--only", "y"]).exits(2).says("contradict each other");
    project.run(&["maintenance", "--done", "nothing of the kind"]).exits(2);
    assert_eq!(project.names(".lifeboat/tasks"), [""; 0]);
    let playbook = "step \"A\" { task_done(\" \", \"x\"); }";
    let project = project.playbook("nameless", playbook).playbook("odd", "logged_problems(7);");
    project.run(&["nameless"]).exits(1).says("error: a task without a name cannot be noted\n");
    project.run(&["odd"]).exits(1).says("error: `7` is not a time\n");
}

#[test]
fn what_cannot_be_noted_fails() {
    let project = configured().file(".lifeboat/tasks", "in the way");
    let ran = project.run(&["maintenance", "--done", "Update documentation"]).exits(1);
    ran.says("error: cannot note that `Update documentation` is done\n");
}

/// Logs and records at a time long after.
#[test]
fn old_logs_and_records_go_on_the_way_of_a_live_run() {
    let work = "step \"Work\" { info(\"done\"); }";
    let fails = "step \"Work\" { fail(\"it does not work\"); }";
    let mut project = at(TestProject::new(), "2024-01-10T02:00:00Z");
    project = project.playbook("yearly", work).playbook("work", work).playbook("fails", fails);
    project.run(&["yearly"]).exits(0);
    project.run(&["work"]).exits(0);
    project.run(&["fails"]).exits(1);
    // The newest hundred stay, whatever their age.
    for n in 0..100 {
        let name = format!("20240211-{:02}{:02}00-abcdef", n / 60, n % 60);
        copy_run(&project, "work", &name);
    }
    project = at(project, "2024-02-12T02:00:00Z");
    let ran = project.run(&["work"]).exits(0);
    assert!(ran.stderr.contains("removed the old log backup-20240110.log\n"), "{}", ran.stderr);
    assert_eq!(project.names("logs"), ["backup-20240212.log"]);
    let runs = |project: &TestProject| project.names(".lifeboat/runs").len();
    assert_eq!(runs(&project), 104);

    // A dry run removes nothing.
    project = at(project, "2026-01-10T02:00:00Z");
    project.run(&["work", "--dry-run"]).exits(0);
    assert_eq!((runs(&project), project.names("logs").len()), (104, 1));
    let ran = project.run(&["work"]).exits(0);
    let told = "is removed after 400 days: `fails` had not succeeded, and cannot be resumed any more\n";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    // The oldest is the only success of its playbook; the newest hundred; and the one that ran.
    assert_eq!(runs(&project), 102);
    assert!(project.names(".lifeboat/runs")[0].starts_with("20240110-020000-"));
    assert!(project.at(".lifeboat/successes/yearly.json").exists());
}

/// A run on record once more, under another name.
fn copy_run(project: &TestProject, playbook: &str, name: &str) {
    let runs = project.names(".lifeboat/runs");
    let of = |run: &String| {
        let about = std::fs::read_to_string(project.at(".lifeboat/runs").join(run).join("run.json")).unwrap();
        about.contains(&format!("\"playbook\": \"{playbook}\""))
    };
    let run = runs.iter().find(|run| of(run)).unwrap();
    project.stock(".lifeboat/runs", "cp", &["-r", run, name]);
}

#[test]
fn settings_of_retention_count_and_wrong_ones_warn() {
    let mut project = at(TestProject::new(), "2025-11-01T02:00:00Z").playbook("work", "step \"Work\" { }");
    project.run(&["work"]).exits(0);
    project = at(project, "2025-11-10T02:00:00Z").env("LIFEBOAT_LOG_DAYS", "9");
    project.run(&["work"]).exits(0);
    assert_eq!(project.names("logs"), ["backup-20251101.log", "backup-20251110.log"]);
    project = project.env("LIFEBOAT_LOG_DAYS", "8");
    project.run(&["work"]).exits(0).says("removed the old log backup-20251101.log\n");
    for wrong in ["0", "a week", "-1", "36501"] {
        project = project.env("LIFEBOAT_LOG_DAYS", wrong).env("LIFEBOAT_JOURNAL_DAYS", wrong);
        let ran = project.run(&["work"]).exits(3);
        for (name, usual) in [("LIFEBOAT_LOG_DAYS", 30), ("LIFEBOAT_JOURNAL_DAYS", 400)] {
            let told =
                format!("`{name}` is no number of days from 1 to 36500, so {usual} are kept: `{wrong}`\n");
            assert!(ran.stderr.contains(&told), "{told}\n{}", ran.stderr);
        }
    }
}

#[test]
fn a_project_without_a_database_has_no_restore_to_test() {
    let receiver = Receiver::new();
    let project = at(configured(), "2025-11-10T06:30:00Z").env("BACKUP_WEBHOOK_URL", receiver.url());
    let ran = project.run(&["maintenance"]).exits(0);
    let told = "- Test restore             weekly     DevOps      never done       not due  (nothing to do: there never was a \
                backup of a database)\n";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert_eq!(receiver.messages("Maintenance done: Verify backups, Review logs; due for people: ").len(), 1);
    assert_eq!(listed(&project), ALL[3..]);
    // Whoever asks for it gets it.
    project
        .run(&["maintenance", "--only", "Test restore"])
        .exits(1)
        .says("there is no backup in backups/database");
    // A database that is named must have been backed up, and so must one that had a backup.
    let project = project.env("DB_NAME", "shop");
    project.run(&["maintenance"]).exits(1).says("there is no backup of shop in backups/database");
    let project = project.env("DB_NAME", "");
    project.run(&["maintenance", "--done", "Test restore"]).exits(0);
    let project = at(project, "2025-11-18T06:30:00Z");
    project.run(&["maintenance"]).exits(1).says("Test restore: ");
}
