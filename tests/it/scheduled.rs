//! Runs of schedules: each instant once, with the parameters of the header, and on record when it is left out.

use crate::aftermath::{nobody_survives, wait_for};
use crate::project::TestProject;
use crate::receiver::Receiver;
use expect_test::expect;
use lifeboat::base::event::What;
use lifeboat::base::schedule::Why;
use lifeboat::journal::slots::{self, Became};
use lifeboat::journal::{reader, store};
use std::process::{Child, Stdio};

/// A playbook whose only schedule has these terms, and whose steps are these.
fn playbook(schedule: &str, steps: &str) -> String {
    format!(
        "const PLAYBOOK = #{{ summary: \"x\", params: #{{ tag: #{{ default_value: \"manual\" }} }},\n\
         schedule: [#{{ cron: \"0 2 * * *\", tz: \"UTC\", params: #{{ tag: \"daily\" }}{schedule} }}] }};\n{steps}"
    )
}

const SAVE: &str = "step \"Save\" { file(\"data\").save(`backups/x_${run_stamp()}`, #{ tag: params.tag }) };";
/// Takes as long as the test wants.
const SLOW: &str = "step \"Wait\" { exec([\"sh\", \"-c\", \": > begun; while [ ! -e go ]; do sleep 0.05; done\"]); }\n\
                    step \"Then\" { exec([\"touch\", \"then\"]); }";
const RUN: [&str; 4] = ["run", "--scheduled", "0 2 * * *", "p"];

fn project(schedule: &str, steps: &str, now: &str) -> TestProject {
    TestProject::new().file("data", "x").env("LIFEBOAT_NOW", now).playbook("p", &playbook(schedule, steps))
}

fn became(project: &TestProject) -> Vec<(String, Became)> {
    let since = chrono::DateTime::parse_from_rfc3339("2000-01-01T00:00:00Z").unwrap();
    let found = slots::decisions(&project.at(".lifeboat"), since).unwrap();
    found
        .into_iter()
        .map(|decision| (decision.slot.format("%m-%d %H:%M").to_string(), decision.what))
        .collect()
}

fn passed(project: &TestProject) -> Vec<(String, Why, usize)> {
    let over = |(slot, what)| match what {
        Became::PassedOver { why, count, .. } => Some((slot, why, count)),
        _ => None,
    };
    became(project).into_iter().filter_map(over).collect()
}

fn begin(project: &TestProject, args: &[&str]) -> Child {
    let child = project.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first step", || project.at("begun").exists());
    child
}

fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn an_instant_runs_once_and_is_the_time_of_its_run() {
    let project = project("", SAVE, "2026-05-05T02:00:30Z");
    let ran = project.run(&RUN).exits(0);
    assert!(ran.stderr.contains("scheduled for 2026-05-05 02:00:00 +00:00 by `0 2 * * *`"), "{}", ran.stderr);
    let backup = project.at("backups/x_20260505_020000.json");
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(backup).unwrap()).unwrap();
    assert_eq!((&manifest["tag"], &manifest["created"]), (&"daily".into(), &"2026-05-05T02:00:00Z".into()));
    let again = project.run(&RUN).exits(0);
    assert_eq!(again.stderr, "p of 2026-05-05 02:00 +00:00: nothing to do, it was run or left out before\n");
    // By hand it runs as ever, and decides nothing.
    project.run(&["p"]).exits(0);
    let runs = reader::runs(&project.at(".lifeboat")).unwrap();
    let [by_hand, scheduled] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!(by_hand.as_str()[..15].to_owned(), "20260505-020030");
    let run = Some(scheduled.clone());
    let end = Became::Ended { run, exit: lifeboat::base::failure::Exit::Success };
    assert_eq!(
        became(&project),
        [("05-05 02:00".to_owned(), Became::Begun), ("05-05 02:00".to_owned(), end)]
    );
    let text = std::fs::read_to_string(project.at(format!(".lifeboat/runs/{scheduled}/run.json"))).unwrap();
    let about: store::RunFile = serde_json::from_str(&text).unwrap();
    assert_eq!(about.scheduled.unwrap().schedule, "0 2 * * *");
}

#[test]
fn what_was_missed_is_made_up_for_once_and_told() {
    let receiver = Receiver::new();
    let project = project("", SAVE, "2026-05-05T02:00:30Z").env("BACKUP_WEBHOOK_URL", receiver.url());
    project.run(&RUN).exits(0);
    let project = project.env("LIFEBOAT_NOW", "2026-05-08T09:00:00Z");
    let ran = project.run(&RUN).exits(0);
    let told = ran.stderr.lines().last().unwrap().strip_prefix("warning: ").unwrap();
    assert_eq!(
        told,
        "p of 2026-05-06 02:00 +00:00 to 2026-05-07 02:00 +00:00 (2 times) was not run: nothing was there to \
         start it; a later one was run"
    );
    assert!(project.at("backups/x_20260508_020000").exists());
    assert_eq!(passed(&project), [("05-07 02:00".to_owned(), Why::Missed, 2)]);
    let alert =
        serde_json::json!({"status": "warning", "message": told, "timestamp": "2026-05-08T09:00:00+00:00"});
    assert_eq!(receiver.bodies(), [alert]);
    let status = missed_of(&project);
    assert_eq!(
        status,
        [("p", "0 2 * * *", "2026-05-07T02:00:00Z", "nothing was there to start it; a later one was run")]
            .map(|(playbook, schedule, slot, why)| serde_json::json!({"playbook": playbook, "schedule": schedule, "slot": slot, "why": why}))
    );
}

/// The scheduled runs that `status` says were not made.
fn missed_of(project: &TestProject) -> Vec<serde_json::Value> {
    let json: serde_json::Value = serde_json::from_str(&project.run(&["status", "--json"]).stdout).unwrap();
    json["missed"].as_array().unwrap().clone()
}

#[test]
fn a_schedule_that_nothing_starts_any_more_is_told_by_the_status() {
    let project = project("", SAVE, "2026-05-05T02:00:30Z");
    project.run(&RUN).exits(0);
    assert_eq!(missed_of(&project), [serde_json::Value::Null; 0]);
    let project = project.env("LIFEBOAT_NOW", "2026-05-06T03:00:00Z");
    let missed = missed_of(&project);
    assert_eq!(missed[0]["slot"], "2026-05-06T02:00:00Z");
    assert_eq!(missed[0]["why"], "nothing has started it: is the daemon, cron or the timer still there?");
    // A schedule that is taken out of the header is not missed.
    std::fs::write(project.at("playbooks/p.rhai"), playbook(", name: \"daily\"", SAVE)).unwrap();
    project.run(&["run", "--scheduled", "daily", "p"]).exits(0);
    assert_eq!(missed_of(&project), [serde_json::Value::Null; 0]);
}

#[test]
fn what_a_wrong_clock_decided_ahead_keeps_nothing_from_running() {
    let project = project("", SAVE, "2030-05-05T02:00:30Z");
    project.run(&RUN).exits(0);
    let project = project.env("LIFEBOAT_NOW", "2026-05-05T02:00:30Z");
    assert_eq!(missed_of(&project)[0]["slot"], "2026-05-04T02:00:00Z");
    project.run(&RUN).exits(0);
    assert!(project.at("backups/x_20260505_020000").exists());
    // A clock that is set back by less makes nothing run twice.
    let project = project.env("LIFEBOAT_NOW", "2026-05-05T01:20:00Z");
    project.run(&RUN).exits(0).says("nothing to do");
}

#[test]
fn a_run_whose_process_was_gone_before_it_had_a_record_is_told_by_the_status() {
    let project = project("", SAVE, "2026-05-05T02:00:30Z");
    project.run(&RUN).exits(0);
    let run = reader::runs(&project.at(".lifeboat")).unwrap().remove(0);
    let decisions = project.at(".lifeboat/schedule/decisions.jsonl");
    // What such a process leaves: that the run begins, and nothing else.
    let first = std::fs::read_to_string(&decisions).unwrap().lines().next().unwrap().to_owned() + "\n";
    std::fs::write(&decisions, first).unwrap();
    let project = project.env("LIFEBOAT_NOW", "2026-05-05T02:40:00Z");
    assert_eq!(missed_of(&project), [serde_json::Value::Null; 0], "its record is there");
    std::fs::remove_dir_all(project.at(format!(".lifeboat/runs/{run}"))).unwrap();
    assert_eq!(missed_of(&project)[0]["why"], "its process was gone before it had begun");
}

#[test]
fn too_late_is_left_out_on_record() {
    let project = project(", max_lateness: \"1h\"", SAVE, "2026-05-05T09:00:00Z");
    let ran = project.run(&RUN).exits(0);
    assert_eq!(
        ran.stderr,
        "warning: p of 2026-05-05 02:00 +00:00 was not run: it would have begun later than its `max_lateness`\n"
    );
    assert_eq!(passed(&project), [("05-05 02:00".to_owned(), Why::TooLate, 1)]);
    assert_eq!(project.names("backups"), [""; 0]);
}

#[test]
fn a_dry_run_decides_nothing() {
    let project = project("", SAVE, "2026-05-05T02:00:30Z");
    let ran = project.run(&["--dry-run", "run", "--scheduled", "0 2 * * *", "p"]).exits(0);
    assert!(ran.stdout.contains("backups/x_20260505_020000"), "{}", ran.stdout);
    assert_eq!(became(&project), []);
    project.run(&RUN).exits(0);
}

#[test]
fn a_mistyped_schedule_is_told_what_there_is() {
    let project = project(", name: \"daily\"", SAVE, "2026-05-05T02:00:30Z");
    expect![[r#"
        exit 2
        error: `p` has no schedule `dayly`
        hint: Did you mean `daily`?
        hint: If the header was changed, install the schedules again: `lifeboat schedule install`.
    "#]]
    .assert_eq(&project.told(&project.run(&["run", "--scheduled", "dayly", "p"])));
    expect![[r#"
        exit 2
        error: `p` has no schedule `0 2 * * *`
        hint: It has `daily`.
        hint: If the header was changed, install the schedules again: `lifeboat schedule install`.
    "#]]
    .assert_eq(&project.told(&project.run(&RUN)));
    let project = project.playbook("q", "1;");
    expect![[r#"
        exit 2
        error: `q` has no schedule `daily`
        hint: Its header has no `schedule`: add one, for example `schedule: [#{ cron: "daily" }],`.
        hint: If the header was changed, install the schedules again: `lifeboat schedule install`.
    "#]]
    .assert_eq(&project.told(&project.run(&["run", "--scheduled", "daily", "q"])));
}

#[test]
fn a_run_that_goes_on_is_not_overtaken() {
    let receiver = Receiver::new();
    let project = project("", SLOW, "2026-05-05T02:00:30Z").env("BACKUP_WEBHOOK_URL", receiver.url());
    let first = begin(&project, &RUN);
    let project = project.env("LIFEBOAT_NOW", "2026-05-06T02:00:00Z");
    let ran = project.run(&RUN).exits(11);
    let run = reader::runs(&project.at(".lifeboat")).unwrap().remove(0);
    assert_eq!(
        ran.stderr,
        format!(
            "warning: p of 2026-05-06 02:00 +00:00 was not run: the one before was still running (run {run})\n"
        )
    );
    assert_eq!(passed(&project), [("05-06 02:00".to_owned(), Why::Overlapped, 1)]);
    let message = ran.stderr.trim_end().strip_prefix("warning: ").unwrap();
    let alert = serde_json::json!({"status": "warning", "message": message, "timestamp": "2026-05-06T02:00:00+00:00"});
    assert_eq!(receiver.bodies(), [alert]);
    std::fs::write(project.at("go"), "").unwrap();
    assert_eq!(ended(first).0, Some(0));
    // The instant is decided: it does not run later.
    project.run(&RUN).exits(0).says("nothing to do");
}

#[test]
fn one_that_queues_waits() {
    let project = project(", overlap: \"queue\"", SLOW, "2026-05-05T02:00:30Z");
    let first = begin(&project, &RUN);
    let project = project.env("LIFEBOAT_NOW", "2026-05-06T02:00:00Z");
    let second = project.command(&RUN).stderr(Stdio::piped()).spawn().unwrap();
    let decided = || std::fs::read_dir(project.at(".lifeboat/schedule")).is_ok_and(|dir| dir.count() > 2);
    wait_for("the decision", decided);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(reader::runs(&project.at(".lifeboat")).unwrap().len(), 1);
    std::fs::write(project.at("go"), "").unwrap();
    assert_eq!(ended(first).0, Some(0));
    let (code, told) = ended(second);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(reader::runs(&project.at(".lifeboat")).unwrap().len(), 2);
    assert_eq!(passed(&project), []);
}

#[test]
fn one_that_is_ended_while_it_waits_is_made_up_for() {
    let project = project(", overlap: \"queue\"", SLOW, "2026-05-05T02:00:30Z");
    let first = begin(&project, &RUN);
    let project = project.env("LIFEBOAT_NOW", "2026-05-06T02:00:00Z");
    let second = project.command(&RUN).stderr(Stdio::piped()).spawn().unwrap();
    let mark = || {
        let names = project.names(".lifeboat/schedule");
        let mark = names.iter().find(|name| name.ends_with(".json")).unwrap();
        std::fs::read_to_string(project.at(".lifeboat/schedule").join(mark)).unwrap()
    };
    wait_for("the decision", || mark().contains("\"slot\":\"2026-05-06T02:00:00Z\""));
    signal(&second, "-TERM");
    let (code, told) = ended(second);
    assert_eq!(code, Some(143), "{told}");
    std::fs::write(project.at("go"), "").unwrap();
    assert_eq!(ended(first).0, Some(0));
    project.run(&RUN).exits(0);
    let ran = became(&project).into_iter().filter(|(_, what)| *what == Became::Begun);
    assert_eq!(ran.map(|(slot, _)| slot).collect::<Vec<_>>(), ["05-05 02:00", "05-06 02:00"]);
}

#[test]
fn what_cannot_be_decided_is_told_and_decided_later() {
    let receiver = Receiver::new();
    let project = project("", SAVE, "2026-05-05T02:00:30Z").env("BACKUP_WEBHOOK_URL", receiver.url());
    project.run(&RUN).exits(0);
    let project = project.env("LIFEBOAT_NOW", "2026-05-06T02:00:30Z");
    let schedule = project.at(".lifeboat/schedule");
    let kept = project.at("kept");
    std::fs::rename(&schedule, &kept).unwrap();
    std::fs::write(&schedule, "in the way").unwrap();
    let told = project.run(&RUN).exits(1).stderr;
    let message = told.lines().find_map(|line| line.strip_prefix("error: ")).expect(&told);
    assert_eq!(receiver.messages(&format!("p could not begin: {message}")).len(), 1, "{told}");
    // It is told once, however often it is tried.
    project.run(&RUN).exits(1);
    assert_eq!(receiver.bodies().len(), 1);
    std::fs::remove_file(&schedule).unwrap();
    std::fs::rename(&kept, &schedule).unwrap();
    project.run(&RUN).exits(0);
    assert!(project.at("backups/x_20260506_020000").exists());
}

#[test]
fn a_time_zone_that_nobody_knows_is_told() {
    let receiver = Receiver::new();
    let header =
        "const PLAYBOOK = #{ summary: \"x\", schedule: [#{ name: \"daily\", cron: \"0 2 * * *\" }] };\n1;";
    let project = TestProject::new()
        .playbook("p", header)
        .env("BACKUP_WEBHOOK_URL", receiver.url())
        .env("TZ", "CET-1CEST");
    project.run(&["run", "--scheduled", "daily", "p"]).exits(2);
    assert_eq!(
        receiver.messages("p could not begin: `CET-1CEST` in TZ is not the name of a time zone").len(),
        1
    );
}

#[test]
fn two_schedules_of_one_instant_do_not_run_at_once() {
    let header = "const PLAYBOOK = #{ summary: \"x\", schedule: [\n\
                  #{ name: \"daily\", cron: \"0 2 * * *\", tz: \"UTC\" },\n\
                  #{ name: \"weekly\", cron: \"0 2 * * 2\", tz: \"UTC\" }] };\n";
    for round in 0..3 {
        let project = TestProject::new()
            .env("LIFEBOAT_NOW", "2026-05-05T02:00:00Z")
            .playbook("p", &format!("{header}{SLOW}"));
        let start = |schedule: &str| {
            let mut command = project.command(&["run", "--scheduled", schedule, "p"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut both = ["daily", "weekly"].map(start);
        let over = |both: &mut [Child; 2]| both.iter_mut().any(|child| child.try_wait().unwrap().is_some());
        wait_for("the one that is left out", || over(&mut both));
        assert_eq!(reader::runs(&project.at(".lifeboat")).unwrap().len(), 1, "round {round}");
        std::fs::write(project.at("go"), "").unwrap();
        let mut codes = both.map(|child| ended(child).0);
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(11)]);
        assert_eq!(passed(&project), [("05-05 02:00".to_owned(), Why::Overlapped, 1)]);
    }
}

#[test]
fn one_that_kills_takes_over() {
    let project = project(", overlap: \"kill\"", SLOW, "2026-05-05T02:00:30Z");
    let first = begin(&project, &RUN);
    let project = project.env("LIFEBOAT_NOW", "2026-05-06T02:00:00Z");
    let second = project.command(&RUN).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(ended(first).0, Some(143));
    std::fs::write(project.at("go"), "").unwrap();
    assert_eq!(ended(second).0, Some(0));
    assert!(project.at("then").exists());
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let receiver = Receiver::new();
    let project =
        project(", timeout: \"5s\"", SLOW, "2026-05-05T02:00:30Z").env("BACKUP_WEBHOOK_URL", receiver.url());
    let ran = project.run(&RUN).exits(143);
    assert_eq!(
        receiver.bodies()[0]["message"],
        "p was terminated in step `Wait`: it took longer than the `timeout` of its schedule"
    );
    assert!(ran.stderr.contains("it took longer than the `timeout` of its schedule"), "{}", ran.stderr);
    nobody_survives(&project);
    assert!(!project.at("then").exists());
}

#[test]
fn each_instant_that_is_made_up_for_has_its_own_time() {
    // Together they take longer than the limit, and each alone much less.
    let steps = "step \"Wait\" { exec([\"sh\", \"-c\", \"sleep 2.5; echo ran >> ran\"]); }";
    let terms = ", missed: \"all\", window: \"10d\", timeout: \"9s\"";
    let project = project(terms, steps, "2026-05-01T02:00:30Z");
    project.run(&RUN).exits(0);
    let project = project.env("LIFEBOAT_NOW", "2026-05-05T09:00:00Z");
    project.run(&RUN).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("ran")).unwrap().lines().count(), 5);
    let runs = reader::runs(&project.at(".lifeboat")).unwrap();
    let days: Vec<&str> = runs.iter().map(|run| &run.as_str()[..8]).collect();
    assert_eq!(days, ["20260505", "20260504", "20260503", "20260502", "20260501"]);
    let begun = became(&project).into_iter().filter(|(_, what)| *what == Became::Begun);
    assert_eq!(begun.count(), 5);
}

#[test]
fn a_current_step_may_end_and_the_rest_is_resumed() {
    let project = project("", SLOW, "2026-05-05T02:00:30Z");
    let child = begin(&project, &["run", "--grace", "1m", "p"]);
    signal(&child, "-TERM");
    // It may need a moment to hear that.
    std::thread::sleep(std::time::Duration::from_secs(3));
    std::fs::write(project.at("go"), "").unwrap();
    let (code, told) = ended(child);
    assert_eq!(code, Some(143), "{told}");
    assert!(told.contains("error: terminated between two steps\n"), "{told}");
    assert!(told.contains("hint: `lifeboat resume` goes on with the next one.\n"), "{told}");
    assert!(!project.at("then").exists());
    let run = reader::runs(&project.at(".lifeboat")).unwrap().remove(0);
    let events = reader::events(&project.at(".lifeboat"), &run).unwrap().events;
    let done = events.iter().filter(|event| matches!(event.what, What::ActionEnded { .. })).count();
    assert_eq!(done, 1);
    project.run(&["resume"]).exits(0);
    assert!(project.at("then").exists());
}

#[test]
fn a_second_signal_and_a_grace_that_is_over_do_not_wait() {
    for (grace, signals) in [("1m", 2), ("200ms", 1)] {
        let project = project("", SLOW, "2026-05-05T02:00:30Z");
        let child = begin(&project, &["run", "--grace", grace, "p"]);
        for _ in 0..signals {
            signal(&child, "-TERM");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let (code, told) = ended(child);
        assert_eq!(code, Some(143), "{told}");
        nobody_survives(&project);
    }
    let project = project("", SLOW, "2026-05-05T02:00:30Z");
    let ran = project.run(&["run", "--grace", "soon", "p"]).exits(2);
    assert!(ran.stderr.contains("write a number and a unit, for example `30s`"), "{}", ran.stderr);
}
