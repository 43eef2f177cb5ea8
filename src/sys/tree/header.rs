//! The headers of tar entries, in GNU's format.

use super::holes::Extent;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// The size of a tar block in bytes.
pub(super) const BLOCK: u64 = 512;

/// What an entry is, beside its name and attributes.
pub(super) enum Body<'a> {
    Folder,
    Pipe,
    /// A symbolic link, and where it leads.
    Link(&'a Path),
    /// A second name, and the first one.
    SecondName(&'a Path),
    /// A file of so many bytes.
    File(u64),
    /// A file of so many bytes, of which only these are stored.
    Holes(u64, &'a [Extent]),
}

/// Bytes that the fields of names have room for.
const NAME: usize = 100;

/// Appends the header of an entry to `out`, with those of long names before and those of many holes behind it. Names are
/// bytes here, which the `tar` crate's own way of storing long ones does not always keep.
pub(super) fn put(out: &mut Vec<u8>, name: &Path, metadata: &Metadata, body: &Body<'_>) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    if metadata.mtime() < 0 {
        set_time_before_1970(&mut header, metadata.mtime());
    }
    let (kind, size, link) = match *body {
        Body::Folder => (EntryType::Directory, 0, None),
        Body::Pipe => (EntryType::Fifo, 0, None),
        Body::Link(to) => (EntryType::Symlink, 0, Some(to)),
        Body::SecondName(first) => (EntryType::Link, 0, Some(first)),
        Body::File(size) => (EntryType::Regular, size, None),
        Body::Holes(_, extents) => {
            (EntryType::GNUSparse, extents.iter().map(|extent| extent.length).sum(), None)
        }
    };
    header.set_entry_type(kind);
    header.set_size(size);
    let mut name = name.as_os_str().as_bytes().to_vec();
    name.extend(matches!(body, Body::Folder).then_some(b'/'));
    let link = link.map_or(&b""[..], |link| link.as_os_str().as_bytes());
    put_long(out, EntryType::GNULongLink, link);
    put_long(out, EntryType::GNULongName, &name);
    let fields = header.as_old_mut();
    for (field, text) in [(&mut fields.name, name.as_slice()), (&mut fields.linkname, link)] {
        let fits = text.len().min(NAME);
        field[..fits].copy_from_slice(&text[..fits]);
    }
    let Body::Holes(size, extents) = *body else {
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        return Ok(());
    };
    put_holes(out, &mut header, size, extents)
}

/// A name that its field has no room for stands before the entry.
fn put_long(out: &mut Vec<u8>, kind: EntryType, text: &[u8]) {
    if text.len() <= NAME {
        return;
    }
    let mut header = Header::new_gnu();
    let name = b"././@LongLink";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let length = text.len() as u64 + 1;
    header.set_size(length);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(text);
    out.push(0);
    pad(out, length);
}

fn put_holes(out: &mut Vec<u8>, header: &mut Header, size: u64, extents: &[Extent]) -> io::Result<()> {
    // A hole at the end is told by data of no length behind it.
    let end = Extent { at: size, length: 0 };
    let ends_in_hole = extents.last().is_none_or(|last| last.end() < size);
    let mut map = extents.iter().copied().chain(ends_in_hole.then_some(end)).peekable();
    let gnu = header.as_gnu_mut().ok_or(io::ErrorKind::InvalidInput)?;
    number(&mut gnu.realsize, size);
    fill(&mut gnu.sparse, &mut map);
    gnu.set_is_extended(map.peek().is_some());
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    while map.peek().is_some() {
        let mut more = GnuExtSparseHeader::new();
        fill(&mut more.sparse, &mut map);
        more.set_is_extended(map.peek().is_some());
        out.extend_from_slice(more.as_bytes());
    }
    Ok(())
}

/// Fills content of that length up to a whole block.
pub(super) fn pad(bytes: &mut Vec<u8>, length: u64) {
    let rest = (BLOCK - length % BLOCK) % BLOCK;
    bytes.resize(bytes.len() + rest as usize, 0);
}

/// Takes as many pieces as there are places.
fn fill(places: &mut [GnuSparseHeader], map: &mut impl Iterator<Item = Extent>) {
    for (place, extent) in places.iter_mut().zip(map) {
        number(&mut place.offset, extent.at);
        number(&mut place.numbytes, extent.length);
    }
}

/// A number as GNU tar writes it: octal digits, or where they do not suffice, its bytes behind a mark.
fn number(field: &mut [u8; 12], value: u64) {
    if value < 1 << 33 {
        let text = format!("{value:011o}\0");
        field.copy_from_slice(text.as_bytes());
    } else {
        field.fill(0);
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
}

/// Times before 1970 as GNU tar writes them: 96 bits in two's complement.
fn set_time_before_1970(header: &mut Header, seconds: i64) {
    let field = &mut header.as_old_mut().mtime;
    field.fill(0xff);
    field[4..].copy_from_slice(&seconds.to_be_bytes());
}

/// Why something could not be read, in a few words.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it vanished".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
