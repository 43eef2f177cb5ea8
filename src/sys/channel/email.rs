//! Alerts by e-mail, over SMTP.
//!
//! A connection is encrypted: from its beginning with `smtps://`, by STARTTLS with `smtp://`, unless the server is this machine or
//! the URL says `?tls=none`. STARTTLS "if the server offers it" is not offered here: whoever can read along can take
//! that offer away.

use super::{Attempt, EMAIL_FROM, EMAIL_TO, Rejected, SMTP_URL, cut, invalid_url, machine};
use crate::base::event::{Level, What};
use crate::base::failure::{Code, Failure};
use crate::base::notice::{Kind, Notice};
use crate::base::secret::Secret;
use crate::base::units;
use crate::sys::host::Host;
use crate::sys::stream::Digest;
use chrono::DateTime;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use std::time::SystemTime;

/// Most bytes of a subject's text.
const SUBJECT_LIMIT: usize = 160;

/// How a connection to the mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    /// From its beginning.
    Implicit,
    /// By STARTTLS, which the server must offer.
    StartTls,
    /// Not at all.
    None,
}

/// A mail server, and who writes to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    server: String,
    port: u16,
    encryption: Encryption,
    user: Option<(String, Secret)>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

/// The e-mail that the environment asks for, if it does.
///
/// # Errors
/// `Usage` if one of its three variables is missing or not valid.
pub fn email(host: &Host) -> Result<Option<Email>, Failure> {
    let env = host.env();
    let Some((text, origin)) = env.get(SMTP_URL) else {
        return match env.get(EMAIL_TO) {
            None => Ok(None),
            Some((_, origin)) => Err(Failure::new(
                Code::Usage,
                format!("{} is set, but {SMTP_URL} is not", origin.describe(EMAIL_TO)),
            )
            .hint(format!(
                "Set {SMTP_URL} to the mail server, for example `smtps://user:password@mail.example.org`, or remove \
                 {EMAIL_TO}."
            ))),
        };
    };
    let server = server(text).map_err(|failure| {
        invalid_url(
            host,
            (SMTP_URL, text, origin),
            failure,
            "the mail server, for example `smtps://user:password@mail.example.org`",
        )
    })?;
    if let Some((_, password)) = &server.user {
        host.masker().add(password);
        host.masker().add(&Secret::new(text));
    }
    let mailboxes = |name: &str| -> Result<Vec<Mailbox>, Failure> {
        let Some((text, origin)) = env.get(name) else {
            return Err(Failure::new(Code::Usage, format!("{SMTP_URL} is set, but {name} is not"))
                .hint(format!("Set {name} to an e-mail address, or remove {SMTP_URL}.")));
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parsed = parts.map(|part| {
            part.parse().map_err(|_| {
                Failure::new(
                    Code::Usage,
                    format!("{} holds `{part}`, which is no e-mail address", origin.describe(name)),
                )
                .hint(format!("Set {name} to addresses like `ops@example.org`, separated by commas."))
            })
        });
        parsed.collect()
    };
    let (from, to) = (mailboxes(EMAIL_FROM)?, mailboxes(EMAIL_TO)?);
    let [from] = &from[..] else {
        return Err(Failure::new(Code::Usage, format!("{EMAIL_FROM} must hold one e-mail address"))
            .hint(format!("Set {EMAIL_FROM} to the one address that alerts come from.")));
    };
    if to.is_empty() {
        return Err(Failure::new(Code::Usage, format!("{EMAIL_TO} holds no e-mail address"))
            .hint(format!("Set {EMAIL_TO} to addresses like `ops@example.org`, separated by commas.")));
    }
    Ok(Some(Email { from: from.clone(), to, ..server }))
}

/// The server that a URL names.
fn server(text: &str) -> Result<Email, Failure> {
    let invalid = |cause: &str| Failure::new(Code::Usage, "the URL is not valid").caused_by(cause);
    let url = Url::parse(text.trim()).map_err(|error| invalid(&error.to_string()))?;
    let Some(server) = url.host_str().filter(|host| !host.is_empty()) else {
        return Err(invalid("it names no host"));
    };
    let server = server.trim_matches(['[', ']']).to_owned();
    let tls = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned());
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| name != "tls") {
        return Err(invalid(&format!("it has a parameter `{name}`; the only one is `tls`")));
    }
    let (encryption, port) = match (url.scheme(), tls.as_deref()) {
        ("smtps", None) => (Encryption::Implicit, 465),
        ("smtps", Some(_)) => return Err(invalid("with `smtps` there is no choice of `tls`")),
        ("smtp", Some("required")) => (Encryption::StartTls, 587),
        ("smtp", Some("none")) => (Encryption::None, 25),
        ("smtp", Some(_)) => return Err(invalid("its `tls` is neither `required` nor `none`")),
        ("smtp", None) if is_loopback(&server) => (Encryption::None, 25),
        ("smtp", None) => (Encryption::StartTls, 587),
        _ => return Err(invalid("it begins neither with `smtps://` nor with `smtp://`")),
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = match (url.username(), url.password()) {
        ("", None) => None,
        (_, None) => return Err(invalid("it has a user, but no password")),
        (user, Some(password)) => Some((decoded(user), Secret::new(decoded(password)))),
    };
    let nobody: Mailbox = Mailbox::new(
        None,
        lettre::Address::new("nobody", "localhost").map_err(|error| invalid(&error.to_string()))?,
    );
    Ok(Email { port: url.port().unwrap_or(port), server, encryption, user, from: nobody, to: Vec::new() })
}

fn is_loopback(server: &str) -> bool {
    server == "localhost" || server.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

impl Email {
    /// The addresses that it goes to.
    pub fn receivers(&self) -> String {
        self.to.iter().map(|to| to.email.to_string()).collect::<Vec<_>>().join(", ")
    }

    fn endpoint(&self) -> String {
        if self.server.contains(':') {
            format!("[{}]:{}", self.server, self.port)
        } else {
            format!("{}:{}", self.server, self.port)
        }
    }

    pub(super) fn send(&self, host: &Host, notice: &Notice, attempt: Attempt) -> Result<(), Rejected> {
        let message = self.message(notice)?;
        let transport = self.transport(attempt)?;
        let endpoint = self.endpoint();
        // The clock of the runtime is there only within it.
        let is_test = notice.kind == Kind::Test;
        let work = async {
            tokio::time::timeout(attempt.limit, self.to_all(host, &transport, &message, is_test)).await
        };
        let sent = if attempt.even_if_ending { host.wait_to_the_end(work)? } else { host.wait(work)? };
        let limit = units::duration(attempt.limit);
        let silent =
            || Failure::new(Code::TimedOut, format!("`{endpoint}` did not take the e-mail within {limit}"));
        match sent {
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(silent().into()),
            Ok(Err(error)) if error.is_timeout() => Err(silent().into()),
            Ok(Err(error)) => Err(refused(&endpoint, &error)),
        }
    }

    /// Sends it to all at once. One address that the server will never take keeps it from no other: they get it one by one then. A
    /// test that did not reach all of them has failed.
    async fn to_all(
        &self,
        host: &Host,
        transport: &AsyncSmtpTransport<Tokio1Executor>,
        message: &Message,
        is_test: bool,
    ) -> Result<(), lettre::transport::smtp::Error> {
        let text = message.formatted();
        let envelope = message.envelope();
        let Err(error) = transport.send_raw(envelope, &text).await else { return Ok(()) };
        let about_an_address = error.status().is_some_and(|code| matches!(u16::from(code), 550..=553 | 556));
        if self.to.len() == 1 || !about_an_address {
            return Err(error);
        }
        let mut refused = Vec::new();
        for to in &self.to {
            let Ok(one) = Envelope::new(envelope.from().cloned(), vec![to.email.clone()]) else { continue };
            if let Err(error) = transport.send_raw(&one, &text).await {
                refused.push(format!("{}: {}", to.email, self::refused(&self.endpoint(), &error).failure));
            }
        }
        if is_test || refused.len() == self.to.len() {
            return Err(error);
        }
        let message = format!("the alert did not reach {}. Correct {EMAIL_TO}.", refused.join("; "));
        host.emit(What::Log { level: Level::Warn, message: host.masker().mask(&message) });
        Ok(())
    }

    fn transport(&self, attempt: Attempt) -> Result<AsyncSmtpTransport<Tokio1Executor>, Failure> {
        let parameters = || {
            TlsParameters::new_rustls(self.server.clone()).map_err(|error| {
                Failure::new(Code::Connect, "cannot set up TLS").caused_by(innermost(&error))
            })
        };
        let tls = match self.encryption {
            Encryption::Implicit => Tls::Wrapper(parameters()?),
            Encryption::StartTls => Tls::Required(parameters()?),
            Encryption::None => Tls::None,
        };
        let name = machine();
        let name = if name.is_empty() { ClientId::default() } else { ClientId::Domain(name) };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(self.server.clone())
            .port(self.port)
            .tls(tls)
            .hello_name(name)
            .timeout(Some(attempt.limit));
        Ok(match &self.user {
            Some((user, password)) => {
                builder.credentials(Credentials::new(user.clone(), password.expose().to_owned())).build()
            }
            None => builder.build(),
        })
    }

    fn message(&self, notice: &Notice) -> Result<Message, Failure> {
        let broken = |error: lettre::error::Error| {
            Failure::new(Code::Internal, "cannot write the e-mail").caused_by(error)
        };
        let at = DateTime::parse_from_rfc3339(&notice.alert.timestamp);
        let date = at.map_or(SystemTime::UNIX_EPOCH, SystemTime::from);
        // The same alert has the same id however often it is sent, so that a mail program shows it once.
        let told = format!("{}\n{}\n{}", notice.alert.timestamp, notice.alert.status, notice.alert.message);
        let id = Digest::of_bytes(told.as_bytes()).to_string();
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject(notice))
            .date(date)
            .message_id(Some(format!("<{}@{}>", &id[..32], machine())))
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(to.clone());
        }
        message.body(body(notice)).map_err(broken)
    }
}

fn subject(notice: &Notice) -> String {
    let message: String = notice.alert.message.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&format!("[lifeboat] {}: {message}", notice.alert.status), SUBJECT_LIMIT)
}

fn body(notice: &Notice) -> String {
    let mut text = format!("{}\n\n", notice.alert.message);
    let machine = machine();
    let lines = [
        ("Status", Some(notice.alert.status.as_str())),
        ("Host", Some(machine.as_str())),
        ("Playbook", notice.playbook.as_deref()),
        ("Run", notice.run.as_deref()),
        ("Time", Some(notice.alert.timestamp.as_str())),
        ("Log", notice.log.as_deref()),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("{:<10}{value}\n", format!("{name}:")));
        }
    }
    if let Some(run) = &notice.run {
        text.push_str(&format!("\n`lifeboat show {run}` tells all of it.\n"));
    }
    text
}

/// Why the server did not take it, in its own words.
fn refused(endpoint: &str, error: &lettre::transport::smtp::Error) -> Rejected {
    let cause = innermost(error);
    if let Some(code) = error.status() {
        let failure = Failure::new(Code::Connect, format!("`{endpoint}` refused the e-mail"))
            .caused_by(format!("{code} {cause}").trim_end().to_owned());
        let may_pass = error.is_transient();
        let hinted = if may_pass {
            failure
        } else {
            failure.hint(format!("Check user and password in {SMTP_URL}, and {EMAIL_FROM} and {EMAIL_TO}."))
        };
        return Rejected { failure: hinted, may_pass };
    }
    let message = if error.is_tls() || cause.contains("certificate") {
        format!("cannot encrypt the connection to `{endpoint}`")
    } else if error.is_client() || error.is_response() {
        format!("cannot talk to `{endpoint}`")
    } else {
        format!("cannot reach `{endpoint}`")
    };
    let failure = Failure::new(Code::Connect, message).caused_by(cause);
    // What the server cannot do it cannot do a second later either.
    let may_pass = !error.is_client() && !error.is_tls();
    Rejected { failure, may_pass }
}

/// The innermost cause of an error, without the system's number.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Alert;
    use crate::sys::env::Env;
    use expect_test::expect;

    fn host(variables: &[(&str, &str)]) -> Host {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), Env::of(variables, [].into()))
    }

    fn with(url: &str) -> Result<Option<Email>, Failure> {
        email(&host(&[(SMTP_URL, url), (EMAIL_FROM, "a@example.org"), (EMAIL_TO, "b@example.org")]))
    }

    #[test]
    fn a_url_tells_server_port_and_encryption() {
        let of = |url: &str| {
            let email = with(url).unwrap().unwrap();
            (email.endpoint(), email.encryption)
        };
        assert_eq!(of("smtps://u:p@mail.example.org"), ("mail.example.org:465".into(), Encryption::Implicit));
        assert_eq!(of("smtp://u:p@mail.example.org"), ("mail.example.org:587".into(), Encryption::StartTls));
        assert_eq!(
            of("smtp://mail.example.org:25?tls=none"),
            ("mail.example.org:25".into(), Encryption::None)
        );
        assert_eq!(of("smtp://localhost"), ("localhost:25".into(), Encryption::None));
        assert_eq!(of("smtp://127.0.0.1:2525"), ("127.0.0.1:2525".into(), Encryption::None));
        assert_eq!(of("smtp://[::1]:2525"), ("[::1]:2525".into(), Encryption::None));
        assert_eq!(of("smtp://localhost?tls=required"), ("localhost:587".into(), Encryption::StartTls));
    }

    #[test]
    fn user_and_password_are_decoded_and_masked() {
        let host = host(&[
            (SMTP_URL, "smtps://me%40example.org:p%2Fss%20word@mail.example.org"),
            (EMAIL_FROM, "Backups <a@example.org>"),
            (EMAIL_TO, "b@example.org, Ops <ops@example.org>,"),
        ]);
        let email = email(&host).unwrap().unwrap();
        let (user, password) = email.user.as_ref().unwrap();
        assert_eq!((user.as_str(), password.expose()), ("me@example.org", "p/ss word"));
        assert_eq!(host.masker().mask("AUTH p/ss word or p%2Fss%20word"), "AUTH *** or ***");
        assert_eq!(email.receivers(), "b@example.org, ops@example.org");
        assert!(!format!("{email:?}").contains("p/ss"));
    }

    #[test]
    fn what_is_wrong_is_told_without_quoting_the_url() {
        let mut told = String::new();
        let mut note = |result: Result<Option<Email>, Failure>| {
            let failure = result.unwrap_err();
            told.push_str(&format!("{failure}\n  {}\n", failure.hints.join(" ")));
        };
        for url in [
            "mail.example.org:s3cret",
            "https://mail.example.org/s3cret",
            "smtp://",
            "smtps://s3cret@mail.example.org",
            "smtps://mail.example.org?tls=none",
            "smtp://mail.example.org?tls=maybe",
            "smtp://mail.example.org?starttls=1",
        ] {
            note(with(url));
        }
        note(email(&host(&[(SMTP_URL, "smtp://localhost"), (EMAIL_TO, "b@example.org")])));
        note(email(&host(&[(EMAIL_TO, "b@example.org")])));
        let to = |from: &str, to: &str| {
            email(&host(&[(SMTP_URL, "smtp://localhost"), (EMAIL_FROM, from), (EMAIL_TO, to)]))
        };
        note(to("a@example.org", "b@example.org, nobody"));
        note(to("a@example.org, b@example.org", "b@example.org"));
        note(to("a@example.org", ","));
        assert!(!told.contains("s3cret"), "{told}");
        expect![[r#"
            BACKUP_SMTP_URL is not a valid URL: it names no host
              Set BACKUP_SMTP_URL to the mail server, for example `smtps://user:password@mail.example.org`, or remove it.
            BACKUP_SMTP_URL is not a valid URL: it begins neither with `smtps://` nor with `smtp://`
              Set BACKUP_SMTP_URL to the mail server, for example `smtps://user:password@mail.example.org`, or remove it.
            BACKUP_SMTP_URL is not a valid URL: it names no host
              Set BACKUP_SMTP_URL to the mail server, for example `smtps://user:password@mail.example.org`, or remove it.
            BACKUP_SMTP_URL is not a valid URL: it has a user, but no password
              Set BACKUP_SMTP_URL to the mail server, for example `smtps://user:password@mail.example.org`, or remove it.
            BACKUP_SMTP_URL is not a valid URL: with `smtps` there is no choice of `tls`
              Set BACKUP_SMTP_URL to the mail server, for example `smtps://user:password@mail.example.org`, or remove it.
            BACKUP_SMTP_URL is not a valid URL: its `tls` is neither `required` nor `none`
              Set BACKUP_SMTP_URL to the mail server, for example `smtps://user:password@mail.example.org`, or remove it.
            BACKUP_SMTP_URL is not a valid URL: it has a parameter `starttls`; the only one is `tls`
              Set BACKUP_SMTP_URL to the mail server, for example `smtps://user:password@mail.example.org`, or remove it.
            BACKUP_SMTP_URL is set, but BACKUP_EMAIL_FROM is not
              Set BACKUP_EMAIL_FROM to an e-mail address, or remove BACKUP_SMTP_URL.
            BACKUP_EMAIL_TO is set, but BACKUP_SMTP_URL is not
              Set BACKUP_SMTP_URL to the mail server, for example `smtps://user:password@mail.example.org`, or remove BACKUP_EMAIL_TO.
            BACKUP_EMAIL_TO holds `nobody`, which is no e-mail address
              Set BACKUP_EMAIL_TO to addresses like `ops@example.org`, separated by commas.
            BACKUP_EMAIL_FROM must hold one e-mail address
              Set BACKUP_EMAIL_FROM to the one address that alerts come from.
            BACKUP_EMAIL_TO holds no e-mail address
              Set BACKUP_EMAIL_TO to addresses like `ops@example.org`, separated by commas.
        "#]].assert_eq(&told);
    }

    #[test]
    fn a_subject_is_one_line_and_bounded() {
        let subject = |message: &str| {
            let alert = Alert { status: "error".into(), message: message.into(), timestamp: String::new() };
            subject(&Notice::new(Kind::Failed, alert))
        };
        assert_eq!(subject("a\r\nBcc: c@example.org\n b"), "[lifeboat] error: a Bcc: c@example.org b");
        assert_eq!(subject(&"x".repeat(500)).len(), SUBJECT_LIMIT);
    }
}
