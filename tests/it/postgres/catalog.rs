//! What a server tells about itself, and its roles as SQL.

use super::{TestRole, changed, host, quoted, session, settings};
use crate::cluster::{database, psql};
use lifeboat::sys::postgres::connection::connect;
use lifeboat::sys::postgres::{catalog, globals};
use std::collections::BTreeMap;

#[test]
fn properties_hold_what_a_plain_dump_loses() {
    let database = database("props 'a\"b\\c\n;");
    let name = quoted(&database.name);
    let owner = TestRole::new(&database, "owner \"o'x\"\n", "");
    let role = quoted(&owner.name);
    for sql in [
        format!("ALTER DATABASE {name} OWNER TO {role}"),
        format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"),
        format!("GRANT CREATE ON DATABASE {name} TO {role} WITH GRANT OPTION"),
        format!("ALTER DATABASE {name} CONNECTION LIMIT 7"),
        format!("COMMENT ON DATABASE {name} IS E'it''s\\n\\\"mine\\\" \\\\ é'"),
        format!("ALTER DATABASE {name} SET search_path TO \"$user\", \"a, b\""),
        format!("ALTER DATABASE {name} SET app.note TO E'x=''y''\\nz'"),
        format!("ALTER ROLE {role} IN DATABASE {name} SET work_mem TO '1MB'"),
    ] {
        psql(&database, &sql);
    }
    let properties = catalog::properties(&session(&database)).unwrap();
    // The role owns the database, so that `DROP OWNED` cannot free it.
    psql(&database, &format!("ALTER DATABASE {name} OWNER TO postgres"));
    assert_eq!(properties.owner, owner.name);
    assert_eq!(properties.encoding, "UTF8");
    assert_eq!(properties.locale_provider, "libc");
    assert_eq!(properties.connection_limit, 7);
    assert_eq!(properties.comment.as_deref(), Some("it's\n\"mine\" \\ é"));
    assert_eq!(properties.tablespace, "pg_default");
    assert_eq!(properties.extensions.keys().collect::<Vec<_>>(), ["plpgsql"]);
    let acl = properties.acl.unwrap();
    let shown = "\"owner \"\"o'x\"\"\n\"";
    assert_eq!(acl, [format!("=T/{shown}"), format!("{shown}=C*Tc/{shown}")]);
    assert_eq!(
        properties.settings,
        BTreeMap::from([
            (
                String::new(),
                vec!["search_path=\"$user\", \"a, b\"".to_owned(), "app.note=x='y'\nz".to_owned()]
            ),
            (owner.name.clone(), vec!["work_mem=1MB".to_owned()]),
        ])
    );
}

#[test]
fn a_database_of_defaults_has_no_acl_and_no_comment() {
    let database = database("plain");
    let session = session(&database);
    let properties = catalog::properties(&session).unwrap();
    assert_eq!((properties.acl, properties.comment), (None, None));
    assert_eq!((properties.connection_limit, properties.settings.len()), (-1, 0));
    assert_eq!(properties.owner, "postgres");
    let system = psql(&database, "SELECT system_identifier FROM pg_control_system()");
    assert_eq!(catalog::system_identifier(&session).unwrap(), system.trim());
}

#[test]
fn a_server_that_hides_its_identity_is_unknown() {
    let database = database("hidden");
    let role = TestRole::new(&database, "curious", "LOGIN");
    // Functions are granted per database, so that other tests do not see this.
    psql(&database, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC");
    let session = connect(&host(), &changed(&database, &[("PGUSER", &role.name)])).unwrap();
    assert_eq!(
        catalog::system_identifier(&session).unwrap(),
        format!("unknown at {}", session.settings().server())
    );
}

#[test]
fn the_recovery_point_is_the_servers_time_and_position() {
    let database = database("point");
    let session = session(&database);
    let before = catalog::recovery_point(&session).unwrap();
    psql(&database, "CREATE TABLE t (id int)");
    // The position is what is written; without synchronous commits a table may not be yet.
    psql(&database, "CHECKPOINT");
    let after = catalog::recovery_point(&session).unwrap();
    assert!(before.time < after.time);
    assert!((chrono::Utc::now() - after.time.to_utc()).abs() < chrono::TimeDelta::seconds(30));
    let order = psql(&database, &format!("SELECT '{}'::pg_lsn < '{}'::pg_lsn", before.lsn, after.lsn));
    assert_eq!(order.trim(), "t");
}

#[test]
fn globals_make_missing_roles_again_and_leave_others_alone() {
    let database = database("globals");
    let odd = "odd \"r'o\\le\"\n\\! $lifeboat$";
    let group = TestRole::new(&database, "globals group", "NOLOGIN");
    let role = TestRole::new(
        &database,
        odd,
        "LOGIN CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2031-02-03 04:05:06+00' IN ROLE \"globals group\"",
    );
    let name = quoted(odd);
    psql(&database, &format!("ALTER ROLE {name} SET search_path TO \"$user\", \"a, b\""));
    psql(&database, &format!("ALTER ROLE {name} SET work_mem TO '1MB'"));
    psql(&database, &format!("COMMENT ON ROLE {name} IS E'it''s\\nodd'"));
    psql(&database, &format!("GRANT pg_read_all_stats TO {name} WITH ADMIN OPTION"));
    let made = globals::globals(&session(&database)).unwrap();
    assert!(made.complete && made.note.is_none(), "{:?}", made.note);
    assert!(
        made.sql.contains("\n-- Lifeboat role: \"odd \\\"r'o\\\\le\\\"\\n\\\\! $lifeboat$\"\n"),
        "{}",
        made.sql
    );

    let state = || {
        psql(
            &database,
            "SELECT a.*, shobj_description(a.oid, 'pg_authid'), s.setconfig, array(SELECT (roleid::regrole, \
             admin_option) FROM pg_auth_members WHERE member = a.oid ORDER BY 1) FROM pg_authid a \
             LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid WHERE rolname LIKE 'odd%'",
        )
    };
    let columns = |state: String| state.split_once('|').unwrap().1.to_owned();
    let before = columns(state());
    drop(role);
    assert_eq!(state(), "");
    psql(&database, &made.sql);
    assert_eq!(columns(state()), before);

    // A second time it changes nothing: not even what has changed since.
    psql(&database, &format!("ALTER ROLE {name} CONNECTION LIMIT 9"));
    let changed = state();
    psql(&database, &made.sql);
    assert_eq!(state(), changed);
    psql(&database, &format!("DROP ROLE {name}"));
    drop(group);
}

#[test]
fn globals_do_without_passwords_where_they_may_not_be_read() {
    let database = database("no_authid");
    let role = TestRole::new(&database, "globals reader", "LOGIN");
    let session = connect(&host(), &changed(&database, &[("PGUSER", &role.name)])).unwrap();
    let made = globals::globals(&session).unwrap();
    assert!(!made.complete);
    let note = "passwords of roles are not saved: `globals reader` may not read pg_authid";
    assert_eq!(made.note.as_deref(), Some(note));
    assert!(made.sql.contains("CREATE ROLE \"globals reader\" WITH NOSUPERUSER INHERIT"), "{}", made.sql);
    assert!(!made.sql.contains("SCRAM-SHA-256") && !made.sql.contains("********"), "{}", made.sql);
}

#[test]
fn childrens_variables_reach_the_same_database() {
    let database = database("child 'x' é");
    let settings = settings(&database);
    let pins = catalog::dump_options(&session(&database)).unwrap();
    let output = std::process::Command::new(crate::cluster::program("psql"))
        .env_clear()
        .envs(settings.child_env(&pins).into_iter().map(|(name, value)| (name, value.expose().to_owned())))
        .args([
            "-XAtc",
            "SELECT current_database(), current_setting('TimeZone'), current_setting('application_name')",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}|UTC|lifeboat\n", database.name));
}
