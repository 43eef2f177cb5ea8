//! Backups: sources, stages, sink, proof, rotation, and what a folder holds.

use crate::action::archive::{Archive, ArchiveOptions};
use crate::action::file::FileSource;
use crate::action::gzip::{Gzip, Gzipped};
use crate::action::hash::{Hash, Hashed};
use crate::action::rotate::{Rotate, RotateOptions, Rotated};
use crate::action::save::{Save, SaveOptions};
use crate::action::source::BackupSource;
use crate::action::verify::{Verification, Verify, VerifyOptions};
use crate::base::backup::{Backup, Source};
use crate::base::failure::{Code, Failure};
use crate::base::plan::Later;
use crate::observe::backups::{BackupFilter, Backups};
use crate::observe::inspect::{Inspect, InspectOptions};
use crate::observe::latest::Latest;
use crate::script::bind::time::Bytes;
use crate::script::bind::{known_text, observe, perform};
use crate::script::context::Raised;
use crate::script::option_keys::Options;
use crate::script::value::{IntoScript, Kind, ScriptValue};
use crate::script::{fault, options};
use crate::sys::stream::Level;
use rhai::Map;
use rhai::plugin::*;
use std::fmt;
use std::path::PathBuf;

/// Types of this family.
pub const KINDS: &[Kind] = &[Kind::of::<Backup>(), Kind::of::<Pipeline>()];

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Options of this family's functions.
pub fn options() -> Vec<Options> {
    vec![
        Options::of::<ArchiveOptions>("archive"),
        Options::of::<SaveOptions>("save"),
        Options::of::<VerifyOptions>("verify"),
        Options::of::<RotateOptions>("rotate"),
        Options::of::<BackupFilter>("backups"),
        Options::of::<BackupFilter>("latest"),
    ]
}

/// A source with its stages, not performed yet.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Where the bytes come from.
    pub source: BackupSource,
    /// Level of the gzip stage.
    pub gzip: Option<Level>,
}

impl Pipeline {
    /// A pipeline without stages.
    pub fn of(source: BackupSource) -> Self {
        Self { source, gzip: None }
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gzip = if self.gzip.is_some() { ".gzip()" } else { "" };
        write!(f, "{}(...){gzip}", self.source.verb())
    }
}

impl ScriptValue for Pipeline {
    const NAME: &'static str = "pipeline";

    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "pipeline": format!("{self:?}") })
    }
}

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl ScriptValue for Backup {
    const NAME: &'static str = "backup";

    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "backup": self })
    }

    fn recorded(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self).ok()
    }

    fn restored(value: serde_json::Value) -> Option<Self> {
        serde_json::from_value(value).ok()
    }
}

impl IntoScript for Backup {
    fn into_script(self) -> Dynamic {
        Dynamic::from(self)
    }
}

impl IntoScript for Rotated {
    fn into_script(self) -> Dynamic {
        let names: rhai::Array = self.removed.into_iter().map(|removal| removal.name.into()).collect();
        let mut map = Map::new();
        map.insert("removed".into(), names.into());
        map.insert("kept".into(), Dynamic::from(i64::try_from(self.kept).unwrap_or(i64::MAX)));
        map.insert("freed".into(), Bytes(self.freed).into_script());
        map.into()
    }
}

impl IntoScript for Verification {
    fn into_script(self) -> Dynamic {
        let texts = |list: Vec<String>| list.into_iter().map(Dynamic::from).collect::<rhai::Array>();
        let mut map = Map::new();
        map.insert("path".into(), self.path.display().to_string().into());
        map.insert("name".into(), self.name.into());
        map.insert("intact".into(), self.intact.into());
        map.insert("size".into(), Bytes(self.size).into_script());
        map.insert("raw_size".into(), Bytes(self.raw_size).into_script());
        map.insert("sha256".into(), self.sha256.into());
        map.insert("checks".into(), texts(self.checks).into());
        map.insert("problems".into(), texts(self.problems).into());
        map.insert("entries".into(), texts(self.entries).into());
        map.into()
    }
}

impl IntoScript for Gzipped {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("path".into(), self.path.display().to_string().into());
        map.insert("size".into(), self.size.map(Bytes).into_script());
        map.insert("raw_size".into(), self.raw_size.map(Bytes).into_script());
        map.insert("sha256".into(), self.sha256.into_script());
        map.into()
    }
}

impl IntoScript for Hashed {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("path".into(), self.path.display().to_string().into());
        map.insert("size".into(), self.size.map(Bytes).into_script());
        map.insert("sha256".into(), self.sha256.into_script());
        map.into()
    }
}

fn level(n: i64) -> Result<Level, Raised> {
    u8::try_from(n).ok().and_then(Level::new).ok_or_else(|| {
        let failure = Failure::new(Code::Script, format!("there is no gzip level {n}"));
        fault::defect(
            failure.hint("Levels go from 1 (fastest) to 12 (smallest); 6 is as small as `gzip -6`."),
        )
    })
}

fn save_as(
    ctx: &NativeCallContext,
    pipeline: &Pipeline,
    path: &str,
    options: Map,
) -> Result<Dynamic, Raised> {
    let options: SaveOptions = options::read("save", options)?;
    let (source, gzip) = (pipeline.source.clone(), pipeline.gzip);
    perform(ctx, &Save { source, gzip, path: known_text(path)?.into(), options })
}

fn verify_at(ctx: &NativeCallContext, path: &str, options: Map) -> Result<Dynamic, Raised> {
    let options: VerifyOptions = options::read("verify", options)?;
    perform(ctx, &Verify { path: known_text(path)?.into(), options })
}

fn inspect_at(ctx: &NativeCallContext, path: PathBuf, options: Map) -> Result<Dynamic, Raised> {
    let options: InspectOptions = options::read("inspect", options)?;
    observe(ctx, &Inspect { path, options }, false)
}

fn look(ctx: &NativeCallContext, dir: &str, options: Map) -> Result<Dynamic, Raised> {
    let filter: BackupFilter = options::read("backups", options)?;
    observe(ctx, &Backups { dir: known_text(dir)?.into(), filter }, false)
}

fn newest(ctx: &NativeCallContext, dir: &str, options: Map) -> Result<Dynamic, Raised> {
    let filter: BackupFilter = options::read("latest", options)?;
    observe(ctx, &Latest { dir: known_text(dir)?.into(), filter }, false)
}

#[export_module]
mod functions {
    /// A tree of files as the source of a backup: `archive(".").gzip().save("backups/config/site.tar.gz")`.
    ///
    /// Links, permissions and times are kept, in a stable order. What cannot be read is reported and makes the run
    /// complete with warnings.
    #[rhai_fn(volatile, return_raw)]
    pub fn archive(root: &str) -> Result<Pipeline, Raised> {
        archive_with(root, Map::new())
    }

    /// A tree of files with options `include` and `exclude`: arrays of patterns relative to the root. `*.json` is a file
    /// in the root, `**/*.json` one at any depth; a pattern that matches a folder takes all that is below it.
    #[rhai_fn(volatile, return_raw, name = "archive")]
    pub fn archive_with(root: &str, options: Map) -> Result<Pipeline, Raised> {
        let options: ArchiveOptions = options::read("archive", options)?;
        let root = known_text(root)?.into();
        Ok(Pipeline::of(BackupSource::Archive(Archive { root, options })))
    }

    /// One file as the source of a backup: `file("app.sqlite").gzip().save("backups/app.sqlite.gz")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn file(path: &str) -> Result<Pipeline, Raised> {
        Ok(Pipeline::of(BackupSource::File(FileSource { path: known_text(path)?.into() })))
    }

    /// Adds compression, as small as `gzip -6`, on all cores: `dump(db).gzip()`. Stock tools read the result.
    #[rhai_fn(pure, return_raw)]
    pub fn gzip(pipeline: &mut Pipeline) -> Result<Pipeline, Raised> {
        Ok(Pipeline { gzip: Some(Level::default()), ..pipeline.clone() })
    }

    /// Adds compression at a level from 1 (fastest) to 12 (smallest): `dump(db).gzip(4)`.
    #[rhai_fn(pure, return_raw, name = "gzip")]
    pub fn gzip_at(pipeline: &mut Pipeline, n: i64) -> Result<Pipeline, Raised> {
        Ok(Pipeline { gzip: Some(level(n)?), ..pipeline.clone() })
    }

    /// Compresses a file to `FILE.gz`; the file stays: `gzip("report.csv")`.
    #[rhai_fn(volatile, return_raw, name = "gzip")]
    pub fn gzip_file(ctx: NativeCallContext, path: &str) -> Result<Dynamic, Raised> {
        perform(&ctx, &Gzip { path: known_text(path)?.into(), level: Level::default() })
    }

    /// Compresses a file to `FILE.gz` at a level from 1 to 12.
    #[rhai_fn(volatile, return_raw, name = "gzip")]
    pub fn gzip_file_at(ctx: NativeCallContext, path: &str, n: i64) -> Result<Dynamic, Raised> {
        perform(&ctx, &Gzip { path: known_text(path)?.into(), level: level(n)? })
    }

    /// Says that the backup gets its SHA-256 beside it. Saving always does; the word is for the reader.
    #[rhai_fn(pure, return_raw)]
    pub fn hash(pipeline: &mut Pipeline) -> Result<Pipeline, Raised> {
        Ok(pipeline.clone())
    }

    /// Writes `FILE.sha256`, which `sha256sum -c` reads: `hash("report.csv.gz")`.
    #[rhai_fn(volatile, return_raw, name = "hash")]
    pub fn hash_file(ctx: NativeCallContext, path: &str) -> Result<Dynamic, Raised> {
        perform(&ctx, &Hash { path: known_text(path)?.into() })
    }

    /// Runs a pipeline into one published backup with its `.sha256` and `.json`: `dump(db).gzip().save(path)`.
    ///
    /// The file gets its name last, when it is complete and on stable storage; nothing is ever overwritten.
    #[rhai_fn(volatile, pure, return_raw)]
    pub fn save(ctx: NativeCallContext, pipeline: &mut Pipeline, path: &str) -> Result<Dynamic, Raised> {
        save_as(&ctx, pipeline, path, Map::new())
    }

    /// Runs a pipeline; option `tag` says why the backup is made, and rotation works per tag:
    /// `dump(db).gzip().save(path, #{ tag: "daily" })`.
    #[rhai_fn(volatile, pure, return_raw, name = "save")]
    pub fn save_with(
        ctx: NativeCallContext,
        pipeline: &mut Pipeline,
        path: &str,
        options: Map,
    ) -> Result<Dynamic, Raised> {
        save_as(&ctx, pipeline, path, options)
    }

    /// Proves that a backup is intact and records it: SHA-256, every gzip member, end marker, row counts. Fails when it
    /// is not: `verify(backup)`.
    #[rhai_fn(volatile, return_raw)]
    pub fn verify(ctx: NativeCallContext, backup: Backup) -> Result<Dynamic, Raised> {
        verify_at(&ctx, &backup.path.to_string_lossy(), Map::new())
    }

    /// Proves a backup; with option `report_only` it returns what is wrong instead of failing.
    #[rhai_fn(volatile, return_raw, name = "verify")]
    pub fn verify_with(ctx: NativeCallContext, backup: Backup, options: Map) -> Result<Dynamic, Raised> {
        verify_at(&ctx, &backup.path.to_string_lossy(), options)
    }

    /// Proves the backup at a path, also one that another tool made.
    #[rhai_fn(volatile, return_raw, name = "verify")]
    pub fn verify_path(ctx: NativeCallContext, path: &str) -> Result<Dynamic, Raised> {
        verify_at(&ctx, path, Map::new())
    }

    /// Proves the backup at a path; with option `report_only` it returns what is wrong instead of failing.
    #[rhai_fn(volatile, return_raw, name = "verify")]
    pub fn verify_path_with(ctx: NativeCallContext, path: &str, options: Map) -> Result<Dynamic, Raised> {
        verify_at(&ctx, path, options)
    }

    /// Reads a backup from the first byte to the last and says whether it is intact; writes nothing down, and a dry run asks
    /// it too: `inspect(backup).intact`. Returns `intact`, `problems`, `size`, `sha256`, and `entries` of an archive.
    #[rhai_fn(volatile, return_raw)]
    pub fn inspect(ctx: NativeCallContext, backup: Backup) -> Result<Dynamic, Raised> {
        inspect_at(&ctx, backup.path, Map::new())
    }

    /// Says whether a backup is intact; option `reread` says whether what a dump of ours holds is read once more when its
    /// SHA-256 is that of bytes that were verified before: `inspect(backup, #{ reread: false })`.
    #[rhai_fn(volatile, return_raw, name = "inspect")]
    pub fn inspect_with(ctx: NativeCallContext, backup: Backup, options: Map) -> Result<Dynamic, Raised> {
        inspect_at(&ctx, backup.path, options)
    }

    /// Says whether the backup at a path is intact, also one that another tool made.
    #[rhai_fn(volatile, return_raw, name = "inspect")]
    pub fn inspect_path(ctx: NativeCallContext, path: &str) -> Result<Dynamic, Raised> {
        inspect_at(&ctx, known_text(path)?.into(), Map::new())
    }

    /// Says whether the backup at a path is intact, also one that another tool made; with the option `reread`.
    #[rhai_fn(volatile, return_raw, name = "inspect")]
    pub fn inspect_path_with(ctx: NativeCallContext, path: &str, options: Map) -> Result<Dynamic, Raised> {
        inspect_at(&ctx, known_text(path)?.into(), options)
    }

    /// Removes the backups of a folder that no rule keeps: `rotate(dir, #{ tag: "daily", keep_days: 30 })`.
    ///
    /// Options: `tag`, `keep_last`, `keep_hourly`, `keep_daily`, `keep_weekly`, `keep_monthly`, `keep_yearly`,
    /// `keep_days`. A backup goes only when a newer verified one of the same source is there. Files without a manifest
    /// are left alone, and nothing goes when a part of the run has failed.
    #[rhai_fn(volatile, return_raw)]
    pub fn rotate(ctx: NativeCallContext, dir: &str, options: Map) -> Result<Dynamic, Raised> {
        let options: RotateOptions = options::read("rotate", options)?;
        perform(&ctx, &Rotate { dir: known_text(dir)?.into(), options })
    }

    /// The backups of a folder, oldest first: `for b in backups("backups/database") { ... }`. A file stands for itself.
    #[rhai_fn(volatile, return_raw)]
    pub fn backups(ctx: NativeCallContext, dir: &str) -> Result<Dynamic, Raised> {
        look(&ctx, dir, Map::new())
    }

    /// The backups of a folder with options `tag` and `verified`: `backups(dir, #{ tag: "daily", verified: true })`.
    #[rhai_fn(volatile, return_raw, name = "backups")]
    pub fn backups_with(ctx: NativeCallContext, dir: &str, options: Map) -> Result<Dynamic, Raised> {
        look(&ctx, dir, options)
    }

    /// The newest backup of a folder; fails when there is none: `latest("backups/database")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn latest(ctx: NativeCallContext, dir: &str) -> Result<Dynamic, Raised> {
        newest(&ctx, dir, Map::new())
    }

    /// The newest backup of a folder with options `tag` and `verified`.
    #[rhai_fn(volatile, return_raw, name = "latest")]
    pub fn latest_with(ctx: NativeCallContext, dir: &str, options: Map) -> Result<Dynamic, Raised> {
        newest(&ctx, dir, options)
    }

    /// The file's path.
    #[rhai_fn(get = "path", pure)]
    pub fn backup_path(backup: &mut Backup) -> String {
        backup.path.display().to_string()
    }

    /// The file's name.
    #[rhai_fn(get = "name", pure)]
    pub fn backup_name(backup: &mut Backup) -> String {
        backup.name.clone()
    }

    /// What was backed up: the name of the database, the root of the tree, or for a file without manifest its name without
    /// the stamp.
    #[rhai_fn(get = "source", pure)]
    pub fn backup_source(backup: &mut Backup) -> String {
        match &backup.source {
            Source::Database { name, .. } | Source::Named { name } => name.clone(),
            Source::Tree { root, .. } => root.clone(),
        }
    }

    /// Why it was made.
    #[rhai_fn(get = "tag", pure)]
    pub fn backup_tag(backup: &mut Backup) -> String {
        backup.tag.clone()
    }

    /// Size of the file.
    #[rhai_fn(get = "size", pure)]
    pub fn backup_size(backup: &mut Backup) -> Dynamic {
        backup.size.clone().map(Bytes).into_script()
    }

    /// Size before compression.
    #[rhai_fn(get = "raw_size", pure)]
    pub fn backup_raw_size(backup: &mut Backup) -> Dynamic {
        backup.raw_size.clone().map(Bytes).into_script()
    }

    /// SHA-256 in hex, or `()` if nothing tells.
    #[rhai_fn(get = "sha256", pure)]
    pub fn backup_sha256(backup: &mut Backup) -> Dynamic {
        backup.sha256.clone().into_script()
    }

    /// When it was made.
    #[rhai_fn(get = "created", pure)]
    pub fn backup_created(backup: &mut Backup) -> crate::script::bind::time::Time {
        crate::script::bind::time::Time(backup.created)
    }

    /// Whether the last verification found it intact; `()` if there was none.
    #[rhai_fn(get = "verified", pure)]
    pub fn backup_verified(backup: &mut Backup) -> Dynamic {
        match &backup.verified {
            Later::Now(verified) => verified.map_or(Dynamic::UNIT, Dynamic::from),
            Later::AfterRun => Later::<bool>::AfterRun.into_script(),
        }
    }
}
