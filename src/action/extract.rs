//! `extract`: puts the files of an archive in their place.
//!
//! The archive is verified and read without writing; what differs from the tree is the plan. Then it is read once more
//! into a folder of no meaning in the tree, hashed on the way, and compared again. Only if these were the bytes that were
//! verified, and the tree is the one that was planned for, do the files change places with what they replace, which is
//! kept. A run that is killed leaves the one or the other under every name; running the same again finishes it.

use crate::action::replaced::{asks, clean, listed};
use crate::action::source::canonical;
use crate::action::{Action, Recorded};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs;
use crate::sys::kept::{self, Change, Comparison, INDEX_VERSION, Index, Kept, State, compare};
use crate::sys::proof::{Checksum, Proof, prove};
use crate::sys::stream::Control;
use crate::sys::tree::Selection;
use crate::sys::untar::{self, Contents, Limits, Name, Nowhere, Sink, shown};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What of an archive is extracted, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Patterns of what to take; everything if there are none.
    pub only: Vec<String>,
    /// Patterns of what to leave out.
    pub except: Vec<String>,
    /// Gives files the owner that the archive names, by number; only root can.
    pub owner: bool,
    /// Do not compare the SHA-256; all other checks are made, and a person must agree.
    pub skip_checksum: bool,
    /// How much the archive may hold.
    pub limits: Limits,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        let limits = Limits { size: 8 << 30, entries: 100_000, ratio: 200 };
        Self { only: Vec::new(), except: Vec::new(), owner: false, skip_checksum: false, limits }
    }
}

/// Extracts an archive.
#[derive(Clone, Debug)]
pub struct Extract {
    /// The archive.
    pub path: PathBuf,
    /// Where its files go; made if it is not there.
    pub dir: PathBuf,
    /// What of it, and how.
    pub options: ExtractOptions,
}

/// What was extracted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extracted {
    /// The archive.
    pub backup: PathBuf,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Where its files went.
    pub dir: PathBuf,
    /// How many entries were not there.
    pub added: u64,
    /// How many replaced something.
    pub changed: u64,
    /// How many were there already.
    pub same: u64,
    /// How many files and folders the archive does not hold, and were left alone.
    pub others: u64,
    /// The folder that keeps what was replaced, for `rollback_files`; nothing if nothing was.
    pub kept: Later<Option<PathBuf>>,
    /// What was new or changed, by name.
    pub changes: Vec<Change>,
}

impl Extracted {
    fn of(backup: &Path, sha256: String, dir: &Path, comparison: Comparison) -> Self {
        let new = comparison.changes.iter().filter(|change| change.is_new()).count() as u64;
        let changed = comparison.changes.len() as u64 - new;
        Self {
            backup: backup.to_path_buf(),
            sha256,
            dir: dir.to_path_buf(),
            added: new,
            changed,
            same: comparison.same,
            others: comparison.others,
            kept: if comparison.changes.is_empty() { Later::Now(None) } else { Later::AfterRun },
            changes: comparison.changes,
        }
    }

    fn counts(&self) -> String {
        let Self { added, changed, same, others, .. } = self;
        let others = match others {
            0 => String::new(),
            1 => "; 1 other is left alone".to_owned(),
            n => format!("; {n} others are left alone"),
        };
        format!("{added} new, {changed} changed, {same} the same{others}")
    }
}

impl Recorded for Extracted {
    fn summary(&self) -> String {
        let name = self.backup.file_name().unwrap_or_default().to_string_lossy();
        format!("extracted {name}: {}", self.counts())
    }
}

impl Action for Extract {
    const NAME: &'static str = "extract";
    type Output = Extracted;

    fn plan(&self, facts: &Facts) -> Result<Plan<Extracted>, Failure> {
        let path = facts.absolute(&self.path);
        let dir = fs::resolved(&facts.absolute(&self.dir));
        let selection = self.selection()?;
        if self.options.owner && !fs::is_root() {
            return Err(Failure::new(
                Code::Usage,
                "only root can give files the owner that an archive names",
            )
            .hint("Leave out `owner`, or run Lifeboat as root."));
        }
        let into = format!("extract `{}` into `{}`", facts.host().shown(&path), facts.host().shown(&dir));
        if let Some(unknown) = self.unknown(facts, &path, &dir)? {
            let mut plan = Plan::new(into, Effect::Replace, Later::AfterRun);
            plan.unknown.push(unknown.to_owned());
            plan.needs = vec![Need::Read(path), Need::Restore(dir.clone())];
            plan.touches.push(Touch::Changed(Target::Path(dir)));
            return Ok(plan);
        }
        is_archive(&path)?;
        let mut details = Vec::new();
        let (contents, comparison, resumed) = match self.half_done(&dir, &path)? {
            Some(kept) => (None, shown_before(&kept.index), Some(kept)),
            None => {
                let (contents, compared) = self.verified(facts, &path, &selection)?;
                if !compared {
                    details.push("its SHA-256 is not compared with any record".to_owned());
                }
                let own = [facts.host().state().to_path_buf()];
                let comparison = compare(&dir, &contents.items, &own, self.options.owner)?;
                (Some(contents), comparison, None)
            }
        };
        let sha256 = match (&contents, &resumed) {
            (Some(contents), _) => contents.sha256.to_string(),
            (None, kept) => kept.as_ref().map(|kept| kept.index.sha256.clone()).unwrap_or_default(),
        };
        let mut extracted = Extracted::of(&path, sha256, &dir, comparison);
        match &resumed {
            Some(kept) => {
                details.push(format!("goes on where run {} was killed", kept.index.run));
                extracted.kept = Later::Now(Some(kept.path()));
            }
            None => self.room(facts, &dir, &extracted)?,
        }
        details.extend(listed(&extracted.changes));
        let effect = if extracted.changed > 0 { Effect::Replace } else { Effect::Create };
        let mut plan =
            Plan::new(format!("{into}: {}", extracted.counts()), effect, Later::Now(extracted.clone()));
        plan.identity = Some(self.identity(&extracted));
        plan.details = details;
        let unchecked = self.options.skip_checksum && resumed.is_none();
        let shown = facts.host().shown(&path);
        let unchecked = unchecked.then(|| format!("Extract `{shown}` without comparing its SHA-256?"));
        let questions: Vec<String> =
            unchecked.into_iter().chain(asks(facts, &dir, &extracted.changes)).collect();
        plan.confirm = (!questions.is_empty()).then(|| questions.join(" "));
        plan.needs = vec![Need::Read(path), Need::Restore(dir.clone())];
        plan.locks.push(Target::Path(dir.clone()));
        for change in &extracted.changes {
            let at = dir.join(&change.name.0);
            plan.needs.push(Need::Restore(at.clone()));
            plan.touches.push(if change.is_new() {
                Touch::PathMade(at)
            } else {
                Touch::Changed(Target::Path(at))
            });
        }
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<Extracted>, effects: &Effects) -> Result<Extracted, Failure> {
        let Later::Now(planned) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`extract` was planned without knowing the archive"));
        };
        let dir = &planned.dir;
        effects.create_dir(dir)?;
        effects.lock_folder(dir)?;
        clean(effects, dir)?;
        if planned.changes.is_empty() {
            return Ok(planned.clone());
        }
        let name = planned.backup.file_name().unwrap_or_default().to_string_lossy();
        if self.options.skip_checksum {
            let host = effects.facts().host();
            host.warn(&format!("{name} is extracted without comparing its SHA-256"));
        }
        let mut kept = match self.half_done(dir, &planned.backup)? {
            Some(mut kept) => {
                let intent = effects.intend(&format!("finish replacing files in {}", dir.display()))?;
                effects.finish_exchange(&intent, &mut kept)?;
                return Ok(Extracted { kept: Later::Now(Some(kept.path())), ..planned.clone() });
            }
            None => self.staged(planned, effects)?,
        };
        let (new, changed) = (planned.added, planned.changed);
        let intent = format!(
            "replace {changed} and make {new} in {} from {name}, keeping what was there in {}",
            dir.display(),
            kept.path().display()
        );
        let result = effects.intend(&intent).and_then(|intent| effects.put_forward(&intent, &mut kept));
        if let Err(failure) = result {
            effects.withdraw_tree(&kept);
            return Err(failure);
        }
        Ok(Extracted { kept: Later::Now(Some(kept.path())), ..planned.clone() })
    }

    fn reconcile(was: &Was<Extracted>, _: &Facts) -> Result<Reconciled<Extracted>, Failure> {
        let Later::Now(planned) = &was.plan.forecast else { return Ok(Reconciled::NotDone) };
        // A run may extract more than one part of an archive.
        let is_it = |kept: &Kept| {
            let index = &kept.index;
            index.run == was.run && index.sha256 == planned.sha256 && index.changes == planned.changes
        };
        let Some(kept) = kept::list(&planned.dir)?.into_iter().find(is_it) else {
            // Either nothing was replaced, or nothing of it is kept any more: comparing again does no harm.
            return Ok(Reconciled::NotDone);
        };
        let at = kept.path();
        Ok(match kept.state {
            State::Staging | State::Swapping => Reconciled::NotDone,
            State::Undoing | State::Undone => Reconciled::InDoubt(format!(
                "what was extracted into `{}` was rolled back since",
                planned.dir.display()
            )),
            State::Swapped => match kept.first_difference()? {
                None => Reconciled::Done(Extracted { kept: Later::Now(Some(at)), ..planned.clone() }),
                Some(path) => {
                    Reconciled::InDoubt(format!("`{}` was changed after it was extracted", path.display()))
                }
            },
        })
    }
}

impl Extract {
    fn selection(&self) -> Result<Selection, Failure> {
        Selection::new(&self.options.only, &self.options.except)
    }

    fn selected(&self) -> Option<String> {
        canonical(&[("only", &self.options.only), ("except", &self.options.except)])
    }

    /// What tells this extraction from others; how much of it is there already does not.
    fn identity(&self, planned: &Extracted) -> String {
        let selected = self.selected().unwrap_or_default();
        let owner = if self.options.owner { " with owners" } else { "" };
        let (backup, dir) = (planned.backup.display(), planned.dir.display());
        format!("{backup} {} into {dir}{owner} {selected}", planned.sha256)
    }

    /// What only the run will tell.
    fn unknown(&self, facts: &Facts, path: &Path, dir: &Path) -> Result<Option<&'static str>, Failure> {
        match facts.view().path(path) {
            Seen::AsIs if fs::exists(path)? => {}
            Seen::AsIs | Seen::Gone => {
                let parent = path.parent().map(|dir| facts.host().shown(dir)).unwrap_or_default();
                return Err(Failure::new(Code::NotFound, format!("there is no backup `{}`", path.display()))
                    .hint(format!("`lifeboat backups {parent}` lists what is there.")));
            }
            Seen::Made => return Ok(Some("which files change: the archive is made by this run")),
            Seen::Unknown => {
                return Ok(Some("which files change: an earlier command may change the archive"));
            }
        }
        let touched = facts.view().is_touched(&Target::Path(dir.to_path_buf()));
        Ok(touched.then_some("which files change: an earlier action changes the folder"))
    }

    /// A killed run's extraction of the same archive that is between two places; another one is in the way.
    fn half_done(&self, dir: &Path, path: &Path) -> Result<Option<Kept>, Failure> {
        let Some(kept) = kept::list(dir)?.into_iter().find(Kept::is_half_done) else { return Ok(None) };
        let is_same = kept.index.backup.0 == path && kept.index.selection == self.selected();
        if is_same && kept.state == State::Swapping {
            return Ok(Some(kept));
        }
        let name = kept.index.backup.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let doing = if kept.state == State::Swapping { "extracting" } else { "rolling back" };
        Err(Failure::new(Code::Io, format!("the files in `{}` are half replaced", dir.display()))
            .caused_by(format!("run {} was killed while {doing} `{name}`", kept.index.run))
            .hint(format!(
                "Finish that first: run the same again, or `lifeboat rollback {}`.",
                kept.index.run
            )))
    }

    fn read(
        &self,
        facts: &Facts,
        path: &Path,
        selection: &Selection,
        sink: &mut dyn Sink,
    ) -> Result<Contents, Failure> {
        let total = fs::size(path)?;
        let label = format!("extract {}", path.file_name().unwrap_or_default().to_string_lossy());
        let progress = |done: u64| {
            let progress =
                Progress { label: label.clone(), done, total: Some(total), unit: "bytes".to_owned() };
            facts.progress(progress);
        };
        let control = Control { cancel: facts.cancel(), progress: &progress };
        untar::read(path, selection, self.options.limits, control, sink)
    }

    /// What the archive holds, if it is safe and intact, and whether its SHA-256 was compared. It is read before it is proved, since proving inflates all of it,
    /// however much that is.
    fn verified(
        &self,
        facts: &Facts,
        path: &Path,
        selection: &Selection,
    ) -> Result<(Contents, bool), Failure> {
        let read = self.read(facts, path, selection, &mut Nowhere);
        if let Err(failure) = &read
            && failure.code != Code::NotIntact
        {
            return Err(failure.clone());
        }
        let checksum = if self.options.skip_checksum { Checksum::Skipped } else { Checksum::IfThere };
        let Proof { verification, compared, .. } = prove(facts, path, checksum)?;
        if !verification.intact {
            let failure = Failure::new(Code::NotIntact, format!("`{}` is not intact", verification.name));
            let parent = path.parent().map(|dir| facts.host().shown(dir)).unwrap_or_default();
            let mut failure = failure.hint(format!(
                "Nothing was extracted. `lifeboat backups {parent} --verified` lists the intact ones."
            ));
            failure.causes = verification.problems;
            return Err(failure);
        }
        let contents = read?;
        if contents.sha256.to_string() != verification.sha256 {
            return Err(has_changed(path));
        }
        if contents.items.is_empty() {
            let failure = Failure::new(
                Code::NotFound,
                format!("nothing of `{}` is to be extracted", verification.name),
            );
            return Err(failure.caused_by(format!("none of its {} entries is meant", contents.entries)).hint(
                "Check `only` and `except`: patterns are relative to the archive's root, and `**/` stands for any depth.",
            ));
        }
        Ok((contents, compared))
    }

    /// Writes what differs aside, from the very bytes that were verified, if the tree is still the one of the plan.
    fn staged(&self, planned: &Extracted, effects: &Effects) -> Result<Kept, Failure> {
        let facts = effects.facts();
        let wanted = planned.changes.iter().map(|change| change.name.0.clone()).collect();
        let mut staging = effects.stage_tree(&planned.dir, wanted)?;
        let contents = self.read(facts, &planned.backup, &self.selection()?, &mut staging)?;
        if contents.sha256.to_string() != planned.sha256 {
            return Err(has_changed(&planned.backup));
        }
        let own = [facts.host().state().to_path_buf()];
        let now = compare(&planned.dir, &contents.items, &own, self.options.owner)?;
        if now.changes != planned.changes {
            let other = |change: &&Change| !planned.changes.contains(change);
            let first = now.changes.iter().find(other).or_else(|| planned.changes.first());
            let first = first.map(|change| shown(&change.name.0)).unwrap_or_default();
            let dir = planned.dir.display();
            return Err(Failure::new(
                Code::Io,
                format!("the files in `{dir}` have changed since the plan was made"),
            )
            .caused_by(format!("`{first}` is not what it was"))
            .hint("Nothing was replaced. Run it again: it then shows what is there now."));
        }
        let index = Index {
            version: INDEX_VERSION,
            run: effects.run().to_owned(),
            created: facts.began().fixed_offset(),
            backup: Name(planned.backup.clone()),
            sha256: planned.sha256.clone(),
            selection: self.selected(),
            changes: planned.changes.clone(),
            same: planned.same,
            others: planned.others,
            entries: Vec::new(),
            folders: Vec::new(),
        };
        staging.complete(&contents.items, index, self.options.owner)
    }

    /// Whether there is room for what is new, and every folder can be written in.
    fn room(&self, facts: &Facts, dir: &Path, extracted: &Extracted) -> Result<(), Failure> {
        let mut folders: Vec<PathBuf> = extracted
            .changes
            .iter()
            .filter_map(|change| dir.join(&change.name.0).parent().map(Path::to_path_buf))
            .collect();
        folders.dedup();
        for folder in &folders {
            if let Some(obstacle) = fs::obstacle_to_writing(folder)? {
                return Err(Failure::new(Code::Io, format!("cannot write in `{}`", folder.display()))
                    .caused_by(obstacle)
                    .hint("Nothing was written. Give the user that runs Lifeboat access, or extract into another folder."));
            }
        }
        let needed: u64 = extracted.changes.iter().map(|change| change.after).sum();
        let space = facts.disk_space(dir)?;
        if needed > space.available {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let mut failure = Failure::io("extract into", dir, &full);
            failure.causes = vec![format!(
                "{} are needed, {} are free",
                units::bytes(needed),
                units::bytes(space.available)
            )];
            return Err(failure);
        }
        Ok(())
    }
}

/// The archive's bytes are not those that were verified.
fn has_changed(path: &Path) -> Failure {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Failure::new(Code::NotIntact, format!("`{name}` has changed since it was verified"))
        .hint("Nothing was replaced. Find out who writes it, verify it, and extract it then.")
}

/// What a killed run showed of the extraction that is finished now.
fn shown_before(index: &Index) -> Comparison {
    Comparison { changes: index.changes.clone(), same: index.same, others: index.others }
}

/// Refuses what is plainly something else than a tar archive.
fn is_archive(path: &Path) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let head = fs::head(path, 8)?;
    let magics: [(&[u8], &str); 6] = [
        (b"PK\x03\x04", "a zip archive"),
        (b"BZh", "compressed by bzip2"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
        (b"7z\xbc\xaf", "a 7z archive"),
        (b"PGDMP", "a dump in PostgreSQL's own format"),
    ];
    let found = magics.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what);
    let sql = name.ends_with(".sql") || name.ends_with(".sql.gz");
    match found.or_else(|| sql.then_some("a dump of a database")) {
        None => Ok(()),
        Some(what) => Err(Failure::new(Code::Usage, format!("`{name}` cannot be extracted"))
            .caused_by(format!("it is {what}"))
            .hint("`extract` reads tar archives, as they are or compressed by gzip; `restore` reads dumps.")),
    }
}
