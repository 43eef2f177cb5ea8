//! Restores in place, for a role that may not make databases.

use super::{DIR, databases_like, project};
use crate::cluster::{TestDatabase, database, dump_text, psql};
use crate::project::TestProject;
use expect_test::expect;

/// A database of a role that may do nothing but own it.
fn owned(hint: &str) -> (TestDatabase, String) {
    let shop = database(hint);
    let role = format!("{}_role", shop.name);
    psql(
        &shop,
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'other'; ALTER DATABASE {} OWNER TO {role}; SET ROLE {role}; \
             CREATE SCHEMA mine; CREATE TYPE mine.mood AS ENUM ('a', 'b'); \
             CREATE TABLE users (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, mood mine.mood); \
             INSERT INTO users (name, mood) SELECT 'name ' || n, 'a' FROM generate_series(1, 3000) n; \
             CREATE TABLE mine.parts (id int REFERENCES users) PARTITION BY RANGE (id); \
             CREATE TABLE mine.low PARTITION OF mine.parts FOR VALUES FROM (0) TO (1000); INSERT INTO mine.parts VALUES (7); \
             CREATE VIEW mine.v AS SELECT count(*) FROM users; CREATE MATERIALIZED VIEW mine.m AS SELECT * FROM mine.v; \
             CREATE FUNCTION f(a int DEFAULT 1, OUT b text) LANGUAGE sql AS 'SELECT ''x'''; CREATE AGGREGATE joined (text) (sfunc = textcat, stype = text); \
             CREATE STATISTICS mine.s ON id, name FROM users; CREATE DOMAIN d AS int; CREATE SEQUENCE lonely START 5",
            shop.name
        ),
    );
    // Its number is of no interest.
    psql(&shop, &format!("SET ROLE {role}; DO 'BEGIN PERFORM lo_from_bytea(77, ''abc''); END'"));
    (shop, role)
}

fn as_role(shop: &TestDatabase, role: &str) -> TestProject {
    project(shop).env("DB_USER", role).env("DB_PASSWORD", "other")
}

/// Backs up into a folder of its own; the path.
fn back_up(project: &TestProject, dir: &str) -> String {
    project.run(&["backup_database", "--dir", dir]).exits(0);
    format!("{dir}/{}", project.only(dir, ".sql.gz"))
}

fn clean(shop: &TestDatabase, role: &str) {
    psql(
        shop,
        &format!(
            "SET client_min_messages = error; ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {role}; DROP ROLE {role}",
            shop.name
        ),
    );
}

#[test]
fn in_place_everything_is_replaced_in_one_transaction() {
    let (shop, role) = owned("restore_in_place");
    let project = as_role(&shop, &role);
    let file = back_up(&project, DIR);
    let before = dump_text(&shop);
    psql(
        &shop,
        &format!(
            "SET ROLE {role}; DELETE FROM mine.parts; DELETE FROM users; CREATE TABLE later (x mine.mood)"
        ),
    );
    let undo = back_up(&project, "undo");
    let told = |args: &[&str]| {
        let ran = project.run(&[&["restore_file", &file, "--in-place"], args].concat());
        project.told(&ran).replace(&shop.name, "DB").replace(&role, "ROLE")
    };
    expect![[r#"
        exit 2
        error: `DB` is not restored in place without a way back
           ——▶ playbooks/restore_file.rhai:14:9
           │
        N │         restore(params.file, db, #{ jobs: params.jobs, skip_checksum: params.skip_checksum, in_place: params.in_place })
           │         ^
        caused by: the option `undo` names no fresh backup of it
        hint: Make a backup of it first, and name it: `restore(backup, db, #{ in_place: true, undo: fresh })`, where `fresh` is what `save` returned.
        ✘ restore_file failed in step `Restore` after TIME (exit 2)
    "#]].assert_eq(&told(&[]));
    expect![[r#"
        exit 2
        error: `DB` is not restored in place without a way back
           ——▶ playbooks/restore_file.rhai:16:9
           │
        N │         restore(params.file, db, #{ in_place: params.in_place, undo: params.undo })
           │         ^
        caused by: `nowhere/DB_db_STAMP.sql.gz` is not there
        hint: Make a backup of it first, and name it: `restore(backup, db, #{ in_place: true, undo: fresh })`, where `fresh` is what `save` returned.
        ✘ restore_file failed in step `Restore` after TIME (exit 2)
    "#]]
    .assert_eq(&told(&["--undo", &file.replace(DIR, "nowhere")]));
    expect![[r#"
        exit 6
        error: a person must confirm: replace everything in `DB` in place? Only `undo/DB_db_STAMP.sql.gz` can undo it.
           ——▶ playbooks/restore_file.rhai:16:9
           │
        N │         restore(params.file, db, #{ in_place: params.in_place, undo: params.undo })
           │         ^
        caused by: nobody can be asked here
        hint: Run it on a terminal, or say yes in advance with `--yes`.
        ✘ restore_file stopped in step `Restore` after TIME (exit 6)
    "#]].assert_eq(&told(&["--undo", &undo]));
    project.run(&["restore_file", &file, "--in-place", "--undo", &undo, "--yes"]).exits(0);
    assert!(dump_text(&shop) == before);
    assert_eq!(databases_like(&format!("{}_", shop.name)), [""; 0]);
    clean(&shop, &role);
}

#[test]
fn in_place_a_failure_changes_nothing() {
    let (shop, role) = owned("restore_in_place_fails");
    let project = as_role(&shop, &role);
    let undo = back_up(&project, "undo");
    let before = dump_text(&shop);
    std::fs::create_dir_all(project.at(DIR)).unwrap();
    let text = "SET client_encoding = 'UTF8';\nCREATE TABLE public.users (id int);\nCOPY public.users (id) FROM stdin;\n1\nx\n\\.\n\
                \n--\n-- PostgreSQL database dump complete\n--\n";
    std::fs::write(project.at("backups/bad.sql"), text).unwrap();
    let ran = project.run(&["restore_file", "backups/bad.sql", "--in-place", "--undo", &undo, "--yes"]);
    assert!(dump_text(&shop) == before);
    expect![[r#"
        exit 1
        error: `bad.sql` cannot be loaded: line 5, rows of `public.users`
           ——▶ playbooks/restore_file.rhai:16:9
           │
        N │         restore(params.file, db, #{ in_place: params.in_place, undo: params.undo })
           │         ^
        caused by: invalid input syntax for type integer: "x" (22P02)
        hint: All was rolled back: `DB` is as it was.
        ✘ restore_file failed in step `Restore` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran).replace(&shop.name, "DB").replace(&role, "ROLE"));
    clean(&shop, &role);
}

#[test]
fn in_place_what_was_written_since_the_fresh_backup_is_not_lost() {
    let (shop, role) = owned("restore_in_place_changed");
    let project = as_role(&shop, &role);
    let undo = back_up(&project, "undo");
    psql(
        &shop,
        &format!(
            "SET ROLE {role}; INSERT INTO users (name) VALUES ('late'); UPDATE mine.low SET id = 8; CREATE TABLE later (x int); \
             DO 'BEGIN PERFORM nextval(''lonely''); PERFORM lo_put(77, 0, ''x''); PERFORM lo_from_bytea(78, ''new''); END'; \
             CREATE SEQUENCE another"
        ),
    );
    let before = dump_text(&shop);
    let ran = project.run(&["restore_file", &undo, "--in-place", "--undo", &undo, "--yes"]);
    assert!(dump_text(&shop) == before);
    expect![[r#"
        exit 1
        error: `DB` changed since the fresh backup `undo/DB_db_STAMP.sql.gz`
           ——▶ playbooks/restore_file.rhai:16:9
           │
        N │         restore(params.file, db, #{ in_place: params.in_place, undo: params.undo })
           │         ^
        caused by: table public.later was made since
        caused by: table mine.low has *** content than the backup
        caused by: table public.users has 3001 rows instead of 3000
        caused by: sequence public.lonely stands at 5 instead of 5, not used yet
        caused by: sequence public.users_id_seq stands at 3001 instead of 3000
        caused by: sequence public.an*** was made since
        caused by: large object 77 has *** content than the backup
        caused by: large object 78 was made since
        hint: Stop the services that write to it, back it up again, and run it again.
        hint: All was rolled back: `DB` is as it was.
        ✘ restore_file failed in step `Restore` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran).replace(&shop.name, "DB").replace(&role, "ROLE"));
    clean(&shop, &role);
}

#[test]
fn in_place_what_belongs_to_others_is_named() {
    let (shop, role) = owned("restore_in_place_strangers");
    let project = as_role(&shop, &role);
    let undo = back_up(&project, "undo");
    psql(
        &shop,
        &format!(
            "SET client_min_messages = error; CREATE ROLE {role}_b; CREATE SCHEMA theirs AUTHORIZATION {role}_b; CREATE FUNCTION mine.g(mine.mood) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
             CREATE TYPE mine.t AS ENUM ('x'); ALTER TYPE mine.t OWNER TO {role}_b; CREATE PUBLICATION p FOR TABLE users"
        ),
    );
    let before = dump_text(&shop);
    let ran = project.run(&["restore_file", &undo, "--in-place", "--undo", &undo, "--yes"]);
    assert!(dump_text(&shop) == before);
    let told = project.told(&ran).replace(&role, "ROLE");
    psql(
        &shop,
        &format!(
            "SET client_min_messages = error; DROP PUBLICATION p; DROP FUNCTION mine.g; DROP OWNED BY {role}_b CASCADE; DROP ROLE {role}_b"
        ),
    );
    let causes: String =
        told.lines().filter(|line| line.starts_with("caused by")).map(|line| format!("{line}\n")).collect();
    expect![[r#"
        caused by: function mine.g(mine.mood) belongs to `postgres`, so that `ROLE` may not replace it
        caused by: publication p belongs to `postgres`, so that `ROLE` may not replace it
        caused by: schema theirs belongs to `ROLE_b`, so that `ROLE` may not replace it
        caused by: type mine.t belongs to `ROLE_b`, so that `ROLE` may not replace it
    "#]]
    .assert_eq(&causes);
    clean(&shop, &role);
}

#[test]
fn in_place_rights_that_were_given_in_advance_do_not_stay() {
    let (shop, role) = owned("restore_in_place_defaults");
    let project = as_role(&shop, &role);
    let file = back_up(&project, DIR);
    let before = dump_text(&shop);
    psql(
        &shop,
        &format!(
            "SET ROLE {role}; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; \
             ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC; \
             ALTER DEFAULT PRIVILEGES IN SCHEMA mine GRANT USAGE ON SEQUENCES TO PUBLIC"
        ),
    );
    let undo = back_up(&project, "undo");
    project.run(&["restore_file", &file, "--in-place", "--undo", &undo, "--yes"]).exits(0);
    assert!(dump_text(&shop) == before);
    clean(&shop, &role);
}

#[test]
fn in_place_a_dump_cannot_end_the_transaction_by_changing_how_strings_are_read() {
    let (shop, role) = owned("restore_in_place_smuggled");
    let project = as_role(&shop, &role);
    let undo = back_up(&project, "undo");
    std::fs::create_dir_all(project.at(DIR)).unwrap();
    let text = "SET client_encoding = 'UTF8';\nCREATE TABLE public.a (x int);\nCREATE TABLE public.b (x text);\n\
                CREATE FUNCTION public.off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                PERFORM pg_catalog.set_config('standard_conforming_strings', 'off', false); RETURN NEW; END $$;\n\
                CREATE TRIGGER off BEFORE INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION public.off();\n\
                COPY public.a (x) FROM stdin;\n1\n\\.\n\
                INSERT INTO public.b VALUES ('\\'' ); COMMIT; --');\n\
                \n--\n-- PostgreSQL database dump complete\n--\n";
    std::fs::write(project.at("backups/smuggled.sql"), text).unwrap();
    project.run(&["restore_file", "backups/smuggled.sql", "--in-place", "--undo", &undo, "--yes"]).exits(0);
    assert!(dump_text(&shop).contains("\n\\\\' ); COMMIT; --\n"));
    clean(&shop, &role);
}
