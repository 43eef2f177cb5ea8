use super::archive::written;
use super::*;
use crate::base::cancel::{Cancel, Reason};
use crate::base::failure::{Code, Failure};
use crate::sys::stream::{Block, BlockSink};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

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

/// An archive in memory, with room for `room` bytes.
struct Memory {
    bytes: Vec<u8>,
    room: usize,
}

impl BlockSink for Memory {
    fn buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }
    fn push(&mut self, block: Block) -> Result<(), Failure> {
        if self.bytes.len() + block.bytes.len() > self.room {
            return Err(Failure::new(Code::DiskFull, "cannot write `archive`"));
        }
        self.bytes.extend_from_slice(&block.bytes);
        Ok(())
    }
    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }
}

fn archived(root: &Path, threads: usize, on_read: &(dyn Fn(&Entry) + Sync)) -> (Vec<u8>, Archived) {
    let selection = Selection::new(&[], &[]).unwrap();
    let mut out = Memory { bytes: Vec::new(), room: usize::MAX };
    let entries = walk(root, &selection, &[]);
    let archived = written(entries, threads, on_read, &Cancel::new(), &mut out).unwrap();
    (out.bytes, archived)
}

/// Contents by name, read by the stock tar.
fn contents(archive: &[u8], dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let out = dir.join("restored");
    std::fs::create_dir_all(&out).unwrap();
    let file = dir.join("archive.tar");
    std::fs::write(&file, archive).unwrap();
    let tar = Command::new("tar").arg("-xpf").arg(&file).arg("-C").arg(&out).output().unwrap();
    assert!(tar.status.success() && tar.stderr.is_empty(), "{}", String::from_utf8_lossy(&tar.stderr));
    let selection = Selection::new(&[], &[]).unwrap();
    walk(&out, &selection, &[])
        .map(Result::unwrap)
        .filter(|entry| entry.is_file)
        .map(|entry| (entry.name.display().to_string(), std::fs::read(&entry.path).unwrap()))
        .collect()
}

#[test]
fn links_permissions_times_and_odd_names_survive() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let long = "n".repeat(180);
    let odd = std::ffi::OsStr::from_bytes(&[0xe9; 150]);
    std::fs::create_dir_all(root.join(&long)).unwrap();
    std::fs::write(root.join(&long).join("ünï \\ \n file"), "content").unwrap();
    std::fs::write(root.join("plain"), "x".repeat(1500)).unwrap();
    std::fs::set_permissions(root.join("plain"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::hard_link(root.join("plain"), root.join("second")).unwrap();
    std::fs::write(root.join(odd), "latin").unwrap();
    symlink("nowhere", root.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let when = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    File::open(root.join("plain")).unwrap().set_modified(when).unwrap();

    let (bytes, archived) = archived(&root, 2, &|_| ());
    assert_eq!(
        (archived.entries, archived.problems),
        (7, vec!["socket: a socket cannot be archived".to_owned()])
    );
    contents(&bytes, dir.path());
    let out = dir.path().join("restored");
    assert_eq!(std::fs::read_to_string(out.join(&long).join("ünï \\ \n file")).unwrap(), "content");
    assert_eq!(std::fs::read_to_string(out.join(odd)).unwrap(), "latin");
    let plain = std::fs::metadata(out.join("plain")).unwrap();
    assert_eq!((plain.len(), plain.mode() & 0o777, plain.mtime()), (1500, 0o640, 1_600_000_000));
    assert_eq!(plain.ino(), std::fs::metadata(out.join("second")).unwrap().ino());
    assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("nowhere"));
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..700_usize {
        let folder = dir.path().join(format!("{}/{}", n % 5, n % 17));
        std::fs::create_dir_all(&folder).unwrap();
        // Some are larger than a batch, and some have two names.
        let size = if n % 97 == 0 { (1 << 20) + n } else { n * n % 9000 };
        std::fs::write(folder.join(format!("{n}")), vec![n as u8; size]).unwrap();
        if n % 50 == 0 {
            std::fs::hard_link(folder.join(format!("{n}")), dir.path().join(format!("second {n}"))).unwrap();
        }
    }
    let (one, first) = archived(dir.path(), 1, &|_| ());
    for threads in [2, 7] {
        let (bytes, archived) = archived(dir.path(), threads, &|_| ());
        assert!(bytes == one);
        assert_eq!(archived, first);
    }
    assert_eq!((first.entries, first.problems.len()), (700 + 14 + 5 + 85, 0));
}

#[test]
fn holes_are_neither_read_nor_stored() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    const TIB: u64 = 1 << 40;
    let made = |name: &str, size: u64, pieces: &[u64]| {
        let file = File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        for (n, at) in pieces.iter().enumerate() {
            file.write_all_at(format!("piece {n}").as_bytes(), *at).unwrap();
        }
    };
    made("all hole", TIB, &[]);
    made("both ends", TIB, &[0, TIB - 7]);
    // More pieces than the first header has room for, and than one extension has.
    let many: Vec<u64> = (0..60).map(|n| n * (1 << 20) + 4096).collect();
    made("many", 1 << 30, &many);
    made("small", 300_000, &[200_000]);
    let blocks = |path: &Path| std::fs::metadata(path).unwrap().blocks();
    if blocks(&root.join("all hole")) > 0 {
        // This file system has no holes.
        return;
    }
    let (bytes, archived) = archived(&root, 2, &|_| ());
    assert_eq!((archived.entries, archived.problems.len()), (4, 0));
    assert!(bytes.len() < 1 << 20, "{}", bytes.len());
    let file = dir.path().join("archive.tar");
    std::fs::write(&file, &bytes).unwrap();
    let out = dir.path().join("restored");
    std::fs::create_dir(&out).unwrap();
    let tar = Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(&out).output().unwrap();
    assert!(tar.status.success() && tar.stderr.is_empty(), "{}", String::from_utf8_lossy(&tar.stderr));
    for name in ["all hole", "both ends", "many", "small"] {
        let (there, back) = (root.join(name), out.join(name));
        let metadata = |path: &Path| std::fs::metadata(path).unwrap();
        assert_eq!(metadata(&there).len(), metadata(&back).len(), "{name}");
        assert!(blocks(&back) <= blocks(&there) + 8, "{name}");
    }
    let piece = |name: &str, at: u64, length: usize| {
        let mut bytes = vec![0; length];
        File::open(out.join(name)).unwrap().read_exact_at(&mut bytes, at).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(
        (piece("both ends", 0, 8), piece("both ends", TIB - 7, 7)),
        ("piece 0\0".into(), "piece 1".into())
    );
    for (n, at) in many.iter().enumerate() {
        assert_eq!(piece("many", *at - 1, 9).trim_matches('\0'), format!("piece {n}"));
    }
    assert_eq!(std::fs::read(root.join("small")).unwrap(), std::fs::read(out.join("small")).unwrap());
}

#[test]
fn a_digest_of_pieces_does_not_depend_on_how_the_zeros_are_stored() {
    let mut content = vec![0_u8; 10_000];
    content[700..1500].fill(7);
    content[9_999] = 1;
    let digest = |pieces: &[std::ops::Range<usize>]| {
        let mut digest = HoleyDigest::default();
        for piece in pieces {
            digest.update(piece.start as u64, &content[piece.clone()]);
        }
        digest.end(content.len() as u64)
    };
    let whole = digest(std::slice::from_ref(&(0..10_000)));
    assert_eq!(digest(&[512..1536, 9_728..10_000]), whole);
    assert_eq!(digest(&[700..701, 701..1500, 9_999..10_000]), whole);
    assert_ne!(digest(std::slice::from_ref(&(700..1500))), whole);
    let mut longer = HoleyDigest::default();
    longer.update(0, &content);
    assert_ne!(longer.end(10_001), whole);
}

/// What a file comes to that changes whenever its content was read, up to `times` times.
fn changing(size: usize, times: usize, change: impl Fn(&Path) + Sync) -> (Vec<u8>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    for name in ["a", "m", "z"] {
        std::fs::write(root.join(name), vec![b'1'; size]).unwrap();
    }
    let left = Mutex::new(times);
    let (bytes, archived) = archived(&root, 2, &|entry| {
        let mut left = left.lock().unwrap();
        if entry.name == Path::new("m") && *left > 0 {
            *left -= 1;
            change(&entry.path);
        }
    });
    assert_eq!(archived.entries, 3);
    let mut contents = contents(&bytes, dir.path());
    assert_eq!((contents["a"].len(), contents["z"].len()), (size, size));
    (contents.remove("m").unwrap(), archived.problems)
}

fn append(path: &Path) {
    File::options().append(true).open(path).unwrap().write_all(b"22").unwrap();
}

fn rewrite(path: &Path) {
    let before = std::fs::metadata(path).unwrap();
    std::fs::write(path, vec![b'3'; before.len() as usize]).unwrap();
    // The clock of the file system may not have gone on.
    let other = before.modified().unwrap() - std::time::Duration::from_secs(1);
    File::options().write(true).open(path).unwrap().set_modified(other).unwrap();
}

#[test]
fn a_small_file_that_changes_while_it_is_read_is_read_once_more() {
    assert_eq!(changing(5, 1, append), (b"1111122".to_vec(), vec![]));
    assert_eq!(changing(5, 1, rewrite), (b"33333".to_vec(), vec![]));
    let shrink = |path: &Path| std::fs::write(path, "4").unwrap();
    assert_eq!(changing(5, 1, shrink), (b"4".to_vec(), vec![]));
}

#[test]
fn a_file_that_goes_on_changing_is_reported() {
    let (content, problems) = changing(5, 2, append);
    assert_eq!(content, b"1111122");
    assert_eq!(problems, ["m: it grew while it was read; the archive holds its beginning"]);
    let (content, problems) = changing(5, 2, rewrite);
    assert_eq!(content, b"33333");
    let changed = "m: it changed while it was read; the archive may hold parts of both versions";
    assert_eq!(problems, [changed]);
    // A large one is on its way into the archive while it is read.
    let large = 3 << 20;
    let (content, problems) = changing(large, 1, append);
    assert!(content == vec![b'1'; large]);
    assert_eq!(problems, ["m: it grew while it was read; the archive holds its beginning"]);
    let (content, problems) = changing(large, 1, rewrite);
    assert!(content == vec![b'1'; large]);
    assert_eq!(problems, [changed]);
}

#[test]
fn a_file_that_shrinks_is_filled_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "12345").unwrap();
    let (file, metadata) = super::stream::open_regular(&path).unwrap();
    let mut reading = super::stream::Reading::of(file, &metadata);
    std::fs::write(&path, "123").unwrap();
    let mut buffer = [9; 5];
    reading.fill(&mut buffer, 0);
    assert_eq!(buffer, *b"123\0\0");
    assert_eq!(reading.end().unwrap_err(), "it shrank while it was read; the rest is filled with zeros");
}

#[test]
fn a_file_that_does_not_tell_its_size_is_reported() {
    let (file, metadata) = super::stream::open_regular(Path::new("/proc/version")).unwrap();
    assert_eq!(metadata.len(), 0);
    let problem = super::stream::Reading::of(file, &metadata).end().unwrap_err();
    assert_eq!(problem, "it grew while it was read; the archive holds its beginning");
}

#[test]
fn many_problems_are_counted() {
    let found = (0..1500).map(|n| Err(format!("{n}: permission denied")));
    let mut out = Memory { bytes: Vec::new(), room: usize::MAX };
    let archived = written(found, 3, &|_| (), &Cancel::new(), &mut out).unwrap();
    assert_eq!((archived.entries, archived.problems.len()), (0, 1001));
    assert_eq!(archived.problems[999..], ["999: permission denied", "and 500 more"]);
}

#[test]
fn a_full_disk_and_a_cancellation_end_it() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..300 {
        std::fs::write(dir.path().join(format!("{n}")), vec![1; 50_000]).unwrap();
    }
    let selection = Selection::new(&[], &[]).unwrap();
    let mut out = Memory { bytes: Vec::new(), room: 3 << 20 };
    let entries = walk(dir.path(), &selection, &[]);
    let failure = written(entries, 3, &|_| (), &Cancel::new(), &mut out).unwrap_err();
    assert_eq!((failure.code, failure.message.as_str()), (Code::DiskFull, "cannot write `archive`"));
    let cancel = Cancel::new();
    let mut out = Memory { bytes: Vec::new(), room: usize::MAX };
    let on_read = |entry: &Entry| {
        if entry.name == Path::new("200") {
            cancel.cancel(Reason::Terminated);
        }
    };
    let entries = walk(dir.path(), &selection, &[]);
    let failure = written(entries, 3, &on_read, &cancel, &mut out).unwrap_err();
    assert_eq!(failure.code, Code::Terminated);
    let mut read = Vec::new();
    File::open(dir.path().join("0")).unwrap().read_to_end(&mut read).unwrap();
    assert!(out.bytes.len() < 300 * read.len());
}
