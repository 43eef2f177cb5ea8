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
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The names of all actions, in the order of their files. The contract tests demand a case of each.
pub const NAMES: &[&str] = &[
    exec::Exec::NAME,
    extract::Extract::NAME,
    gzip::Gzip::NAME,
    hash::Hash::NAME,
    notify::Notify::NAME,
    remove_database::RemoveDatabase::NAME,
    remove_kept_files::RemoveKeptFiles::NAME,
    restore::Restore::NAME,
    rollback_database::RollbackDatabase::NAME,
    rollback_files::RollbackFiles::NAME,
    rotate::Rotate::NAME,
    save::Save::NAME,
    scratch_database::ScratchDatabase::NAME,
    scratch_postgres::ScratchPostgres::NAME,
    verify::Verify::NAME,
    write::Write::NAME,
];

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
    /// Plans from facts; changes nothing.
    fn plan(&self, facts: &Facts) -> Result<Plan<Self::Output>, Failure>;
    /// Carries out exactly `plan`.
    fn execute(&self, plan: &Plan<Self::Output>, effects: &Effects) -> Result<Self::Output, Failure>;
    /// Finds out from facts what became of it in a run that was interrupted; changes nothing.
    fn reconcile(was: &Was<Self::Output>, facts: &Facts) -> Result<Reconciled<Self::Output>, Failure>;
}
