//! Lifeboat: scriptable backup, recovery and rehearsal.

pub mod action;
pub mod base;
pub mod engine;
pub mod journal;
pub mod observe;
pub mod sys;
