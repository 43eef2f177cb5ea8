//! Why a parallel dump cannot begin, and what follows from it.

use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::{Session, has_state};

/// What keeps a parallel dump from its beginning.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Somebody holds or awaits an exclusive lock: another attempt may fare better.
    Busy(Failure),
    /// It cannot be done this way here; one stream of `pg_dump` may do.
    Unfit(String),
    /// It cannot be done at all.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        if matches!(failure.code, Code::Interrupted | Code::Terminated) {
            return Self::Failed(failure);
        }
        // `pg_dump` shows no states, and limits its locks by the time of the statement.
        let waited = failure.causes.iter().any(|cause| cause.contains("canceling statement due to"));
        if waited || has_state(&failure, "55P03") {
            return Self::Busy(failure);
        }
        Self::Unfit(match failure.causes.first() {
            Some(cause) => format!("{}: {cause}", failure.message),
            None => failure.message,
        })
    }
}

/// The failure of a dump that never found its tables free.
pub(super) fn busy(failure: Failure, scout: &Session) -> Failure {
    let failure = Failure { code: Code::Failed, message: "tables are locked".to_owned(), ..failure };
    let blocking = scout.rows(
        "SELECT DISTINCT l.mode, l.relation::regclass::text, l.pid, a.usename, l.granted FROM pg_catalog.pg_locks l \
         JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' \
         AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY 2, 3 LIMIT 5",
    );
    let blocking = blocking.map(|found| found.rows).unwrap_or_default();
    let failure = blocking.into_iter().fold(failure, |failure, row| {
        let at = |n: usize| row.get(n).cloned().flatten().unwrap_or_default();
        let does = if at(4) == "t" { "holds" } else { "waits for" };
        failure.caused_by(format!(
            "`{}` (process {} of the server) {does} an exclusive lock on {}",
            at(3),
            at(2),
            at(1)
        ))
    });
    failure
        .hint("Let that session finish or end it with `SELECT pg_terminate_backend(PROCESS)`, and run again.")
}
