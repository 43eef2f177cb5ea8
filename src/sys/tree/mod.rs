//! Trees of files: walking them in a stable order, and writing them as tar archives that GNU tar, bsdtar and Python read.
//!
//! One thread walks, several open and read small files ahead, and one puts everything into the archive in the order of the
//! walk, so its bytes do not depend on the number of threads. Nothing is held of what is done but the names of files that
//! have several: a tree of a million files takes the memory of a few thousand.

mod ahead;
mod archive;
mod header;
mod holes;
mod selection;
mod stream;
#[cfg(test)]
mod tests;
mod walk;

pub use archive::{Archived, archive};
pub use holes::{Extent, HoleyDigest, extents};
pub use selection::Selection;
pub use walk::{Entry, folders, walk};

/// The folder in which a tree keeps what was replaced in it. It belongs to no archive of the tree.
pub const KEPT: &str = ".lifeboat-kept";
