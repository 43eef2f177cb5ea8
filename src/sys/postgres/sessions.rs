//! The sessions in databases: which of them this role may end, ending them, and what holds on all the same.

use crate::sys::postgres::catalog::{text, value};
use crate::sys::postgres::connection::{Session, has_state};
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long the pause is between two rounds of ending sessions.
const PAUSE: Duration = Duration::from_millis(20);

/// A session in one line, for `pg_stat_activity a`.
pub(super) const SESSION: &str = "concat('process ', a.pid, coalesce(' of `' || a.usename || '`', ''), \
     coalesce(' (' || nullif(a.application_name, '') || ')', ''), \
     coalesce(' from ' || host(a.client_addr), ''), coalesce(' in `' || a.datname || '`', ''), \
     coalesce(', ' || a.state, ''))";

/// The condition that this role may end a session of `pg_stat_activity a`, as the server decides it.
pub(super) const ENDABLE: &str = "(current_setting('is_superuser') = 'on' OR EXISTS (SELECT FROM pg_roles r \
     WHERE r.oid = a.usesysid AND NOT r.rolsuper \
     AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))";

/// Ends the sessions in databases until told to stop; returns how many. A session that is slow to end is asked again.
///
/// Meanwhile it notes whom the transaction of the server's process `pid` waits for: once the server gave it up, which may be
/// a moment before anybody hears of that, it cannot be asked. What was seen last therefore stands when nobody is seen.
pub(super) fn end(
    ender: &Session,
    oids: &[u32],
    pid: u32,
    stop: &Receiver<()>,
    blockers: &Mutex<Vec<Holder>>,
) -> u64 {
    // The server may evaluate conditions in any order, and would end everybody before it looks in which database they are:
    // whom to end is decided first, and for all.
    let sql = format!(
        "WITH chosen AS MATERIALIZED (SELECT pid FROM pg_stat_activity a WHERE datid IN ({}) \
         AND pid <> pg_backend_pid() AND {ENDABLE}) SELECT pid FROM chosen WHERE pg_terminate_backend(pid)",
        list(oids)
    );
    let mut ended = BTreeSet::new();
    let mut round = 0_u32;
    loop {
        match ender.rows(&sql) {
            Ok(found) => ended.extend(found.rows.iter().map(|row| text(row, 0))),
            // A session that this role may not end has come between the two questions of the statement.
            Err(failure) if has_state(&failure, "42501") => {}
            // Without it the transaction runs into its time limit, which tells who holds on.
            Err(_) => return ended.len() as u64,
        }
        round += 1;
        if round % 5 == 1 {
            let waits = format!("pid = ANY (pg_blocking_pids({pid}))");
            let seen = sessions(ender, &waits);
            if !seen.is_empty() {
                *blockers.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            }
        }
        if !matches!(stop.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout)) {
            return ended.len() as u64;
        }
    }
}

/// What keeps a database from being renamed: a session's process, or a prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// What it is, for people.
    pub line: String,
    /// Id of the session's process.
    pub process: Option<String>,
    /// Name of the prepared transaction, as a literal.
    pub transaction: Option<String>,
}

/// What is in databases.
pub(super) fn holders(session: &Session, oids: &[u32]) -> Vec<Holder> {
    let mut found = sessions(session, &format!("datid IN ({})", list(oids)));
    let prepared = session.rows(&format!(
        "SELECT format('the prepared transaction `%s` of `%s` in `%s`', gid, owner, database), format('%L', gid) \
         FROM pg_prepared_xacts JOIN pg_database d ON d.datname = database WHERE d.oid IN ({}) ORDER BY 1",
        list(oids)
    ));
    let rows = prepared.map(|found| found.rows).unwrap_or_default();
    found.extend(rows.iter().map(|row| Holder {
        line: text(row, 0),
        process: None,
        transaction: value(row, 1),
    }));
    found
}

/// Those of the sessions that are still in a transaction, and so may still hold what was waited for.
pub(super) fn still(session: &Session, noted: &[Holder]) -> Vec<Holder> {
    let noted: Vec<_> = noted.iter().filter_map(|holder| holder.process.as_deref()).collect();
    if noted.is_empty() {
        return Vec::new();
    }
    // Only locks tell everybody who is in a transaction; when it began is hidden from other roles.
    let locks = "EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted)";
    sessions(session, &format!("a.pid IN ({}) AND {locks}", noted.join(", ")))
}

fn sessions(session: &Session, condition: &str) -> Vec<Holder> {
    let found = session.rows(&format!(
        "SELECT pid, {SESSION} FROM pg_stat_activity a WHERE {condition} ORDER BY backend_start, pid"
    ));
    let rows = found.map(|found| found.rows).unwrap_or_default();
    rows.iter().map(|row| Holder { line: text(row, 1), process: value(row, 0), transaction: None }).collect()
}

fn list(oids: &[u32]) -> String {
    oids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
