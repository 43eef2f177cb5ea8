//! The playbooks that come with Lifeboat, each of them drilled.

use super::{back_up, backed_up, nothing_is_left, production, shop, verdict};
use crate::project::TestProject;
use serde_json::Value;
use std::path::Path;

/// Result, reasons, and what was not rehearsed.
fn found(verdict: &Value) -> (String, Vec<String>, Vec<String>) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    (
        text(&verdict["result"]),
        list(&verdict["reasons"]).iter().map(text).collect(),
        list(&verdict["not_rehearsed"]).iter().map(|one| text(&one["what"])).collect(),
    )
}

#[test]
fn backups_in_memory_are_rehearsed_and_not_removed() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return;
    }
    let database = shop();
    let elsewhere = tempfile::tempdir_in(memory).unwrap();
    let dir = elsewhere.path().join("backups");
    let project = TestProject::new().database(&database).env("BACKUP_DIR", dir.display().to_string());
    back_up(&project);
    back_up(&project);
    let names = || {
        let entries = std::fs::read_dir(&dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let ran = project.run(&["--json", "drill", "rotate_backups", "--keep-last", "1"]);
    assert_eq!(names(), before);
    assert_eq!(found(&verdict(&ran)), ("passed".to_owned(), vec![], vec![]));
    let ran = project.run(&["--json", "drill", "backup_database"]);
    assert_eq!(names(), before);
    assert_eq!(found(&verdict(&ran)), ("passed".to_owned(), vec![], vec![]));
}

#[test]
fn what_is_restored_can_be_drilled() {
    let database = shop();
    let project = backed_up(&database);
    let ran = project.run(&["--json", "drill", "restore", "--database", "--latest"]).exits(0);
    let verdict = verdict(&ran);
    assert_eq!(found(&verdict), ("passed".to_owned(), vec![], vec![]));
    let by_playbook = |data: &Value| data["by_playbook"].as_bool().unwrap();
    let data: Vec<bool> = verdict["data"].as_array().unwrap().iter().map(by_playbook).collect();
    assert_eq!(data, [false, true]);
}

#[test]
fn every_playbook_that_can_be_drilled_passes() {
    let database = shop();
    let project = backed_up(&database).file("app.yml", "name: shop\n").file(".env", "GREETING=hello\n");
    project.run(&["backup_config", "--include", ".env", "--include", "app.yml"]).exits(0);
    let files = production(&project);
    for words in [
        "backup_database",
        "backup_config",
        "backup_all",
        "restore --database --config --latest",
        "restore_test --no-tests",
        "verify_backups",
        "rotate_backups",
        "full_recovery --compose none --health ",
    ] {
        let words: Vec<&str> = ["--json", "drill"].into_iter().chain(words.split(' ')).collect();
        let ran = project.run(&words);
        assert_eq!(found(&verdict(&ran)), ("passed".to_owned(), vec![], vec![]), "{words:?}\n{}", ran.stderr);
        assert!(production(&project) == files, "{words:?} changed the project");
    }
    nothing_is_left(&project);
}
