//! Syntax errors, with hints that only the text around them can give.

use crate::base::failure::Failure;
use crate::script::program::Source;
use crate::script::tree::{ENSURE, STEP_WORDS};
use crate::script::wording;
use rhai::{ParseError, ParseErrorType, Position};

/// A syntax error as a failure of the playbook.
pub fn failure(source: &Source, error: &ParseError) -> Failure {
    let at = error.position();
    let text = &source.text;
    let failure = wording::syntax_error(error.err_type(), at, text, &source.file);
    if let Some(word) = word_before(text, at) {
        failure.hint(format!(
            "`{word}` begins a step, `{word} \"name\" {{ ... }}`, and cannot be the name of something else."
        ))
    } else if ensures(text, at) {
        failure.hint("A block with a clean-up is written `ensure { ... } always { ... }`.")
    } else if continues_a_block(text, at) {
        failure.hint(
            "This line is read as the continuation of the block above it: put a `;` behind that block's `}`.",
        )
    } else if unclosed(text, at) {
        failure.hint("The file ends inside a block: look for a `{` without its `}`.")
    } else {
        match error.err_type() {
            ParseErrorType::Reserved(word) => instead(word).into_iter().fold(failure, Failure::hint),
            _ => failure,
        }
    }
}

/// What to write instead of a reserved word that other languages have.
fn instead(word: &str) -> Option<&'static str> {
    Some(match word {
        "default" => "In a header write `default_value`.",
        "match" | "case" => "Write `if ... { } else if ... { } else { }`.",
        "null" | "nil" => "The empty value is `()`.",
        "var" => "Write `let`.",
        "async" | "await" | "spawn" | "thread" | "go" | "sync" => {
            "Everything in a playbook is waited for; write the call itself."
        }
        _ => return None,
    })
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

/// Whether the line of an error, or the one above it, holds a word of a block with a clean-up.
fn ensures(text: &str, at: Position) -> bool {
    let line = at.line().unwrap_or(1);
    let near = text.lines().take(line).skip(line.saturating_sub(2));
    near.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .any(|word| word == ENSURE || word == "always")
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
