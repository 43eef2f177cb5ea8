//! The playbooks of the guide's restoration chapter, run as a user runs them.

use crate::cluster::{TestDatabase, cluster, database, dump_text, psql, sample_database};
use crate::docker::{Services, free_port, server};
use crate::project::TestProject;
use std::path::Path;

/// Makes a backup of each kind; returns the database's file.
fn backed_up(project: &TestProject) -> String {
    project.run(&["backup_all"]).exits(0);
    project.only("backups/database", ".sql.gz")
}

/// Drops the databases that restores of `database` left beside it.
struct Leftovers<'a>(&'a TestDatabase);

impl Drop for Leftovers<'_> {
    fn drop(&mut self) {
        let mut maintenance = cluster().client_env("postgres");
        maintenance.push(("PGOPTIONS", String::new()));
        let names = crate::cluster::psql_output(
            &maintenance,
            &format!("SELECT datname FROM pg_database WHERE datname LIKE '{}\\_%'", self.0.name),
            &[],
        );
        for name in String::from_utf8_lossy(&names.stdout).lines() {
            crate::cluster::psql_output(&maintenance, &format!("DROP DATABASE \"{name}\" WITH (FORCE)"), &[]);
        }
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn restore_lists_what_is_there() {
    let db = database("listed");
    psql(&db, "CREATE TABLE t AS SELECT 1 AS a");
    let project = TestProject::new().file("package.json", "{}").database(&db);
    let file = backed_up(&project);
    let ran = project.run(&["restore", "--list"]).exits(0);
    for text in ["Database backups in backups/database: 1", "Configuration backups in backups/config: 1"] {
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains(&format!("backups/database/{file}")), "{}", ran.stderr);
}

#[test]
fn a_command_line_that_names_nothing_is_told_what_to_say() {
    let db = database("asked");
    let project = TestProject::new().database(&db);
    let said = |args: &[&str]| project.told(&project.run(args)).replace(&db.name, "DB");
    expect_test::expect![[r#"
        exit 2
        error: there is nothing to restore
           ——▶ playbooks/restore.rhai:37:9
           │
        N │         fail(#{
           │         ^
        hint: Say --database, --config or both, each with a FILE or with --latest; --list shows what is there.
        ✘ restore failed in step `Parameters` after TIME (exit 2)
    "#]]
    .assert_eq(&said(&["restore"]));
    expect_test::expect![[r#"
        exit 2
        error: which backup? --database names none
           ——▶ std/recovery:32:9
           │
        N │         fail(#{
           │         ^
        while calling `std/recovery::check_choice` at playbooks/restore.rhai:44:19
        hint: Say --database FILE, or --database --latest; lifeboat restore --list shows what is there.
        ✘ restore failed in step `Parameters` after TIME (exit 2)
    "#]]
    .assert_eq(&said(&["restore", "--database"]));
    expect_test::expect![[r#"
        exit 1
        error: there is no backup of DB in backups/database
            ——▶ std/recovery:136:9
            │
        N │         fail(#{
            │         ^
        while calling `std/recovery::choose` at playbooks/restore.rhai:55:23
        hint: Name the backup's file, or the folder with --dir or --config-dir.
        ✘ restore failed in step `Verify` after TIME (exit 1)
    "#]]
    .assert_eq(&said(&["restore", "--database", "--latest"]));
    expect_test::expect![[r#"
        exit 2
        error: nowhere.tar.gz is not there
           ——▶ std/recovery:99:9
           │
        N │         fail(#{
           │         ^
        while calling `std/recovery::at` at std/recovery:122:9
        while calling `std/recovery::choose` at std/recovery:220:5
        while calling `std/recovery::choose_config` at playbooks/restore.rhai:65:23
        hint: Name one backup's file; `lifeboat restore --list` shows what is there.
        ✘ restore failed in step `Verify` after TIME (exit 2)
    "#]]
    .assert_eq(&said(&["restore", "--config", "nowhere.tar.gz"]));
}

#[test]
fn the_latest_of_both_is_restored() {
    let db = sample_database("restored");
    let _leftovers = Leftovers(&db);
    let project = TestProject::new().file("package.json", "{\"v\":1}").database(&db);
    backed_up(&project);
    let before = dump_text(&db);
    psql(&db, "CREATE TABLE found AS SELECT 1 AS a");
    assert_ne!(dump_text(&db), before);
    std::fs::write(project.at("package.json"), "{\"v\":2}").unwrap();

    // Nobody is there to say yes.
    let refused = project.run(&["restore", "--database", "--config", "--latest"]).exits(6);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert_ne!(dump_text(&db), before);
    assert_eq!(std::fs::read_to_string(project.at("package.json")).unwrap(), "{\"v\":2}");

    let plan = project.run(&["restore", "--database", "--config", "--latest", "--dry-run"]);
    assert!(plan.code == 0 || plan.code == 4, "{}", plan.stdout);
    assert!(plan.stdout.contains("package.json"), "{}", plan.stdout);
    assert_ne!(dump_text(&db), before);

    let ran = project.run(&["restore", "--database", "--config", "--latest", "--yes"]).exits(0);
    assert!(!ran.stderr.contains("s3cr3t"), "{}", ran.stderr);
    assert_eq!(dump_text(&db), before);
    assert_eq!(std::fs::read_to_string(project.at("package.json")).unwrap(), "{\"v\":1}");

    let status = project.run(&["status"]).exits(0).stdout;
    for text in [format!("database  {}_before_", db.name), "files     .lifeboat-kept/".to_owned()] {
        assert!(status.contains(&text), "{status}");
    }
    let status = project.run(&["status", "--json"]).exits(0).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["kept"]["databases"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["sources"].as_array().unwrap().len(), 2, "{status}");
    assert_eq!(status["unknown"], serde_json::json!([]));

    project.run(&["rollback", "latest", "--yes"]).exits(0);
    assert_eq!(psql(&db, "SELECT a FROM found"), "1\n");
    assert_eq!(std::fs::read_to_string(project.at("package.json")).unwrap(), "{\"v\":2}");
}

#[test]
fn a_damaged_latest_is_told_and_the_newest_intact_one_proposed() {
    let db = database("damaged");
    psql(&db, "CREATE TABLE t AS SELECT 1 AS a");
    let project = TestProject::new().database(&db);
    project.run(&["backup_database"]).exits(0);
    let older = project.only("backups/database", ".sql.gz");
    let later = TestProject::run(&project, &["backup_database"]);
    // Two backups within one second have one name.
    if later.code != 0 {
        std::thread::sleep(std::time::Duration::from_millis(1100));
        project.run(&["backup_database"]).exits(0);
    }
    let names = project.names("backups/database");
    let newer = names.iter().rfind(|name| name.ends_with(".sql.gz")).unwrap();
    flip(&project.at("backups/database").join(newer));
    let ran = project.run(&["restore", "--database", "--latest", "--yes"]).exits(12);
    assert!(
        ran.stderr.contains(&format!("error: {newer} is not intact, so nothing of it is restored: ")),
        "{}",
        ran.stderr
    );
    let proposal =
        format!("lifeboat restore --database {}", project.at("backups/database").join(&older).display());
    assert!(ran.stderr.contains(&proposal), "{}", ran.stderr);
    assert_eq!(psql(&db, "SELECT a FROM t"), "1\n");
}

#[test]
fn a_plain_dump_without_a_digest_is_restored_with_a_warning() {
    let db = database("plain");
    let _leftovers = Leftovers(&db);
    psql(&db, "CREATE TABLE t AS SELECT 1 AS a");
    let project = TestProject::new().file("dumps/lifeboat", "").database(&db);
    let script = format!("{} | gzip > plain.sql.gz", crate::cluster::program("pg_dump").display());
    let made = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(project.at("dumps"))
        .envs(db.env())
        .status()
        .unwrap();
    assert!(made.success());
    psql(&db, "UPDATE t SET a = 2");
    let ran = project.run(&["restore", "--database", "dumps/plain.sql.gz", "--yes"]).exits(3);
    assert!(ran.stderr.contains("plain.sql.gz has no .sha256"), "{}", ran.stderr);
    let name = &db.name;
    ran.says(&format!(
        "nothing tells which database plain.sql.gz is a backup of, and it is restored into {name}"
    ));
    assert_eq!(psql(&db, "SELECT a FROM t"), "1\n");
    std::fs::rename(project.at("dumps/plain.sql.gz"), project.at("dumps/other_db_20251110_020000.sql.gz"))
        .unwrap();
    let ran =
        project.run(&["restore", "--database", "dumps/other_db_20251110_020000.sql.gz", "--yes"]).exits(3);
    ran.says(&format!(
        "other_db_20251110_020000.sql.gz is a backup of other_db, and it is restored into {name}"
    ));
}

#[test]
fn a_backup_that_was_saved_alone_is_restored_with_a_warning() {
    let db = database("alone");
    let _leftovers = Leftovers(&db);
    psql(&db, "CREATE TABLE t AS SELECT 1 AS a");
    let project = TestProject::new().database(&db);
    project.run(&["backup_database"]).exits(0);
    let name = project.only("backups/database", ".sql.gz");
    psql(&db, "UPDATE t SET a = 2");
    let saved = TestProject::new().file("saved/readme", "").database(&db);
    let path = saved.at("saved").join(&name);
    std::fs::copy(project.at("backups/database").join(&name), &path).unwrap();
    let file = format!("saved/{name}");
    let ran = saved.run(&["restore", "--database", &file, "--yes"]).exits(3);
    ran.says(&format!("{name} has no .sha256 and no .json, so it cannot be compared with them; all else"));
    assert_eq!(psql(&db, "SELECT a FROM t"), "1\n");
    saved.run(&["verify", &file]).exits(12).says(&format!("{name}.json is missing"));
    flip(&path);
    saved.run(&["restore", "--database", &file, "--yes"]).exits(12);
}

#[test]
fn a_backup_of_the_other_kind_is_refused_before_anybody_is_asked() {
    let db = database("kinds");
    psql(&db, "CREATE TABLE t AS SELECT 1 AS a");
    let project = TestProject::new().database(&db).file("package.json", "{}\n");
    let dump = format!("backups/database/{}", backed_up(&project));
    let archive = format!("backups/config/{}", project.only("backups/config", ".tar.gz"));
    let run = |args: &[&str]| project.run(&[&["restore"], args].concat());
    run(&["--database", &archive])
        .exits(2)
        .says(&format!("error: {archive} is an archive of files, and --database does not restore that"))
        .says("hint: Name it as --config if it is meant.");
    let elsewhere =
        project.command(&["restore", "--database", "--latest"]).env("DB_NAME", "kind").output().unwrap();
    crate::project::Ran::of(elsewhere)
        .exits(1)
        .says("error: there is no backup of kind in backups/database")
        .says(&format!("or --config-dir. There are backups of {}.", db.name));
    run(&["--config", &dump])
        .exits(2)
        .says(&format!("error: {dump} is a dump of a database, and --config does not restore that"))
        .says("hint: Name it as --database if it is meant.");
}

#[test]
fn the_test_services_must_not_hold_somebodys_data() {
    let db = database("busy");
    psql(&db, "CREATE TABLE t AS SELECT 1 AS a");
    let project = TestProject::new().database(&db);
    backed_up_database(&project);
    let env = db.env();
    let of = |wanted: &str| env.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    let url = format!("postgres://{}@127.0.0.1:{}/{}", of("PGUSER"), cluster().port(), db.name);
    // Services are of no interest here; what counts is where the address leads.
    let compose = "services: {}\n";
    let project = project.file("docker-compose.test.yml", compose).env("TEST_DATABASE_URL", url).playbook(
        "probe",
        r#"import "std/restore_report" as report;
           const PLAYBOOK = #{ summary: "Probe" };
           let db = postgres(#{ url: env("TEST_DATABASE_URL") });
           step "Ask" { report::require_empty(db); }"#,
    );
    let ran = project.run(&["probe"]).exits(10);
    assert!(ran.stderr.contains("is not empty, so nothing is restored into it"), "{}", ran.stderr);
    assert_eq!(psql(&db, "SELECT a FROM t"), "1\n");
}

#[test]
fn the_monthly_test_restores_checks_and_writes_its_report() {
    let db = sample_database("tested");
    let project = TestProject::new().database(&db);
    let file = backed_up_database(&project);
    let before = dump_text(&db);
    project.run(&["restore_test"]).exits(0);
    assert_eq!(dump_text(&db), before);
    let report = project.only("reports/restore-tests", ".md");
    let text = std::fs::read_to_string(project.at("reports/restore-tests").join(&report)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("## Restore Test - 2"), "{text}");
    assert_eq!(lines[2], format!("- Backup used: {file}"));
    assert!(lines[3].starts_with("- Restore time: ") && lines[3].contains("second"), "{text}");
    assert_eq!(lines[4..], ["- Data integrity: ✅ PASS", "- Application tests: not run", "- Issues: None"]);
    let json = project.only("reports/restore-tests", ".json");
    let json = std::fs::read_to_string(project.at("reports/restore-tests").join(&json)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["passed"], &json["backup"]), (&true.into(), &file.clone().into()));
    assert!(json["rows"].as_u64().unwrap() > 1000, "{json}");
}

fn backed_up_database(project: &TestProject) -> String {
    project.run(&["backup_database"]).exits(0);
    project.only("backups/database", ".sql.gz")
}

#[test]
fn a_failed_check_fails_the_test_and_stands_in_the_report() {
    let db = database("checked");
    psql(&db, "CREATE TABLE users AS SELECT 1 AS id");
    let project = TestProject::new().database(&db).file(
        "stdlib/restore_checks.rhai",
        r#"
        fn data(db, restored) {
            expect(query(db, "SELECT count(*) AS n FROM users")[0].n > 5, "there are more than 5 users");
        }
        fn application(db) {
            [exec(["sh", "-c", "psql -X -A -t -c 'SELECT count(*) FROM users'; echo 1 failed, 126 passed; exit 1"],
                #{ postgres: db, check: false })]
        }
        "#,
    );
    backed_up_database(&project);
    let ran = project.run(&["restore_test"]).exits(1);
    assert!(
        ran.stderr.contains("the restore test failed: expected: there are more than 5 users"),
        "{}",
        ran.stderr
    );
    let report = project.only("reports/restore-tests", ".md");
    let text = std::fs::read_to_string(project.at("reports/restore-tests").join(&report)).unwrap();
    assert!(text.contains("- Data integrity: ❌ FAIL\n- Application tests: ❌ FAIL (126/127)\n"), "{text}");
    assert!(
        text.ends_with("- Issues: expected: there are more than 5 users; application tests failed\n"),
        "{text}"
    );
}

#[test]
fn a_damaged_backup_fails_the_test_with_12_and_a_report() {
    let db = database("broken");
    psql(&db, "CREATE TABLE t AS SELECT 1 AS a");
    let project = TestProject::new().database(&db);
    let file = backed_up_database(&project);
    flip(&project.at("backups/database").join(file));
    project.run(&["restore_test"]).exits(12);
    let report = project.only("reports/restore-tests", ".md");
    let text = std::fs::read_to_string(project.at("reports/restore-tests").join(&report)).unwrap();
    assert!(
        text.contains(
            "- Restore time: not restored\n- Data integrity: not tried\n- Application tests: not tried\n"
        ),
        "{text}"
    );
}

/// Files of a system of two services, one of which answers on `port`.
fn system(project: TestProject, port: u16) -> TestProject {
    let project = project
        .file("Dockerfile", &format!("FROM scratch\nCOPY server /server\nENTRYPOINT [\"/server\", \"{port}\"]\n"))
        .file(
            "docker-compose.yml",
            "version: \"3\"\nservices:\n  backend: { build: ., network_mode: host, stop_grace_period: 0s }\n  \
             chat: { build: ., network_mode: none, stop_grace_period: 0s }\n",
        )
        .file("requirements.txt", "# nothing\n");
    std::fs::copy(server(), project.at("server")).unwrap();
    project
}

#[test]
fn the_whole_system_is_recovered_with_its_services() {
    let db = sample_database("whole");
    let _leftovers = Leftovers(&db);
    let port = free_port();
    let project = system(TestProject::new().database(&db), port);
    let services = Services::of(project.path(), "docker-compose.yml");
    backed_up(&project);
    let before = dump_text(&db);
    services.compose(&["up", "-d", "--build"]);
    psql(&db, "CREATE TABLE damage AS SELECT 1 AS a");
    std::fs::write(project.at("requirements.txt"), "# damaged\n").unwrap();
    let health = format!("http://localhost:{port}/api/health");
    let ran = project
        .run(&["full_recovery", "--yes", "--services", "backend", "--services", "chat", "--health", &health])
        .exits(0);
    assert_eq!(dump_text(&db), before);
    assert_eq!(std::fs::read_to_string(project.at("requirements.txt")).unwrap(), "# nothing\n");
    assert_eq!(services.running(), ["backend", "chat"]);
    assert!(ran.stderr.contains("Recovered "), "{}", ran.stderr);
}

#[test]
fn services_come_up_again_when_the_database_cannot_be_restored() {
    let db = sample_database("fails");
    let _leftovers = Leftovers(&db);
    let port = free_port();
    let project = system(TestProject::new().database(&db), port);
    let services = Services::of(project.path(), "docker-compose.yml");
    backed_up(&project);
    services.compose(&["up", "-d", "--build"]);
    let before = dump_text(&db);
    let project = project.env("LIFEBOAT_FAULT", "fail:3");
    // What is declared last goes first: services cannot be removed without their project.
    let services = services;
    let ran = project.run(&[
        "full_recovery",
        "--yes",
        "--services",
        "backend",
        "--services",
        "chat",
        "--health",
        "",
    ]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(services.running(), ["backend", "chat"]);
    assert_eq!(dump_text(&db), before);
}

#[test]
fn missing_tools_are_found_before_anything_is_done() {
    let db = database("tools");
    psql(&db, "CREATE TABLE t AS SELECT 1 AS a");
    let project = TestProject::new()
        .database(&db)
        .file("package.json", "{ \"v\": 1 }\n")
        .file("docker-compose.yml", "services: {}\n");
    backed_up(&project);
    psql(&db, "UPDATE t SET a = 2");
    let project = project.file("package.json", "{ \"v\": 2 }\n").env("PATH", "/nowhere");
    for (args, tool) in [(&[][..], "docker-compose"), (&["--compose", "none"], "npm")] {
        let ran = project.run(&[&["full_recovery", "--yes"], args].concat()).exits(1);
        assert!(ran.stderr.contains("full_recovery failed in step `Pre-flight checks`"), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("`{tool}`")), "{}", ran.stderr);
    }
    assert_eq!(psql(&db, "SELECT a FROM t"), "2\n");
    assert_eq!(std::fs::read_to_string(project.at("package.json")).unwrap(), "{ \"v\": 2 }\n");
}

#[test]
fn an_empty_machine_is_recovered_from_its_backups_alone() {
    let db = sample_database("empty");
    let port = free_port();
    let old = system(TestProject::new().database(&db), port)
        .file(".env", &format!("DB_NAME={}\nAPP_TOKEN=t0ken-of-the-app\n", db.name));
    backed_up(&old);
    // A newer backup of another database must not be taken for it.
    let other = database("other");
    psql(&other, "CREATE TABLE t AS SELECT 1 AS a");
    let old = old.database(&other);
    old.run(&["backup_database"]).exits(0);
    let before = dump_text(&db);
    let name = db.name.clone();
    psql_maintenance(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"));

    // Nothing but the backups, and the address and password of the server.
    let new = TestProject::new();
    std::fs::remove_file(new.at("lifeboat.toml")).unwrap();
    std::process::Command::new("cp")
        .args(["-a".as_ref(), old.at("backups").as_os_str(), new.path().as_os_str()])
        .status()
        .unwrap();
    let env = db.env();
    let of = |wanted: &str| env.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    let new = new
        .env("DB_HOST", of("PGHOST"))
        .env("DB_PORT", of("PGPORT"))
        .env("DB_USER", of("PGUSER"))
        .env("DB_PASSWORD", of("PGPASSWORD"));
    let services = Services::of(new.path(), "docker-compose.yml");
    std::fs::copy(server(), new.at("server")).unwrap();
    let health = format!("http://localhost:{port}/api/health");
    let ran = new
        .run(&["full_recovery", "--yes", "--services", "backend", "--services", "chat", "--health", &health])
        .exits(0);
    assert!(!ran.stderr.contains("t0ken-of-the-app"), "{}", ran.stderr);
    assert_eq!(dump_text(&db), before);
    assert_eq!(services.running(), ["backend", "chat"]);
    assert!(new.at(".env").exists());
}

fn psql_maintenance(sql: &str) {
    let output = crate::cluster::psql_output(&cluster().client_env("postgres"), sql, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A compose file for tests, whose PostgreSQL is this machine's own in a container.
fn test_server(project: TestProject, port: u16) -> TestProject {
    let programs = crate::cluster::program("initdb");
    let user = std::fs::read_to_string("/etc/passwd").unwrap();
    let ids = user.lines().find_map(|line| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some(format!("{}:{}", fields.next()?, fields.next()?))
    });
    let compose = format!(
        r#"version: "3"
services:
  db:
    build: {{ context: ., dockerfile: Dockerfile.test }}
    network_mode: host
    user: "{}"
    stop_signal: SIGINT
    tmpfs: ["/tmp:mode=1777"]
    volumes: ["/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro", "/usr/bin:/bin:ro", "/etc:/etc:ro"]
    environment: {{ PATH: "{}:/bin" }}
    command:
      - sh
      - -c
      - >
        initdb -D /tmp/data -U postgres -A trust --no-sync >/dev/null &&
        echo 'CREATE DATABASE restore_test' | postgres --single -D /tmp/data postgres >/dev/null &&
        exec postgres -D /tmp/data -k /tmp -c fsync=off -c port={port} -c listen_addresses=127.0.0.1
"#,
        ids.unwrap(),
        programs.parent().unwrap().display()
    );
    project
        .file("Dockerfile.test", "FROM scratch\nCOPY lifeboat.toml /marker\n")
        .file("docker-compose.test.yml", &compose)
        .env("TEST_DATABASE_URL", format!("postgres://postgres@127.0.0.1:{port}/restore_test"))
}

#[test]
fn the_monthly_test_runs_in_the_services_of_the_test_file_and_removes_them() {
    let db = sample_database("composed");
    let port = free_port();
    let project = test_server(TestProject::new().database(&db), port);
    let services = Services::of(project.path(), "docker-compose.test.yml");
    let file = backed_up_database(&project);
    project.run(&["restore_test", "--server", "compose"]).exits(0);
    assert_eq!(services.running_as("lifeboat_restore_test"), Vec::<String>::new());
    let report = project.only("reports/restore-tests", ".md");
    let text = std::fs::read_to_string(project.at("reports/restore-tests").join(&report)).unwrap();
    assert!(
        text.contains(&format!("- Backup used: {file}\n")) && text.ends_with("- Issues: None\n"),
        "{text}"
    );
}
