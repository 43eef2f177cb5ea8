//! The session that holds the locks and the snapshot of a dump.
//!
//! Locks come first. A table that is truncated or rewritten between a snapshot and the lock on it looks empty in that
//! snapshot, and nobody is told. So all tables are locked before the transaction has asked anything, which is what makes its
//! snapshot; then the snapshot is asked which tables there are. Only when these are the ones that were locked it is used.

use super::Request;
use super::inventory::{self, Inventory, Lockable};
use super::trouble::Trouble;
use super::units;
use crate::base::failure::Failure;
use crate::sys::host::Host;
use crate::sys::postgres::catalog::text;
use crate::sys::postgres::connection::{Session, connect, has_state};
use crate::sys::postgres::settings::Settings;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How many tables one statement locks.
const BATCH: usize = 500;

/// How long a lock on an index is waited for, in milliseconds.
const INDEX_LOCK_MILLIS: u32 = 200;

/// How often tables may come and go while they are being locked.
const ROUNDS: usize = 20;

/// What every session of a dump sets beside its pins: how rows are read must not depend on the server's load.
const READING: &str = "SET max_parallel_workers_per_gather = 0";

/// A snapshot under which all tables are locked.
pub(super) struct Leader {
    session: Session,
    /// What other sessions name the snapshot by.
    pub(super) snapshot: String,
    /// What the snapshot holds.
    pub(super) inventory: Inventory,
}

impl Leader {
    /// Takes locks and snapshot, for itself and for `followers`, sessions made by [`reading`]; `scout` is one more session
    /// in the same database. A lock is waited for up to `limit`.
    ///
    /// Followers get their locks at once or not at all: behind somebody who waits for an exclusive lock they would wait for
    /// the dump's own end.
    pub(super) fn take(
        request: &Request<'_>,
        scout: &Session,
        followers: &[Session],
        limit: Duration,
    ) -> Result<Self, Trouble> {
        let selection = &request.selection;
        let session = reading(request.host, request.settings)?;
        session.run(&format!("SET lock_timeout = {}", limit.as_millis().max(1)))?;
        let mut wanted = inventory::lockable(scout, selection)?;
        for _ in 0..ROUNDS {
            let seen = match lock(&session, &wanted, "")? {
                false => None,
                // Nobody has asked anything yet, so that there is no snapshot.
                true if locked_by_all(followers, &wanted)? => Some(inventory::lockable(&session, selection)?),
                true => None,
            };
            if seen.as_ref() == Some(&wanted) {
                let row = session.one("SELECT pg_export_snapshot()")?;
                let snapshot = text(&row, 0);
                for follower in followers {
                    follower.run(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'"))?;
                }
                let mut inventory = inventory::take(&session, selection)?;
                for follower in followers {
                    lock_indexes(follower, &mut inventory)?;
                }
                return Ok(Self { session, snapshot, inventory });
            }
            for session in followers.iter().chain([&session]) {
                session.run("ROLLBACK")?;
            }
            wanted = match seen {
                Some(seen) => seen,
                None => inventory::lockable(scout, selection)?,
            };
        }
        Err(Trouble::Unfit(format!("tables came and went {ROUNDS} times while they were being locked")))
    }

    /// The positions of the sequences now, which is never before the snapshot: last value, and whether it was given out.
    pub(super) fn positions(&self) -> Result<Vec<(String, bool)>, Failure> {
        let mut positions = Vec::new();
        for batch in self.inventory.sequences.chunks(BATCH) {
            let each: Vec<String> = batch
                .iter()
                .enumerate()
                .map(|(n, sequence)| {
                    format!("SELECT {n} AS n, last_value, is_called FROM {}", sequence.qualified)
                })
                .collect();
            let found = self.session.rows(&format!("{} ORDER BY n", each.join(" UNION ALL ")))?;
            positions.extend(found.rows.iter().map(|row| (text(row, 1), text(row, 2) == "t")));
        }
        Ok(positions)
    }

    /// Ends the transaction; fails if it has not lasted until now.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.session.run("COMMIT")
    }
}

/// A session that reads rows alike, whatever the load of the server.
pub(super) fn reading(host: &Arc<Host>, settings: &Settings) -> Result<Session, Failure> {
    let session = connect(host, settings)?;
    session.run(READING)?;
    Ok(session)
}

/// Gets the locks on indexes that the planner takes for a part of a table, and the plain form of COPY does not. A table
/// whose indexes somebody holds, as REINDEX does, is left uncut: a reader would wait for it in the midst of the dump.
fn lock_indexes(follower: &Session, inventory: &mut Inventory) -> Result<(), Failure> {
    follower.run(&format!("SET LOCAL lock_timeout = {INDEX_LOCK_MILLIS}"))?;
    for table in inventory.tables.iter_mut().filter(|table| units::is_cut(table)) {
        follower.run("SAVEPOINT lifeboat")?;
        let sql = format!("EXPLAIN SELECT FROM ONLY {} WHERE ctid >= '(0,0)'", table.qualified);
        match follower.run(&sql) {
            Err(failure) if has_state(&failure, "55P03") => {
                follower.run("ROLLBACK TO SAVEPOINT lifeboat")?;
                table.blocks = None;
            }
            other => other?,
        }
        follower.run("RELEASE SAVEPOINT lifeboat")?;
    }
    // What a reader still has to wait for, as for the index of values that are stored apart, `pg_dump` waits for too.
    follower.run("SET LOCAL lock_timeout = 0")
}

fn locked_by_all(followers: &[Session], tables: &BTreeSet<Lockable>) -> Result<bool, Failure> {
    for follower in followers {
        if !lock(follower, tables, " NOWAIT")? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Begins a transaction and locks tables in it; false if one of them is gone.
fn lock(session: &Session, tables: &BTreeSet<Lockable>, how: &str) -> Result<bool, Failure> {
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    for batch in names.chunks(BATCH) {
        // ONLY, for every table that others inherit from would otherwise lock these once more.
        let sql = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE{how}", batch.join(", ONLY "));
        match session.run(&sql) {
            // The table, or its schema.
            Err(failure) if has_state(&failure, "42P01") || has_state(&failure, "3F000") => return Ok(false),
            other => other?,
        }
    }
    Ok(true)
}
