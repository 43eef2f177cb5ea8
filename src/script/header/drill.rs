//! `drill` in a header: how the playbook is rehearsed.

use crate::base::drill::{Start, Terms};
use crate::base::failure::Failure;
use crate::script::fields::{Fields, wrong};
use crate::script::literal::{Form, Literal};

/// Reads `drill`.
pub(super) fn read(literal: &Literal, file: &str) -> Result<Terms, Failure> {
    let fields = Fields::of(literal, "drill", file, &["start", "run", "rto", "rpo"])?;
    let start = match fields.text("start")? {
        None | Some("latest") => Start::Latest,
        Some("empty") => Start::Empty,
        Some(other) => {
            return Err(fields.refuse("start", &format!("is `{other}`, which is no way to begin")).hint(
                "Write `\"empty\"` for a recovery: everything is lost but the backups; or `\"latest\"`: a copy of the \
                 project, and databases as their newest backups have them.",
            ));
        }
    };
    let run = fields
        .list("run")?
        .iter()
        .enumerate()
        .map(|(index, literal)| program(literal, index, file))
        .collect::<Result<_, _>>()?;
    Ok(Terms { start, run, rto: fields.duration("rto")?, rpo: fields.duration("rpo")? })
}

fn program(literal: &Literal, index: usize, file: &str) -> Result<String, Failure> {
    let refuse = |problem: &str| wrong(file, literal.at, format!("`drill.run[{index}]` {problem}"));
    match &literal.form {
        Form::Text(text) if text.trim().is_empty() => Err(refuse("is empty")),
        Form::Text(text) => Ok(text.clone()),
        _ => Err(refuse(&format!("must be text, not {}", literal.kind())).hint(
            "Name the programs that a drill may really run, as `exec` does: `run: [\"npm\", \"pytest\"]`.",
        )),
    }
}
