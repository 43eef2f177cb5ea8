//! What a playbook says to people.

use crate::action::write::{Write, Written};
use crate::base::backup::Backup;
use crate::base::event::Level;
use crate::base::failure::{Code, Failure};
use crate::base::plan::Later;
use crate::script::bind::time::{Bytes, Span, Time};
use crate::script::bind::{known_text, perform, shown_text};
use crate::script::context::{Raised, RunContext};
use crate::script::value::{self, IntoScript};
use crate::script::{fault, options, unknown, wording};
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

impl IntoScript for Written {
    fn into_script(self) -> Dynamic {
        self.path.into_script()
    }
}

/// A value as other programs understand it, without the tags of our own codec.
///
/// # Errors
/// The name of the engine's type that has no such form.
fn plain(value: &Dynamic) -> Result<serde_json::Value, String> {
    if let Some(map) = value.read_lock::<Map>() {
        return map.iter().map(|(key, value)| Ok((key.to_string(), plain(value)?))).collect();
    }
    if let Some(list) = value.read_lock::<rhai::Array>() {
        return list.iter().map(plain).collect();
    }
    if let Some(size) = value.read_lock::<Bytes>() {
        return Ok(size.0.into());
    }
    if let Some(span) = value.read_lock::<Span>() {
        return Ok(span.0.as_secs_f64().into());
    }
    if let Some(time) = value.read_lock::<Time>() {
        return Ok(time.0.to_rfc3339().into());
    }
    if let Some(backup) = value.read_lock::<Backup>() {
        return Ok(backup.path.display().to_string().into());
    }
    value::json(value)
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

    /// Writes a text into a file, whole or not at all; one that is there is replaced: `write("reports/today.md", text)`.
    #[rhai_fn(volatile, return_raw)]
    pub fn write(ctx: NativeCallContext, path: &str, text: &str) -> Result<Dynamic, Raised> {
        let text = unknown::known(text).map_or(Later::AfterRun, |text| Later::Now(text.to_owned()));
        perform(&ctx, &Write { path: known_text(path)?.into(), text })
    }

    /// A value as JSON, with sizes in bytes and durations in seconds: `write("report.json", json(report))`.
    #[rhai_fn(return_raw)]
    pub fn json(ctx: NativeCallContext, value: Dynamic) -> Result<Dynamic, Raised> {
        if unknown::holds(&value) {
            return Ok(Dynamic::from(unknown::AfterRun));
        }
        let plain = plain(&value).map_err(|type_name| {
            let type_name = wording::type_name(ctx.engine(), &type_name);
            fault::defect(
                Failure::new(Code::Script, format!("a value of type `{type_name}` has no form in JSON"))
                    .hint("Give `json` maps, arrays, texts, numbers, sizes, durations, times and backups."),
            )
        })?;
        Ok(format!("{plain:#}\n").into())
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
