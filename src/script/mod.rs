//! Layer 4: the only place that names rhai.

pub mod fields;
pub mod header;
pub mod known;
pub mod lint;
pub mod literal;
pub mod options;
pub mod param;
pub mod parameters;
pub mod program;
pub mod syntax;
pub mod tree;
pub mod words;
