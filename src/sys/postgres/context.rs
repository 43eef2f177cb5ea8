//! The settings that a dump has made up to a point: the session that carries out a statement needs those before it.

use super::rules::Rule;
use super::statement::Tokens;

/// A setting as the dump makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// The statement.
    pub text: Vec<u8>,
    /// Its line.
    pub line: u64,
}

/// Settings that are made, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(Vec<Setting>);

impl Context {
    /// The settings, in the order in which they were first made.
    pub fn settings(&self) -> &[Setting] {
        &self.0
    }

    /// What is set here and not in `other`.
    pub fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let is_there = |name: &str| other.0.iter().any(|setting| setting.name == name);
        self.0.iter().map(|setting| setting.name.as_str()).filter(move |name| !is_there(name))
    }

    /// What is set after a statement; `None` if it sets nothing.
    pub fn after(&self, rule: &Rule, text: &[u8], line: u64) -> Option<Self> {
        let name = match rule {
            Rule::Set(name, _) => name.to_ascii_lowercase(),
            Rule::Run if sets_search_path(text) => "search_path".to_owned(),
            _ => return None,
        };
        let mut settings = self.0.clone();
        let setting = Setting { name, text: text.to_vec(), line };
        match settings.iter_mut().find(|other| other.name == setting.name) {
            Some(other) if other.text == setting.text => return None,
            Some(other) => *other = setting,
            None => settings.push(setting),
        }
        Some(Self(settings))
    }
}

/// Whether it is the call by which `pg_dump` sets the path, which is the only one of its function that is carried out.
pub fn sets_search_path(text: &[u8]) -> bool {
    let mut tokens = Tokens::of(text);
    tokens.next().is_some_and(|token| token.is("select"))
        && tokens.next().is_some_and(|token| token.is("pg_catalog"))
        && tokens.nth(1).is_some_and(|token| token.is("set_config"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::postgres::rules::rule;

    #[test]
    fn each_setting_is_kept_as_it_was_made_last() {
        let mut context = Context::default();
        for (line, text) in [
            "SET statement_timeout = 0;",
            "SELECT pg_catalog.set_config('search_path', '', false);",
            "SELECT pg_catalog.setval('s', 1);",
            "SET default_tablespace = fast;",
            "SET statement_timeout = 0;",
            "SET default_tablespace = '';",
        ]
        .iter()
        .enumerate()
        {
            let text = text.as_bytes();
            context = context.after(&rule(text), text, line as u64).unwrap_or(context);
        }
        let found: Vec<(&str, u64)> =
            context.settings().iter().map(|setting| (setting.name.as_str(), setting.line)).collect();
        assert_eq!(found, [("statement_timeout", 0), ("search_path", 1), ("default_tablespace", 5)]);
        assert_eq!(context.beyond(&Context::default()).count(), 3);
        assert_eq!(Context::default().beyond(&context).count(), 0);
    }
}
