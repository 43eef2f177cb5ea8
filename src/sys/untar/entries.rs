//! Taking a tar archive apart into its entries.
//!
//! The `tar` crate reads the holes of a sparse file as zeros, however many terabytes they are, and does not tell where they
//! lie. So its headers and extensions are used here, and their row is walked by this module.

use crate::sys::tree::Extent;
use crate::sys::untar::shown;
use std::io::{self, Read};
use std::path::Path;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header, PaxExtensions};

/// The size of a tar block in bytes.
const BLOCK: usize = 512;

/// Bytes of headers that one entry may have: long names, attributes.
const HEADERS: u64 = 1 << 20;

/// Bytes that a name or the target of a link may have: no system call takes more.
const LONGEST: usize = 4096;

/// Pieces of data between holes that one entry may have.
const MOST_EXTENTS: usize = 1 << 20;

/// Why an archive cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Its headers would fill the memory.
    #[error("an entry's header is longer than 1 MiB")]
    TooLong,
    /// A name that no system takes; of very many, the list of them would fill the memory.
    #[error("the name of `{0}`, or where it leads, has more than {LONGEST} bytes")]
    LongName(String),
    /// It is no archive, or no whole one.
    #[error("{0}")]
    Damaged(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

fn damaged<T>(text: &str) -> Result<T, Broken> {
    Err(Broken::Damaged(text.to_owned()))
}

/// What the headers of an entry say.
pub(super) struct Head {
    pub(super) name: Vec<u8>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) header: Header,
    /// POSIX extensions, as they stand in the archive.
    pub(super) extensions: Vec<u8>,
    /// Bytes that stand in the archive.
    pub(super) stored: u64,
    /// Bytes of the file.
    pub(super) size: u64,
    /// Where the stored bytes belong, if the file has holes.
    pub(super) extents: Option<Vec<Extent>>,
    /// Bytes of long names and extensions, which stand before its own header.
    pub(super) before: u64,
}

/// The entries of an archive. Reading from it reads the content of the one that came last.
pub(super) struct Entries<R> {
    input: R,
    /// Bytes of content that were not read yet, and those that fill its last block.
    left: u64,
    padding: u64,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry, or `None` at the end; content that was not read is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Head>, Broken> {
        let (mut name, mut link, mut extensions) = (None, None, None);
        let mut budget = HEADERS;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if name.is_some() || link.is_some() || extensions.is_some() {
                    return damaged("names or attributes at its end belong to no entry");
                }
                return Ok(None);
            };
            let size = header.entry_size()?;
            let known = header.as_gnu().is_some() || header.as_ustar().is_some();
            let place = match header.entry_type() {
                EntryType::GNULongName if known => &mut name,
                EntryType::GNULongLink if known => &mut link,
                EntryType::XHeader if known => &mut extensions,
                _ => {
                    let names = (name.map(terminated), link.map(terminated));
                    let head = self.entry(header, size, names, extensions.unwrap_or_default())?;
                    return Ok(Some(Head { before: HEADERS - budget, ..head }));
                }
            };
            if place.is_some() {
                return damaged("two long names or attributes belong to one entry");
            }
            budget = budget.checked_sub(size).ok_or(Broken::TooLong)?;
            let mut text = vec![0; size as usize];
            self.input.read_exact(&mut text)?;
            *place = Some(text);
            self.padding = padding(size);
        }
    }

    fn entry(
        &mut self,
        mut header: Header,
        mut size: u64,
        (name, link): (Option<Vec<u8>>, Option<Vec<u8>>),
        extensions: Vec<u8>,
    ) -> Result<Head, Broken> {
        let of = |key: &[u8]| {
            let mut all = PaxExtensions::new(&extensions).filter_map(Result::ok);
            all.find(|extension| extension.key_bytes() == key).map(|found| found.value_bytes().to_vec())
        };
        let number = |key: &[u8]| of(key).and_then(|text| str::from_utf8(&text).ok()?.parse::<u64>().ok());
        size = number(b"size").unwrap_or(size);
        number(b"uid").into_iter().for_each(|user| header.set_uid(user));
        number(b"gid").into_iter().for_each(|group| header.set_gid(group));
        let name = name.or_else(|| of(b"path")).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = link.or_else(|| of(b"linkpath"));
        let link = link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        if name.len() > LONGEST || link.as_ref().is_some_and(|link| link.len() > LONGEST) {
            return Err(Broken::LongName(beginning(&name)));
        }
        if size.checked_add(BLOCK as u64).is_none() {
            return damaged("an entry has an impossible size");
        }
        let (mut real, mut extents) = (size, None);
        if header.entry_type().is_gnu_sparse() {
            let (found, end) = self.extents(&header, size)?;
            (real, extents) = (end, Some(found));
        }
        (self.left, self.padding) = (size, padding(size));
        Ok(Head { name, link, header, extensions, stored: size, size: real, extents, before: 0 })
    }

    /// Where the data of a file with holes belong, and how many bytes it has.
    fn extents(&mut self, header: &Header, stored: u64) -> Result<(Vec<Extent>, u64), Broken> {
        let Some(gnu) = header.as_gnu() else { return damaged("a file with holes has no GNU header") };
        let mut map = Map::default();
        gnu.sparse.iter().try_for_each(|place| map.add(place))?;
        let mut goes_on = gnu.is_extended();
        while goes_on {
            let mut more = GnuExtSparseHeader::new();
            self.input.read_exact(more.as_mut_bytes())?;
            more.sparse.iter().try_for_each(|place| map.add(place))?;
            goes_on = more.is_extended();
        }
        if map.end != gnu.real_size()? || map.stored != stored {
            return damaged("the pieces of a file with holes do not add up to its size");
        }
        Ok((map.extents, map.end))
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Broken> {
        let mut header = Header::new_old();
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut header.as_mut_bytes()[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return damaged("it ends within a header"),
                n => filled += n,
            }
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let around = bytes[..148].iter().chain(&bytes[156..]);
        let sum = around.fold(8 * 32, |sum, byte| sum + u32::from(*byte));
        if sum != header.cksum()? {
            return damaged("the checksum of a header does not fit");
        }
        Ok(Some(header))
    }

    fn skip(&mut self) -> Result<(), Broken> {
        let mut rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let mut buffer = [0; 8 << 10];
        while rest > 0 {
            let want = rest.min(buffer.len() as u64) as usize;
            match self.input.read(&mut buffer[..want])? {
                0 => return damaged("it ends within an entry"),
                n => rest -= n as u64,
            }
        }
        Ok(())
    }

    /// What follows the end of the archive.
    pub(super) fn into_inner(self) -> R {
        self.input
    }
}

impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = (buffer.len() as u64).min(self.left) as usize;
        if want == 0 {
            return Ok(0);
        }
        let n = self.input.read(&mut buffer[..want])?;
        self.left -= n as u64;
        Ok(n)
    }
}

#[derive(Default)]
struct Map {
    extents: Vec<Extent>,
    stored: u64,
    end: u64,
}

impl Map {
    fn add(&mut self, place: &GnuSparseHeader) -> Result<(), Broken> {
        if place.is_empty() {
            return Ok(());
        }
        let extent = Extent { at: place.offset()?, length: place.length()? };
        let is_split = extent.length > 0 && !self.stored.is_multiple_of(BLOCK as u64);
        let end = extent.at.checked_add(extent.length).filter(|_| extent.at >= self.end && !is_split);
        let stored = self.stored.checked_add(extent.length);
        let (Some(end), Some(stored)) = (end, stored) else {
            return damaged("the pieces of a file with holes overlap, or are out of order");
        };
        if self.extents.len() == MOST_EXTENTS {
            return damaged("a file with holes has more than a million pieces");
        }
        (self.end, self.stored) = (end, stored);
        self.extents.extend((extent.length > 0).then_some(extent));
        Ok(())
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// A name as far as a message has room for it.
fn beginning(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut short = shown(Path::new(&text.chars().take(60).collect::<String>()));
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

/// A long name without the zero that ends it.
fn terminated(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}
