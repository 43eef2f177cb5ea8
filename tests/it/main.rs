//! Proves Lifeboat against a real PostgreSQL, real files and real processes.

#![allow(clippy::print_stdout, reason = "a test tells its seed to who has to repeat it")]

mod aftermath;
mod archive;
mod backup;
mod cluster;
mod commands;
mod contract;
mod damage;
mod diagnostics;
mod docker;
mod docs;
mod doors;
mod drill;
mod dumps;
mod exec;
mod extract;
mod fail_each;
mod flow;
mod full_disk;
mod house;
mod interrupt;
mod journal;
mod kill;
mod notify;
mod policy;
mod postgres;
mod preflight;
mod project;
mod receiver;
mod recovery;
mod restore;
mod resume;
mod rollback;
mod rotation;
mod schedule;
mod schedule_export;
mod schedule_install;
mod scheduled;
mod scratch;
mod swap;
mod verify;
mod watch;
mod words;
