//! Connections that the server counts for a moment longer than they last.
//!
//! A session that was ended here takes its place until its process on the server has gone. Who connects at once where all places
//! are taken is refused for one of his own, and has to wait a moment.

use crate::base::failure::Failure;
use crate::sys::host::Host;
use crate::sys::postgres::refusal::is_full;
use std::time::Duration;

/// How often it is tried, and how long is waited in between: ten seconds in all.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Connects, and again for up to ten seconds while the server has no connection left for us.
///
/// # Errors
/// Those of `connect`; at the end that there is none left; that the run is to end.
pub fn when_free<T>(host: &Host, connect: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 0..TRIES {
        match connect() {
            Err(failure) if is_full(&failure) => host.wait(async { tokio::time::sleep(PAUSE).await })?,
            result => return result,
        }
    }
    connect()
}
