//! Sessions with a server. Every wait ends when the run is asked to end, and then the server is asked to stop too.

use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::host::Host;
use crate::sys::postgres::login::{Tls, config_of, log_in};
use crate::sys::postgres::refusal;
use crate::sys::postgres::settings::{Settings, SslMode};
use crate::sys::postgres::tls;
use crate::sys::postgres::trouble::DISK_FULL;
use crate::sys::postgres::version::Version;
use crate::sys::postgres::wire::Wire;
use futures_util::StreamExt as _;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_postgres::error::{DbError, ErrorPosition, SqlState};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage, config};

/// How much longer than the server's own time limit the answer is waited for, before the server counts as hung.
const GRACE: Duration = Duration::from_secs(5);

/// How long asking the server to stop a query may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// Text results: the names of the columns, and rows of values, `None` for null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Names of the columns; empty if the statement returns no rows.
    pub columns: Vec<String>,
    /// Values as the server prints them.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A session with a server, pinned so that text means the same everywhere.
pub struct Session {
    host: Arc<Host>,
    settings: Settings,
    client: Client,
    /// Ends behind the client, whose end makes it say farewell.
    wire: Wire,
    tls: Tls,
    version: Version,
    version_text: String,
    superuser: bool,
    limit: Mutex<Option<Duration>>,
    to_the_end: AtomicBool,
}

/// Connects and pins the session. The password becomes known to the masker first.
///
/// # Errors
/// `Connect`, with the server's or the system's words and the remedy.
pub fn connect(host: &Arc<Host>, settings: &Settings) -> Result<Session, Failure> {
    settings.tell(host.masker());
    // Whatever way the settings came: from a drill nobody ever reaches another server.
    if let Some(sandbox) = host.sandbox()
        && !sandbox.serves(settings)
        && host.scratch_server(settings).is_none()
    {
        return Err(Failure::new(Code::Internal, format!("a drill may not connect to `{settings}`"))
            .caused_by("it is none of the drill's scratch servers")
            .hint("This is a defect in Lifeboat: please report it with the playbook. Nothing was sent."));
    }
    match open(host, settings)? {
        Ok(session) => {
            tracing::debug!(%settings, version = session.version_text, "connected");
            Ok(session)
        }
        Err(error) => {
            let unknown = error.code() == Some(&SqlState::INVALID_CATALOG_NAME);
            let databases = if unknown { names(host, settings) } else { Vec::new() };
            Err(refusal::refused(settings, &error, &databases))
        }
    }
}

/// A session in the first of several databases of a server that lets this role in.
///
/// # Errors
/// As [`connect`], with what the first of them said.
pub(super) fn connect_to_any(
    host: &Arc<Host>,
    settings: &Settings,
    databases: &[&str],
) -> Result<Session, Failure> {
    settings.tell(host.masker());
    let mut first = None;
    for database in databases {
        let settings = settings.with_database(database);
        match open(host, &settings)? {
            Ok(session) => return Ok(session),
            Err(error) => {
                let is_of_database = matches!(
                    error.code(),
                    Some(
                        &SqlState::INVALID_CATALOG_NAME
                            | &SqlState::INSUFFICIENT_PRIVILEGE
                            | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                            | &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
                    )
                );
                let failure = refusal::refused(&settings, &error, &[]);
                if !is_of_database {
                    return Err(failure);
                }
                first.get_or_insert(failure);
            }
        }
    }
    let failure =
        first.unwrap_or_else(|| Failure::new(Code::Internal, "no database was named to connect to"));
    let names: Vec<String> = databases.iter().map(|name| format!("`{name}`")).collect();
    Err(failure.hint(format!(
        "Databases are made and renamed from another one: let `{}` connect to {}.",
        settings.user,
        names.join(" or ")
    )))
}

/// The names of the server's databases, as far as one of the usual ones lets us ask.
fn names(host: &Arc<Host>, settings: &Settings) -> Vec<String> {
    const NAMES: &str = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";
    ["postgres", "template1"]
        .iter()
        .find_map(|name| open(host, &settings.with_database(name)).ok()?.ok()?.rows(NAMES).ok())
        .map(|found| found.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
        .unwrap_or_default()
}

fn open(host: &Arc<Host>, settings: &Settings) -> Result<Result<Session, Error>, Failure> {
    use config::SslMode::{Disable, Prefer, Require};
    let modes = match settings.sslmode {
        // A socket of this machine is not encrypted, whatever is asked for, as in libpq.
        _ if settings.is_socket() => (Disable, None),
        SslMode::Disable => (Disable, None),
        SslMode::Allow => (Disable, Some(Require)),
        SslMode::Prefer => (Prefer, Some(Disable)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Require, None),
    };
    let (first, second) = modes;
    match attempt(host, settings, first)? {
        // Only the way of encryption is tried twice: a wrong password stays wrong.
        Err(error) if is_about_encryption(&error) => match second {
            Some(second) => attempt(host, settings, second),
            None => Ok(Err(error)),
        },
        result => Ok(result),
    }
}

fn attempt(
    host: &Arc<Host>,
    settings: &Settings,
    mode: config::SslMode,
) -> Result<Result<Session, Error>, Failure> {
    let tls = match mode {
        config::SslMode::Disable => Tls::Never,
        _ => Tls::Rustls(tls::connector(settings)?),
    };
    let config = config_of(settings, mode);
    let wire = Wire::new()?;
    let connecting = log_in(&config, &tls, &wire);
    let result = match settings.connect_timeout {
        None => wire.wait(host, connecting)?,
        Some(limit) => match wire.wait(host, async { tokio::time::timeout(limit, connecting).await })? {
            Ok(result) => result,
            Err(_) => return Err(refusal::too_slow(settings, limit)),
        },
    };
    Ok(result.map(|(client, greeting)| Session {
        host: host.clone(),
        settings: settings.clone(),
        client,
        wire,
        tls,
        version: Version::from_number(greeting.number),
        version_text: greeting.version,
        superuser: greeting.superuser,
        limit: Mutex::new(None),
        to_the_end: AtomicBool::new(false),
    }))
}

/// Whether the other way of encryption may fare better: the handshake failed, or the server has rules for each way.
fn is_about_encryption(error: &Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => error.to_string().starts_with("error performing TLS handshake"),
    }
}

impl Session {
    /// The host that it belongs to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The server's version as it names it: `15.18 (Debian 15.18-0+deb12u1)`.
    pub fn version_text(&self) -> &str {
        &self.version_text
    }

    /// Whether the role is a superuser, whom nothing inside the server holds back.
    pub fn is_superuser(&self) -> bool {
        self.superuser
    }

    /// Limits the time of every statement from now on; `None` for no limit.
    pub fn limit(&self, limit: Option<Duration>) -> Result<(), Failure> {
        let millis = limit.map_or(0, |limit| limit.as_millis().clamp(1, i32::MAX as u128));
        // Rounded as the server has it: whether a statement was too slow is decided by comparing with this.
        let limit = limit.and(u64::try_from(millis).ok()).map(Duration::from_millis);
        let keep = || *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
        // It counts for the statement that sets it too, or nothing could be seen through once a run is asked to end.
        if limit.is_some() {
            keep();
        }
        self.run(&format!("SET statement_timeout = {millis}"))?;
        keep();
        Ok(())
    }

    /// Whether answers are waited for, from now on, even when the run is asked to end: for the few statements whose outcome
    /// must be known. It counts for those with a time limit only.
    pub fn see_through(&self, to_the_end: bool) {
        self.to_the_end.store(to_the_end, Ordering::Relaxed);
    }

    /// Runs statements and forgets what they return.
    pub fn run(&self, sql: &str) -> Result<(), Failure> {
        self.ask(&Asked::plain(sql), self.client.batch_execute(sql))
    }

    /// Runs one statement, and all its rows.
    pub fn rows(&self, sql: &str) -> Result<Rows, Failure> {
        self.rows_within(sql, u64::MAX).map(|rows| rows.0)
    }

    /// Runs one statement; reading ends when the rows are larger than `bytes`, and then the second value is true.
    pub fn rows_within(&self, sql: &str, bytes: u64) -> Result<(Rows, bool), Failure> {
        self.ask(&Asked::plain(sql), async {
            let mut stream = std::pin::pin!(self.client.simple_query_raw(sql).await?);
            let mut found = Rows::default();
            let mut size = 0;
            while let Some(message) = stream.next().await {
                match message? {
                    SimpleQueryMessage::RowDescription(columns) => {
                        found.columns = columns.iter().map(|column| column.name().to_owned()).collect();
                    }
                    SimpleQueryMessage::Row(row) => {
                        let values =
                            (0..row.len()).map(|at| row.try_get(at).map(|value| value.map(str::to_owned)));
                        let values: Vec<Option<String>> = values.collect::<Result<_, Error>>()?;
                        size += values.iter().flatten().map(|value| value.len() as u64).sum::<u64>();
                        if size > bytes {
                            return Ok((found, true));
                        }
                        found.rows.push(values);
                    }
                    _ => {}
                }
            }
            Ok((found, false))
        })
    }

    /// Runs one statement that returns exactly one row.
    pub fn one(&self, sql: &str) -> Result<Vec<Option<String>>, Failure> {
        let mut found = self.rows(sql)?.rows;
        match (found.pop(), found.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Failure::new(Code::Query, format!("a query on `{}` failed", self.settings.database))
                .caused_by("it returned another number of rows than one")),
        }
    }

    /// Waits for an answer. On cancellation and after the time limit the server is asked to stop.
    pub(super) fn ask<T>(
        &self,
        asked: &Asked<'_>,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let limit = *self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        let began = self.host.clock().instant();
        let waited = match limit {
            None => self.wire.wait(&self.host, answer).map(Ok),
            Some(limit) => {
                let bounded = async { tokio::time::timeout(limit + GRACE, answer).await };
                if self.to_the_end.load(Ordering::Relaxed) {
                    self.wire.wait_to_the_end(bounded)
                } else {
                    self.wire.wait(&self.host, bounded)
                }
            }
        };
        let slow = limit.filter(|limit| began.elapsed() >= *limit);
        match waited {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(self.failed(asked, &error, slow)),
            Ok(Err(_)) => {
                self.interrupt();
                Err(self.too_slow(limit.unwrap_or_default()))
            }
            Err(cancelled) => {
                self.interrupt();
                Err(cancelled)
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks the server to stop what this session runs. The host's waits are over when a run is cancelled, so this one
    /// has a short-lived runtime of its own. Nothing depends on its success: the server notices later by itself.
    pub(super) fn interrupt(&self) {
        let token = self.client.cancel_token();
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let _ = runtime.block_on(async {
            match &self.tls {
                Tls::Never => tokio::time::timeout(CANCEL_LIMIT, token.cancel_query(NoTls)).await,
                Tls::Rustls(tls) => tokio::time::timeout(CANCEL_LIMIT, token.cancel_query(tls.clone())).await,
            }
        });
    }

    fn too_slow(&self, limit: Duration) -> Failure {
        let (name, limit) = (&self.settings.database, units::duration(limit));
        Failure::new(Code::TimedOut, format!("a query on `{name}` took longer than {limit}"))
    }

    fn failed(&self, asked: &Asked<'_>, error: &Error, slow: Option<Duration>) -> Failure {
        let message = format!("a query on `{}` failed", self.settings.database);
        if let Some(refusal) = error.as_db_error() {
            if let (&SqlState::QUERY_CANCELED, Some(limit)) = (refusal.code(), slow) {
                return self.too_slow(limit);
            }
            if *refusal.code() == SqlState::DISK_FULL {
                return said(Failure::new(Code::DiskFull, message), asked, refusal).hint(DISK_FULL);
            }
            return said(Failure::new(Code::Query, message), asked, refusal);
        }
        if error.is_closed() || self.client.is_closed() {
            let words = self.wire.last_words();
            // Whether the end of the connection is noticed as such or by its silence is a matter of microseconds.
            let words = words.filter(|words| words != "connection closed");
            return Failure::new(Code::Connect, format!("the connection to `{}` broke", self.settings))
                .caused_by(words.unwrap_or_else(|| "the server hung up".to_owned()));
        }
        Failure::new(Code::Query, message).caused_by(refusal::innermost(error))
    }
}

/// Whether a failure is the server's refusal with this SQLSTATE.
pub fn has_state(failure: &Failure, state: &str) -> bool {
    failure.code != Code::Connect && failure.causes.iter().any(|cause| cause.ends_with(&format!("({state})")))
}

/// A statement as it was sent and as it was written.
pub(super) struct Asked<'a> {
    /// What people wrote.
    pub sql: &'a str,
    /// How many characters were sent before it.
    pub before: usize,
}

impl<'a> Asked<'a> {
    pub fn plain(sql: &'a str) -> Self {
        Self { sql, before: 0 }
    }
}

/// Adds the server's words: message with SQLSTATE, detail, the line it means, and its hint.
fn said(failure: Failure, asked: &Asked<'_>, refusal: &DbError) -> Failure {
    let mut failure = failure.caused_by(format!("{} ({})", refusal.message(), refusal.code().code()));
    if let Some(detail) = refusal.detail() {
        failure = failure.caused_by(detail.trim_end_matches('.'));
    }
    if let Some(ErrorPosition::Original(position)) = refusal.position() {
        let at = (*position as usize).saturating_sub(1 + asked.before);
        let number = asked.sql.chars().take(at).filter(|c| *c == '\n').count();
        if let Some(line) = asked.sql.lines().nth(number) {
            failure = failure.caused_by(format!("at line {}: {}", number + 1, line.trim()));
        }
    }
    match refusal.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
