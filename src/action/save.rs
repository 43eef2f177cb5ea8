//! `save`: runs a pipeline, from its source through its stages into one published backup.
//!
//! Everything is written under names of no meaning and synced; then the sidecars get their names, and the backup itself
//! last. Whoever sees the backup sees all of it.

use crate::action::gzip::StagedOutput;
use crate::action::leftovers;
use crate::action::source::{BackupSource, Produced, Sourced};
use crate::action::{Action, Recorded};
use crate::base::anomaly::HISTORY;
use crate::base::backup::{Backup, Globals, MANIFEST_VERSION, Manifest};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs::{self, Staged};
use crate::sys::host::Host;
use crate::sys::store::{self, Found, Listing};
use crate::sys::stream::{BlockSink, Control, Digest, Level, Stages, Written, hash, pour};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a backup is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaveOptions {
    /// Why it is made; rotation works per tag.
    pub tag: String,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { tag: "manual".to_owned() }
    }
}

/// A pipeline with its sink.
#[derive(Clone, Debug)]
pub struct Save {
    /// Where the bytes come from.
    pub source: BackupSource,
    /// Level of the gzip stage, if there is one.
    pub gzip: Option<Level>,
    /// Where the backup goes.
    pub path: PathBuf,
    /// How it is kept.
    pub options: SaveOptions,
}

impl Recorded for Backup {
    fn summary(&self) -> String {
        match &self.size {
            Later::Now(size) => format!("saved {} ({})", self.name, units::bytes(*size)),
            Later::AfterRun => format!("saved {}", self.name),
        }
    }
}

impl Action for Save {
    const NAME: &'static str = "save";
    type Output = Backup;

    fn in_short(&self, host: &Host) -> String {
        format!("save {}", host.shown(&host.absolute(&self.path)))
    }

    fn asks(&self) -> Vec<Need> {
        match &self.source {
            BackupSource::Dump(dump) => dump.settings.needs(),
            _ => Vec::new(),
        }
    }

    fn plan(&self, facts: &Facts) -> Result<Plan<Backup>, Failure> {
        if self.options.tag.is_empty() {
            return Err(Failure::new(Code::Usage, "the tag of a backup is empty")
                .hint("Say why the backup is made, for example `#{ tag: \"daily\" }`."));
        }
        let path = facts.absolute(&self.path);
        let (Some(dir), Some(name)) = (path.parent().map(Path::to_path_buf), path.file_name()) else {
            return Err(Failure::new(Code::Usage, format!("`{}` is not the path of a file", path.display())));
        };
        let name = name.to_string_lossy().into_owned();
        if name.contains(['\n', '\r']) || name.starts_with('.') {
            return Err(Failure::new(
                Code::Usage,
                format!("a backup cannot be called `{}`", name.escape_debug()),
            )
            .hint(
                "Use a name without line breaks that does not begin with a dot; `file_name(text)` makes one.",
            ));
        }
        if let Some(suffix) =
            store::SIDECARS.iter().chain(&[fs::STAGED_SUFFIX]).find(|suffix| name.ends_with(**suffix))
        {
            return Err(Failure::new(Code::Usage, format!("a backup cannot be called `{name}`"))
                .caused_by(format!("`{suffix}` ends the names of files that stand beside backups"))
                .hint("Use a name that ends with what the file holds, for example `.sql.gz` or `.tar.gz`."));
        }
        // What an earlier attempt of this run has published is not in the way of the plan, which finds it again.
        let own = facts.host().resumes().is_some_and(|resuming| made_by(&path, &resuming.run));
        if !own {
            self.refuse_taken(facts, &path)?;
        }
        let sourced = self.source.look(facts)?;
        self.refuse_misnamed(facts, &name)?;
        let estimate = self.last_raw_size(facts, &path, &sourced)?.or(sourced.raw_size);
        let shown = facts.host().shown(&path);
        let stages = self.gzip.map_or(String::new(), |level| format!(" → gzip (level {level})"));
        let forecast = sourced.source.clone().map(|source| Backup {
            path: path.clone(),
            name,
            content: sourced.content,
            source,
            selection: self.source.selection(),
            complete: true,
            tag: self.options.tag.clone(),
            created: facts.began().fixed_offset(),
            size: Later::AfterRun,
            raw_size: Later::AfterRun,
            sha256: Later::AfterRun,
            verified: Later::Now(None),
        });
        let mut plan = Plan::new(
            format!("{} of {}{stages} → sha256 → `{shown}`", self.source.verb(), sourced.describe),
            Effect::Create,
            forecast.clone(),
        );
        plan.details = sourced.details;
        if let Some(raw) = estimate {
            plan.details.push(format!("about {} before compression", units::bytes(raw)));
        }
        plan.details.push(format!("tag `{}`, sidecars .sha256 and .json", self.options.tag));
        plan.estimate = estimate;
        plan.unknown = sourced.unknown;
        plan.unknown.push("size and digest of the backup".to_owned());
        plan.needs = sourced.needs;
        plan.needs.extend([Need::Write(dir.clone()), Need::Write(path)]);
        plan.locks.push(Target::Path(dir.clone()));
        plan.touches.push(match forecast {
            Later::Now(backup) => Touch::BackupMade(Box::new(backup)),
            Later::AfterRun => Touch::Changed(Target::Path(dir)),
        });
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<Backup>, effects: &Effects) -> Result<Backup, Failure> {
        let Later::Now(backup) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`save` was planned without knowing its source"));
        };
        let facts = effects.facts();
        let dir = backup.path.parent().unwrap_or(Path::new("/"));
        effects.create_dir(dir)?;
        effects.lock_folder(dir)?;
        leftovers::clean(effects, dir, Some(&backup.path))?;
        self.refuse_taken(facts, &backup.path)?;
        let own = [fs::resolved(dir), dir.to_path_buf(), facts.host().state().to_path_buf()];
        let mut staged = effects.stage(&backup.path)?;
        let (produced, written) = self.pour(&mut staged, plan.estimate, effects, &own)?;
        let manifest = self.manifest(backup, &produced, &written, effects.run());
        publish(effects, &mut staged, &manifest, produced.globals.as_deref())?;
        for note in &produced.notes {
            facts.host().info(&format!("{}: {note}", backup.name));
        }
        for warning in &produced.warnings {
            facts.host().warn(&format!("{}: {warning}", backup.name));
        }
        Ok(Backup {
            size: Later::Now(written.size),
            raw_size: Later::Now(written.raw_size),
            sha256: Later::Now(Some(written.sha256.to_string())),
            complete: produced.unreadable.is_empty(),
            ..backup.clone()
        })
    }

    fn reconcile(was: &Was<Backup>, facts: &Facts) -> Result<Reconciled<Backup>, Failure> {
        let planned = was.output.clone().or_else(|| was.plan.forecast.clone().now());
        let Some(planned) = planned.filter(|_| was.begun) else { return Ok(Reconciled::NotDone) };
        let path = &planned.path;
        // The file gets its name last: without it nothing was published, and what is of another run is not ours.
        if !made_by(path, &was.run) {
            return Ok(Reconciled::NotDone);
        }
        let Some(Found { backup, manifest: Some(manifest), oddity }) = store::look(path)? else {
            return Ok(Reconciled::NotDone);
        };
        let control = Control { cancel: facts.cancel(), progress: &|_| {} };
        let (_, digest) = hash(&mut fs::open(path)?, path, control, &mut |_| Ok(()))?;
        if oddity.is_some() || digest.to_string() != manifest.sha256 {
            return Ok(Reconciled::InDoubt(format!(
                "`{}` is there, but it is not what the run wrote",
                facts.host().shown(path)
            )));
        }
        Ok(Reconciled::Done(Backup { verified: planned.verified, ..backup }))
    }
}

/// Whether a file is a backup that this run has published.
fn made_by(path: &Path, run: &str) -> bool {
    fs::exists(path).is_ok_and(|there| there)
        && store::read_manifest(path)
            .is_ok_and(|manifest| manifest.is_some_and(|manifest| manifest.run == run))
}

impl Save {
    /// A name that promises gzip where there is none would fail its verification, after all the work.
    fn refuse_misnamed(&self, facts: &Facts, name: &str) -> Result<(), Failure> {
        let is_gzip = match &self.source {
            _ if self.gzip.is_some() || !name.ends_with(".gz") => true,
            // A file may have been compressed before; one that the run has yet to make cannot be asked.
            BackupSource::File(file) => {
                let path = facts.absolute(&file.path);
                facts.view().path(&path) != Seen::AsIs || fs::is_gzip(&path)?
            }
            _ => false,
        };
        if is_gzip {
            return Ok(());
        }
        Err(Failure::new(Code::Usage, format!("a backup that is not compressed cannot be called `{name}`"))
            .hint(format!(
                "Compress it, `{}(...).gzip().save(...)`, or leave out `.gz`.",
                self.source.verb()
            )))
    }

    fn refuse_taken(&self, facts: &Facts, path: &Path) -> Result<(), Failure> {
        let predicted = facts.view().backups(path);
        if !predicted.is_empty() || facts.exists(path)? == Later::Now(true) {
            return Err(Failure::new(Code::Io, format!("`{}` exists already", path.display()))
                .hint("Lifeboat never overwrites a backup. Run again in a second, or move that file away."));
        }
        Ok(())
    }

    fn pour(
        &self,
        staged: &mut Staged,
        estimate: Option<u64>,
        effects: &Effects,
        own: &[PathBuf],
    ) -> Result<(Produced, Written), Failure> {
        let facts = effects.facts();
        let label = format!(
            "{} {}",
            self.source.verb(),
            staged.target().file_name().unwrap_or_default().to_string_lossy()
        );
        let progress = |done: u64| {
            facts.progress(Progress {
                label: label.clone(),
                done,
                total: estimate,
                unit: "bytes".to_owned(),
            });
        };
        let control = Control { cancel: facts.cancel(), progress: &progress };
        let stages = Stages { gzip: self.gzip, threads: effects.threads() };
        let source = |out: &mut dyn BlockSink| self.source.produce(effects, own, out);
        pour(source, &stages, &mut StagedOutput(staged), control)
    }

    /// Raw bytes of the newest backup of the same source and selection in the folder: the best estimate there is. Those that
    /// the new one is to be held against are remembered.
    fn last_raw_size(&self, facts: &Facts, path: &Path, sourced: &Sourced) -> Result<Option<u64>, Failure> {
        // Some may be gone when the new one is there.
        const LIKE: usize = 2 * HISTORY;
        let Later::Now(source) = &sourced.source else { return Ok(None) };
        let dir = path.parent().unwrap_or(Path::new("/"));
        let selection = self.source.selection();
        let class = |backup: &Backup| {
            let is_like = backup.source == *source && backup.selection == selection;
            is_like.then(|| usize::from(backup.tag != self.options.tag))
        };
        let now = facts.host().clock().instant();
        let listing = Listing::read(dir)?;
        let Later::Now(all) = facts.newest_in(&listing, &[LIKE, 1], class) else { return Ok(None) };
        let like: Vec<&Backup> = all.iter().filter(|backup| class(backup) == Some(0)).collect();
        facts.host().before().keep(path, now, &like, LIKE);
        Ok(all.iter().rev().find_map(|backup| backup.raw_size.as_now().copied()))
    }

    fn manifest(&self, backup: &Backup, produced: &Produced, written: &Written, run: &str) -> Manifest {
        let mut tables = produced.tables.clone();
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        Manifest {
            version: MANIFEST_VERSION,
            file: backup.name.clone(),
            content: backup.content,
            source: backup.source.clone(),
            selection: backup.selection.clone(),
            tag: backup.tag.clone(),
            created: backup.created,
            run: run.to_owned(),
            size: written.size,
            raw_size: written.raw_size,
            sha256: written.sha256.to_string(),
            compression: if self.gzip.is_some() { "gzip" } else { "none" }.to_owned(),
            members: written.members,
            lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
            pg_dump: produced.pg_dump.clone(),
            server: produced.server.clone(),
            recovery_point: produced.recovery_point.clone(),
            properties: produced.properties.clone(),
            globals: produced.globals.as_ref().map(|sql| Globals {
                size: sql.len() as u64,
                sha256: Digest::of_bytes(sql.as_bytes()).to_string(),
            }),
            tables,
            entries: produced.entries,
            unreadable: produced.unreadable.clone(),
            verified: None,
            drilled: None,
        }
    }
}

/// Writes the sidecars, then gives the backup its name; a failure takes the sidecars away again. The staged file outlives
/// them: it is what tells a later run whose they are.
fn publish(
    effects: &Effects,
    staged: &mut Staged,
    manifest: &Manifest,
    globals: Option<&str>,
) -> Result<(), Failure> {
    let path = staged.target().to_path_buf();
    let json = serde_json::to_vec_pretty(manifest)
        .map_err(|error| Failure::new(Code::Internal, "cannot write the manifest").caused_by(error))?;
    let mut sidecars = vec![
        (store::sidecar(&path, ".json"), json),
        (store::sidecar(&path, ".sha256"), store::sha256_line(&manifest.file, &manifest.sha256).into_bytes()),
    ];
    sidecars.extend(globals.map(|sql| (store::sidecar(&path, ".globals.sql"), sql.as_bytes().to_vec())));
    let mut written = Vec::new();
    let result = sidecars.iter().try_for_each(|(at, content)| {
        effects.write_new(at, content)?;
        written.push(at.clone());
        Ok(())
    });
    let result = result.and_then(|()| effects.publish(staged));
    // What has its name in spite of the failure keeps its sidecars too.
    if result.is_err() && !staged.has_name() {
        for at in &written {
            effects.withdraw(at);
        }
    }
    result
}
