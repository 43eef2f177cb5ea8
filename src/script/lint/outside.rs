//! Actions outside of steps, also by way of functions, closures and modules.

use super::Finding;
use crate::base::failure::Frame;
use crate::script::program::Program;
use crate::script::surface::Surface;
use crate::script::tree;
use rhai::{ASTNode, Expr, Position, Stmt};
use std::collections::BTreeSet;

/// Follows everything that runs outside of steps.
pub fn check(program: &Program, surface: &Surface, findings: &mut Vec<Finding>) {
    if let Some(playbook) = program.units.first() {
        let mut follow = Follow { program, surface, seen: BTreeSet::new(), trail: Vec::new(), findings };
        for stmt in playbook.ast.statements() {
            follow.node(0, ASTNode::Stmt(stmt));
        }
    }
    for unit in program.units.iter().skip(1) {
        for node in tree::below(unit.ast.statements().iter()) {
            let step = tree::step(node).map(|(step, at)| (step.tokens[0].to_string(), at));
            let effect = tree::call(node)
                .filter(|(call, ..)| !call.is_qualified() && surface.effects.contains(&call.name.as_str()))
                .map(|(call, at, _)| (call.name.to_string(), at));
            if let Some((name, at)) = step.or(effect) {
                findings.push(Finding::error(
                    unit.wrong(at, format!("`{name}` stands at the top level of a module"))
                        .hint("A module only defines things: put this into a function that playbooks call in a step."),
                ));
            }
        }
    }
}

struct Follow<'a> {
    program: &'a Program,
    surface: &'a Surface,
    /// Functions that were followed, by file, name and number of arguments.
    seen: BTreeSet<(usize, String, usize)>,
    trail: Vec<Frame>,
    findings: &'a mut Vec<Finding>,
}

impl Follow<'_> {
    fn node(&mut self, unit: usize, node: ASTNode<'_>) {
        if let Some((step, _)) = tree::step(node) {
            // What a step's block does is inside; its name is not.
            for input in step.inputs.iter().filter(|input| !matches!(input, Expr::Stmt(_))) {
                self.node(unit, ASTNode::Expr(input));
            }
            return;
        }
        if let ASTNode::Stmt(Stmt::Var(var, ..)) = node
            && tree::closure(&var.1).is_some()
        {
            // A closure that is only kept may still be called inside a step.
            return;
        }
        if let ASTNode::Expr(expr) = node
            && let Some((name, _)) = tree::closure(expr)
        {
            self.function(unit, &name, None, expr.start_position());
            return;
        }
        if let Some((call, at, _)) = tree::call(node) {
            let count = call.args.len();
            if call.is_qualified() {
                let alias = call.namespace.root();
                let module = self.program.units[unit].imports.get(alias).copied();
                if let Some(module) = module {
                    self.enter(unit, module, &format!("{alias}::{}", call.name), &call.name, Some(count), at);
                }
            } else if self.program.units[unit].forms(&call.name).any(|form| form.params.len() == count) {
                self.function(unit, &call.name, Some(count), at);
            } else if self.surface.effects.contains(&call.name.as_str()) {
                self.outside(unit, &call.name, at);
            }
        }
        for child in tree::children(node) {
            self.node(unit, child);
        }
    }

    fn function(&mut self, unit: usize, name: &str, count: Option<usize>, at: Position) {
        let shown = if name.starts_with(tree::CLOSURE) { "closure" } else { name };
        self.enter(unit, unit, shown, name, count, at);
    }

    fn enter(
        &mut self,
        caller: usize,
        unit: usize,
        shown: &str,
        name: &str,
        count: Option<usize>,
        at: Position,
    ) {
        let program = self.program;
        let forms = program.units[unit].forms(name);
        for form in forms.filter(|form| count.is_none_or(|count| form.params.len() == count)) {
            if !self.seen.insert((unit, form.name.clone(), form.params.len())) {
                continue;
            }
            self.trail.insert(0, Frame { function: shown.to_owned(), at: program.units[caller].place(at) });
            for stmt in &form.body {
                self.node(unit, ASTNode::Stmt(stmt));
            }
            self.trail.remove(0);
        }
    }

    fn outside(&mut self, unit: usize, name: &str, at: Position) {
        let mut failure = self.program.units[unit].wrong(at, format!("`{name}` acts outside of a step"));
        failure.trail = self.trail.clone();
        let hint = match self.trail.last() {
            Some(call) if call.function != "closure" => {
                format!("Call `{}` inside a step: `step \"What it does\" {{ ... }}`.", call.function)
            }
            _ => "Put it into a step: `step \"What it does\" { ... }`.".to_owned(),
        };
        self.findings.push(Finding::error(failure.hint(hint)));
    }
}
