//! PostgreSQL: its programs, its servers, and the settings that lead to them.

pub mod binaries;
pub mod catalog;
pub mod connection;
mod connection_url;
pub mod contents;
pub mod copy_head;
pub mod cursor;
pub mod databases;
pub mod fingerprint;
pub mod globals;
mod lexer;
pub mod machine;
pub mod maintenance;
pub mod mark;
pub mod obstacles;
mod password_file;
pub mod quote;
mod refusal;
pub mod scan;
mod service_file;
mod sessions;
pub mod settings;
mod sources;
pub mod summary;
pub mod swap;
mod tls;
pub mod version;
