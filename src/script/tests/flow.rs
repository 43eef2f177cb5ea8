use super::{Project, told};
use crate::base::event::Outcome::{Done, Failed};
use crate::base::event::What;
use crate::base::failure::Code;
use crate::script::library::Library;
use crate::script::lint::{Reserved, lint};
use serde_json::json;

/// What happened to blocks with a clean-up, in order.
fn ensures(ran: &super::Ran) -> Vec<String> {
    let told = |what: &What| match what {
        What::EnsureBegun { ensure } => Some(format!("begin {ensure}")),
        What::CleanUpBegun { ensure } => Some(format!("clean up {ensure}")),
        What::CleanUpEnded { ensure, failure } => {
            Some(format!("end {ensure}{}", failure.as_ref().map(|f| format!(": {f}")).unwrap_or_default()))
        }
        What::StepBegun { step } => Some(step.clone()),
        _ => None,
    };
    ran.events.iter().filter_map(told).collect()
}

#[test]
fn ensure_has_the_value_of_its_block_and_cleans_up_after_it() {
    let ran = Project::new(
        r#"
fn guarded(x) { ensure { step "In" { x * 2 } } always { step "Out" { make("out") } } }
let a = guarded(21);
let b = step "Outer" { ensure { 1 } always { } };
[a, b, ensure { } always { 7 }]
"#,
    )
    .live();
    assert_eq!(ran.value(), json!([42, 1, null]));
    assert_eq!(
        ensures(&ran),
        [
            "begin ensure",
            "In",
            "clean up ensure",
            "Out",
            "end ensure",
            "Outer",
            "begin Outer/ensure",
            "clean up Outer/ensure",
            "end Outer/ensure",
            "begin ensure#2",
            "clean up ensure#2",
            "end ensure#2"
        ]
    );
}

#[test]
fn the_clean_up_follows_a_failure_which_still_ends_the_run() {
    let ran = Project::new(
        "ensure {\n    step \"In\" { make(\"missing\") }\n    info(\"no\");\n} always {\n    step \"Out\" { make(\"out\") }\n}\ninfo(\"no\");",
    )
    .live();
    assert_eq!(
        ran.told(),
        "not_found playbooks/p.rhai:2:17 `missing` is missing\n  hint: Make it.\n  step In"
    );
    assert_eq!(ran.steps(), [("In".to_owned(), Failed), ("Out".to_owned(), Done)]);
    assert_eq!(ran.lines(), []);
}

#[test]
fn when_both_fail_the_first_one_counts_and_both_are_told() {
    let ran = Project::new("ensure { fail(\"first\") } always { step \"Out\" { make(\"missing\") } }").live();
    assert_eq!(ran.told(), "failed playbooks/p.rhai:1:10 first");
    assert_eq!(ran.warnings, ["the clean-up failed too: `missing` is missing"]);
    assert_eq!(ensures(&ran).last().unwrap(), "end ensure: `missing` is missing");
}

#[test]
fn a_clean_up_that_fails_alone_fails_the_run() {
    let ran = Project::new("ensure { 1 } always { step \"Out\" { make(\"missing\") } }").live();
    assert_eq!(
        ran.told(),
        "not_found playbooks/p.rhai:1:36 `missing` is missing\n  hint: Make it.\n  step Out"
    );
}

#[test]
fn the_clean_up_follows_an_interruption() {
    let ran = Project::new(
        "ensure { step \"In\" { interrupt(); loop { } } } always { step \"Out\" { for i in 0..100 { make(\"x\") } } }",
    )
    .live();
    assert_eq!(told(&ran.failure()), "interrupted playbooks/p.rhai:1:35 interrupted\n  step In");
    assert_eq!(ran.steps(), [("In".to_owned(), Failed), ("Out".to_owned(), Done)]);
}

#[test]
fn an_interruption_during_the_clean_up_ends_the_run_behind_it() {
    let ran =
        Project::new("ensure { 1 } always { step \"Out\" { interrupt(); make(\"x\") } }\nstep \"No\" { }")
            .live();
    assert_eq!(told(&ran.failure()), "interrupted playbooks/p.rhai:1:8 interrupted");
    assert_eq!(ran.steps(), [("Out".to_owned(), Done)]);
}

#[test]
fn a_second_interruption_ends_the_clean_up_too() {
    let ran = Project::new(
        "ensure { interrupt(); loop { } } always { step \"Out\" { interrupt(); make(\"x\") } }\nstep \"No\" { }",
    )
    .live();
    assert_eq!(ran.failure().code, Code::Interrupted);
    assert_eq!(ran.steps(), [("Out".to_owned(), Failed)]);
    assert_eq!(ran.warnings, ["the clean-up failed too: interrupted"]);
}

#[test]
fn the_clean_up_follows_a_loop_without_end() {
    let ran = Project::new("ensure { loop { } } always { step \"Out\" { make(\"x\") } }").live();
    assert_eq!(ran.failure().message, "the playbook took more than 50000000 operations");
    assert_eq!(ran.steps(), [("Out".to_owned(), Done)]);
}

#[test]
fn a_dry_run_plans_the_clean_up_also_behind_what_it_does_not_know() {
    let ran = Project::new(
        "ensure {\n    let x = step \"In\" { made_later() };\n    step \"If\" { if x == 1 { } }\n    if x == 1 { }\n} always {\n    step \"Out\" { make(\"out\") }\n}",
    )
    .dry();
    assert_eq!(ran.value(), json!(null));
    assert_eq!(ensures(&ran), ["begin ensure", "In", "If", "clean up ensure", "Out", "end ensure"]);
    let planned = |what: &What| match what {
        What::Planned { plan, step, .. } => Some(format!("{step}: {}", plan.summary)),
        _ => None,
    };
    assert_eq!(
        ran.events.iter().filter_map(planned).collect::<Vec<_>>(),
        ["In: make later", "Out: make out"]
    );
    assert_eq!(
        ran.reasons(),
        [
            "If: a value that is known only after the run is used @3:22",
            ": a value that is known only after the run is used @4:10"
        ]
    );
}

#[test]
fn return_goes_through_the_clean_up_and_may_not_leave_it() {
    let ran = Project::new("fn f() { ensure { return 5; } always { step \"Out\" { } } 6 }\nf()").live();
    assert_eq!(ran.value(), json!(5));
    assert_eq!(ran.steps(), [("Out".to_owned(), Done)]);
    let ran = Project::new("fn f() { ensure { 1 } always { return 5; } 6 }\nf()").live();
    assert_eq!(
        ran.told(),
        "script playbooks/p.rhai:1:32 `return` leaves a clean-up\n  hint: Let the block behind `always` run to its end.\n  \
         in f called at playbooks/p.rhai:2:1"
    );
}

fn findings(text: &str) -> Vec<String> {
    let project = Project::new(&format!("const PLAYBOOK = #{{ summary: \"p\" }};\n{text}"));
    let library = Library::of(project.dir.path(), &[], super::MODULES);
    let playbook = library.find("p").unwrap();
    lint(&library, &playbook, &Reserved::default()).iter().map(|finding| told(&finding.failure)).collect()
}

#[test]
fn lint_knows_blocks_with_a_clean_up() {
    let sound = "let n = 0;\nensure {\n    n = 1;\n    for i in 0..3 { if i == 1 { break; } }\n} always {\n    step \"Out\" { notify(\"success\", \"x\"); }\n}";
    assert_eq!(findings(sound), [""; 0]);
    assert_eq!(
        findings("fn f() { ensure { return 1; } always { return 2; } }\nf();"),
        [
            "playbook playbooks/p.rhai:2:40 `return` would leave the clean-up\n  hint: Let the block behind `always` run to its end."
        ]
    );
    assert_eq!(
        findings("ensure { notify(\"success\", \"x\"); } always { }"),
        [
            "playbook playbooks/p.rhai:2:10 `notify` acts outside of a step\n  hint: Put it into a step: `step \"What it does\" { ... }`."
        ]
    );
    assert_eq!(
        findings("ensure { }\ninfo(\"x\");"),
        ["playbook playbooks/p.rhai:3:1 expected `always` for 'ensure' expression\n  \
             hint: A block with a clean-up is written `ensure { ... } always { ... }`."]
    );
}

#[test]
fn a_question_is_answered_before_the_run_goes_on() {
    let text = "confirm(\"Go on?\");\nstep \"Go\" { make(\"it\") }";
    let mut project = Project::new(text);
    project.answer = Some(true);
    let ran = project.live();
    assert_eq!(ran.value(), json!("made it"));
    let answered = |by: &str, yes| What::Answered { question: "Go on?".into(), yes, by: by.into() };
    assert_eq!(ran.events[0], What::Asked { step: String::new(), question: "Go on?".into() });
    assert_eq!(ran.events[1], answered("a person", true));
    project.answer = Some(false);
    let ran = project.live();
    assert_eq!(ran.told(), "confirm playbooks/p.rhai:1:1 not confirmed: Go on?");
    assert_eq!(ran.events[1..], [answered("a person", false)]);
    project.answer = None;
    let ran = project.live();
    assert_eq!(
        ran.told(),
        "confirm playbooks/p.rhai:1:1 a person must confirm: Go on?\n  because nobody can be asked here\n  \
         hint: Run it on a terminal, or say yes in advance with `--yes`."
    );
    assert_eq!(ran.events[1..], [answered("nobody can be asked", false)]);
    let ran = project.dry();
    assert_eq!(ran.value(), json!("made it"));
    assert_eq!(ran.events[0], What::Asked { step: String::new(), question: "Go on?".into() });
}

#[test]
fn no_attempt_goes_on_against_a_no_and_the_clean_up_still_follows() {
    let mut project = Project::new(
        "ensure { attempt \"A\" { retry(3, 0, || confirm(`Sure, ${1 + 1}?`)) } } always { step \"Out\" { } }",
    );
    project.answer = Some(false);
    let ran = project.live();
    assert_eq!(ran.failure().message, "not confirmed: Sure, 2?");
    assert_eq!(ran.steps(), [("A".to_owned(), Failed), ("Out".to_owned(), Done)]);
}
