//! Literal maps with known keys: what is missing, misspelt or of the wrong type becomes a failure with its place.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure, Place};
use crate::base::units;
use crate::script::literal::{Entry, Form, Literal};
use rhai::Position;
use std::time::Duration;

/// The place of `at` in `file`; its first character where the position is not known.
pub fn place(file: &str, at: Position) -> Place {
    Place { file: file.to_owned(), line: at.line().unwrap_or(1), column: at.position().unwrap_or(1) }
}

/// A failure of the playbook itself.
pub fn wrong(file: &str, at: Position, message: String) -> Failure {
    Failure::new(Code::Playbook, message).at(Some(place(file, at)))
}

/// Words as a list in backticks: `a`, `b` or `c`.
pub fn listed<'a>(words: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}

/// A literal map whose keys are known.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    file: &'a str,
    path: &'a str,
    at: Position,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// Takes `literal` for a map with at most the keys `allowed`; `path` names it in messages.
    pub fn of(literal: &'a Literal, path: &'a str, file: &'a str, allowed: &[&str]) -> Result<Self, Failure> {
        let Form::Map(entries) = &literal.form else {
            return Err(wrong(file, literal.at, format!("`{path}` must be a map, not {}", literal.kind())));
        };
        if let Some(entry) = entries.iter().find(|entry| !allowed.contains(&entry.key.as_str())) {
            let failure = wrong(file, entry.at, format!("`{path}` has no key `{}`", entry.key));
            return Err(match did_you_mean(&entry.key, allowed.iter().copied()) {
                Some(close) => failure.hint(format!("Did you mean `{close}`?")),
                None if entry.key == "default" => {
                    failure.hint("The word `default` is reserved in Rhai: write `default_value`.")
                }
                None => failure.hint(format!("Its keys are {}.", listed(allowed.iter().copied(), "and"))),
            });
        }
        Ok(Self { file, path, at: literal.at, entries })
    }

    /// Where the map begins.
    pub fn at(&self) -> Position {
        self.at
    }

    /// The entry `key`.
    pub fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The name of `key` in messages.
    pub fn name(&self, key: &str) -> String {
        if self.path == "PLAYBOOK" { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A failure about the value of `key`.
    pub fn refuse(&self, key: &str, problem: &str) -> Failure {
        let at = self.get(key).map_or(self.at, |entry| entry.value.at);
        wrong(self.file, at, format!("`{}` {problem}", self.name(key)))
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'a Form) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(entry) = self.get(key) else { return Ok(None) };
        read(&entry.value.form)
            .map(Some)
            .ok_or_else(|| self.refuse(key, &format!("must be {wanted}, not {}", entry.value.kind())))
    }

    /// A string that is not empty.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        let text = self.typed(key, "text", |form| match form {
            Form::Text(text) => Some(text.as_str()),
            _ => None,
        })?;
        match text {
            Some(text) if text.trim().is_empty() => Err(self.refuse(key, "is empty")),
            text => Ok(text),
        }
    }

    /// A boolean; false where the key is missing.
    pub fn flag(&self, key: &str) -> Result<bool, Failure> {
        let value = self.typed(key, "`true` or `false`", |form| match form {
            Form::Bool(value) => Some(*value),
            _ => None,
        })?;
        Ok(value.unwrap_or(false))
    }

    /// The items of a list; none where the key is missing.
    pub fn list(&self, key: &str) -> Result<&'a [Literal], Failure> {
        let items = self.typed(key, "an array", |form| match form {
            Form::List(items) => Some(items.as_slice()),
            _ => None,
        })?;
        Ok(items.unwrap_or_default())
    }

    /// The entries of a map; none where the key is missing.
    pub fn map(&self, key: &str) -> Result<Option<&'a [Entry]>, Failure> {
        self.typed(key, "a map", |form| match form {
            Form::Map(entries) => Some(entries.as_slice()),
            _ => None,
        })
    }

    /// A duration that is not zero, such as `30m`.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match units::parse_duration(text).filter(|limit| !limit.is_zero()) {
            Some(limit) => Ok(Some(limit)),
            None => Err(self
                .refuse(key, &format!("is `{text}`, which is no duration"))
                .hint("Write a number and a unit, for example `\"30m\"` or `\"1h\"`.")),
        }
    }
}
