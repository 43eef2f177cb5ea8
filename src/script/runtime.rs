//! Runs a playbook in a session, on a thread of its own.

use crate::base::event::Level;
use crate::base::failure::{Code, Failure};
use crate::base::secret::Secret;
use crate::engine::session::Session;
use crate::script::bind::command::SecretText;
use crate::script::bind::time::{Bytes, Span};
use crate::script::context::RunContext;
use crate::script::engine::{OPERATIONS, compile, engine};
use crate::script::fault::{Fault, fault};
use crate::script::library::{Library, Playbook};
use crate::script::modules::Modules;
use crate::script::step::settled;
use crate::script::value::IntoScript;
use crate::script::{unknown, value};
use rhai::{Dynamic, Engine, Scope};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Deeply nested calls need much of it, most of all in debug builds; it is reserved, not used.
const STACK: usize = 64 << 20;

/// A parameter as the script's thread gets it.
#[derive(Clone, Debug)]
pub enum ScriptParam {
    /// Plain data.
    Plain(Value),
    /// Bytes.
    Size(u64),
    /// A duration.
    Duration(Duration),
    /// A secret.
    Secret(Secret),
}

impl IntoScript for ScriptParam {
    fn into_script(self) -> Dynamic {
        match self {
            Self::Plain(value) => value.into_script(),
            Self::Size(bytes) => Dynamic::from(Bytes(bytes)),
            Self::Duration(span) => Dynamic::from(Span(span)),
            Self::Secret(secret) => Dynamic::from(SecretText(secret)),
        }
    }
}

/// Runs `playbook` and returns the value of its last expression, `null` if that has no codec.
///
/// A dry run that reaches something unknown outside of a step ends there: the session is then incomplete, and the
/// value is `null`.
///
/// # Errors
/// The failure that ended the run, with its place, call chain and step, masked.
pub fn run(
    session: Arc<Session>,
    library: &Library,
    playbook: &Playbook,
    params: BTreeMap<String, ScriptParam>,
) -> Result<Value, Failure> {
    let (library, playbook) = (library.clone(), playbook.clone());
    let host = session.host().clone();
    let thread = std::thread::Builder::new().name("lifeboat-script".to_owned()).stack_size(STACK);
    let running = thread
        .spawn(move || evaluate(session, library, &playbook, params))
        .map_err(|error| Failure::new(Code::Internal, "cannot start the script's thread").caused_by(error))?;
    let result = running.join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Failure::new(Code::Internal, "a defect in Lifeboat ended the run")
            .caused_by(text.unwrap_or_else(|| "panic".to_owned()))
            .hint("Please report it with the playbook and the run's record."))
    });
    result.map_err(|failure| failure.masked(|text| host.masker().mask(text)))
}

fn evaluate(
    session: Arc<Session>,
    library: Library,
    playbook: &Playbook,
    params: BTreeMap<String, ScriptParam>,
) -> Result<Value, Failure> {
    let params = params.into_iter().map(|(name, value)| (name.into(), value.into_script())).collect();
    let context = Rc::new(RunContext::new(session.clone(), library, playbook.file.clone(), params));
    let mut engine = engine();
    prepare(&mut engine, &context, &session);
    let ast = compile(&engine, &playbook.source, &playbook.file)?;
    context.learn(&ast, &playbook.file);
    match engine.eval_ast_with_scope::<Dynamic>(&mut Scope::new(), &ast) {
        Ok(value) => {
            context.warn_of_forgotten(0, None);
            Ok(value::json(&value).unwrap_or_default())
        }
        Err(error) => {
            let fault = settled(fault(&engine, Some(&context), &error, &playbook.file), &session);
            if fault.is_unknown() {
                session.incomplete("", &fault.failure.message, fault.failure.at);
                return Ok(Value::Null);
            }
            Err(fault.failure)
        }
    }
}

fn prepare(engine: &mut Engine, context: &Rc<RunContext>, session: &Arc<Session>) {
    engine.set_default_tag(Dynamic::from(context.clone()));
    engine.set_module_resolver(Modules::new(context.clone()));
    let cancel = session.facts().cancel().clone();
    // A clean-up has a count of its own, so that it can follow a block that took too many.
    let (operations, in_clean_up) = (Cell::new(0_u64), Cell::new(0_u64));
    engine.on_progress(move |_| {
        let operations = if cancel.has_grace() { &in_clean_up } else { &operations };
        operations.set(operations.get() + 1);
        let fault = if operations.get() > OPERATIONS {
            let failure =
                Failure::new(Code::Script, format!("the playbook took more than {OPERATIONS} operations"));
            Fault { failure: failure.hint("Does a loop run without end?"), defect: true }
        } else {
            Fault { failure: cancel.check().err()?, defect: false }
        };
        Some(Dynamic::from(fault))
    });
    let printing = session.clone();
    engine.on_print(move |text| printing.log(Level::Info, &unknown::shown(text)));
    let debugging = session.clone();
    engine.on_debug(move |text, _, _| debugging.log(Level::Info, &unknown::shown(text)));
}
