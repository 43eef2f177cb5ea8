//! One scratch cluster for the whole test process, and a database of its own for every test.

use lifeboat::base::secret::Secret;
use lifeboat::sys::postgres::binaries;
use lifeboat::sys::scratch::{ScratchCluster, ScratchOptions};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A password that must be quoted in URLs, shells and files.
pub const PASSWORD: &str = "s3cr3t/p@ss w0rd";

/// The database that those with the sample at scale 1 are copied from.
const SAMPLE_TEMPLATE: &str = "sample template";

/// Looks up this process's environment.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether the long tests are asked for too.
pub fn all_tests() -> bool {
    env("LIFEBOAT_TEST_ALL").is_some_and(|value| value == "1")
}

/// The options of a scratch cluster of the programs on this machine.
pub fn options() -> ScratchOptions {
    ScratchOptions::new(binaries::find_server(None, &env).unwrap())
}

/// The cluster that all tests share. It ends with this process; its folder goes when the next one starts.
pub fn cluster() -> &'static ScratchCluster {
    static CLUSTER: OnceLock<ScratchCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let mut options = options();
        options.password = Some(Secret::new(PASSWORD));
        options.tcp = true;
        ScratchCluster::start(&options).unwrap()
    })
}

/// A database of one test, dropped with it.
#[derive(Debug)]
pub struct TestDatabase {
    pub name: String,
}

impl TestDatabase {
    /// The variables with which PostgreSQL's programs reach it.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        cluster().client_env(&self.name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name));
        let drop = || psql_output(&cluster().client_env("postgres"), &sql, &[]);
        let mut output = drop();
        // The server waits five seconds for the sessions that it ends.
        for _ in 0..5 {
            if !String::from_utf8_lossy(&output.stderr).contains("is being accessed by other users") {
                break;
            }
            output = drop();
        }
        if !std::thread::panicking() {
            succeeded("psql", &output);
        }
    }
}

/// A new empty database whose name begins with `hint`.
pub fn database(hint: &str) -> TestDatabase {
    create(hint, "template0")
}

/// A new database with the sample at scale 1, copied from one that is loaded once.
pub fn sample_database(hint: &str) -> TestDatabase {
    static TEMPLATE: OnceLock<()> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let template = create_named(SAMPLE_TEMPLATE.to_owned(), "template0");
        load_sample(&template, 1);
        // It stays for the other tests.
        std::mem::forget(template);
    });
    create(hint, SAMPLE_TEMPLATE)
}

/// Loads the sample at `scale` into an empty database.
///
/// Computing the sample's rows takes long, so a dump of them is kept for later test runs. Its name tells which sample
/// and which version of PostgreSQL it is of.
pub fn load_sample(database: &TestDatabase, scale: u32) {
    let digest = Sha256::digest(std::fs::read(sample_file()).unwrap());
    let version = cluster().version();
    let name = format!(
        "sample-{scale}-{version}-{:02x}{:02x}{:02x}{:02x}.sql",
        digest[0], digest[1], digest[2], digest[3]
    );
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if kept.exists() {
        // The dump sets sequences by SELECT, whose rows are of no interest.
        let output =
            run("psql", database, &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"], &kept);
        succeeded("psql", &output);
        return;
    }
    compute_sample(database, scale);
    let staged = kept.with_extension(format!("{}.new", std::process::id()));
    succeeded("pg_dump", &run("pg_dump", database, &["-f"], &staged));
    std::fs::rename(&staged, &kept).unwrap();
}

/// Computes the sample at `scale` in an empty database; scale 1 takes about ten seconds.
pub fn compute_sample(database: &TestDatabase, scale: u32) {
    let scale = format!("scale={scale}");
    let output = run("psql", database, &["-X", "-q", "-v", &scale, "-f"], &sample_file());
    assert_eq!(succeeded("psql", &output), "");
}

fn sample_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stdlib/sample.sql")
}

fn run(name: &str, database: &TestDatabase, args: &[&str], file: &Path) -> Output {
    Command::new(program(name)).args(args).arg(file).envs(database.env()).output().unwrap()
}

/// What the real psql prints for `sql`: rows as lines, columns apart by `|`.
pub fn psql(database: &TestDatabase, sql: &str) -> String {
    succeeded("psql", &psql_output(&database.env(), sql, &[]))
}

/// What the real psql does with `sql` and more arguments, in an environment.
pub fn psql_output(env: &[(&str, String)], sql: &str, args: &[&str]) -> Output {
    Command::new(program("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap()
}

/// The whole database as the real pg_dump prints it, without the lines that differ between two dumps of the same.
pub fn dump_text(database: &TestDatabase) -> String {
    let output = Command::new(program("pg_dump")).envs(database.env()).output().unwrap();
    let text = succeeded("pg_dump", &output);
    // The tokens of these two commands are random.
    let random = |line: &&str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
    text.split_inclusive('\n').filter(|line| !random(line)).collect()
}

/// The path of one of PostgreSQL's programs.
pub fn program(name: &str) -> PathBuf {
    binaries::find(name, &env).unwrap()
}

fn create(hint: &str, template: &str) -> TestDatabase {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    create_named(format!("{hint}_{}", COUNT.fetch_add(1, Ordering::Relaxed)), template)
}

fn create_named(name: String, template: &str) -> TestDatabase {
    let sql = format!("CREATE DATABASE {} TEMPLATE {}", quoted(&name), quoted(template));
    succeeded("psql", &psql_output(&cluster().client_env("postgres"), &sql, &[]));
    TestDatabase { name }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The standard output of a program that must have succeeded without a word on standard error.
fn succeeded(program: &str, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{program}: {}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}
