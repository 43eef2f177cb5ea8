use super::Project;
use crate::base::event::Level;
use crate::base::event::Outcome::{Done, Unknown};
use serde_json::json;

/// Runs `use_of` of an unknown `u` and of a marked text `m` in a step of a dry run.
fn unknown(use_of: &str) -> super::Ran {
    Project::new(&format!(
        "let u = made_later();\nlet m = `/b/${{u}}.gz`;\nlet v = step \"S\" {{ {use_of}; 1 }};\nstep \"Next\" {{ }}\n`${{v}}`"
    ))
    .dry()
}

#[test]
fn every_use_of_an_unknown_ends_its_step_and_the_plan_goes_on() {
    let mut wrong = Vec::new();
    for use_of in [
        "u == 1",
        "1 == u",
        "u != ()",
        "() == u",
        "u == u",
        "u < 1",
        "1 >= u",
        "u + 1",
        "1 - u",
        "u * 2",
        "-u",
        "!u",
        "u && true",
        "true && u",
        "u || false",
        "false || u",
        "if u { }",
        "while u { }",
        "for i in u { 1; }",
        "0..u",
        "0..=u",
        "u..9",
        "u.name",
        "u.name.first",
        "u[0]",
        "[1, 2][u]",
        "#{ a: 1 }[u]",
        "u.go_there()",
        "u in [1]",
        "[1].contains(u)",
        "1 in u",
        "u += 1",
        "let x = 1; x += u",
        "make(u)",
        "make(\"a\", u)",
        "make(\"a\", #{ keep_last: u })",
        "u.x = 1",
        "u[0] = 1",
        "retry(u, 1, || 1)",
        "retry(1, u, || 1)",
        "expect(u, \"fine\")",
        "expect(1, |x| u, \"fine\")",
        "duration(u)",
        "now() - u",
        "bytes(1) > u",
        "u == bytes(1)",
        "bytes(5) == u",
        "[u, 3].order()",
        "[3, u].sort_desc()",
        "[1, u].dedup()",
        "[2, 1].sort(|a, b| u)",
        "[1].some(|x| u)",
        "[1].all(|x| u)",
        "[1].find(|x| u)",
        "[1].index_of(|x| u)",
        "[1].retain(|x| u)",
        "[1, 2].dedup(|a, b| u)",
        "#{ a: 1 }.filter(|k| u)",
        "[u] == [1]",
        "[1] != [u]",
        "#{ a: u } == #{ a: 1 }",
        "[1].index_of(u)",
        "[3, u].sort()",
        "[1].map(|x| x + u)",
        "[1].filter(|x| u)",
        "abs(u)",
        "max(1, u)",
        "throw u",
        "let f = |x| x == u; f.call(1)",
    ] {
        let ran = unknown(use_of);
        let steps = [("S".to_owned(), Unknown), ("Next".to_owned(), Done)];
        if ran.result != Ok(json!("(known after run)")) || ran.steps() != steps || !ran.incomplete {
            wrong.push((use_of, ran.result.map_err(|failure| super::told(&failure))));
        }
    }
    assert_eq!(wrong, []);
}

#[test]
fn every_use_of_a_text_with_an_unknown_in_it_ends_its_step() {
    let mut wrong = Vec::new();
    for use_of in [
        "m == \"/b/x.gz\"",
        "\"/b/x.gz\" != m",
        "m < \"z\"",
        "m > m",
        "m.contains(\"/b\")",
        "m.starts_with(\"/b\")",
        "m.ends_with(\"gz\")",
        "m.len",
        "m.len()",
        "m.split(\"/\")",
        "m.split()",
        "m.sub_string(1)",
        "m.sub_string(1, 2)",
        "m.replace(\"b\", \"c\")",
        "m.to_upper()",
        "to_lower(m)",
        "m.index_of(\"b\")",
        "m.trim()",
        "\"b\" in m",
        "m in \"b\"",
        "m in [\"b\"]",
        "[\"b\"].contains(m)",
        "parse_int(m)",
        "parse_float(m)",
        "m.chars()",
        "m.pad(90, ' ')",
        "m.crop(1)",
        "m.truncate(1)",
        "m.get(0)",
        "m.bytes",
        "m.to_chars()",
        "m - \"b\"",
        "m -= \"b\"",
        "m == 'c'",
        "#{ a: 1 }[m]",
        "#{ a: 1 }.get(m)",
        "m in #{ a: 1 }",
        "make(m)",
        "make(\"a\", #{ keep_last: m })",
        "env(m)",
        "duration(m)",
        "bytes(m)",
        "stamp(m)",
        "(m + \"x\").len()",
        "let n = m; n += \"x\"; n == \"a\"",
        "let n = \"x\" + u; n.len()",
        "let n = u + \"x\"; n.len()",
        "[m].index_of(\"a\")",
        "import m as x",
        "for c in m { 1; }",
        "m.pop()",
        "m.remove(\"b\")",
        "m.make_upper()",
    ] {
        let ran = unknown(use_of);
        if ran.result != Ok(json!("(known after run)")) || !ran.incomplete {
            wrong.push((use_of, ran.result.map_err(|failure| super::told(&failure))));
        }
    }
    assert_eq!(wrong, []);
}

#[test]
fn an_unknown_can_be_shown_and_carried() {
    let ran = unknown(
        "info(m); print(`see ${u}`); print(u); warn(u); let l = [u, m]; let c = #{ k: u }; let w = u ?? 1; \
         info(`${l.len()} ${\"a\" + u}`); info(c)",
    );
    assert_eq!(ran.value(), json!("1"));
    assert!(!ran.incomplete);
    let lines: Vec<String> = ran.lines().into_iter().map(|(_, line)| line).collect();
    assert_eq!(
        lines,
        [
            "/b/(known after run).gz",
            "see (known after run)",
            "(known after run)",
            "(known after run)",
            "2 a(known after run)",
            "#{\"k\": (known after run)}",
        ]
    );
}

#[test]
fn a_failure_that_shows_an_unknown_has_no_marks() {
    let ran = unknown("fail(`no ${m}`, `Look at ${m}.`)");
    assert_eq!(
        ran.told(),
        "failed playbooks/p.rhai:3:20 no /b/(known after run).gz\n  hint: Look at /b/(known after run).gz.\n  step S"
    );
}

#[test]
fn the_reason_and_the_place_are_told() {
    let ran = unknown("u.name");
    assert_eq!(ran.reasons(), ["S: a value that is known only after the run is used @3:22"]);
    let ran = unknown("make(m)");
    assert_eq!(ran.reasons(), ["S: `/b/(known after run).gz` is known only after the run @3:20"]);
    let ran = unknown("make(\"a\", #{ keep_last: u })");
    assert_eq!(ran.reasons(), ["S: option `keep_last` of `make` is known only after the run @3:20"]);
}

#[test]
fn outside_of_a_step_an_unknown_ends_the_plan() {
    let ran = Project::new("let u = made_later();\nif u { }\nstep \"Never\" { }").dry();
    assert_eq!(ran.value(), json!(null));
    assert!(ran.incomplete);
    assert_eq!(ran.steps(), []);
    assert_eq!(ran.reasons(), [": a value that is known only after the run is used @2:4"]);
}

#[test]
fn an_unknown_in_an_attempt_is_not_a_failure() {
    let ran =
        Project::new("let a = attempt \"A\" { made_later().x };\nstep \"B\" { if a.ok { info(\"no\") } }")
            .dry();
    assert_eq!(ran.steps(), [("A".to_owned(), Unknown), ("B".to_owned(), Unknown)]);
    assert_eq!(ran.warnings, [""; 0]);
    assert_eq!(ran.lines(), []);
}

#[test]
fn only_the_innermost_step_is_unknown() {
    let ran = Project::new("step \"A\" { step \"B\" { made_later().x } }").dry();
    assert_eq!(ran.steps(), [("A/B".to_owned(), Unknown), ("A".to_owned(), Done)]);
}

#[test]
fn an_observation_of_something_touched_is_unknown_in_a_dry_run_only() {
    let text = "step \"S\" { make(\"svc\"); info(ask(\"other\")); info(ask(\"svc\")); }";
    let dry = Project::new(text).dry();
    let live = Project::new(text).live();
    let lines = |texts: [&str; 2]| texts.map(|text| (Level::Info, text.to_owned()));
    assert_eq!(dry.lines(), lines(["42", "(known after run)"]));
    assert_eq!(live.lines(), lines(["42", "42"]));
}

#[test]
fn in_a_live_run_everything_is_known() {
    let ran = Project::new(
        "let u = made_later(); step \"S\" { [u == \"made later\", `a ${u}`.len(), \"ab\".to_upper()] }",
    )
    .live();
    assert_eq!(ran.value(), json!([true, 12, "AB"]));
    // An unknown in a live run can only be a defect of ours, and is never taken for a value.
    let ran = Project::new("attempt \"S\" { works_at(9, \"unknown\") }").live();
    assert_eq!(ran.failure().code.as_str(), "internal");
}

#[test]
fn texts_without_unknowns_behave_as_ever() {
    let ran = Project::new(
        r#"let s = " aXa "; s.trim(); let t = "b"; t += "c"; const C = "k";
[s, s.len(), s.contains("X"), s.split("X"), s.replace("a", "b"), s, "a" < "b", "x" in "xyz", t, "5".parse_int(), C.to_upper(), "a-b".split("-").len(), s[1]]"#,
    )
    .live();
    assert_eq!(
        ran.value(),
        json!(["aXa", 3, true, ["a", "a"], null, "bXb", true, true, "bc", 5, "K", 2, "X"])
    );
    let ran = Project::new("const C = \" k \"; C.trim()").live();
    assert_eq!(ran.failure().message, "`trim` cannot change a constant");
}
