//! Pings of a run's check.

use super::{at, project};
use crate::mail::{MailServer, Manner};
use crate::receiver::{Receiver, Request};

/// The requests with the id of their run replaced, which must be the same in all.
fn lines(requests: &[Request]) -> Vec<(String, String)> {
    let id = |request: &Request| {
        let (_, after) = request.line.split_once("rid=").unwrap();
        after.split(' ').next().unwrap().to_owned()
    };
    let first = requests.first().map(id).unwrap_or_default();
    requests
        .iter()
        .map(|request| (request.line.replace(&first, "RID").replace(" HTTP/1.1", ""), request.body.clone()))
        .collect()
}

#[test]
fn a_run_pings_the_check_of_its_playbook() {
    let receiver = Receiver::new();
    let check = |name: &str| format!("http://{}/{name}?create=1", receiver.address());
    let header = |rest: &str| format!("const PLAYBOOK = #{{ summary: \"x\", {rest} }};");
    let project = project()
        .playbook(
            "own",
            &(header("notify: #{ ping_env: \"PING_OWN\" }")
                + "step \"x\" { exec([\"test\", \"-e\", \"go\"]); }"),
        )
        .playbook(
            "unset",
            &(header("notify: #{ ping_env: \"PING_UNSET\" }, schedule: [#{ cron: \"0 2 * * *\" }]")
                + "step \"x\" { info(\"x\"); }"),
        )
        .playbook(
            "nightly",
            &(header("schedule: [#{ cron: \"0 2 * * *\" }]")
                + "step \"x\" { notify(\"success\", \"done\"); }"),
        )
        .env("PING_OWN", check("uuid-of-own"))
        .env("BACKUP_PING_URL", check("uuid-of-all"))
        .env("LIFEBOAT_NOW", at("02:00"));
    project.run(&["own"]).exits(1);
    let seen = receiver.requests();
    assert_eq!(
        lines(&seen),
        [
            ("POST /uuid-of-own/start?create=1&rid=RID".to_owned(), String::new()),
            (
                "POST /uuid-of-own/fail?create=1&rid=RID".to_owned(),
                "own failed in step `x`: `test` exited with status 1".to_owned()
            ),
        ]
    );
    let project = project.file("go", "");
    project.run(&["own"]).exits(0);
    project.run(&["nightly"]).exits(0);
    let all = receiver.requests();
    assert_eq!(
        lines(&all[2..4]),
        [
            ("POST /uuid-of-own/start?create=1&rid=RID".to_owned(), String::new()),
            ("POST /uuid-of-own?create=1&rid=RID".to_owned(), "own completed".to_owned()),
        ]
    );
    assert_eq!(
        lines(&all[4..]),
        [
            ("POST /uuid-of-all/start?create=1&rid=RID".to_owned(), String::new()),
            ("POST /uuid-of-all?create=1&rid=RID".to_owned(), "done".to_owned()),
        ]
    );
    // Neither those that have none, nor plans and drills.
    project.run(&["well"]).exits(0);
    project.run(&["unset"]).exits(0);
    project.run(&["own", "--dry-run"]);
    project.run(&["drill", "own"]);
    assert_eq!(receiver.requests().len(), all.len());
    assert!(!super::all_text(&project).contains("uuid-of-own"));
}

#[test]
fn a_check_that_is_gone_fails_nothing() {
    let project = project()
        .playbook(
            "own",
            "const PLAYBOOK = #{ summary: \"x\", notify: #{ ping_env: \"PING_OWN\" } };\nstep \"x\" { info(\"x\"); }",
        )
        .env("PING_OWN", "http://127.0.0.1:1/s3cret-check");
    let ran = project.run(&["own"]).exits(0);
    assert_eq!(
        ran.stderr.matches("the ping was not delivered: cannot reach `http://127.0.0.1:1/…`").count(),
        2,
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
    project.env("PING_OWN", "hc-ping.com/s3cret").run(&["own"]).exits(0).says(
        "the ping was not delivered: PING_OWN is not a valid URL: relative URL without a base. Set PING_OWN to the full \
         URL of the check, which begins with `https://`, or remove it.",
    );
}

#[test]
fn a_drill_has_no_channel_at_all() {
    let receiver = Receiver::new();
    let mail = MailServer::new(Manner::Plain);
    let header = "const PLAYBOOK = #{ summary: \"x\", notify: #{ ping_env: \"PING_OWN\" }, schedule: [#{ cron: \"0 2 * * *\" }] };";
    let project = project()
        .playbook(
            "tell",
            &format!(
                "{header}step \"x\" {{ write(\"made\", \"x\"); notify(\"success\", \"all is well\"); }}"
            ),
        )
        .env("BACKUP_WEBHOOK_URL", receiver.url())
        .env("BACKUP_PING_URL", receiver.url())
        .env("PING_OWN", receiver.url())
        .env("BACKUP_SMTP_URL", format!("smtp://127.0.0.1:{}", mail.port))
        .env("BACKUP_EMAIL_FROM", "a@example.org")
        .env("BACKUP_EMAIL_TO", "b@example.org");
    let leaked = format!("touch {}", project.at("leaked").display());
    let project = project.env("BACKUP_ALERT_COMMAND", leaked);
    let ran = project.run(&["drill", "tell"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(receiver.requests().len(), 0);
    assert_eq!(mail.mails(), []);
    assert!(!project.at("leaked").exists());
    // The very same run tells all of them when it is none.
    project.run(&["tell"]).exits(0);
    assert_eq!((receiver.requests().len(), mail.mails().len()), (3, 1));
    assert!(project.at("leaked").exists());
}
