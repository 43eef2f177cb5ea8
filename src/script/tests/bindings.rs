use super::Project;
use crate::base::event::Level;
use crate::base::event::Outcome::Failed;
use serde_json::json;

/// The value of an expression.
#[track_caller]
fn value(text: &str) -> serde_json::Value {
    Project::new(text).live().value()
}

#[test]
fn lines_have_levels() {
    let ran = Project::new("info(1); success(`x ${[1]}`); warn(bytes(\"1GiB\")); error(\"e\"); print(\"p\")")
        .live();
    let lines = [
        (Level::Info, "1"),
        (Level::Success, "x [1]"),
        (Level::Warn, "1.0 GiB"),
        (Level::Error, "e"),
        (Level::Info, "p"),
    ];
    assert_eq!(ran.lines(), lines.map(|(level, text)| (level, text.to_owned())));
    assert_eq!(ran.warnings, ["1.0 GiB", "e"]);
}

#[test]
fn times_are_those_of_the_run() {
    let at = chrono::DateTime::parse_from_rfc3339("2025-11-10T02:00:00+00:00")
        .unwrap()
        .with_timezone(&chrono::Local);
    let stamp = at.format("%Y%m%d_%H%M%S").to_string();
    assert_eq!(value("run_stamp()"), stamp);
    assert_eq!(value("stamp(\"%d.%m.\")"), at.format("%d.%m.").to_string());
    assert_eq!(value("`${now()}`"), at.format("%Y-%m-%d %H:%M:%S").to_string());
    assert_eq!(
        value("(now() - duration(\"1d\")).format(\"%d\")"),
        (at - chrono::TimeDelta::days(1)).format("%d").to_string()
    );
    assert_eq!(value("`${now() - (now() - duration(\"90m\"))}`"), "1 h 30 min");
    assert_eq!(value("now() + duration(1) > now()"), true);
    let failure = Project::new("stamp(\"%Q\")").live().failure();
    assert_eq!(failure.message, "`%Q` is not a format of time");
}

#[test]
fn sizes_and_durations_print_add_and_compare() {
    assert_eq!(value("`${bytes(\"1GiB\") + bytes(\"512M\")}`"), "1.5 GiB");
    assert_eq!(
        value("`${bytes(\"1GiB\") / 2} ${bytes(10) * 3} ${bytes(10) - bytes(3)}`"),
        "512.0 MiB 30 B 7 B"
    );
    assert_eq!(
        value(
            "[bytes(5) > bytes(4), bytes(5) == bytes(5), bytes(5) != bytes(5), bytes(5) > 4, bytes(5) == ()]"
        ),
        json!([true, true, false, true, false])
    );
    assert_eq!(value("bytes(\"2k\").count"), 2048);
    assert_eq!(
        value("`${duration(\"5m\") + duration(30)} ${duration(\"1h\") / 2} ${duration(4) * 2}`"),
        "5 min 30 s 30 min 0 s 8.0 s"
    );
    assert_eq!(
        value("[duration(\"1m\") == duration(60), duration(1) < duration(2), duration(90).seconds]"),
        json!([true, true, 90.0])
    );
    assert_eq!(value("[duration(1), bytes(1)]"), json!([{"duration_ms": 1000}, {"bytes": 1}]));
    for (text, message) in [
        ("bytes(1) - bytes(2)", "the size 1 B - 2 B is out of range"),
        ("bytes(-1)", "the size -1 is out of range"),
        ("bytes(1) / 0", "the size is out of range"),
        ("bytes(\"many\")", "`many` is not a size"),
        ("duration(\"soon\")", "`soon` is not a duration"),
        ("duration(1) - duration(2)", "the duration 1.0 s - 2.0 s is out of range"),
    ] {
        assert_eq!(Project::new(text).live().failure().message, message, "{text}");
    }
}

#[test]
fn a_failure_that_retry_overcomes_is_no_warning() {
    let ran =
        Project::new("step \"S\" { retry(3, duration(\"1ms\"), || works_at(3, \"timed_out\")) }").live();
    assert_eq!(ran.value(), 3);
    assert_eq!(ran.warnings, [""; 0]);
    assert_eq!(
        ran.lines(),
        [
            (Level::Info, "Try 1 of 3 failed: call 1 failed; next in 1 ms".to_owned()),
            (Level::Info, "Try 2 of 3 failed: call 2 failed; next in 1 ms".to_owned())
        ]
    );
}

#[test]
fn after_the_last_try_the_failure_counts() {
    let ran = Project::new("step \"S\" {\n  retry(2, \"1ms\", || works_at(9, \"timed_out\"))\n}").live();
    assert_eq!(
        ran.told(),
        "timed_out playbooks/p.rhai:2:22 call 2 failed\n  because tried 2 times\n  in closure called at \
         playbooks/p.rhai:2:3\n  step S"
    );
    assert_eq!(ran.steps(), [("S".to_owned(), Failed)]);
}

#[test]
fn retry_swallows_neither_typos_nor_the_end_of_the_run() {
    for closure in
        ["|| works_at(2, \"policy\")", "|| works_at(2, \"interrupted\")", "|| nope()", "|| make(1)"]
    {
        let ran = Project::new(&format!("retry(3, 0, {closure})")).live();
        assert!(ran.result.is_err(), "{closure}");
        assert_eq!(ran.lines(), [], "{closure}");
    }
    let ran = Project::new("retry(0, 1, || 1)").live();
    assert_eq!(ran.failure().message, "`retry` cannot try 0 times");
}

#[test]
fn retry_passes_an_unknown_on() {
    let ran = Project::new("step \"S\" { retry(3, 60, || made_later().x) }").dry();
    assert!(ran.incomplete);
    assert_eq!(ran.lines(), []);
}

#[test]
fn expect_holds_or_fails() {
    assert_eq!(value("expect(1 < 2, \"order\"); expect(5, |n| n > 4, \"many\")"), 5);
    let failure = Project::new("expect(false, \"the table has rows\")").live().told();
    assert_eq!(failure, "expectation playbooks/p.rhai:1:1 expected: the table has rows");
    let failure = Project::new("expect(bytes(5), |n| n > bytes(6), \"a large backup\")").live().told();
    assert_eq!(failure, "expectation playbooks/p.rhai:1:1 expected: a large backup\n  because found `5 B`");
    let failure = Project::new("expect(5, |n| n + 1, \"many\")").live().failure();
    assert_eq!(failure.message, "the closure of `expect` must say `true` or `false`");
}

#[test]
fn only_granted_variables_are_read() {
    let project =
        |text| Project::new(text).env("GRANTED", "yes").env("OTHER", "no").env("MY_TOKEN", "s3cr3t-value");
    assert_eq!(project("[env(\"GRANTED\"), env(\"MY_TOKEN\") == ()]").live().value(), json!(["yes", false]));
    assert_eq!(Project::new("env(\"GRANTED\") ?? \"default\"").live().value(), "default");
    let failure = project("attempt \"S\" { env(\"OTHER\") }").live().failure();
    assert_eq!(
        (failure.code.as_str(), failure.message.as_str()),
        ("policy", "`env` may not read the environment variable `OTHER`")
    );
    let ran = project("info(env(\"MY_TOKEN\")); fail(env(\"MY_TOKEN\"))").live();
    assert_eq!(ran.lines(), [(Level::Info, "***".to_owned())]);
    assert_eq!(ran.failure().message, "***");
}

#[test]
fn params_are_seen_everywhere_and_may_be_absent() {
    let project = Project::new("fn f() { params.n }\nlet g = || params.list;\n[f(), g.call(), params.none == (), params.name, params.on]")
        .param("n", 5)
        .param("list", json!(["a", "b"]))
        .param("none", json!(null))
        .param("name", "x")
        .param("on", true);
    assert_eq!(project.live().value(), json!([5, ["a", "b"], true, "x", true]));
}
