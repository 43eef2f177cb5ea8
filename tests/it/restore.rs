//! Backups become databases again: compared with their source by stock tools, swapped in at once, or refused whole.

mod full_disk;
mod in_place;
mod interrupted;
mod known;
mod parallel;
mod refused;
mod rights;
mod roles;
mod round_trips;

use crate::cluster::{
    TestDatabase, cluster, database, dump_text, program, psql, psql_output, sample_database,
};
use crate::project::{Ran, TestProject};
use std::io::{Read as _, Write as _};
use std::process::Command;

/// Where the backups of these tests are.
pub const DIR: &str = "backups/database";

/// A playbook that restores one file into the database that the environment names.
pub const RESTORE: &str = r#"
const PLAYBOOK = #{
    summary: "Restore one file",
    params: #{
        file: #{ help: "The backup", required: true, positional: true },
        skip_checksum: #{ default_value: false, help: "Do not compare the SHA-256" },
        in_place: #{ default_value: false, help: "Load into the live database" },
        undo: #{ default_value: "", help: "A fresh backup" }, jobs: #{ default_value: 0, help: "Sessions" },
    },
};
let db = postgres();
step "Restore" {
    let done = if params.undo == "" {
        restore(params.file, db, #{ jobs: params.jobs, skip_checksum: params.skip_checksum, in_place: params.in_place })
    } else {
        restore(params.file, db, #{ in_place: params.in_place, undo: params.undo })
    };
    info(`restored ${done.tables} tables, ${done.rows} rows; kept ${done.kept}`);
}
"#;

/// A project that restores into `target`.
pub fn project(target: &TestDatabase) -> TestProject {
    TestProject::new().database(target).playbook("restore_file", RESTORE)
}

/// Backs `source` up in a project of its own; returns it with the backup's path in it.
pub fn backed_up(source: &TestDatabase) -> (TestProject, String) {
    backed_up_with(source, 0)
}

/// The same where the backup ends with that code.
pub fn backed_up_with(source: &TestDatabase, code: i32) -> (TestProject, String) {
    let project = project(source);
    project.run(&["backup_database"]).exits(code);
    let file = format!("{DIR}/{}", project.only(DIR, ".sql.gz"));
    (project, file)
}

/// What `pg_dump` writes of `source`, compressed by gzip, as a file of the project without manifest.
pub fn plain_backup(project: &TestProject, source: &TestDatabase) -> String {
    plain_backup_with(project, source, &[])
}

/// As [`plain_backup`], by `pg_dump` with options.
pub fn plain_backup_with(project: &TestProject, source: &TestDatabase, options: &[&str]) -> String {
    std::fs::create_dir_all(project.at(DIR)).unwrap();
    let file = format!("{DIR}/plain_20251110_020000.sql.gz");
    let sql = project.at("plain.sql");
    let output = Command::new(program("pg_dump"))
        .args(options)
        .arg("-f")
        .arg(&sql)
        .envs(source.env())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    project.stock(".", "gzip", &["plain.sql"]);
    std::fs::rename(project.at("plain.sql.gz"), project.at(&file)).unwrap();
    file
}

/// Names of databases that begin so.
pub fn databases_like(beginning: &str) -> Vec<String> {
    let sql = "SELECT datname FROM pg_database ORDER BY 1";
    let output = psql_output(&cluster().client_env("postgres"), sql, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|name| name.starts_with(beginning)).map(str::to_owned).collect()
}

/// The database that a restore kept, dropped with the value.
#[track_caller]
pub fn kept(database: &TestDatabase) -> TestDatabase {
    let found = databases_like(&format!("{}_before_", database.name));
    assert_eq!(found.len(), 1, "{found:?}");
    TestDatabase { name: found.into_iter().next().unwrap() }
}

/// Restores a file; it must succeed.
#[track_caller]
pub fn restore(project: &TestProject, file: &str) -> Ran {
    project.run(&["restore_file", file]).exits(0)
}

#[test]
fn the_sample_makes_the_round_trip_and_the_database_before_is_kept() {
    let source = sample_database("restore_sample");
    let (project, file) = backed_up(&source);
    let before = dump_text(&source);
    // What was there before is another database, and is kept as it is.
    psql(
        &source,
        "SET client_min_messages = warning; DROP TABLE analytics.events CASCADE; CREATE TABLE public.later AS SELECT 1 AS x",
    );
    let later = dump_text(&source);
    let ran = restore(&project, &file);
    let kept = kept(&source);
    assert!(dump_text(&source) == before);
    assert!(dump_text(&kept) == later);
    assert!(ran.stderr.contains(&format!("kept {}", kept.name)), "{}", ran.stderr);
    assert_eq!(databases_like(&format!("{}_staging", source.name)), Vec::<String>::new());
}

#[test]
fn a_plain_dump_of_other_tools_makes_the_round_trip_into_a_database_that_is_absent() {
    let source = sample_database("restore_plain");
    let target = database("restore_absent");
    let project = project(&target);
    let file = plain_backup(&project, &source);
    let drop = format!("DROP DATABASE {}", target.name);
    assert!(psql_output(&cluster().client_env("postgres"), &drop, &[]).status.success());
    let bystander = Bystander::of(&source);
    restore(&project, &file);
    assert!(dump_text(&source) == dump_text(&target));
    assert_eq!(bystander.ends(), "still here\n");
}

/// A session in a database that nobody restores into.
struct Bystander(std::process::Child);

impl Bystander {
    fn of(database: &TestDatabase) -> Self {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-q", "-A", "-t"]).envs(database.env());
        psql.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = psql.spawn().unwrap();
        // It answers, so it is connected.
        writeln!(child.stdin.as_mut().unwrap(), "\\echo connected\nSELECT 'connected';").unwrap();
        let mut line = [0; 20];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        Self(child)
    }

    fn ends(mut self) -> String {
        writeln!(self.0.stdin.take().unwrap(), "SELECT 'still here';").unwrap();
        String::from_utf8(self.0.wait_with_output().unwrap().stdout).unwrap()
    }
}
