//! Blocks: the unit in which bytes travel from a source to a file.

use crate::base::failure::Failure;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The size in bytes that sources aim at for a block. Larger ones gain 0.2 % in size and cost memory.
pub const BLOCK: usize = 1 << 20;

/// The most bytes that one block, and so one gzip member, may hold; a larger one is cut on its way.
pub const MAX_BLOCK: usize = 4 << 20;

/// What the bytes of a block are. Stored in the file, so the codes never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SQL that is not table data.
    Schema,
    /// Rows of the block's table, in COPY format.
    Rows,
    /// The closing comments of a dump: counts and fingerprints.
    Summary,
    /// Part of a tar archive.
    Tar,
    /// Part of a file, or of what a program printed.
    File,
}

impl Kind {
    /// The code in the file; zero is the end mark.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Schema => 1,
            Self::Rows => 2,
            Self::Summary => 3,
            Self::Tar => 4,
            Self::File => 5,
        }
    }
}

/// Consecutive bytes of the file to be, all of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What the bytes are.
    pub kind: Kind,
    /// The qualified table name that the rows belong to, as the dump writes it.
    pub table: Option<Arc<str>>,
    /// The bytes, about [`BLOCK`] of them.
    pub bytes: Vec<u8>,
}

/// Takes the blocks of a source, in the order of the file.
pub trait BlockSink {
    /// An empty buffer with room for [`BLOCK`] bytes, used before where possible.
    fn buffer(&mut self) -> Vec<u8>;

    /// Takes the next block; waits while those behind are busy. Empty blocks vanish, and one above [`MAX_BLOCK`]
    /// is cut into several of the same kind and table. Fails when the stream has ended early, with its reason.
    fn push(&mut self, block: Block) -> Result<(), Failure>;

    /// Fails when the stream has ended early; for sources that may wait long between two blocks.
    fn check(&self) -> Result<(), Failure>;
}

/// Where blocks come from. Runs on a thread of its own; what it returns beside the blocks is its result.
///
/// A source that waits for something else than its sink, for example a child process, ends that wait itself when
/// it is cancelled: the stream cannot end before its source has returned.
pub trait Source: Send {
    /// What is known once all blocks were pushed.
    type Output: Send;

    /// Pushes all blocks in the order of the file.
    fn run(self, out: &mut dyn BlockSink) -> Result<Self::Output, Failure>;
}

impl<F, T> Source for F
where
    F: FnOnce(&mut dyn BlockSink) -> Result<T, Failure> + Send,
    T: Send,
{
    type Output = T;

    fn run(self, out: &mut dyn BlockSink) -> Result<T, Failure> {
        self(out)
    }
}

/// Cuts written bytes into blocks of one kind, for sources that write: tar archives, copies of files.
pub struct BlockWriter<'a> {
    sink: &'a mut dyn BlockSink,
    kind: Kind,
    buffer: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    /// A writer of blocks of `kind`.
    pub fn new(sink: &'a mut dyn BlockSink, kind: Kind) -> Self {
        let buffer = sink.buffer();
        Self { sink, kind, buffer }
    }

    /// Pushes what is left; bytes written before are lost without it.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.cut()
    }

    fn cut(&mut self) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let next = self.sink.buffer();
        let bytes = std::mem::replace(&mut self.buffer, next);
        self.sink.push(Block { kind: self.kind, table: None, bytes })
    }
}

impl io::Write for BlockWriter<'_> {
    /// Takes all that fits into the block. The stream's failure comes as the source of an `io::Error`; the stream
    /// itself reports it too, so that it need not be found again in there.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= BLOCK {
            self.cut().map_err(io::Error::other)?;
        }
        let taken = bytes.len().min(BLOCK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Does nothing: cutting blocks at a flush would make their borders depend on the writer's habits.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Buffers that are used again; as many as were ever in flight at once.
#[derive(Default)]
pub(in crate::sys) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer of any content and length: clear or resize it.
    pub(in crate::sys) fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(BLOCK))
    }

    /// Gives a buffer back. Ones that grew far beyond a block are freed, so that one giant row does not cost
    /// memory until the end.
    pub(in crate::sys) fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= 2 * BLOCK {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[derive(Default)]
    struct Kept(Vec<Block>);

    impl BlockSink for Kept {
        fn buffer(&mut self) -> Vec<u8> {
            Vec::new()
        }
        fn push(&mut self, block: Block) -> Result<(), Failure> {
            self.0.push(block);
            Ok(())
        }
        fn check(&self) -> Result<(), Failure> {
            Ok(())
        }
    }

    fn lengths(writes: &[usize]) -> Vec<usize> {
        let mut kept = Kept::default();
        let mut writer = BlockWriter::new(&mut kept, Kind::Tar);
        let mut expected = Vec::new();
        for (n, &length) in writes.iter().enumerate() {
            let bytes = vec![n as u8; length];
            writer.write_all(&bytes).unwrap();
            writer.flush().unwrap();
            expected.extend_from_slice(&bytes);
        }
        writer.finish().unwrap();
        assert_eq!(kept.0.iter().flat_map(|b| b.bytes.clone()).collect::<Vec<_>>(), expected);
        kept.0.iter().map(|block| block.bytes.len()).collect()
    }

    #[test]
    fn a_writer_cuts_blocks_by_size_alone() {
        assert_eq!(lengths(&[]), [0usize; 0]);
        assert_eq!(lengths(&[0, 0]), [0usize; 0]);
        assert_eq!(lengths(&[1]), [1]);
        assert_eq!(lengths(&[BLOCK]), [BLOCK]);
        assert_eq!(lengths(&[BLOCK, 1]), [BLOCK, 1]);
        assert_eq!(lengths(&[BLOCK - 1, 3]), [BLOCK, 2]);
        assert_eq!(lengths(&[2 * BLOCK + 5, 7, BLOCK]), [BLOCK, BLOCK, BLOCK, 12]);
    }
}
