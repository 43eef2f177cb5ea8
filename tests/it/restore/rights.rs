//! What the role may do, and what is said loudly before it does it.

use super::{DIR, backed_up, databases_like, kept, plain_backup, project};
use crate::aftermath::wait_for;
use crate::cluster::{TestDatabase, cluster, database, dump_text, program, psql, psql_output};
use crate::postgres::{changed, host};
use crate::project::{Ran, TestProject};
use expect_test::expect;
use lifeboat::base::cancel::Reason;
use lifeboat::base::failure::Code;
use lifeboat::sys::postgres::connection::connect;
use lifeboat::sys::postgres::slots::when_free;
use std::cell::RefCell;
use std::process::{Child, Command, Stdio};

/// A database of a role that may make databases, and nothing else; a project that connects as it.
fn maker(hint: &str) -> (TestDatabase, String, TestProject) {
    let shop = database(hint);
    let role = format!("{}_role", shop.name);
    psql(
        &shop,
        &format!(
            "CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'p4ss'; ALTER DATABASE {} OWNER TO {role}; SET ROLE {role}; \
             CREATE TABLE mine (x int); INSERT INTO mine VALUES (1)",
            shop.name
        ),
    );
    let project = project(&shop).env("DB_USER", role.clone()).env("DB_PASSWORD", "p4ss");
    (shop, role, project)
}

fn back_up(project: &TestProject) -> String {
    project.run(&["backup_database"]).exits(0);
    format!("{DIR}/{}", project.only(DIR, ".sql.gz"))
}

#[test]
fn what_cannot_be_carried_over_is_told_before_the_load() {
    let (shop, role, project) = maker("restore_superusers_setting");
    psql(&shop, &format!("ALTER DATABASE {} SET log_statement = 'ddl'", shop.name));
    std::fs::create_dir_all(project.at(DIR)).unwrap();
    // Its load would fail.
    let text = "SET client_encoding = 'UTF8';\nCREATE TABLE public.a (x no_such_type);\n\n--\n-- PostgreSQL database dump complete\n--\n";
    std::fs::write(project.at("backups/bad.sql"), text).unwrap();
    let ran = project.run(&["restore_file", "backups/bad.sql"]);
    let told = project.told(&ran).replace(&role, "ROLE").replace(&shop.name, "DB");
    let lines = told.lines().filter(|line| line.starts_with("caused by") || line.starts_with("hint"));
    let told: String = lines.map(|line| format!("{line}\n")).collect();
    let staging = told.find("DB_staging").map(|at| told[at..].split(['`', '"']).next().unwrap().to_owned());
    let told = staging.map_or(told.clone(), |name| told.replace(&name, "STAGING"));
    assert_eq!(databases_like(&format!("{}_", shop.name)), [""; 0]);
    psql(
        &shop,
        &format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {role}; DROP ROLE {role}", shop.name),
    );
    expect![[r#"
        caused by: permission denied to set parameter "log_statement" (42501)
        caused by: at `ALTER DATABASE "STAGING" SET "log_statement"`
        hint: Connect as a superuser: others may not set what one has set.
        hint: `DB` is as it was.
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_role_that_only_reads_by_default_restores_all_the_same() {
    let (shop, role, project) = maker("restore_reads_by_default");
    psql(&shop, &format!("ALTER ROLE {role} SET default_transaction_read_only = on"));
    let file = back_up(&project);
    let before = dump_text(&shop);
    project.run(&["restore_file", &file]).exits(0);
    assert!(dump_text(&shop) == before);
    let kept = kept(&shop);
    psql(&kept, &format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {role}", kept.name));
    psql(
        &shop,
        &format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {role}; DROP ROLE {role}", shop.name),
    );
}

/// A session of a role that stays in a database until it is ended.
struct Sleeper(Child);

impl Sleeper {
    fn of(shop: &TestDatabase, role: &str) -> Self {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-c", "SELECT pg_sleep(600)"])
            .envs(shop.env())
            .env("PGUSER", role)
            .env("PGPASSWORD", "p4ss");
        let child = psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
            shop.name
        );
        wait_for("the sleeper", || {
            let output = psql_output(&cluster().client_env("postgres"), &sql, &[]);
            output.stdout == b"1\n"
        });
        Self(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_database_whose_connections_are_all_taken_is_restored_and_its_limit_is_named() {
    let (shop, role, project) = maker("restore_full");
    let file = back_up(&project);
    let before = dump_text(&shop);
    let limit = |of: &str, limit: i32| psql(&shop, &format!("ALTER {of} CONNECTION LIMIT {limit}"));
    limit(&format!("DATABASE {}", shop.name), 1);
    let sleeper = Sleeper::of(&shop, &role);
    let told = |ran: &Ran| project.told(ran).replace(&role, "ROLE").replace(&shop.name, "DB");
    let hint = |ran: &Ran| {
        told(ran).lines().filter(|line| line.starts_with("hint: ")).collect::<Vec<_>>().join("\n")
    };
    let ran = project.run(&["backup_database"]);
    expect![[r#"hint: Try again when fewer clients are connected, or raise the limit: `ALTER DATABASE "DB" CONNECTION LIMIT -1;` takes it away."#]].assert_eq(&hint(&ran));
    project.run(&["restore_file", &file]).exits(0);
    assert!(dump_text(&shop) == before);
    drop(sleeper);
    let sql = format!("SELECT datconnlimit FROM pg_database WHERE datname = '{}'", shop.name);
    assert_eq!(psql(&shop, &sql), "1\n");

    limit(&format!("DATABASE {}", shop.name), -1);
    limit(&format!("ROLE {role}"), 1);
    let sleeper = Sleeper::of(&shop, &role);
    let ran = project.run(&["backup_database"]);
    expect![[r#"hint: Try again when fewer clients are connected, or raise the limit: `ALTER ROLE "ROLE" CONNECTION LIMIT -1;` takes it away."#]].assert_eq(&hint(&ran));
    drop(sleeper);
    let kept = kept(&shop);
    psql(&kept, &format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {role}", kept.name));
    psql(
        &shop,
        &format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {role}; DROP ROLE {role}", shop.name),
    );
}

#[test]
fn three_connections_of_a_role_are_enough_whatever_number_is_asked_for() {
    let (shop, role, project) = maker("restore_three");
    psql(&shop, &format!("SET ROLE {role}; CREATE TABLE more AS SELECT 1 AS n; CREATE INDEX ON more (n)"));
    let files = [back_up(&project), plain_backup(&project, &shop)];
    let before = dump_text(&shop);
    psql(&shop, &format!("ALTER ROLE {role} CONNECTION LIMIT 3"));
    for file in files {
        project.run(&["restore_file", &file, "--jobs", "4"]).exits(0);
        assert!(dump_text(&shop) == before);
        drop(kept(&shop));
    }
    psql(
        &shop,
        &format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {role}; DROP ROLE {role}", shop.name),
    );
}

#[test]
fn a_connection_that_is_just_being_given_back_is_waited_for() {
    let (shop, role, _) = maker("restore_given_back");
    psql(&shop, &format!("ALTER ROLE {role} CONNECTION LIMIT 1"));
    let (settings, host) = (changed(&shop, &[("PGUSER", &role), ("PGPASSWORD", "p4ss")]), host());
    let first = RefCell::new(Some(connect(&host, &settings).unwrap()));
    let second = when_free(&host, || {
        let result = connect(&host, &settings);
        if result.is_err() {
            first.take();
        }
        result
    });
    assert!(second.is_ok() && first.take().is_none());
    let full = connect(&host, &settings).err().unwrap();
    // A run that is asked to end does not wait.
    let asked = when_free(&host, || {
        host.cancel().cancel(Reason::Interrupted);
        Err::<(), _>(full.clone())
    });
    assert_eq!(asked.unwrap_err().code, Code::Interrupted);
    drop(second);
    psql(
        &shop,
        &format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {role}; DROP ROLE {role}", shop.name),
    );
}

#[test]
fn a_backup_of_another_database_is_told_loudly() {
    let source = database("restore_of_another");
    psql(&source, "CREATE TABLE t (x int)");
    let (project, file) = backed_up(&source);
    let target = database("restore_into_another");
    let project = project.database(&target);
    let ran = project.run(&["restore_file", &file]).exits(0);
    ran.says(&format!("is a backup of `{}`, not of `{}`", source.name, target.name));
    assert!(dump_text(&target) == dump_text(&source));
    drop(kept(&target));
}
