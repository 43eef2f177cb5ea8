//! Every action of a playbook fails once, and the run is killed once right before and once right after it: nothing old is
//! harmed, nothing is half published, the alert is sent, and `resume` brings about what an undisturbed run does.
//!
//! A playbook is added by a [`Scene`]: how its project is made, what must hold at every moment, and what its end looks like.

use crate::aftermath::{all_intact, leftovers, nobody_survives, runs};
use crate::cluster::{TestDatabase, all_tests, cluster, database, psql, psql_output};
use crate::project::TestProject;
use crate::receiver::Receiver;
use crate::restore::databases_like;
use lifeboat::base::event::What;
use lifeboat::base::failure::Exit;
use lifeboat::journal::reader::{self, RunState, RunSummary};
use std::cell::RefCell;

/// A playbook, and the world that it works in.
pub struct Scene<'a> {
    /// The command line.
    pub args: &'a [&'a str],
    /// Makes the project that the playbook runs in, anew each time.
    pub project: &'a dyn Fn() -> TestProject,
    /// What must hold at every moment.
    pub always: &'a dyn Fn(&TestProject),
    /// What the playbook has brought about, without what differs from run to run.
    pub end: &'a dyn Fn(&TestProject) -> String,
}

const KINDS: [&str; 3] = ["fail", "kill-before", "kill-after"];

impl Scene<'_> {
    /// Lets everything go wrong once.
    #[track_caller]
    pub fn each_fails(&self) {
        let undisturbed = (self.project)();
        undisturbed.run(self.args).exits(0);
        (self.always)(&undisturbed);
        let end = (self.end)(&undisturbed);
        let actions = begun(&undisturbed);
        assert!(actions > 0);
        for nth in 1..=actions {
            for kind in KINDS {
                self.fails_at(&format!("{kind}:{nth}"), &end);
            }
        }
    }

    /// Lets the action `nth` go wrong, and resumes the run.
    fn fails_at(&self, fault: &str, end: &str) {
        let here = format!("{:?} with {fault}", self.args);
        let receiver = Receiver::new();
        let project = (self.project)().env("BACKUP_WEBHOOK_URL", receiver.url()).env("LIFEBOAT_FAULT", fault);
        let others = runs(&project).len();
        let ran = project.run(self.args);
        let killed = fault.starts_with("kill");
        assert_eq!(ran.code == 1009, killed, "{here}: {ran:#?}");
        nobody_survives(&project);
        (self.always)(&project);
        let record = latest(&project, others, &here);
        if record.state == RunState::Ended(Exit::Warnings) {
            // The playbook tolerates it, so that the run is over; it must say so.
            assert_eq!(receiver.bodies()[0]["status"], "warning", "{here}");
            return;
        }
        if killed {
            assert_eq!(record.state, RunState::Killed, "{here}");
            assert_eq!(receiver.bodies().len(), 0, "{here}");
        } else {
            assert!(matches!(record.state, RunState::Ended(_)), "{here}: {:?}", record.state);
            assert_eq!(receiver.bodies()[0]["status"], "error", "{here}");
        }
        let project = project.env("LIFEBOAT_FAULT", "");
        let resumed = project.run(&["resume", "--yes"]);
        assert_eq!(resumed.code, 0, "{here}, resumed:\n{}", resumed.stderr);
        nobody_survives(&project);
        (self.always)(&project);
        assert_eq!((self.end)(&project), end, "{here}, resumed:\n{}", resumed.stderr);
        let after = latest(&project, others, &here);
        assert_eq!(
            (&after.run, after.state, after.resumed),
            (&record.run, RunState::Ended(Exit::Success), 1)
        );
        assert_eq!(after.owes, [""; 0], "{here}");
        let kills = receiver.messages(" was killed: run ").len();
        assert_eq!(kills, usize::from(killed), "{here}: {:?}", receiver.bodies());
        let last = receiver.bodies().pop().unwrap();
        assert_eq!(last["status"], "success", "{here}: {last}");
    }
}

/// The newest run; its record must be whole.
#[track_caller]
fn latest(project: &TestProject, others: usize, here: &str) -> RunSummary {
    let run = runs(project).remove(0);
    let recording = reader::events(&project.at(".lifeboat"), &run.run).unwrap();
    assert_eq!((recording.notes, &run.notes), (vec![], &vec![]), "{here}");
    assert_eq!(runs(project).len(), others + 1, "{here}: a resumed run is no run of its own");
    run
}

/// How many actions the newest run began.
fn begun(project: &TestProject) -> usize {
    let run = runs(project).remove(0).run;
    let events = reader::events(&project.at(".lifeboat"), &run).unwrap().events;
    events.iter().filter(|event| matches!(event.what, What::ActionBegun { .. })).count()
}

/// The backups of a folder as `lifeboat backups` lists them, without what differs from run to run.
fn backups(project: &TestProject, dir: &str) -> String {
    let listed = project.run(&["backups", dir, "--json"]).exits(0).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let rows = listed.as_array().unwrap().iter().map(|row| {
        let name = project.steady(row["name"].as_str().unwrap());
        format!("{} {} intact: {}\n", name.trim(), row["tag"], row["verified"]["intact"])
    });
    rows.collect()
}

/// Nothing under a final name is broken, and nothing that looks like a backup is lost.
fn nothing_broken(project: &TestProject) {
    for dir in ["backups/database", "backups/config", "many"] {
        if project.at(dir).is_dir() {
            all_intact(&project.at(dir));
        }
    }
}

/// All that is there, and that nothing else is.
fn nothing_left(project: &TestProject, dir: &str) -> String {
    assert_eq!(leftovers(&project.at(dir)), [""; 0]);
    backups(project, dir)
}

fn shop(name: &str) -> TestDatabase {
    let source = database(name);
    psql(
        &source,
        "CREATE TABLE users AS SELECT i AS id, 'name ' || i AS name FROM generate_series(1, 100) i",
    );
    source
}

#[test]
fn backing_up_a_database() {
    let source = shop("fail-each");
    Scene {
        args: &["backup_database"],
        project: &|| TestProject::in_memory().database(&source),
        always: &nothing_broken,
        end: &|project| nothing_left(project, "backups/database"),
    }
    .each_fails();
}

#[test]
fn backing_up_configuration() {
    Scene {
        args: &["backup_config"],
        project: &|| TestProject::in_memory().file("package.json", "{}\n"),
        always: &nothing_broken,
        end: &|project| nothing_left(project, "backups/config"),
    }
    .each_fails();
}

#[test]
fn backing_up_everything() {
    let source = shop("fail-all");
    Scene {
        args: &["backup_all"],
        project: &|| TestProject::in_memory().database(&source).file("package.json", "{}\n"),
        always: &nothing_broken,
        end: &|project| {
            nothing_left(project, "backups/database") + nothing_left(project, "backups/config").as_str()
        },
    }
    .each_fails();
}

/// Old backups, and one that is not: made once, and copied for each run.
fn with_many(kept: &TestProject) -> TestProject {
    let project = TestProject::in_memory();
    std::fs::create_dir(project.at("many")).unwrap();
    for name in kept.names("many") {
        std::fs::copy(kept.at("many").join(&name), project.at("many").join(&name)).unwrap();
    }
    project
}

/// Four verified backups, of which three are so old that retention lets them go.
fn many() -> TestProject {
    let make = r#"
const PLAYBOOK = #{ summary: "A test", params: #{ first: 1, last: 3 } };
step "Save" { for n in params.first..=params.last { verify(file("data").gzip().save(`many/data_${n}.gz`)); } }
"#;
    let old = "2025-01-10T02:00:00+00:00";
    let project =
        TestProject::new().file("data", "some data\n").playbook("make", make).env("LIFEBOAT_NOW", old);
    project.run(&["make"]).exits(0);
    let project = project.env("LIFEBOAT_NOW", "2025-11-10T02:00:00+00:00");
    project.run(&["make", "--first", "4", "--last", "4"]).exits(0);
    project
}

#[test]
fn rotating() {
    let kept = many();
    Scene {
        args: &["rotate_backups", "many", "--retention", "30"],
        project: &|| with_many(&kept),
        always: &|project| {
            nothing_broken(project);
            assert!(project.at("many/data_4.gz").exists());
        },
        end: &|project| nothing_left(project, "many"),
    }
    .each_fails();
}

#[test]
fn verifying() {
    let kept = many();
    Scene {
        args: &["verify_backups", "many"],
        project: &|| with_many(&kept),
        always: &|project| {
            nothing_broken(project);
            assert_eq!(project.names("many").len(), kept.names("many").len());
        },
        end: &|project| nothing_left(project, "many"),
    }
    .each_fails();
}

#[test]
fn maintaining() {
    let kept = many();
    Scene {
        args: &["maintenance", "--only", "Verify backups", "--dir", "many"],
        project: &|| with_many(&kept),
        always: &|project| {
            nothing_broken(project);
            assert_eq!(project.names("many").len(), kept.names("many").len());
        },
        end: &|project| {
            format!("{}{}", nothing_left(project, "many"), project.names(".lifeboat/tasks").len())
        },
    }
    .each_fails();
}

/// The database that a scene restores into; what restores kept of it goes with it.
struct Restored(TestDatabase);

impl Restored {
    fn kept(&self) -> Vec<String> {
        databases_like(&format!("{}_before_", self.0.name))
    }

    /// Its tables.
    fn tables(&self) -> String {
        let sql =
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        let output = psql_output(&cluster().client_env(&self.0.name), sql, &[]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        self.kept().into_iter().for_each(|name| drop(TestDatabase { name }));
    }
}

/// A database and a configuration that were backed up, and are others by now; the database is kept in `target`.
fn damaged(target: &RefCell<Option<Restored>>) -> TestProject {
    let fresh = shop("fail-restore");
    let project = TestProject::in_memory().database(&fresh).file("package.json", "{ \"v\": \"saved\" }\n");
    project.run(&["backup_all"]).exits(0);
    psql(&fresh, "DROP TABLE users; CREATE TABLE old AS SELECT 1 AS x");
    *target.borrow_mut() = Some(Restored(fresh));
    project.file("package.json", "{ \"v\": \"later\" }\n")
}

/// One or the other whole, at every moment.
fn nothing_torn(project: &TestProject, target: &RefCell<Option<Restored>>) {
    nothing_broken(project);
    let tables = target.borrow().as_ref().unwrap().tables();
    assert!(["old", "users"].contains(&tables.as_str()), "{tables}");
    let content = std::fs::read_to_string(project.at("package.json")).unwrap();
    assert!(content.contains("saved") || content.contains("later"), "{content}");
}

/// What is live, how much is kept beside it, and that nothing else is left.
fn recovered(project: &TestProject, target: &RefCell<Option<Restored>>) -> String {
    let target = target.borrow();
    let target = target.as_ref().unwrap();
    let all = databases_like(&target.0.name).len();
    let content = std::fs::read_to_string(project.at("package.json")).unwrap();
    format!("{}, {} kept, {all} in all, {content}", target.tables(), target.kept().len())
}

/// Lets everything go wrong once while a damaged project is brought back by `args`, after `before` was run.
#[track_caller]
fn recovering(before: &[&[&str]], args: &[&str]) {
    let target = RefCell::default();
    Scene {
        args,
        project: &|| {
            let project = damaged(&target);
            before.iter().for_each(|args| drop(project.run(args).exits(0)));
            project
        },
        always: &|project| nothing_torn(project, &target),
        end: &|project| recovered(project, &target),
    }
    .each_fails();
}

const RESTORE: &[&str] = &["restore", "--database", "--config", "--latest", "--yes"];

#[test]
fn restoring() {
    recovering(&[], RESTORE);
}

#[test]
fn recovering_everything() {
    let args =
        ["full_recovery", "--compose", "none", "--no-dependencies", "--no-rebuild", "--health", "", "--yes"];
    recovering(&[], &args);
}

#[test]
fn rolling_back() {
    recovering(&[RESTORE], &["rollback", "latest", "--yes"]);
}

#[test]
fn cleaning_up() {
    recovering(&[RESTORE], &["cleanup", "--all", "--yes"]);
}

/// It starts a server for each of two dozen runs, which takes minutes.
#[test]
fn testing_a_restore() {
    if !all_tests() {
        return;
    }
    recovering(&[], &["restore_test", "--no-tests", "--yes"]);
}

/// Each of three dozen runs makes a server and the realistic database in it, which takes minutes.
#[test]
fn showing_what_lifeboat_does() {
    if !all_tests() {
        return;
    }
    Scene {
        args: &["demo"],
        project: &TestProject::in_memory,
        always: &|project| {
            if project.at("backups/demo").is_dir() {
                all_intact(&project.at("backups/demo"));
            }
        },
        end: &|project| nothing_left(project, "backups/demo"),
    }
    .each_fails();
}

#[test]
fn checking_the_health_does_nothing_that_could_fail() {
    let project = TestProject::new().file("package.json", "{}\n");
    project.run(&["backup_config"]).exits(0);
    let terms = ["--copies", "0", "--storage", "0", "--offsite-copies", "0", "--min-free", "0"];
    project.run(&[&["health_check"][..], &terms].concat()).exits(0);
    assert_eq!(begun(&project), 0);
}

#[test]
fn every_shipped_playbook_has_its_scene() {
    let project = TestProject::new();
    let listed = project.run(&["playbooks", "--json"]).exits(0).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.len() >= 11, "{names:?}");
    let here = include_str!("fail_each.rs");
    let uncovered: Vec<&&str> = names.iter().filter(|name| !here.contains(&format!("[\"{name}\""))).collect();
    assert_eq!(uncovered, [&""; 0]);
}

#[test]
fn extracting() {
    let from = TestProject::new().file("package.json", "{ \"old\": 1 }\n");
    from.run(&["backup_config"]).exits(0);
    let file = format!("backups/config/{}", from.only("backups/config", ".tar.gz"));
    let text = format!(
        "step \"Extract\" {{ extract(\"{file}\", \".\"); }}\nstep \"Tell\" {{ notify(\"success\", \"extracted\"); }}"
    );
    Scene {
        args: &["bring_back"],
        project: &|| {
            let project = TestProject::in_memory()
                .file("package.json", "{ \"new\": 2 }\n")
                .playbook("bring_back", &text);
            std::fs::create_dir_all(project.at("backups/config")).unwrap();
            for name in from.names("backups/config") {
                let there = project.at("backups/config").join(&name);
                std::fs::copy(from.at("backups/config").join(&name), there).unwrap();
            }
            project
        },
        always: &|project| {
            nothing_broken(project);
            let content = std::fs::read_to_string(project.at("package.json")).unwrap();
            assert!(content.contains("old") || content.contains("new"), "{content}");
        },
        end: &|project| std::fs::read_to_string(project.at("package.json")).unwrap(),
    }
    .each_fails();
}
