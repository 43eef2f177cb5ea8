//! Which commands a drill runs, what they see, and what is captured.

use super::{backed_up, nothing_is_left, production, shop, told, verdict};
use crate::cluster::{cluster, psql};
use crate::project::TestProject;
use crate::receiver::Receiver;
use expect_test::expect;
use serde_json::{Value, json};

#[test]
fn what_the_header_does_not_name_is_captured_and_named() {
    let database = shop();
    let receiver = Receiver::new();
    let health = receiver.url();
    let project = backed_up(&database).env("BACKUP_WEBHOOK_URL", receiver.url()).playbook(
        "deploy",
        &r#"const PLAYBOOK = #{ summary: "Deploy", drill: #{ run: ["true"] } };
        let db = postgres();
        step "Stop" { exec(["touch", "stopped"]); }
        step "State" { exec(["cat", "lifeboat.toml"], #{ reads_only: true }).stdout.len() }
        step "Dump" { dump(db).gzip().save("backups/x.sql.gz"); }
        step "Make" { exec(["touch", "made.txt"], #{ touches: ["made.txt"] }); }
        step "Pack" { gzip("made.txt"); }
        step "Run" { exec(["true"]); }
        step "Health" { http_get("HEALTH", #{ independent: true, status: 200 }); }
        step "Report" { notify("success", "deployed"); }
        "#
        .replace("HEALTH", &health),
    );
    let before = production(&project);
    let ran = project.run(&["drill", "deploy"]).exits(0);
    assert!(production(&project) == before, "the project changed");
    assert_eq!(receiver.bodies(), [Value::Null; 0]);
    let text = told(&project, &database, &ran.stdout).replace(&health, "HEALTH");
    expect![[r#"
        Drill of deploy: passed in part
          recovery time   >= TIME, without: touch stopped, cat lifeboat.toml, touch made.txt, the rest of step `Pack`, GET ***  (objective 30 min: not proven)
          recovery point  TIME before the drill  (objective 1 h: met)
          Steps
            ? Stop    TIME not rehearsed to its end
            ? State   TIME not rehearsed to its end
            ✔ Dump    TIME
            ? Make    TIME not rehearsed to its end
            ? Pack    TIME not rehearsed to its end
            ✔ Run     TIME
            ? Health  TIME not rehearsed to its end
            ✔ Report  TIME
          Not rehearsed
            touch stopped in step `Stop`: `run` of the header does not name `touch`
            cat lifeboat.toml in step `State`: `run` of the header does not name `cat`
            the rest of step `State`: a value that is known only after the run is used
            touch made.txt in step `Make`: `run` of the header does not name `touch`
            the rest of step `Pack`: `gzip` of `made.txt` cannot be rehearsed: a command that was not run makes or changes it
            GET *** in step `Health`: nothing in the sandbox serves that address
          Really ran
            true: what it reached is not controlled
          Data
            shop from shop_db_STAMP.sql.gz: 1 table, 100 rows, counts and fingerprints equal; restored before the playbook began
          Servers
            SERVER: a scratch PostgreSQL VERSION
          Announced to nobody
            success: deployed
          Notes
            the copy of the project went without logs
    "#]].assert_eq(&text);
}

#[test]
fn a_drill_in_which_nothing_was_done_has_failed() {
    let project = TestProject::new().playbook("idle", r#"step "Stop" { exec(["touch", "x"]); }"#);
    let ran = project.run(&["drill", "idle"]).exits(5);
    ran.says("caused by: nothing was rehearsed: no action was carried out");
}

#[test]
fn programs_work_in_the_scratch_copy_with_the_scratch_database() {
    let database = shop();
    let project = backed_up(&database)
        .file("notes.txt", "mine")
        .file("node_modules/x/index.js", "")
        .file("app/.git/HEAD", "")
        .file(".env", "DB_NAME=shop_of_env\nSECRET_KEY=abcdefgh\n")
        .playbook(
            "build",
            r#"const PLAYBOOK = #{ summary: "Build", drill: #{ run: ["sh", "./tool"] } };
            let db = postgres();
            step "Write" {
                exec(["sh", "-c", "echo more >>notes.txt; echo x >made.txt; mkdir sub; for f in backups/database/*; do echo damaged >>$f; done"]);
            }
            step "See" {
                let seen = exec(["sh", "-c", "pwd; echo $HOME; echo $TMPDIR; echo $DB_HOST:$DB_PORT/$DB_NAME; echo $PGHOST:$PGPORT; echo $COMPOSE_PROJECT_NAME; ls -A"]);
                info(seen.stdout);
            }
            step "Change" { exec(["sh", "-c", "psql -Xqc 'DELETE FROM item'"]); }
            step "Tool" { exec(["./tool"], #{ cwd: "app" }); }
            step "Check" { info(`${query(db, "SELECT count(*) AS n FROM item")[0].n} items left`); }
            "#,
        )
        .file("app/tool", "#!/bin/sh\ncp ../notes.txt copied.txt\n");
    project.stock(".", "chmod", &["+x", "app/tool"]);
    let before = production(&project);
    let ran = project.run(&["drill", "build"]).exits(0);
    assert!(production(&project) == before, "the project changed");
    assert_eq!(psql(&database, "SELECT count(*) FROM item").trim(), "100");
    assert!(ran.stdout.starts_with("Drill of build: passed in part\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("the copy of the project went without app/.git, logs, node_modules"),
        "{}",
        ran.stdout
    );
    let real = format!("127.0.0.1:{}", cluster().port());
    assert!(!ran.stderr.contains(&real), "{}", ran.stderr);
    let sandbox = project.at(".lifeboat/sandboxes").display().to_string();
    for part in ["/project", "/home", "/tmp"] {
        let line = ran.stderr.lines().find(|line| line.contains(&sandbox) && line.ends_with(part));
        assert!(line.is_some(), "{part}: {}", ran.stderr);
    }
    ran.says("lifeboat_drill_").says("0 items left").says("made.txt");
    nothing_is_left(&project);
}

#[test]
fn programs_that_are_given_paths_outside_of_the_project_are_captured() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("x");
    let project = TestProject::new().file("a.txt", "a").playbook(
        "reach",
        &r#"const PLAYBOOK = #{
            summary: "Reach",
            params: #{ dir: #{ default_value: "DIR", path: true } },
            drill: #{ run: ["touch", "sh"] },
        };
        step "Inside" { exec(["touch", "b.txt"]); gzip("a.txt"); }
        step "Absolute" { exec(["touch", "OUT"]); }
        step "In a variable" { exec(["touch", "z"], #{ env: #{ TARGET: "OUT" } }); }
        step "In the input" { exec(["sh"], #{ input: "echo >OUT" }); }
        step "In a script" { exec(["sh", "-c", "echo >OUT"]); }
        step "In an option" { exec(["touch", "--reference=OUT", "c"]); }
        step "Above" { exec(["touch", "../../../../y"]); }
        step "Linked" { exec(["touch", "link/x"]); }
        step "Folder" { exec(["touch", "x"], #{ cwd: params.dir }); }
        "#
        .replace("OUT", &target.display().to_string())
        .replace("DIR", &outside.path().display().to_string()),
    );
    std::os::unix::fs::symlink(outside.path(), project.at("link")).unwrap();
    let ran = project.run(&["--json", "drill", "reach"]).exits(0);
    let names = std::fs::read_dir(outside.path()).unwrap().count();
    assert_eq!(names, 0);
    let steps: Vec<Value> = verdict(&ran)["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| json!([step["step"], step["outcome"]]))
        .collect();
    assert_eq!(
        steps,
        [
            json!(["Inside", "done"]),
            json!(["Absolute", "unknown"]),
            json!(["In a variable", "unknown"]),
            json!(["In the input", "unknown"]),
            json!(["In a script", "unknown"]),
            json!(["In an option", "unknown"]),
            json!(["Above", "unknown"]),
            json!(["Linked", "done"]),
            json!(["Folder", "unknown"]),
        ]
    );
}

#[test]
fn a_program_that_reads_an_env_file_finds_the_scratch_server() {
    let database = shop();
    let project = backed_up(&database);
    let real: Vec<(&str, String)> = database.env();
    let get = |name: &str| {
        real.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let env = format!(
        "DB_HOST={}\nDB_PORT={}\nDB_NAME={}\nDB_USER={}\nSECRET_KEY=abcdefgh\n",
        get("PGHOST"),
        get("PGPORT"),
        database.name,
        get("PGUSER"),
    );
    let project = project
        .file(".env", &env)
        .file("back.sh", ". ./.env; unset PGHOST PGPORT; psql -h $DB_HOST -p $DB_PORT -U $DB_USER -d $DB_NAME -Xqc 'DELETE FROM item'\n")
        .playbook(
            "back",
            r#"const PLAYBOOK = #{ summary: "Back", drill: #{ run: ["bash"] } };
            let db = postgres();
            step "Back" { exec(["bash", "back.sh"]); }
            step "See" { reread_env(); info(`${query(postgres(), "SELECT count(*) AS n FROM item")[0].n} items left`); }
            step "Dump" { dump(db).gzip().save("backups/x.sql.gz"); }"#,
        );
    let ran = project.run(&["drill", "back"]).exits(0);
    assert_eq!(psql(&database, "SELECT count(*) FROM item").trim(), "100");
    assert!(ran.stdout.starts_with("Drill of back: passed in part\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("  Really ran\n    bash back.sh: what it reached is not controlled\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.matches("a scratch PostgreSQL").count() == 1, "{}", ran.stdout);
    ran.says("0 items left");
    assert!(std::fs::read_to_string(project.at(".env")).unwrap() == env);
}
