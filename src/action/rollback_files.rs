//! `rollback_files`: lets what an extraction put into a tree and what it replaced change places again.
//!
//! Both stay: a second time puts forward again what the first put back. What was changed in the tree meanwhile is kept as
//! it is then.

use crate::action::replaced::{SHOWN, asks, name_each};
use crate::action::{Action, Recorded};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::kept::{Kept, State};
use crate::sys::untar::shown;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Rolls an extraction back, or forward again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackFiles {
    /// The folder that keeps what was replaced, as `extract` returned it.
    pub kept: PathBuf,
}

/// Files that have changed places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The folder that keeps the others now.
    pub kept: PathBuf,
    /// The tree.
    pub dir: PathBuf,
    /// The run that had extracted them.
    pub run: String,
    /// How many files and links changed places.
    pub files: u64,
    /// Whether they are again those that were extracted: it was rolled back before.
    pub forward: bool,
}

impl Recorded for RolledBack {
    fn summary(&self) -> String {
        let what = if self.forward { "extracted again what" } else { "put back what" };
        let files = if self.files == 1 { "file" } else { "files" };
        format!("{what} run {} had replaced: {} {files}", self.run, self.files)
    }
}

impl Action for RollbackFiles {
    const NAME: &'static str = "rollback_files";
    type Output = RolledBack;

    fn plan(&self, facts: &Facts) -> Result<Plan<RolledBack>, Failure> {
        let path = facts.absolute(&self.kept);
        let kept = Kept::open(&path)?;
        kept.check_owner()?;
        let forward = kept.state == State::Undone;
        let output = RolledBack {
            kept: kept.path(),
            dir: kept.dir.clone(),
            run: kept.index.run.clone(),
            files: kept.files_count(),
            forward,
        };
        let name = kept.index.backup.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (doing, new, changed) = if forward {
            ("extract again", "comes again", "as extracted")
        } else {
            ("put back", "goes: it was not there before", "as it was before")
        };
        let summary = format!(
            "{doing} in `{}` what run {} extracted from `{name}`",
            facts.host().shown(&kept.dir),
            kept.index.run
        );
        let mut plan = Plan::new(summary, Effect::Replace, Later::Now(output));
        let changes = kept.changes()?;
        let lines = changes.told().iter().take(SHOWN).map(|change| {
            let (sign, what) = match (change.is_new(), forward) {
                (true, false) => ("-", new),
                (true, true) => ("+", new),
                (false, _) => ("~", changed),
            };
            format!("{sign} {} ({what})", shown(&change.name.0))
        });
        plan.details = lines.collect();
        if let Some(more) = changes.len().checked_sub(SHOWN as u64).filter(|more| *more > 0) {
            plan.details.push(format!("and {more} more"));
        }
        plan.details.push("both versions are kept".to_owned());
        plan.confirm = asks(facts, &kept.dir, &changes)?;
        plan.needs.push(Need::Restore(kept.dir.clone()));
        plan.locks.push(Target::Path(kept.dir.clone()));
        name_each(&mut plan, facts, &kept.dir, &changes, |change, at| match (change.is_new(), forward) {
            (true, false) => Touch::PathGone(at),
            (true, true) => Touch::PathMade(at),
            (false, _) => Touch::Changed(Target::Path(at)),
        })?;
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<RolledBack>, effects: &Effects) -> Result<RolledBack, Failure> {
        let Later::Now(planned) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`rollback_files` was planned without looking"));
        };
        let mut kept = Kept::open(&planned.kept)?;
        if (kept.state == State::Undone) != planned.forward {
            return Err(Failure::new(
                Code::Io,
                format!("`{}` has changed since the plan was made", kept.at.display()),
            )
            .hint("Nothing was replaced. Run it again: it then shows what is there now."));
        }
        let doing = if planned.forward { "extract again" } else { "put back" };
        let intent = format!("{doing} {} files in {}", planned.files, kept.dir.display());
        let intent = effects.intend(&intent)?;
        if planned.forward {
            effects.put_forward(&intent, &mut kept)?;
        } else {
            effects.put_back(&intent, &mut kept)?;
        }
        Ok(planned.clone())
    }

    fn reconcile(was: &Was<RolledBack>, _: &Facts) -> Result<Reconciled<RolledBack>, Failure> {
        let Later::Now(planned) = &was.plan.forecast else { return Ok(Reconciled::NotDone) };
        let kept = match Kept::open(&planned.kept) {
            Ok(kept) => kept,
            Err(failure) if failure.code == Code::NotFound => {
                return Ok(Reconciled::InDoubt(format!(
                    "nothing is kept at `{}` any more",
                    planned.kept.display()
                )));
            }
            Err(failure) => return Err(failure),
        };
        if planned.forward && kept.is_half_done() {
            // Planned again, it goes the other way, which is no end of this.
            return Ok(Reconciled::InDoubt(format!(
                "it was killed while files in `{}` went forward again; they are half replaced, and doing it again puts all of \
                 them back",
                planned.dir.display()
            )));
        }
        let wanted = if planned.forward { State::Swapped } else { State::Undone };
        Ok(if kept.state == wanted { Reconciled::Done(planned.clone()) } else { Reconciled::NotDone })
    }
}
