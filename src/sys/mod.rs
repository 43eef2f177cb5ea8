//! Layer 1: the only place that touches the operating system and the network.
//!
//! [`facts::Facts`] reads, [`effects::Effects`] writes; a dry run has no `Effects`.

pub mod beside;
pub mod cache;
pub mod channel;
pub mod clock;
pub mod content;
pub mod crontab;
pub mod effects;
pub mod env;
pub mod exec;
pub mod facts;
mod flock;
pub mod fs;
pub mod host;
pub mod http;
pub mod http_server;
pub mod kept;
pub mod lock;
pub mod logs;
pub mod names;
pub mod notify_socket;
pub mod own_process;
pub mod patient;
pub mod postgres;
pub mod process;
pub mod program;
pub mod proof;
pub mod sandbox;
pub mod scratch;
#[cfg(test)]
pub mod scripted_server;
pub mod signals;
pub mod snapshot;
pub mod spill;
pub mod spread;
pub mod state;
pub mod storage;
pub mod store;
pub mod stream;
pub mod tree;
pub mod untar;
pub mod watcher;
