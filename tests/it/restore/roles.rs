//! Roles that a server misses.

use super::{DIR, backed_up, plain_backup, restore};
use crate::cluster::{cluster, database, dump_text, psql, psql_output};
use crate::project::TestProject;

fn admin(sql: &str) {
    let output = psql_output(&cluster().client_env("postgres"), sql, &[]);
    assert!(output.status.success(), "{sql}: {output:?}");
}

#[test]
fn missing_roles_are_made_as_they_were_saved_and_others_are_not_touched() {
    let source = database("restore_roles");
    let name = &source.name;
    psql(
        &source,
        &format!(
            "CREATE ROLE {name}_group CREATEDB; CREATE ROLE \"{name} gone\" LOGIN PASSWORD 'secret' CONNECTION LIMIT 3; \
             CREATE ROLE {name}_stays; GRANT {name}_group TO \"{name} gone\"; \
             CREATE TABLE t AS SELECT 1 AS x; ALTER TABLE t OWNER TO \"{name} gone\"; GRANT SELECT ON t TO {name}_stays"
        ),
    );
    let (project, file) = backed_up(&source);
    let before = dump_text(&source);
    let roles = format!(
        "SELECT rolname, rolcreatedb, rolcanlogin, rolconnlimit, rolpassword, \
         (SELECT array_agg(roleid::regrole) FROM pg_auth_members m WHERE m.member = a.oid) \
         FROM pg_authid a WHERE rolname LIKE '{name}%' ORDER BY 1"
    );
    let saved = psql(&source, &roles);
    admin(&format!("DROP DATABASE {name}"));
    admin(&format!("DROP ROLE \"{name} gone\", {name}_group"));
    admin(&format!("ALTER ROLE {name}_stays CONNECTION LIMIT 5"));
    let dry = project.run(&["restore_file", &file, "--dry-run"]);
    assert!(
        dry.stdout.contains(&format!("makes the missing roles `{name} gone`, `{name}_group`")),
        "{}\n{}",
        dry.stdout,
        dry.stderr
    );
    restore(&project, &file).says(&format!("made the roles `{name} gone`, `{name}_group`"));
    assert!(dump_text(&source) == before);
    let now = psql(&source, &roles);
    assert_eq!(now, saved.replace(&format!("{name}_stays|f|f|-1"), &format!("{name}_stays|f|f|5")));
    // Whoever changes what they are made from is found out.
    admin(&format!("DROP DATABASE {name}"));
    admin(&format!("DROP ROLE \"{name} gone\""));
    let globals = project.at(format!("{file}.globals.sql"));
    let text = std::fs::read_to_string(&globals).unwrap();
    std::fs::write(&globals, text.replace("LOGIN", "SUPERUSER LOGIN")).unwrap();
    project.run(&["restore_file", &file]).exits(12).says("globals.sql differs from the manifest");
    admin(&format!("DROP ROLE {name}_group, {name}_stays"));
    admin(&format!("CREATE DATABASE {name} TEMPLATE template0"));
}

#[test]
fn on_a_scratch_server_roles_that_are_nowhere_are_made_without_login() {
    let source = database("restore_nowhere");
    let role = format!("{}_role", source.name);
    psql(
        &source,
        &format!("CREATE ROLE {role} LOGIN; CREATE TABLE t AS SELECT 1 AS x; ALTER TABLE t OWNER TO {role}"),
    );
    let project = TestProject::new().playbook(
        "rehearse",
        &format!(
            "let db = step \"Server\" {{ scratch_postgres(#{{ database: \"copy\" }}) }};\n\
             step \"Restore\" {{ restore(\"{DIR}/plain_20251110_020000.sql.gz\", db); }}\n\
             let found = query(db, \"SELECT rolname, rolcanlogin, pg_get_userbyid(relowner) AS owner FROM pg_roles, pg_class \
             WHERE rolname LIKE 'restore_nowhere%' AND relname = 't'\");\n\
             info(`found ${{found[0].rolname == found[0].owner}} ${{found[0].rolcanlogin}}`);"
        ),
    );
    plain_backup(&project, &source);
    project.run(&["rehearse"]).exits(0).says("found true false");
    psql(&source, &format!("DROP TABLE t; DROP ROLE {role}"));
}

#[test]
fn a_role_that_may_make_databases_needs_no_more_rights() {
    let source = database("restore_modest");
    let role = format!("{}_role", source.name);
    psql(
        &source,
        &format!(
            "CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'other'; ALTER DATABASE {name} OWNER TO {role}; \
             REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; SET ROLE {role}; CREATE EXTENSION hstore; \
             COMMENT ON DATABASE {name} IS 'mine'; CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, h hstore); \
             INSERT INTO t (h) SELECT hstore('a', n::text) FROM generate_series(1, 100) n; GRANT SELECT ON t TO PUBLIC",
            name = source.name
        ),
    );
    let before = dump_text(&source);
    let project = super::project(&source).env("DB_USER", role.clone()).env("DB_PASSWORD", "other");
    project.run(&["backup_database"]).exits(0);
    let file = format!("{DIR}/{}", project.only(DIR, ".sql.gz"));
    restore(&project, &file);
    let kept = super::kept(&source);
    assert!(dump_text(&source) == before);
    for database in [&source.name, &kept.name] {
        admin(&format!("ALTER DATABASE {database} OWNER TO postgres"));
    }
    drop(kept);
    psql(
        &source,
        &format!("SET client_min_messages = error; DROP OWNED BY {role} CASCADE; DROP ROLE {role}"),
    );
}
