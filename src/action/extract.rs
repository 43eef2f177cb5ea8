//! `extract`: puts the files of an archive in their place.
//!
//! The archive is verified and read without writing; what differs from the tree is the plan. Then it is read once more
//! into a folder of no meaning in the tree, hashed on the way, and compared again. Only if these were the bytes that were
//! verified, and the tree is the one that was planned for, do the files change places with what they replace, which is
//! kept. A run that is killed leaves the one or the other under every name; running the same again finishes it.

use crate::action::replaced::{asks, clean, listed, name_each};
use crate::action::source::canonical;
use crate::action::{Action, Recorded};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs;
use crate::sys::kept::{self, About, Against, Changes, Comparison, Index, Kept, Staging, State, compare};
use crate::sys::proof::{Checksum, Proof, prove_while};
use crate::sys::spill::Rows;
use crate::sys::stream::{Control, Digest, hash};
use crate::sys::tree::Selection;
use crate::sys::untar::{self, Contents, Item, Limits, Name, Nowhere, Wanted, shown};
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
        let limits = Limits { size: 8 << 30, entries: 1_000_000, ratio: 200 };
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
    /// What was new or changed, by name; of very many, only the first are written down.
    pub changes: Changes,
    /// What this rests on, for its execution.
    #[serde(skip)]
    found: Found,
}

/// What the archive was found to hold, and how that differs. It is as long as the archive, and no part of any record.
#[derive(Clone, Debug, Default)]
struct Found {
    items: Rows<Item>,
    comparison: Comparison,
}

impl PartialEq for Found {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Extracted {
    fn of(backup: &Path, sha256: String, dir: &Path, found: Found) -> Self {
        let Comparison { changes, same, others, .. } = &found.comparison;
        Self {
            backup: backup.to_path_buf(),
            sha256,
            dir: dir.to_path_buf(),
            added: changes.new_ones(),
            changed: changes.len() - changes.new_ones(),
            same: *same,
            others: *others,
            kept: if changes.is_empty() { Later::Now(None) } else { Later::AfterRun },
            changes: changes.clone(),
            found,
        }
    }

    /// The same, without what only its execution needs.
    fn done(&self, kept: Later<Option<PathBuf>>) -> Self {
        Self { kept, found: Found::default(), ..self.clone() }
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
        untar::check_kind(&path)?;
        let mut details = Vec::new();
        let sha256 = || {
            let hashed =
                reading(facts, &path, |control| hash(fs::open(&path)?, &path, control, &mut |_| Ok(())));
            hashed.map(|(_, digest)| digest.to_string())
        };
        let resumed = self.half_done(&dir, &path, sha256)?;
        let (sha256, found) = match &resumed {
            // What a killed run showed of the extraction that is finished now.
            Some(kept) => {
                let Index { sha256, same, others, .. } = &kept.index;
                let changes = kept.changes()?;
                let comparison =
                    Comparison { changes, same: *same, others: *others, ..Comparison::default() };
                (sha256.clone(), Found { comparison, ..Found::default() })
            }
            None => {
                let (contents, compared) = self.verified(facts, &path, &selection)?;
                if !compared {
                    details.push("its SHA-256 is not compared with any record".to_owned());
                }
                let comparison = self.compared(facts, &dir, &contents.items)?;
                (contents.sha256.to_string(), Found { items: contents.items, comparison })
            }
        };
        let mut extracted = Extracted::of(&path, sha256, &dir, found);
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
            unchecked.into_iter().chain(asks(facts, &dir, &extracted.changes)?).collect();
        plan.confirm = (!questions.is_empty()).then(|| questions.join(" "));
        plan.needs = vec![Need::Read(path), Need::Restore(dir.clone())];
        plan.locks.push(Target::Path(dir.clone()));
        name_each(&mut plan, facts, &dir, &extracted.changes, |change, at| match change.is_new() {
            true => Touch::PathMade(at),
            false => Touch::Changed(Target::Path(at)),
        })?;
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
            return Ok(planned.done(planned.kept.clone()));
        }
        let name = planned.backup.file_name().unwrap_or_default().to_string_lossy();
        if self.options.skip_checksum {
            let host = effects.facts().host();
            host.warn(&format!("{name} is extracted without comparing its SHA-256"));
        }
        let mut kept = match self.half_done(dir, &planned.backup, || Ok(planned.sha256.clone()))? {
            Some(mut kept) => {
                let intent = effects.intend(&format!("finish replacing files in {}", dir.display()))?;
                effects.finish_exchange(&intent, &mut kept)?;
                return Ok(planned.done(Later::Now(Some(kept.path()))));
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
            effects.withdraw_tree(kept);
            return Err(failure);
        }
        Ok(planned.done(Later::Now(Some(kept.path()))))
    }

    fn reconcile(was: &Was<Extracted>, _: &Facts) -> Result<Reconciled<Extracted>, Failure> {
        let Later::Now(planned) = &was.plan.forecast else { return Ok(Reconciled::NotDone) };
        // A run may extract more than one part of an archive.
        let mut found = None;
        for kept in kept::list(&planned.dir)? {
            if kept.index.run != was.run || kept.index.sha256 != planned.sha256 {
                continue;
            }
            let changes = kept.changes()?;
            if changes.len() == planned.added + planned.changed && changes.told() == planned.changes.told() {
                found = Some(kept);
                break;
            }
        }
        let Some(kept) = found else {
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
                None => Reconciled::Done(planned.done(Later::Now(Some(at)))),
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

    /// A killed run's extraction of the same archive, whose digest `sha256` tells, that is between two places; another one is in
    /// the way.
    fn half_done(
        &self,
        dir: &Path,
        path: &Path,
        sha256: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<Option<Kept>, Failure> {
        let Some(kept) = kept::half_done(dir)? else { return Ok(None) };
        let Index { run, backup, selection, .. } = &kept.index;
        let is_forward = kept.state == State::Swapping;
        let is_same = is_forward && backup.0 == path && *selection == self.selected();
        if is_same && sha256()? == kept.index.sha256 {
            return Ok(Some(kept));
        }
        let name = backup.0.file_name().unwrap_or_default().to_string_lossy();
        let doing = if is_forward { "extracting" } else { "rolling back" };
        let failure = Failure::new(Code::Io, format!("the files in `{}` are half replaced", dir.display()))
            .caused_by(format!("run {run} was killed while {doing} `{name}`"));
        Err(if is_same {
            failure.caused_by(format!("`{name}` is not the one that it was extracting any more")).hint(
                format!("Put back what it had replaced: `lifeboat rollback {run}`. Then run the same again."),
            )
        } else {
            failure.hint(format!("Finish that first: run the same again, or `lifeboat rollback {run}`."))
        })
    }

    /// How the archive differs from the tree.
    fn compared(&self, facts: &Facts, dir: &Path, items: &Rows<Item>) -> Result<Comparison, Failure> {
        let against = Against { root: dir, own: facts.host().state(), owner: self.options.owner };
        compare(items, against, facts.cancel())
    }

    /// What the archive holds, if it is safe and intact, and whether its SHA-256 was compared. It is read while it is proved,
    /// which ends where it is not safe, since proving inflates all of it, however much that is.
    fn verified(
        &self,
        facts: &Facts,
        path: &Path,
        selection: &Selection,
    ) -> Result<(Contents, bool), Failure> {
        let checksum = if self.options.skip_checksum { Checksum::Skipped } else { Checksum::IfThere };
        let list = Some(facts.host().state());
        let wanted = Wanted { selection, limits: self.options.limits, sink: &Nowhere, list };
        let (proof, read) = untar::read_while(path, wanted, facts.cancel(), |consume| {
            prove_while(facts, path, checksum, consume)
        })?;
        if let Err(failure) = &read
            && failure.code != Code::NotIntact
        {
            return Err(failure.clone());
        }
        let Proof { verification, compared, .. } = proof?;
        if !verification.intact {
            let failure = Failure::new(Code::NotIntact, format!("`{}` is not intact", verification.name));
            let parent = path.parent().map(|dir| facts.host().shown(dir)).unwrap_or_default();
            let mut failure = failure.hint(format!(
                "Nothing was extracted. `lifeboat backups {parent} --verified` lists the intact ones."
            ));
            failure.causes = verification.problems;
            return Err(failure);
        }
        let (items, entries) = read?;
        let sha256 = Digest::parse(&verification.sha256).ok_or_else(|| has_changed(path))?;
        let contents = Contents { items, sha256, entries };
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
        let Found { items, comparison } = &planned.found;
        let staging = effects.stage_tree(&planned.dir, comparison, self.options.owner)?;
        if self.written(facts, &planned.backup, &staging)?.to_string() != planned.sha256 {
            return Err(has_changed(&planned.backup));
        }
        let now = self.compared(facts, &planned.dir, items)?.changes;
        if let Some(first) = now.first_difference(&planned.changes)? {
            let dir = planned.dir.display();
            return Err(Failure::new(
                Code::Io,
                format!("the files in `{dir}` have changed since the plan was made"),
            )
            .caused_by(format!("`{}` is not what it was", shown(&first)))
            .hint("Nothing was replaced. Run it again: it then shows what is there now."));
        }
        drop(now);
        let about = About {
            run: effects.run().to_owned(),
            created: facts.began().fixed_offset(),
            backup: Name(planned.backup.clone()),
            sha256: planned.sha256.clone(),
            selection: self.selected(),
            same: planned.same,
            others: planned.others,
        };
        staging.complete(items, about, facts.cancel())
    }

    /// Reads the archive once more and writes what of it differs; returns its SHA-256. What else its bytes hold is known, if they
    /// are those that were verified.
    fn written(&self, facts: &Facts, path: &Path, staging: &Staging) -> Result<Digest, Failure> {
        let selection = &self.selection()?;
        let wanted = Wanted { selection, limits: self.options.limits, sink: staging, list: None };
        reading(facts, path, |control| untar::read(path, wanted, control)).map(|contents| contents.sha256)
    }

    /// Whether there is room for what is new, and every folder can be written in.
    fn room(&self, facts: &Facts, dir: &Path, extracted: &Extracted) -> Result<(), Failure> {
        let mut last = None;
        for change in extracted.changes.iter() {
            let name = change?.name.0;
            let Some(folder) = name.parent().filter(|folder| last.as_deref() != Some(*folder)) else {
                continue;
            };
            let at = if folder.as_os_str().is_empty() { dir.to_path_buf() } else { dir.join(folder) };
            if let Some(obstacle) = fs::obstacle_to_writing(&at)? {
                return Err(Failure::new(Code::Io, format!("cannot write in `{}`", at.display()))
                    .caused_by(obstacle)
                    .hint("Nothing was written. Give the user that runs Lifeboat access, or extract into another folder."));
            }
            last = Some(folder.to_path_buf());
        }
        let needed = extracted.found.comparison.room;
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

/// Goes through a file, and tells how far it is.
fn reading<T>(
    facts: &Facts,
    path: &Path,
    read: impl FnOnce(Control<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let total = Some(fs::size(path)?);
    let label = format!("extract {}", path.file_name().unwrap_or_default().to_string_lossy());
    let progress = |done: u64| {
        facts.progress(Progress { label: label.clone(), done, total, unit: "bytes".to_owned() });
    };
    read(Control { cancel: facts.cancel(), progress: &progress })
}
