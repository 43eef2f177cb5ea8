//! What a backup on disk is: its name, source, tag, digest and verified state.

use crate::base::plan::Later;
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What kind of content a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Plain SQL of one PostgreSQL database.
    Sql,
    /// A tar archive.
    Tar,
    /// Some other file.
    File,
}

/// What was backed up. Rotation never mixes sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A database, by the server's system identifier.
    Database {
        /// `pg_control_system().system_identifier`; `unknown at HOST:PORT` where it may not be read.
        system: String,
        /// Database name.
        name: String,
    },
    /// A tree of files, by host and root.
    Tree {
        /// Host name.
        host: String,
        /// Root of the tree.
        root: String,
    },
    /// A file without manifest, as the guide's scripts make it: the part of its name before the stamp.
    Named {
        /// For example `aurora_db`.
        name: String,
    },
}

/// Exact content of one table, taken from the dump's own stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableContent {
    /// Qualified name as the dump writes it, for example `public.users`.
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Order-free 128-bit fingerprint of the rows, 32 hex digits.
    pub fingerprint: String,
}

/// Database properties that a plain dump does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseProperties {
    /// Owner.
    pub owner: String,
    /// Server encoding name, for example `UTF8`.
    pub encoding: String,
    /// `datcollate`.
    pub collate: String,
    /// `datctype`.
    pub ctype: String,
    /// Locale provider: `libc`, `icu` or `builtin`.
    pub locale_provider: String,
    /// ICU or builtin locale.
    #[serde(default)]
    pub icu_locale: Option<String>,
    /// Collation version the data was built with.
    #[serde(default)]
    pub collation_version: Option<String>,
    /// Grants, as aclitem texts; `None` means the default.
    #[serde(default)]
    pub acl: Option<Vec<String>>,
    /// Connection limit, -1 for none.
    pub connection_limit: i32,
    /// Comment.
    #[serde(default)]
    pub comment: Option<String>,
    /// `ALTER DATABASE SET` and `ALTER ROLE IN DATABASE SET`: role ("" for all) to settings.
    #[serde(default)]
    pub settings: BTreeMap<String, Vec<String>>,
    /// Default tablespace.
    pub tablespace: String,
    /// Installed extensions and versions.
    #[serde(default)]
    pub extensions: BTreeMap<String, String>,
}

/// The time and WAL position whose data a dump holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// Server time of the snapshot or just before it.
    pub time: DateTime<FixedOffset>,
    /// WAL position, for example `0/16B3740`.
    pub lsn: String,
}

/// The SQL that makes the roles, as written beside a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Globals {
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// The result of the last verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When.
    pub at: DateTime<FixedOffset>,
    /// Whether everything that was checked holds.
    pub intact: bool,
    /// What was checked: `sha256`, `gzip`, `end marker`, `members`.
    pub checks: Vec<String>,
    /// What is wrong.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// A drill, a restore test or a restore that loaded the backup, found in the database what it holds, and passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// When.
    pub at: DateTime<FixedOffset>,
    /// Its run.
    pub run: String,
}

/// Version of the manifest's format that this build writes.
pub const MANIFEST_VERSION: u32 = 1;

/// The manifest `FILE.json`. Old versions stay readable: new fields get defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version.
    pub version: u32,
    /// Name of the file it belongs to.
    pub file: String,
    /// Kind of content.
    pub content: Content,
    /// What was backed up.
    pub source: Source,
    /// What of the source was taken, if not all of it: the options as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<String>,
    /// Why it was made.
    pub tag: String,
    /// When the run that made it began; names and retention use it.
    pub created: DateTime<FixedOffset>,
    /// The run that made it.
    pub run: String,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes before compression.
    pub raw_size: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// How the content is compressed: `gzip` or `none`.
    pub compression: String,
    /// Members of the gzip file.
    #[serde(default)]
    pub members: u64,
    /// Version of Lifeboat.
    pub lifeboat: String,
    /// Version of `pg_dump`, for dumps.
    #[serde(default)]
    pub pg_dump: Option<String>,
    /// Version of the server, for dumps.
    #[serde(default)]
    pub server: Option<String>,
    /// What data it holds, for dumps.
    #[serde(default)]
    pub recovery_point: Option<RecoveryPoint>,
    /// Database properties, for dumps.
    #[serde(default)]
    pub properties: Option<DatabaseProperties>,
    /// The sidecar `FILE.globals.sql`, for dumps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub globals: Option<Globals>,
    /// Tables with counts and fingerprints, for dumps.
    #[serde(default)]
    pub tables: Vec<TableContent>,
    /// Entries, for archives.
    #[serde(default)]
    pub entries: Option<u64>,
    /// What could not be read, for archives.
    #[serde(default)]
    pub unreadable: Vec<String>,
    /// The last verification.
    #[serde(default)]
    pub verified: Option<Verified>,
    /// The last drill that restored it and passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drilled: Option<Drilled>,
}

/// What a verification found. Many have found the same, and share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether everything that was checked holds.
    pub intact: bool,
    /// What was checked.
    pub checks: Vec<String>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// A verification in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When.
    pub at: DateTime<FixedOffset>,
    /// What it found.
    pub verdict: Arc<Verdict>,
}

impl From<Verified> for Proof {
    fn from(Verified { at, intact, checks, problems }: Verified) -> Self {
        Self { at, verdict: Arc::new(Verdict { intact, checks, problems }) }
    }
}

/// What a backup is, apart from when it was made: what those of a series agree in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Series {
    /// Kind of content.
    pub content: Content,
    /// What was backed up.
    pub source: Source,
    /// What of the source was taken, if not all of it.
    pub selection: Option<String>,
    /// Why it was made.
    pub tag: String,
    /// Whether all that was to be taken could be read.
    pub complete: bool,
}

/// What listings need of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestHead {
    /// What it is one of.
    pub series: Series,
    /// When the run that made it began.
    pub created: DateTime<FixedOffset>,
    /// Bytes before compression.
    pub raw_size: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// What a [`Backup`] does not say.
    pub rest: HeadRest,
}

/// What listings need of a manifest beyond what the [`Backup`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadRest {
    /// Name of the file it belongs to, if that is not the one beside it.
    pub file: Option<String>,
    /// The run that made it.
    pub run: String,
    /// Bytes of the file.
    pub size: u64,
    /// The last verification.
    pub verified: Option<Proof>,
    /// The last drill that restored it and passed.
    pub drilled: Option<Drilled>,
}

impl From<Manifest> for ManifestHead {
    fn from(manifest: Manifest) -> Self {
        Self {
            series: Series {
                content: manifest.content,
                source: manifest.source,
                selection: manifest.selection,
                tag: manifest.tag,
                complete: manifest.unreadable.is_empty(),
            },
            created: manifest.created,
            raw_size: manifest.raw_size,
            sha256: manifest.sha256,
            rest: HeadRest {
                file: Some(manifest.file),
                run: manifest.run,
                size: manifest.size,
                verified: manifest.verified.map(Proof::from),
                drilled: manifest.drilled,
            },
        }
    }
}

/// A backup as scripts, rotation and reports see it. In a dry run some of it is known only after the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    /// Absolute path of the file.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Kind of content.
    pub content: Content,
    /// What was backed up.
    pub source: Source,
    /// What of the source was taken, if not all of it. Backups of different selections are never compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<String>,
    /// Whether all that was to be taken could be read.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub complete: bool,
    /// Why it was made.
    pub tag: String,
    /// When it was made.
    pub created: DateTime<FixedOffset>,
    /// Bytes of the file.
    pub size: Later<u64>,
    /// Bytes before compression.
    pub raw_size: Later<u64>,
    /// SHA-256 in hex, if a sidecar or manifest tells.
    pub sha256: Later<Option<String>>,
    /// Whether the last verification found it intact; `None` if there was none.
    pub verified: Later<Option<bool>>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}
