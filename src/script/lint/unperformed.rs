//! Actions that are made and never performed, and lists of `parallel` that hold no actions: whoever reads `.to(path)` must be able
//! to rely on it that a backup is made.

use super::Finding;
use crate::base::failure::Failure;
use crate::script::program::Unit;
use crate::script::tree;
use rhai::{ASTNode, Expr, FnCallExpr, Position, Stmt};

/// Functions that make an action, and what performs it at once.
const MAKERS: [(&str, &str); 3] = [("to", "save"), ("to_verify", "verify"), ("to_exec", "exec")];

/// Functions whose values are pipelines.
const PIPELINES: [&str; 5] = ["dump", "archive", "file", "gzip", "hash"];

/// Checks one file; of a playbook nobody uses the value.
pub fn check(unit: &Unit, is_playbook: bool, findings: &mut Vec<Finding>) {
    let mut found = |failure: Failure| findings.push(Finding::error(failure));
    let top: Vec<&Stmt> = unit.ast.statements().iter().collect();
    unused(unit, &top, !is_playbook, &mut found);
    for function in &unit.functions {
        unused(unit, &function.body.iter().collect::<Vec<_>>(), true, &mut found);
    }
    for node in unit.nodes() {
        for (block, has_value) in blocks(node) {
            unused(unit, &block, has_value, &mut found);
        }
        if let ASTNode::Stmt(Stmt::Var(var, ..)) = node
            && let Some((call, at)) = maker(unit, &var.1)
            && !is_mentioned(unit, &var.0.name)
        {
            found(never(unit, call, at));
        }
        if let Some((call, ..)) = tree::call(node)
            && call.name == "parallel"
            && !call.is_qualified()
            && unit.forms("parallel").next().is_none()
            && let Some(Expr::Array(list, at)) = call.args.first()
        {
            if list.is_empty() {
                found(unit.wrong(*at, "the list of `parallel` is empty"));
            }
            list.iter().enumerate().for_each(|(index, entry)| {
                if let Some(failure) = no_action(unit, index, entry) {
                    found(failure);
                }
            });
        }
    }
}

/// The statements directly in a node, and whether the last one is a value that somebody may use.
fn blocks<'a>(node: ASTNode<'a>) -> Vec<(Vec<&'a Stmt>, bool)> {
    match node {
        ASTNode::Expr(Expr::Stmt(block)) => vec![(block.iter().collect(), true)],
        ASTNode::Stmt(stmt) => match stmt {
            Stmt::Block(block) => vec![(block.iter().collect(), true)],
            Stmt::If(x, _) => {
                vec![(x.body.iter().collect(), true), (x.branch.iter().collect(), true)]
            }
            Stmt::While(x, _) | Stmt::Do(x, ..) => vec![(x.body.iter().collect(), false)],
            Stmt::For(x, _) => vec![(x.2.body.iter().collect(), false)],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn unused(unit: &Unit, block: &[&Stmt], has_value: bool, found: &mut dyn FnMut(Failure)) {
    let thrown_away = block.len() - usize::from(has_value && !block.is_empty());
    for stmt in &block[..thrown_away] {
        if let Some((call, at)) = made_by(unit, stmt) {
            found(never(unit, call, at));
        }
    }
}

/// The call that makes the action which is the value of a statement.
fn made_by<'a>(unit: &Unit, stmt: &'a Stmt) -> Option<(&'a FnCallExpr, Position)> {
    match stmt {
        Stmt::Expr(expr) => match tree::step(ASTNode::Expr(expr)) {
            Some((step, _)) => made_by(unit, tree::step_block(step)?.iter().last()?),
            None => maker(unit, expr),
        },
        Stmt::FnCall(call, at) => makes(unit, call).then_some((call, *at)),
        _ => None,
    }
}

/// The call that an expression ends with, if that makes an action.
fn maker<'a>(unit: &Unit, expr: &'a Expr) -> Option<(&'a FnCallExpr, Position)> {
    last_call(expr).filter(|(call, _)| makes(unit, call))
}

fn makes(unit: &Unit, call: &FnCallExpr) -> bool {
    !call.is_qualified()
        && MAKERS.iter().any(|(name, _)| call.name == *name)
        && unit.forms(&call.name).next().is_none()
}

/// The call that a chain of methods ends with.
fn last_call(expr: &Expr) -> Option<(&FnCallExpr, Position)> {
    match expr {
        Expr::Dot(pair, ..) => last_call(&pair.rhs),
        Expr::FnCall(call, at) | Expr::MethodCall(call, at) if !call.is_operator_call() => {
            Some((&**call, *at))
        }
        _ => None,
    }
}

fn is_mentioned(unit: &Unit, name: &str) -> bool {
    unit.nodes().into_iter().any(|node| match node {
        ASTNode::Expr(expr) => tree::variable(expr).is_some_and(|(other, _)| other == name),
        _ => false,
    })
}

fn never(unit: &Unit, call: &FnCallExpr, at: Position) -> Failure {
    let performs =
        MAKERS.iter().find(|(name, _)| call.name == *name).map_or("save", |(_, performs)| *performs);
    unit.wrong(at, format!("the action that `{}` makes is never performed", call.name))
        .hint(format!("Hand it to `parallel([...])`, or write `{performs}`, which performs it at once."))
}

/// Why an entry of the list of `parallel` cannot be an action, as far as the text tells.
fn no_action(unit: &Unit, index: usize, entry: &Expr) -> Option<Failure> {
    let wrong = |at: Position| unit.wrong(at, format!("entry [{index}] of `parallel` is not an action"));
    if let Some((call, at)) = last_call(entry) {
        let name = call.name.as_str();
        if call.is_qualified() || unit.forms(name).next().is_some() {
            return None;
        }
        if let Some((make, _)) = MAKERS.iter().find(|(_, performs)| *performs == name) {
            let failure = wrong(at).caused_by(format!("`{name}` performs it at once and returns its value"));
            return Some(failure.hint(format!("Write `{make}` instead, which makes the action.")));
        }
        let is_pipeline =
            PIPELINES.contains(&name) && (matches!(entry, Expr::Dot(..)) || PIPELINES[..3].contains(&name));
        return is_pipeline.then(|| wrong(at).hint("Say where it goes: `dump(db).gzip().to(path)`."));
    }
    let is_literal = matches!(
        entry,
        Expr::IntegerConstant(..)
            | Expr::FloatConstant(..)
            | Expr::BoolConstant(..)
            | Expr::StringConstant(..)
            | Expr::InterpolatedString(..)
            | Expr::Array(..)
            | Expr::Map(..)
            | Expr::Unit(_)
    );
    is_literal.then(|| {
        wrong(entry.start_position())
            .hint("Actions are made by `dump(db).gzip().to(path)`, `to_verify(backup)` and `to_exec([...])`.")
    })
}
