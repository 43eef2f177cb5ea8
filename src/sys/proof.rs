//! Proving a backup: one pass over the file checks all that can be checked about it, and changes nothing.
//!
//! The SHA-256 against sidecar and manifest, the framing, length and CRC of every gzip member, and what the content itself says:
//! a dump's end marker, row counts and fingerprints, or the archive's end.

use crate::base::backup::{Backup, Content, Manifest, TableContent};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::sys::content::{Reading, ahead};
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::postgres::loading::outline::Outline;
use crate::sys::postgres::loose::Loose;
use crate::sys::postgres::requirements::Requirements;
use crate::sys::store::{self, Found};
use crate::sys::stream::{Control, Defect, Digest, Inspection, Sections, hash, inspect_ahead};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

mod known;

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

/// Whether a backup is read once more whose very bytes were verified before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reread {
    /// It is read from the first byte to the last.
    Always,
    /// The SHA-256 of a dump of ours is taken, and what was found of those bytes before counts.
    UnlessVerified,
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
    /// Whether its gzip members are those of a file of ours.
    pub indexed: bool,
    /// Tables of a dump.
    pub tables: Vec<TableContent>,
    /// What a dump needs of a server.
    pub requirements: Requirements,
    /// Sequences and large objects of a dump.
    pub loose: Loose,
    /// The order of a dump that was read to be restored.
    pub outline: Option<Arc<Outline>>,
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
pub fn examine(facts: &Facts, path: &Path, reread: Reread) -> Result<Verification, Failure> {
    prove(facts, path, Checksum::Required, reread).map(|proof| proof.verification)
}

/// A backup that was proved, and by what it and the files beside it were known then.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    identity: Identity,
    proof: Proof,
    /// Its sections, if it was not read from the first byte to the last.
    sections: Option<Arc<Sections>>,
}

type Identity = [Option<[u64; 5]>; 4];

fn identity(path: &Path) -> Identity {
    let beside =
        [".sha256", ".json", ".globals.sql"].map(|ending| fs::identity(&store::sidecar(path, ending)));
    let [digest, manifest, globals] = beside;
    [fs::identity(path), digest, manifest, globals]
}

/// The backup that a run has proved last: the next step of the same run need not read it again, as long as neither it nor a
/// file beside it was touched. Whoever loads it compares its digest with that of the proof once more.
#[derive(Debug, Default)]
pub(super) struct Proved(Mutex<Option<Known>>);

/// Checks the backup at `path` and keeps what was learnt about it; changes nothing.
pub fn prove(facts: &Facts, path: &Path, checksum: Checksum, reread: Reread) -> Result<Proof, Failure> {
    let identity = identity(path);
    let last = || facts.host().proved.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut proved = last();
    let [_, digest, manifest, _] = identity;
    // Only with digest and manifest do all ways of comparing the checksum come to the same.
    let is_whole = checksum != Checksum::Skipped && digest.is_some() && manifest.is_some();
    // Without both, a proof says what the other way of comparing lacks.
    let is_alone = checksum != Checksum::Skipped && digest.is_none() && manifest.is_none();
    let asked = |proof: Proof| {
        if is_alone && checksum == Checksum::Required { without_records(proof) } else { proof }
    };
    if let Some(known) = proved.as_ref()
        && (is_whole || is_alone)
        && known.path == path
        && known.identity == identity
        && (reread == Reread::UnlessVerified || known.sections.is_none())
    {
        return Ok(asked(known.proof.clone()));
    }
    *proved = None;
    drop(proved);
    let before = if is_whole && reread == Reread::UnlessVerified { known::prove(facts, path)? } else { None };
    let (proof, sections) = match before {
        Some((proof, sections)) => (proof, Some(sections)),
        None => {
            let checksum = if is_alone { Checksum::IfThere } else { checksum };
            let reading = |content| match reread {
                Reread::Always => Reading::of(content),
                Reread::UnlessVerified => Reading::with_outline(content),
            };
            (read(facts, path, checksum, reading, &mut |_| Ok(()))?, None)
        }
    };
    if (is_whole || is_alone) && proof.verification.intact {
        *last() = Some(Known { path: path.to_path_buf(), identity, proof: proof.clone(), sections });
    }
    Ok(asked(proof))
}

/// The proof of a file that has no records beside it, where they are required.
fn without_records(mut proof: Proof) -> Proof {
    let Verification { name, problems, intact, .. } = &mut proof.verification;
    problems.insert(0, format!("{name}.sha256 is missing"));
    problems.extend(lost_manifest(name, proof.indexed, proof.content));
    *intact = false;
    proof
}

/// A backup of ours that was saved alone has all in it that its restore needs.
fn lost_manifest(name: &str, indexed: bool, content: Content) -> Option<String> {
    (indexed && content != Content::File).then(|| format!("{name}.json is missing"))
}

/// The sections of the backup that was proved last, if it is the one at `path` and was not touched since.
pub fn sections(facts: &Facts, path: &Path) -> Option<Arc<Sections>> {
    let proved = facts.host().proved.0.lock().unwrap_or_else(PoisonError::into_inner);
    let known = proved.as_ref().filter(|known| known.path == path && known.identity == identity(path))?;
    known.sections.clone()
}

/// The outline of the dump that was proved last, and what its tables hold, if it is the one at `path` with this SHA-256 and was
/// not touched since.
pub fn outline(facts: &Facts, path: &Path, sha256: &str) -> Option<(Arc<Outline>, Vec<TableContent>)> {
    let proved = facts.host().proved.0.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |known: &&Known| {
        known.path == path && known.identity == identity(path) && known.proof.verification.sha256 == sha256
    };
    let known = proved.as_ref().filter(is_it)?;
    Some((known.proof.outline.clone()?, known.proof.tables.clone()))
}

/// As [`prove`], but always reads the file, and hands the content to `also` on the way, up to the first defect; what that fails with ends it.
pub fn prove_while(
    facts: &Facts,
    path: &Path,
    checksum: Checksum,
    also: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Proof, Failure> {
    read(facts, path, checksum, Reading::of, also)
}

fn read(
    facts: &Facts,
    path: &Path,
    checksum: Checksum,
    reading: impl FnOnce(Content) -> Reading,
    also: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Proof, Failure> {
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
    let progress = |done: u64| tell(facts, &name, done, total);
    let control = Control { cancel: facts.cancel(), progress: &progress };
    let expected = sidecar.as_deref().and_then(Digest::parse);
    let mut reading = reading(content);
    let mut take = |bytes: &[u8], ahead| {
        also(bytes)?;
        reading.take(bytes, ahead)
    };
    let file = fs::open(path)?;
    let mut whole = true;
    let (size, raw_size, sha256, indexed) = if fs::is_gzip(path)? {
        let inspection = Inspection { path: Some(path), expected, threads: None };
        let ahead = |bytes: &[u8]| ahead(content, bytes);
        let inspected = inspect_ahead(file, &inspection, control, &ahead, &mut take)?;
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
        let (size, digest) = hash(file, path, control, &mut |bytes| take(bytes, None))?;
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
        None if !is_odd && checksum == Checksum::Required => {
            problems.extend(lost_manifest(&name, indexed, content));
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
        indexed,
        manifest,
        tables: read.tables,
        requirements: read.requirements,
        loose: read.loose,
        outline: read.outline,
        server: read.server,
    })
}

/// Tells how many bytes of a file were verified.
fn tell(facts: &Facts, name: &str, done: u64, total: u64) {
    facts.progress(Progress {
        label: format!("verify {name}"),
        done,
        total: Some(total),
        unit: "bytes".to_owned(),
    });
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
