//! Every message of lint, with its place and hint, over a small set of functions.

use super::*;
use crate::base::failure::Code;
use crate::script::header;
use crate::script::known::Known;
use crate::script::option_keys::Options;
use crate::script::program::Source;
use expect_test::{Expect, expect};
use rhai::packages::{Package, StandardPackage};
use rhai::{Dynamic, Engine, FuncRegistration, ImmutableString, Map, Module};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its fields' names and types matter")]
struct RotateOptions {
    tag: Option<String>,
    keep_days: Option<u32>,
}

/// The language with steps and a few functions that stay as they are, whatever the bindings become.
fn engine() -> Engine {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    crate::script::step::register(&mut engine);
    let mut module = Module::new();
    let named = |name: &str, params: &[&str]| FuncRegistration::new(name).with_params_info(params);
    named("dump", &["db: Dynamic", "Dynamic"]).set_into_module(&mut module, |_: Dynamic| Dynamic::UNIT);
    named("gzip", &["pipeline: Dynamic", "Dynamic"]).set_into_module(&mut module, |_: Dynamic| Dynamic::UNIT);
    named("gzip", &["pipeline: Dynamic", "level: i64", "Dynamic"])
        .set_into_module(&mut module, |_: Dynamic, _: i64| Dynamic::UNIT);
    named("save", &["pipeline: Dynamic", "path: &str", "Dynamic"])
        .set_into_module(&mut module, |_: Dynamic, _: ImmutableString| Dynamic::UNIT);
    named("rotate", &["dir: &str", "options: Map", "Dynamic"])
        .set_into_module(&mut module, |_: ImmutableString, _: Map| Dynamic::UNIT);
    named("retry", &["times: i64", "what: FnPtr", "Dynamic"])
        .set_into_module(&mut module, |_: i64, _: rhai::FnPtr| Dynamic::UNIT);
    engine.register_global_module(module.into());
    engine
}

const MODULE: &str = "fn nightly(db) { dump(db).save(\"x\") }\nfn weekly() { 1 }\n";

/// Lints a playbook with a plain header, which takes line 1.
fn lint(body: &str) -> String {
    lint_all(
        engine(),
        &format!("const PLAYBOOK = #{{ summary: \"x\", params: #{{ retention: 30, dir: \"b\" }} }};\n{body}"),
    )
}

fn lint_all(mut engine: Engine, text: &str) -> String {
    let source = Source { file: "playbooks/p.rhai".into(), text: text.into() };
    let resolve = |_: &str, path: &str| match path {
        "std/backup" => Ok(Source { file: "std/backup".into(), text: MODULE.into() }),
        "std/busy" => {
            Ok(Source { file: "std/busy".into(), text: "step \"x\" { dump(1).save(\"y\"); }".into() })
        }
        other => Err(Failure::new(Code::Playbook, format!("no module `{other}`"))),
    };
    let program = Program::load(&mut engine, source, &resolve);
    let header = program.playbook().map(|unit| header::read(&unit.ast, &unit.source.file));
    let surface = Surface {
        known: Known::of(&engine),
        options: vec![Options::of::<RotateOptions>("rotate")],
        effects: vec!["save", "rotate"],
    };
    check(&program, header.as_ref(), &surface).iter().map(shown).collect()
}

fn shown(finding: &Finding) -> String {
    let failure = &finding.failure;
    let at = failure.at.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{} {at} {failure}\n", if finding.error { "error" } else { "warning" });
    for frame in &failure.trail {
        text += &format!("  in {} at {}\n", frame.function, frame.at);
    }
    for hint in &failure.hints {
        text += &format!("  {hint}\n");
    }
    text
}

/// As [`says`], with the engine that runs playbooks.
fn really_says(body: &str, expected: &Expect) {
    let header = "const PLAYBOOK = #{ summary: \"x\" };\n";
    expected.assert_eq(&lint_all(crate::script::engine::engine(), &format!("{header}{body}")));
}

fn says(body: &str, expected: &Expect) {
    expected.assert_eq(&lint(body));
}

#[test]
fn a_good_playbook_has_no_findings() {
    let text = r#"//! Back up.

const PLAYBOOK = #{
    summary: "Back up",
    params: #{ retention: #{ default_value: 30, env: "DAYS" }, dir: "backups" },
    schedule: [ #{ cron: "0 2 * * *", params: #{ retention: 7 } } ],
};
import "std/backup" as backup;
fn keep(dir, days) { rotate(dir, #{ keep_days: days }); }

let made = step "Dump" { dump(1).gzip().gzip(6).save(`${params.dir}/x.gz`) };
let hook = || rotate("x", #{});
step "Rotate" {
    let n = 0;
    for i in 0..3 { if i == 2 { break; } n += i; }
    keep(params.dir, params.retention);
    retry(3, || { return rotate(params.dir, #{ tag: "x" }); });
    hook.call();
    backup::nightly(1);
}
let outcome = attempt "More" { params["dir"].len() };
if !outcome.ok { print(outcome.failure.message); }
"#;
    assert_eq!(lint_all(engine(), text), "");
}

#[test]
fn unknown_functions() {
    says(
        "step \"a\" { dmp(1); dump(1).gzpi(); nightly(1); frobnicate(2); }\nlet f = Fn(\"dunp\");\nimport \"std/backup\" as b;\nb::nigtly(1);",
        &expect![[r#"
            error playbooks/p.rhai:2:12 unknown function `dmp`
              Did you mean `dump`?
            error playbooks/p.rhai:2:28 unknown method `gzpi`
              Did you mean `gzip`?
            error playbooks/p.rhai:2:36 unknown function `nightly`
              Did you mean `b::nightly`?
            error playbooks/p.rhai:2:48 unknown function `frobnicate`
              `lifeboat doc` lists all functions.
            error playbooks/p.rhai:3:12 unknown function `dunp`
              Did you mean `dump`?
            error playbooks/p.rhai:5:4 the module `std/backup` has no function `nigtly`
              Did you mean `b::nightly`?
        "#]],
    );
}

#[test]
fn arguments_that_do_not_fit() {
    says(
        "fn own(a) { a }\nimport \"std/backup\" as b;\nstep \"a\" {\n  dump();\n  dump(1).gzip(1, 2);\n  dump(1).gzip(\"best\");\n  own(1, 2);\n  b::weekly(3);\n  rotate(\"x\", 30);\n  retry(\"3\", || 1);\n}",
        &expect![[r#"
            error playbooks/p.rhai:5:3 `dump` cannot be called with no arguments
              It is called as `dump(db: any)`.
            error playbooks/p.rhai:6:11 `gzip` cannot be called with 2 arguments
              It is called as `pipeline.gzip()` or `pipeline.gzip(level: int)`.
            error playbooks/p.rhai:7:16 argument 1 of `gzip` must be `int`, not `text`
              It is called as `pipeline.gzip(level: int)`.
            error playbooks/p.rhai:8:3 `own` cannot be called with 2 arguments
              It is called as `own(a)`.
            error playbooks/p.rhai:9:6 `b::weekly` cannot be called with 1 argument
              It is called as `weekly()`.
            error playbooks/p.rhai:10:15 argument 2 of `rotate` must be `map`, not `int`
              It is called as `rotate(dir: text, options: map)`.
            error playbooks/p.rhai:11:9 argument 1 of `retry` must be `int`, not `text`
              It is called as `retry(times: int, what: closure)`.
        "#]],
    );
}

#[test]
fn options_that_do_not_exist() {
    says(
        "step \"a\" {\n  rotate(\"x\", #{ keep_day: params.retention, tag: params.dir });\n  rotate(\"x\", #{ keep_days: \"30\", compress: true });\n}",
        &expect![[r#"
            error playbooks/p.rhai:3:18 unknown option `keep_day` of `rotate`
              Did you mean `keep_days`?
            error playbooks/p.rhai:4:29 option `keep_days` of `rotate` must be a whole number from 0: it is the text "30"
            error playbooks/p.rhai:4:35 unknown option `compress` of `rotate`
              Its options are `tag` and `keep_days`.
        "#]],
    );
}

#[test]
fn parameters_that_do_not_exist() {
    says(
        "print(params.retension.len());\nprint(params[\"zone\"]);",
        &expect![[r#"
            error playbooks/p.rhai:2:14 no parameter `retension`
              Did you mean `retention`?
            error playbooks/p.rhai:3:14 no parameter `zone`
              The parameters of this playbook are `retention` and `dir`.
        "#]],
    );
}

#[test]
fn unknown_variables_and_modules() {
    says(
        "let backup = 1;\nprint(bakcup);",
        &expect![[r#"
            error playbooks/p.rhai:3:7 unknown variable `bakcup`
              Did you mean `backup`?
        "#]],
    );
    says(
        "print(elsewhere);",
        &expect![[r#"
            error playbooks/p.rhai:2:7 unknown variable `elsewhere`
        "#]],
    );
    says(
        "other::f(1);",
        &expect![[r#"
            error playbooks/p.rhai:2:1 unknown module `other`
              Import it first: `import "std/other" as other;`.
        "#]],
    );
    says(
        "import \"std/nothing\" as n;",
        &expect![[r#"
        error playbooks/p.rhai:2:8 no module `std/nothing`
    "#]],
    );
}

#[test]
fn words_that_are_taken() {
    says(
        "let step = 1;\nfn attempt(always) { 1 }\nfor ensure in [1] { }",
        &expect![[r#"
            error playbooks/p.rhai:2:5 `step` cannot be the name of a variable
              The word `step` begins a block of its own; choose another name.
            error playbooks/p.rhai:3:4 `attempt` cannot be the name of a function
              The word `attempt` begins a block of its own; choose another name.
            error playbooks/p.rhai:3:4 `always` cannot be the name of a parameter of a function
              The word `always` begins a block of its own; choose another name.
            error playbooks/p.rhai:4:5 `ensure` cannot be the name of a variable
              The word `ensure` begins a block of its own; choose another name.
        "#]],
    );
    really_says(
        "let params = 3;",
        &expect![[r#"
        error playbooks/p.rhai:2:5 `params` cannot be the name of a variable
          `params` holds the playbook's parameters; choose another name.
    "#]],
    );
    says(
        "let x = #{ a: 1 };\nprint(x.step);",
        &expect![[r#"
            error playbooks/p.rhai:3:13 unexpected `)`
              `step` begins a step, `step "name" { ... }`, and cannot be the name of something else.
        "#]],
    );
    says(
        "let default = 3;",
        &expect![[r#"
            error playbooks/p.rhai:2:5 `default` is a reserved word
              Choose another name: reserved words cannot name variables, functions, parameters or keys.
              In a header write `default_value`.
        "#]],
    );
}

#[test]
fn words_that_playbooks_do_not_have() {
    for (body, expected) in [
        (
            "eval(\"1\");",
            expect![[r#"
                error playbooks/p.rhai:2:1 `eval` is not available in playbooks
                  Write the code into the playbook, or import it as a module: what runs must be readable before it runs.
            "#]],
        ),
        (
            "try { 1 } catch { 2 }",
            expect![[r#"
                error playbooks/p.rhai:2:1 `try` is not available in playbooks
                  Use `attempt "name" { ... }`, a step that may fail: it returns `#{ ok, value, failure }`, and the run then completes with warnings.
            "#]],
        ),
        (
            "switch 1 { 1 => 2 }",
            expect![[r#"
                error playbooks/p.rhai:2:1 `switch` is not available in playbooks
                  Use `if` and `else if`: a `switch` on a value that is known only after the run would fall through.
            "#]],
        ),
        (
            "print(type_of(3));",
            expect![[r#"
                error playbooks/p.rhai:2:7 `type_of` is not available in playbooks
                  Compare values instead: in a dry run a value may be known only after the run.
            "#]],
        ),
        (
            "exit(1);",
            expect![[r#"
                error playbooks/p.rhai:2:1 `exit` is not available in playbooks
                  Use `fail(message)` to end a run as failed, or let the playbook reach its end.
            "#]],
        ),
        (
            "let m = match;",
            expect![[r#"
                error playbooks/p.rhai:2:9 `match` is a reserved word
                  Choose another name: reserved words cannot name variables, functions, parameters or keys.
                  Write `if ... { } else if ... { } else { }`.
            "#]],
        ),
    ] {
        really_says(body, &expected);
    }
}

#[test]
fn steps_speak_only_through_their_value() {
    says(
        "let n = 0;\nlet m = #{};\nstep \"a\" {\n  n = 1;\n  m.x += 1;\n  retry(1, || { n = 2; });\n  let own = 1; own = 2;\n}",
        &expect![[r#"
        error playbooks/p.rhai:5:3 `n` is assigned inside a step, but defined outside of it: a step that is skipped when a run is resumed would not assign it
          Let the step return the value: `let n = step "name" { ... };`.
        error playbooks/p.rhai:6:3 `m` is assigned inside a step, but defined outside of it: a step that is skipped when a run is resumed would not assign it
          Let the step return the value: `let m = step "name" { ... };`.
        error playbooks/p.rhai:7:17 `n` is assigned inside a step, but defined outside of it: a step that is skipped when a run is resumed would not assign it
          Let the step return the value: `let n = step "name" { ... };`.
    "#]],
    );
}

#[test]
fn nothing_leaves_a_step() {
    says(
        "for i in 0..3 {\n  step \"a\" {\n    if i == 1 { continue; }\n    if i == 2 { break; }\n    return 3;\n  }\n}",
        &expect![[r#"
        error playbooks/p.rhai:4:17 `continue` would leave the step
          Let the step return a value, and decide outside of it.
        error playbooks/p.rhai:5:17 `break` would leave the step
          Let the step return a value, and decide outside of it.
        error playbooks/p.rhai:6:5 `return` would leave the step
          End the step with the value itself, without `return`.
    "#]],
    );
}

#[test]
fn a_line_that_continues_a_step() {
    says(
        "step \"a\" { 1 }\n[1, 2].len();\nattempt \"b\" {\n  1\n}\n-1;\nlet c = step \"c\" { [1] }[0];",
        &expect![[r#"
            error playbooks/p.rhai:3:3 expected `]` for a matching [ in this index expression
              This line is read as the continuation of the block above it: put a `;` behind that block's `}`.
        "#]],
    );
}

#[test]
fn a_line_that_the_language_takes_for_an_operator() {
    says(
        "step \"a\" { 1 }\n[1].len();\nattempt \"b\" {\n  1\n}\n-1;\nlet c = step \"c\" { [1] }[0];",
        &expect![[r#"
        error playbooks/p.rhai:3:1 this `[` continues the step above it instead of beginning a line
          Put a `;` behind the closing `}` of the step.
        error playbooks/p.rhai:7:1 this `-` continues the step above it instead of beginning a line
          Put a `;` behind the closing `}` of the step.
    "#]],
    );
}

#[test]
fn actions_stand_inside_steps() {
    says(
        "fn inner() { rotate(\"x\", #{}); }\nfn outer() { inner(); }\nimport \"std/backup\" as b;\nimport \"std/busy\" as busy;\ndump(1).save(\"x\");\nouter();\nb::nightly(1);\nretry(3, || rotate(\"y\", #{}));\nstep \"fine\" { outer(); }",
        &expect![[r#"
            error playbooks/p.rhai:2:14 `rotate` acts outside of a step
              in inner at playbooks/p.rhai:3:14
              in outer at playbooks/p.rhai:7:1
              Call `outer` inside a step: `step "What it does" { ... }`.
            error playbooks/p.rhai:6:9 `save` acts outside of a step
              Put it into a step: `step "What it does" { ... }`.
            error playbooks/p.rhai:9:13 `rotate` acts outside of a step
              in closure at playbooks/p.rhai:9:10
              Put it into a step: `step "What it does" { ... }`.
            error std/backup:1:27 `save` acts outside of a step
              in b::nightly at playbooks/p.rhai:8:4
              Call `b::nightly` inside a step: `step "What it does" { ... }`.
            error std/busy:1:1 `step` stands at the top level of a module
              A module only defines things: put this into a function that playbooks call in a step.
            error std/busy:1:20 `save` stands at the top level of a module
              A module only defines things: put this into a function that playbooks call in a step.
        "#]],
    );
}

#[test]
fn imports_can_be_followed() {
    says(
        "for i in 0..2 { import \"std/backup\" as b; }\nlet path = \"std/backup\";\nimport path as c;",
        &expect![[r#"
        error playbooks/p.rhai:2:17 this import stands in a loop
          Move it to the top of the file: a module is imported once.
        error playbooks/p.rhai:4:8 the path of an import must be a literal string
          Write it out, for example `import "std/backup" as backup;`.
    "#]],
    );
}

#[test]
fn names_of_the_command_line() {
    let mut engine = engine();
    let text = "const PLAYBOOK = #{ summary: \"x\", params: #{ dry_run: true, json: false } };";
    let source = Source { file: "playbooks/run.rhai".into(), text: text.into() };
    let program = Program::load(&mut engine, source, &|_, _| unreachable!());
    let header = header::read(&program.units[0].ast, "playbooks/run.rhai").unwrap();
    let reserved = Reserved { flags: vec!["json".into(), "no-dry-run".into()], commands: vec!["run".into()] };
    let findings = names::collisions("run", "playbooks/run.rhai", Some(&header), &reserved);
    expect![[r#"
        error playbooks/run.rhai:1:1 the playbook `run` is named like a command of lifeboat
          Rename the file, for example to `run_backups.rhai`.
        error playbooks/run.rhai:1:46 the parameter `dry_run` would be the flag `--no-dry-run`, which every run has
          Rename the parameter, for example to `dry_run_value`.
        error playbooks/run.rhai:1:61 the parameter `json` would be the flag `--json`, which every run has
          Rename the parameter, for example to `json_value`.
    "#]].assert_eq(&findings.iter().map(shown).collect::<String>());
}

#[test]
fn syntax_errors() {
    says(
        "let x = ;",
        &expect![[r#"
            error playbooks/p.rhai:2:9 unexpected `;`
        "#]],
    );
    says(
        "/// Doc.\nlet x = 1;",
        &expect![[r#"
            error playbooks/p.rhai:2:1 a `///` comment stands before something that is not a function
              Use `//!` to describe the playbook, or `//`.
        "#]],
    );
    says(
        "let y = step;",
        &expect![[r#"
            error playbooks/p.rhai:2:13 unexpected `;`
              `step` begins a step, `step "name" { ... }`, and cannot be the name of something else.
        "#]],
    );
    says(
        "step \"a\" { 1",
        &expect![[r#"
            error playbooks/p.rhai:2:13 expected `;` to terminate this statement
              A step alone needs no `;`, but `let x = step "..." { ... };` does.
              The file ends inside a block: look for a `{` without its `}`.
        "#]],
    );
}

#[test]
fn what_is_shipped_has_no_findings() {
    let project = tempfile::tempdir().unwrap();
    let library = Library::new(project.path());
    for entry in library.list().unwrap() {
        let playbook = library.find(&entry.name).unwrap();
        let findings = super::lint(&library, &playbook, &Reserved::default());
        assert_eq!(findings.iter().map(shown).collect::<String>(), "", "{}", entry.name);
    }
}

#[test]
fn actions_that_nobody_performs() {
    really_says(
        r#"let db = postgres();
step "a" { dump(db).gzip().to("x"); 1 }
step "b" { dump(db).to("x") }
step "c" { let lost = to_verify("x"); for i in 0..2 { to_exec(["ls"]); } }
let used = dump(db).to("x");
fn made(db) { dump(db).to("x") }
let all = step "d" { [dump(db).to("y"), made(db), used] };
step "e" { parallel(all); if 1 == 1 { to_exec(["ls"]) } }
"#,
        &expect![[r#"
            error playbooks/p.rhai:3:28 the action that `to` makes is never performed
              Hand it to `parallel([...])`, or write `save`, which performs it at once.
            error playbooks/p.rhai:4:21 the action that `to` makes is never performed
              Hand it to `parallel([...])`, or write `save`, which performs it at once.
            error playbooks/p.rhai:5:23 the action that `to_verify` makes is never performed
              Hand it to `parallel([...])`, or write `verify`, which performs it at once.
            error playbooks/p.rhai:5:55 the action that `to_exec` makes is never performed
              Hand it to `parallel([...])`, or write `exec`, which performs it at once.
        "#]],
    );
}

#[test]
fn lists_of_parallel() {
    really_says(
        r#"let db = postgres();
parallel([dump(db).to("x")]);
step "a" { parallel([dump(db).gzip().save("x"), verify("x"), exec(["ls"]), dump(db).gzip(), file("x"), 1, "x"]); }
step "b" { parallel([]); parallel([dump(db).to("x"), to_exec(["ls"])], #{ jobs: 2 }); }
step "c" { let one = dump(db).to("x"); parallel([one, one.to("y")], 1, 2); parallel("x"); parallel([hash("x")]); }
"#,
        &expect![[r#"
            error playbooks/p.rhai:4:38 entry [0] of `parallel` is not an action: `save` performs it at once and returns its value
              Write `to` instead, which makes the action.
            error playbooks/p.rhai:4:49 entry [1] of `parallel` is not an action: `verify` performs it at once and returns its value
              Write `to_verify` instead, which makes the action.
            error playbooks/p.rhai:4:62 entry [2] of `parallel` is not an action: `exec` performs it at once and returns its value
              Write `to_exec` instead, which makes the action.
            error playbooks/p.rhai:4:85 entry [3] of `parallel` is not an action
              Say where it goes: `dump(db).gzip().to(path)`.
            error playbooks/p.rhai:4:93 entry [4] of `parallel` is not an action
              Say where it goes: `dump(db).gzip().to(path)`.
            error playbooks/p.rhai:4:104 entry [5] of `parallel` is not an action
              Actions are made by `dump(db).gzip().to(path)`, `to_verify(backup)` and `to_exec([...])`.
            error playbooks/p.rhai:4:107 entry [6] of `parallel` is not an action
              Actions are made by `dump(db).gzip().to(path)`, `to_verify(backup)` and `to_exec([...])`.
            error playbooks/p.rhai:5:21 the list of `parallel` is empty
            error playbooks/p.rhai:6:40 `parallel` cannot be called with 3 arguments
              It is called as `parallel(actions: array)` or `parallel(actions: array, options: map)`.
            error playbooks/p.rhai:6:85 argument 1 of `parallel` must be `array`, not `text`
              It is called as `parallel(actions: array)`.
        "#]],
    );
}
