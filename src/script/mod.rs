//! Layer 4: the only place that names `rhai`. It reads playbooks, runs them, and gives them the primitives.

pub mod bind;
pub mod collections;
pub mod context;
pub mod embedded;
pub mod engine;
pub mod fault;
pub mod guard;
pub mod library;
pub mod modules;
pub mod options;
pub mod runtime;
pub mod step;
pub mod unknown;
pub mod value;
pub mod wording;

#[cfg(test)]
mod tests;
