//! Syntax errors in our words.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::Failure;
use crate::script::fields::wrong;
use crate::script::program::Source;
use crate::script::tree::STEP_WORDS;
use rhai::{LexError, ParseError, ParseErrorType, Position};

/// What to use instead of a word that playbooks do not have.
pub(super) fn instead(word: &str) -> Option<&'static str> {
    Some(match word {
        "eval" => "Playbooks do not run text as code: write the code itself, or put it into a function.",
        "try" | "catch" => {
            "Write `let outcome = attempt \"name\" { ... };`: it returns `#{ ok, value, failure }`, and the run \
             completes with warnings."
        }
        "switch" => "Write `if ... { } else if ... { } else { }`.",
        "type_of" => "Compare the value itself; what a function returns is told by `lifeboat doc FUNCTION`.",
        "exit" => {
            "Call `fail(\"message\")` to end the run with a failure; a playbook that is done just ends."
        }
        "default" => "In a header write `default_value`.",
        "match" => "Write `if ... { } else if ... { } else { }`.",
        "null" | "nil" => "The empty value is `()`.",
        "var" => "Write `let`.",
        "async" | "await" | "spawn" | "thread" | "go" | "sync" => {
            "Everything in a playbook is waited for; write the call itself."
        }
        _ => return None,
    })
}

/// A syntax error as a failure of the playbook.
pub fn failure(source: &Source, error: &ParseError) -> Failure {
    let at = error.position();
    let refuse = |message: String| wrong(&source.file, at, message);
    let reserved = |word: &str| {
        let failure = if ["try", "catch", "switch", "eval", "type_of", "exit"].contains(&word) {
            refuse(format!("`{word}` is not part of playbooks"))
        } else {
            refuse(format!("`{word}` is a reserved word"))
        };
        failure.hint(instead(word).map_or_else(|| "Use another name.".to_owned(), str::to_owned))
    };
    match error.err_type() {
        ParseErrorType::Reserved(word) => reserved(word),
        ParseErrorType::BadInput(LexError::ImproperSymbol(word, _)) if instead(word).is_some() => {
            reserved(word)
        }
        ParseErrorType::VariableUndefined(name) => {
            let failure = refuse(format!("there is no variable `{name}`"));
            match did_you_mean(name, words(&source.text, name)) {
                Some(close) => failure.hint(format!("Did you mean `{close}`?")),
                None => failure.hint(format!("Define it first with `let {name} = ...;`.")),
            }
        }
        ParseErrorType::ModuleUndefined(name) => refuse(format!("there is no module `{name}`"))
            .hint(format!("Import it first, for example `import \"std/{name}\" as {name};`.")),
        ParseErrorType::WrongDocComment => refuse("a `///` comment stands only before a function".into())
            .hint("Write `//` for a comment, or `//!` for the description of the playbook."),
        other => {
            let failure = refuse(lowercase(&other.to_string()));
            if let Some(word) = word_before(&source.text, at) {
                failure.hint(format!(
                    "`{word}` begins a step, `{word} \"name\" {{ ... }}`, and cannot be the name of something else."
                ))
            } else if continues_a_block(&source.text, at) {
                failure.hint(
                    "This line is read as the continuation of the block above it: put a `;` behind that block's `}`.",
                )
            } else if unclosed(&source.text, at) {
                failure.hint("The file ends inside a block: look for a `{` without its `}`.")
            } else {
                failure
            }
        }
    }
}

/// A message of Rhai as ours are written.
fn lowercase(message: &str) -> String {
    let mut chars = message.trim_end_matches('.').chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Names that the source defines.
fn words<'a>(text: &'a str, unknown: &str) -> impl Iterator<Item = &'a str> {
    let mut previous = "";
    let unknown = unknown.to_owned();
    let mut found: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .filter(|word| {
            let defined = matches!(previous, "let" | "const" | "for" | "as");
            previous = word;
            defined && *word != unknown
        })
        .collect();
    found.push("params");
    found.into_iter()
}

/// Whether the line of an error begins like an operator, right behind a block.
fn continues_a_block(text: &str, at: Position) -> bool {
    let before = at.line().unwrap_or(1).saturating_sub(1);
    let line = text.lines().nth(before).unwrap_or("").trim_start();
    let above = text.lines().take(before).filter(|line| !line.trim().is_empty()).last().unwrap_or("");
    line.starts_with(['[', '-']) && above.trim_end().ends_with('}')
}

/// Whether an error at the end of the file comes from a brace that is never closed.
fn unclosed(text: &str, at: Position) -> bool {
    let last = at.line().is_none_or(|line| line >= text.lines().count());
    last && text.matches('{').count() > text.matches('}').count()
}

/// The step word right before a position, not counting blanks.
fn word_before(text: &str, at: Position) -> Option<&'static str> {
    let line = text.lines().nth(at.line()?.checked_sub(1)?)?;
    let before: String = line.chars().take(at.position()?.saturating_sub(1)).collect();
    let before = before.trim_end();
    STEP_WORDS.into_iter().find(|word| {
        before
            .strip_suffix(word)
            .is_some_and(|rest| !rest.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"'))
    })
}
