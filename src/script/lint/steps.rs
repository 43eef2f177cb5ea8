//! Steps: they speak only through their value, nothing leaves them midway, and nothing is read as their continuation.

use super::Finding;
use crate::script::program::Unit;
use crate::script::tree;
use rhai::{ASTFlags, ASTNode, Expr, Position, Stmt, StmtBlock};

/// Checks every step of one file.
pub fn check(unit: &Unit, findings: &mut Vec<Finding>) {
    for node in unit.nodes() {
        if let Some((step, at)) = tree::step(node)
            && let Some(block) = tree::step_block(step)
        {
            let word = step.tokens[0].to_string();
            let mut body = Body { unit, word, line: at.line(), locals: Vec::new(), loops: 0, findings };
            body.block(block);
        }
        if let Some((ensure, at)) = tree::ensure(node)
            && let Some(block) = tree::step_block(ensure)
        {
            clean_up(unit, block, at, findings);
        }
        continued(unit, node, findings);
        imports(unit, node, findings);
    }
}

/// Walks the block of one step, knowing the variables that belong to it.
struct Body<'a> {
    unit: &'a Unit,
    word: String,
    line: Option<usize>,
    locals: Vec<String>,
    loops: usize,
    findings: &'a mut Vec<Finding>,
}

impl Body<'_> {
    fn block(&mut self, block: &StmtBlock) {
        let outer = self.locals.len();
        block.iter().for_each(|stmt| self.stmt(stmt));
        self.locals.truncate(outer);
    }

    fn node(&mut self, node: ASTNode<'_>) {
        match node {
            ASTNode::Stmt(stmt) => self.stmt(stmt),
            ASTNode::Expr(expr) => self.expr(expr),
            _ => {}
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Var(var, ..) => {
                self.expr(&var.1);
                self.locals.push(var.0.name.to_string());
            }
            Stmt::Block(block) => self.block(block),
            Stmt::If(x, _) => {
                self.expr(&x.expr);
                self.block(&x.body);
                self.block(&x.branch);
            }
            Stmt::While(x, _) | Stmt::Do(x, ..) => {
                self.expr(&x.expr);
                self.in_loop(&x.body);
            }
            Stmt::For(x, _) => {
                self.expr(&x.2.expr);
                let outer = self.locals.len();
                self.locals
                    .extend(std::iter::once(&x.0).chain(x.1.as_ref()).map(|ident| ident.name.to_string()));
                self.in_loop(&x.2.body);
                self.locals.truncate(outer);
            }
            Stmt::Assignment(x) => {
                self.assignment(&x.1.lhs);
                self.expr(&x.1.rhs);
            }
            Stmt::Return(value, flags, at) => {
                if !flags.contains(ASTFlags::BREAK) {
                    self.leaves("return", *at, "End the step with the value itself, without `return`.");
                }
                value.iter().for_each(|expr| self.expr(expr));
            }
            Stmt::BreakLoop(value, flags, at) => {
                if self.loops == 0 {
                    let word = if flags.contains(ASTFlags::BREAK) { "break" } else { "continue" };
                    self.leaves(word, *at, "Let the step return a value, and decide outside of it.");
                }
                value.iter().for_each(|expr| self.expr(expr));
            }
            other => tree::children(ASTNode::Stmt(other)).into_iter().for_each(|node| self.node(node)),
        }
    }

    fn expr(&mut self, expr: &Expr) {
        if let Some((name, captured)) = tree::closure(expr) {
            self.closure(&name, &captured);
            return;
        }
        match expr {
            Expr::Stmt(block) => self.block(block),
            other => tree::children(ASTNode::Expr(other)).into_iter().for_each(|node| self.node(node)),
        }
    }

    fn in_loop(&mut self, block: &StmtBlock) {
        self.loops += 1;
        self.block(block);
        self.loops -= 1;
    }

    /// A closure returns for itself, but what it captures from outside of the step is not the step's own.
    fn closure(&mut self, name: &str, captured: &[&str]) {
        let Some(function) = self.unit.forms(name).next() else { return };
        let own = function.params.iter().filter(|param| !captured.contains(&param.as_str())).cloned();
        let locals = self.locals.iter().cloned().chain(own).collect();
        let mut inner = Body {
            unit: self.unit,
            word: self.word.clone(),
            line: self.line,
            locals,
            loops: 0,
            findings: &mut Vec::new(),
        };
        function.body.iter().for_each(|stmt| inner.stmt(stmt));
        let assigned = inner
            .findings
            .drain(..)
            .filter(|f| f.failure.message.contains(" is assigned "))
            .collect::<Vec<_>>();
        self.findings.extend(assigned);
    }

    fn assignment(&mut self, lhs: &Expr) {
        let Some((name, at)) = tree::root(lhs) else { return };
        if self.locals.iter().any(|local| local == name) {
            return;
        }
        let word = &self.word;
        self.findings.push(Finding::error(
            self.unit
                .wrong(at, format!("`{name}` is assigned inside a step, but defined outside of it"))
                .caused_by("a step that is skipped when a run is resumed would not assign it")
                .hint(format!("Let the step return the value: `let {name} = {word} \"name\" {{ ... }};`.")),
        ));
    }

    fn leaves(&mut self, word: &str, at: Position, hint: &str) {
        self.findings
            .push(Finding::error(self.unit.wrong(at, format!("`{word}` would leave the step")).hint(hint)));
    }
}

/// A clean-up runs to its end: leaving it midway would replace the failure that it follows. What it assigns is its own affair.
fn clean_up(unit: &Unit, block: &StmtBlock, at: Position, findings: &mut Vec<Finding>) {
    let mut found = Vec::new();
    let mut body = Body {
        unit,
        word: tree::ENSURE.to_owned(),
        line: at.line(),
        locals: Vec::new(),
        loops: 0,
        findings: &mut found,
    };
    body.block(block);
    findings.extend(found.into_iter().filter_map(|mut finding| {
        let word = finding.failure.message.strip_suffix(" would leave the step")?.to_owned();
        finding.failure.message = format!("{word} would leave the clean-up");
        finding.failure.hints = vec!["Let the block behind `always` run to its end.".to_owned()];
        Some(finding)
    }));
}

/// A line that is read as the continuation of the step before it.
fn continued(unit: &Unit, node: ASTNode<'_>, findings: &mut Vec<Finding>) {
    let (first, at, sign) = match node {
        ASTNode::Expr(Expr::Index(pair, _, at)) => (&pair.lhs, *at, "["),
        ASTNode::Expr(Expr::FnCall(call, at)) if call.is_operator_call() && call.args.len() == 2 => {
            (&call.args[0], *at, call.name.as_str())
        }
        _ => return,
    };
    let Some((step, began)) = tree::block_word(ASTNode::Expr(first)) else { return };
    let what = if step.tokens[0] == tree::ENSURE { "block" } else { "step" };
    let end = tree::step_block(step).map(StmtBlock::end_position).and_then(|end| end.line());
    if at.line() <= end.or(began.line()) {
        return;
    }
    findings.push(Finding::error(
        unit.wrong(at, format!("this `{sign}` continues the {what} above it instead of beginning a line"))
            .hint(format!("Put a `;` behind the closing `}}` of the {what}.")),
    ));
}

/// Imports that cannot be followed without running the playbook.
fn imports(unit: &Unit, node: ASTNode<'_>, findings: &mut Vec<Finding>) {
    let body = match node {
        ASTNode::Stmt(Stmt::Import(import, _)) if !matches!(import.0, Expr::StringConstant(..)) => {
            findings.push(Finding::error(
                unit.wrong(import.0.start_position(), "the path of an import must be a literal string")
                    .hint("Write it out, for example `import \"std/backup\" as backup;`."),
            ));
            return;
        }
        ASTNode::Stmt(Stmt::While(x, _) | Stmt::Do(x, ..)) => &x.body,
        ASTNode::Stmt(Stmt::For(x, _)) => &x.2.body,
        _ => return,
    };
    for inner in tree::below(body.iter()) {
        if let ASTNode::Stmt(Stmt::Import(_, at)) = inner {
            findings.push(Finding::error(
                unit.wrong(*at, "this import stands in a loop")
                    .hint("Move it to the top of the file: a module is imported once."),
            ));
        }
    }
}
