//! Failures on their way through the script engine, with their place and the chain of calls that led to them.
//!
//! *Problem*: the engine's errors are text with a position in the caller's file. *Decision*: a failure travels typed
//! inside the engine's runtime error, and every other error of the engine is put into words here. *Rejected*: parsing
//! the engine's own messages at the end, which lose causes, hints and codes.

use crate::base::failure::{Code, Failure, Frame};
use crate::script::context::{Raised, RunContext, is_closure, place_at};
use crate::script::{unknown, wording};
use rhai::{Dynamic, Engine, EvalAltResult, Position};

/// A failure on its way through the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What failed.
    pub failure: Failure,
    /// Whether the playbook itself is wrong: nothing may tolerate that, so that no typo stays unseen.
    pub defect: bool,
}

impl Fault {
    /// Whether a value of a dry run is missing.
    pub fn is_unknown(&self) -> bool {
        self.failure.code == Code::Unknown
    }

    /// Whether `attempt` and `retry` may overcome it.
    pub fn is_tolerable(&self) -> bool {
        !self.defect && self.failure.code.is_tolerable()
    }

    /// Sends it on its way from `position`.
    pub fn raise(self, position: Position) -> Raised {
        EvalAltResult::ErrorRuntime(Dynamic::from(self), position).into()
    }
}

/// Raises a failure from where the binding was called.
pub fn raise(failure: Failure) -> Raised {
    Fault { failure, defect: false }.raise(Position::NONE)
}

/// Raises a failure that means that the playbook is wrong.
pub fn defect(failure: Failure) -> Raised {
    Fault { failure, defect: true }.raise(Position::NONE)
}

/// The failure that an error of the engine stands for. `file` is the one whose evaluation returned the error.
pub fn fault(engine: &Engine, context: Option<&RunContext>, error: &EvalAltResult, file: &str) -> Fault {
    let mut frames = Vec::new();
    let mut file = file.to_owned();
    let mut error = error;
    let mut called_at = Position::NONE;
    // Positions are in the caller's file; the source that comes with a call is the callee's.
    loop {
        match error {
            EvalAltResult::ErrorInFunctionCall(name, source, inner, position) => {
                let callee = if is_closure(name) {
                    context.and_then(|context| context.closure_file(name)).unwrap_or_else(|| source.clone())
                } else {
                    source.clone()
                };
                let callee = if callee.is_empty() { file.clone() } else { callee };
                if let Some(at) = place_at(&file, *position) {
                    frames.push(Frame { function: function(name, &callee, context), at });
                }
                file = callee;
                error = inner;
                called_at = *position;
            }
            EvalAltResult::ErrorInModule(_, inner, position) => {
                error = inner;
                called_at = *position;
            }
            _ => break,
        }
    }
    let position = if error.position().is_none() { called_at } else { error.position() };
    let at = place_at(&file, position);
    let mut fault = match carried(error) {
        Some(fault) => fault,
        None if unknown::caused(error) => Fault {
            failure: unknown::failure("a value that is known only after the run is used"),
            defect: false,
        },
        None => wording::engine_error(engine, context, error, at.as_ref()),
    };
    if let (Some(known), Some(at)) = (&mut fault.failure.at, &at) {
        // A closure runs under the name of the file that calls it; only the chain tells which file it stands in.
        if known.line == at.line && known.column == at.column {
            known.file.clone_from(&at.file);
        }
    }
    fault.failure = fault.failure.at(at).masked(unknown::shown);
    fault.failure.trail.extend(frames.into_iter().rev());
    fault
}

/// The failure inside an error that a binding, a step or the progress callback raised.
fn carried(error: &EvalAltResult) -> Option<Fault> {
    match error {
        EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _) => {
            value.read_lock::<Fault>().map(|fault| fault.clone())
        }
        _ => None,
    }
}

/// A function as the call chain names it.
fn function(name: &str, file: &str, context: Option<&RunContext>) -> String {
    let name = if is_closure(name) { "closure" } else { name };
    match context {
        Some(context) if context.file() != file => {
            format!("{}::{name}", file.strip_suffix(".rhai").unwrap_or(file))
        }
        _ => name.to_owned(),
    }
}
