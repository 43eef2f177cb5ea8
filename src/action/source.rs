//! Where the bytes of a backup come from: what `dump`, `archive` and `file` have in common.

use crate::action::archive::Archive;
use crate::action::dump::Dump;
use crate::action::file::FileSource;
use crate::base::backup::{Content, DatabaseProperties, RecoveryPoint, Source, TableContent};
use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::stream::BlockSink;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A source that has not been asked for anything yet.
#[derive(Clone, Debug)]
pub enum BackupSource {
    /// A PostgreSQL database, through `pg_dump`.
    Dump(Box<Dump>),
    /// A tree of files, as a tar archive.
    Archive(Archive),
    /// One file as it is.
    File(FileSource),
}

/// What a source knows before it runs.
#[derive(Clone, Debug)]
pub struct Sourced {
    /// Kind of content.
    pub content: Content,
    /// What is backed up; not known for what the run itself has yet to make.
    pub source: Later<Source>,
    /// The source in a few words: `dump of shop at db1:5432`.
    pub describe: String,
    /// Lines for a dry run.
    pub details: Vec<String>,
    /// What cannot be known.
    pub unknown: Vec<String>,
    /// What the policy must allow.
    pub needs: Vec<Need>,
    /// What is read.
    pub reads: Vec<Target>,
    /// Raw bytes, if they can be told without reading.
    pub raw_size: Option<u64>,
}

/// What a source knows once all its bytes are out.
#[derive(Clone, Debug, Default)]
pub struct Produced {
    /// Version of `pg_dump`.
    pub pg_dump: Option<String>,
    /// Version of the server.
    pub server: Option<String>,
    /// What data it holds.
    pub recovery_point: Option<RecoveryPoint>,
    /// Properties of the database.
    pub properties: Option<DatabaseProperties>,
    /// Tables with counts and fingerprints.
    pub tables: Vec<TableContent>,
    /// SQL that makes the roles, for the sidecar.
    pub globals: Option<String>,
    /// Entries of an archive.
    pub entries: Option<u64>,
    /// What could not be read, each with its reason.
    pub unreadable: Vec<String>,
    /// What is wrong with the backup; the run then completes with warnings.
    pub warnings: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl BackupSource {
    /// The verb that makes it.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Dump(_) => "dump",
            Self::Archive(_) => "archive",
            Self::File(_) => "file",
        }
    }

    /// What of the source is taken, if not all of it: the options as JSON, whose lists are sorted.
    pub fn selection(&self) -> Option<String> {
        match self {
            Self::Dump(dump) => dump.options.selection(),
            Self::Archive(archive) => archive.options.selection(),
            Self::File(_) => None,
        }
    }

    /// Asks what can be known before it runs.
    pub fn look(&self, facts: &Facts) -> Result<Sourced, Failure> {
        match self {
            Self::Dump(dump) => dump.look(facts),
            Self::Archive(archive) => archive.look(facts),
            Self::File(file) => file.look(facts),
        }
    }

    /// Pushes all blocks. `own` are folders of Lifeboat's own output, which no archive holds.
    pub fn produce(
        &self,
        effects: &Effects,
        own: &[PathBuf],
        out: &mut dyn BlockSink,
    ) -> Result<Produced, Failure> {
        match self {
            Self::Dump(dump) => dump.produce(effects, out),
            Self::Archive(archive) => archive.produce(effects, own, out),
            Self::File(file) => file.produce(effects, out),
        }
    }
}

/// Options as canonical JSON: the order of patterns and those given twice do not matter. `None` if there are none.
pub fn canonical(lists: &[(&str, &Vec<String>)]) -> Option<String> {
    let lists: BTreeMap<&str, BTreeSet<&String>> = lists
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| (*name, list.iter().collect()))
        .collect();
    (!lists.is_empty()).then(|| serde_json::json!(lists).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_patterns_makes_no_other_selection() {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let (one, other, none) = (list(&["b", "a"]), list(&["a", "b", "a"]), list(&[]));
        let text = Some("{\"include\":[\"a\",\"b\"]}".to_owned());
        assert_eq!(canonical(&[("include", &one), ("exclude", &none)]), text);
        assert_eq!(canonical(&[("exclude", &none), ("include", &other)]), text);
        assert_eq!(canonical(&[("exclude", &none)]), None);
    }
}
