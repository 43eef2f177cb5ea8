//! HTTP requests: bounded in time and size, and never to another host than the one that was named.
//!
//! Proxies from the environment are not used: they would be another host. Certificates of the system are loaded for
//! `https` only, because that reads some hundred files.

use crate::base::failure::{Code, Failure};
use crate::base::secret::Secret;
use crate::base::units;
use crate::sys::host::Host;
use crate::sys::process::Value;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Url, redirect};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long a request may take, unless said otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read, unless said otherwise.
pub const BODY_LIMIT: usize = 1 << 20;
/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 5;

/// A URL that prints without what may be secret in it: user, path, query and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Reads an `http` or `https` URL.
    ///
    /// # Errors
    /// `Usage`. The text is not quoted, because it may hold a secret.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let invalid = |cause: &str| {
            Failure::new(Code::Usage, "the URL is not valid")
                .caused_by(cause)
                .hint("Write it in full, for example `https://db1.example.org/health`.")
        };
        let url = Url::parse(text.trim()).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("it begins neither with `http://` nor with `https://`"));
        }
        Ok(Self(url))
    }

    /// The host's name, for the policy.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// `host:port`, for the overlay.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.host(), self.0.port_or_known_default().unwrap_or_default())
    }

    /// The URL with its path, for a receiver that was named in a playbook; user and query stay hidden.
    pub fn with_path(&self) -> String {
        let query = if self.0.query().is_some() { "?…" } else { "" };
        format!("{}{}{query}", self.origin(), self.0.path())
    }

    /// The texts by which what is secret in the URL could show up: the whole of it, its path, its password.
    pub fn secrets(&self) -> Vec<Secret> {
        let path = self.0.path();
        let mut secrets: Vec<Secret> = self.0.password().map(Secret::new).into_iter().collect();
        if path.len() > 1 || self.0.query().is_some() {
            secrets.push(Secret::new(self.0.as_str()));
        }
        // A short path is an ordinary word.
        if path.len() >= 8 {
            secrets.push(Secret::new(path));
        }
        secrets
    }

    /// The URL one level up, and the last part of the path, decoded; `None` if there is none. User and query stay.
    pub fn parent(&self) -> Option<(Self, String)> {
        let mut url = self.0.clone();
        let last = url.path_segments()?.rfind(|part| !part.is_empty())?.to_owned();
        url.path_segments_mut().ok()?.pop_if_empty().pop().push("");
        Some((Self(url), percent_encoding::percent_decode_str(&last).decode_utf8_lossy().into_owned()))
    }

    /// The URL one level down, at `part` unless that is empty, with a parameter added to its query.
    #[must_use]
    pub fn below(&self, part: &str, (name, value): (&str, &str)) -> Self {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut()
            && !part.is_empty()
        {
            path.pop_if_empty().push(part);
        }
        url.query_pairs_mut().append_pair(name, value);
        Self(url)
    }

    fn origin(&self) -> String {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.0.scheme(), self.host())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())?;
        if self.0.path().len() > 1 || self.0.query().is_some() { f.write_str("/…") } else { Ok(()) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// What a request is given beside its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it may take in all.
    pub timeout: Duration,
    /// Header names and values.
    pub headers: BTreeMap<String, Value>,
    /// Most bytes of the answer that are read.
    pub limit: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Self { timeout: TIMEOUT, headers: BTreeMap::new(), limit: BODY_LIMIT }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body as text, as far as it was read.
    pub body: String,
    /// Whether the body was longer.
    pub truncated: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// A status with its usual words: `503 Service Unavailable`.
pub fn status_words(status: u16) -> String {
    let words = reqwest::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    words.map_or_else(|| status.to_string(), |words| format!("{status} {words}"))
}

/// Gets a resource. Redirects are followed within its host, five at most.
///
/// # Errors
/// `Http` if there is no answer, `TimedOut`, or the run's end. An answer of any status is an answer.
pub fn get(host: &Host, address: &Address, terms: &Terms) -> Result<Answer, Failure> {
    let headers = headers(host, terms)?;
    let began = host.clock().instant();
    let work = async {
        let mut at = address.clone();
        for _ in 0..=MOST_REDIRECTS {
            let answer = exchange(Method::GET, &at, headers.clone(), None, terms.limit).await?;
            match answer.location {
                Some(location) => at = followed(&at, &location)?,
                None => return Ok(answer.answer),
            }
        }
        Err(Failure::new(Code::Http, format!("`{address}` redirects too often"))
            .caused_by(format!("more than {MOST_REDIRECTS} times")))
    };
    let answer = host.wait(limited(address, terms.timeout, work))??;
    Ok(Answer { elapsed: began.elapsed(), ..answer })
}

/// What is posted.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// JSON.
    Json(&'a serde_json::Value),
    /// Plain text in UTF-8.
    Text(&'a str),
}

/// Posts something; follows no redirect. With `even_if_ending`, the run's end does not stop it.
///
/// # Errors
/// As [`get`].
pub fn post(
    host: &Host,
    address: &Address,
    body: Body<'_>,
    terms: &Terms,
    even_if_ending: bool,
) -> Result<Answer, Failure> {
    let headers = headers(host, terms)?;
    let began = host.clock().instant();
    let work = async {
        exchange(Method::POST, address, headers, Some(body), terms.limit).await.map(|answer| answer.answer)
    };
    let work = limited(address, terms.timeout, work);
    let answer = if even_if_ending { host.wait_to_the_end(work)?? } else { host.wait(work)?? };
    Ok(Answer { elapsed: began.elapsed(), ..answer })
}

/// Whether asking again may help after an answer of this status.
pub fn passes(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

async fn limited<T>(
    address: &Address,
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let limit = units::duration(limit);
        Err(Failure::new(Code::TimedOut, format!("`{address}` did not answer within {limit}")))
    })
}

struct Exchanged {
    answer: Answer,
    /// Where a redirect leads.
    location: Option<String>,
}

async fn exchange(
    method: Method,
    address: &Address,
    headers: HeaderMap,
    body: Option<Body<'_>>,
    limit: usize,
) -> Result<Exchanged, Failure> {
    let mut request = client(address)?.request(method, address.0.clone()).headers(headers);
    request = match body {
        Some(Body::Json(json)) => request.json(json),
        Some(Body::Text(text)) => {
            request.header(CONTENT_TYPE, "text/plain; charset=utf-8").body(text.to_owned())
        }
        None => request,
    };
    let mut response = request.send().await.map_err(|error| no_answer(address, error))?;
    let status = response.status();
    let location = match response.headers().get(LOCATION) {
        Some(location) if status.is_redirection() => {
            Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
        }
        _ => None,
    };
    let mut body = Vec::new();
    let mut truncated = false;
    while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(address, error))? {
        let room = limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            truncated = true;
            break;
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    let answer = Answer { status: status.as_u16(), body, truncated, elapsed: Duration::ZERO };
    Ok(Exchanged { answer, location })
}

/// Where a redirect leads, if that is allowed: within the host, and never from `https` to `http`.
fn followed(from: &Address, location: &str) -> Result<Address, Failure> {
    let refused = |cause: String| {
        Failure::new(Code::Http, format!("`{from}` redirects elsewhere"))
            .caused_by(cause)
            .hint("Name the final URL in the playbook, so that everyone sees who is asked.")
    };
    let to = from.0.join(location).map_err(|error| refused(format!("its redirect is not valid: {error}")))?;
    let to = Address(to);
    if to.host() != from.host() || !matches!(to.0.scheme(), "http" | "https") {
        return Err(refused(format!("to `{to}`, which was not asked for")));
    }
    if from.0.scheme() == "https" && to.0.scheme() == "http" {
        return Err(refused(format!("to `{to}`, which is not encrypted")));
    }
    Ok(to)
}

fn client(address: &Address) -> Result<reqwest::Client, Failure> {
    let tls = tls(address.0.scheme() == "https")?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| no_answer(address, error))
}

/// TLS with the certificates that this system trusts, or, where none is needed, with none.
fn tls(needed: bool) -> Result<rustls::ClientConfig, Failure> {
    let broken = |cause: String| Failure::new(Code::Http, "cannot set up TLS").caused_by(cause);
    let mut roots = rustls::RootCertStore::empty();
    if needed {
        let found = rustls_native_certs::load_native_certs();
        let (valid, _) = roots.add_parsable_certificates(found.certs);
        if valid == 0 {
            let cause =
                found.errors.first().map_or_else(|| "none is installed".to_owned(), ToString::to_string);
            return Err(broken(format!("no certificates that this system trusts were found: {cause}")).hint(
                "Install them, on Debian with `sudo apt-get install ca-certificates`, or name a file in \
                 SSL_CERT_FILE.",
            ));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| broken(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn headers(host: &Host, terms: &Terms) -> Result<HeaderMap, Failure> {
    // Observations are captured before; this is for whoever forgets.
    if host.sandbox().is_some() {
        return Err(Failure::new(Code::Internal, "a drill may not use the network")
            .hint("This is a defect in Lifeboat: please report it with the playbook. Nothing was sent."));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &terms.headers {
        let invalid = || Failure::new(Code::Usage, format!("the HTTP header `{name}` is not valid"));
        let (text, is_secret) = match value {
            Value::Plain(text) => (text.as_str(), false),
            Value::Secret(secret) => {
                host.masker().add(secret);
                (secret.expose(), true)
            }
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(text).map_err(|_| invalid())?;
        value.set_sensitive(is_secret);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The failure of a request, told by its innermost cause and without its URL.
fn no_answer(address: &Address, error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let broke_off = error.is_body() || error.is_decode();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
    let message = if broke_off || !error.is_connect() {
        format!("`{address}` broke off its answer")
    } else {
        format!("cannot reach `{address}`")
    };
    Failure::new(Code::Http, message).caused_by(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::Reason;
    use crate::sys::env::Env;
    use crate::sys::scripted_server::{Move, ScriptedServer};

    fn host() -> Host {
        // Were they heeded, the proxies would make every request fail.
        let proxies = [("http_proxy".to_owned(), "http://127.0.0.1:1".to_owned())];
        Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), Env::of(proxies.into(), [].into()))
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn got(url: &str) -> Result<Answer, Failure> {
        get(&host(), &address(url), &Terms { timeout: Duration::from_secs(5), ..Terms::default() })
    }

    #[test]
    fn an_address_shows_nothing_secret() {
        let url = address("https://u:p4ssw0rd@Hooks.Slack.com/services/T0/B0/xyz?token=abc#f");
        assert_eq!(format!("{url} {url:?}"), "https://hooks.slack.com/… Address(https://hooks.slack.com/…)");
        assert_eq!(url.with_path(), "https://hooks.slack.com/services/T0/B0/xyz?…");
        assert_eq!((url.host(), url.endpoint().as_str()), ("hooks.slack.com", "hooks.slack.com:443"));
        assert_eq!(address("http://db1:8080").to_string(), "http://db1:8080");
        assert_eq!(address("http://[::1]:8080/x").endpoint(), "[::1]:8080");
        let secrets: Vec<String> = url.secrets().iter().map(|secret| secret.expose().to_owned()).collect();
        assert_eq!(
            secrets,
            [
                "p4ssw0rd",
                "https://u:p4ssw0rd@hooks.slack.com/services/T0/B0/xyz?token=abc#f",
                "/services/T0/B0/xyz"
            ]
        );
        assert_eq!(address("http://db1:8080").secrets(), []);
    }

    #[test]
    fn an_address_has_others_above_and_below() {
        let shown = |address: &Address| address.0.to_string();
        let (root, topic) = address("https://u:p@ntfy.sh/a/b%20c/?auth=x").parent().unwrap();
        assert_eq!((shown(&root).as_str(), topic.as_str()), ("https://u:p@ntfy.sh/a/?auth=x", "b c"));
        assert_eq!(address("https://ntfy.sh").parent(), None);
        let below = |url: &str, part: &str| shown(&address(url).below(part, ("rid", "1")));
        assert_eq!(below("https://hc-ping.com/abc", "start"), "https://hc-ping.com/abc/start?rid=1");
        assert_eq!(
            below("https://hc-ping.com/abc/?create=1", "fail"),
            "https://hc-ping.com/abc/fail?create=1&rid=1"
        );
        assert_eq!(below("https://u:p@hc.example.org/abc", ""), "https://u:p@hc.example.org/abc?rid=1");
    }

    #[test]
    fn a_text_that_is_no_url_is_not_quoted() {
        let said = |text: &str| Address::parse(text).unwrap_err().to_string();
        assert_eq!(said("hooks/secret"), "the URL is not valid: relative URL without a base");
        assert_eq!(
            said("ftp://db1/secret"),
            "the URL is not valid: it begins neither with `http://` nor with `https://`"
        );
    }

    #[test]
    fn an_answer_of_any_status_is_an_answer() {
        let server = ScriptedServer::new(vec![
            Move::Answer(200, "", "{\"status\":\"up\"}".into()),
            Move::Answer(503, "", "down".into()),
        ]);
        let url = format!("http://{}/api/health?deep=1", server.address);
        let mut terms = Terms::default();
        terms.headers.insert("X-Token".into(), Value::Secret(Secret::new("hunter22")));
        let host = host();
        let answer = get(&host, &address(&url), &terms).unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.truncated),
            (200, "{\"status\":\"up\"}", false)
        );
        let seen = server.seen();
        assert_eq!(seen[0].line, "GET /api/health?deep=1 HTTP/1.1");
        assert!(seen[0].headers.contains(&"x-token: hunter22".to_owned()));
        assert!(seen[0].headers.contains(&"user-agent: lifeboat/0.1.0".to_owned()));
        assert_eq!(host.masker().mask("hunter22"), "***");
        let answer = got(&url).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "down"));
        assert_eq!(status_words(503), "503 Service Unavailable");
    }

    #[test]
    fn a_long_body_is_cut() {
        let server = ScriptedServer::new(vec![Move::Answer(200, "", "x".repeat(100_000))]);
        let terms = Terms { limit: 1000, ..Terms::default() };
        let answer = get(&host(), &address(&format!("http://{}", server.address)), &terms).unwrap();
        assert_eq!((answer.body.len(), answer.truncated), (1000, true));
    }

    #[test]
    fn redirects_stay_within_the_host() {
        let server = ScriptedServer::new(vec![
            Move::Answer(302, "location: /next\r\n", String::new()),
            Move::Answer(200, "", "there".into()),
            Move::Answer(301, "location: http://evil.example.org/secret\r\n", String::new()),
        ]);
        let url = format!("http://{}/first", server.address);
        assert_eq!(got(&url).unwrap().body, "there");
        assert_eq!(server.seen()[1].line, "GET /next HTTP/1.1");
        let failure = got(&url).unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!(
                "`http://{}/…` redirects elsewhere: to `http://evil.example.org/…`, which was not asked for",
                server.address
            )
        );
        assert_eq!(
            failure.hints,
            ["Name the final URL in the playbook, so that everyone sees who is asked."]
        );
        let back = followed(&address("https://db1/a"), "http://db1/a").unwrap_err();
        assert_eq!(
            back.to_string(),
            "`https://db1/…` redirects elsewhere: to `http://db1/…`, which is not encrypted"
        );
        assert_eq!(followed(&address("http://db1/a"), "https://db1/a"), Ok(address("https://db1/a")));
    }

    #[test]
    fn endless_redirects_end() {
        let moves = (0..9).map(|_| Move::Answer(302, "location: /round\r\n", String::new())).collect();
        let server = ScriptedServer::new(moves);
        let failure = got(&format!("http://{}", server.address)).unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!("`http://{}` redirects too often: more than 5 times", server.address)
        );
        assert_eq!(server.seen().len(), 6);
    }

    #[test]
    fn failures_name_the_host_and_the_innermost_cause() {
        let server = ScriptedServer::new(vec![Move::BreakOff]);
        let failure = got(&format!("http://{}/secret", server.address)).unwrap_err();
        assert_eq!(failure.code, Code::Http);
        assert_eq!(
            failure.to_string(),
            format!(
                "`http://{}/…` broke off its answer: end of file before message length reached",
                server.address
            )
        );
        let failure = got("http://127.0.0.1:1/secret").unwrap_err();
        assert_eq!(failure.to_string(), "cannot reach `http://127.0.0.1:1/…`: Connection refused");
        // Whoever asks for names gives up by itself.
        let terms = Terms { timeout: Duration::from_secs(60), ..Terms::default() };
        let failure = get(&host(), &address("http://no-such-host.invalid/secret"), &terms).unwrap_err();
        assert_eq!(failure.message, "cannot reach `http://no-such-host.invalid/…`");
        assert!(failure.causes[0].starts_with("failed to lookup address information"), "{failure}");
    }

    #[test]
    fn https_is_spoken_to_https_only() {
        let server = ScriptedServer::answering(&[200]);
        let failure = got(&format!("https://{}/secret", server.address)).unwrap_err();
        assert_eq!(failure.code, Code::Http);
        assert!(!failure.to_string().contains("secret"), "{failure}");
        assert!(server.seen().iter().all(|seen| !seen.line.contains("GET")), "sent in clear");
    }

    #[test]
    fn silence_ends_at_the_time_limit() {
        let server = ScriptedServer::new(vec![Move::Hang]);
        let terms = Terms { timeout: Duration::from_millis(200), ..Terms::default() };
        let url = address(&format!("http://{}/x", server.address));
        let failure = get(&host(), &url, &terms).unwrap_err();
        assert_eq!(failure.code, Code::TimedOut);
        assert_eq!(failure.message, format!("`http://{}/…` did not answer within 200 ms", server.address));
    }

    #[test]
    fn the_end_of_the_run_ends_a_request_but_not_the_last_word() {
        let server = ScriptedServer::new(vec![Move::Hang, Move::Answer(200, "", String::new())]);
        let url = address(&format!("http://{}", server.address));
        let host = host();
        let cancel = host.cancel().clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                server.wait_for_request();
                cancel.cancel(Reason::Interrupted);
            });
            assert_eq!(get(&host, &url, &Terms::default()).unwrap_err().code, Code::Interrupted);
        });
        let json = serde_json::json!({"status": "error"});
        let answer = post(&host, &url, Body::Json(&json), &Terms::default(), true).unwrap();
        assert_eq!((answer.status, server.seen()[1].body.as_str()), (200, "{\"status\":\"error\"}"));
        assert_eq!(
            post(&host, &url, Body::Json(&json), &Terms::default(), false).unwrap_err().code,
            Code::Interrupted
        );
    }

    #[test]
    fn a_header_that_is_none_is_refused() {
        let mut terms = Terms::default();
        terms.headers.insert("a b".into(), Value::Plain("x".into()));
        let failure = get(&host(), &address("http://127.0.0.1:1"), &terms).unwrap_err();
        assert_eq!(failure.to_string(), "the HTTP header `a b` is not valid");
    }
}
