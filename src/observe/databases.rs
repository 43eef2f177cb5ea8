//! Which databases a server has.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need, Target};
use crate::base::units;
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::postgres::connection::{Session, connect};
use crate::sys::postgres::settings::Settings;
use serde::{Deserialize, Serialize};

/// One database of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Bytes on the server's disk; `None` where this role may not know.
    pub size: Option<u64>,
}

/// Asks for the databases that accept connections, templates left out, by name.
pub struct Databases {
    /// Whom to ask; its database need not be the one that is asked about.
    pub settings: Settings,
}

impl Observation for Databases {
    const NAME: &'static str = "databases";
    type Answer = Vec<DatabaseInfo>;

    fn question(&self) -> String {
        format!("databases at {}", self.settings.server())
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        let size: u64 = answer.iter().filter_map(|database| database.size).sum();
        match answer.len() {
            1 => format!("1 database, {}", units::bytes(size)),
            count => format!("{count} databases, {}", units::bytes(size)),
        }
    }

    fn needs(&self, _: &Facts) -> Vec<Need> {
        self.settings.needs()
    }

    fn concerns(&self, _: &Facts) -> Vec<Target> {
        vec![Target::Host(self.settings.server())]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        list(&connect(facts.host(), &self.settings)?).map(Later::Now)
    }
}

fn list(session: &Session) -> Result<Vec<DatabaseInfo>, Failure> {
    let found = session.rows(
        "SELECT datname, pg_get_userbyid(datdba), \
         CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE') \
         THEN pg_database_size(oid) END \
         FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1",
    )?;
    let info = |row: Vec<Option<String>>| {
        let mut row = row.into_iter();
        let name = row.next().flatten()?;
        let owner = row.next().flatten()?;
        let size = row.next().flatten().and_then(|size| size.parse().ok());
        Some(DatabaseInfo { name, owner, size })
    };
    found
        .rows
        .into_iter()
        .map(info)
        .collect::<Option<_>>()
        .ok_or_else(|| Failure::new(Code::Query, "the server's list of databases holds a null"))
}
