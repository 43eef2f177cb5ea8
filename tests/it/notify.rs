//! `notify`: sets the run's alert, and in a dry run says who would get it.

use crate::doors::Doors;
use lifeboat::action::Recorded;
use lifeboat::action::notify::{Notified, Notify};
use lifeboat::base::event::What;
use lifeboat::base::plan::{Effect, Later};

const URL: &str = "https://hooks.slack.com/services/T0/B0/xyz";

fn notify() -> Notify {
    Notify { status: "success".into(), message: "Backed up shop".into() }
}

fn notified() -> Notified {
    Notified { status: "success".into(), message: "Backed up shop".into() }
}

#[test]
fn a_dry_run_sets_nothing_and_says_who_would_be_told() {
    let doors = Doors::dry(&[("BACKUP_WEBHOOK_URL", URL)]);
    assert_eq!(doors.session.perform(&notify(), None), Ok(Later::Now(notified())));
    assert_eq!(doors.session.host().alert(), None);
    let plan = doors.plans().remove(0);
    assert_eq!((plan.summary.as_str(), plan.effect), ("set the alert `success`", Effect::Notify));
    assert_eq!(plan.details, ["message: Backed up shop", "to https://hooks.slack.com/… when the run ends"]);
    assert!(!format!("{:?}", doors.events()).contains("xyz"));
    let receiver = |env: &[(&str, &str)]| {
        let doors = Doors::dry(env);
        doors.session.perform(&notify(), None).unwrap();
        doors.plans()[0].details[1].clone()
    };
    assert_eq!(receiver(&[]), "no channel is set: nothing will be sent");
    assert_eq!(
        receiver(&[("BACKUP_WEBHOOK_URL", "hooks/secret")]),
        "BACKUP_WEBHOOK_URL is not a valid URL: nothing will be sent"
    );
    let doors = Doors::dry(&[
        ("BACKUP_WEBHOOK_URL", URL),
        ("BACKUP_SMTP_URL", "smtps://u:s3cret@mail.example.org"),
        ("BACKUP_EMAIL_FROM", "backups@example.org"),
        ("BACKUP_EMAIL_TO", "ops@example.org"),
        ("BACKUP_ALERT_COMMAND", "wall"),
    ]);
    doors.session.perform(&notify(), None).unwrap();
    assert_eq!(
        doors.plans()[0].details[1..],
        [
            "to https://hooks.slack.com/… when the run ends",
            "to ops@example.org when the run ends",
            "to the command in BACKUP_ALERT_COMMAND when the run ends"
        ]
    );
}

#[test]
fn a_live_run_sets_what_was_forecast() {
    let doors = Doors::live(&[("LIFEBOAT_NOW", "2025-11-10T02:00:00.5+00:00")]);
    assert_eq!(doors.session.perform(&notify(), None), Ok(Later::Now(notified())));
    let alert = doors.session.host().alert().unwrap();
    assert_eq!((alert.status.as_str(), alert.message.as_str()), ("success", "Backed up shop"));
    let time = chrono::DateTime::parse_from_rfc3339(&alert.timestamp).unwrap();
    assert_eq!(time.timestamp(), 1_762_740_000);
    assert!(!alert.timestamp.contains('.') && !alert.timestamp.ends_with('Z'), "{}", alert.timestamp);
    assert!(doors.events().contains(&What::AlertSet(alert)));
    assert_eq!(notified().summary(), "alert `success`: Backed up shop");
}
