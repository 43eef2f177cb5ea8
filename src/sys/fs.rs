//! Files: staged writing, publishing, space.

use crate::base::failure::{Code, Failure};
use crate::sys::facts::DiskSpace;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Ends the name of every staged file; the name begins with a dot and holds the run's id.
pub const STAGED_SUFFIX: &str = ".part";

/// Whether something is at `path`, be it a dangling link.
pub fn exists(path: &Path) -> Result<bool, Failure> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(Failure::io("look at", path, &error)),
    }
}

/// The text of a file; `None` if there is no such file.
pub fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| {
            Failure::new(Code::Io, format!("cannot read `{}`", path.display()))
                .caused_by(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()))
        }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Failure::io("read", path, &error)),
    }
}

/// Names of the files in a folder, sorted; none if there is no such folder.
pub fn file_names(dir: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: &io::Error| Failure::io("list", dir, error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(&error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(&error))?;
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// `path` or its nearest ancestor that exists.
pub fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

/// The path with links resolved as far as it exists; the rest is kept as it is.
pub fn resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_path_buf()
}

/// Space of the file system that holds `path`.
pub fn disk_space(path: &Path) -> Result<DiskSpace, Failure> {
    let dir = nearest_existing(path);
    let stat = rustix::fs::statvfs(&dir).map_err(|error| Failure::io("measure", &dir, &error.into()))?;
    Ok(DiskSpace { available: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
}

/// Number of the file system that holds `path` or its nearest existing ancestor.
pub fn device(path: &Path) -> Result<u64, Failure> {
    let dir = nearest_existing(path);
    let stat = rustix::fs::stat(&dir).map_err(|error| Failure::io("look at", &dir, &error.into()))?;
    Ok(stat.st_dev)
}

/// Whether files could be made in `dir` or its nearest existing ancestor.
pub fn writable(dir: &Path) -> Result<bool, Failure> {
    obstacle_to_writing(dir).map(|obstacle| obstacle.is_none())
}

/// Why no files could be made in `dir` or its nearest existing ancestor; `None` if they could.
pub fn obstacle_to_writing(dir: &Path) -> Result<Option<String>, Failure> {
    let dir = nearest_existing(dir);
    if !dir.is_dir() {
        return Ok(Some(format!("`{}` is not a folder", dir.display())));
    }
    match rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::ROFS) => {
            Ok(Some(format!("`{}` is on a read-only file system", dir.display())))
        }
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            Ok(Some(format!("permission denied for `{}`", dir.display())))
        }
        Err(error) => Err(Failure::io("look at", &dir, &error.into())),
    }
}

/// Makes a folder and those above it, 0700 where new.
pub fn create_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::io("create the folder", dir, &error))
}

/// Makes a folder and those above it, with the usual rights where new: for what every user may read.
pub fn create_readable_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::io("create the folder", dir, &error))
}

/// Opens the file of a lock, which stays where it is; 0600 where new.
pub fn open_lock(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::io("open the lock", path, &error))
}

/// A file that is being written under a name of no meaning.
#[derive(Debug)]
pub struct Staged {
    file: File,
    staged: PathBuf,
    target: PathBuf,
    published: bool,
}

/// Where `run` stages what becomes `path`.
///
/// # Errors
/// If `path` is not that of a file.
pub fn staged_path(path: &Path, run: &str) -> Result<PathBuf, Failure> {
    let (dir, name) = split(path)?;
    Ok(dir.join(format!(".{name}.{run}{STAGED_SUFFIX}")))
}

/// Opens a staged file beside `path`.
pub fn stage(path: &Path, run: &str) -> Result<Staged, Failure> {
    let staged = staged_path(path, run)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)
        .map_err(|error| Failure::io("create", path, &error))?;
    // It tells other runs that somebody still writes here. Where files cannot be locked, the folder's lock must do.
    let _ = flock(&file, FlockOperation::LockExclusive);
    tracing::debug!(path = %staged.display(), "staged");
    Ok(Staged { file, staged, target: path.to_path_buf(), published: false })
}

/// Whether somebody may still be writing the staged file at `path`.
pub fn is_being_written(path: &Path) -> bool {
    let file = match File::open(path) {
        Ok(file) => file,
        // That of another user cannot be asked.
        Err(error) => return error.kind() == io::ErrorKind::PermissionDenied,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = flock(&file, FlockOperation::Unlock);
            false
        }
        Err(error) => error == rustix::io::Errno::WOULDBLOCK,
    }
}

impl Staged {
    /// The file, to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Asks the kernel to begin writing what lies before `offset`, so that the final fsync has little left to do.
    pub fn begin_writeback(&mut self, offset: u64) {
        // A hint only: the fsync before publishing is what counts.
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let length = i64::try_from(offset).unwrap_or(0);
            // SAFETY: the descriptor is open as long as `self.file` lives; the call reads no memory of ours.
            #[expect(unsafe_code, reason = "no safe crate offers sync_file_range")]
            let _ = unsafe {
                libc::sync_file_range(self.file.as_raw_fd(), 0, length, libc::SYNC_FILE_RANGE_WRITE)
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = offset;
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.staged
    }

    /// What it becomes.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Whether the final name is this file's.
    pub fn has_name(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (self.file.metadata(), std::fs::symlink_metadata(&self.target)) {
            (Ok(own), Ok(named)) => (own.dev(), own.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    /// Writes it to stable storage, gives it its final name without replacing anything, and makes the name durable. Names
    /// that the folder got before, such as those of sidecars, are durable before this one. After a failure the final name
    /// is not there.
    pub fn publish(&mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| Failure::io("write", &self.staged, &error))?;
        sync_dir(&self.target)?;
        rename_new(&self.staged, &self.target)?;
        self.published = true;
        sync_dir(&self.target).inspect_err(|_| {
            self.published = std::fs::rename(&self.target, &self.staged).is_err();
        })?;
        tracing::debug!(path = %self.target.display(), "published");
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.staged);
        }
    }
}

/// Renames without replacing.
fn rename_new(from: &Path, to: &Path) -> Result<(), Failure> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // File systems without the flag: a hard link does not replace either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            std::fs::hard_link(from, to).map_err(|error| taken_or(to, &error))?;
            // The file has its final name; a second one that stays is a leftover.
            let _ = std::fs::remove_file(from);
            Ok(())
        }
        Err(error) => Err(taken_or(to, &error.into())),
    }
}

fn taken_or(to: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AlreadyExists {
        Failure::new(Code::Io, format!("`{}` exists already", to.display()))
            .hint("Lifeboat never overwrites a backup. Run again in a second, or move that file away.")
    } else {
        Failure::io("publish", to, error)
    }
}

/// Makes the names in the folder of `path` durable.
pub fn sync_dir(path: &Path) -> Result<(), Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Failure::io("write", dir, &error))
}

/// Replaces the content of `path` atomically; the new file is 0600.
pub fn replace(path: &Path, content: &[u8], run: &str) -> Result<(), Failure> {
    replace_with(path, run, |file| file.write_all(content))
}

/// As [`replace`], with what `write` writes.
pub fn replace_with(
    path: &Path,
    run: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut staged = stage(path, run)?;
    let mut buffered = io::BufWriter::with_capacity(1 << 16, &staged.file);
    let written = write(&mut buffered).and_then(|()| buffered.flush());
    drop(buffered);
    let written = written.and_then(|()| staged.file.sync_all());
    written.map_err(|error| Failure::io("write", &staged.staged, &error))?;
    std::fs::rename(&staged.staged, path).map_err(|error| Failure::io("replace", path, &error))?;
    staged.published = true;
    sync_dir(path)?;
    tracing::debug!(path = %path.display(), "replaced");
    Ok(())
}

/// Replaces the content of `path` atomically with what everybody may read; the new file is 0644.
pub fn replace_readable(path: &Path, content: &[u8], name: &str) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let mut staged = stage(path, name)?;
    let readable = std::fs::Permissions::from_mode(0o644);
    let written = staged.file.write_all(content).and_then(|()| staged.file.set_permissions(readable));
    written.map_err(|error| Failure::io("write", path, &error))?;
    std::fs::rename(&staged.staged, path).map_err(|error| Failure::io("replace", path, &error))?;
    staged.published = true;
    Ok(())
}

/// Takes a file's final name away: it becomes a leftover of `run`. `None` if it is gone already.
pub fn hide(path: &Path, run: &str) -> Result<Option<PathBuf>, Failure> {
    let (dir, name) = split(path)?;
    let hidden = dir.join(format!(".{name}.{run}{STAGED_SUFFIX}"));
    match std::fs::rename(path, &hidden) {
        Ok(()) => {
            sync_dir(path)?;
            Ok(Some(hidden))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("remove", path, &error)),
    }
}

/// Writes a new file of mode 0600 to stable storage; one that is there is not replaced, and none is ever there in part.
pub fn write_new(path: &Path, content: &[u8], run: &str) -> Result<(), Failure> {
    let mut staged = stage(path, run)?;
    let written = staged.file.write_all(content).and_then(|()| staged.file.sync_all());
    written.map_err(|error| Failure::io("write", path, &error))?;
    rename_new(&staged.staged, path)?;
    staged.published = true;
    Ok(())
}

/// Opens a file for reading. Nothing that would wait for somebody to write, such as a pipe, counts as a file.
pub fn open(path: &Path) -> Result<File, Failure> {
    let failed = |error: io::Error| Failure::io("read", path, &error);
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(file);
    }
    let what = if kind.is_dir() { "it is a folder" } else { "it is no file that has an end" };
    Err(Failure::new(Code::Io, format!("cannot read `{}`", path.display())).caused_by(what))
}

/// Whether a file begins like a gzip file; an empty one does not.
pub fn is_gzip(path: &Path) -> Result<bool, Failure> {
    let mut magic = [0; 2];
    match open(path)?.read_exact(&mut magic) {
        Ok(()) => Ok(magic == [0x1f, 0x8b]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Failure::io("read", path, &error)),
    }
}

/// The first bytes of a file, at most so many.
pub fn head(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(most as u64).read_to_end(&mut bytes);
    read.map_err(|error| Failure::io("read", path, &error))?;
    Ok(bytes)
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    user() == 0
}

/// The number of the user that the process acts as.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What tells a file from another one, and from itself after it was written to; `None` if it is not there.
pub fn identity(path: &Path) -> Option<[u64; 5]> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    let nanos = |seconds: i64, nanos: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos) as u64;
    let (modified, changed) =
        (nanos(meta.mtime(), meta.mtime_nsec()), nanos(meta.ctime(), meta.ctime_nsec()));
    Some([meta.dev(), meta.ino(), meta.size(), modified, changed])
}

/// Bytes of a file.
pub fn size(path: &Path) -> Result<u64, Failure> {
    std::fs::metadata(path).map(|metadata| metadata.len()).map_err(|error| Failure::io("read", path, &error))
}

/// The name of this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Removes a file and makes that durable; one that is gone already is fine.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Ok(()) => {
            tracing::debug!(path = %path.display(), "removed");
            sync_dir(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io("remove", path, &error)),
    }
}

fn split(path: &Path) -> Result<(&Path, String), Failure> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    match (path.parent(), name) {
        (Some(dir), Some(name)) => Ok((dir, name)),
        _ => Err(Failure::new(Code::Usage, format!("`{}` is not the path of a file", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_published_stays_staged_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.sql.gz");
        let mut staged = stage(&target, "20251110-020000-abcdef").unwrap();
        staged.file().write_all(b"new").unwrap();
        std::fs::write(&target, "old").unwrap();
        let failure = staged.publish().unwrap_err();
        assert_eq!(failure.message, format!("`{}` exists already", target.display()));
        // As long as it is there, a later run knows whose the sidecars are.
        assert_eq!(std::fs::read(staged.path()).unwrap(), b"new");
        assert!(!staged.has_name());
        std::fs::remove_file(&target).unwrap();
        staged.publish().unwrap();
        assert!(staged.has_name());
        drop(staged);
        assert_eq!(file_names(dir.path()).unwrap(), ["a.sql.gz"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
    }
}
