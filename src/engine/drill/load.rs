//! Filling a scratch database from the newest intact backup.

use crate::action::verify::examine;
use crate::base::backup::Manifest;
use crate::base::drill::RestoredData;
use crate::base::failure::{Code, Failure};
use crate::engine::drill::Rehearsal;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::postgres::binaries;
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::quote::{ident, literal};
use crate::sys::postgres::settings::Settings;
use crate::sys::process::{Command, Input};
use crate::sys::sandbox::Loader;
use crate::sys::store::Found;
use crate::sys::stream::{Control, Inspection, inspect};
use std::path::Path;
use std::sync::Arc;

/// Restores backups into the scratch servers of a drill.
pub struct FromBackups {
    /// Facts of the sandbox's host.
    pub facts: Facts,
    /// Who is told what was restored.
    pub rehearsal: Arc<Rehearsal>,
}

impl Loader for FromBackups {
    fn load(&self, to: &Settings, backups: &[Found]) -> Result<(), Failure> {
        let mut damaged = Vec::new();
        for found in backups {
            let path = &found.backup.path;
            let verification = examine(&self.facts, path)?;
            if !verification.intact {
                let problems = verification.problems.join("; ");
                self.facts.host().warn(&format!("`{}` is not intact: {problems}", found.backup.name));
                damaged.push(format!("{}: {problems}", found.backup.name));
                continue;
            }
            self.fill(to, path, found.manifest.as_ref())?;
            self.rehearsal.restored(path, &verification.sha256, told(&self.facts, &to.database, found));
            return Ok(());
        }
        let failure = Failure::new(
            Code::NotIntact,
            format!("no backup of `{}` is intact, so there is nothing to rehearse with", to.database),
        );
        Err(damaged
            .into_iter()
            .fold(failure, Failure::caused_by)
            .hint("Make a fresh backup now: `lifeboat backup_database`."))
    }
}

impl FromBackups {
    fn fill(&self, to: &Settings, path: &Path, manifest: Option<&Manifest>) -> Result<(), Failure> {
        let host = self.facts.host();
        let name = ident(&to.database);
        let mut create = format!("CREATE DATABASE {name} TEMPLATE template0");
        if let Some(properties) = manifest.and_then(|manifest| manifest.properties.as_ref()) {
            create += &format!(
                " ENCODING {} LC_COLLATE {} LC_CTYPE {}",
                literal(&properties.encoding),
                literal(&properties.collate),
                literal(&properties.ctype)
            );
        }
        connect(host, &to.with_database("postgres"))?.run(&create)?;
        let mut sql = Vec::new();
        let file = fs::open(path)?;
        let control = Control { cancel: self.facts.cancel(), progress: &|_| {} };
        let inspection = Inspection { path: Some(path), expected: None, threads: None };
        inspect(file, &inspection, control, &mut |bytes| {
            sql.extend_from_slice(bytes);
            Ok(())
        })?;
        let psql = binaries::find("psql", &|name| host.env().value(name).map(str::to_owned))?;
        let mut command = Command::new(psql.display().to_string())
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file=-"])
            .unseen()
            .input(Input::Bytes(sql));
        for (name, value) in to.child_env("") {
            command = command.env(name, value);
        }
        command.run(host)?.checked().map(|_| ())
    }
}

fn told(facts: &Facts, database: &str, found: &Found) -> RestoredData {
    let manifest = found.manifest.as_ref();
    let point = manifest.and_then(|manifest| manifest.recovery_point.as_ref());
    let recovery_point = point.map_or(found.backup.created, |point| point.time);
    let age = facts.began().fixed_offset() - recovery_point;
    let tables = manifest.map(|manifest| manifest.tables.as_slice()).unwrap_or_default();
    RestoredData {
        database: database.to_owned(),
        backup: found.backup.name.clone(),
        recovery_point,
        age_millis: u64::try_from(age.num_milliseconds()).unwrap_or(0),
        by_playbook: false,
        tables: tables.len() as u64,
        rows: tables.iter().map(|table| table.rows).sum(),
        compared: 0,
    }
}
