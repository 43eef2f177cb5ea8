//! Dumps that several sessions make at once: the same text as `pg_dump`'s, whatever others do meanwhile.

use super::{DIR, Role, anonymous, fails, manifest, told, with_pg_dump};
use crate::cluster::{TestDatabase, all_tests, cluster, database, psql, psql_output, sample_database};
use crate::project::{Ran, TestProject};
use expect_test::expect;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Before the first section is handed on, the real `pg_dump` writes all of the same snapshot into `whole.sql`. The section comes
/// first, since somebody may wait for a lock meanwhile, behind whom no other one is to be had.
pub(super) const ALSO_WHOLE: &str = "\
case \"$*\" in *pre-data*)
  set -f; same=; for arg; do case $arg in --section=*) ;; *) same=\"$same $arg\";; esac; done
  $REAL \"$@\" > section || exit 1
  $REAL $same --file=whole.sql || exit 1
  cat section
  exit;;
esac
exec $REAL \"$@\"";

/// The text of the project's only dump, without the key of psql and without what stands behind the end mark.
fn text_of_backup(project: &TestProject) -> String {
    let file = std::fs::File::open(project.at(DIR).join(project.only(DIR, ".sql.gz"))).unwrap();
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    let end = text.find("\n-- Lifeboat content summary").unwrap();
    text.truncate(end + 1);
    keyless(&text)
}

fn keyless(text: &str) -> String {
    // Where a sequence stands that others use belongs to no snapshot.
    let beginnings = ["\\restrict ", "\\unrestrict ", "SELECT pg_catalog.setval('public.used'"];
    let is_key = |line: &&str| !beginnings.iter().any(|beginning| line.starts_with(beginning));
    text.split_inclusive('\n').filter(is_key).collect()
}

/// What one `pg_dump` of the snapshot wrote. Behind the rows, it does not set the storage again that it has set before.
fn text_of_pg_dump(project: &TestProject, ours: &str) -> String {
    let whole = keyless(&std::fs::read_to_string(project.at("whole.sql")).unwrap());
    let set = "SET default_tablespace = '';\n\n";
    match (whole.matches(set).count(), ours.rfind(set)) {
        (count, Some(at)) if count + 1 == ours.matches(set).count() => {
            let behind = &ours[at + set.len()..];
            let head = whole.strip_suffix(behind).expect("the same text behind the rows");
            format!("{head}{set}{behind}")
        }
        _ => whole,
    }
}

#[track_caller]
pub(super) fn equals_pg_dump(project: &TestProject) {
    let ours = text_of_backup(project);
    let theirs = text_of_pg_dump(project, &ours);
    if ours != theirs {
        let differs = ours.lines().zip(theirs.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let around =
            |text: &str| text.lines().skip(differs.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n");
        panic!("line {differs} differs\n== ours\n{}\n== pg_dump\n{}", around(&ours), around(&theirs));
    }
}

/// Objects that are easily forgotten, or dumped twice.
const ODD: &str = r#"
CREATE SCHEMA odd;
CREATE TABLE odd.parent (a int, gone text, b int GENERATED ALWAYS AS (a * 2) STORED);
ALTER TABLE odd.parent DROP COLUMN gone;
CREATE TABLE odd.child (c text) INHERITS (odd.parent);
INSERT INTO odd.parent VALUES (1); INSERT INTO odd.child (a, c) VALUES (2, 'x');
CREATE TABLE odd.nothing (); INSERT INTO odd.nothing DEFAULT VALUES; INSERT INTO odd.nothing DEFAULT VALUES;
CREATE TABLE odd.parts (id int, t text) PARTITION BY LIST (id);
CREATE TABLE odd.parts_1 PARTITION OF odd.parts FOR VALUES IN (1) PARTITION BY LIST (t);
CREATE TABLE odd.parts_1_a PARTITION OF odd.parts_1 FOR VALUES IN ('a');
CREATE TABLE odd.parts_other PARTITION OF odd.parts DEFAULT;
INSERT INTO odd.parts VALUES (1, 'a'), (2, NULL), (3, E'\\.'), (3, E'tab\tline\nend\\');
CREATE UNLOGGED TABLE odd.unlogged AS SELECT 1 AS id;
CREATE TEMP TABLE temporary AS SELECT 1 AS id;
CREATE FOREIGN DATA WRAPPER elsewhere; CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere;
CREATE FOREIGN TABLE odd.foreigner (id int) SERVER elsewhere;
CREATE MATERIALIZED VIEW odd.seen AS SELECT count(*) FROM odd.parts;
CREATE TABLE odd."select" ("order" serial, "ä""b\" money DEFAULT 5, id int GENERATED ALWAYS AS IDENTITY (MAXVALUE 100 START 7 INCREMENT -3));
INSERT INTO odd."select" DEFAULT VALUES; INSERT INTO odd."select" DEFAULT VALUES;
CREATE SEQUENCE odd.unused; CREATE SEQUENCE odd.called; SELECT setval('odd.called', 41);
CREATE SEQUENCE odd.set; SELECT setval('odd.set', 5, false);
CREATE TABLE odd.configuration (id int, t text); INSERT INTO odd.configuration SELECT n, 'c' FROM generate_series(1, 9) n;
CREATE TABLE odd.all_of_it (id int PRIMARY KEY); INSERT INTO odd.all_of_it VALUES (1), (2);
CREATE TABLE odd.aa_refers (id int REFERENCES odd.all_of_it); INSERT INTO odd.aa_refers VALUES (2);
CREATE TABLE odd.member AS SELECT 1 AS id;
CREATE EXTENSION hstore;
ALTER EXTENSION hstore ADD TABLE odd.configuration; ALTER EXTENSION hstore ADD TABLE odd.all_of_it;
ALTER EXTENSION hstore ADD TABLE odd.aa_refers; ALTER EXTENSION hstore ADD TABLE odd.member;
UPDATE pg_extension SET extcondition = ARRAY['WHERE id > 6', '', ''],
  extconfig = ARRAY['odd.configuration'::regclass, 'odd.all_of_it'::regclass, 'odd.aa_refers'::regclass]
  WHERE extname = 'hstore';
SELECT lo_from_bytea(1000 + n, decode(repeat(lpad(to_hex(n % 256), 2, '0'), size), 'hex'))
  FROM unnest(ARRAY[0, 1, 16383, 16384, 16385, 278527, 278528, 278529, 700000]) WITH ORDINALITY u(size, n);
SELECT lo_create(5000 + n) FROM generate_series(1, 150) n;
SELECT lo_put(5003, 40000, 'behind a hole');
COMMENT ON LARGE OBJECT 5003 IS 'with a hole';
GRANT SELECT ON odd.parts TO pg_monitor; REVOKE ALL ON odd.unlogged FROM CURRENT_USER; GRANT USAGE ON SCHEMA odd TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA odd GRANT SELECT ON TABLES TO pg_monitor;
CREATE FUNCTION odd.told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER told ON ddl_command_end EXECUTE FUNCTION odd.told();
"#;

#[test]
fn the_text_is_that_of_pg_dump() {
    let source = sample_database("whole");
    psql(&source, ODD);
    for jobs in ["2", "5"] {
        let project = with_pg_dump(TestProject::new().database(&source), ALSO_WHOLE);
        let ran = project.run(&["backup_database", "--level", "1", "--jobs", jobs]).exits(0);
        assert!(!ran.stderr.contains("one stream"), "{}", ran.stderr);
        equals_pg_dump(&project);
        let manifest = manifest(&project);
        let rows = |name: &str| manifest.tables.iter().find(|t| t.table == name).map(|t| t.rows);
        assert_eq!(rows("odd.configuration"), Some(3));
        assert_eq!(rows("odd.nothing"), Some(2));
        assert_eq!((rows("odd.foreigner"), rows("odd.parts"), rows("odd.member")), (None, None, None));
        let count = |table: &str| psql(&source, &format!("SELECT count(*) FROM {table}")).trim().parse().ok();
        assert_eq!(rows("analytics.events"), count("analytics.events"));
    }
}

#[test]
fn parts_are_those_that_pg_dump_picks() {
    let source = database("picked");
    psql(&source, ODD);
    psql(
        &source,
        "CREATE TABLE public.\"Upper\" (id serial, n int GENERATED ALWAYS AS IDENTITY); INSERT INTO \"Upper\" DEFAULT VALUES; \
         CREATE TABLE public.log_1 AS SELECT 1 AS id; CREATE TABLE public.log_2 AS SELECT 2 AS id; \
         CREATE SEQUENCE odd.apart OWNED BY odd.parent.a; CREATE SCHEMA other; CREATE TABLE other.log_1 AS SELECT 3 AS id",
    );
    for options in [
        "schemas: [\"o*\"]",
        "schemas: [\"odd|public\"], exclude_tables: [\"odd.parts*\"]",
        "tables: [\"log_?\", \"odd.par*\"]",
        "tables: [\"\\\"Upper\\\"\", \"upper\"]",
        "tables: [\"odd.configuration\", \"*.log_1\"]",
        "exclude_tables: [\"\\\"Upper\\\"\", \"odd.*\"]",
        "exclude_table_data: [\"log_[2-9]\", \"odd.*c*\"]",
        "exclude_tables: [\"*id_seq\"], exclude_table_data: [\"*.*\"]",
    ] {
        let playbook = format!(
            "step \"Dump\" {{ verify(dump(postgres(), #{{ jobs: 2, {options} }}).gzip().save(\"backups/database/p.sql.gz\")); }}"
        );
        let project =
            with_pg_dump(TestProject::new().database(&source), ALSO_WHOLE).playbook("part", &playbook);
        let ran = project.run(&["part"]).exits(0);
        assert!(!ran.stderr.contains("one stream"), "{options}: {}", ran.stderr);
        println!("{options}");
        equals_pg_dump(&project);
    }
    let playbook = "step \"Dump\" { dump(postgres(), #{ jobs: 2, tables: [\"a.b.c\"] }).gzip().save(\"backups/database/p.sql.gz\"); }";
    let project = TestProject::new().database(&source).playbook("part", playbook);
    expect![[r#"
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `BIN/pg_dump` exited with status 1
          ——▶ playbooks/part.rhai:2:72
          │
        N │ step "Dump" { dump(postgres(), #{ jobs: 2, tables: ["a.b.c"] }).gzip().save("backups/database/p.sql.gz"); }
          │                                                                        ^
        caused by: pg_dump: error: cross-database references are not implemented: a.b.c
        ✘ part failed in step `Dump` after TIME (exit 1)
    "#]].assert_eq(&told(&project, &source, &project.run(&["part"])));
}

/// Runs statements in a loop, in sessions of their own, until it is dropped.
struct Clients {
    over: std::sync::Arc<AtomicBool>,
    done: std::sync::Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Clients {
    fn start(source: &TestDatabase, loops: &[(&'static str, u64)]) -> Self {
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let done = std::sync::Arc::new(AtomicU64::new(0));
        let threads = loops.iter().map(|&(sql, pause)| {
            let (env, over, done) = (source.env(), over.clone(), done.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    let output = psql_output(&env, sql, &[]);
                    assert!(output.status.success(), "{output:?}");
                    done.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(pause));
                }
            })
        });
        Self { threads: threads.collect(), over, done }
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.done.load(Ordering::SeqCst)
    }
}

#[test]
fn clients_that_write_meanwhile_make_no_difference() {
    let source = database("busy");
    psql(
        &source,
        "CREATE TABLE a AS SELECT n AS id, md5(n::text) AS t FROM generate_series(1, 200000) n; \
         CREATE TABLE b AS SELECT * FROM a LIMIT 20000; CREATE TABLE c AS SELECT 0 AS id; CREATE SEQUENCE used; \
         CREATE TABLE rewritten AS SELECT * FROM b; SELECT lo_create(1)",
    );
    let clients = Clients::start(
        &source,
        &[
            ("INSERT INTO a SELECT nextval('used'), 'new' FROM generate_series(1, 100)", 5),
            (
                "UPDATE a SET t = t || 'x' WHERE id % 1000 = (random() * 1000)::int; SELECT lo_put(1, 0, 'changed')",
                20,
            ),
            ("TRUNCATE c; INSERT INTO c SELECT generate_series(1, 10)", 6000),
            ("CREATE TABLE d AS SELECT 1 AS id; DROP TABLE d", 5000),
            ("ALTER TABLE rewritten ALTER id TYPE bigint; ALTER TABLE rewritten ALTER id TYPE int", 8000),
            ("DELETE FROM b WHERE id = (random() * 20000)::int", 5),
        ],
    );
    for _ in 0..2 {
        let project = with_pg_dump(TestProject::new().database(&source), ALSO_WHOLE);
        let ran = project.run(&["backup_database", "--level", "1", "--jobs", "3"]).exits(0);
        assert!(!ran.stderr.contains("one stream"), "{}", ran.stderr);
        equals_pg_dump(&project);
        let rows = manifest(&project).tables.iter().find(|t| t.table == "public.c").map(|t| t.rows);
        assert_ne!(rows, Some(0), "a table that is truncated and filled in one transaction is never empty");
    }
    assert!(clients.end() > 20);
}

/// A backup that is under way.
struct Begun(Child);

impl Begun {
    fn new(project: &TestProject, args: &[&str]) -> Self {
        let mut command = project.command(args);
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn ran(self) -> Ran {
        let output = self.0.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::new(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A transaction of another client that stays open until it is told to commit.
struct Open(Child);

impl Open {
    fn new(source: &TestDatabase, sql: &str) -> Self {
        let mut child = Command::new(crate::cluster::program("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
            .envs(source.env())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        use std::io::Write as _;
        writeln!(child.stdin.as_mut().unwrap(), "BEGIN; {sql};\n\\echo begun").unwrap();
        let mut told = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
        Self(child)
    }

    fn commit(mut self) {
        use std::io::Write as _;
        writeln!(self.0.stdin.as_mut().unwrap(), "COMMIT;").unwrap();
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

fn waits_for_a_lock(source: &TestDatabase) -> bool {
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock' \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    psql(source, sql).trim() != "0"
}

/// `pg_dump` alone takes its snapshot before its locks, and would find the table empty.
#[test]
fn a_table_that_is_truncated_before_it_can_be_locked_is_not_empty() {
    for jobs in ["1", "2"] {
        let source = database("truncated");
        psql(&source, "CREATE TABLE t AS SELECT generate_series(1, 5) AS id");
        let open = Open::new(&source, "TRUNCATE t; INSERT INTO t SELECT generate_series(1, 7)");
        let project = TestProject::new().database(&source);
        let begun = Begun::new(&project, &["backup_database", "--jobs", jobs]);
        until("the wait for the lock", || waits_for_a_lock(&source));
        open.commit();
        let ran = begun.ran();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(manifest(&project).tables[0].rows, 7, "with {jobs} jobs");
    }
}

#[test]
fn a_lock_that_is_never_free_is_a_failure_that_says_who_holds_it() {
    let source = database("locked");
    psql(&source, "CREATE TABLE t AS SELECT generate_series(1, 5) AS id");
    let open = Open::new(&source, "LOCK TABLE t");
    let mut shown = Vec::new();
    for jobs in [1, 2] {
        let playbook = format!(
            "step \"Dump\" {{ dump(postgres(), #{{ jobs: {jobs}, lock_wait: 1 }}).gzip().save(\"backups/database/x.sql.gz\"); }}"
        );
        let project = TestProject::new().database(&source).playbook("locked", &playbook);
        let ran = project.run(&["locked"]);
        let text = told(&project, &source, &ran);
        let lines = text.lines().filter(|line| !line.contains('│') && !line.contains("——▶"));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let process = text.split_once("(process ").and_then(|(_, rest)| rest.split_once(' ')).unwrap().0;
        shown.push(text.replace(process, "PID"));
    }
    open.commit();
    assert_eq!(shown[0], shown[1]);
    expect![[r#"
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: tables are locked
        caused by: canceling statement due to lock timeout (55P03)
        caused by: `postgres` (process PID of the server) holds an exclusive lock on public.t
        hint: Let that session finish or end it with `SELECT pg_terminate_backend(PROCESS)`, and run again.
        ✘ locked failed in step `Dump` after TIME (exit 1)
    "#]]
    .assert_eq(&shown[0]);
}

/// Whoever waits for an exclusive lock goes first: the dump lets go, and begins anew.
#[test]
fn a_dump_gives_way_to_who_waits_for_an_exclusive_lock() {
    for jobs in ["1", "2"] {
        let source = database("waiting");
        psql(&source, "CREATE TABLE t AS SELECT generate_series(1, 5) AS id");
        // Between the locks of the leader and those of `pg_dump` somebody wants to change the table.
        let psql_program = crate::cluster::program("psql").display().to_string();
        let script = format!(
            "if mkdir altered 2>/dev/null; then unset PGOPTIONS
             {psql_program} -X -q -c 'ALTER TABLE t ADD COLUMN new int DEFAULT 3' &
             while [ \"$({psql_program} -X -A -t -c \"SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = 't'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())\")\" = 0 ]; do sleep 0.05; done
             fi
             exec $REAL \"$@\""
        );
        let project = with_pg_dump(TestProject::new().database(&source), &script);
        let ran = project.run(&["backup_database", "--jobs", jobs]).exits(0);
        assert!(!ran.stderr.contains("one stream"), "{}", ran.stderr);
        let file = project.at(DIR).join(project.only(DIR, ".sql.gz"));
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(std::fs::File::open(file).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert!(text.contains("COPY public.t (id, new) FROM stdin;\n1\t3\n"), "{text}");
    }
}

/// The first section is held back until there is a file `go`, so that readers are in the midst of their work.
const HELD_BACK: &str = "\
case \"$*\" in *pre-data*) $REAL \"$@\" > section; head -c 100 section; : > begun
  while [ ! -e go ]; do sleep 0.02; done; tail -c +101 section; exit;; esac
$REAL \"$@\" && : > ended";

#[test]
fn a_session_that_is_lost_fails_the_dump() {
    let source = database("lost");
    psql(&source, "CREATE TABLE t AS SELECT n, repeat('x', 200) FROM generate_series(1, 200000) n");
    let mut all = String::new();
    for (who, which) in [
        ("a reader", "query LIKE 'COPY (SELECT%'"),
        (
            "the leader",
            "application_name = 'lifeboat' AND state = 'idle in transaction' AND query NOT LIKE 'LOCK%'",
        ),
        ("everybody", "application_name <> 'psql'"),
    ] {
        let project = with_pg_dump(TestProject::new().database(&source), HELD_BACK);
        let begun = Begun::new(&project, &["backup_database", "--jobs", "2"]);
        until("the sections", || project.at("begun").exists() && project.at("ended").exists());
        let mine = format!("datname = '{}' AND pid <> pg_backend_pid()", source.name);
        let busy =
            format!("SELECT count(*) FROM pg_stat_activity WHERE {mine} AND query LIKE 'COPY (SELECT%'");
        until("the readers", || psql(&source, &busy).trim() == "2");
        let victim = if who == "a reader" { "LIMIT 1" } else { "" };
        let ended = psql(
            &source,
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine} AND ({which}) {victim}"
            ),
        );
        assert!(ended.contains('t') && !ended.contains('f'), "{who}: {ended}");
        std::fs::write(project.at("go"), "").unwrap();
        let text = told(&project, &source, &begun.ran());
        // Which of the two arrives first is a matter of microseconds.
        let text = text.replace(
            "Connection reset by peer (os error 104)",
            "terminating connection due to administrator command",
        );
        let lines = text.lines().filter(|line| !line.contains('│') && !line.contains("——▶"));
        all += &format!("== {who}\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    }
    expect![[r#"
        == a reader
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: the connection to `DB at PGHOST:PGPORT as postgres` broke
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: terminating connection due to administrator command
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == the leader
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: the connection to `DB at PGHOST:PGPORT as postgres` broke
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: terminating connection due to administrator command
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == everybody
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: the connection to `DB at PGHOST:PGPORT as postgres` broke
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: terminating connection due to administrator command
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
    "#]].assert_eq(&all);
}

/// The planner opens the indexes of a table that is read in parts.
#[test]
fn an_index_that_is_being_rebuilt_holds_no_dump_up() {
    let source = database("reindexed");
    psql(
        &source,
        "CREATE TABLE t AS SELECT n, repeat('x', 100) AS x FROM generate_series(1, 100000) n; CREATE INDEX i ON t (n)",
    );
    let open = Open::new(&source, "REINDEX INDEX i");
    let project = with_pg_dump(TestProject::new().database(&source), ALSO_WHOLE);
    let ran = project.run(&["backup_database", "--jobs", "2"]).exits(0);
    open.commit();
    assert!(!ran.stderr.contains("one stream"), "{}", ran.stderr);
    equals_pg_dump(&project);
}

/// Values that are stored apart are found by an index of their own, which REINDEX holds to the end of its transaction.
#[test]
fn values_whose_index_is_being_rebuilt_are_waited_for() {
    let source = database("toast_reindexed");
    psql(
        &source,
        "CREATE TABLE t (x text); ALTER TABLE t ALTER x SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT repeat('x', 10000) FROM generate_series(1, 100)",
    );
    let open = Open::new(&source, "REINDEX TABLE t");
    let project = with_pg_dump(TestProject::new().database(&source), ALSO_WHOLE);
    let ran = std::thread::scope(|scope| {
        let ran = scope.spawn(|| project.run(&["backup_database", "--jobs", "2"]));
        crate::aftermath::wait_for("a reader", || waits_for_a_lock(&source));
        std::thread::sleep(Duration::from_secs(1));
        open.commit();
        ran.join().unwrap()
    });
    let ran = ran.exits(0);
    assert!(!ran.stderr.contains("one stream"), "{}", ran.stderr);
    equals_pg_dump(&project);
}

/// The values of an enum have other numbers in the database that is restored, and so do their hashes.
#[test]
fn rows_that_the_hash_of_an_enum_parts_go_through_their_table() {
    let source = database("hashed_enum");
    psql(
        &source,
        "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f'); CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1); \
         CREATE TABLE p (m mood, n int REFERENCES other, PRIMARY KEY (m, n)) PARTITION BY HASH (m); \
         CREATE TABLE p_0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
         CREATE TABLE p_1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1); \
         INSERT INTO p SELECT m, 1 FROM unnest(enum_range(NULL::mood)) m; CREATE INDEX ON p (n)",
    );
    let project = TestProject::new().database(&source);
    project.run(&["backup_database", "--jobs", "2"]).exits(0).says(
        "dumped in one stream of `pg_dump`: which rows belong to public.p_0 is told by the hash of an enum",
    );
    psql(&source, "DELETE FROM p");
    project.run(&["restore", "--database", "--latest", "--yes"]).exits(0);
    assert_eq!(psql(&source, "SELECT count(*), count(DISTINCT m) FROM p"), "6|6\n");
    assert_eq!(
        psql(
            &source,
            "SELECT convalidated FROM pg_constraint WHERE contype = 'f' AND conrelid = 'p'::regclass"
        ),
        "t\n"
    );
}

#[test]
fn time_limits_of_role_and_database_do_not_cut_a_dump() {
    let source = database("limits");
    psql(&source, "CREATE TABLE t AS SELECT n, repeat('x', 100) FROM generate_series(1, 100000) n");
    let limits = ["statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"]
        .map(|name| format!("ALTER DATABASE \"{}\" SET {name} = '1ms'", source.name));
    // At once, for they count for the next session.
    psql(&source, &limits.join("; "));
    let project = with_pg_dump(TestProject::new().database(&source), ALSO_WHOLE);
    let ran = project.run(&["backup_database", "--jobs", "2"]).exits(0);
    assert!(!ran.stderr.contains("one stream"), "{}", ran.stderr);
    equals_pg_dump(&project);
}

#[test]
fn what_cannot_be_dumped_at_once_is_dumped_in_one_stream_and_said() {
    let source = database("limited");
    psql(&source, "CREATE TABLE t AS SELECT 1 AS id");
    let role = Role::new(&source, "GRANT pg_read_all_data TO ROLE; ALTER USER ROLE CONNECTION LIMIT 2");
    let project = role.project(&source);
    let ran = project.run(&["backup_database", "--jobs", "4"]).exits(3);
    let said = anonymous(&project, &source, &ran).replace(&role.0, "ROLE");
    let is_told = |line: &&str| line.contains("one stream") || line.contains("locked");
    let said: Vec<&str> = said.lines().filter(is_told).collect();
    role.gone(&source);
    expect![[r#"
        [
            "warning: DB_db_STAMP.sql.gz: its tables could not be locked before its snapshot was taken: one that was truncated or rewritten just then is empty in it",
        ]
    "#]].assert_debug_eq(&said);

    let source = database("latin");
    let admin = cluster().client_env("postgres");
    for sql in [
        format!("DROP DATABASE {}", source.name),
        format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'", source.name),
    ] {
        assert!(psql_output(&admin, &sql, &[]).status.success());
    }
    psql(&source, "SET client_encoding = 'UTF8'; CREATE TABLE plain AS SELECT 'ä' AS t");
    let project = with_pg_dump(TestProject::new().database(&source), ALSO_WHOLE);
    let ran = project.run(&["backup_database", "--jobs", "2"]).exits(0);
    assert!(!ran.stderr.contains("one stream"), "{}", ran.stderr);
    psql(&source, "SET client_encoding = 'UTF8'; CREATE TABLE \"größe\" AS SELECT 'ä' AS t");
    let project = TestProject::new().database(&source);
    let ran = project.run(&["backup_database", "--jobs", "2"]).exits(0);
    let said = anonymous(&project, &source, &ran);
    let said: Vec<&str> = said.lines().filter(is_told).collect();
    expect![[r#"
        [
            "ℹ\u{fe0f}  INFO - DB_db_STAMP.sql.gz: dumped in one stream of `pg_dump`: the name public.\"grÃ¶Ã\u{9f}e\" is written in LATIN1",
        ]
    "#]].assert_debug_eq(&said);
}

#[test]
fn an_impossible_number_of_connections_is_refused() {
    let source = database("jobs");
    let project = TestProject::new().database(&source);
    expect![[r#"
        exit 2
        error: a dump cannot have 65 connections
           ——▶ std/backup:N
           │
        N │         rows.gzip(options.level).hash().save(database_path(db, options), #{ tag: options.tag })
           │                                         ^
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        hint: Give `jobs` a number up to 64; 0 is one for each core.
        ✘ backup_database failed in step `Dump` after TIME (exit 2)
    "#]]
    .assert_eq(&fails_with(&project, &source, "65"));
}

fn fails_with(project: &TestProject, source: &TestDatabase, jobs: &str) -> String {
    told(project, source, &project.run(&["backup_database", "--jobs", jobs]))
}

/// The most memory that a backup takes, in MiB.
fn peak(source: &TestDatabase) -> u64 {
    let project = TestProject::new().database(source);
    let mut child = project
        .command(&["backup_database", "--level", "1", "--jobs", "2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = kib.map_or(peak, |kib| peak.max(kib >> 10));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn memory_does_not_grow_with_the_database() {
    let source = database("memory");
    let fill = |rows: u32| {
        let sql = format!(
            "SET client_min_messages = warning; DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT n, md5(n::text) || repeat(md5((n * 7)::text), 9) AS t FROM generate_series(1, {rows}) n"
        );
        psql(&source, &sql);
    };
    let times = if all_tests() { 20 } else { 4 };
    fill(300_000);
    let small = peak(&source);
    fill(300_000 * times);
    let large = peak(&source);
    assert!(large <= small + 12, "{small} MiB, {large} MiB for {times} times the rows");
    assert!(large <= 80, "{large} MiB");
}

#[test]
fn the_wrong_pg_dump_fails_as_before() {
    let source = database("wrong");
    psql(&source, "CREATE TABLE t AS SELECT 1 AS id");
    let mut all = String::new();
    for (what, script) in [
        (
            "fails behind its first bytes",
            "$REAL \"$@\" | head -c 500; echo 'pg_dump: error: out of luck' >&2; exit 1",
        ),
        ("ends well before the end marker", "$REAL \"$@\" | sed '/database dump complete/,$d'; exit 0"),
        ("writes rows", "exec $REAL --snapshot=$(echo \"$*\" | sed 's/.*--snapshot=//')"),
        ("writes a command of psql", "printf '\\\\! echo owned\\n'; $REAL \"$@\""),
    ] {
        let project = with_pg_dump(TestProject::new().database(&source), script);
        let told = fails(&project, &source);
        let lines = told.lines().filter(|line| !line.contains('│') && !line.contains("——▶"));
        all += &format!("== {what}\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    }
    expect![[r#"
        == fails behind its first bytes
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `PROJECT/bin/pg_dump` exited with status 1
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: pg_dump: error: out of luck
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == ends well before the end marker
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: the dump's end marker is missing
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        caused by: `pg_dump` ended well, but did not write all of the dump
        hint: Run again; if it stays, check `pg_dump` and what wraps it.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == writes rows
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: `pg_dump` wrote rows where definitions were asked for
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        hint: Run again; if it stays, check `pg_dump` and what wraps it.
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
        == writes a command of psql
        exit 1
        error: `dump` of `DB at PGHOST:PGPORT as postgres` failed: line 1 of the dump holds the command `\! echo owned`
        while calling `std/backup::database` at playbooks/backup_database.rhai:N
        hint: No `pg_dump` writes that: look for an object with a line break in its name (CVE-2025-8715).
        ✘ backup_database failed in step `Dump` after TIME (exit 1)
    "#]].assert_eq(&all);
}
