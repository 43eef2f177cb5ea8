//! What a service watches for several playbooks: real files, changed in the ways of editors, checkouts and mounts.

use crate::aftermath::wait_for;
use crate::project::TestProject;
use lifeboat::base::cancel::{Cancel, Reason};
use lifeboat::daemon::watch::Notice;
use lifeboat::daemon::watch_set::WatchSet;
use lifeboat::daemon::watches::Watches;
use lifeboat::script::launch::examine;
use lifeboat::script::library::Library;
use lifeboat::script::lint::Reserved;
use lifeboat::script::parameters::Given;
use lifeboat::sys::env::Env;
use lifeboat::sys::host::Host;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn sets(project: &TestProject, names: &[&str]) -> BTreeMap<String, WatchSet> {
    let library = Library::new(project.path());
    let mut sets = BTreeMap::new();
    for name in names {
        let checked = examine(&library, &library.find(name).unwrap(), &Reserved::default());
        let header = checked.header.unwrap();
        let state = project.at(".lifeboat");
        let set =
            WatchSet::of_header(&header, &Given::new(), &Env::default(), project.path(), &state).unwrap();
        sets.extend(set.map(|set| ((*name).to_owned(), set)));
    }
    sets
}

fn watches(project: &TestProject, names: &[&str], notice: Notice) -> (Watches, Cancel) {
    let cancel = Cancel::new();
    let host = Host::new(project.path().into(), project.at(".lifeboat"), Env::default()).ended_by(&cancel);
    (Watches::new(Arc::new(host), sets(project, names), notice).unwrap(), cancel)
}

/// What is told next, as `playbook: file, file`.
#[track_caller]
fn told(project: &TestProject, watches: &mut Watches) -> Vec<String> {
    let mut told = Vec::new();
    wait_for("a change", || {
        std::thread::sleep(Duration::from_millis(20));
        told = watches.poll().unwrap();
        !told.is_empty()
    });
    let shown = |(playbook, files): &(String, Vec<std::path::PathBuf>)| {
        let name =
            |file: &std::path::PathBuf| file.strip_prefix(project.path()).unwrap().display().to_string();
        format!("{playbook}: {}", files.iter().map(name).collect::<Vec<_>>().join(", "))
    };
    told.iter().map(shown).collect()
}

/// Longer than it takes until any change is told.
#[track_caller]
fn nothing_is_told(watches: &mut Watches) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        assert_eq!(watches.poll().unwrap(), []);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn watching(patterns: &str) -> String {
    format!("const PLAYBOOK = #{{ summary: \"Watches\", watch: [{patterns}] }};\n")
}

fn project() -> TestProject {
    TestProject::in_memory()
        .playbook("config", &watching("\".env\", \"config/*.yml\""))
        .playbook("env", &watching("\".env\""))
        .playbook("nothing", "")
        .file("config/app.yml", "1")
        .file(".env", "A=1\n")
}

#[test]
fn each_playbook_is_told_of_its_files_and_of_nothing_else() {
    let project = project();
    let (mut watches, cancel) = watches(&project, &["config", "env", "nothing"], Notice::Told);
    let write = |path: &str, text: &str| std::fs::write(project.at(path), text).unwrap();
    write("config/app.yml", "2");
    assert_eq!(told(&project, &mut watches), ["config: config/app.yml"]);
    write(".env", "A=2\n");
    // Each playbook has a watcher of its own, and one may hear of it a moment before the other.
    let mut both = told(&project, &mut watches);
    if both.len() == 1 {
        both.extend(told(&project, &mut watches));
    }
    both.sort();
    assert_eq!(both, ["config: .env", "env: .env"]);

    // An edit of the playbook itself, one of a file that is not watched, and a save that changes nothing.
    write("playbooks/config.rhai", &watching("\".env\", \"config/*.yml\", \"*.toml\""));
    write("notes.txt", "x");
    write("config/app.yml", "2");
    project.stock(".", "touch", &[".env"]);
    project.stock(".", "chmod", &["600", ".env"]);
    nothing_is_told(&mut watches);

    // The header is read again: what was watched is not forgotten, what is new is as it is now.
    write(".env", "A=3\n");
    watches.refresh(sets(&project, &["config", "nothing"])).unwrap();
    assert_eq!(told(&project, &mut watches), ["config: .env"]);
    write("lifeboat.toml", "# new\n");
    assert_eq!(told(&project, &mut watches), ["config: lifeboat.toml"]);

    // What a run wrote itself is no change.
    write("config/made.yml", "by a run");
    watches.adopt(&BTreeSet::from([project.at("config/made.yml")]));
    nothing_is_told(&mut watches);
    cancel.cancel(Reason::Terminated);
    assert_eq!(watches.poll().unwrap_err().code.exit().code(), 143);
}

#[test]
fn what_editors_leave_beside_a_file_is_no_change_and_what_they_save_is_one() {
    let project = project();
    let (mut watches, _) = watches(&project, &["config"], Notice::Told);
    let at = |name: &str| project.at("config").join(name);
    let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
    // Vim: a swap file; the old file is renamed, the new one written under its name; the backup goes.
    write(".app.yml.swp", "vim");
    std::fs::rename(at("app.yml"), at("app.yml~")).unwrap();
    write("app.yml", "by vim");
    std::fs::remove_file(at("app.yml~")).unwrap();
    assert_eq!(told(&project, &mut watches), ["config: config/app.yml"]);
    std::fs::remove_file(at(".app.yml.swp")).unwrap();
    // Emacs: a lock that is a dangling link, an automatic save, then in place with a backup by copy.
    symlink("me@host.1:1", at(".#app.yml")).unwrap();
    write("#app.yml#", "half an edit");
    nothing_is_told(&mut watches);
    std::fs::copy(at("app.yml"), at("app.yml~")).unwrap();
    write("app.yml", "by emacs");
    std::fs::remove_file(at(".#app.yml")).unwrap();
    std::fs::remove_file(at("#app.yml#")).unwrap();
    assert_eq!(told(&project, &mut watches), ["config: config/app.yml"]);
    // Others: a temporary file gets the name; what is inside has another inode each time.
    for text in ["first", "second"] {
        write("app.yml.tmp", text);
        std::fs::rename(at("app.yml.tmp"), at("app.yml")).unwrap();
        assert_eq!(told(&project, &mut watches), ["config: config/app.yml"]);
    }
    // A checkout takes the folder away and brings it back.
    std::fs::rename(project.at("config"), project.at("away")).unwrap();
    assert_eq!(told(&project, &mut watches), ["config: config/app.yml"]);
    std::fs::create_dir(project.at("config")).unwrap();
    write("app.yml", "new");
    write("b.yml", "new");
    assert_eq!(told(&project, &mut watches), ["config: config/app.yml, config/b.yml"]);
    write("b.yml", "newer");
    assert_eq!(told(&project, &mut watches), ["config: config/b.yml"]);
}

/// Kubernetes mounts a ConfigMap so: the names are links through `..data`, which is swapped as a whole.
#[test]
fn a_mounted_configuration_that_is_swapped_is_a_change() {
    let project = TestProject::in_memory().playbook("config", &watching("\"config/*.yml\""));
    let at = |name: &str| project.at("config").join(name);
    for (version, text) in [("..2025_1", "one"), ("..2025_2", "two")] {
        std::fs::create_dir_all(at(version)).unwrap();
        std::fs::write(at(version).join("app.yml"), text).unwrap();
    }
    symlink("..2025_1", at("..data")).unwrap();
    symlink("..data/app.yml", at("app.yml")).unwrap();
    let (mut watches, _) = watches(&project, &["config"], Notice::Told);
    symlink("..2025_2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert_eq!(told(&project, &mut watches), ["config: config/app.yml"]);
    // What stands behind the link is written in place, where no folder is watched.
    std::fs::write(at("..2025_2").join("app.yml"), "three").unwrap();
    assert_eq!(told(&project, &mut watches), ["config: config/app.yml"]);
}

#[test]
fn without_the_system_s_help_changes_are_looked_for() {
    let project = project();
    let every = Duration::from_millis(100);
    let (mut watches, _) = watches(&project, &["config"], Notice::Looked(every));
    assert!(watches.rest().unwrap() <= every && !watches.is_empty());
    std::fs::write(project.at("config/new.yml"), "new").unwrap();
    assert_eq!(told(&project, &mut watches), ["config: config/new.yml"]);
    std::fs::remove_file(project.at("config/new.yml")).unwrap();
    assert_eq!(told(&project, &mut watches), ["config: config/new.yml"]);
    project.stock(".", "touch", &["config/app.yml"]);
    nothing_is_told(&mut watches);
}
