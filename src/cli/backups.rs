//! `lifeboat backups`: what lies in the folders of backups.

use crate::base::backup::{Content, Proof, Source};
use crate::base::failure::{Code, Exit, Failure};
use crate::base::plan::Later;
use crate::base::units;
use crate::cli::global::Context;
use crate::cli::report::counted;
use crate::cli::screen::{Paint, Table};
use crate::observe::health_check::usual;
use crate::sys::env::Env;
use crate::sys::fs;
use crate::sys::store::{Catalog, Depth, Listed, Listing};
use chrono::{DateTime, FixedOffset};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// List backups, newest last
///
/// Whether a backup is verified is what its last verification found; `lifeboat verify` does it again.
///
/// With `--json`: an array of objects with `path` (absolute), `name`, `kind` (`sql`, `tar` or `file`), `source` (with `kind`
/// `database`: `system`, `name`; `tree`: `host`, `root`; `named`: `name`), `tag` (null where no manifest tells), `created`
/// (RFC 3339), `size` (bytes), `raw_size` (bytes, or null), `sha256` (or null), `verified` (an object with `at`, `intact`,
/// `checks`, `problems`; null if it never was) and `problems` (what is wrong with its files).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders, relative to the project [default: backups/database and backups/config, or what BACKUP_DIR and
    /// CONFIG_BACKUP_DIR name]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Only those whose last verification found them intact
    #[arg(long)]
    verified: bool,
    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
}

/// A backup in `--json`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    path: &'a Path,
    name: &'a str,
    kind: Content,
    source: &'a Source,
    tag: Option<&'a str>,
    created: String,
    size: Option<u64>,
    raw_size: Option<u64>,
    sha256: Option<&'a str>,
    verified: Option<Verified<'a>>,
    problems: Vec<String>,
}

/// The last verification in `--json`.
#[derive(Debug, Serialize)]
struct Verified<'a> {
    at: DateTime<FixedOffset>,
    intact: bool,
    checks: &'a [String],
    problems: &'a [String],
}

impl<'a> From<&'a Proof> for Verified<'a> {
    fn from(Proof { at, verdict }: &'a Proof) -> Self {
        Self { at: *at, intact: verdict.intact, checks: &verdict.checks, problems: &verdict.problems }
    }
}

impl<'a> From<&'a Listed> for Row<'a> {
    fn from(found: &'a Listed) -> Self {
        let (backup, head) = (&found.backup, found.head.as_ref());
        Self {
            path: &backup.path,
            name: &backup.name,
            kind: backup.content,
            source: &backup.source,
            tag: head.map(|_| backup.tag.as_str()),
            created: backup.created.to_rfc3339(),
            size: now(&backup.size).copied(),
            raw_size: head.and(now(&backup.raw_size)).copied(),
            sha256: now(&backup.sha256).and_then(Option::as_deref),
            verified: head.and_then(|head| Some(head.verified.as_ref()?.into())),
            problems: problems(found),
        }
    }
}

fn now<T>(value: &Later<T>) -> Option<&T> {
    match value {
        Later::Now(value) => Some(value),
        Later::AfterRun => None,
    }
}

/// What is wrong with the files of a backup, as far as it shows without reading the backup itself.
fn problems(found: &Listed) -> Vec<String> {
    let backup = &found.backup;
    // What is odd about a backup with a manifest is told below, all of it.
    let oddity = found.oddity.iter().filter(|_| found.head.is_none());
    let mut problems: Vec<String> = oddity.chain(&found.sidecar_problem).cloned().collect();
    if let Some(head) = &found.head {
        if let Some(file) = &head.file {
            problems.push(format!("its manifest belongs to {file}"));
        }
        if let Some(size) = now(&backup.size).filter(|size| **size != head.size) {
            problems.push(format!("it has {size} bytes, its manifest says {}", head.size));
        }
        if let Some(proof) = head.verified.as_ref().filter(|proof| !proof.verdict.intact) {
            problems.extend(proof.verdict.problems.iter().cloned());
        }
    }
    problems.dedup();
    problems
}

/// Lists backups.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    let named = !args.dirs.is_empty();
    let dirs = if named { args.dirs.clone() } else { usual(&Env::load(&cx.project)?) };
    let mut all = Vec::new();
    for dir in &dirs {
        let at = cx.project.join(dir);
        if named && !fs::exists(&at)? {
            return Err(Failure::new(Code::NotFound, format!("there is no folder `{}`", dir.display()))
                .caused_by(format!("`{}` does not exist", at.display()))
                .hint("Folders are relative to the project; without one, the usual folders are listed."));
        }
        let found = Listing::read(&at)?.backups(Catalog::Cached(&cx.state), Depth::Sidecars);
        if all.is_empty() {
            all = found;
        } else {
            all.extend(found);
        }
    }
    all.retain(|found| {
        let is_verified = now(&found.backup.verified) == Some(&Some(true));
        (!args.verified || is_verified) && args.tag.as_ref().is_none_or(|tag| found.backup.tag == *tag)
    });
    all.sort_by(|a, b| (a.backup.created, &a.backup.path).cmp(&(b.backup.created, &b.backup.path)));
    all.dedup_by(|a, b| a.backup.path == b.backup.path);
    if cx.global.json {
        cx.screen.json(&all.iter().map(Row::from).collect::<Vec<_>>());
    } else if all.is_empty() {
        let which = match (args.verified, &args.tag) {
            (true, Some(tag)) => format!("verified backups tagged `{tag}`"),
            (true, None) => "verified backups".to_owned(),
            (false, Some(tag)) => format!("backups tagged `{tag}`"),
            (false, None) => "backups".to_owned(),
        };
        let dirs: Vec<String> = dirs.iter().map(|dir| format!("`{}`", dir.display())).collect();
        cx.screen.talk(&format!("there are no {which} in {}\n", dirs.join(", ")));
    } else {
        cx.screen.data(&table(&all, cx, cx.screen.out_paint));
    }
    Ok(Exit::Success)
}

fn table(all: &[Listed], cx: &Context, paint: Paint) -> String {
    let mut table = Table::with_titles(["CREATED", "FILE", "SOURCE", "TAG", "SIZE", "VERIFIED"], paint);
    for found in all {
        let backup = &found.backup;
        let path = backup.path.strip_prefix(&cx.project).unwrap_or(&backup.path);
        table.row(&[
            &units::clock(backup.created),
            &path.to_string_lossy(),
            &source(&backup.source),
            if backup.tag.is_empty() { "-" } else { &backup.tag },
            &now(&backup.size).map_or_else(|| "-".to_owned(), |size| units::bytes(*size)),
            &verdict(found, paint),
        ]);
    }
    let mut text = table.text();
    for found in all {
        for problem in problems(found) {
            text += &format!("{} {}: {problem}\n", paint.warning("warning:"), found.backup.name);
        }
    }
    let bytes: u64 = all.iter().filter_map(|found| now(&found.backup.size)).sum();
    text += &paint.faint(&format!("{}, {}", counted(all.len(), "backup"), units::bytes(bytes)));
    text + "\n"
}

fn source(source: &Source) -> String {
    match source {
        Source::Database { name, .. } => format!("database {name}"),
        Source::Tree { root, .. } => format!("tree {root}"),
        Source::Named { name } => name.clone(),
    }
}

/// What the last verification found.
fn verdict(found: &Listed, paint: Paint) -> String {
    match found.head.as_ref().and_then(|head| head.verified.as_ref()) {
        Some(proof) if proof.verdict.intact => paint.good(&units::clock_minute(proof.at)),
        Some(_) => paint.error("NOT INTACT"),
        None => "never".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::backup::{MANIFEST_VERSION, Manifest, Verified};
    use crate::cli::global::{Global, test};
    use crate::sys::store;
    use expect_test::expect;

    fn args(dirs: &[&str]) -> Args {
        Args { dirs: dirs.iter().map(PathBuf::from).collect(), verified: false, tag: None }
    }

    fn backup(project: &Path, dir: &str, name: &str, manifest: Option<(&str, &str, Option<bool>)>) {
        let dir = project.join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, "12345").unwrap();
        std::fs::write(store::sidecar(&path, ".sha256"), store::sha256_line(name, &"ab".repeat(32))).unwrap();
        let Some((tag, created, intact)) = manifest else { return };
        let time = chrono::DateTime::parse_from_rfc3339(created).unwrap();
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            file: name.into(),
            content: Content::Sql,
            source: Source::Database { system: "7".into(), name: "shop".into() },
            selection: None,
            tag: tag.into(),
            created: time,
            run: "20251110-020000-abcdef".into(),
            size: 5,
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
            verified: intact.map(|intact| Verified {
                at: time,
                intact,
                checks: vec!["sha256".into()],
                problems: if intact { vec![] } else { vec!["member 1 is damaged".into()] },
            }),
            drilled: None,
        };
        std::fs::write(store::sidecar(&path, ".json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    }

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (db, config) = ("backups/database", "backups/config");
        backup(dir.path(), db, "b.sql.gz", Some(("daily", "2025-11-10T02:00:00+00:00", Some(true))));
        backup(dir.path(), db, "c.sql.gz", Some(("daily", "2025-11-11T02:00:00+00:00", Some(false))));
        backup(dir.path(), config, "a.tar.gz", Some(("weekly", "2025-11-10T03:00:00+00:00", None)));
        backup(dir.path(), config, "aurora_config_20251109_023000.tar.gz", None);
        std::fs::write(dir.path().join(config).join("notes.txt"), "no backup").unwrap();
        dir
    }

    fn listed(dir: &Path, args: &Args, global: Global) -> (Result<Exit, Failure>, String, String) {
        let (cx, out, err) = test::context(dir, global);
        let exit = run(args, &cx);
        (exit, out.text().replace(&dir.display().to_string(), "PROJECT"), err.text())
    }

    #[test]
    fn backups_of_all_folders_are_listed_newest_last() {
        let dir = project();
        std::fs::remove_file(dir.path().join("backups/config/a.tar.gz.sha256")).unwrap();
        std::fs::write(dir.path().join("backups/database/b.sql.gz"), "1234567").unwrap();
        backup(dir.path(), "backups/database", "shop_db_20251112_020000.sql.gz", None);
        std::fs::write(dir.path().join("backups/database/shop_db_20251112_020000.sql.gz.json"), "{").unwrap();
        let (exit, out, err) = listed(dir.path(), &args(&[]), Global::default());
        assert_eq!((exit, err.as_str()), (Ok(Exit::Success), ""));
        expect![[r#"
            CREATED              FILE                                                 SOURCE         TAG     SIZE  VERIFIED
            2025-11-09 02:30:00  backups/config/aurora_config_20251109_023000.tar.gz  aurora_config  -       5 B   never
            2025-11-10 02:00:00  backups/database/b.sql.gz                            database shop  daily   7 B   2025-11-10 02:00
            2025-11-10 03:00:00  backups/config/a.tar.gz                              database shop  weekly  5 B   never
            2025-11-11 02:00:00  backups/database/c.sql.gz                            database shop  daily   5 B   NOT INTACT
            2025-11-12 02:00:00  backups/database/shop_db_20251112_020000.sql.gz      shop_db        -       5 B   never
            warning: b.sql.gz: it has 7 bytes, its manifest says 5
            warning: a.tar.gz: its .sha256 is missing
            warning: c.sql.gz: member 1 is damaged
            warning: shop_db_20251112_020000.sql.gz: the manifest `PROJECT/backups/database/shop_db_20251112_020000.sql.gz.json` cannot be understood: EOF while parsing an object at line 1 column 1
            5 backups, 27 B
        "#]].assert_eq(&out);
    }

    #[test]
    fn a_manifest_that_cannot_be_read_hides_no_backup() {
        let dir = tempfile::tempdir().unwrap();
        backup(dir.path(), "b", "odd.gz", None);
        std::fs::write(dir.path().join("b/odd.gz.json"), "{").unwrap();
        let (_, out, _) = listed(dir.path(), &args(&["b"]), Global { json: true, ..Global::default() });
        assert!(out.contains("\"name\": \"odd.gz\"") && out.contains("cannot be understood"), "{out}");
    }

    #[test]
    fn verified_and_tagged_ones_are_picked() {
        let dir = project();
        let names = |args: Args| {
            let (_, out, _) = listed(dir.path(), &args, Global::default());
            let mut names: Vec<String> = out.split_whitespace().map(str::to_owned).collect();
            names.retain(|word| word.starts_with("backups/"));
            names
        };
        assert_eq!(
            names(Args { verified: true, ..args(&["backups/database"]) }),
            ["backups/database/b.sql.gz"]
        );
        assert_eq!(names(Args { tag: Some("weekly".into()), ..args(&[]) }), ["backups/config/a.tar.gz"]);
        assert_eq!(names(args(&["backups/config", "backups/config"])).len(), 2);
        let none = Args { tag: Some("x".into()), verified: true, ..args(&[]) };
        assert_eq!(
            listed(dir.path(), &none, Global::default()).2,
            "there are no verified backups tagged `x` in `backups/database`, `backups/config`\n"
        );
    }

    #[test]
    fn the_guides_variables_name_the_folders() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".env"), "BACKUP_DIR=elsewhere\n").unwrap();
        backup(dir.path(), "elsewhere", "b.sql.gz", Some(("daily", "2025-11-10T02:00:00+00:00", None)));
        assert!(listed(dir.path(), &args(&[]), Global::default()).1.contains("elsewhere/b.sql.gz"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (exit, out, err) = listed(dir.path(), &args(&[]), Global::default());
        assert_eq!((exit, out.as_str()), (Ok(Exit::Success), ""));
        assert_eq!(err, "there are no backups in `backups/database`, `backups/config`\n");
        let failure = listed(dir.path(), &args(&["nowhere"]), Global::default()).0.unwrap_err();
        assert_eq!(
            (failure.code, failure.message.as_str()),
            (Code::NotFound, "there is no folder `nowhere`")
        );
    }

    #[test]
    fn json_is_the_documented_contract() {
        let dir = project();
        let args = Args { tag: Some("daily".into()), verified: true, ..args(&[]) };
        let (exit, out, _) = listed(dir.path(), &args, Global { json: true, ..Global::default() });
        assert_eq!(exit, Ok(Exit::Success));
        expect![[r#"
            [
              {
                "path": "PROJECT/backups/database/b.sql.gz",
                "name": "b.sql.gz",
                "kind": "sql",
                "source": {
                  "kind": "database",
                  "system": "7",
                  "name": "shop"
                },
                "tag": "daily",
                "created": "2025-11-10T02:00:00+00:00",
                "size": 5,
                "raw_size": 50,
                "sha256": "abababababababababababababababababababababababababababababababab",
                "verified": {
                  "at": "2025-11-10T02:00:00Z",
                  "intact": true,
                  "checks": [
                    "sha256"
                  ],
                  "problems": []
                },
                "problems": []
              }
            ]
        "#]]
        .assert_eq(&out);
    }
}
