//! What Lifeboat knows of PostgreSQL.

pub mod contents;
pub mod copy_head;
pub mod fingerprint;
mod lexer;
pub mod scan;
pub mod summary;
