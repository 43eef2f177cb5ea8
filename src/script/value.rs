//! Values of scripts: which of them a journal can hold, and how outputs of the host become values.

use crate::base::failure::{Code, Failure};
use crate::base::plan::Later;
use crate::script::context::Raised;
use crate::script::unknown::{self, AfterRun};
use crate::script::{bind, fault, wording};
use rhai::{Array, Dynamic, Engine, FnPtr, ImmutableString, Map, NativeCallContext};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Values that are nested deeper are taken for equal; only a value that holds itself is.
const DEEPEST: usize = 64;

/// A type of the host that scripts handle as a value.
pub trait ScriptValue: Clone + std::fmt::Display + 'static {
    /// Its name in scripts, messages and docs.
    const NAME: &'static str;
    /// What the journal holds: everything that tells two values apart, and no secret.
    fn json(&self) -> Value;
    /// What a resumed run makes the value from; `None` if it cannot, for example because it holds a connection.
    fn recorded(&self) -> Option<Value> {
        None
    }
    /// The value that [`ScriptValue::recorded`] wrote.
    fn restored(_: Value) -> Option<Self> {
        None
    }
}

/// What is known about a type that implements [`ScriptValue`].
pub struct Kind {
    name: &'static str,
    rust_name: fn() -> &'static str,
    register: fn(&mut Engine),
    json: fn(&Dynamic) -> Option<Value>,
    recorded: fn(&Dynamic) -> Option<Option<Value>>,
    restored: fn(Value) -> Option<Dynamic>,
}

impl Kind {
    /// The kind of `T`.
    pub const fn of<T: ScriptValue>() -> Self {
        Self {
            name: T::NAME,
            rust_name: std::any::type_name::<T>,
            register: |engine| {
                engine.register_type_with_name::<T>(T::NAME);
                for name in ["to_string", "to_debug", "print", "debug"] {
                    engine.register_fn(name, |value: &mut T| value.to_string());
                }
                refuse_comparisons::<T>(engine);
            },
            json: |value| value.read_lock::<T>().map(|value| value.json()),
            recorded: |value| value.read_lock::<T>().map(|value| value.recorded()),
            restored: |value| T::restored(value).map(Dynamic::from),
        }
    }

    /// The name of the type in scripts, if it is the Rust type `name`, with or without its path.
    pub fn named(&self, name: &str) -> Option<&'static str> {
        let rust_name = (self.rust_name)();
        (rust_name == name || rust_name.rsplit("::").next() == Some(name)).then_some(self.name)
    }

    /// The name of the type in scripts.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What a resumed run makes the value from, if it can; `None` if the value is of another type.
    pub fn recorded(&self, value: &Dynamic) -> Option<Option<Value>> {
        (self.recorded)(value)
    }

    /// The value that was recorded.
    pub fn restored(&self, value: Value) -> Option<Dynamic> {
        (self.restored)(value)
    }

    /// Names the type to an engine and lets it be shown.
    pub fn register(&self, engine: &mut Engine) {
        (self.register)(engine);
    }
}

/// The engine takes values of different types for unequal, and neither for less: a wrong comparison would be false in
/// silence. Only `==` and `!=` with `()` are answered, and with the same type, unless the type has its own operators.
fn refuse_comparisons<T: ScriptValue>(engine: &mut Engine) {
    for operator in ["==", "!=", "<", "<=", ">", ">="] {
        let refuse = move |ctx: &NativeCallContext, other: &Dynamic, here: bool| {
            if unknown::holds(other) {
                return fault::raise(unknown::failure(
                    "a value that is known only after the run is compared",
                ));
            }
            let other = wording::type_name(ctx.engine(), other.type_name());
            let (a, b) = if here { (T::NAME, other.as_str()) } else { (other.as_str(), T::NAME) };
            let message = format!("`{operator}` cannot be applied to values of the types `{a}, {b}`");
            fault::defect(Failure::new(Code::Script, message))
        };
        let answer = move |ctx: NativeCallContext, value: &T, other: &Dynamic, here: bool| {
            let equal = match other.read_lock::<T>() {
                Some(other) if matches!(operator, "==" | "!=") => other.json() == value.json(),
                None if other.is_unit() && matches!(operator, "==" | "!=") => false,
                _ => return Err::<bool, Raised>(refuse(&ctx, other, here)),
            };
            Ok(equal == (operator == "=="))
        };
        engine.register_fn(operator, move |ctx: NativeCallContext, value: T, other: Dynamic| {
            answer(ctx, &value, &other, true)
        });
        engine.register_fn(operator, move |ctx: NativeCallContext, other: Dynamic, value: T| {
            answer(ctx, &value, &other, false)
        });
    }
}

/// How an output or answer becomes a value of a script.
pub trait IntoScript {
    /// The value.
    fn into_script(self) -> Dynamic;
}

impl<T: IntoScript> IntoScript for Later<T> {
    fn into_script(self) -> Dynamic {
        match self {
            Self::Now(value) => value.into_script(),
            Self::AfterRun => Dynamic::from(AfterRun),
        }
    }
}

impl<T: IntoScript> IntoScript for Option<T> {
    fn into_script(self) -> Dynamic {
        self.map_or(Dynamic::UNIT, T::into_script)
    }
}

impl<T: IntoScript> IntoScript for Vec<T> {
    fn into_script(self) -> Dynamic {
        self.into_iter().map(T::into_script).collect::<Array>().into()
    }
}

impl IntoScript for () {
    fn into_script(self) -> Dynamic {
        Dynamic::UNIT
    }
}

impl IntoScript for bool {
    fn into_script(self) -> Dynamic {
        self.into()
    }
}

impl IntoScript for i64 {
    fn into_script(self) -> Dynamic {
        self.into()
    }
}

impl IntoScript for String {
    fn into_script(self) -> Dynamic {
        self.into()
    }
}

impl IntoScript for std::path::PathBuf {
    fn into_script(self) -> Dynamic {
        self.display().to_string().into()
    }
}

impl IntoScript for Value {
    fn into_script(self) -> Dynamic {
        match self {
            Self::Null => Dynamic::UNIT,
            Self::Bool(value) => value.into(),
            Self::Number(number) => match number.as_i64() {
                Some(value) => value.into(),
                None => number.as_f64().unwrap_or(f64::NAN).into(),
            },
            Self::String(text) => text.into(),
            Self::Array(list) => list.into_script(),
            Self::Object(map) => {
                map.into_iter().map(|(key, value)| (key.into(), value.into_script())).collect::<Map>().into()
            }
        }
    }
}

/// The value as JSON: plain data as it is, types of the host tagged with their name.
///
/// # Errors
/// The name of the engine's type that has no codec.
pub fn json(value: &Dynamic) -> Result<Value, String> {
    if let Some(map) = value.read_lock::<Map>() {
        let entries = map.iter().map(|(key, value)| Ok((key.to_string(), json(value)?)));
        return entries.collect::<Result<_, String>>().map(Value::Object);
    }
    if let Some(list) = value.read_lock::<Array>() {
        return list.iter().map(json).collect::<Result<_, String>>().map(Value::Array);
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(Value::String(unknown::shown(&text)));
    }
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(value) = value.as_bool() {
        return Ok(Value::Bool(value));
    }
    if let Ok(value) = value.as_int() {
        return Ok(value.into());
    }
    if let Ok(value) = value.as_float() {
        return Ok(json!(value));
    }
    if let Ok(value) = value.as_char() {
        return Ok(Value::String(value.to_string()));
    }
    if value.is::<AfterRun>() {
        return Ok(Value::String(unknown::SHOWN.to_owned()));
    }
    bind::kinds().find_map(|kind| (kind.json)(value)).ok_or_else(|| value.type_name().to_owned())
}

/// A number that changes when the value does, through shared variables too.
pub fn fingerprint(value: &Dynamic) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash(value, &mut hasher, 0);
    hasher.finish()
}

fn hash(value: &Dynamic, hasher: &mut DefaultHasher, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    if let Some(map) = value.read_lock::<Map>() {
        map.len().hash(hasher);
        for (key, value) in map.iter() {
            key.hash(hasher);
            hash(value, hasher, depth + 1);
        }
    } else if let Some(list) = value.read_lock::<Array>() {
        list.len().hash(hasher);
        list.iter().for_each(|value| hash(value, hasher, depth + 1));
    } else if let Some(closure) = value.read_lock::<FnPtr>() {
        closure.fn_name().hash(hasher);
        closure.curry().iter().for_each(|value| hash(value, hasher, depth + 1));
    } else if let Some(text) = value.read_lock::<ImmutableString>() {
        text.hash(hasher);
    } else if let Some(bytes) = value.read_lock::<rhai::Blob>() {
        bytes.hash(hasher);
    } else {
        value.type_name().hash(hasher);
        if let Ok(json) = json(value) {
            json.to_string().hash(hasher);
        }
    }
}
