//! The backups of a folder, read from their files: there is no other catalog, but a cache of it that is disposable.
//!
//! `FILE` is the backup; `FILE.sha256`, `FILE.json` (manifest) and, for dumps, `FILE.globals.sql` stand beside it. Sidecars
//! are written first and removed last, so a file under its final name is complete. Work in progress, and what is being
//! removed, is called `.FILE.RUN.part`.

mod before;
mod catalog;
mod leftovers;
mod listing;

pub use before::{Before, Remembered};
pub use catalog::Catalog;
pub use leftovers::{Leftover, leftovers, own_leftover};
pub use listing::{Depth, Listed, Listing};

use crate::base::backup::{Backup, Content, MANIFEST_VERSION, Manifest, ManifestHead, Source};
use crate::base::failure::{Code, Failure};
use crate::base::plan::Later;
use crate::sys::cache::Stamp;
use chrono::{DateTime, FixedOffset, Local, NaiveDateTime, TimeZone};
use std::io;
use std::path::{Path, PathBuf};

/// Suffixes of the files that stand beside a backup, in the order of removal: the manifest tells whose the others are.
pub const SIDECARS: [&str; 3] = [".sha256", ".globals.sql", ".json"];

/// A sidecar of a backup.
pub fn sidecar(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A backup as found on disk.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub backup: Backup,
    /// Its manifest; backups made by the guide's scripts have none.
    pub manifest: Option<Manifest>,
    /// What is odd about it, for example a manifest that cannot be read.
    pub oddity: Option<String>,
}

/// All backups in `dir`, oldest first, read from their files. A folder that is not there holds none. Files that are no
/// backups are not reported.
pub fn scan(dir: &Path) -> Result<Vec<Listed>, Failure> {
    Ok(Listing::read(dir)?.backups(Catalog::Files, Depth::Manifests))
}

/// The backup at `path`; `None` if the file is not one.
pub fn look(path: &Path) -> Result<Option<Found>, Failure> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("look at", path, &error)),
    };
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Ok(None);
    };
    let (manifest, head) = match read_manifest(path) {
        Ok(manifest) => (manifest.clone(), Ok(manifest.map(ManifestHead::from))),
        Err(failure) => (None, Err(failure)),
    };
    let known = Known { name, stamp: Stamp::of(&metadata), head };
    let listed = known.tell(path.to_path_buf(), || read_sha256(path));
    Ok(listed.map(|Listed { backup, oddity, .. }| Found { backup, manifest, oddity }))
}

/// What is known of a file and its manifest.
struct Known {
    name: String,
    stamp: Stamp,
    head: Result<Option<ManifestHead>, Failure>,
}

impl Known {
    /// The backup that it is, if it is one; `sha256` reads what stands beside it.
    fn tell(self, path: PathBuf, sha256: impl FnOnce() -> Result<Option<String>, Failure>) -> Option<Listed> {
        let Self { name, stamp, head } = self;
        let is_odd = match head {
            Ok(Some(head)) => return Some(described(path, name, stamp.size(), head)),
            Ok(None) => None,
            Err(failure) => Some(failure.to_string()),
        };
        let named = match by_name(&name) {
            Some(named) => named,
            // Its manifest says that it is a backup, so what the manifest hides is not to be overlooked.
            None if is_odd.is_some() => (name.clone(), local(stamp), content_by_name(&name)),
            None => return None,
        };
        let sha256 = sha256();
        let oddity = is_odd.or_else(|| sha256.as_ref().err().map(ToString::to_string));
        // A digest that cannot be read is what verification reports.
        let backup = without_manifest(path, name, stamp.size(), sha256.unwrap_or_default(), named);
        Some(Listed { backup, head: None, oddity, sidecar_problem: None })
    }
}

/// A backup as its manifest describes it, unless the manifest is that of another file.
fn described(path: PathBuf, name: String, size: u64, head: ManifestHead) -> Listed {
    let ManifestHead { series, created, raw_size, sha256, mut rest } = head;
    rest.file.take_if(|file| *file == name);
    // What was verified is the file that the manifest describes, and that is not this one.
    let oddity = rest
        .file
        .as_ref()
        .map(|file| format!("its manifest belongs to {file}"))
        .or_else(|| (rest.size != size).then(|| wrong_size(size, rest.size)));
    let backup = Backup {
        path,
        name,
        content: series.content,
        source: series.source,
        selection: series.selection,
        complete: series.complete,
        tag: series.tag,
        created,
        size: Later::Now(size),
        raw_size: Later::Now(raw_size),
        sha256: Later::Now(Some(sha256)),
        verified: Later::Now(match oddity {
            Some(_) => Some(false),
            None => rest.verified.as_ref().map(|proof| proof.verdict.intact),
        }),
    };
    Listed { backup, head: Some(rest), oddity, sidecar_problem: None }
}

fn wrong_size(size: u64, told: u64) -> String {
    format!("it has {size} bytes, its manifest says {told}")
}

/// The file at `path` as a backup, whatever its name; `None` if there is no such file.
pub fn look_at_any(path: &Path) -> Result<Option<Found>, Failure> {
    if let Some(found) = look(path)? {
        return Ok(Some(found));
    }
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Ok(None);
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            let named = (name.clone(), local(Stamp::of(&metadata)), content_by_name(&name));
            let sha256 = read_sha256(path).unwrap_or_default();
            let backup = without_manifest(path.to_path_buf(), name, metadata.len(), sha256, named);
            Ok(Some(Found { backup, manifest: None, oddity: None }))
        }
        _ => Ok(None),
    }
}

fn without_manifest(
    path: PathBuf,
    name: String,
    size: u64,
    sha256: Option<String>,
    (source, created, content): (String, DateTime<FixedOffset>, Content),
) -> Backup {
    Backup {
        path,
        name,
        content,
        source: Source::Named { name: source },
        selection: None,
        complete: true,
        tag: String::new(),
        created,
        size: Later::Now(size),
        raw_size: Later::Now(0),
        sha256: Later::Now(sha256),
        verified: Later::Now(None),
    }
}

fn local(stamp: Stamp) -> DateTime<FixedOffset> {
    stamp.modified().with_timezone(&Local).fixed_offset()
}

/// The kind of content that the name of a file tells.
pub fn content_by_name(name: &str) -> Content {
    let stem = name.strip_suffix(".gz").unwrap_or(name);
    match Path::new(stem).extension().and_then(|extension| extension.to_str()) {
        Some("sql") => Content::Sql,
        Some("tar") => Content::Tar,
        _ => Content::File,
    }
}

/// Source, time and content of a file named as the guide's scripts name theirs: `NAME_YYYYMMDD_HHMMSS.sql.gz` and so on.
fn by_name(name: &str) -> Option<(String, DateTime<FixedOffset>, Content)> {
    let endings = [
        (".sql.gz", Content::Sql),
        (".sql", Content::Sql),
        (".tar.gz", Content::Tar),
        (".tar", Content::Tar),
    ];
    let (stem, content) =
        endings.iter().find_map(|(end, content)| Some((name.strip_suffix(end)?, *content)))?;
    let at = stem.len().checked_sub(16).filter(|at| stem.is_char_boundary(*at))?;
    let (source, stamp) = stem.split_at(at);
    let time = NaiveDateTime::parse_from_str(stamp, "_%Y%m%d_%H%M%S").ok()?;
    // An hour that summer time skips is none of this place's: whoever wrote it had another clock.
    let created = match Local.from_local_datetime(&time).earliest() {
        Some(created) => created.fixed_offset(),
        None => time.and_utc().fixed_offset(),
    };
    (!source.is_empty()).then(|| (source.to_owned(), created, content))
}

/// The manifest of a backup, if it has one.
pub fn read_manifest(path: &Path) -> Result<Option<Manifest>, Failure> {
    let at = sidecar(path, ".json");
    let text = match std::fs::read(&at) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("read", &at, &error)),
    };
    let unreadable = |cause: String| {
        Failure::new(Code::NotIntact, format!("the manifest `{}` cannot be understood", at.display()))
            .caused_by(cause)
    };
    let read = serde_json::from_slice::<Manifest>(&text);
    // One of a newer version may not even have the fields of this one.
    let version = match &read {
        Ok(manifest) => Some(u64::from(manifest.version)),
        Err(_) => serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| value.get("version").and_then(serde_json::Value::as_u64)),
    };
    if let Some(version) = version.filter(|version| *version > u64::from(MANIFEST_VERSION)) {
        return Err(unreadable(format!("it has version {version}, this Lifeboat knows {MANIFEST_VERSION}"))
            .hint("Use a Lifeboat at least as new as the one that made the backup."));
    }
    read.map(Some).map_err(|error| unreadable(error.to_string()))
}

/// The digest in `FILE.sha256`, if there is one: the first word of the line that `sha256sum` writes, in lower case.
pub fn read_sha256(path: &Path) -> Result<Option<String>, Failure> {
    let at = sidecar(path, ".sha256");
    let text = match std::fs::read(&at) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("read", &at, &error)),
    };
    let word = text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\');
    if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(word.to_ascii_lowercase()));
    }
    Err(Failure::new(Code::NotIntact, format!("`{}` holds no SHA-256 digest", at.display()))
        .hint("Its first word must be the 64 hex digits that `sha256sum` prints."))
}

/// The line that `sha256sum -c` reads in the backup's folder.
pub fn sha256_line(name: &str, sha256: &str) -> String {
    // sha256sum marks a line whose name holds a backslash or a newline, and escapes them.
    if name.contains(['\\', '\n']) {
        let escaped = name.replace('\\', "\\\\").replace('\n', "\\n");
        return format!("\\{sha256}  {escaped}\n");
    }
    format!("{sha256}  {name}\n")
}

#[cfg(test)]
mod tests {
    use super::leftovers::staged_name;
    use super::*;

    #[test]
    fn the_guides_names_are_understood() {
        let (source, created, content) = by_name("aurora_db_20251110_020000.sql.gz").unwrap();
        assert_eq!((source.as_str(), content), ("aurora_db", Content::Sql));
        assert_eq!(created.naive_local().to_string(), "2025-11-10 02:00:00");
        assert_eq!(by_name("aurora_config_20251110_023000.tar.gz").unwrap().2, Content::Tar);
        for other in
            ["notes.txt", "_20251110_020000.sql.gz", "a_20251310_020000.sql.gz", "ä_2025.sql.gz", ".sql.gz"]
        {
            assert_eq!(by_name(other), None, "{other}");
        }
    }

    #[test]
    fn staged_names_are_told_from_others() {
        let (target, run) = staged_name(".a.b.sql.gz.20251110-020000-abcdef.part").unwrap();
        assert_eq!((target, run.as_str()), ("a.b.sql.gz", "20251110-020000-abcdef"));
        for other in
            ["a.part", ".a.part", ".a.20251110-020000-abcde.part", ".a.b.20251110-020000-abcdef.parts"]
        {
            assert_eq!(staged_name(other), None, "{other}");
        }
    }

    fn manifest(file: &str, run: &str, size: u64) -> String {
        let text = format!(
            r#"{{"version": 1, "file": "{file}", "content": "file", "source": {{"kind": "named", "name": "a"}},
            "tag": "daily", "created": "2025-11-10T02:00:00Z", "run": "{run}", "size": {size}, "raw_size": 9,
            "sha256": "ab", "compression": "gzip", "lifeboat": "0.1.0",
            "verified": {{"at": "2025-11-10T02:00:00Z", "intact": true, "checks": []}}}}"#
        );
        serde_json::from_str::<Manifest>(&text).unwrap();
        text
    }

    #[test]
    fn leftovers_are_found_with_their_own_sidecars_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (dead, later) = ("20251110-020000-abcdef", "20251112-020000-abcdef");
        let staged = |file: &str| format!(".{file}.{dead}.part");
        // Killed while it saved; while it published; hidden by rotation; beside another's manifest, a damaged one, none.
        for (file, text, is_there) in [
            ("a", Some(manifest("a", dead, 5)), false),
            ("b", Some(manifest("b", dead, 1)), true),
            ("c", Some(manifest("c", later, 1)), false),
            ("d", Some(manifest("d", later, 5)), false),
            ("e", Some(manifest("a", dead, 1)), false),
            ("f", Some("{}".to_owned()), false),
            ("g", None, false),
        ] {
            std::fs::write(at(&staged(file)), "x").unwrap();
            std::fs::write(at(&format!("{file}.sha256")), "x").unwrap();
            if let Some(text) = text {
                std::fs::write(at(&format!("{file}.json")), text).unwrap();
            }
            if is_there {
                std::fs::write(at(file), "x").unwrap();
            }
        }
        std::fs::write(at(".h.20251110-030000-zzzzzz.part"), "x").unwrap();
        let found = leftovers(dir.path(), "20251110-030000-zzzzzz").unwrap();
        let expected: Vec<Leftover> = ["a", "b", "c", "d", "e", "f", "g"]
            .iter()
            .map(|file| Leftover {
                staged: at(&staged(file)),
                target: at(file),
                sidecars: match *file {
                    "a" | "c" => vec![at(&format!("{file}.sha256")), at(&format!("{file}.json"))],
                    _ => vec![],
                },
            })
            .collect();
        assert_eq!(found, expected);
        // What an earlier attempt of a run left is found by the path that the run is going to make again.
        let own = |file: &str| own_leftover(&at(file), dead).unwrap();
        assert_eq!(own("a"), expected.first().cloned());
        assert_eq!(own("h"), None);
        let written = crate::sys::fs::stage(&at("k"), dead).unwrap();
        assert_eq!(own("k"), None);
        drop(written);
        // A manifest whose backup is neither there nor on its way has lost it.
        std::fs::write(at("i.json"), manifest("i", dead, 1)).unwrap();
        std::fs::write(at("j.json"), manifest("i", dead, 1)).unwrap();
        assert_eq!(Listing::read(dir.path()).unwrap().orphans().unwrap(), ["i"]);
    }

    #[test]
    fn what_is_odd_hides_nothing_and_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("a", "12345");
        write("a.json", &manifest("a", "20251110-020000-abcdef", 5));
        write("b", "1234");
        write("b.json", &manifest("b", "20251110-020000-abcdef", 5));
        write("c", "12345");
        write("c.json", &manifest("a", "20251110-020000-abcdef", 5));
        write("s_20251111_020000.sql", "");
        write("s_20251111_020000.sql.sha256", "none");
        std::os::unix::fs::symlink("t_20251112_020000.sql", dir.path().join("t_20251112_020000.sql"))
            .unwrap();
        let found = scan(dir.path()).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|found| {
                let oddity = found.oddity.clone().unwrap_or_default();
                let oddity = oddity.replace(&format!("{}/", dir.path().display()), "");
                let oddity = oddity.split(": ").next().unwrap_or_default().to_owned();
                (found.backup.name.as_str(), found.backup.verified.as_now().copied().flatten(), oddity)
            })
            .collect();
        let text = str::to_owned;
        assert_eq!(
            told,
            [
                ("a", Some(true), text("")),
                ("b", Some(false), text("it has 4 bytes, its manifest says 5")),
                ("c", Some(false), text("its manifest belongs to a")),
                (
                    "s_20251111_020000.sql",
                    None,
                    text("`s_20251111_020000.sql.sha256` holds no SHA-256 digest")
                ),
                ("t_20251112_020000.sql", Some(false), text("cannot look at `t_20251112_020000.sql`")),
            ]
        );
    }

    #[test]
    fn what_is_still_being_written_is_no_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let names = || -> Vec<PathBuf> {
            leftovers(dir.path(), "").unwrap().into_iter().map(|leftover| leftover.staged).collect()
        };
        let staged = crate::sys::fs::stage(&dir.path().join("a.sql.gz"), "20251110-020000-abcdef").unwrap();
        assert_eq!(names(), Vec::<PathBuf>::new());
        // Killed: the file stays, the lock goes.
        let at = staged.path().to_path_buf();
        let kept = dir.path().join("kept");
        std::fs::hard_link(&at, &kept).unwrap();
        drop(staged);
        std::fs::rename(&kept, &at).unwrap();
        assert_eq!(names(), [at]);
    }

    #[test]
    fn odd_names_are_written_as_sha256sum_writes_them() {
        assert_eq!(sha256_line("a b.gz", "00"), "00  a b.gz\n");
        assert_eq!(sha256_line("a\\b.gz", "00"), "\\00  a\\\\b.gz\n");
    }
}
