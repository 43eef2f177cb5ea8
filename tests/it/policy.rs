//! What a playbook may not do, tried through the program: exit code 10, and nothing done.

use crate::cluster::{PASSWORD, cluster, database};
use crate::project::TestProject;

#[track_caller]
fn refused(project: TestProject, body: &str, told: expect_test::Expect) {
    let project = project.playbook("try", body);
    let before = project.tree(&[".lifeboat", "logs"]);
    told.assert_eq(&project.told(&project.run(&["try"])));
    assert_eq!(project.tree(&[".lifeboat", "logs"]), before);
}

#[test]
fn a_database_host_that_is_put_together_while_it_runs() {
    refused(
        TestProject::new(),
        r#"let n = 7;
           let db = postgres(#{ host: `db${n}.example.test`, database: "shop" });
           step "Dump" { dump(db).save("backups/a.sql"); }"#,
        expect_test::expect![[r#"
            exit 10
            error: `save` may not talk to `db7.example.test`
              ——▶ playbooks/try.rhai:4:35
              │
            N │            step "Dump" { dump(db).save("backups/a.sql"); }
              │                                   ^
            caused by: the policy does not allow it
            hint: Name the host literally in the playbook, or make its URL a parameter.
            ✘ try failed in step `Dump` after TIME (exit 10)
        "#]],
    );
}

#[test]
fn files_that_decide_what_the_next_playbook_may_do() {
    for (path, told) in [
        (
            ".env",
            expect_test::expect![[r#"
            exit 10
            error: `write` may not write `PROJECT/.env`
              ——▶ playbooks/try.rhai:2:16
              │
            N │ step "Write" { write(".env", "x"); }
              │                ^
            caused by: playbooks, their modules, configuration and Lifeboat's own state are never written by a playbook
            hint: Choose another folder; backups belong in one of their own, for example `backups`.
            ✘ try failed in step `Write` after TIME (exit 10)
        "#]],
        ),
        (
            "playbooks/other.rhai",
            expect_test::expect![[r#"
            exit 10
            error: `write` may not write `PROJECT/playbooks`
              ——▶ playbooks/try.rhai:2:16
              │
            N │ step "Write" { write("playbooks/other.rhai", "x"); }
              │                ^
            caused by: playbooks, their modules, configuration and Lifeboat's own state are never written by a playbook
            hint: Choose another folder; backups belong in one of their own, for example `backups`.
            ✘ try failed in step `Write` after TIME (exit 10)
        "#]],
        ),
        (
            "stdlib/backup.rhai",
            expect_test::expect![[r#"
            exit 10
            error: `write` may not write `PROJECT/stdlib`
              ——▶ playbooks/try.rhai:2:16
              │
            N │ step "Write" { write("stdlib/backup.rhai", "x"); }
              │                ^
            caused by: playbooks, their modules, configuration and Lifeboat's own state are never written by a playbook
            hint: Choose another folder; backups belong in one of their own, for example `backups`.
            ✘ try failed in step `Write` after TIME (exit 10)
        "#]],
        ),
        (
            "lifeboat.toml",
            expect_test::expect![[r#"
            exit 10
            error: `write` may not write `PROJECT/lifeboat.toml`
              ——▶ playbooks/try.rhai:2:16
              │
            N │ step "Write" { write("lifeboat.toml", "x"); }
              │                ^
            caused by: playbooks, their modules, configuration and Lifeboat's own state are never written by a playbook
            hint: Choose another folder; backups belong in one of their own, for example `backups`.
            ✘ try failed in step `Write` after TIME (exit 10)
        "#]],
        ),
        (
            ".lifeboat/runs/x",
            expect_test::expect![[r#"
            exit 10
            error: `write` may not write `PROJECT/.lifeboat/runs`
              ——▶ playbooks/try.rhai:2:16
              │
            N │ step "Write" { write(".lifeboat/runs/x", "x"); }
              │                ^
            caused by: playbooks, their modules, configuration and Lifeboat's own state are never written by a playbook
            hint: Choose another folder; backups belong in one of their own, for example `backups`.
            ✘ try failed in step `Write` after TIME (exit 10)
        "#]],
        ),
        (
            "reports/../.env",
            expect_test::expect![[r#"
            exit 10
            error: `write` may not write `PROJECT/.env`
              ——▶ playbooks/try.rhai:2:16
              │
            N │ step "Write" { write("reports/../.env", "x"); }
              │                ^
            caused by: playbooks, their modules, configuration and Lifeboat's own state are never written by a playbook
            hint: Choose another folder; backups belong in one of their own, for example `backups`.
            ✘ try failed in step `Write` after TIME (exit 10)
        "#]],
        ),
    ] {
        refused(TestProject::new(), &format!("step \"Write\" {{ write(\"{path}\", \"x\"); }}"), told);
    }
}

#[test]
fn the_password_of_a_url_is_in_no_record() {
    let db = database("url");
    let env = db.env();
    let of = |wanted: &str| env.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    let encoded: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = format!("postgres://{}:{encoded}@127.0.0.1:{}/{}", of("PGUSER"), cluster().port(), db.name);
    let project = TestProject::new().playbook(
        "try",
        r#"const PLAYBOOK = #{ summary: "Try", params: #{ url: #{ required: true } } };
           let db = postgres(#{ url: params.url });
           step "Dump" { dump(db).save("backups/a.sql"); }
           info(`from ${params.url}`);"#,
    );
    let ran = project.run(&["try", "--url", &url]).exits(0);
    let mut shown = format!("{}{}", ran.stdout, ran.stderr).into_bytes();
    for (name, content) in project.tree(&["backups"]) {
        shown.extend_from_slice(name.as_bytes());
        shown.extend_from_slice(&content);
    }
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("127.0.0.1"), "{shown}");
    for secret in [PASSWORD, encoded.as_str()] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
