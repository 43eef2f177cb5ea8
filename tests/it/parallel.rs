//! Actions that are performed at the same time: real dumps, real files, real programs.

use crate::aftermath::{all_intact, leftovers, nobody_survives, runs, wait_for};
use crate::cluster::{TestDatabase, cluster, database, psql, psql_output};
use crate::project::TestProject;
use expect_test::expect;
use lifeboat::base::event::What;
use lifeboat::base::failure::Exit;
use lifeboat::journal::reader::{self, RunState};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Output};
use std::thread::JoinHandle;

const BOTH: &str = r#"
let db = postgres();
let made = step "Back up" {
    parallel([dump(db).gzip().to("backups/db.sql.gz"), file("data").gzip().to("backups/data.gz", #{ tag: "daily" })])
};
step "Verify" { parallel(made.map(|one| to_verify(one))) }
step "Report" { notify("success", `${made[0].name} and ${made[1].name}`); }
"#;

fn project(source: &TestDatabase) -> TestProject {
    TestProject::new().database(source).file("data", "some data\n").playbook("both", BOTH)
}

fn shop(hint: &str) -> TestDatabase {
    let source = database(hint);
    psql(&source, "CREATE TABLE t (id int) PARTITION BY RANGE (id)");
    source
}

/// A database whose table somebody holds, so that no dump of it comes to its end.
struct Held {
    source: TestDatabase,
    holder: Option<JoinHandle<Output>>,
}

impl Held {
    fn new(hint: &str) -> Self {
        let source = shop(hint);
        let env = source.env();
        let sql = "BEGIN; LOCK TABLE ONLY t; SELECT pg_sleep(600) /* holder */; COMMIT";
        let holder = Some(std::thread::spawn(move || psql_output(&env, sql, &[])));
        let held = Self { source, holder };
        let asleep = "query LIKE '%holder%' AND wait_event = 'PgSleep'";
        wait_for("the lock", || held.sessions("count(*)", asleep) == "1");
        held
    }

    /// What is so of the sessions in the database for which `condition` holds.
    fn sessions(&self, what: &str, condition: &str) -> String {
        let name = &self.source.name;
        let sql = format!("SELECT {what} FROM pg_stat_activity WHERE datname = '{name}' AND {condition}");
        let output = psql_output(&cluster().client_env("postgres"), &sql, &[]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn is_waited_for(&self) -> bool {
        self.sessions("count(*) > 0", "wait_event_type = 'Lock'") == "t"
    }

    fn free(&mut self) {
        self.sessions("pg_terminate_backend(pid)", "query LIKE '%holder%'");
        self.holder.take().map(|holder| holder.join().unwrap());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.holder.is_some() {
            self.free();
        }
    }
}

/// Starts a playbook, and waits until `file` is published while the dump, which began before it, still waits.
fn overlapping(project: &TestProject, held: &Held, args: &[&str], file: impl Fn() -> bool) -> Child {
    let process = project.start(args);
    wait_for("the other part", file);
    wait_for("the dump to wait", || held.is_waited_for());
    process
}

/// What became of the actions of the newest run, in order.
fn acted(project: &TestProject) -> Vec<String> {
    let run = runs(project).remove(0).run;
    let recording = reader::events(&project.at(".lifeboat"), &run).unwrap();
    assert_eq!(recording.notes, [""; 0]);
    let told = |what: &What| match what {
        What::RunResumed { .. } => Some("resumed".to_owned()),
        What::StepKept { step } => Some(format!("kept step {step}")),
        What::ActionKept { number, .. } => Some(format!("kept {number}")),
        What::ActionBegun { action, number, .. } => Some(format!("begin {number} {action}")),
        What::ActionEnded { number, .. } => Some(format!("end {number}")),
        What::ActionFailed { number, .. } => Some(format!("fail {number}")),
        _ => None,
    };
    recording.events.iter().filter_map(|event| told(&event.what)).collect()
}

#[test]
fn a_dump_and_a_file_are_backed_up_at_the_same_time_into_one_folder() {
    let mut held = Held::new("parallel");
    let project = project(&held.source).file("backups/.old.gz.20251110-020000-abcdef.part", "x");
    let mut process = overlapping(&project, &held, &["both"], || project.at("backups/data.gz").exists());
    assert!(!project.at("backups/db.sql.gz").exists());
    wait_for("the record", || acted(&project).contains(&"end 2".to_owned()));
    held.free();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_eq!(all_intact(&project.at("backups")), 2);
    assert_eq!(leftovers(&project.at("backups")), [""; 0]);
    let acted = acted(&project);
    assert_eq!(acted[..4], ["begin 1 save", "begin 2 save", "end 2", "end 1"]);
    let begun: Vec<_> = acted[4..].iter().filter(|line| line.starts_with("begin ")).take(2).collect();
    assert_eq!(begun, ["begin 3 verify", "begin 4 verify"]);
    let shown = project.steady(&project.run(&["show"]).exits(0).stdout);
    let saved: Vec<&str> =
        shown.lines().filter(|line| line.contains("save") || line.contains("clean")).collect();
    expect![[r#"
        ℹ️  INFO - cleaned up after a run that was killed: .old.gz.20251110-020000-abcdef.part
          save: saved data.gz (SIZE)
          save: saved db.sql.gz (SIZE)"#]]
    .assert_eq(&saved.join("\n"));
}

#[test]
fn an_interrupted_run_ends_all_and_keeps_what_was_published() {
    let held = Held::new("parallel_int");
    let project = project(&held.source);
    let mut process = overlapping(&project, &held, &["both"], || project.at("backups/data.gz").exists());
    wait_for("the record", || acted(&project).contains(&"end 2".to_owned()));
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(Exit::Interrupted.code().into()));
    nobody_survives(&project);
    assert_eq!(all_intact(&project.at("backups")), 1);
    assert_eq!(leftovers(&project.at("backups")), [""; 0]);
    assert_eq!(acted(&project), ["begin 1 save", "begin 2 save", "end 2", "fail 1"]);
}

#[test]
fn a_killed_run_goes_on_with_what_was_not_done() {
    let mut held = Held::new("parallel_kill");
    let project = project(&held.source);
    let mut process = overlapping(&project, &held, &["both"], || project.at("backups/data.gz").exists());
    wait_for("the record", || acted(&project).contains(&"end 2".to_owned()));
    process.kill().unwrap();
    process.wait().unwrap();
    nobody_survives(&project);
    assert_eq!(runs(&project)[0].state, RunState::Killed);
    held.free();
    project.run(&["resume"]).exits(0);
    assert_eq!(all_intact(&project.at("backups")), 2);
    assert_eq!(leftovers(&project.at("backups")), [""; 0]);
    assert_eq!(acted(&project)[3..6], ["resumed", "kept 2", "begin 3 save"]);
}

#[test]
fn actions_that_look_the_same_are_known_by_their_place() {
    let text = r#"
step "Go" {
    parallel([
        to_exec(["sh", "-c", "echo one >> log; touch one"], #{ done_if: "one" }),
        to_exec(["sh", "-c", "test -e go && echo two >> log && touch two"], #{ done_if: "two" }),
        to_exec(["sh", "-c", "echo three >> log; touch three"], #{ done_if: "three" }),
    ], #{ jobs: 1 })
}
"#;
    let project = TestProject::new().playbook("same", text);
    let ran = project.run(&["same"]).exits(1);
    expect![[r#"
        exit 1
        error: `sh` exited with status 1
          ——▶ playbooks/same.rhai:6:9
          │
        N │         to_exec(["sh", "-c", "test -e go && echo two >> log && touch two"], #{ done_if: "two" }),
          │         ^
        ✘ same failed in step `Go` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran));
    let project = project.file("go", "");
    project.run(&["resume"]).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("log")).unwrap(), "one\nthree\ntwo\n");
    assert_eq!(acted(&project)[6..], ["resumed", "kept 1", "kept 3", "begin 4 exec", "end 4"]);
}

#[test]
fn what_fails_is_told_together_and_what_does_not_is_published() {
    let source = shop("parallel_fail");
    let project = project(&source).env("DB_NAME", "no_such_database");
    let ran = project.run(&["both"]).exits(1);
    assert_eq!(all_intact(&project.at("backups")), 1);
    assert!(project.at("backups/data.gz").exists());
    assert!(ran.stderr.contains("no_such_database"), "{}", ran.stderr);
    let text = r#"
step "Go" {
    parallel([file("data").to("kept/a"), file("gone").to("kept/b"), to_exec(["sh", "-c", "echo no >&2; exit 3"])])
}
"#;
    let project = project.playbook("fails", text);
    let ran = project.run(&["fails"]).exits(1);
    expect![[r#"
        exit 1
        error: 2 of 3 actions that ran at the same time failed
          ——▶ playbooks/fails.rhai:4:5
          │
        N │     parallel([file("data").to("kept/a"), file("gone").to("kept/b"), to_exec(["sh", "-c", "echo no >&2; exit 3"])])
          │     ^
        caused by: `save kept/b` (playbooks/fails.rhai:4:55): cannot read `PROJECT/gone`: no such file or folder
        caused by: `sh -c 'echo no >&2; exit 3'` (playbooks/fails.rhai:4:69): `sh` exited with status 3: no
        ✘ fails failed in step `Go` after TIME (exit 1)
    "#]].assert_eq(&project.told(&ran));
    assert_eq!(all_intact(&project.at("kept")), 1);
}

#[test]
fn a_dry_run_shows_all_in_their_order() {
    let source = shop("parallel_dry");
    let project = project(&source);
    let before = project.tree(&[]);
    let ran = project.run(&["both", "--dry-run"]).exits(0);
    assert!(project.tree(&[]) == before, "a dry run changes nothing");
    let lines = ran.stdout.lines().filter(|line| !line.starts_with("   ") && !line.starts_with("postgres"));
    let server = format!("{}:{}", cluster().socket_dir().display(), cluster().port());
    let lines = lines.map(|line| line.split(" (about ").next().unwrap());
    let lines = lines.map(|line| line.replace(&source.name, "shop").replace(&server, "SERVER"));
    expect![[r#"
        Dry run of both

        Back up
          create  save: dump of `shop at SERVER as postgres` → gzip (level 6) → sha256 → `backups/db.sql.gz`
          create  save: file of `data` → gzip (level 6) → sha256 → `backups/data.gz`

        Verify
          replace verify: verify `backups/db.sql.gz`: SHA-256, gzip members, content
          replace verify: verify `backups/data.gz`: SHA-256, gzip members, content

        Report
          notify  notify: set the alert `success`

        5 actions planned; nothing was changed"#]]
    .assert_eq(&lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn everything_is_backed_up_at_once_and_each_part_stands_for_itself() {
    let mut held = Held::new("parallel_all");
    let project = TestProject::new().database(&held.source).file("package.json", "{}\n");
    let published =
        |dir: &str| project.names(dir).iter().any(|name| name.ends_with(".gz") && !name.starts_with('.'));
    let mut process = overlapping(&project, &held, &["backup_all"], || published("backups/config"));
    assert!(!published("backups/database"));
    held.free();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let verified = |dir: &str| all_intact(&project.at(dir));
    assert_eq!((verified("backups/database"), verified("backups/config")), (1, 1));
    let acted = acted(&project);
    let begun: Vec<&str> = acted.iter().filter_map(|told| told.strip_prefix("begin ")).collect();
    assert_eq!(begun, ["1 save", "2 save", "3 verify", "4 verify", "5 rotate", "6 rotate", "7 notify"]);
}

#[test]
fn a_part_that_fails_goes_no_further_and_stops_no_other() {
    let source = shop("parallel_parts");
    let both = || TestProject::new().database(&source).file("package.json", "{}\n");
    let project = both().env("DB_NAME", "no_such_database");
    project.run(&["backup_all"]).exits(3).says("Backed up: configuration; failed: database");
    assert_eq!(all_intact(&project.at("backups/config")), 1);
    // What cannot be made there is a folder.
    let project = both().file("backups/config", "in the way");
    project.run(&["backup_all"]).exits(3).says("Backed up: database; failed: configuration");
    assert_eq!(all_intact(&project.at("backups/database")), 1);
    let project = project.env("DB_NAME", "no_such_database");
    project.run(&["backup_all"]).exits(1).says("nothing was backed up; failed: database, configuration");
    // While it is made, as well: the first action is the dump, the third its verification.
    for (fault, done, failed) in
        [("fail:1", "configuration", "database"), ("fail:4", "database", "configuration")]
    {
        let project = both().env("LIFEBOAT_FAULT", fault);
        let told = format!("Backed up: {done}; failed: {failed}");
        let ran = project.run(&["backup_all"]).exits(3).says(&told);
        assert!(
            ran.stderr.contains("rotation removes nothing: a part of this run has failed"),
            "{}",
            ran.stderr
        );
    }
    let project = both();
    project.run(&["backup_all", "--no-config"]).exits(0).says("Backed up: database");
    project.run(&["backup_all", "--no-db"]).exits(0).says("Backed up: configuration");
    project.run(&["backup_all", "--retention", "0"]).exits(1).says("a retention of 0 days keeps nothing");
}
