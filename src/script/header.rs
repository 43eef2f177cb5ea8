//! The header of a playbook: `const PLAYBOOK = #{ ... }`, read from the syntax tree without running anything.

use crate::base::drill::Terms;
use crate::base::failure::{Code, Failure, Place};
use crate::base::notice::Notify;
use crate::script::engine::engine;
use crate::script::fields::{Fields, place, wrong};
use crate::script::library::Playbook;
use crate::script::literal::{Entry, Form, Literal, NotLiteral};
use crate::script::param::{Kind, Param, shown};
use crate::script::parameters::Given;
use crate::script::program::Source;
use crate::script::syntax;
use rhai::{AST, ASTFlags, ASTNode, Engine, Position, Stmt};
use serde_json::{Map, Value};

mod drill;
mod notify;

/// Name of the constant.
pub const NAME: &str = "PLAYBOOK";

/// Keys of a header.
const KEYS: [&str; 6] = ["summary", "params", "schedule", "watch", "notify", "drill"];

/// Fields of a cron expression, in their order.
const CRON_FIELDS: [&str; 5] = ["minute", "hour", "day of month", "month", "day of week"];

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

/// One schedule of a playbook.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Cron expression with five fields.
    pub cron: String,
    /// IANA time zone; the machine's own when none is named.
    pub tz: Option<String>,
    /// Parameters of scheduled runs.
    pub params: Map<String, Value>,
    /// Where it stands.
    pub at: Place,
}

impl Header {
    /// The parameter `name`.
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| param.name == name)
    }
}

impl Schedule {
    /// Its parameters as the command line would give them.
    pub fn given(&self) -> Given {
        let texts = |value: &Value| match value {
            Value::Array(items) => items.iter().map(shown).collect(),
            value => vec![shown(value)],
        };
        self.params.iter().map(|(name, value)| (name.clone(), texts(value))).collect()
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
    let schedule = fields
        .list("schedule")?
        .iter()
        .enumerate()
        .map(|(index, literal)| schedule(literal, index, &params, file))
        .collect::<Result<_, _>>()?;
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

fn schedule(literal: &Literal, index: usize, params: &[Param], file: &str) -> Result<Schedule, Failure> {
    let path = format!("schedule[{index}]");
    let fields = Fields::of(literal, &path, file, &["cron", "tz", "params"])?;
    let cron = fields.text("cron")?.ok_or_else(|| {
        wrong(file, fields.at(), format!("`{path}` has no `cron`"))
            .hint("For example `cron: \"0 2 * * *\"`: every day at 02:00.")
    })?;
    check_cron(cron).map_err(|problem| fields.refuse("cron", &problem).hint(CRON_HINT))?;
    let tz = fields.text("tz")?;
    if let Some(tz) = tz
        && !is_zone(tz)
    {
        return Err(fields
            .refuse("tz", &format!("is `{tz}`, which is not the name of a time zone"))
            .hint("Write an IANA name such as `Europe/Berlin` or `UTC`."));
    }
    let mut given = Map::new();
    for entry in fields.map("params")?.unwrap_or_default() {
        given.insert(entry.key.clone(), schedule_param(entry, &path, params, file)?);
    }
    if let Some(param) = params.iter().find(|p| p.required && p.env.is_none() && !given.contains_key(&p.name))
    {
        let name = &param.name;
        return Err(wrong(
            file,
            fields.at(),
            format!("`{path}` does not give the required parameter `{name}`"),
        )
        .hint(format!("Add `params: #{{ {name}: ... }}` to the schedule.")));
    }
    Ok(Schedule {
        cron: cron.to_owned(),
        tz: tz.map(str::to_owned),
        params: given,
        at: place(file, literal.at),
    })
}

fn schedule_param(entry: &Entry, path: &str, params: &[Param], file: &str) -> Result<Value, Failure> {
    let name = &entry.key;
    let Some(param) = params.iter().find(|param| param.name == *name) else {
        let failure =
            wrong(file, entry.at, format!("`{path}.params.{name}` is not a parameter of this playbook"));
        let names = params.iter().map(|param| param.name.as_str());
        return Err(match crate::base::diagnostic::did_you_mean(name, names) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure,
        });
    };
    if param.secret {
        return Err(wrong(file, entry.value.at, format!("`{path}.params.{name}` gives a secret away")));
    }
    param
        .fits(&entry.value)
        .map(|()| entry.value.json())
        .map_err(|problem| wrong(file, entry.value.at, format!("`{path}.params.{name}` {problem}")))
}

const CRON_HINT: &str = "A cron expression has five fields: minute, hour, day of month, month and day of week, for \
                         example `30 2 * * 1-5`.";

/// What is wrong with a cron expression, naming the field.
fn check_cron(cron: &str) -> Result<(), String> {
    let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Disallowed).build();
    let fields: Vec<&str> = cron.split_whitespace().collect();
    if fields.len() != CRON_FIELDS.len() {
        return Err(format!("is `{cron}`, which has {} fields instead of five", fields.len()));
    }
    for (index, field) in fields.iter().enumerate() {
        let mut alone = ["*"; 5];
        alone[index] = field;
        if parser.parse(&alone.join(" ")).is_err() {
            return Err(format!("is `{cron}`, whose {} `{field}` is not valid", CRON_FIELDS[index]));
        }
    }
    parser.parse(cron).map(|_| ()).map_err(|_| format!("is `{cron}`, which is not a cron expression"))
}

/// Whether a text looks like an IANA name; which zones exist is known to the scheduler's machine only.
fn is_zone(tz: &str) -> bool {
    tz.split('/').all(|part| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-+".contains(c))
    })
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
