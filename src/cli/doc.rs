//! `lifeboat doc`: the functions that playbooks can call.

use crate::base::failure::{Exit, Failure};
use crate::cli::global::Context;
use crate::cli::screen::{Paint, columns};
use crate::script::doc::{self, FunctionDoc};

/// Show the functions that playbooks can call, or all about one of them
///
/// With `--json`: an array of objects (one object, if a function is named) with `name`, `family`, `signatures`, `text` and
/// `acts` (whether it acts on the world, so that it stands inside steps).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of a function
    #[arg(value_name = "FUNCTION")]
    function: Option<String>,
}

/// Shows functions.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    let paint = cx.screen.out_paint;
    match &args.function {
        Some(name) => {
            let function = doc::find(name)?;
            if cx.global.json {
                cx.screen.json(&function);
            } else {
                cx.screen.data(&whole(&function, paint));
            }
        }
        None => {
            let all = doc::functions();
            if cx.global.json {
                cx.screen.json(&all);
            } else {
                cx.screen.data(&list(&all, paint));
            }
        }
    }
    Ok(Exit::Success)
}

/// All there is to say about a function.
fn whole(function: &FunctionDoc, paint: Paint) -> String {
    let mut text = String::new();
    for signature in &function.signatures {
        text += &format!("{}\n", paint.heading(signature));
    }
    text += "\n";
    text += function.text.trim();
    text += "\n";
    if function.acts {
        text += "\nIt acts on the world, so it stands inside a step.\n";
    }
    text
}

/// Functions by family, each with the first sentence about it.
fn list(all: &[FunctionDoc], paint: Paint) -> String {
    let mut text = String::new();
    for family in all.chunk_by(|a, b| a.family == b.family) {
        let rows: Vec<Vec<String>> = family
            .iter()
            .map(|function| {
                vec![
                    format!("  {}", function.name),
                    function.text.lines().next().unwrap_or_default().to_owned(),
                ]
            })
            .collect();
        let gap = if text.is_empty() { "" } else { "\n" };
        let title = family.first().map(|function| paint.heading(&function.family)).unwrap_or_default();
        text += &format!("{gap}{title}\n{}", columns(&rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn function(family: &str, name: &str, text: &str, acts: bool) -> FunctionDoc {
        FunctionDoc {
            name: name.into(),
            family: family.into(),
            signatures: vec![
                format!("{name}(db: Database) -> Pipeline"),
                format!("{name}(db: Database, options: map) -> Pipeline"),
            ],
            text: text.into(),
            acts,
        }
    }

    #[test]
    fn functions_are_listed_by_family() {
        let all = [
            function("Backups", "dump", "Dumps a database.\n\nMore.", true),
            function("Backups", "gzip", "Compresses.", false),
            function("Time", "now", "The time.", false),
        ];
        expect![[r#"
            Backups
              dump  Dumps a database.
              gzip  Compresses.

            Time
              now  The time.
        "#]]
        .assert_eq(&list(&all, Paint::PLAIN));
        expect![[r#"
            dump(db: Database) -> Pipeline
            dump(db: Database, options: map) -> Pipeline

            Dumps a database.

            More.

            It acts on the world, so it stands inside a step.
        "#]]
        .assert_eq(&whole(&all[0], Paint::PLAIN));
    }
}
