//! The primitives that playbooks call, one family per file.
//!
//! How to add one:
//!
//! 1. The action or observation stands in `action/` or `observe/`. Its output implements
//!    [`IntoScript`](crate::script::value::IntoScript); a type that scripts handle, such as a backup, implements
//!    [`ScriptValue`](crate::script::value::ScriptValue) and is listed in the family's `KINDS`.
//! 2. The function stands in an `#[export_module]` module of a family, with its doc comment, which
//!    `lifeboat doc` shows:
//!
//! ```ignore
//! /// Removes backups that no rule keeps: `rotate("backups", #{ keep_days: 30 })`.
//! #[rhai_fn(volatile, return_raw)]
//! pub fn rotate(ctx: NativeCallContext, dir: &str, options: Map) -> Result<Dynamic, Raised> {
//!     let options: RotateOptions = options::read("rotate", options)?;
//!     perform(&ctx, &Rotate { dir: known_text(dir)?.into(), ..options.into() })
//! }
//! ```
//!
//! 3. The family is listed below, in `FAMILIES` and in `register`.
//!
//! A text that is more than shown to people goes through [`known_text`], a list of texts through [`known_texts`]: in a
//! dry run it may hold something unknown. Methods of a type take `&mut T` and say `pure` as well, so that they can be
//! called on constants; getters are `#[rhai_fn(get = "size", pure, return_raw)]`, and return `later(...)` where a
//! value may be unknown.

pub mod backup;
pub mod check;
pub mod command;
pub mod control;
pub mod database;
pub mod files;
pub mod health;
pub mod parallel;
pub mod rollback;
pub mod tasks;
pub mod text;
pub mod time;

use crate::action::Action;
use crate::base::failure::{Code, Failure};
use crate::observe::Observation;
use crate::script::context::{Raised, RunContext, place};
use crate::script::option_keys::Options;
use crate::script::value::{IntoScript, Kind};
use crate::script::{fault, unknown};
use rhai::{Array, Dynamic, Engine, ImmutableString, NativeCallContext};

/// Types of the host that scripts handle as values.
const FAMILIES: &[&[Kind]] =
    &[backup::KINDS, command::KINDS, control::KINDS, database::KINDS, parallel::KINDS, time::KINDS];

/// Types of the host that scripts handle as values.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    FAMILIES.iter().copied().flatten()
}

/// Gives an engine all primitives.
pub fn register(engine: &mut Engine) {
    kinds().for_each(|kind| kind.register(engine));
    backup::register(engine);
    check::register(engine);
    command::register(engine);
    control::register(engine);
    database::register(engine);
    files::register(engine);
    health::register(engine);
    parallel::register(engine);
    rollback::register(engine);
    tasks::register(engine);
    text::register(engine);
    time::register(engine);
    #[cfg(test)]
    crate::script::tests::probe::register(engine);
}

/// Options of functions, each by the struct that its binding reads.
pub fn options() -> Vec<Options> {
    [
        backup::options(),
        command::options(),
        database::options(),
        files::options(),
        health::options(),
        parallel::options(),
        rollback::options(),
    ]
    .concat()
}

/// Hands an action to the session: its output, or what a dry run knows of it.
///
/// # Errors
/// Raises the action's failure, placed where the primitive was called.
pub fn perform<A: Action>(ctx: &NativeCallContext, action: &A) -> Result<Dynamic, Raised>
where
    A::Output: IntoScript,
{
    let context = RunContext::of(ctx)?;
    context.session()?.perform(action, place(ctx)).map(IntoScript::into_script).map_err(fault::raise)
}

/// Asks the session. `independent` says that no earlier effect of the run can change the answer.
///
/// # Errors
/// Raises the observation's failure, placed where the primitive was called.
pub fn observe<O: Observation>(
    ctx: &NativeCallContext,
    observation: &O,
    independent: bool,
) -> Result<Dynamic, Raised>
where
    O::Answer: IntoScript,
{
    let context = RunContext::of(ctx)?;
    let answer = context.session()?.observe(observation, independent, place(ctx));
    answer.map(IntoScript::into_script).map_err(fault::raise)
}

/// The text, if all of it is known now.
///
/// # Errors
/// Raises an unknown, which ends the step of a dry run.
pub fn known_text(text: &str) -> Result<&str, Raised> {
    unknown::known(text).map_err(fault::raise)
}

/// The texts of a list that is the argument `what` of a primitive.
///
/// # Errors
/// Raises when one is not a text; an unknown when one is known only after the run.
pub fn known_texts(what: &str, list: &Array) -> Result<Vec<String>, Raised> {
    list.iter()
        .map(|entry| {
            if unknown::holds(entry) {
                return Err(fault::raise(unknown::failure(&format!("{what} is known only after the run"))));
            }
            entry.read_lock::<ImmutableString>().map(|text| text.to_string()).ok_or_else(|| {
                let failure = Failure::new(Code::Script, format!("{what} must be an array of texts"));
                fault::defect(failure.caused_by(format!("`{entry}` is not a text")))
            })
        })
        .collect()
}

/// Any value as a text for people, without marks.
pub fn shown_text(ctx: &NativeCallContext, value: &mut Dynamic) -> String {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return unknown::shown(&text);
    }
    let text = ctx.call_native_fn_raw("to_string", true, &mut [value]);
    let text = text.ok().and_then(|text| text.into_string().ok());
    unknown::shown(&text.unwrap_or_else(|| value.to_string()))
}
