//! The catalog's cache never changes an answer.

use super::*;
use crate::base::backup::{Content, MANIFEST_VERSION, Manifest, Source, Verified};
use crate::base::plan::Later;
use crate::sys::store::{Depth, Listed, Listing, sha256_line, sidecar};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const BACKUPS: usize = 340;

struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// A folder of backups: most with a manifest, some as the guide's scripts make them, and files that are none.
    fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(project.state()).unwrap();
        fs::set_permissions(project.state(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(project.folder()).unwrap();
        (0..BACKUPS).for_each(|number| project.back_up(number, 5));
        fs::write(project.folder().join("notes.txt"), "no backup").unwrap();
        fs::create_dir(project.folder().join("old_20240101_020000.sql.gz")).unwrap();
        symlink(project.at(3), project.folder().join("link.gz")).unwrap();
        symlink("nowhere", project.folder().join("gone_20240101_020000.sql.gz")).unwrap();
        project
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    fn cached(&self) -> PathBuf {
        let name = |entry: fs::DirEntry| entry.path();
        fs::read_dir(self.state().join("cache")).unwrap().map(|entry| name(entry.unwrap())).next().unwrap()
    }

    fn at(&self, number: usize) -> PathBuf {
        self.folder().join(format!("shop_db_20251110_{:02}{:02}00.sql.gz", number / 60, number % 60))
    }

    fn back_up(&self, number: usize, size: usize) {
        let path = self.at(number);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        fs::write(&path, "x".repeat(size)).unwrap();
        fs::write(sidecar(&path, ".sha256"), sha256_line(&name, &"ab".repeat(32))).unwrap();
        if number % 9 != 8 {
            fs::write(sidecar(&path, ".json"), manifest(&name, number, "daily", size)).unwrap();
        }
    }

    /// The backups by the cache, and how many files were read for that.
    fn by_cache(&self, depth: Depth) -> (Vec<Listed>, usize) {
        let listing = Listing::read(&self.folder()).unwrap();
        let looked = listing.look(Catalog::Cached(&self.state()), depth, i64::MAX);
        let read = looked.iter().map(|looked| looked.read).sum();
        (looked.into_iter().filter_map(|looked| looked.found).map(|found| *found).collect(), read)
    }

    fn by_files(&self, depth: Depth) -> Vec<Listed> {
        let listing = Listing::read(&self.folder()).unwrap();
        let looked = listing.look(Catalog::Files, depth, i64::MAX);
        looked.into_iter().filter_map(|looked| looked.found).map(|found| *found).collect()
    }

    #[track_caller]
    fn agrees(&self) -> usize {
        let mut read = 0;
        for depth in [Depth::Manifests, Depth::Sidecars] {
            let (found, more) = self.by_cache(depth);
            assert_eq!(found, self.by_files(depth));
            read += more;
        }
        read
    }
}

fn manifest(name: &str, number: usize, tag: &str, size: usize) -> String {
    let time = chrono::DateTime::parse_from_rfc3339("2025-11-10T02:00:00+01:00").unwrap();
    let created = time + chrono::TimeDelta::minutes(i64::try_from(number).unwrap());
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        file: name.into(),
        content: Content::Sql,
        source: Source::Database { system: "7".into(), name: "shop".into() },
        selection: number.is_multiple_of(5).then(|| "{}".into()),
        tag: tag.into(),
        created,
        run: "20251110-020000-abcdef".into(),
        size: size as u64,
        raw_size: 50,
        sha256: "ab".repeat(32),
        compression: "gzip".into(),
        members: 1,
        lifeboat: "0.1.0".into(),
        pg_dump: None,
        server: None,
        recovery_point: None,
        properties: None,
        globals: None,
        tables: vec![],
        entries: None,
        unreadable: vec![],
        verified: (!number.is_multiple_of(3)).then(|| Verified {
            at: created,
            intact: !number.is_multiple_of(4),
            checks: vec!["sha256".into()],
            problems: if number.is_multiple_of(4) { vec!["é \"damaged\"\n".into()] } else { vec![] },
        }),
        drilled: None,
    };
    serde_json::to_string_pretty(&manifest).unwrap()
}

/// Writes a file in place, so that its time has changed: what happens within one tick of the clock is what `settled` is for.
fn edit(path: &Path, text: &str) {
    let changed = || fs::symlink_metadata(path).map(|meta| (meta.ctime(), meta.ctime_nsec())).ok();
    let before = changed();
    loop {
        fs::write(path, text).unwrap();
        if changed() != before {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_kept_spares_reading_and_changes_no_answer() {
    let project = Project::new();
    assert!(project.agrees() > BACKUPS);
    assert_eq!(project.agrees(), 0);
    // What was changed just before is not kept: it may change again within the same tick of the clock.
    let fresh = Project::new();
    let listing = Listing::read(&fresh.folder()).unwrap();
    let backups = listing.backups(Catalog::Cached(&fresh.state()), Depth::Sidecars);
    assert_eq!(backups.len(), fresh.by_files(Depth::Sidecars).len());
    assert!(!fresh.state().join("cache").exists());
}

#[test]
fn whatever_becomes_of_a_file_is_seen_at_once() {
    let project = Project::new();
    project.agrees();
    let text = |number: usize| fs::read_to_string(sidecar(&project.at(number), ".json")).unwrap();
    // Edited in place: another tag of the same length.
    edit(&sidecar(&project.at(10), ".json"), &text(10).replace("daily", "weeks"));
    assert_eq!(project.agrees(), 2);
    // Replaced by another of the same size and time of change.
    let (old, new) = (sidecar(&project.at(11), ".json"), project.folder().join(".new"));
    let time = fs::metadata(&old).unwrap().modified().unwrap();
    fs::write(&new, text(11).replace("daily", "hours")).unwrap();
    fs::File::options().write(true).open(&new).unwrap().set_modified(time).unwrap();
    fs::rename(&new, &old).unwrap();
    assert_eq!(project.agrees(), 4);
    let found = project.by_cache(Depth::Manifests).0;
    let tag = |number: usize| {
        let path = project.at(number);
        found.iter().find(|listed| listed.backup.path == path).unwrap().backup.tag.clone()
    };
    assert_eq!((tag(10).as_str(), tag(11).as_str(), tag(12).as_str()), ("weeks", "hours", "daily"));
    // Sidecars that are damaged, of others, gone; backups that are shorter, gone, no files any more, or came anew.
    edit(&sidecar(&project.at(12), ".json"), "{");
    fs::rename(sidecar(&project.at(13), ".json"), sidecar(&project.at(14), ".json")).unwrap();
    edit(&sidecar(&project.at(15), ".sha256"), "none");
    edit(&sidecar(&project.at(17), ".sha256"), "none");
    fs::remove_file(sidecar(&project.at(16), ".sha256")).unwrap();
    edit(&project.at(18), "x");
    fs::remove_file(project.at(19)).unwrap();
    fs::remove_file(project.at(20)).unwrap();
    fs::create_dir(project.at(20)).unwrap();
    project.back_up(BACKUPS, 3);
    project.agrees();
}

#[test]
fn a_cache_that_cannot_be_relied_on_is_as_good_as_none() {
    let project = Project::new();
    project.agrees();
    let whole = fs::read(project.cached()).unwrap();
    let path = project.cached();
    let all = project.agrees();
    assert_eq!(all, 0);
    let reads = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        project.by_cache(Depth::Sidecars).1
    };
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    assert_eq!(reads(&whole), 0);
    for damaged in [
        vec![],
        b"\n".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        flipped(0),
        flipped(whole.len() / 2),
        flipped(whole.len() - 3),
        [whole.as_slice(), whole.as_slice()].concat(),
    ] {
        assert!(reads(&damaged) > 200);
        // It was written anew.
        assert_eq!(fs::read(&path).unwrap().len(), whole.len());
    }
    // A cache of another version, and one of another folder.
    for (from, to) in [("\"format\":2", "\"format\":1"), ("/backups\"", "/backupz\"")] {
        let text = String::from_utf8(whole.clone()).unwrap();
        let body = text[..text.len() - 17].replacen(from, to, 1);
        assert_ne!(body, text[..text.len() - 17]);
        let hash = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
        assert!(reads(format!("{body}{hash:016x}\n").as_bytes()) > 200, "{from}");
    }
    // One that others may write, and a link.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(project.by_cache(Depth::Sidecars).1 > 200);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let elsewhere = project.dir.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(project.by_cache(Depth::Sidecars).1 > 200);
    assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(project.agrees(), 0);
}

#[test]
fn what_cannot_be_written_is_not_written() {
    let project = Project::new();
    // No state folder is made for a cache.
    fs::remove_dir(project.state()).unwrap();
    project.agrees();
    assert!(!project.state().exists());
    // One that others may write to, and one with something in the way.
    fs::create_dir(project.state()).unwrap();
    fs::set_permissions(project.state(), fs::Permissions::from_mode(0o777)).unwrap();
    project.agrees();
    assert!(!project.state().join("cache").exists());
    fs::set_permissions(project.state(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(project.state().join("cache"), "in the way").unwrap();
    assert!(project.agrees() > BACKUPS);
    fs::remove_file(project.state().join("cache")).unwrap();
    symlink(project.dir.path(), project.state().join("cache")).unwrap();
    assert!(project.agrees() > BACKUPS);
    assert_eq!(fs::read_dir(project.dir.path()).unwrap().count(), 2);
}

#[test]
fn a_small_folder_needs_no_cache() {
    let project = Project::new();
    (50..BACKUPS).for_each(|number| fs::remove_file(project.at(number)).unwrap());
    assert!(project.agrees() > 50);
    assert!(!project.state().join("cache").exists());
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    let project = Project::new();
    let expected = project.by_files(Depth::Sidecars);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for round in 0..4 {
                    assert_eq!(project.by_cache(Depth::Sidecars).0, expected);
                    if round % 2 == 0 {
                        // What is removed under the hands of others is written anew by one of them.
                        let _ = fs::remove_dir_all(project.state().join("cache"));
                    }
                }
            });
        }
    });
    project.agrees();
    assert_eq!(project.agrees(), 0);
    assert_eq!(fs::read_dir(project.state().join("cache")).unwrap().count(), 1);
}

#[test]
fn caches_that_nobody_needs_any_more_go() {
    let project = Project::new();
    project.agrees();
    let dir = project.state().join("cache");
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    for number in 0..40 {
        let path = dir.join(format!("backups-{number}"));
        fs::File::create(&path).unwrap().set_modified(long_ago).unwrap();
    }
    fs::write(project.cached(), "").unwrap();
    project.by_cache(Depth::Manifests);
    fs::remove_file(dir.join("backups-1")).ok();
    (0..BACKUPS).for_each(|number| project.back_up(number, 4));
    project.agrees();
    assert_eq!(project.agrees(), 0);
    assert!(fs::read_dir(&dir).unwrap().count() <= 32);
}

#[derive(Clone, Debug)]
enum Change {
    Remove(usize),
    Add(usize, usize),
    Tag(usize, &'static str),
    Damage(usize, &'static str),
    Lose(usize, &'static str),
    Swap(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let number = 0..BACKUPS + 10;
    let suffix = prop::sample::select(vec!["", ".json", ".sha256"]);
    prop_oneof![
        number.clone().prop_map(Change::Remove),
        (number.clone(), 1..9_usize).prop_map(|(number, size)| Change::Add(number, size)),
        (number.clone(), prop::sample::select(vec!["daily", "weeks"]))
            .prop_map(|(n, tag)| Change::Tag(n, tag)),
        (number.clone(), suffix.clone()).prop_map(|(number, suffix)| Change::Damage(number, suffix)),
        (number.clone(), suffix).prop_map(|(number, suffix)| Change::Lose(number, suffix)),
        (number.clone(), number).prop_map(|(one, other)| Change::Swap(one, other)),
    ]
}

/// Names of the newest of two classes, as [`Listing::newest`] and as all backups tell them.
fn newest(project: &Project, catalog: Catalog<'_>, most: [usize; 2]) -> (Vec<String>, Vec<String>) {
    let class = |backup: &Backup| match backup.tag.as_str() {
        "daily" => Some(0),
        "weekly" => Some(1),
        _ => None,
    };
    let listing = Listing::read(&project.folder()).unwrap();
    let found = listing.newest(catalog, &most, |found| class(&found.backup));
    let all = listing.backups(Catalog::Files, Depth::Manifests);
    let mut expected: Vec<Backup> = Vec::new();
    for (number, most) in most.into_iter().enumerate() {
        let of = all.iter().rev().filter(|found| class(&found.backup) == Some(number));
        expected.extend(of.take(most).map(|found| found.backup.clone()));
    }
    expected.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let names = |all: Vec<Backup>| all.into_iter().map(|backup| backup.name).collect();
    (names(found.into_iter().map(|found| found.backup).collect()), names(expected))
}

#[test]
fn the_newest_are_those_that_a_whole_list_ends_with() {
    let project = Project::new();
    let (state, most) = (project.state(), [7, 2]);
    let weekly = |number: usize| {
        let path = project.at(number);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        fs::write(sidecar(&path, ".json"), manifest(&name, number, "weekly", 5)).unwrap();
    };
    [5, 100, 101, 300].into_iter().for_each(weekly);
    project.by_cache(Depth::Manifests);
    for catalog in [Catalog::Files, Catalog::Cached(&state)] {
        let (found, expected) = newest(&project, catalog, most);
        assert_eq!(found, expected);
        assert_eq!(found.len(), 9);
    }
    // What was changed, replaced, cut short or removed since it was kept is seen by the next question.
    let last = newest(&project, Catalog::Cached(&state), most).0;
    weekly(200);
    fs::remove_file(project.at(300)).unwrap();
    fs::write(project.folder().join(last.last().unwrap()), "").unwrap();
    fs::remove_file(sidecar(&project.folder().join(&last[7]), ".json")).unwrap();
    let (found, expected) = newest(&project, Catalog::Cached(&state), most);
    assert_eq!(found, expected);
    assert_ne!(found, last);
    let listing = Listing::read(&project.folder()).unwrap();
    let [cut] = listing
        .newest(Catalog::Cached(&state), &[1], |found| found.oddity.is_some().then_some(0))
        .try_into()
        .unwrap();
    assert_eq!((&cut.backup.name, cut.backup.size), (last.last().unwrap(), Later::Now(0)));
}

#[test]
fn what_is_not_held_stays_in_the_cache() {
    let project = Project::new();
    project.by_cache(Depth::Sidecars);
    assert_eq!(project.by_cache(Depth::Sidecars).1, 0);
    for number in 0..BACKUPS - 40 {
        project.back_up(number, 5);
    }
    let listing = Listing::read(&project.folder()).unwrap();
    let looked = listing
        .look_by(Catalog::Cached(&project.state()), Depth::Sidecars, i64::MAX, |looked| looked.let_go());
    assert!(looked.iter().filter(|looked| looked.is_let_go).count() >= 40);
    assert_eq!(project.by_cache(Depth::Sidecars).1, 0);
    project.agrees();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn the_answer_is_the_same_with_and_without_a_cache(changes in prop::collection::vec(change(), 1..25)) {
        let project = Project::new();
        project.agrees();
        for (step, change) in changes.iter().enumerate() {
            match change {
                Change::Remove(number) => {
                    for suffix in ["", ".json", ".sha256"] {
                        let _ = fs::remove_file(sidecar(&project.at(*number), suffix));
                    }
                }
                Change::Add(number, size) => {
                    let _ = fs::remove_file(sidecar(&project.at(*number), ".json"));
                    project.back_up(*number, *size);
                }
                Change::Tag(number, tag) => {
                    let path = project.at(*number);
                    let name = path.file_name().unwrap().to_str().unwrap();
                    edit(&sidecar(&path, ".json"), &manifest(name, *number, tag, 5));
                }
                Change::Damage(number, suffix) => edit(&sidecar(&project.at(*number), suffix), "?"),
                Change::Lose(number, suffix) => {
                    let _ = fs::remove_file(sidecar(&project.at(*number), suffix));
                }
                Change::Swap(one, other) => {
                    let (a, b) = (sidecar(&project.at(*one), ".json"), sidecar(&project.at(*other), ".json"));
                    let aside = project.folder().join(".aside");
                    if fs::rename(&a, &aside).is_ok() {
                        let _ = fs::rename(&b, &a);
                        fs::rename(&aside, &b).unwrap();
                    }
                }
            }
            if step % 3 == 0 {
                prop_assert_eq!(project.by_cache(Depth::Sidecars).0, project.by_files(Depth::Sidecars));
            }
        }
        project.agrees();
    }
}
