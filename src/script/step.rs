//! `step "name" { ... }` and `attempt "name" { ... }`.

use crate::base::event::{Mode, Outcome};
use crate::base::failure::{Code, Failure};
use crate::engine::session::Session;
use crate::script::context::{Raised, RunContext, place_at};
use crate::script::fault::{Fault, defect, fault};
use crate::script::unknown::{self, AfterRun};
use crate::script::{codec, value, wording};
use rhai::{Dynamic, Engine, EvalAltResult, EvalContext, Expression, Map, Position};

/// What becomes of a failure inside the block.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Step,
    Attempt,
}

/// Teaches an engine both words.
pub fn register(engine: &mut Engine) {
    for (word, kind) in [("step", Kind::Step), ("attempt", Kind::Attempt)] {
        let registered = engine.register_custom_syntax(
            [word, "$expr$", "$block$"],
            false,
            move |ctx: &mut EvalContext, inputs: &[Expression]| run(ctx, inputs, kind),
        );
        debug_assert!(registered.is_ok(), "the syntax of `{word}` is valid");
    }
}

fn run(ctx: &mut EvalContext, inputs: &[Expression], kind: Kind) -> Result<Dynamic, Raised> {
    let [name_expression, block] = inputs else {
        return Err(defect(Failure::new(Code::Internal, "a step without name or block")));
    };
    let position = name_expression.position();
    let context = RunContext::of_tag(Some(ctx.tag()))?;
    let session = context.session().map_err(|mut error| {
        error.set_position(position);
        error
    })?;
    let name = name(ctx.eval_expression_tree(name_expression)?, ctx.engine(), position)?;
    // The end may have been asked for after the step before.
    session.host().cancel().check_step().map_err(|failure| {
        let failure = failure.at(place_at(ctx.source().unwrap_or_default(), position));
        Fault { failure, defect: false }.raise(position)
    })?;
    let before: Vec<u64> = fingerprints(ctx);
    let step = session.begin_step(&name);
    let path = session.step();
    let kept = session.keep_step(&step).map_err(|failure| {
        let failure = failure.at(place_at(ctx.source().unwrap_or_default(), position));
        Fault { failure, defect: false }.raise(position)
    })?;
    if let Some(value) = kept.and_then(codec::restored) {
        context.forget_made(0);
        session.end_kept_step(step);
        return Ok(if kind == Kind::Attempt { tried(true.into(), value, Dynamic::UNIT) } else { value });
    }
    session.tell_step(&step);
    let made = context.made_so_far();
    let result = ctx.eval_expression_tree(block).map(Dynamic::flatten);
    let file = ctx.source().unwrap_or_default().to_owned();
    let result = match result {
        Ok(value) => has_codec(ctx.engine(), &value).map(|()| value),
        Err(error) => {
            let error = match leaving(&error) {
                Some(fault) => fault.raise(error.position()),
                None => error,
            };
            Err(settled(fault(ctx.engine(), Some(&context), &error, &file), session))
        }
    };
    // What was changed by a failure that ends the run does not matter any more.
    let goes_on = result.as_ref().err().is_none_or(|fault| fault.is_unknown() || fault.is_tolerable());
    let result = match changed(ctx, &before).filter(|_| goes_on) {
        Some(fault) => Err(fault),
        None => result,
    };
    let mut fault = match result {
        Ok(value) => {
            context.warn_of_forgotten(made, Some(&value));
            if let Some(value) = codec::recorded(&value) {
                session.step_value(&step, value);
            }
            session.end_step(step, Outcome::Done, None);
            return Ok(if kind == Kind::Attempt { tried(true.into(), value, Dynamic::UNIT) } else { value });
        }
        Err(fault) => fault,
    };
    context.forget_made(made);
    fault.failure = fault.failure.at(place_at(&file, position));
    fault.failure.step.get_or_insert(path);
    if fault.is_unknown() {
        session.end_step(step, Outcome::Unknown, Some(&fault.failure));
        let unknown = || Dynamic::from(AfterRun);
        return Ok(if kind == Kind::Attempt { tried(unknown(), unknown(), unknown()) } else { unknown() });
    }
    if kind == Kind::Attempt && fault.is_tolerable() {
        session.end_step(step, Outcome::Tolerated, Some(&fault.failure));
        return Ok(tried(false.into(), Dynamic::UNIT, Dynamic::from(fault)));
    }
    session.end_step(step, Outcome::Failed, Some(&fault.failure));
    Err(fault.raise(position))
}

/// The fault as it counts in `session`: in a live run everything is known, so an unknown is our own defect.
pub fn settled(mut fault: Fault, session: &Session) -> Fault {
    if fault.is_unknown() && session.mode() == Mode::Live {
        fault.failure.code = Code::Internal;
        fault.failure =
            fault.failure.hint("This is a defect in Lifeboat: please report it with the playbook.");
    }
    fault
}

fn name(value: Dynamic, engine: &Engine, position: Position) -> Result<String, Raised> {
    let found = wording::type_name(engine, value.type_name());
    let text = value.into_immutable_string().map_err(|_| {
        let failure = Failure::new(Code::Script, "the name of a step must be a text");
        Fault { failure: failure.caused_by(format!("it is a value of type `{found}`")), defect: true }
            .raise(position)
    })?;
    // A step's name is its identity in the journal, so it may not differ between plan and run.
    unknown::known(&text).map_err(|failure| Fault { failure, defect: false }.raise(position))?;
    Ok(text.trim().to_owned())
}

fn tried(ok: Dynamic, value: Dynamic, failure: Dynamic) -> Dynamic {
    let mut map = Map::new();
    map.insert("ok".into(), ok);
    map.insert("value".into(), value);
    map.insert("failure".into(), failure);
    map.into()
}

/// `return`, `break` and `continue` that leave a step: when a step is skipped, they would be lost in silence.
fn leaving(error: &EvalAltResult) -> Option<Fault> {
    let word = match error {
        EvalAltResult::LoopBreak(true, ..) => "break",
        EvalAltResult::LoopBreak(false, ..) => "continue",
        EvalAltResult::Return(..) => "return",
        _ => return None,
    };
    let failure = Failure::new(Code::Script, format!("`{word}` leaves a step"))
        .caused_by("a step speaks only through its value")
        .hint(format!("Let the block end with its value, and put `{word}` behind the step."));
    Some(Fault { failure, defect: true })
}

fn fingerprints(ctx: &EvalContext) -> Vec<u64> {
    ctx.scope().iter_raw().map(|(_, _, value)| value::fingerprint(value)).collect()
}

/// The outer variable that the block changed, if it did.
fn changed(ctx: &EvalContext, before: &[u64]) -> Option<Fault> {
    let entries = ctx.scope().iter_raw().zip(before);
    let (name, ..) =
        entries.filter(|((_, _, value), before)| value::fingerprint(value) != **before).last()?.0;
    let failure = Failure::new(Code::Script, format!("a step changes the outer variable `{name}`"))
        .caused_by("a step speaks only through its value")
        .hint(format!("Let the block end with the new value: `{name} = step \"...\" {{ ... }};`."));
    Some(Fault { failure, defect: true })
}

/// The journal must be able to hold the value of a step.
fn has_codec(engine: &Engine, value: &Dynamic) -> Result<(), Fault> {
    let Err(type_name) = value::json(value) else { return Ok(()) };
    let type_name = wording::type_name(engine, &type_name);
    let failure = Failure::new(Code::Script, format!("a step cannot have a value of type `{type_name}`"))
        .caused_by("the journal cannot hold it")
        .hint("End the block with `()`, so that the step has no value, or with a value of another type.");
    Err(Fault { failure, defect: true })
}
