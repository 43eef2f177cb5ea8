//! The script engine: one per run, on its own thread, with explicit limits.
//!
//! The same engine without a run's tag serves lint and docs: it compiles, and every primitive is known to it.

use crate::base::failure::Failure;
use crate::script::context::{ModuleClosure, Raised, RunContext};
use crate::script::{bind, collections, ensure, guard, step, unknown, wording};
use rhai::packages::{Package, StandardPackage};
use rhai::{AST, Dynamic, Engine, EvalContext, LexError, OptimizationLevel, Scope, Token};

/// The variable that holds the parameters.
pub const PARAMS: &str = "params";

/// Calls may be nested this deep.
pub const CALL_LEVELS: usize = 64;

/// Operations of one run. A playbook waits for primitives and computes little; an endless loop ends in seconds.
pub const OPERATIONS: u64 = 50_000_000;

const EXPRESSION_DEPTH: usize = 128;
const STRING_BYTES: usize = 16 << 20;
// The engine counts all entries after every change, so growing an array takes quadratic time.
const ARRAY_ENTRIES: usize = 20_000;
const MAP_ENTRIES: usize = 20_000;
const MODULES: usize = 100;
const FUNCTIONS: usize = 2_000;
const VARIABLES: usize = 1_000;

/// An engine that knows the language, all primitives, `step`, `attempt` and `ensure`.
pub fn engine() -> Engine {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    limit(&mut engine);
    // An unknown must raise wherever it is used. The optimizer and the fast operators would answer for it: they turn
    // `unknown && true` into `unknown`.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_fast_operators(false);
    engine.set_strict_variables(true);
    engine.set_fail_on_invalid_map_property(true);
    engine.set_max_strings_interned(256);
    guard::register(&mut engine);
    collections::register(&mut engine);
    unknown::register(&mut engine);
    bind::register(&mut engine);
    step::register(&mut engine);
    ensure::register(&mut engine);
    hook(&mut engine);
    engine
}

/// Compiles a playbook or module. `file` is how places name it.
///
/// # Errors
/// `Playbook`, with the place that the parser points at.
pub fn compile(engine: &Engine, source: &str, file: &str) -> Result<AST, Failure> {
    let mut scope = Scope::new();
    scope.push_constant(PARAMS, Dynamic::UNIT);
    let mut ast = engine
        .compile_with_scope(&scope, source)
        .map_err(|error| wording::syntax_error(error.err_type(), error.position(), source, file))?;
    ast.set_source(file);
    Ok(ast)
}

fn limit(engine: &mut Engine) {
    engine.set_max_call_levels(CALL_LEVELS);
    engine.set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
    engine.set_max_string_size(STRING_BYTES);
    engine.set_max_array_size(ARRAY_ENTRIES);
    engine.set_max_map_size(MAP_ENTRIES);
    engine.set_max_modules(MODULES);
    engine.set_max_functions(FUNCTIONS);
    engine.set_max_variables(VARIABLES);
    // The engine's own count is per evaluator and forgets what closures do; the runtime counts in `on_progress`.
    engine.set_max_operations(0);
}

// These callbacks are not deprecated: the engine marks what may change between its releases that way, and it is pinned.
#[allow(deprecated)]
fn hook(engine: &mut Engine) {
    engine.on_parse_token(|token, _, _| {
        let word = match &token {
            Token::Identifier(word) | Token::Reserved(word) => word.as_str(),
            token if token.is_literal() => token.literal_syntax(),
            _ => return token,
        };
        if wording::disabled(word).is_some() {
            return Token::LexError(Box::new(LexError::ImproperSymbol(word.to_owned(), String::new())));
        }
        token
    });
    engine.on_def_var(|_, info, _| Ok(info.name() != PARAMS));
    // `params` is visible in functions and closures too, and read-only everywhere.
    engine.on_var(|name, _, ctx| {
        if name != PARAMS {
            return Ok(None);
        }
        Ok(RunContext::of_tag(Some(ctx.tag())).ok().map(|context| context.params().clone()))
    });
    // The engine looks up a closure by name among the functions it sees, and forgets which module it came from.
    engine.on_missing_function(|name, args, is_method, mut ctx| {
        let Ok(context) = RunContext::of_tag(Some(ctx.tag())) else { return Ok(None) };
        match context.module_closure(name) {
            Some(closure) if closure.arity == args.len() - usize::from(is_method) => {
                call_module_closure(name, &closure, args, is_method, &mut ctx).map(Some)
            }
            _ => Ok(None),
        }
    });
}

fn call_module_closure(
    name: &str,
    closure: &ModuleClosure,
    args: &mut [&mut Dynamic],
    is_method: bool,
    ctx: &mut EvalContext,
) -> Result<Dynamic, Raised> {
    let global = ctx.global_runtime_state_mut();
    let known = global.num_imports();
    for (name, module) in &closure.imports {
        global.push_import(name.as_str(), module.clone());
    }
    let result = ctx
        .new_frame()
        .with_new_caching_layer()
        .with_namespace(closure.functions.clone())
        .with_source(closure.file.as_str())
        .call_fn_raw(name, is_method, is_method, args);
    ctx.global_runtime_state_mut().truncate_imports(known);
    result
}
