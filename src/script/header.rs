//! The header of a playbook: `const PLAYBOOK = #{ ... }`, read from the syntax tree without running anything.

use crate::base::drill::Terms;
use crate::base::failure::{Code, Failure, Place};
use crate::base::notice::Notify;
use crate::script::engine::engine;
use crate::script::fields::{Fields, place, wrong};
use crate::script::library::Playbook;
use crate::script::literal::{Form, Literal, NotLiteral};
use crate::script::param::{Kind, Param};
use crate::script::program::Source;
use crate::script::syntax;
use rhai::{AST, ASTFlags, ASTNode, Engine, Position, Stmt};

mod drill;
mod notify;
mod schedule;

pub use schedule::Schedule;

/// Name of the constant.
pub const NAME: &str = "PLAYBOOK";

/// Keys of a header.
const KEYS: [&str; 6] = ["summary", "params", "schedule", "watch", "notify", "drill"];

/// What a playbook says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// What it does, in one line.
    pub summary: String,
    /// Its `//!` lines, without the leader.
    pub doc: String,
    /// Its parameters, in the order of the source.
    pub params: Vec<Param>,
    /// When it runs.
    pub schedule: Vec<Schedule>,
    /// Patterns of files, relative to the project, whose change runs it.
    pub watch: Vec<String>,
    /// How it announces its end.
    pub notify: Notify,
    /// How it is rehearsed.
    pub drill: Terms,
    /// Where the header stands.
    pub at: Place,
}

impl Header {
    /// The parameter `name`.
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| param.name == name)
    }
}

thread_local! {
    // Listing playbooks reads many headers, and only the first engine of a thread is worth waiting for.
    static READER: Engine = {
        let mut engine = engine();
        engine.set_strict_variables(false);
        engine
    };
}

/// Reads the header of a playbook. What is wrong below the header is left to lint, unless it does not parse.
///
/// # Errors
/// `Playbook`, with the place, when there is no header or something in it is wrong.
pub fn header(playbook: &Playbook) -> Result<Header, Failure> {
    let source = Source { file: playbook.file.clone(), text: playbook.source.as_str().into() };
    let ast = READER
        .with(|engine| engine.compile(&*source.text))
        .map_err(|error| syntax::failure(&source, &error))?;
    read(&ast, &playbook.file)
}

/// Reads the header from a syntax tree that was compiled without optimization; `file` is shown in places.
pub fn read(ast: &AST, file: &str) -> Result<Header, Failure> {
    let (at, literal) = constant(ast, file)?;
    let fields = Fields::of(&literal, NAME, file, &KEYS)?;
    let summary = fields.text("summary")?.ok_or_else(|| {
        wrong(file, at, "the header has no `summary`".into())
            .hint("Add one line that tells what the playbook does: `summary: \"Back up the database\",`.")
    })?;
    let params = fields
        .map("params")?
        .unwrap_or_default()
        .iter()
        .map(|entry| Param::read(entry, file))
        .collect::<Result<Vec<_>, _>>()?;
    check_order(&params)?;
    let schedule = schedule::read(fields.list("schedule")?, &params, file)?;
    let watch = fields
        .list("watch")?
        .iter()
        .enumerate()
        .map(|(index, literal)| pattern(literal, index, file))
        .collect::<Result<_, _>>()?;
    Ok(Header {
        summary: summary.to_owned(),
        doc: doc(ast),
        schedule,
        watch,
        notify: match fields.get("notify") {
            Some(entry) => notify::read(&entry.value, file)?,
            None => Notify::default(),
        },
        drill: match fields.get("drill") {
            Some(entry) => drill::read(&entry.value, file)?,
            None => Terms::default(),
        },
        params,
        at: place(file, at),
    })
}

/// The text of the `//!` lines.
fn doc(ast: &AST) -> String {
    let lines: Vec<&str> = ast
        .doc()
        .lines()
        .map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("//!").unwrap_or(line);
            line.strip_prefix(' ').unwrap_or(line).trim_end()
        })
        .collect();
    lines.join("\n").trim().to_owned()
}

/// Finds the one definition of the header.
fn constant(ast: &AST, file: &str) -> Result<(Position, Literal), Failure> {
    let mut definitions: Vec<(Position, bool, bool)> = Vec::new();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(ASTNode::Stmt(Stmt::Var(var, flags, _))) = path.last()
            && var.0.name == NAME
        {
            // Bodies of functions are walked as if they stood at the top, so identity tells which ones do.
            let top = ast
                .statements()
                .iter()
                .any(|stmt| matches!(stmt, Stmt::Var(own, ..) if std::ptr::eq(own, var)));
            definitions.push((var.0.pos, flags.contains(ASTFlags::CONSTANT), top));
        }
        true
    });
    let Some(&(at, is_const, _)) = definitions.iter().find(|(.., top)| *top) else {
        return Err(match definitions.first() {
            Some(&(at, ..)) => {
                wrong(file, at, format!("`{NAME}` must stand at the top level of the playbook"))
            }
            None => wrong(file, Position::NONE, format!("`{file}` has no header"))
                .hint(format!("Begin it with `const {NAME} = #{{ summary: \"What it does\" }};`.")),
        });
    };
    if !is_const {
        return Err(wrong(file, at, format!("the header `{NAME}` must be a constant"))
            .hint(format!("Write `const {NAME} = #{{ ... }};` instead of `let`.")));
    }
    if let Some((again, ..)) = definitions.iter().find(|(other, ..)| *other != at) {
        return Err(wrong(file, *again, format!("`{NAME}` is defined a second time"))
            .hint("A playbook has one header; rename this variable."));
    }
    let value = ast.statements().iter().find_map(|stmt| match stmt {
        Stmt::Var(var, ..) if var.0.name == NAME => Some(&var.1),
        _ => None,
    });
    match value.map(Literal::read) {
        Some(Ok(literal)) => Ok((at, literal)),
        Some(Err(error)) => Err(not_literal(file, &error)),
        None => Err(wrong(file, at, format!("`{NAME}` has no value"))),
    }
}

fn not_literal(file: &str, error: &NotLiteral) -> Failure {
    let name = if error.path.is_empty() { NAME } else { &error.path };
    let failure = wrong(file, error.at, format!("`{name}` in the header is not a literal value"))
        .caused_by(format!("it is {}", error.what));
    failure.hint(
        "The header is read without running anything: write the value itself. For a value from the environment, give \
         the parameter `env: \"NAME\"`.",
    )
}

fn check_order(params: &[Param]) -> Result<(), Failure> {
    let refuse = |param: &Param, message: String| {
        Err(Failure::new(Code::Playbook, message).at(Some(param.at.clone())))
    };
    let positional: Vec<&Param> = params.iter().filter(|param| param.positional).collect();
    for (index, param) in positional.iter().enumerate() {
        if param.kind == Kind::List && index + 1 < positional.len() {
            let name = &param.name;
            return refuse(
                param,
                format!("the positional list `{name}` must be the last positional parameter"),
            );
        }
        if index > 0 && param.required && !positional[index - 1].required {
            let (name, before) = (&param.name, &positional[index - 1].name);
            return refuse(
                param,
                format!(
                    "the required positional parameter `{name}` stands behind `{before}`, which is optional"
                ),
            );
        }
    }
    for param in params {
        if let Some(other) =
            params.iter().find(|other| other.name != param.name && other.flag() == param.flag())
        {
            let (flag, name, other) = (param.flag(), &param.name, &other.name);
            return refuse(
                param,
                format!("the parameters `{name}` and `{other}` would both be the flag `--{flag}`"),
            );
        }
    }
    Ok(())
}

fn pattern(literal: &Literal, index: usize, file: &str) -> Result<String, Failure> {
    let refuse = |problem: String| wrong(file, literal.at, format!("`watch[{index}]` {problem}"));
    let Form::Text(text) = &literal.form else {
        return Err(refuse(format!("must be text, not {}", literal.kind())));
    };
    let path = std::path::Path::new(text);
    if path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(refuse(format!("is `{text}`, which leaves the project"))
            .hint("Patterns are relative to the project, for example `config/**/*.yml`."));
    }
    match globset::Glob::new(text) {
        Ok(_) if !text.is_empty() => Ok(text.clone()),
        Ok(_) => Err(refuse("is empty".into())),
        Err(error) => Err(refuse(format!("is `{text}`, which is not a pattern")).caused_by(error.kind())),
    }
}

#[cfg(test)]
mod tests;
