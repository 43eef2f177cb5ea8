//! Actions that are not performed yet, and performing several at the same time.

use crate::action::Action;
use crate::action::save::{Save, SaveOptions};
use crate::action::verify::{Verify, VerifyOptions};
use crate::base::backup::Backup;
use crate::base::failure::{Code, Failure, Place};
use crate::base::plan::Later;
use crate::engine::session::{AnyAction, Listed, Terms};
use crate::script::bind::backup::Pipeline;
use crate::script::bind::command::{self, ExecOptions};
use crate::script::bind::known_text;
use crate::script::context::{Raised, RunContext, place};
use crate::script::fault::Fault;
use crate::script::option_keys::Options;
use crate::script::value::{IntoScript, Kind, ScriptValue};
use crate::script::{fault, options, unknown, wording};
use rhai::plugin::*;
use rhai::{Array, Map};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// Types of this family.
pub const KINDS: &[Kind] = &[Kind::of::<Unperformed>()];

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Options of this family's functions.
pub fn options() -> Vec<Options> {
    vec![
        Options::of::<SaveOptions>("to"),
        Options::of::<VerifyOptions>("to_verify"),
        Options::of::<ExecOptions>("to_exec"),
        Options::of::<ParallelOptions>("parallel"),
    ]
}

/// An action that nobody has performed yet.
#[derive(Clone)]
pub struct Unperformed {
    action: Arc<dyn AnyAction>,
    /// The action in a few words.
    pub label: String,
    /// Where the playbook makes it.
    pub at: Option<Place>,
    into_script: fn(Later<Value>) -> Option<Dynamic>,
    performed: Rc<Cell<bool>>,
}

impl Unperformed {
    /// The action as a value of the run that `ctx` belongs to, which tells when nobody performs it.
    ///
    /// # Errors
    /// Refuses while a module is imported.
    pub fn of<A: Action>(ctx: &NativeCallContext, action: A) -> Result<Self, Raised>
    where
        A::Output: IntoScript,
    {
        let context = RunContext::of(ctx)?;
        let made = Self {
            label: Action::in_short(&action, context.session()?.host()),
            action: Arc::new(action),
            at: place(ctx),
            into_script: |output| {
                Some(match output {
                    Later::Now(output) => serde_json::from_value::<A::Output>(output).ok()?.into_script(),
                    Later::AfterRun => Later::<A::Output>::AfterRun.into_script(),
                })
            },
            performed: Rc::default(),
        };
        context.made(made.clone());
        Ok(made)
    }

    /// Whether somebody has performed it.
    pub fn is_performed(&self) -> bool {
        self.performed.get()
    }

    /// Whether a value is this action, or holds it.
    pub fn is_in(&self, value: &Dynamic) -> bool {
        if let Some(map) = value.read_lock::<Map>() {
            return map.values().any(|value| self.is_in(value));
        }
        if let Some(list) = value.read_lock::<Array>() {
            return list.iter().any(|value| self.is_in(value));
        }
        value.read_lock::<Self>().is_some_and(|other| Rc::ptr_eq(&self.performed, &other.performed))
    }
}

impl fmt::Display for Unperformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_performed() { "performed" } else { "not performed" };
        write!(f, "{} ({word})", self.label)
    }
}

impl ScriptValue for Unperformed {
    const NAME: &'static str = "action";

    fn json(&self) -> Value {
        serde_json::json!({ "action": self.label })
    }
}

/// Options of `parallel`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ParallelOptions {
    /// How many are performed at the same time.
    jobs: Option<Jobs>,
    /// Report what failed instead of failing.
    report_only: bool,
}

/// A number of actions, at least 1.
#[derive(Clone, Copy, Debug)]
struct Jobs(usize);

impl<'de> Deserialize<'de> for Jobs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
        count.map(Self).ok_or_else(|| {
            let shown = value.as_str().map_or_else(|| value.to_string(), |text| format!("string {text:?}"));
            serde::de::Error::custom(format_args!("invalid type: {shown}, expected a whole number from 1"))
        })
    }
}

/// How many actions run at the same time when nobody says: each of them keeps the cores busy by itself, so that two are
/// enough to fill what one leaves idle, and a machine with many cores has room for as many.
fn usual_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

fn perform_all(ctx: &NativeCallContext, list: &Array, options: Map) -> Result<Dynamic, Raised> {
    let options: ParallelOptions = options::read("parallel", options)?;
    let context = RunContext::of(ctx)?;
    let session = context.session()?;
    let actions = list
        .iter()
        .enumerate()
        .map(|(index, entry)| action(ctx, index, entry))
        .collect::<Result<Vec<Unperformed>, Raised>>()?;
    if actions.is_empty() {
        let failure =
            Failure::new(Code::Usage, "there is nothing to perform: the list of `parallel` is empty");
        return Err(fault::raise(failure.hint(
            "Where there may be nothing to do, say so: `if actions.len() > 0 { parallel(actions) }`.",
        )));
    }
    let listed: Vec<Listed<'_>> =
        actions.iter().map(|one| Listed { action: &*one.action, at: one.at.clone() }).collect();
    let jobs = options.jobs.map_or_else(usual_jobs, |Jobs(count)| count);
    let terms = Terms { jobs, tolerant: options.report_only };
    // What is refused with the others has not been forgotten.
    actions.iter().for_each(|one| one.performed.set(true));
    let outcomes = session.perform_all(&listed, terms, place(ctx).as_ref()).map_err(fault::raise)?;
    let values = actions.iter().zip(outcomes).map(|(one, outcome)| {
        let value = outcome.map(|output| {
            (one.into_script)(output).ok_or_else(|| {
                let failure = Failure::new(Code::Internal, format!("what `{}` returned is lost", one.label));
                fault::raise(
                    failure.hint("This is a defect in Lifeboat: please report it with the playbook."),
                )
            })
        });
        match (value, options.report_only) {
            (Ok(value), false) => value,
            (Ok(value), true) => Ok(reported(true, value?, Dynamic::UNIT)),
            (Err(failure), _) => {
                let fault = Fault { failure, defect: false };
                Ok(reported(false, Dynamic::UNIT, Dynamic::from(fault)))
            }
        }
    });
    values.collect::<Result<Array, Raised>>().map(Dynamic::from)
}

/// The outcome of one action, as `attempt` has that of a step.
fn reported(ok: bool, value: Dynamic, failure: Dynamic) -> Dynamic {
    let entries = [("ok", ok.into()), ("value", value), ("failure", failure)];
    entries.into_iter().map(|(key, value)| (key.into(), value)).collect::<Map>().into()
}

/// The action that an entry of the list is.
fn action(ctx: &NativeCallContext, index: usize, entry: &Dynamic) -> Result<Unperformed, Raised> {
    if let Some(action) = entry.read_lock::<Unperformed>() {
        return Ok(action.clone());
    }
    if unknown::holds(entry) {
        let message = format!("entry [{index}] of `parallel` is known only after the run");
        return Err(fault::raise(unknown::failure(&message)));
    }
    let name = wording::type_name(ctx.engine(), entry.type_name());
    let failure = Failure::new(Code::Script, format!("entry [{index}] of `parallel` is not an action"))
        .caused_by(format!("it is a value of type `{name}`"));
    Err(fault::defect(failure.hint(if entry.is::<Pipeline>() {
        "Say where it goes: `dump(db).gzip().to(path)`."
    } else {
        "Actions are made by `dump(db).gzip().to(path)`, `to_verify(backup)` and `to_exec([...])`; `save`, `verify` and \
         `exec` perform theirs at once."
    })))
}

fn save_to(
    ctx: &NativeCallContext,
    pipeline: &Pipeline,
    path: &str,
    options: Map,
) -> Result<Unperformed, Raised> {
    let options: SaveOptions = options::read("to", options)?;
    let (source, gzip) = (pipeline.source.clone(), pipeline.gzip);
    Unperformed::of(ctx, Save { source, gzip, path: known_text(path)?.into(), options })
}

fn verify_of(ctx: &NativeCallContext, path: &str, options: Map) -> Result<Unperformed, Raised> {
    let options: VerifyOptions = options::read("to_verify", options)?;
    Unperformed::of(ctx, Verify { path: known_text(path)?.into(), options })
}

#[export_module]
mod functions {
    /// A pipeline with its file as an action that is not performed yet, for `parallel`: `dump(db).gzip().to(path)`.
    ///
    /// Nothing is saved until `parallel([...])` performs it; `.save(path)` performs it at once.
    #[rhai_fn(volatile, pure, return_raw)]
    pub fn to(ctx: NativeCallContext, pipeline: &mut Pipeline, path: &str) -> Result<Unperformed, Raised> {
        save_to(&ctx, pipeline, path, Map::new())
    }

    /// Option `tag` is that of `save`: `dump(db).gzip().to(path, #{ tag: "daily" })`.
    #[rhai_fn(volatile, pure, return_raw, name = "to")]
    pub fn to_with(
        ctx: NativeCallContext,
        pipeline: &mut Pipeline,
        path: &str,
        options: Map,
    ) -> Result<Unperformed, Raised> {
        save_to(&ctx, pipeline, path, options)
    }

    /// A verification that is not performed yet, for `parallel`: `to_verify(backup)`. It is given what `verify` is given.
    #[rhai_fn(volatile, return_raw)]
    pub fn to_verify(ctx: NativeCallContext, backup: Backup) -> Result<Unperformed, Raised> {
        verify_of(&ctx, &backup.path.to_string_lossy(), Map::new())
    }

    #[rhai_fn(volatile, return_raw, name = "to_verify")]
    pub fn to_verify_with(
        ctx: NativeCallContext,
        backup: Backup,
        options: Map,
    ) -> Result<Unperformed, Raised> {
        verify_of(&ctx, &backup.path.to_string_lossy(), options)
    }

    #[rhai_fn(volatile, return_raw, name = "to_verify")]
    pub fn to_verify_path(ctx: NativeCallContext, path: &str) -> Result<Unperformed, Raised> {
        verify_of(&ctx, path, Map::new())
    }

    #[rhai_fn(volatile, return_raw, name = "to_verify")]
    pub fn to_verify_path_with(
        ctx: NativeCallContext,
        path: &str,
        options: Map,
    ) -> Result<Unperformed, Raised> {
        verify_of(&ctx, path, options)
    }

    /// A program that is not run yet, for `parallel`: `to_exec(["npm", "ci"])`. It is given what `exec` is given, except
    /// `reads_only`.
    #[rhai_fn(volatile, return_raw)]
    pub fn to_exec(ctx: NativeCallContext, argv: Array) -> Result<Unperformed, Raised> {
        to_exec_with(ctx, argv, Map::new())
    }

    #[rhai_fn(volatile, return_raw, name = "to_exec")]
    pub fn to_exec_with(ctx: NativeCallContext, argv: Array, options: Map) -> Result<Unperformed, Raised> {
        let (exec, reads_only) = command::read(&ctx, "to_exec", &argv, options)?;
        if reads_only {
            let failure = Failure::new(Code::Script, "`to_exec` takes no option `reads_only`");
            return Err(fault::defect(
                failure
                    .caused_by("what only reads is no action")
                    .hint("Ask with `exec`, which answers at once."),
            ));
        }
        Unperformed::of(&ctx, exec)
    }

    /// Performs actions at the same time and returns their values in the order of the list:
    /// `parallel([dump(db).gzip().to(a), archive(".").gzip().to(b)])`.
    ///
    /// Actions are made by `.to(path)`, `to_verify(backup)` and `to_exec([...])`. All are planned, and questions asked, before any
    /// begins; two that write the same path are refused. When one fails, the others still come to their end; then that failure
    /// ends the step, or one that names each. An empty list is an error.
    #[rhai_fn(volatile, return_raw)]
    pub fn parallel(ctx: NativeCallContext, actions: Array) -> Result<Dynamic, Raised> {
        perform_all(&ctx, &actions, Map::new())
    }

    /// Option `jobs` is how many are performed at the same time: as many as there are cores if it is not given, at least 2. With
    /// `report_only: true` a failure does not end the step: the value of each action is `#{ ok, value, failure }` as that of
    /// `attempt` is, and a run in which one failed completes with warnings.
    #[rhai_fn(volatile, return_raw, name = "parallel")]
    pub fn parallel_with(ctx: NativeCallContext, actions: Array, options: Map) -> Result<Dynamic, Raised> {
        perform_all(&ctx, &actions, options)
    }
}
