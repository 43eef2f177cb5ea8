//! Trees of files: walking them in a stable order, and writing them as tar.

use crate::base::failure::{Code, Failure};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Which paths below a root are meant.
#[derive(Clone, Debug)]
pub struct Selection {
    include: GlobSet,
    exclude: GlobSet,
    reaches: Vec<Reach>,
    everything: bool,
}

/// Where an include pattern can match: folders elsewhere need not be entered.
#[derive(Clone, Debug)]
struct Reach {
    /// The part of the pattern before its first wildcard.
    prefix: PathBuf,
    /// How many names a path that it matches has; `None` for any number.
    depth: Option<usize>,
}

impl Reach {
    fn of(pattern: &str) -> Self {
        // Alternatives may hold separators.
        let any = pattern.contains("**") || pattern.contains('{');
        Self { prefix: literal_prefix(pattern), depth: (!any).then(|| pattern.split('/').count()) }
    }

    fn may_match_below(&self, folder: &Path) -> bool {
        self.prefix.starts_with(folder)
            || (folder.starts_with(&self.prefix)
                && self.depth.is_none_or(|depth| folder.components().count() < depth))
    }
}

impl Selection {
    /// Compiles the patterns; no include pattern means everything.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, Failure> {
        Ok(Self {
            include: globs(include)?,
            exclude: globs(exclude)?,
            reaches: include.iter().map(|pattern| Reach::of(trimmed(pattern))).collect(),
            everything: include.is_empty(),
        })
    }

    /// Whether it takes a path, given relative to the root.
    pub fn takes(&self, relative: &Path) -> bool {
        // A pattern that matches a folder takes all that is below it.
        self.everything || relative.ancestors().any(|path| self.include.is_match(path))
    }

    /// Whether an exclude pattern matches a path or a folder above it.
    pub fn leaves_out(&self, relative: &Path) -> bool {
        relative.ancestors().any(|path| self.exclude.is_match(path))
    }

    /// Whether something in a folder may be taken.
    pub fn may_hold(&self, folder: &Path) -> bool {
        self.everything
            || self.takes(folder)
            || self.reaches.iter().any(|reach| reach.may_match_below(folder))
    }

    /// The part of each include pattern before its first wildcard.
    pub fn prefixes(&self) -> impl Iterator<Item = &Path> {
        self.reaches.iter().map(|reach| reach.prefix.as_path())
    }
}

fn trimmed(pattern: &str) -> &str {
    pattern.trim_start_matches("./").trim_end_matches('/')
}

fn globs(patterns: &[String]) -> Result<GlobSet, Failure> {
    let wrong = |pattern: &str, cause: String| {
        Failure::new(Code::Usage, format!("the pattern `{pattern}` cannot be understood"))
            .caused_by(cause)
            .hint("Patterns are globs relative to the archive's root: `*`, `?`, `[ab]`, `{a,b}`, and `**/` for any depth.")
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if pattern.starts_with('/') || Path::new(pattern).components().any(|part| part.as_os_str() == "..") {
            return Err(wrong(pattern, "it leaves the archive's root".to_owned()));
        }
        let glob = GlobBuilder::new(trimmed(pattern))
            .literal_separator(true)
            .build()
            .map_err(|error| wrong(pattern, error.kind().to_string()))?;
        set.add(glob);
    }
    set.build().map_err(|error| wrong("", error.to_string()))
}

fn literal_prefix(pattern: &str) -> PathBuf {
    pattern.split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).collect()
}

/// One thing to be archived.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Its name in the archive.
    pub name: PathBuf,
    /// Bytes of content; 0 for what is no regular file.
    pub size: u64,
}

/// The folder in which a tree keeps what was replaced in it. It belongs to no archive of the tree.
pub const KEPT: &str = ".lifeboat-kept";

/// Walks a tree by name, folders before what they hold. Folders in `own`, what is kept of replaced files, and what the
/// selection leaves out are not entered. An `Err` says what could not be read and why.
pub fn walk<'a>(
    root: &'a Path,
    selection: &'a Selection,
    own: &'a [PathBuf],
) -> impl Iterator<Item = Result<Entry, String>> + 'a {
    let relative = move |path: &Path| path.strip_prefix(root).map(Path::to_path_buf).unwrap_or_default();
    let walker = WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().filter_entry(move |entry| {
        let name = relative(entry.path());
        let is_dir = entry.file_type().is_dir();
        !selection.exclude.is_match(&name)
            && !own.iter().any(|dir| entry.path() == dir)
            && (!is_dir || (entry.file_name() != KEPT && selection.may_hold(&name)))
    });
    let mut seen = BTreeSet::new();
    walker.flat_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().map(|path| relative(path).display().to_string()).unwrap_or_default();
                let cause = error.io_error().map_or_else(|| "a loop of links".to_owned(), reason);
                return vec![Err(format!("{path}: {cause}"))];
            }
        };
        let name = relative(entry.path());
        if !selection.takes(&name) {
            return Vec::new();
        }
        // The folders above an entry come with it, so that their permissions are kept.
        let mut found = Vec::new();
        let above: Vec<&Path> =
            name.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        for folder in above.into_iter().rev() {
            if seen.insert(folder.to_path_buf()) {
                found.push(Ok(Entry { path: root.join(folder), name: folder.to_path_buf(), size: 0 }));
            }
        }
        if entry.file_type().is_dir() && !seen.insert(name.clone()) {
            return found;
        }
        match entry.metadata() {
            Ok(metadata) => {
                let size = if metadata.is_file() { metadata.len() } else { 0 };
                found.push(Ok(Entry { path: entry.path().to_path_buf(), name, size }));
            }
            Err(error) => {
                let cause = error.io_error().map_or_else(|| error.to_string(), reason);
                found.push(Err(format!("{}: {cause}", name.display())));
            }
        }
        found
    })
}

/// The folders below `root` that may hold what the selection takes, the root first. Those in `own` are not entered.
pub fn folders(root: &Path, selection: &Selection, own: &[PathBuf]) -> Vec<PathBuf> {
    let walker = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(|entry| {
        let name = entry.path().strip_prefix(root).unwrap_or(Path::new(""));
        entry.file_type().is_dir()
            && entry.file_name() != KEPT
            && !own.iter().any(|dir| entry.path() == dir)
            && !selection.exclude.is_match(name)
            && selection.may_hold(name)
    });
    // What cannot be entered holds nothing that could be taken.
    walker.filter_map(|entry| Some(entry.ok()?.into_path())).collect()
}

/// Writes entries as a tar archive that GNU tar, bsdtar and Python read.
pub struct TarWriter<W: Write> {
    tar: tar::Builder<W>,
    /// First name of each file that has several.
    names: HashMap<(u64, u64), PathBuf>,
    entries: u64,
}

impl<W: Write> TarWriter<W> {
    /// A writer to `out`.
    pub fn new(out: W) -> Self {
        let mut tar = tar::Builder::new(out);
        tar.follow_symlinks(false);
        Self { tar, names: HashMap::new(), entries: 0 }
    }

    /// Appends an entry; returns what could not be read of it, in words. An error of the archive itself is a failure.
    pub fn append(&mut self, entry: &Entry) -> Result<Option<String>, Failure> {
        let shown = entry.name.display();
        let metadata = match std::fs::symlink_metadata(&entry.path) {
            Ok(metadata) => metadata,
            Err(error) => return Ok(Some(format!("{shown}: {}", reason(&error)))),
        };
        let kind = metadata.file_type();
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&metadata);
        if metadata.mtime() < 0 {
            set_time_before_1970(&mut header, metadata.mtime());
        }
        header.set_size(0);
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            self.write(|tar| tar.append_data(&mut header, entry.name.join(""), io::empty()))?;
        } else if kind.is_symlink() {
            let target = match std::fs::read_link(&entry.path) {
                Ok(target) => target,
                Err(error) => return Ok(Some(format!("{shown}: {}", reason(&error)))),
            };
            header.set_entry_type(tar::EntryType::Symlink);
            self.write(|tar| tar.append_link(&mut header, &entry.name, &target))?;
        } else if kind.is_file() {
            return self.append_file(entry, &metadata, header);
        } else if kind.is_fifo() {
            header.set_entry_type(tar::EntryType::Fifo);
            self.write(|tar| tar.append_data(&mut header, &entry.name, io::empty()))?;
        } else {
            let what = if kind.is_socket() { "a socket" } else { "a device" };
            return Ok(Some(format!("{shown}: {what} cannot be archived")));
        }
        Ok(None)
    }

    fn append_file(
        &mut self,
        entry: &Entry,
        metadata: &Metadata,
        mut header: tar::Header,
    ) -> Result<Option<String>, Failure> {
        let identity = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1
            && let Some(first) = self.names.get(&identity).cloned()
        {
            header.set_entry_type(tar::EntryType::Link);
            self.write(|tar| tar.append_link(&mut header, &entry.name, &first))?;
            return Ok(None);
        }
        let file = match open_regular(&entry.path) {
            Ok(file) => file,
            Err(error) => return Ok(Some(format!("{}: {}", entry.name.display(), reason(&error)))),
        };
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(metadata.len());
        let mut content = Exactly { file, left: metadata.len(), problem: None };
        self.write(|tar| tar.append_data(&mut header, &entry.name, &mut content))?;
        if metadata.nlink() > 1 {
            self.names.insert(identity, entry.name.clone());
        }
        Ok(content.finish().map(|problem| format!("{}: {problem}", entry.name.display())))
    }

    fn write(&mut self, step: impl FnOnce(&mut tar::Builder<W>) -> io::Result<()>) -> Result<(), Failure> {
        step(&mut self.tar).map_err(stream_failure)?;
        self.entries += 1;
        Ok(())
    }

    /// Ends the archive; returns the writer and the number of entries.
    pub fn end(self) -> Result<(W, u64), Failure> {
        let entries = self.entries;
        self.tar.into_inner().map(|out| (out, entries)).map_err(stream_failure)
    }
}

/// Times before 1970 as GNU tar writes them: 96 bits in two's complement.
fn set_time_before_1970(header: &mut tar::Header, seconds: i64) {
    let field = &mut header.as_old_mut().mtime;
    field.fill(0xff);
    field[4..].copy_from_slice(&seconds.to_be_bytes());
}

/// The failure of the stream that an `io::Error` carries.
fn stream_failure(error: io::Error) -> Failure {
    let text = error.to_string();
    match error.into_inner().map(|inner| inner.downcast::<Failure>()) {
        Some(Ok(failure)) => *failure,
        _ => Failure::new(Code::Io, "cannot write the archive").caused_by(text),
    }
}

/// Opens a file without following a link and without waiting for a pipe that took its place.
fn open_regular(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file any more")) }
}

/// Exactly as many bytes as the header promised, whatever happens to the file meanwhile.
struct Exactly {
    file: File,
    left: u64,
    problem: Option<String>,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let mut got = 0;
        if self.problem.is_none() {
            match self.file.read(&mut buffer[..want]) {
                Ok(n) => got = n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    self.problem = Some(format!("{}; the rest is filled with zeros", reason(&error)))
                }
            }
        }
        if got == 0 {
            self.problem.get_or_insert_with(|| {
                "it shrank while it was read; the rest is filled with zeros".to_owned()
            });
            buffer[..want].fill(0);
            got = want;
        }
        self.left -= got as u64;
        Ok(got)
    }
}

impl Exactly {
    fn finish(mut self) -> Option<String> {
        if self.problem.is_none() && matches!(self.file.read(&mut [0]), Ok(1)) {
            self.problem = Some("it grew while it was read; the archive holds its beginning".to_owned());
        }
        self.problem
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it vanished".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(root: &Path, include: &[&str], exclude: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let selection = Selection::new(&owned(include), &owned(exclude)).unwrap();
        walk(root, &selection, &[root.join("own")])
            .map(|entry| entry.unwrap().name.display().to_string())
            .collect()
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a.json", "z.txt", "sub/b.json", "sub/deep/c.json", "other/d.txt", "own/e.json"] {
            let at = dir.path().join(path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, path).unwrap();
        }
        dir
    }

    #[test]
    fn patterns_are_anchored_and_order_is_stable() {
        let dir = tree();
        let root = dir.path();
        assert_eq!(names(root, &["*.json"], &[]), ["a.json"]);
        assert_eq!(
            names(root, &["**/*.json"], &[]),
            ["a.json", "sub", "sub/b.json", "sub/deep", "sub/deep/c.json"]
        );
        assert_eq!(names(root, &["sub/"], &["**/deep"]), ["sub", "sub/b.json"]);
        assert_eq!(names(root, &["sub/deep/*"], &[]), ["sub", "sub/deep", "sub/deep/c.json"]);
        assert_eq!(names(root, &[], &["sub", "*.txt"]), ["a.json", "other", "other/d.txt"]);
    }

    #[test]
    fn only_folders_that_may_hold_something_are_entered() {
        let dir = tree();
        let entered = |include: &str| {
            let selection = Selection::new(&[include.to_owned()], &[]).unwrap();
            let folders = folders(dir.path(), &selection, &[dir.path().join("own")]);
            let name = |path: &PathBuf| path.strip_prefix(dir.path()).unwrap().display().to_string();
            folders.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(entered("*.json"), [""]);
        assert_eq!(entered("**/*.json"), ["", "other", "sub", "sub/deep"]);
        assert_eq!(entered("sub/*.json"), ["", "sub"]);
        assert_eq!(entered("sub/*"), ["", "sub", "sub/deep"]);
        assert_eq!(entered("s*"), ["", "sub", "sub/deep"]);
        assert_eq!(entered("{other/d,a}*"), ["", "other", "sub", "sub/deep"]);
    }

    #[test]
    fn a_pattern_that_leaves_the_root_is_refused() {
        for pattern in ["/etc/*", "../x", "a/../../b"] {
            let failure = Selection::new(&[pattern.to_owned()], &[]).unwrap_err();
            assert_eq!(failure.message, format!("the pattern `{pattern}` cannot be understood"));
            assert_eq!(failure.causes, ["it leaves the archive's root"]);
        }
        let failure = Selection::new(&["a[".to_owned()], &[]).unwrap_err();
        assert_eq!(failure.causes, ["unclosed character class; missing ']'"]);
    }

    #[test]
    fn links_permissions_times_and_odd_names_survive() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let long = "n".repeat(180);
        std::fs::create_dir_all(root.join(&long)).unwrap();
        std::fs::write(root.join(&long).join("ünï \\ \n file"), "content").unwrap();
        std::fs::write(root.join("plain"), "x".repeat(1500)).unwrap();
        std::fs::set_permissions(root.join("plain"), std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::hard_link(root.join("plain"), root.join("second")).unwrap();
        symlink("nowhere", root.join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let when = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
        File::open(root.join("plain")).unwrap().set_modified(when).unwrap();

        let selection = Selection::new(&[], &[]).unwrap();
        let mut tar = TarWriter::new(Vec::new());
        let mut problems = Vec::new();
        for entry in walk(&root, &selection, &[]) {
            problems.extend(tar.append(&entry.unwrap()).unwrap());
        }
        let (bytes, entries) = tar.end().unwrap();
        assert_eq!((entries, problems), (6, vec!["socket: a socket cannot be archived".to_owned()]));

        let out = dir.path().join("out");
        tar::Archive::new(&bytes[..]).unpack(&out).unwrap();
        assert_eq!(std::fs::read_to_string(out.join(&long).join("ünï \\ \n file")).unwrap(), "content");
        let plain = std::fs::metadata(out.join("plain")).unwrap();
        assert_eq!((plain.len(), plain.mode() & 0o777, plain.mtime()), (1500, 0o640, 1_600_000_000));
        assert_eq!(plain.ino(), std::fs::metadata(out.join("second")).unwrap().ino());
        assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("nowhere"));
    }

    #[test]
    fn a_file_that_shrinks_or_grows_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "12345").unwrap();
        let read = |promised| {
            let mut content = Exactly { file: File::open(&path).unwrap(), left: promised, problem: None };
            let mut all = Vec::new();
            content.read_to_end(&mut all).unwrap();
            (all, content.finish())
        };
        assert_eq!(read(5), (b"12345".to_vec(), None));
        let (bytes, problem) = read(7);
        assert_eq!(bytes, b"12345\0\0");
        assert_eq!(problem.unwrap(), "it shrank while it was read; the rest is filled with zeros");
        let (bytes, problem) = read(3);
        assert_eq!(bytes, b"123");
        assert_eq!(problem.unwrap(), "it grew while it was read; the archive holds its beginning");
    }
}
