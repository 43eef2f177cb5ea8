//! Retrying, expecting, and the environment.

use crate::base::event::Level;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need};
use crate::base::secret::Secret;
use crate::base::units;
use crate::observe::reread_env::RereadEnv;
use crate::script::bind::time::period;
use crate::script::bind::{known_text, shown_text};
use crate::script::context::{Raised, RunContext, place};
use crate::script::fault::{self, Fault};
use crate::script::grants::{hosts_of_environment, url_hosts};
use crate::script::unknown;
use crate::script::value::{IntoScript, Kind, ScriptValue};
use rhai::plugin::*;
use rhai::{FnPtr, Position};
use std::fmt;

/// Types of this family.
pub const KINDS: &[Kind] = &[Kind::of::<Fault>()];

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl ScriptValue for Fault {
    const NAME: &'static str = "failure";

    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "failure": self.failure })
    }

    fn recorded(&self) -> Option<serde_json::Value> {
        Some(serde_json::json!({ "failure": self.failure, "defect": self.defect }))
    }

    fn restored(mut value: serde_json::Value) -> Option<Self> {
        let failure = serde_json::from_value(value.get_mut("failure")?.take()).ok()?;
        Some(Self { failure, defect: value.get("defect")?.as_bool()? })
    }
}

/// Calls a closure of a playbook or module under the name of its own file, so that places are right.
// What it uses of the engine is not deprecated: the engine marks what may change that way, and it is pinned.
#[allow(deprecated)]
pub fn call(ctx: &NativeCallContext, closure: &FnPtr, args: &mut [Dynamic]) -> Result<Dynamic, Raised> {
    let context = RunContext::of(ctx)?;
    match context.closure_file(closure.fn_name()) {
        Some(file) if ctx.call_source() != Some(file.as_str()) => {
            let mut data = ctx.store_data();
            data.global.source = Some(file.into());
            closure.call_raw(&data.create_context(ctx.engine()), None, args)
        }
        _ => closure.call_raw(ctx, None, args),
    }
}

fn again(ctx: &NativeCallContext, times: i64, delay: Dynamic, closure: &FnPtr) -> Result<Dynamic, Raised> {
    let delay = period("retry", &delay)?;
    if times < 1 {
        let failure = Failure::new(Code::Script, format!("`retry` cannot try {times} times"));
        return Err(fault::defect(failure.hint("Give it the number of tries, 1 or more.")));
    }
    let context = RunContext::of(ctx)?;
    let session = context.session()?;
    let mut tried = 0;
    loop {
        let error = match call(ctx, closure, &mut []) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        tried += 1;
        let file = ctx.call_source().unwrap_or(context.file()).to_owned();
        let mut fault = fault::fault(ctx.engine(), Some(&context), &error, &file);
        if !fault.is_tolerable() {
            return Err(error);
        }
        if tried == times {
            fault.failure = fault.failure.caused_by(format!("tried {times} times"));
            return Err(fault.raise(Position::NONE));
        }
        session.log(
            Level::Info,
            &format!("Try {tried} of {times} failed: {fault}; next in {}", units::duration(delay)),
        );
        session.facts().wait(async { tokio::time::sleep(delay).await }).map_err(fault::raise)?;
    }
}

/// What `expect` raises.
fn unmet(description: &str) -> Raised {
    fault::raise(Failure::new(Code::Expectation, format!("expected: {description}")))
}

/// Whether the value of an environment variable must not be shown anywhere.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE", "API_KEY", "ACCESS_KEY"]
        .iter()
        .any(|word| name.contains(word))
}

fn environment(ctx: &NativeCallContext, name: &str) -> Result<Option<String>, Raised> {
    let name = known_text(name)?;
    let context = RunContext::of(ctx)?;
    let session = context.session()?;
    session.policy().authorize(&[Need::Env(name.to_owned())], "env").map_err(fault::raise)?;
    let value = session.host().env().value(name).map(str::to_owned);
    if let (Some(value), true) = (&value, is_secret(name)) {
        session.host().masker().add(&Secret::new(value.as_str()));
    }
    Ok(value)
}

#[export_module]
mod functions {
    /// Calls a closure until it succeeds, waiting in between: `retry(5, "10s", || http_get(url))`.
    ///
    /// Returns the closure's value. A failure that is overcome is not a warning of the run; after the last try the
    /// failure counts. The wait is a duration, a text such as `"10s"`, or a number of seconds. What refuses or ends the
    /// run, and mistakes in the playbook, are not tried again.
    #[rhai_fn(volatile, return_raw)]
    pub fn retry(
        ctx: NativeCallContext,
        times: i64,
        delay: Dynamic,
        closure: FnPtr,
    ) -> Result<Dynamic, Raised> {
        again(&ctx, times, delay, &closure)
    }

    /// Asks a person whether the run may go on: `confirm("Replace the live database?")`.
    ///
    /// Any other answer than yes ends the run with exit code 6, and so does a run in which nobody can be asked: one without a
    /// terminal, with `--json`, or by schedule. `--yes` answers in advance. A dry run tells that it would ask.
    #[rhai_fn(volatile, return_raw)]
    pub fn confirm(ctx: NativeCallContext, mut question: Dynamic) -> Result<(), Raised> {
        let question = shown_text(&ctx, &mut question);
        RunContext::of(&ctx)?.session()?.confirm(&question).map_err(fault::raise)
    }

    /// Fails unless the condition holds: `expect(rows > 0, "the table `users` has rows")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn expect(condition: bool, description: &str) -> Result<(), Raised> {
        if condition { Ok(()) } else { Err(unmet(&unknown::shown(description))) }
    }

    /// Fails unless the closure holds for the value; returns the value: `expect(rows, |n| n > 0, "users has rows")`.
    #[rhai_fn(volatile, return_raw, name = "expect")]
    pub fn expect_that(
        ctx: NativeCallContext,
        mut value: Dynamic,
        matcher: FnPtr,
        description: &str,
    ) -> Result<Dynamic, Raised> {
        let holds = call(&ctx, &matcher, &mut [value.clone()])?;
        match holds.as_bool() {
            Ok(true) => Ok(value),
            Ok(false) => {
                let failure =
                    Failure::new(Code::Expectation, format!("expected: {}", unknown::shown(description)));
                Err(fault::raise(failure.caused_by(format!("found `{}`", shown_text(&ctx, &mut value)))))
            }
            Err(_) if unknown::holds(&holds) => Err(fault::raise(unknown::failure(
                "what the closure of `expect` says is known only after the run",
            ))),
            Err(name) => Err(fault::defect(
                Failure::new(Code::Script, "the closure of `expect` must say `true` or `false`")
                    .caused_by(format!("it returned a value of type `{name}`")),
            )),
        }
    }

    /// The value of an environment variable, or `()` if it is not set or empty: `env("BACKUP_DIR") ?? "backups"`.
    ///
    /// The name must stand literally in the playbook. Values of variables that are named like secrets are masked.
    #[rhai_fn(volatile, return_raw)]
    pub fn env(ctx: NativeCallContext, name: &str) -> Result<Dynamic, Raised> {
        Ok(environment(&ctx, name)?.map_or(Dynamic::UNIT, Dynamic::from))
    }

    /// Reads the project's `.env` again, after it was restored; the run goes by it from here on: `reread_env()`. Returns the
    /// names of the variables that changed.
    ///
    /// Variables of the process itself still win. A dry run that predicts another `.env` goes on with the present one,
    /// and says so.
    #[rhai_fn(volatile, return_raw)]
    pub fn reread_env(ctx: NativeCallContext) -> Result<Dynamic, Raised> {
        let context = RunContext::of(&ctx)?;
        let session = context.session()?;
        let Later::Now(changed) = session.observe(&RereadEnv, false, place(&ctx)).map_err(fault::raise)?
        else {
            session.incomplete(
                &session.step(),
                "`.env` will have been restored, so databases and variables may be others than shown from here on",
                place(&ctx),
            );
            return Ok(rhai::Array::new().into());
        };
        let policy = session.policy();
        policy.allow_hosts(hosts_of_environment(None, session.host()));
        let named =
            policy.grants().env.iter().filter_map(|name| session.host().env().value(name).map(str::to_owned));
        policy.allow_hosts(named.flat_map(|value| url_hosts(&value)).collect::<Vec<_>>());
        Ok(changed.into_script())
    }

    /// The kind of a failure: `not_found`, `timed_out`, `failed`, ...
    #[rhai_fn(get = "code", pure)]
    pub fn failure_code(failure: &mut Fault) -> String {
        failure.failure.code.as_str().to_owned()
    }

    /// What failed, in one line.
    #[rhai_fn(get = "message", pure)]
    pub fn failure_message(failure: &mut Fault) -> String {
        failure.failure.message.clone()
    }

    /// Why it failed, outermost first.
    #[rhai_fn(get = "causes", pure)]
    pub fn failure_causes(failure: &mut Fault) -> rhai::Array {
        failure.failure.causes.iter().map(|cause| cause.into()).collect()
    }

    /// What to do about it.
    #[rhai_fn(get = "hints", pure)]
    pub fn failure_hints(failure: &mut Fault) -> rhai::Array {
        failure.failure.hints.iter().map(|hint| hint.into()).collect()
    }

    /// Where in the playbook it happened: `playbooks/nightly.rhai:12:5`.
    #[rhai_fn(get = "place", pure)]
    pub fn failure_place(failure: &mut Fault) -> String {
        failure.failure.at.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}
