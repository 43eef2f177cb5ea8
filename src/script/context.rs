//! What a run gives to its bindings; they reach it through the engine's tag.

use crate::base::event::Level;
use crate::base::failure::{Code, Failure, Place};
use crate::engine::session::Session;
use crate::script::bind::parallel::Unperformed;
use crate::script::fault;
use crate::script::library::Library;
use rhai::{AST, ASTNode, Dynamic, EvalAltResult, Expr, Map, Module, NativeCallContext, Position, Shared};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// What bindings raise.
pub type Raised = Box<EvalAltResult>;

/// A closure that stands in a module: the module's code, which the closure needs when it is called from elsewhere.
#[derive(Clone)]
pub struct ModuleClosure {
    /// The module's file.
    pub file: String,
    /// All functions of the module.
    pub functions: Shared<Module>,
    /// What the module imported, by the names it gave them.
    pub imports: Vec<(String, Shared<Module>)>,
    /// Parameters of the closure, captured variables included.
    pub arity: usize,
}

/// One run of one playbook, on the script's thread.
pub struct RunContext {
    session: Arc<Session>,
    library: Library,
    /// The playbook's file, as places name it.
    file: String,
    params: Dynamic,
    /// How many imports are being carried out.
    importing: Cell<usize>,
    functions: RefCell<BTreeSet<String>>,
    /// Texts that stand literally in the playbook or its modules.
    literals: RefCell<BTreeSet<String>>,
    superuser_told: Cell<bool>,
    closure_files: RefCell<HashMap<String, String>>,
    module_closures: RefCell<HashMap<String, ModuleClosure>>,
    /// Actions that were made and may not be performed yet, in their order.
    unperformed: RefCell<Vec<Unperformed>>,
}

impl RunContext {
    /// The context of a run of the playbook in `file`.
    pub fn new(session: Arc<Session>, library: Library, file: String, params: Map) -> Self {
        Self {
            session,
            library,
            file,
            params: params.into(),
            importing: Cell::new(0),
            functions: RefCell::default(),
            literals: RefCell::default(),
            superuser_told: Cell::new(false),
            closure_files: RefCell::default(),
            module_closures: RefCell::default(),
            unperformed: RefCell::default(),
        }
    }

    /// The context of the run that `ctx` belongs to.
    ///
    /// # Errors
    /// Raises an internal failure when the engine belongs to no run.
    pub fn of(ctx: &NativeCallContext) -> Result<Rc<Self>, Raised> {
        Self::of_tag(ctx.tag())
    }

    /// The context in an engine's tag.
    ///
    /// # Errors
    /// As [`RunContext::of`].
    pub fn of_tag(tag: Option<&Dynamic>) -> Result<Rc<Self>, Raised> {
        tag.and_then(|tag| tag.read_lock::<Rc<Self>>().map(|context| context.clone())).ok_or_else(|| {
            fault::raise(Failure::new(Code::Internal, "a primitive was called outside of a run"))
        })
    }

    /// The session, for a binding that asks or acts.
    ///
    /// # Errors
    /// Refuses while a module is imported: importing must not do anything.
    pub fn session(&self) -> Result<&Session, Raised> {
        if self.importing.get() > 0 {
            return Err(fault::defect(
                Failure::new(Code::Playbook, "a module does something while it is imported").hint(
                    "Put what stands at the module's top level into a function, and call it from a step.",
                ),
            ));
        }
        Ok(&self.session)
    }

    /// The session, for the runtime itself.
    pub fn runtime_session(&self) -> &Session {
        &self.session
    }

    /// The library that imports are looked up in.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The playbook's file, as places name it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The parameters, a map.
    pub fn params(&self) -> &Dynamic {
        &self.params
    }

    /// Carries out an import: meanwhile the session cannot be reached.
    pub fn importing<T>(&self, import: impl FnOnce() -> T) -> T {
        self.importing.set(self.importing.get() + 1);
        let result = import();
        self.importing.set(self.importing.get() - 1);
        result
    }

    /// Remembers an action that somebody has to perform.
    pub fn made(&self, action: Unperformed) {
        self.unperformed.borrow_mut().push(action);
    }

    /// How many actions may not be performed yet; what is made later comes behind them.
    pub fn made_so_far(&self) -> usize {
        self.unperformed.borrow().len()
    }

    /// Warns of the actions made since `mark` that nobody has performed and, unless `value` hands them on, nobody can perform
    /// any more.
    pub fn warn_of_forgotten(&self, mark: usize, value: Option<&Dynamic>) {
        for action in self.since(mark) {
            if action.is_performed() {
                continue;
            }
            if value.is_some_and(|value| action.is_in(value)) {
                self.made(action);
                continue;
            }
            let place = action.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
            self.session.log(
                Level::Warn,
                &format!(
                    "`{}` was made and never performed{place}: hand it to `parallel([...])`, or use the word that \
                     performs it at once",
                    action.label
                ),
            );
        }
    }

    /// Forgets the actions made since `mark`: what ended before they could be performed says so itself, and a step that is
    /// kept has performed them in an earlier attempt.
    pub fn forget_made(&self, mark: usize) {
        self.since(mark);
    }

    fn since(&self, mark: usize) -> Vec<Unperformed> {
        let mut all = self.unperformed.borrow_mut();
        let mark = mark.min(all.len());
        all.split_off(mark)
    }

    /// Whether this is the first query of the run that a superuser asks; that is told once.
    pub fn first_superuser_query(&self) -> bool {
        !self.superuser_told.replace(true)
    }

    /// Whether a text stands literally in the playbook or its modules, so that whoever read them has read it.
    pub fn is_literal(&self, text: &str) -> bool {
        self.literals.borrow().contains(text)
    }

    /// Remembers the functions and texts of a playbook or module that was compiled.
    pub fn learn(&self, ast: &AST, file: &str) {
        ast.walk(&mut |path| {
            if let Some(ASTNode::Expr(Expr::StringConstant(text, _))) = path.last() {
                self.literals.borrow_mut().insert(text.to_string());
            }
            true
        });
        for (_, _, name, _, _) in ast.shared_lib().iter_script_fn_info() {
            if is_closure(name) {
                self.closure_files.borrow_mut().insert(name.to_owned(), file.to_owned());
            } else {
                self.functions.borrow_mut().insert(name.to_owned());
            }
        }
    }

    /// Remembers the closures of a module that was imported.
    pub fn learn_closures(&self, ast: &AST, file: &str, imports: &[(String, Shared<Module>)]) {
        for (_, _, name, arity, _) in ast.shared_lib().iter_script_fn_info() {
            if is_closure(name) {
                let closure = ModuleClosure {
                    file: file.to_owned(),
                    functions: ast.shared_lib().clone(),
                    imports: imports.to_vec(),
                    arity,
                };
                self.module_closures.borrow_mut().insert(name.to_owned(), closure);
            }
        }
    }

    /// The closure of an imported module by the name that the engine gave it.
    pub fn module_closure(&self, name: &str) -> Option<ModuleClosure> {
        self.module_closures.borrow().get(name).cloned()
    }

    /// The file that a closure stands in.
    pub fn closure_file(&self, name: &str) -> Option<String> {
        self.closure_files.borrow().get(name).cloned()
    }

    /// Names of all functions that playbook and modules define.
    pub fn functions(&self) -> BTreeSet<String> {
        self.functions.borrow().clone()
    }
}

/// Whether the engine made up this name of a function for a closure.
pub fn is_closure(name: &str) -> bool {
    name.starts_with("anon$")
}

/// Where a binding was called.
pub fn place(ctx: &NativeCallContext) -> Option<Place> {
    place_at(ctx.call_source().unwrap_or_default(), ctx.call_position())
}

/// A position in a file; `None` where the engine knows none.
pub fn place_at(file: &str, position: Position) -> Option<Place> {
    let line = position.line()?;
    Some(Place { file: file.to_owned(), line, column: position.position().unwrap_or(1) })
}
