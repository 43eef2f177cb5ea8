//! `remove_database`: drops a database that a restore has kept, or staged and left behind.

use crate::action::{Action, Recorded};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::postgres::address::Address;
use crate::sys::postgres::databases::Doomed;
use crate::sys::postgres::maintenance::{Maintenance, Standing};
use crate::sys::postgres::mark::{Kind, Mark};
use crate::sys::postgres::settings::Settings;
use serde::{Deserialize, Serialize};

/// How a database is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemoveOptions {
    /// End the sessions in it; without this they keep it.
    pub force: bool,
}

/// Removes a database that Lifeboat has kept or staged.
#[derive(Clone, Debug)]
pub struct RemoveDatabase {
    /// The database that it was kept of, or staged for.
    pub settings: Settings,
    /// Its own name.
    pub name: String,
    /// How.
    pub options: RemoveOptions,
}

/// A database that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Where it was.
    pub target: Address,
    /// Its name.
    pub name: String,
    /// Its OID.
    pub oid: u32,
    /// Whether it was kept or staged.
    pub kind: Kind,
    /// The run that had kept or staged it.
    pub run: String,
    /// Bytes that it took on the server's disk, if the role may ask.
    pub size: Option<u64>,
}

impl Recorded for Removed {
    fn summary(&self) -> String {
        let size = self.size.map(|size| format!(" ({})", units::bytes(size))).unwrap_or_default();
        format!("removed the database {}{size}", self.name)
    }
}

impl Action for RemoveDatabase {
    const NAME: &'static str = "remove_database";
    type Output = Removed;

    fn asks(&self) -> Vec<Need> {
        self.settings.needs()
    }

    fn plan(&self, facts: &Facts) -> Result<Plan<Removed>, Failure> {
        let summary = format!("remove the database `{}` at {}", self.name, self.settings.server());
        let target = self.settings.with_database(&self.name).target();
        if facts.view().is_touched(&self.settings.target()) || facts.view().is_touched(&target) {
            let mut plan = Plan::new(summary, Effect::Destroy, Later::AfterRun);
            plan.unknown.push("what is kept then: this run changes the database before".to_owned());
            plan.touches.push(Touch::Changed(target));
            return Ok(plan);
        }
        let maintenance = Maintenance::connect(facts.host(), &self.settings)?;
        let (standing, mark) = self.removable(&maintenance)?;
        let output = Removed {
            target: Address::of(&self.settings),
            name: self.name.clone(),
            oid: standing.oid,
            kind: mark.kind,
            run: mark.run.clone(),
            size: standing.size,
        };
        let mut plan = Plan::new(summary, Effect::Destroy, Later::Now(output));
        let of = &self.settings.database;
        let (what, loss) = match mark.kind {
            Kind::Kept => (
                format!("what `{of}` was before run {} put another in its place", mark.run),
                format!("that run cannot be rolled back any more: `{of}` stays what it is"),
            ),
            Kind::Staging => (
                format!("what run {} left of a restore into `{of}` that did not come to its end", mark.run),
                format!("nothing is lost with it: `{of}` stays what it is"),
            ),
        };
        plan.details = vec![what.clone(), loss];
        if standing.sessions > 0 {
            plan.details.push(format!("sessions that are ended: {}", standing.sessions));
        }
        let size = standing.size.map(|size| format!(" ({})", units::bytes(size))).unwrap_or_default();
        plan.confirm = Some(format!("Remove the database `{}`{size} for good? It is {what}.", self.name));
        plan.locks.push(self.settings.target());
        plan.touches.push(Touch::Changed(target));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<Removed>, effects: &Effects) -> Result<Removed, Failure> {
        let Later::Now(planned) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`remove_database` was planned without looking"));
        };
        let maintenance = Maintenance::connect(effects.facts().host(), &self.settings)?;
        // Whoever restores at this moment holds the lock, and may be filling or swapping this very database.
        let _lock = maintenance.lock(&self.settings.database)?;
        let intent =
            effects.intend(&format!("drop the database `{}` (OID {})", planned.name, planned.oid))?;
        let doomed = Doomed { name: planned.name.clone(), oid: planned.oid, force: self.options.force };
        effects.drop_database(&intent, &maintenance, &doomed)?;
        Ok(planned.clone())
    }

    fn reconcile(was: &Was<Removed>, facts: &Facts) -> Result<Reconciled<Removed>, Failure> {
        let planned = was.output.clone().or_else(|| was.plan.forecast.clone().now());
        let Some(planned) = planned.filter(|_| was.begun) else { return Ok(Reconciled::NotDone) };
        let connected = planned
            .target
            .settings(facts.host())
            .and_then(|settings| Maintenance::connect(facts.host(), &settings));
        Ok(match connected.and_then(|maintenance| maintenance.find_oid(planned.oid)) {
            Ok(None) => Reconciled::Done(planned),
            Ok(Some(_)) => Reconciled::NotDone,
            Err(failure) => Reconciled::InDoubt(format!(
                "the server that had `{}` cannot be asked: {failure}",
                planned.name
            )),
        })
    }
}

impl RemoveDatabase {
    /// The database and its mark, if it may be removed.
    fn removable(&self, maintenance: &Maintenance) -> Result<(Standing, Mark), Failure> {
        let (name, of) = (&self.name, &self.settings.database);
        let stays = |why: String| {
            Failure::new(Code::Failed, format!("the database `{name}` is not removed")).caused_by(why)
        };
        let Some(standing) = maintenance.find(name)? else {
            return Err(Failure::new(
                Code::NotFound,
                format!("there is no database `{name}` at {}", self.settings.server()),
            )
            .hint("`lifeboat cleanup` lists what is kept."));
        };
        let mark = standing.mark.clone().filter(|_| standing.is_removable() && name != of);
        let Some(mark) = mark else {
            return Err(stays("it has no mark that Lifeboat keeps or stages it".to_owned()).hint(
                "Lifeboat removes only databases that it made or kept itself; use `DROP DATABASE` if this one is meant.",
            ));
        };
        if !maintenance.marked(Some(of))?.iter().any(|marked| marked.oid == standing.oid) {
            return Err(stays(format!("it is kept of `{}`, not of `{of}`", mark.database)));
        }
        if !standing.is_own {
            return Err(stays(format!("it belongs to `{}`", standing.owner))
                .hint("Connect as its owner or as a superuser."));
        }
        if maintenance.is_locked(of)? {
            return Err(Failure::new(
                Code::Locked,
                format!("another run restores into `{of}` at this moment"),
            )
            .hint("Wait until that run has ended; the lock never outlives its connection."));
        }
        if standing.sessions > 0 && !self.options.force {
            let failure = stays("sessions are in it".to_owned());
            let sessions = maintenance.sessions_in(standing.oid)?;
            return Err(sessions
                .into_iter()
                .fold(failure, Failure::caused_by)
                .hint("End them, or remove it with the option `force` (`lifeboat cleanup --force`), which ends them."));
        }
        Ok((standing, mark))
    }
}
