//! Pings of a check in the manner of healthchecks.io: a service that alerts by itself when the expected ping does not come, and so
//! notices a machine that is gone.

use super::{Attempt, Rejected, address, cut};
use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use crate::sys::http::{self, Address, Body, Terms, status_words};
use crate::sys::stream::Digest;

/// Most bytes of a body that are kept by such a service, from the documentation of healthchecks.io.
const BODY_LIMIT: usize = 10_000;

/// What a check is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A run begins.
    Start,
    /// It succeeded.
    Success,
    /// It did not.
    Fail,
    /// Something that changes no state.
    Log,
}

impl Signal {
    /// What is appended to the URL.
    fn part(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "",
            Self::Fail => "fail",
            Self::Log => "log",
        }
    }
}

/// The check that a variable names, if it names one. Its URL is masked from now on.
///
/// # Errors
/// `Usage` if the URL is not valid.
pub fn check(host: &Host, variable: &str) -> Result<Option<Address>, Failure> {
    address(host, variable, "check")
}

/// Pings a check, once; `run` ties the pings of one run together.
///
/// # Errors
/// Why it was not accepted, and whether trying again may help.
pub fn ping(
    host: &Host,
    check: &Address,
    signal: Signal,
    run: &str,
    body: &str,
    attempt: Attempt,
) -> Result<(), Rejected> {
    let address = check.below(signal.part(), ("rid", &uuid_of(run)));
    let terms = Terms { timeout: attempt.limit, limit: 4096, ..Terms::default() };
    let body = cut(&host.masker().mask(body), BODY_LIMIT);
    let answer = http::post(host, &address, Body::Text(&body), &terms, attempt.even_if_ending)?;
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let failure = Failure::new(Code::Http, format!("`{check}` answered {}", status_words(answer.status)));
    Err(Rejected { failure, may_pass: http::passes(answer.status) })
}

/// A UUID that is always the same for the same run: version 8 of RFC 9562, made of a digest.
fn uuid_of(run: &str) -> String {
    let mut digits: Vec<char> = Digest::of_bytes(run.as_bytes()).to_string().chars().take(32).collect();
    digits[12] = '8';
    let variant = digits[16].to_digit(16).unwrap_or_default() & 0x3 | 0x8;
    digits[16] = char::from_digit(variant, 16).unwrap_or('8');
    let text: String = digits.into_iter().collect();
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::env::Env;
    use crate::sys::scripted_server::ScriptedServer;
    use std::time::Duration;

    #[test]
    fn a_ping_keeps_query_and_user_and_masks_its_body() {
        let server = ScriptedServer::answering(&[200, 200, 200, 404]);
        let url = format!("http://{}/ping/0f1e2d3c?create=1", server.address);
        let env = Env::of([("CHECK".to_owned(), url)].into(), [].into());
        let host = Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), env);
        let check = check(&host, "CHECK").unwrap().unwrap();
        assert_eq!(host.masker().mask("POST /ping/0f1e2d3c"), "POST ***");
        let attempt = Attempt { limit: Duration::from_secs(5), even_if_ending: false };
        let run = "20251110-020000-abcdef";
        ping(&host, &check, Signal::Start, run, "", attempt).unwrap();
        ping(&host, &check, Signal::Success, run, &"ä".repeat(9000), attempt).unwrap();
        ping(&host, &check, Signal::Fail, run, "failed at /ping/0f1e2d3c", attempt).unwrap();
        let rejected = ping(&host, &check, Signal::Log, run, "", attempt).unwrap_err();
        assert!(!rejected.may_pass);
        assert_eq!(
            rejected.failure.to_string(),
            format!("`http://{}/…` answered 404 Not Found", server.address)
        );
        let seen = server.seen();
        let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
        let rid = "rid=RID";
        assert_eq!(
            lines.iter().map(|line| line.replace(&uuid_of(run), "RID")).collect::<Vec<_>>(),
            [
                format!("POST /ping/0f1e2d3c/start?create=1&{rid} HTTP/1.1"),
                format!("POST /ping/0f1e2d3c?create=1&{rid} HTTP/1.1"),
                format!("POST /ping/0f1e2d3c/fail?create=1&{rid} HTTP/1.1"),
                format!("POST /ping/0f1e2d3c/log?create=1&{rid} HTTP/1.1"),
            ]
        );
        assert!(seen[1].body.len() <= BODY_LIMIT && seen[1].body.ends_with("ä…"));
        assert_eq!(seen[2].body, "failed at ***");
    }

    #[test]
    fn the_id_of_a_run_is_a_uuid() {
        let uuid = uuid_of("20251110-020000-abcdef");
        assert_eq!(uuid.len(), 36);
        let parts: Vec<&str> = uuid.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('8') && parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
        assert_eq!(uuid, uuid_of("20251110-020000-abcdef"));
        assert_ne!(uuid, uuid_of("20251110-020000-abcdeg"));
    }
}
