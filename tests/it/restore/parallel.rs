//! Several sessions fill a database: it becomes the same whatever their number, and what goes wrong in one ends them all.

use super::{backed_up, databases_like, kept, project, restore};
use crate::aftermath::wait_for;
use crate::cluster::{TestDatabase, cluster, database, dump_text, psql, psql_output, sample_database};
use crate::postgres::settings_from;
use crate::project::{Ran, TestProject};
use expect_test::expect;
use lifeboat::base::cancel::Cancel;
use lifeboat::base::failure::Code;
use lifeboat::sys::env::Env;
use lifeboat::sys::fs;
use lifeboat::sys::host::Host;
use lifeboat::sys::postgres::loading::Filling;
use lifeboat::sys::stream::{Control, Sections};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Restores by so many sessions, over and over, and compares what it becomes with what it was.
#[track_caller]
fn same_by_all(source: &TestDatabase, all_jobs: &[&str]) {
    let (project, file) = backed_up(source);
    let before = dump_text(source);
    for jobs in all_jobs {
        let ran = project.run(&["restore_file", &file, "--jobs", jobs]).exits(0);
        assert!(!ran.stderr.contains("in its own order"), "{}", ran.stderr);
        assert!(dump_text(source) == before, "{jobs} jobs");
        drop(kept(source));
    }
}

/// What a restore that fails tells; nothing has changed by it.
#[track_caller]
fn failed(project: &TestProject, source: &TestDatabase, file: &str) -> String {
    let before = dump_text(source);
    let ran = project.run(&["restore_file", file, "--jobs", "3"]);
    told(project, source, &before, &ran)
}

#[track_caller]
fn told(project: &TestProject, source: &TestDatabase, before: &str, ran: &Ran) -> String {
    assert!(dump_text(source) == before, "the live database was changed");
    assert_eq!(databases_like(&format!("{}_", source.name)), [""; 0], "{}", ran.stderr);
    let text = project.told(ran).replace(&source.name, "DB");
    let wanted =
        |line: &&str| ["exit", "error", "caused by", "hint"].iter().any(|begin| line.starts_with(begin));
    text.lines().filter(wanted).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_sample_becomes_the_same_by_one_session_and_by_many() {
    let source = sample_database("restore_jobs");
    same_by_all(&source, &["1", "2", "4"]);
    let statistics =
        "SELECT count(*) FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let found = psql(&source, statistics);
    psql(&source, "ANALYZE");
    assert_eq!(found, psql(&source, statistics), "what is analyzed");
    assert_eq!(psql(&source, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND reltuples < 0"), "0\n");
}

#[test]
fn constraints_come_back_in_the_state_they_were_in() {
    let source = database("restore_states");
    psql(
        &source,
        "CREATE TABLE a (id int PRIMARY KEY, parent int REFERENCES a, x text); \
         CREATE TABLE b (id int, a int CONSTRAINT \"odd \"\"key\"\"\" REFERENCES a DEFERRABLE INITIALLY DEFERRED, CHECK (id > 0)); \
         CREATE TABLE parts (id int, a int REFERENCES a, PRIMARY KEY (id)) PARTITION BY RANGE (id); \
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (500); \
         CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (500) TO (2000); \
         CREATE TABLE c (id int, part int REFERENCES parts, EXCLUDE USING btree (id WITH =)); \
         CREATE INDEX ON parts (a); \
         INSERT INTO a SELECT n, NULLIF(n / 2, 0), 'x' FROM generate_series(1, 1000) n; \
         INSERT INTO b SELECT n, n FROM generate_series(1, 1000) n; INSERT INTO parts SELECT n, n FROM generate_series(1, 1000) n; \
         INSERT INTO c SELECT n, n FROM generate_series(1, 1000) n",
    );
    psql(
        &source,
        "ALTER TABLE b ADD CONSTRAINT loose FOREIGN KEY (id) REFERENCES a NOT VALID; \
         ALTER TABLE b ADD CONSTRAINT loose_check CHECK (id < 100) NOT VALID; \
         ALTER TABLE a REPLICA IDENTITY USING INDEX a_pkey; CLUSTER a USING a_pkey; \
         COMMENT ON INDEX a_pkey IS 'the key'; COMMENT ON CONSTRAINT loose ON b IS 'loose'; \
         CREATE STATISTICS s ON id, parent FROM a; CREATE VIEW v AS SELECT id, x FROM a GROUP BY id; \
         CREATE MATERIALIZED VIEW m AS SELECT * FROM v; CREATE UNIQUE INDEX ON m (id); REFRESH MATERIALIZED VIEW m",
    );
    let states =
        "SELECT conname, contype, convalidated FROM pg_constraint WHERE conrelid >= 16384 ORDER BY 1, 2, 3";
    let before = psql(&source, states);
    assert!(before.contains("loose|f|f\n") && before.contains("odd \"key\"|f|t\n"), "{before}");
    same_by_all(&source, &["1", "3"]);
    assert_eq!(psql(&source, states), before);
    assert_eq!(psql(&source, "SELECT count(*) FROM m"), "1000\n");
}

#[test]
fn a_row_without_the_one_it_refers_to_is_found_and_told_with_the_lines_of_the_dump() {
    let source = database("restore_orphan");
    psql(
        &source,
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int, a int CONSTRAINT k REFERENCES a); \
         INSERT INTO a SELECT n FROM generate_series(1, 1000) n; INSERT INTO b SELECT n, n FROM generate_series(1, 1000) n; \
         SET session_replication_role = replica; INSERT INTO b VALUES (1001, 4711)",
    );
    let (project, file) = backed_up(&source);
    let text = project.stock(".", "gzip", &["-dc", &file]);
    let line = 1 + text.lines().position(|line| line.contains("FOREIGN KEY")).unwrap() - 1;
    let found = failed(&project, &source, &file).replace(&format!("line {line},"), "line LINE,");
    expect![[r#"
        exit 1
        error: `DB_db_STAMP.sql.gz` cannot be loaded: line LINE, `ALTER TABLE ONLY public.b ADD CONSTRAINT k FOREIGN KEY`
        caused by: insert or update on table "b" violates foreign key constraint "k" (23503)
        caused by: Key (a)=(4711) is not present in table "a"
        hint: `DB` is as it was.
    "#]]
    .assert_eq(&found);
}

#[test]
fn a_value_that_is_there_twice_ends_all_sessions_and_is_told_with_its_line() {
    let source = database("restore_twice");
    psql(
        &source,
        "CREATE TABLE big (id int, x text); INSERT INTO big SELECT n, repeat('x', 50) FROM generate_series(1, 200000) n; \
         CREATE INDEX big_x ON big (x, id); CREATE TABLE t (id int); INSERT INTO t SELECT n FROM generate_series(1, 999) n; \
         INSERT INTO t VALUES (7); CREATE INDEX t_id ON t (id); \
         UPDATE pg_index SET indisunique = true WHERE indexrelid = 't_id'::regclass",
    );
    let (project, file) = backed_up(&source);
    let text = project.stock(".", "gzip", &["-dc", &file]);
    let line = 1 + text.lines().position(|line| line.starts_with("CREATE UNIQUE INDEX t_id")).unwrap();
    let found = failed(&project, &source, &file).replace(&format!("line {line},"), "line LINE,");
    expect![[r#"
        exit 1
        error: `DB_db_STAMP.sql.gz` cannot be loaded: line LINE, `CREATE UNIQUE INDEX t_id ON public.t USING btree`
        caused by: could not create unique index "t_id" (23505)
        caused by: Key (id)=(7) is duplicated
        hint: `DB` is as it was.
    "#]]
    .assert_eq(&found);
}

#[test]
fn a_check_that_reads_another_table_finds_its_rows() {
    let source = database("restore_check");
    psql(
        &source,
        "CREATE TABLE lookup (id int); INSERT INTO lookup SELECT n FROM generate_series(1, 100) n; \
         CREATE FUNCTION known(x int) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.lookup WHERE id = x)'; \
         CREATE TABLE zebra (id int CHECK (known(id)), x text); \
         INSERT INTO zebra SELECT 1 + n % 100, repeat('x', 1000) FROM generate_series(1, 3000) n; \
         CREATE INDEX ON zebra (id) WHERE (id > 7); CREATE TABLE zoo (id int); INSERT INTO zoo VALUES (1)",
    );
    same_by_all(&source, &["4"]);
}

#[test]
fn an_index_that_casts_by_a_function_of_the_dump_is_built_when_all_rows_are_there() {
    let source = database("restore_casts");
    psql(
        &source,
        "CREATE TYPE plain AS ENUM ('a', 'b'); CREATE TYPE odd AS ENUM ('a', 'b'); CREATE TABLE zzz (n int); \
         INSERT INTO zzz VALUES (1); \
         CREATE FUNCTION conv(text) RETURNS odd LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF NOT EXISTS (SELECT FROM public.zzz) \
         THEN RAISE 'zzz is empty'; END IF; RETURN 'a'; END $$; CREATE CAST (text AS odd) WITH FUNCTION conv(text); \
         CREATE TABLE aaa (id int, p plain, t text); INSERT INTO aaa SELECT n, 'a', 'x' FROM generate_series(1, 1000) n; \
         CREATE INDEX by_plain ON aaa (id) WHERE p = ANY (ARRAY['a'::plain, 'b'::plain]); \
         CREATE INDEX by_odd ON aaa (id) WHERE t::odd = 'a'",
    );
    // With one session the index would come before the rows of the smaller table, did it not wait for them.
    same_by_all(&source, &["1", "3"]);
}

#[test]
fn a_view_that_is_filled_by_a_function_does_so_when_all_rows_are_there() {
    let source = database("restore_filled");
    psql(
        &source,
        "CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n; \
         CREATE FUNCTION total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(n) FROM public.t'; \
         CREATE MATERIALIZED VIEW m AS SELECT total() AS total; CREATE INDEX ON m (total); \
         CREATE FUNCTION half(x int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT x / 2'; CREATE INDEX ON t (half(n))",
    );
    same_by_all(&source, &["4"]);
    assert_eq!(psql(&source, "SELECT total FROM m"), "12502500\n");
}

#[test]
fn rows_that_code_of_the_dump_changes_behind_them_are_found() {
    let source = database("restore_changes");
    psql(
        &source,
        "CREATE TABLE t AS SELECT n FROM generate_series(1, 10) n; \
         CREATE FUNCTION worse() RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF current_database() LIKE '%staging%' THEN \
         UPDATE public.t SET n = 0 WHERE n = 1; END IF; RETURN 1; END $$; \
         CREATE MATERIALIZED VIEW m AS SELECT worse() AS x",
    );
    let (project, file) = backed_up(&source);
    let found = failed(&project, &source, &file);
    assert!(found.contains("caused by: table public.t has other content than the backup"), "{found}");
}

#[test]
fn a_session_that_is_ended_ends_the_restore() {
    let source = database("restore_ended");
    psql(
        &source,
        "CREATE FUNCTION slow(x int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN IF current_database() LIKE '%staging%' THEN \
         PERFORM pg_sleep(600); END IF; RETURN true; END $$; \
         CREATE TABLE a (x int CHECK (slow(x))); INSERT INTO a VALUES (1); \
         CREATE TABLE b AS SELECT n FROM generate_series(1, 1000) n; CREATE INDEX ON b (n)",
    );
    let (project, file) = backed_up(&source);
    let before = dump_text(&source);
    let child = project
        .command(&["restore_file", &file, "--jobs", "2"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE '{}_staging%' AND wait_event = 'PgSleep'",
        source.name
    );
    let env = cluster().client_env("postgres");
    wait_for("the restore to sleep", || psql_output(&env, &end, &[]).stdout.starts_with(b"t"));
    let ran = Ran::of(child.wait_with_output().unwrap());
    let found = told(&project, &source, &before, &ran);
    assert!(found.contains("terminating connection due to administrator command"), "{found}");
    assert!(found.ends_with("hint: `DB` is as it was.\n"), "{found}");
}

#[test]
fn many_small_tables_and_none_at_all() {
    let many = database("restore_many");
    psql(
        &many,
        "DO $$ BEGIN FOR n IN 1..400 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, x text)', n); \
         EXECUTE format('INSERT INTO t%s VALUES (%s, ''x'')', n, n); END LOOP; END $$",
    );
    same_by_all(&many, &["2"]);
    if cluster().version().major() >= 14 {
        // Sessions are counted when they end.
        let sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
        assert!(psql(&many, sessions).trim().parse::<u64>().unwrap() < 40);
    }
    let none = database("restore_no_table");
    psql(&none, "CREATE SEQUENCE s; SELECT nextval('s')");
    same_by_all(&none, &["2"]);
}

#[test]
fn tables_that_hold_rows_already_are_not_emptied() {
    // The rows of an extension stay beside those of the dump, however many these are.
    let source = database("restore_large_objects");
    psql(
        &source,
        "CREATE TABLE t (id int, o oid); INSERT INTO t SELECT n, lo_from_bytea(0, decode(repeat(md5(n::text), 100), 'hex')) \
         FROM generate_series(1, 50) n; SELECT lo_unlink(o) FROM t WHERE id = 7; CREATE SEQUENCE s; SELECT setval('s', 99)",
    );
    let before =
        psql(&source, "SELECT md5(string_agg(md5(data), '' ORDER BY loid, pageno)) FROM pg_largeobject");
    same_by_all(&source, &["2"]);
    let after =
        psql(&source, "SELECT md5(string_agg(md5(data), '' ORDER BY loid, pageno)) FROM pg_largeobject");
    assert_eq!((after, psql(&source, "SELECT last_value FROM s")), (before, "99\n".to_owned()));
}

#[test]
fn a_bit_that_flips_behind_the_verification_is_found_wherever_it_is() {
    let source = database("restore_flip");
    psql(
        &source,
        "CREATE TABLE a AS SELECT n FROM generate_series(1, 100) n; CREATE TABLE b AS SELECT n FROM generate_series(1, 100) n; \
         CREATE INDEX ON a (n)",
    );
    let (project, file) = backed_up(&source);
    let path = project.at(&file);
    let whole = std::fs::read(&path).unwrap();
    let cancel = Cancel::new();
    let control = Control { cancel: &cancel, progress: &|_| {} };
    let find = || Sections::find(fs::open(&path).unwrap(), &path, control).unwrap().unwrap();
    let sections = find();
    assert!(sections.list.len() >= 5, "{}", sections.list.len());
    let mut begin = 0;
    for number in 0..sections.list.len() {
        let middle = begin + sections.list[number].size / 2;
        begin += sections.list[number].size;
        let target = database("restore_flipped");
        let sections = find();
        let mut bytes = whole.clone();
        bytes[middle as usize] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let filled = fill(&project, &target, &path, &sections, 2, &|_| {});
        std::fs::write(&path, &whole).unwrap();
        let failure = filled.unwrap_err();
        assert_eq!(failure.code, Code::NotIntact, "section {number}: {failure}");
        assert!(
            failure.message.ends_with("has changed since it was verified"),
            "section {number}: {failure}"
        );
    }
    let target = database("restore_unflipped");
    assert_eq!(fill(&project, &target, &path, &sections, 2, &|_| {}).unwrap(), 200);
    assert!(dump_text(&target) == dump_text(&source));
}

/// Fills a database from the sections of a file; returns the rows that were compared.
fn fill(
    project: &TestProject,
    target: &TestDatabase,
    path: &Path,
    sections: &Sections,
    jobs: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<u64, lifeboat::base::failure::Failure> {
    let env = target.env().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let env = Env::of(env, BTreeMap::new());
    let host = Arc::new(Host::new(project.path().to_path_buf(), project.at(".lifeboat"), env));
    let filling = Filling {
        host: &host,
        settings: &settings_from(target.env()),
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        jobs,
        pinned: true,
        monetary: None,
        compare: true,
        disk: None,
        progress,
    };
    let full = filling.from_sections(sections)?;
    assert_eq!(full.found.problems, [""; 0]);
    Ok(full.found.rows)
}

#[test]
fn a_plain_dump_gains_from_many_sessions_too_and_becomes_the_same() {
    let source = database("restore_stream");
    psql(
        &source,
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int, a int REFERENCES a); \
         INSERT INTO a SELECT n FROM generate_series(1, 1000) n; INSERT INTO b SELECT n, n FROM generate_series(1, 1000) n; \
         CREATE INDEX ON b (a); CREATE SEQUENCE s; SELECT setval('s', 7); COMMENT ON INDEX b_a_idx IS 'x'",
    );
    let project = project(&source);
    let file = super::plain_backup(&project, &source);
    let before = dump_text(&source);
    restore(&project, &file).says("restored 2 tables, 2000 rows");
    drop(kept(&source));
    assert!(dump_text(&source) == before);
    assert_eq!(psql(&source, "SELECT last_value FROM s"), "7\n");
}

#[test]
fn what_is_made_of_a_plain_dumps_first_table_does_not_wait_for_the_last() {
    let source = database("restore_stream_order");
    psql(
        &source,
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int); CREATE TABLE c (id int PRIMARY KEY); \
         INSERT INTO a SELECT n FROM generate_series(1, 1000) n; INSERT INTO b SELECT n FROM generate_series(1, 1500000) n; \
         INSERT INTO c VALUES (1)",
    );
    let project = project(&source);
    let file = super::plain_backup(&project, &source);
    restore(&project, &file).says("restored 3 tables, 1501001 rows");
    drop(kept(&source));
    // Transactions are numbered in the order in which they begin to write.
    let order = "SELECT (SELECT xmin::text::int FROM pg_class WHERE relname = 'a_pkey') < xmin::text::int, \
                 (SELECT xmin::text::int FROM pg_class WHERE relname = 'c_pkey') > xmin::text::int FROM c";
    assert_eq!(psql(&source, order), "t|t\n");
}

/// `pg_dump --load-via-partition-root`, and each dump of a table that is parted by the hash of an enum.
#[test]
fn rows_that_go_through_a_partitioned_table_come_back_with_its_keys() {
    let source = database("restore_root");
    psql(
        &source,
        "CREATE TABLE a (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE a_1 PARTITION OF a FOR VALUES IN (1, 2); \
         CREATE TABLE a_3 PARTITION OF a FOR VALUES IN (3); INSERT INTO a VALUES (1), (2), (3); \
         CREATE TABLE b (id int, a int REFERENCES a) PARTITION BY LIST (id); CREATE TABLE b_1 PARTITION OF b DEFAULT; \
         INSERT INTO b SELECT n, n % 3 + 1 FROM generate_series(1, 1000) n; CREATE INDEX ON b (a)",
    );
    let before = dump_text(&source);
    for jobs in ["1", "3"] {
        let project = project(&source);
        let file = super::plain_backup_with(&project, &source, &["--load-via-partition-root"]);
        project.run(&["restore_file", &file, "--jobs", jobs]).exits(0).says("1003 rows");
        drop(kept(&source));
        assert!(dump_text(&source) == before, "{jobs} jobs");
    }
}

#[test]
fn what_fails_beside_the_rows_of_a_plain_dump_ends_them() {
    let source = database("restore_stream_fails");
    psql(
        &source,
        "CREATE TABLE a (id int); INSERT INTO a VALUES (1), (1); CREATE TABLE b (id int); \
         INSERT INTO b SELECT n FROM generate_series(1, 1500000) n; CREATE INDEX i ON a (id)",
    );
    let project = project(&source);
    let file = super::plain_backup(&project, &source);
    let path = project.at(&file);
    project.stock(".", "gunzip", &[path.to_str().unwrap()]);
    let plain = path.with_extension("");
    let text = std::fs::read_to_string(&plain).unwrap();
    std::fs::write(&plain, text.replace("CREATE INDEX i", "CREATE UNIQUE INDEX i")).unwrap();
    let before = dump_text(&source);
    let ran = project.run(&["restore_file", file.trim_end_matches(".gz")]).exits(1);
    let line = text.lines().position(|line| line.starts_with("CREATE INDEX i")).unwrap() + 1;
    ran.says(&format!("line {line}, `CREATE UNIQUE INDEX i")).says("could not create unique index \"i\"");
    assert!(dump_text(&source) == before);
    assert_eq!(super::databases_like(&format!("{}_staging", source.name)), [""; 0]);
}

/// A table with foreign keys, and an event trigger that does `body` for each DDL command once the rows are there.
fn with_event_trigger(hint: &str, body: &str) -> TestDatabase {
    let source = database(hint);
    psql(
        &source,
        &format!(
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY); \
             CREATE TABLE big (a int REFERENCES a, b int REFERENCES b, c int REFERENCES c); CREATE TABLE ddl_audit (tag text); \
             INSERT INTO a SELECT n FROM generate_series(1, 9) n; INSERT INTO b TABLE a; INSERT INTO c TABLE a; \
             INSERT INTO big SELECT id, id, id FROM a, generate_series(1, 2000); INSERT INTO ddl_audit VALUES ('first'); \
             CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$; \
             CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit()"
        ),
    );
    source
}

#[test]
fn an_event_trigger_of_the_dump_sees_no_command_of_the_load() {
    let source = with_event_trigger("restore_audit", "INSERT INTO public.ddl_audit VALUES (tg_tag)");
    same_by_all(&source, &["1", "4"]);
    assert_eq!(psql(&source, "TABLE ddl_audit"), "first\n");
    psql(&source, "CREATE TABLE more (id int)");
    assert_eq!(psql(&source, "TABLE ddl_audit"), "first\nCREATE TABLE\n");
}

#[test]
fn an_event_trigger_of_the_dump_that_forbids_ddl_forbids_no_restore() {
    let source = with_event_trigger("restore_forbidden", "RAISE 'no DDL here'");
    same_by_all(&source, &["1", "4"]);
}

#[test]
fn tables_that_have_foreign_keys_before_their_rows_are_filled_in_the_order_of_the_dump() {
    const CONFIGURATION: &str = "CREATE TABLE zz_all (id int PRIMARY KEY); CREATE TABLE aa_refers (id int REFERENCES zz_all); \
         CREATE EXTENSION hstore; ALTER EXTENSION hstore ADD TABLE zz_all; ALTER EXTENSION hstore ADD TABLE aa_refers; \
         UPDATE pg_extension SET extcondition = ARRAY['', ''], \
         extconfig = ARRAY['zz_all'::regclass, 'aa_refers'::regclass] WHERE extname = 'hstore'";
    let source = database("restore_configuration");
    psql(&source, CONFIGURATION);
    psql(
        &source,
        "INSERT INTO zz_all SELECT n FROM generate_series(1, 9) n; \
         INSERT INTO aa_refers SELECT id FROM zz_all, generate_series(1, 2000)",
    );
    let (project, file) = backed_up(&source);
    let path = project.at(&file);
    let cancel = Cancel::new();
    let control = Control { cancel: &cancel, progress: &|_| {} };
    let sections = Sections::find(fs::open(&path).unwrap(), &path, control).unwrap().unwrap();
    for jobs in [1, 2] {
        // An extension that is there already stands for one that makes such tables itself.
        let target = database("restore_configured");
        psql(&target, CONFIGURATION);
        assert_eq!(fill(&project, &target, &path, &sections, jobs, &|_| {}).unwrap(), 18009);
        assert!(dump_text(&target) == dump_text(&source));
    }
}

#[test]
fn a_thread_that_panics_ends_the_load() {
    let source = database("restore_panic");
    psql(
        &source,
        "CREATE TABLE a AS SELECT n FROM generate_series(1, 100) n; CREATE TABLE b AS TABLE a; CREATE INDEX ON a (n)",
    );
    let (project, file) = backed_up(&source);
    let path = project.at(&file);
    let cancel = Cancel::new();
    let control = Control { cancel: &cancel, progress: &|_| {} };
    let sections = Sections::find(fs::open(&path).unwrap(), &path, control).unwrap().unwrap();
    let target = database("restore_panicked");
    let (main, panicked) = (std::thread::current().id(), AtomicBool::new(false));
    let progress = |_| {
        let is_first = std::thread::current().id() != main && !panicked.swap(true, Ordering::SeqCst);
        assert!(!is_first, "a worker's end");
    };
    let failure = fill(&project, &target, &path, &sections, 2, &progress).unwrap_err();
    assert_eq!((failure.code, failure.causes), (Code::Internal, vec!["a worker's end".to_owned()]));
}
