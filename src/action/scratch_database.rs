//! `scratch_database`: an empty database on a scratch server.

use crate::action::Action;
use crate::action::scratch_postgres::create_database;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Plan, Reconciled, Target, Touch, Was};
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::postgres::settings::Settings;
use crate::sys::scratch::ScratchTarget;

/// Makes an empty database beside another one of a scratch server.
#[derive(Clone, Debug)]
pub struct ScratchDatabase {
    /// A database of the server.
    pub server: Settings,
    /// Name of the new one.
    pub name: String,
}

impl Action for ScratchDatabase {
    const NAME: &'static str = "scratch_database";
    type Output = ScratchTarget;

    fn plan(&self, facts: &Facts) -> Result<Plan<ScratchTarget>, Failure> {
        let Some(server) = facts.host().scratch_server(&self.server) else {
            return Err(Failure::new(
                Code::Usage,
                format!("`{}` is on no scratch server of this run", self.server),
            )
            .hint("`scratch_database` makes databases only on a server that `scratch_postgres` started."));
        };
        let target = ScratchTarget { database: self.name.clone(), ..server };
        let mut plan = Plan::new(
            format!("make the empty database `{}` on the scratch server", self.name),
            Effect::Create,
            Later::Now(target),
        );
        plan.touches.push(Touch::Changed(Target::Database(self.name.clone())));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<ScratchTarget>, effects: &Effects) -> Result<ScratchTarget, Failure> {
        let Later::Now(target) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`scratch_database` was planned without its server"));
        };
        let server = ScratchTarget { database: self.server.database.clone(), ..target.clone() };
        create_database(effects, &server, &self.name)?;
        Ok(target.clone())
    }

    /// Never done: a scratch server ends with the process that started it.
    fn reconcile(_: &Was<ScratchTarget>, _: &Facts) -> Result<Reconciled<ScratchTarget>, Failure> {
        Ok(Reconciled::NotDone)
    }
}
