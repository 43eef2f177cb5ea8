//! Lifeboat: scriptable backup, recovery and rehearsal.

pub mod action;
pub mod base;
pub mod cli;
pub mod daemon;
pub mod engine;
pub mod journal;
pub mod observe;
pub mod script;
pub mod sys;
