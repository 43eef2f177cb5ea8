//! One pipeline: a source, the gzip stage on all cores, and one writer that hashes what it writes.

use super::block::{Block, BlockSink, MAX_BLOCK, Pool, Source};
use super::gzip::{Level, Packer};
use super::hash::Digest;
use super::ordered::{Feed, Width, ordered};
use super::{BLOCK, Control};
use crate::base::failure::Failure;
use sha2::{Digest as _, Sha256};
use std::num::NonZeroUsize;
use std::thread;

/// How many written bytes lie between two calls of [`Output::hint_written`].
const HINT: u64 = 8 << 20;

/// Which stages lie between source and file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// Compress, at that level; without it the raw bytes are written.
    pub gzip: Option<Level>,
    /// Threads that compress; all cores if not given. The bytes written do not depend on it.
    pub threads: Option<NonZeroUsize>,
}

/// The file to be, owned by the caller, who alone knows its path and makes the failures.
pub trait Output {
    /// Appends all of `bytes`.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure>;

    /// Told every 8 MiB that all below `offset` is written, so that the disk can be kept busy and the final fsync
    /// short.
    fn hint_written(&mut self, _offset: u64) -> Result<(), Failure> {
        Ok(())
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes that the source pushed.
    pub raw_size: u64,
    /// Bytes in the file.
    pub size: u64,
    /// SHA-256 of the bytes in the file.
    pub sha256: Digest,
    /// gzip members, the end mark included; none without compression.
    pub members: u64,
}

/// Pours all that `source` pushes through `stages` into `output`; progress counts raw bytes.
///
/// The source runs on a thread of its own, the output on the caller's. The first failure of any part ends all of
/// them and is what comes back; a cancellation counts before what it made fail. A panic comes back as a failure.
/// Memory stays below about 2.5 MiB for each of the blocks in flight, which are 8, or 2 per thread if that is
/// more. On failure the output holds a part of the file, without its end mark.
pub fn pour<S: Source>(
    source: S,
    stages: &Stages,
    output: &mut dyn Output,
    control: Control<'_>,
) -> Result<(S::Output, Written), Failure> {
    // Apart, since a raw block touches all of its buffer, and a member less than half of it.
    let (raw, packed) = (Pool::default(), Pool::default());
    let written = if stages.gzip.is_some() { &packed } else { &raw };
    let mut writer = Writer { output, hasher: Sha256::new(), raw_size: 0, size: 0, members: 0, hint: HINT };
    let width =
        Width { threads: stages.threads.map_or_else(cores, NonZeroUsize::get), cancel: control.cancel };
    let value = ordered(
        &width,
        |feed| source.run(&mut Cutter { feed, pool: &raw }),
        || worker(stages.gzip, &raw, &packed),
        |block: Packed| {
            writer.write(&block.bytes, block.raw_size, stages.gzip.is_some())?;
            written.give(block.bytes);
            (control.progress)(writer.raw_size);
            Ok(())
        },
    )?;
    control.cancel.check()?;
    if let Some(level) = stages.gzip {
        let mut end = packed.take();
        Packer::new(level).pack_end(writer.raw_size, writer.members, &mut end)?;
        writer.write(&end, 0, true)?;
    }
    let Writer { hasher, raw_size, size, members, .. } = writer;
    Ok((value, Written { raw_size, size, sha256: Digest::of(hasher), members }))
}

/// The threads that compress for one of `crowd` pipelines which run at the same time; `None` for all cores.
///
/// Two of them get all cores each: the smaller one mostly ends early, the other must not be left with half of them, and a
/// thread that waits costs nothing. More of them share twice the cores, so that memory stays bounded whatever their number.
pub fn share(crowd: usize) -> Option<NonZeroUsize> {
    (crowd > 2).then(|| NonZeroUsize::new((2 * cores()).div_ceil(crowd)).unwrap_or(NonZeroUsize::MIN))
}

/// The threads to use when nobody says.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A block on its way from worker to writer.
struct Packed {
    bytes: Vec<u8>,
    raw_size: usize,
}

fn worker<'a>(
    gzip: Option<Level>,
    raw: &'a Pool,
    packed: &'a Pool,
) -> impl FnMut(Block) -> Result<Packed, Failure> + 'a {
    let mut packer = gzip.map(Packer::new);
    move |block| {
        let raw_size = block.bytes.len();
        let Some(packer) = &mut packer else {
            return Ok(Packed { bytes: block.bytes, raw_size });
        };
        let mut bytes = packed.take();
        packer.pack(&block, &mut bytes)?;
        raw.give(block.bytes);
        Ok(Packed { bytes, raw_size })
    }
}

/// The sink that sources see.
struct Cutter<'a, 'c> {
    feed: &'a Feed<'c, Block, Packed>,
    pool: &'a Pool,
}

impl BlockSink for Cutter<'_, '_> {
    fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.pool.take();
        buffer.clear();
        buffer
    }

    fn push(&mut self, block: Block) -> Result<(), Failure> {
        if block.bytes.is_empty() {
            return self.feed.check();
        }
        if block.bytes.len() <= MAX_BLOCK {
            return self.feed.send(block);
        }
        for part in block.bytes.chunks(BLOCK) {
            let mut bytes = self.buffer();
            bytes.extend_from_slice(part);
            self.feed.send(Block { kind: block.kind, table: block.table.clone(), bytes })?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        self.feed.check()
    }
}

struct Writer<'a> {
    output: &'a mut dyn Output,
    hasher: Sha256,
    raw_size: u64,
    size: u64,
    members: u64,
    hint: u64,
}

impl Writer<'_> {
    fn write(&mut self, bytes: &[u8], raw_size: usize, is_member: bool) -> Result<(), Failure> {
        self.output.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.raw_size += raw_size as u64;
        self.members += u64::from(is_member);
        if self.size >= self.hint {
            self.output.hint_written(self.size)?;
            self.hint = self.size + HINT;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::{BlockWriter, Kind};
    use super::*;
    use crate::base::cancel::{Cancel, Reason};
    use crate::base::failure::Code;
    use flate2::bufread::MultiGzDecoder;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// A file in memory with room for `room` bytes.
    struct Disk {
        bytes: Vec<u8>,
        hints: Vec<u64>,
        room: usize,
    }

    impl Default for Disk {
        fn default() -> Self {
            Self { bytes: Vec::new(), hints: Vec::new(), room: usize::MAX }
        }
    }

    impl Output for Disk {
        fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
            if self.bytes.len() + bytes.len() > self.room {
                return Err(Failure::new(Code::DiskFull, "cannot write `disk`"));
            }
            self.bytes.extend_from_slice(bytes);
            Ok(())
        }
        fn hint_written(&mut self, offset: u64) -> Result<(), Failure> {
            assert_eq!(offset, self.bytes.len() as u64);
            self.hints.push(offset);
            Ok(())
        }
    }

    fn gzip(threads: usize) -> Stages {
        Stages { gzip: Level::new(1), threads: NonZeroUsize::new(threads) }
    }

    fn inflated(file: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        MultiGzDecoder::new(file).read_to_end(&mut raw).unwrap();
        raw
    }

    /// Text of `n` bytes that compresses like a dump.
    fn text(n: usize, seed: usize) -> Vec<u8> {
        let rows = (seed..)
            .flat_map(|row| format!("{row}\tname {}\t{}\n", row * 7919 % 1013, row ^ 0x5a5a).into_bytes());
        rows.take(n).collect()
    }

    fn blocks(sizes: &[usize]) -> Vec<Block> {
        let kinds = [Kind::Schema, Kind::Rows, Kind::Summary, Kind::Tar, Kind::File];
        let numbered = sizes.iter().enumerate();
        numbered
            .map(|(n, &size)| {
                let kind = kinds[n % kinds.len()];
                let table = (kind == Kind::Rows).then(|| "public.\"naïve\ttable\"".into());
                Block { kind, table, bytes: text(size, n) }
            })
            .collect()
    }

    fn poured(blocks: &[Block], stages: &Stages) -> (Disk, Written) {
        let mut disk = Disk::default();
        let source = |out: &mut dyn BlockSink| blocks.iter().try_for_each(|block| out.push(block.clone()));
        let cancel = Cancel::new();
        let control = Control { cancel: &cancel, progress: &|_| () };
        let ((), written) = pour(source, stages, &mut disk, control).unwrap();
        assert_eq!(written.size, disk.bytes.len() as u64);
        assert_eq!(written.sha256.0[..], Sha256::digest(&disk.bytes)[..]);
        (disk, written)
    }

    #[test]
    fn an_ordinary_decoder_gives_the_same_bytes_back() {
        let blocks = blocks(&[10, 0, BLOCK, 1, MAX_BLOCK, MAX_BLOCK + 1, 70_000]);
        let raw: Vec<u8> = blocks.iter().flat_map(|block| block.bytes.clone()).collect();
        let (disk, written) = poured(&blocks, &gzip(2));
        assert_eq!(inflated(&disk.bytes), raw);
        // The empty block vanishes, the one above the limit becomes five, and the end mark counts.
        assert_eq!((written.raw_size, written.members), (raw.len() as u64, 5 + 5 + 1));
    }

    #[test]
    fn the_file_does_not_depend_on_the_number_of_threads() {
        let sizes: Vec<usize> = (0..40).map(|n| n * 7919 % 90_000).collect();
        let blocks = blocks(&sizes);
        let (one, written) = poured(&blocks, &gzip(1));
        for threads in [2, 3, 9, 1000] {
            let (many, same) = poured(&blocks, &gzip(threads));
            assert!(one.bytes == many.bytes && written == same, "{threads} threads");
        }
        assert!(one.bytes != poured(&blocks, &Stages::default()).0.bytes);
    }

    #[test]
    fn an_empty_stream_is_a_valid_file() {
        let (disk, written) = poured(&[], &gzip(2));
        assert_eq!(inflated(&disk.bytes), b"");
        assert_eq!((written.raw_size, written.members, written.size), (0, 1, 54));
        let (disk, written) = poured(&[], &Stages::default());
        assert_eq!((disk.bytes.len(), written.members), (0, 0));
    }

    #[test]
    fn without_gzip_the_bytes_are_written_as_they_are() {
        let blocks = blocks(&[100, 5_000_000, 3]);
        let (disk, written) = poured(&blocks, &Stages { gzip: None, threads: NonZeroUsize::new(3) });
        assert_eq!(disk.bytes, blocks.iter().flat_map(|block| block.bytes.clone()).collect::<Vec<_>>());
        assert_eq!((written.raw_size, written.members), (5_000_103, 0));
    }

    #[test]
    fn table_names_longer_than_the_field_are_cut_at_a_character() {
        let block =
            |name: String| Block { kind: Kind::Rows, table: Some(name.into()), bytes: b"1\n".to_vec() };
        let (disk, _) = poured(&[block(format!("x{}", "ä".repeat(40_000))), block("x".into())], &gzip(1));
        assert_eq!(inflated(&disk.bytes), b"1\n1\n");
        assert_eq!(disk.bytes[10..12], [0xfe, 0xff]);
    }

    #[test]
    fn the_output_is_told_every_eight_mebibytes() {
        let (disk, _) = poured(&blocks(&[BLOCK; 20]), &Stages::default());
        assert_eq!(disk.hints, [8 << 20, 16 << 20]);
    }

    #[test]
    fn progress_counts_raw_bytes_and_the_sources_result_comes_back() {
        let seen = Cell::new(0);
        let cancel = Cancel::new();
        let progress = |n| seen.set(n);
        let source = |out: &mut dyn BlockSink| {
            let mut writer = BlockWriter::new(out, Kind::File);
            writer.write_all(&text(3 * BLOCK + 9, 0)).unwrap();
            writer.finish()?;
            Ok("result")
        };
        let control = Control { cancel: &cancel, progress: &progress };
        let (value, written) = pour(source, &gzip(2), &mut Disk::default(), control).unwrap();
        assert_eq!((value, written.members, seen.get()), ("result", 5, 3 * BLOCK as u64 + 9));
    }

    #[test]
    fn a_source_that_fails_leaves_a_file_without_its_end() {
        for failing in 0..12 {
            let mut disk = Disk::default();
            let source = |out: &mut dyn BlockSink| {
                for block in &blocks(&[1000; 12])[..failing] {
                    out.push(block.clone())?;
                }
                Err::<(), _>(Failure::new(Code::ProcessFailed, "pg_dump failed"))
            };
            let cancel = Cancel::new();
            let control = Control { cancel: &cancel, progress: &|_| () };
            let failure = pour(source, &gzip(2), &mut disk, control).unwrap_err();
            assert_eq!(failure, Failure::new(Code::ProcessFailed, "pg_dump failed"));
            let whole = poured(&blocks(&[1000; 12])[..failing], &gzip(2)).0.bytes;
            assert!(whole.starts_with(&disk.bytes) && disk.bytes.len() < whole.len());
        }
    }

    /// Sets its flag when it is dropped, whichever way its thread ends.
    struct Left<'a>(&'a AtomicBool);

    impl Drop for Left<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// An endless source poured into `disk`; `at` is called with each progress.
    fn endless(stages: &Stages, disk: &mut Disk, cancel: &Cancel, at: &dyn Fn(u64)) -> Failure {
        let left = AtomicBool::new(false);
        let source = |out: &mut dyn BlockSink| -> Result<(), Failure> {
            let _left = Left(&left);
            let mut writer = BlockWriter::new(out, Kind::Tar);
            loop {
                writer
                    .write_all(&[7; 1000])
                    .map_err(|error| Failure::new(Code::Io, "tar").caused_by(error))?;
            }
        };
        let control = Control { cancel, progress: at };
        let failure = pour(source, stages, disk, control).unwrap_err();
        assert!(left.into_inner());
        failure
    }

    #[test]
    fn a_full_disk_ends_the_source_too() {
        for stages in [gzip(2), Stages::default()] {
            for room in [0, 1, 1200, 30_000] {
                let mut disk = Disk { room, ..Disk::default() };
                let failure = endless(&stages, &mut disk, &Cancel::new(), &|_| ());
                assert_eq!(failure, Failure::new(Code::DiskFull, "cannot write `disk`"));
                assert!(disk.bytes.len() <= room);
            }
        }
    }

    #[test]
    fn a_full_disk_at_the_end_mark_is_a_failure() {
        let block = blocks(&[1000]);
        let whole = poured(&block, &gzip(1)).0.bytes.len();
        for (room, fits) in [(whole - 1, false), (whole, true)] {
            let mut disk = Disk { room, ..Disk::default() };
            let source = |out: &mut dyn BlockSink| out.push(block[0].clone());
            let cancel = Cancel::new();
            let control = Control { cancel: &cancel, progress: &|_| () };
            assert_eq!(pour(source, &gzip(1), &mut disk, control).is_ok(), fits);
        }
    }

    #[test]
    fn cancelling_midway_ends_all() {
        let cancel = Cancel::new();
        let at = |done| {
            if done > 5_000_000 {
                cancel.cancel(Reason::Interrupted);
            }
        };
        assert_eq!(endless(&gzip(2), &mut Disk::default(), &cancel, &at).code, Code::Interrupted);

        let cancel = Cancel::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                cancel.cancel(Reason::Terminated);
            });
            let failure = endless(&gzip(2), &mut Disk::default(), &cancel, &|_| ());
            assert_eq!(failure.code, Code::Terminated);
        });
    }

    #[test]
    fn a_cancelled_token_lets_nothing_through() {
        let cancel = Cancel::new();
        cancel.cancel(Reason::Interrupted);
        let mut disk = Disk::default();
        let control = Control { cancel: &cancel, progress: &|_| () };
        let failure = pour(|_: &mut dyn BlockSink| Ok(()), &gzip(1), &mut disk, control).unwrap_err();
        assert_eq!((failure.code, disk.bytes.len()), (Code::Interrupted, 0));
    }

    #[test]
    fn panics_of_source_and_output_are_failures() {
        struct Bomb;
        impl Output for Bomb {
            fn write_all(&mut self, _: &[u8]) -> Result<(), Failure> {
                panic!("output")
            }
        }
        let cancel = Cancel::new();
        let control = Control { cancel: &cancel, progress: &|_| () };
        let source = |out: &mut dyn BlockSink| -> Result<(), Failure> {
            loop {
                out.push(blocks(&[10]).remove(0))?;
            }
        };
        assert_eq!(pour(source, &gzip(2), &mut Bomb, control).unwrap_err().causes, ["output"]);
        let source = |_: &mut dyn BlockSink| -> Result<(), Failure> { panic!("source") };
        assert_eq!(pour(source, &gzip(2), &mut Disk::default(), control).unwrap_err().causes, ["source"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_bytes_in_any_blocks_survive(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20),
            level in 1_u8..=12,
            threads in 1_usize..5,
        ) {
            let blocks: Vec<Block> = parts
                .iter()
                .map(|bytes| Block { kind: Kind::File, table: None, bytes: bytes.clone() })
                .collect();
            let stages = Stages { gzip: Level::new(level), threads: NonZeroUsize::new(threads) };
            prop_assert_eq!(inflated(&poured(&blocks, &stages).0.bytes), parts.concat());
        }
    }
}
