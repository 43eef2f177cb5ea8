//! Layer 5: what runs playbooks when something happens, instead of when somebody asks.

pub mod debounce;
pub mod export;
pub mod orders;
pub mod service;
pub mod timer;
pub mod turn;
pub mod watch;
pub mod watch_set;
pub mod watches;
