//! Lifeboat: scriptable backup, recovery and rehearsal.

pub mod action;
pub mod base;
pub mod engine;
pub mod observe;
pub mod script;
pub mod sys;
