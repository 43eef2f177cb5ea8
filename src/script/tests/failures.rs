use super::Project;
use crate::base::event::Outcome::Failed;
use crate::base::failure::Code;
use std::time::Duration;

/// A playbook and what its failure tells.
#[track_caller]
fn fails(playbook: &str, told: &str) {
    assert_eq!(Project::new(playbook).param("retention", 30).live().told(), told, "{playbook}");
}

#[test]
fn the_call_chain_is_told_innermost_first() {
    let project = Project::new("import \"lib/checks\" as checks;\n\nfn outer(x) {\n    checks::inner(x)\n}\nstep \"S\" {\n    outer(\"missing\");\n}\n")
        .with("playbooks/lib/checks.rhai", "fn inner(name) {\n    let x = `${deeper(name)}`;\n}\nfn deeper(name) {\n      make(name)\n}\n");
    assert_eq!(
        project.live().told(),
        "not_found playbooks/lib/checks.rhai:5:7 `missing` is missing\n  hint: Make it.\n  in \
         playbooks/lib/checks::deeper called at playbooks/lib/checks.rhai:2:16\n  in playbooks/lib/checks::inner called \
         at playbooks/p.rhai:4:13\n  in outer called at playbooks/p.rhai:7:5\n  step S"
    );
}

#[test]
fn unknown_names_get_a_proposal() {
    fails(
        "step \"S\" { mkae(\"a\") }",
        "script playbooks/p.rhai:1:12 unknown function `mkae`\n  hint: Did you mean `make`?\n  step S",
    );
    fails(
        "fn verify_it(x) { x }\nverify_ti(1)",
        "script playbooks/p.rhai:2:1 unknown function `verify_ti`\n  hint: Did you mean `verify_it`?",
    );
    fails(
        "frobnicate()",
        "script playbooks/p.rhai:1:1 unknown function `frobnicate`\n  hint: `lifeboat doc` lists all functions.",
    );
    fails(
        "let x = 1;\nmake(x, 2)",
        "script playbooks/p.rhai:2:1 `make` does not take `(int, int)`\n  hint: It is called as `make(name: text)` or \
         `make(name: text, options: map)`.",
    );
    fails(
        "make()",
        "script playbooks/p.rhai:1:1 `make` does not take no arguments\n  hint: It is called as `make(name: text)` or `make(name: text, options: map)`.",
    );
    fails(
        "fn f(a) { a }\nf(1, 2)",
        "script playbooks/p.rhai:2:1 `f` does not take `(int, int)`\n  hint: `lifeboat doc f` shows how it is called.",
    );
    fails(
        "params.retension",
        "script playbooks/p.rhai:1:8 no parameter `retension`\n  hint: Did you mean `retention`?",
    );
    fails(
        "let m = #{ a: 1 };\nm.b",
        "script playbooks/p.rhai:2:3 no property `b`\n  hint: Where it may be absent, write `\"b\" in map` or \
         `map.get(\"b\") ?? default`.",
    );
    fails(
        "duration(5).second",
        "script playbooks/p.rhai:1:13 no property `second` on a value of type `duration`\n  hint: Did you mean `seconds`?",
    );
    fails(
        "duration(5).x",
        "script playbooks/p.rhai:1:13 no property `x` on a value of type `duration`\n  hint: It has `seconds`.",
    );
    fails(
        "let backup = 1;\nbakcup",
        "playbook playbooks/p.rhai:2:1 unknown variable `bakcup`\n  hint: Did you mean `backup`?",
    );
    fails(
        "let db = 1;\nfn f() {\n  db\n}\nf()",
        "playbook playbooks/p.rhai:3:3 unknown variable `db`\n  because a function sees only its arguments and \
         `params`\n  hint: Pass `db` to the function as an argument.",
    );
    fails(
        "backup::run()",
        "playbook playbooks/p.rhai:1:1 unknown module `backup`\n  hint: Import it first: `import \"std/backup\" as backup;`.",
    );
}

#[test]
fn options_are_checked() {
    let at = "script playbooks/p.rhai:1:12";
    for (options, told) in [
        ("keep_lats: 1", "unknown option `keep_lats` of `make`\n  hint: Did you mean `keep_last`?"),
        (
            "frob: 1",
            "unknown option `frob` of `make`\n  hint: `make` knows the options `keep_last`, `later`, `wait`, `limit`.",
        ),
        (
            "keep_last: \"x\"",
            "option `keep_last` of `make` must be a whole number from 0\n  because it is the text \"x\"",
        ),
        (
            "keep_last: -1",
            "option `keep_last` of `make` must be a whole number from 0\n  because it is integer -1",
        ),
        ("later: 1", "option `later` of `make` must be `true` or `false`\n  because it is integer 1"),
        (
            "wait: \"soon\"",
            "option `wait` of `make` must be a duration such as `\"5m\"`\n  because it is the text \"soon\"",
        ),
        ("limit: true", "option `limit` of `make` must be a size such as `\"10GiB\"`\n  because it is true"),
        (
            "keep_last: || 1",
            "option `keep_last` of `make` cannot be used\n  because it is a value of type `closure`",
        ),
    ] {
        fails(&format!("step \"S\" {{ make(\"a\", #{{ {options} }}) }}"), &format!("{at} {told}\n  step S"));
    }
    let fine = "make(\"a\", #{ keep_last: 1, wait: duration(\"5m\"), limit: bytes(\"1GiB\") });\nmake(\"a\", #{ wait: \"5m\", limit: 5 })";
    assert_eq!(Project::new(fine).live().value(), "made a");
}

#[test]
fn errors_of_the_language_are_in_our_words() {
    for (text, told) in [
        ("[1][5]", "1:5 index 5 is outside of an array of 1"),
        ("1 / 0", "1:3 division by zero: 1 / 0"),
        ("let n = 1; if n { }", "1:15 expected a value of type `bool`, found `int`"),
        ("let n = 5; for i in n { }", "1:21 `for` needs an array, a map, a text or a range"),
        ("1 + #{ }", "1:3 `+` cannot be applied to values of the types `int, map`"),
        ("!\"x\"", "1:1 `!` cannot be applied to a value of type `text`"),
        ("bytes(1) < \"x\"", "1:10 `<` cannot be applied to values of the types `size, text`"),
        ("bytes(1) == duration(1)", "1:10 `==` cannot be applied to values of the types `size, duration`"),
        ("5[0][1]", "1:5 a value of type `bool` cannot be indexed with `int`"),
        ("const X = 1; X = 2", "1:14 cannot assign to constant X"),
        (
            "params.retention = 2",
            "1:1 `params` is a constant\n  hint: Parameters are given when the run begins; keep a changed value in a variable of your own.",
        ),
        (
            "fn f(n) { f(n + 1) }\nf(0)",
            "2:1 calls are nested more than 64 deep\n  hint: Does a function call itself without end?",
        ),
        ("let a = []; for i in 0..50000 { a.push(i); }", "1:35 an array has more than 20000 entries"),
        ("let s = \"x\"; while true { s += s; }", "1:29 a text is longer than 16777216 bytes"),
        ("throw \"oops\"", "1:1 oops"),
    ] {
        let failure = Project::new(text).param("retention", 30).live().failure();
        let mut found = super::told(&failure).split_once("p.rhai:").unwrap().1.to_owned();
        found = found.lines().filter(|line| !line.starts_with("  in ")).collect::<Vec<_>>().join("\n");
        assert_eq!(found, told, "{text}");
    }
}

#[test]
fn syntax_errors_name_the_remedy() {
    for (text, told) in [
        ("switch 1 { }", "1:1 `switch` is not available in playbooks"),
        ("\"x\".type_of()", "1:5 `type_of` is not available in playbooks"),
        ("try { } catch { }", "1:1 `try` is not available in playbooks"),
        ("eval(\"1\")", "1:1 `eval` is not available in playbooks"),
        ("exit(1)", "1:1 `exit` is not available in playbooks"),
        ("sleep(1)", "1:1 `sleep` is not available in playbooks"),
        ("let x = step \"a\" { 1 }\nx", "2:1 expected `;` to terminate this statement"),
        ("fn go() { }", "1:4 `go` is a reserved word"),
        ("let params = 1;", "1:5 `params` cannot be the name of a variable"),
        ("step \"a\" {", "1:11 expected `}` to terminate this block"),
        ("let x = \"abc", "1:9 open string is not terminated"),
        ("/// doc\nlet x = 1;", "1:1 a `///` comment stands before something that is not a function"),
    ] {
        let failure = Project::new(text).live().failure();
        assert_eq!(failure.code, Code::Playbook, "{text}");
        let at = failure.at.clone().unwrap();
        assert_eq!(format!("{}:{} {}", at.line, at.column, failure.message), told, "{text}");
        assert!(text.contains("step \"a\" {") || text.contains("abc") || !failure.hints.is_empty(), "{text}");
    }
}

#[test]
fn columns_are_right_in_interpolated_texts_and_after_other_alphabets() {
    fails(
        "let s = `é ${\n  nope()}`;",
        "script playbooks/p.rhai:2:3 unknown function `nope`\n  hint: `lifeboat doc` lists all functions.",
    );
    fails(
        "let s = \"äöü\"; frobnicate()",
        "script playbooks/p.rhai:1:16 unknown function `frobnicate`\n  hint: `lifeboat doc` lists all functions.",
    );
}

#[test]
fn a_playbook_fails_with_its_own_words() {
    fails(
        "fn check() {\n  fail(\"disk is gone\", \"Mount it.\")\n}\nstep \"S\" { check(); }",
        "failed playbooks/p.rhai:2:3 disk is gone\n  hint: Mount it.\n  in check called at playbooks/p.rhai:4:12\n  step S",
    );
}

#[test]
fn an_endless_loop_ends() {
    let failure = Project::new("step \"S\" { while true { } }").live().failure();
    assert_eq!(failure.message, "the playbook took more than 50000000 operations");
    assert_eq!(failure.step.as_deref(), Some("S"));
}

#[test]
fn a_cancelled_run_is_interrupted_and_nothing_swallows_it() {
    for block in ["retry(5, \"1h\", || fail(\"x\"))", "while true { }", "retry(9, 0, || { while true { } })"]
    {
        let mut project = Project::new(&format!("attempt \"S\" {{ {block} }}\ninfo(\"no\");"));
        project.interrupted = Some(Duration::from_millis(50));
        let ran = project.live();
        assert_eq!((ran.failure().code, ran.failure().message.as_str()), (Code::Interrupted, "interrupted"));
        assert_eq!(ran.failure().step.as_deref(), Some("S"), "{block}");
        assert_eq!(ran.steps(), [("S".to_owned(), Failed)], "{block}");
        assert!(!ran.lines().iter().any(|(_, line)| line == "no"), "{block}");
    }
}

#[test]
fn a_defect_of_ours_is_a_failure() {
    let failure = Project::new("step \"S\" { panics() }").live().failure();
    assert_eq!((failure.code, failure.causes), (Code::Internal, vec!["on purpose".to_owned()]));
}
