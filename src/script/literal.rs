//! Literal values read from the syntax tree, each with its place. Nothing is run to read them.

use rhai::{Expr, Position};
use serde_json::{Map, Value};

/// A literal of a playbook.
#[derive(Clone, Debug)]
pub struct Literal {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub form: Form,
}

/// The forms that literals take.
#[derive(Clone, Debug)]
pub enum Form {
    /// `()`
    Unit,
    /// `true`, `false`
    Bool(bool),
    /// `30`
    Int(i64),
    /// `0.5`
    Float(f64),
    /// `"text"`
    Text(String),
    /// `[ ... ]`
    List(Vec<Literal>),
    /// `#{ ... }`, in the order of the source
    Map(Vec<Entry>),
}

/// One entry of a literal map.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: Position,
    /// Its value.
    pub value: Literal,
}

/// The part of an expression that is not literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLiteral {
    /// Keys that lead to it, such as `params.dir.default_value`; empty for the whole expression.
    pub path: String,
    /// Where it stands.
    pub at: Position,
    /// What stands there, such as `a function call`.
    pub what: &'static str,
}

impl Literal {
    /// Reads `expr`, or tells which part of it is not literal.
    pub fn read(expr: &Expr) -> Result<Self, NotLiteral> {
        let at = expr.start_position();
        let form = match expr {
            Expr::Unit(_) => Form::Unit,
            Expr::BoolConstant(value, _) => Form::Bool(*value),
            Expr::IntegerConstant(value, _) => Form::Int(*value),
            Expr::FloatConstant(value, _) => Form::Float(**value),
            Expr::StringConstant(text, _) => Form::Text(text.to_string()),
            Expr::CharConstant(c, _) => Form::Text(c.to_string()),
            Expr::Array(items, _) => Form::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| {
                        Self::read(item).map_err(|error| error.inside(&format!("[{index}]")))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Expr::Map(map, _) => Form::Map(
                map.0
                    .iter()
                    .map(|(key, value)| {
                        let value = Self::read(value).map_err(|error| error.inside(&key.name))?;
                        Ok(Entry { key: key.name.to_string(), at: key.pos, value })
                    })
                    .collect::<Result<_, _>>()?,
            ),
            other => return Err(NotLiteral { path: String::new(), at, what: describe(other) }),
        };
        Ok(Self { at, form })
    }

    /// What it is, with its article: `a string`, `a list`.
    pub fn kind(&self) -> &'static str {
        match self.form {
            Form::Unit => "`()`",
            Form::Bool(_) => "a boolean",
            Form::Int(_) => "a whole number",
            Form::Float(_) => "a number",
            Form::Text(_) => "text",
            Form::List(_) => "an array",
            Form::Map(_) => "a map",
        }
    }

    /// The value without places.
    pub fn json(&self) -> Value {
        match &self.form {
            Form::Unit => Value::Null,
            Form::Bool(value) => (*value).into(),
            Form::Int(value) => (*value).into(),
            Form::Float(value) => (*value).into(),
            Form::Text(text) => text.clone().into(),
            Form::List(items) => items.iter().map(Self::json).collect(),
            Form::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The text of a string literal.
    pub fn text(&self) -> Option<&str> {
        match &self.form {
            Form::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl NotLiteral {
    fn inside(mut self, outer: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => outer.to_owned(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        self
    }
}

fn describe(expr: &Expr) -> &'static str {
    match expr {
        Expr::FnCall(call, _) if call.is_operator_call() => "a calculation",
        Expr::And(..) | Expr::Or(..) | Expr::Coalesce(..) => "a calculation",
        Expr::FnCall(..) | Expr::MethodCall(..) => "a function call",
        Expr::Variable(..) | Expr::ThisPtr(_) => "a variable",
        Expr::InterpolatedString(..) => "text with `${...}`",
        Expr::DynamicConstant(value, _) if value.is_fnptr() => "a closure",
        Expr::Stmt(_) => "a closure or block",
        Expr::Dot(..) | Expr::Index(..) | Expr::Property(..) => "part of another value",
        _ => "an expression",
    }
}
