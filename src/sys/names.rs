//! The names in a folder, read without making anything of each: a folder of backups may hold 300,000.

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Bytes of names that are read at once.
const AT_ONCE: usize = 1 << 17;

/// Opens a folder to be read and looked into.
///
/// # Errors
/// `NotFound` if it is not there, and whatever keeps it from being opened.
pub fn open(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, dir, flags, Mode::empty())?)
}

/// Hands each name in an open folder to `take`, as far as it is UTF-8, in no order. `.` and `..` are left out.
///
/// # Errors
/// Whatever keeps it from being read.
pub fn each(folder: impl AsFd, mut take: impl FnMut(&str)) -> io::Result<()> {
    let mut room: Vec<u8> = Vec::with_capacity(AT_ONCE);
    let mut entries = RawDir::new(folder, room.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        if let Ok(name) = entry?.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            take(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn all_names_are_handed_out_however_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        // More than are read at once.
        let names: BTreeSet<String> = (0..2000).map(|number| format!("{number:0>100}.sql.gz")).collect();
        for name in &names {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::write(dir.path().join(OsStr::from_bytes(b"\xff.sql")), "").unwrap();
        let mut found = BTreeSet::new();
        each(open(dir.path()).unwrap(), |name| assert!(found.insert(name.to_owned()))).unwrap();
        assert_eq!(found, names);
        let missing = open(&dir.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
