//! A session beside the databases that are made, renamed and removed, and what the server's catalog tells about them.

use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use crate::sys::postgres::catalog::{text, value};
use crate::sys::postgres::connection::{Session, connect_to_any};
use crate::sys::postgres::mark::{self, Kind, Mark};
use crate::sys::postgres::quote::literal;
use crate::sys::postgres::sessions::SESSION;
use crate::sys::postgres::settings::Settings;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Databases that every server has, and nobody is to restore into.
pub(super) const SYSTEM: [&str; 3] = ["postgres", "template1", "template0"];

/// The limit of connections that PostgreSQL gives a database whose removal was interrupted: only dropping it helps.
pub(super) const INVALID_LIMIT: i32 = -2;

/// A database as it stands on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its OID, which a rename does not change.
    pub oid: u32,
    /// Its owner.
    pub owner: String,
    /// Bytes on the server's disk, if this role may ask.
    pub size: Option<u64>,
    /// Whether the catalog lets sessions in, as far as the database itself is concerned.
    pub accepts: bool,
    /// Limit of connections; -1 for none, -2 for a database whose removal was interrupted.
    pub connection_limit: i32,
    /// Whether it is a template.
    pub is_template: bool,
    /// Whether this role may rename and drop it: owner or superuser.
    pub is_own: bool,
    /// How many sessions are in it.
    pub sessions: u64,
    /// What Lifeboat wrote on it.
    pub mark: Option<Mark>,
    /// Its own comment, without the mark.
    pub comment: Option<String>,
}

impl Standing {
    /// Whether its removal was interrupted, so that nothing but dropping it is possible.
    pub fn is_invalid(&self) -> bool {
        self.connection_limit == INVALID_LIMIT
    }

    /// Whether it has a mark, is not the very database that the mark speaks of, and still has a name that a run gave it: one
    /// that somebody renamed is theirs.
    pub fn is_removable(&self) -> bool {
        let is_named_so = ["_before_", "_undone_", "_staging_"].iter().any(|part| self.name.contains(part));
        is_named_so && self.mark.as_ref().is_some_and(|mark| mark.database != self.name)
    }
}

/// A session in the server's maintenance database.
pub struct Maintenance {
    host: Arc<Host>,
    settings: Settings,
    session: Arc<Session>,
}

/// The right to restore into one database, against other machines too; dropping it frees it, and so does the end of the
/// connection.
pub struct DatabaseLock {
    session: Arc<Session>,
    key: i64,
    database: String,
}

impl Maintenance {
    /// Connects to `postgres`, else to `template1`, with the credentials of `settings`; never to the database that
    /// `settings` name.
    ///
    /// # Errors
    /// As [`connect`](super::connection::connect).
    pub fn connect(host: &Arc<Host>, settings: &Settings) -> Result<Self, Failure> {
        let names: Vec<&str> =
            ["postgres", "template1"].into_iter().filter(|name| *name != settings.database).collect();
        let session = connect_to_any(host, settings, &names)?;
        let session = Arc::new(session);
        let name = format!("lifeboat on {}, process {}", machine(), std::process::id());
        // A role's own setting must not forbid what the role may do.
        session.run(&format!(
            "SET default_transaction_read_only = off; SET application_name = {}",
            literal(&name)
        ))?;
        Ok(Self { host: host.clone(), settings: settings.clone(), session })
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The settings of the database that is worked on.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Another session in the same maintenance database.
    pub(super) fn another(&self) -> Result<Session, Failure> {
        let session = super::connection::connect(&self.host, self.session.settings())?;
        session.run("SET default_transaction_read_only = off")?;
        Ok(session)
    }

    /// Takes the right to restore into `database`, so that two machines exclude each other. It is an advisory lock of the
    /// maintenance database, and holds as long as the value and the connection last.
    ///
    /// # Errors
    /// `Locked`, naming the holder as far as the server tells.
    pub fn lock(&self, database: &str) -> Result<DatabaseLock, Failure> {
        let key = key(database);
        if text(&self.session.one(&format!("SELECT pg_try_advisory_lock({key})"))?, 0) == "t" {
            return Ok(DatabaseLock { session: self.session.clone(), key, database: database.to_owned() });
        }
        let holder = self.session.rows(&format!(
            "SELECT a.application_name, a.usename, coalesce(host(a.client_addr), 'the server''s machine') \
             FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE {} AND l.granted",
            is_key(key)
        ))?;
        let failure =
            Failure::new(Code::Locked, format!("another run restores into `{database}` at this moment"));
        let failure = holder.rows.iter().fold(failure, |failure, row| {
            failure.caused_by(format!(
                "held by `{}`, which is connected as `{}` from {}",
                text(row, 0),
                text(row, 1),
                text(row, 2)
            ))
        });
        Err(failure.hint("Wait until that run has ended; the lock never outlives its connection."))
    }

    /// Whether somebody has the right to restore into `database` at this moment.
    ///
    /// # Errors
    /// Those of the question to the server.
    pub fn is_locked(&self, database: &str) -> Result<bool, Failure> {
        let held = self
            .session
            .one(&format!("SELECT count(*) FROM pg_locks l WHERE {} AND l.granted", is_key(key(database))))?;
        Ok(text(&held, 0) != "0")
    }

    /// The database of that name, or `None`.
    pub fn find(&self, database: &str) -> Result<Option<Standing>, Failure> {
        Ok(self.standings(&format!("d.datname = {}", literal(database)))?.pop())
    }

    /// The database with that OID, whatever it is called by now, or `None`.
    pub fn find_oid(&self, oid: u32) -> Result<Option<Standing>, Failure> {
        Ok(self.standings(&format!("d.oid = {oid}"))?.pop())
    }

    /// All databases that have a mark, those of `database` or of all, oldest first.
    pub fn marked(&self, database: Option<&str>) -> Result<Vec<Standing>, Failure> {
        let mut found = self.standings("NOT d.datistemplate")?;
        found.retain(|standing| {
            let of = standing.mark.as_ref().map(|mark| mark.database.as_str());
            // Where only the name tells, the database's name in it may be cut.
            of.is_some_and(|of| database.is_none_or(|database| of == database || is_cut(standing, database)))
        });
        found.sort_by(|a, b| {
            let at = |standing: &Standing| standing.mark.as_ref().map(|mark| mark.at);
            (at(a), &a.name).cmp(&(at(b), &b.name))
        });
        Ok(found)
    }

    /// The database that an action kept when it swapped; with it, what took the place is `mark.replaced_by`.
    pub fn kept_by(&self, run: &str, action: u64) -> Result<Option<Standing>, Failure> {
        let mut marked = self.marked(None)?;
        marked.retain(|standing| {
            standing
                .mark
                .as_ref()
                .is_some_and(|mark| mark.kind == Kind::Kept && mark.run == run && mark.action == action)
        });
        Ok(marked.pop())
    }

    /// The sessions in a database, each in one line.
    ///
    /// # Errors
    /// Those of the question to the server.
    pub fn sessions_in(&self, oid: u32) -> Result<Vec<String>, Failure> {
        let found = self.session.rows(&format!(
            "SELECT {SESSION} FROM pg_stat_activity a WHERE datid = {oid} ORDER BY backend_start, pid"
        ))?;
        Ok(found.rows.iter().map(|row| text(row, 0)).collect())
    }

    /// A name that is free: `database`, cut to 63 bytes as far as needed, with `ending`, and a number if even that is taken.
    pub fn free_name(&self, database: &str, ending: &str) -> Result<String, Failure> {
        let taken = self.session.rows("SELECT datname FROM pg_database")?;
        let taken: Vec<String> = taken.rows.iter().map(|row| text(row, 0)).collect();
        let numbered = (2..).map(|number| format!("{ending}_{number}"));
        std::iter::once(ending.to_owned())
            .chain(numbered)
            .map(|ending| mark::name(database, &ending))
            .find(|name| !taken.contains(name))
            .ok_or_else(|| Failure::new(Code::Internal, "no name is free"))
    }

    fn standings(&self, condition: &str) -> Result<Vec<Standing>, Failure> {
        let found = self.session.rows(&format!(
            "SELECT d.datname, d.oid, pg_get_userbyid(d.datdba), \
             CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE') \
             THEN pg_database_size(d.oid) END, d.datallowconn, d.datconnlimit, d.datistemplate, \
             pg_has_role(d.datdba, 'USAGE'), (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid), \
             shobj_description(d.oid, 'pg_database') FROM pg_database d WHERE {condition} ORDER BY d.datname"
        ))?;
        found.rows.iter().map(|row| standing(row)).collect::<Option<_>>().ok_or_else(|| {
            let server = self.settings.server();
            Failure::new(Code::Query, format!("cannot understand what `{server}` tells of its databases"))
        })
    }
}

fn standing(row: &[Option<String>]) -> Option<Standing> {
    let name = value(row, 0)?;
    let connection_limit = value(row, 5)?.parse().ok()?;
    let whole = value(row, 9);
    let (mut written, comment) = mark::split(whole.as_deref());
    if whole.is_none() && connection_limit == mark::UNMARKED_LIMIT {
        written = mark::of_name(&name);
    }
    Some(Standing {
        oid: value(row, 1)?.parse().ok()?,
        owner: value(row, 2)?,
        size: value(row, 3).and_then(|size| size.parse().ok()),
        accepts: value(row, 4)? == "t" && !matches!(connection_limit, 0 | INVALID_LIMIT),
        connection_limit,
        is_template: value(row, 6)? == "t",
        is_own: value(row, 7)? == "t",
        sessions: value(row, 8)?.parse().ok()?,
        mark: written,
        comment,
        name,
    })
}

fn is_cut(standing: &Standing, database: &str) -> bool {
    let Some(mark) = standing.mark.as_ref().filter(|mark| mark.action == 0) else { return false };
    database.starts_with(&mark.database) && standing.name.len() + 4 > mark::LONGEST_NAME
}

impl DatabaseLock {
    /// Fails when the lock was lost, which happens only with its connection.
    ///
    /// # Errors
    /// `Connect` when the connection broke, `Locked` when the server does not know the lock any more.
    pub fn check(&self) -> Result<(), Failure> {
        let held = self.session.one(&format!(
            "SELECT count(*) FROM pg_locks l WHERE {} AND l.granted AND l.pid = pg_backend_pid()",
            is_key(self.key)
        ))?;
        if text(&held, 0) == "0" {
            return Err(Failure::new(
                Code::Locked,
                format!("the lock for restoring into `{}` was lost", self.database),
            )
            .hint("Connect to the server itself, not to a connection pool in front of it."));
        }
        Ok(())
    }
}

impl Drop for DatabaseLock {
    fn drop(&mut self) {
        // Where this fails, the connection is about to end, and the lock with it.
        let _ = self.session.run(&format!("SELECT pg_advisory_unlock({})", self.key));
    }
}

/// The number that stands for the pair of purpose and database.
fn key(database: &str) -> i64 {
    let digest = Sha256::digest(format!("lifeboat restore\0{database}"));
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(bytes)
}

/// The condition on `pg_locks l` that a row is of an advisory lock of this database with that number.
fn is_key(key: i64) -> String {
    let [a, b, c, d, e, f, g, h] = key.to_be_bytes();
    let (high, low) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    format!(
        "l.locktype = 'advisory' AND l.classid = {high} AND l.objid = {low} AND l.objsubid = 1 \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
}

/// The name of this machine.
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
