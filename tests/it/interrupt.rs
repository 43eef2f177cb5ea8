//! SIGINT and SIGTERM to the real program, wherever it is: it ends soon, says so, and leaves nothing.

use crate::aftermath::{leftovers, nobody_survives, processes, runs, wait_for};
use crate::cluster::{TestDatabase, cluster, database, program, psql, psql_output};
use crate::project::TestProject;
use crate::receiver::Receiver;
use lifeboat::base::failure::{Code, Exit};
use lifeboat::journal::reader::RunState;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::time::{Duration, Instant};

/// A signal and what must come of it.
struct Asked {
    signal: Signal,
    exit: Exit,
    code: Code,
    word: &'static str,
}

const BOTH: [Asked; 2] = [
    Asked { signal: Signal::INT, exit: Exit::Interrupted, code: Code::Interrupted, word: "interrupted" },
    Asked { signal: Signal::TERM, exit: Exit::Terminated, code: Code::Terminated, word: "terminated" },
];

/// Far longer than an end takes, and far shorter than what is ended would.
const SOON: Duration = Duration::from_secs(30);

/// The program with its standard error in a file of the project.
struct Running {
    process: Child,
}

impl Running {
    fn start(project: &TestProject, args: &[&str]) -> Self {
        let said = File::create(project.at("said")).unwrap();
        let mut command = project.command(args);
        Self { process: command.stdout(std::process::Stdio::null()).stderr(said).spawn().unwrap() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for the end, which must come soon; returns the exit code.
    #[track_caller]
    fn ends(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            if began.elapsed() > SOON {
                let _ = self.process.kill();
                let _ = self.process.wait();
                panic!("it did not end within {SOON:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn said(project: &TestProject) -> String {
    std::fs::read_to_string(project.at("said")).unwrap()
}

/// Shows what the program said when the test fails.
struct ShownOnPanic<'a>(&'a TestProject);

impl Drop for ShownOnPanic<'_> {
    #[expect(clippy::print_stdout, reason = "tells why the work was not reached")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("it said:\n{}", said(self.0));
        }
    }
}

/// Ends a run of the playbook `work`, which has one step `Work`, when it is `ready`, by either signal.
fn ends_well(project: TestProject, ready: impl Fn(&TestProject) -> bool) -> TestProject {
    let receiver = Receiver::new();
    let project = project.env("BACKUP_WEBHOOK_URL", receiver.url());
    for (index, asked) in BOTH.iter().enumerate() {
        let word = asked.word;
        let mut running = Running::start(&project, &["work"]);
        let shown = ShownOnPanic(&project);
        wait_for("the work", || {
            let begun = said(&project).contains("▶ Work");
            assert!(!said(&project).contains("work failed"), "{}", said(&project));
            begun && ready(&project)
        });
        drop(shown);
        running.signal(asked.signal);
        let code = running.ends();
        let said = said(&project);
        assert_eq!(code, i32::from(asked.exit.code()), "{said}");
        assert!(said.contains(&format!("✘ work was {word} in step `Work` after ")), "{said}");
        assert!(said.contains(&format!("(exit {code})")), "{said}");
        nobody_survives(&project);
        assert_eq!(project.names("backups"), [""; 0], "{word}");
        assert_eq!(leftovers(&project.at("backups")), [""; 0]);
        let record = runs(&project).remove(0);
        assert_eq!(record.state, RunState::Ended(asked.exit));
        assert_eq!(record.failure.unwrap().code, asked.code);
        let alerts = receiver.bodies();
        assert_eq!(alerts.len(), index + 1, "{alerts:?}");
        assert_eq!(alerts[index]["status"], "error");
        assert_eq!(alerts[index]["message"], format!("work was {word} in step `Work`"));
    }
    project
}

/// A `pg_dump` in a folder of the project that writes a dump and then goes on and on, with a process of its own.
fn endless_pg_dump(project: TestProject) -> TestProject {
    let real = program("pg_dump");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in --version) exec {real} --version;; esac\n{real} \"$@\"\nsleep 600 &\nsleep 600\n",
        real = real.display()
    );
    let project = project.file("bin/pg_dump", &script);
    std::fs::set_permissions(project.at("bin/pg_dump"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let bin = project.at("bin").display().to_string();
    project.env("LIFEBOAT_PG_BINDIR", bin)
}

#[test]
fn in_the_middle_of_a_dump() {
    let source = database("interrupt");
    psql(&source, "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
    let project = TestProject::new().database(&source).playbook(
        "work",
        "let db = postgres();\nstep \"Work\" { dump(db, #{ jobs: 1 }).gzip().save(\"backups/x.sql.gz\", #{ tag: \"daily\" }); }",
    );
    std::fs::create_dir(project.at("backups")).unwrap();
    let project = endless_pg_dump(project);
    ends_well(project, |project| {
        let sleeps = processes(project).iter().filter(|(_, line)| line.starts_with("sleep 600")).count();
        let written = |name: &String| {
            std::fs::metadata(project.at("backups").join(name)).is_ok_and(|meta| meta.len() > 0)
        };
        sleeps == 2 && project.names("backups").iter().any(written)
    });
}

/// Ends a dump of a database whose table `t` somebody holds, when the session `which` waits for it.
fn ends_while_it_waits_for_a_lock(table: &str, which: &str) {
    let source = database("interrupt_lock");
    psql(&source, table);
    let project = TestProject::new().database(&source).playbook(
        "work",
        "let db = postgres();\nstep \"Work\" { dump(db).save(\"backups/x.sql\", #{ tag: \"daily\" }); }",
    );
    std::fs::create_dir(project.at("backups")).unwrap();
    let env = source.env();
    let holder = std::thread::spawn(move || {
        psql_output(&env, "BEGIN; LOCK TABLE ONLY t; SELECT pg_sleep(600) /* holder */; COMMIT", &[])
    });
    wait_for("the lock", || sessions(&source, "query LIKE '%holder%' AND wait_event = 'PgSleep'") == "1");
    let waits = format!("{which} AND wait_event_type = 'Lock'");
    ends_well(project, |_| sessions(&source, &waits) == "1");
    wait_for("the server to stop", || sessions(&source, &waits) == "0");
    drop(source);
    holder.join().unwrap();
}

/// How many sessions in a database are so.
fn sessions(database: &TestDatabase, condition: &str) -> String {
    let sql =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND {condition}", database.name);
    let output = psql_output(&cluster().client_env("postgres"), &sql, &[]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn while_pg_dump_waits_for_a_lock() {
    // Only `pg_dump` looks into the parent of partitions.
    ends_while_it_waits_for_a_lock(
        "CREATE TABLE t (id int) PARTITION BY RANGE (id)",
        "query LIKE 'LOCK TABLE %'",
    );
}

#[test]
fn while_the_size_of_a_table_waits_for_a_lock() {
    ends_while_it_waits_for_a_lock("CREATE TABLE t AS SELECT 1 AS id", "application_name = 'lifeboat'");
}

#[test]
fn in_the_middle_of_a_tree_of_processes() {
    let project = TestProject::new()
        .playbook("work", "step \"Work\" { exec([\"sh\", \"-c\", \"sleep 600 & sleep 600\"]); }");
    ends_well(project, |project| {
        processes(project).iter().filter(|(_, line)| line.starts_with("sleep 600")).count() == 2
    });
}

#[test]
fn in_the_middle_of_a_wait_for_another_try() {
    let project =
        TestProject::new().playbook("work", "step \"Work\" { retry(3, \"10m\", || fail(\"not yet\")); }");
    ends_well(project, |project| said(project).contains("Try 1 of 3 failed: not yet; next in 10 min"));
}

#[test]
fn in_the_middle_of_a_request_that_nobody_answers() {
    let silent = Receiver::silent();
    let project = TestProject::new().playbook(
        "work",
        &format!("step \"Work\" {{ http_get(\"{}\", #{{ timeout: \"10m\" }}); }}", silent.url()),
    );
    let asked = std::cell::Cell::new(0);
    ends_well(project, |_| {
        // The round before has asked once, too.
        let now = silent.bodies().len();
        now > asked.replace(now)
    });
}

#[test]
fn in_the_middle_of_a_query() {
    let source = database("interrupt_query");
    let project = TestProject::new().database(&source).playbook(
        "work",
        "let db = postgres();\nstep \"Work\" { query(db, \"SELECT 1 FROM pg_sleep(600)\", [], #{ timeout: \"20m\" }); }",
    );
    let active = || sessions(&source, "wait_event = 'PgSleep'");
    // The server stops too, or the second round would see two.
    ends_well(project, |_| active() == "1");
    wait_for("the server to stop", || active() == "0");
}

#[test]
fn in_the_middle_of_an_endless_loop() {
    let project = TestProject::new()
        .playbook("work", "step \"Work\" { info(\"looping\"); let n = 0; while n < 9999999999 { n += 0; let long = \"x\"; long.pad(5000, \"-\"); } }");
    ends_well(project, |project| said(project).contains("looping"));
}

#[test]
fn a_child_that_does_not_listen_is_ended_too() {
    let project = TestProject::new().playbook(
        "work",
        "step \"Work\" { exec([\"sh\", \"-c\", \"trap '' TERM INT; touch deaf; while :; do sleep 1; done\"]); }",
    );
    ends_well(project, |project| project.at("deaf").exists());
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let silent = Receiver::silent();
    let project = TestProject::new()
        .playbook("work", "step \"Work\" { exec([\"sleep\", \"600\"]); }")
        .playbook("well", "step \"x\" { info(\"well\"); }")
        .env("BACKUP_WEBHOOK_URL", silent.url());
    let mut running = Running::start(&project, &["work"]);
    wait_for("the child", || processes(&project).iter().any(|(_, line)| line.contains("sleep 600")));
    running.signal(Signal::INT);
    // Its alert is under way, and nobody answers.
    wait_for("the alert", || !silent.bodies().is_empty());
    running.signal(Signal::INT);
    assert_eq!(running.ends(), 130);
    assert!(said(&project).ends_with("; `lifeboat status` tells what is left to do\n"), "{}", said(&project));
    nobody_survives(&project);
    let run = runs(&project).remove(0);
    assert_eq!(run.state, RunState::Killed, "it was to end at once, whatever was under way");
    let receiver = Receiver::new();
    let project = project.env("BACKUP_WEBHOOK_URL", receiver.url());
    for _ in 0..2 {
        project.run(&["well"]).exits(0);
    }
    assert_eq!(receiver.messages("was killed: run ").len(), 1);
}

#[test]
fn a_signal_before_the_first_step_ends_it_too() {
    // A server that never answers keeps the very first question waiting.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let project = TestProject::new()
        .playbook(
            "work",
            "let db = postgres();\nlet n = query(db, \"SELECT 1\");\nstep \"Work\" { info(\"never\"); }",
        )
        .env("DB_HOST", "127.0.0.1")
        .env("DB_PORT", port)
        .env("DB_NAME", "x")
        .env("DB_USER", "x");
    for asked in &BOTH {
        let mut running = Running::start(&project, &["work"]);
        let connection = listener.accept().unwrap();
        running.signal(asked.signal);
        assert_eq!(running.ends(), i32::from(asked.exit.code()), "{}", said(&project));
        assert!(said(&project).contains(&format!("✘ work was {} after ", asked.word)), "{}", said(&project));
        assert_eq!(runs(&project)[0].state, RunState::Ended(asked.exit));
        drop(connection);
    }
}
