//! Options of functions: the keys of a trailing map, taken from the very struct that the binding reads them into, so
//! that lint cannot drift from the bindings.

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde_json::Value;

/// The options that a function takes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the function.
    pub function: &'static str,
    /// Its keys.
    pub keys: Vec<&'static str>,
    /// Whether one literal value fits its key; the reason otherwise.
    pub check: fn(key: &str, value: &Value) -> Result<(), String>,
}

impl Options {
    /// The options of `function`, which its binding reads into a `T`.
    pub fn of<T: DeserializeOwned>(function: &'static str) -> Self {
        Self { function, keys: keys::<T>().to_vec(), check: fits::<T> }
    }

    /// Adds keys that the binding takes out of the map beforehand, such as a database.
    #[must_use]
    pub fn and(mut self, keys: &[&'static str]) -> Self {
        self.keys.extend(keys);
        self
    }
}

/// The field names of a struct that serde derives.
pub fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(FieldNames) {
        Err(Found(keys)) => keys,
        Ok(_) => &[],
    }
}

fn fits<T: DeserializeOwned>(key: &str, value: &Value) -> Result<(), String> {
    let alone = serde_json::Map::from_iter([(key.to_owned(), value.clone())]);
    match serde_json::from_value::<T>(Value::Object(alone)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            // A key that is missing here may stand beside it; the binding tells when it does not.
            if text.starts_with("missing field") { Ok(()) } else { Err(text) }
        }
    }
}

/// A source of values that has none, and only listens for the names of fields.
struct FieldNames;

/// What it heard, as the error that ends reading.
#[derive(Debug)]
struct Found(&'static [&'static str]);

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no value")
    }
}

impl std::error::Error for Found {}

impl de::Error for Found {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for FieldNames {
    type Error = Found;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Found> {
        Err(Found(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Found> {
        Err(Found(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its fields' names and types matter")]
    struct Rotate {
        tag: String,
        keep_days: Option<u32>,
    }

    #[test]
    fn keys_come_from_the_struct_itself() {
        assert_eq!(Options::of::<Rotate>("rotate").keys, ["tag", "keep_days"]);
        assert_eq!(Options::of::<Rotate>("rotate").and(&["database"]).keys, ["tag", "keep_days", "database"]);
    }

    #[test]
    fn a_literal_value_is_read_as_the_binding_would() {
        let options = Options::of::<Rotate>("rotate");
        assert_eq!((options.check)("keep_days", &serde_json::json!(30)), Ok(()));
        assert_eq!(
            (options.check)("keep_days", &serde_json::json!("30")),
            Err("invalid type: string \"30\", expected u32".to_owned())
        );
    }
}
