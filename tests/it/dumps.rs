//! Dumps that fail, each with what it tells.

use crate::cluster::{TestDatabase, cluster, database, program, psql, psql_output};
use crate::project::{Ran, TestProject};
use expect_test::expect;
use lifeboat::base::backup::Manifest;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

mod parallel;
mod round_trips;
mod standby;

const DIR: &str = "backups/database";

/// Exit code and screen of a failed backup, after which nothing is left under a final name or any other.
#[track_caller]
fn fails(project: &TestProject, source: &TestDatabase) -> String {
    told(project, source, &project.run(&["backup_database"]))
}

#[track_caller]
fn told(project: &TestProject, source: &TestDatabase, ran: &Ran) -> String {
    assert_ne!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(project.names(DIR), [""; 0]);
    anonymous(project, source, ran)
}

/// Exit code and screen, without names that differ from run to run.
fn anonymous(project: &TestProject, source: &TestDatabase, ran: &Ran) -> String {
    let bin = program("pg_dump").parent().unwrap().display().to_string();
    let text = project.told(ran).replace(&source.name, "DB").replace(&bin, "BIN");
    let address = source.env().into_iter().filter(|(name, _)| ["PGHOST", "PGPORT"].contains(name));
    let text = address.fold(text, |text, (name, value)| text.replace(&value, name));
    // Other tests' databases come and go.
    text.split_inclusive('\n').filter(|line| !line.starts_with("hint: The databases there are ")).collect()
}

/// A folder of programs in which `pg_dump` is a script of the shell; `$REAL` is the real one.
fn with_pg_dump(project: TestProject, script: &str) -> TestProject {
    let real = program("pg_dump");
    let text = format!(
        "#!/bin/sh\nREAL={}\nif [ \"$1\" = --version ]; then exec $REAL --version; fi\n{script}\n",
        real.display()
    );
    let project = project.file("bin/pg_dump", &text);
    std::fs::set_permissions(project.at("bin/pg_dump"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let bin = project.at("bin").display().to_string();
    project.env("LIFEBOAT_PG_BINDIR", bin)
}

#[test]
fn without_pg_dump_it_says_where_it_looked() {
    let source = database("missing");
    let project = TestProject::new().database(&source).file("bin/other", "");
    let bin = project.at("bin").display().to_string();
    let project = project.env("LIFEBOAT_PG_BINDIR", bin);
    expect![[r#"
        exit 1
        error: `pg_dump` is not in `PROJECT/bin`, which LIFEBOAT_PG_BINDIR names
          ——▶ std/backup:N
          │
        N │     require_pg_dump(db);
          │     ^
        while calling `std/backup::check_database` at std/backup:N
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        hint: Set LIFEBOAT_PG_BINDIR to the folder that holds `pg_dump`, or unset it.
        ✘ backup_database failed in step `Pre-flight checks` after TIME (exit 1)
    "#]]
    .assert_eq(&fails(&project, &source));
    let project =
        project.playbook("bare", r#"step "Dump" { dump(postgres()).save("backups/database/x.sql"); }"#);
    expect![[r#"
        exit 1
        error: `pg_dump` is not in `PROJECT/bin`, which LIFEBOAT_PG_BINDIR names
          ——▶ playbooks/bare.rhai:2:32
          │
        N │ step "Dump" { dump(postgres()).save("backups/database/x.sql"); }
          │                                ^
        hint: Set LIFEBOAT_PG_BINDIR to the folder that holds `pg_dump`, or unset it.
        ✘ bare failed in step `Dump` after TIME (exit 1)
    "#]]
    .assert_eq(&told(&project, &source, &project.run(&["bare"])));
}

#[test]
fn a_pg_dump_older_than_the_server_is_refused() {
    let source = database("older");
    let project = with_pg_dump(TestProject::new().database(&source), "exit 1")
        .file("bin/pg_dump", "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n");
    expect![[r#"
        exit 1
        error: no `pg_dump` can dump a server of version MAJOR: all are older
          ——▶ std/backup:N
          │
        N │     require_pg_dump(db);
          │     ^
        while calling `std/backup::check_database` at std/backup:N
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: the newest is 9.6.1, in `PROJECT/bin/pg_dump`
        hint: Install PostgreSQL's client programs of version MAJOR, on Debian and Ubuntu with `apt-get install postgresql-client-MAJOR`, or set LIFEBOAT_PG_BINDIR to the folder that holds them.
        ✘ backup_database failed in step `Pre-flight checks` after TIME (exit 1)
    "#]].assert_eq(&fails(&project, &source).replace(&server_major(), "MAJOR"));
    let project = project.file("bin/pg_dump", "#!/bin/sh\necho 'no version at all'\n");
    expect![[r#"
        exit 1
        error: cannot ask `PROJECT/bin/pg_dump` its version
          ——▶ std/backup:N
          │
        N │     require_pg_dump(db);
          │     ^
        while calling `std/backup::check_database` at std/backup:N
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: it printed `no version at all`
        hint: Repair that program, or set LIFEBOAT_PG_BINDIR to the folder of another installation.
        ✘ backup_database failed in step `Pre-flight checks` after TIME (exit 1)
    "#]]
    .assert_eq(&fails(&project, &source));
    let project = project.file("bin/pg_dump", "#!/bin/nowhere\n");
    expect![[r#"
        exit 1
        error: cannot ask `PROJECT/bin/pg_dump` its version
          ——▶ std/backup:N
          │
        N │     require_pg_dump(db);
          │     ^
        while calling `std/backup::check_database` at std/backup:N
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: No such file or directory (os error 2)
        hint: Repair that program, or set LIFEBOAT_PG_BINDIR to the folder of another installation.
        ✘ backup_database failed in step `Pre-flight checks` after TIME (exit 1)
    "#]]
    .assert_eq(&fails(&project, &source));
}

fn server_major() -> String {
    cluster().version().major().to_string()
}

#[test]
fn whatever_pg_dump_does_wrong_nothing_is_published() {
    let source = database("wrong");
    psql(&source, "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 100000) n");
    let mut all = String::new();
    for (what, script) in [
        ("fails at once", "echo 'pg_dump: error: out of luck' >&2; exit 1"),
        (
            "fails midway",
            "$REAL \"$@\" | head -c 1000000; echo 'pg_dump: error: the disk of the server is gone' >&2; exit 1",
        ),
        ("is killed midway", "$REAL \"$@\" | head -c 1000000; kill -9 $$"),
        ("is terminated midway", "$REAL \"$@\" | head -c 1000000; kill -15 $$"),
        ("fails behind the end", "$REAL \"$@\"; exit 3"),
        ("writes nothing", "exit 0"),
        ("ends well midway in a table", "$REAL \"$@\" | head -c 1000000; exit 0"),
        ("ends well before the end marker", "$REAL \"$@\" | sed '/database dump complete/,$d'; exit 0"),
        ("writes what is no dump", "echo \"Welcome to pg_dump, it's nice to see you\"; exit 0"),
        ("writes a command of psql", "printf '\\\\! echo owned\\n'; $REAL \"$@\""),
        ("writes rubbish and goes on", "echo 'SELECT 1 \\! x'; while echo; do :; done"),
        (
            "says a lot",
            "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo \"line $i of many\" >&2; done; exit 1",
        ),
    ] {
        let project = with_pg_dump(TestProject::new().database(&source), script);
        let told = told(&project, &source, &project.run(&["backup_database", "--jobs", "1"]));
        let told: Vec<&str> =
            told.lines().filter(|line| !line.contains('│') && !line.contains("——▶")).collect();
        assert!(told.len() < 40, "{what}: {told:?}");
        all += &format!("== {what}\n{}\n", told.join("\n"));
    }
    expect![[r#"
        == fails at once
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` exited with status 1
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: pg_dump: error: out of luck
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == fails midway
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` exited with status 1
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: pg_dump: error: the disk of the server is gone
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == is killed midway
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` was ended by signal 9 (SIGKILL)
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == is terminated midway
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` was ended by signal 15 (SIGTERM)
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == fails behind the end
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` exited with status 3
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == writes nothing
        exit 1
        error: the dump's end marker is missing
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: `pg_dump` ended well, but did not write all of the dump
        hint: Run again; if it stays, check `pg_dump` and what wraps it.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == ends well midway in a table
        exit 1
        error: what `pg_dump` wrote is no whole dump
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: the data of table `public.t`, which begins at line 41, has no end
        hint: Run again; if it stays, check `pg_dump` and what wraps it.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == ends well before the end marker
        exit 1
        error: the dump's end marker is missing
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: `pg_dump` ended well, but did not write all of the dump
        hint: Run again; if it stays, check `pg_dump` and what wraps it.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == writes what is no dump
        exit 1
        error: what `pg_dump` wrote is no whole dump
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: a statement with an open string, which begins at line 1, has no end
        hint: Run again; if it stays, check `pg_dump` and what wraps it.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == writes a command of psql
        exit 1
        error: line 1 of the dump holds the command `\! echo owned`
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        hint: No `pg_dump` writes that: look for an object with a line break in its name (CVE-2025-8715).
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == writes rubbish and goes on
        exit 1
        error: what `pg_dump` wrote is no whole dump
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: line 1: a backslash command inside a statement
        hint: Run again; if it stays, check `pg_dump` and what wraps it.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == says a lot
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` exited with status 1
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: line 2996 of many
        caused by: line 2997 of many
        caused by: line 2998 of many
        caused by: line 2999 of many
        caused by: line 3000 of many
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
    "#]].assert_eq(&all);
}

#[test]
fn a_failure_is_shown_in_full() {
    let source = database("full");
    let project =
        with_pg_dump(TestProject::new().database(&source), "echo 'pg_dump: error: out of luck' >&2; exit 1");
    expect![[r#"
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` exited with status 1
           ——▶ std/backup:N
           │
        N │         rows.gzip(options.level).hash().save(database_path(db, options), #{ tag: options.tag })
           │                                         ^
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: pg_dump: error: out of luck
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
    "#]]
    .assert_eq(&fails(&project, &source));
    // What stands in the folder already is not touched by it.
    assert_eq!(project.names("backups"), ["database"]);
}

#[test]
fn a_connection_that_the_server_ends_midway_fails_the_dump() {
    let source = database("ended");
    psql(&source, "CREATE TABLE t AS SELECT n, repeat('x', 200) FROM generate_series(1, 200000) n");
    // Behind the real one stands a slow reader, so that there is a midway.
    let script = "mkfifo pipe; $REAL \"$@\" > pipe & dump=$!; exec 3< pipe; head -c 100000 <&3; : > begun; while [ ! -e ended ]; do sleep 0.05; done; cat <&3; wait $dump";
    let project = with_pg_dump(TestProject::new().database(&source), script);
    let child = project
        .command(&["backup_database", "--jobs", "1"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let sending = format!(
        "FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'COPY %' AND wait_event = 'ClientWrite'",
        source.name
    );
    let ask = |what: &str| {
        psql_output(&cluster().client_env("postgres"), &format!("SELECT {what} {sending}"), &[]).stdout
    };
    // It stands still when all between it and the slow reader is full.
    while !project.at("begun").exists() || ask("count(*)") != b"1\n" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ask("count(pg_terminate_backend(pid))"), b"1\n");
    std::fs::write(project.at("ended"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let ran = Ran {
        code: output.status.code().unwrap(),
        stdout: String::new(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    expect![[r#"
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` exited with status 1
           ——▶ std/backup:N
           │
        N │         rows.gzip(options.level).hash().save(database_path(db, options), #{ tag: options.tag })
           │                                         ^
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: pg_dump: error: Dumping the contents of table "t" failed: PQgetCopyData() failed.
        caused by: pg_dump: detail: Error message from server: server closed the connection unexpectedly
        caused by: This probably means the server terminated abnormally
        caused by: before or while processing the request.
        caused by: pg_dump: detail: Command was: COPY public.t (n, repeat) TO stdout;
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
    "#]]
    .assert_eq(&told(&project, &source, &ran));
}

/// The project as another role, which is dropped with the guard.
struct Role(String);

impl Role {
    fn new(source: &TestDatabase, rights: &str) -> Self {
        let role = format!("role_of_{}", source.name);
        psql(
            source,
            &format!("CREATE ROLE {role} LOGIN PASSWORD 'other'; {}", rights.replace("ROLE", &role)),
        );
        Self(role)
    }

    fn project(&self, source: &TestDatabase) -> TestProject {
        TestProject::new().database(source).env("DB_USER", &self.0).env("DB_PASSWORD", "other")
    }

    fn gone(self, source: &TestDatabase) {
        psql(source, &format!("DROP OWNED BY {0}; DROP ROLE {0}", self.0));
    }
}

#[test]
fn a_role_that_may_not_read_everything_is_told_what_it_lacks() {
    let source = database("rights");
    psql(&source, "CREATE TABLE secret AS SELECT 1 AS id; CREATE TABLE open AS SELECT 1 AS id");
    let role = Role::new(&source, "GRANT SELECT ON open TO ROLE");
    let shown = fails(&role.project(&source), &source).replace(&role.0, "ROLE");
    psql(&source, &format!("GRANT SELECT ON secret TO {}", role.0));
    role.project(&source).run(&["backup_database"]).exits(0);
    role.gone(&source);
    expect![[r#"
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as role_of_DB` failed: `BIN/pg_dump` exited with status 1
           ——▶ std/backup:N
           │
        N │         rows.gzip(options.level).hash().save(database_path(db, options), #{ tag: options.tag })
           │                                         ^
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: pg_dump: error: query failed: ERROR:  permission denied for table secret
        caused by: pg_dump: detail: Query was: LOCK TABLE public.secret IN ACCESS SHARE MODE
        hint: Let the role read everything: `GRANT pg_read_all_data TO role`, or back up as the database's owner.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
    "#]].assert_eq(&shown);
}

#[test]
fn rows_that_row_security_hides_fail_the_dump() {
    let source = database("rows");
    psql(
        &source,
        "CREATE TABLE t AS SELECT generate_series(1, 9) AS id; ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY few ON t USING (id < 5)",
    );
    let role = Role::new(&source, "GRANT SELECT ON t TO ROLE");
    let shown = fails(&role.project(&source), &source).replace(&role.0, "ROLE");
    psql(&source, &format!("ALTER ROLE {} BYPASSRLS", role.0));
    let project = role.project(&source);
    project.run(&["backup_database"]).exits(0);
    assert_eq!(manifest(&project).tables[0].rows, 9);
    role.gone(&source);
    expect![[r#"
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as role_of_DB` failed: table public.t cannot be read
           ——▶ std/backup:N
           │
        N │         rows.gzip(options.level).hash().save(database_path(db, options), #{ tag: options.tag })
           │                                         ^
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: query would be affected by row-level security policy for table "t" (42501)
        hint: Rows are hidden from this role by row security: back up as a role with BYPASSRLS.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
    "#]]
    .assert_eq(&shown);
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let source = database("gone");
    let project = TestProject::new().database(&source).env("DB_NAME", "no such database");
    expect![[r#"
        exit 1
        error: cannot connect to `no such database at PGHOST:PGPORT as postgres`
          ——▶ std/backup:N
          │
        N │     require_pg_dump(db);
          │     ^
        while calling `std/backup::check_database` at std/backup:N
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: database "no such database" does not exist
        hint: Correct the database's name; it came from DB_NAME.
        ✘ backup_database failed in step `Pre-flight checks` after TIME (exit 1)
    "#]]
    .assert_eq(&fails(&project, &source));
}

fn manifest(project: &TestProject) -> Manifest {
    let name = project.only(DIR, ".sql.gz.json");
    serde_json::from_slice(&std::fs::read(project.at(DIR).join(name)).unwrap()).unwrap()
}

#[test]
fn parts_of_a_database_are_dumped_by_patterns() {
    let source = database("parts");
    psql(
        &source,
        "CREATE SCHEMA s; CREATE TABLE s.a AS SELECT 1 AS id; CREATE TABLE b AS SELECT 1 AS id; CREATE TABLE c AS SELECT 1 AS id",
    );
    let tables = |options: &str| {
        let project = TestProject::new().database(&source).playbook(
            "part",
            &format!("step \"Dump\" {{ verify(dump(postgres(), {options}).gzip().save(\"backups/database/p.sql.gz\")); }}"),
        );
        let ran = project.run(&["part"]);
        if ran.code != 0 {
            return anonymous(&project, &source, &ran);
        }
        manifest(&project).tables.into_iter().map(|t| format!("{} ", t.table)).collect()
    };
    assert_eq!(tables("#{ schemas: [\"s\"] }"), "s.a ");
    assert_eq!(tables("#{ tables: [\"b\", \"s.*\"] }"), "public.b s.a ");
    assert_eq!(tables("#{ exclude_tables: [\"b\"], exclude_table_data: [\"c\"] }"), "s.a ");
    let none = tables("#{ tables: [\"absent\"] }");
    expect![[r#"
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `BIN/pg_dump` exited with status 1
          ——▶ playbooks/part.rhai:2:71
          │
        N │ step "Dump" { verify(dump(postgres(), #{ tables: ["absent"] }).gzip().save("backups/database/p.sql.gz")); }
          │                                                                       ^
        caused by: pg_dump: error: no matching tables were found
        ✘ part failed in step `Dump` after TIME (exit 1)
    "#]].assert_eq(&none);
}
