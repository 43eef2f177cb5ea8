//! The sections of a file of ours: the file is its own index, so that its parts can be read apart and in any order.
//!
//! One pass takes the file's SHA-256 and keeps the hash's state at the beginning of each section, and the digest up to its
//! end. Whoever reads a section later goes on from that state and must arrive at that digest: the bytes of all sections are
//! then the bytes of the file that has this SHA-256, whatever order they were read in. Beside one entry per section nothing is
//! kept in memory.

use super::Control;
use super::block::Kind;
use super::gzip::{HEADER, Member, Recognized, recognize};
use super::hash::Digest;
use crate::base::failure::{Code, Failure};
use libdeflater::Decompressor;
use memchr::memchr_iter;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Enough for the header of most members.
const FIRST: usize = 1 << 10;

/// Takes a member as it is packed, and its raw bytes.
type TakeBoth<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), Failure> + 'a;

/// Consecutive members of one kind and table.
#[derive(Clone, Debug)]
pub struct Section {
    /// The table whose rows it holds, as the dump writes its name; `None` for all that is no rows.
    pub table: Option<String>,
    /// Bytes in the file.
    pub size: u64,
    /// Bytes that they hold.
    pub raw_size: u64,
    begin: u64,
    before: Sha256,
    after: Digest,
}

/// A file and its sections, in the order of the file.
#[derive(Debug)]
pub struct Sections {
    file: File,
    path: PathBuf,
    /// The sections.
    pub list: Vec<Section>,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
}

/// The failure of a file that is not any more what was verified.
pub fn changed(path: &Path) -> Failure {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Failure::new(Code::NotIntact, format!("`{name}` has changed since it was verified"))
        .hint("Find out who writes to the backups, and run it again.")
}

/// Why members cannot be read.
enum Broken {
    /// Something else failed.
    Failed(Failure),
    /// The member that begins at a byte is no whole one.
    Damaged { at: u64, detail: String },
}

impl Sections {
    /// Reads the whole file once; `None` if it does not consist of one stream of members of ours and nothing else.
    ///
    /// # Errors
    /// Those of reading, and cancellation.
    pub fn find(file: File, path: &Path, control: Control<'_>) -> Result<Option<Self>, Failure> {
        let read = |error: &io::Error| Failure::io("read", path, error);
        let size = file.metadata().map_err(|error| read(&error))?.len();
        let mut hasher = Sha256::new();
        let mut list: Vec<Section> = Vec::new();
        let mut open: Option<(u8, Vec<u8>)> = None;
        let mut bytes = Vec::new();
        let mut at = 0;
        let mut ended = false;
        while at < size {
            control.cancel.check()?;
            if ended || !cut(&file, at, &mut bytes).map_err(|error| read(&error))? {
                return Ok(None);
            }
            let member = Member(&bytes);
            let of = (member.kind(), member.label().to_vec());
            ended = member.totals().is_some();
            if open.as_ref() != Some(&of) {
                close(list.last_mut(), &hasher);
                let Some(section) = begin(&of, at, &hasher) else { return Ok(None) };
                list.push(section);
                open = Some(of);
            }
            hasher.update(&bytes);
            at += bytes.len() as u64;
            if let Some(section) = list.last_mut() {
                section.size = at - section.begin;
                section.raw_size += member.raw_size();
            }
            (control.progress)(at);
        }
        close(list.last_mut(), &hasher);
        let sha256 = Digest::of(hasher);
        Ok(ended.then(|| Self { file, path: path.to_path_buf(), list, sha256 }))
    }

    /// Hands the raw bytes of a section to `take`, member by member, and then looks whether they were those of the file.
    ///
    /// # Errors
    /// What `take` fails with; a file that has changed since its sections were found, or was damaged before.
    pub fn read(
        &self,
        section: &Section,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut hasher = section.before.clone();
        let read = self.members(section.begin, section.begin + section.size, &mut |packed, raw| {
            hasher.update(packed);
            take(raw)
        });
        match read {
            Ok(()) if Digest::of(hasher) == section.after => Ok(()),
            Ok(()) => Err(changed(&self.path)),
            Err(Broken::Failed(failure)) => Err(failure),
            Err(Broken::Damaged { at, detail }) if self.is_unchanged(section)? => {
                let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                Err(Failure::new(Code::NotIntact, format!("`{name}` is damaged at byte {at}: {detail}")).hint(
                    "It was so when its SHA-256 was taken: use another backup, and find out what wrote this one.",
                ))
            }
            Err(Broken::Damaged { detail, .. }) => Err(changed(&self.path).caused_by(detail)),
        }
    }

    /// Whether a section's bytes are those that were there when it was found.
    fn is_unchanged(&self, section: &Section) -> Result<bool, Failure> {
        let mut hasher = section.before.clone();
        let mut bytes = vec![0; FIRST << 10];
        let (mut at, end) = (section.begin, section.begin + section.size);
        while at < end {
            let wanted = (end - at).min(bytes.len() as u64) as usize;
            let read = read_at_most(&self.file, at, &mut bytes[..wanted])
                .map_err(|error| Failure::io("read", &self.path, &error))?;
            if read == 0 {
                return Ok(false);
            }
            hasher.update(&bytes[..read]);
            at += read as u64;
        }
        Ok(Digest::of(hasher) == section.after)
    }

    /// How many lines of the content stand before a section. All of it is read again, for this is asked only when
    /// something is to be told.
    ///
    /// # Errors
    /// Those of reading; a file that has changed.
    pub fn lines_before(&self, section: &Section) -> Result<u64, Failure> {
        let mut lines = 0;
        let read = self.members(0, section.begin, &mut |_, raw| {
            lines += memchr_iter(b'\n', raw).count() as u64;
            Ok(())
        });
        match read {
            Ok(()) => Ok(lines),
            Err(Broken::Failed(failure)) => Err(failure),
            Err(Broken::Damaged { detail, .. }) => Err(changed(&self.path).caused_by(detail)),
        }
    }

    fn members(&self, mut at: u64, end: u64, take: &mut TakeBoth<'_>) -> Result<(), Broken> {
        let mut decompressor = Decompressor::new();
        let mut packed = Vec::new();
        let mut raw = Vec::new();
        while at < end {
            let whole = cut(&self.file, at, &mut packed)
                .map_err(|error| Broken::Failed(Failure::io("read", &self.path, &error)))?;
            let begin = at;
            at += packed.len() as u64;
            if !whole || at > end {
                return Err(Broken::Failed(changed(&self.path)));
            }
            Member(&packed)
                .unpack(&mut decompressor, &mut raw)
                .map_err(|detail| Broken::Damaged { at: begin, detail: detail.to_string() })?;
            take(&packed, &raw).map_err(Broken::Failed)?;
        }
        Ok(())
    }
}

fn begin(of: &(u8, Vec<u8>), begin: u64, before: &Sha256) -> Option<Section> {
    let table = match of {
        (kind, label) if *kind == Kind::Rows.code() => Some(String::from_utf8(label.clone()).ok()?),
        _ => None,
    };
    let after = Digest([0; 32]);
    Some(Section { table, size: 0, raw_size: 0, begin, before: before.clone(), after })
}

fn close(section: Option<&mut Section>, hasher: &Sha256) {
    if let Some(section) = section {
        section.after = Digest::of(hasher.clone());
    }
}

/// Replaces `out` by the member of ours that begins at `at`; false if there is none.
fn cut(file: &File, at: u64, out: &mut Vec<u8>) -> io::Result<bool> {
    fill(file, at, FIRST, out)?;
    let mut found = recognize(out);
    if found == Recognized::Truncated && out.len() == FIRST {
        fill(file, at, HEADER, out)?;
        found = recognize(out);
    }
    let Recognized::Indexed(size) = found else { return Ok(false) };
    let known = out.len().min(size);
    out.truncate(known);
    out.resize(size, 0);
    Ok(read_at_most(file, at + known as u64, &mut out[known..])? == size - known)
}

fn fill(file: &File, at: u64, most: usize, out: &mut Vec<u8>) -> io::Result<()> {
    out.resize(most, 0);
    let read = read_at_most(file, at, out)?;
    out.truncate(read);
    Ok(())
}

fn read_at_most(file: &File, at: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match file.read_at(&mut out[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::super::block::Block;
    use super::super::gzip::{Level, Packer};
    use super::*;
    use crate::base::cancel::Cancel;
    use std::io::Write as _;

    /// A file of ours, and its path.
    fn file(blocks: &[(Kind, Option<&str>, &str)], behind: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let mut packer = Packer::new(Level::default());
        let (mut bytes, mut member) = (Vec::new(), Vec::new());
        let mut raw_size = 0;
        for (kind, table, text) in blocks {
            let block = Block { kind: *kind, table: table.map(Into::into), bytes: text.as_bytes().to_vec() };
            packer.pack(&block, &mut member).unwrap();
            bytes.extend_from_slice(&member);
            raw_size += text.len() as u64;
        }
        packer.pack_end(raw_size, blocks.len() as u64, &mut member).unwrap();
        bytes.extend_from_slice(&member);
        bytes.extend_from_slice(behind);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sql.gz");
        File::create(&path).unwrap().write_all(&bytes).unwrap();
        (dir, path)
    }

    fn find(path: &Path) -> Option<Sections> {
        let control = Control { cancel: &Cancel::new(), progress: &|_| {} };
        Sections::find(File::open(path).unwrap(), path, control).unwrap()
    }

    fn text(sections: &Sections, number: usize) -> Result<String, Failure> {
        let mut text = Vec::new();
        sections.read(&sections.list[number], &mut |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(String::from_utf8(text).unwrap())
    }

    const BLOCKS: [(Kind, Option<&str>, &str); 6] = [
        (Kind::Schema, None, "one\n"),
        (Kind::Rows, Some("a"), "1\n"),
        (Kind::Rows, Some("a"), "2\n3\n"),
        (Kind::Rows, Some("b"), "4\n"),
        (Kind::Schema, None, "two\n"),
        (Kind::Summary, None, "three\n"),
    ];

    #[test]
    fn sections_are_read_in_any_order_and_add_up_to_the_file() {
        let (_dir, path) = file(&BLOCKS, b"");
        let sections = find(&path).unwrap();
        let tables: Vec<Option<&str>> =
            sections.list.iter().map(|section| section.table.as_deref()).collect();
        assert_eq!(tables, [None, Some("a"), Some("b"), None, None, None]);
        assert_eq!(
            [3, 1, 0, 2, 4, 5].map(|number| text(&sections, number).unwrap()),
            ["two\n", "1\n2\n3\n", "one\n", "4\n", "three\n", ""]
        );
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(sections.sha256, Digest::of_bytes(&whole));
        assert_eq!(sections.list.iter().map(|section| section.size).sum::<u64>(), whole.len() as u64);
        let lines = |number: usize| sections.lines_before(&sections.list[number]).unwrap();
        assert_eq!([0, 1, 2, 3, 4].map(lines), [0, 1, 4, 5, 6]);
    }

    #[test]
    fn each_bit_that_flips_is_found_by_who_reads_its_section_and_by_nobody_else() {
        let (_dir, path) = file(&BLOCKS, b"");
        let sections = find(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, bytes).unwrap();
            for (number, section) in sections.list.iter().enumerate() {
                let is_in = (section.begin..section.begin + section.size).contains(&(at as u64));
                assert_eq!(text(&sections, number).is_err(), is_in, "byte {at}, section {number}");
            }
        }
        // Another file of ours under the same name.
        let other = BLOCKS.map(|(kind, table, text)| (kind, table, if text == "4\n" { "5\n" } else { text }));
        let (_other, other) = file(&other, b"");
        std::fs::copy(other, &path).unwrap();
        assert!(text(&sections, 1).is_ok() && text(&sections, 2).is_err());
    }

    #[test]
    fn what_is_not_one_stream_of_ours_has_no_sections() {
        for behind in [&b"\0"[..], b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x04\0\x43\xbe\xb7\xe8\x01\0\0\0"] {
            assert!(find(&file(&BLOCKS, behind).1).is_none());
        }
        let (_dir, path) = file(&BLOCKS, b"");
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 5, whole.len() - 1, whole.len() - 60] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(find(&path).is_none(), "{length}");
        }
    }
}
