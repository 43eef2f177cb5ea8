//! Questions to a person, and clean-ups that follow whatever happens.

use crate::aftermath::{runs, wait_for};
use crate::project::TestProject;
use crate::receiver::Receiver;
use expect_test::expect;
use lifeboat::base::failure::Exit;
use lifeboat::journal::reader::RunState;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::process::Stdio;

const ASKS: &str = "confirm(\"Replace the live database?\");\nstep \"Go\" { exec([\"touch\", \"gone\"]); }";

#[test]
fn where_nobody_can_be_asked_a_question_ends_the_run_and_yes_answers_it() {
    let receiver = Receiver::new();
    let project = TestProject::new().playbook("asks", ASKS).env("BACKUP_WEBHOOK_URL", receiver.url());
    let ran = project.run(&["asks"]).exits(6);
    expect![[r#"
        exit 6
        error: a person must confirm: Replace the live database?
          ——▶ playbooks/asks.rhai:2:1
          │
        N │ confirm("Replace the live database?");
          │ ^
        caused by: nobody can be asked here
        hint: Run it on a terminal, or say yes in advance with `--yes`.
        ✘ asks stopped after TIME (exit 6)
    "#]]
    .assert_eq(&project.told(&ran));
    assert!(!project.at("gone").exists());
    assert_eq!(
        receiver.bodies()[0]["message"],
        "asks stopped: a person must confirm: Replace the live database?: nobody can be asked here"
    );
    project.run(&["asks", "--json"]).exits(6);
    project.run(&["asks", "--yes"]).exits(0).says("  confirmed by --yes: Replace the live database?\n");
    assert!(project.at("gone").exists());
    let shown = project.run(&["show"]).exits(0).stdout;
    assert!(shown.contains("confirmed by --yes: Replace the live database?"), "{shown}");
}

#[test]
fn a_dry_run_tells_that_it_would_ask() {
    let project = TestProject::new().playbook("asks", ASKS);
    let ran = project.run(&["asks", "--dry-run"]).exits(0);
    expect![[r#"
        Dry run of asks

        Outside of steps
          would ask: Replace the live database?

        Go
          run     exec: run `touch`
                    $ touch gone
                    known after run: what `touch` changes

        1 action planned; nothing was changed
    "#]]
    .assert_eq(&ran.stdout);
}

/// Runs a command line on a terminal, typing `answer` when it asks.
fn on_a_terminal(project: &TestProject, command: &str, answer: &str) -> (i32, String) {
    let _ = std::fs::remove_file(project.at("said"));
    let lifeboat = project.command(&[]);
    let line = format!("{} {command}", lifeboat.get_program().display());
    let mut script = std::process::Command::new("script");
    script.args(["-qefc", &line, "said"]).current_dir(project.path()).env_clear().env("TERM", "xterm");
    script.envs(lifeboat.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut script =
        script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let said = || std::fs::read_to_string(project.at("said")).unwrap_or_default();
    wait_for("the question", || said().contains("[y/N]"));
    let mut terminal = script.stdin.take().unwrap();
    terminal.write_all(answer.as_bytes()).unwrap();
    terminal.flush().unwrap();
    let mut ended = None;
    wait_for("the end", || {
        ended = script.try_wait().unwrap();
        ended.is_some()
    });
    drop(terminal);
    (ended.unwrap().code().unwrap(), said())
}

#[test]
fn a_person_at_a_terminal_is_asked() {
    let receiver = Receiver::new();
    let project = TestProject::new().playbook("asks", ASKS).env("BACKUP_WEBHOOK_URL", receiver.url());
    let (code, said) = on_a_terminal(&project, "asks --color never", "n\n");
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("? Replace the live database? [y/N] "), "{said}");
    assert!(said.contains("error: not confirmed: Replace the live database?"), "{said}");
    assert!(!project.at("gone").exists());
    assert_eq!(receiver.bodies(), [serde_json::Value::Null; 0], "who said no knows it");
    let (code, said) = on_a_terminal(&project, "asks --color never", "\n");
    assert_eq!(code, 6, "no answer is not yes: {said}");
    // The interrupt character of the terminal.
    let (code, said) = on_a_terminal(&project, "asks --color never", "\u{3}");
    assert_eq!(code, 130, "{said}");
    assert!(!project.at("gone").exists());
    let (code, said) = on_a_terminal(&project, "asks --color never", "y\n");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("confirmed by a person: Replace the live database?"), "{said}");
    assert!(project.at("gone").exists());
}

const CLEANS: &str = r#"
ensure {
    step "Work" { exec(["sh", "-c", "touch made; exec sleep 600"]); }
} always {
    step "Clean up" { exec(["rm", "made"]); exec(["touch", "cleaned"]); }
}
"#;

#[test]
fn a_signal_ends_the_work_and_not_the_clean_up() {
    for (signal, exit) in [(Signal::INT, Exit::Interrupted), (Signal::TERM, Exit::Terminated)] {
        let project = TestProject::new().playbook("cleans", CLEANS);
        let mut process = project.start(&["cleans"]);
        wait_for("the work", || project.at("made").exists());
        kill_process(Pid::from_child(&process), signal).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(exit.code().into()));
        assert!(!project.at("made").exists() && project.at("cleaned").exists());
        let run = runs(&project).remove(0);
        assert_eq!((run.state, run.owes.len()), (RunState::Ended(exit), 0));
    }
}

#[test]
fn a_killed_run_owes_its_clean_up() {
    let project = TestProject::new().playbook("cleans", CLEANS);
    let mut process = project.start(&["cleans"]);
    wait_for("the work", || project.at("made").exists());
    process.kill().unwrap();
    process.wait().unwrap();
    let run = runs(&project).remove(0);
    assert_eq!((run.state, run.owes.clone()), (RunState::Killed, vec!["ensure".to_owned()]));
    let history = project.run(&["history"]).exits(0).stdout;
    assert!(history.ends_with("killed, owes a clean-up\n"), "{history}");
    let shown = project.run(&["show"]).exits(0).stdout;
    let letters = run.run.letters();
    let told = format!("was killed in step `Work`\n! it owes a clean-up: run `lifeboat resume {letters}`\n");
    assert!(shown.ends_with(&told), "{shown}");
}
