//! `archive`: a tree of files as a tar archive, in a stable order, with links, permissions and times.
//!
//! What cannot be read is reported, never skipped in silence. Pipes and devices are never opened. Patterns are relative
//! to the root and anchored there: `*.json` is a file in the root, `**/*.json` one at any depth, and a pattern that
//! matches a folder takes all that is below it.

use crate::action::source::{Produced, Sourced, canonical};
use crate::base::backup::{Content, Source};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need, Target};
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::stream::BlockSink;
use crate::sys::tree::{Archived, Selection, archive, walk};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What of a tree is archived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveOptions {
    /// Patterns of what to take; everything if there are none.
    pub include: Vec<String>,
    /// Patterns of what to leave out, even if it is included.
    pub exclude: Vec<String>,
}

impl ArchiveOptions {
    /// What makes the archive another one than that of the whole tree; `None` for that one.
    pub fn selection(&self) -> Option<String> {
        canonical(&[("include", &self.include), ("exclude", &self.exclude)])
    }
}

/// Problems that a dry run shows each by itself.
const SHOWN: usize = 100;

/// A tree that is backed up.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Root of the tree; names in the archive are relative to it.
    pub root: PathBuf,
    /// What of it.
    pub options: ArchiveOptions,
}

impl Archive {
    fn selection(&self) -> Result<Selection, Failure> {
        Selection::new(&self.options.include, &self.options.exclude)
    }

    /// Walks the tree without reading its files.
    pub fn look(&self, facts: &Facts) -> Result<Sourced, Failure> {
        let root = facts.absolute(&self.root);
        let selection = self.selection()?;
        let target = Target::Path(root.clone());
        let touched = facts.view().is_changed(&target);
        let mut sourced = Sourced {
            content: Content::Tar,
            source: Later::Now(Source::Tree {
                host: fs::host_name(),
                root: facts.host().original(&root).display().to_string(),
            }),
            describe: format!("`{}`", facts.host().shown(&root)),
            details: Vec::new(),
            unknown: Vec::new(),
            needs: vec![Need::Read(root.clone())],
            reads: vec![target],
            raw_size: None,
        };
        if !fs::exists(&root)? {
            if touched {
                sourced.unknown.push("which files: an earlier command makes the folder".to_owned());
                return Ok(sourced);
            }
            return Err(Failure::new(Code::NotFound, format!("there is no folder `{}`", root.display()))
                .hint("Give `archive` an existing folder; relative paths begin at the project's root."));
        }
        let (mut files, mut bytes, mut unreadable) = (0u64, 0u64, Vec::new());
        let mut untold = 0;
        for entry in walk(&root, &selection, &[facts.host().state().to_path_buf()]) {
            facts.cancel().check()?;
            match entry.and_then(|entry| entry.size()) {
                Ok(size) => {
                    files += 1;
                    bytes += 512 + size.div_ceil(512) * 512;
                }
                Err(problem) if unreadable.len() < SHOWN => unreadable.push(problem),
                Err(_) => untold += 1,
            }
        }
        sourced.details.push(format!("{files} entries, {} of tar", crate::base::units::bytes(bytes)));
        sourced.details.extend(unreadable.iter().map(|problem| format!("cannot be read: {problem}")));
        if untold > 0 {
            sourced.details.push(format!("cannot be read: {untold} more"));
        }
        if touched {
            sourced
                .unknown
                .push("whether these stay the files: an earlier command may change them".to_owned());
        }
        sourced.raw_size = Some(bytes + 1024);
        Ok(sourced)
    }

    /// Writes the archive.
    pub fn produce(
        &self,
        effects: &Effects,
        own: &[PathBuf],
        out: &mut dyn BlockSink,
    ) -> Result<Produced, Failure> {
        let facts = effects.facts();
        let root = facts.absolute(&self.root);
        let Archived { entries, problems } = archive(&root, &self.selection()?, own, facts.cancel(), out)?;
        let mut produced = Produced { entries: Some(entries), unreadable: problems, ..Produced::default() };
        if entries == 0 {
            return Err(Failure::new(Code::NotFound, format!("no file below `{}` is to be archived", root.display()))
                .hint("Check `include` and `exclude`: patterns are relative to the root, and `**/` stands for any depth."));
        }
        produced.warnings.extend(
            produced.unreadable.iter().map(|problem| format!("not in the archive as it is: {problem}")),
        );
        Ok(produced)
    }
}
