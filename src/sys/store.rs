//! The backups of a folder, read from their files: there is no other catalog.
//!
//! `FILE` is the backup; `FILE.sha256`, `FILE.json` (manifest) and, for dumps, `FILE.globals.sql` stand beside it. Sidecars
//! are written first and removed last, so a file under its final name is complete. Work in progress, and what is being
//! removed, is called `.FILE.RUN.part`.

use crate::base::backup::{Backup, Content, MANIFEST_VERSION, Manifest, Source};
use crate::base::failure::{Code, Failure};
use crate::base::ids::RunId;
use crate::base::plan::Later;
use crate::sys::fs::STAGED_SUFFIX;
use chrono::{DateTime, FixedOffset, Local, NaiveDateTime, TimeZone};
use std::collections::HashSet;
use std::fs::Metadata;
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

/// All backups in `dir`, oldest first. A folder that is not there holds none. Files that are no backups are not
/// reported.
pub fn scan(dir: &Path) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for name in names(dir)? {
        if name.starts_with('.') || SIDECARS.iter().any(|suffix| name.ends_with(suffix)) {
            continue;
        }
        let path = dir.join(&name);
        match look(&path) {
            Ok(one) => found.extend(one),
            // One odd entry hides no other.
            Err(failure) => found.extend(unseen(&path, name, &failure)),
        }
    }
    found.sort_by(|a, b| (a.backup.created, &a.backup.name).cmp(&(b.backup.created, &b.backup.name)));
    Ok(found)
}

/// Names of everything in a folder that are UTF-8, in no order; none if it is not there.
fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: &io::Error| Failure::io("list", dir, error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(|error| failed(&error))?.file_name().into_string());
    }
    Ok(names)
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
    let (manifest, mut oddity) = match read_manifest(path) {
        Ok(manifest) => (manifest, None),
        Err(failure) => (None, Some(failure.to_string())),
    };
    // What was verified is the file that the manifest describes, and that is not this one.
    if let Some(manifest) = &manifest {
        oddity = (manifest.file != name)
            .then(|| format!("its manifest belongs to {}", manifest.file))
            .or_else(|| (manifest.size != metadata.len()).then(|| wrong_size(metadata.len(), manifest)));
    }
    let is_odd = oddity.is_some();
    if manifest.is_none() && !is_odd {
        oddity = read_sha256(path).err().map(|failure| failure.to_string());
    }
    let backup = match &manifest {
        Some(manifest) => Backup {
            path: path.to_path_buf(),
            name,
            content: manifest.content,
            source: manifest.source.clone(),
            selection: manifest.selection.clone(),
            complete: manifest.unreadable.is_empty(),
            tag: manifest.tag.clone(),
            created: manifest.created,
            size: Later::Now(metadata.len()),
            raw_size: Later::Now(manifest.raw_size),
            sha256: Later::Now(Some(manifest.sha256.clone())),
            verified: Later::Now(match oddity {
                Some(_) => Some(false),
                None => manifest.verified.as_ref().map(|verified| verified.intact),
            }),
        },
        None => match by_name(&name) {
            Some(named) => without_manifest(path, name, &metadata, named),
            // Its manifest says that it is a backup, so what the manifest hides is not to be overlooked.
            None if is_odd => {
                let named = (name.clone(), modified(&metadata), content_by_name(&name));
                without_manifest(path, name, &metadata, named)
            }
            None => return Ok(None),
        },
    };
    Ok(Some(Found { backup, manifest, oddity }))
}

fn wrong_size(size: u64, manifest: &Manifest) -> String {
    format!("it has {size} bytes, its manifest says {}", manifest.size)
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
            let named = (name.clone(), modified(&metadata), content_by_name(&name));
            let backup = without_manifest(path, name, &metadata, named);
            Ok(Some(Found { backup, manifest: None, oddity: None }))
        }
        _ => Ok(None),
    }
}

/// A file that cannot even be looked at; `None` if neither its name nor a manifest says that it is a backup.
fn unseen(path: &Path, name: String, failure: &Failure) -> Option<Found> {
    let (source, created, content) = by_name(&name).or_else(|| {
        let manifest = read_manifest(path).ok()??;
        Some((name.clone(), manifest.created, manifest.content))
    })?;
    let backup = Backup {
        path: path.to_path_buf(),
        name,
        content,
        source: Source::Named { name: source },
        selection: None,
        complete: true,
        tag: String::new(),
        created,
        size: Later::Now(0),
        raw_size: Later::Now(0),
        sha256: Later::Now(None),
        verified: Later::Now(Some(false)),
    };
    Some(Found { backup, manifest: None, oddity: Some(failure.to_string()) })
}

/// Names of backups in `dir` that are gone, though their manifests are there. One that is being published is not gone.
pub fn orphans(dir: &Path) -> Result<Vec<String>, Failure> {
    let names = crate::sys::fs::file_names(dir)?;
    let in_work = names.iter().filter_map(|name| Some(staged_name(name)?.0));
    let there: HashSet<&str> = names.iter().map(String::as_str).chain(in_work).collect();
    let mut orphans = Vec::new();
    for file in names.iter().filter_map(|name| name.strip_suffix(".json")) {
        if there.contains(file) {
            continue;
        }
        let path = dir.join(file);
        let is_ours = matches!(read_manifest(&path), Ok(Some(manifest)) if manifest.file == file);
        if is_ours && !crate::sys::fs::exists(&path)? {
            orphans.push(file.to_owned());
        }
    }
    Ok(orphans)
}

fn without_manifest(
    path: &Path,
    name: String,
    metadata: &Metadata,
    (source, created, content): (String, DateTime<FixedOffset>, Content),
) -> Backup {
    Backup {
        path: path.to_path_buf(),
        name,
        content,
        source: Source::Named { name: source },
        selection: None,
        complete: true,
        tag: String::new(),
        created,
        size: Later::Now(metadata.len()),
        raw_size: Later::Now(0),
        // A digest that cannot be read is what verification reports.
        sha256: Later::Now(read_sha256(path).unwrap_or_default()),
        verified: Later::Now(None),
    }
}

fn modified(metadata: &Metadata) -> DateTime<FixedOffset> {
    metadata.modified().map_or_else(
        |_| DateTime::UNIX_EPOCH.fixed_offset(),
        |time| DateTime::<Local>::from(time).fixed_offset(),
    )
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

/// What a killed run left in a folder: its staged file and the sidecars it had already written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The staged file, to be removed last.
    pub staged: PathBuf,
    /// The name that the file was to have, or had.
    pub target: PathBuf,
    /// Sidecars of a backup that never got its name.
    pub sidecars: Vec<PathBuf>,
}

/// Leftovers in `dir`; `own` is the caller's run. What a live run, perhaps of another project, still writes is none.
pub fn leftovers(dir: &Path, own: &str) -> Result<Vec<Leftover>, Failure> {
    let mut found = Vec::new();
    for name in names(dir)? {
        let Some((target, run)) = staged_name(&name) else { continue };
        if run.as_str() == own || crate::sys::fs::is_being_written(&dir.join(&name)) {
            continue;
        }
        let target = dir.join(target);
        let mut sidecars = Vec::new();
        let staged = dir.join(&name);
        if !crate::sys::fs::exists(&target)? && are_sidecars_of(&staged, &target, &run) {
            for suffix in SIDECARS {
                let at = sidecar(&target, suffix);
                if crate::sys::fs::exists(&at)? {
                    sidecars.push(at);
                }
            }
        }
        found.push(Leftover { staged, target, sidecars });
    }
    found.sort_by(|a, b| a.staged.cmp(&b.staged));
    Ok(found)
}

/// Whether what stands beside `target` was written for the staged file: by the run that staged it, or, if rotation has
/// hidden a backup under that name, for just that backup.
fn are_sidecars_of(staged: &Path, target: &Path, run: &RunId) -> bool {
    let Ok(Some(manifest)) = read_manifest(target) else { return false };
    let hidden = || crate::sys::fs::size(staged).is_ok_and(|size| size == manifest.size);
    target.file_name().is_some_and(|name| name.to_string_lossy() == manifest.file)
        && (manifest.run == run.as_str() || hidden())
}

/// Target and run of a staged file's name `.TARGET.RUN.part`.
fn staged_name(name: &str) -> Option<(&str, RunId)> {
    let (target, run) = name.strip_prefix('.')?.strip_suffix(STAGED_SUFFIX)?.rsplit_once('.')?;
    Some((target, RunId::parse(run)?))
}

#[cfg(test)]
mod tests {
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
        // A manifest whose backup is neither there nor on its way has lost it.
        std::fs::write(at("i.json"), manifest("i", dead, 1)).unwrap();
        std::fs::write(at("j.json"), manifest("i", dead, 1)).unwrap();
        assert_eq!(orphans(dir.path()).unwrap(), ["i"]);
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
