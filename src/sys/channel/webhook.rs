//! Alerts by HTTP: the guide's JSON, or what Slack and ntfy make of it.

use super::{Attempt, Rejected, WEBHOOK_FORMAT, WEBHOOK_URL, address, cut, machine, sign};
use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::base::notice::Notice;
use crate::sys::host::Host;
use crate::sys::http::{self, Address, Body, Terms, status_words};
use serde_json::{Value, json};

/// Most bytes of a message that ntfy shows; it makes an attachment of a longer one.
const NTFY_LIMIT: usize = 4096;
/// Most bytes of a text for Slack, which cuts one of more than 40 000 characters; each may be escaped by five.
const SLACK_LIMIT: usize = 8000;

/// The form of what is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The guide's: `status`, `message`, `timestamp`.
    Json,
    /// `{"text": ...}`, for Slack and what imitates it.
    Slack,
    /// A message of ntfy.
    Ntfy,
}

/// Names of the forms.
const FORMATS: [&str; 4] = ["auto", "json", "slack", "ntfy"];

/// A receiver of posted alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    address: Address,
    format: Format,
    /// The topic of ntfy, which is part of its URL.
    topic: Option<String>,
}

/// The webhook that the environment names, if it names one.
///
/// # Errors
/// `Usage` if the URL or the form is not valid.
pub fn webhook(host: &Host) -> Result<Option<Webhook>, Failure> {
    let Some(address) = address(host, WEBHOOK_URL, "receiver")? else { return Ok(None) };
    let format = format(host, &address)?;
    if format != Format::Ntfy {
        return Ok(Some(Webhook { address, format, topic: None }));
    }
    // ntfy takes JSON at its root, and the topic in it.
    let Some((root, topic)) = address.parent() else {
        return Err(Failure::new(Code::Usage, format!("{WEBHOOK_URL} names no topic of ntfy"))
            .hint("Append the topic to the URL, for example `https://ntfy.sh/backups-of-shop`."));
    };
    Ok(Some(Webhook { address: root, format, topic: Some(topic) }))
}

fn format(host: &Host, address: &Address) -> Result<Format, Failure> {
    let env = host.env();
    match env.get(WEBHOOK_FORMAT) {
        None => Ok(by_host(address.host())),
        Some((text, origin)) => match text.trim() {
            "auto" => Ok(by_host(address.host())),
            "json" => Ok(Format::Json),
            "slack" => Ok(Format::Slack),
            "ntfy" => Ok(Format::Ntfy),
            other => {
                let variable = origin.describe(WEBHOOK_FORMAT);
                let failure = Failure::new(
                    Code::Usage,
                    format!("{variable} is `{other}`, which is no form of an alert"),
                );
                Err(match did_you_mean(other, FORMATS) {
                    Some(close) => failure.hint(format!("Did you mean `{close}`?")),
                    None => {
                        failure.hint(format!("Set {WEBHOOK_FORMAT} to `auto`, `json`, `slack` or `ntfy`."))
                    }
                })
            }
        },
    }
}

fn by_host(host: &str) -> Format {
    match host {
        "hooks.slack.com" => Format::Slack,
        "ntfy.sh" => Format::Ntfy,
        host if host.starts_with("ntfy.") => Format::Ntfy,
        _ => Format::Json,
    }
}

impl Webhook {
    /// Its host's name; all else in its URL is secret.
    pub fn receiver(&self) -> String {
        self.address.host().to_owned()
    }

    /// Its URL without what is secret in it.
    pub fn shown(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn send(&self, host: &Host, notice: &Notice, attempt: Attempt) -> Result<(), Rejected> {
        let terms = Terms { timeout: attempt.limit, limit: 4096, ..Terms::default() };
        let body = self.body(notice);
        let answer = http::post(host, &self.address, Body::Json(&body), &terms, attempt.even_if_ending)?;
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let failure =
            Failure::new(Code::Http, format!("`{}` answered {}", self.address, status_words(answer.status)));
        let may_pass = http::passes(answer.status);
        if may_pass {
            return Err(Rejected { failure, may_pass });
        }
        let failure = failure.hint(format!(
            "Set {WEBHOOK_URL} to the receiver's own URL, as it is shown where the webhook was made."
        ));
        Err(Rejected { failure, may_pass })
    }

    fn body(&self, notice: &Notice) -> Value {
        match self.format {
            Format::Json => guide(notice),
            Format::Slack => json!({ "text": slack(notice) }),
            Format::Ntfy => {
                let (priority, tag) = match notice.alert.status.as_str() {
                    "error" => (4, "rotating_light"),
                    "warning" => (3, "warning"),
                    "success" => (2, "white_check_mark"),
                    _ => (3, "information_source"),
                };
                json!({
                    "topic": self.topic,
                    "title": format!("{} on {}", notice.alert.status, machine()),
                    "message": cut(&notice.alert.message, NTFY_LIMIT),
                    "priority": priority,
                    "tags": [tag, "lifeboat"],
                })
            }
        }
    }
}

/// The guide's JSON.
pub(super) fn guide(notice: &Notice) -> Value {
    json!({
        "status": notice.alert.status,
        "message": notice.alert.message,
        "timestamp": notice.alert.timestamp,
    })
}

/// One line of Slack's markup, in which these three characters alone are special.
fn slack(notice: &Notice) -> String {
    let message = cut(&notice.alert.message, SLACK_LIMIT);
    let text = format!("{} {message} (on {})", sign(&notice.alert.status), machine());
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Alert;
    use crate::base::notice::Kind;
    use crate::sys::env::Env;

    fn host(variables: &[(&str, &str)]) -> Host {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), Env::of([].into(), variables))
    }

    fn receiver(url: &str) -> Result<Option<Webhook>, Failure> {
        webhook(&host(&[(WEBHOOK_URL, url)]))
    }

    #[test]
    fn the_url_is_a_secret_in_all_its_spellings() {
        let url = "https://hooks.slack.com/services/T0/B0/x y";
        let host = host(&[(WEBHOOK_URL, url)]);
        assert_eq!(webhook(&host).unwrap().unwrap().shown(), "https://hooks.slack.com/…");
        for text in [url, "https://hooks.slack.com/services/T0/B0/x%20y", "/services/T0/B0/x%20y"] {
            assert_eq!(host.masker().mask(&format!("POST {text}")), "POST ***");
        }
    }

    #[test]
    fn none_is_fine_and_nonsense_is_told_without_quoting_it() {
        assert_eq!(receiver(""), Ok(None));
        let host = host(&[(WEBHOOK_URL, "hooks.slack.com/services/T0")]);
        let failure = webhook(&host).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "BACKUP_WEBHOOK_URL in .env is not a valid URL: relative URL without a base"
        );
        assert_eq!(
            failure.hints,
            [
                "Set BACKUP_WEBHOOK_URL to the full URL of the receiver, which begins with `https://`, or remove it."
            ]
        );
        assert_eq!(host.masker().mask("hooks.slack.com/services/T0"), "***");
    }

    #[test]
    fn the_form_goes_by_the_host_unless_it_is_set() {
        let form = |url: &str, set: &str| {
            webhook(&host(&[(WEBHOOK_URL, url), (WEBHOOK_FORMAT, set)]))
                .map(|webhook| webhook.unwrap().format)
        };
        assert_eq!(form("https://hooks.slack.com/services/T0", ""), Ok(Format::Slack));
        assert_eq!(form("https://hooks.slack.com/services/T0", "auto"), Ok(Format::Slack));
        assert_eq!(form("https://ntfy.sh/t", ""), Ok(Format::Ntfy));
        assert_eq!(form("https://ntfy.example.org/t", ""), Ok(Format::Ntfy));
        assert_eq!(form("https://example.org/ntfy.sh", ""), Ok(Format::Json));
        assert_eq!(form("https://hooks.slack.com/services/T0", "json"), Ok(Format::Json));
        assert_eq!(form("https://chat.example.org/hooks/x", "slack"), Ok(Format::Slack));
        let wrong = form("https://example.org/x", "slak").unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "BACKUP_WEBHOOK_FORMAT in .env is `slak`, which is no form of an alert"
        );
        assert_eq!(wrong.hints, ["Did you mean `slack`?"]);
        let wrong = form("https://example.org/x", "teams").unwrap_err();
        assert_eq!(wrong.hints, ["Set BACKUP_WEBHOOK_FORMAT to `auto`, `json`, `slack` or `ntfy`."]);
    }

    #[test]
    fn the_topic_of_ntfy_is_the_end_of_its_url() {
        let found =
            receiver("https://u:p4ss@ntfy.example.org/below/backups%20of%20shop?auth=abc").unwrap().unwrap();
        assert_eq!(found.topic.as_deref(), Some("backups of shop"));
        let failure = receiver("https://ntfy.sh/").unwrap_err();
        assert_eq!(failure.to_string(), "BACKUP_WEBHOOK_URL names no topic of ntfy");
        assert_eq!(
            failure.hints,
            ["Append the topic to the URL, for example `https://ntfy.sh/backups-of-shop`."]
        );
    }

    #[test]
    fn slack_gets_its_three_special_characters_escaped() {
        let alert = Alert {
            status: "other".into(),
            message: "<!channel> a & b".into(),
            timestamp: "2025-11-10T02:00:00+00:00".into(),
        };
        let found = receiver("https://hooks.slack.com/services/T0").unwrap().unwrap();
        assert_eq!(
            found.body(&Notice::new(Kind::Success, alert)),
            json!({ "text": format!("ℹ️ &lt;!channel&gt; a &amp; b (on {})", machine()) })
        );
    }
}
