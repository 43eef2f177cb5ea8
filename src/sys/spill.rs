//! Rows that may be more than memory should hold: few stay in memory, many go to a file without a name, which is gone when
//! nobody reads it any more, however the program ends.
//!
//! *Problem*: what an archive of a million files holds takes gigabytes as values. *Decision*: each row is packed into a few
//! bytes; they are written and read in order, and put in order as sorted runs that are merged. *Rejected*: a database,
//! since nothing is looked up by name; libraries that sort so, since they count rows, which may be of any length, and keep files
//! that have names, which a killed run would leave.

use crate::base::failure::{Code, Failure};
use rustix::fs::{Mode, OFlags};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes stay in memory; more go to a file, as many at a time.
const IN_MEMORY: usize = 1 << 20;

/// Bytes that are sorted at a time.
const RUN: usize = 4 << 20;

/// Bytes that are read at a time.
const WINDOW: usize = 64 << 10;

/// What can be packed into bytes. They are read only by the process that has written them.
pub trait Packed: Sized {
    /// Appends it.
    fn pack(&self, out: &mut Vec<u8>);
    /// Takes it off again; nothing if the bytes are not what was packed.
    fn unpack(from: &mut Unpack<'_>) -> Option<Self>;
}

/// Appends a number; a small one takes one byte.
pub(in crate::sys) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends bytes and how many they are.
pub(in crate::sys) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Packed bytes that are yet to be taken off.
pub struct Unpack<'a>(pub(in crate::sys) &'a [u8]);

impl<'a> Unpack<'a> {
    /// The next number.
    pub(in crate::sys) fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    /// The next number, if it has 32 bits.
    pub(in crate::sys) fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    /// The next bytes.
    pub(in crate::sys) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.try_into().ok()?)
    }

    /// So many of the next bytes.
    pub(in crate::sys) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Bytes that are written at their end.
#[derive(Debug)]
pub(in crate::sys) struct Store {
    /// Where the file is, or is to be made.
    dir: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
    /// Bytes in the file.
    stored: u64,
}

/// Bytes that are read, by several at once.
#[derive(Debug, Default)]
pub(in crate::sys) struct Stored {
    dir: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
}

impl Store {
    /// An empty one. Its file, should it need one, is made in `dir`, or where the system has temporary files if it cannot be
    /// made there.
    pub(in crate::sys) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), memory: Vec::new(), file: None, stored: 0 }
    }

    fn len(&self) -> u64 {
        self.stored + self.memory.len() as u64
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Those of making and writing a file.
    pub(in crate::sys) fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.memory.extend_from_slice(bytes);
        if self.memory.len() >= IN_MEMORY { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let (file, dir) = unnamed(&self.dir)?;
                self.dir = dir;
                none.insert(file)
            }
        };
        file.write_all(&self.memory)
            .map_err(|error| Failure::io("write a temporary file in", &self.dir, &error))?;
        self.stored += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    /// What was written, to be read.
    pub(in crate::sys) fn end(mut self) -> Result<Stored, Failure> {
        if self.file.is_some() {
            self.flush()?;
            self.memory = Vec::new();
        }
        self.memory.shrink_to_fit();
        Ok(Stored { dir: self.dir, memory: self.memory, file: self.file })
    }
}

impl Stored {
    /// Reads what is at `at`, as far as there is something.
    pub(in crate::sys) fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<usize, Failure> {
        let Some(file) = &self.file else {
            let rest = self.memory.get(at as usize..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            return Ok(length);
        };
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::io("read a temporary file in", &self.dir, &error)),
            }
        }
        Ok(filled)
    }
}

fn torn() -> Failure {
    Failure::new(Code::Internal, "a temporary file does not hold what was written into it")
}

/// A new file without a name, in `dir` or where the system has temporary files; also tells which of them that was.
fn unnamed(dir: &Path) -> Result<(File, PathBuf), Failure> {
    let elsewhere = std::env::temp_dir();
    let mut failed = None;
    for dir in [dir, &elsewhere] {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
            return Ok((file.into(), dir.to_path_buf()));
        }
        match unlinked(dir) {
            Ok(file) => return Ok((file, dir.to_path_buf())),
            Err(error) => failed = Some(Failure::io("create a temporary file in", dir, &error)),
        }
    }
    Err(failed.unwrap_or_else(torn))
}

/// A file that had a name only for a moment, where the file system knows none without.
fn unlinked(dir: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".lifeboat-{}-{number}.part", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Reads records, each behind its length.
struct Records {
    stored: Arc<Stored>,
    /// What is yet to be read of the store.
    range: Range<u64>,
    window: Vec<u8>,
    /// What is yet to be taken off the window.
    left: Range<usize>,
}

impl Records {
    fn of(stored: Arc<Stored>, range: Range<u64>) -> Self {
        Self { stored, range, window: Vec::new(), left: 0..0 }
    }

    /// Sees that so many bytes are in the window.
    fn fill(&mut self, wanted: usize) -> Result<(), Failure> {
        if self.left.len() >= wanted {
            return Ok(());
        }
        self.window.copy_within(self.left.clone(), 0);
        self.left = 0..self.left.len();
        let more = (self.range.end - self.range.start).min((wanted.max(WINDOW) - self.left.len()) as u64);
        let end = self.left.end + more as usize;
        self.window.resize(end.max(self.window.len()), 0);
        let read = self.stored.read_at(self.range.start, &mut self.window[self.left.end..end])?;
        self.range.start += read as u64;
        self.left.end += read;
        if self.left.len() < wanted { Err(torn()) } else { Ok(()) }
    }

    /// Where in the window the next record is; nothing at the end.
    fn next(&mut self) -> Result<Option<Range<usize>>, Failure> {
        if self.left.is_empty() && self.range.is_empty() {
            return Ok(None);
        }
        self.fill(4)?;
        let length = &self.window[self.left.start..self.left.start + 4];
        let length = u32::from_le_bytes(length.try_into().map_err(|_| torn())?) as usize;
        self.left.start += 4;
        self.fill(length)?;
        let record = self.left.start..self.left.start + length;
        self.left.start = record.end;
        Ok(Some(record))
    }
}

/// Puts the length of what `write` appends before it.
fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
    let began = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = u32::try_from(out.len() - began - 4).map_err(|_| torn())?;
    out[began..began + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Rows that are being written.
#[derive(Debug)]
pub(in crate::sys) struct Gather<T> {
    store: Store,
    count: u64,
    buffer: Vec<u8>,
    of: PhantomData<fn(T)>,
}

impl<T: Packed> Gather<T> {
    /// None yet; of many the file is made as that of a [`Store`].
    pub(in crate::sys) fn new(dir: &Path) -> Self {
        Self { store: Store::new(dir), count: 0, buffer: Vec::new(), of: PhantomData }
    }

    /// Appends one.
    pub(in crate::sys) fn push(&mut self, row: &T) -> Result<(), Failure> {
        self.buffer.clear();
        framed(&mut self.buffer, |out| row.pack(out))?;
        self.count += 1;
        self.store.put(&self.buffer)
    }

    /// All of them.
    pub(in crate::sys) fn end(self) -> Result<Rows<T>, Failure> {
        let length = self.store.len();
        Ok(Rows { stored: Arc::new(self.store.end()?), length, count: self.count, of: PhantomData })
    }
}

/// Rows in the order in which they were written. Copies share them.
pub struct Rows<T> {
    stored: Arc<Stored>,
    length: u64,
    count: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        Self { stored: self.stored.clone(), length: self.length, count: self.count, of: PhantomData }
    }
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { stored: Arc::default(), length: 0, count: 0, of: PhantomData }
    }
}

impl<T> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows({})", self.count)
    }
}

impl<T> Rows<T> {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<T: Packed> Rows<T> {
    /// Reads them from the first on.
    pub(in crate::sys) fn iter(&self) -> Reading<T> {
        Reading { records: Records::of(self.stored.clone(), 0..self.length), of: PhantomData }
    }
}

/// Reads rows.
pub(in crate::sys) struct Reading<T> {
    records: Records,
    of: PhantomData<fn() -> T>,
}

impl<T: Packed> Iterator for Reading<T> {
    type Item = Result<T, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next().transpose()?;
        Some(record.and_then(|record| T::unpack(&mut Unpack(&self.records.window[record])).ok_or_else(torn)))
    }
}

/// Puts rows, which are bytes here, in the order of their keys.
pub(in crate::sys) struct Sorter {
    store: Store,
    /// Where in the store the sorted runs are.
    runs: Vec<Range<u64>>,
    /// Rows that are yet to be sorted, as records of the key and what belongs to it.
    rows: Vec<u8>,
    /// Where each of them begins, and where its key is.
    places: Vec<(u32, Range<u32>)>,
}

impl Sorter {
    /// An empty one; its file is made as that of a [`Store`].
    pub(in crate::sys) fn new(dir: &Path) -> Self {
        Self { store: Store::new(dir), runs: Vec::new(), rows: Vec::new(), places: Vec::new() }
    }

    /// Takes a row.
    pub(in crate::sys) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let began = self.rows.len();
        framed(&mut self.rows, |out| {
            put_bytes(out, key);
            out.extend_from_slice(value);
        })?;
        let end = self.rows.len() - value.len();
        self.places.push((began as u32, (end - key.len()) as u32..end as u32));
        if self.rows.len() >= RUN { self.run() } else { Ok(()) }
    }

    fn run(&mut self) -> Result<(), Failure> {
        let rows = &self.rows;
        let key = |at: &Range<u32>| &rows[at.start as usize..at.end as usize];
        // Most archives are in order, or nearly so.
        self.places.sort_by(|(_, a), (_, b)| key(a).cmp(key(b)));
        let began = self.store.len();
        for (at, key) in &self.places {
            let at = *at as usize;
            let length = u32::from_le_bytes(rows[at..at + 4].try_into().map_err(|_| torn())?) as usize;
            debug_assert!(key.end as usize <= at + 4 + length);
            self.store.put(&rows[at..at + 4 + length])?;
        }
        self.runs.push(began..self.store.len());
        self.rows.clear();
        self.places.clear();
        Ok(())
    }

    /// All of them, in order.
    pub(in crate::sys) fn end(mut self) -> Result<Sorted, Failure> {
        self.run()?;
        Ok(Sorted { stored: Arc::new(self.store.end()?), runs: self.runs })
    }
}

/// Sorted runs of rows.
pub(in crate::sys) struct Sorted {
    stored: Arc<Stored>,
    runs: Vec<Range<u64>>,
}

impl Sorted {
    /// Reads the rows in the order of their keys.
    pub(in crate::sys) fn merged(&self) -> Result<Merged, Failure> {
        let runs = self.runs.iter().map(|range| Records::of(self.stored.clone(), range.clone()));
        let mut merged = Merged { runs: runs.collect(), heads: BinaryHeap::new() };
        for run in 0..merged.runs.len() {
            merged.pull(run)?;
        }
        Ok(merged)
    }
}

/// A key and what belongs to it.
pub(in crate::sys) type KeyValue = (Vec<u8>, Vec<u8>);

/// The key of a row, the run that it is the next of, and what belongs to it.
type Head = (Vec<u8>, usize, Vec<u8>);

/// Reads several sorted runs as one.
pub(in crate::sys) struct Merged {
    runs: Vec<Records>,
    /// The next row of each run.
    heads: BinaryHeap<Reverse<Head>>,
}

impl Merged {
    fn pull(&mut self, run: usize) -> Result<(), Failure> {
        let records = &mut self.runs[run];
        if let Some(record) = records.next()? {
            let mut row = Unpack(&records.window[record]);
            let key = row.bytes().ok_or_else(torn)?.to_vec();
            self.heads.push(Reverse((key, run, row.0.to_vec())));
        }
        Ok(())
    }
}

impl Iterator for Merged {
    type Item = Result<KeyValue, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((key, run, value)) = self.heads.pop()?;
        Some(self.pull(run).map(|()| (key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Row(u64, Vec<u8>);

    impl Packed for Row {
        fn pack(&self, out: &mut Vec<u8>) {
            put_number(out, self.0);
            put_bytes(out, &self.1);
        }

        fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
            Some(Self(from.number()?, from.bytes()?.to_vec()))
        }
    }

    fn row(n: u64) -> Row {
        Row(n * n, vec![n as u8; (n % 300) as usize])
    }

    #[test]
    fn few_rows_and_many_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        for count in [0, 1, 100, 40_000] {
            let mut gather = Gather::new(dir.path());
            (0..count).for_each(|n| gather.push(&row(n)).unwrap());
            let rows = gather.end().unwrap();
            assert_eq!((rows.len(), rows.is_empty()), (count, count == 0));
            assert_eq!(rows.stored.file.is_some(), count == 40_000);
            // Two readers do not disturb each other.
            for (n, (one, other)) in rows.iter().zip(rows.clone().iter()).enumerate() {
                let row = row(n as u64);
                assert!(one.unwrap() == row && other.unwrap() == row);
            }
            assert_eq!(rows.iter().count() as u64, count);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_row_longer_than_what_is_read_at_a_time_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut gather = Gather::new(dir.path());
        let long = Row(1, vec![7; 3 * WINDOW + 5]);
        for row in [&Row(0, vec![1]), &long, &Row(u64::MAX, Vec::new())] {
            gather.push(row).unwrap();
        }
        let rows: Vec<Row> = gather.end().unwrap().iter().map(Result::unwrap).collect();
        assert_eq!(rows, [Row(0, vec![1]), long, Row(u64::MAX, Vec::new())]);
    }

    #[test]
    fn runs_are_merged_in_the_order_of_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        for count in [0_u32, 5, 300_000] {
            let mut sorter = Sorter::new(dir.path());
            for n in 0..count {
                // Each number once, in no order.
                let key = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
                sorter.push(&key, format!("value of {n}").as_bytes()).unwrap();
            }
            let sorted = sorter.end().unwrap();
            assert_eq!(sorted.runs.len() > 1, count == 300_000);
            for _ in 0..2 {
                let mut last = None;
                let mut found = 0;
                for row in sorted.merged().unwrap() {
                    let (key, value) = row.unwrap();
                    let n: u32 = std::str::from_utf8(&value).unwrap()[9..].parse().unwrap();
                    assert_eq!(key, n.wrapping_mul(0x9e37_79b1).to_be_bytes());
                    assert!(last.is_none_or(|last| last < key));
                    last = Some(key);
                    found += 1;
                }
                assert_eq!(found, count);
            }
        }
    }

    #[test]
    fn where_no_file_can_be_made_the_system_has_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(&dir.path().join("none"));
        store.put(&[0; IN_MEMORY]).unwrap();
        // What fails later names the folder that the file is in.
        assert_eq!(store.end().unwrap().dir, std::env::temp_dir());
        assert_eq!(unnamed(dir.path()).unwrap().1, dir.path());
        let mut file = unlinked(dir.path()).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
