//! Runs a program. Nobody but that program knows what it does, so a dry run does not run it.

pub use crate::sys::exec::{Exec, ExecResult, Variable};

use crate::action::{Action, Recorded};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use std::time::Duration;

impl Recorded for ExecResult {
    fn summary(&self) -> String {
        let took = units::duration(Duration::from_millis(self.millis));
        format!("`{}` exited with status {} after {took}", self.program, self.code)
    }
}

impl Action for Exec {
    const NAME: &'static str = "exec";
    type Output = ExecResult;

    fn in_short(&self) -> String {
        self.command_line()
    }

    fn captured(&self, facts: &Facts) -> Option<String> {
        Exec::captured(self, facts)
    }

    fn plan(&self, facts: &Facts) -> Result<Plan<ExecResult>, Failure> {
        let mut unknown = Vec::new();
        match self.command(facts).check(facts.host()) {
            Ok(_) => {}
            // An earlier step may install the program or make the folder.
            Err(failure)
                if matches!(failure.code, Code::ProgramMissing | Code::NotFound)
                    && facts.view().is_touched(&Target::Everything) =>
            {
                unknown.push(format!("whether it can be run: {}", failure.message));
            }
            Err(failure) => return Err(failure),
        }
        if self.touches.is_none() {
            unknown.push(format!("what `{}` changes", self.program()));
        }
        let mut plan = Plan::new(format!("run `{}`", self.program()), Effect::Opaque, Later::AfterRun);
        plan.details = self.details(facts);
        plan.unknown = unknown;
        plan.needs = self.needs(facts);
        plan.touches = self.targets().into_iter().map(Touch::Changed).collect();
        Ok(plan)
    }

    fn execute(&self, _plan: &Plan<ExecResult>, effects: &Effects) -> Result<ExecResult, Failure> {
        self.run(effects.facts())
    }

    fn reconcile(_: &Was<ExecResult>, _: &Facts) -> Result<Reconciled<ExecResult>, Failure> {
        Ok(Reconciled::NotDone)
    }
}
