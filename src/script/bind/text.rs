//! What a playbook says to people.

use crate::base::event::Level;
use crate::base::failure::{Code, Failure};
use crate::script::bind::shown_text;
use crate::script::context::{Raised, RunContext};
use crate::script::{fault, options};
use rhai::Map;
use rhai::plugin::*;
use serde::Deserialize;

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

fn say(ctx: &NativeCallContext, level: Level, mut message: Dynamic) -> Result<(), Raised> {
    let context = RunContext::of(ctx)?;
    context.session()?.log(level, &shown_text(ctx, &mut message));
    Ok(())
}

/// What `fail` takes as a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailOptions {
    message: String,
    hint: Option<String>,
    code: Option<Code>,
}

fn failure_of(options: FailOptions) -> Failure {
    let failure = Failure::new(options.code.unwrap_or(Code::Failed), options.message);
    match options.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[export_module]
mod functions {
    /// Says a line: `info("Backing up " + db.name)`.
    #[rhai_fn(volatile, return_raw)]
    pub fn info(ctx: NativeCallContext, message: Dynamic) -> Result<(), Raised> {
        say(&ctx, Level::Info, message)
    }

    /// Says that something went well: `success("Backup verified")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn success(ctx: NativeCallContext, message: Dynamic) -> Result<(), Raised> {
        say(&ctx, Level::Success, message)
    }

    /// Warns. The run completes with warnings, exit code 3: `warn("The disk is nearly full")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn warn(ctx: NativeCallContext, message: Dynamic) -> Result<(), Raised> {
        say(&ctx, Level::Warn, message)
    }

    /// Says that something went wrong, and goes on; the run completes with warnings. To end it, use `fail`:
    /// `error("No route to the standby")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn error(ctx: NativeCallContext, message: Dynamic) -> Result<(), Raised> {
        say(&ctx, Level::Error, message)
    }

    /// The entries of an array as one text: `join(names, ", ")`.
    #[rhai_fn(return_raw)]
    pub fn join(ctx: NativeCallContext, list: rhai::Array, separator: &str) -> Result<String, Raised> {
        if list.iter().any(crate::script::unknown::holds) {
            return Err(fault::raise(crate::script::unknown::failure(
                "a list to `join` is known only after the run",
            )));
        }
        let texts: Vec<String> = list.into_iter().map(|mut entry| shown_text(&ctx, &mut entry)).collect();
        Ok(texts.join(separator))
    }

    /// Fails: ends the step, and the run unless an `attempt` tolerates it: `fail("The volume is not mounted")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn fail(ctx: NativeCallContext, mut message: Dynamic) -> Result<(), Raised> {
        Err(fault::raise(Failure::new(Code::Failed, shown_text(&ctx, &mut message))))
    }

    /// Fails with a kind that decides the exit code: `fail(#{ code: "not_intact", message: "...", hint: "..." })`.
    #[rhai_fn(volatile, return_raw, name = "fail")]
    pub fn fail_as(failure: Map) -> Result<(), Raised> {
        Err(fault::raise(failure_of(options::read("fail", failure)?)))
    }

    /// Fails and says what to do about it: `fail("The volume is not mounted", "Mount it with: mount /backup")`.
    #[rhai_fn(volatile, return_raw, name = "fail")]
    pub fn fail_with_hint(
        ctx: NativeCallContext,
        mut message: Dynamic,
        mut hint: Dynamic,
    ) -> Result<(), Raised> {
        let failure = Failure::new(Code::Failed, shown_text(&ctx, &mut message));
        Err(fault::raise(failure.hint(shown_text(&ctx, &mut hint))))
    }
}
