//! What must not be restored is not, each with what it tells: the live database stays as it was, and nothing is left beside it.

use super::{DIR, backed_up, databases_like, plain_backup, project};
use crate::cluster::{TestDatabase, database, dump_text, psql};
use crate::project::{Ran, TestProject};
use expect_test::expect;

/// A small database with something of everything that a restore could break.
fn shop(hint: &str) -> TestDatabase {
    let shop = database(hint);
    psql(
        &shop,
        "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 5000) n; \
         CREATE TABLE orders (id int, user_id int REFERENCES users); INSERT INTO orders SELECT n, n FROM generate_series(1, 100) n",
    );
    shop
}

/// Restores what must not be restored; the screen without names that differ from run to run.
#[track_caller]
fn refused(project: &TestProject, shop: &TestDatabase, args: &[&str]) -> String {
    let before = dump_text(shop);
    let ran = project.run(&[&["restore_file"], args].concat());
    assert!(dump_text(shop) == before, "the live database was changed");
    let beside = databases_like(&format!("{}_", shop.name));
    assert_eq!(beside, [""; 0], "{}", ran.stderr);
    told(project, shop, &ran)
}

fn told(project: &TestProject, shop: &TestDatabase, ran: &Ran) -> String {
    let text = project.told(ran).replace(&shop.name, "DB");
    let address = shop.env().into_iter().filter(|(name, _)| ["PGHOST", "PGPORT"].contains(name));
    let text = address.fold(text, |text, (name, value)| text.replace(&value, name));
    // Where it was called is the same everywhere.
    text.lines()
        .filter(|line| !["   ──▶", "  ——▶", "   │", "  │", "N │"].iter().any(|begin| line.starts_with(begin)))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn edit(project: &TestProject, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(project.at(file)).unwrap();
    change(&mut bytes);
    std::fs::write(project.at(file), bytes).unwrap();
}

/// A dump with a statement in its middle, as a file of other tools.
fn with_statement(project: &TestProject, sql: &str) -> String {
    let file = format!("{DIR}/hostile.sql");
    std::fs::create_dir_all(project.at(DIR)).unwrap();
    let text = format!(
        "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\nCREATE TABLE public.a (x int);\n{sql}\n\
         COPY public.a (x) FROM stdin;\n1\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
    );
    std::fs::write(project.at(&file), text).unwrap();
    file
}

#[test]
fn a_corrupt_backup_is_refused_with_12() {
    let shop = shop("restore_corrupt");
    let (project, file) = backed_up(&shop);
    let whole = std::fs::read(project.at(&file)).unwrap();
    let sidecar = format!("{file}.sha256");
    let digest = std::fs::read(project.at(&sidecar)).unwrap();
    let mut all = String::new();
    let mut one = |what: &str| {
        let told = refused(&project, &shop, &[&file]);
        assert!(told.starts_with("exit 12\n"), "{what}: {told}");
        all.push_str(&format!(
            "{what}: {}\n",
            told.lines().find(|line| line.starts_with("caused by")).unwrap()
        ));
        std::fs::write(project.at(&file), &whole).unwrap();
        std::fs::write(project.at(&sidecar), &digest).unwrap();
    };
    edit(&project, &file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    one("a flipped byte");
    edit(&project, &file, |bytes| bytes.truncate(bytes.len() * 2 / 3));
    one("a truncated file");
    edit(&project, &file, Vec::clear);
    one("an empty file");
    edit(&project, &sidecar, |bytes| bytes[0] = if bytes[0] == b'0' { b'1' } else { b'0' });
    one("another digest");
    expect![[r#"
        a flipped byte: caused by: DB_db_STAMP.sql.gz is damaged at byte N: its checksum does not match
        a truncated file: caused by: DB_db_STAMP.sql.gz is cut off at byte N
        an empty file: caused by: DB_db_STAMP.sql.gz is empty
        another digest: caused by: DB_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256
    "#]]
    .assert_eq(&all);
}

#[test]
fn a_manifest_that_lies_is_refused() {
    let shop = shop("restore_lies");
    let (project, file) = backed_up(&shop);
    edit(&project, &format!("{file}.json"), |json| {
        *json =
            String::from_utf8(json.clone()).unwrap().replace("\"rows\": 5000", "\"rows\": 5001").into_bytes();
    });
    expect![[r#"
        exit 12
        error: `DB_db_STAMP.sql.gz` is not intact
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: DB_db_STAMP.sql.gz: row counts or fingerprints differ from the manifest
        hint: Nothing was changed. `lifeboat backups backups/database --verified` lists the intact ones.
        ✘ restore_file failed in step `Restore` after TIME (exit 12)
    "#]]
    .assert_eq(&refused(&project, &shop, &[&file]));
    // The summary in the dump and the content agree, but somebody has rewritten both.
    let plain = super::project(&shop);
    let file = plain_backup(&plain, &shop);
    plain.stock(DIR, "gunzip", &["plain_20251110_020000.sql.gz"]);
    let sql = file.trim_end_matches(".gz");
    edit(&plain, sql, |bytes| {
        bytes.extend_from_slice(
            b"-- Lifeboat content summary, version 1\n-- Lifeboat table: 7 00000000000000000000000000000007 public.users\n\
              -- Lifeboat summary complete: 1 tables, 7 rows\n",
        );
    });
    expect![[r#"
        exit 12
        error: `plain_STAMP.sql` is not intact
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: plain_STAMP.sql: table public.users has 5000 rows instead of 7
        hint: Nothing was changed. `lifeboat backups backups/database --verified` lists the intact ones.
        ✘ restore_file failed in step `Restore` after TIME (exit 12)
    "#]]
    .assert_eq(&refused(&plain, &shop, &[sql]));
}

#[test]
fn a_dump_cut_before_it_was_compressed_is_refused() {
    let shop = shop("restore_cut");
    let project = project(&shop);
    let file = plain_backup(&project, &shop);
    project.stock(DIR, "gunzip", &["plain_20251110_020000.sql.gz"]);
    let sql = file.trim_end_matches(".gz");
    // In the middle of a row, where `psql -1` would commit what it got.
    edit(&project, sql, |bytes| bytes.truncate(bytes.len() / 2));
    project.stock(DIR, "gzip", &["plain_20251110_020000.sql"]);
    expect![[r#"
        exit 12
        error: `plain_STAMP.sql.gz` is not intact
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: plain_STAMP.sql.gz: the data of table `public.users`, which begins at line 161, has no end
        hint: Nothing was changed. `lifeboat backups backups/database --verified` lists the intact ones.
        ✘ restore_file failed in step `Restore` after TIME (exit 12)
    "#]]
    .assert_eq(&refused(&project, &shop, &[&file]));
    // Between two statements: nothing but the end marker is missing.
    let file = with_statement(&project, "");
    edit(&project, &file, |bytes| bytes.truncate(bytes.len() - 40));
    expect![[r#"
        exit 12
        error: `hostile.sql` is not intact
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: hostile.sql: a statement, which begins at line 13, has no end
        hint: Nothing was changed. `lifeboat backups backups/database --verified` lists the intact ones.
        ✘ restore_file failed in step `Restore` after TIME (exit 12)
    "#]]
    .assert_eq(&refused(&project, &shop, &[&file]));
}

#[test]
fn what_reaches_beyond_the_database_is_refused_with_its_line() {
    let shop = shop("restore_hostile");
    let project = project(&shop);
    let mut all = String::new();
    for sql in [
        "\\! touch /tmp/owned",
        "\\connect postgres",
        "\\unrestrict `touch /tmp/owned`",
        "CREATE DATABASE other;\n\\connect other",
        "DROP DATABASE postgres;",
        "ALTER ROLE postgres PASSWORD 'stolen';",
        "COPY public.a FROM PROGRAM 'id';",
        "ALTER SYSTEM SET log_statement = 'all';",
        "GRANT pg_execute_server_program TO PUBLIC;",
        "CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p;",
        "SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);",
        "SELECT pg_catalog.lo_export(1, '/tmp/owned');",
        "DO $$ BEGIN END $$;",
        "COMMIT AND CHAIN;",
        "ALTER SUBSCRIPTION s ENABLE;",
    ] {
        let file = with_statement(&project, sql);
        let told = refused(&project, &shop, &[&file]);
        let lines = told.lines().filter(|line| !line.starts_with('✘'));
        all.push_str(&lines.map(|line| format!("{line}\n")).collect::<String>());
    }
    expect![[r#"
        exit 12
        error: `hostile.sql` is not intact
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: hostile.sql: line 7: a dump does not hold the command `\! touch /tmp/owned`
        hint: Nothing was changed. `lifeboat backups backups/database --verified` lists the intact ones.
        exit 12
        error: `hostile.sql` is not intact
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: hostile.sql: line 7: a dump does not hold the command `\connect postgres`
        hint: Nothing was changed. `lifeboat backups backups/database --verified` lists the intact ones.
        exit 12
        error: `hostile.sql` is not intact
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: hostile.sql: line 7: a dump does not hold the command `\unrestrict `touch /tmp/owned``
        hint: Nothing was changed. `lifeboat backups backups/database --verified` lists the intact ones.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `CREATE DATABASE other`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it makes or changes databases
        hint: Restore one database from one dump made without --create: `pg_dump --file=FILE DATABASE`.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `DROP DATABASE postgres`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it makes or changes databases
        hint: Restore one database from one dump made without --create: `pg_dump --file=FILE DATABASE`.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `ALTER ROLE postgres PASSWORD`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it makes or changes roles
        hint: Make roles from the saved `FILE.globals.sql`, or by hand; a dump of one database holds none.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `COPY public.a FROM PROGRAM`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it reads or writes files or programs of the server
        hint: No `pg_dump` writes that: do not trust this file, and use another backup.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `ALTER SYSTEM SET log_statement =`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it changes settings of the whole server
        hint: No `pg_dump` writes that: do not trust this file, and use another backup.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `GRANT pg_execute_server_program TO PUBLIC`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it makes roles members of others
        hint: Make roles from the saved `FILE.globals.sql`, or by hand; a dump of one database holds none.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `CREATE SUBSCRIPTION s CONNECTION`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it would connect to another server and take its changes
        hint: Make the dump with `pg_dump`, which writes subscriptions with `connect = false`, or with --no-subscriptions.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `SELECT pg_catalog.set_config`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it changes a setting that decides how the rest of the dump is read
        hint: No `pg_dump` writes that: do not trust this file, and use another backup.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `SELECT pg_catalog.lo_export`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it reads or writes files or programs of the server
        hint: No `pg_dump` writes that: do not trust this file, and use another backup.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `DO`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it is none of the statements that `pg_dump` writes
        hint: Make the dump again with `pg_dump`; what else is to be done, do by hand after the restore.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `COMMIT AND CHAIN`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it is none of the statements that `pg_dump` writes
        hint: Make the dump again with `pg_dump`; what else is to be done, do by hand after the restore.
        exit 2
        error: line 7 of `hostile.sql` must not be carried out: `ALTER SUBSCRIPTION s ENABLE`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: it would connect to another server and take its changes
        hint: Enable subscriptions by hand after the restore, when nothing else takes the same changes.
    "#]].assert_eq(&all);
}

#[test]
fn what_the_server_lacks_is_named_before_anything_is_done() {
    let shop = shop("restore_lacks");
    let project = project(&shop);
    let file = with_statement(
        &project,
        "-- Dumped from database version 15.1\nALTER TABLE public.a OWNER TO \"no such role\";\n\
         CREATE EXTENSION IF NOT EXISTS no_such_extension WITH SCHEMA public;\nGRANT SELECT ON public.a TO nobody_here;",
    );
    expect![[r#"
        exit 1
        error: `hostile.sql` cannot be restored into `DB at PGHOST:PGPORT as postgres` as things are
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: the server has no extension `no_such_extension`, which the dump makes
        caused by: there is no role `no such role`, which the dump names, and none is saved beside it
        caused by: there is no role `nobody_here`, which the dump names, and none is saved beside it
        hint: Install the package of `no_such_extension` on the database server.
        hint: Make it: `CREATE ROLE "no such role";`.
        hint: Make it: `CREATE ROLE "nobody_here";`.
        ✘ restore_file failed in step `Restore` after TIME (exit 1)
    "#]]
    .assert_eq(&refused(&project, &shop, &[&file]));
    edit(&project, &file, |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text
            .replace(
                "-- PostgreSQL database dump\n",
                "-- PostgreSQL database dump\n-- Dumped from database version 99.1\n",
            )
            .into_bytes();
    });
    expect![[r#"
        exit 1
        error: `hostile.sql` cannot be restored into `DB at PGHOST:PGPORT as postgres` as things are
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: the dump is of PostgreSQL 99, and the server is 15
        caused by: the server has no extension `no_such_extension`, which the dump makes
        caused by: there is no role `no such role`, which the dump names, and none is saved beside it
        caused by: there is no role `nobody_here`, which the dump names, and none is saved beside it
        hint: Restore on PostgreSQL 99 or newer: dumps do not load into older versions.
        hint: Install the package of `no_such_extension` on the database server.
        hint: Make it: `CREATE ROLE "no such role";`.
        hint: Make it: `CREATE ROLE "nobody_here";`.
        ✘ restore_file failed in step `Restore` after TIME (exit 1)
    "#]]
    .assert_eq(&refused(&project, &shop, &[&file]));
}

#[test]
fn an_error_of_the_server_names_line_and_statement() {
    let shop = shop("restore_errors");
    let project = project(&shop);
    let mut all = String::new();
    for sql in [
        "CREATE TABLE public.b (\n  x int,\n  y no_such_type\n);",
        "CREATE TABLE public.b (x int);\nALTER TABLE public.b ADD CONSTRAINT c CHECK (x > 'secret');",
        "CREATE TABLE public.b (x int NOT NULL);\nCOPY public.b (x) FROM stdin;\n1\n\\N\n2\n\\.",
        "CREATE FUNCTION public.full() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'could not extend file: No space left on device' \
         USING ERRCODE = 'disk_full'; END $$;\nINSERT INTO public.a VALUES (public.full());",
        // As in dumps, names are looked up nowhere.
        "SELECT pg_catalog.set_config('search_path', '', false);\nCREATE FUNCTION public.twice(a int) RETURNS int LANGUAGE sql \
         IMMUTABLE AS $$ SELECT helper(a) $$;\nCREATE TABLE public.b (x int);\nINSERT INTO public.b VALUES (1);\n\
         CREATE INDEX ON public.b (public.twice(x));",
    ] {
        let file = with_statement(&project, &format!("SET check_function_bodies = false;\n{sql}"));
        let told = refused(&project, &shop, &[&file]);
        let lines = told.lines().filter(|line| {
            !line.starts_with('✘') && !line.starts_with("caused by: the new database is in `")
        });
        all.push_str(&lines.map(|line| format!("{line}\n")).collect::<String>());
    }
    expect![[r#"
        exit 1
        error: `hostile.sql` cannot be loaded: line 10, `CREATE TABLE public.b`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: type "no_such_type" does not exist (42704)
        hint: `DB` is as it was.
        exit 1
        error: `hostile.sql` cannot be loaded: line 9, `ALTER TABLE public.b ADD CONSTRAINT c CHECK`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: invalid input syntax for type integer: "secret" (22P02)
        hint: `DB` is as it was.
        exit 1
        error: `hostile.sql` cannot be loaded: line 11, rows of `public.b`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: null value in column "x" of relation "b" violates not-null constraint (23502)
        hint: `DB` is as it was.
        exit 1
        error: `hostile.sql` cannot be loaded: line 9, `INSERT INTO public.a VALUES`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: could not extend file: No space left on device (53100)
        hint: Free space on the database server: while a restore runs, the old database and the new one need room, and so does the server's WAL. `lifeboat cleanup` removes databases that were kept.
        hint: `DB` is as it was.
        exit 1
        error: `hostile.sql` cannot be loaded: line 12, `CREATE INDEX ON public.b`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: function helper(integer) does not exist (42883)
        caused by: in SQL function "twice" during inlining
        caused by: dumps are loaded with an empty search_path, and this function names something without its schema
        hint: No function matches the given name and argument types. You might need to add explicit type casts.
        hint: Give the function a path of its own in the source database, `ALTER FUNCTION name SET search_path = public`, and back up again; this backup restores only where its file is edited by hand.
        hint: `DB` is as it was.
    "#]].assert_eq(&all);
}

#[test]
fn rows_that_a_trigger_changes_on_their_way_are_found() {
    let shop = shop("restore_trigger");
    let project = project(&shop);
    let file = with_statement(
        &project,
        "CREATE FUNCTION public.change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.x := 7; RETURN NEW; END $$;\n\
         CREATE TRIGGER change BEFORE INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION public.change();",
    );
    expect![[r#"
        exit 12
        error: what was loaded is not what `hostile.sql` holds
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: table public.a has other content than the backup
        hint: Look for triggers or rules in the dump that change rows.
        hint: `DB` is as it was.
        ✘ restore_file failed in step `Restore` after TIME (exit 12)
    "#]]
    .assert_eq(&refused(&project, &shop, &[&file]));
}

#[test]
fn a_wrong_password_is_told_and_never_shown() {
    let shop = shop("restore_password");
    let (project, file) = backed_up(&shop);
    let project = project.env("DB_PASSWORD", "wr0ng p@ss");
    let told = refused(&project, &shop, &[&file]);
    assert!(!told.contains("wr0ng"), "{told}");
    expect![[r#"
        exit 1
        error: cannot connect to `postgres at PGHOST:PGPORT as postgres`
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: password authentication failed for user "postgres"
        hint: Correct the password of `postgres`; it came from DB_PASSWORD.
        ✘ restore_file failed in step `Restore` after TIME (exit 1)
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_backup_that_is_not_there_or_no_dump_is_told() {
    let shop = shop("restore_missing");
    let project = project(&shop).file("backups/site.tar.gz", "x");
    expect![[r#"
        exit 1
        error: there is no backup `PROJECT/backups/none.sql.gz`
           ——▶ playbooks/restore_file.rhai:14:9
        hint: `lifeboat backups backups` lists what is there.
        ✘ restore_file failed in step `Restore` after TIME (exit 1)
    "#]]
    .assert_eq(&refused(&project, &shop, &["backups/none.sql.gz"]));
    expect![[r#"
        exit 2
        error: `backups/site.tar.gz` is no dump of a database
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: its name does not end with .sql or .sql.gz, and no manifest says that it is one
        hint: Archives of files are unpacked by `extract`.
        ✘ restore_file failed in step `Restore` after TIME (exit 2)
    "#]]
    .assert_eq(&refused(&project, &shop, &["backups/site.tar.gz"]));
}

#[test]
fn without_the_right_to_make_databases_both_remedies_are_named() {
    let shop = shop("restore_rights");
    let (project, file) = backed_up(&shop);
    let role = format!("{}_role", shop.name);
    psql(
        &shop,
        &format!("CREATE ROLE {role} LOGIN PASSWORD 'other'; ALTER DATABASE {} OWNER TO {role}", shop.name),
    );
    let project = project.env("DB_USER", role.clone()).env("DB_PASSWORD", "other");
    let told = refused(&project, &shop, &[&file]);
    expect![[r#"
        exit 1
        error: `DB_db_STAMP.sql.gz` cannot be restored into `DB at PGHOST:PGPORT as DB_role` as things are
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: the role `DB_role` may not make or rename databases
        hint: As a superuser: `ALTER ROLE "DB_role" CREATEDB;`.
        hint: Or load into the live database itself, which only a fresh backup can undo: the option `in_place` (`lifeboat restore --in-place`).
        ✘ restore_file failed in step `Restore` after TIME (exit 1)
    "#]].assert_eq(&told.replace(&role, "ROLE"));
    psql(&shop, &format!("ALTER DATABASE {} OWNER TO postgres; DROP ROLE {role}", shop.name));
}

#[test]
fn the_checksum_is_skipped_only_with_a_word_and_everything_else_is_checked() {
    let shop = shop("restore_skip");
    let (project, file) = backed_up(&shop);
    edit(&project, &format!("{file}.sha256"), |bytes| bytes[0] = if bytes[0] == b'0' { b'1' } else { b'0' });
    assert!(refused(&project, &shop, &[&file]).starts_with("exit 12\n"));
    // Nobody is there to be asked.
    expect![[r#"
        exit 6
        error: a person must confirm: restore `backups/database/DB_db_STAMP.sql.gz` without comparing its SHA-256?
           ——▶ playbooks/restore_file.rhai:14:9
        caused by: nobody can be asked here
        hint: Run it on a terminal, or say yes in advance with `--yes`.
        ✘ restore_file stopped in step `Restore` after TIME (exit 6)
    "#]].assert_eq(&refused(&project, &shop, &[&file, "--skip-checksum"]));
    let ran = project.run(&["restore_file", &file, "--skip-checksum", "--yes"]).exits(3);
    ran.says("is restored without comparing its SHA-256");
    drop(super::kept(&shop));
    edit(&project, &file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    assert!(refused(&project, &shop, &[&file, "--skip-checksum", "--yes"]).starts_with("exit 12\n"));
}
