//! Sessions, queries and the catalog against a real server.

use crate::cluster::{PASSWORD, TestDatabase, cluster, database, psql};
use lifeboat::base::cancel::Reason;
use lifeboat::base::event::{Event, EventSink, What};
use lifeboat::base::failure::{Code, Failure};
use lifeboat::base::plan::Later;
use lifeboat::engine::policy::{Grants, Policy};
use lifeboat::engine::session::Session as Run;
use lifeboat::observe::databases::Databases;
use lifeboat::observe::estimate::Estimate;
use lifeboat::observe::pg_dump::RequirePgDump;
use lifeboat::observe::query::{Answer, Query, Value};
use lifeboat::sys::env::Env;
use lifeboat::sys::host::Host;
use lifeboat::sys::postgres::connection::{Session, connect};
use lifeboat::sys::postgres::settings::{Explicit, Settings, resolve, resolve_for};
use lifeboat::sys::postgres::{catalog, globals};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

fn host() -> Arc<Host> {
    let env = [("PATH".to_owned(), std::env::var("PATH").unwrap())];
    let env = Env::of(BTreeMap::from(env), BTreeMap::new());
    Arc::new(Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), env))
}

fn dry(host: &Arc<Host>) -> Run {
    Run::dry(host.clone(), Policy::new(Grants::default()))
}

fn settings_from(variables: Vec<(&'static str, String)>) -> Settings {
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    resolve(&Explicit::default(), &Env::of(variables, BTreeMap::new()), None).unwrap()
}

fn settings(database: &TestDatabase) -> Settings {
    settings_from(database.env())
}

/// The settings with some variables changed.
fn changed(database: &TestDatabase, changes: &[(&'static str, &str)]) -> Settings {
    let mut variables = database.env();
    variables.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    variables.extend(changes.iter().map(|(name, value)| (*name, (*value).to_owned())));
    settings_from(variables)
}

fn session(database: &TestDatabase) -> Session {
    connect(&host(), &settings(database)).unwrap()
}

fn refused(settings: &Settings) -> Failure {
    match connect(&host(), settings) {
        Ok(_) => panic!("{settings} accepted the session"),
        Err(failure) => failure,
    }
}

/// The failure as lines, with the server's changing address as SERVER.
fn lines(failure: &Failure) -> Vec<String> {
    let socket = format!("{}:{}", cluster().socket_dir().display(), cluster().port());
    let tcp = format!("127.0.0.1:{}", cluster().port());
    std::iter::once(&failure.message)
        .chain(&failure.causes)
        .chain(&failure.hints)
        .map(|text| text.replace(&socket, "SERVER").replace(&tcp, "SERVER"))
        .collect()
}

fn ask(settings: &Settings, sql: &str) -> Result<Answer, Failure> {
    let host = host();
    match dry(&host).observe(&Query::new(settings.clone(), sql), false, None)? {
        Later::Now(answer) => Ok(answer),
        Later::AfterRun => panic!("`{sql}` was not asked"),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A role of one test, with the password of the superuser; dropped with it.
struct TestRole<'a> {
    name: String,
    database: &'a TestDatabase,
}

impl<'a> TestRole<'a> {
    fn new(database: &'a TestDatabase, name: &str, attributes: &str) -> Self {
        psql(database, &format!("CREATE ROLE {} PASSWORD '{PASSWORD}' {attributes}", quoted(name)));
        Self { name: name.to_owned(), database }
    }
}

impl Drop for TestRole<'_> {
    fn drop(&mut self) {
        let name = quoted(&self.name);
        psql(self.database, &format!("DROP OWNED BY {name}"));
        psql(self.database, &format!("DROP ROLE {name}"));
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<What>>);

impl EventSink for Heard {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.what.clone());
    }
}

#[test]
fn a_run_tells_its_target_and_learns_its_password() {
    let variables =
        [("DATABASE_URL", "postgres://app:s3cr3t%2Fp%40ss%20w0rd@db1/shop"), ("HOME", "/nowhere")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let env = Env::of(BTreeMap::from(variables), BTreeMap::new());
    let host = Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), env);
    let heard = Arc::new(Heard::default());
    host.listen(heard.clone());
    resolve_for(&host, &Explicit::default()).unwrap();
    assert_eq!(
        *heard.0.lock().unwrap(),
        [What::Resolved {
            what: "postgres".into(),
            value: "shop at db1:5432 as app".into(),
            from: vec![
                "host from DATABASE_URL".into(),
                "port by default".into(),
                "database from DATABASE_URL".into(),
                "user from DATABASE_URL".into(),
                "password from DATABASE_URL".into(),
            ],
        }]
    );
    assert_eq!(host.masker().mask(&format!("said {PASSWORD}")), "said ***");
}

#[test]
fn a_wrong_password_says_where_it_came_from() {
    let database = database("wrong password");
    let failure = refused(&changed(&database, &[("PGPASSWORD", "hunter22")]));
    assert_eq!(failure.code, Code::Connect);
    assert_eq!(
        lines(&failure),
        [
            format!("cannot connect to `{} at SERVER as postgres`", database.name),
            "password authentication failed for user \"postgres\"".into(),
            "Correct the password of `postgres`; it came from PGPASSWORD.".into(),
        ]
    );
}

#[test]
fn a_missing_password_says_where_to_put_it() {
    let database = database("no_password");
    let failure = refused(&changed(&database, &[("PGPASSWORD", "")]));
    assert_eq!(
        lines(&failure),
        [
            format!("cannot connect to `{} at SERVER as postgres`", database.name),
            "the server asks for a password, and none is set".into(),
            "Set DB_PASSWORD or PGPASSWORD, or put the password into DATABASE_URL or into a line of ~/.pgpass."
                .into(),
        ]
    );
}

#[test]
fn an_unknown_database_proposes_a_close_one() {
    let database = database("shopping");
    let mut failure = refused(&changed(&database, &[("PGDATABASE", &database.name.replace("pp", "p"))]));
    // Which other databases there are depends on the tests that run beside this one.
    let listed = failure.hints.pop().unwrap();
    assert!(listed.starts_with("The databases there are `"), "{listed}");
    assert_eq!(
        lines(&failure)[1..],
        [
            format!("database \"{}\" does not exist", database.name.replace("pp", "p")),
            format!("Did you mean `{}`?", database.name),
            "Correct the database's name; it came from PGDATABASE.".into(),
        ]
    );
}

#[test]
fn a_server_that_is_not_there_says_what_was_tried() {
    let database = database("elsewhere");
    let failure = refused(&changed(&database, &[("PGHOST", "127.0.0.1"), ("PGPORT", "1")]));
    assert_eq!(
        lines(&failure)[1..],
        [
            "connection refused",
            "Start PostgreSQL at `127.0.0.1:1`, or correct the host (from PGHOST) or the port (from PGPORT)."
        ]
    );
    let failure = refused(&changed(&database, &[("PGHOST", "/nowhere")]));
    assert_eq!(failure.causes, [format!("there is no socket `/nowhere/.s.PGSQL.{}`", cluster().port())]);
    let failure = refused(&changed(&database, &[("PGHOST", "db.invalid")]));
    assert_eq!(
        lines(&failure)[1..],
        ["the name `db.invalid` leads to no address", "Correct the host's name; it came from PGHOST."]
    );
}

#[test]
fn an_unknown_role_and_a_refused_one_are_told_apart() {
    let database = database("roles");
    let failure = refused(&changed(&database, &[("PGUSER", "nobody here")]));
    // With passwords the server does not tell whether the role exists.
    assert_eq!(failure.causes, ["password authentication failed for user \"nobody here\""]);
    let role = TestRole::new(&database, "shut out", "LOGIN");
    psql(&database, &format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", quoted(&database.name)));
    let failure = refused(&changed(&database, &[("PGUSER", &role.name)]));
    assert_eq!(
        failure.hints,
        [format!(
            "Grant it, as the database's owner: `GRANT CONNECT ON DATABASE \"{}\" TO \"shut out\";`.",
            database.name
        )]
    );
}

#[test]
fn a_server_that_does_not_answer_ends_with_the_time_limit() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let database = database("silent");
    let began = Instant::now();
    let failure = refused(&changed(
        &database,
        &[("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGCONNECT_TIMEOUT", "1")],
    ));
    assert_eq!(failure.causes, ["no answer within 1.0 s"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_session_is_pinned_whatever_role_and_database_say() {
    let database = database("pins \"odd\"");
    let role = TestRole::new(&database, "pinned", "LOGIN");
    let name = quoted(&database.name);
    for setting in [
        "TimeZone TO 'Asia/Kolkata'",
        "DateStyle TO 'German'",
        "extra_float_digits TO -15",
        "statement_timeout TO 200",
        "search_path TO pg_temp, public, pg_catalog",
        "idle_in_transaction_session_timeout TO 1",
        "IntervalStyle TO 'sql_standard'",
    ] {
        psql(&database, &format!("ALTER ROLE pinned SET {setting}"));
    }
    psql(&database, &format!("ALTER DATABASE {name} SET lc_monetary TO 'C'"));
    psql(&database, "ALTER ROLE pinned SET lc_monetary TO 'POSIX'");
    let session = connect(&host(), &changed(&database, &[("PGUSER", &role.name)])).unwrap();
    let row = session
        .one(
            "SELECT '2026-01-02 03:04:05+00'::timestamptz, 0.1::float8 + 0.2, '1 year 2 days'::interval, \
             current_setting('search_path'), current_setting('statement_timeout'), current_setting('row_security'), \
             current_setting('restrict_nonsystem_relation_kind', true), current_setting('lc_monetary'), \
             current_setting('idle_in_transaction_session_timeout'), current_setting('application_name')",
        )
        .unwrap();
    let row: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap()).collect();
    assert_eq!(
        row,
        [
            "2026-01-02 03:04:05+00",
            "0.30000000000000004",
            "1 year 2 days",
            "\"\"",
            "0",
            "off",
            "view, foreign-table",
            "C",
            "0",
            "lifeboat"
        ]
    );
    assert!(!session.is_superuser());
    assert_eq!(catalog::dump_options(&session).unwrap(), "-c TimeZone=UTC -c lc_monetary=C");
    assert_eq!(session.version(), cluster().version());
}

#[test]
fn rows_come_with_the_types_that_scripts_know() {
    let database = database("types");
    psql(&database, "CREATE TABLE t (id int, name text); INSERT INTO t VALUES (1, 'é;--'), (2, NULL)");
    let answer = ask(&settings(&database), "SELECT id, name FROM t ORDER BY id; -- done").unwrap();
    assert_eq!(answer.columns, ["id", "name"]);
    assert_eq!(answer.rows, [[Value::Int(1), Value::Text("é;--".into())], [Value::Int(2), Value::Null]]);
    assert!(answer.superuser);
    let answer = ask(
        &settings(&database),
        "SELECT count(*) AS n, true AS b, 1.50 AS d, '[1]'::jsonb AS j, 0.5::real AS f, ARRAY[1,2] AS a FROM t",
    );
    assert_eq!(
        answer.unwrap().rows,
        [[
            Value::Int(2),
            Value::Bool(true),
            Value::Text("1.50".into()),
            Value::Text("[1]".into()),
            Value::Float(0.5),
            Value::Text("{1,2}".into())
        ]]
    );
}

#[test]
fn bytes_that_are_no_text_fail_rather_than_change() {
    let database = database("bytes");
    let ascii = quoted(&format!("{} ascii", database.name));
    psql(&database, &format!("CREATE DATABASE {ascii} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"));
    let settings = settings(&database).with_database(&format!("{} ascii", database.name));
    assert_eq!(ask(&settings, "SELECT E'\\303\\251' AS x").unwrap().rows, [[Value::Text("é".into())]]);
    let failure = ask(&settings, "SELECT E'\\351' AS x").unwrap_err();
    let properties = catalog::properties(&connect(&host(), &settings).unwrap()).unwrap();
    psql(&database, &format!("DROP DATABASE {ascii} WITH (FORCE)"));
    assert_eq!(failure.causes, ["invalid byte sequence for encoding \"UTF8\": 0xe9 (22021)"]);
    assert_eq!(properties.encoding, "SQL_ASCII");
}

#[test]
fn parameters_are_values_never_sql() {
    let database = database("params");
    psql(
        &database,
        "CREATE TABLE t (id int, name text); INSERT INTO t VALUES (1, 'a'), (2, 'x''); DROP TABLE t; --')",
    );
    let mut query = Query::new(settings(&database), "SELECT id FROM t WHERE name = $1 AND id = $2");
    query.params = vec![Some("x'); DROP TABLE t; --".into()), Some("2".into())];
    let answer = dry(&host()).observe(&query, false, None).unwrap().now().unwrap();
    assert_eq!(answer.rows, [[Value::Int(2)]]);
    query.params.pop();
    let failure = dry(&host()).observe(&query, false, None).unwrap_err();
    assert_eq!(failure.code, Code::Query);
}

#[test]
fn only_one_select_is_accepted() {
    let database = database("injection");
    psql(&database, "CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    let proof = cluster().data_dir().join("injection.proof");
    let program = format!("COPY (SELECT 1) TO PROGRAM 'cat > {}'", proof.display());
    for (sql, cause) in [
        ("SELECT 1; DROP TABLE t", "cannot insert multiple commands into a prepared statement (42601)"),
        (
            "SELECT 1; COMMIT; DROP TABLE t",
            "cannot insert multiple commands into a prepared statement (42601)",
        ),
        (program.as_str(), "syntax error at or near \"COPY\" (42601)"),
        ("DROP TABLE t", "syntax error at or near \"DROP\" (42601)"),
        ("UPDATE t SET id = 2 RETURNING id", "syntax error at or near \"UPDATE\" (42601)"),
        (
            "WITH gone AS (DELETE FROM t RETURNING id) SELECT * FROM gone",
            "DECLARE CURSOR must not contain data-modifying statements in WITH (0A000)",
        ),
        ("SELECT 1 AS id INTO u", "SELECT ... INTO is not allowed here (42601)"),
        ("SELECT nextval('s')", "cannot execute nextval() in a read-only transaction (25006)"),
        (
            "SELECT set_config('transaction_read_only', 'off', false)",
            "transaction read-write mode must be set before any query (25001)",
        ),
    ] {
        if sql.contains("nextval") {
            psql(&database, "CREATE SEQUENCE s");
        }
        let failure = ask(&settings(&database), sql).unwrap_err();
        assert_eq!(failure.code, Code::Query, "{sql}");
        assert!(failure.causes[0].starts_with(cause), "{sql}: {failure}");
    }
    assert!(!proof.exists(), "a program ran");
    assert_eq!(psql(&database, "SELECT * FROM t"), "1\n");
}

#[test]
fn a_query_that_fails_shows_its_line() {
    let database = database("lines");
    psql(&database, "CREATE TABLE users (id int, email text)");
    let failure = ask(&settings(&database), "SELECT id,\n       emial\nFROM users").unwrap_err();
    assert_eq!(
        lines(&failure),
        [
            format!("a query on `{}` failed", database.name),
            "column \"emial\" does not exist (42703)".into(),
            "at line 2: emial".into(),
            "Perhaps you meant to reference the column \"users.email\".".into(),
        ]
    );
    let failure = ask(&settings(&database), "SELECT 1 AS a, 2 AS a").unwrap_err();
    assert_eq!(
        lines(&failure)[1..],
        ["two columns are named `a`", "Give each column a name of its own with `AS`."]
    );
    let failure = ask(&settings(&database), "SELECT generate_series(1, 1001) AS n").unwrap_err();
    assert_eq!(failure.causes, ["it returns more than 1000 rows"]);
    assert_eq!(ask(&settings(&database), "SELECT generate_series(1, 1000) AS n").unwrap().rows.len(), 1000);
    let failure = ask(&settings(&database), "SELECT repeat('x', 1048576) AS x FROM generate_series(1, 100)")
        .unwrap_err();
    assert_eq!(failure.causes, ["its rows are larger than 64.0 MiB"]);
}

#[test]
fn a_dry_run_asks_only_what_stands_in_the_playbook() {
    let database = database("literal");
    let mut query = Query::new(settings(&database), "SELECT 1 AS n");
    query.literal = false;
    assert_eq!(dry(&host()).observe(&query, false, None).unwrap(), Later::AfterRun);
}

#[test]
fn a_slow_query_ends_with_its_time_limit() {
    let database = database("slow");
    let mut query = Query::new(settings(&database), "SELECT pg_sleep(60)");
    query.time_limit = Duration::from_millis(300);
    let failure = dry(&host()).observe(&query, false, None).unwrap_err();
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(failure.to_string(), format!("a query on `{}` took longer than 300 ms", database.name));
}

#[test]
fn a_cancelled_run_stops_its_query_in_the_server() {
    let database = database("cancelled");
    let host = host();
    let cancel = host.cancel().clone();
    let busy = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
        psql(&database, sql).trim().to_owned()
    };
    let waiting = {
        let query = Query::new(settings(&database), "SELECT pg_sleep(61)");
        let host = host.clone();
        std::thread::spawn(move || dry(&host).observe(&query, false, None))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while busy() != "1" {
        assert!(Instant::now() < deadline, "the query never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let began = Instant::now();
    cancel.cancel(Reason::Terminated);
    assert_eq!(waiting.join().unwrap().unwrap_err().code, Code::Terminated);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    while busy() != "0" {
        assert!(began.elapsed() < Duration::from_secs(5), "the server still sleeps");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_session_that_the_server_ends_says_why() {
    let database = database("ended");
    let session = session(&database);
    let pid = session.one("SELECT pg_backend_pid()").unwrap()[0].clone().unwrap();
    psql(&database, &format!("SELECT pg_terminate_backend({pid}, 5000)"));
    let failure = session.run("SELECT 1").unwrap_err();
    assert_eq!(failure.code, Code::Connect);
    assert_eq!(
        lines(&failure),
        [
            format!("the connection to `{} at SERVER as postgres` broke", database.name),
            "terminating connection due to administrator command".to_owned()
        ]
    );
}

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
    assert_eq!(catalog::system_identifier(&session).unwrap(), "unknown");
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
fn observations_answer_through_the_door() {
    let database = database("observed");
    psql(&database, "CREATE TABLE t AS SELECT generate_series(1, 10000) AS id");
    let host = host();
    let run = dry(&host);
    let settings = settings(&database);
    let all = run.observe(&Databases { settings: settings.clone() }, false, None).unwrap().now().unwrap();
    let mine = all.iter().find(|found| found.name == database.name).unwrap();
    assert_eq!(mine.owner, "postgres");
    let size = run.observe(&Estimate { settings: settings.clone() }, false, None).unwrap().now().unwrap();
    assert!(size.tables > 300_000 && size.tables < size.database, "{size:?}");
    let found = run.observe(&RequirePgDump { settings }, false, None).unwrap().now().unwrap();
    assert_eq!(found.server, cluster().version());
    assert!(found.version.major() >= found.server.major());
}

#[test]
fn childrens_variables_reach_the_same_database() {
    let database = database("child 'x' é");
    let settings = settings(&database);
    let pins = catalog::dump_options(&session(&database)).unwrap();
    let output = std::process::Command::new(crate::cluster::program("psql"))
        .env_clear()
        .envs(settings.child_env(&pins).iter().map(|(name, value)| (*name, value.expose())))
        .args([
            "-XAtc",
            "SELECT current_database(), current_setting('TimeZone'), current_setting('application_name')",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}|UTC|lifeboat\n", database.name));
}

/// The shared server with encryption turned on, whose certificate is made out to `db.example`.
fn encrypted(database: &TestDatabase, sslmode: &str, root: Option<&str>, name: &str) -> Settings {
    static ON: OnceLock<()> = OnceLock::new();
    ON.get_or_init(|| {
        let folder = cluster().data_dir();
        let owner = folder.metadata().unwrap();
        for file in ["server.crt", "server.key"] {
            let target = folder.join(file);
            fs::copy(certificate(file), &target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&target, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        psql(database, "ALTER SYSTEM SET ssl = on");
        psql(database, "SELECT pg_reload_conf()");
        let deadline = Instant::now() + Duration::from_secs(10);
        while psql(database, "SHOW ssl").trim() != "on" {
            assert!(Instant::now() < deadline, "{}", cluster().log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let root = root.map(|file| certificate(file).display().to_string());
    let mut changes = vec![("PGHOST", name), ("PGHOSTADDR", "127.0.0.1"), ("PGSSLMODE", sslmode)];
    changes.extend(root.as_deref().map(|root| ("PGSSLROOTCERT", root)));
    changed(database, &changes)
}

fn certificate(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates").join(file)
}

#[test]
fn sslmode_means_what_it_means_to_libpq() {
    let database = database("tls");
    let encrypts = |mode, root, name| {
        let session = connect(&host(), &encrypted(&database, mode, root, name))
            .map_err(|failure| failure.causes.first().cloned().unwrap_or_default())?;
        let row = session.one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").unwrap();
        Ok::<bool, String>(row[0].as_deref() == Some("t"))
    };
    let authority = Some("authority.crt");
    let stranger = Some("stranger.crt");
    for (mode, root, name, encrypted) in [
        ("disable", None, "db.example", Some(false)),
        ("allow", None, "db.example", Some(false)),
        ("prefer", None, "other.example", Some(true)),
        ("require", None, "other.example", Some(true)),
        ("require", authority, "other.example", Some(true)),
        ("require", stranger, "db.example", None),
        ("prefer", stranger, "db.example", Some(false)),
        ("verify-ca", authority, "other.example", Some(true)),
        ("verify-ca", stranger, "db.example", None),
        ("verify-full", authority, "db.example", Some(true)),
        ("verify-full", authority, "other.example", None),
        ("verify-full", None, "db.example", None),
    ] {
        let result = encrypts(mode, root, name);
        match encrypted {
            Some(encrypted) => assert_eq!(result, Ok(encrypted), "{mode} {root:?} {name}"),
            None => {
                let cause = result.unwrap_err();
                assert!(cause.contains("invalid peer certificate"), "{mode} {root:?} {name}: {cause}");
            }
        }
    }
}

#[test]
fn a_certificate_that_does_not_fit_says_what_to_set() {
    let database = database("tls_failure");
    let failure = refused(&encrypted(&database, "verify-full", Some("stranger.crt"), "db.example"));
    assert_eq!(failure.causes, ["invalid peer certificate: UnknownIssuer"]);
    assert_eq!(
        failure.hints,
        [
            "Set sslrootcert (PGSSLROOTCERT) to the certificate of the server's authority, and the host to the name in \
             its certificate; sslmode is verify-full."
        ]
    );
    let mut broken = encrypted(&database, "verify-full", Some("server.key"), "db.example");
    assert!(refused(&broken).message.starts_with("cannot read root certificates from `"));
    broken.sslrootcert = None;
    assert_eq!(refused(&broken).causes.len(), 1);
}

#[test]
fn a_cancelled_query_over_tls_stops_too() {
    let database = database("tls_cancel");
    let session = connect(&host(), &encrypted(&database, "require", None, "db.example")).unwrap();
    session.limit(Some(Duration::from_millis(200))).unwrap();
    let failure = session.run("SELECT pg_sleep(60)").unwrap_err();
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(session.one("SELECT 1").unwrap(), [Some("1".to_owned())]);
}
