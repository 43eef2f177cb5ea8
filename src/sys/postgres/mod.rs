//! PostgreSQL: its programs and its servers.

pub mod binaries;
pub mod version;
