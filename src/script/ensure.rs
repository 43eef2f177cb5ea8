//! `ensure { ... } always { ... }`: a block with a clean-up that follows success, failure, interruption, and what a dry run
//! does not know.

use crate::base::failure::{Code, Failure};
use crate::script::context::{Raised, RunContext};
use crate::script::fault::{Fault, defect, fault};
use crate::script::step::settled;
use rhai::{Dynamic, Engine, EvalAltResult, EvalContext, Expression};

/// Teaches an engine the words.
pub fn register(engine: &mut Engine) {
    let registered = engine.register_custom_syntax(["ensure", "$block$", "always", "$block$"], false, run);
    debug_assert!(registered.is_ok(), "the syntax of `ensure` is valid");
}

fn run(ctx: &mut EvalContext, inputs: &[Expression]) -> Result<Dynamic, Raised> {
    let [body, clean_up] = inputs else {
        return Err(defect(Failure::new(Code::Internal, "`ensure` without its blocks")));
    };
    let position = body.position();
    let context = RunContext::of_tag(Some(ctx.tag()))?;
    let session = context.session().map_err(|mut error| {
        error.set_position(position);
        error
    })?;
    let ensure = session.begin_ensure();
    let result = ctx.eval_expression_tree(body).map(Dynamic::flatten);
    let grace = session.facts().cancel().grace();
    session.begin_clean_up(&ensure);
    let cleaned = ctx.eval_expression_tree(clean_up);
    drop(grace);
    let file = ctx.source().unwrap_or_default().to_owned();
    let cleaned = cleaned.map(|_| ()).map_err(|error| match leaving(&error) {
        Some(fault) => fault.raise(error.position()),
        None => error,
    });
    let failed = cleaned
        .as_ref()
        .err()
        .map(|error| settled(fault(ctx.engine(), Some(&context), error, &file), session));
    // What a dry run does not know is no failure of the clean-up.
    let (unknown, failed): (Option<Fault>, Option<Fault>) = match failed {
        Some(fault) if fault.is_unknown() => (Some(fault), None),
        failed => (None, failed),
    };
    session.end_clean_up(ensure, failed.as_ref().map(|fault| &fault.failure));
    if result.is_err() {
        // The run ends for what happened first; that the clean-up failed too was told by its end.
        if let Some(fault) = failed {
            session.clean_up_failed(&fault.failure);
        }
        if let Some(fault) = unknown {
            session.incomplete(&session.step(), &fault.failure.message, fault.failure.at);
        }
        return result;
    }
    cleaned?;
    // The end that was asked for during the clean-up comes now.
    session.facts().cancel().check().map_err(|failure| Fault { failure, defect: false }.raise(position))?;
    result
}

/// `return`, `break` and `continue` that leave a clean-up: what they say would replace the failure that it follows.
fn leaving(error: &EvalAltResult) -> Option<Fault> {
    let word = match error {
        EvalAltResult::LoopBreak(true, ..) => "break",
        EvalAltResult::LoopBreak(false, ..) => "continue",
        EvalAltResult::Return(..) => "return",
        _ => return None,
    };
    let failure = Failure::new(Code::Script, format!("`{word}` leaves a clean-up"))
        .hint("Let the block behind `always` run to its end.");
    Some(Fault { failure, defect: true })
}
