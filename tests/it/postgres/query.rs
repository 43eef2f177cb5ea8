//! Questions in SQL, which can only read.

use super::{dry, host, lines, quoted, settings};
use crate::cluster::{cluster, database, psql};
use lifeboat::base::cancel::Reason;
use lifeboat::base::failure::{Code, Failure};
use lifeboat::base::plan::Later;
use lifeboat::observe::databases::Databases;
use lifeboat::observe::estimate::Estimate;
use lifeboat::observe::query::{Answer, Query, Value};
use lifeboat::observe::require_pg_dump::RequirePgDump;
use lifeboat::sys::postgres::catalog;
use lifeboat::sys::postgres::connection::connect;
use lifeboat::sys::postgres::settings::Settings;
use std::time::{Duration, Instant};

fn ask(settings: &Settings, sql: &str) -> Result<Answer, Failure> {
    let host = host();
    match dry(&host).observe(&Query::new(settings.clone(), sql), false, None)? {
        Later::Now(answer) => Ok(answer),
        Later::AfterRun => panic!("`{sql}` was not asked"),
    }
}

#[test]
fn rows_come_with_the_types_that_scripts_know() {
    let database = database("types");
    psql(&database, "CREATE TABLE t (id int, name text); INSERT INTO t VALUES (1, 'é;--'), (2, NULL)");
    let answer = ask(&settings(&database), "SELECT id, name FROM t ORDER BY id; -- done").unwrap();
    assert_eq!(answer.columns, ["id", "name"]);
    assert_eq!(answer.rows, [[Value::Int(1), Value::Text("é;--".into())], [Value::Int(2), Value::Null]]);
    assert!(!answer.superuser);
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
        ("SELECT nextval('s')", "permission denied for sequence s (42501)"),
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
fn a_superuser_reads_with_the_rights_of_a_reader() {
    let database = database("reader");
    let mut query = Query::new(settings(&database), "SELECT pg_reload_conf() AS done");
    let failure = dry(&host()).observe(&query, false, None).unwrap_err();
    assert_eq!(failure.causes[0], "permission denied for function pg_reload_conf (42501)");
    assert!(failure.hints.iter().any(|hint| hint.contains("`as_superuser: true`")), "{failure:?}");
    query.as_superuser = true;
    assert_eq!(dry(&host()).observe(&query, false, None).unwrap(), Later::AfterRun);
    psql(&database, "CREATE TABLE t AS SELECT 1 AS id; ALTER TABLE t ENABLE ROW LEVEL SECURITY");
    let failure = ask(&settings(&database), "SELECT id FROM t").unwrap_err();
    assert!(failure.causes[0].contains("row-level security"), "{failure}");
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
fn observations_answer_through_the_door() {
    let database = database("observed");
    psql(&database, "CREATE TABLE t AS SELECT generate_series(1, 10000) AS id");
    let host = host();
    let run = dry(&host);
    let settings = settings(&database);
    let all = run.observe(&Databases { settings: settings.clone() }, false, None).unwrap().now().unwrap();
    let mine = all.iter().find(|found| found.name == database.name).unwrap();
    assert_eq!(mine.owner, "postgres");
    let size =
        run.observe(&Estimate { settings: settings.clone(), dir: None }, false, None).unwrap().now().unwrap();
    assert!(size.bytes > 1_300_000 && size.bytes < 2_000_000, "{size:?}");
    assert_eq!(size.basis, "at most what the tables take on the server");
    let found = run.observe(&RequirePgDump { settings }, false, None).unwrap().now().unwrap();
    assert_eq!(found.server, cluster().version());
    assert!(found.version.major() >= found.server.major());
}
