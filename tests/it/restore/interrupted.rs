//! Restores that end in their middle: the server dies, the program is killed, or somebody asks what became of it.

use super::{DIR, RESTORE, backed_up, kept, restore};
use crate::aftermath::wait_for;
use crate::cluster::{database, dump_text, options, psql, psql_output};
use crate::postgres::settings_from;
use crate::project::TestProject;
use lifeboat::action::Action;
use lifeboat::action::restore::{Restore, RestoreOptions};
use lifeboat::base::plan::{Reconciled, Was};
use lifeboat::sys::env::Env;
use lifeboat::sys::facts::{Facts, Reality};
use lifeboat::sys::host::Host;
use lifeboat::sys::postgres::maintenance::Maintenance;
use lifeboat::sys::scratch::ScratchCluster;
use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::sync::Arc;

/// A dump whose only row is not taken before somebody ends the session: a dump holds no call that merely waits.
const WAITING: &str = "\
SET client_encoding = 'UTF8';
CREATE FUNCTION public.slow(x int) RETURNS boolean LANGUAGE sql AS 'SELECT pg_catalog.pg_sleep(600) IS NOT NULL';
CREATE TABLE public.a (x int, CHECK (public.slow(x)));
COPY public.a (x) FROM stdin;
1
\\.

--
-- PostgreSQL database dump complete
--
";

fn waiting(project: &TestProject) -> String {
    let file = format!("{DIR}/waiting.sql");
    std::fs::create_dir_all(project.at(DIR)).unwrap();
    std::fs::write(project.at(&file), WAITING).unwrap();
    file
}

/// Waits until a session sleeps in the staging database; its process on the server.
#[track_caller]
fn sleeper(child: &mut Child, env: &[(&'static str, String)], staging: &str) -> String {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE datname LIKE '{staging}%' AND wait_event = 'PgSleep'"
    );
    let mut pid = None;
    wait_for("the restore to sleep", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it slept");
        let text = String::from_utf8(psql_output(env, &sql, &[]).stdout).unwrap();
        pid = text.lines().next().map(str::to_owned);
        pid.is_some()
    });
    pid.unwrap()
}

#[test]
fn a_server_that_dies_midway_leaves_the_live_database_and_the_next_restore_cleans_up() {
    let cluster = ScratchCluster::start(&options()).unwrap();
    let env = |database: &str| cluster.client_env(database);
    let run = |database: &str, sql: &str| {
        let output = psql_output(&env(database), sql, &[]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("postgres", "CREATE DATABASE live");
    run("live", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let mut project = TestProject::new().playbook("restore_file", RESTORE);
    for (ours, value) in [
        ("DB_HOST", cluster.socket_dir().display().to_string()),
        ("DB_PORT", cluster.port().to_string()),
        ("DB_NAME", "live".to_owned()),
        ("DB_USER", cluster.superuser().to_owned()),
    ] {
        project = project.env(ours, value);
    }
    let file = waiting(&project);
    let mut command =
        project.command(&["restore_file", &file]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pid = sleeper(&mut command, &env("postgres"), "live_staging");
    // A process that is killed takes the whole server with it, which then recovers.
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let output = command.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("error: the connection to `live_staging_"), "{told}");
    assert!(told.contains("hint: `live` is as it was."), "{told}");
    wait_for("the server to recover", || psql_output(&env("live"), "SELECT 1", &[]).status.success());
    assert_eq!(run("live", "SELECT count(*) FROM t"), "1000\n");
    let text = std::fs::read_to_string(project.at(&file)).unwrap().replace("pg_sleep(600)", "pg_sleep(0)");
    std::fs::write(project.at(&file), text).unwrap();
    project.run(&["restore_file", &file]).exits(0);
    assert_eq!(run("live", "SELECT count(*) FROM a"), "1\n");
    let left = run("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'live_staging%'");
    assert_eq!(left, "0\n");
}

#[test]
fn what_a_killed_restore_left_is_removed_by_the_next_one() {
    let live = database("restore_killed");
    psql(&live, "CREATE TABLE t AS SELECT 1 AS x");
    let (project, file) = backed_up(&live);
    let before = dump_text(&live);
    let waiting = waiting(&project);
    let mut child = project.start(&["restore_file", &waiting]);
    let staging = format!("{}_staging", live.name);
    sleeper(&mut child, &crate::cluster::cluster().client_env("postgres"), &staging);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(dump_text(&live) == before);
    assert_eq!(super::databases_like(&staging).len(), 1);
    restore(&project, &file).says("cleaned up after a run that was killed: dropped `");
    assert_eq!(super::databases_like(&staging), [""; 0]);
    drop(kept(&live));
}

#[test]
fn what_became_of_a_restore_is_told_from_the_server() {
    let live = database("restore_reconcile");
    psql(&live, "CREATE TABLE t AS SELECT 1 AS x");
    let (project, file) = backed_up(&live);
    let env = live.env().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let env = Env::of(env, BTreeMap::new());
    let host = Arc::new(Host::new(project.path().to_path_buf(), project.at(".lifeboat"), env));
    let facts = Facts::new(host.clone(), Arc::new(Reality));
    let settings = settings_from(live.env());
    let action =
        Restore { backup: project.at(&file), settings: settings.clone(), options: RestoreOptions::default() };
    let plan = action.plan(&facts).unwrap();
    let was = |run: &str, begun: bool| Was { run: run.to_owned(), plan: plan.clone(), begun, output: None };
    let became = |was: &Was<_>| Restore::reconcile(was, &facts).unwrap();
    assert_eq!(became(&was("20251110-020000-abcdef", false)), Reconciled::NotDone);
    assert_eq!(became(&was("20251110-020000-abcdef", true)), Reconciled::NotDone);
    restore(&project, &file);
    let standing =
        Maintenance::connect(&host, &settings).unwrap().marked(Some(&live.name)).unwrap().remove(0);
    let run = standing.mark.unwrap().run;
    let Reconciled::Done(done) = became(&was(&run, true)) else { panic!("{:?}", became(&was(&run, true))) };
    assert_eq!((done.kept.as_deref(), done.tables, done.rows), (Some(standing.name.as_str()), 1, 1));
    let again = Was { output: Some(done.clone()), ..was(&run, true) };
    assert_eq!(became(&again), Reconciled::Done(done.clone()));
    let Reconciled::InDoubt(why) = became(&was("20251110-020000-abcdef", true)) else { panic!() };
    assert_eq!(why, format!("`{}` is another database by now than when the run began", live.name));
    drop(kept(&live));
}
