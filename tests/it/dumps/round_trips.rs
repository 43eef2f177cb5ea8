//! Databases that are hard to dump, restored from their backups by stock tools.

use super::{DIR, manifest};
use crate::cluster::{TestDatabase, cluster, database, dump_text, program, psql, psql_output};
use crate::project::TestProject;
use expect_test::expect;
use std::process::{Command, Stdio};

/// Backs up a database, loads the backup with stock tools into an empty one, and compares dumps of both.
#[track_caller]
fn round_trip(source: &TestDatabase) -> (TestProject, TestDatabase) {
    round_trip_with(source, 0)
}

/// The same where the backup ends with that code.
#[track_caller]
fn round_trip_with(source: &TestDatabase, code: i32) -> (TestProject, TestDatabase) {
    let project = TestProject::new().database(source);
    project.run(&["backup_database"]).exits(code);
    let file = project.only(DIR, ".sql.gz");
    let copy = database("copy");
    let encoding = psql(
        source,
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()",
    );
    if encoding.trim() != "UTF8" {
        let sql = [
            format!("DROP DATABASE \"{}\"", copy.name),
            format!(
                "CREATE DATABASE \"{}\" TEMPLATE template0 ENCODING '{}' LOCALE 'C'",
                copy.name,
                encoding.trim()
            ),
        ];
        for sql in sql {
            assert!(psql_output(&cluster().client_env("postgres"), &sql, &[]).status.success());
        }
    }
    let mut gunzip = Command::new("gunzip")
        .arg("-c")
        .arg(project.at(DIR).join(&file))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = Command::new(program("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"])
        .envs(copy.env())
        .stdin(gunzip.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(gunzip.wait().unwrap().success() && output.status.success(), "{output:?}");
    (project, copy)
}

#[test]
fn names_with_line_breaks_and_names_like_commands_make_the_round_trip() {
    let source = database("names");
    psql(
        &source,
        r#"
        CREATE TABLE "line
break
\! echo owned" (id int, "col
umn" text);
        INSERT INTO "line
break
\! echo owned" VALUES (1, E'a\nb\\.'), (2, '\.'), (3, E'\\! rm');
        CREATE TABLE "\! echo owned" AS SELECT 7 AS "\q";
        CREATE SCHEMA "\connect postgres";
        CREATE TABLE "\connect postgres"."COPY x FROM stdin;" AS SELECT '-- PostgreSQL database dump complete'::text AS t;
        CREATE FUNCTION "\." () RETURNS text LANGUAGE sql AS $$ SELECT '
\.
COPY public.t FROM stdin;
' $$;
        COMMENT ON TABLE "\! echo owned" IS E'\n\\! echo owned\n-- PostgreSQL database dump complete\n';
        "#,
    );
    let (project, copy) = round_trip(&source);
    assert!(dump_text(&source) == dump_text(&copy));
    let tables: Vec<(String, u64)> =
        manifest(&project).tables.into_iter().map(|t| (t.table, t.rows)).collect();
    expect![[r#"
        [
            (
                "\"\\connect postgres\".\"COPY x FROM stdin;\"",
                1,
            ),
            (
                "public.\"\\! echo owned\"",
                1,
            ),
            (
                "public.\"line\nbreak\n\\! echo owned\"",
                3,
            ),
        ]
    "#]]
    .assert_debug_eq(&tables);
}

#[test]
fn bytes_without_an_encoding_make_the_round_trip() {
    let source = database("ascii");
    let admin = cluster().client_env("postgres");
    for sql in [
        format!("DROP DATABASE {}", source.name),
        format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'", source.name),
    ] {
        assert!(psql_output(&admin, &sql, &[]).status.success());
    }
    psql(
        &source,
        r"CREATE TABLE t (id int, bytes text); INSERT INTO t SELECT n, E'\xe9\xff' || chr(n) || E'\x80\xc3' FROM generate_series(1, 127) n",
    );
    // A name in Latin-1, as such databases have them.
    let sql = b"ALTER TABLE t RENAME TO \"caf\xe9\"";
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(program("psql"))
        .args(["-X", "-q", "-c"])
        .arg(std::ffi::OsStr::from_bytes(sql))
        .envs(source.env())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // Names that are no UTF-8 cannot be locked by their names, which is warned of.
    let (project, copy) = round_trip_with(&source, 3);
    let raw = |database: &TestDatabase| {
        let output = Command::new(program("pg_dump")).envs(database.env()).output().unwrap();
        let lines = output.stdout.split(|byte| *byte == b'\n');
        lines.filter(|line| !line.starts_with(b"\\")).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert!(raw(&source) == raw(&copy));
    let manifest = manifest(&project);
    assert_eq!(manifest.tables.len(), 1);
    assert_eq!(manifest.tables[0].rows, 127);
    assert_eq!(manifest.properties.unwrap().encoding, "SQL_ASCII");
    assert!(manifest.verified.unwrap().intact);
}

#[test]
fn an_empty_database_makes_the_round_trip() {
    let source = database("empty");
    let (project, copy) = round_trip(&source);
    assert!(dump_text(&source) == dump_text(&copy));
    let manifest = manifest(&project);
    assert_eq!((manifest.tables.len(), manifest.verified.unwrap().intact), (0, true));
}

#[test]
fn a_row_larger_than_any_block_makes_the_round_trip() {
    let source = database("row");
    psql(
        &source,
        "CREATE TABLE t (id int, text text, bytes bytea); \
         INSERT INTO t SELECT 1, string_agg(md5(n::text), E'\\n'), decode(string_agg(md5(n::text), ''), 'hex') \
         FROM generate_series(1, 160000) n; INSERT INTO t VALUES (2, NULL, ''), (3, '', NULL)",
    );
    let (project, copy) = round_trip(&source);
    assert!(dump_text(&source) == dump_text(&copy));
    let manifest = manifest(&project);
    assert!(manifest.raw_size > 10 << 20, "{}", manifest.raw_size);
    assert_eq!(manifest.tables[0].rows, 3);
}

#[test]
fn extensions_and_their_tables_make_the_round_trip() {
    let source = database("extension");
    let available = psql(
        &source,
        "SELECT name FROM pg_available_extensions WHERE name IN ('hstore', 'pg_trgm', 'citext') ORDER BY name",
    );
    for name in available.lines() {
        psql(&source, &format!("CREATE EXTENSION {name}"));
    }
    psql(&source, "CREATE TABLE t AS SELECT generate_series(1, 10) AS id");
    let (project, copy) = round_trip(&source);
    assert!(dump_text(&source) == dump_text(&copy));
    let found = manifest(&project).properties.unwrap().extensions;
    let mut expected: Vec<&str> = available.lines().chain(["plpgsql"]).collect();
    expected.sort_unstable();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), expected);
}
