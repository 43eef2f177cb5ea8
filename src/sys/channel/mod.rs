//! The channels by which alerts leave the machine: a webhook, e-mail, a command; and the pings of a run's own check.
//!
//! *Problem*: what is set up wrong must neither fail a backup nor stay unseen. *Decision*: each channel is read from the
//! environment when it is needed; one that is not valid is a failure of that channel alone, which is told like one
//! whose receiver is gone. Whoever set it up tries it out with `lifeboat alert test`. *Rejected*: a file of channels,
//! whose secrets would lie beside the playbooks.

pub mod command;
pub mod email;
pub mod ping;
pub mod webhook;

use crate::base::failure::{Code, Failure};
use crate::base::notice::Notice;
use crate::base::secret::Secret;
use crate::sys::env::Origin;
use crate::sys::fs;
use crate::sys::host::Host;
use crate::sys::http::Address;
use command::AlertCommand;
use email::Email;
use std::sync::Arc;
use std::time::Duration;
use webhook::Webhook;

/// URL that alerts are posted to.
pub const WEBHOOK_URL: &str = "BACKUP_WEBHOOK_URL";
/// Form of what is posted: `json`, `slack`, `ntfy`, or `auto`, which goes by the host.
pub const WEBHOOK_FORMAT: &str = "BACKUP_WEBHOOK_FORMAT";
/// Mail server: `smtps://USER:PASSWORD@HOST` or `smtp://USER:PASSWORD@HOST`.
pub const SMTP_URL: &str = "BACKUP_SMTP_URL";
/// Sender of e-mail.
pub const EMAIL_FROM: &str = "BACKUP_EMAIL_FROM";
/// Receivers of e-mail, separated by commas.
pub const EMAIL_TO: &str = "BACKUP_EMAIL_TO";
/// Shell command that gets each alert.
pub const ALERT_COMMAND: &str = "BACKUP_ALERT_COMMAND";
/// URL of a check that is told of the beginning and the end of scheduled playbooks' runs.
pub const PING_URL: &str = "BACKUP_PING_URL";
/// Most alerts of an hour; 10 unless said otherwise, 0 for no limit.
pub const ALERTS_PER_HOUR: &str = "BACKUP_ALERTS_PER_HOUR";
/// An alert tells of a disk of which less than this many percent are free; 10 unless said otherwise, 0 for never.
pub const DISK_PERCENT: &str = "BACKUP_ALERT_DISK_PERCENT";
/// An alert tells of a backup that is more than this many percent off the usual; 50 unless said otherwise.
pub const ANOMALY_PERCENT: &str = "BACKUP_ALERT_ANOMALY_PERCENT";

/// All variables of alerts. A drill has none of them: it announces nothing, whatever is restored into it.
pub const VARIABLES: [&str; 10] = [
    WEBHOOK_URL,
    WEBHOOK_FORMAT,
    SMTP_URL,
    EMAIL_FROM,
    EMAIL_TO,
    ALERT_COMMAND,
    PING_URL,
    ALERTS_PER_HOUR,
    DISK_PERCENT,
    ANOMALY_PERCENT,
];

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Posts it.
    Webhook(Webhook),
    /// Mails it.
    Email(Email),
    /// Hands it to a command.
    Command(AlertCommand),
}

impl Channel {
    /// Who gets it, without anything secret.
    pub fn receiver(&self) -> String {
        match self {
            Self::Webhook(webhook) => webhook.receiver(),
            Self::Email(email) => email.receivers(),
            Self::Command(_) => format!("the command in {ALERT_COMMAND}"),
        }
    }

    /// Who gets it, as far as a plan may show it.
    pub fn shown(&self) -> String {
        match self {
            Self::Webhook(webhook) => webhook.shown(),
            other => other.receiver(),
        }
    }

    /// Sends one alert, once.
    ///
    /// # Errors
    /// Why it was not accepted, and whether trying again may help.
    pub fn send(&self, host: &Arc<Host>, notice: &Notice, attempt: Attempt) -> Result<(), Rejected> {
        let notice = notice.clone().masked(|text| host.masker().mask(text));
        match self {
            Self::Webhook(webhook) => webhook.send(host, &notice, attempt),
            Self::Email(email) => email.send(host, &notice, attempt),
            Self::Command(command) => command.send(host, &notice, attempt),
        }
    }
}

/// One try to send.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// How long it may take.
    pub limit: Duration,
    /// Whether it goes on when the run is asked to end.
    pub even_if_ending: bool,
}

/// An alert that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub failure: Failure,
    /// Whether trying again may help.
    pub may_pass: bool,
}

impl From<Failure> for Rejected {
    /// A time limit, a server that is gone or broke off may pass.
    fn from(failure: Failure) -> Self {
        let may_pass = matches!(failure.code, Code::Http | Code::Connect | Code::TimedOut);
        Self { failure, may_pass }
    }
}

/// A channel that the environment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// `webhook`, `e-mail` or `command`.
    pub name: &'static str,
    /// The channel, or what is wrong with its variables.
    pub channel: Result<Channel, Failure>,
}

impl Configured {
    /// Who gets what it sends, as far as it can be told.
    pub fn receiver(&self) -> String {
        self.channel.as_ref().map_or_else(|failure| failure.message.clone(), Channel::receiver)
    }
}

/// The channels that the environment names. What is secret in their variables is masked from now on.
pub fn configured(host: &Host) -> Vec<Configured> {
    let webhook = webhook::webhook(host).transpose();
    let email = email::email(host).transpose();
    let command = command::command(host).map(Ok);
    [
        webhook.map(|channel| Configured { name: "webhook", channel: channel.map(Channel::Webhook) }),
        email.map(|channel| Configured { name: "e-mail", channel: channel.map(Channel::Email) }),
        command.map(|channel| Configured { name: "command", channel: channel.map(Channel::Command) }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The number that a variable holds, or `otherwise` with what is wrong.
pub fn number(host: &Host, name: &str, otherwise: u32) -> (u32, Option<Failure>) {
    let env = host.env();
    let Some((text, origin)) = env.get(name) else { return (otherwise, None) };
    match text.trim().parse() {
        Ok(number) => (number, None),
        Err(_) => {
            let failure = Failure::new(Code::Usage, format!("{} is not a number", origin.describe(name)))
                .hint(format!("Set {name} to a whole number, or remove it: then it is {otherwise}."));
            (otherwise, Some(failure))
        }
    }
}

/// The HTTP address that a variable holds; it is a secret, as those of Slack are, and is masked from now on.
///
/// # Errors
/// `Usage` if the URL is not valid.
fn address(host: &Host, name: &str, owner: &str) -> Result<Option<Address>, Failure> {
    let env = host.env();
    let Some((text, origin)) = env.get(name) else { return Ok(None) };
    let address = Address::parse(text).map_err(|failure| {
        invalid_url(
            host,
            (name, text, origin),
            failure,
            &format!("the full URL of the {owner}, which begins with `https://`"),
        )
    })?;
    let secrets = address.secrets();
    // A URL that names but a host holds nothing secret.
    if !secrets.is_empty() {
        host.masker().add(&Secret::new(text));
        secrets.iter().for_each(|secret| host.masker().add(secret));
    }
    Ok(Some(address))
}

/// The failure of a variable that holds no URL as it should be; the text is not quoted, and masked from now on.
fn invalid_url(
    host: &Host,
    (name, text, origin): (&str, &str, Origin),
    failure: Failure,
    wanted: &str,
) -> Failure {
    host.masker().add(&Secret::new(text));
    let message = format!("{} is not a valid URL", origin.describe(name));
    Failure { message, hints: vec![format!("Set {name} to {wanted}, or remove it.")], ..failure }
}

/// The machine, as alerts name it.
fn machine() -> String {
    fs::host_name()
}

/// The sign that begins an alert of this status, as in the log.
fn sign(status: &str) -> &'static str {
    match status {
        "success" => "✅",
        "warning" => "⚠️",
        "error" => "❌",
        _ => "ℹ️",
    }
}

/// A text cut to at most so many bytes, between two characters.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::env::Env;

    #[test]
    fn a_number_that_is_none_is_told_and_replaced() {
        let host = |value: &str| {
            let env = Env::of([(ALERTS_PER_HOUR.to_owned(), value.to_owned())].into(), [].into());
            Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), env)
        };
        assert_eq!(number(&host(""), ALERTS_PER_HOUR, 10), (10, None));
        assert_eq!(number(&host(" 3 "), ALERTS_PER_HOUR, 10), (3, None));
        let (number, failure) = number(&host("many"), ALERTS_PER_HOUR, 10);
        let failure = failure.unwrap();
        assert_eq!((number, failure.to_string().as_str()), (10, "BACKUP_ALERTS_PER_HOUR is not a number"));
        assert_eq!(
            failure.hints,
            ["Set BACKUP_ALERTS_PER_HOUR to a whole number, or remove it: then it is 10."]
        );
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "…");
        assert_eq!(cut("äöüß", 6), "ä…");
    }
}
