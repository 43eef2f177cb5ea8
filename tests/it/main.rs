//! Proves Lifeboat against a real PostgreSQL, real files and real processes.

mod cluster;
mod journal;
mod postgres;
mod scratch;
