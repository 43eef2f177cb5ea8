//! The pass that loads: the bytes that go into the server are compared with what was verified.

use super::Basis;
use crate::base::backup::TableContent;
use crate::base::event::Progress;
use crate::base::failure::Failure;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::load::{LoadOptions, Loaded, Loader};
use crate::sys::postgres::loading::{Filling, Full, Known};
use crate::sys::postgres::maintenance::Maintenance;
use crate::sys::postgres::server_disk::DataDisk;
use crate::sys::postgres::settings::Settings;
use crate::sys::proof;
use crate::sys::stream::{Control, Digest, Inspection, Sections, changed, hash, inspect};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Fills a database of its own from the backup, with several sessions at once.
pub(super) fn fill(
    facts: &Facts,
    basis: &Basis,
    settings: &Settings,
    maintenance: &Maintenance,
    monetary: Option<&str>,
    jobs: usize,
) -> Result<Full, Failure> {
    let path = &basis.backup;
    let name = name(path);
    let read = AtomicU64::new(0);
    let progress = |done: u64| tell(facts, basis, &name, done);
    let filling = Filling {
        host: facts.host(),
        settings,
        name: name.clone(),
        jobs,
        pinned: basis.ours,
        monetary,
        compare: !basis.skip_compare,
        disk: maintenance.data_disk(),
        progress: &|more| progress(read.fetch_add(more, Ordering::Relaxed) + more),
    };
    // Only files of ours can be read in parts.
    if fs::is_gzip(path)? {
        let control = Control { cancel: facts.cancel(), progress: &|_| {} };
        let sections = match proof::sections(facts, path) {
            Some(sections) => Some(sections),
            None => Sections::find(fs::open(path)?, path, control)?.map(Arc::new),
        };
        if let Some(sections) = sections {
            if Digest::parse(&basis.sha256) != Some(sections.sha256) {
                return Err(other_digest(path, sections.sha256, basis));
            }
            return filling.from_sections(&sections);
        }
    }
    let outline = proof::outline(facts, path, &basis.sha256);
    let known = outline.as_ref().map(|(outline, contents)| Known { outline, contents });
    filling.from_stream(known, |take| feed(facts, basis, &progress, take))
}

/// Loads the backup through `session`, in the transaction that is open; returns what was loaded, and the tables as the stream held
/// them.
pub(super) fn load(
    facts: &Facts,
    basis: &Basis,
    session: &Session,
    maintenance: &Maintenance,
) -> Result<(Loaded, Vec<TableContent>), Failure> {
    let name = name(&basis.backup);
    let progress = |done: u64| tell(facts, basis, &name, done);
    let options = LoadOptions { name: name.clone(), in_transaction: true, ..LoadOptions::default() };
    let mut loader = Loader::begin(session, options)?;
    let disk = maintenance.data_disk();
    feed(facts, basis, &progress, &mut |bytes| {
        disk.as_ref().map_or(Ok(()), DataDisk::check)?;
        loader.take(bytes)
    })?;
    loader.end()
}

/// Hands the dump's bytes over in their order, and then looks whether they were those that were verified.
fn feed(
    facts: &Facts,
    basis: &Basis,
    progress: &dyn Fn(u64),
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = &basis.backup;
    let control = Control { cancel: facts.cancel(), progress };
    let file = fs::open(path)?;
    let digest = if fs::is_gzip(path)? {
        let inspection = Inspection { path: Some(path), expected: None, threads: None };
        let inspected = inspect(file, &inspection, control, take)?;
        if let Some(defect) = inspected.defects.first() {
            return Err(changed(path).caused_by(format!("{} {defect}", name(path))));
        }
        inspected.sha256
    } else {
        hash(file, path, control, take)?.1
    };
    if Digest::parse(&basis.sha256) == Some(digest) { Ok(()) } else { Err(other_digest(path, digest, basis)) }
}

/// Tells how many bytes of the file were loaded.
fn tell(facts: &Facts, basis: &Basis, name: &str, done: u64) {
    facts.progress(Progress {
        label: format!("load {name}"),
        done,
        total: Some(basis.size),
        unit: "bytes".to_owned(),
    });
}

fn other_digest(path: &Path, digest: Digest, basis: &Basis) -> Failure {
    changed(path).caused_by(format!("its SHA-256 is {digest} now, not {}", basis.sha256))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
