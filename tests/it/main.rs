//! The integration tests: one binary, one file per theme.

mod doors;
mod exec;
mod notify;
mod preflight;
