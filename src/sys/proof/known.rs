//! A dump of ours whose very bytes were verified before: verifying depends on nothing but the bytes, so that their SHA-256 tells
//! what came of it. What the dump holds beside rows is read for what a restore needs to know; whoever loads the rows
//! checks each member of them once more.

use super::{Proof, Verification, globals_problem, tell};
use crate::base::backup::{Content, Manifest};
use crate::base::failure::Failure;
use crate::sys::content::Reading;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::store;
use crate::sys::stream::{Control, Sections};
use std::path::Path;
use std::sync::Arc;

/// The proof of the backup at `path` by what was recorded of it, with its sections; `None` if it must be read from the first
/// byte to the last: it was not verified before, it is no dump of ours, or something about it is odd.
///
/// # Errors
/// Those of reading, and cancellation.
pub(super) fn prove(facts: &Facts, path: &Path) -> Result<Option<(Proof, Arc<Sections>)>, Failure> {
    let Some(manifest) = verified(path) else { return Ok(None) };
    let name = manifest.file.clone();
    let size = fs::size(path)?;
    if size != manifest.size || !fs::is_gzip(path)? {
        return Ok(None);
    }
    let progress = |done: u64| tell(facts, &name, done, size);
    let control = Control { cancel: facts.cancel(), progress: &progress };
    let Some(sections) = Sections::find(fs::open(path)?, path, control)? else { return Ok(None) };
    let raw_size = sections.list.iter().map(|section| section.raw_size).sum::<u64>();
    if sections.sha256.to_string() != manifest.sha256
        || raw_size != manifest.raw_size
        || globals_problem(&name, &manifest, path, control)?.is_some()
    {
        return Ok(None);
    }
    let mut reading = Reading::without_rows();
    for section in sections.list.iter().filter(|section| section.table.is_none()) {
        sections.read(section, &mut |bytes| reading.take(bytes, None))?;
    }
    let read = reading.end()?;
    let tables = sections.list.iter().filter_map(|section| section.table.as_deref());
    if !read.complete
        || !read.summary
        || read.tables != manifest.tables
        || read.requirements.forbidden.is_some()
        || read.requirements.are_foreign(tables)
    {
        return Ok(None);
    }
    let at =
        manifest.verified.as_ref().map(|verified| verified.at.format("%Y-%m-%d %H:%M:%S %z").to_string());
    let mut checks = vec!["sha256".to_owned()];
    checks.extend(at.map(|at| format!("content as it was verified at {at}")));
    let proof = Proof {
        verification: Verification {
            path: path.to_path_buf(),
            name,
            intact: true,
            size,
            raw_size,
            sha256: manifest.sha256.clone(),
            checks,
            problems: Vec::new(),
            entries: Vec::new(),
        },
        content: Content::Sql,
        compared: true,
        indexed: true,
        tables: read.tables,
        requirements: read.requirements,
        loose: read.loose,
        outline: None,
        server: read.server,
        manifest: Some(manifest),
    };
    Ok(Some((proof, Arc::new(sections))))
}

/// The manifest of a dump that was found intact, where its records agree with each other.
fn verified(path: &Path) -> Option<Manifest> {
    let manifest = store::read_manifest(path).ok()??;
    let digest = store::read_sha256(path).ok()??;
    let is_verified = manifest.verified.as_ref().is_some_and(|verified| verified.intact);
    let is_its_own = path.file_name().is_some_and(|name| name == manifest.file.as_str());
    let is_known = is_verified && is_its_own && manifest.content == Content::Sql && digest == manifest.sha256;
    is_known.then_some(manifest)
}
