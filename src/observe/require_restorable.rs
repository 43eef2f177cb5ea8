//! `require_restorable`: whether a database could be restored now, before anything is stopped or replaced for it.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::postgres::maintenance::Maintenance;
use crate::sys::postgres::settings::Settings;

/// Asks the server for everything that would forbid to give the database away, and for the room that another one takes.
#[derive(Clone, Debug)]
pub struct RequireRestorable {
    /// The database; it need not be there.
    pub settings: Settings,
}

impl Observation for RequireRestorable {
    const NAME: &'static str = "require_restorable";
    type Answer = ();

    fn question(&self) -> String {
        format!("can {} be restored?", self.settings)
    }

    fn answer(&self, (): &()) -> String {
        "nothing stands in the way".to_owned()
    }

    fn needs(&self, _: &Facts) -> Vec<Need> {
        self.settings.needs()
    }

    fn concerns(&self, _: &Facts) -> Vec<Target> {
        vec![self.settings.target()]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<()>, Failure> {
        let database = &self.settings.database;
        let obstacles = Maintenance::connect(facts.host(), &self.settings)?.obstacles(database, None)?;
        obstacles.refuse(database).map(Later::Now)
    }
}
