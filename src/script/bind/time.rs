//! Points in time, durations and sizes: values with units, that print well, add and compare.

use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::script::bind::known_text;
use crate::script::context::{Raised, RunContext};
use crate::script::value::{IntoScript, Kind, ScriptValue};
use crate::script::{fault, unknown};
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Days, FixedOffset, Months, TimeDelta};
use rhai::ImmutableString;
use rhai::plugin::*;
use std::fmt;
use std::time::Duration;

/// How `run_stamp()` writes the time in file names.
const STAMP: &str = "%Y%m%d_%H%M%S";

/// Types of this family.
pub const KINDS: &[Kind] = &[Kind::of::<Span>(), Kind::of::<Bytes>(), Kind::of::<Time>()];

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
    compare::<Span>(engine);
    compare::<Bytes>(engine);
    compare::<Time>(engine);
    // A size is a number of bytes, so that `backup.size > 0` says what it seems to say.
    let in_bytes = |n: i64| i128::from(n);
    let size = |size: Bytes| i128::from(size.0);
    engine
        .register_fn("==", move |a: Bytes, b: i64| size(a) == in_bytes(b))
        .register_fn("!=", move |a: Bytes, b: i64| size(a) != in_bytes(b))
        .register_fn("<", move |a: Bytes, b: i64| size(a) < in_bytes(b))
        .register_fn("<=", move |a: Bytes, b: i64| size(a) <= in_bytes(b))
        .register_fn(">", move |a: Bytes, b: i64| size(a) > in_bytes(b))
        .register_fn(">=", move |a: Bytes, b: i64| size(a) >= in_bytes(b));
}

fn compare<T: Clone + PartialOrd + 'static>(engine: &mut Engine) {
    engine
        .register_fn("==", |a: T, b: T| a == b)
        .register_fn("!=", |a: T, b: T| a != b)
        .register_fn("<", |a: T, b: T| a < b)
        .register_fn("<=", |a: T, b: T| a <= b)
        .register_fn(">", |a: T, b: T| a > b)
        .register_fn(">=", |a: T, b: T| a >= b);
}

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&units::duration(self.0))
    }
}

impl ScriptValue for Span {
    const NAME: &'static str = "duration";
    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "duration_ms": u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX) })
    }

    fn recorded(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.0).ok()
    }

    fn restored(value: serde_json::Value) -> Option<Self> {
        serde_json::from_value(value).ok().map(Self)
    }
}

impl IntoScript for Duration {
    fn into_script(self) -> Dynamic {
        Dynamic::from(Span(self))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&units::bytes(self.0))
    }
}

impl ScriptValue for Bytes {
    const NAME: &'static str = "size";
    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "bytes": self.0 })
    }

    fn recorded(&self) -> Option<serde_json::Value> {
        Some(self.0.into())
    }

    fn restored(value: serde_json::Value) -> Option<Self> {
        value.as_u64().map(Self)
    }
}

impl IntoScript for Bytes {
    fn into_script(self) -> Dynamic {
        Dynamic::from(self)
    }
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub DateTime<FixedOffset>);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d %H:%M:%S"))
    }
}

impl ScriptValue for Time {
    const NAME: &'static str = "time";
    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "time": self.0.to_rfc3339() })
    }

    fn recorded(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.0).ok()
    }

    fn restored(value: serde_json::Value) -> Option<Self> {
        serde_json::from_value(value).ok().map(Self)
    }
}

impl IntoScript for DateTime<FixedOffset> {
    fn into_script(self) -> Dynamic {
        Dynamic::from(Time(self))
    }
}

/// A duration that a primitive takes as a value, a text such as `"10s"`, or a number of seconds.
///
/// # Errors
/// Raises when it is none of these; an unknown when it is known only after the run.
pub fn period(verb: &str, value: &Dynamic) -> Result<Duration, Raised> {
    if unknown::holds(value) {
        return Err(fault::raise(unknown::failure(&format!(
            "the time that `{verb}` waits is known only after the run"
        ))));
    }
    if let Some(span) = value.read_lock::<Span>() {
        return Ok(span.0);
    }
    let read = match value.read_lock::<ImmutableString>() {
        Some(text) => units::parse_duration(&text),
        None => value.as_int().ok().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
    };
    read.ok_or_else(|| {
        let failure = Failure::new(Code::Script, format!("`{value}` is not a duration"));
        fault::defect(
            failure.hint("Write it as `\"30s\"`, `\"5m\"`, `\"2h\"` or `\"7d\"`, or as a number of seconds."),
        )
    })
}

/// A size that a primitive takes as a value, a text such as `"10 GiB"`, or a number of bytes.
///
/// # Errors
/// Raises when it is none of these; an unknown when it is known only after the run.
pub fn size(verb: &str, value: &Dynamic) -> Result<u64, Raised> {
    if unknown::holds(value) {
        return Err(fault::raise(unknown::failure(&format!(
            "the size that `{verb}` is given is known only after the run"
        ))));
    }
    if let Some(bytes) = value.read_lock::<Bytes>() {
        return Ok(bytes.0);
    }
    let read = match value.read_lock::<ImmutableString>() {
        Some(text) => units::parse_bytes(&text),
        None => value.as_int().ok().and_then(|bytes| u64::try_from(bytes).ok()),
    };
    read.ok_or_else(|| {
        let failure = Failure::new(Code::Script, format!("`{value}` is not a size"));
        fault::defect(failure.hint("Write it as `\"10 GiB\"`, `\"500 MB\"`, or as a number of bytes."))
    })
}

fn formatted(time: DateTime<FixedOffset>, format: &str) -> Result<String, Raised> {
    let format = known_text(format)?;
    let items: Vec<Item> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        let failure = Failure::new(Code::Script, format!("`{format}` is not a format of time"));
        return Err(fault::defect(failure.hint("For example `%Y-%m-%d_%H%M%S`, as in `date`.")));
    }
    Ok(time.format_with_items(items.into_iter()).to_string())
}

fn out_of_range(what: &str) -> Raised {
    fault::raise(Failure::new(Code::Script, format!("{what} is out of range")))
}

fn delta(span: Span) -> Result<TimeDelta, Raised> {
    TimeDelta::from_std(span.0).map_err(|_| out_of_range("the time"))
}

/// A factor or divisor of a size or duration.
fn factor(n: i64) -> Result<u32, Raised> {
    u32::try_from(n).map_err(|_| out_of_range(&format!("the factor {n}")))
}

#[export_module]
mod functions {
    /// Now, in the host's time zone; prints as `2025-11-10 02:00:00`.
    #[rhai_fn(volatile, return_raw)]
    pub fn now(ctx: NativeCallContext) -> Result<Time, Raised> {
        Ok(Time(RunContext::of(&ctx)?.session()?.facts().now().fixed_offset()))
    }

    /// The time when the run began, for file names: `20251110_020000`. It is the same in the whole run.
    #[rhai_fn(volatile, return_raw)]
    pub fn run_stamp(ctx: NativeCallContext) -> Result<String, Raised> {
        stamp(ctx, STAMP)
    }

    /// The time when the run began, in a format as of `date`: `stamp("%Y-%m-%d")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn stamp(ctx: NativeCallContext, format: &str) -> Result<String, Raised> {
        formatted(RunContext::of(&ctx)?.session()?.facts().began().fixed_offset(), format)
    }

    /// The time in a format as of `date`: `now().format("%A")`.
    #[rhai_fn(pure, return_raw)]
    pub fn format(time: &mut Time, format: &str) -> Result<String, Raised> {
        formatted(time.0, format)
    }

    /// The time so many days later, or earlier for a negative number: `now().plus_days(-7)`. It is the same time of day by the
    /// same offset from UTC.
    #[rhai_fn(pure, return_raw)]
    pub fn plus_days(time: &mut Time, days: i64) -> Result<Time, Raised> {
        let count = Days::new(days.unsigned_abs());
        let moved = if days < 0 { time.0.checked_sub_days(count) } else { time.0.checked_add_days(count) };
        moved.map(Time).ok_or_else(|| out_of_range("the time"))
    }

    /// The time so many months later, or earlier for a negative number: `now().plus_months(3)`. A month that has no such day
    /// gives its last one.
    #[rhai_fn(pure, return_raw)]
    pub fn plus_months(time: &mut Time, months: i64) -> Result<Time, Raised> {
        let count = u32::try_from(months.unsigned_abs()).map_err(|_| out_of_range("the time"))?;
        let count = Months::new(count);
        let moved =
            if months < 0 { time.0.checked_sub_months(count) } else { time.0.checked_add_months(count) };
        moved.map(Time).ok_or_else(|| out_of_range("the time"))
    }

    /// A duration: `duration("5m")`, `duration("1h30m")`; prints as `5 min 0 s`.
    #[rhai_fn(return_raw)]
    pub fn duration(text: &str) -> Result<Span, Raised> {
        period("duration", &known_text(text)?.into()).map(Span)
    }

    /// A duration in seconds: `duration(90)`.
    #[rhai_fn(return_raw, name = "duration")]
    pub fn duration_of_seconds(seconds: i64) -> Result<Span, Raised> {
        period("duration", &seconds.into()).map(Span)
    }

    /// A size: `bytes("10GiB")`, `bytes("1.5M")`; prints as `10.0 GiB`.
    #[rhai_fn(return_raw)]
    pub fn bytes(text: &str) -> Result<Bytes, Raised> {
        units::parse_bytes(known_text(text)?).map(Bytes).ok_or_else(|| {
            let failure = Failure::new(Code::Script, format!("`{text}` is not a size"));
            fault::defect(failure.hint("Write it as `\"500\"`, `\"10GiB\"`, `\"10GB\"` or `\"1.5M\"`."))
        })
    }

    /// A size in bytes: `bytes(1024)`.
    #[rhai_fn(return_raw, name = "bytes")]
    pub fn bytes_of_number(n: i64) -> Result<Bytes, Raised> {
        u64::try_from(n).map(Bytes).map_err(|_| out_of_range(&format!("the size {n}")))
    }

    /// The size as a number of bytes.
    #[rhai_fn(get = "count", pure, return_raw)]
    pub fn count(size: &mut Bytes) -> Result<i64, Raised> {
        i64::try_from(size.0).map_err(|_| out_of_range("the size"))
    }

    /// The duration in seconds.
    #[rhai_fn(get = "seconds", pure)]
    pub fn seconds(span: &mut Span) -> f64 {
        span.0.as_secs_f64()
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add_bytes(a: Bytes, b: Bytes) -> Result<Bytes, Raised> {
        a.0.checked_add(b.0).map(Bytes).ok_or_else(|| out_of_range("the size"))
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_bytes(a: Bytes, b: Bytes) -> Result<Bytes, Raised> {
        a.0.checked_sub(b.0).map(Bytes).ok_or_else(|| out_of_range(&format!("the size {a} - {b}")))
    }

    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply_bytes(a: Bytes, n: i64) -> Result<Bytes, Raised> {
        a.0.checked_mul(factor(n)?.into()).map(Bytes).ok_or_else(|| out_of_range("the size"))
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn divide_bytes(a: Bytes, n: i64) -> Result<Bytes, Raised> {
        a.0.checked_div(factor(n)?.into()).map(Bytes).ok_or_else(|| out_of_range("the size"))
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add_spans(a: Span, b: Span) -> Result<Span, Raised> {
        a.0.checked_add(b.0).map(Span).ok_or_else(|| out_of_range("the duration"))
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_spans(a: Span, b: Span) -> Result<Span, Raised> {
        a.0.checked_sub(b.0).map(Span).ok_or_else(|| out_of_range(&format!("the duration {a} - {b}")))
    }

    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply_span(a: Span, n: i64) -> Result<Span, Raised> {
        a.0.checked_mul(factor(n)?).map(Span).ok_or_else(|| out_of_range("the duration"))
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn divide_span(a: Span, n: i64) -> Result<Span, Raised> {
        a.0.checked_div(factor(n)?).map(Span).ok_or_else(|| out_of_range("the duration"))
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn later(a: Time, b: Span) -> Result<Time, Raised> {
        a.0.checked_add_signed(delta(b)?).map(Time).ok_or_else(|| out_of_range("the time"))
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn earlier(a: Time, b: Span) -> Result<Time, Raised> {
        a.0.checked_sub_signed(delta(b)?).map(Time).ok_or_else(|| out_of_range("the time"))
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn since(a: Time, b: Time) -> Result<Span, Raised> {
        let between = (a.0 - b.0).to_std();
        between.map(Span).map_err(|_| out_of_range(&format!("the duration from {b} to {a}")))
    }
}
