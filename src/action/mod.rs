//! Layer 2: one verb, one file. An action plans itself from facts and carries out exactly that plan.

pub mod archive;
pub mod dump;
pub mod exec;
pub mod extract;
pub mod file;
pub mod gzip;
pub mod hash;
pub mod leftovers;
pub mod notify;
pub mod remove_database;
pub mod remove_kept_files;
pub mod replaced;
pub mod restore;
pub mod rollback_database;
pub mod rollback_files;
pub mod rotate;
pub mod save;
pub mod scratch_database;
pub mod scratch_postgres;
pub mod source;
pub mod verify;
pub mod write;

use crate::base::failure::Failure;
use crate::base::plan::{Need, Plan, Reconciled, Was};
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::host::Host;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Lists the actions: by name for contracts, and with their types for what journals hold.
macro_rules! actions {
    ($($action:ty),* $(,)?) => {
        /// The names of all actions, in the order of their files. The contract tests demand a case of each.
        pub const NAMES: &[&str] = &[$(<$action>::NAME),*];

        /// Finds out what became of a recorded action; `None` if this version knows no such action, or cannot read what was
        /// recorded of it.
        ///
        /// # Errors
        /// If the world cannot be asked.
        pub fn reconcile(
            name: &str,
            was: &Was<Value>,
            facts: &Facts,
        ) -> Result<Option<Reconciled<Value>>, Failure> {
            $(if name == <$action>::NAME {
                return reconcile_as::<$action>(was, facts);
            })*
            Ok(None)
        }
    };
}

actions![
    exec::Exec,
    extract::Extract,
    gzip::Gzip,
    hash::Hash,
    notify::Notify,
    remove_database::RemoveDatabase,
    remove_kept_files::RemoveKeptFiles,
    restore::Restore,
    rollback_database::RollbackDatabase,
    rollback_files::RollbackFiles,
    rotate::Rotate,
    save::Save,
    scratch_database::ScratchDatabase,
    scratch_postgres::ScratchPostgres,
    verify::Verify,
    write::Write,
];

fn reconcile_as<A: Action>(was: &Was<Value>, facts: &Facts) -> Result<Option<Reconciled<Value>>, Failure> {
    let typed = |was: &Was<Value>| {
        Some(Was::<A::Output> {
            run: was.run.clone(),
            plan: serde_json::from_value(serde_json::to_value(&was.plan).ok()?).ok()?,
            begun: was.begun,
            output: was.output.clone().map(serde_json::from_value).transpose().ok()?,
        })
    };
    let Some(was) = typed(was) else { return Ok(None) };
    Ok(match A::reconcile(&was, facts)? {
        Reconciled::Done(output) => serde_json::to_value(output).ok().map(Reconciled::Done),
        Reconciled::NotDone => Some(Reconciled::NotDone),
        Reconciled::InDoubt(why) => Some(Reconciled::InDoubt(why)),
    })
}

/// An output that journal, resume and `--json` can hold.
pub trait Recorded:
    Clone + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Send + 'static
{
    /// One line for people: what was done.
    fn summary(&self) -> String;
}

/// One effect on the outside world, as a value.
pub trait Action: Send + Sync + 'static {
    /// The same word in script, journal, policy and docs.
    const NAME: &'static str;
    /// What it returns.
    type Output: Recorded;
    /// What the policy must allow before it is even planned: planning may connect.
    fn asks(&self) -> Vec<Need> {
        Vec::new()
    }
    /// Itself in a few words, as a verdict or the failure of several actions names it.
    fn in_short(&self, _host: &Host) -> String {
        Self::NAME.to_owned()
    }
    /// Why it would reach beyond the sandbox of a drill, which then does not carry it out; `None` outside of one.
    fn captured(&self, _facts: &Facts) -> Option<String> {
        None
    }
    /// Plans from facts; changes nothing.
    fn plan(&self, facts: &Facts) -> Result<Plan<Self::Output>, Failure>;
    /// Carries out exactly `plan`.
    fn execute(&self, plan: &Plan<Self::Output>, effects: &Effects) -> Result<Self::Output, Failure>;
    /// Finds out from facts what became of it in a run that was interrupted; changes nothing.
    fn reconcile(was: &Was<Self::Output>, facts: &Facts) -> Result<Reconciled<Self::Output>, Failure>;
}
