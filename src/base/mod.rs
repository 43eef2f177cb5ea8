//! Layer 0: values without effects, shared by every other layer.

pub mod backup;
pub mod calendar;
pub mod cancel;
pub mod confirm;
pub mod diagnostic;
pub mod drill;
pub mod event;
pub mod failure;
pub mod ids;
pub mod plan;
pub mod resume;
pub mod retention;
pub mod schedule;
pub mod secret;
pub mod units;
