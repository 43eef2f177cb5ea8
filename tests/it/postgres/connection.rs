//! Sessions: refused, pinned, encrypted, ended.

use super::{TestRole, changed, host, lines, quoted, session};
use crate::cluster::{PASSWORD, TestDatabase, cluster, database, psql};
use lifeboat::base::event::{Event, EventSink, What};
use lifeboat::base::failure::{Code, Failure};
use lifeboat::sys::env::Env;
use lifeboat::sys::host::Host;
use lifeboat::sys::postgres::catalog;
use lifeboat::sys::postgres::connection::connect;
use lifeboat::sys::postgres::settings::{Explicit, Settings, resolve_for};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

fn refused(settings: &Settings) -> Failure {
    match connect(&host(), settings) {
        Ok(_) => panic!("{settings} accepted the session"),
        Err(failure) => failure,
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
    let host = Arc::new(Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), env));
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
    assert_eq!(
        catalog::dump_options(&session).unwrap(),
        "-c statement_timeout=0 -c TimeZone=UTC -c lc_monetary=C"
    );
    assert_eq!(session.version(), cluster().version());
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
