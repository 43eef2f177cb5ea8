//! Layer 3: one session with two doors, `observe` and `perform`, through which a playbook does everything it does.

pub mod alert;
pub mod drill;
pub mod health;
pub mod injection;
pub mod metrics;
pub mod overlay;
pub mod policy;
pub mod resume;
pub mod session;
pub mod undo;
