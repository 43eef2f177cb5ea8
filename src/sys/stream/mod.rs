//! Streams of blocks: how a backup's bytes get from a source, through stages, into one file, and how such a file
//! is proved.
//!
//! A [`Source`] pushes typed [`Block`]s in the order of the file. [`pour`] compresses them on all cores, one gzip
//! member per block, and writes the members in order from one thread, which also takes the SHA-256 of what it
//! writes. [`inspect`] reads such a file back in one pass: SHA-256, framing, lengths and checksums, with the
//! members inflated in parallel; files that other tools wrote are streamed serially. Opening, syncing and
//! publishing files is not done here: callers hand in an [`Output`] or a reader.
//!
//! All parallel work goes through one order-keeping map (`ordered`), so there is one place where threads wait,
//! where a failure or a cancellation ends them, and where memory is bounded.

mod block;
mod gzip;
mod hash;
mod inspect;
mod ordered;
mod pour;
mod sections;
mod tape;
#[cfg(test)]
mod tests;

pub(in crate::sys) use block::Pool;
pub use block::{BLOCK, Block, BlockSink, BlockWriter, Kind, MAX_BLOCK, Source};
pub use gzip::Level;
pub use hash::{Digest, hash};
pub use inspect::{Defect, Inspected, Inspection, inspect, inspect_ahead};
pub(in crate::sys) use ordered::{Feed, Width, guarded, ordered};
pub use pour::{Output, Stages, Written, cores, pour, share};
pub use sections::{Section, Sections, changed};

use crate::base::cancel::Cancel;

/// What every long piece of work is handed: when to end early, and whom to tell how far it got.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Polled at least once per block and twenty times a second while waiting.
    pub cancel: &'a Cancel,
    /// Called on the caller's own thread with the number of bytes done so far.
    pub progress: &'a dyn Fn(u64),
}
