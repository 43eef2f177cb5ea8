//! `backups` and `verify` on what the program itself made, and on what others made.

use crate::project::{Ran, TestProject};

#[cfg(target_os = "linux")]
mod memory;

/// A project with one backup of its configuration; returns its path below the project.
fn backed_up() -> (TestProject, String) {
    let project = TestProject::new().file(".env", "A=1\n");
    project.run(&["backup_config", "--tag", "daily"]).exits(0);
    let file = format!("backups/config/{}", project.only("backups/config", ".tar.gz"));
    (project, file)
}

fn damage(project: &TestProject, file: &str) {
    let mut bytes = std::fs::read(project.at(file)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(project.at(file), bytes).unwrap();
}

/// `intact` of every backup that a run with `--json` verified.
fn verified(ran: &Ran) -> Vec<(String, bool)> {
    let last: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    let one = |one: &serde_json::Value| {
        (one["name"].as_str().unwrap().to_owned(), one["intact"].as_bool().unwrap())
    };
    last["what"]["value"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn files_folders_and_all_are_verified_on_record() {
    let (project, file) = backed_up();
    let name = file.rsplit('/').next().unwrap().to_owned();
    let absolute = project.at(&file).display().to_string();
    for args in
        [&["verify", &file][..], &["verify", &absolute], &["verify", "backups/config"], &["verify", "--all"]]
    {
        let ran = project.run(&[args, &["--json"]].concat()).exits(0);
        assert_eq!(verified(&ran), [(name.clone(), true)], "{args:?}");
    }
    // A file twice is a file twice, not an error.
    assert_eq!(verified(&project.run(&["verify", &file, &file, "--json"]).exits(0)).len(), 2);
    let history = project.run(&["history", "--playbook", "verify_backups", "--json"]).exits(0);
    assert_eq!(history.stdout.matches("\"exit\": 0").count(), 5);
    project.run(&["verify", &file]).exits(0).says("Verified 1 backups: all are intact");
}

#[test]
fn a_damaged_backup_is_told_with_12_and_listed_so() {
    let (project, file) = backed_up();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    project.run(&["backup_config"]).exits(0);
    damage(&project, &file);
    let before = project.run(&["backups", "--verified"]).exits(0).stdout;
    assert_eq!(before.matches(".tar.gz").count(), 2, "{before}");
    project.run(&["verify", "--all"]).exits(12).says("1 of 2 backups are not intact");
    project.run(&["verify", &file]).exits(12).says("1 of 1 backups are not intact");

    let intact = project.run(&["backups", "backups/config", "--verified"]).exits(0).stdout;
    assert!(intact.contains("1 backup,") && !intact.contains(&file), "{intact}");
    let all = project.run(&["backups"]).exits(0).stdout;
    assert!(all.contains("NOT INTACT") && all.contains("2 backups,"), "{all}");
    let tagged = project.run(&["backups", "--tag", "daily", "--json"]).exits(0).stdout;
    let rows: serde_json::Value = serde_json::from_str(&tagged).unwrap();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["verified"]["intact"]), (1, &false.into()));
    assert!(!rows[0]["problems"].as_array().unwrap().is_empty(), "{tagged}");
}

#[test]
fn what_others_made_is_verified_and_what_is_not_there_is_said() {
    let project = TestProject::new().file("dumps/notes", "x");
    project.stock(
        "dumps",
        "sh",
        &["-c", "tar -czf my.tar.gz notes && sha256sum my.tar.gz > my.tar.gz.sha256"],
    );
    project.run(&["verify", "dumps/my.tar.gz"]).exits(0);
    project.run(&["verify", "dumps"]).exits(1).says("there are no backups at dumps");
    project.run(&["verify", "dumps/nothing.sql.gz"]).exits(1).says("there are no backups at");
    project.run(&["verify", "dumps/notes"]).exits(12).says("notes.sha256 is missing");
    project.run(&["verify"]).exits(2).says("error: no backup is named\nhint: Name files or folders");
    project
        .run(&["verify", "--all"])
        .exits(3)
        .says("there are no backups in backups/database, backups/config");
    project.run(&["verify", "--all", "x"]).exits(2).says("cannot be used with");
    assert_eq!(
        project.run(&["backups", "dumps"]).exits(0).says("there are no backups in `dumps`").stdout,
        ""
    );
}

#[test]
fn the_guides_variable_names_the_folder_everywhere() {
    let project = TestProject::new().file(".env", "CONFIG_BACKUP_DIR=elsewhere\n");
    project.run(&["backup_config", "--tag", "daily"]).exits(0);
    let name = project.only("elsewhere", ".tar.gz");
    assert_eq!(verified(&project.run(&["verify", "--all", "--json"]).exits(0)), [(name.clone(), true)]);
    assert!(project.run(&["backups"]).exits(0).stdout.contains(&format!("elsewhere/{name}")));
    let plan = project.run(&["rotate_backups", "--tag", "daily", "--dry-run"]).exits(0).stdout;
    assert!(plan.contains("`elsewhere`"), "{plan}");
}

#[test]
fn verifying_dry_changes_nothing() {
    let (project, file) = backed_up();
    let before = project.tree(&[]);
    let ran = project.run(&["verify", &file, "--dry-run"]);
    assert!([0, 4].contains(&ran.code), "{ran:?}");
    assert!(ran.stdout.contains(&format!("verify `{file}`")), "{}", ran.stdout);
    assert_eq!(project.tree(&[]), before);
}
