//! `lifeboat resume`: a run that ended early goes on in its own record, and repeats only what does not stand.

use crate::aftermath::{runs, wait_for};
use crate::project::{Ran, TestProject};
use crate::receiver::Receiver;
use expect_test::expect;
use lifeboat::base::event::What;
use lifeboat::base::failure::Exit;
use lifeboat::journal::reader::{self, RunState};

/// Saves, logs what ran, and fails as long as there is no `go`.
const WORK: &str = r#"
let made = step "Save" {
    exec(["touch", "prepared"], #{ done_if: "prepared" });
    let saved = file("data").gzip().hash().save(`kept/data_${run_stamp()}.gz`);
    #{ saved: saved, at: now(), size: bytes("1 KiB"), list: [1, 2.5, 'c'], took: duration("2s") }
};
step "Announce" { notify("success", `${made.saved.name} ${made.list} ${made.size} ${made.took} ${made.saved.size}`); }
step "Go" {
    exec(["sh", "-c", "echo ran >> log"]);
    exec(["test", "-e", "go"]);
}
#{ name: made.saved.name, stamp: run_stamp(), at: `${made.at}` }
"#;

fn project() -> TestProject {
    TestProject::new().file("data", "some data\n").playbook("work", WORK)
}

fn events(project: &TestProject) -> Vec<What> {
    let run = runs(project).remove(0).run;
    let recording = reader::events(&project.at(".lifeboat"), &run).unwrap();
    assert_eq!(recording.notes, [""; 0]);
    recording.events.into_iter().map(|event| event.what).collect()
}

/// What was kept and what was done since the run was resumed.
fn since_resumed(project: &TestProject) -> Vec<String> {
    let events = events(project);
    let from = events.iter().rposition(|what| matches!(what, What::RunResumed { .. })).unwrap();
    let told = |what: &What| match what {
        What::StepKept { step } => Some(format!("kept {step}")),
        What::ActionKept { action, .. } => Some(format!("kept {action}")),
        What::ActionBegun { action, .. } => Some(format!("did {action}")),
        _ => None,
    };
    events[from..].iter().filter_map(told).collect()
}

fn value(project: &TestProject) -> serde_json::Value {
    let value = events(project).into_iter().rev().find_map(|what| match what {
        What::RunEnded { value, .. } => value,
        _ => None,
    });
    value.unwrap()
}

#[test]
fn a_failed_run_goes_on_where_it_failed() {
    let receiver = Receiver::new();
    let project = project().env("BACKUP_WEBHOOK_URL", receiver.url());
    project.run(&["work"]).exits(1);
    let before = runs(&project).remove(0);
    let saved = project.only("kept", ".gz");
    std::fs::write(project.at("go"), "").unwrap();
    let ran = project.run(&["resume"]).exits(0).says("✔ Save (kept)\n");
    assert!(ran.stderr.contains(&format!("work run {} resumed", before.run)), "{}", ran.stderr);
    assert_eq!(since_resumed(&project), ["kept Save", "did notify", "did exec", "did exec"]);
    assert_eq!(project.only("kept", ".gz"), saved);
    let value = value(&project);
    assert_eq!(value["name"], saved.as_str());
    assert_eq!(saved, format!("data_{}.gz", value["stamp"].as_str().unwrap()));
    assert_eq!(std::fs::read_to_string(project.at("log")).unwrap(), "ran\nran\n");
    let after = runs(&project);
    assert_eq!(after.len(), 1);
    assert_eq!((&after[0].run, after[0].state), (&before.run, RunState::Ended(Exit::Success)));
    assert_eq!((after[0].began, after[0].resumed), (before.began, 1));
    assert_eq!(after[0].bytes, std::fs::metadata(project.at("kept").join(&saved)).unwrap().len());
    assert!(project.run(&["history"]).stdout.contains("success (resumed)"));
    let shown = project.run(&["show"]).exits(0).stdout;
    assert!(shown.contains(" resumed\n") && shown.contains("✔ Save (kept)\n"), "{shown}");
    let alerts: Vec<_> = receiver.bodies().into_iter().map(|body| body["status"].clone()).collect();
    assert_eq!(alerts, ["error", "success"]);
    let message = receiver.bodies().pop().unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with(&format!("{saved} [1, 2.5, c] 1.0 KiB 2.0 s ")), "{message}");
}

#[test]
fn what_does_not_stand_any_more_is_done_again() {
    let project = project();
    project.run(&["work"]).exits(1);
    let saved = project.only("kept", ".gz");
    std::fs::remove_dir_all(project.at("kept")).unwrap();
    std::fs::write(project.at("go"), "").unwrap();
    project.run(&["resume", "latest"]).exits(0);
    assert_eq!(since_resumed(&project), ["kept exec", "did save", "did notify", "did exec", "did exec"]);
    assert_eq!(project.only("kept", ".gz"), saved, "its name is that of the run");
}

#[test]
fn a_run_may_be_killed_and_resumed_again_and_again() {
    let project = project().env("LIFEBOAT_FAULT", "kill-after:2");
    assert_eq!(project.run(&["work"]).code, 1009);
    // What was carried out has no end on record.
    let project = project.env("LIFEBOAT_FAULT", "kill-before:1");
    assert_eq!(project.run(&["resume"]).code, 1009);
    assert_eq!(since_resumed(&project), ["kept exec", "kept save", "did notify"]);
    assert_eq!(runs(&project)[0].state, RunState::Killed);
    let project = project.env("LIFEBOAT_FAULT", "");
    project.run(&["resume"]).exits(1);
    assert_eq!(since_resumed(&project), ["kept Save", "did notify", "did exec", "did exec"]);
    std::fs::write(project.at("go"), "").unwrap();
    project.run(&["resume"]).exits(0);
    assert_eq!(since_resumed(&project), ["kept Save", "did notify", "did exec", "did exec"]);
    assert_eq!(runs(&project)[0].resumed, 3);
    let numbers: Vec<u64> = events(&project)
        .iter()
        .filter_map(|what| match what {
            What::ActionBegun { number, .. } => Some(*number),
            _ => None,
        })
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn what_cannot_be_resumed_says_so() {
    let project = project().file("go", "");
    let told = |ran: &Ran| project.told(ran);
    expect![[r#"
        exit 2
        error: there is no run `latest`
        caused by: no run is on record yet
        hint: Run a playbook first; `lifeboat playbooks` lists them.
    "#]]
    .assert_eq(&told(&project.run(&["resume"])));
    project.run(&["work"]).exits(0);
    let run = runs(&project).remove(0).run.to_string();
    let told = |ran: &Ran| project.told(ran).replace(&run, "RUN");
    expect![[r#"
        exit 2
        error: there is no run to resume: none failed, was interrupted or killed
        hint: Run the playbook once more instead; `lifeboat history` lists the runs.
    "#]]
    .assert_eq(&told(&project.run(&["resume"])));
    std::fs::remove_file(project.at("go")).unwrap();
    project.run(&["work"]).exits(1);
    let newest = runs(&project).remove(0);
    let (failed, began) = (newest.run, newest.began.unwrap().format("%Y-%m-%d %H:%M").to_string());
    expect![[r#"
        exit 2
        error: the run `RUN` cannot be resumed: it completed
        hint: Run its playbook once more instead.
        hint: What can be resumed: `lifeboat resume LETTERS` (work of TIME).
    "#]]
    .assert_eq(
        &told(&project.run(&["resume", &run])).replace(failed.letters(), "LETTERS").replace(&began, "TIME"),
    );
    expect![[r#"
        exit 2
        error: `resume` has no dry run
        hint: `lifeboat show RUN` shows what the run has done so far.
    "#]]
    .assert_eq(&told(&project.run(&["resume", "--dry-run"])));
}

#[test]
fn a_yes_in_advance_counts_for_its_attempt_only() {
    let text = "step \"Ask\" { confirm(\"Go on?\"); exec([\"test\", \"-e\", \"go\"]); }";
    let project = TestProject::new().playbook("work", text);
    project.run(&["work", "--yes"]).exits(1);
    let run = runs(&project).remove(0).run;
    let ran = project.run(&["resume"]);
    expect![[r#"
        exit 6
        error: a person must confirm: Go on?
          ——▶ playbooks/work.rhai:2:14
          │
        N │ step "Ask" { confirm("Go on?"); exec(["test", "-e", "go"]); }
          │              ^
        caused by: nobody can be asked here
        hint: Run it on a terminal, or say yes once more, for an earlier `--yes` does not count: `lifeboat resume RUN --yes`.
        ✘ work stopped in step `Ask` after TIME (exit 6)
    "#]].assert_eq(&project.told(&ran).replace(run.as_str(), "RUN"));
    std::fs::write(project.at("go"), "").unwrap();
    project.run(&["resume", run.as_str(), "--yes"]).exits(0);
}

#[test]
fn a_run_that_goes_on_is_not_resumed() {
    let project = TestProject::new()
        .playbook("sleeps", "step \"Sleep\" { exec([\"touch\", \"made\"]); exec([\"sleep\", \"600\"]); }");
    let mut process = project.start(&["sleeps"]);
    wait_for("the work", || project.at("made").exists());
    let run = runs(&project).remove(0).run;
    let ran = project.run(&["resume"]);
    process.kill().unwrap();
    process.wait().unwrap();
    let told = project.told(&ran).replace(run.as_str(), "RUN").replace(run.letters(), "LETTERS");
    expect![[r#"
        exit 2
        error: there is no run to resume: none failed, was interrupted or killed
        caused by: the newest, `RUN` of `sleeps`, is still going on
        hint: `lifeboat logs -f LETTERS` follows it.
    "#]]
    .assert_eq(&told);
}

#[test]
fn changed_code_is_refused_unless_it_is_accepted() {
    let project = TestProject::new()
        .file("playbooks/parts.rhai", "fn f() { exec([\"test\", \"-e\", \"go\"]); }")
        .playbook("work", "import \"parts\" as parts;\nstep \"A\" { exec([\"touch\", \"a\"], #{ done_if: \"a\" }); 1 }\nstep \"Go\" { parts::f(); }");
    project.run(&["work"]).exits(1);
    let project = project.file("playbooks/parts.rhai", "fn f() { exec([\"touch\", \"new\"]); }");
    let ran = project.run(&["resume"]);
    let run = runs(&project).remove(0).run;
    let told = project.told(&ran).replace(run.as_str(), "RUN").replace(run.letters(), "LETTERS");
    expect![[r#"
        exit 2
        error: the code of the run `RUN` has changed since
        caused by: playbooks/parts.rhai
        hint: Undo the changes, or accept them: `lifeboat resume LETTERS --accept-changed` runs the code as it is now.
    "#]]
    .assert_eq(&told);
    assert_eq!(runs(&project)[0].state, RunState::Ended(Exit::Failed), "it is untouched");
    project.run(&["resume", "--accept-changed"]).exits(0).says("  with changed code: playbooks/parts.rhai\n");
    assert!(project.at("new").exists());
    assert_eq!(since_resumed(&project), ["kept A", "did exec"]);
    let text = reader::source(&project.at(".lifeboat"), &run, "playbooks/parts.rhai").unwrap();
    assert!(text.contains("new"), "the record holds the code that ran: {text}");
}

#[test]
fn parameters_are_those_of_the_run_and_secrets_are_looked_up_again() {
    let text = r#"
const PLAYBOOK = #{ summary: "A test", params: #{
    word: #{ required: true, help: "x" }, limit: #{ type: "size", default_value: "1 MiB", help: "x" },
    list: #{ list: true, help: "x" }, n: 3, flag: false,
    token: #{ secret: true, required: true, env: "THE_TOKEN", help: "x" },
} };
step "Go" {
    exec(["sh", "-c", "printf %s \"$TOKEN\" | wc -c >> lengths"], #{ env: #{ TOKEN: params.token } });
    exec(["test", "-e", "go"]);
}
`${params.word} ${params.limit} ${params.list} ${params.n} ${params.flag}`
"#;
    let project = TestProject::new().playbook("work", text).env("THE_TOKEN", "seven77");
    let args = [
        "work", "--word", "hello", "--limit", "2 MiB", "--list", "a", "--list", "b,c", "--n", "-4", "--flag",
    ];
    project.run(&args).exits(1);
    let run = runs(&project).remove(0).run;
    let project = project.env("THE_TOKEN", "").file("go", "");
    let ran = project.run(&["resume"]);
    expect![[r#"
        exit 2
        error: the parameter `token` of the run `RUN` cannot be had again
        caused by: it holds a secret, which no record holds
        hint: Set `THE_TOKEN` in the environment or in `.env` to what it was when the run began.
    "#]]
    .assert_eq(&project.told(&ran).replace(run.as_str(), "RUN"));
    let project = project.env("THE_TOKEN", "seven77");
    project.run(&["resume"]).exits(0);
    assert_eq!(value(&project), "hello 2.0 MiB [\"a\", \"b,c\"] -4 true");
    assert_eq!(
        std::fs::read_to_string(project.at("lengths")).unwrap().split_whitespace().collect::<Vec<_>>(),
        ["7", "7"]
    );
}

#[test]
fn a_secret_in_a_parameter_that_is_none_is_not_taken_from_the_record() {
    let text = r#"
const PLAYBOOK = #{ summary: "A test", params: #{ url: #{ required: true, env: "THE_URL", help: "x" } } };
step "Go" { exec(["test", "-e", "go"]); }
params.url.len()
"#;
    let url = "postgres://app:s3cret-word@localhost/shop";
    let project = TestProject::new().playbook("work", text).file("go", "");
    let project = project.env("LIFEBOAT_FAULT", "kill-before:1");
    assert_eq!(project.run(&["work", "--url", url]).code, 1009);
    let project = project.env("LIFEBOAT_FAULT", "");
    let run = runs(&project).remove(0).run;
    let refused = project.run(&["resume"]).exits(2);
    assert!(refused.stderr.contains("the parameter `url` of the run"), "{}", refused.stderr);
    let project = project.env("THE_URL", url);
    project.run(&["resume", run.letters()]).exits(0);
    assert_eq!(value(&project), url.len());
}

#[test]
fn the_latest_run_is_the_newest_that_can_go_on() {
    let project = project().playbook("other", "step \"A\" { exec([\"touch\", \"a\"]); }");
    project.run(&["work"]).exits(1);
    let failed = runs(&project).remove(0).run;
    project.run(&["other"]).exits(0);
    // A mistaken command line is not what anybody means to go on with.
    project.run(&["rollback", "nonsense", "--yes"]).exits(2);
    std::fs::write(project.at("go"), "").unwrap();
    let ran = project.run(&["resume"]).exits(0);
    assert!(ran.stderr.contains(&format!("work run {failed} resumed")), "{}", ran.stderr);
}

#[test]
fn what_was_decided_stays_decided() {
    let text = r#"
step "Check" { file("data"); }
let chosen = step "Choose" { latest("kept") };
ensure {
    let again = step "Choose once more" { latest("kept").name };
    step "Go" { exec(["test", "-e", "go"]); }
    again
} always {}
let last = step "Choose last" { latest("kept") };
[chosen.name, last.name, `${chosen.size}`, `${chosen.created}`]
"#;
    let save = "const PLAYBOOK = #{ summary: \"A test\", params: #{ name: \"x\" } };\nstep \"Save\" { file(\"data\").gzip().hash().save(`kept/data_${params.name}.gz`); }";
    let project = TestProject::new()
        .file("data", "some data\n")
        .playbook("work", text)
        .playbook("save", save)
        .env("LIFEBOAT_NOW", "2025-11-10T02:00:00+00:00");
    project.run(&["save", "--name", "old"]).exits(0);
    project.run(&["work"]).exits(1);
    let failed = runs(&project).into_iter().find(|run| run.playbook == "work").unwrap().run;
    let project = project.env("LIFEBOAT_NOW", "2025-11-11T02:00:00+00:00");
    project.run(&["save", "--name", "new"]).exits(0);
    std::fs::write(project.at("go"), "").unwrap();
    let ran = project.run(&["resume", failed.letters()]).exits(0);
    assert!(!ran.stderr.contains("Choose once more (kept)"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("Check (kept)"), "{}", ran.stderr);
    ran.says("✔ Choose (kept)\n");
    let events = reader::events(&project.at(".lifeboat"), &failed).unwrap().events;
    let value = events.into_iter().rev().find_map(|event| match event.what {
        What::RunEnded { value, .. } => value,
        _ => None,
    });
    let value = value.unwrap();
    assert_eq!((&value[0], &value[1]), (&"data_old.gz".into(), &"data_new.gz".into()));
}

#[test]
fn what_tells_of_a_failure_is_done_again_when_it_succeeds() {
    let text = r#"
let tried = attempt "Try" { exec(["test", "-e", "go"]); };
let found = step "Sum up" { if tried.ok { "worked" } else { "failed" } };
step "Report" { write("report.txt", `it ${found}`); }
step "Save" { file("data").gzip().hash().save(`kept/data_${run_stamp()}.gz`); }
step "Go" { exec(["test", "-e", "go"]); }
"#;
    let project = TestProject::new().file("data", "some data\n").playbook("work", text);
    project.run(&["work"]).exits(1);
    let report = || std::fs::read_to_string(project.at("report.txt")).unwrap();
    assert_eq!(report(), "it failed");
    // It fails in the same way: all that followed stands.
    project.run(&["resume"]).exits(1);
    assert_eq!(since_resumed(&project), ["did exec", "kept Sum up", "kept write", "kept Save", "did exec"]);
    std::fs::write(project.at("go"), "").unwrap();
    project.run(&["resume"]).exits(0);
    assert_eq!(report(), "it worked");
    assert_eq!(since_resumed(&project), ["did exec", "did write", "kept save", "did exec"]);
}

#[test]
fn a_step_is_not_kept_behind_another_value() {
    let text = r#"
let answer = step "Ask" { exec(["cat", "answer"]).stdout };
step "Report" {
    write("report.txt", answer);
    exec(["touch", "made"], #{ done_if: "made" });
}
step "Go" { exec(["test", "-e", "go"]); }
"#;
    let project = TestProject::new().file("answer", "one\n").playbook("work", text);
    project.run(&["work"]).exits(1);
    project.run(&["resume"]).exits(1);
    assert_eq!(since_resumed(&project), ["did exec", "kept Report", "did exec"]);
    let project = project.file("answer", "two\n").file("go", "");
    project.run(&["resume"]).exits(0);
    assert_eq!(since_resumed(&project), ["did exec", "did write", "kept exec", "did exec"]);
    assert_eq!(std::fs::read_to_string(project.at("report.txt")).unwrap().trim(), "two");
}

#[test]
fn steps_whose_clean_up_ran_are_done_again() {
    let text = r#"
step "Before" { exec(["touch", "before"], #{ done_if: "before" }); }
ensure {
    step "Make" { exec(["touch", "made"], #{ done_if: ["test", "-e", "made"] }); }
    step "Go" { exec(["test", "-e", "go"]); }
} always {
    step "Clean" { exec(["rm", "-f", "made"], #{ done_if: ["test", "!", "-e", "made"] }); }
}
"#;
    let project = TestProject::new().playbook("work", text);
    project.run(&["work"]).exits(1);
    std::fs::write(project.at("go"), "").unwrap();
    project.run(&["resume"]).exits(0);
    assert_eq!(since_resumed(&project), ["kept Before", "did exec", "did exec", "did exec"]);
    assert!(!project.at("made").exists());
    // Killed before its clean-up, it owes that, and what it made still stands.
    std::fs::remove_file(project.at("go")).unwrap();
    let project = project.env("LIFEBOAT_FAULT", "kill-before:3");
    assert_eq!(project.run(&["work"]).code, 1009);
    assert_eq!(runs(&project)[0].owes, ["ensure"]);
    let project = project.env("LIFEBOAT_FAULT", "").file("go", "");
    project.run(&["resume"]).exits(0);
    assert_eq!(since_resumed(&project), ["kept Before", "kept Make", "did exec", "did exec"]);
    assert!(!project.at("made").exists());
    assert_eq!(runs(&project)[0].owes, [""; 0]);
}

#[test]
fn what_nobody_can_tell_stops_the_run_until_a_person_says() {
    let text = "step \"Save\" { file(\"data\").gzip().hash().save(\"kept/data.gz\") }\nstep \"Go\" { exec([\"touch\", \"gone\"]); }";
    let killed = || {
        let project = TestProject::new().file("data", "some data\n").playbook("work", text);
        let project = project.env("LIFEBOAT_FAULT", "kill-after:1");
        assert_eq!(project.run(&["work"]).code, 1009);
        // The same bytes but one: it is not what the run wrote.
        let mut bytes = std::fs::read(project.at("kept/data.gz")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(project.at("kept/data.gz"), bytes).unwrap();
        project.env("LIFEBOAT_FAULT", "")
    };
    let project = killed();
    let ran = project.run(&["resume"]);
    let run = runs(&project).remove(0).run;
    expect![[r#"
        exit 6
        error: nobody can tell what became of `save`: `kept/data.gz` is there, but it is not what the run wrote
          ——▶ playbooks/work.rhai:2:42
          │
        N │ step "Save" { file("data").gzip().hash().save("kept/data.gz") }
          │                                          ^
        caused by: no end of it is on record: file of `data` → gzip (level 6) → sha256 → `kept/data.gz`
        hint: Look at it. If it is done: `lifeboat resume RUN --trust`; if it is not: `lifeboat resume RUN --redo`.
        ✘ work stopped in step `Save` after TIME (exit 6)
    "#]]
    .assert_eq(&project.told(&ran).replace(run.as_str(), "RUN"));
    assert!(!project.at("gone").exists());
    // Nothing is ever overwritten, also when a person says that it is not done.
    project.run(&["resume", "--redo"]).exits(1).says("/kept/data.gz` exists already");
    std::fs::remove_dir_all(project.at("kept")).unwrap();
    project.run(&["resume"]).exits(0);
    let project = killed();
    project.run(&["resume", "--trust"]).exits(0);
    assert_eq!(since_resumed(&project), ["kept save", "did exec"]);
}

#[test]
fn the_alert_of_a_killed_run_is_sent_when_its_receiver_is_up_again() {
    let address = "http://127.0.0.1:1/hook";
    let project =
        project().file("go", "").env("BACKUP_WEBHOOK_URL", address).env("LIFEBOAT_FAULT", "kill-before:1");
    assert_eq!(project.run(&["work"]).code, 1009);
    // Names hold the second, and nothing is ever overwritten.
    let at = |second: u32| format!("2025-11-10T02:00:0{second}+00:00");
    let project = project.env("LIFEBOAT_FAULT", "").env("LIFEBOAT_NOW", at(1));
    project.run(&["work"]).exits(0).says("the alert was not delivered");
    let receiver = Receiver::new();
    let project = project.env("BACKUP_WEBHOOK_URL", receiver.url()).env("LIFEBOAT_NOW", at(2));
    project.run(&["work"]).exits(0);
    let project = project.env("LIFEBOAT_NOW", at(3));
    project.run(&["work"]).exits(0);
    assert_eq!(receiver.messages(" was killed: run ").len(), 1);
}

#[test]
fn what_asks_for_a_failure_must_be_readable() {
    let project = project().env("LIFEBOAT_FAULT", "sometimes");
    expect![[r#"
        exit 2
        error: `LIFEBOAT_FAULT` is `sometimes`
        hint: Write `fail:3`, `kill-before:3` or `kill-after:3`, with the number of an action; or unset it.
    "#]]
    .assert_eq(&project.told(&project.run(&["work"])));
    let project = project.env("LIFEBOAT_FAULT", "fail:2");
    let ran = project.run(&["work"]);
    assert!(ran.stderr.contains("action 2 fails on purpose, since LIFEBOAT_FAULT is set"), "{}", ran.stderr);
    expect![[r#"
        exit 1
        error: `save` fails on purpose
          ——▶ playbooks/work.rhai:5:44
          │
        N │     let saved = file("data").gzip().hash().save(`kept/data_${run_stamp()}.gz`);
          │                                            ^
        caused by: LIFEBOAT_FAULT asks for that, since it is action 2
        hint: Unset LIFEBOAT_FAULT.
        ✘ work failed in step `Save` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran));
}

#[test]
fn what_tells_that_a_program_is_done_is_a_command_or_a_path() {
    let project = TestProject::new().playbook("work", "step \"A\" { exec([\"true\"], #{ done_if: 1 }); }");
    expect![[r#"
        exit 1
        error: option `done_if` of `exec` must be a command, which is an array of texts, or a path
          ——▶ playbooks/work.rhai:2:12
          │
        N │ step "A" { exec(["true"], #{ done_if: 1 }); }
          │            ^
        caused by: it is a value of type `i64`
        ✘ work failed in step `A` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&project.run(&["work"])));
    let project = TestProject::new()
        .playbook("work", "step \"A\" { exec([\"true\"], #{ done_if: [\"test\", \"-e\", \"x\"] }); exec([\"true\"], #{ done_if: \"y\" }); }");
    let plan = project.run(&["work", "--dry-run"]).exits(0).stdout;
    assert!(plan.contains("not again in a resumed run if `test -e x` succeeds\n"), "{plan}");
    assert!(plan.contains("not again in a resumed run if `y` is there\n"), "{plan}");
}

#[test]
fn a_record_that_cannot_be_read_is_not_resumed() {
    let project = project();
    project.run(&["work"]).exits(1);
    let run = runs(&project).remove(0).run;
    std::fs::write(project.at(".lifeboat/runs").join(run.as_str()).join("events.jsonl"), "").unwrap();
    expect![[r#"
        exit 2
        error: the run `RUN` cannot be resumed: its record cannot be read
        hint: Run its playbook once more instead.
    "#]]
    .assert_eq(&project.told(&project.run(&["resume"])).replace(run.as_str(), "RUN"));
}
