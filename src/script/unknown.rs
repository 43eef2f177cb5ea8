//! Values of a dry run that are known only after the run.
//!
//! *Problem*: a plain placeholder makes wrong values in silence: `"/b/(known after run).gz"` is a valid path, and `==`
//! on it is false. *Decision*: a type whose every use raises, and marked texts, whose every use but showing them
//! raises. *Rejected*: a placeholder text.

use crate::base::failure::{Code, Failure};
use crate::script::context::Raised;
use crate::script::fault;
use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Module};

/// How an unknown is shown; also the name of its type in scripts.
pub const SHOWN: &str = "(known after run)";

/// Stands on both sides of an unknown within a text: a row of invisible characters that no real text holds.
const MARK: &str = "\u{2063}\u{2060}\u{2063}";

/// A comparison of texts.
type Comparison = fn(&str, &str) -> bool;

const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", |a, b| a == b),
    ("!=", |a, b| a != b),
    ("<", |a, b| a < b),
    ("<=", |a, b| a <= b),
    (">", |a, b| a > b),
    (">=", |a, b| a >= b),
];

/// A value that is known only after the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterRun;

/// The failure of using such a value.
pub fn failure(message: &str) -> Failure {
    Failure::new(Code::Unknown, message)
}

/// The text, unless part of it is known only after the run.
///
/// # Errors
/// `Unknown`, which ends the step of a dry run.
pub fn known(text: &str) -> Result<&str, Failure> {
    if text.contains(MARK) {
        return Err(failure(&format!("`{}` is known only after the run", shown(text))));
    }
    Ok(text)
}

/// The text as people see it, without marks.
pub fn shown(text: &str) -> String {
    if text.contains(MARK) { text.replace(MARK, "") } else { text.to_owned() }
}

/// Whether a value is, or holds, something that is known only after the run.
pub fn holds(value: &Dynamic) -> bool {
    if let Some(map) = value.read_lock::<rhai::Map>() {
        return map.values().any(holds);
    }
    if let Some(list) = value.read_lock::<rhai::Array>() {
        return list.iter().any(holds);
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return text.contains(MARK);
    }
    value.is::<AfterRun>()
}

/// Whether an error of the engine was caused by an unknown: it names the type, or holds a marked text.
pub fn caused(error: &EvalAltResult) -> bool {
    let told = |text: &str| {
        text.contains(SHOWN) || text.contains(std::any::type_name::<AfterRun>()) || text.contains(MARK)
    };
    match error {
        EvalAltResult::ErrorFunctionNotFound(text, _)
        | EvalAltResult::ErrorPropertyNotFound(text, _)
        | EvalAltResult::ErrorIndexingType(text, _)
        | EvalAltResult::ErrorDotExpr(text, _)
        | EvalAltResult::ErrorArithmetic(text, _) => told(text),
        EvalAltResult::ErrorMismatchDataType(_, found, _)
        | EvalAltResult::ErrorMismatchOutputType(_, found, _) => told(found),
        EvalAltResult::ErrorIndexNotFound(value, _) => holds(value),
        EvalAltResult::ErrorRuntime(value, _) => holds(value),
        _ => false,
    }
}

fn used() -> Raised {
    fault::raise(failure("a value that is known only after the run is used"))
}

/// Teaches an engine the type: it can be shown, and every operator on it raises.
///
/// Operators that the engine does not know for the type raise by themselves; those it answers for any two types,
/// comparisons, must be told.
pub fn register(engine: &mut Engine) {
    engine.register_type_with_name::<AfterRun>(SHOWN);
    let mut module = Module::new();
    for name in ["to_string", "to_debug", "print", "debug"] {
        module.set_native_fn(name, |_: &mut AfterRun| Ok(format!("{MARK}{SHOWN}{MARK}")));
    }
    for (operator, _) in COMPARISONS {
        module.set_native_fn(operator, |_: AfterRun, _: Dynamic| Err::<bool, _>(used()));
        module.set_native_fn(operator, |_: Dynamic, _: AfterRun| Err::<bool, _>(used()));
    }
    for (operator, compare) in COMPARISONS {
        module.set_native_fn(operator, move |a: ImmutableString, b: ImmutableString| {
            let (a, b) = (known(&a).map_err(fault::raise)?, known(&b).map_err(fault::raise)?);
            Ok(compare(a, b))
        });
        module.set_native_fn(operator, move |a: ImmutableString, b: char| {
            Ok(compare(known(&a).map_err(fault::raise)?, &b.to_string()))
        });
        module.set_native_fn(operator, move |a: char, b: ImmutableString| {
            Ok(compare(&a.to_string(), known(&b).map_err(fault::raise)?))
        });
    }
    let without =
        |text: &str, part: &str| Ok::<_, Raised>(known(text).map_err(fault::raise)?.replace(part, ""));
    module.set_native_fn("-", move |text: ImmutableString, part: ImmutableString| {
        without(&text, known(&part).map_err(fault::raise)?)
    });
    module.set_native_fn("-", move |text: ImmutableString, part: char| without(&text, &part.to_string()));
    module.set_native_fn("-=", move |text: &mut ImmutableString, part: ImmutableString| {
        *text = without(text, known(&part).map_err(fault::raise)?)?.into();
        Ok(())
    });
    module.set_native_fn("-=", move |text: &mut ImmutableString, part: char| {
        *text = without(text, &part.to_string())?.into();
        Ok(())
    });
    // The engine's own would write the name of the type into the text, unmarked.
    module.set_native_fn("to_json", |map: rhai::Map| {
        if map.values().any(holds) {
            return Err(fault::raise(failure(
                "a map that holds what is known only after the run is written as JSON",
            )));
        }
        let json = crate::script::value::json(&Dynamic::from(map));
        json.map(|json| json.to_string()).map_err(|name| {
            let failure = Failure::new(Code::Script, "this map cannot be written as JSON");
            fault::defect(failure.caused_by(format!("it holds a value of type `{name}`")))
        })
    });
    module.set_iter_result(std::any::TypeId::of::<ImmutableString>(), |text| {
        let text = text.cast::<ImmutableString>();
        match known(&text) {
            Ok(text) => Box::new(text.chars().map(|c| Ok(c.into())).collect::<Vec<_>>().into_iter()),
            Err(failure) => Box::new(std::iter::once(Err(fault::raise(failure)))),
        }
    });
    module.set_iter_result(std::any::TypeId::of::<AfterRun>(), |_| Box::new(std::iter::once(Err(used()))));
    engine.register_global_module(module.into());
}
