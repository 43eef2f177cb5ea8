//! Why a connection could not be made, and what to do about it.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::settings::{OF_ANOTHER, Settings};
use std::error::Error as _;
use std::io::ErrorKind;
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// How many names of databases a hint lists.
const LISTED: usize = 10;

/// How the hint begins where all connections are taken.
const FULL: &str = "Try again when fewer clients are connected";

/// Whether the server refused a connection since all are taken that there may be.
pub(super) fn is_full(failure: &Failure) -> bool {
    failure.code == Code::Connect && failure.hints.iter().any(|hint| hint.starts_with(FULL))
}

fn cannot_connect(settings: &Settings) -> Failure {
    Failure::new(Code::Connect, format!("cannot connect to `{settings}`"))
}

/// No answer came within the time limit.
pub(super) fn too_slow(settings: &Settings, limit: Duration) -> Failure {
    cannot_connect(settings)
        .caused_by(format!("no answer within {}", crate::base::units::duration(limit)))
        .hint(where_it_is(settings))
        .hint("Or allow more time: set connect_timeout (PGCONNECT_TIMEOUT) in seconds.")
}

/// The server, the network or TLS refused.
pub(super) fn refused(settings: &Settings, error: &Error, databases: &[String]) -> Failure {
    let failure = cannot_connect(settings);
    if let Some(refusal) = error.as_db_error() {
        return by_server(settings, refusal, failure.caused_by(refusal.message()), databases);
    }
    let cause = innermost(error);
    if let Some(io) = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) {
        return by_system(settings, io, failure);
    }
    match cause.as_str() {
        "password missing" => without_password(settings, failure),
        "server does not support TLS" => {
            failure.caused_by("the server does not encrypt connections").hint(format!(
                "Turn on `ssl` in the server's settings, or, if the network between is trusted, set sslmode to \
                 prefer (it is {}).",
                settings.sslmode.name()
            ))
        }
        _ => failure.caused_by(cause),
    }
}

fn by_server(settings: &Settings, refusal: &DbError, failure: Failure, databases: &[String]) -> Failure {
    let user = &settings.user;
    let user_origin = settings.origin_of("user").unwrap_or_default();
    match *refusal.code() {
        SqlState::INVALID_PASSWORD => match settings.origin_of("password") {
            Some(from) => failure.hint(format!("Correct the password of `{user}`; it came {from}.")),
            None => without_password(settings, failure),
        },
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            let words = refusal.message().to_lowercase();
            if words.contains("peer") || words.contains("ident") {
                failure.hint(format!(
                    "Run Lifeboat as the operating system's user `{user}`, or set DB_HOST=localhost to log in with a \
                     password."
                ))
            } else if words.contains("pg_hba.conf") {
                failure.hint("Allow this user, database and address in the server's pg_hba.conf.")
            } else {
                failure.hint(format!(
                    "Name a role that the server knows, by DB_USER or PGUSER or the option `user`; `{user}` is \
                     {user_origin}."
                ))
            }
        }
        SqlState::INVALID_CATALOG_NAME => {
            let from = settings.origin_of("database").unwrap_or_default();
            let close = did_you_mean(&settings.database, databases.iter().map(String::as_str));
            let failure = match close {
                Some(name) => failure.hint(format!("Did you mean `{name}`?")),
                None => failure,
            };
            let failure = failure.hint(format!("Correct the database's name; it came {from}."));
            if databases.is_empty() {
                return failure;
            }
            let shown: Vec<String> = databases.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
            let more = if databases.len() > LISTED { ", ..." } else { "" };
            failure.hint(format!("The databases there are {}{more}.", shown.join(", ")))
        }
        SqlState::INSUFFICIENT_PRIVILEGE => failure.hint(format!(
            "Grant it, as the database's owner: `GRANT CONNECT ON DATABASE {} TO {};`.",
            super::quote::ident(&settings.database),
            super::quote::ident(user)
        )),
        SqlState::TOO_MANY_CONNECTIONS => {
            failure.hint(format!("{FULL}, or raise {}.", limit(settings, refusal)))
        }
        SqlState::CANNOT_CONNECT_NOW => {
            failure.hint("Try again when the server has started up or recovered.")
        }
        _ if refusal.message().contains("unsupported startup parameter") => {
            failure.hint("Connect to the server itself, not to a connection pool in front of it.")
        }
        _ => failure,
    }
}

/// Which limit of connections was reached: the server's words may be in any language, the name of its function is not.
fn limit(settings: &Settings, refusal: &DbError) -> String {
    let (kind, name) = match refusal.routine() {
        Some("CheckMyDatabase") => ("DATABASE", &settings.database),
        Some("InitializeSessionUserId") => ("ROLE", &settings.user),
        _ => return "max_connections".to_owned(),
    };
    format!("the limit: `ALTER {kind} {} CONNECTION LIMIT -1;` takes it away", super::quote::ident(name))
}

fn without_password(settings: &Settings, failure: Failure) -> Failure {
    let failure = if failure.causes.is_empty() {
        failure.caused_by("the server asks for a password, and none is set")
    } else {
        failure
    };
    let notes = settings
        .notes
        .iter()
        .filter(|note| note.contains("since others may access it") || note.contains(OF_ANOTHER));
    let failure = notes.fold(failure, Failure::caused_by);
    let user = &settings.user;
    match settings.notes.iter().any(|note| note.contains(OF_ANOTHER)) {
        true => failure.hint(format!(
            "Set DB_USER to `{user}` and DB_PASSWORD to its password, or put a line for `{user}` into ~/.pgpass."
        )),
        false => failure.hint(
            "Set DB_PASSWORD or PGPASSWORD, or put the password into DATABASE_URL or into a line of ~/.pgpass.",
        ),
    }
}

fn by_system(settings: &Settings, error: &std::io::Error, failure: Failure) -> Failure {
    let socket = format!("{}/.s.PGSQL.{}", settings.host, settings.port);
    match error.kind() {
        ErrorKind::ConnectionRefused => failure.caused_by("connection refused").hint(where_it_is(settings)),
        ErrorKind::NotFound if settings.is_socket() => {
            failure.caused_by(format!("there is no socket `{socket}`")).hint(where_it_is(settings))
        }
        ErrorKind::PermissionDenied if settings.is_socket() => failure
            .caused_by(format!("no permission for the socket `{socket}`"))
            .hint("Run Lifeboat as a user who may open it, or set DB_HOST=localhost."),
        ErrorKind::TimedOut => failure.caused_by("no answer").hint(where_it_is(settings)),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => failure
            .caused_by(format!("the other side hung up ({error})"))
            .hint(format!("Check that PostgreSQL is what answers at `{}`.", settings.server())),
        _ if error.to_string().contains("failed to lookup address") => failure
            .caused_by(format!("the name `{}` leads to no address", settings.host))
            .hint(format!("Correct the host's name; it came {}.", settings.origin_of("host").unwrap_or_default())),
        ErrorKind::InvalidData if error.to_string().contains("invalid peer certificate") => failure
            .caused_by(error)
            .hint(format!(
                "Set sslrootcert (PGSSLROOTCERT) to the certificate of the server's authority, and the host to the \
                 name in its certificate; sslmode is {}.",
                settings.sslmode.name()
            )),
        _ => failure.caused_by(error),
    }
}

fn where_it_is(settings: &Settings) -> String {
    let from = |part| settings.origin_of(part).unwrap_or_default();
    format!(
        "Start PostgreSQL at `{}`, or correct the host ({}) or the port ({}).",
        settings.server(),
        from("host"),
        from("port")
    )
}

/// The words of the innermost cause.
pub(super) fn innermost(error: &Error) -> String {
    if let Some(refusal) = error.as_db_error() {
        return refusal.message().to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
