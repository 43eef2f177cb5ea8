//! A parameter as the header of a playbook specifies it.

use crate::base::failure::{Failure, Place};
use crate::base::units::{parse_bytes, parse_duration};
use crate::script::fields::{Fields, listed, place, wrong};
use crate::script::literal::{Entry, Form, Literal};
use crate::script::words::{is_reserved, is_variable_name};
use serde_json::Value;

/// Keys of a parameter's specification.
const KEYS: [&str; 12] = [
    "default_value",
    "env",
    "help",
    "required",
    "choices",
    "positional",
    "list",
    "optional_value",
    "secret",
    "path",
    "type",
    "value_name",
];

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; a switch on the command line.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Text.
    Text,
    /// A size such as `10GiB`.
    Size,
    /// A duration such as `30m`.
    Duration,
    /// A list of texts.
    List,
}

impl Kind {
    /// What a value of this kind is, with its article.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Bool => "`true` or `false`",
            Self::Int => "a whole number",
            Self::Float => "a number",
            Self::Text => "text",
            Self::Size => "a size such as `10GiB`",
            Self::Duration => "a duration such as `30m`",
            Self::List => "an array of texts",
        }
    }

    /// Why a literal of the header is no value of this kind.
    fn mismatch(self, literal: &Literal) -> String {
        let given = match (self, literal.text()) {
            (Self::Size | Self::Duration, Some(text)) => format!("`{text}`"),
            _ => literal.kind().to_owned(),
        };
        format!("must be {}, not {given}", self.describe())
    }

    /// Whether a literal of the header is a value of this kind.
    fn accepts(self, literal: &Literal) -> bool {
        match (self, &literal.form) {
            (Self::Bool, Form::Bool(_)) | (Self::Int, Form::Int(_)) | (Self::Text, Form::Text(_)) => true,
            (Self::Float, Form::Float(_) | Form::Int(_)) => true,
            (Self::Size, Form::Int(bytes)) => *bytes >= 0,
            (Self::Size, Form::Text(text)) => parse_bytes(text).is_some(),
            (Self::Duration, Form::Text(text)) => parse_duration(text).is_some(),
            (Self::List, Form::List(items)) => items.iter().all(|item| item.text().is_some()),
            _ => false,
        }
    }
}

/// One parameter, as the header says.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name; `params.NAME` in the playbook.
    pub name: String,
    /// What values it takes.
    pub kind: Kind,
    /// The value when nothing is given.
    pub default: Option<Value>,
    /// Environment variable that gives it.
    pub env: Option<String>,
    /// One sentence for `--help`.
    pub help: Option<String>,
    /// Whether a value must be given.
    pub required: bool,
    /// The only values allowed; empty for any.
    pub choices: Vec<Value>,
    /// Whether it is an argument by position instead of a flag.
    pub positional: bool,
    /// The value when its flag stands without one.
    pub optional_value: Option<Value>,
    /// Whether its value is never shown.
    pub secret: bool,
    /// Whether its value is a file or folder that the playbook may use.
    pub path: bool,
    /// What stands for the value in `--help`.
    pub value_name: Option<String>,
    /// Where the header names it.
    pub at: Place,
}

impl Param {
    /// Reads one entry of `params`: a specification, or the default value itself.
    pub fn read(entry: &Entry, file: &str) -> Result<Self, Failure> {
        let name = &entry.key;
        if is_reserved(name) {
            return Err(wrong(
                file,
                entry.at,
                format!("`{name}` cannot name a parameter: the word is reserved"),
            )
            .hint(format!("Rename it, for example to `{name}_value`.")));
        }
        let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !plain || name.ends_with('_') || name.contains("__") {
            return Err(wrong(file, entry.at, format!("`{name}` cannot name a parameter")).hint(
                "Names begin with a lowercase letter and go on with lowercase letters, digits and single `_`.",
            ));
        }
        let mut param = Self {
            name: name.clone(),
            kind: Kind::Text,
            default: None,
            env: None,
            help: None,
            required: false,
            choices: Vec::new(),
            positional: false,
            optional_value: None,
            secret: false,
            path: false,
            value_name: None,
            at: place(file, entry.at),
        };
        if matches!(entry.value.form, Form::Map(_)) {
            let path = format!("params.{name}");
            param.fill(&Fields::of(&entry.value, &path, file, &KEYS)?)?;
        } else {
            param.kind = inferred(&entry.value).ok_or_else(|| not_a_default(file, entry))?;
            param.default = Some(entry.value.json());
        }
        if param.kind == Kind::Bool {
            param.default.get_or_insert(Value::Bool(false));
        }
        if param.kind == Kind::List && !param.required {
            param.default.get_or_insert(Value::Array(Vec::new()));
        }
        Ok(param)
    }

    fn fill(&mut self, fields: &Fields<'_>) -> Result<(), Failure> {
        self.help = fields.text("help")?.map(str::to_owned);
        self.env = fields.text("env")?.map(str::to_owned);
        self.value_name = fields.text("value_name")?.map(str::to_owned);
        self.required = fields.flag("required")?;
        self.positional = fields.flag("positional")?;
        self.secret = fields.flag("secret")?;
        self.path = fields.flag("path")?;
        self.kind = self.kind_of(fields)?;
        for key in ["default_value", "optional_value"] {
            if let Some(entry) = fields.get(key)
                && !self.kind.accepts(&entry.value)
            {
                return Err(fields.refuse(key, &self.kind.mismatch(&entry.value)));
            }
        }
        self.default = fields.get("default_value").map(|entry| entry.value.json());
        self.optional_value = fields.get("optional_value").map(|entry| entry.value.json());
        self.read_choices(fields)?;
        self.check(fields)
    }

    fn kind_of(&self, fields: &Fields<'_>) -> Result<Kind, Failure> {
        let named = match fields.text("type")? {
            None => None,
            Some("text" | "string") => Some(Kind::Text),
            Some("int") => Some(Kind::Int),
            Some("bool") => Some(Kind::Bool),
            Some("float") => Some(Kind::Float),
            Some("size") => Some(Kind::Size),
            Some("duration") => Some(Kind::Duration),
            Some(other) => {
                return Err(fields.refuse("type", &format!("cannot be `{other}`")).hint(
                    "Types are `text`, `int`, `bool`, `float`, `size` and `duration`; `list: true` makes a list.",
                ));
            }
        };
        let default = fields.get("default_value");
        if fields.flag("list")? {
            return match named {
                None | Some(Kind::Text) => Ok(Kind::List),
                Some(_) => Err(fields.refuse("type", "must be `text` in a list")),
            };
        }
        match (named, default) {
            (Some(kind), _) => Ok(kind),
            (None, Some(entry)) => inferred(&entry.value).ok_or_else(|| {
                fields.refuse("default_value", &format!("cannot be {}", entry.value.kind())).hint(
                    "Leave `default_value` out for a parameter without one; it is `()` in the playbook then.",
                )
            }),
            (None, None) => Ok(fields
                .list("choices")?
                .first()
                .or(fields.get("optional_value").map(|entry| &entry.value))
                .and_then(inferred)
                .unwrap_or(Kind::Text)),
        }
    }

    fn read_choices(&mut self, fields: &Fields<'_>) -> Result<(), Failure> {
        let choices = fields.list("choices")?;
        if fields.get("choices").is_some() && choices.is_empty() {
            return Err(fields.refuse("choices", "is empty"));
        }
        let kind = if self.kind == Kind::List { Kind::Text } else { self.kind };
        for (index, choice) in choices.iter().enumerate() {
            if !kind.accepts(choice) {
                let problem = format!("[{index}]` must be {}, not {}", kind.describe(), choice.kind());
                return Err(wrong(&self.at.file, choice.at, format!("`{}{problem}", fields.name("choices"))));
            }
        }
        self.choices = choices.iter().map(Literal::json).collect();
        for (key, value) in [("default_value", &self.default), ("optional_value", &self.optional_value)] {
            if let Some(bad) = value.as_ref().and_then(|value| self.outside(value)) {
                let shown = shown(&bad);
                return Err(fields
                    .refuse(key, &format!("is `{shown}`, which is not among the choices"))
                    .hint(format!(
                        "Add it to `{}`, or use {}.",
                        fields.name("choices"),
                        self.alternatives("or")
                    )));
            }
        }
        Ok(())
    }

    fn check(&self, fields: &Fields<'_>) -> Result<(), Failure> {
        if let Some(name) = &self.env
            && !is_variable_name(name)
        {
            return Err(
                fields.refuse("env", &format!("is `{name}`, which cannot name an environment variable"))
            );
        }
        if self.secret && self.default.is_some() {
            return Err(fields.refuse("default_value", "gives a secret away").hint(format!(
                "Remove it, and let `{}` name the variable that holds the secret.",
                fields.name("env")
            )));
        }
        if self.secret && self.kind != Kind::Text {
            return Err(fields.refuse("secret", &format!("fits text only, not {}", self.kind.describe())));
        }
        if self.secret {
            self.check_secret(fields)?;
        }
        if self.required && self.default.is_some() {
            return Err(fields
                .refuse("required", "contradicts `default_value`")
                .hint("Keep one of the two."));
        }
        if self.kind == Kind::Bool {
            for key in ["required", "positional", "optional_value", "choices"] {
                if fields.get(key).is_some() {
                    return Err(fields.refuse(key, "does not fit a switch, which is on or off"));
                }
            }
        }
        if self.path && !matches!(self.kind, Kind::Text | Kind::List) {
            return Err(fields.refuse("path", "fits text or an array of texts only"));
        }
        if self.positional && self.optional_value.is_some() {
            return Err(
                fields.refuse("optional_value", "does not fit a positional parameter, which has no flag")
            );
        }
        Ok(())
    }

    /// A secret comes from a variable only: everybody on the machine can read command lines, and the header is no secret.
    fn check_secret(&self, fields: &Fields<'_>) -> Result<(), Failure> {
        for key in ["positional", "optional_value", "choices"] {
            if fields.get(key).is_some() {
                return Err(fields.refuse(key, "does not fit a secret, which only its variable gives"));
            }
        }
        if self.env.is_none() {
            let name = self.name.to_ascii_uppercase();
            return Err(fields.refuse("secret", "needs `env`, since only a variable can give a secret").hint(
                format!(
                    "Add `env: \"{name}\"`; a secret is not taken from the command line, which everybody on the \
                     machine can read."
                ),
            ));
        }
        Ok(())
    }

    /// The part of `value` that is not among the choices.
    pub(super) fn outside(&self, value: &Value) -> Option<Value> {
        if self.choices.is_empty() {
            return None;
        }
        match value {
            Value::Array(items) => items.iter().find(|item| !self.choices.contains(item)).cloned(),
            value => (!self.choices.contains(value)).then(|| value.clone()),
        }
    }

    pub(super) fn alternatives(&self, last: &str) -> String {
        let words: Vec<String> = self.choices.iter().map(shown).collect();
        listed(words.iter().map(String::as_str), last)
    }

    /// Its flag without the dashes: `keep-days`, and `no-db` for a boolean that is true by default.
    pub fn flag(&self) -> String {
        let dashed = self.name.replace('_', "-");
        if self.default == Some(Value::Bool(true)) { format!("no-{dashed}") } else { dashed }
    }

    /// How the command line names it: `--keep-days`, or `<FILE>` for a positional one.
    pub fn label(&self) -> String {
        if self.positional { format!("<{}>", self.placeholder()) } else { format!("--{}", self.flag()) }
    }

    /// What stands for its value in `--help`.
    pub fn placeholder(&self) -> String {
        self.value_name.clone().unwrap_or_else(|| self.name.to_ascii_uppercase())
    }

    /// Whether `value`, for example one of a schedule, fits this parameter; the problem otherwise.
    pub fn fits(&self, literal: &Literal) -> Result<(), String> {
        if !self.kind.accepts(literal) {
            return Err(self.kind.mismatch(literal));
        }
        match self.outside(&literal.json()) {
            None => Ok(()),
            Some(bad) => Err(format!("must be {}, not `{}`", self.alternatives("or"), shown(&bad))),
        }
    }
}

fn not_a_default(file: &str, entry: &Entry) -> Failure {
    let name = &entry.key;
    wrong(file, entry.value.at, format!("`params.{name}` cannot be {}", entry.value.kind())).hint(format!(
        "Write a default value such as `{name}: \"text\"`, or a specification such as `{name}: #{{ help: \"What it \
         is\" }}`."
    ))
}

fn inferred(literal: &Literal) -> Option<Kind> {
    match &literal.form {
        Form::Bool(_) => Some(Kind::Bool),
        Form::Int(_) => Some(Kind::Int),
        Form::Float(_) => Some(Kind::Float),
        Form::Text(_) => Some(Kind::Text),
        Form::List(items) if items.iter().all(|item| item.text().is_some()) => Some(Kind::List),
        _ => None,
    }
}

/// A value as people read it: text without quotes.
pub(super) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
