//! Proves Lifeboat against a real PostgreSQL, real files and real processes.

mod archive;
mod backup;
mod cluster;
mod commands;
mod damage;
mod doors;
mod dumps;
mod exec;
mod journal;
mod notify;
mod postgres;
mod preflight;
mod project;
mod rotation;
mod scratch;
