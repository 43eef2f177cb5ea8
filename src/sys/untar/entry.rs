//! One entry of a tar archive: what its headers say, and whether that may be believed.

use crate::sys::untar::entries::Head;
use crate::sys::untar::shown;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use tar::PaxExtensions;

/// Why an entry of this kind is not extracted.
pub(super) fn unfit(kind: tar::EntryType) -> String {
    if kind.is_fifo() {
        "is a pipe".to_owned()
    } else if kind.is_character_special() || kind.is_block_special() {
        "is a device".to_owned()
    } else {
        format!("is of the unknown kind `{}`", kind.as_byte().escape_ascii())
    }
}

/// Whether a link leads to somewhere in the tree. `..` may only stand at the beginning of its target: behind a name that
/// may be a link itself nobody can tell where it leads.
pub(super) fn stays_inside(name: &Path, to: &Path) -> Result<(), String> {
    let out = |why: &str| Err(format!("is a link to `{}`, {why}", shown(to)));
    if to.as_os_str().is_empty() {
        return out("which is no path");
    }
    if to.as_os_str().as_bytes().contains(&0) {
        return out("which has a NUL in it");
    }
    let mut depth = name.components().count() - 1;
    let mut descended = false;
    for part in to.components() {
        match part {
            Component::Normal(_) => descended = true,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 && !descended => depth -= 1,
            _ => return out("which leads out of the folder"),
        }
    }
    Ok(())
}

/// What an entry's headers say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its permissions, without setuid, setgid and sticky bits.
    pub mode: u32,
    /// Seconds and nanoseconds of its modification since 1970.
    pub modified: (i64, u32),
    /// Numbers of its user and group, if it tells them.
    pub owner: Option<(u32, u32)>,
}

impl Attributes {
    pub(super) fn of(head: &Head) -> Result<Self, String> {
        let header = &head.header;
        let wrong = |error: io::Error| format!("has a header that cannot be understood: {error}");
        let mode = header.mode().map_err(wrong)? & 0o777;
        // Blank fields are no rarity, and neither owner nor time is worth refusing an archive for.
        let number = |number: io::Result<u64>| number.ok().and_then(|n| u32::try_from(n).ok());
        let owner = number(header.uid()).zip(number(header.gid()));
        let mut modified = (header.mtime().unwrap_or(0).cast_signed(), 0);
        for extension in PaxExtensions::new(&head.extensions) {
            let extension = extension.map_err(wrong)?;
            let key = extension.key_bytes();
            if key.starts_with(b"GNU.sparse.") {
                return Err("is a sparse file in the POSIX format, which is not understood".to_owned());
            }
            if key == b"mtime" {
                modified = extension.value().ok().and_then(time).unwrap_or(modified);
            }
        }
        Ok(Self { mode, modified, owner })
    }
}

/// A time as pax writes it: seconds with a fraction.
fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let nanos: u32 =
        if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").get(..9)?.parse().ok()? };
    // A fraction counts away from zero, nanoseconds always upwards.
    Some(if whole.starts_with('-') && nanos > 0 {
        (seconds - 1, 1_000_000_000 - nanos)
    } else {
        (seconds, nanos)
    })
}
