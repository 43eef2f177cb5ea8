//! What the bytes of a backup say about themselves: a dump's end marker and tables, an archive's entries and end.

use crate::base::backup::{Content, TableContent};
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::loading::outline::Outline;
use crate::sys::postgres::loose::Loose;
use crate::sys::postgres::requirements::Requirements;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

mod sql;

use sql::SqlReading;
pub use sql::{Ahead, ahead};

/// What was found in the content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Whether the content was read to its end without a problem.
    pub complete: bool,
    /// What was checked.
    pub checks: Vec<&'static str>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// Whether a dump ends with our own summary of its tables.
    pub summary: bool,
    /// Tables of a dump, by name.
    pub tables: Vec<TableContent>,
    /// What a dump needs of a server.
    pub requirements: Requirements,
    /// Sequences and large objects of a dump.
    pub loose: Loose,
    /// The order of a dump, if it was asked for and there is one to be told.
    pub outline: Option<Arc<Outline>>,
    /// Version of the server that a dump is of.
    pub server: Option<String>,
    /// Entries of an archive.
    pub entries: Option<u64>,
    /// Names of the first [`MOST_NAMES`] entries of an archive, in their order; fewer if they are very long.
    pub names: Vec<String>,
}

/// So many names of entries are told; archives of configuration have fewer.
pub const MOST_NAMES: usize = 10_000;

/// Bytes that these names may have together.
const MOST_NAME_BYTES: usize = 4 << 20;

/// Reads content that arrives in pieces.
pub enum Reading {
    /// A plain dump.
    Sql(Box<SqlReading>),
    /// A tar archive.
    Tar(TarReading),
    /// Bytes that say nothing about themselves.
    Opaque,
}

impl Reading {
    /// A reading of that kind of content.
    pub fn of(content: Content) -> Self {
        match content {
            Content::Sql => Self::Sql(Box::default()),
            Content::Tar => Self::Tar(TarReading::begin()),
            Content::File => Self::Opaque,
        }
    }

    /// As [`Reading::of`]; what is found of a dump has its outline.
    pub fn with_outline(content: Content) -> Self {
        match content {
            Content::Sql => Self::Sql(Box::new(SqlReading::with_outline())),
            Content::Tar | Content::File => Self::of(content),
        }
    }

    /// A reading of a plain dump whose rows are left out: its own summary says what they are.
    pub fn without_rows() -> Self {
        Self::Sql(Box::new(SqlReading::without_rows()))
    }

    /// Reads on; `ahead` is what [`ahead`] said of the very bytes, if it was asked.
    pub fn take(&mut self, bytes: &[u8], ahead: Ahead) -> Result<(), Failure> {
        match self {
            Self::Sql(sql) => sql.take(bytes, ahead),
            Self::Tar(tar) => tar.take(bytes),
            Self::Opaque => {}
        }
        Ok(())
    }

    /// What was found.
    pub fn end(self) -> Result<Findings, Failure> {
        match self {
            Self::Sql(sql) => Ok(sql.end()),
            Self::Tar(tar) => tar.end(),
            Self::Opaque => Ok(Findings { complete: true, ..Findings::default() }),
        }
    }
}

/// The reading of an archive, by a thread of its own, since the tar reader pulls.
pub struct TarReading {
    pipe: Option<SyncSender<Vec<u8>>>,
    reader: JoinHandle<Result<(u64, Vec<String>), String>>,
}

impl TarReading {
    fn begin() -> Self {
        let (pipe, pieces) = sync_channel(8);
        let reader = std::thread::spawn(move || read_tar(Pieces::of(pieces)));
        Self { pipe: Some(pipe), reader }
    }

    fn take(&mut self, bytes: &[u8]) {
        // A reader that has found a problem does not listen any more.
        if let Some(pipe) = &self.pipe
            && pipe.send(bytes.to_vec()).is_err()
        {
            self.pipe = None;
        }
    }

    fn end(mut self) -> Result<Findings, Failure> {
        drop(self.pipe.take());
        let read = self
            .reader
            .join()
            .map_err(|_| Failure::new(Code::Internal, "the reader of the archive panicked"))?;
        Ok(match read {
            Ok((entries, names)) => Findings {
                complete: true,
                checks: vec!["archive"],
                entries: Some(entries),
                names,
                ..Findings::default()
            },
            Err(problem) => {
                Findings { checks: vec!["archive"], problems: vec![problem], ..Findings::default() }
            }
        })
    }
}

fn read_tar(pieces: Pieces) -> Result<(u64, Vec<String>), String> {
    let mut archive = tar::Archive::new(Tail::new(pieces));
    let mut entries = 0;
    let (mut names, mut room) = (Vec::new(), MOST_NAME_BYTES);
    let damaged = |error: io::Error| format!("the archive is damaged: {error}");
    let mut content_end = 0;
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        // A file with holes is stored without them, and they may be larger than any disk.
        let sparse = entry.header().entry_type().is_gnu_sparse();
        if !sparse {
            io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
        }
        let stored = if sparse { entry.header().entry_size().map_err(damaged)? } else { entry.size() };
        content_end = entry.raw_file_position() + stored.div_ceil(BLOCK) * BLOCK;
        entries += 1;
        let name = entry.path_bytes();
        room = room.saturating_sub(name.len());
        if names.len() < MOST_NAMES && room > 0 {
            names.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
    let mut tail = archive.into_inner();
    io::copy(&mut tail, &mut io::sink()).map_err(damaged)?;
    if tail.ends_behind(content_end) {
        Ok((entries, names))
    } else {
        Err("the archive's end is missing".to_owned())
    }
}

/// The pieces as one stream.
pub(super) struct Pieces {
    pieces: Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
}

impl Pieces {
    /// The stream of what is sent.
    pub(super) fn of(pieces: Receiver<Vec<u8>>) -> Self {
        Self { pieces, current: io::Cursor::new(Vec::new()) }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            match self.pieces.recv() {
                Ok(piece) => self.current = io::Cursor::new(piece),
                Err(_) => return Ok(0),
            }
        }
    }
}

/// Size of a tar block.
const BLOCK: u64 = 512;

/// Counts the zeros at the end: an archive ends with two blocks of them, which the tar reader does not ask for.
struct Tail {
    inner: Pieces,
    read: u64,
    zeros: u64,
}

impl Tail {
    fn new(inner: Pieces) -> Self {
        Self { inner, read: 0, zeros: 0 }
    }

    /// Whether the end stands behind the last entry, whose own content may end with zeros too.
    fn ends_behind(&self, content_end: u64) -> bool {
        self.zeros >= 2 * BLOCK && self.read >= content_end + 2 * BLOCK
    }
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read += n as u64;
        let trailing = buffer[..n].iter().rev().take_while(|byte| **byte == 0).count() as u64;
        self.zeros = if trailing == n as u64 { self.zeros + trailing } else { trailing };
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in ["a", "b"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(700);
            tar.append_data(&mut header, name, &[b'x'; 700][..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn read(content: Content, bytes: &[u8]) -> Findings {
        let mut reading = Reading::of(content);
        for piece in bytes.chunks(100) {
            reading.take(piece, ahead(content, piece)).unwrap();
        }
        reading.end().unwrap()
    }

    #[test]
    fn an_archive_is_read_to_its_end() {
        let whole = tar();
        let findings = read(Content::Tar, &whole);
        assert_eq!((findings.complete, findings.entries, findings.problems.len()), (true, Some(2), 0));
        assert_eq!(findings.names, ["a", "b"]);
        // Cut behind the last entry, where its reader does not notice.
        let cut = read(Content::Tar, &whole[..whole.len() - 1024]);
        assert_eq!(cut.problems, ["the archive's end is missing"]);
        assert!(!cut.complete);
        assert!(read(Content::Tar, &whole[..1300]).problems[0].starts_with("the archive is damaged: "));
        let mut flipped = whole.clone();
        flipped[1536 + 3] ^= 1;
        assert!(read(Content::Tar, &flipped).problems[0].starts_with("the archive is damaged: "));
    }

    #[test]
    fn of_very_long_names_only_the_first_are_told() {
        let mut tar = tar::Builder::new(Vec::new());
        for n in 0..5 {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            tar.append_data(&mut header, format!("{n}/{}", "n".repeat(1 << 20)), &[][..]).unwrap();
        }
        let findings = read(Content::Tar, &tar.into_inner().unwrap());
        assert_eq!((findings.entries, findings.names.len()), (Some(5), 3));
    }

    #[test]
    fn a_dump_without_its_end_marker_is_not_complete() {
        let dump = b"-- PostgreSQL database dump\n\nCOPY public.t (a) FROM stdin;\n1\n\\.\n";
        let findings = read(Content::Sql, dump);
        assert_eq!(findings.problems, ["the dump's end marker is missing"]);
        let mut whole = dump.to_vec();
        whole.extend_from_slice(b"\n--\n-- PostgreSQL database dump complete\n--\n");
        let findings = read(Content::Sql, &whole);
        assert_eq!((findings.complete, findings.tables.len(), findings.tables[0].rows), (true, 1, 1));
        let cut = read(Content::Sql, &dump[..dump.len() - 3]);
        assert_eq!(cut.problems, ["the data of table `public.t`, which begins at line 3, has no end"]);
    }
}
