//! PostgreSQL: its programs and its servers.

pub mod binaries;
pub mod contents;
pub mod copy_head;
pub mod fingerprint;
mod lexer;
pub mod scan;
pub mod summary;
pub mod version;
