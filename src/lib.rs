//! Lifeboat: scriptable backup, recovery and rehearsal.

pub mod base;
pub mod sys;
