//! Proves Lifeboat against a real PostgreSQL, real files and real processes.

mod cluster;
mod postgres;
mod scratch;
