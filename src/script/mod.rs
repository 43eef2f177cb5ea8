//! Layer 4: the only place that names `rhai`. It reads playbooks, runs them, and gives them the primitives.

pub mod bind;
pub mod codec;
pub mod collections;
pub mod context;
pub mod doc;
pub mod embedded;
pub mod engine;
pub mod ensure;
pub mod fault;
pub mod fields;
pub mod grants;
pub mod guard;
pub mod header;
pub mod known;
pub mod launch;
pub mod library;
pub mod lint;
pub mod literal;
pub mod modules;
pub mod option_keys;
pub mod options;
pub mod param;
pub mod parameters;
pub mod program;
mod rehearse;
pub mod resume;
pub mod runtime;
pub mod step;
pub mod surface;
pub mod syntax;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod unknown;
pub mod value;
pub mod wording;
pub mod words;
