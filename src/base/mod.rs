//! Layer 0: values without effects, shared by every other layer.

pub mod anomaly;
pub mod backup;
pub mod calendar;
pub mod cancel;
pub mod confirm;
pub mod diagnostic;
pub mod drill;
pub mod event;
pub mod failure;
pub mod health;
pub mod ids;
pub mod notice;
pub mod plan;
pub mod resume;
pub mod retention;
pub mod schedule;
pub mod secret;
pub mod task;
pub mod units;
