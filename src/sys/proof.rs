//! Proving a backup: one pass over the file checks all that can be checked about it, and changes nothing.
//!
//! The SHA-256 against sidecar and manifest, the framing, length and CRC of every gzip member, and what the content itself says:
//! a dump's end marker, row counts and fingerprints, or the archive's end.

use crate::base::backup::{Backup, Content, Manifest, TableContent};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::sys::content::Reading;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::postgres::loose::Loose;
use crate::sys::postgres::requirements::Requirements;
use crate::sys::store::{self, Found};
use crate::sys::stream::{Control, Defect, Digest, Inspection, hash, inspect};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The file.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Whether everything that was checked holds.
    pub intact: bool,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of the content.
    pub raw_size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// What was checked.
    pub checks: Vec<String>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// Names of the entries of an archive, the first ten thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
}

/// What a file's SHA-256 is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Sidecar and manifest; a file without a sidecar is not intact.
    Required,
    /// As `Required`, but a file that has neither, as other tools make them or one that was saved alone, lacks nothing.
    IfThere,
    /// Nothing. All other checks are made.
    Skipped,
}

/// What verification found, and what was learnt on the way.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What was found.
    pub verification: Verification,
    /// Kind of content.
    pub content: Content,
    /// The manifest, if it could be read.
    pub manifest: Option<Manifest>,
    /// Whether the SHA-256 was compared with a record.
    pub compared: bool,
    /// Tables of a dump.
    pub tables: Vec<TableContent>,
    /// What a dump needs of a server.
    pub requirements: Requirements,
    /// Sequences and large objects of a dump.
    pub loose: Loose,
    /// Version of the server that a dump is of, as the dump says.
    pub server: Option<String>,
}

/// What is found about a file that cannot be read.
pub fn unread(path: &Path, failure: &Failure) -> Verification {
    Verification {
        path: path.to_path_buf(),
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        intact: false,
        size: 0,
        raw_size: 0,
        sha256: String::new(),
        checks: Vec::new(),
        problems: vec![failure.to_string()],
        entries: Vec::new(),
    }
}

/// Whether a failure is about the file itself, so that others may still be looked at.
pub fn is_about_the_file(failure: &Failure) -> bool {
    matches!(failure.code, Code::Io | Code::NotFound)
}

/// Checks everything that can be checked about the backup at `path`; changes nothing.
pub fn examine(facts: &Facts, path: &Path) -> Result<Verification, Failure> {
    prove(facts, path, Checksum::Required).map(|proof| proof.verification)
}

/// Checks the backup at `path` and keeps what was learnt about it; changes nothing.
pub fn prove(facts: &Facts, path: &Path, checksum: Checksum) -> Result<Proof, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut problems = Vec::new();
    let found = store::look(path)?;
    let manifest = match store::read_manifest(path) {
        Ok(manifest) => manifest,
        Err(failure) => {
            problems.push(failure.to_string());
            None
        }
    };
    let is_odd = !problems.is_empty();
    let skipped = checksum == Checksum::Skipped;
    let sidecar = match store::read_sha256(path) {
        _ if skipped => None,
        Ok(Some(digest)) => Some(digest),
        Ok(None) if checksum == Checksum::IfThere && manifest.is_none() && !is_odd => None,
        Ok(None) => {
            problems.push(format!("{name}.sha256 is missing"));
            None
        }
        Err(failure) => {
            problems.push(failure.to_string());
            None
        }
    };
    let mut checks = Vec::new();
    let content = content_of(&name, found.as_ref());
    let total = fs::size(path)?;
    let progress = |done: u64| {
        facts.progress(Progress {
            label: format!("verify {name}"),
            done,
            total: Some(total),
            unit: "bytes".to_owned(),
        });
    };
    let control = Control { cancel: facts.cancel(), progress: &progress };
    let expected = sidecar.as_deref().and_then(Digest::parse);
    let mut reading = Reading::of(content);
    let file = fs::open(path)?;
    let mut whole = true;
    let (size, raw_size, sha256, indexed) = if fs::is_gzip(path)? {
        let inspection = Inspection { path: Some(path), expected, threads: None };
        let inspected = inspect(file, &inspection, control, &mut |bytes| reading.take(bytes))?;
        checks.push("gzip".to_owned());
        problems.extend(inspected.defects.iter().map(|defect| format!("{name} {defect}")));
        whole = inspected.defects.iter().all(|defect| matches!(defect, Defect::WrongDigest { .. }));
        if let Some(manifest) = &manifest
            && inspected.is_intact()
            && manifest.members != inspected.members
        {
            problems.push(format!(
                "{name} has {} gzip members, its manifest says {}",
                inspected.members, manifest.members
            ));
        }
        (inspected.size, inspected.raw_size, inspected.sha256, inspected.indexed)
    } else {
        let (size, digest) = hash(file, path, control, &mut |bytes| reading.take(bytes))?;
        if name.ends_with(".gz") {
            let what = if size == 0 { "is empty" } else { "is no gzip file" };
            problems.push(format!("{name} {what}"));
            whole = false;
        } else if let Some(expected) = expected.filter(|expected| *expected != digest) {
            problems.push(format!("{name} has the SHA-256 {digest} instead of {expected}"));
        }
        (size, size, digest, false)
    };
    if expected.is_some() {
        checks.insert(0, "sha256".to_owned());
    }
    let read = reading.end()?;
    // A damaged stream was read only up to the damage; what its content lacks is then no news.
    if whole {
        problems.extend(read.problems.iter().map(|problem| format!("{name}: {problem}")));
        checks.extend(read.checks.iter().map(|check| (*check).to_owned()));
    }
    match &manifest {
        Some(manifest) => {
            // A digest that both records agree on was compared already.
            let compared = sidecar.as_ref() == Some(&manifest.sha256);
            let digest = if compared || skipped { manifest.sha256.clone() } else { sha256.to_string() };
            let raw_size = if whole { raw_size } else { manifest.raw_size };
            problems.extend(against_manifest(&name, manifest, size, raw_size, &digest));
            problems.extend(globals_problem(&name, manifest, path, control)?);
            if manifest.content == Content::Sql && read.complete && !read.summary {
                problems
                    .push(format!("{name}: the content summary, which ends every dump of ours, is missing"));
            }
            if manifest.content == Content::Sql && read.complete && read.tables != manifest.tables {
                problems.push(format!("{name}: row counts or fingerprints differ from the manifest"));
            } else if manifest.content == Content::Sql && read.complete {
                checks.push("manifest".to_owned());
            }
            if let (Some(expected), Some(found)) = (manifest.entries, read.entries)
                && read.complete
                && expected != found
            {
                problems.push(format!("{name} holds {found} entries, its manifest says {expected}"));
            }
        }
        // A backup of ours that was saved alone has all in it that its restore needs.
        None if indexed && content != Content::File && !is_odd && checksum == Checksum::Required => {
            problems.push(format!("{name}.json is missing"))
        }
        None => {}
    }
    problems.dedup();
    Ok(Proof {
        verification: Verification {
            path: path.to_path_buf(),
            name,
            intact: problems.is_empty(),
            size,
            raw_size,
            sha256: sha256.to_string(),
            checks,
            problems,
            entries: read.names,
        },
        content,
        compared: !skipped && (expected.is_some() || manifest.is_some()),
        manifest,
        tables: read.tables,
        requirements: read.requirements,
        loose: read.loose,
        server: read.server,
    })
}

fn against_manifest(name: &str, manifest: &Manifest, size: u64, raw_size: u64, sha256: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if manifest.file != name {
        problems.push(format!("its manifest belongs to {}", manifest.file));
    }
    if manifest.size != size {
        problems.push(format!("{name} has {size} bytes, its manifest says {}", manifest.size));
    } else if manifest.sha256 != sha256 {
        problems.push(format!("{name} has the SHA-256 {sha256}, its manifest says {}", manifest.sha256));
    } else if manifest.raw_size != raw_size {
        problems.push(format!("{name} holds {raw_size} bytes, its manifest says {}", manifest.raw_size));
    }
    problems
}

/// What is wrong with the roles' SQL beside a dump.
fn globals_problem(
    name: &str,
    manifest: &Manifest,
    path: &Path,
    control: Control<'_>,
) -> Result<Option<String>, Failure> {
    let Some(expected) = &manifest.globals else { return Ok(None) };
    let at = store::sidecar(path, ".globals.sql");
    if !fs::exists(&at)? {
        return Ok(Some(format!("{name}.globals.sql is missing")));
    }
    let quiet = Control { cancel: control.cancel, progress: &|_| {} };
    match fs::open(&at).and_then(|file| hash(file, &at, quiet, &mut |_| Ok(()))) {
        Ok((size, digest)) if size == expected.size && digest.to_string() == expected.sha256 => Ok(None),
        Ok(_) => Ok(Some(format!("{name}.globals.sql differs from the manifest"))),
        Err(failure) if is_about_the_file(&failure) => Ok(Some(failure.to_string())),
        Err(failure) => Err(failure),
    }
}

fn content_of(name: &str, found: Option<&Found>) -> Content {
    if let Some(Found { backup: Backup { content, .. }, .. }) = found {
        return *content;
    }
    store::content_by_name(name)
}
