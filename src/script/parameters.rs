//! Values of parameters: the command line wins over the environment, that over `.env`, that over the default.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::base::secret::{MASK, Masker, Secret};
use crate::base::units::{parse_bytes, parse_duration};
use crate::script::param::{Kind, Param, shown};
use crate::sys::env::Env;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

impl Kind {
    /// Reads a value as the command line and the environment give it. Sizes and durations stay as written.
    fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true.into()),
                "false" | "0" | "no" | "off" => Some(false.into()),
                _ => None,
            },
            Self::Int => text.trim().parse::<i64>().ok().map(Value::from),
            Self::Float => text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from),
            Self::Text => Some(text.into()),
            Self::Size => parse_bytes(text).map(|_| text.into()),
            Self::Duration => parse_duration(text).map(|_| text.into()),
            Self::List => Some(
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect(),
            ),
        }
    }
}

impl Param {
    fn parse(&self, text: &str, source: &str) -> Result<Value, Failure> {
        let given = if self.secret { MASK } else { text };
        let value = self.kind.parse(text).ok_or_else(|| {
            Failure::new(Code::Usage, format!("{source} must be {}, not `{given}`", self.kind.describe()))
        })?;
        match self.outside(&value) {
            None => Ok(value),
            Some(bad) => {
                let bad = if self.secret { MASK.to_owned() } else { shown(&bad) };
                let failure = Failure::new(
                    Code::Usage,
                    format!("{source} must be {}, not `{bad}`", self.alternatives("or")),
                );
                let words: Vec<String> = self.choices.iter().map(shown).collect();
                Err(match did_you_mean(&bad, words.iter().map(String::as_str)) {
                    Some(close) => failure.hint(format!("Did you mean `{close}`?")),
                    None => failure,
                })
            }
        }
    }

    fn given(&self, texts: &[String]) -> Result<Value, Failure> {
        let source = format!("`{}`", self.label());
        match (self.kind, texts) {
            (Kind::List, _) => {
                let value: Value = texts.iter().map(|text| Value::from(text.as_str())).collect();
                match self.outside(&value) {
                    None => Ok(value),
                    Some(bad) => self.parse(&shown(&bad), &source),
                }
            }
            (Kind::Bool, []) => Ok(Value::Bool(self.default != Some(Value::Bool(true)))),
            (_, []) => self
                .optional_value
                .clone()
                .ok_or_else(|| Failure::new(Code::Usage, format!("{source} needs a value"))),
            (_, [text]) => self.parse(text, &source),
            (_, _) => Err(Failure::new(Code::Usage, format!("{source} is given more than once"))),
        }
    }

    fn missing(&self) -> Failure {
        let by_flag = if self.positional {
            format!("Give `{}` on the command line", self.label())
        } else {
            format!("Give `{} {}`", self.label(), self.placeholder())
        };
        let by_env =
            self.env.as_ref().map(|name| format!(", or set `{name}` in the environment or in `.env`"));
        Failure::new(Code::Usage, format!("the parameter `{}` is required", self.name))
            .hint(format!("{by_flag}{}.", by_env.unwrap_or_default()))
    }
}

/// What the command line gives: for each parameter its texts; none for a flag that stands without a value.
pub type Given = BTreeMap<String, Vec<String>>;

/// The value of a parameter in one run.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    /// An ordinary value; sizes and durations are the text as written, which [`Kind`] tells apart.
    Json(Value),
    /// A secret.
    Secret(Secret),
}

impl ParamValue {
    /// The value for journal and screen: a secret is `***`.
    pub fn shown(&self) -> Value {
        match self {
            Self::Json(value) => value.clone(),
            Self::Secret(_) => MASK.into(),
        }
    }
}

/// The parameters of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// Value of every parameter of the header; `null` where nothing gives one.
    pub values: BTreeMap<String, ParamValue>,
    /// Where each value that is not a default came from: `retention from --retention`.
    pub from: Vec<String>,
}

impl Values {
    /// All values for journal and screen; secrets are `***`.
    pub fn shown(&self) -> Map<String, Value> {
        self.values.iter().map(|(name, value)| (name.clone(), value.shown())).collect()
    }
}

/// Resolves every parameter: the command line wins over the environment of the process, that over `.env`, that over
/// the default. Secrets are made known to `masker`.
pub fn values(params: &[Param], given: &Given, env: &Env, masker: &Masker) -> Result<Values, Failure> {
    if let Some(unknown) = given.keys().find(|name| params.iter().all(|param| param.name != **name)) {
        let failure = Failure::new(Code::Usage, format!("there is no parameter `{unknown}`"));
        return Err(match did_you_mean(unknown, params.iter().map(|param| param.name.as_str())) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure,
        });
    }
    let mut resolved = Values::default();
    for param in params {
        let variable = param.env.as_deref().and_then(|name| Some((name, env.get(name)?)));
        let value = if let Some(texts) = given.get(&param.name) {
            resolved.from.push(format!("{} from {}", param.name, param.label()));
            param.given(texts)?
        } else if let Some((name, (text, origin))) = variable {
            let source = origin.describe(name).replacen(name, &format!("`{name}`"), 1);
            resolved.from.push(format!("{} from {}", param.name, origin.describe(name)));
            param.parse(text, &source)?
        } else if param.required {
            return Err(param.missing());
        } else {
            param.default.clone().unwrap_or_default()
        };
        let value = match value {
            Value::String(text) if param.secret => {
                let secret = Secret::new(text);
                masker.add(&secret);
                ParamValue::Secret(secret)
            }
            value => ParamValue::Json(value),
        };
        resolved.values.insert(param.name.clone(), value);
    }
    Ok(resolved)
}
