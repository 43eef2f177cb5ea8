//! `estimate`: how large the next backup of a database will be, from the last one where there is one.

use crate::base::backup::Source;
use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::base::units;
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::postgres::catalog;
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::settings::Settings;
use std::path::PathBuf;

/// An estimate and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimated {
    /// Bytes that the backup will need.
    pub bytes: u64,
    /// What it rests on, for people.
    pub basis: String,
}

/// Asks for the size of the next backup.
pub struct Estimate {
    /// The database.
    pub settings: Settings,
    /// Where its backups are.
    pub dir: Option<PathBuf>,
}

impl Observation for Estimate {
    const NAME: &'static str = "estimate";
    type Answer = Estimated;

    fn question(&self) -> String {
        format!("size of a backup of {}", self.settings)
    }

    fn answer(&self, answer: &Estimated) -> String {
        format!("{}, {}", units::bytes(answer.bytes), answer.basis)
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        let read = self.dir.iter().map(|dir| Need::Read(facts.absolute(dir)));
        read.chain(self.settings.needs()).collect()
    }

    fn concerns(&self, _: &Facts) -> Vec<Target> {
        vec![self.settings.target()]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Estimated>, Failure> {
        let session = connect(facts.host(), &self.settings)?;
        let source = Source::Database {
            system: catalog::system_identifier(&session)?,
            name: self.settings.database.clone(),
        };
        let earlier = match &self.dir {
            Some(dir) => facts.backups(&facts.absolute(dir))?.now().unwrap_or_default(),
            None => Vec::new(),
        };
        let last = earlier.iter().rev().find(|backup| backup.source == source && backup.selection.is_none());
        if let Some((name, size)) = last.and_then(|last| Some((&last.name, last.size.as_now()?))) {
            // A quarter more, for a day's growth and for what compresses worse.
            let bytes = size + size / 4;
            return Ok(Later::Now(Estimated { bytes, basis: format!("a quarter more than {name}") }));
        }
        // Rows that do not compress are as large in the dump as on the server, and most are much smaller; the rest of the
        // dump is allowed a megabyte.
        let bytes = catalog::table_size(&session)?.saturating_add(1 << 20);
        Ok(Later::Now(Estimated { bytes, basis: "at most what the tables take on the server".to_owned() }))
    }
}
