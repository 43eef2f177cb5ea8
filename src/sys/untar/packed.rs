//! What an archive holds, as few bytes.

use crate::sys::spill::{Packed, Unpack, put_bytes, put_number};
use crate::sys::stream::Digest;
use crate::sys::untar::{Attributes, Item, What};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(super) fn put_path(out: &mut Vec<u8>, path: &Path) {
    put_bytes(out, path.as_os_str().as_bytes());
}

pub(super) fn path(from: &mut Unpack<'_>) -> Option<PathBuf> {
    Some(OsStr::from_bytes(from.bytes()?).into())
}

pub(super) fn flag(from: &mut Unpack<'_>) -> Option<bool> {
    Some(from.number()? != 0)
}

impl Packed for Attributes {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self { mode, modified: (seconds, nanos), owner } = self;
        put_number(out, (*mode).into());
        put_number(out, seconds.cast_unsigned());
        put_number(out, (*nanos).into());
        put_number(out, owner.is_some().into());
        for number in owner.iter().flat_map(|(user, group)| [user, group]) {
            put_number(out, (*number).into());
        }
    }

    fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        let mode = from.small()?;
        let modified = (from.number()?.cast_signed(), from.small()?);
        let owner = if flag(from)? { Some((from.small()?, from.small()?)) } else { None };
        Some(Self { mode, modified, owner })
    }
}

impl Packed for What {
    fn pack(&self, out: &mut Vec<u8>) {
        match self {
            Self::Folder => out.push(0),
            Self::File { size, stored, holes, sha256, first } => {
                out.push(if first.is_some() { 2 } else { 1 });
                put_number(out, *size);
                put_number(out, *stored);
                put_number(out, (*holes).into());
                out.extend_from_slice(&sha256.0);
                if let Some(first) = first {
                    put_path(out, first);
                }
            }
            Self::Link { to } => {
                out.push(3);
                put_path(out, to);
            }
        }
    }

    fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        let kind = from.number()?;
        Some(match kind {
            0 => Self::Folder,
            1 | 2 => Self::File {
                size: from.number()?,
                stored: from.number()?,
                holes: flag(from)?,
                sha256: Digest(from.take(32)?.try_into().ok()?),
                first: if kind == 2 { Some(path(from)?) } else { None },
            },
            3 => Self::Link { to: path(from)? },
            _ => return None,
        })
    }
}

impl Packed for Item {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self { name, number, what, attributes, taken } = self;
        put_path(out, name);
        put_number(out, *number);
        what.pack(out);
        attributes.pack(out);
        put_number(out, (*taken).into());
    }

    fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        Some(Self {
            name: path(from)?,
            number: from.number()?,
            what: What::unpack(from)?,
            attributes: Attributes::unpack(from)?,
            taken: flag(from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_is_unpacked_as_it_was() {
        let file = |first: Option<&str>| What::File {
            size: u64::MAX,
            stored: 300,
            holes: first.is_some(),
            sha256: Digest([0xf1; 32]),
            first: first.map(Into::into),
        };
        for what in [What::Folder, file(None), file(Some("a/b")), What::Link { to: "../c".into() }] {
            for owner in [None, Some((0, u32::MAX))] {
                let attributes = Attributes { mode: 0o755, modified: (-5, 999_999_999), owner };
                let name = OsStr::from_bytes(b"a/\xff\n").into();
                let item =
                    Item { name, number: 1 << 40, what: what.clone(), attributes, taken: owner.is_some() };
                let mut packed = Vec::new();
                item.pack(&mut packed);
                let mut from = Unpack(&packed);
                assert_eq!(Item::unpack(&mut from), Some(item));
                assert!(from.0.is_empty());
                assert_eq!(Item::unpack(&mut Unpack(&packed[..packed.len() - 1])), None);
            }
        }
    }
}
