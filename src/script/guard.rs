//! Functions of the engine's standard library that take text: given a marked text, they raise an unknown.
//!
//! *Problem*: `len`, `contains` or `split` of a text with an unknown in it would answer for the placeholder.
//! *Decision*: every function of the standard library that takes text is found by its signature and wrapped; those of
//! arrays are replaced in [`super::collections`].
//! *Rejected*: a hand-written list of functions, which the next release of the engine makes incomplete.

use crate::script::context::Raised;
use crate::script::{fault, unknown};
use rhai::packages::{Package, StandardPackage};
use rhai::{
    Array, Dynamic, Engine, FuncRegistration, GlobalRuntimeState, ImmutableString, Module, NativeCallContext,
    RhaiFunc, Shared,
};
use std::any::TypeId;
use std::rc::Rc;

/// Functions that pass a mark on, or only show the text.
const CARRY: [&str; 8] = ["+", "+=", "append", "print", "debug", "to_string", "to_debug", "is_empty"];

/// An engine with nothing but the standard library, which carries out what the wrappers let through.
struct Plain {
    engine: Engine,
    state: GlobalRuntimeState,
}

thread_local! {
    // Finding the functions takes longer than all the rest of an engine, and the result never changes.
    static GUARDS: Shared<Module> = guards().into();
}

/// Lays the guards over the standard library.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(GUARDS.with(Clone::clone));
}

fn guards() -> Module {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    let found = engine.collect_fn_metadata(
        None,
        |info| {
            let metadata = info.metadata;
            let text = TypeId::of::<ImmutableString>();
            let of_array = metadata.param_types.first() == Some(&TypeId::of::<Array>());
            let takes_text = metadata.param_types.contains(&text) && !of_array;
            (takes_text && !CARRY.contains(&metadata.name.as_str()))
                .then(|| (metadata.name.to_string(), metadata.param_types.to_vec()))
        },
        true,
    );
    let state = engine.new_global_runtime_state();
    let plain = Rc::new(Plain { engine, state });
    let mut module = Module::new();
    for (name, types) in found {
        let plain = plain.clone();
        let function = name.clone();
        let guarded = move |ctx: Option<NativeCallContext>, args: &mut [&mut Dynamic]| {
            call(&plain, &function, ctx.as_ref(), args)
        };
        FuncRegistration::new(name).in_internal_namespace().set_into_module_raw(
            &mut module,
            types,
            RhaiFunc::Method {
                func: Shared::new(guarded),
                has_context: true,
                is_pure: true,
                is_volatile: false,
            },
        );
    }
    module
}

fn call(
    plain: &Plain,
    name: &str,
    ctx: Option<&NativeCallContext>,
    args: &mut [&mut Dynamic],
) -> Result<Dynamic, Raised> {
    for arg in args.iter() {
        if let Some(text) = arg.read_lock::<ImmutableString>() {
            unknown::known(&text).map_err(fault::raise)?;
        }
    }
    let position = ctx.map_or(rhai::Position::NONE, NativeCallContext::call_position);
    NativeCallContext::new_with_all_fields(&plain.engine, name, None, &plain.state, position)
        .call_native_fn_raw(name, true, args)
}
