//! Failures as prose; the only place that makes it.
//!
//! In this order: the error, a snippet with a caret, the call chain, causes, hints. Nothing else.

use crate::base::diagnostic::snippet;
use crate::base::failure::Failure;
use crate::cli::screen::Paint;

/// Gives the text of a file as places name it.
pub type Source<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    /// It ends what was asked for.
    Error,
    /// It should be looked at.
    Warning,
}

/// A failure for people, each line ended by a newline.
pub fn failure(failure: &Failure, gravity: Gravity, paint: Paint, source: Source<'_>) -> String {
    let heading = match gravity {
        Gravity::Error => paint.error("error:"),
        Gravity::Warning => paint.warning("warning:"),
    };
    let mut text = format!("{heading} {}\n", indented(&failure.message, 2));
    if let Some(place) = &failure.at {
        text += &snippet(place, &source(&place.file).unwrap_or_default());
    }
    for frame in &failure.trail {
        text += &format!("while calling `{}` at {}\n", frame.function, frame.at);
    }
    for cause in &failure.causes {
        text += &format!("caused by: {}\n", indented(cause, 2));
    }
    for hint in &failure.hints {
        text += &format!("{} {}\n", paint.hint("hint:"), indented(hint, 2));
    }
    text
}

/// A failure in one line, for lists.
pub fn in_short(failure: &Failure) -> String {
    let place = failure.at.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
    format!("{}{place}", failure.message.lines().next().unwrap_or_default())
}

/// Text whose lines after the first are indented, so that they do not look like lines of their own.
fn indented(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{}", " ".repeat(by)))
}

/// `1 warning`, `2 warnings`.
pub fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failure::{Code, Frame, Place};
    use expect_test::expect;

    fn place(file: &str, line: usize, column: usize) -> Place {
        Place { file: file.into(), line, column }
    }

    #[test]
    fn a_failure_says_what_where_why_and_what_to_do() {
        let mut shown = Failure::new(
            Code::ProcessFailed,
            "`dump` of `shop` failed: pg_dump exited with status 1",
        )
        .caused_by(
            "connection to server at \"db1\", port 5432 failed: Connection refused\nIs the server running?",
        )
        .caused_by("the second cause")
        .hint("Check that PostgreSQL listens on `db1:5432`, or set `host` in the options.")
        .at(Some(place("playbooks/nightly.rhai", 2, 5)));
        shown.trail =
            vec![Frame { function: "std/backup::nightly".into(), at: place("playbooks/nightly.rhai", 3, 1) }];
        let source = |file: &str| {
            (file == "playbooks/nightly.rhai").then(|| "step \"Dump\" {\n    dump(db).gzip()\n}\n".to_owned())
        };
        expect![[r#"
            error: `dump` of `shop` failed: pg_dump exited with status 1
              ——▶ playbooks/nightly.rhai:2:5
              │
            2 │     dump(db).gzip()
              │     ^
            while calling `std/backup::nightly` at playbooks/nightly.rhai:3:1
            caused by: connection to server at "db1", port 5432 failed: Connection refused
              Is the server running?
            caused by: the second cause
            hint: Check that PostgreSQL listens on `db1:5432`, or set `host` in the options.
        "#]]
        .assert_eq(&failure(&shown, Gravity::Error, Paint::PLAIN, &source));
        expect![[r#"
            warning: `dump` of `shop` failed: pg_dump exited with status 1
              ——▶ playbooks/nightly.rhai:2:5
            while calling `std/backup::nightly` at playbooks/nightly.rhai:3:1
            caused by: connection to server at "db1", port 5432 failed: Connection refused
              Is the server running?
            caused by: the second cause
            hint: Check that PostgreSQL listens on `db1:5432`, or set `host` in the options.
        "#]]
        .assert_eq(&failure(&shown, Gravity::Warning, Paint::PLAIN, &|_| None));
        expect!["`dump` of `shop` failed: pg_dump exited with status 1 (playbooks/nightly.rhai:2:5)"]
            .assert_eq(&in_short(&shown));
    }
}
