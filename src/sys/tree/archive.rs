//! Making an archive: batches of entries go through threads that read ahead, and come out in their order.

use super::ahead::{BATCH, Batch, Other, Reader};
use super::header::{BLOCK, Body, pad, put, reason};
use super::holes::{Extent, extents};
use super::stream::{Reading, open_regular};
use super::{Entry, Selection, walk};
use crate::base::cancel::Cancel;
use crate::base::failure::{Code, Failure};
use crate::sys::stream::{BlockSink, BlockWriter, Feed, Kind, Pool, Width, cores, ordered};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Threads that read ahead, at least: most of their time they wait for the disk.
const READERS: usize = 4;

/// How much of a large file is read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Problems that are told each by itself.
const TOLD: u64 = 1000;

/// What became of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// Entries in it.
    pub entries: u64,
    /// What could not be read as it is, each with its reason; behind the first thousand, how many more there are.
    pub problems: Vec<String>,
}

/// Archives what `selection` takes of the tree at `root`, but for the folders in `own`.
///
/// # Errors
/// Those of `out`, and a cancellation; what cannot be read is a problem of the archive instead.
pub fn archive(
    root: &Path,
    selection: &Selection,
    own: &[PathBuf],
    cancel: &Cancel,
    out: &mut dyn BlockSink,
) -> Result<Archived, Failure> {
    let entries = walk(root, selection, own);
    written(entries, cores().max(READERS), &|_| (), cancel, out)
}

/// Writes entries; `on_read` is called between reading a file and asking whether it has changed meanwhile.
pub(super) fn written(
    mut entries: impl Iterator<Item = Result<Entry, String>> + Send,
    threads: usize,
    on_read: &(dyn Fn(&Entry) + Sync),
    cancel: &Cancel,
    out: &mut dyn BlockSink,
) -> Result<Archived, Failure> {
    let pool = Pool::default();
    let mut writer = Writer {
        out: BlockWriter::new(out, Kind::Tar),
        header: Vec::new(),
        chunk: Vec::new(),
        names: HashMap::new(),
        on_read,
        cancel,
        archived: Archived::default(),
        untold: 0,
    };
    ordered(
        &Width { threads, cancel },
        |feed: &Feed<'_, Vec<Result<Entry, String>>, Batch>| {
            loop {
                let batch: Vec<_> = entries.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    return Ok(());
                }
                feed.send(batch)?;
            }
        },
        || {
            let mut reader = Reader::new(on_read);
            let pool = &pool;
            move |batch| Ok(reader.read(batch, pool.take()))
        },
        |batch: Batch| {
            writer.take(&batch)?;
            pool.give(batch.bytes);
            Ok(())
        },
    )?;
    writer.end()
}

/// Writes what comes out in order.
struct Writer<'a> {
    out: BlockWriter<'a>,
    header: Vec<u8>,
    chunk: Vec<u8>,
    /// First name of each file that has several, and how many of them are yet to come.
    names: HashMap<(u64, u64), (PathBuf, u64)>,
    on_read: &'a dyn Fn(&Entry),
    cancel: &'a Cancel,
    archived: Archived,
    /// Problems that are only counted.
    untold: u64,
}

impl Writer<'_> {
    fn take(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut written = 0;
        for (at, other) in &batch.others {
            self.write(&batch.bytes[written..*at])?;
            written = *at;
            match other {
                Other::Later(entry) => self.file(entry)?,
                Other::Problem(problem) => self.tell(problem.clone()),
            }
        }
        self.write(&batch.bytes[written..])?;
        self.archived.entries += batch.entries;
        Ok(())
    }

    fn tell(&mut self, problem: String) {
        if (self.archived.problems.len() as u64) < TOLD {
            self.archived.problems.push(problem);
        } else {
            self.untold += 1;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(stream_failure)
    }

    fn put(&mut self, entry: &Entry, metadata: &Metadata, body: &Body<'_>) -> Result<bool, Failure> {
        let mut header = std::mem::take(&mut self.header);
        header.clear();
        if let Err(error) = put(&mut header, &entry.name, metadata, body) {
            self.tell(entry.told(&reason(&error)));
            return Ok(false);
        }
        self.write(&header)?;
        self.header = header;
        self.archived.entries += 1;
        Ok(true)
    }

    /// Reads a file in its turn.
    fn file(&mut self, entry: &Entry) -> Result<(), Failure> {
        let opened = open_regular(&entry.path)
            .and_then(|(file, metadata)| Ok((extents(&file, &metadata)?, file, metadata)));
        let (holes, file, metadata) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.tell(entry.told(&reason(&error)));
                return Ok(());
            }
        };
        let identity = (metadata.dev(), metadata.ino());
        if let Some((first, left)) = self.names.get_mut(&identity) {
            let first = first.clone();
            *left -= 1;
            if *left == 0 {
                self.names.remove(&identity);
            }
            self.put(entry, &metadata, &Body::SecondName(&first))?;
            return Ok(());
        }
        let size = metadata.len();
        let whole = [Extent { at: 0, length: size }];
        let body = holes.as_ref().map_or(Body::File(size), |extents| Body::Holes(size, extents));
        if !self.put(entry, &metadata, &body)? {
            return Ok(());
        }
        if metadata.nlink() > 1 {
            self.names.insert(identity, (entry.name.clone(), metadata.nlink() - 1));
        }
        let mut reading = Reading::of(file, &metadata);
        let mut stored = 0;
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(CHUNK, 0);
        for extent in holes.as_deref().unwrap_or(&whole) {
            let mut at = extent.at;
            while at < extent.end() {
                self.cancel.check()?;
                let length = (extent.end() - at).min(CHUNK as u64);
                reading.fill(&mut chunk[..length as usize], at);
                self.write(&chunk[..length as usize])?;
                at += length;
            }
            stored += extent.length;
        }
        chunk.clear();
        pad(&mut chunk, stored);
        self.write(&chunk)?;
        self.chunk = chunk;
        (self.on_read)(entry);
        if let Err(problem) = reading.end() {
            self.tell(entry.told(&problem));
        }
        Ok(())
    }

    fn end(mut self) -> Result<Archived, Failure> {
        self.write(&[0; 2 * BLOCK as usize])?;
        self.out.finish()?;
        if self.untold > 0 {
            self.archived.problems.push(format!("and {} more", self.untold));
        }
        Ok(self.archived)
    }
}

/// The failure of the stream that an `io::Error` carries.
fn stream_failure(error: io::Error) -> Failure {
    let text = error.to_string();
    match error.into_inner().map(|inner| inner.downcast::<Failure>()) {
        Some(Ok(failure)) => *failure,
        _ => Failure::new(Code::Io, "cannot write the archive").caused_by(text),
    }
}
