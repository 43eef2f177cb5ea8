//! Files with holes: where their data lie, and a digest that does not read the holes.

use crate::sys::stream::Digest;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

/// The most pieces that a file is taken apart into. Holes that would make more of them are stored as zeros.
const MOST: u64 = 1 << 18;

/// Where data lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where they begin.
    pub at: u64,
    /// Bytes.
    pub length: u64,
}

impl Extent {
    /// Where they end.
    pub fn end(&self) -> u64 {
        self.at + self.length
    }
}

/// Whether a file takes less room than its bytes would.
pub(super) fn may_have_holes(metadata: &Metadata) -> bool {
    metadata.blocks().saturating_mul(512) < metadata.len()
}

/// Where data lie in a file; `None` if it has no holes, or its file system does not tell of them.
pub fn extents(file: &File, metadata: &Metadata) -> io::Result<Option<Vec<Extent>>> {
    if !may_have_holes(metadata) {
        return Ok(None);
    }
    let size = metadata.len();
    let least = (size / MOST).max(1);
    let mut found: Vec<Extent> = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(begin))?;
        // Pieces in the archive begin at whole blocks.
        let begin = begin / 512 * 512;
        let end = end.div_ceil(512).saturating_mul(512).min(size);
        if begin >= end {
            break;
        }
        match found.last_mut() {
            Some(last) if begin < last.end() + least => last.length = end - last.at,
            None if begin < least => found.push(Extent { at: 0, length: end }),
            _ => found.push(Extent { at: begin, length: end - begin }),
        }
        at = end;
    }
    let is_whole = matches!(found[..], [Extent { at: 0, length }] if length == size);
    Ok((!is_whole).then_some(found))
}

/// SHA-256 over the blocks of 512 bytes of a file that are not all zeros, each behind its offset, and the size. It is the
/// same however the zeros are stored, and a hole costs nothing.
#[derive(Clone, Debug)]
pub struct HoleyDigest {
    hasher: Sha256,
    block: [u8; 512],
    /// Which block is being filled.
    number: u64,
}

impl Default for HoleyDigest {
    fn default() -> Self {
        Self { hasher: Sha256::new(), block: [0; 512], number: 0 }
    }
}

impl HoleyDigest {
    /// Takes data that begin at `at`, behind all that were taken before.
    pub fn update(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if at / 512 != self.number {
                self.end_block();
                self.number = at / 512;
            }
            let within = (at % 512) as usize;
            let taken = bytes.len().min(512 - within);
            self.block[within..within + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            at += taken as u64;
        }
    }

    /// The digest of a file of that size.
    pub fn end(mut self, size: u64) -> Digest {
        self.end_block();
        self.hasher.update(size.to_le_bytes());
        Digest(self.hasher.finalize().into())
    }

    fn end_block(&mut self) {
        if self.block.iter().any(|byte| *byte != 0) {
            self.hasher.update((self.number * 512).to_le_bytes());
            self.hasher.update(self.block);
            self.block.fill(0);
        }
    }
}
