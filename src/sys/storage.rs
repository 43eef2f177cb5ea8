//! What a file lies on: file system, disk, share. What the kernel does not tell is unknown, and is said to be.
//!
//! Mounts are read from `/proc/self/mountinfo` (proc(5)), disks from `/sys/dev/block` (sysfs): partitions lead to their disk,
//! volumes and arrays to those below them, loop devices to the disk of their file.

use crate::base::health::copies::{Disk, Place, machine_of};
use crate::sys::fs::{nearest_existing, read_text, resolved};
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Types of file systems that another machine holds.
const NETWORK: [&str; 20] = [
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "fuse.ceph",
    "fuse.davfs2",
    "fuse.gcsfuse",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "glusterfs",
    "lustre",
    "nfs",
    "nfs4",
    "orangefs",
    "smb3",
    "smbfs",
];

/// Types of file systems that are gone with the power.
const MEMORY: [&str; 2] = ["ramfs", "tmpfs"];

/// How many layers of volumes are followed.
const DEEPEST: usize = 8;

/// A file system that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    kind: String,
    source: String,
}

/// Where `path`, or its nearest ancestor that exists, lies.
pub fn place_of(path: &Path) -> Place {
    place_below(path, DEEPEST)
}

fn place_below(path: &Path, depth: usize) -> Place {
    let path = resolved(&nearest_existing(path));
    let device = std::fs::metadata(&path).map_or(0, |metadata| metadata.dev());
    let mounts = read_text(Path::new("/proc/self/mountinfo")).ok().flatten().unwrap_or_default();
    let Some(mount) = holding(&mounts, &path) else {
        return Place { device, kind: String::new(), disk: Disk::Unknown };
    };
    let disk = if NETWORK.contains(&mount.kind.as_str()) {
        Disk::Network(machine_of(&mount.source))
    } else if MEMORY.contains(&mount.kind.as_str()) {
        Disk::Memory
    } else {
        block_device(device, &mount.source).map_or(Disk::Unknown, |number| disk_of(number, depth))
    };
    Place { device, kind: mount.kind, disk }
}

/// The mount that holds a path: the one with the longest path, and of several at the same path the last.
fn holding(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(mount).filter(|mount| path.starts_with(&mount.at));
    mounts.max_by_key(|mount| mount.at.components().count())
}

/// A line of `mountinfo`.
fn mount(line: &str) -> Option<Mount> {
    let (before, behind) = line.split_once(" - ")?;
    let at = unescaped(before.split(' ').nth(4)?);
    let mut behind = behind.split(' ');
    let (kind, source) = (behind.next()?.to_owned(), unescaped(behind.next()?));
    Some(Mount { at: at.into(), kind, source })
}

/// Space, tab, newline and backslash are written as three octal digits there.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// The block device below a file system: its own number, or, where that stands for no device as with btrfs, that of its source.
fn block_device(device: u64, source: &str) -> Option<u64> {
    if rustix::fs::major(device) != 0 {
        return Some(device);
    }
    let metadata = std::fs::metadata(source).ok()?;
    metadata.file_type().is_block_device().then(|| metadata.rdev())
}

fn disk_of(device: u64, depth: usize) -> Disk {
    let mut names = BTreeSet::new();
    let mut is_removable = true;
    let known = collect(
        &sysfs(rustix::fs::major(device), rustix::fs::minor(device)),
        depth,
        &mut |name, removable| {
            names.insert(name.to_owned());
            is_removable &= removable;
        },
    );
    match known {
        Some(()) if names.iter().any(|name| name.starts_with("zram") || name.starts_with("ram")) => {
            Disk::Memory
        }
        Some(()) if !names.is_empty() => Disk::Local { names, is_removable },
        _ => Disk::Unknown,
    }
}

fn sysfs(major: u32, minor: u32) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// Calls `found` with every disk below a block device; `None` if one of them cannot be told.
fn collect(device: &Path, depth: usize, found: &mut dyn FnMut(&str, bool)) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let mut dir = device.canonicalize().ok()?;
    if dir.join("partition").exists() {
        dir.pop();
    }
    let below: Vec<PathBuf> = std::fs::read_dir(dir.join("slaves"))
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    for one in &below {
        collect(one, depth, found)?;
    }
    if !below.is_empty() {
        return Some(());
    }
    if let Ok(file) = std::fs::read_to_string(dir.join("loop/backing_file")) {
        let Disk::Local { names, is_removable } = place_below(Path::new(file.trim_end()), depth).disk else {
            return None;
        };
        names.iter().for_each(|name| found(name, is_removable));
        return Some(());
    }
    let removable = std::fs::read_to_string(dir.join("removable")).is_ok_and(|text| text.trim() == "1");
    found(&dir.file_name()?.to_string_lossy(), removable);
    Some(())
}

/// The folders below `dir`, itself first, down to two levels: how copies of several folders of backups are laid out.
pub fn folders_below(dir: &Path) -> Vec<PathBuf> {
    let below = |dir: &Path| -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    };
    let mut all = vec![dir.to_path_buf()];
    for first in below(dir) {
        all.push(first.clone());
        all.extend(below(&first));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:27 / /mnt/my\\040nas rw shared:3 - nfs4 nas:/export/a rw
31 27 0:28 / /mnt rw - tmpfs tmpfs rw
32 30 0:30 / /mnt/my\\040nas rw - cifs //box.lan/share rw
";

    #[test]
    fn the_mount_that_holds_a_path_is_the_deepest_and_the_last() {
        let at = |path: &str| holding(MOUNTS, Path::new(path)).map(|mount| (mount.kind, mount.source));
        let told = |kind: &str, source: &str| Some((kind.to_owned(), source.to_owned()));
        assert_eq!(at("/srv/backups"), told("ext4", "/dev/vda"));
        assert_eq!(at("/mnt/my nas/a"), told("cifs", "//box.lan/share"));
        assert_eq!(at("/mnt/other"), told("tmpfs", "tmpfs"));
        assert_eq!(holding("garbage\n", Path::new("/")), None);
    }

    #[test]
    fn memory_is_told_from_what_lasts() {
        if Path::new("/dev/shm").is_dir() {
            assert_eq!(place_of(Path::new("/dev/shm/not/there")).disk, Disk::Memory);
        }
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (place_of(dir.path()), place_of(&dir.path().join("not/there")));
        assert_eq!(here, there);
    }
}
