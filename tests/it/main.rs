//! Proves Lifeboat against a real PostgreSQL, real files and real processes.

mod aftermath;
mod backup;
mod cluster;
mod commands;
mod contract;
mod docs;
mod doors;
mod exec;
mod full_disk;
mod house;
mod interrupt;
mod journal;
mod kill;
mod notify;
mod postgres;
mod preflight;
mod project;
mod receiver;
mod schedule;
mod scratch;
mod verify;
mod watch;
