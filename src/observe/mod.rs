//! Layer 2: one question, one file. Observations are really asked in every mode, unless a predicted effect touched
//! what they ask about.

pub mod backups;
pub mod databases;
pub mod disk_space;
pub mod estimate;
pub mod exec;
pub mod exists;
pub mod health_check;
pub mod http_get;
pub mod inspect;
pub mod kept;
pub mod kept_files;
pub mod last_done;
pub mod last_drill;
pub mod latest;
pub mod logged_problems;
pub mod query;
pub mod require_disk_space;
pub mod require_pg_dump;
pub mod require_program;
pub mod require_restorable;
pub mod require_writable;
pub mod reread_env;

use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::sys::facts::Facts;
/// One question to the outside world.
pub trait Observation: Send + Sync + 'static {
    /// The same word in script, journal, policy and docs.
    const NAME: &'static str;
    /// What it returns.
    type Answer;
    /// The question in one line.
    fn question(&self) -> String;
    /// The answer in short.
    fn answer(&self, answer: &Self::Answer) -> String;
    /// What the policy must allow.
    fn needs(&self, _facts: &Facts) -> Vec<Need> {
        Vec::new()
    }
    /// What it asks about: when a predicted effect touched one of these, the answer is known only after the run.
    /// Empty for observations that answer through the overlay themselves.
    fn concerns(&self, _facts: &Facts) -> Vec<Target> {
        Vec::new()
    }
    /// Whether the question stands literally in the playbook. A dry run asks no other: a question put together while a
    /// playbook runs may do what nobody has read.
    fn is_literal(&self) -> bool {
        true
    }
    /// Why the sandbox of a drill cannot answer it, so that it is not asked; `None` outside of one.
    fn captured(&self, _facts: &Facts) -> Option<String> {
        None
    }
    /// Asks.
    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure>;
}
