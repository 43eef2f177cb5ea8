//! What a server tells about itself and a database: identity, size, properties, recovery point.

use crate::base::backup::{DatabaseProperties, RecoveryPoint};
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::mark;
use crate::sys::postgres::quote::literal;
use chrono::DateTime;
use std::collections::BTreeMap;

/// What the answer of [`system_identifier`] begins with where the server does not tell it.
pub const UNKNOWN_SYSTEM: &str = "unknown";

/// The server's identifier, which a restored copy of the cluster keeps and no other cluster has; `unknown at HOST:PORT`
/// where the server does not let this role ask, as some managed ones. A scratch server that stands in for another one has
/// that one's, so that a drill's backups are of the same source as real ones.
///
/// # Errors
/// Only if the connection breaks.
pub fn system_identifier(session: &Session) -> Result<String, Failure> {
    let stood_in = session.host().sandbox().and_then(|sandbox| sandbox.system_of(session.settings()));
    if let Some(system) = stood_in {
        return Ok(system);
    }
    match session.one("SELECT system_identifier FROM pg_control_system()") {
        Ok(row) => Ok(text(&row, 0)),
        Err(failure) if failure.code == Code::Query => {
            Ok(format!("{UNKNOWN_SYSTEM} at {}", session.settings().server()))
        }
        Err(failure) => Err(failure),
    }
}

/// Bytes of the database on the server's disk, indexes included.
pub fn database_size(session: &Session) -> Result<u64, Failure> {
    number(session, "SELECT pg_database_size(current_database())")
}

/// Bytes of the tables' rows on the server's disk, without indexes and system tables: roughly what a dump reads.
pub fn table_size(session: &Session) -> Result<u64, Failure> {
    number(
        session,
        "SELECT coalesce(sum(pg_table_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' \
         OR c.relname = 'pg_largeobject' AND n.nspname = 'pg_catalog'",
    )
}

fn number(session: &Session, sql: &str) -> Result<u64, Failure> {
    let row = session.one(sql)?;
    text(&row, 0).parse().map_err(|_| unexpected(session, &text(&row, 0)))
}

/// The server's time and WAL position now; on a standby, the last position replayed.
pub fn recovery_point(session: &Session) -> Result<RecoveryPoint, Failure> {
    let row = session.one(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
         CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END",
    )?;
    let time =
        DateTime::parse_from_rfc3339(&text(&row, 0)).map_err(|_| unexpected(session, &text(&row, 0)))?;
    Ok(RecoveryPoint { time, lsn: text(&row, 1) })
}

/// What a plain dump of the session's database does not hold.
pub fn properties(session: &Session) -> Result<DatabaseProperties, Failure> {
    let extensions = session.rows("SELECT extname, extversion FROM pg_extension ORDER BY 1")?;
    let extensions = extensions.rows.iter().map(|row| (text(row, 0), text(row, 1))).collect();
    Ok(DatabaseProperties { extensions, ..shared(session, "current_database()")? })
}

/// What a plain dump of `database` does not hold, as far as every database of the server tells it: all but its extensions.
/// Nobody has to enter it, which a limit of connections may forbid.
pub fn properties_of(session: &Session, database: &str) -> Result<DatabaseProperties, Failure> {
    shared(session, &literal(database))
}

fn shared(session: &Session, name: &str) -> Result<DatabaseProperties, Failure> {
    let major = session.version().major();
    let provider = if major >= 15 { "d.datlocprovider" } else { "'c'" };
    let locale = match major {
        17.. => "d.datlocale",
        15 | 16 => "d.daticulocale",
        _ => "NULL",
    };
    let collation = if major >= 15 { "d.datcollversion" } else { "NULL" };
    let row = session.one(&format!(
        "SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, {provider}, \
         {locale}, {collation}, d.datacl IS NULL, d.datconnlimit, shobj_description(d.oid, 'pg_database'), t.spcname \
         FROM pg_database d LEFT JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = {name}"
    ))?;
    // What Lifeboat wrote on a database that it kept is no part of the database's own comment.
    let (_, comment) = mark::split(value(&row, 9).as_deref());
    let acl = session.rows(&format!(
        "SELECT a::text FROM pg_database d, unnest(d.datacl) WITH ORDINALITY u(a, n) WHERE d.datname = {name} ORDER BY n"
    ))?;
    let set = session.rows(&format!(
        "SELECT coalesce(r.rolname, ''), c FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, \
         unnest(s.setconfig) WITH ORDINALITY u(c, n) \
         WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = {name}) \
         AND (s.setrole = 0 OR r.oid IS NOT NULL) ORDER BY 1, n"
    ))?;
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &set.rows {
        settings.entry(text(row, 0)).or_default().push(text(row, 1));
    }
    Ok(DatabaseProperties {
        owner: text(&row, 0),
        encoding: text(&row, 1),
        collate: text(&row, 2),
        ctype: text(&row, 3),
        locale_provider: match text(&row, 4).as_str() {
            "c" => "libc".to_owned(),
            "i" => "icu".to_owned(),
            "b" => "builtin".to_owned(),
            other => other.to_owned(),
        },
        icu_locale: value(&row, 5),
        collation_version: value(&row, 6),
        acl: (text(&row, 7) == "f").then(|| acl.rows.iter().map(|row| text(row, 0)).collect()),
        connection_limit: text(&row, 8).parse().map_err(|_| unexpected(session, &text(&row, 8)))?,
        comment,
        settings,
        tablespace: text(&row, 10),
        extensions: BTreeMap::new(),
    })
}

/// Options of the session, as in `PGOPTIONS`, with which `pg_dump` writes the same text as our own sessions read:
/// time zone and the database's own `lc_monetary`. All else `pg_dump` pins itself, but a time limit only after it has asked
/// for some things. Messages are in English where the role may
/// choose, for they tell what a dump failed of.
pub fn dump_options(session: &Session) -> Result<String, Failure> {
    let row = session.one("SELECT current_setting('lc_monetary')")?;
    let messages = if session.is_superuser() { " -c lc_messages=C" } else { "" };
    Ok(format!(
        "-c statement_timeout=0 -c TimeZone=UTC -c lc_monetary={}{messages}",
        option_value(&text(&row, 0))
    ))
}

/// A value inside `PGOPTIONS`, where blanks part options and a backslash takes what follows as it is.
fn option_value(value: &str) -> String {
    value
        .chars()
        .flat_map(|c| (c.is_whitespace() || c == '\\').then_some('\\').into_iter().chain([c]))
        .collect()
}

pub(super) fn text(row: &[Option<String>], at: usize) -> String {
    value(row, at).unwrap_or_default()
}

pub(super) fn value(row: &[Option<String>], at: usize) -> Option<String> {
    row.get(at).cloned().flatten()
}

fn unexpected(session: &Session, value: &str) -> Failure {
    Failure::new(Code::Query, format!("cannot understand what `{}` answers", session.settings().server()))
        .caused_by(format!("`{value}` is not what was asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_options_keep_their_blanks() {
        assert_eq!(option_value("en_US.UTF-8"), "en_US.UTF-8");
        assert_eq!(option_value("English_United States\\x"), "English_United\\ States\\\\x");
    }
}
