//! Names: parameters that do not exist, words that are taken, collisions with the command line.

use super::{Finding, Reserved};
use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::script::fields::listed;
use crate::script::header::Header;
use crate::script::program::Unit;
use crate::script::tree;
use rhai::{ASTNode, Expr, Position, Stmt};

/// Words that are ours though the language would take them for a variable or function.
const OURS: [&str; 5] = ["step", "attempt", "ensure", "always", "params"];

/// Checks the names of one file.
pub fn check(unit: &Unit, header: Option<&Header>, findings: &mut Vec<Finding>) {
    for function in &unit.functions {
        if OURS.contains(&function.name.as_str()) {
            findings.push(taken(unit, &function.name, "function", unit.function_at(&function.name)));
        }
        if let Some(name) = function.params.iter().find(|name| OURS[..4].contains(&name.as_str())) {
            findings.push(taken(unit, name, "parameter of a function", unit.function_at(&function.name)));
        }
    }
    for node in unit.nodes() {
        match node {
            ASTNode::Stmt(Stmt::Var(var, ..)) if OURS.contains(&var.0.as_str()) => {
                findings.push(taken(unit, var.0.as_str(), "variable", var.0.pos));
            }
            ASTNode::Stmt(Stmt::For(x, _)) => {
                for ident in std::iter::once(&x.0).chain(x.1.as_ref()) {
                    if OURS.contains(&ident.as_str()) {
                        findings.push(taken(unit, ident.as_str(), "variable", ident.pos));
                    }
                }
            }
            ASTNode::Expr(Expr::Dot(pair, ..) | Expr::Index(pair, ..)) => {
                if let Some(header) = header
                    && tree::variable(&pair.lhs).is_some_and(|(name, _)| name == "params")
                    && let Some((name, at)) = tree::first_member(&pair.rhs)
                    && header.param(name).is_none()
                {
                    findings.push(unknown_parameter(unit, header, name, at));
                }
            }
            _ => {}
        }
    }
}

fn taken(unit: &Unit, name: &str, what: &str, at: Position) -> Finding {
    let why = if name == "params" {
        "`params` holds the parameters of the playbook; choose another name.".to_owned()
    } else {
        format!("The word `{name}` begins a block of its own; choose another name.")
    };
    Finding::error(unit.wrong(at, format!("`{name}` cannot be the name of a {what}")).hint(why))
}

fn unknown_parameter(unit: &Unit, header: &Header, name: &str, at: Position) -> Finding {
    let failure = unit.wrong(at, format!("no parameter `{name}`"));
    let names = || header.params.iter().map(|param| param.name.as_str());
    Finding::error(match did_you_mean(name, names()) {
        Some(close) => failure.hint(format!("Did you mean `{close}`?")),
        None if header.params.is_empty() => failure
            .hint(format!("Add it to the header: `params: #{{ {name}: #{{ help: \"What it is\" }} }}`.")),
        None => failure.hint(format!("The parameters of this playbook are {}.", listed(names(), "and"))),
    })
}

/// Parameters whose flag the command line has already, and a playbook that is named like a command.
pub fn collisions(name: &str, file: &str, header: Option<&Header>, reserved: &Reserved) -> Vec<Finding> {
    let mut findings = Vec::new();
    if reserved.commands.iter().any(|command| command == name) {
        findings.push(Finding::error(
            Failure::new(
                Code::Playbook,
                format!("the playbook `{name}` is named like a command of lifeboat"),
            )
            .at(Some(crate::script::fields::place(file, Position::NONE)))
            .hint(format!("Rename the file, for example to `{name}_backups.rhai`.")),
        ));
    }
    for param in header.iter().flat_map(|header| &header.params) {
        if !param.positional && reserved.flags.contains(&param.flag()) {
            findings.push(Finding::error(
                Failure::new(
                    Code::Playbook,
                    format!(
                        "the parameter `{}` would be the flag `--{}`, which every run has",
                        param.name,
                        param.flag()
                    ),
                )
                .at(Some(param.at.clone()))
                .hint(format!("Rename the parameter, for example to `{}_value`.", param.name)),
            ));
        }
    }
    findings
}
