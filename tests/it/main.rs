//! Proves Lifeboat against a real PostgreSQL, real files and real processes.

mod backup;
mod cluster;
mod commands;
mod doors;
mod exec;
mod journal;
mod notify;
mod postgres;
mod preflight;
mod project;
mod schedule;
mod scratch;
mod verify;
mod watch;
