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

#[test]
fn a_relative_folder_above_the_project_is_the_real_one_s_copy() {
    let outer = TestProject::new();
    let database = shop();
    let name = format!("../{}-bk", outer.path().file_name().unwrap().to_string_lossy());
    let dir = outer.path().with_file_name(&name[3..]);
    let project = TestProject::new().database(&database).env("BACKUP_DIR", name);
    back_up(&project);
    let ran = project.run(&["--json", "drill", "backup_database"]);
    let backups = std::fs::read_dir(&dir).unwrap().count();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(found(&verdict(&ran)), ("passed".to_owned(), vec![], vec![]), "{}", ran.stderr);
    assert!(backups > 0);
}

#[test]
fn what_cannot_be_read_is_left_out_and_told() {
    use std::os::unix::fs::PermissionsExt;
    let project = TestProject::new()
        .file("a.txt", "a")
        .file("private/key", "k")
        .file("secret.txt", "s")
        .playbook("pack", r#"step "Pack" { gzip("a.txt"); }"#)
        .playbook("secret", r#"step "Pack" { gzip("secret.txt"); } step "Other" { gzip("a.txt"); }"#);
    let none = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(project.at("private"), none.clone()).unwrap();
    std::fs::set_permissions(project.at("secret.txt"), none).unwrap();
    let ran = project.run_as_nobody(&["--json", "drill", "pack"]);
    let told = verdict(&ran);
    assert_eq!(found(&told), ("passed".to_owned(), vec![], vec![]), "{}", ran.stderr);
    let note = "the copy of the project went without private (cannot be read), secret.txt (cannot be read)";
    assert!(told["notes"].as_array().unwrap().iter().any(|one| one == note), "{told}");
    let ran = project.run_as_nobody(&["--json", "drill", "secret"]);
    assert_ne!(found(&verdict(&ran)).0, "passed");
}
