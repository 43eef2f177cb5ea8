//! `rollback_database`: a database that a restore, or another rollback, has replaced gets its name back.
//!
//! Both stay: what had the name meanwhile is kept in its turn, so that a rollback can be rolled back too.

use crate::action::{Action, Recorded};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::postgres::address::Address;
use crate::sys::postgres::maintenance::{Maintenance, Standing};
use crate::sys::postgres::mark::Kind;
use crate::sys::postgres::obstacles::Obstacles;
use crate::sys::postgres::quote::ident;
use crate::sys::postgres::settings::{Explicit, reach};
use crate::sys::postgres::swap::{LIMIT, Named, Swap};
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

/// Rolls back what an action of an earlier run made of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackDatabase {
    /// Where the database is.
    pub target: Address,
    /// What is rolled back.
    pub undone: Undone,
}

/// What is rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// What a run has recorded.
    Recorded {
        /// The run.
        run: String,
        /// OID of what it gave the name; `None` if it left the name free.
        live_oid: Option<u32>,
        /// What had the name before, under the name it got; `None` if nothing had it.
        kept: Option<Named>,
    },
    /// What the mark on a database tells, which is kept under this name.
    Kept {
        /// Its name.
        name: String,
    },
}

/// What is rolled back, with all that is known of it.
struct Known<'a> {
    database: &'a str,
    run: String,
    live_oid: Option<u32>,
    kept: Option<Named>,
}

/// A database that has its name again. As what a restore returns, it tells what can be rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// Where the database is.
    pub target: Address,
    /// Its name.
    pub database: String,
    /// The run that was rolled back.
    pub undone: String,
    /// OID of what has the name again; `None` if nothing had it before that run.
    pub live_oid: Option<u32>,
    /// The name under which it was kept until now.
    pub was: Option<String>,
    /// The name under which that run's database is kept from now on; `None` if that run had left the name free.
    pub kept: Option<String>,
    /// Its OID.
    pub kept_oid: Option<u32>,
}

impl RolledBack {
    fn incoming(&self) -> Option<Named> {
        Some(Named { name: self.was.clone()?, oid: self.live_oid? })
    }

    fn outgoing(&self) -> Option<Named> {
        Some(Named { name: self.kept.clone()?, oid: self.kept_oid? })
    }
}

impl Recorded for RolledBack {
    fn summary(&self) -> String {
        let Self { database, undone, .. } = self;
        let now = match &self.was {
            Some(was) => format!("{database} is again what it was before run {undone} ({was} until now)"),
            None => format!("there is no {database} again, as before run {undone}"),
        };
        match &self.kept {
            Some(kept) => format!("{now}; what that run had made is kept as {kept}"),
            None => now,
        }
    }
}

impl Action for RollbackDatabase {
    const NAME: &'static str = "rollback_database";
    type Output = RolledBack;

    fn asks(&self) -> Vec<Need> {
        let is_socket = self.target.host.starts_with('/');
        match &self.undone {
            // The run that is rolled back was allowed to go there.
            Undone::Recorded { .. } => Vec::new(),
            Undone::Kept { .. } if is_socket => Vec::new(),
            Undone::Kept { .. } => vec![Need::Host(self.target.host.clone())],
        }
    }

    fn plan(&self, facts: &Facts) -> Result<Plan<RolledBack>, Failure> {
        let settings = self.target.settings(facts.host())?;
        let database = &self.target.database;
        if facts.view().is_touched(&settings.target()) {
            let summary = format!("make `{settings}` what it was before");
            let mut plan = Plan::new(summary, Effect::Replace, Later::AfterRun);
            plan.unknown.push("what is live then: this run changes the database before".to_owned());
            plan.touches.push(Touch::Changed(settings.target()));
            return Ok(plan);
        }
        let maintenance =
            Maintenance::connect(facts.host(), &settings).map_err(|failure| self.as_whom(facts, failure))?;
        let known = self.known(&maintenance)?;
        let live = maintenance.find(database)?;
        known.check_live(&maintenance, live.as_ref())?;
        let incoming = known.kept.as_ref().map(|kept| known.kept_now(&maintenance, kept)).transpose()?;
        let mut found = maintenance.obstacles_of_renaming(database, live.as_ref())?;
        if let Some(incoming) = &incoming {
            let more = maintenance.obstacles_of_renaming(&incoming.name, Some(incoming))?;
            found.extend(more.into_iter().filter(|obstacle| !found.contains(obstacle)).collect::<Vec<_>>());
        }
        Obstacles { found, unknown: Vec::new() }.refuse(database)?;

        let stamp = facts.began().format("%Y%m%d_%H%M%S");
        let keep = match &live {
            Some(_) => Some(maintenance.free_name(database, &format!("_undone_{stamp}"))?),
            None => None,
        };
        let output = RolledBack {
            target: self.target.clone(),
            database: database.clone(),
            undone: known.run.clone(),
            live_oid: incoming.as_ref().map(|incoming| incoming.oid),
            was: incoming.as_ref().map(|incoming| incoming.name.clone()),
            kept: keep.clone(),
            kept_oid: live.as_ref().map(|live| live.oid),
        };
        let summary = format!("make `{settings}` what it was before run {}", known.run);
        let mut plan = Plan::new(summary, Effect::Replace, Later::Now(output));
        let back = match &incoming {
            Some(incoming) => {
                plan.details.push(format!("`{}`{} becomes `{database}`", incoming.name, about(incoming)));
                format!("Make `{database}` again what it was before run {}{}?", known.run, since(incoming))
            }
            None => {
                plan.details.push(format!("nothing becomes `{database}`: it was not there before"));
                format!("Leave no `{database}`, as it was before run {}?", known.run)
            }
        };
        let mut question = back;
        if let (Some(live), Some(keep)) = (&live, &keep) {
            plan.details.push(format!("what is `{database}` now{} is kept as `{keep}`", size(live)));
            if live.sessions > 0 {
                plan.details.push(format!("sessions that are ended: {}", live.sessions));
            }
            question.push_str(&format!(" What is live now is kept as `{keep}`."));
        }
        plan.confirm = Some(question);
        plan.locks.push(settings.target());
        plan.touches.push(Touch::Changed(settings.target()));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<RolledBack>, effects: &Effects) -> Result<RolledBack, Failure> {
        let Later::Now(planned) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`rollback_database` was planned without looking"));
        };
        let host = effects.facts().host();
        let maintenance = Maintenance::connect(host, &planned.target.settings(host)?)?;
        let lock = maintenance.lock(&planned.database)?;
        let (incoming, outgoing) = (planned.incoming(), planned.outgoing());
        let renames = [
            outgoing.as_ref().map(|named| format!("`{}` becomes `{}`", planned.database, named.name)),
            incoming.as_ref().map(|named| format!("`{}` becomes `{}`", named.name, planned.database)),
        ];
        let renames: Vec<String> = renames.into_iter().flatten().collect();
        let intent = effects.intend(&format!("swap databases: {}", renames.join(", ")))?;
        lock.check()?;
        effects.swap_databases(
            &intent,
            &maintenance,
            &Swap {
                live: planned.database.clone(),
                incoming,
                outgoing,
                comment: None,
                run: effects.run().to_owned(),
                action: effects.number(),
                at: effects.facts().now().fixed_offset(),
                limit: LIMIT,
            },
        )?;
        Ok(planned.clone())
    }

    fn reconcile(was: &Was<RolledBack>, facts: &Facts) -> Result<Reconciled<RolledBack>, Failure> {
        let planned = was.output.clone().or_else(|| was.plan.forecast.clone().now());
        let Some(planned) = planned.filter(|_| was.begun) else { return Ok(Reconciled::NotDone) };
        let database = &planned.database;
        let connected = planned
            .target
            .settings(facts.host())
            .and_then(|settings| Maintenance::connect(facts.host(), &settings));
        let maintenance = match connected {
            Ok(maintenance) => maintenance,
            Err(failure) => {
                return Ok(Reconciled::InDoubt(format!(
                    "the server of `{database}` cannot be asked: {failure}"
                )));
            }
        };
        let live = maintenance.find(database)?.map(|live| live.oid);
        Ok(match live {
            live if live == planned.live_oid => Reconciled::Done(planned),
            live if live == planned.kept_oid => Reconciled::NotDone,
            _ => Reconciled::InDoubt(format!(
                "`{database}` is neither the database from before the run nor the one that it meant to bring back"
            )),
        })
    }
}

impl RollbackDatabase {
    /// Tells why this role connects, where the environment names another one by now.
    fn as_whom(&self, facts: &Facts, failure: Failure) -> Failure {
        let Undone::Recorded { run, .. } = &self.undone else { return failure };
        let user = &self.target.user;
        let database = Some(self.target.database.clone());
        let now = reach(facts.host(), &Explicit { database, ..Explicit::default() });
        match now {
            Ok(now) if failure.code == Code::Connect && now.user != *user => failure.caused_by(format!(
                "run {run} restored as `{user}`, and is rolled back as the same role, not as `{}`",
                now.user
            )),
            _ => failure,
        }
    }

    fn known(&self, maintenance: &Maintenance) -> Result<Known<'_>, Failure> {
        let database = self.target.database.as_str();
        let name = match &self.undone {
            Undone::Recorded { run, live_oid, kept } => {
                return Ok(Known { database, run: run.clone(), live_oid: *live_oid, kept: kept.clone() });
            }
            Undone::Kept { name } => name,
        };
        let refused = |why: String| {
            Failure::new(Code::NotFound, format!("`{name}` cannot become `{database}` again"))
                .caused_by(why)
                .hint("`lifeboat cleanup` lists what is kept.")
        };
        let Some(found) = maintenance.find(name)? else {
            return Err(refused(format!("there is no database `{name}`")));
        };
        match found.mark {
            Some(mark) if mark.kind == Kind::Kept && mark.database == database => Ok(Known {
                database,
                run: mark.run,
                live_oid: mark.replaced_by,
                kept: Some(Named { name: found.name, oid: found.oid }),
            }),
            _ => Err(refused(format!("it has no mark that it was `{database}` once"))),
        }
    }
}

impl Known<'_> {
    /// Refuses when the database is not the one that the run left.
    fn check_live(&self, maintenance: &Maintenance, live: Option<&Standing>) -> Result<(), Failure> {
        let database = self.database;
        let oid = live.map(|live| live.oid);
        if oid == self.live_oid {
            return Ok(());
        }
        let failure = Failure::new(
            Code::Failed,
            format!("`{database}` is not what run {} left, so that cannot be rolled back", self.run),
        );
        let Some(live) = live else {
            let back = self.kept.as_ref().and_then(|kept| maintenance.find_oid(kept.oid).ok().flatten());
            let failure = failure.caused_by(format!("there is no `{database}` any more"));
            return Err(match back {
                Some(kept) => failure.hint(format!(
                    "What was there before that run is `{}`; to use it: `ALTER DATABASE {} RENAME TO {};`.",
                    kept.name,
                    ident(&kept.name),
                    ident(database)
                )),
                None => failure,
            });
        };
        // Whoever put it there kept what was there before.
        let by = maintenance.marked(Some(database))?.into_iter().find_map(|standing| {
            standing.mark.filter(|mark| mark.kind == Kind::Kept && mark.replaced_by == Some(live.oid))
        });
        Err(match by {
            Some(mark) => failure
                .caused_by(format!("run {} put another one in its place, {}", mark.run, day(&mark.at)))
                .hint(format!("Roll that one back first: `lifeboat rollback {}`.", mark.run)),
            None => failure.caused_by(match self.live_oid {
                Some(oid) => format!("its OID is {}, and that run's was {oid}", live.oid),
                None => format!("that run left no `{database}`, and there is one (OID {})", live.oid),
            }),
        })
    }

    /// What the run kept, whatever it is called by now.
    fn kept_now(&self, maintenance: &Maintenance, kept: &Named) -> Result<Standing, Failure> {
        let database = self.database;
        let gone = |why: String| {
            Failure::new(
                Code::NotFound,
                format!("what `{database}` was before run {} cannot be brought back", self.run),
            )
            .caused_by(why)
        };
        let Some(found) = maintenance.find_oid(kept.oid)? else {
            return Err(gone(format!("`{}`, which that run kept, was removed", kept.name))
                .hint("Restore a backup instead: `lifeboat backups` lists them."));
        };
        // Another rollback may have kept it once more since; it is the same database.
        let is_kept =
            found.mark.as_ref().is_some_and(|mark| mark.kind == Kind::Kept && mark.database == database);
        if !is_kept {
            return Err(gone(format!(
                "`{}`, which that run kept, has no mark of it any more: it serves another purpose by now",
                found.name
            ))
            .hint(format!(
                "To use it all the same: rename `{database}` away, then `ALTER DATABASE {} RENAME TO {};`.",
                ident(&found.name),
                ident(database)
            )));
        }
        if !found.accepts {
            return Err(gone(if found.is_invalid() {
                format!("the removal of `{}` was begun and interrupted", found.name)
            } else {
                format!("`{}` accepts no connections", found.name)
            }));
        }
        Ok(found)
    }
}

fn size(standing: &Standing) -> String {
    standing.size.map(|size| format!(" ({})", units::bytes(size))).unwrap_or_default()
}

fn since(standing: &Standing) -> String {
    standing.mark.as_ref().map(|mark| format!(" on {}", day(&mark.at))).unwrap_or_default()
}

fn about(standing: &Standing) -> String {
    let size = standing.size.map(units::bytes);
    let since = standing.mark.as_ref().map(|mark| format!("kept {}", day(&mark.at)));
    let parts: Vec<String> = size.into_iter().chain(since).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn day(at: &DateTime<FixedOffset>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
