//! PostgreSQL: its programs, its servers, and the settings that lead to them.

pub mod binaries;
pub mod catalog;
pub mod connection;
mod connection_url;
pub mod cursor;
pub mod globals;
pub mod machine;
mod password_file;
pub mod quote;
mod refusal;
mod service_file;
pub mod settings;
mod sources;
mod tls;
pub mod version;
