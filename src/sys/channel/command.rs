//! Alerts to a command of the user.
//!
//! *Decision*: the text is run by `sh`, since a pipe or a redirection is what one wants here, and splitting it otherwise would only
//! imitate a shell badly. It reaches the shell through the environment and not as an argument, so that a token in it is not
//! shown to every user of the machine by Lifeboat.

use super::{ALERT_COMMAND, Attempt, Rejected, machine};
use crate::base::failure::{Code, Failure};
use crate::base::notice::Notice;
use crate::base::secret::Secret;
use crate::sys::host::Host;
use crate::sys::process::{Command, Input, Value};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long a command may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// A command that gets alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCommand(Secret);

/// The command that the environment names, if it names one.
pub fn command(host: &Host) -> Option<AlertCommand> {
    host.env().value(ALERT_COMMAND).map(|text| AlertCommand(Secret::new(text)))
}

impl AlertCommand {
    pub(super) fn send(&self, host: &Arc<Host>, notice: &Notice, attempt: Attempt) -> Result<(), Rejected> {
        // The end of the run ends its children, but not this one.
        let _grace = attempt.even_if_ending.then(|| host.cancel().grace());
        let about = json!({
            "status": notice.alert.status,
            "message": notice.alert.message,
            "timestamp": notice.alert.timestamp,
            "kind": notice.kind,
            "host": machine(),
            "playbook": notice.playbook,
            "run": notice.run,
            "log": notice.log,
        });
        let plain = |text: &str| Value::Plain(text.to_owned());
        let ended = Command::new("sh")
            .args(["-c", "eval \"$LIFEBOAT_ALERT_COMMAND\""])
            .env("LIFEBOAT_ALERT_COMMAND", plain(self.0.expose()))
            .env("LIFEBOAT_ALERT_STATUS", plain(&notice.alert.status))
            .env("LIFEBOAT_ALERT_MESSAGE", plain(&notice.alert.message))
            .env("LIFEBOAT_ALERT_KIND", plain(notice.kind.as_str()))
            .input(Input::Bytes(format!("{about}\n").into_bytes()))
            .timeout(attempt.limit)
            .grace(GRACE)
            .unseen()
            .run(host)
            .and_then(crate::sys::process::Ended::checked);
        match ended {
            Ok(_) => Ok(()),
            Err(failure) => {
                // What fails by itself does so again; what was too slow may have been so for a reason that passes.
                let may_pass = failure.code == Code::TimedOut;
                Err(Rejected { failure: told(failure), may_pass })
            }
        }
    }
}

/// The failure as one of the command: that it is run by `sh` is nobody's concern.
fn told(failure: Failure) -> Failure {
    if failure.code.ends_the_run() {
        return failure;
    }
    let message = failure.message.replacen("`sh`", &format!("the command in {ALERT_COMMAND}"), 1);
    let failure = Failure { message, ..failure };
    failure
        .hint("Try it out: it gets the alert as JSON on its standard input. `lifeboat alert test` runs it.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Alert;
    use crate::base::notice::Kind;
    use crate::sys::env::Env;
    use std::path::Path;

    const LIMIT: Duration = Duration::from_secs(20);

    fn send(dir: &Path, text: &str, limit: Duration) -> Result<(), Rejected> {
        let variables = [(ALERT_COMMAND, text), ("PATH", "/usr/bin:/bin"), ("TOKEN", "t0psecret")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let host = Host::new(dir.into(), dir.join(".lifeboat"), Env::of(variables.into(), [].into()));
        let alert = Alert {
            status: "error".into(),
            message: "it \"failed\"\n$(touch evil) `touch evil`".into(),
            timestamp: "2025-11-10T02:00:00+00:00".into(),
        };
        let notice = Notice::new(Kind::Failed, alert).of_playbook("p").of_run("r");
        command(&host).unwrap().send(&Arc::new(host), &notice, Attempt { limit, even_if_ending: false })
    }

    #[test]
    fn it_gets_json_and_variables_and_nothing_is_run_but_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let text = "cat > json; printf '%s|%s|%s|%s' \"$LIFEBOAT_ALERT_KIND\" \"$LIFEBOAT_ALERT_STATUS\" \
                    \"$LIFEBOAT_ALERT_MESSAGE\" \"$TOKEN\" > env";
        assert_eq!(send(dir.path(), text, LIMIT), Ok(()));
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(
            read("json"),
            format!(
                "{{\"host\":\"{}\",\"kind\":\"failed\",\"log\":null,\"message\":\"it \\\"failed\\\"\\n$(touch evil) \
                 `touch evil`\",\"playbook\":\"p\",\"run\":\"r\",\"status\":\"error\",\"timestamp\":\
                 \"2025-11-10T02:00:00+00:00\"}}\n",
                machine()
            )
        );
        assert_eq!(read("env"), "failed|error|it \"failed\"\n$(touch evil) `touch evil`|");
        assert!(!dir.path().join("evil").exists());
    }

    #[test]
    fn a_command_that_fails_is_told_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let rejected = send(dir.path(), "echo no route >&2; exit 7", LIMIT).unwrap_err();
        assert!(!rejected.may_pass);
        assert_eq!(
            rejected.failure.to_string(),
            "the command in BACKUP_ALERT_COMMAND exited with status 7: no route"
        );
        assert_eq!(
            rejected.failure.hints,
            ["Try it out: it gets the alert as JSON on its standard input. `lifeboat alert test` runs it."]
        );
        // One that does not read its input is fine.
        assert_eq!(send(dir.path(), "true", LIMIT), Ok(()));
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let text = "(trap '' TERM; sleep 600; touch late) & echo $! > child; wait";
        let rejected = send(dir.path(), text, Duration::from_secs(3)).unwrap_err();
        assert!(rejected.may_pass);
        assert_eq!(
            rejected.failure.to_string(),
            "the command in BACKUP_ALERT_COMMAND did not end within 3.0 s"
        );
        let child = std::fs::read_to_string(dir.path().join("child")).unwrap();
        // It was killed, but on a busy machine that takes a moment.
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let began = std::time::Instant::now();
        while !gone() {
            assert!(began.elapsed() < LIMIT, "it still runs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
