use super::Project;
use crate::base::event::Outcome::{Done, Failed, Tolerated};
use serde_json::json;

#[test]
fn a_step_has_the_value_of_its_block_and_needs_no_semicolon() {
    let ran = Project::new(
        r#"
step "One" { make("a") }
step `Two ${1 + 1}` { }
let three = step "Three" {
    step "Inner" { 3 }
};
for i in 0..2 { step "Again" { i } }
[three, step "Last" { () }]
"#,
    )
    .live();
    assert_eq!(ran.value(), json!([3, null]));
    let steps = ["One", "Two 2", "Three/Inner", "Three", "Again", "Again#2", "Last"];
    assert_eq!(ran.steps(), steps.map(|step| (step.to_owned(), Done)));
}

#[test]
fn a_failure_ends_its_step_and_the_run() {
    let ran = Project::new(
        "step \"Outer\" {\n    step \"Inner\" {\n        make(\"missing\");\n    }\n}\ninfo(\"no\");",
    )
    .live();
    assert_eq!(
        ran.told(),
        "not_found playbooks/p.rhai:3:9 `missing` is missing\n  hint: Make it.\n  step Outer/Inner"
    );
    assert_eq!(ran.steps(), [("Outer/Inner".to_owned(), Failed), ("Outer".to_owned(), Failed)]);
    assert_eq!(ran.lines(), []);
}

#[test]
fn attempt_tolerates_a_failure_and_tells_it() {
    let ran = Project::new(
        r#"
let a = attempt "A" { make("missing") };
let b = attempt "B" { make("b") };
[a.ok, a.value, a.failure.code, a.failure.message, a.failure.hints, a.failure.place, `${a.failure}`, b]
"#,
    )
    .live();
    assert_eq!(
        ran.value(),
        json!([
            false, null, "not_found", "`missing` is missing", ["Make it."], "playbooks/p.rhai:2:23",
            "`missing` is missing", {"ok": true, "value": "made b", "failure": null}
        ])
    );
    assert_eq!(ran.steps(), [("A".to_owned(), Tolerated), ("B".to_owned(), Done)]);
    assert_eq!(ran.warnings, ["A: `missing` is missing"]);
}

#[test]
fn attempt_lets_a_tolerated_failure_be_raised_again() {
    let ran =
        Project::new("let a = attempt \"A\" { fail(\"broken\", \"Mend it.\") };\nthrow a.failure;").live();
    assert_eq!(ran.told(), "failed playbooks/p.rhai:1:23 broken\n  hint: Mend it.\n  step A");
}

#[test]
fn attempt_hides_no_typo() {
    for (block, message) in [
        ("mkae(\"a\")", "unknown function `mkae`"),
        ("make(1)", "`make` does not take `(int)`"),
        ("make(\"a\", #{ keep_lats: 1 })", "unknown option `keep_lats` of `make`"),
        ("#{ a: 1 }.b", "no property `b`"),
        ("let n = 1; if n { }", "expected a value of type `bool`, found `int`"),
        ("fn_that() ", "unknown function `fn_that`"),
    ] {
        let ran = Project::new(&format!("attempt \"A\" {{ {block} }}")).live();
        assert_eq!(ran.failure().message, message, "{block}");
        assert_eq!(ran.steps(), [("A".to_owned(), Failed)], "{block}");
    }
}

#[test]
fn attempt_lets_the_end_of_the_run_through() {
    for code in ["policy", "journal", "interrupted", "terminated", "internal"] {
        let ran = Project::new(&format!("attempt \"A\" {{ works_at(9, \"{code}\") }}")).live();
        assert_eq!(ran.failure().code.as_str(), code);
    }
    // Errors of the engine that good playbooks can meet are tolerated.
    for block in ["[1][5]", "1 / 0", "throw \"oops\"", "9223372036854775807 + 1", "parse_int(\"x\")"] {
        let ran = Project::new(&format!("(attempt \"A\" {{ {block} }}).ok")).live();
        assert_eq!(ran.value(), json!(false), "{block}");
    }
}

#[test]
fn a_step_that_changes_an_outer_variable_is_refused() {
    for change in ["list.push(1);", "list = [2];", "map.a = 1;", "let f = || list.push(3); f.call();"] {
        for word in ["step", "attempt"] {
            let ran =
                Project::new(&format!("let list = [0]; let map = #{{ a: 0 }};\n{word} \"S\" {{ {change} }}"))
                    .live();
            let name = if change.starts_with("map") { "map" } else { "list" };
            assert_eq!(
                ran.told(),
                format!(
                    "script playbooks/p.rhai:2:{} a step changes the outer variable `{name}`\n  because a step speaks \
                     only through its value\n  hint: Let the block end with the new value: `{name} = step \"...\" {{ \
                     ... }};`.\n  step S",
                    word.len() + 2
                )
            );
        }
    }
    let fine = Project::new("let list = [0];\nstep \"S\" { let list = list; list.push(1); list }").live();
    assert_eq!(fine.value(), json!([0, 1]));
}

#[test]
fn a_change_before_a_tolerated_failure_is_refused_too() {
    let ran = Project::new("let list = [0];\nattempt \"S\" { list.push(1); fail(\"x\") }").live();
    assert_eq!(ran.failure().message, "a step changes the outer variable `list`");
}

#[test]
fn a_step_value_without_codec_is_refused() {
    for (value, name) in
        [("|| 1", "closure"), ("[#{ f: |x| x }]", "closure"), ("opaque()", "timestamp"), ("0..3", "range")]
    {
        let ran = Project::new(&format!("step \"S\" {{ {value} }}")).live();
        assert_eq!(
            ran.told(),
            format!(
                "script playbooks/p.rhai:1:6 a step cannot have a value of type `{name}`\n  because the journal cannot \
                 hold it\n  hint: End the block with `()`, so that the step has no value, or with a value of another \
                 type.\n  step S"
            )
        );
    }
    assert_eq!(Project::new("step \"S\" { || 1; () }").live().value(), json!(null));
}

#[test]
fn nothing_may_leave_a_step_but_its_value() {
    for (text, word, column) in [
        ("for i in 0..2 { step \"S\" { break; } }", "break", 28),
        ("for i in 0..2 { step \"S\" { continue; } }", "continue", 28),
        ("fn f() { step \"S\" { return 1; } } f()", "return", 21),
        ("step \"S\" { return; }", "return", 12),
    ] {
        let ran = Project::new(text).live();
        let failure = ran.failure();
        assert_eq!(failure.message, format!("`{word}` leaves a step"));
        assert_eq!(failure.at.unwrap().column, column, "{text}");
    }
    assert_eq!(
        Project::new("step \"S\" { for i in 0..9 { if i == 3 { break i; } } }").live().value(),
        json!(3)
    );
}

#[test]
fn the_name_of_a_step_is_a_known_text() {
    let ran = Project::new("step 5 { }").live();
    assert_eq!(
        ran.told(),
        "script playbooks/p.rhai:1:6 the name of a step must be a text\n  because it is a value of type `int`"
    );
    let ran = Project::new("let x = made_later();\nstep `Look at ${x}` { }").dry();
    assert_eq!(ran.reasons(), [": `Look at (known after run)` is known only after the run @2:6"]);
}

#[test]
fn steps_work_in_functions_and_closures() {
    let ran = Project::new(
        "fn twice(name) { step `${name}!` { name } }\nlet f = |x| step \"In closure\" { x + 1 };\n[twice(\"A\"), f.call(1)]",
    )
    .live();
    assert_eq!(ran.value(), json!(["A", 2]));
}
