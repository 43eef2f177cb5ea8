//! `rotate`: removes the backups of a folder that no retention rule keeps.

use crate::action::{Action, Recorded, leftovers};
use crate::base::backup::{Backup, Manifest};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::base::retention::{Keep, Removal, RetentionPlan, plan as retention};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::spread;
use crate::sys::store::{self, Catalog, Found, Listing};
use crate::sys::stream::{Control, hash};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// The remedy when a proof cannot be relied on.
const VERIFY_AGAIN: &str = "Run `lifeboat run verify_backups`, then rotate again.";

/// Which backups of a folder are rotated, and what is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotateOptions {
    /// Only backups with this tag; without it every tag is rotated by the same rules, each on its own.
    pub tag: Option<String>,
    /// The newest so many stay.
    pub keep_last: Option<u32>,
    /// The newest of each of so many hours stays.
    pub keep_hourly: Option<u32>,
    /// The newest of each of so many days stays.
    pub keep_daily: Option<u32>,
    /// The newest of each of so many weeks stays.
    pub keep_weekly: Option<u32>,
    /// The newest of each of so many months stays.
    pub keep_monthly: Option<u32>,
    /// The newest of each of so many years stays.
    pub keep_yearly: Option<u32>,
    /// What is younger than so many days stays.
    pub keep_days: Option<u32>,
}

impl RotateOptions {
    /// The retention rules among the options.
    pub fn keep(&self) -> Keep {
        Keep {
            keep_last: self.keep_last,
            keep_hourly: self.keep_hourly,
            keep_daily: self.keep_daily,
            keep_weekly: self.keep_weekly,
            keep_monthly: self.keep_monthly,
            keep_yearly: self.keep_yearly,
            keep_days: self.keep_days,
        }
    }
}

/// Rotates the backups of a folder.
#[derive(Clone, Debug)]
pub struct Rotate {
    /// The folder.
    pub dir: PathBuf,
    /// What is kept.
    pub options: RotateOptions,
}

/// What rotation removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// What went, oldest first.
    pub removed: Vec<Removal>,
    /// How many backups stayed.
    pub kept: u64,
    /// Bytes of the backups that went.
    pub freed: u64,
}

impl Recorded for Rotated {
    fn summary(&self) -> String {
        let backups = if self.removed.len() == 1 { "backup" } else { "backups" };
        format!("removed {} {backups} ({}), kept {}", self.removed.len(), units::bytes(self.freed), self.kept)
    }
}

impl Action for Rotate {
    const NAME: &'static str = "rotate";
    type Output = Rotated;

    fn plan(&self, facts: &Facts) -> Result<Plan<Rotated>, Failure> {
        let keep = self.options.keep();
        if !keep.keeps_something() {
            return Err(Failure::new(Code::Usage, "`rotate` needs a rule that keeps something")
                .hint("Give at least one of keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly and keep_days, above 0."));
        }
        let dir = facts.absolute(&self.dir);
        let shown = facts.host().shown(&dir);
        let scope = self.options.tag.as_ref().map(|tag| format!(" tagged `{tag}`")).unwrap_or_default();
        let listing = Listing::read(&dir)?;
        let Later::Now(all) = facts.backups_in(&listing, Catalog::Cached(facts.host().state())) else {
            let mut plan = Plan::new(
                format!("rotate backups{scope} in `{shown}`, keeping {}", keep.describe()),
                Effect::Destroy,
                Later::AfterRun,
            );
            plan.unknown.push("which backups go: an earlier command may change the folder".to_owned());
            plan.needs.push(Need::Write(dir.clone()));
            plan.touches.push(Touch::Changed(Target::Path(dir)));
            return Ok(plan);
        };
        let mut chosen = self.choose(all, &keep, facts);
        // What goes, goes by what its files say, not by what a cache says that they said.
        if !chosen.is_current(facts)
            && let Later::Now(all) = facts.backups_in(&listing, Catalog::Files)
        {
            chosen = self.choose(all, &keep, facts);
        }
        let Chosen { mut result, foreign, .. } = chosen;
        let mut details = Vec::new();
        if facts.host().is_troubled() {
            details.push("nothing goes: a part of this run has failed".to_owned());
            let spared = std::mem::take(&mut result.remove);
            result
                .keep
                .extend(spared.into_iter().map(|removal| (removal.path, "a part of this run has failed")));
        }
        let freed = result.remove.iter().map(|removal| removal.size).sum();
        details.extend(result.remove.iter().map(|removal| {
            format!(
                "remove {} ({}), since {} is newer and verified",
                removal.name,
                units::bytes(removal.size),
                removal.proof.file_name().unwrap_or_default().to_string_lossy()
            )
        }));
        let left = listing.leftovers("")?;
        if !left.is_empty() {
            details.push(format!("remove what killed runs left: {}", leftovers::names(&left)));
        }
        if foreign > 0 {
            details.push(format!("{foreign} without a manifest are left alone"));
        }
        let output = Rotated { kept: result.keep.len() as u64, freed, removed: result.remove };
        let mut plan = Plan::new(
            format!(
                "rotate backups{scope} in `{shown}`, keeping {}: {} go, {} stay",
                keep.describe(),
                output.removed.len(),
                output.kept
            ),
            Effect::Destroy,
            Later::Now(output.clone()),
        );
        plan.details = details;
        plan.needs.push(Need::Write(dir.clone()));
        plan.locks.push(Target::Path(dir));
        plan.touches.extend(output.removed.into_iter().map(|removal| Touch::PathGone(removal.path)));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<Rotated>, effects: &Effects) -> Result<Rotated, Failure> {
        let Later::Now(planned) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`rotate` was planned without knowing the folder"));
        };
        leftovers::clean(effects, &effects.facts().absolute(&self.dir), None)?;
        if effects.facts().host().is_troubled() {
            effects.facts().host().info("rotation removes nothing: a part of this run has failed");
        }
        if planned.removed.is_empty() {
            return Ok(planned.clone());
        }
        self.prove(&planned.removed, effects.facts())?;
        let names: Vec<&str> = planned.removed.iter().map(|removal| removal.name.as_str()).collect();
        let intent = effects.intend(&format!("remove {}", names.join(", ")))?;
        for removal in &planned.removed {
            effects.facts().cancel().check()?;
            self.proof(removal)?;
            effects.remove_backup(&intent, &removal.path)?;
        }
        Ok(planned.clone())
    }

    fn reconcile(was: &Was<Rotated>, _: &Facts) -> Result<Reconciled<Rotated>, Failure> {
        // One that was interrupted is planned anew: what it removed is gone, and the rest needs its proof again.
        let Some(output) = was.output.clone() else { return Ok(Reconciled::NotDone) };
        for removal in &output.removed {
            if fs::exists(&removal.path)? {
                return Ok(Reconciled::NotDone);
            }
        }
        Ok(Reconciled::Done(output))
    }
}

/// What a policy makes of a folder's backups.
struct Chosen {
    result: RetentionPlan,
    /// How many have no manifest.
    foreign: usize,
    /// Those that go, and those that let them go.
    at_stake: Vec<Backup>,
}

impl Chosen {
    /// Whether those at stake are as their files say at this moment.
    fn is_current(&self, facts: &Facts) -> bool {
        spread::map(self.at_stake.iter().collect(), |backup| facts.is_current(backup))
            .into_iter()
            .all(|is| is)
    }
}

impl Rotate {
    /// Which of these backups go, and which stay.
    fn choose(&self, mut all: Vec<Backup>, keep: &Keep, facts: &Facts) -> Chosen {
        // Without a manifest nobody knows which run made a file, nor whether it was ever verified: it is left alone.
        let foreign = all.iter().filter(|backup| backup.tag.is_empty()).count();
        all.retain(|backup| !backup.tag.is_empty());
        let mut result = retention(&all, keep, facts.now().fixed_offset());
        if let Some(tag) = &self.options.tag {
            let tagged: HashSet<&Path> =
                all.iter().filter(|backup| backup.tag == *tag).map(|backup| backup.path.as_path()).collect();
            result.remove.retain(|removal| tagged.contains(removal.path.as_path()));
            result.keep.retain(|(path, _)| tagged.contains(path.as_path()));
        }
        // A run never removes what it has made itself, whatever its rules say.
        let began = facts.began().fixed_offset();
        let own: HashSet<&Path> =
            all.iter().filter(|backup| backup.created == began).map(|backup| backup.path.as_path()).collect();
        for own in result.remove.extract_if(.., |removal| own.contains(removal.path.as_path())) {
            result.keep.push((own.path, "made by this run"));
        }
        let of = |removal: &Removal| [removal.path.clone(), removal.proof.clone()];
        let at_stake: HashSet<PathBuf> = result.remove.iter().flat_map(of).collect();
        all.retain(|backup| at_stake.contains(&backup.path));
        Chosen { result, foreign, at_stake: all }
    }

    /// The manifest of the newer verified backup that lets another go, as both are now.
    fn proof(&self, removal: &Removal) -> Result<Manifest, Failure> {
        let Some(Found { backup: proof, manifest: Some(manifest), .. }) =
            store::look(&removal.proof)?.filter(|found| found.backup.verified == Later::Now(Some(true)))
        else {
            return Err(Failure::new(
                Code::NotIntact,
                format!("`{}` stays: the newer verified backup is gone", removal.name),
            )
            .caused_by(format!("`{}` is not there any more, or not verified", removal.proof.display()))
            .hint(VERIFY_AGAIN));
        };
        let is_proof_for = |goes: &Backup| {
            goes.source == proof.source
                && goes.selection == proof.selection
                && (goes.created, &goes.name) < (proof.created, &proof.name)
        };
        match store::look(&removal.path)? {
            Some(found) if !is_proof_for(&found.backup) => Err(Failure::new(
                Code::NotIntact,
                format!("`{}` stays: it is not the backup that was to go", removal.name),
            )
            .caused_by("its manifest has changed since the rotation was planned")
            .hint("Rotate again: what goes is then planned anew.")),
            _ => Ok(manifest),
        }
    }

    /// Reads each proof once more: what was verified some time ago may have been damaged since.
    fn prove(&self, removals: &[Removal], facts: &Facts) -> Result<(), Failure> {
        let mut proven = BTreeSet::new();
        for removal in removals {
            if !proven.insert(&removal.proof) {
                continue;
            }
            let manifest = self.proof(removal)?;
            let progress = |done: u64| {
                facts.progress(Progress {
                    label: format!("verify {}", manifest.file),
                    done,
                    total: Some(manifest.size),
                    unit: "bytes".to_owned(),
                });
            };
            let control = Control { cancel: facts.cancel(), progress: &progress };
            let (_, digest) = hash(fs::open(&removal.proof)?, &removal.proof, control, &mut |_| Ok(()))?;
            if digest.to_string() != manifest.sha256 {
                return Err(Failure::new(
                    Code::NotIntact,
                    format!("nothing was removed: `{}` has changed since it was verified", manifest.file),
                )
                .caused_by(format!("it has the SHA-256 {digest}, its manifest says {}", manifest.sha256))
                .hint(VERIFY_AGAIN));
            }
        }
        Ok(())
    }
}
