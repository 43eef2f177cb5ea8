//! Proves Lifeboat against a real PostgreSQL, real files and real processes.

mod backup;
mod cluster;
mod commands;
mod contract;
mod diagnostics;
mod doors;
mod exec;
mod house;
mod journal;
mod notify;
mod postgres;
mod preflight;
mod project;
mod scratch;
