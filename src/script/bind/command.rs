//! Programs, services, announcements, and names for files.

use crate::action::exec::{Exec, ExecResult, Variable};
use crate::action::notify::{Notified, Notify};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{DoneIf, Target};
use crate::base::secret::Secret;
use crate::observe::exec::ReadOnlyCommand;
use crate::observe::http_get::{HttpAnswer, HttpGet};
use crate::script::bind::database::Database;
use crate::script::bind::{known_text, known_texts, observe, perform, shown_text};
use crate::script::context::{Raised, RunContext};
use crate::script::option_keys::Options;
use crate::script::options::{self, Period};
use crate::script::value::{IntoScript, Kind, ScriptValue};
use crate::script::{fault, unknown};
use crate::sys::host::Host;
use crate::sys::process::{Input, Value};
use rhai::plugin::*;
use rhai::{Array, Map};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Types of this family.
pub const KINDS: &[Kind] = &[Kind::of::<SecretText>()];

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Options of this family's functions.
pub fn options() -> Vec<Options> {
    vec![Options::of::<ExecOptions>("exec"), Options::of::<HttpOptions>("http_get")]
}

/// A secret parameter, as scripts handle it: it can be handed to a child's environment, and never shown.
#[derive(Clone, Debug)]
pub struct SecretText(pub Secret);

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ScriptValue for SecretText {
    const NAME: &'static str = "secret";

    fn json(&self) -> serde_json::Value {
        crate::base::secret::MASK.into()
    }
}

impl IntoScript for ExecResult {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("code".into(), Dynamic::from(i64::from(self.code)));
        map.insert("stdout".into(), self.stdout.into());
        map.insert("stderr".into(), self.stderr.into());
        map.insert("seconds".into(), Dynamic::from(self.millis as f64 / 1000.0));
        map.into()
    }
}

impl IntoScript for HttpAnswer {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("status".into(), Dynamic::from(i64::from(self.status)));
        map.insert("body".into(), self.body.into());
        map.insert("seconds".into(), self.seconds.into());
        map.into()
    }
}

impl IntoScript for Notified {
    fn into_script(self) -> Dynamic {
        Dynamic::UNIT
    }
}

/// Options of `exec`. Those of a type of ours are taken out of the map before the rest is read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecOptions {
    #[serde(rename = "env")]
    _env: Option<IgnoredAny>,
    #[serde(rename = "postgres")]
    _postgres: Option<IgnoredAny>,
    #[serde(rename = "done_if")]
    _done_if: Option<IgnoredAny>,
    cwd: Option<String>,
    timeout: Option<Period>,
    input: Option<String>,
    check: Option<bool>,
    reads_only: bool,
    touches: Option<Vec<String>>,
}

/// Options of `http_get`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpOptions {
    timeout: Option<Period>,
    status: Option<u16>,
    independent: bool,
}

fn run(ctx: &NativeCallContext, argv: &Array, options: Map) -> Result<Dynamic, Raised> {
    let (exec, reads_only) = read(ctx, "exec", argv, options)?;
    if reads_only { observe(ctx, &ReadOnlyCommand(exec), false) } else { perform(ctx, &exec) }
}

/// The command of `verb` with its options, and whether it only reads.
///
/// # Errors
/// Raises what is wrong with which option.
pub fn read(
    ctx: &NativeCallContext,
    verb: &str,
    argv: &Array,
    mut options: Map,
) -> Result<(Exec, bool), Raised> {
    let mut exec = Exec::new(known_texts(&format!("the command of `{verb}`"), argv)?);
    if let Some(env) = options.remove("env") {
        exec.env = variables(env)?;
    }
    if let Some(Database(settings)) = options::take::<Database>(verb, &mut options, "postgres")? {
        let known = settings.child_env("").into_iter().chain(settings.application_env());
        for (name, value) in known {
            exec.env.entry(name.to_owned()).or_insert(Variable::Set(value));
        }
    }
    let done_if = options.remove("done_if");
    let options: ExecOptions = options::read(verb, options)?;
    let host = RunContext::of(ctx)?.session()?.host().clone();
    exec.cwd = options.cwd.map(|dir| host.absolute(dir));
    exec.timeout = options.timeout.map(|Period(limit)| limit);
    exec.input = options.input.map_or(Input::Nothing, |text| Input::Bytes(text.into_bytes()));
    exec.check = options.check.unwrap_or(true);
    exec.touches = options
        .touches
        .map(|paths| paths.into_iter().map(|path| Target::Path(host.absolute(path))).collect());
    exec.done_if = done_if.map(|told| done_if_of(told, &host, exec.cwd.as_ref())).transpose()?;
    Ok((exec, options.reads_only))
}

/// The option `done_if`: a command, or a path.
fn done_if_of(told: Dynamic, host: &Host, cwd: Option<&PathBuf>) -> Result<DoneIf, Raised> {
    if let Some(argv) = told.read_lock::<Array>() {
        let argv = known_texts("option `done_if` of `exec`", &argv)?;
        return Ok(DoneIf::Succeeds { argv, cwd: cwd.cloned() });
    }
    if let Some(path) = told.read_lock::<rhai::ImmutableString>() {
        return Ok(DoneIf::Exists(host.absolute(known_text(&path)?)));
    }
    let failure = Failure::new(
        Code::Script,
        "option `done_if` of `exec` must be a command, which is an array of texts, or a path",
    );
    Err(fault::defect(failure.caused_by(format!("it is a value of type `{}`", told.type_name()))))
}

/// The option `env`: names to pass through, or names with values.
fn variables(env: Dynamic) -> Result<BTreeMap<String, Variable>, Raised> {
    let wrong = |name: &str| {
        let failure = Failure::new(Code::Script, "option `env` of `exec` must be an array of names or a map");
        fault::defect(failure.caused_by(format!("it holds a value of type `{name}`")))
    };
    if let Some(names) = env.read_lock::<Array>() {
        let names = known_texts("option `env` of `exec`", &names)?;
        return Ok(names.into_iter().map(|name| (name, Variable::Passed)).collect());
    }
    let type_name = env.type_name();
    let map = env.try_cast::<Map>().ok_or_else(|| wrong(type_name))?;
    let set = map.into_iter().map(|(name, value)| {
        if unknown::holds(&value) {
            return Err(fault::raise(unknown::failure(&format!(
                "the variable `{name}` is known only after the run"
            ))));
        }
        if let Some(secret) = value.read_lock::<SecretText>() {
            return Ok((name.to_string(), Variable::Set(Value::Secret(secret.0.clone()))));
        }
        match value.type_name() {
            "string" | "i64" | "f64" | "bool" => {
                Ok((name.to_string(), Variable::Set(Value::Plain(value.to_string()))))
            }
            other => Err(wrong(other)),
        }
    });
    set.collect()
}

fn get(ctx: &NativeCallContext, url: &str, options: Map) -> Result<Dynamic, Raised> {
    let options: HttpOptions = options::read("http_get", options)?;
    let mut get = HttpGet::new(known_text(url)?).map_err(fault::raise)?;
    get.expect_status = options.status;
    if let Some(Period(limit)) = options.timeout {
        get.terms.timeout = limit;
    }
    observe(ctx, &get, options.independent)
}

/// The text as a file name: what is no letter, digit, dot, dash or underscore becomes an underscore.
fn safe_name(text: &str) -> String {
    let safe: String =
        text.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let safe = safe.trim_start_matches(['.', '-']);
    // With its suffixes a name must stay below 255 bytes.
    let cut = safe.floor_char_boundary(120);
    if cut == 0 { "_".to_owned() } else { safe[..cut].to_owned() }
}

#[export_module]
mod functions {
    /// Runs a program, without a shell: `exec(["npm", "ci"])`. Returns `code`, `stdout`, `stderr` and `seconds`.
    ///
    /// Another exit status than 0 is a failure. The program's name must stand literally in the playbook. A dry run does
    /// not run it.
    #[rhai_fn(volatile, return_raw)]
    pub fn exec(ctx: NativeCallContext, argv: Array) -> Result<Dynamic, Raised> {
        run(&ctx, &argv, Map::new())
    }

    /// Runs a program with options: `exec(["pytest"], #{ cwd: "app", timeout: "10m", env: ["CI"] })`.
    ///
    /// `env` (names to pass through, or a map of values; secrets go here, never into the command), `cwd`, `timeout`,
    /// `input`, `check: false` (another exit status is no failure), `postgres: db` (gives it the PG* and DB_* variables and
    /// DATABASE_URL),
    /// `reads_only: true` (a dry run runs it too), `touches: [paths]` (it changes nothing else), `done_if` (a resumed run does
    /// not run it again if this path exists, or this command, an array, exits with status 0).
    #[rhai_fn(volatile, return_raw, name = "exec")]
    pub fn exec_with(ctx: NativeCallContext, argv: Array, options: Map) -> Result<Dynamic, Raised> {
        run(&ctx, &argv, options)
    }

    /// Asks a service: `http_get("http://localhost:5000/api/health").status`. Returns `status`, `body`, `seconds`.
    #[rhai_fn(volatile, return_raw)]
    pub fn http_get(ctx: NativeCallContext, url: &str) -> Result<Dynamic, Raised> {
        get(&ctx, url, Map::new())
    }

    /// Asks a service with options `timeout`, `status` (fails unless it answers so) and `independent`.
    #[rhai_fn(volatile, return_raw, name = "http_get")]
    pub fn http_get_with(ctx: NativeCallContext, url: &str, options: Map) -> Result<Dynamic, Raised> {
        get(&ctx, url, options)
    }

    /// Sets the run's alert: `notify("success", "Backed up 3 databases")`.
    ///
    /// It is sent through every channel that is set when the run succeeds. A run that fails, is interrupted or completes with
    /// warnings sends its own alert instead, without being told.
    #[rhai_fn(volatile, return_raw)]
    pub fn notify(ctx: NativeCallContext, status: &str, mut message: Dynamic) -> Result<Dynamic, Raised> {
        let message = shown_text(&ctx, &mut message);
        perform(&ctx, &Notify { status: known_text(status)?.to_owned(), message })
    }

    /// The text as a safe name for a file: `file_name("shop/eu")` is `shop_eu`.
    #[rhai_fn(return_raw)]
    pub fn file_name(text: &str) -> Result<String, Raised> {
        Ok(safe_name(known_text(text)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_safe() {
        for (text, name) in [
            ("shop", "shop"),
            ("../etc/passwd", "_etc_passwd"),
            ("We\"ird \\ Täble", "We_ird___Täble"),
            ("", "_"),
            ("...", "_"),
            ("-rf", "rf"),
            (".-.--shop-db", "shop-db"),
        ] {
            assert_eq!(safe_name(text), name);
        }
    }
}
