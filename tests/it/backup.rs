//! Backups from end to end: the real program, a real server, and stock tools to prove what it made.

use crate::aftermath::wait_for_child;
use crate::cluster::{PASSWORD, cluster, database, dump_text, program, psql, sample_database};
use crate::project::TestProject;
use lifeboat::base::backup::Manifest;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

fn manifest(project: &TestProject, dir: &str, name: &str) -> Manifest {
    serde_json::from_slice(&std::fs::read(project.at(dir).join(format!("{name}.json"))).unwrap()).unwrap()
}

/// Counts of all tables with rows of their own, by the names that dumps give them.
fn counts(database: &crate::cluster::TestDatabase) -> BTreeMap<String, u64> {
    let names = psql(
        database,
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')",
    );
    let count =
        |name: &str| psql(database, &format!("SELECT count(*) FROM ONLY {name}")).trim().parse().unwrap();
    names.lines().map(|name| (name.to_owned(), count(name))).collect()
}

#[test]
fn a_database_survives_the_round_trip_through_stock_tools() {
    let source = sample_database("Round \"trip\" é");
    let project = TestProject::new().database(&source);
    let ran = project.run(&["backup_database", "--tag", "daily"]).exits(0);
    let shown = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!shown.contains("s3cr3t"), "{shown}");

    let dir = "backups/database";
    let file = project.only(dir, ".sql.gz");
    assert!(file.starts_with("Round__trip__é_"), "{file}");
    assert_eq!(
        project.names(dir),
        [file.clone(), format!("{file}.globals.sql"), format!("{file}.json"), format!("{file}.sha256")]
    );
    for name in project.names(dir) {
        let mode = std::fs::metadata(project.at(dir).join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(project.at(dir)).unwrap().permissions().mode() & 0o777, 0o700);

    assert_eq!(project.stock(dir, "sha256sum", &["-c", &format!("{file}.sha256")]), format!("{file}: OK\n"));
    project.stock(dir, "gzip", &["-t", &file]);
    let copy = database("copy");
    let mut gunzip = Command::new("gunzip")
        .arg("-c")
        .arg(project.at(dir).join(&file))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = Command::new(program("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"])
        .envs(copy.env())
        .stdin(gunzip.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(gunzip.wait().unwrap().success() && output.status.success(), "{output:?}");
    assert!(dump_text(&source) == dump_text(&copy), "the copy's dump differs");

    let manifest = manifest(&project, dir, &file);
    assert_eq!(manifest.tag, "daily");
    assert_eq!(manifest.verified.as_ref().map(|verified| verified.intact), Some(true));
    let expected = counts(&source);
    let found: BTreeMap<String, u64> = manifest.tables.iter().map(|t| (t.table.clone(), t.rows)).collect();
    // Partitioned parents have no rows of their own, and a materialized view no COPY.
    assert_eq!(found, expected);
    let properties = manifest.properties.unwrap();
    assert_eq!((properties.owner.as_str(), properties.encoding.as_str()), ("postgres", "UTF8"));
    assert!(manifest.recovery_point.unwrap().lsn.contains('/'));
}

#[test]
fn fingerprints_are_those_of_the_servers_own_copy() {
    use lifeboat::sys::postgres::fingerprint::RowHasher;
    let source = sample_database("fingerprints");
    let project = TestProject::new().database(&source);
    project.run(&["backup_database"]).exits(0).says("✔");
    let file = project.only("backups/database", ".sql.gz");
    for table in manifest(&project, "backups/database", &file).tables {
        let output = Command::new(program("psql"))
            .args(["-X", "-q", "-c", &format!("COPY ({}) TO STDOUT", select(&source, &table.table))])
            .envs(source.env())
            .env("PGOPTIONS", "-c TimeZone=UTC -c IntervalStyle=postgres -c extra_float_digits=3")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut hasher = RowHasher::new();
        hasher.feed(&output.stdout);
        assert_eq!(hasher.end().0.of_table(table.table.clone()), table);
    }
}

/// All columns of a table that a dump holds, generated ones left out.
fn select(database: &crate::cluster::TestDatabase, table: &str) -> String {
    let columns = psql(
        database,
        &format!(
            "SELECT coalesce(string_agg(quote_ident(attname), ', ' ORDER BY attnum), '') FROM pg_attribute \
             WHERE attrelid = $${table}$$::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        ),
    );
    format!("SELECT {} FROM ONLY {table}", columns.trim())
}

#[test]
fn secrets_appear_nowhere() {
    let source = database("secrets");
    let project = TestProject::new().database(&source).playbook(
        "leaky",
        r#"
        let db = postgres();
        step "Leak" {
            exec(["sh", "-c", "printenv PGPASSWORD; printenv PGPASSWORD >&2; printenv PGPASSWORD | sed 's|/|%2F|; s|@|%40|; s| |%20|'"], #{ postgres: db });
            dump(db).gzip().save("backups/x.sql.gz");
        }
        "#,
    );
    for args in [&["leaky"][..], &["leaky", "--json"], &["leaky", "--dry-run"]] {
        let _ = std::fs::remove_dir_all(project.at("backups"));
        let ran = project.run(args);
        for shown in [&ran.stdout, &ran.stderr] {
            assert!(!shown.contains("s3cr3t"), "{shown}");
        }
    }
    let history = project.run(&["show", "latest", "--json"]).exits(0);
    assert!(history.stdout.contains("***"), "the children's output was masked, not lost: {}", history.stdout);
    for (name, content) in project.tree(&["backups"]) {
        let text = String::from_utf8_lossy(&content);
        for form in [PASSWORD, "s3cr3t%2F", "s3cr3t\\/"] {
            assert!(
                name == "playbooks/leaky.rhai" || name.ends_with("playbook.rhai") || !text.contains(form),
                "{name}"
            );
        }
    }
}

#[test]
fn a_wrong_password_fails_before_anything_is_made() {
    let source = database("wrong");
    let project = TestProject::new().database(&source).env("DB_PASSWORD", "not it, sorry");
    project
        .run(&["backup_database"])
        .exits(1)
        .says("cannot connect to `wrong_")
        .says("password authentication failed for user \"postgres\"")
        .says("DB_PASSWORD");
    assert_eq!(project.names("backups"), [""; 0]);
}

#[test]
fn without_a_database_it_says_how_to_name_one() {
    let ran = TestProject::new().run(&["backup_database"]);
    ran.exits(2).says("no database is named").says("DB_NAME");
}

#[test]
fn configuration_is_archived_with_links_and_reports() {
    let project = TestProject::new()
        .file(".env", "DB_PASSWORD=hunter22\n")
        .file("docker-compose.yml", "services: {}\n")
        .file("web/Dockerfile", "FROM scratch\n")
        .file(".github/workflows/ci.yml", "on: push\n")
        .file("node_modules/x/Dockerfile", "FROM scratch\n")
        .file("src/main.js", "not configuration\n")
        .playbook("mine", "step \"x\" { info(\"x\"); }");
    std::os::unix::fs::symlink(".env", project.at(".env.local")).unwrap();
    project.run(&["backup_config"]).exits(0);
    let file = project.only("backups/config", ".tar.gz");
    assert!(file.starts_with("aurora_config_"), "{file}");
    let list = project.stock("backups/config", "tar", &["-tzf", &file]);
    assert_eq!(
        list.lines().collect::<Vec<_>>(),
        [
            ".env",
            ".env.local",
            ".github/",
            ".github/workflows/",
            ".github/workflows/ci.yml",
            "docker-compose.yml",
            "lifeboat.toml",
            "playbooks/",
            "playbooks/mine.rhai",
            "web/",
            "web/Dockerfile",
        ]
    );
    project.stock("backups/config", "sha256sum", &["-c", &format!("{file}.sha256")]);
}

#[test]
fn one_part_failing_does_not_stop_the_other() {
    let project = TestProject::new().file(".env", "A=1\n");
    project
        .run(&["backup_all"])
        .exits(3)
        .says("no database is named")
        .says("Backed up: configuration; failed: database");
    assert_eq!(project.names("backups"), ["config"]);
    // A backup's name tells the second it was made in, and nothing is overwritten.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    project.run(&["backup_all", "--no-db"]).exits(0);
    project.run(&["backup_all", "--no-db", "--no-config"]).exits(1).says("there is nothing to back up");
}

#[test]
fn a_dry_run_shows_everything_and_changes_nothing() {
    let source = database("dry");
    psql(&source, "CREATE TABLE t AS SELECT generate_series(1, 100) AS id");
    let project = TestProject::new().database(&source).file(".env", "A=1\n");
    // So that there is something to verify and to rotate.
    project.run(&["backup_config"]).exits(0);
    // A dry run in the same second would find the name taken.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let before = project.tree(&[]);
    for playbook in
        ["backup_database", "backup_config", "backup_all", "verify_backups", "rotate_backups", "demo"]
    {
        let ran = project.run(&[playbook, "--dry-run"]);
        assert!([0, 4].contains(&ran.code), "{playbook}: {}\n{}", ran.code, ran.stderr);
        assert!(project.tree(&[]) == before, "{playbook}");
    }
    let ran = project.run(&["backup_database", "--dry-run"]).exits(0);
    let shown = format!("{}{}", ran.stdout, ran.stderr);
    for text in
        ["dump of `", "→ gzip (level 6) → sha256 → `backups/database/dry_", "pg_dump", "rotate backups"]
    {
        assert!(shown.contains(text), "{text}:\n{shown}");
    }
    // A tree that cannot be written, for a user who has no way around it.
    for entry in walkdir::WalkDir::new(project.path()) {
        let entry = entry.unwrap();
        let mode = if entry.file_type().is_dir() { 0o555 } else { 0o444 };
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let ran = project.run_unprivileged(&["backup_config", "--dry-run", "--dir", "/tmp/elsewhere"]);
    std::fs::set_permissions(project.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    ran.exits(0);
    assert_eq!(project.tree(&[]), before);
}

#[test]
fn two_runs_do_not_work_on_one_folder() {
    let project = TestProject::new()
        .file("data", "x")
        .playbook("slow", "step \"x\" { file(\"data\").save(\"backups/a\"); exec([\"sleep\", \"30\"]); }")
        .playbook("other", "step \"x\" { file(\"data\").save(\"backups/b\"); }");
    let mut first = project.start(&["slow"]);
    wait_for_child(&project, "sleep 30");
    project.run(&["other"]).exits(11).says("another run works on `").says("held by run ");
    first.kill().unwrap();
    first.wait().unwrap();
    project.run(&["other"]).exits(0);
    assert!(project.at("backups/b").exists());
    let _ = cluster();
}

#[test]
fn two_runs_with_different_state_folders_do_not_work_on_one_folder() {
    let project = TestProject::new()
        .file("data", "x")
        .playbook("slow", "step \"x\" { file(\"data\").save(\"backups/a\"); exec([\"sleep\", \"30\"]); }")
        .playbook("other", "step \"x\" { file(\"data\").save(\"backups/b\"); }");
    let mut first = project.start(&["slow"]);
    wait_for_child(&project, "sleep 30");
    let elsewhere = project.at("elsewhere").display().to_string();
    let project = project.env("LIFEBOAT_STATE", elsewhere);
    project.run(&["other"]).exits(11).says("held by a run with another state folder");
    first.kill().unwrap();
    first.wait().unwrap();
    project.run(&["other"]).exits(0);
}
