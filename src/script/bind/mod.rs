//! The primitives that playbooks call, one family per file.

use crate::script::value::Kind;
use rhai::Engine;

/// Types of the host that scripts handle as values.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    const FAMILIES: &[&[Kind]] = &[];
    FAMILIES.iter().copied().flatten()
}

/// Gives an engine all primitives.
pub fn register(engine: &mut Engine) {
    kinds().for_each(|kind| kind.register(engine));
}
