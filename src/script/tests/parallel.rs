//! Actions that are not performed yet, and lists of them.

use super::{Project, Ran};
use crate::base::event::Outcome::{Done, Failed, Unknown};
use crate::base::event::What;
use crate::base::failure::Code;
use serde_json::json;
use std::time::Duration;

/// What became of actions, in order.
fn acted(ran: &Ran) -> Vec<String> {
    let told = |what: &What| match what {
        What::Planned { plan, nth, .. } => Some(format!("plan {nth:?} {}", plan.summary)),
        What::Asked { question, .. } => Some(format!("ask {question}")),
        What::ActionBegun { number, summary, .. } => Some(format!("begin {number} {summary}")),
        What::ActionEnded { number, .. } => Some(format!("end {number}")),
        What::ActionFailed { number, failure, .. } => Some(format!("fail {number} {failure}")),
        What::ActionTolerated { action, step, failure } => {
            Some(format!("tolerate {action} in {step}: {failure}"))
        }
        _ => None,
    };
    ran.events.iter().filter_map(told).collect()
}

#[test]
fn actions_run_at_the_same_time_and_values_keep_their_order() {
    let ran = Project::new(
        "step \"S\" { parallel([to_make(\"meets\"), to_make(\"b\"), to_make(\"meets\")], #{ jobs: 3 }) }",
    )
    .live();
    assert_eq!(ran.value(), json!(["made meets", "made b", "made meets"]));
    let begun: Vec<String> = acted(&ran).into_iter().filter(|told| told.starts_with("begin")).collect();
    assert_eq!(begun, ["begin 1 make meets", "begin 2 make b", "begin 3 make meets"]);
}

#[test]
fn all_are_planned_and_asked_about_before_any_begins() {
    let text = "step \"S\" { parallel([to_make(\"a\"), to_make(\"asks\"), to_make(\"c\")], #{ jobs: 1 }) }";
    let mut project = Project::new(text);
    let planned = ["plan Some(1) make a", "plan Some(2) make asks", "plan Some(3) make c", "ask Make it?"];
    let ran = project.live();
    assert_eq!(ran.failure().code, Code::Confirm);
    assert_eq!(acted(&ran), planned);
    project.answer = Some(true);
    let mut all = planned.map(str::to_owned).to_vec();
    for (number, name) in [(1, "a"), (2, "asks"), (3, "c")] {
        all.extend([format!("begin {number} make {name}"), format!("end {number}")]);
    }
    assert_eq!(acted(&project.live()), all);
    let ran = project.dry();
    assert_eq!(
        (ran.value(), acted(&ran)),
        (json!(["made a", "made asks", "made c"]), planned.map(str::to_owned).to_vec())
    );
}

#[test]
fn what_is_refused_is_refused_before_any_begins() {
    let ran = Project::new(
        "step \"S\" { parallel([to_make(\"a\"), to_make(\"outside\")], #{ report_only: true }) }",
    )
    .live();
    assert_eq!(
        ran.told(),
        "policy playbooks/p.rhai:1:36 `make` may not write `/usr/outside`\n  because the policy does not allow it\n  hint: Writing is allowed below the project and below folders given as parameters: make this folder a parameter.\n  step S"
    );
    assert_eq!(acted(&ran), ["plan Some(1) make a"]);
    let both = "step \"S\" { parallel([file(\"p\").to(\"b/x\"), file(\"p\").to(\"b/../b/x\")]) }";
    let ran = Project::new(both).with("p", "x").live();
    assert_eq!(
        ran.told(),
        "usage playbooks/p.rhai:1:53 two actions that run at the same time write `b/x`\n  because `save b/x` (playbooks/p.rhai:1:32) and `save b/x` (playbooks/p.rhai:1:53)\n  hint: Give each of them a path of its own, or perform them one after the other.\n  step S"
    );
    assert!(acted(&ran).iter().all(|told| told.starts_with("plan ")));
}

#[test]
fn all_come_to_their_end_and_failures_are_joined() {
    let ran = Project::new(
        "step \"S\" {\n  parallel([\n    to_make(\"breaks\"),\n    to_make(\"missing\"),\n    to_make(\"c\"),\n  ], #{ jobs: 1 })\n}",
    )
    .live();
    assert_eq!(
        ran.told(),
        "io playbooks/p.rhai:2:3 2 of 3 actions that ran at the same time failed\n  because `make` (playbooks/p.rhai:3:5): `breaks` broke\n  because `make` (playbooks/p.rhai:4:5): `missing` is missing\n  hint: Mend it.\n  hint: Make it.\n  step S"
    );
    assert_eq!(ran.steps(), [("S".to_owned(), Failed)]);
    assert_eq!(acted(&ran).last().unwrap(), "end 2");
    // One failure stands as it is, where its action is made.
    let ran = Project::new("step \"S\" { parallel([to_make(\"a\"), to_make(\"breaks\")]) }").live();
    assert_eq!(ran.told(), "io playbooks/p.rhai:1:36 `breaks` broke\n  hint: Mend it.\n  step S");
    let ran = Project::new("step \"S\" { parallel([to_make(\"missing\"), to_make(\"breaks\")]) }").live();
    assert_eq!(ran.failure().message, "all 2 actions that ran at the same time failed");
}

#[test]
fn a_report_tells_what_became_of_each() {
    let ran = Project::new(
        "let all = step \"S\" { parallel([to_make(\"breaks\"), to_make(\"b\")], #{ report_only: true }) };\nall.map(|one| [one.ok, one.value, `${one.failure}`])",
    )
    .live();
    assert_eq!(ran.value(), json!([[false, null, "`breaks` broke"], [true, "made b", ""]]));
    assert_eq!(ran.steps(), [("S".to_owned(), Done)]);
    assert_eq!(ran.warnings, ["S: make: `breaks` broke"]);
    assert!(acted(&ran).contains(&"tolerate make in S: `breaks` broke".to_owned()));
}

#[test]
fn a_defect_of_one_action_is_its_failure_and_never_tolerated() {
    let ran = Project::new(
        "step \"S\" { parallel([to_make(\"panics\"), to_make(\"b\")], #{ report_only: true }) }",
    )
    .live();
    assert_eq!(
        ran.told(),
        "internal playbooks/p.rhai:1:22 a defect in Lifeboat ended `make`\n  because on purpose\n  hint: Please report it with the playbook and the run's record.\n  step S"
    );
    assert!(acted(&ran).contains(&"end 2".to_owned()));
}

#[test]
fn the_end_of_the_run_ends_all() {
    for options in ["", ", #{ report_only: true }", ", #{ jobs: 1 }"] {
        let text = format!("attempt \"S\" {{ parallel([to_make(\"waits\"), to_make(\"waits\")]{options}) }}");
        let mut project = Project::new(&text);
        project.interrupted = Some(Duration::from_millis(30));
        let ran = project.live();
        assert_eq!(ran.failure().code, Code::Interrupted);
        assert_eq!(ran.failure().message, "interrupted");
    }
}

#[test]
fn a_dry_run_forecasts_each_and_shows_effects_to_what_follows() {
    let ran = Project::new(
        "let all = step \"S\" { parallel([to_make(\"a\"), to_make(\"b\")]) };\nlet seen = step \"T\" { [ask(\"other\"), `${ask(\"b\")}`] };\n[all, seen]",
    )
    .dry();
    assert_eq!(ran.value(), json!([["made a", "made b"], [42, "(known after run)"]]));
    // An unknown plan ends the step, once the others are planned too.
    let ran = Project::new(
        "let u = step \"U\" { make_list() };\nfn make_list() { [to_make(\"a\"), made_later()] }\nstep \"S\" { parallel(u) }\nstep \"T\" { make(\"t\") }",
    )
    .dry();
    assert_eq!(ran.reasons(), ["S: entry [1] of `parallel` is known only after the run @3:12"]);
    assert_eq!(ran.steps().last().unwrap(), &("T".to_owned(), Done));
    let ran = Project::new(
        "step \"S\" { let a = parallel([to_make(\"later\")]); if a[0] == 1 { } }\nstep \"T\" { make(\"t\") }",
    )
    .dry();
    assert_eq!(ran.steps(), [("S".to_owned(), Unknown), ("T".to_owned(), Done)]);
}

#[test]
fn only_actions_are_performed() {
    for (list, told) in [
        (
            "[to_make(\"a\"), file(\"x\").gzip()]",
            "script playbooks/p.rhai:2:12 entry [1] of `parallel` is not an action\n  because it is a value of type `pipeline`\n  hint: Say where it goes: `dump(db).gzip().to(path)`.\n  step S",
        ),
        (
            "[make(\"a\")]",
            "script playbooks/p.rhai:2:12 entry [0] of `parallel` is not an action\n  because it is a value of type `text`\n  hint: Actions are made by `dump(db).gzip().to(path)`, `to_verify(backup)` and `to_exec([...])`; `save`, `verify` and `exec` perform theirs at once.\n  step S",
        ),
        (
            "[]",
            "usage playbooks/p.rhai:2:12 there is nothing to perform: the list of `parallel` is empty\n  hint: Where there may be nothing to do, say so: `if actions.len() > 0 { parallel(actions) }`.\n  step S",
        ),
    ] {
        let ran = Project::new(&format!("\nstep \"S\" {{ parallel({list}) }}")).live();
        assert_eq!(ran.told(), told);
    }
    for (options, told) in [
        ("jobs: 0", "option `jobs` of `parallel` must be a whole number from 1: it is 0"),
        ("jobs: \"2\"", "option `jobs` of `parallel` must be a whole number from 1: it is the text \"2\""),
        ("job: 2", "unknown option `job` of `parallel`"),
        ("report_only: 1", "option `report_only` of `parallel` must be `true` or `false`: it is integer 1"),
    ] {
        let ran =
            Project::new(&format!("step \"S\" {{ parallel([to_make(\"a\")], #{{ {options} }}) }}")).live();
        assert_eq!(ran.failure().to_string(), told);
    }
    let ran = Project::new("step \"S\" { parallel([to_exec([\"ls\"], #{ reads_only: true })]) }").live();
    assert_eq!(
        ran.told(),
        "script playbooks/p.rhai:1:22 `to_exec` takes no option `reads_only`\n  because what only reads is no action\n  hint: Ask with `exec`, which answers at once.\n  step S"
    );
}

#[test]
fn an_action_says_what_it_is_and_is_missed_when_nobody_performs_it() {
    let shown = Project::new(
        "let a = file(\"x\").gzip().to(\"b/x.gz\");\nlet text = `${a} ${to_exec([\"ls\", \"a b\"])} ${to_verify(\"b/y\")}`;\ntext",
    );
    let ran = shown.live();
    assert_eq!(
        ran.value(),
        "save b/x.gz (not performed) ls 'a b' (not performed) verify b/y (not performed)"
    );
    let forgotten = |label: &str, place: &str| {
        format!(
            "`{label}` was made and never performed (playbooks/p.rhai:{place}): hand it to `parallel([...])`, or use the word that performs it at once"
        )
    };
    assert_eq!(
        ran.warnings,
        [forgotten("save b/x.gz", "1:26"), forgotten("ls 'a b'", "2:20"), forgotten("verify b/y", "2:46")]
    );
    // At the end of its step, unless the step hands it on.
    let ran = Project::new(
        r#"
let a = step "A" { let lost = to_make("lost"); [#{ here: to_make("kept") }] };
step "B" { parallel([a[0].here]) }
attempt "C" { to_make("not reached"); fail("no", "Do.") };
step "D" { }
"#,
    )
    .live();
    assert_eq!(ran.warnings, [forgotten("make", "2:31"), "C: no".to_owned()]);
    let told = ran.lines();
    assert_eq!(told.len(), 1);
    // What was refused together with others was not forgotten.
    let ran = Project::new("attempt \"A\" { parallel([to_make(\"missing\"), to_make(\"b\")]) };").live();
    assert_eq!(ran.warnings, ["A: `missing` is missing"]);
}
