//! Reading an archive entry by entry, and what is wrong with one by itself.

use super::content::{Trouble, Unpacking, unpacked};
use super::entries::{Broken, Entries, Head};
use super::entry::{Attributes, stays_inside, unfit};
use super::held::{Listing, Said, Seen, Wrong};
use super::{Entered, Limits, Sink, Wanted, What, Written, damaged, shown, unsafe_archive};
use crate::base::cancel::Cancel;
use crate::base::failure::Failure;
use crate::sys::content::Pieces;
use crate::sys::spill::{Rows, Store};
use crate::sys::stream::Digest;
use crate::sys::tree::{KEPT, Selection};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// Bytes that all names of hard links may have together, since they are kept in memory.
const MOST_LINKED: usize = 256 << 20;

/// Reads an archive.
pub(super) struct Reader<'a> {
    archive: &'a str,
    selection: &'a Selection,
    limits: Limits,
    /// Bytes of content and of long names that are the most.
    most: u64,
    content: u64,
    /// Bytes of names of hard links.
    linked: usize,
    /// Files whose content is wanted.
    files: u64,
    /// What it holds, unless that is known.
    listing: Option<Listing>,
}

impl<'a> Reader<'a> {
    /// A reader of the archive of that name, which may hold `most` bytes of content.
    pub(super) fn new(archive: &'a str, wanted: Wanted<'a>, most: u64) -> Self {
        let Wanted { selection, limits, list, .. } = wanted;
        let listing = list.map(Listing::new);
        Self { archive, selection, limits, most, content: 0, linked: 0, files: 0, listing }
    }

    pub(super) fn run(mut self, pieces: Pieces, sink: &dyn Sink, cancel: &Cancel) -> Entered {
        let mut digests = self.listing.as_ref().map(|listing| Store::new(listing.dir()));
        let (mut reader, entries) = unpacked(sink, cancel, digests.as_mut(), |out| {
            let entries = self.entries(pieces, out)?;
            Ok((self, entries))
        })?;
        let (Some(listing), Some(digests)) = (reader.listing.take(), digests) else {
            return Ok((Rows::default(), entries));
        };
        match listing.end(digests)? {
            Ok(items) => Ok((items, entries)),
            Err(Wrong { name, why, is_spared: true }) => Err(reader.spared(&name, why)),
            Err(Wrong { name, why, .. }) => Err(reader.refuse(&name, why)),
        }
    }

    fn entries(&mut self, pieces: Pieces, out: &mut Unpacking<'_, '_>) -> Result<u64, Failure> {
        let mut archive = Entries::new(pieces);
        let mut entries = 0;
        while let Some(head) = archive.next().map_err(|broken| self.broken(&broken))? {
            entries += 1;
            if entries > self.limits.entries {
                return Err(unsafe_archive(
                    self.archive,
                    format!("it holds more than {} entries", self.limits.entries),
                )
                .hint("Nothing was written. If it is meant to, raise the limit: `max_entries`."));
            }
            self.count(head.before)?;
            if !head.header.entry_type().is_pax_global_extensions() {
                self.take(head, entries, &mut archive, out)?;
            }
        }
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| damaged(self.archive, error))?;
        out.flush()?;
        Ok(entries)
    }

    fn broken(&self, broken: &Broken) -> Failure {
        match broken {
            Broken::TooLong => unsafe_archive(self.archive, broken),
            Broken::LongName(_) => unsafe_archive(self.archive, broken).hint(
                "Nothing was written. No file can have such a name: find out where this archive comes from.",
            ),
            Broken::Damaged(_) => damaged(self.archive, broken),
        }
    }

    /// An entry that no honest archive holds.
    fn refuse(&self, name: &Path, why: impl std::fmt::Display) -> Failure {
        unsafe_archive(self.archive, format!("`{}` {why}", shown(name))).hint(
            "Nothing was written. Backups do not hold such an entry: find out where this archive comes from.",
        )
    }

    /// An entry that may be left out.
    fn spared(&self, name: &Path, why: impl std::fmt::Display) -> Failure {
        unsafe_archive(self.archive, format!("`{}` {why}", shown(name))).hint(format!(
            "Nothing was written. To extract the rest, leave the entry out: `except: [\"{}\"]`.",
            shown(name)
        ))
    }

    fn take(
        &mut self,
        head: Head,
        number: u64,
        archive: &mut Entries<Pieces>,
        out: &mut Unpacking<'_, '_>,
    ) -> Result<(), Failure> {
        let raw = PathBuf::from(OsString::from_vec(head.name.clone()));
        let Some(name) = self.name(&raw)? else { return Ok(()) };
        let kind = head.header.entry_type();
        let is_file = kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse();
        let is_folder = kind.is_dir() || (is_file && raw.as_os_str().as_bytes().ends_with(b"/"));
        let taken = self.selection.takes(&name) && !self.selection.leaves_out(&name);
        let seen = match kind {
            _ if is_folder => Seen::Folder,
            _ if is_file || kind.is_hard_link() => Seen::File,
            _ if kind.is_symlink() => Seen::Link,
            _ if taken => return Err(self.spared(&name, unfit(kind))),
            // What is left out is not written, and nothing may lie below it.
            _ => return self.note(&name, number, Seen::File, None),
        };
        if taken && name.components().any(|part| part.as_os_str() == KEPT) {
            return Err(self.spared(&name, "is what Lifeboat keeps of an earlier extraction"));
        }
        let attributes = Attributes::of(&head).map_err(|why| self.spared(&name, why))?;
        let linked = || PathBuf::from(OsString::from_vec(head.link.clone().unwrap_or_default()));
        let (mut content, mut second, mut left_out) = (None, None, false);
        let what = match seen {
            Seen::Folder => What::Folder,
            Seen::Link => {
                let to = linked();
                if taken {
                    stays_inside(&name, &to).map_err(|why| self.spared(&name, why))?;
                }
                What::Link { to }
            }
            Seen::File if kind.is_hard_link() => {
                let to = linked();
                let first: PathBuf =
                    to.components().filter(|part| !matches!(part, Component::CurDir)).collect();
                self.linked += name.as_os_str().len() + first.as_os_str().len();
                if self.listing.is_some() && self.linked > MOST_LINKED {
                    return Err(unsafe_archive(self.archive, "the names of its hard links have more than 256 MiB").hint(
                        "Nothing was written. If it is meant to have so many, extract it by `tar` into a folder of its own.",
                    ));
                }
                let listed = self.listing.as_mut().map(|listing| listing.second_name(&name, &first, taken));
                left_out = listed.as_ref().is_some_and(|(_, left_out)| *left_out);
                let first = listed.map(|(first, _)| first);
                second = Some(to);
                What::File { size: 0, stored: 0, holes: false, sha256: Digest([0; 32]), first }
            }
            Seen::File => {
                self.count(head.stored)?;
                if taken {
                    content = Some(self.files);
                    self.files += 1;
                    let file = Written { number, name: &name, attributes: &attributes };
                    out.content(&head, file, archive).map_err(|trouble| match trouble {
                        Trouble::Failed(failure) => failure,
                        Trouble::Archive(error) => damaged(self.archive, error),
                        Trouble::CutOff => damaged(self.archive, format!("`{}` is cut off", shown(&name))),
                    })?;
                }
                let (size, stored) = (head.size, head.stored);
                let holes = head.extents.is_some();
                What::File { size, stored, holes, sha256: Digest([0; 32]), first: None }
            }
        };
        self.note(&name, number, seen, Some(&Said { what, attributes, taken, content, to: second, left_out }))
    }

    fn note(&mut self, name: &Path, number: u64, seen: Seen, said: Option<&Said>) -> Result<(), Failure> {
        match &mut self.listing {
            Some(listing) => listing.take(name, number, seen, said),
            None => Ok(()),
        }
    }

    /// The name without `.`; `None` for the root itself.
    fn name(&self, raw: &Path) -> Result<Option<PathBuf>, Failure> {
        if raw.as_os_str().as_bytes().contains(&0) {
            return Err(self.refuse(raw, "has a NUL in its name"));
        }
        let mut name = PathBuf::new();
        for part in raw.components() {
            match part {
                Component::Normal(part) => name.push(part),
                Component::CurDir => {}
                Component::ParentDir => return Err(self.refuse(raw, "leads out of the folder")),
                _ => return Err(self.refuse(raw, "has an absolute name")),
            }
        }
        if raw.as_os_str().is_empty() {
            return Err(unsafe_archive(self.archive, "an entry has no name"));
        }
        Ok((!name.as_os_str().is_empty()).then_some(name))
    }

    /// Counts what a file takes, or long names. A hole takes nothing, neither here nor where it is extracted to.
    fn count(&mut self, bytes: u64) -> Result<(), Failure> {
        self.content = self.content.saturating_add(bytes);
        if self.content <= self.most {
            return Ok(());
        }
        let unit = |bytes| crate::base::units::bytes(bytes);
        let (why, hint) = if self.most == self.limits.size {
            (format!("it holds more than {}", unit(self.most)), "`max_size`")
        } else {
            let times = format!("more than {} times", self.limits.ratio);
            (format!("it holds {times} its own size, {} and more", unit(self.most)), "`max_ratio`")
        };
        Err(unsafe_archive(self.archive, why)
            .hint(format!("Nothing was written. If it is meant to, raise the limit: {hint}.")))
    }
}
