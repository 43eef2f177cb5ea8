//! `exec`: shown and not run in a dry run, run exactly as shown in a live one.

use crate::doors::Doors;
use lifeboat::action::Recorded;
use lifeboat::action::exec::{Exec, ExecResult, Variable};
use lifeboat::base::event::What;
use lifeboat::base::failure::Code;
use lifeboat::base::plan::{Effect, Later, Target, Touch};
use lifeboat::base::secret::Secret;
use lifeboat::observe::exec::ReadOnlyCommand;
use lifeboat::sys::process::{Input, Value};
use std::time::Duration;

fn sh(script: &str) -> Exec {
    Exec::new(["sh", "-c", script])
}

#[test]
fn a_dry_run_shows_the_exact_command_and_does_not_run_it() {
    let doors = Doors::dry(&[("TOKEN", "t0k3n-value")]);
    let mut exec = sh("echo \"it's\" > made");
    exec.cwd = Some(".".into());
    exec.timeout = Some(Duration::from_secs(90));
    exec.input = Input::Bytes(vec![b'x'; 2048]);
    exec.env.insert("TOKEN".into(), Variable::Passed);
    exec.env.insert("ABSENT".into(), Variable::Passed);
    exec.env.insert("PW".into(), Variable::Set(Value::Secret(Secret::new("hunter22"))));
    assert_eq!(doors.session.perform(&exec, None), Ok(Later::AfterRun));
    let plan = doors.plans().remove(0);
    assert_eq!((plan.summary.as_str(), plan.effect), ("run `sh`", Effect::Opaque));
    assert_eq!(
        plan.details,
        [
            r#"$ sh -c 'echo "it'\''s" > made'"#,
            &format!("in {}", doors.path().display()),
            "environment: ABSENT (not set), PW, TOKEN",
            "input: 2.0 KiB",
            "at most 1 min 30 s",
        ]
    );
    assert_eq!(plan.unknown, ["what `sh` changes"]);
    assert_eq!(plan.touches, [Touch::Changed(Target::Everything)]);
    assert!(!doors.join("made").exists());
    let said = serde_json::to_string(&plan).unwrap();
    assert!(!said.contains("t0k3n") && !said.contains("hunter22"), "{said}");
}

#[test]
fn a_live_run_runs_it_and_masks_what_it_prints() {
    let doors = Doors::live(&[("TOKEN", "t0k3n-value"), ("MODE", "fast"), ("OTHER", "not given")]);
    let mut exec = sh("echo $TOKEN $MODE $PW $OTHER; cat; echo done > made");
    exec.env.insert("TOKEN".into(), Variable::Passed);
    exec.env.insert("MODE".into(), Variable::Passed);
    exec.env.insert("PW".into(), Variable::Set(Value::Secret(Secret::new("hunter22"))));
    exec.input = Input::Bytes(b"typed\n".to_vec());
    let result = doors.session.perform(&exec, None).unwrap().now().unwrap();
    assert_eq!(
        (result.code, result.stdout.as_str(), result.stderr.as_str()),
        (0, "*** fast ***\ntyped\n", "")
    );
    assert_eq!(std::fs::read_to_string(doors.join("made")).unwrap(), "done\n");
    let lines: Vec<What> =
        doors.events().into_iter().filter(|what| matches!(what, What::Output { .. })).collect();
    let line = |line: &str| What::Output { program: "sh".into(), stream: "stdout".into(), line: line.into() };
    assert_eq!(lines, [line("*** fast ***"), line("typed")]);
    let said = format!("{:?}", doors.events());
    assert!(!said.contains("t0k3n") && !said.contains("hunter22"), "{said}");
}

#[test]
fn the_result_survives_the_journal() {
    let result =
        ExecResult { program: "npm".into(), code: 1, stdout: "a".into(), stderr: "b".into(), millis: 2100 };
    assert_eq!(result.summary(), "`npm` exited with status 1 after 2.1 s");
    let json = serde_json::to_value(&result).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"program": "npm", "code": 1, "stdout": "a", "stderr": "b", "millis": 2100})
    );
    assert_eq!(serde_json::from_value::<ExecResult>(json).unwrap(), result);
}

#[test]
fn another_status_fails_unless_it_is_not_checked() {
    let doors = Doors::live(&[]);
    let mut exec = sh("echo broken >&2; exit 3");
    let failure = doors.session.perform(&exec, None).unwrap_err();
    assert_eq!(
        (failure.code, failure.to_string()),
        (Code::ProcessFailed, "`sh` exited with status 3: broken".into())
    );
    exec.check = false;
    assert_eq!(doors.session.perform(&exec, None).unwrap().now().unwrap().code, 3);
    let mut killed = sh("kill -9 $$");
    killed.check = false;
    assert_eq!(doors.session.perform(&killed, None).unwrap().now().unwrap().code, 137);
    let mut slow = sh("sleep 417");
    slow.timeout = Some(Duration::from_millis(100));
    let failure = doors.session.perform(&slow, None).unwrap_err();
    assert_eq!(failure.to_string(), "`sh` did not end within 100 ms");
    assert_eq!(failure.hints, ["Raise the option `timeout` if the program needs longer."]);
}

#[test]
fn a_dry_run_finds_what_would_fail() {
    let doors = Doors::dry(&[]);
    doors.session.host().masker().add(&Secret::new("hunter22"));
    let failure = doors.session.perform(&Exec::new(["echo", "hunter22"]), None).unwrap_err();
    assert_eq!(failure.message, "an argument of `echo` holds a secret");
    let failure = doors.session.perform(&Exec::new(["./installed-later"]), None).unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (Code::ProgramMissing, "`./installed-later` not found")
    );
    let failure = doors.session.perform(&Exec::new(["ls"]), None).unwrap_err();
    assert_eq!((failure.code, failure.message.as_str()), (Code::Policy, "`exec` may not run `ls`"));
    let mut exec = sh("true");
    exec.env.insert("HOME_OF_SECRETS".into(), Variable::Passed);
    let failure = doors.session.perform(&exec, None).unwrap_err();
    assert_eq!(failure.message, "`exec` may not read the environment variable `HOME_OF_SECRETS`");
    exec.env.clear();
    exec.cwd = Some("/etc".into());
    assert_eq!(doors.session.perform(&exec, None).unwrap_err().message, "`exec` may not read `/etc`");
}

#[test]
fn what_an_earlier_command_may_install_is_unknown_and_no_failure() {
    let doors = Doors::dry(&[]);
    doors.session.perform(&sh("make all"), None).unwrap();
    doors.session.perform(&Exec::new(["./installed-later"]), None).unwrap();
    assert_eq!(
        doors.plans()[1].unknown,
        ["whether it can be run: `./installed-later` not found", "what `./installed-later` changes"]
    );
}

#[test]
fn a_command_that_says_what_it_touches_leaves_the_rest_known() {
    let doors = Doors::dry(&[]);
    let mut exec = sh("true");
    exec.touches = Some(vec![Target::Service("backend".into())]);
    doors.session.perform(&exec, None).unwrap();
    assert_eq!(doors.plans()[0].touches, [Touch::Changed(Target::Service("backend".into()))]);
    assert_eq!(doors.plans()[0].unknown, Vec::<String>::new());
    let asked = |target| {
        let mut reads = Exec::new(["echo", "hello"]);
        reads.touches = Some(vec![target]);
        doors.session.observe(&ReadOnlyCommand(reads), false, None).unwrap()
    };
    assert_eq!(asked(Target::Path("/srv".into())).now().unwrap().stdout, "hello\n");
    assert_eq!(asked(Target::Service("backend".into())), Later::AfterRun);
}

#[test]
fn a_command_that_only_reads_runs_in_a_dry_run_unless_something_was_touched() {
    let doors = Doors::dry(&[]);
    let reads = ReadOnlyCommand(sh("echo 'first line'; echo second"));
    let answer = doors.session.observe(&reads, false, None).unwrap().now().unwrap();
    assert_eq!(answer.stdout, "first line\nsecond\n");
    doors.session.perform(&sh("true"), None).unwrap();
    assert_eq!(doors.session.observe(&reads, false, None), Ok(Later::AfterRun));
    assert_eq!(doors.session.observe(&reads, true, None).unwrap().now().unwrap().code, 0);
    let answers: Vec<String> = doors
        .events()
        .into_iter()
        .filter_map(|what| match what {
            What::Observed { name, question, answer } => {
                assert_eq!(
                    (name.as_str(), question.as_str()),
                    ("exec", "$ sh -c 'echo '\\''first line'\\''; echo second'")
                );
                Some(answer)
            }
            _ => None,
        })
        .collect();
    assert_eq!(answers, ["first line", "(known after run)", "first line"]);
}
