use super::courier::{Patience, carry};
use super::*;
use crate::base::cancel::Reason;
use crate::base::event::{Event, EventSink, Level, What};
use crate::base::failure::Code;
use crate::sys::channel::WEBHOOK_URL;
use crate::sys::env::Env;
use crate::sys::scripted_server::{Move, ScriptedServer};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const BRIEF: Patience = Patience {
    each: Duration::from_secs(5),
    whole: Duration::from_secs(30),
    pauses: &[Duration::from_millis(5), Duration::from_millis(10)],
};

#[derive(Default)]
struct Sink(Mutex<Vec<What>>);

impl EventSink for Sink {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.what.clone());
    }
}

fn host(url: &str) -> (Arc<Host>, Arc<Sink>) {
    let env = [
        (WEBHOOK_URL.to_owned(), url.to_owned()),
        ("LIFEBOAT_NOW".to_owned(), "2025-11-10T02:00:00+00:00".to_owned()),
    ];
    let host = Host::new("/nowhere".into(), "/proc/nowhere".into(), Env::of(env.into(), [].into()));
    let (host, sink) = (Arc::new(host), Arc::new(Sink::default()));
    host.listen(sink.clone());
    (host, sink)
}

/// What became of an alert that is sent.
fn sent(host: &Arc<Host>) -> Outcome {
    send(host, Notice::new(Kind::Success, success())).outcome
}

/// What became of an alert that is carried, and why it failed.
fn carried(host: &Arc<Host>, alert: &Alert, patience: Patience) -> Result<(), String> {
    let sent = carry(host, &[Notice::new(Kind::Success, alert.clone())], patience).remove(0);
    assert_eq!(sent.channels.len(), 1);
    if sent.outcome == Outcome::Delivered { Ok(()) } else { Err(sent.channels[0].detail.clone()) }
}

fn success() -> Alert {
    Alert { status: "success".into(), message: "done".into(), timestamp: "2025-11-10T02:00:00+00:00".into() }
}

/// Status and message of the alert for this end.
fn decided(exit: Exit, failure: Option<&Failure>, warnings: &[String]) -> Option<(String, String)> {
    let end = End { playbook: "backup_database", exit, failure, warnings };
    let now = host("").0.clock().now();
    decide(Some(success()), end, now).map(|alert| {
        assert_eq!(DateTime::parse_from_rfc3339(&alert.timestamp).unwrap(), now.fixed_offset());
        (alert.status, alert.message)
    })
}

#[test]
fn a_success_sends_what_the_playbook_set_and_nothing_else() {
    assert_eq!(decided(Exit::Success, None, &[]), Some(("success".into(), "done".into())));
    let end = End { playbook: "p", exit: Exit::Success, failure: None, warnings: &[] };
    assert_eq!(decide(None, end, Local::now()), None);
}

#[test]
fn every_other_end_has_the_hosts_own_alert() {
    let mut failure =
        Failure::new(Code::ProcessFailed, "`pg_dump` exited with status 1").caused_by("no space");
    let said = |exit, failure: &Failure| decided(exit, Some(failure), &[]).unwrap();
    let error = |message: &str| ("error".to_owned(), message.to_owned());
    assert_eq!(
        said(Exit::Failed, &failure),
        error("backup_database failed: `pg_dump` exited with status 1: no space")
    );
    failure.step = Some("Dump".into());
    assert_eq!(
        said(Exit::Failed, &failure),
        error("backup_database failed in step `Dump`: `pg_dump` exited with status 1: no space")
    );
    assert_eq!(said(Exit::Interrupted, &failure), error("backup_database was interrupted in step `Dump`"));
    assert_eq!(decided(Exit::Terminated, None, &[]).unwrap(), error("backup_database was terminated"));
    let locked = Failure::new(Code::Locked, "another run works on `/b`");
    assert_eq!(said(Exit::Locked, &locked), error("backup_database did not run: another run works on `/b`"));
    let refused = Failure::new(Code::Policy, "`exec` may not run `rm`");
    assert_eq!(said(Exit::Policy, &refused), error("backup_database was refused: `exec` may not run `rm`"));
    let broken = Failure::new(Code::NotIntact, "`a.sql.gz` is not intact");
    assert_eq!(said(Exit::NotIntact, &broken), error("backup_database failed: `a.sql.gz` is not intact"));
    let usage = Failure::new(Code::Usage, "no database is named");
    assert_eq!(said(Exit::Usage, &usage), error("backup_database failed: no database is named"));
    assert_eq!(decided(Exit::Partial, None, &[]), None);
}

#[test]
fn warnings_are_listed_and_bounded() {
    let warnings: Vec<String> = (1..=5).map(|n| format!("w{n}")).collect();
    let (status, message) = decided(Exit::Warnings, None, &warnings).unwrap();
    assert_eq!(status, "warning");
    assert_eq!(message, "backup_database completed with warnings: w1; w2; w3; and 2 more");
    let (_, message) = decided(Exit::Warnings, None, &warnings[..1]).unwrap();
    assert_eq!(message, "backup_database completed with warnings: w1");
    assert_eq!(
        killed("backup_all", "20251110-020000-abcdef", Local::now()).message,
        "backup_all was killed: run 20251110-020000-abcdef never ended"
    );
}

#[test]
fn a_receiver_that_stumbles_is_asked_again() {
    let server = ScriptedServer::answering(&[500, 429, 200]);
    let (host, sink) = host(&format!("http://{}/services/T0/secret", server.address));
    host.masker().add(&crate::base::secret::Secret::new("hunter22"));
    let alert = Alert { message: "with hunter22 in it".into(), ..success() };
    assert_eq!(carried(&host, &alert, BRIEF), Ok(()));
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].line, "POST /services/T0/secret HTTP/1.1");
    assert!(seen[2].headers.contains(&"content-type: application/json".to_owned()));
    let sent: serde_json::Value = serde_json::from_str(&seen[2].body).unwrap();
    assert_eq!(
        sent,
        serde_json::json!({
            "status": "success", "message": "with *** in it", "timestamp": "2025-11-10T02:00:00+00:00"
        })
    );
    let events = sink.0.lock().unwrap();
    assert_eq!(*events, [What::AlertSent { delivered: true, detail: "127.0.0.1".into() }]);
}

#[test]
fn a_refusal_is_not_repeated_and_warns_without_the_url() {
    let server = ScriptedServer::answering(&[404, 200]);
    let (host, sink) = host(&format!("http://{}/services/T0/secret", server.address));
    let failure = carried(&host, &success(), BRIEF).unwrap_err();
    let said = format!("`http://{}/…` answered 404 Not Found", server.address);
    assert_eq!(failure, said);
    assert_eq!(server.seen().len(), 1);
    let events = sink.0.lock().unwrap();
    let warning = format!(
        "the alert was not delivered: {said}. Set BACKUP_WEBHOOK_URL to the receiver's own URL, as it is shown where \
         the webhook was made."
    );
    assert_eq!(
        *events,
        [
            What::AlertSent { delivered: false, detail: said.clone() },
            What::Log { level: Level::Warn, message: warning }
        ]
    );
}

#[test]
fn three_tries_are_all() {
    let server = ScriptedServer::new(vec![
        Move::BreakOff,
        Move::Hang,
        Move::Answer(503, "", String::new()),
        Move::Answer(200, "", String::new()),
    ]);
    let (host, _) = host(&format!("http://{}/x", server.address));
    let failure = carried(&host, &success(), BRIEF).unwrap_err();
    assert_eq!(failure, format!("`http://{}/…` answered 503 Service Unavailable", server.address));
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn sending_is_bounded_in_time() {
    let server = ScriptedServer::new((0..9).map(|_| Move::Hang).collect());
    let (host, _) = host(&format!("http://{}", server.address));
    const MANY: &[Duration] = &[Duration::from_millis(5); 8];
    let patience =
        Patience { each: Duration::from_millis(300), whole: Duration::from_millis(400), pauses: MANY };
    let failure = carried(&host, &success(), patience).unwrap_err();
    assert!(failure.contains("did not answer within"), "{failure}");
    // The second try has what the first one left.
    assert!(server.seen().len() <= 2, "{} tries", server.seen().len());
}

#[test]
fn the_usual_pauses_are_one_and_three_seconds() {
    let server = ScriptedServer::answering(&[500, 500, 200]);
    let (host, _) = host(&format!("http://{}", server.address));
    let began = Instant::now();
    assert_eq!(sent(&host), Outcome::Delivered);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn an_interrupted_run_still_sends() {
    let server = ScriptedServer::answering(&[200]);
    let (host, _) = host(&format!("http://{}", server.address));
    host.cancel().cancel(Reason::Interrupted);
    assert_eq!(sent(&host), Outcome::Delivered);
}

#[test]
fn who_interrupts_the_sending_gets_the_end_soon_and_the_alert_its_chance() {
    let server = ScriptedServer::new(vec![Move::Hang, Move::Answer(200, "", String::new())]);
    let (host, _) = host(&format!("http://{}", server.address));
    let cancel = host.cancel().clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.wait_for_request();
            cancel.cancel(Reason::Interrupted);
        });
        assert_eq!(sent(&host), Outcome::Delivered);
    });
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn without_receiver_nothing_is_said_and_nonsense_warns() {
    let (silent, sink) = host("");
    assert_eq!(sent(&silent), Outcome::NoReceiver);
    assert_eq!(*sink.0.lock().unwrap(), []);
    let (broken, sink) = host("hooks.slack.com/T0/secret");
    assert_eq!(
        sent(&broken),
        Outcome::GivenUp { kept: false },
        "a state that cannot be written keeps nothing"
    );
    let events = format!("{:?}", sink.0.lock().unwrap());
    assert!(
        events.contains(
            "the alert was not delivered: BACKUP_WEBHOOK_URL is not a valid URL: relative URL without a base. Set \
             BACKUP_WEBHOOK_URL to the full URL of the receiver, which begins with `https://`, or remove it."
        ),
        "{events}"
    );
    assert!(!events.contains("T0"), "{events}");
}
