//! `remove_kept_files`: removes what an extraction has kept; it cannot be rolled back any more then.

use crate::action::{Action, Recorded};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::kept::{Kept, State};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Removes what one extraction has kept.
#[derive(Clone, Debug)]
pub struct RemoveKeptFiles {
    /// The folder that keeps it, as `extract` returned it.
    pub kept: PathBuf,
}

/// What was kept and is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedFiles {
    /// The folder that kept it.
    pub kept: PathBuf,
    /// The run that had extracted.
    pub run: String,
    /// Bytes of what was kept.
    pub size: u64,
}

impl Recorded for RemovedFiles {
    fn summary(&self) -> String {
        format!("removed what run {} had kept of replaced files ({})", self.run, units::bytes(self.size))
    }
}

impl Action for RemoveKeptFiles {
    const NAME: &'static str = "remove_kept_files";
    type Output = RemovedFiles;

    fn plan(&self, facts: &Facts) -> Result<Plan<RemovedFiles>, Failure> {
        let kept = Kept::open(&facts.absolute(&self.kept))?;
        if kept.is_half_done() {
            let dir = kept.dir.display();
            return Err(Failure::new(Code::Failed, format!("the files in `{dir}` are half replaced"))
                .caused_by(format!("`{}` holds the others", kept.at.display()))
                .hint(format!("Finish that first: `lifeboat rollback {}`.", kept.index.run)));
        }
        let run = &kept.index.run;
        let output = RemovedFiles { kept: kept.path(), run: run.clone(), size: kept.size() };
        let shown = facts.host().shown(&kept.dir);
        let size = units::bytes(output.size);
        let what = if kept.state == State::Undone {
            format!("what run {run} had extracted into `{shown}`, and was rolled back")
        } else {
            format!("what stood in `{shown}` before run {run} extracted into it")
        };
        let mut plan =
            Plan::new(format!("remove {what} ({size})"), Effect::Destroy, Later::Now(output.clone()));
        plan.details.push("that run cannot be rolled back any more".to_owned());
        plan.confirm = Some(format!("Remove for good {what} ({size})?"));
        plan.needs = vec![Need::Restore(kept.dir.clone()), Need::Restore(kept.at.clone())];
        plan.locks.push(Target::Path(kept.dir.clone()));
        plan.touches.push(Touch::PathGone(kept.at));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<RemovedFiles>, effects: &Effects) -> Result<RemovedFiles, Failure> {
        let Later::Now(planned) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`remove_kept_files` was planned without looking"));
        };
        let kept = Kept::open(&planned.kept)?;
        if kept.is_half_done() {
            let failure = Failure::new(
                Code::Failed,
                format!("`{}` has changed since the plan was made", kept.at.display()),
            );
            return Err(failure.hint("Nothing was removed. Run it again: it then shows what is there now."));
        }
        let intent = effects.intend(&format!("remove {}", kept.at.display()))?;
        effects.remove_kept(&intent, kept)?;
        Ok(planned.clone())
    }

    fn reconcile(was: &Was<RemovedFiles>, _: &Facts) -> Result<Reconciled<RemovedFiles>, Failure> {
        let Some(planned) = was.plan.forecast.clone().now().filter(|_| was.begun) else {
            return Ok(Reconciled::NotDone);
        };
        match Kept::open(&planned.kept) {
            Ok(_) => Ok(Reconciled::NotDone),
            Err(failure) if failure.code == Code::NotFound => Ok(Reconciled::Done(planned)),
            Err(failure) => Err(failure),
        }
    }
}
