//! What a drill leaves: its record, the alert of one that failed, and nothing else, however it ends.

use super::{backed_up, nothing_is_left, shop, told, verdict};
use crate::aftermath::{nobody_survives, wait_for};
use crate::project::TestProject;
use crate::receiver::Receiver;
use expect_test::expect;
use lifeboat::journal::drills;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn the_verdict_is_the_documented_contract() {
    let database = shop();
    let project = backed_up(&database);
    let ran = project.run(&["--json", "drill", "backup_database"]).exits(0);
    let mut verdict = verdict(&ran);
    steady(&mut verdict);
    let text = serde_json::to_string_pretty(&verdict).unwrap() + "\n";
    expect![[r#"
        {
          "announced": {
            "message": "Backed up shop: shop_db_STAMP.sql.gz, SIZE",
            "status": "success",
            "timestamp": "TIME"
          },
          "at_least": false,
          "data": [
            {
              "age_millis": "MILLIS",
              "backup": "shop_db_STAMP.sql.gz",
              "by_playbook": false,
              "database": "shop",
              "recovery_point": "TIME",
              "rows": 100,
              "tables": 1
            }
          ],
          "doubts": [],
          "event": "drilled",
          "millis": "MILLIS",
          "not_rehearsed": [],
          "notes": [
            "the copy of the project went without logs"
          ],
          "objectives": [
            {
              "binding": false,
              "limit_millis": 1800000,
              "met": true,
              "name": "recovery time",
              "reached_millis": "MILLIS"
            },
            {
              "binding": false,
              "limit_millis": 3600000,
              "met": true,
              "name": "recovery point",
              "reached_millis": "MILLIS"
            }
          ],
          "ran": [],
          "reasons": [],
          "result": "passed",
          "sandbox_millis": "MILLIS",
          "servers": [
            {
              "original": "VERSION",
              "server": "SERVER",
              "version": "VERSION"
            }
          ],
          "start": "latest",
          "steps": [
            {
              "millis": "MILLIS",
              "outcome": "done",
              "step": "Pre-flight checks"
            },
            {
              "millis": "MILLIS",
              "outcome": "done",
              "step": "Dump"
            },
            {
              "millis": "MILLIS",
              "outcome": "done",
              "step": "Verify"
            },
            {
              "millis": "MILLIS",
              "outcome": "done",
              "step": "Rotate"
            },
            {
              "millis": "MILLIS",
              "outcome": "done",
              "step": "Report"
            }
          ]
        }
    "#]]
    .assert_eq(&told(&project, &database, &text));
    let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["what"]["event"], &last["what"]["exit"]), (&"run_ended".into(), &"success".into()));
}

/// Replaces times and counts of milliseconds.
fn steady(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(steady),
        Value::Object(map) => {
            for (name, value) in map {
                match name.as_str() {
                    name if name.ends_with("millis") && name != "limit_millis" => *value = "MILLIS".into(),
                    "timestamp" | "recovery_point" => *value = "TIME".into(),
                    _ => steady(value),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_newest_drill_is_evidence_for_history_and_dry_run() {
    let database = shop();
    let project = backed_up(&database);
    project.run(&["drill", "backup_database"]).exits(0);
    let name = project.only("backups/database", ".sql.gz.json");
    let manifest: Value = serde_json::from_str(
        &std::fs::read_to_string(project.at(format!("backups/database/{name}"))).unwrap(),
    )
    .unwrap();
    let state = project.at(".lifeboat");
    let kept = drills::newest(&state, "backup_database").unwrap();
    assert_eq!(manifest["drilled"]["run"], kept.run.as_str());
    let history = project.run(&["history"]).exits(0).stdout;
    let line = history.lines().find(|line| line.contains("(drill)")).unwrap();
    assert!(line.contains("backup_database (drill)") && line.contains("passed, "), "{history}");
    // It is not forgotten with the records of runs.
    std::fs::remove_dir_all(state.join("runs")).unwrap();
    let later = (chrono::Utc::now() + chrono::Duration::days(3) + chrono::Duration::hours(1)).to_rfc3339();
    let project = project.env("LIFEBOAT_NOW", later);
    let plan = project.run(&["backup_database", "--dry-run"]).exits(0).stdout;
    let line = plan.lines().find(|line| line.starts_with("drill: last drilled ")).unwrap();
    assert!(line.starts_with("drill: last drilled 3 days ago: ") && line.ends_with(", passed"), "{line}");
    assert_eq!(drills::all(&state).unwrap(), [kept]);
}

#[test]
fn evidence_tells_the_parameters_without_secrets() {
    let text = r#"
const PLAYBOOK = #{ summary: "A test", params: #{
    word: #{ default_value: "x", help: "x" }, url: #{ default_value: "x", help: "x" }, n: 3,
    token: #{ secret: true, required: true, env: "THE_TOKEN", help: "x" },
} };
step "Go" { write("report.txt", params.word); }
"#;
    let project = TestProject::new().playbook("work", text).env("THE_TOKEN", "seven77");
    project.run(&["drill", "work", "--word", "hello", "--url", "http://a:seven77@b"]).exits(0);
    let kept = std::fs::read_to_string(
        project.at(".lifeboat/drills").join(project.only(".lifeboat/drills", ".json")),
    )
    .unwrap();
    assert!(!kept.contains("seven77"), "{kept}");
    let told = r#"; with word = "hello", url = "http://a:***@b", token = "***""#;
    for args in [&["status"][..], &["work", "--dry-run"]] {
        let shown = project.run(args).exits(0).stdout;
        assert!(shown.contains(told), "{shown}");
    }
    let status: Value = serde_json::from_str(&project.run(&["status", "--json"]).exits(0).stdout).unwrap();
    let params = serde_json::json!({ "word": "hello", "url": "http://a:***@b", "n": 3, "token": "***" });
    assert_eq!(status["drills"][0]["params"], params);
}

#[test]
fn only_a_drill_that_fails_sends_an_alert() {
    let database = shop();
    let receiver = Receiver::new();
    let project = backed_up(&database)
        .env("BACKUP_WEBHOOK_URL", receiver.url())
        .playbook("broken", r#"step "Break" { fail("it broke"); }"#);
    project.run(&["drill", "backup_database"]).exits(0);
    assert_eq!(receiver.bodies(), [Value::Null; 0]);
    project.run(&["drill", "broken"]).exits(5);
    let messages = receiver.messages("");
    assert_eq!(messages, ["drill of broken failed in step `Break`: it broke"]);
}

/// A project whose drill goes on until it is ended.
fn endless() -> TestProject {
    TestProject::new().playbook(
        "work",
        r#"const PLAYBOOK = #{ summary: "Work", drill: #{ run: ["sh"] } };
        step "Work" { exec(["sh", "-c", "echo begun >begun; sleep 600"]); }"#,
    )
}

fn begun(project: &TestProject) -> bool {
    let runs = project.names(".lifeboat/sandboxes");
    runs.iter().any(|run| project.at(format!(".lifeboat/sandboxes/{run}/project/begun")).exists())
}

#[test]
fn an_interrupted_drill_cleans_up_and_proves_nothing() {
    let project = endless();
    let mut child = project.start(&["drill", "work"]);
    wait_for("the work", || begun(&project));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    nothing_is_left(&project);
    nobody_survives(&project);
    assert!(drills::newest(&project.at(".lifeboat"), "work").is_none());
}

#[test]
fn what_a_killed_drill_leaves_goes_with_the_next() {
    let receiver = Receiver::new();
    let project = endless()
        .env("BACKUP_WEBHOOK_URL", receiver.url())
        .file("a.txt", "a")
        .playbook("quick", r#"step "Pack" { gzip("a.txt"); }"#);
    let mut child = project.start(&["drill", "work"]);
    wait_for("the work", || begun(&project));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(project.names(".lifeboat/sandboxes").len(), 2);
    let history = project.run(&["history"]).exits(0).stdout;
    assert!(
        history.lines().any(|line| line.contains("work (drill)") && line.ends_with("killed")),
        "{history}"
    );
    project.run(&["drill", "quick"]).exits(0);
    nothing_is_left(&project);
    assert_eq!(receiver.messages("was killed").len(), 1);
    assert!(receiver.messages("drill of work was killed").len() == 1, "{:?}", receiver.bodies());
}

#[test]
fn a_drill_is_no_dry_run() {
    let project = endless();
    let ran = project.run(&["drill", "work", "--dry-run"]).exits(2);
    expect![[r#"
        error: a drill cannot be a dry run
        hint: `lifeboat run work --dry-run` shows what the playbook would do; a drill does it, in a sandbox.
    "#]]
    .assert_eq(&ran.stderr);
}

#[test]
fn a_mistake_of_the_command_line_is_no_drill() {
    let database = shop();
    let receiver = Receiver::new();
    let project = backed_up(&database).env("BACKUP_WEBHOOK_URL", receiver.url());
    project.run(&["drill", "restore"]).exits(2).says("error: there is nothing to restore\n");
    project.run(&["drill", "restore", "--list"]).exits(2).says(
        "error: nothing was rehearsed: no action was carried out\n\
         hint: Give the parameters with which the playbook does something.\n",
    );
    for words in [["rollback", "latest"], ["cleanup", "--all"]] {
        let calls = if words[0] == "rollback" { "rollback" } else { "kept_files" };
        let ran = project.run(&["drill", words[0], words[1]]).exits(2);
        assert_eq!(
            ran.stderr,
            format!(
                "error: `{0}` cannot be drilled: it calls `{calls}`\n\
                 caused by: it works on what earlier runs have kept, and a sandbox has no earlier runs\n\
                 hint: See what it would do: `lifeboat run {0} --dry-run`.\n",
                words[0]
            )
        );
    }
    assert_eq!(receiver.bodies(), [Value::Null; 0]);
    assert_eq!(drills::all(&project.at(".lifeboat")).unwrap(), []);
}

#[test]
fn a_drill_that_could_not_begin_is_kept_as_failed() {
    let project = TestProject::new().playbook("pack", r#"step "Pack" { gzip("lifeboat.toml"); }"#);
    project.run(&["drill", "pack"]).exits(0);
    std::fs::File::create(project.at("huge.img")).unwrap().set_len(1 << 43).unwrap();
    project.run(&["drill", "pack"]).exits(5);
    let kept = drills::newest(&project.at(".lifeboat"), "pack").unwrap();
    assert_eq!(kept.verdict.result, lifeboat::base::drill::Passed::Failed);
    assert!(kept.verdict.reasons[0].contains("there is no room for a scratch copy"), "{kept:?}");
}

#[test]
fn a_drill_that_did_nothing_hides_no_better_one() {
    let project = TestProject::new().playbook("work", r#"step "Pack" { gzip("lifeboat.toml"); }"#);
    project.run(&["drill", "work"]).exits(0);
    let proved = drills::newest(&project.at(".lifeboat"), "work").unwrap();
    let project = project.playbook("work", r#"step "Stop" { exec(["touch", "x"]); }"#);
    project.run(&["drill", "work"]).exits(5);
    assert_eq!(drills::newest(&project.at(".lifeboat"), "work").unwrap(), proved);
}
