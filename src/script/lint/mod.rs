//! What is wrong with a playbook, found without running anything.
//!
//! Runs before every run: a typo that only shows after the dump is an outage of the backup.

mod calls;
pub mod drift;
mod names;
mod outside;
mod steps;
mod unperformed;

use crate::base::failure::Failure;
use crate::script::header::{self, Header};
use crate::script::library::{Library, Playbook};
use crate::script::program::Program;
use crate::script::surface::Surface;

/// Something wrong with a playbook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, where and the remedy.
    pub failure: Failure,
    /// Whether the playbook must not run.
    pub error: bool,
}

impl Finding {
    fn error(failure: Failure) -> Self {
        Self { failure, error: true }
    }

    fn warning(failure: Failure) -> Self {
        Self { failure, error: false }
    }
}

/// Names that the command line has already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Global long flags, without dashes.
    pub flags: Vec<String>,
    /// Commands.
    pub commands: Vec<String>,
}

/// Checks a playbook and the modules that it imports. Nothing is run.
///
/// Fewer findings than mistakes are possible, since a file that does not parse is not looked into any further.
pub fn lint(library: &Library, playbook: &Playbook, reserved: &Reserved) -> Vec<Finding> {
    let program = Program::of(library, playbook);
    let header = program.playbook().map(|unit| header::read(&unit.ast, &unit.source.file));
    of_program(&program, header.as_ref(), library, playbook, reserved)
}

/// Checks a program that was loaded already; `header` is that of its playbook, or why it cannot be read.
pub fn of_program(
    program: &Program,
    header: Option<&Result<Header, Failure>>,
    library: &Library,
    playbook: &Playbook,
    reserved: &Reserved,
) -> Vec<Finding> {
    let mut findings = check(program, header, &Surface::new());
    let header = header.and_then(|header| header.as_ref().ok());
    findings.extend(names::collisions(&playbook.name, &playbook.file, header, reserved));
    findings.extend(drift::check(program, library));
    findings
}

/// Checks a program; `header` is that of its playbook, or why it cannot be read.
pub fn check(program: &Program, header: Option<&Result<Header, Failure>>, surface: &Surface) -> Vec<Finding> {
    let mut findings: Vec<Finding> = program.failures.iter().cloned().map(Finding::error).collect();
    if let Some(Err(failure)) = header {
        findings.push(Finding::error(failure.clone()));
    }
    let header = header.and_then(|header| header.as_ref().ok());
    for index in 0..program.units.len() {
        calls::check(program, index, surface, &mut findings);
        names::check(&program.units[index], header, &mut findings);
        steps::check(&program.units[index], &mut findings);
        unperformed::check(&program.units[index], index == 0, &mut findings);
    }
    outside::check(program, surface, &mut findings);
    findings.sort_by_key(|finding| {
        let at = finding.failure.at.clone();
        let main = program.units.first().map(|unit| unit.source.file.clone());
        at.map(|at| (Some(&at.file) != main.as_ref(), at.file, at.line, at.column))
    });
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests;
