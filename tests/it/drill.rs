//! Drills: the very same playbook, for real, in a sandbox, beside a system that does not feel it.

mod commands;
mod evidence;
mod shipped;

use crate::aftermath::next_second;
use crate::cluster::{TestDatabase, cluster, database, dump_text, options, psql, psql_output};
use crate::project::{Ran, TestProject};
use expect_test::expect;
use lifeboat::sys::scratch::ScratchCluster;
use serde_json::Value;
use std::collections::BTreeMap;

/// A small database.
pub fn shop() -> TestDatabase {
    let database = database("shop");
    psql(
        &database,
        "CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item SELECT i, 'n' || i FROM generate_series(1, 100) i",
    );
    database
}

/// A project with the database and one backup of it.
pub fn backed_up(database: &TestDatabase) -> TestProject {
    let project = TestProject::new().database(database);
    back_up(&project);
    project
}

/// Backs up, and lets the second pass that the backup is named by: a drill within it would name its own the same.
#[track_caller]
pub fn back_up(project: &TestProject) {
    project.run(&["backup_database"]).exits(0);
    next_second();
}

/// The verdict among the events of `--json`.
#[track_caller]
pub fn verdict(ran: &Ran) -> Value {
    let events = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let verdict = events.into_iter().find(|event| event["what"]["event"] == "drilled");
    verdict.unwrap_or_else(|| panic!("no verdict\n{}\n{}", ran.stdout, ran.stderr))["what"].clone()
}

/// Everything of the project but Lifeboat's own state; manifests without what drills note in them.
pub fn production(project: &TestProject) -> BTreeMap<String, Vec<u8>> {
    let mut tree = project.tree(&[".lifeboat"]);
    for (name, content) in &mut tree {
        if name.starts_with("backups/") && name.ends_with(".json") {
            let mut manifest: Value = serde_json::from_slice(content).unwrap();
            manifest.as_object_mut().unwrap().remove("drilled");
            *content = serde_json::to_vec(&manifest).unwrap();
        }
    }
    tree
}

/// Nothing of a sandbox is left.
#[track_caller]
pub fn nothing_is_left(project: &TestProject) {
    assert_eq!(project.names(".lifeboat/sandboxes"), [""; 0]);
}

/// What a drill says, without what differs from run to run.
fn told(project: &TestProject, database: &TestDatabase, text: &str) -> String {
    let text = project.steady(text).replace(&database.name, "shop");
    let server = format!("{}:{}", cluster().socket_dir().display(), cluster().port());
    let mut text = text.replace(&server, "SERVER").replace(&cluster().version().to_string(), "VERSION");
    // Columns are as wide as their widest time.
    while text.contains("TIME  ") {
        text = text.replace("TIME  ", "TIME ");
    }
    text
}

#[test]
fn a_backup_is_rehearsed_and_the_real_one_stays_as_it_is() {
    let database = shop();
    let project = backed_up(&database).file("notes.txt", "mine");
    let (files, rows) = (production(&project), dump_text(&database));
    let ran = project.run(&["drill", "backup_database"]).exits(0);
    assert!(production(&project) == files, "the project changed");
    assert_eq!(dump_text(&database), rows);
    nothing_is_left(&project);
    expect![[r#"
        Drill of backup_database: passed
          recovery time   TIME (objective 30 min: met)
          recovery point  TIME before the drill  (objective 1 h: met)
          Steps
            ✔ Pre-flight checks  TIME
            ✔ Dump               TIME
            ✔ Verify             TIME
            ✔ Rotate             TIME
            ✔ Report             TIME
          Data
            shop from shop_db_STAMP.sql.gz: 1 table, 100 rows, counts and fingerprints equal; restored before the playbook began
          Servers
            SERVER: a scratch PostgreSQL VERSION
          Announced to nobody
            success: Backed up shop: shop_db_STAMP.sql.gz, SIZE
          Notes
            the copy of the project went without logs
    "#]].assert_eq(&told(&project, &database, &ran.stdout));
    let shown = project.run(&["show"]).exits(0).stdout;
    assert!(shown.contains("Drill of backup_database: passed\n"), "{shown}");
}

#[test]
fn nobody_connects_to_the_real_server() {
    let mut options = options();
    options.settings = vec![("log_connections".into(), "on".into()), ("log_statement".into(), "all".into())];
    let live = ScratchCluster::start(&options).unwrap();
    let env = live.client_env("postgres");
    let sql = "CREATE DATABASE shop";
    assert!(psql_output(&env, sql, &[]).status.success());
    let sql = "CREATE TABLE t AS SELECT generate_series(1, 9) AS n";
    assert!(psql_output(&live.client_env("shop"), sql, &[]).status.success());
    let project = live
        .client_env("shop")
        .into_iter()
        .fold(TestProject::new(), |project, (name, value)| project.env(name, value));
    back_up(&project);
    let log = || std::fs::read_to_string(live.socket_dir().join("server.log")).unwrap();
    let before = log();
    assert!(before.contains("connection received"), "{before}");
    let project = project.playbook(
        "reach",
        r#"const PLAYBOOK = #{ summary: "Reach", drill: #{ run: ["psql", "sh"] } };
        let db = postgres();
        step "Ask" { info(`${query(db, "SELECT count(*) AS n FROM t")[0].n} rows at ${db}`); databases(db); }
        step "Dump" { dump(db).gzip().save("backups/database/x.sql.gz"); }
        step "Client" { info(exec(["psql", "-Xtc", "CREATE TABLE made (x int)"]).stdout); }
        step "Handle" { exec(["psql", "-Xtc", "INSERT INTO made VALUES (1)"], #{ postgres: db }); }
        step "Url" {
            exec(["sh", "-c", "psql -Xtc 'INSERT INTO made VALUES (2)' \"$DATABASE_URL\""], #{
                env: #{ DATABASE_URL: `postgresql://${db.user}@${db.host}:${db.port}/shop` },
            });
        }
        step "Rows" { info(`made ${query(db, "SELECT count(*) AS n FROM made")[0].n}`); }
        "#,
    );
    for playbook in ["backup_database", "reach"] {
        let ran = project.run(&["drill", playbook]).exits(0);
        let result = if playbook == "reach" { "passed in part" } else { "passed" };
        assert!(ran.stdout.starts_with(&format!("Drill of {playbook}: {result}\n")), "{}", ran.stdout);
        if playbook == "reach" {
            ran.says("made 2").says("9 rows at shop at ").says("(rehearsed on a scratch PostgreSQL ");
        }
    }
    assert_eq!(log(), before);
}

#[test]
fn backups_that_are_elsewhere_are_used_and_not_touched() {
    let database = shop();
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = elsewhere.path().join("backups");
    let project = TestProject::new().database(&database).env("BACKUP_DIR", dir.display().to_string());
    back_up(&project);
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let ran = project.run(&["--json", "drill", "backup_database"]).exits(0);
    assert_eq!(verdict(&ran)["result"], "passed");
    assert_eq!(names(), before);
    // A link in the project leads there as well.
    std::fs::create_dir(project.at("backups")).unwrap();
    std::os::unix::fs::symlink(&dir, project.at("backups/database")).unwrap();
    let project = project.env("BACKUP_DIR", "");
    let ran = project.run(&["--json", "drill", "backup_database"]).exits(0);
    assert_eq!(verdict(&ran)["result"], "passed");
    assert_eq!(names(), before);
    nothing_is_left(&project);
}

#[test]
fn without_a_backup_there_is_nothing_to_rehearse_with() {
    let database = shop();
    let project = TestProject::new().database(&database);
    // A playbook that tolerates the failure does not make a drill of it.
    let project = project.playbook(
        "tolerant",
        r#"let made = attempt "Dump" { dump(postgres()).gzip().save("backups/x.sql.gz") };
        step "Go on" { archive("playbooks").gzip().save("backups/y.tar.gz"); }"#,
    );
    let ran = project.run(&["drill", "backup_database"]).exits(5);
    expect![[r#"
        exit 5
        error: there is no backup of `shop` to rehearse with
           ——▶ playbooks/backup_database.rhai:N
           │
        N │ let db = postgres();
           │          ^
        caused by: a drill never reads the real database: it begins with what the newest backup holds
        hint: Make a backup first, for example `lifeboat backup_database`, and name its folder by a parameter if it is not in the project.
        hint: Or let the drill begin without databases, as a recovery does: `drill: #{ start: "empty" }` in the header.
        ✘ drill of backup_database failed after TIME (exit 5)
    "#]].assert_eq(&told(&project, &database, &project.told(&ran)));
    let ran = project.run(&["drill", "tolerant"]).exits(5);
    expect![[r#"
        Drill of tolerant: failed
          failed: there is no backup of `shop` to rehearse with: a drill never reads the real database: it begins with what the newest backup holds
          in part: step `Dump` failed, and the run went on
          recovery time   >= TIME (objective 30 min: not proven)
          recovery point  unknown: nothing was restored  (objective 1 h: not measured)
          Steps
            ! Dump   TIME failed, the run went on
            ✔ Go on  TIME
          Servers
            SERVER: a scratch PostgreSQL VERSION
    "#]].assert_eq(&told(&project, &database, &ran.stdout));
    nothing_is_left(&project);
}

#[test]
fn a_damaged_backup_is_passed_over_and_told() {
    let database = shop();
    let project = backed_up(&database);
    psql(&database, "INSERT INTO item VALUES (1000, 'late')");
    let first = project.only("backups/database", ".sql.gz");
    // Another second gives another name.
    let now = chrono::Utc::now() + chrono::Duration::seconds(90);
    let later = project.env("LIFEBOAT_NOW", now.to_rfc3339());
    back_up(&later);
    let names = later.names("backups/database");
    let newest = names.iter().rfind(|name| name.ends_with(".sql.gz") && **name != first).unwrap();
    let path = later.at(format!("backups/database/{newest}"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let later = later.env("LIFEBOAT_NOW", (now + chrono::Duration::seconds(5)).to_rfc3339());
    let ran = later.run(&["--json", "drill", "backup_database"]).exits(3);
    let verdict = verdict(&ran);
    assert_eq!(verdict["data"][0]["backup"], first.as_str());
    assert_eq!(verdict["result"], "passed_in_part");
    assert!(verdict["doubts"][0].as_str().unwrap().contains("an older one was taken"), "{verdict}");
    for name in later.names("backups/database").iter().filter(|name| name.ends_with(".sql.gz")) {
        let path = later.at(format!("backups/database/{name}"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(100);
        std::fs::write(&path, bytes).unwrap();
    }
    let ran = later.run(&["drill", "backup_database"]).exits(5);
    let text = told(&later, &database, &later.told(&ran));
    expect![[r#"
        exit 5
        warning: `shop_db_STAMP.sql.gz` is not intact: shop_db_STAMP.sql.gz is cut off at byte N: shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256: shop_db_STAMP.sql.gz has SIZE, its manifest says N: an older one was taken
        warning: `shop_db_STAMP.sql.gz` is not intact: shop_db_STAMP.sql.gz is cut off at byte N: shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256: shop_db_STAMP.sql.gz has SIZE, its manifest says N: an older one was taken
        error: no backup of `shop` is intact, so there is nothing to rehearse with
           ——▶ playbooks/backup_database.rhai:N
           │
        N │ let db = postgres();
           │          ^
        caused by: `shop_db_STAMP.sql.gz` is not intact: shop_db_STAMP.sql.gz is cut off at byte N: shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256: shop_db_STAMP.sql.gz has SIZE, its manifest says N
        caused by: `shop_db_STAMP.sql.gz` is not intact: shop_db_STAMP.sql.gz is cut off at byte N: shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256: shop_db_STAMP.sql.gz has SIZE, its manifest says N
        hint: Make a fresh backup now: `lifeboat backup_database`.
        ✘ drill of backup_database failed after TIME (exit 5)
    "#]].assert_eq(&text);
}

#[test]
fn a_playbook_that_fails_makes_the_drill_fail() {
    let database = shop();
    let project = backed_up(&database).playbook(
        "broken",
        r#"let db = postgres();
        step "First" { dump(db).gzip().save("backups/x.sql.gz"); }
        step "Second" { query(db, "SELECT nothing FROM nowhere"); }"#,
    );
    let ran = project.run(&["drill", "broken"]).exits(5);
    expect![[r#"
        Drill of broken: failed
          failed: step `Second`: a query on `shop` failed: relation "nowhere" does not exist (42P01): at line 1: SELECT nothing FROM nowhere
          recovery time   >= TIME (objective 30 min: not proven)
          recovery point  TIME before the drill  (objective 1 h: met)
          Steps
            ✔ First   TIME
            ✘ Second  TIME failed
          Data
            shop from shop_db_STAMP.sql.gz: 1 table, 100 rows, counts and fingerprints equal; restored before the playbook began
          Servers
            SERVER: a scratch PostgreSQL VERSION
          Notes
            the copy of the project went without logs
    "#]].assert_eq(&told(&project, &database, &ran.stdout));
    expect![[r#"
        exit 5
        error: a query on `shop` failed
          ——▶ playbooks/broken.rhai:4:25
          │
        N │         step "Second" { query(db, "SELECT nothing FROM nowhere"); }
          │                         ^
        caused by: relation "nowhere" does not exist (42P01)
        caused by: at line 1: SELECT nothing FROM nowhere
        ✘ drill of broken failed in step `Second` after TIME (exit 5)
    "#]]
    .assert_eq(&told(&project, &database, &project.told(&ran)));
}

#[test]
fn a_missed_objective_of_the_header_fails_the_drill() {
    let database = shop();
    let playbook = |terms: &str| {
        format!(
            r#"const PLAYBOOK = #{{ summary: "Strict", drill: #{{ {terms} }} }};
            let db = postgres();
            step "Dump" {{ dump(db).gzip().save("backups/x.sql.gz"); }}"#
        )
    };
    let project = backed_up(&database)
        .playbook("slow", &playbook(r#"rto: "1ms""#))
        .playbook("old", &playbook(r#"rpo: "1ms""#))
        .playbook("fine", &playbook(r#"rto: "10m", rpo: "10m""#));
    let ran = project.run(&["drill", "slow"]).exits(5);
    assert!(ran.stdout.contains("at most 1 ms: missed"), "{}", ran.stdout);
    let ran =
        ran.says("error: the drill failed\ncaused by: the recovery time was to be at most 1 ms, and is ");
    assert!(ran.stdout.contains("objective 1 h: met"), "{}", ran.stdout);
    project
        .run(&["drill", "old"])
        .exits(5)
        .says("caused by: the recovery point was to be at most 1 ms, and is ");
    project.run(&["drill", "fine"]).exits(0);
}

#[test]
fn a_recovery_begins_with_nothing_but_the_backups() {
    let database = shop();
    let project = backed_up(&database).file("app/config.json", "{}").file(".env", "DB_NAME=lost\n").playbook(
        "recover",
        r#"const PLAYBOOK = #{ summary: "Recover", drill: #{ start: "empty", run: ["ls"], rpo: "1h" } };
        step "Look" {
            info(exec(["ls", "-A"]).stdout);
            info(`${databases(postgres(#{ database: "postgres" })).len()} databases`);
        }
        let db = postgres();
        step "Stop" { exec(["docker", "compose", "stop"]); }
        step "Database" { restore(latest("backups/database"), db); }
        step "Check" { expect(query(db, "SELECT count(*) AS n FROM item")[0].n == 100, "all items are back"); }
        step "Start" { exec(["docker", "compose", "up", "-d"]); }
        "#,
    );
    let (files, rows) = (production(&project), dump_text(&database));
    let ran = project.run(&["drill", "recover"]).exits(0);
    assert!(production(&project) == files, "the project changed");
    assert_eq!(dump_text(&database), rows);
    expect![[r#"
        Drill of recover: passed in part
          recovery time   >= TIME, without: docker compose stop, docker compose up -d  (objective 30 min: not proven)
          recovery point  TIME before the drill  (at most 1 h: met)
          Steps
            ✔ Look      TIME
            ? Stop      TIME not rehearsed to its end
            ✔ Database  TIME
            ✔ Check     TIME
            ? Start     TIME not rehearsed to its end
          Not rehearsed
            docker compose stop in step `Stop`: `run` of the header does not name `docker`
            docker compose up -d in step `Start`: `run` of the header does not name `docker`
          Really ran
            ls -A: what it reached is not controlled
          Data
            shop from shop_db_STAMP.sql.gz: 1 table, 100 rows, counts and fingerprints equal; restored by the playbook
          Servers
            SERVER: a scratch PostgreSQL VERSION
    "#]].assert_eq(&told(&project, &database, &ran.stdout));
    let seen: Vec<&str> =
        ran.stderr.lines().filter_map(|line| line.split_once("INFO - ")).map(|(_, line)| line).collect();
    assert_eq!(seen, ["backups", "lifeboat.toml", "playbooks", "1 databases"]);
    let kept = lifeboat::journal::drills::newest(&project.at(".lifeboat"), "recover").unwrap();
    assert_eq!((kept.verdict.data[0].rows, kept.verdict.data[0].by_playbook), (100, true));
}

#[test]
fn a_copy_that_would_fill_the_disk_is_not_made() {
    let project = TestProject::new().playbook("pack", r#"step "Pack" { gzip("lifeboat.toml"); }"#);
    std::fs::File::create(project.at("huge.img")).unwrap().set_len(1 << 43).unwrap();
    let ran = project.run(&["drill", "pack"]).exits(5);
    let message = format!("error: there is no room for a scratch copy of `{}`\n", project.path().display());
    ran.says(&message)
        .says("caused by: it takes 8.0 TiB, and ")
        .says(" are free; a drill takes at most half of that\n")
        .says(
            "hint: Make room, or set LIFEBOAT_STATE to a folder on a larger disk: the copy is made there.\n",
        );
    nothing_is_left(&project);
}

#[test]
fn configuration_is_recovered_into_the_sandbox_and_read_again() {
    let database = shop();
    let project = backed_up(&database).file("app.yml", "real: yes\n").file(".env", "GREETING=hello\n");
    project.run(&["backup_config", "--include", ".env", "--include", "app.yml"]).exits(0);
    let project = project.file("app.yml", "real: changed\n").playbook(
        "recover",
        r#"const PLAYBOOK = #{ summary: "Recover", drill: #{ start: "empty" } };
        step "Files" { extract(latest("backups/config"), "."); reread_env(); }
        step "Seen" { info(`${env("GREETING")} ${exists("app.yml")} ${exists("playbooks")}`); }
        "#,
    );
    let files = production(&project);
    let ran = project.run(&["drill", "recover"]).exits(0);
    assert!(production(&project) == files, "the project changed");
    assert!(ran.stdout.starts_with("Drill of recover: passed\n"), "{}", ran.stdout);
    ran.says("INFO - hello true true");
}
