//! The pass that loads: the bytes are hashed as they go into the server, and compared with what was verified.

use super::Basis;
use crate::base::backup::TableContent;
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::load::{LoadOptions, Loaded, Loader};
use crate::sys::postgres::maintenance::Maintenance;
use crate::sys::postgres::server_disk::DataDisk;
use crate::sys::stream::{Control, Digest, Inspection, hash, inspect};

/// Loads the backup through `session`; returns what was loaded, and the tables as the stream held them.
pub(super) fn load(
    facts: &Facts,
    basis: &Basis,
    session: &Session,
    maintenance: &Maintenance,
    in_transaction: bool,
) -> Result<(Loaded, Vec<TableContent>), Failure> {
    let path = &basis.backup;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let progress = |done: u64| {
        facts.progress(Progress {
            label: format!("load {name}"),
            done,
            total: Some(basis.size),
            unit: "bytes".to_owned(),
        });
    };
    let control = Control { cancel: facts.cancel(), progress: &progress };
    let mut loader = Loader::begin(session, LoadOptions { name: name.clone(), in_transaction })?;
    let disk = maintenance.data_disk();
    let mut take = |bytes: &[u8]| {
        disk.as_ref().map_or(Ok(()), DataDisk::check)?;
        loader.take(bytes)
    };
    let file = fs::open(path)?;
    let digest = if fs::is_gzip(path)? {
        let inspection = Inspection { path: Some(path), expected: None, threads: None };
        let inspected = inspect(file, &inspection, control, &mut take)?;
        if let Some(defect) = inspected.defects.first() {
            return Err(changed(&name).caused_by(format!("{name} {defect}")));
        }
        inspected.sha256
    } else {
        hash(file, path, control, &mut take)?.1
    };
    if Digest::parse(&basis.sha256) != Some(digest) {
        return Err(changed(&name).caused_by(format!("its SHA-256 is {digest} now, not {}", basis.sha256)));
    }
    loader.end()
}

fn changed(name: &str) -> Failure {
    Failure::new(Code::NotIntact, format!("`{name}` has changed since it was verified"))
        .hint("Find out who writes to the backups, and run it again.")
}
