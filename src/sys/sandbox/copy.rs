//! Copying into a sandbox. Backups are linked, since nobody ever writes into one; the rest is copied.

use crate::base::cancel::Cancel;
use crate::base::drill::Start;
use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::fs;
use crate::sys::store;
use crate::sys::stream::{Width, cores, ordered};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, FileTimes, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Folders, at any depth, that can be made again and would cost much room.
const CACHES: [&str; 4] = [".git", "node_modules", ".venv", "__pycache__"];
/// Folders of the project's root that nothing is restored to or from.
const OF_ROOT: [&str; 2] = ["target", "logs"];
/// What an empty start leaves of a project beside its backups.
const KEPT: [&str; 3] = ["playbooks", "stdlib", "lifeboat.toml"];
/// More entries than this are no configuration: such a tree is not copied.
const MOST: usize = 200_000;
/// How much is copied before it is asked whether to go on, in bytes.
const CHUNK: u64 = 16 << 20;
/// Threads that copy, at least, and files that one copies at a time.
const COPYING: usize = 4;
const TOGETHER: usize = 32;
/// How much of the free room a copy may take: who works here must not feel it.
const SHARE: u64 = 2;

/// What is copied, and how.
pub(super) struct Taking<'a> {
    pub start: Start,
    /// Whether programs run in the sandbox: then a backup is copied, since a link would let them write into the real one.
    pub programs_run: bool,
    pub project: &'a Path,
    pub state: &'a Path,
    pub cancel: &'a Cancel,
    /// Where a path of the real machine lies in the sandbox.
    pub inside: &'a dyn Fn(&Path) -> PathBuf,
}

/// What became of a copy.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Folders, in the sandbox, that hold backups.
    pub backups: BTreeSet<PathBuf>,
    /// What was left out, as names relative to the project.
    pub left_out: BTreeSet<String>,
    /// Paths of the sandbox whose originals could not be read, and why.
    pub unread: BTreeMap<PathBuf, String>,
    /// Paths outside of the project that links lead to.
    pub led_to: Vec<PathBuf>,
    /// Real folders that symbolic links in the sandbox lead to.
    pub linked: BTreeSet<PathBuf>,
}

impl Copied {
    /// Adds what became of another copy.
    pub fn add(&mut self, other: Self) {
        self.backups.extend(other.backups);
        self.left_out.extend(other.left_out);
        self.linked.extend(other.linked);
        self.unread.extend(other.unread);
    }
}

impl Copied {
    /// Notes what could not be read. What needs it cannot be rehearsed; the rest can.
    fn leave_unread(&mut self, name: String, to: &Path, failure: &Failure) {
        self.left_out.insert(format!("{name} (cannot be read)"));
        self.unread.insert(to.to_path_buf(), failure.to_string());
    }
}

/// One thing to copy.
enum Item {
    Dir { from: PathBuf, to: PathBuf },
    File { from: PathBuf, to: PathBuf },
    Backup { from: PathBuf, to: PathBuf },
    Link { to: PathBuf, leads: PathBuf },
}

#[derive(Default)]
struct List {
    items: Vec<Item>,
    bytes: u64,
    copied: Copied,
}

impl Taking<'_> {
    /// Copies a file or tree.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<Copied, Failure> {
        let mut list = List::default();
        let metadata = std::fs::metadata(from).map_err(|error| Failure::io("read", from, &error))?;
        if metadata.is_dir() {
            self.dir(from, to, &mut list)?;
        } else {
            let backups = from.parent().map(names_of_backups).transpose()?.unwrap_or_default();
            self.file(from, to, &metadata, &backups, &mut list);
            for suffix in store::SIDECARS {
                let sidecar = store::sidecar(from, suffix);
                if let Ok(metadata) = std::fs::metadata(&sidecar) {
                    self.file(&sidecar, &store::sidecar(to, suffix), &metadata, &backups, &mut list);
                }
            }
        }
        self.check_room(from, to, list.bytes)?;
        if let Some(parent) = to.parent() {
            fs::create_dir(parent)?;
        }
        let mut unread = Vec::new();
        let mut files = Vec::new();
        for item in &list.items {
            self.cancel.check()?;
            match (self.make(item, &mut list.copied), item) {
                (Ok(()), Item::File { from, to }) => files.push((from.as_path(), to.as_path())),
                (Ok(()), _) => {}
                (Err(failure), Item::Backup { from, to }) if File::open(from).is_err() => {
                    unread.push((from.as_path(), to.as_path(), failure));
                }
                (Err(failure), _) => return Err(failure),
            }
        }
        copied_at_once(&files, self.cancel, &mut unread)?;
        for (from, to, failure) in unread {
            let _ = std::fs::remove_file(to);
            list.copied.leave_unread(self.shown(from), to, &failure);
        }
        Ok(list.copied)
    }

    fn dir(&self, from: &Path, to: &Path, list: &mut List) -> Result<(), Failure> {
        self.cancel.check()?;
        let entries = match std::fs::read_dir(from) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && from != self.project => {
                let failure = Failure::io("list", from, &error);
                list.copied.leave_unread(self.shown(from), to, &failure);
                return Ok(());
            }
            entries => entries.map_err(|error| Failure::io("list", from, &error))?,
        };
        // Where a backup cannot be looked at, its folder is copied as any other, and says so when that file is read.
        let backups = names_of_backups(from).unwrap_or_default();
        if !backups.is_empty() {
            list.copied.backups.insert(to.to_path_buf());
        }
        list.items.push(Item::Dir { from: from.to_path_buf(), to: to.to_path_buf() });
        let began = list.items.len();
        for entry in entries {
            let entry = entry.map_err(|error| Failure::io("list", from, &error))?;
            if list.items.len() > MOST {
                return Err(Failure::new(Code::Io, format!("`{}` is too large to rehearse", from.display()))
                    .caused_by(format!("it holds more than {MOST} files")));
            }
            self.entry(&entry.path(), &to.join(entry.file_name()), &backups, list)?;
        }
        // An empty start has no folders but those of what is left.
        if self.start == Start::Empty && list.items.len() == began && from != self.project {
            list.items.pop();
        }
        Ok(())
    }

    fn entry(
        &self,
        from: &Path,
        to: &Path,
        backups: &BTreeSet<String>,
        list: &mut List,
    ) -> Result<(), Failure> {
        let metadata = match std::fs::symlink_metadata(from) {
            Ok(metadata) => metadata,
            // Somebody works here: what is gone by now is not copied.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Failure::io("look at", from, &error)),
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            if from == self.state {
                return Ok(());
            }
            if self.is_left_out(from) {
                self.leave_out(self.shown(from), list);
                return Ok(());
            }
            return self.dir(from, to, list);
        }
        if kind.is_symlink() {
            return self.link(from, to, list);
        }
        if !kind.is_file() {
            self.leave_out(format!("{} (no file)", self.shown(from)), list);
            return Ok(());
        }
        self.file(from, to, &metadata, backups, list);
        Ok(())
    }

    fn file(&self, from: &Path, to: &Path, metadata: &Metadata, backups: &BTreeSet<String>, list: &mut List) {
        let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What another run is just writing is nothing yet.
        if name.starts_with('.') && name.ends_with(fs::STAGED_SUFFIX) {
            return;
        }
        let is_sidecar = || {
            let of = |end: &str| name.strip_suffix(end).is_some_and(|name| backups.contains(name));
            store::SIDECARS.into_iter().any(of)
        };
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        if backups.contains(&name) {
            if self.programs_run {
                list.bytes += metadata.len();
            }
            list.copied.backups.extend(to.parent().map(Path::to_path_buf));
            list.items.push(Item::Backup { from, to });
        } else if self.start == Start::Latest || is_sidecar() || self.is_kept(&from) {
            list.bytes += metadata.len();
            list.items.push(Item::File { from, to });
        }
    }

    /// A link keeps leading where it led: within the copy, or to the copy of what lies outside.
    fn link(&self, from: &Path, to: &Path, list: &mut List) -> Result<(), Failure> {
        let leads = std::fs::read_link(from).map_err(|error| Failure::io("read", from, &error))?;
        let absolute = lexical(&from.parent().unwrap_or(from).join(&leads));
        let is_within = absolute.starts_with(self.project) && from.starts_with(self.project);
        if self.start == Start::Empty && is_within && !self.is_kept(from) {
            return Ok(());
        }
        let leads = if is_within && leads.is_relative() { leads } else { (self.inside)(&absolute) };
        if !is_within {
            list.copied.led_to.push(absolute);
        }
        list.items.push(Item::Link { to: to.to_path_buf(), leads });
        Ok(())
    }

    fn is_left_out(&self, dir: &Path) -> bool {
        let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { return false };
        CACHES.contains(&name) || (OF_ROOT.contains(&name) && dir.parent() == Some(self.project))
    }

    fn is_kept(&self, path: &Path) -> bool {
        KEPT.iter().any(|name| path.starts_with(self.project.join(name)))
    }

    /// Notes what a copy goes without. An empty start goes without everything, which its name says.
    fn leave_out(&self, what: String, list: &mut List) {
        if self.start == Start::Latest {
            list.copied.left_out.insert(what);
        }
    }

    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.project).unwrap_or(path).display().to_string()
    }

    fn check_room(&self, from: &Path, to: &Path, bytes: u64) -> Result<(), Failure> {
        let space = fs::disk_space(to)?;
        if bytes <= space.available / SHARE {
            return Ok(());
        }
        Err(Failure::new(
            Code::DiskFull,
            format!("there is no room for a scratch copy of `{}`", from.display()),
        )
        .caused_by(format!(
            "it takes {}, and {} are free; a drill takes at most half of that",
            units::bytes(bytes),
            units::bytes(space.available)
        ))
        .hint("Make room, or set LIFEBOAT_STATE to a folder on a larger disk: the copy is made there."))
    }

    fn make(&self, item: &Item, copied: &mut Copied) -> Result<(), Failure> {
        match item {
            Item::Dir { from, to } => {
                fs::create_dir(to)?;
                // The owner must be able to write, whatever the original allows.
                let _ = std::fs::metadata(from)
                    .map(|metadata| std::fs::set_permissions(to, writable(metadata.permissions())));
                Ok(())
            }
            Item::Link { to, leads } => std::os::unix::fs::symlink(leads, to)
                .map_err(|error| Failure::io("make the link", to, &error)),
            // All are copied when the folders are there.
            Item::File { .. } => Ok(()),
            Item::Backup { from, to } => self.backup(from, to, copied),
        }
    }

    /// A backup shares its blocks with the real one where the file system can do that.
    fn backup(&self, from: &Path, to: &Path, copied: &mut Copied) -> Result<(), Failure> {
        if shares_blocks(from, to) {
            return Ok(());
        }
        if self.programs_run {
            return file(from, to, self.cancel);
        }
        if std::fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        copied.linked.extend(from.parent().map(Path::to_path_buf));
        match std::os::unix::fs::symlink(from, to) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Failure::io("link", to, &error)),
            _ => Ok(()),
        }
    }
}

fn writable(mut permissions: std::fs::Permissions) -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    permissions.set_mode(permissions.mode() | 0o700);
    permissions
}

/// Names of the backups in a folder.
fn names_of_backups(dir: &Path) -> Result<BTreeSet<String>, Failure> {
    Ok(store::scan(dir)?.into_iter().map(|found| found.backup.name).collect())
}

/// A file that could not be read: from where, to where, and why.
type Unread<'a> = (&'a Path, &'a Path, Failure);

/// Copies files by several threads. Where the file system can do that, a copy shares its blocks with the original.
fn copied_at_once<'a>(
    files: &[(&'a Path, &'a Path)],
    cancel: &Cancel,
    unread: &mut Vec<Unread<'a>>,
) -> Result<(), Failure> {
    ordered(
        &Width { threads: cores().max(COPYING), cancel },
        |feed| files.chunks(TOGETHER).try_for_each(|some| feed.send(some)),
        || {
            |some: &[(&'a Path, &'a Path)]| {
                let mut unread: Vec<Unread<'a>> = Vec::new();
                for &(from, to) in some {
                    match file(from, to, cancel) {
                        Err(failure) if File::open(from).is_err() => unread.push((from, to, failure)),
                        copied => copied?,
                    }
                }
                Ok::<_, Failure>(unread)
            }
        },
        |some| {
            unread.extend(some);
            Ok(())
        },
    )
}

/// Copies a file with its permissions and times.
fn file(from: &Path, to: &Path, cancel: &Cancel) -> Result<(), Failure> {
    let copied = File::open(from).and_then(|source| {
        let metadata = source.metadata()?;
        let mut copy = File::create(to)?;
        // A large file must not keep the end waiting that somebody asks for.
        while cancel.check().is_ok() && std::io::copy(&mut (&source).take(CHUNK), &mut copy)? > 0 {}
        std::fs::set_permissions(to, metadata.permissions())?;
        let times = FileTimes::new().set_modified(metadata.modified()?).set_accessed(metadata.accessed()?);
        // A copy of a file that may not be written may not be opened for writing either; its time matters less.
        let _ = File::options().write(true).open(to).and_then(|file| file.set_times(times));
        Ok(())
    });
    cancel.check()?;
    match copied {
        // Somebody works here: what is gone by now is not copied.
        Err(error) if error.kind() == ErrorKind::NotFound && !from.exists() => Ok(()),
        copied => copied.map_err(|error| Failure::io("copy", from, &error)),
    }
}

/// Makes a copy that shares its blocks with the original, if the file system can.
fn shares_blocks(from: &Path, to: &Path) -> bool {
    let (Ok(original), Ok(copy)) = (File::open(from), File::create_new(to)) else { return false };
    if rustix::fs::ioctl_ficlone(&copy, &original).is_ok() {
        let metadata = original.metadata();
        let _ = metadata.and_then(|metadata| {
            copy.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
            copy.set_permissions(metadata.permissions())
        });
        return true;
    }
    let _ = std::fs::remove_file(to);
    false
}

/// A path without `.` and `..`, by its text alone.
pub(super) fn lexical(path: &Path) -> PathBuf {
    use std::path::Component;
    path.components().fold(PathBuf::new(), |mut clean, part| {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
        clean
    })
}
