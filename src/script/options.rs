//! The trailing `#{ ... }` of a primitive: a map that becomes a struct, with errors that name the key.
//!
//! ```ignore
//! #[derive(serde::Deserialize, Default)]
//! #[serde(deny_unknown_fields, default)]
//! struct RotateOptions { keep_last: Option<u32>, keep_days: Option<u32> }
//! let options: RotateOptions = options::read("rotate", options)?;
//! ```

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::script::context::Raised;
use crate::script::{fault, unknown, value, wording};
use rhai::{Dynamic, Map};
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::cell::RefCell;
use std::time::Duration;

/// Reads the options of `verb`.
///
/// # Errors
/// Raises what is wrong with which key; an unknown when an option is known only after the run.
pub fn read<T: DeserializeOwned>(verb: &str, options: Map) -> Result<T, Raised> {
    if let Some((key, _)) = options.iter().find(|(_, value)| unknown::holds(value)) {
        let message = format!("option `{key}` of `{verb}` is known only after the run");
        return Err(fault::raise(unknown::failure(&message)));
    }
    let mut values = Vec::new();
    for (key, option) in &options {
        match value::json(option) {
            Ok(json) => values.push((key.to_string(), json)),
            Err(name) => {
                let failure =
                    Failure::new(Code::Script, format!("option `{key}` of `{verb}` cannot be used"));
                let name = wording::type_name_alone(&name);
                return Err(fault::defect(failure.caused_by(format!("it is a value of type `{name}`"))));
            }
        }
    }
    let current = RefCell::new(String::new());
    let entries = values.into_iter().inspect(|(key, _)| current.borrow_mut().clone_from(key));
    T::deserialize(MapDeserializer::<_, serde_json::Error>::new(entries))
        .map_err(|error| fault::defect(refusal(verb, &current.borrow(), &error.to_string())))
}

/// Takes an option that is a value of the host, such as a database, out of the map.
///
/// # Errors
/// Raises when it is something else; an unknown when it is known only after the run.
pub fn take<T: Clone + 'static>(verb: &str, options: &mut Map, key: &str) -> Result<Option<T>, Raised> {
    let Some(found) = options.remove(key).filter(|found| !found.is_unit()) else { return Ok(None) };
    if unknown::holds(&found) {
        let message = format!("option `{key}` of `{verb}` is known only after the run");
        return Err(fault::raise(unknown::failure(&message)));
    }
    let name = wording::type_name_alone(found.type_name());
    found.try_cast::<T>().map(Some).ok_or_else(|| {
        let failure = Failure::new(Code::Script, format!("option `{key}` of `{verb}` is of the wrong type"));
        fault::defect(failure.caused_by(format!("it is a value of type `{name}`")))
    })
}

/// Why an option's value is refused: serde's message in our words.
pub fn refusal(verb: &str, key: &str, message: &str) -> Failure {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, Some((unknown, known))) = (message.starts_with("unknown field"), quoted.split_first()) {
        let failure = Failure::new(Code::Script, format!("unknown option `{unknown}` of `{verb}`"));
        return match did_you_mean(unknown, known.iter().copied()) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure.hint(format!("`{verb}` knows the options `{}`.", known.join("`, `"))),
        };
    }
    if let (true, Some(missing)) = (message.starts_with("missing field"), quoted.first()) {
        return Failure::new(Code::Script, format!("`{verb}` needs the option `{missing}`"));
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match wrong.and_then(|rest| rest.split_once(", expected ")) {
        Some((found, expected)) => Failure::new(
            Code::Script,
            format!("option `{key}` of `{verb}` must be {}", expectation(expected)),
        )
        .caused_by(format!("it is {}", found.replace('`', "").replace("string", "the text"))),
        None => Failure::new(Code::Script, format!("option `{key}` of `{verb}` cannot be used"))
            .caused_by(message),
    }
}

fn expectation(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a string" => "a text",
        "a sequence" => "an array",
        "a map" => "a map",
        other => other,
    }
}

/// An option that is a duration: `"5m"`, a number of seconds, or `duration("5m")`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let period = match &value {
            Value::String(text) => units::parse_duration(text),
            Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs),
            value => value.get("duration_ms").and_then(Value::as_u64).map(Duration::from_millis),
        };
        period.map(Self).ok_or_else(|| {
            D::Error::custom(format_args!(
                "invalid type: {}, expected a duration such as `\"5m\"`",
                told(&value)
            ))
        })
    }
}

/// An option that is a size: `"10GiB"`, a number of bytes, or `bytes("10GiB")`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let size = match &value {
            Value::String(text) => units::parse_bytes(text),
            Value::Number(bytes) => bytes.as_u64(),
            value => value.get("bytes").and_then(Value::as_u64),
        };
        size.map(Self).ok_or_else(|| {
            D::Error::custom(format_args!(
                "invalid type: {}, expected a size such as `\"10GiB\"`",
                told(&value)
            ))
        })
    }
}

fn told(value: &Value) -> String {
    match value {
        Value::String(text) => format!("string {text:?}"),
        other => other.to_string(),
    }
}

/// The map that an options argument must be.
///
/// # Errors
/// Raises when it is not a map; an unknown when it is known only after the run.
pub fn map(verb: &str, options: Dynamic) -> Result<Map, Raised> {
    if unknown::holds(&options) && !options.is_map() {
        return Err(fault::raise(unknown::failure(&format!(
            "the options of `{verb}` are known only after the run"
        ))));
    }
    let name = wording::type_name_alone(options.type_name());
    options.try_cast::<Map>().ok_or_else(|| {
        let failure =
            Failure::new(Code::Script, format!("the options of `{verb}` must be a map, `#{{ ... }}`"));
        fault::defect(failure.caused_by(format!("they are a value of type `{name}`")))
    })
}
