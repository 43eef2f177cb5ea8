//! `import`: modules of the library, compiled once per run.

use crate::base::failure::{Code, Failure, Frame};
use crate::script::context::{Raised, RunContext, place_at};
use crate::script::engine::compile;
use crate::script::fault::{Fault, fault};
use crate::script::unknown;
use rhai::{Engine, Module, ModuleResolver, Position, Scope, Shared};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Resolves the imports of one run.
pub struct Modules {
    context: Rc<RunContext>,
    loaded: RefCell<HashMap<String, Shared<Module>>>,
    /// Files that are being imported, outermost first.
    loading: RefCell<Vec<String>>,
}

impl Modules {
    /// A resolver for a run.
    pub fn new(context: Rc<RunContext>) -> Self {
        Self { context, loaded: RefCell::default(), loading: RefCell::default() }
    }

    fn load(&self, engine: &Engine, importer: &str, path: &str) -> Result<Shared<Module>, Fault> {
        let defect = |failure| Fault { failure, defect: true };
        unknown::known(path).map_err(|failure| Fault { failure, defect: false })?;
        let found = self.context.library().module(importer, path).map_err(defect)?;
        if let Some(module) = self.loaded.borrow().get(&found.file) {
            return Ok(module.clone());
        }
        if let Some(first) = self.loading.borrow().iter().position(|file| *file == found.file) {
            let mut cycle = self.loading.borrow()[first..].join("` imports `");
            cycle = format!("`{cycle}` imports `{}`", found.file);
            return Err(defect(
                Failure::new(Code::Playbook, "modules import each other")
                    .caused_by(cycle)
                    .hint("Move what both need into a third module."),
            ));
        }
        let ast = compile(engine, &found.source, &found.file).map_err(defect)?;
        self.context.learn(&ast, &found.file);
        self.loading.borrow_mut().push(found.file.clone());
        let module = self.context.importing(|| Module::eval_ast_as_new(Scope::new(), &ast, engine));
        self.loading.borrow_mut().pop();
        let module = module.map_err(|error| fault(engine, Some(&self.context), &error, &found.file))?;
        let imports: Vec<_> =
            module.iter_sub_modules().map(|(name, module)| (name.to_owned(), module.clone())).collect();
        self.context.learn_closures(&ast, &found.file, &imports);
        let module = Shared::new(module);
        self.loaded.borrow_mut().insert(found.file, module.clone());
        Ok(module)
    }
}

impl ModuleResolver for Modules {
    fn resolve(
        &self,
        engine: &Engine,
        source: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Shared<Module>, Raised> {
        let importer = source.unwrap_or(self.context.file());
        self.load(engine, importer, path).map_err(|mut fault| {
            // A failure inside the module has its own place; then the import is part of the chain.
            if let (true, Some(at)) = (fault.failure.at.is_some(), place_at(importer, position)) {
                fault.failure.trail.push(Frame { function: format!("import \"{path}\""), at });
            }
            fault.raise(position)
        })
    }
}
