//! Values of parameters: the command line wins over the environment, that over `.env`, that over the default.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::base::secret::{MASK, Masker, Secret};
use crate::base::units::{parse_bytes, parse_duration};
use crate::script::param::{Kind, Param, shown};
use crate::sys::env::Env;
use percent_encoding::percent_decode_str;
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

    /// Why the command line cannot give this secret.
    fn exposed(&self) -> Failure {
        let name = self.env.as_deref().unwrap_or_default();
        Failure::new(
            Code::Usage,
            format!("`{}` cannot be given on the command line: it is a secret", self.label()),
        )
        .caused_by("everybody on this machine can read the words of a running command")
        .hint(format!("Set `{name}` in the environment or in `.env`; if the secret was real, change it."))
    }

    fn missing(&self) -> Failure {
        if let (true, Some(name)) = (self.secret, &self.env) {
            return Failure::new(Code::Usage, format!("the parameter `{}` is required", self.name))
                .hint(format!("Set `{name}` in the environment or in `.env`."));
        }
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

    /// Names of those that are no defaults.
    pub fn given(&self) -> Vec<String> {
        self.from.iter().filter_map(|from| from.split(' ').next()).map(str::to_owned).collect()
    }
}

/// Resolves every parameter: the command line wins over the environment of the process, that over `.env`, that over
/// the default. Secrets are made known to `masker`.
pub fn values(params: &[Param], given: &Given, env: &Env, masker: &Masker) -> Result<Values, Failure> {
    if let Some(unknown) = given.keys().find(|name| params.iter().all(|param| param.name != **name)) {
        let failure = Failure::new(Code::Usage, format!("no parameter `{unknown}`"));
        return Err(match did_you_mean(unknown, params.iter().map(|param| param.name.as_str())) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure,
        });
    }
    let mut resolved = Values::default();
    for param in params {
        let variable = param.env.as_deref().and_then(|name| Some((name, env.get(name)?)));
        let value = if let Some(texts) = given.get(&param.name) {
            if param.secret {
                return Err(param.exposed());
            }
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
            value => {
                url_passwords(&value).iter().for_each(|password| masker.add(password));
                ParamValue::Json(value)
            }
        };
        resolved.values.insert(param.name.clone(), value);
    }
    Ok(resolved)
}

/// The passwords of URLs (`SCHEME://USER:PASSWORD@...`) in a value, as written and decoded.
fn url_passwords(value: &Value) -> Vec<Secret> {
    match value {
        Value::Array(items) => items.iter().flat_map(url_passwords).collect(),
        Value::String(text) => {
            let authorities = text.split("://").skip(1).filter_map(|rest| rest.split(['/', '?', '#']).next());
            let passwords = authorities
                .filter_map(|authority| authority.rsplit_once('@')?.0.split_once(':'))
                .map(|(_, password)| password)
                .filter(|password| !password.is_empty());
            passwords
                .flat_map(|raw| [raw.to_owned(), percent_decode_str(raw).decode_utf8_lossy().into_owned()])
                .map(Secret::new)
                .collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::header;
    use crate::script::library::{Origin, Playbook};

    fn params(specs: &str) -> Vec<Param> {
        let source = format!("const PLAYBOOK = #{{ summary: \"x\", params: #{{ {specs} }} }};");
        let file = "p.rhai".to_owned();
        let playbook = Playbook { name: "p".into(), origin: Origin::Project, path: None, file, source };
        header::header(&playbook).unwrap().params
    }

    fn given(texts: &[(&str, &[&str])]) -> Given {
        let texts = texts.iter();
        texts
            .map(|(name, texts)| ((*name).to_owned(), texts.iter().map(|t| (*t).to_owned()).collect()))
            .collect()
    }

    fn env(process: &[(&str, &str)], dot_env: &[(&str, &str)]) -> Env {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Env::of(map(process), map(dot_env))
    }

    fn resolve(specs: &str, texts: &[(&str, &[&str])], env: &Env) -> Result<Values, Failure> {
        values(&params(specs), &given(texts), env, &Masker::new())
    }

    fn refused(specs: &str, texts: &[(&str, &[&str])], env: &Env) -> (String, Vec<String>) {
        let failure = resolve(specs, texts, env).unwrap_err();
        (failure.to_string(), failure.hints)
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_default() {
        let specs = "days: #{ default_value: 30, env: \"DAYS\" }";
        let both = env(&[("DAYS", "7")], &[("DAYS", "5")]);
        let value = |texts: &[(&str, &[&str])], env: &Env| {
            let resolved = resolve(specs, texts, env).unwrap();
            (resolved.shown()["days"].clone(), resolved.from)
        };
        assert_eq!(value(&[("days", &["14"])], &both), (14.into(), vec!["days from --days".to_owned()]));
        assert_eq!(value(&[], &both), (7.into(), vec!["days from DAYS".to_owned()]));
        let file = env(&[], &[("DAYS", "5")]);
        assert_eq!(value(&[], &file), (5.into(), vec!["days from DAYS in .env".to_owned()]));
        assert_eq!(value(&[], &Env::default()), (30.into(), vec![]));
    }

    #[test]
    fn every_kind_is_read() {
        let specs = "on: true, off: false, n: 1, x: 0.5, size: #{ type: \"size\" }, wait: #{ type: \"duration\" }, \
                     files: [\"z\"], names: #{ list: true, env: \"NAMES\" }, db: #{ optional_value: \"latest\" }, none: #{}";
        let texts: &[(&str, &[&str])] = &[
            ("on", &[]),
            ("off", &[]),
            ("n", &["-3"]),
            ("x", &["1e3"]),
            ("size", &["10GiB"]),
            ("wait", &["1h30m"]),
            ("files", &["a", "b,c"]),
            ("db", &[]),
        ];
        let resolved = resolve(specs, texts, &env(&[("NAMES", "a, b,")], &[])).unwrap();
        assert_eq!(
            Value::Object(resolved.shown()),
            serde_json::json!({
                "on": false, "off": true, "n": -3, "x": 1000.0, "size": "10GiB", "wait": "1h30m",
                "files": ["a", "b,c"], "names": ["a", "b"], "db": "latest", "none": null,
            })
        );
    }

    #[test]
    fn a_value_that_does_not_fit_names_its_source() {
        let specs = "days: #{ default_value: 30, env: \"DAYS\" }, tag: #{ choices: [\"daily\", \"weekly\"] }";
        let message = |texts: &[(&str, &[&str])], env: &Env| refused(specs, texts, env);
        let none = Env::default();
        assert_eq!(message(&[("days", &["x"])], &none).0, "`--days` must be a whole number, not `x`");
        assert_eq!(message(&[("days", &["1", "2"])], &none).0, "`--days` is given more than once");
        assert_eq!(message(&[("days", &[])], &none).0, "`--days` needs a value");
        assert_eq!(
            message(&[], &env(&[], &[("DAYS", "a lot")])).0,
            "`DAYS` in .env must be a whole number, not `a lot`"
        );
        assert_eq!(
            message(&[("tag", &["weeky"])], &none),
            (
                "`--tag` must be `daily` or `weekly`, not `weeky`".into(),
                vec!["Did you mean `weekly`?".into()]
            )
        );
        assert_eq!(
            message(&[("dayz", &["1"])], &none),
            ("no parameter `dayz`".into(), vec!["Did you mean `days`?".into()])
        );
    }

    #[test]
    fn a_required_parameter_says_how_it_is_given() {
        let none = Env::default();
        assert_eq!(
            refused("dir: #{ required: true, env: \"DIR\" }", &[], &none),
            (
                "the parameter `dir` is required".into(),
                vec!["Give `--dir DIR`, or set `DIR` in the environment or in `.env`.".into()]
            )
        );
        assert_eq!(
            refused("file: #{ required: true, positional: true }", &[], &none).1,
            ["Give `<FILE>` on the command line."]
        );
    }

    #[test]
    fn a_secret_is_not_taken_from_the_command_line() {
        let specs = params("api_token: #{ secret: true, required: true, env: \"TOKEN\" }");
        let env = env(&[("TOKEN", "hunter22")], &[]);
        for texts in [vec![], vec!["hunter2".to_owned()]] {
            let given = Given::from([("api_token".to_owned(), texts)]);
            let failure = values(&specs, &given, &env, &Masker::new()).unwrap_err();
            assert_eq!(
                (failure.code, failure.message.as_str()),
                (Code::Usage, "`--api-token` cannot be given on the command line: it is a secret")
            );
            assert_eq!(failure.causes, ["everybody on this machine can read the words of a running command"]);
            assert_eq!(
                failure.hints,
                ["Set `TOKEN` in the environment or in `.env`; if the secret was real, change it."]
            );
        }
        let missing = values(&specs, &Given::new(), &Env::default(), &Masker::new()).unwrap_err();
        assert_eq!(missing.hints, ["Set `TOKEN` in the environment or in `.env`."]);
    }

    #[test]
    fn a_secret_is_masked_and_never_shown() {
        let masker = Masker::new();
        let specs = params("token: #{ secret: true, env: \"TOKEN\" }");
        let resolved = values(&specs, &Given::new(), &env(&[("TOKEN", "hunter22")], &[]), &masker).unwrap();
        assert_eq!(resolved.shown()["token"], "***");
        assert_eq!(resolved.values["token"], ParamValue::Secret(Secret::new("hunter22")));
        assert!(!format!("{resolved:?}").contains("hunter22"));
        assert_eq!(masker.mask("it is hunter22"), "it is ***");
    }

    #[test]
    fn the_password_of_a_url_is_masked_though_the_parameter_is_no_secret() {
        let masker = Masker::new();
        let specs = params("url: #{ env: \"URL\" }, urls: [\"x\"]");
        let env = env(&[("URL", "postgres://app:hunter%2322@db1/shop")], &[]);
        let given = given(&[("urls", &["http://u:correcthorse@h/", "http://plain/"])]);
        values(&specs, &given, &env, &masker).unwrap();
        assert_eq!(masker.mask("hunter%2322 hunter#22 correcthorse db1"), "*** *** *** db1");
    }
}
