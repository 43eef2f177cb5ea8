//! Databases with everything that dumps tend to get wrong: source and restored one, as `pg_dump` prints both.

use super::{backed_up, databases_like, kept, plain_backup, project, restore};
use crate::cluster::{TestDatabase, cluster, database, dump_text, program, psql, psql_output};
use std::path::PathBuf;
use std::process::Command;

/// A subscription outlives no database: it must go before its database can.
struct Unsubscribed<'a>(&'a TestDatabase);

impl Drop for Unsubscribed<'_> {
    fn drop(&mut self) {
        let sql = "SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()";
        if String::from_utf8_lossy(&psql_output(&self.0.env(), sql, &[]).stdout).contains('1') {
            psql_output(&self.0.env(), "DROP SUBSCRIPTION zoo_sub", &[]);
        }
    }
}

fn zoo(hint: &str) -> TestDatabase {
    let zoo = database(hint);
    // The roles belong to the whole cluster, and to the first that comes.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/restore/zoo.sql");
    let text = std::fs::read_to_string(file).unwrap();
    let roles = "CREATE ROLE zoo_owner; CREATE ROLE zoo_reader; CREATE ROLE \"zoo \"\"odd\"\" role\";";
    assert!(text.contains(roles));
    let made = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'zoo%'";
    let text = if psql(&zoo, made) == "3\n" { text.replace(roles, "") } else { text };
    let sql = std::env::temp_dir().join(format!("{}.sql", zoo.name));
    std::fs::write(&sql, text).unwrap();
    let output = Command::new(program("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&sql)
        .envs(zoo.env())
        .output()
        .unwrap();
    std::fs::remove_file(sql).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    zoo
}

#[test]
fn the_zoo_makes_the_round_trip_from_our_backup_and_from_a_plain_one() {
    let source = zoo("restore_zoo");
    let (project, file) = backed_up(&source);
    let before = dump_text(&source);
    // The subscription would go on filling the database that is kept.
    psql(&source, "DROP SUBSCRIPTION zoo_sub");
    restore(&project, &file);
    let _unsubscribed = Unsubscribed(&source);
    let kept = kept(&source);
    assert!(before.contains("CREATE SUBSCRIPTION zoo_sub"));
    pretty(&before, &dump_text(&source));
    drop(kept);

    let plain = super::project(&source);
    let file = plain_backup(&plain, &source);
    psql(&source, "DROP SUBSCRIPTION zoo_sub");
    restore(&plain, &file);
    let _kept = super::kept(&source);
    pretty(&before, &dump_text(&source));
}

/// Compares two dumps; only the lines that differ are shown.
#[track_caller]
fn pretty(left: &str, right: &str) {
    let differ: Vec<(&str, &str)> =
        left.lines().zip(right.lines()).filter(|(left, right)| left != right).take(5).collect();
    assert!(left == right, "{} and {} lines: {differ:#?}", left.lines().count(), right.lines().count());
}

/// A database in an encoding of its own, under the locale that goes with any.
fn encoded(hint: &str, encoding: &str) -> TestDatabase {
    let database = database(hint);
    for sql in [
        format!("DROP DATABASE {}", database.name),
        format!("CREATE DATABASE {} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'", database.name),
    ] {
        assert!(psql_output(&cluster().client_env("postgres"), &sql, &[]).status.success());
    }
    database
}

/// What `pg_dump` writes, in whatever encoding that is.
fn raw(database: &TestDatabase) -> Vec<Vec<u8>> {
    let output = Command::new(program("pg_dump")).envs(database.env()).output().unwrap();
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let random = |line: &[u8]| line.starts_with(b"\\restrict") || line.starts_with(b"\\unrestrict");
    lines.filter(|line| !random(line)).map(<[u8]>::to_vec).collect()
}

fn run_bytes(database: &TestDatabase, sql: &[u8], encoding: &str) {
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(program("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c"])
        .arg(std::ffi::OsStr::from_bytes(sql))
        .envs(database.env())
        .env("PGCLIENTENCODING", encoding)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn databases_of_other_encodings_make_the_round_trip() {
    for (encoding, hint) in [("SQL_ASCII", "restore_ascii"), ("LATIN1", "restore_latin")] {
        let source = encoded(hint, encoding);
        for sql in [
            &b"CREATE TABLE \"caf\xe9\" (id int, \"gr\xfc\xdf\" text, plain text DEFAULT '\xe9')"[..],
            b"INSERT INTO \"caf\xe9\" SELECT n, '\xe9\xe8' || n || E'\\\\.\\n', '\xc3\xa9' FROM generate_series(1, 300) n",
            b"CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN '\xe9;'; END $$",
            b"COMMENT ON TABLE \"caf\xe9\" IS '\xe4\xf6'",
            b"CREATE INDEX \"\xefndex\" ON \"caf\xe9\" (\"gr\xfc\xdf\")",
        ] {
            run_bytes(&source, sql, encoding);
        }
        let before = raw(&source);
        // Names that are no text of any encoding cannot be locked by name, which is warned of.
        let (project, file) = super::backed_up_with(&source, if encoding == "SQL_ASCII" { 3 } else { 0 });
        restore(&project, &file);
        let one = kept(&source);
        assert!(raw(&source) == before, "{encoding}");
        drop(one);
        let plain = super::project(&source);
        let file = plain_backup(&plain, &source);
        restore(&plain, &file);
        let _two = kept(&source);
        assert!(raw(&source) == before, "{encoding}, plain");
        let now = psql(
            &source,
            "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()",
        );
        assert_eq!(now.trim(), encoding);
    }
}

/// The files of an extension with a configuration table, removed with the value.
struct Extension {
    name: String,
    files: Vec<PathBuf>,
}

impl Extension {
    /// `None` where the folder of extensions may not be written.
    fn install() -> Option<Self> {
        let config = Command::new(program("pg_config")).arg("--sharedir").output().ok();
        let dir = match config {
            Some(output) if output.status.success() => {
                PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
            }
            _ => PathBuf::from("/usr/share/postgresql").join(cluster().version().major().to_string()),
        }
        .join("extension");
        let name = format!("lifeboat_test_{}", std::process::id());
        let files = vec![dir.join(format!("{name}.control")), dir.join(format!("{name}--1.0.sql"))];
        std::fs::write(&files[0], "default_version = '1.0'\nrelocatable = true\n").ok()?;
        std::fs::write(
            &files[1],
            "CREATE TABLE settings (name text PRIMARY KEY, value text, own boolean DEFAULT false);\n\
             INSERT INTO settings VALUES ('built in', 'x', true);\n\
             SELECT pg_catalog.pg_extension_config_dump('settings', 'WHERE NOT own');\n",
        )
        .ok()?;
        Some(Self { name, files })
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

#[test]
fn extensions_and_their_configuration_make_the_round_trip() {
    let source = database("restore_extension");
    psql(
        &source,
        "CREATE EXTENSION hstore; CREATE TABLE h AS SELECT hstore('a', n::text) h FROM generate_series(1, 9) n",
    );
    let own = Extension::install();
    if let Some(own) = &own {
        psql(
            &source,
            &format!(
                "CREATE EXTENSION {}; INSERT INTO settings VALUES ('mine', 'y'), ('other', 'z')",
                own.name
            ),
        );
    }
    let before = dump_text(&source);
    let (project, file) = backed_up(&source);
    restore(&project, &file);
    let _kept = kept(&source);
    pretty(&before, &dump_text(&source));
    if own.is_some() {
        assert_eq!(psql(&source, "SELECT name FROM settings ORDER BY 1"), "built in\nmine\nother\n");
    }
    assert_eq!(databases_like(&format!("{}_staging", source.name)), [""; 0]);
}

#[test]
fn rows_that_go_by_insert_are_counted() {
    let source = database("restore_insert");
    psql(
        &source,
        "CREATE TABLE t (id int, x text); INSERT INTO t SELECT n, 'it''s; ' || n FROM generate_series(1, 250) n",
    );
    let project = project(&source);
    std::fs::create_dir_all(project.at(super::DIR)).unwrap();
    for (name, args) in [("one", &["--inserts"][..]), ("more", &["--rows-per-insert=7", "--column-inserts"])]
    {
        let file = format!("{}/{name}.sql", super::DIR);
        let output = Command::new(program("pg_dump"))
            .args(args)
            .arg("-f")
            .arg(project.at(&file))
            .envs(source.env())
            .output();
        assert!(output.unwrap().status.success());
        let before = dump_text(&source);
        restore(&project, &file).says("restored 1 tables, 250 rows").says("compared by count only");
        let _kept = kept(&source);
        pretty(&before, &dump_text(&source));
    }
}

#[test]
fn the_properties_of_the_live_database_are_carried_over() {
    let source = database("restore_properties");
    let name = &source.name;
    psql(
        &source,
        &format!(
            "CREATE ROLE {name}_owner; CREATE ROLE {name}_reader; \
             ALTER DATABASE {name} OWNER TO {name}_owner; REVOKE ALL ON DATABASE {name} FROM PUBLIC; \
             GRANT CONNECT ON DATABASE {name} TO {name}_reader WITH GRANT OPTION; \
             ALTER DATABASE {name} SET work_mem = '7MB'; ALTER DATABASE {name} SET search_path = \"$user\", public; \
             ALTER ROLE {name}_reader IN DATABASE {name} SET app.x = 'it''s'; \
             ALTER DATABASE {name} CONNECTION LIMIT 9; COMMENT ON DATABASE {name} IS 'the comment'; \
             ALTER DATABASE {name} SET default_transaction_read_only = on"
        ),
    );
    let properties = format!(
        "SELECT pg_get_userbyid(datdba), datacl, datconnlimit, shobj_description(oid, 'pg_database'), \
         (SELECT array_agg((setrole::regrole, setconfig) ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid) \
         FROM pg_database d WHERE datname = '{name}'"
    );
    let before = psql(&source, &properties);
    let (project, file) = backed_up(&source);
    restore(&project, &file);
    let one = kept(&source);
    assert_eq!(psql(&source, &properties), before);
    assert!(before.contains("the comment") && before.contains("7MB"), "{before}");
    // And once more from the manifest, into a database that is absent.
    drop(one);
    let admin = cluster().client_env("postgres");
    assert!(psql_output(&admin, &format!("DROP DATABASE {name}"), &[]).status.success());
    restore(&project, &file);
    assert_eq!(psql(&source, &properties), before);
    for sql in [
        format!("ALTER DATABASE {name} OWNER TO postgres"),
        format!("REVOKE ALL ON DATABASE {name} FROM {name}_reader"),
        format!("ALTER ROLE {name}_reader IN DATABASE {name} RESET ALL"),
        format!("DROP ROLE {name}_owner, {name}_reader"),
    ] {
        let output = psql_output(&admin, &sql, &[]);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn what_a_server_does_not_know_is_left_out_and_said() {
    let target = database("restore_unknown");
    let project = project(&target);
    let text = "SET transaction_timeout = 0;\nSET no_such_setting = 'x';\nSET client_encoding = 'UTF8';\nSET default_tablespace = fast;\n\
                CREATE TABLE public.a (x int);\nCOMMENT ON DATABASE other IS 'x';\nCREATE SCHEMA public;\n\
                COPY public.a (x) FROM stdin;\n1\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n";
    std::fs::create_dir_all(project.at(super::DIR)).unwrap();
    std::fs::write(project.at("backups/database/odd.sql"), text).unwrap();
    restore(&project, "backups/database/odd.sql")
        .says("this server does not know the setting `no_such_setting`")
        .says("there is no tablespace `fast` here: what was in it goes to the database's own")
        .says("line 6: `COMMENT ON DATABASE other IS` was left out")
        .says("line 7: `CREATE SCHEMA public` was left out: schema \"public\" already exists");
    drop(kept(&target));
    assert_eq!(psql(&target, "SELECT x FROM a"), "1\n");
}
