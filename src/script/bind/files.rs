//! Files from archives: putting them in their place, and putting back what they replaced.

use crate::action::extract::{Extract, ExtractOptions, Extracted};
use crate::action::remove_kept_files::{RemoveKeptFiles, RemovedFiles};
use crate::action::rollback_files::{RollbackFiles, RolledBack};
use crate::base::backup::Backup;
use crate::observe::kept_files::{AskKeptFiles, KeptFiles};
use crate::script::bind::time::{Bytes, Span, Time};
use crate::script::bind::{known_text, observe, perform};
use crate::script::context::Raised;
use crate::script::option_keys::Options;
use crate::script::options::{self, Size};
use crate::script::value::IntoScript;
use crate::sys::kept::{Change, State};
use rhai::Map;
use rhai::plugin::*;
use serde::Deserialize;
use std::time::Duration;

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Options of this family's functions.
pub fn options() -> Vec<Options> {
    vec![Options::of::<Given>("extract")]
}

/// The options of `extract` as scripts give them.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    only: Vec<String>,
    except: Vec<String>,
    owner: bool,
    skip_checksum: bool,
    max_size: Option<Size>,
    max_entries: Option<u64>,
    max_ratio: Option<u64>,
}

impl From<Given> for ExtractOptions {
    fn from(given: Given) -> Self {
        let Given { only, except, owner, skip_checksum, .. } = given;
        let mut options = Self { only, except, owner, skip_checksum, ..Self::default() };
        let limits = &mut options.limits;
        limits.size = given.max_size.map_or(limits.size, |size| size.0);
        limits.entries = given.max_entries.unwrap_or(limits.entries);
        limits.ratio = given.max_ratio.unwrap_or(limits.ratio);
        options
    }
}

/// So many changes a script is told each by itself; `added` and `changed` count them all.
const MOST_CHANGES: usize = 4_000;

fn count(n: u64) -> Dynamic {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}

impl IntoScript for Change {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("path".into(), self.name.0.display().to_string().into());
        map.insert("kind".into(), self.kind.word().into());
        map.insert("is_new".into(), self.is_new().into());
        map.insert("shown".into(), self.to_string().into());
        map.into()
    }
}

impl IntoScript for Extracted {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("dir".into(), self.dir.into_script());
        map.insert("added".into(), count(self.added));
        map.insert("changed".into(), count(self.changed));
        map.insert("same".into(), count(self.same));
        map.insert("others".into(), count(self.others));
        map.insert("kept".into(), self.kept.into_script());
        let shown: Vec<Change> = self.changes.told().iter().take(MOST_CHANGES).cloned().collect();
        map.insert("changes".into(), shown.into_script());
        map.into()
    }
}

impl IntoScript for RolledBack {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("kept".into(), self.kept.into_script());
        map.insert("dir".into(), self.dir.into_script());
        map.insert("run".into(), self.run.into());
        map.insert("files".into(), count(self.files));
        map.insert("forward".into(), self.forward.into());
        map.into()
    }
}

impl IntoScript for KeptFiles {
    fn into_script(self) -> Dynamic {
        let state = match self.state {
            State::Staging => "staging",
            State::Swapping | State::Undoing => "half replaced",
            State::Swapped => "kept",
            State::Undone => "rolled back",
        };
        let mut map = Map::new();
        map.insert("path".into(), self.path.into_script());
        map.insert("state".into(), state.into());
        map.insert("run".into(), self.run.into());
        map.insert("at".into(), Dynamic::from(Time(self.at)));
        map.insert("age".into(), Dynamic::from(Span(Duration::from_secs(self.age))));
        map.insert("size".into(), Bytes(self.size).into_script());
        map.insert("files".into(), count(self.files));
        map.into()
    }
}

impl IntoScript for RemovedFiles {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("kept".into(), self.kept.into_script());
        map.insert("run".into(), self.run.into());
        map.insert("size".into(), Bytes(self.size).into_script());
        map.into()
    }
}

fn extract_at(ctx: &NativeCallContext, path: &str, dir: &str, options: Map) -> Result<Dynamic, Raised> {
    let given: Given = options::read("extract", options)?;
    let (path, dir) = (known_text(path)?.into(), known_text(dir)?.into());
    perform(ctx, &Extract { path, dir, options: given.into() })
}

#[export_module]
mod functions {
    /// Puts the files of an archive in their place, after it has been verified: `extract(backup, ".")`.
    ///
    /// What differs is shown first; what it replaces is kept, and `rollback_files(extracted.kept)` puts it back. Files that
    /// the archive does not hold are left alone. Returns `added`, `changed`, `same` and `others` as counts, `dir`,
    /// `changes`, of which there are four thousand at most, and `kept`, which is `()` when nothing differed. An archive that
    /// leads out of the folder is refused.
    #[rhai_fn(volatile, return_raw)]
    pub fn extract(ctx: NativeCallContext, backup: Backup, dir: &str) -> Result<Dynamic, Raised> {
        extract_at(&ctx, &backup.path.to_string_lossy(), dir, Map::new())
    }

    /// Puts some files of an archive in their place: `extract(backup, ".", #{ only: [".env"] })`.
    ///
    /// Options: `only` and `except`, arrays of patterns relative to the archive's root; `owner: true` gives files the owner
    /// that the archive names, as root; `skip_checksum: true` does not compare the SHA-256, after a person has agreed; `max_size`, `max_entries` and `max_ratio` limit what it may hold.
    #[rhai_fn(volatile, return_raw, name = "extract")]
    pub fn extract_with(
        ctx: NativeCallContext,
        backup: Backup,
        dir: &str,
        options: Map,
    ) -> Result<Dynamic, Raised> {
        extract_at(&ctx, &backup.path.to_string_lossy(), dir, options)
    }

    /// Puts the files of the archive at a path in their place, also of one that another tool made.
    #[rhai_fn(volatile, return_raw, name = "extract")]
    pub fn extract_path(ctx: NativeCallContext, path: &str, dir: &str) -> Result<Dynamic, Raised> {
        extract_at(&ctx, path, dir, Map::new())
    }

    /// Puts some files of the archive at a path in their place.
    #[rhai_fn(volatile, return_raw, name = "extract")]
    pub fn extract_path_with(
        ctx: NativeCallContext,
        path: &str,
        dir: &str,
        options: Map,
    ) -> Result<Dynamic, Raised> {
        extract_at(&ctx, path, dir, options)
    }

    /// Puts back what an extraction replaced, and keeps what it had extracted: `rollback_files(extracted.kept)`. A second
    /// time puts that forward again.
    #[rhai_fn(volatile, return_raw)]
    pub fn rollback_files(ctx: NativeCallContext, kept: &str) -> Result<Dynamic, Raised> {
        perform(&ctx, &RollbackFiles { kept: known_text(kept)?.into() })
    }

    /// What extractions into a folder have kept of the files that they replaced: `for k in kept_files(".") { ... }`.
    ///
    /// Each has `path`, `state` ("kept", "rolled back" or "half replaced"), `run`, `at`, `age`, `size` and `files`.
    #[rhai_fn(volatile, return_raw)]
    pub fn kept_files(ctx: NativeCallContext, dir: &str) -> Result<Dynamic, Raised> {
        observe(&ctx, &AskKeptFiles { dir: known_text(dir)?.into() }, false)
    }

    /// Removes what an extraction has kept, after a person has agreed: `remove_kept_files(k.path)`. It cannot be rolled back
    /// any more then.
    #[rhai_fn(volatile, return_raw)]
    pub fn remove_kept_files(ctx: NativeCallContext, kept: &str) -> Result<Dynamic, Raised> {
        perform(&ctx, &RemoveKeptFiles { kept: known_text(kept)?.into() })
    }
}
