//! The codec of step values: what a script's value is made from again when the run is resumed.
//!
//! Plain data is JSON as it is. What JSON has no word for stands in a map with one key that begins with `$`: its type.

use crate::script::bind;
use crate::script::unknown;
use rhai::{Array, Dynamic, ImmutableString, Map};
use serde_json::{Value, json};

const MAP: &str = "$map";
const CHAR: &str = "$char";
const FLOAT: &str = "$float";

/// The value for the journal; `None` if no value can be made from it again: then its step is repeated.
pub fn recorded(value: &Dynamic) -> Option<Value> {
    if let Some(map) = value.read_lock::<Map>() {
        let entries = map.iter().map(|(key, value)| Some((key.to_string(), recorded(value)?)));
        let entries: serde_json::Map<String, Value> = entries.collect::<Option<_>>()?;
        let tagged = entries.keys().any(|key| key.starts_with('$'));
        return Some(if tagged { json!({ MAP: entries }) } else { Value::Object(entries) });
    }
    if let Some(list) = value.read_lock::<Array>() {
        return list.iter().map(recorded).collect();
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return unknown::known(&text).ok().map(Value::from);
    }
    if value.is_unit() {
        return Some(Value::Null);
    }
    if let Ok(value) = value.as_bool() {
        return Some(value.into());
    }
    if let Ok(value) = value.as_int() {
        return Some(value.into());
    }
    if let Ok(value) = value.as_float() {
        // JSON has no word for what is not finite, and the text of a float tells it exactly.
        return Some(json!({ FLOAT: value.to_string() }));
    }
    if let Ok(value) = value.as_char() {
        return Some(json!({ CHAR: value.to_string() }));
    }
    let (name, recorded) = bind::kinds().find_map(|kind| Some((kind.name(), kind.recorded(value)?)))?;
    Some(json!({ format!("${name}"): recorded? }))
}

/// The value that was recorded; `None` if this version cannot make it.
pub fn restored(value: Value) -> Option<Dynamic> {
    Some(match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Number(number) => number.as_i64()?.into(),
        Value::String(text) => text.into(),
        Value::Array(items) => items.into_iter().map(restored).collect::<Option<Array>>()?.into(),
        Value::Object(entries) => match entries.keys().next() {
            Some(key) if key.starts_with('$') && entries.len() == 1 => {
                let (key, value) = entries.into_iter().next()?;
                tagged(&key, value)?
            }
            _ => plain(entries)?,
        },
    })
}

fn plain(entries: serde_json::Map<String, Value>) -> Option<Dynamic> {
    let entries = entries.into_iter().map(|(key, value)| Some((key.into(), restored(value)?)));
    Some(entries.collect::<Option<Map>>()?.into())
}

fn tagged(key: &str, value: Value) -> Option<Dynamic> {
    Some(match (key, value) {
        (MAP, Value::Object(entries)) => plain(entries)?,
        (FLOAT, Value::String(text)) => text.parse::<f64>().ok()?.into(),
        (CHAR, Value::String(text)) => text.chars().next()?.into(),
        (name, value) => bind::kinds().find(|kind| name[1..] == *kind.name())?.restored(value)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failure::{Code, Failure};
    use crate::script::bind::time::{Bytes, Span, Time};
    use crate::script::fault::Fault;
    use crate::script::value;
    use std::time::Duration;

    #[track_caller]
    fn round_trips(value: Dynamic) {
        let recorded = recorded(&value).unwrap();
        let text = recorded.to_string();
        let back = restored(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(back.type_name(), value.type_name(), "{text}");
        assert_eq!(value::json(&back), value::json(&value), "{text}");
    }

    #[test]
    fn every_value_with_a_codec_comes_back() {
        let mut map = Map::new();
        map.insert("n".into(), 1.into());
        map.insert("$size".into(), "a key that looks like a tag".into());
        let mut alone = Map::new();
        alone.insert("$map".into(), Dynamic::UNIT);
        let failure = Failure::new(Code::Connect, "no").caused_by("why").hint("Do.");
        let values: Array = vec![
            Dynamic::UNIT,
            true.into(),
            i64::MIN.into(),
            1.0.into(),
            0.1.into(),
            'é'.into(),
            "text \u{1F600}\n\"".into(),
            Dynamic::from(Bytes(u64::MAX)),
            Dynamic::from(Span(Duration::from_nanos(1_000_000_001))),
            Dynamic::from(Time(
                chrono::DateTime::parse_from_rfc3339("2025-11-10T02:00:00.123456789+01:00").unwrap(),
            )),
            Dynamic::from(Fault { failure, defect: false }),
            map.into(),
            alone.into(),
            Map::new().into(),
            Array::new().into(),
        ];
        values.iter().cloned().for_each(round_trips);
        round_trips(values.into());
        let nan = restored(recorded(&f64::NAN.into()).unwrap()).unwrap();
        assert!(nan.as_float().unwrap().is_nan());
    }

    #[test]
    fn what_cannot_come_back_is_not_recorded() {
        for value in [
            Dynamic::from(unknown::AfterRun),
            Dynamic::from(std::time::Instant::now()),
            Dynamic::from(crate::script::bind::command::SecretText(crate::base::secret::Secret::new("x"))),
        ] {
            assert_eq!(recorded(&value), None);
            assert_eq!(recorded(&vec![value].into()), None);
        }
    }

    #[test]
    fn what_was_not_recorded_so_does_not_come_back() {
        for text in ["{\"$backup\":1}", "{\"$nothing\":1}", "{\"$char\":\"\"}", "18446744073709551615", "0.5"]
        {
            assert!(restored(serde_json::from_str(text).unwrap()).is_none(), "{text}");
        }
    }
}
