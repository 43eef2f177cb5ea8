//! How large a backup of a database will be, when there is no earlier one to go by.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Target};
use crate::base::units;
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::postgres::catalog;
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::settings::Settings;
use serde::{Deserialize, Serialize};

/// What a dump of a database reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSize {
    /// Bytes on the server's disk, indexes included.
    pub database: u64,
    /// Bytes of rows alone.
    pub tables: u64,
}

impl DatabaseSize {
    /// Bytes that a compressed dump needs at most, but for rare data: rows that do not compress are as large in it as
    /// on the server, and most are much smaller. The rest of the dump is allowed a megabyte.
    pub fn needed(self) -> u64 {
        self.tables.saturating_add(1 << 20)
    }
}

/// Asks the server how large its rows are.
pub struct Estimate {
    /// The database.
    pub settings: Settings,
}

impl Observation for Estimate {
    const NAME: &'static str = "estimate";
    type Answer = DatabaseSize;

    fn question(&self) -> String {
        format!("size of {}", self.settings)
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        format!("at most {} ({} on the server)", units::bytes(answer.needed()), units::bytes(answer.database))
    }

    fn concerns(&self, _: &Facts) -> Vec<Target> {
        vec![self.settings.target()]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        let session = connect(facts.host(), &self.settings)?;
        Ok(Later::Now(DatabaseSize {
            database: catalog::database_size(&session)?,
            tables: catalog::table_size(&session)?,
        }))
    }
}
