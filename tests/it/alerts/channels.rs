//! Every channel, with a server that takes what it gets, or does not.

use super::{all_text, at, machine, project};
use crate::mail::{MailServer, Manner};
use crate::project::TestProject;
use crate::receiver::Receiver;
use expect_test::expect;

const PASSWORD: &str = "pa55-of-mail";

fn with_mail(project: TestProject, url: &str) -> TestProject {
    let authority =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates/mail_authority.crt");
    project
        .env("BACKUP_SMTP_URL", url)
        .env("BACKUP_EMAIL_FROM", "Backups of shop <backups@example.org>")
        .env("BACKUP_EMAIL_TO", "ops@example.org, Boss <boss@example.org>")
        .env("SSL_CERT_FILE", authority.display().to_string())
}

/// The texts of a mail without what differs from machine to machine.
fn steady(project: &TestProject, text: &str) -> String {
    let text = text.replace(&machine(), "MACHINE").replace(&project.path().display().to_string(), "PROJECT");
    text.lines()
        .map(|line| if line.starts_with("Message-ID: ") { "Message-ID: ID" } else { line }.to_owned() + "\n")
        .collect()
}

#[test]
fn a_failure_reaches_every_channel_whole_and_no_secret_is_left_behind() {
    let receiver = Receiver::new();
    let mail = MailServer::new(Manner::Implicit);
    let project = with_mail(project(), &format!("smtps://me%40shop:{PASSWORD}@localhost:{}", mail.port))
        .env("BACKUP_WEBHOOK_URL", format!("http://{}/services/T0/s3cret-hook", receiver.address()))
        .env(
            "BACKUP_ALERT_COMMAND",
            "cat > told; echo $LIFEBOAT_ALERT_KIND >> told; ps ax > ps || true # tok-3n",
        )
        .env("LIFEBOAT_NOW", at("02:00"));
    let ran = project.run(&["bad"]).exits(1);
    let run = project.names(".lifeboat/runs").remove(0);

    let request = receiver.requests().remove(0);
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(request.line, "POST /services/T0/s3cret-hook HTTP/1.1");
    assert!(request.headers.contains(&"content-type: application/json".to_owned()), "{:?}", request.headers);
    let message = "bad failed in step `Dump`: `false` exited with status 1";
    assert_eq!(
        request.body,
        format!(
            "{{\"message\":\"{message}\",\"status\":\"error\",\"timestamp\":\"2025-11-10T02:00:00+00:00\"}}"
        )
    );

    let mails = mail.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].encrypted);
    assert_eq!(
        mails[0].said,
        [
            &format!("EHLO {}", machine()),
            &format!("AUTH |me@shop|{PASSWORD}"),
            "MAIL FROM:<backups@example.org>",
            "RCPT TO:<ops@example.org>",
            "RCPT TO:<boss@example.org>",
            "DATA"
        ]
    );
    let text = steady(&project, &mails[0].text).replace(&run, "RUN");
    expect![[r#"
        From: "Backups of shop" <backups@example.org>
        Subject: [lifeboat] error: bad failed in step `Dump`: `false` exited with
         status 1
        Date: Mon, 10 Nov 2025 02:00:00 +0000
        Message-ID: ID
        Auto-Submitted: auto-generated
        Content-Type: text/plain; charset=utf-8
        To: ops@example.org, Boss <boss@example.org>
        Content-Transfer-Encoding: 7bit

        bad failed in step `Dump`: `false` exited with status 1

        Status:   error
        Host:     MACHINE
        Playbook: bad
        Run:      RUN
        Time:     2025-11-10T02:00:00+00:00
        Log:      PROJECT/logs/backup-20251110.log

        `lifeboat show RUN` tells all of it.

    "#]]
    .assert_eq(&text);

    let told = std::fs::read_to_string(project.at("told")).unwrap();
    let (json, kind) = told.split_once('\n').unwrap();
    assert_eq!(kind, "failed\n");
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let log = project.at("logs/backup-20251110.log").display().to_string();
    assert_eq!(
        json,
        serde_json::json!({
            "status": "error", "message": message, "timestamp": "2025-11-10T02:00:00+00:00",
            "kind": "failed", "host": machine(), "playbook": "bad", "run": run, "log": log,
        })
    );

    let noted = std::fs::read_to_string(project.at(format!(".lifeboat/runs/{run}/alert.json"))).unwrap();
    expect![[r#"
        {
          "version": 1,
          "at": "2025-11-10T02:00:00Z",
          "delivered": true,
          "detail": "delivered",
          "channels": [
            {
              "channel": "webhook",
              "delivered": true,
              "detail": "127.0.0.1"
            },
            {
              "channel": "e-mail",
              "delivered": true,
              "detail": "ops@example.org, boss@example.org"
            },
            {
              "channel": "command",
              "delivered": true,
              "detail": "the command in BACKUP_ALERT_COMMAND"
            }
          ]
        }
    "#]]
    .assert_eq(&noted);
    let everywhere = format!("{}{}{}", all_text(&project), ran.stderr, ran.stdout);
    for secret in [PASSWORD, "s3cret-hook", "tok-3n", "me%40shop:"] {
        assert!(!everywhere.contains(secret), "{secret} in\n{everywhere}");
    }
    assert!(ran.stderr.contains("alert sent to ops@example.org, boss@example.org"), "{}", ran.stderr);
}

#[test]
fn slack_and_ntfy_get_forms_of_their_own() {
    let receiver = Receiver::new();
    let url = format!("http://me:pw-of-ntfy@{}/below/backups-of-shop?auth=abc", receiver.address());
    let project = project().env("BACKUP_WEBHOOK_URL", url).env("LIFEBOAT_NOW", at("02:00"));
    let project = project.env("BACKUP_WEBHOOK_FORMAT", "slack");
    project.run(&["bad"]).exits(1);
    let project = project.env("BACKUP_WEBHOOK_FORMAT", "ntfy");
    project.run(&["bad"]).exits(1);
    let [slack, ntfy] = &receiver.requests()[..] else { panic!("{:?}", receiver.requests()) };
    let message = "bad failed in step `Dump`: `false` exited with status 1";
    assert_eq!(slack.line, "POST /below/backups-of-shop?auth=abc HTTP/1.1");
    assert_eq!(slack.body, format!("{{\"text\":\"❌ {message} (on {})\"}}", machine()));
    assert_eq!(ntfy.line, "POST /below/?auth=abc HTTP/1.1");
    assert!(
        ntfy.headers.iter().any(|line| line == "authorization: Basic bWU6cHctb2YtbnRmeQ=="),
        "{:?}",
        ntfy.headers
    );
    assert_eq!(
        ntfy.body,
        format!(
            "{{\"message\":\"{message}\",\"priority\":4,\"tags\":[\"rotating_light\",\"lifeboat\"],\
             \"title\":\"error on {}\",\"topic\":\"backups-of-shop\"}}",
            machine()
        )
    );
    assert!(!all_text(&project).contains("pw-of-ntfy"));
}

/// What `lifeboat alert test` tells of a mail server of this manner.
fn tried(manner: Manner, url: impl Fn(u16) -> String) -> (MailServer, String) {
    let mail = MailServer::new(manner);
    let project = with_mail(project(), &url(mail.port)).env("LIFEBOAT_NOW", at("02:00"));
    let ran = project.run(&["alert", "test"]);
    assert!(!ran.stderr.contains(PASSWORD) && !ran.stdout.contains(PASSWORD), "{ran:?}");
    let told = format!("exit {}\n{}{}", ran.code, ran.stdout, ran.stderr);
    let told = told.replace(&mail.port.to_string(), "PORT");
    (mail, told)
}

#[test]
fn mail_by_starttls_is_encrypted_before_the_password() {
    let (mail, told) =
        tried(Manner::StartTls, |port| format!("smtp://me:{PASSWORD}@localhost:{port}?tls=required"));
    expect![[r#"
        exit 0
        sent    e-mail   ops@example.org, boss@example.org
    "#]]
    .assert_eq(&told);
    let mail = mail.mails().remove(0);
    assert!(mail.encrypted);
    assert_eq!(mail.said[1], "STARTTLS");
    assert_eq!(mail.said[3], format!("AUTH |me|{PASSWORD}"));
    assert!(
        mail.text.contains("\nSubject: [lifeboat] success: this is a test of the alerts: nothing happened\n"),
        "{}",
        mail.text
    );
}

#[test]
fn a_server_without_starttls_gets_no_password() {
    let (mail, told) =
        tried(Manner::Plain, |port| format!("smtp://me:{PASSWORD}@localhost:{port}?tls=required"));
    expect![[r#"
        exit 1
        failed  e-mail   cannot talk to `localhost:PORT`: STARTTLS is not supported on this server
    "#]]
    .assert_eq(&told);
    assert_eq!(mail.mails(), []);
}

#[test]
fn plain_mail_to_this_machine_is_fine() {
    let (mail, told) = tried(Manner::Plain, |port| format!("smtp://127.0.0.1:{port}"));
    expect![[r#"
        exit 0
        sent    e-mail   ops@example.org, boss@example.org
    "#]]
    .assert_eq(&told);
    let mail = mail.mails().remove(0);
    assert!(!mail.encrypted);
}

#[test]
fn a_mail_server_that_refuses_is_told_in_its_own_words() {
    let mut told = String::new();
    let plain = |port| format!("smtp://127.0.0.1:{port}");
    let user = |port| format!("smtp://me:{PASSWORD}@127.0.0.1:{port}");
    told += &tried(Manner::RefusesForGood, plain).1;
    told += &tried(Manner::RefusesUsers, user).1;
    // Its certificate is for another name.
    told += &tried(Manner::Implicit, |port| format!("smtps://me:{PASSWORD}@127.0.0.1:{port}")).1;
    expect![[r#"
        exit 1
        failed  e-mail   `127.0.0.1:PORT` refused the e-mail: 550 no such user here
        exit 1
        failed  e-mail   `127.0.0.1:PORT` refused the e-mail: 535 who are you
        exit 1
        failed  e-mail   cannot encrypt the connection to `127.0.0.1:PORT`: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("localhost")
    "#]].assert_eq(&told);
}

#[test]
fn a_receiver_that_is_gone_keeps_the_mail_from_no_other() {
    let mail = MailServer::new(Manner::RefusesTheBoss);
    let project =
        with_mail(project(), &format!("smtp://127.0.0.1:{}", mail.port)).env("LIFEBOAT_NOW", at("02:00"));
    let ran = project.run(&["bad"]).exits(1);
    let told = format!(
        "the alert did not reach boss@example.org: `127.0.0.1:{}` refused the e-mail: 550 the boss has left. Correct \
         BACKUP_EMAIL_TO.",
        mail.port
    );
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    let mails = mail.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].said.contains(&"RCPT TO:<ops@example.org>".to_owned()), "{:?}", mails[0].said);
    project.run(&["alert", "test"]).exits(1);
    assert_eq!(mail.mails().len(), 2);
}

#[test]
fn a_mail_server_that_stumbles_is_asked_again() {
    let plain = |port| format!("smtp://127.0.0.1:{port}");
    let (mail, told) = tried(Manner::RefusesOnce, plain);
    assert_eq!(
        (told.as_str(), mail.mails().len()),
        ("exit 0\nsent    e-mail   ops@example.org, boss@example.org\n", 1)
    );
    let (_, told) = tried(Manner::BreaksOff, plain);
    assert!(told.starts_with("exit 1\nfailed  e-mail   cannot "), "{told}");
}

#[test]
fn the_test_tells_of_every_channel() {
    let project = project().env("LIFEBOAT_NOW", at("02:00"));
    let none = project.run(&["alert", "test"]).exits(2);
    expect![[r#"
        error: no channel is set, so no alert can be sent
        hint: Set BACKUP_WEBHOOK_URL, BACKUP_SMTP_URL or BACKUP_ALERT_COMMAND in the environment or in `.env`; `lifeboat alert test --help` tells more.
    "#]].assert_eq(&none.stderr);
    let receiver = Receiver::new();
    let refusing = Receiver::answering(403);
    let mail = MailServer::new(Manner::Plain);
    let project = with_mail(project, &format!("smtp://127.0.0.1:{}", mail.port))
        .env("BACKUP_WEBHOOK_URL", format!("http://{}/hook/s3cret", refusing.address()))
        .env("BACKUP_ALERT_COMMAND", "cat >&2; exit 3")
        .env("BACKUP_PING_URL", format!("http://{}/ping/s3cret", receiver.address()));
    let ran = project.run(&["alert", "test"]).exits(1);
    let steady = |text: &str| text.replace(refusing.address(), "REFUSING").replace(&machine(), "MACHINE");
    expect![[r#"
        failed  webhook  `http://REFUSING/…` answered 403 Forbidden
        sent    e-mail   ops@example.org, boss@example.org
        failed  command  the command in BACKUP_ALERT_COMMAND exited with status 3: {"host":"MACHINE","kind":"test","log":null,"message":"this is a test of the alerts: nothing happened","playbook":null,"run":null,"status":"success","timestamp":"2025-11-10T02:00:00+00:00"}
        sent    ping     127.0.0.1
    "#]].assert_eq(&steady(&ran.stdout));
    let ran = project.run(&["alert", "test", "--json"]).exits(1);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let of = |n: usize| (json[n]["channel"].as_str().unwrap(), json[n]["delivered"].as_bool().unwrap());
    assert_eq!(
        [of(0), of(1), of(2), of(3)],
        [("webhook", false), ("e-mail", true), ("command", false), ("ping", true)]
    );
    assert!(
        receiver.requests()[0].line.starts_with("POST /ping/s3cret/log?rid="),
        "{:?}",
        receiver.requests()
    );
    assert_eq!(project.names(".lifeboat"), [""; 0], "a test keeps nothing");
}

#[test]
fn no_child_sees_a_channel_in_its_arguments_or_its_environment() {
    let receiver = Receiver::new();
    let mail = MailServer::new(Manner::Implicit);
    let project = with_mail(project(), &format!("smtps://me:{PASSWORD}@localhost:{}", mail.port))
        .file("spy.sh", "cat /proc/self/environ /proc/[0-9]*/cmdline >> \"$1\" 2> /dev/null; test -e go\n")
        .playbook(
            "spied",
            "const PLAYBOOK = #{ summary: \"x\", notify: #{ ping_env: \"PING_OWN\" } };\n\
             step \"x\" { exec([\"sh\", \"spy.sh\", \"seen-by-exec\"]); }",
        )
        .env("BACKUP_WEBHOOK_URL", format!("http://{}/hook/s3cret-hook", receiver.address()))
        .env("PING_OWN", format!("http://{}/ping/s3cret-check", receiver.address()))
        .env("BACKUP_ALERT_COMMAND", "TOKEN=tok-3n; sh spy.sh seen-by-command || true");
    project.run(&["spied"]).exits(1);
    assert_eq!((receiver.requests().len(), mail.mails().len()), (3, 1), "all channels were at work");
    for (name, may_know) in [("seen-by-exec", ""), ("seen-by-command", "tok-3n")] {
        let seen = std::fs::read(project.at(name)).unwrap();
        let seen = String::from_utf8_lossy(&seen);
        assert!(seen.contains("spy.sh\0") && seen.contains("HOME="), "{seen}");
        for secret in [PASSWORD, "s3cret-hook", "s3cret-check", "tok-3n"] {
            assert!(!seen.contains(secret) || secret == may_know, "{secret} in {name}:\n{seen}");
        }
        // Its own text reaches the command by its environment alone.
        assert!(seen.matches("tok-3n").count() <= 1, "{seen}");
    }
}

#[test]
fn a_failed_verification_and_a_failed_drill_alert() {
    let receiver = Receiver::new();
    let project = project()
        .file("package.json", "{}\n")
        .playbook("recover", "step \"Recover\" { write(\"made\", \"x\"); fail(\"the server is gone\"); }")
        .env("LIFEBOAT_NOW", at("02:00"));
    project.run(&["backup_config"]).exits(0);
    let name = project.only("backups/config", ".tar.gz");
    let path = project.at(format!("backups/config/{name}"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let project = project.env("BACKUP_WEBHOOK_URL", receiver.url());
    project.run(&["verify_backups"]).exits(12);
    project.run(&["drill", "recover"]).exits(5);
    let told = |message: &str| serde_json::json!({ "status": "error", "message": message, "timestamp": "2025-11-10T02:00:00+00:00" });
    assert_eq!(
        receiver.bodies(),
        [
            told(&format!("verify_backups failed in step `Report`: 1 of 1 backups are not intact: {name}")),
            told("drill of recover failed in step `Recover`: the server is gone"),
        ]
    );
}
