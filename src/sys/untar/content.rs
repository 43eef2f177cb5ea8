//! The content of files on its way out of an archive: small files are hashed and written by several threads, large ones by
//! the thread that reads the archive.

use crate::base::cancel::Cancel;
use crate::base::failure::Failure;
use crate::sys::content::Pieces;
use crate::sys::spill::Store;
use crate::sys::stream::{Digest, Feed, Pool, Width, cores, ordered};
use crate::sys::tree::{Extent, HoleyDigest};
use crate::sys::untar::entries::{Entries, Head};
use crate::sys::untar::entry::Attributes;
use crate::sys::untar::{Sink, Written};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes of small files that go to a thread at once; a larger file is large.
const BATCH: usize = 1 << 20;

/// Small files that go to a thread at once, at most.
const FILES: usize = 256;

/// How much of a large file is read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Threads that write, at least: making many files is waiting for the file system.
const WRITERS: usize = 4;

/// A file that content goes into.
#[derive(Debug)]
pub struct Created {
    /// The file, which is empty.
    pub file: File,
    /// Where it is, for messages.
    pub path: PathBuf,
}

impl Created {
    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all_at(bytes, at).map_err(|error| Failure::io("write", &self.path, &error))
    }

    fn end_at(&self, size: u64) -> Result<(), Failure> {
        self.file.set_len(size).map_err(|error| Failure::io("write", &self.path, &error))
    }
}

/// Why a content was not taken.
pub(super) enum Trouble {
    /// Something else failed.
    Failed(Failure),
    /// The archive cannot be read.
    Archive(io::Error),
    /// The archive ends before the content does.
    CutOff,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What goes to the threads, in the order of the archive.
enum Job {
    Small(Batch),
    /// A large file, done.
    Large(Digest),
}

/// A file that is to be written.
struct Target {
    number: u64,
    name: PathBuf,
    attributes: Attributes,
}

impl Target {
    fn written(&self) -> Written<'_> {
        Written { number: self.number, name: &self.name, attributes: &self.attributes }
    }
}

/// Where a file's content lies, and where it goes if it is to be written.
type Placed = (Range<usize>, Option<Target>);

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    files: Vec<Placed>,
}

/// Takes the contents in their order.
pub(super) struct Unpacking<'a, 'c> {
    feed: &'a Feed<'c, Job, Vec<Digest>>,
    pool: &'a Pool,
    sink: &'a dyn Sink,
    hashes: bool,
    batch: Batch,
    chunk: Vec<u8>,
}

/// Runs `read`, which takes the contents out of an archive; their digests come in the order in which they were taken, if
/// somebody takes them.
pub(super) fn unpacked<T: Send>(
    sink: &dyn Sink,
    cancel: &Cancel,
    mut digests: Option<&mut Store>,
    read: impl FnOnce(&mut Unpacking<'_, '_>) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let pool = Pool::default();
    let width = Width { threads: cores().max(WRITERS), cancel };
    let hashes = digests.is_some();
    ordered(
        &width,
        |feed| {
            let (batch, chunk) = (Batch::default(), Vec::new());
            read(&mut Unpacking { feed, pool: &pool, sink, hashes, batch, chunk })
        },
        || {
            let pool = &pool;
            move |job| match job {
                Job::Large(digest) => Ok(vec![digest]),
                Job::Small(batch) => {
                    let digests = batch.write(sink, hashes)?;
                    pool.give(batch.bytes);
                    Ok(digests)
                }
            }
        },
        |some| match &mut digests {
            Some(digests) => some.iter().try_for_each(|digest| digests.put(&digest.0)),
            None => Ok(()),
        },
    )
}

impl Batch {
    fn write(&self, sink: &dyn Sink, hashes: bool) -> Result<Vec<Digest>, Failure> {
        let mut digests = Vec::with_capacity(if hashes { self.files.len() } else { 0 });
        for (range, target) in &self.files {
            let content = &self.bytes[range.clone()];
            if let Some(target) = target {
                let created = sink.create(&target.name)?;
                created.put(0, content)?;
                sink.end(&target.written(), &created)?;
            }
            digests.extend(hashes.then(|| Digest::of_bytes(content)));
        }
        Ok(digests)
    }
}

impl Unpacking<'_, '_> {
    /// Takes the content of the entry that was read last.
    pub(super) fn content(
        &mut self,
        head: &Head,
        file: Written<'_>,
        archive: &mut Entries<Pieces>,
    ) -> Result<(), Trouble> {
        let wanted = self.sink.wants(file.number);
        if !wanted && !self.hashes {
            return Ok(());
        }
        if head.extents.is_none() && head.size <= BATCH as u64 {
            let size = head.size as usize;
            if self.batch.bytes.len() + size > BATCH || self.batch.files.len() == FILES {
                self.flush()?;
            }
            if self.batch.files.is_empty() {
                self.batch.bytes = self.pool.take();
                self.batch.bytes.clear();
            }
            let began = self.batch.bytes.len();
            self.batch.bytes.resize(began + size, 0);
            fill(archive, &mut self.batch.bytes[began..])?;
            let Written { number, name, attributes } = file;
            let target = || Target { number, name: name.to_path_buf(), attributes: *attributes };
            self.batch.files.push((began..began + size, wanted.then(target)));
            return Ok(());
        }
        self.flush()?;
        let digest = self.large(head, wanted.then_some(file), archive)?;
        Ok(self.feed.send(Job::Large(digest))?)
    }

    fn large(
        &mut self,
        head: &Head,
        wanted: Option<Written<'_>>,
        archive: &mut Entries<Pieces>,
    ) -> Result<Digest, Trouble> {
        let created = wanted.map(|file| self.sink.create(file.name)).transpose()?;
        let whole = [Extent { at: 0, length: head.size }];
        let mut plain = head.extents.is_none().then(Sha256::new);
        let mut holey = HoleyDigest::default();
        self.chunk.resize(CHUNK, 0);
        for extent in head.extents.as_deref().unwrap_or(&whole) {
            let mut at = extent.at;
            while at < extent.end() {
                self.feed.check()?;
                let length = (extent.end() - at).min(CHUNK as u64) as usize;
                let chunk = &mut self.chunk[..length];
                fill(archive, chunk)?;
                match &mut plain {
                    _ if !self.hashes => {}
                    Some(plain) => plain.update(&*chunk),
                    None => holey.update(at, chunk),
                }
                if let Some(created) = &created {
                    created.put(at, chunk)?;
                }
                at += length as u64;
            }
        }
        if let (Some(created), Some(file)) = (&created, &wanted) {
            created.end_at(head.size)?;
            self.sink.end(file, created)?;
        }
        Ok(plain.map_or_else(|| holey.end(head.size), |plain| Digest(plain.finalize().into())))
    }

    /// Sends what is left.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.files.is_empty() {
            return Ok(());
        }
        self.feed.send(Job::Small(std::mem::take(&mut self.batch)))
    }
}

fn fill(archive: &mut Entries<Pieces>, buffer: &mut [u8]) -> Result<(), Trouble> {
    archive.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Trouble::CutOff,
        _ => Trouble::Archive(error),
    })
}
