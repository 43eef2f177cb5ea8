//! When alerts are sent: once, not too often, and at last if not at first.

use super::{all_text, at, project};
use crate::receiver::Receiver;
use lifeboat::engine::alert;

/// Messages of all alerts, with their statuses.
fn told(receiver: &Receiver) -> Vec<String> {
    let line = |body: &serde_json::Value| {
        format!("{}: {}", body["status"].as_str().unwrap(), body["message"].as_str().unwrap())
    };
    receiver.bodies().iter().map(line).collect()
}

#[test]
fn the_first_success_after_failures_tells_that_all_is_well_again() {
    let receiver = Receiver::new();
    let project = project().env("BACKUP_WEBHOOK_URL", receiver.url());
    let run = |project: crate::project::TestProject, time: &str, code: i32| {
        let project = project.env("LIFEBOAT_NOW", at(time));
        project.run(&["either"]).exits(code);
        project
    };
    let project = run(project, "02:00", 1);
    let project = run(project, "03:00", 1);
    let project = project.file("go", "").file("odd", "");
    let project = run(project, "04:00", 3);
    project.run(&["well"]).exits(0);
    std::fs::remove_file(project.at("odd")).unwrap();
    let project = run(project, "05:00", 0);
    let project = run(project, "06:00", 0);
    let failed = "error: either failed in step `x`: `test` exited with status 1";
    assert_eq!(
        told(&receiver),
        [
            failed,
            failed,
            "warning: either completed with warnings: odd",
            "success: either is well again: it failed 2 times and completed with warnings once since 2025-11-10 02:00"
        ]
    );
    // A failure of which nobody was told needs no recovery.
    std::fs::remove_file(project.at("go")).unwrap();
    let project = run(project.env("BACKUP_WEBHOOK_URL", ""), "07:00", 1).file("go", "");
    let _project = run(project.env("BACKUP_WEBHOOK_URL", receiver.url()), "08:00", 0);
    assert_eq!(told(&receiver).len(), 4);
}

#[test]
fn too_many_are_held_back_and_summed_up() {
    let receiver = Receiver::new();
    let mut project = project().env("BACKUP_WEBHOOK_URL", receiver.url()).env("BACKUP_ALERTS_PER_HOUR", "2");
    for minute in 0..5 {
        project = project.env("LIFEBOAT_NOW", at(&format!("02:0{minute}")));
        project.run(&["bad"]).exits(1);
    }
    let failed = "error: bad failed in step `Dump`: `false` exited with status 1";
    let held = "warning: further alerts are held back: there were 2 within an hour";
    assert_eq!(told(&receiver), [failed, failed, held]);
    let project = project.env("LIFEBOAT_NOW", at("03:30"));
    project.run(&["well"]).exits(0);
    let failed = &failed[7..];
    assert_eq!(
        told(&receiver)[3..],
        [format!("error: 3 alerts were held back since 2025-11-10 02:02: {failed}; {failed}; {failed}")]
    );
}

#[test]
fn what_nobody_accepts_is_kept_until_somebody_does_and_fails_nothing() {
    let project = project()
        .playbook("tell", "step \"x\" { notify(\"success\", \"all is well\"); }")
        .env("BACKUP_WEBHOOK_URL", "http://127.0.0.1:1/hook/s3cret")
        .env("BACKUP_SMTP_URL", "smtp://127.0.0.1:1")
        .env("BACKUP_EMAIL_FROM", "a@example.org")
        .env("BACKUP_EMAIL_TO", "b@example.org")
        .env("BACKUP_ALERT_COMMAND", "exit 1")
        .env("LIFEBOAT_NOW", at("02:00"));
    let ran = project.run(&["tell"]).exits(0);
    for why in [
        "the alert was not delivered: cannot reach `http://127.0.0.1:1/…`: Connection refused",
        "the alert was not delivered: cannot reach `127.0.0.1:1`: Connection refused",
        "the alert was not delivered: the command in BACKUP_ALERT_COMMAND exited with status 1",
    ] {
        assert!(ran.stderr.contains(why), "{why}\n{}", ran.stderr);
    }
    let state = project.at(".lifeboat");
    let pending = alert::pending(&state).unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].notice.alert.message, "all is well");
    assert!(pending[0].why.contains("`127.0.0.1:1`: Connection refused"), "{}", pending[0].why);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(state.join("alerts/book.json")).unwrap().mode() & 0o777, 0o600);
    assert!(!all_text(&project).contains("s3cret"));
    let shown: serde_json::Value =
        serde_json::from_str(&project.run(&["status", "--json"]).exits(0).stdout).unwrap();
    let undelivered = shown["findings"].as_array().unwrap().iter().find(|one| one["code"] == "undelivered");
    assert_eq!(
        *undelivered.unwrap(),
        serde_json::json!({
            "severity": "warning", "code": "undelivered", "about": "", "tag": null,
            "message": format!("1 alert was not delivered since 2025-11-10 02:00: {}", pending[0].why),
            "hint": "`lifeboat alert test` tries every channel; the next live run delivers what waits.",
        })
    );
    assert_eq!(shown["undelivered"]["count"], 1);
    let metrics = project.run(&["status", "--prometheus"]).exits(0).stdout;
    assert!(metrics.contains("\nlifeboat_alerts_undelivered 1\n"), "{metrics}");
    let run = project.names(".lifeboat/runs").remove(0);
    let noted = || {
        let text = std::fs::read_to_string(state.join("runs").join(&run).join("alert.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(noted()["delivered"], false);

    // One channel that works is enough, and it gets the time at which it happened.
    let receiver = Receiver::new();
    let project = project.env("BACKUP_WEBHOOK_URL", receiver.url()).env("LIFEBOAT_NOW", at("04:00"));
    project.run(&["well"]).exits(0);
    project.run(&["well"]).exits(0);
    assert_eq!(
        receiver.bodies(),
        [serde_json::json!({
            "status": "success", "message": "all is well", "timestamp": "2025-11-10T02:00:00+00:00"
        })]
    );
    assert_eq!(alert::pending(&state), Ok(vec![]));
    let shown = project.run(&["status"]).exits(0).stdout;
    assert!(!shown.contains("not delivered"), "{shown}");
    assert!(shown.contains("\nAlerts\n  webhook  127.0.0.1\n"), "{shown}");
    assert_eq!(noted()["delivered"], true);
}

#[test]
fn a_backup_of_an_unusual_size_is_told_of_once_a_day() {
    let receiver = Receiver::new();
    let mut project = project().env("BACKUP_WEBHOOK_URL", receiver.url());
    let mut save = |time: &str, size: usize| {
        std::fs::write(project.at("data"), "x".repeat(size)).unwrap();
        project =
            std::mem::replace(&mut project, crate::project::TestProject::new()).env("LIFEBOAT_NOW", at(time));
        project.run(&["save"]).exits(0)
    };
    for (time, size) in [("01:00", 1000), ("02:00", 1024), ("03:00", 1100), ("04:00", 1500)] {
        save(time, size);
    }
    assert_eq!(told(&receiver), [""; 0]);
    let message = "the backup `data_20251110_050000.bin` is 90 % smaller than usual: 100 B, while the median of 4 \
                   earlier ones is 1.0 KiB";
    save("05:00", 100).says(message);
    save("06:00", 90).says("smaller than usual: 90 B");
    assert_eq!(told(&receiver), [format!("warning: {message}")], "it is known");
    save("07:00", 1000);
    save("08:00", 3000);
    assert_eq!(
        told(&receiver)[1..],
        [
            "warning: the backup `data_20251110_080000.bin` is 200 % larger than usual: 2.9 KiB, while the median of 7 \
             earlier ones is 1000 B"
        ],
        "it was well meanwhile"
    );
}

#[test]
fn a_new_backup_is_held_against_those_that_are_there_when_it_is_made() {
    let steps = "step \"Save\" { file(\"data\").save(`kept/data_${run_stamp()}.bin`, #{ tag: \"daily\" }); }
                 step \"Others\" { exec([\"sh\", \"others\"]); }";
    let mut project = project().playbook("save", steps);
    let mut save = |time: &str, size: usize, others: &str| {
        std::fs::write(project.at("data"), "x".repeat(size)).unwrap();
        std::fs::write(project.at("others"), others).unwrap();
        project =
            std::mem::replace(&mut project, crate::project::TestProject::new()).env("LIFEBOAT_NOW", at(time));
        project.run(&["save"]).exits(0).stderr
    };
    for time in ["01:00", "02:00", "03:00"] {
        save(time, 1000, "");
    }
    assert!(save("04:00", 100, "").contains("while the median of 3 earlier ones is 1000 B"));
    // Three of four are left: one is gone, cut short or another's just when the new one is there.
    let of = |others: &str| format!("cd kept && for f in *_010000.bin; do {others}; done");
    let told = save("05:00", 100, &of("true"));
    assert!(told.contains("while the median of 4 earlier ones is 1000 B"), "{told}");
    for (time, others) in [
        ("06:00", "mv $f $f.json $f.sha256 .."),
        ("07:00", "mv ../$f* . && : > $f"),
        ("08:00", "cp ../data $f && truncate -s 1000 $f && sed -i s/daily/weekly/ $f.json"),
    ] {
        let told = save(time, 10_000, &of(others));
        let count = time[1..2].parse::<usize>().unwrap() - 2;
        assert!(told.contains(&format!("while the median of {count} earlier ones is")), "{told}");
    }
}

#[test]
fn a_backup_that_took_unusually_long_is_told_of() {
    let receiver = Receiver::new();
    let mut project = project().file("data", "x").env("BACKUP_WEBHOOK_URL", receiver.url());
    for minute in 0..3 {
        project = project.env("LIFEBOAT_NOW", at(&format!("02:0{minute}")));
        project.run(&["save"]).exits(0);
    }
    for run in project.names(".lifeboat/runs") {
        let path = project.at(format!(".lifeboat/runs/{run}/exit.json"));
        let mut exit: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        exit["millis"] = 600_000.into();
        std::fs::write(&path, exit.to_string()).unwrap();
    }
    let project = project.env("LIFEBOAT_NOW", at("02:10"));
    project.run(&["save"]).exits(0);
    let told = told(&receiver);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("warning: save took 9") && told[0].contains(" % shorter than usual: "),
        "{told:?}"
    );
    assert!(told[0].ends_with(", while the median of 3 earlier runs is 10 min 0 s"), "{told:?}");
}

#[test]
fn a_disk_that_is_nearly_full_is_told_of_once() {
    let receiver = Receiver::new();
    // No disk is so empty that it would not be told of.
    let project = project()
        .file("data", "x")
        .env("BACKUP_WEBHOOK_URL", receiver.url())
        .env("BACKUP_ALERT_DISK_PERCENT", "101");
    for time in ["02:00", "03:00"] {
        let project = project.command(&["save"]).env("LIFEBOAT_NOW", at(time)).output().unwrap();
        let said = String::from_utf8(project.stderr).unwrap();
        assert!(said.contains("less than 101 % of the disk of `kept` are free: "), "{said}");
    }
    let told = told(&receiver);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("warning: less than 101 % of the disk of `kept` are free: "), "{told:?}");
}

#[test]
fn a_message_is_cut_and_cleaned_so_that_every_channel_can_carry_it() {
    let receiver = Receiver::new();
    let text = "let text = \"ä\\x00\\x1b[31m\"; text.pad(200_000, \"x\"); step \"Tell\" { notify(\"success\", text); }";
    let project = project()
        .playbook("tell", text)
        .env("BACKUP_WEBHOOK_URL", receiver.url())
        .env("BACKUP_ALERT_COMMAND", "printf %s \"$LIFEBOAT_ALERT_MESSAGE\" > told")
        .env("LIFEBOAT_NOW", at("02:00"));
    let ran = project.run(&["tell"]).exits(0);
    assert!(!ran.stderr.contains("not delivered"), "{}", ran.stderr);
    let message = receiver.bodies()[0]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("ä  [31mxxx") && message.ends_with("x…"), "{}", &message[..20]);
    assert_eq!(message.len(), 16 * 1024 + '…'.len_utf8());
    assert_eq!(std::fs::read_to_string(project.at("told")).unwrap(), message);
}
