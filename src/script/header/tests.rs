//! Headers as they are read, and every message about one.

use super::*;
use crate::base::drill::Start;
use crate::script::library::Origin;
use crate::script::param::Kind;
use expect_test::{Expect, expect};
use serde_json::json;
use std::time::Duration;

fn playbook(source: &str) -> Playbook {
    Playbook {
        name: "p".into(),
        origin: Origin::Project,
        path: None,
        file: "playbooks/p.rhai".into(),
        source: source.into(),
    }
}

fn refused(source: &str, expected: &Expect) {
    let failure = header(&playbook(source)).unwrap_err();
    let at = failure.at.as_ref().map(ToString::to_string).unwrap_or_default();
    let hints: String = failure.hints.iter().map(|hint| format!("  {hint}\n")).collect();
    expected.assert_eq(&format!("{at} {failure}\n{hints}"));
}

/// Refuses a parameter `p`.
fn param(spec: &str, expected: &Expect) {
    refused(&format!("const PLAYBOOK = #{{ summary: \"x\", params: #{{\n{spec}\n}} }};"), expected);
}

/// Refuses further keys of a header that has a required parameter `zone` and a number `days`.
fn keys(keys: &str, expected: &Expect) {
    refused(
        &format!(
            "const PLAYBOOK = #{{ summary: \"x\", params: #{{ zone: #{{ required: true }}, days: 3, pass: #{{ secret: true, env: \"PASS\" }} }},\n{keys} }};"
        ),
        expected,
    );
}

#[test]
fn the_header_of_a_real_playbook() {
    let header = header(&playbook(
        r#"//! Back up the PostgreSQL database:
//!
//!   pre-flight, dump, verify.

const PLAYBOOK = #{
    summary: "Back up the PostgreSQL database",
    params: #{
        retention: #{ default_value: 30, env: "BACKUP_RETENTION_DAYS", help: "Days to keep backups" },
        dir: #{ default_value: "backups/database", env: "BACKUP_DIR", path: true },
        tag: #{ default_value: "manual", choices: ["daily", "manual"] },
        files: #{ positional: true, list: true, value_name: "FILE" },
        database: #{ optional_value: "latest" },
        keep: #{ type: "size", default_value: "10GiB" },
        grace: #{ type: "duration", default_value: "5m" },
        ratio: #{ type: "float", default_value: 1 },
        db: true,
        token: #{ secret: true, env: "TOKEN" },
    },
    schedule: [
        #{ cron: "0 2 * * *", params: #{ tag: "daily" } },
        #{ cron: "0 9-17 * * MON-FRI", tz: "Europe/Berlin", params: #{ db: false, files: ["a", "b"] } },
    ],
    watch: [".env", "config/**/*.json"],
    drill: #{ start: "empty", run: ["npm"], rto: "30m", rpo: "2h" },
};
let db = unknown_things(happen_below);
"#,
    ))
    .unwrap();
    assert_eq!(header.summary, "Back up the PostgreSQL database");
    assert_eq!(header.doc, "Back up the PostgreSQL database:\n\n  pre-flight, dump, verify.");
    let params: Vec<String> = header
        .params
        .iter()
        .map(|p| format!("{} {:?} {}", p.label(), p.kind, p.default.clone().unwrap_or_default()))
        .collect();
    assert_eq!(
        params,
        [
            "--retention Int 30",
            "--dir Text \"backups/database\"",
            "--tag Text \"manual\"",
            "<FILE> List []",
            "--database Text null",
            "--keep Size \"10GiB\"",
            "--grace Duration \"5m\"",
            "--ratio Float 1",
            "--no-db Bool true",
            "--token Text null",
        ]
    );
    let retention = header.param("retention").unwrap();
    assert_eq!(retention.env.as_deref(), Some("BACKUP_RETENTION_DAYS"));
    assert_eq!(retention.help.as_deref(), Some("Days to keep backups"));
    assert_eq!(retention.at.to_string(), "playbooks/p.rhai:8:9");
    assert!(header.param("dir").unwrap().path && header.param("token").unwrap().secret);
    assert_eq!(header.param("database").unwrap().optional_value, Some(json!("latest")));
    assert_eq!(header.schedule[1].tz.map(|tz| tz.name()), Some("Europe/Berlin"));
    let given = header.schedule[1].given();
    assert_eq!(given["db"], ["false"]);
    assert_eq!(given["files"], ["a", "b"]);
    assert_eq!(header.watch, [".env", "config/**/*.json"]);
    assert_eq!(
        header.drill,
        Terms {
            start: Start::Empty,
            run: vec!["npm".into()],
            rto: Some(Duration::from_secs(1800)),
            rpo: Some(Duration::from_secs(7200)),
        }
    );
    assert_eq!(header.param("db").unwrap().kind, Kind::Bool);
}

#[test]
fn no_header_or_more_than_one() {
    refused(
        "let x = 1;",
        &expect![[r#"
        playbooks/p.rhai:1:1 `playbooks/p.rhai` has no header
          Begin it with `const PLAYBOOK = #{ summary: "What it does" };`.
    "#]],
    );
    refused(
        "let PLAYBOOK = #{ summary: \"x\" };",
        &expect![[r#"
        playbooks/p.rhai:1:5 the header `PLAYBOOK` must be a constant
          Write `const PLAYBOOK = #{ ... };` instead of `let`.
    "#]],
    );
    refused(
        "if true { const PLAYBOOK = #{ summary: \"x\" }; }",
        &expect![[r#"
        playbooks/p.rhai:1:17 `PLAYBOOK` must stand at the top level of the playbook
    "#]],
    );
    refused(
        "const PLAYBOOK = #{ summary: \"x\" };\nconst PLAYBOOK = #{ summary: \"y\" };",
        &expect![[r#"
        playbooks/p.rhai:2:7 `PLAYBOOK` is defined a second time
          A playbook has one header; rename this variable.
    "#]],
    );
    refused(
        "const PLAYBOOK = #{ summary: \"x\" };\nfn f() { let PLAYBOOK = 3; }",
        &expect![[r#"
        playbooks/p.rhai:2:14 `PLAYBOOK` is defined a second time
          A playbook has one header; rename this variable.
    "#]],
    );
    refused(
        "const PLAYBOOK = 3;",
        &expect![[r#"
        playbooks/p.rhai:1:18 `PLAYBOOK` must be a map, not a whole number
    "#]],
    );
    refused(
        "const PLAYBOOK = #{ };",
        &expect![[r#"
        playbooks/p.rhai:1:7 the header has no `summary`
          Add one line that tells what the playbook does: `summary: "Back up the database",`.
    "#]],
    );
    refused(
        "const PLAYBOOK = #{ summary: \" \" };",
        &expect![[r#"
        playbooks/p.rhai:1:30 `summary` is empty
    "#]],
    );
    refused(
        "const PLAYBOOK = #{ sumary: \"x\" };",
        &expect![[r#"
        playbooks/p.rhai:1:21 `PLAYBOOK` has no key `sumary`
          Did you mean `summary`?
    "#]],
    );
    refused(
        "const PLAYBOOK = #{ summary: \"x\", colour: 3 };",
        &expect![[r#"
        playbooks/p.rhai:1:35 `PLAYBOOK` has no key `colour`
          Its keys are `summary`, `params`, `schedule`, `watch`, `notify` and `drill`.
    "#]],
    );
    refused(
        "const PLAYBOOK = #{ summary: \"x\", default: 3 };",
        &expect![[r#"
        playbooks/p.rhai:1:35 `default` is a reserved word
          Choose another name: reserved words cannot name variables, functions, parameters or keys.
          In a header write `default_value`.
    "#]],
    );
}

#[test]
fn values_that_are_not_literal() {
    refused(
        "const PLAYBOOK = header();",
        &expect![[r#"
        playbooks/p.rhai:1:18 `PLAYBOOK` in the header is not a literal value: it is a function call
          The header is read without running anything: write the value itself. For a value from the environment, give the parameter `env: "NAME"`.
    "#]],
    );
    refused(
        "const PLAYBOOK = #{ summary: `at ${now()}` };",
        &expect![[r#"
        playbooks/p.rhai:1:30 `summary` in the header is not a literal value: it is text with `${...}`
          The header is read without running anything: write the value itself. For a value from the environment, give the parameter `env: "NAME"`.
    "#]],
    );
    param(
        "p: #{ default_value: env(\"X\") },",
        &expect![[r#"
        playbooks/p.rhai:2:22 `params.p.default_value` in the header is not a literal value: it is a function call
          The header is read without running anything: write the value itself. For a value from the environment, give the parameter `env: "NAME"`.
    "#]],
    );
    param(
        "p: #{ default_value: 60 * 60 },",
        &expect![[r#"
        playbooks/p.rhai:2:25 `params.p.default_value` in the header is not a literal value: it is a calculation
          The header is read without running anything: write the value itself. For a value from the environment, give the parameter `env: "NAME"`.
    "#]],
    );
    param(
        "p: #{ default_value: [1, other] },",
        &expect![[r#"
        playbooks/p.rhai:2:26 `params.p.default_value[1]` in the header is not a literal value: it is a variable
          The header is read without running anything: write the value itself. For a value from the environment, give the parameter `env: "NAME"`.
    "#]],
    );
    param(
        "p: || 3,",
        &expect![[r#"
        playbooks/p.rhai:2:4 `params.p` in the header is not a literal value: it is a closure
          The header is read without running anything: write the value itself. For a value from the environment, give the parameter `env: "NAME"`.
    "#]],
    );
}

#[test]
fn parameters_that_cannot_be() {
    for (spec, expected) in [
        (
            "\"default\": 3",
            expect![[r#"
            playbooks/p.rhai:2:1 `default` cannot name a parameter: the word is reserved
              Rename it, for example to `default_value`.
        "#]],
        ),
        (
            "step: 3",
            expect![[r#"
            playbooks/p.rhai:2:1 `step` cannot name a parameter: the word is reserved
              Rename it, for example to `step_value`.
        "#]],
        ),
        (
            "keepDays: 3",
            expect![[r#"
            playbooks/p.rhai:2:1 `keepDays` cannot name a parameter
              Names begin with a lowercase letter and go on with lowercase letters, digits and single `_`.
        "#]],
        ),
        (
            "p: ()",
            expect![[r#"
            playbooks/p.rhai:2:4 `params.p` cannot be `()`
              Write a default value such as `p: "text"`, or a specification such as `p: #{ help: "What it is" }`.
        "#]],
        ),
        (
            "p: #{ default_value: #{} }",
            expect![[r#"
            playbooks/p.rhai:2:22 `params.p.default_value` cannot be a map
              Leave `default_value` out for a parameter without one; it is `()` in the playbook then.
        "#]],
        ),
        (
            "p: #{ default: 3 }",
            expect![[r#"
            playbooks/p.rhai:2:7 `default` is a reserved word
              Choose another name: reserved words cannot name variables, functions, parameters or keys.
              In a header write `default_value`.
        "#]],
        ),
        (
            "p: #{ defaultvalue: 3 }",
            expect![[r#"
            playbooks/p.rhai:2:7 `params.p` has no key `defaultvalue`
              Did you mean `default_value`?
        "#]],
        ),
        (
            "p: #{ \"default\": 3 }",
            expect![[r#"
            playbooks/p.rhai:2:7 `params.p` has no key `default`
              The word `default` is reserved in Rhai: write `default_value`.
        "#]],
        ),
        (
            "p: #{ help: 3 }",
            expect![[r#"
            playbooks/p.rhai:2:13 `params.p.help` must be text, not a whole number
        "#]],
        ),
        (
            "p: #{ type: \"integer\" }",
            expect![[r#"
            playbooks/p.rhai:2:13 `params.p.type` cannot be `integer`
              Types are `text`, `int`, `bool`, `float`, `size` and `duration`; `list: true` makes a list.
        "#]],
        ),
        (
            "p: #{ type: \"int\", default_value: \"3\" }",
            expect![[r#"
            playbooks/p.rhai:2:35 `params.p.default_value` must be a whole number, not text
        "#]],
        ),
        (
            "p: #{ type: \"size\", default_value: \"huge\" }",
            expect![[r#"
                playbooks/p.rhai:2:36 `params.p.default_value` must be a size such as `10GiB`, not `huge`
            "#]],
        ),
        (
            "p: #{ type: \"int\", list: true }",
            expect![[r#"
            playbooks/p.rhai:2:13 `params.p.type` must be `text` in a list
        "#]],
        ),
        (
            "p: #{ default_value: \"x\", choices: [\"y\", \"z\"] }",
            expect![[r#"
            playbooks/p.rhai:2:22 `params.p.default_value` is `x`, which is not among the choices
              Add it to `params.p.choices`, or use `y` or `z`.
        "#]],
        ),
        (
            "p: #{ choices: [\"y\", 3] }",
            expect![[r#"
            playbooks/p.rhai:2:22 `params.p.choices[1]` must be text, not a whole number
        "#]],
        ),
        (
            "p: #{ choices: [] }",
            expect![[r#"
            playbooks/p.rhai:2:16 `params.p.choices` is empty
        "#]],
        ),
        (
            "p: #{ optional_value: 3, default_value: \"x\" }",
            expect![[r#"
            playbooks/p.rhai:2:23 `params.p.optional_value` must be text, not a whole number
        "#]],
        ),
        (
            "p: #{ env: \"a-b\" }",
            expect![[r#"
            playbooks/p.rhai:2:12 `params.p.env` is `a-b`, which cannot name an environment variable
        "#]],
        ),
        (
            "p: #{ secret: true, default_value: \"hunter2\" }",
            expect![[r#"
            playbooks/p.rhai:2:36 `params.p.default_value` gives a secret away
              Remove it, and let `params.p.env` name the variable that holds the secret.
        "#]],
        ),
        (
            "p: #{ secret: true }",
            expect![[r#"
            playbooks/p.rhai:2:15 `params.p.secret` needs `env`, since only a variable can give a secret
              Add `env: "P"`; a secret is not taken from the command line, which everybody on the machine can read.
        "#]],
        ),
        (
            "p: #{ secret: true, env: \"P\", positional: true }",
            expect![[r#"
            playbooks/p.rhai:2:43 `params.p.positional` does not fit a secret, which only its variable gives
        "#]],
        ),
        (
            "p: #{ secret: true, type: \"int\" }",
            expect![[r#"
            playbooks/p.rhai:2:15 `params.p.secret` fits text only, not a whole number
        "#]],
        ),
        (
            "p: #{ required: true, default_value: 3 }",
            expect![[r#"
            playbooks/p.rhai:2:17 `params.p.required` contradicts `default_value`
              Keep one of the two.
        "#]],
        ),
        (
            "p: #{ default_value: true, positional: true }",
            expect![[r#"
            playbooks/p.rhai:2:40 `params.p.positional` does not fit a switch, which is on or off
        "#]],
        ),
        (
            "p: #{ default_value: 3, path: true }",
            expect![[r#"
            playbooks/p.rhai:2:31 `params.p.path` fits text or an array of texts only
        "#]],
        ),
        (
            "p: #{ positional: true, list: true },\nq: #{ positional: true }",
            expect![[r#"
            playbooks/p.rhai:2:1 the positional list `p` must be the last positional parameter
        "#]],
        ),
        (
            "p: #{ positional: true },\nq: #{ positional: true, required: true }",
            expect![[r#"
            playbooks/p.rhai:3:1 the required positional parameter `q` stands behind `p`, which is optional
        "#]],
        ),
        (
            "db: true,\nno_db: false",
            expect![[r#"
            playbooks/p.rhai:2:1 the parameters `db` and `no_db` would both be the flag `--no-db`
        "#]],
        ),
    ] {
        param(spec, &expected);
    }
}

#[test]
fn schedules_and_patterns() {
    for (more, expected) in [
        (
            "schedule: #{ cron: \"* * * * *\" }",
            expect![[r#"
            playbooks/p.rhai:2:11 `schedule` must be an array, not a map
        "#]],
        ),
        (
            "schedule: [ \"* * * * *\" ]",
            expect![[r#"
            playbooks/p.rhai:2:13 `schedule[0]` must be a map, not text
        "#]],
        ),
        (
            "schedule: [ #{ } ]",
            expect![[r#"
            playbooks/p.rhai:2:13 `schedule[0]` has no `cron`
              For example `cron: "0 2 * * *"`: every day at 02:00.
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * *\" } ]",
            expect![[r#"
            playbooks/p.rhai:2:22 `schedule[0].cron` is `0 2 * *`, which has 4 fields instead of five
              A cron expression has five fields: minute, hour, day of month, month and day of week, for example `30 2 * * 1-5`.
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 24 * * *\" } ]",
            expect![[r#"
            playbooks/p.rhai:2:22 `schedule[0].cron` is `0 24 * * *`, whose hour `24` is not valid
              A cron expression has five fields: minute, hour, day of month, month and day of week, for example `30 2 * * 1-5`.
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * FOO\" } ]",
            expect![[r#"
            playbooks/p.rhai:2:22 `schedule[0].cron` is `0 2 * * FOO`, whose day of week `FOO` is not valid
              A cron expression has five fields: minute, hour, day of month, month and day of week, for example `30 2 * * 1-5`.
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", tz: \"berlin time\" } ]",
            expect![[r#"
                playbooks/p.rhai:2:39 `schedule[0].tz` is `berlin time`, which is not the name of a time zone
                  Write an IANA name such as `Europe/Berlin` or `UTC`.
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", tz: \"Europe/Berlim\" } ]",
            expect![[r#"
                playbooks/p.rhai:2:39 `schedule[0].tz` is `Europe/Berlim`, which is not the name of a time zone
                  Did you mean `Europe/Berlin`?
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 30 2 *\" } ]",
            expect![[r#"
            playbooks/p.rhai:2:22 `schedule[0].cron` is `0 2 30 2 *`, which never comes
              A cron expression has five fields: minute, hour, day of month, month and day of week, for example `30 2 * * 1-5`.
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"* 0 2 * * *\" } ]",
            expect![[r#"
            playbooks/p.rhai:2:22 `schedule[0].cron` is `* 0 2 * * *`, which has 6 fields instead of five
              A cron expression has five fields: minute, hour, day of month, month and day of week, for example `30 2 * * 1-5`.
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zone: \"a\" } }, #{ cron: \"0 2 * * *\", params: #{ zone: \"b\" } } ]",
            expect![[r#"
                playbooks/p.rhai:2:61 `schedule[1]` and `schedule[0]` are both called `0 2 * * *`
                  A schedule is called by its `name`, or else by its `cron`: give one a name, for example `name: "weekly"`.
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zone: \"a\" }, overlap: \"wait\" } ]",
            expect![[r#"
                playbooks/p.rhai:2:68 `schedule[0].overlap` is `wait`
                  It may be `skip`, `queue` or `kill`.
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zone: \"a\" }, missed: \"twice\" } ]",
            expect![[r#"
                playbooks/p.rhai:2:67 `schedule[0].missed` is `twice`
                  It may be `once`, `skip` or `all`.
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zone: \"a\" }, window: \"1h\" } ]",
            expect![[r#"
                playbooks/p.rhai:2:67 `schedule[0].window` is given, and only `missed: "all"` has one
                  Remove it, or add `missed: "all"` to make up for every instant within it.
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 9-17 * * *\", params: #{ zone: \"a\" }, jitter: \"90m\" } ]",
            expect![[r#"
                playbooks/p.rhai:2:70 `schedule[0].jitter` is 1 h 30 min, and two instants of `0 9-17 * * *` may lie 1 h 0 min apart
                  It may be 1 h 0 min at most.
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zone: \"a\" }, timeout: \"soon\" } ]",
            expect![[r#"
                playbooks/p.rhai:2:68 `schedule[0].timeout` is `soon`, which is no duration
                  Write a number and a unit, for example `"30m"` or `"1h"`.
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zone: \"a\" }, name: \" daily\" } ]",
            expect![[r#"
                playbooks/p.rhai:2:65 `schedule[0].name` holds blanks around it or characters that cannot be shown
            "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", rto: \"1h\" } ]",
            expect![[r#"
            playbooks/p.rhai:2:35 `schedule[0]` has no key `rto`
              Did you mean `rpo`?
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\" } ]",
            expect![[r#"
            playbooks/p.rhai:2:13 `schedule[0]` does not give the required parameter `zone`
              Add `params: #{ zone: ... }` to the schedule.
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zome: \"a\" } } ]",
            expect![[r#"
            playbooks/p.rhai:2:46 `schedule[0].params.zome` is not a parameter of this playbook
              Did you mean `zone`?
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zone: \"a\", days: \"7\" } } ]",
            expect![[r#"
            playbooks/p.rhai:2:63 `schedule[0].params.days` must be a whole number, not text
        "#]],
        ),
        (
            "schedule: [ #{ cron: \"0 2 * * *\", params: #{ zone: \"a\", pass: \"hunter2\" } } ]",
            expect![[r#"
                playbooks/p.rhai:2:63 `schedule[0].params.pass` gives a secret away
            "#]],
        ),
        (
            "watch: \".env\"",
            expect![[r#"
            playbooks/p.rhai:2:8 `watch` must be an array, not text
        "#]],
        ),
        (
            "watch: [ 3 ]",
            expect![[r#"
                playbooks/p.rhai:2:10 `watch[0]` must be text, not a whole number
            "#]],
        ),
        (
            "watch: [ \"../x/*.yml\" ]",
            expect![[r#"
                playbooks/p.rhai:2:10 `watch[0]` is `../x/*.yml`, which leaves the project
                  Patterns are relative to the project, for example `config/**/*.yml`.
            "#]],
        ),
        (
            "watch: [ \"/etc/*\" ]",
            expect![[r#"
                playbooks/p.rhai:2:10 `watch[0]` is `/etc/*`, which leaves the project
                  Patterns are relative to the project, for example `config/**/*.yml`.
            "#]],
        ),
        (
            "watch: [ \"a[\" ]",
            expect![[r#"
            playbooks/p.rhai:2:10 `watch[0]` is `a[`, which is not a pattern: unclosed character class; missing ']'
        "#]],
        ),
        (
            "drill: true",
            expect![[r#"
            playbooks/p.rhai:2:8 `drill` must be a map, not a boolean
        "#]],
        ),
        (
            "drill: #{ begin: \"empty\" }",
            expect![[r#"
            playbooks/p.rhai:2:11 `drill` has no key `begin`
              Its keys are `start`, `run`, `rto` and `rpo`.
        "#]],
        ),
        (
            "drill: #{ start: \"full\" }",
            expect![[r#"
            playbooks/p.rhai:2:18 `drill.start` is `full`, which is no way to begin
              Write `"empty"` for a recovery: everything is lost but the backups; or `"latest"`: a copy of the project, and databases as their newest backups have them.
        "#]],
        ),
        (
            "drill: #{ run: [1] }",
            expect![[r#"
            playbooks/p.rhai:2:17 `drill.run[0]` must be text, not a whole number
              Name the programs that a drill may really run, as `exec` does: `run: ["npm", "pytest"]`.
        "#]],
        ),
        (
            "drill: #{ run: [\" \"] }",
            expect![[r#"
            playbooks/p.rhai:2:17 `drill.run[0]` is empty
        "#]],
        ),
        (
            "drill: #{ rto: \"soon\" }",
            expect![[r#"
            playbooks/p.rhai:2:16 `drill.rto` is `soon`, which is no duration
              Write a number and a unit, for example `"30m"` or `"1h"`.
        "#]],
        ),
        (
            "drill: #{ rpo: \"0s\" }",
            expect![[r#"
            playbooks/p.rhai:2:16 `drill.rpo` is `0s`, which is no duration
              Write a number and a unit, for example `"30m"` or `"1h"`.
        "#]],
        ),
        (
            "drill: #{ rto: 30 }",
            expect![[r#"
            playbooks/p.rhai:2:16 `drill.rto` must be text, not a whole number
        "#]],
        ),
    ] {
        keys(more, &expected);
    }
}
