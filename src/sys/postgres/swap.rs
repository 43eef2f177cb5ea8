//! The swap: one transaction gives a database the live name and keeps what had it.
//!
//! *Problem*: a database that sessions are in cannot be renamed, and clients reconnect as fast as they are ended.
//! *Decision*: one transaction with both renames, while a second session ends all others in a loop; the lock of the first
//! rename holds newcomers back until the end. Killed at any moment, the live name is the old or the new database, and it
//! accepts connections. *Rejected*: `ALLOW_CONNECTIONS false` around the renames, which outlives a SIGKILL and is then an
//! outage.

use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::postgres::catalog::{text, value};
use crate::sys::postgres::connection::{Session, connect, has_state};
use crate::sys::postgres::maintenance::{Maintenance, Standing};
use crate::sys::postgres::mark::{Kind, Mark};
use crate::sys::postgres::quote::{ident, literal};
use crate::sys::postgres::sessions::{self, Holder, holders};
use crate::sys::postgres::slots::when_free;
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a swap is tried.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How long the pause is between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the outcome of a broken COMMIT is looked for, and a connection to the new database is tried.
const LOOKING: Duration = Duration::from_secs(15);

/// A database by name and OID. A name alone may be another database a moment later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its OID.
    pub oid: u32,
}

/// What is to be swapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The name that is swapped.
    pub live: String,
    /// What gets the name; `None` leaves it free.
    pub incoming: Option<Named>,
    /// The OID of what has the name now, and the name it gets; `None` when nothing has it.
    pub outgoing: Option<Named>,
    /// The comment of what gets the name. `Some(None)` for none; `None` leaves it what it is without its mark.
    pub comment: Option<Option<String>>,
    /// The run that swaps, for the mark on what is kept.
    pub run: String,
    /// Number of the action that swaps.
    pub action: u64,
    /// When.
    pub at: DateTime<FixedOffset>,
    /// How long it is tried: [`LIMIT`].
    pub limit: Duration,
}

/// What a swap did, as it was observed afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swapped {
    /// The name that was swapped.
    pub database: String,
    /// OID of what has the name now; `None` when nothing has it.
    pub live_oid: Option<u32>,
    /// What had the name before, under the name it got; `None` when nothing had it.
    pub kept: Option<Named>,
    /// Milliseconds from the first attempt to the commit.
    pub millis: u64,
    /// How many sessions were ended.
    pub ended: u64,
}

/// Swaps. Nothing has changed when it fails, unless the failure says otherwise.
///
/// # Errors
/// `TimedOut` naming the sessions that held on; `Failed` if a database is not the one that was meant; `Connect` if the
/// connection broke; and the reason of a cancellation. Each says what has the name now, or that nobody can tell.
pub(in crate::sys) fn swap(maintenance: &Maintenance, order: &Swap) -> Result<Swapped, Failure> {
    check(maintenance, order)?;
    // What was just closed may still count.
    let another = || when_free(maintenance.host(), || maintenance.another());
    let (swapper, ender) = (another()?, another()?);
    swapper.run("SET lock_timeout = 0; SET synchronous_commit = local")?;
    let began = Instant::now();
    let (pid, blockers) = (pid(&swapper)?, Mutex::default());
    let attempt = Attempt { maintenance, order, swapper: &swapper, pid, blockers: &blockers, began };
    let (stop, stopped) = channel::<()>();
    let (result, ended) = std::thread::scope(|scope| {
        let blockers = &blockers;
        let ending = scope.spawn(move || sessions::end(&ender, &order.oids(), pid, &stopped, blockers));
        let result = attempt.until_done();
        drop(stop);
        (result, ending.join().unwrap_or_default())
    });
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    result?;
    let swapped = Swapped {
        database: order.live.clone(),
        live_oid: order.incoming.as_ref().map(|incoming| incoming.oid),
        kept: order.outgoing.clone(),
        millis,
        ended,
    };
    if order.incoming.is_some() {
        accepts(maintenance, order)?;
    }
    Ok(swapped)
}

/// Refuses what cannot go well before a session is ended for it.
fn check(maintenance: &Maintenance, order: &Swap) -> Result<(), Failure> {
    let is = |found: Option<Standing>, name: &str, oid: Option<u32>| match (found.map(|found| found.oid), oid)
    {
        (found, meant) if found == meant => Ok(()),
        (None, _) => Err(order.refused(format!("`{name}` is not there"))),
        (Some(found), None) => Err(order.refused(format!("`{name}` is there by now (OID {found})"))),
        (Some(found), Some(meant)) => {
            Err(order.refused(format!("`{name}` is another database than before: OID {found}, not {meant}")))
        }
    };
    is(maintenance.find(&order.live)?, &order.live, order.outgoing.as_ref().map(|outgoing| outgoing.oid))?;
    if let Some(Named { name, oid }) = &order.incoming {
        let found = maintenance.find(name)?;
        let accepts = found.as_ref().is_none_or(|found| found.accepts);
        is(found, name, Some(*oid))?;
        if !accepts {
            return Err(order.refused(format!("`{name}` accepts no connections")).hint(format!(
                "As its owner: `ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1;`.",
                name = ident(name)
            )));
        }
    }
    if let Some(Named { name, .. }) = &order.outgoing {
        is(maintenance.find(name)?, name, None)?;
    }
    Ok(())
}

impl Swap {
    fn oids(&self) -> Vec<u32> {
        self.outgoing.iter().chain(&self.incoming).map(|named| named.oid).collect()
    }

    /// A failure before anything was changed.
    fn refused(&self, why: String) -> Failure {
        Failure::new(Code::Failed, self.not_swapped()).caused_by(why)
    }

    fn not_swapped(&self) -> String {
        match (&self.incoming, &self.outgoing) {
            (Some(incoming), _) => format!("`{}` did not get the name `{}`", incoming.name, self.live),
            (None, _) => format!("`{}` was not renamed", self.live),
        }
    }

    /// The statements between BEGIN and COMMIT.
    fn statements(&self, comments: &Comments) -> Vec<String> {
        let mut all = Vec::new();
        let rename = |from: &str, to: &str| format!("ALTER DATABASE {} RENAME TO {}", ident(from), ident(to));
        let says = |name: &str, comment: Option<&str>| {
            let comment = comment.map_or_else(|| "NULL".to_owned(), literal);
            format!("COMMENT ON DATABASE {} IS {comment}", ident(name))
        };
        if let Some(outgoing) = &self.outgoing {
            all.push(rename(&self.live, &outgoing.name));
        }
        if let Some(incoming) = &self.incoming {
            all.push(rename(&incoming.name, &self.live));
        }
        if let Some(outgoing) = &self.outgoing {
            let mark = Mark {
                kind: Kind::Kept,
                database: self.live.clone(),
                run: self.run.clone(),
                action: self.action,
                at: self.at,
                replaced_by: self.incoming.as_ref().map(|incoming| incoming.oid),
            };
            all.push(says(&outgoing.name, Some(&mark.before(comments.outgoing.as_deref()))));
        }
        if self.incoming.is_some() {
            all.push(says(&self.live, comments.incoming.as_deref()));
        }
        all
    }
}

/// The comments of the two databases, without marks.
#[derive(Default)]
struct Comments {
    outgoing: Option<String>,
    incoming: Option<String>,
}

struct Attempt<'a> {
    maintenance: &'a Maintenance,
    order: &'a Swap,
    swapper: &'a Session,
    /// Process on the server that runs the transaction.
    pid: u32,
    /// Whom it waits for.
    blockers: &'a Mutex<Vec<Holder>>,
    began: Instant,
}

impl Attempt<'_> {
    fn left(&self) -> Duration {
        self.order.limit.saturating_sub(self.began.elapsed())
    }

    /// Tries until it is committed. The server gives a rename up after five seconds, however many sessions were ended
    /// meanwhile.
    fn until_done(&self) -> Result<(), Failure> {
        loop {
            let failure = match self.prepared() {
                Ok(()) => return self.commit(),
                Err(failure) => failure,
            };
            let is_used = has_state(&failure, "55006");
            if failure.code != Code::Query {
                // Whatever was waiting is given up, or the server does so when it notices the end of the connection.
                let is_slow = failure.code == Code::TimedOut;
                let held = if is_slow { self.holders() } else { Vec::new() };
                let _ = self.swapper.run("ROLLBACK");
                return Err(if failure.code == Code::TimedOut {
                    self.held(held)
                } else {
                    self.told(failure)
                });
            }
            let holders = if is_used { self.holders() } else { Vec::new() };
            self.swapper.run("ROLLBACK").map_err(|failure| self.told(failure))?;
            if !is_used {
                return Err(self.told(failure));
            }
            // No session can be ended for a prepared transaction.
            let is_hopeless = holders.iter().any(|holder| holder.process.is_none());
            if self.left().is_zero() || is_hopeless {
                return Err(if holders.is_empty() { self.told(failure) } else { self.held(holders) });
            }
        }
    }

    /// Begins the transaction and does all in it but its end.
    fn prepared(&self) -> Result<(), Failure> {
        let order = self.order;
        self.blockers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.swapper.limit(Some(self.left().max(Duration::from_millis(1))))?;
        let comments = self.comments()?;
        self.swapper.run("BEGIN")?;
        for statement in order.statements(&comments) {
            self.swapper.run(&statement)?;
        }
        // Names may have changed hands since they were looked at. From here on the locks hold them.
        let oid = |name: &str| {
            let found = self
                .swapper
                .rows(&format!("SELECT oid FROM pg_database WHERE datname = {}", literal(name)))?;
            Ok::<_, Failure>(found.rows.first().and_then(|row| text(row, 0).parse::<u32>().ok()))
        };
        let right = oid(&order.live)? == order.incoming.as_ref().map(|incoming| incoming.oid)
            && match &order.outgoing {
                Some(outgoing) => oid(&outgoing.name)? == Some(outgoing.oid),
                None => true,
            };
        if right {
            return Ok(());
        }
        let _ = self.swapper.run("ROLLBACK");
        Err(order.refused("another database took one of the names at this moment".to_owned()))
    }

    fn comments(&self) -> Result<Comments, Failure> {
        let own = |oid: u32| -> Result<Option<String>, Failure> {
            let row = self
                .swapper
                .rows(&format!("SELECT shobj_description({oid}, 'pg_database')"))?
                .rows
                .pop()
                .and_then(|row| row.into_iter().next().flatten());
            Ok(super::mark::split(row.as_deref()).1)
        };
        let mut comments = Comments::default();
        if let Some(outgoing) = &self.order.outgoing {
            comments.outgoing = own(outgoing.oid)?;
        }
        comments.incoming = match (&self.order.comment, &self.order.incoming) {
            (Some(comment), _) => comment.clone(),
            (None, Some(incoming)) => own(incoming.oid)?,
            (None, None) => None,
        };
        Ok(comments)
    }

    /// Commits. From here on the end of the run does not interrupt: the outcome must be known.
    fn commit(&self) -> Result<(), Failure> {
        self.maintenance.host().cancel().check()?;
        self.swapper.see_through(true);
        let Err(failure) = self.swapper.run("COMMIT") else { return Ok(()) };
        match self.outcome() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.told(failure)),
            Err(unknown) => Err(Failure::new(
                failure.code,
                format!("nobody can tell whether `{}` was swapped", self.order.live),
            )
            .caused_by("the connection broke while the swap was committed")
            .caused_by(failure)
            .caused_by(unknown)
            .hint(format!(
                "Look when the server answers again: {}",
                match (&self.order.incoming, &self.order.outgoing) {
                    (Some(incoming), _) => format!(
                        "`{}` is the new database if there is no `{}` any more.",
                        self.order.live, incoming.name
                    ),
                    (None, Some(outgoing)) => format!("it was renamed if there is `{}`.", outgoing.name),
                    (None, None) => String::new(),
                }
            ))),
        }
    }

    /// Looks which database has the name, once the process that was to commit is gone.
    fn outcome(&self) -> Result<bool, Failure> {
        let (began, limit) = (Instant::now(), self.order.limit.min(LOOKING));
        let mut spare: Option<Session> = None;
        loop {
            let looked = match &spare {
                Some(spare) => self.look(spare),
                None => self.look(self.maintenance.session()),
            };
            let (unknown, is_lost) = match looked {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {
                    let still = format!("the server's process {} still runs the transaction", self.pid);
                    (Failure::new(Code::TimedOut, still), false)
                }
                Err(failure) => (failure, true),
            };
            if began.elapsed() >= limit {
                return Err(unknown);
            }
            if is_lost {
                spare = self.maintenance.another().ok();
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the new database has the name; `None` while that may still change.
    fn look(&self, session: &Session) -> Result<Option<bool>, Failure> {
        session.see_through(true);
        let row = session.limit(Some(LOOKING)).and_then(|()| {
            session.one(&format!(
                "SELECT (SELECT count(*) FROM pg_stat_activity WHERE pid = {}), \
                 (SELECT oid FROM pg_database WHERE datname = {})",
                self.pid,
                literal(&self.order.live)
            ))
        });
        let row = row.and_then(|row| session.limit(None).map(|()| row));
        session.see_through(false);
        let row = row?;
        let live = value(&row, 1).and_then(|oid| oid.parse::<u32>().ok());
        let is_new = live == self.order.incoming.as_ref().map(|incoming| incoming.oid);
        // Committed is committed; but what is not committed may be so a moment later.
        Ok((is_new || text(&row, 0) == "0").then_some(is_new))
    }

    /// What keeps the transaction waiting.
    fn holders(&self) -> Vec<Holder> {
        let mut all = holders(self.maintenance.session(), &self.order.oids());
        let noted = self.blockers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_known = |blocker: &Holder| all.iter().any(|holder| holder.process == blocker.process);
        let blockers = sessions::still(self.maintenance.session(), &noted);
        let others: Vec<_> = blockers.into_iter().filter(|blocker| !is_known(blocker)).collect();
        all.extend(others);
        all
    }

    fn held(&self, holders: Vec<Holder>) -> Failure {
        let tried = units::duration(self.order.limit);
        // No session can be ended for a prepared transaction: that was not tried until the end.
        let mut failure = match holders.iter().any(|holder| holder.process.is_none()) {
            true => Failure::new(Code::Failed, self.order.not_swapped())
                .caused_by("what is in use cannot be renamed"),
            false => Failure::new(Code::TimedOut, self.order.not_swapped())
                .caused_by(format!("what is in use could not be renamed within {tried}")),
        };
        let mut ends = Vec::new();
        for holder in &holders {
            failure = failure.caused_by(&holder.line);
            ends.extend(holder.process.as_ref().map(|pid| format!("pg_terminate_backend({pid})")));
            if let Some(gid) = &holder.transaction {
                failure = failure.hint(format!(
                    "`COMMIT PREPARED {gid};` or `ROLLBACK PREPARED {gid};`, then run it again."
                ));
            }
        }
        if holders.is_empty() {
            failure = failure.hint("Run it again; whatever held on is gone by now.");
        } else if !ends.is_empty() {
            failure = failure.hint(format!(
                "End what holds on, as a superuser, then run it again: `SELECT {};`.",
                ends.join(", ")
            ));
        }
        failure.hint(self.unchanged())
    }

    fn told(&self, failure: Failure) -> Failure {
        let mut told = Failure::new(failure.code, self.order.not_swapped());
        told.causes = match failure.code {
            Code::Query => failure.causes,
            Code::Failed => return failure,
            _ => vec![failure.message].into_iter().chain(failure.causes).collect(),
        };
        told.hints = failure.hints;
        told.hint(self.unchanged())
    }

    fn unchanged(&self) -> String {
        match &self.order.outgoing {
            Some(_) => format!("`{}` is the same database as before.", self.order.live),
            None => format!("There is still no `{}`.", self.order.live),
        }
    }
}

fn pid(session: &Session) -> Result<u32, Failure> {
    let row = session.one("SELECT pg_backend_pid()")?;
    text(&row, 0)
        .parse()
        .map_err(|_| Failure::new(Code::Query, "cannot understand the id of the server's process"))
}

/// Whether the name leads into the new database, and clients fill it to its limit of connections: where they are let in,
/// there is nothing to prove.
fn is_full(maintenance: &Maintenance, order: &Swap) -> bool {
    let found = maintenance.find(&order.live).ok().flatten();
    found.is_some_and(|found| {
        let limit = u64::try_from(found.connection_limit).unwrap_or(u64::MAX);
        order.incoming.as_ref().map(|incoming| incoming.oid) == Some(found.oid)
            && limit > 0
            && found.sessions >= limit
    })
}

/// Proves that the name leads into the new database. Clients may come back in such a crowd that there is no room at first.
fn accepts(maintenance: &Maintenance, order: &Swap) -> Result<(), Failure> {
    let Some(incoming) = &order.incoming else { return Ok(()) };
    let settings = maintenance.settings().with_database(&order.live);
    let began = Instant::now();
    let failure = loop {
        let asked = connect(maintenance.host(), &settings).and_then(|session| {
            session.one("SELECT oid FROM pg_database WHERE datname = current_database()")
        });
        match asked {
            Ok(row) if text(&row, 0) == incoming.oid.to_string() => return Ok(()),
            Ok(row) => {
                break Failure::new(
                    Code::Failed,
                    format!("the name leads to another database (OID {})", text(&row, 0)),
                );
            }
            Err(failure) if failure.code == Code::Connect && is_full(maintenance, order) => return Ok(()),
            Err(failure) if failure.code == Code::Connect && began.elapsed() < LOOKING => {
                std::thread::sleep(PAUSE);
            }
            Err(failure) => break failure,
        }
    };
    let mut told = Failure::new(
        failure.code,
        format!("`{}` is the new database, but it could not be entered afterwards", order.live),
    );
    told.causes = vec![failure.message].into_iter().chain(failure.causes).collect();
    told.hints = failure.hints;
    Err(match &order.outgoing {
        Some(outgoing) => told.hint(format!("What was there before is `{}`.", outgoing.name)),
        None => told,
    })
}
