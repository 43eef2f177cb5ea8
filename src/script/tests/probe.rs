//! An action and an observation that do nothing, to test what stands between them and playbooks.

use crate::action::{Action, Recorded};
use crate::base::cancel::Reason;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::observe::Observation;
use crate::script::bind::parallel::Unperformed;
use crate::script::bind::{known_text, observe, perform};
use crate::script::context::{Raised, RunContext};
use crate::script::options;
use crate::script::value::IntoScript;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use rhai::Map;
use rhai::plugin::*;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

thread_local! {
    static CALLS: Cell<i64> = const { Cell::new(0) };
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made(String);

impl Recorded for Made {
    fn summary(&self) -> String {
        self.0.clone()
    }
}

impl IntoScript for Made {
    fn into_script(self) -> Dynamic {
        self.0.into()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MakeOptions {
    keep_last: Option<u32>,
    later: bool,
    wait: Option<options::Period>,
    limit: Option<options::Size>,
}

struct Make {
    name: String,
    later: bool,
}

impl Action for Make {
    const NAME: &'static str = "make";
    type Output = Made;

    fn plan(&self, _: &Facts) -> Result<Plan<Made>, Failure> {
        if self.name == "missing" {
            return Err(Failure::new(Code::NotFound, "`missing` is missing").hint("Make it."));
        }
        let forecast =
            if self.later { Later::AfterRun } else { Later::Now(Made(format!("made {}", self.name))) };
        let mut plan = Plan::new(format!("make {}", self.name), Effect::Create, forecast);
        plan.touches.push(Touch::Changed(Target::Service(self.name.clone())));
        match self.name.as_str() {
            "asks" => plan.confirm = Some("Make it?".to_owned()),
            "outside" => plan.needs.push(Need::Write("/usr/outside".into())),
            _ => {}
        }
        Ok(plan)
    }

    fn execute(&self, _: &Plan<Made>, effects: &Effects) -> Result<Made, Failure> {
        match self.name.as_str() {
            "meets" => meet()?,
            "panics" => panic!("on purpose"),
            "waits" => effects.facts().wait(std::future::pending::<()>())?,
            "breaks" => return Err(Failure::new(Code::Io, "`breaks` broke").hint("Mend it.")),
            "warns" => effects.facts().host().warn("made badly"),
            _ => {}
        }
        Ok(Made(format!("made {}", self.name)))
    }

    fn reconcile(_: &Was<Made>, _: &Facts) -> Result<Reconciled<Made>, Failure> {
        Ok(Reconciled::NotDone)
    }
}

/// How many have come to meet.
static MEETING: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

/// Returns once another action is here too.
fn meet() -> Result<(), Failure> {
    let (came, told) = &MEETING;
    let mut came = came.lock().unwrap();
    *came += 1;
    told.notify_all();
    let (_came, waited) = told.wait_timeout_while(came, Duration::from_secs(20), |came| *came < 2).unwrap();
    if waited.timed_out() { Err(Failure::new(Code::TimedOut, "nobody came")) } else { Ok(()) }
}

struct Ask(String);

impl Observation for Ask {
    const NAME: &'static str = "ask";
    type Answer = i64;

    fn question(&self) -> String {
        self.0.clone()
    }

    fn answer(&self, answer: &i64) -> String {
        answer.to_string()
    }

    fn concerns(&self, _: &Facts) -> Vec<Target> {
        vec![Target::Service(self.0.clone())]
    }

    fn ask(&self, _: &Facts) -> Result<Later<i64>, Failure> {
        Ok(Later::Now(42))
    }
}

/// Gives an engine the functions.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

#[export_module]
mod functions {
    #[rhai_fn(volatile, return_raw)]
    pub fn make(ctx: NativeCallContext, name: &str) -> Result<Dynamic, Raised> {
        perform(&ctx, &Make { name: known_text(name)?.to_owned(), later: false })
    }

    #[rhai_fn(volatile, return_raw, name = "make")]
    pub fn make_with(ctx: NativeCallContext, name: &str, options: Map) -> Result<Dynamic, Raised> {
        let options: MakeOptions = options::read("make", options)?;
        let _ = (options.keep_last, options.wait, options.limit);
        perform(&ctx, &Make { name: known_text(name)?.to_owned(), later: options.later })
    }

    /// What `make` makes, as an action that is not performed yet.
    #[rhai_fn(volatile, return_raw)]
    pub fn to_make(ctx: NativeCallContext, name: &str) -> Result<Unperformed, Raised> {
        Unperformed::of(&ctx, Make { name: known_text(name)?.to_owned(), later: name == "later" })
    }

    /// A value that a dry run does not know.
    #[rhai_fn(volatile, return_raw)]
    pub fn made_later(ctx: NativeCallContext) -> Result<Dynamic, Raised> {
        perform(&ctx, &Make { name: "later".to_owned(), later: true })
    }

    #[rhai_fn(volatile, return_raw)]
    pub fn ask(ctx: NativeCallContext, name: &str) -> Result<Dynamic, Raised> {
        observe(&ctx, &Ask(known_text(name)?.to_owned()), false)
    }

    /// Fails with `code` until it was called `times` times in this thread.
    #[rhai_fn(volatile, return_raw)]
    pub fn works_at(times: i64, code: &str) -> Result<i64, Raised> {
        let calls = CALLS.get() + 1;
        CALLS.set(calls);
        if calls >= times {
            return Ok(calls);
        }
        let code = serde_json::from_value(code.into()).unwrap_or(Code::Internal);
        Err(crate::script::fault::raise(Failure::new(code, format!("call {calls} failed"))))
    }

    /// Asks this run to end, as Ctrl-C does.
    #[rhai_fn(volatile, return_raw)]
    pub fn interrupt(ctx: NativeCallContext) -> Result<(), Raised> {
        let context = RunContext::of(&ctx)?;
        context.session()?.facts().cancel().cancel(Reason::Interrupted);
        Ok(())
    }

    #[rhai_fn(volatile)]
    pub fn panics() {
        panic!("on purpose");
    }

    /// A value that no journal can hold.
    pub fn opaque() -> std::time::Instant {
        std::time::Instant::now()
    }
}
