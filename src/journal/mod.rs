//! Layer 2: the record of runs. Events go in as they happen, intents before what they announce; history, `show`, alerts
//! for killed runs and, later, resume read it.
//!
//! *Problem*: the record must survive a kill at any moment, be readable with `less`, and need no daemon. *Decision*: one
//! folder per run, JSON lines that are appended, and a file that is written once at the end. *Rejected*: a database, which
//! one damaged page makes unreadable as a whole; an index, which would have to be kept in step: what [`summaries`] keeps is a
//! disposable cache.

pub mod actions;
pub mod daily;
pub mod drills;
pub mod reader;
pub mod retention;
pub mod slots;
pub mod store;
pub mod successes;
pub mod summaries;
pub mod tasks;
