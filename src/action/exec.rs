//! Runs a program. Nobody but that program knows what it does, so a dry run does not run it.

pub use crate::sys::exec::{Exec, ExecResult, Variable};

use crate::action::{Action, Recorded};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{DoneIf, Effect, Later, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::host::Host;
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

    fn in_short(&self, _: &Host) -> String {
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
        plan.done_if = self.done_if.clone();
        plan.touches = self.targets().into_iter().map(Touch::Changed).collect();
        Ok(plan)
    }

    fn execute(&self, _plan: &Plan<ExecResult>, effects: &Effects) -> Result<ExecResult, Failure> {
        self.run(effects.facts())
    }

    /// Only the playbook can know whether a program has to run again; without `done_if` it does.
    fn reconcile(was: &Was<ExecResult>, facts: &Facts) -> Result<Reconciled<ExecResult>, Failure> {
        let done = match &was.plan.done_if {
            None => false,
            Some(DoneIf::Exists(path)) => fs::exists(path)?,
            Some(DoneIf::Succeeds { argv, cwd }) => {
                let mut asked = Exec::new(argv.clone());
                asked.cwd.clone_from(cwd);
                asked.check = false;
                asked.run(facts)?.code == 0
            }
        };
        if !done {
            return Ok(Reconciled::NotDone);
        }
        // What it printed is lost when it was killed before its end.
        Ok(Reconciled::Done(was.output.clone().unwrap_or_else(|| ExecResult {
            program: was.plan.summary.trim_start_matches("run `").trim_end_matches('`').to_owned(),
            code: 0,
            stdout: String::new(),
            stderr: String::new(),
            millis: 0,
        })))
    }
}
