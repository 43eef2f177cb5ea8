//! Whether this machine has a `pg_dump` that can dump a server.

use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::postgres::binaries::find_pg_dump;
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::settings::Settings;
use crate::sys::postgres::version::Version;
use std::path::PathBuf;

/// A `pg_dump` and the server it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgDump {
    /// Its path.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
    /// The server's version.
    pub server: Version,
}

/// Asks for a `pg_dump` that is not older than the server.
pub struct RequirePgDump {
    /// The database that is to be dumped.
    pub settings: Settings,
}

impl Observation for RequirePgDump {
    const NAME: &'static str = "require_pg_dump";
    type Answer = PgDump;

    fn question(&self) -> String {
        format!("a pg_dump for the server at {}", self.settings.server())
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        format!("{} {} for server {}", answer.path.display(), answer.version, answer.server)
    }

    fn needs(&self, _: &Facts) -> Vec<Need> {
        let program = Need::Program("pg_dump".to_owned());
        std::iter::once(program).chain(self.settings.needs()).collect()
    }

    fn concerns(&self, _: &Facts) -> Vec<Target> {
        vec![Target::Host(self.settings.server())]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        let server = connect(facts.host(), &self.settings)?.version();
        let env = |name: &str| facts.host().env().value(name).map(str::to_owned);
        let (path, version) = find_pg_dump(server.major(), &env)?;
        Ok(Later::Now(PgDump { path, version, server }))
    }
}
