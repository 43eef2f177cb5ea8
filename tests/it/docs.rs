//! What README.md says is tried out: its commands, its playbook, its tables.

use crate::cluster::{database, psql, sample_database};
use crate::project::TestProject;
use lifeboat::base::failure::Exit;
use lifeboat::script::embedded;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The fenced blocks of a language, in their order.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, block)) = rest.split_once(&format!("\n```{language}\n")) {
        let (block, behind) = block.split_once("\n```").unwrap();
        found.push(format!("{block}\n"));
        rest = behind;
    }
    found
}

/// The rows of the table that follows a heading, each as its cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = readme();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn the_playbook_runs() {
    let source = database("readme");
    psql(&source, "CREATE TABLE t AS SELECT generate_series(1, 100) AS id");
    let project = TestProject::new().database(&source).playbook("shop", &blocks("rhai")[0]);
    project.run(&["lint", "shop"]).exits(0);
    project.run(&["shop", "--keep", "14", "--dry-run"]).exits(0);
    project.run(&["shop", "--keep", "14"]).exits(0);
    assert_eq!(project.names("backups/shop").len(), 4);
    assert!(project.run(&["shop", "--help"]).exits(0).stdout.contains("--keep <KEEP>"));
}

#[test]
fn the_first_backup_works_as_told() {
    let source = sample_database("first");
    let project = TestProject::new().database(&source);
    let block = &blocks("sh")[1];
    let mut commands = 0;
    for line in block.lines().filter(|line| !line.starts_with("export ")) {
        let line = line.split('#').next().unwrap().trim();
        let args: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(args[0], "lifeboat", "{line}");
        project.run(&args[1..]).exits(0);
        commands += 1;
    }
    assert_eq!(commands, 4);
    let file = project.only("backups/database", ".sql.gz");
    project.stock("backups/database", "sha256sum", &["-c", &format!("{file}.sha256")]);
}

#[test]
fn the_demo_runs() {
    let project = TestProject::new();
    let mut demo = Command::new(root().join("demo.sh"));
    // What cargo tells of the package that it tests, and build scripts take for a change.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|told| name.to_string_lossy().starts_with(told)) {
            demo.env_remove(name);
        }
    }
    // In the folder of the tests cargo would replace the program that they start. `test.sh` has built it there.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    demo.env("CARGO_BUILD_BUILD_DIR", target).env("CARGO_TARGET_DIR", target.join("demo"));
    demo.current_dir("/").env("LIFEBOAT_PROJECT", project.path());
    let output = demo.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("plain gunzip and psql restored it"), "{shown}");
    assert!(shown.contains("✔ demo completed in "), "{shown}");
    assert_eq!(project.names("backups/demo").len(), 4);
}

#[test]
fn the_first_block_is_the_two_commands() {
    let scripts: Vec<String> =
        blocks("sh")[0].lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(scripts, ["./demo.sh", "./test.sh"]);
    let check = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let last = check.lines().last().unwrap();
    assert!(
        last.ends_with(" ./test.sh \"$@\""),
        "the project's check runs the command of the README: {last}"
    );
}

#[test]
fn the_table_of_exit_codes_is_complete() {
    let told: Vec<u8> = table("Exit codes")
        .iter()
        .flat_map(|row| row[0].split(", ").map(|code| code.parse().unwrap()).collect::<Vec<u8>>())
        .collect();
    let mut all: Vec<u8> = [
        Exit::Success,
        Exit::Failed,
        Exit::Usage,
        Exit::Warnings,
        Exit::Partial,
        Exit::Drill,
        Exit::Confirm,
        Exit::Policy,
        Exit::Locked,
        Exit::NotIntact,
        Exit::Interrupted,
        Exit::Terminated,
    ]
    .map(Exit::code)
    .to_vec();
    all.sort_unstable();
    assert_eq!(told, all);
}

#[test]
fn the_table_of_playbooks_is_complete() {
    let mut told: Vec<String> =
        table("Playbooks that come with it").iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    told.sort();
    assert_eq!(told, embedded::PLAYBOOKS.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
}
