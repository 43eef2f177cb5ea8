//! A playbook with every module that it imports, compiled without running anything.

use crate::base::failure::{Failure, Place};
use crate::script::engine::{PARAMS, engine};
use crate::script::fields::{place, wrong};
use crate::script::library::{Library, Playbook};
use crate::script::syntax;
use crate::script::tree;
use rhai::{AST, ASTNode, Dynamic, Engine, Expr, OptimizationLevel, Position, Scope, Stmt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Source of a playbook or module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As shown to people: a path relative to the project, or `std/backup`.
    pub file: String,
    /// The text.
    pub text: Arc<str>,
}

/// One compiled file.
pub struct Unit {
    /// Its source.
    pub source: Source,
    /// Its syntax tree.
    pub ast: AST,
    /// Its functions and closures.
    pub functions: Vec<Function>,
    /// Modules by alias, as indexes into the program's units.
    pub imports: BTreeMap<String, usize>,
}

/// A function or closure of a file.
pub struct Function {
    /// Its name; that of a closure begins with [`tree::CLOSURE`].
    pub name: String,
    /// Its parameters; those of a closure begin with the variables that it captures.
    pub params: Vec<String>,
    /// Its statements.
    pub body: Vec<Stmt>,
}

impl Unit {
    /// The place of a position in this file.
    pub fn place(&self, at: Position) -> Place {
        place(&self.source.file, at)
    }

    /// Where a function is defined; the tree does not keep it, so the text is searched.
    pub fn function_at(&self, name: &str) -> Position {
        let found = self.source.text.lines().enumerate().find_map(|(line, text)| {
            let (before, after) = text.split_once("fn ")?;
            let defined = after.trim_start().strip_prefix(name)?.trim_start().starts_with('(');
            let column =
                before.chars().count() + 3 + after.chars().take_while(|c| c.is_whitespace()).count() + 1;
            defined.then(|| {
                Position::new(u16::try_from(line + 1).unwrap_or(0), u16::try_from(column).unwrap_or(0))
            })
        });
        found.unwrap_or(Position::NONE)
    }

    /// A failure at a position in this file.
    pub fn wrong(&self, at: Position, message: impl Into<String>) -> Failure {
        wrong(&self.source.file, at, message.into())
    }

    /// The forms of a function or closure of this file.
    pub fn forms<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Function> {
        self.functions.iter().filter(move |function| function.name == name)
    }

    /// Names of the functions that this file calls, methods included.
    pub fn called(&self) -> Vec<String> {
        let named = |node: &ASTNode<'_>| match node {
            ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _))
            | ASTNode::Stmt(Stmt::FnCall(call, _)) => Some(call.name.to_string()),
            _ => None,
        };
        self.nodes().iter().filter_map(named).collect()
    }

    /// Every node of this file, functions and closures included, each before its children.
    pub fn nodes(&self) -> Vec<ASTNode<'_>> {
        tree::below(self.ast.statements().iter().chain(self.functions.iter().flat_map(|f| &f.body)))
    }
}

/// A playbook and its modules; the playbook is the first unit.
pub struct Program {
    /// All files.
    pub units: Vec<Unit>,
    /// What does not compile or cannot be imported.
    pub failures: Vec<Failure>,
    /// Every import that names its module: the file that imports, and the path.
    pub imported: Vec<(String, String)>,
}

impl Program {
    /// Compiles a playbook and its modules from a library.
    pub fn of(library: &Library, playbook: &Playbook) -> Self {
        let source = Source { file: playbook.file.clone(), text: playbook.source.as_str().into() };
        Self::load(&mut engine(), source, &|importer, path| {
            library
                .module(importer, path)
                .map(|module| Source { file: module.file, text: module.source.into() })
        })
    }

    /// Compiles `playbook` and, over and over, the modules that `resolve` finds for the file
    /// that imports and the literal path of the import.
    pub fn load(
        engine: &mut Engine,
        playbook: Source,
        resolve: &dyn Fn(&str, &str) -> Result<Source, Failure>,
    ) -> Self {
        engine.set_optimization_level(OptimizationLevel::None);
        let mut program = Self { units: Vec::new(), failures: Vec::new(), imported: Vec::new() };
        program.add(engine, playbook);
        let mut next = 0;
        while next < program.units.len() {
            for (path, alias, at) in literal_imports(&program.units[next]) {
                let importer = &program.units[next];
                program.imported.push((importer.source.file.clone(), path.clone()));
                match resolve(&importer.source.file, &path) {
                    Err(failure) => {
                        let failure = failure.at(Some(importer.place(at)));
                        program.failures.push(failure);
                    }
                    Ok(source) => {
                        let known = program.units.iter().position(|unit| unit.source.file == source.file);
                        if let Some(index) = known.or_else(|| program.add(engine, source)) {
                            program.units[next].imports.insert(alias, index);
                        }
                    }
                }
            }
            next += 1;
        }
        program
    }

    /// The playbook; nothing when it does not compile.
    pub fn playbook(&self) -> Option<&Unit> {
        self.units.first()
    }

    fn add(&mut self, engine: &mut Engine, source: Source) -> Option<usize> {
        let mut scope = Scope::new();
        scope.push_constant(PARAMS, Dynamic::UNIT);
        engine.set_strict_variables(true);
        let ast = engine.compile_with_scope(&scope, &*source.text).or_else(|error| {
            self.failures.push(syntax::failure(&source, &error));
            // An unknown variable hides nothing else: what follows is checked without that rule.
            engine.set_strict_variables(false);
            engine.compile_with_scope(&scope, &*source.text)
        });
        let ast = ast.ok()?;
        let functions = functions(&ast);
        self.units.push(Unit { source, ast, functions, imports: BTreeMap::new() });
        Some(self.units.len() - 1)
    }
}

/// Copies the functions out of a tree, which gives their bodies to a visitor only.
fn functions(ast: &AST) -> Vec<Function> {
    let copy = |name: String, params: Vec<String>| {
        let mut only = ast.clone_functions_only();
        only.retain_functions(|_, _, other, count| name == *other && count == params.len());
        let mut body = Vec::new();
        only.walk(&mut |path: &[ASTNode<'_>]| {
            if let [ASTNode::Stmt(stmt)] = path {
                body.push((*stmt).clone());
            }
            true
        });
        Function { name, params, body }
    };
    ast.iter_functions()
        .map(|f| copy(f.name.to_owned(), f.params.iter().map(|name| (*name).to_owned()).collect()))
        .collect()
}

fn literal_imports(unit: &Unit) -> Vec<(String, String, Position)> {
    let imports = unit.nodes().into_iter().filter_map(|node| match node {
        ASTNode::Stmt(Stmt::Import(import, _)) => match &import.0 {
            Expr::StringConstant(path, at) => Some((path.to_string(), import.1.name.to_string(), *at)),
            _ => None,
        },
        _ => None,
    });
    imports.collect()
}
