//! What playbooks ask of files and say into them: `inspect`, `exists`, `write`, `json`, `reread_env`.

use crate::project::TestProject;

const HEADER: &str = "const PLAYBOOK = #{ summary: \"Try words\" };\n";

fn project(body: &str) -> TestProject {
    TestProject::new().playbook("try", &format!("{HEADER}{body}"))
}

#[test]
fn a_report_is_written_whole_and_replaced() {
    let project = project(
        r##"step "Report" {
            write("reports/today.md", "# Today\n");
            write("reports/today.json", json(#{ size: bytes("2 KiB"), took: duration("90s"), done: true, list: [1, ()] }));
        }"##,
    );
    let plan = project.run(&["try", "--dry-run"]).exits(0);
    assert!(plan.stdout.contains("write `reports/today.md`"), "{}", plan.stdout);
    assert!(!project.at("reports").exists());
    for _ in 0..2 {
        project.run(&["try"]).exits(0);
        assert_eq!(std::fs::read_to_string(project.at("reports/today.md")).unwrap(), "# Today\n");
        let json = std::fs::read_to_string(project.at("reports/today.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json, serde_json::json!({ "size": 2048, "took": 90.0, "done": true, "list": [1, null] }));
    }
}

#[test]
fn a_file_that_will_be_written_is_there_in_a_dry_run() {
    let project = project(
        r#"step "A" { write("a.txt", "x"); }
           step "B" { expect(exists("a.txt") && !exists("b.txt"), "a is there, and b is not"); }"#,
    );
    project.run(&["try", "--dry-run"]).exits(0);
    assert!(!project.at("a.txt").exists());
    project.run(&["try"]).exits(0);
}

#[test]
fn a_value_that_json_does_not_know_is_named() {
    let project = project(r#"step "A" { write("a.json", json(|x| x)); }"#);
    project
        .run(&["try"])
        .exits(1)
        .says("error: a value of type `closure` has no form in JSON\n")
        .says("hint: Give `json` maps, arrays, texts, numbers, sizes, durations, times and backups.\n");
    assert!(!project.at("a.json").exists());
}

#[test]
fn the_environment_is_read_again() {
    let project = project(
        r#"let before = env("SITE");
           step "Restore" { write(".restored", "x"); exec(["sh", "-c", "echo SITE=new > .env"]); }
           let changed = reread_env();
           info(`before ${before}, after ${env("SITE")}, changed ${join(changed, " ")}`);"#,
    );
    std::fs::write(project.at(".env"), "SITE=old\n").unwrap();
    project.run(&["try"]).exits(0).says("before old, after new, changed SITE");
}

#[test]
fn a_dry_run_says_that_the_environment_may_be_another() {
    let project = project(
        r#"step "Restore" { exec(["sh", "-c", "echo SITE=new > .env"]); }
           let changed = reread_env();
           info(`still ${env("SITE")}`);"#,
    );
    std::fs::write(project.at(".env"), "SITE=old\n").unwrap();
    let plan = project.run(&["try", "--dry-run"]).exits(4);
    assert!(plan.stdout.contains("`.env` will have been restored"), "{}", plan.stdout);
}

#[test]
fn a_backup_is_inspected_in_a_dry_run_too() {
    let project = project(
        r#"for backup in backups("backups") {
               let found = inspect(backup);
               info(`${found.name}: ${found.intact} ${join(found.entries, " ")} ${join(found.problems, "; ")}`);
           }"#,
    );
    let project = project.playbook(
        "make",
        "const PLAYBOOK = #{ summary: \"Make\" };\nstep \"A\" { archive(\"tree\").gzip().save(\"backups/a.tar.gz\"); }",
    );
    std::fs::create_dir(project.at("tree")).unwrap();
    std::fs::write(project.at("tree/package.json"), "{}").unwrap();
    project.run(&["make"]).exits(0);
    let said = |text: &str| {
        let plan = project.run(&["try", "--dry-run"]).exits(0);
        assert!(plan.stdout.contains(text), "{}", plan.stdout);
    };
    said("a.tar.gz: true package.json");
    let path = project.at("backups/a.tar.gz");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    said("a.tar.gz: false  a.tar.gz ");
}

#[test]
fn measures_that_stand_literally_are_checked_before_the_run() {
    let project = TestProject::new().playbook(
        "measures",
        r#"let wait = duration("5 parsecs");
           let size = bytes("12 cubits");
           retry(3, "a while", || info("x"));
           info(`${duration("5m")} ${bytes("1.5M")}`);"#,
    );
    let ran = project.run(&["measures"]).exits(2);
    expect_test::expect![[r#"
        error: `5 parsecs` is not a duration
          ——▶ playbooks/measures.rhai:2:21
          │
        N │ let wait = duration("5 parsecs");
          │                     ^
        hint: Write it as `"30s"`, `"5m"`, `"2h"` or `"7d"`, or as a number of seconds.

        error: `12 cubits` is not a size
          ——▶ playbooks/measures.rhai:3:29
          │
        N │            let size = bytes("12 cubits");
          │                             ^
        hint: Write it as `"500"`, `"10GiB"`, `"10GB"` or `"1.5M"`.

        error: `a while` is not a duration
          ——▶ playbooks/measures.rhai:4:21
          │
        N │            retry(3, "a while", || info("x"));
          │                     ^
        hint: Write it as `"30s"`, `"5m"`, `"2h"` or `"7d"`, or as a number of seconds.

    "#]]
    .assert_eq(&project.steady(&ran.stderr));
}
