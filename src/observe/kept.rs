//! `kept`: the databases that restores have kept, and those that they staged and left behind.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::base::units;
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::postgres::maintenance::{Maintenance, Standing};
use crate::sys::postgres::mark::Kind;
use crate::sys::postgres::settings::Settings;
use chrono::{DateTime, FixedOffset};
use serde::Serialize;

/// A database that is kept, or staged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptDatabase {
    /// Its name.
    pub name: String,
    /// The database that it was kept of, or staged for.
    pub database: String,
    /// Whether it is kept or staged.
    pub kind: Kind,
    /// The run that kept or staged it.
    pub run: String,
    /// When.
    pub at: DateTime<FixedOffset>,
    /// Seconds since then.
    pub age: u64,
    /// Bytes on the server's disk, if the role may ask.
    pub size: Option<u64>,
    /// How many sessions are in it.
    pub sessions: u64,
    /// Whether somebody restores into the database at this moment, who may need it.
    pub busy: bool,
}

/// Asks what is kept of a database.
pub struct Kept {
    /// The database.
    pub settings: Settings,
}

impl Observation for Kept {
    const NAME: &'static str = "kept";
    type Answer = Vec<KeptDatabase>;

    fn question(&self) -> String {
        format!("what is kept of {}", self.settings)
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        let databases = if answer.len() == 1 { "database" } else { "databases" };
        let size = answer.iter().filter_map(|kept| kept.size).sum();
        format!("{} {databases}, {}", answer.len(), units::bytes(size))
    }

    fn needs(&self, _: &Facts) -> Vec<Need> {
        self.settings.needs()
    }

    fn concerns(&self, _: &Facts) -> Vec<Target> {
        vec![self.settings.target()]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        let maintenance = Maintenance::connect(facts.host(), &self.settings)?;
        let database = &self.settings.database;
        let busy = maintenance.is_locked(database)?;
        let now = facts.now().fixed_offset();
        let found = maintenance.marked(Some(database))?;
        Ok(Later::Now(found.into_iter().filter_map(|standing| kept(standing, database, now, busy)).collect()))
    }
}

fn kept(standing: Standing, database: &str, now: DateTime<FixedOffset>, busy: bool) -> Option<KeptDatabase> {
    let mark = standing.mark?;
    Some(KeptDatabase {
        name: standing.name,
        database: database.to_owned(),
        kind: mark.kind,
        run: mark.run,
        at: mark.at,
        age: u64::try_from((now - mark.at).num_seconds()).unwrap_or_default(),
        size: standing.size,
        sessions: standing.sessions,
        busy,
    })
}
