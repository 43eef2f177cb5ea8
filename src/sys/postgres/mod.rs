//! PostgreSQL: its programs, its servers, and the settings that lead to them.

pub mod binaries;
pub mod catalog;
pub mod connection;
mod connection_url;
pub mod contents;
pub mod copy_head;
pub mod cursor;
pub mod fingerprint;
pub mod globals;
mod lexer;
pub mod machine;
mod password_file;
pub mod quote;
mod refusal;
pub mod scan;
mod service_file;
pub mod settings;
mod sources;
pub mod summary;
mod tls;
pub mod version;
