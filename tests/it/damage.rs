//! What `verify` finds in backups that were damaged in every way, and what it says of those that were not.

use crate::cluster::{database, psql};
use crate::project::TestProject;
use expect_test::expect;
use flate2::read::MultiGzDecoder;
use lifeboat::base::backup::{Globals, Manifest};
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::OnceLock;

mod foreign;

const DIR: &str = "backups/database";
const FILE: &str = "shop_db_20250101_020000.sql.gz";
const ONE: &str = r#"
const PLAYBOOK = #{ summary: "Verify one backup", params: #{ path: #{ default_value: "", positional: true, path: true } } };
step "Verify" { verify(params.path); }
"#;

/// A backup of a small database, as the real program made it.
struct Original {
    bytes: Vec<u8>,
    /// The dump.
    raw: String,
    manifest: Manifest,
    /// Where each gzip member begins.
    members: Vec<usize>,
}

fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let source = database("damage");
        psql(
            &source,
            "CREATE TABLE users (id int, name text); CREATE TABLE notes (id int, text text); \
             INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 40) n; \
             INSERT INTO notes SELECT n, md5(n::text) FROM generate_series(1, 9) n",
        );
        let project = TestProject::new().database(&source);
        project.run(&["backup_database"]).exits(0);
        let file = project.only(DIR, ".sql.gz");
        let bytes = std::fs::read(project.at(DIR).join(&file)).unwrap();
        let manifest = std::fs::read(project.at(DIR).join(format!("{file}.json"))).unwrap();
        let mut members = vec![0];
        while let Some(size) = bytes.get(members[members.len() - 1] + 16..).and_then(|rest| rest.get(..4)) {
            members.push(members[members.len() - 1] + u32::from_le_bytes(size.try_into().unwrap()) as usize);
        }
        assert_eq!(members.pop(), Some(bytes.len()));
        assert!(members.len() > 4, "{members:?}");
        Original {
            raw: inflated(&bytes),
            bytes,
            manifest: serde_json::from_slice(&manifest).unwrap(),
            members,
        }
    })
}

fn inflated(bytes: &[u8]) -> String {
    let mut raw = String::new();
    MultiGzDecoder::new(bytes).read_to_string(&mut raw).unwrap();
    raw
}

fn gzipped(raw: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, raw).unwrap();
    encoder.finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which sidecars stand beside a damaged file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sidecars {
    /// Those of the original.
    Original,
    /// A `.sha256` of the damaged file, and no manifest.
    Digest,
    /// A `.sha256` and a manifest with size and digest of the damaged file.
    Forged,
}

fn put(project: &TestProject, name: &str, bytes: &[u8], sidecars: Sidecars) {
    let at = |suffix: &str| project.at(DIR).join(format!("{name}{suffix}"));
    std::fs::create_dir_all(project.at(DIR)).unwrap();
    std::fs::write(at(""), bytes).unwrap();
    let mut manifest =
        Manifest { file: name.to_owned(), verified: None, globals: None, ..original().manifest.clone() };
    if sidecars != Sidecars::Original {
        manifest.sha256 = sha256(bytes);
        manifest.size = bytes.len() as u64;
    }
    std::fs::write(at(".sha256"), format!("{}  {name}\n", manifest.sha256)).unwrap();
    if sidecars != Sidecars::Digest {
        std::fs::write(at(".json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    }
}

fn manifest(project: &TestProject, name: &str) -> Manifest {
    serde_json::from_slice(&std::fs::read(project.at(DIR).join(format!("{name}.json"))).unwrap()).unwrap()
}

/// Error and causes of one verification in one line, behind its exit code.
fn verdict(project: &TestProject, name: &str) -> String {
    let ran = project.run(&["one", &format!("{DIR}/{name}")]);
    let text = project.steady(&ran.stderr.replace(name, "FILE"));
    let said: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("error: ").or_else(|| line.strip_prefix("caused by: ")))
        .collect();
    format!("{}: {}", ran.code, said.join("; "))
}

/// Verifies all that is in the folder, which must all be found damaged; returns what was said.
#[track_caller]
fn all_are_found(project: &TestProject) -> String {
    let names: Vec<String> =
        project.names(DIR).into_iter().filter(|name| name.ends_with(".sql.gz")).collect();
    let ran = project.run(&["verify_backups"]);
    let missed: Vec<&String> =
        names.iter().filter(|name| !ran.stderr.contains(&format!("{name} is NOT intact: "))).collect();
    assert!(missed.is_empty(), "{missed:?}");
    assert_eq!(ran.code, 12);
    let all = format!("error: {} of {} backups are not intact: ", names.len(), names.len());
    assert!(ran.stderr.contains(&all), "{all}");
    for name in &names {
        if project.at(DIR).join(format!("{name}.json")).exists() {
            assert!(!manifest(project, name).verified.unwrap().intact, "{name}");
        }
    }
    ran.stderr
}

#[test]
fn a_file_cut_anywhere_is_found_whatever_its_sidecars_say() {
    let original = original();
    let end = original.bytes.len();
    let mut cuts: Vec<usize> = (0..end).step_by(41).collect();
    cuts.extend(original.members.iter().flat_map(|at| [at.saturating_sub(1), *at, at + 1]));
    cuts.extend([end - 1, end - 8]);
    cuts.sort_unstable();
    cuts.dedup();
    for sidecars in [Sidecars::Original, Sidecars::Digest, Sidecars::Forged] {
        let project = TestProject::in_memory();
        for cut in &cuts {
            let name = format!("c{cut}_20250101_020000.sql.gz");
            put(&project, &name, &original.bytes[..*cut], sidecars);
        }
        let told = all_are_found(&project);
        // Of a file of one byte nobody can tell that it was to be gzip.
        for cut in cuts.iter().filter(|cut| **cut > 1) {
            let said = format!("c{cut}_20250101_020000.sql.gz is cut off at byte {cut}");
            assert!(told.contains(&said), "{said}: {told}");
        }
    }
}

#[test]
fn every_flipped_bit_is_found_whatever_the_sidecars_say() {
    let original = original();
    for sidecars in [Sidecars::Original, Sidecars::Digest, Sidecars::Forged] {
        let project = TestProject::in_memory();
        for at in (0..original.bytes.len()).step_by(11) {
            let mut bytes = original.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            put(&project, &format!("f{at}_20250101_020000.sql.gz"), &bytes, sidecars);
        }
        all_are_found(&project);
    }
}

#[test]
fn each_damage_is_called_by_its_name() {
    let Original { bytes, raw, members, .. } = original();
    let project = TestProject::in_memory().playbook("one", ONE);
    let mut told = String::new();
    let mut tell = |what: &str, damage: &dyn Fn(&str)| {
        put(&project, FILE, bytes, Sidecars::Original);
        damage(FILE);
        told += &format!("{what}\n  {}\n", verdict(&project, FILE));
        for name in project.names(DIR) {
            std::fs::remove_file(project.at(DIR).join(name)).unwrap();
        }
    };
    let at = |suffix: &str| project.at(DIR).join(format!("{FILE}{suffix}"));
    let text = |suffix: &str, text: &str| std::fs::write(at(suffix), text).unwrap();
    let change = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest(&project, FILE);
        change(&mut manifest);
        std::fs::write(at(".json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    };
    let regzipped = |from: &str, to: &str, sidecars| {
        let changed = raw.replacen(from, to, 1);
        assert_ne!(&changed, raw);
        put(&project, FILE, &gzipped(changed.as_bytes()), sidecars);
        change(&|manifest| (manifest.raw_size, manifest.members) = (changed.len() as u64, 1));
    };
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 4;
        bytes
    };

    tell("nothing", &|_| {});
    tell("empty", &|name| put(&project, name, b"", Sidecars::Original));
    tell("cut in a member", &|name| put(&project, name, &bytes[..members[2] + 40], Sidecars::Original));
    tell("cut between members", &|name| put(&project, name, &bytes[..members[2]], Sidecars::Original));
    tell("cut between members, with a new digest", &|name| {
        put(&project, name, &bytes[..members[2]], Sidecars::Forged);
    });
    tell("the end mark is cut off, with a new digest", &|name| {
        put(&project, name, &bytes[..members[members.len() - 1]], Sidecars::Forged);
    });
    tell("a member is missing, with a new digest", &|name| {
        let without = [&bytes[..members[1]], &bytes[members[2]..]].concat();
        put(&project, name, &without, Sidecars::Forged);
    });
    tell("a flipped bit", &|name| put(&project, name, &flipped(members[2] + 60), Sidecars::Original));
    tell("a flipped bit, with a new digest", &|name| {
        put(&project, name, &flipped(members[2] + 60), Sidecars::Forged);
    });
    tell("a flipped bit in a header, with a new digest", &|name| {
        put(&project, name, &flipped(members[1] + 5), Sidecars::Forged);
    });
    tell("garbage behind the end", &|name| {
        put(&project, name, &[bytes, &b"garbage"[..]].concat(), Sidecars::Original);
    });
    tell("garbage behind the end, with a new digest", &|name| {
        put(&project, name, &[bytes, &b"garbage"[..]].concat(), Sidecars::Forged);
    });
    tell("another backup is appended, with a new digest", &|name| {
        put(&project, name, &[&bytes[..], &bytes[..]].concat(), Sidecars::Forged);
    });
    tell("no gzip file at all, with a new digest", &|name| {
        put(&project, name, raw.as_bytes(), Sidecars::Forged);
    });

    tell("no .sha256", &|_| std::fs::remove_file(at(".sha256")).unwrap());
    tell(".sha256 is empty", &|_| text(".sha256", ""));
    tell(".sha256 is garbage", &|_| text(".sha256", "no digest at all\n"));
    tell(".sha256 is of another file", &|name| {
        text(".sha256", &format!("{}  {name}\n", sha256(b"another")));
    });
    tell("no manifest", &|_| std::fs::remove_file(at(".json")).unwrap());
    tell("manifest is cut", &|_| {
        let json = std::fs::read_to_string(at(".json")).unwrap();
        text(".json", &json[..40]);
    });
    tell("manifest of another file", &|_| change(&|manifest| manifest.file = "other.sql.gz".into()));
    tell("manifest of a newer version", &|_| change(&|manifest| manifest.version = 2));
    tell("manifest with another size", &|_| change(&|manifest| manifest.size += 1));
    tell("manifest with another digest", &|_| change(&|manifest| manifest.sha256 = sha256(b"another")));
    tell("manifest with another raw size", &|_| change(&|manifest| manifest.raw_size += 1));
    tell("manifest with another number of members", &|_| change(&|manifest| manifest.members += 1));
    tell("manifest with another number of rows", &|_| change(&|manifest| manifest.tables[0].rows += 1));
    tell("manifest without a table", &|_| change(&|manifest| drop(manifest.tables.pop())));

    tell("content changed and gzipped anew, manifest as before", &|name| {
        put(&project, name, &gzipped(raw.replace("user 7\n", "user 8\n").as_bytes()), Sidecars::Digest);
        put(&project, name, &std::fs::read(at("")).unwrap(), Sidecars::Original);
    });
    tell("a row changed", &|_| regzipped("\tuser 7\n", "\tuser 8\n", Sidecars::Forged));
    tell("a row is gone", &|_| regzipped("7\tuser 7\n", "", Sidecars::Forged));
    tell("a row changed, no manifest", &|_| {
        regzipped("\tuser 7\n", "\tuser 8\n", Sidecars::Forged);
        std::fs::remove_file(at(".json")).unwrap();
    });
    let summary = &raw[raw.find("-- Lifeboat content summary").unwrap()..];
    tell("a row changed, no summary", &|name| {
        let changed = raw.replace("\tuser 7\n", "\tuser 8\n").replace(summary, "");
        put(&project, name, &gzipped(changed.as_bytes()), Sidecars::Forged);
        change(&|manifest| (manifest.raw_size, manifest.members) = (changed.len() as u64, 1));
    });
    tell("cut at its source: the summary", &|_| regzipped(summary, "", Sidecars::Forged));
    tell("cut at its source: within the summary", &|_| {
        regzipped(&summary[summary.len() - 20..], "", Sidecars::Forged);
    });
    let marker = raw.find("-- PostgreSQL database dump complete").unwrap();
    tell("cut at its source: the end marker", &|_| regzipped(&raw[marker..], "", Sidecars::Forged));
    let row = raw.find("20\tuser 20").unwrap();
    tell("cut at its source: within a table", &|_| regzipped(&raw[row..], "", Sidecars::Forged));
    tell("cut at its source: within a statement", &|_| {
        let at = raw.find("CREATE TABLE public.users").unwrap() + 20;
        regzipped(&raw[at..], "", Sidecars::Forged);
    });
    tell("a command of psql was put in", &|_| {
        regzipped("SET statement_timeout", "\\! echo owned\nSET statement_timeout", Sidecars::Forged);
    });
    expect![[r#"
        nothing
          0: 
        empty
          12: `FILE` is not intact; FILE is empty; FILE has SIZE, its manifest says N
        cut in a member
          12: `FILE` is not intact; FILE is cut off at byte N; FILE has the SHA-256 SHA256 instead of SHA256; FILE has SIZE, its manifest says N
        cut between members
          12: `FILE` is not intact; FILE is cut off at byte N; FILE has the SHA-256 SHA256 instead of SHA256; FILE has SIZE, its manifest says N
        cut between members, with a new digest
          12: `FILE` is not intact; FILE is cut off at byte N
        the end mark is cut off, with a new digest
          12: `FILE` is not intact; FILE is cut off at byte N
        a member is missing, with a new digest
          12: `FILE` is not intact; FILE is damaged at byte N: members are missing before the end mark
        a flipped bit
          12: `FILE` is not intact; FILE is damaged at byte N: its checksum does not match; FILE has the SHA-256 SHA256 instead of SHA256
        a flipped bit, with a new digest
          12: `FILE` is not intact; FILE is damaged at byte N: its checksum does not match
        a flipped bit in a header, with a new digest
          12: `FILE` is not intact; FILE is damaged at byte N: its header was altered
        garbage behind the end
          12: `FILE` is not intact; FILE has foreign bytes behind its end at byte N; FILE has the SHA-256 SHA256 instead of SHA256; FILE has SIZE, its manifest says N
        garbage behind the end, with a new digest
          12: `FILE` is not intact; FILE has foreign bytes behind its end at byte N
        another backup is appended, with a new digest
          12: `FILE` is not intact; FILE has 14 gzip members, its manifest says 7; FILE: table public.notes has 18 rows instead of 9; FILE holds SIZE, its manifest says N
        no gzip file at all, with a new digest
          12: `FILE` is not intact; FILE is no gzip file
        no .sha256
          12: `FILE` is not intact; FILE.sha256 is missing
        .sha256 is empty
          12: `FILE` is not intact; `PROJECT/backups/database/FILE.sha256` holds no SHA-256 digest
        .sha256 is garbage
          12: `FILE` is not intact; `PROJECT/backups/database/FILE.sha256` holds no SHA-256 digest
        .sha256 is of another file
          12: `FILE` is not intact; FILE has the SHA-256 SHA256 instead of SHA256
        no manifest
          12: `FILE` is not intact; FILE.json is missing
        manifest is cut
          12: `FILE` is not intact; the manifest `PROJECT/backups/database/FILE.json` cannot be understood: EOF while parsing a string at line 1 column 40
        manifest of another file
          12: `FILE` is not intact; its manifest belongs to other.sql.gz
        manifest of a newer version
          12: `FILE` is not intact; the manifest `PROJECT/backups/database/FILE.json` cannot be understood: it has version 2, this Lifeboat knows 1
        manifest with another size
          12: `FILE` is not intact; FILE has SIZE, its manifest says N
        manifest with another digest
          12: `FILE` is not intact; FILE has the SHA-256 SHA256, its manifest says SHA256
        manifest with another raw size
          12: `FILE` is not intact; FILE holds SIZE, its manifest says N
        manifest with another number of members
          12: `FILE` is not intact; FILE has 7 gzip members, its manifest says 8
        manifest with another number of rows
          12: `FILE` is not intact; FILE: row counts or fingerprints differ from the manifest
        manifest without a table
          12: `FILE` is not intact; FILE: row counts or fingerprints differ from the manifest
        content changed and gzipped anew, manifest as before
          12: `FILE` is not intact; FILE has the SHA-256 SHA256 instead of SHA256; FILE: table public.users has other content than when it was dumped; FILE has SIZE, its manifest says N
        a row changed
          12: `FILE` is not intact; FILE: table public.users has other content than when it was dumped
        a row is gone
          12: `FILE` is not intact; FILE: table public.users has 39 rows instead of 40
        a row changed, no manifest
          12: `FILE` is not intact; FILE: table public.users has other content than when it was dumped
        a row changed, no summary
          12: `FILE` is not intact; FILE: the content summary, which ends every dump of ours, is missing; FILE: row counts or fingerprints differ from the manifest
        cut at its source: the summary
          12: `FILE` is not intact; FILE: the content summary, which ends every dump of ours, is missing
        cut at its source: within the summary
          12: `FILE` is not intact; FILE: line 123: `-- Lifeboat summary complete` does not belong into a content summary
        cut at its source: the end marker
          12: `FILE` is not intact; FILE: the dump's end marker is missing
        cut at its source: within a table
          12: `FILE` is not intact; FILE: the data of table `public.users`, which begins at line 70, has no end
        cut at its source: within a statement
          12: `FILE` is not intact; FILE: a statement, which begins at line 41, has no end
        a command of psql was put in
          12: `FILE` is not intact; FILE: line 10: a dump does not hold the command `\! echo owned`
    "#]].assert_eq(&told);
}

#[test]
fn the_result_is_shown_and_recorded() {
    let original = original();
    let project = TestProject::new().playbook("one", ONE).playbook(
        "report",
        r#"
        step "Look" {
            let found = verify("backups/database/shop_db_20250101_020000.sql.gz", #{ report_only: true });
            info(`${found.intact} ${found.checks} ${found.problems}`);
        }
        "#,
    );
    put(&project, FILE, &original.bytes, Sidecars::Original);
    let before = manifest(&project, FILE);
    let inode = |name: &str| std::fs::metadata(project.at(DIR).join(name)).unwrap().ino();
    let json = format!("{FILE}.json");
    let old = inode(&json);
    let ran = project.run(&["verify_backups"]).exits(0);
    expect![[r#"
        ▶ Verify
          verify: shop_db_STAMP.sql.gz is intact (SIZE; sha256, gzip, end marker, row counts and fingerprints, manifest)
        ✔ Verify (TIME)
        ▶ Report
          notify: alert `success`: Verified 1 backups: all are intact
        ✔ Report (TIME)
        ▶ Note
        ℹ️  INFO - Verify backups is done: 1 backup is intact
        ✔ Note (TIME)
        ✔ verify_backups completed in TIME
    "#]].assert_eq(&project.steady(&ran.stderr));
    let verified = manifest(&project, FILE).verified.unwrap();
    assert!(verified.intact && verified.problems.is_empty(), "{verified:?}");
    assert_eq!(verified.checks, ["sha256", "gzip", "end marker", "row counts and fingerprints", "manifest"]);
    assert_eq!(manifest(&project, FILE), Manifest { verified: Some(verified), ..before.clone() });
    assert_ne!(inode(&json), old, "the manifest is replaced as a whole");
    assert_eq!(std::fs::metadata(project.at(DIR).join(&json)).unwrap().permissions().mode() & 0o777, 0o600);

    // The damage comes later, and goes again.
    let mut damaged = original.bytes.clone();
    damaged[original.members[1] + 70] ^= 1;
    std::fs::write(project.at(DIR).join(FILE), &damaged).unwrap();
    let ran = project.run(&["one", &format!("{DIR}/{FILE}")]);
    expect![[r#"
        exit 12
        error: `shop_db_STAMP.sql.gz` is not intact
          ——▶ playbooks/one.rhai:3:17
          │
        N │ step "Verify" { verify(params.path); }
          │                 ^
        caused by: shop_db_STAMP.sql.gz is damaged at byte N: its checksum does not match
        caused by: shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256
        hint: Do not restore it. `lifeboat backups backups/database --verified` lists the intact ones.
        ✘ one failed in step `Verify` after TIME (exit 12)
    "#]]
    .assert_eq(&project.told(&ran));
    let verified = manifest(&project, FILE).verified.unwrap();
    assert!(!verified.intact);
    assert_eq!(manifest(&project, FILE), Manifest { verified: Some(verified), ..before.clone() });
    let ran = project.run(&["verify_backups"]);
    expect![[r#"
        exit 12
        warning: shop_db_STAMP.sql.gz: shop_db_STAMP.sql.gz is damaged at byte N: its checksum does not match; shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256
        error: 1 of 1 backups are not intact: shop_db_STAMP.sql.gz
            ——▶ std/backup:N
            │
        N │             fail(#{
            │             ^
        while calling `std/backup::verify_all` at std/backup:N
        while calling `std/backup::verify_folders` at playbooks/verify_backups.rhai:N
        hint: Keep the damaged files for inquiry, and make a fresh backup now: lifeboat run backup_all
        ✘ verify_backups failed in step `Report` after TIME (exit 12)
    "#]]
    .assert_eq(&project.told(&ran));
    let ran = project.run(&["report"]);
    expect![[r#"
        exit 0
        ▶ Look
          verify: shop_db_STAMP.sql.gz is NOT intact: shop_db_STAMP.sql.gz is damaged at byte N: its checksum does not match; shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256
        ℹ️  INFO - false ["sha256", "gzip"] ["shop_db_STAMP.sql.gz is damaged at byte N: its checksum does not match", "shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256"]
        ✔ Look (TIME)
        ✔ report completed in TIME
    "#]].assert_eq(&format!("exit {}\n{}", ran.code, project.steady(&ran.stderr)));
    std::fs::write(project.at(DIR).join(FILE), &original.bytes).unwrap();
    project.run(&["one", &format!("{DIR}/{FILE}")]).exits(0);
    assert!(manifest(&project, FILE).verified.unwrap().intact);
    assert_eq!(project.names(DIR), [FILE.to_owned(), json, format!("{FILE}.sha256")]);
}

#[test]
fn a_manifest_that_is_not_understood_stays_as_it_is() {
    let project = TestProject::new().playbook("one", ONE);
    for text in [r#"{"version":2,"file":"x","new":[1]}"#, "{", ""] {
        put(&project, FILE, &original().bytes, Sidecars::Original);
        let json = project.at(DIR).join(format!("{FILE}.json"));
        std::fs::write(&json, text).unwrap();
        project.run(&["one", &format!("{DIR}/{FILE}")]).exits(12).says("cannot be understood");
        assert_eq!(std::fs::read_to_string(&json).unwrap(), text);
    }
}

#[test]
fn one_broken_sidecar_hides_no_other_backup() {
    let project = TestProject::new();
    put(&project, "a_20250101_020000.sql.gz", &original().bytes, Sidecars::Original);
    put(&project, "b_20250102_020000.sql.gz", &original().bytes, Sidecars::Digest);
    std::fs::write(project.at(DIR).join("b_20250102_020000.sql.gz.sha256"), "<<<<<<< HEAD\n").unwrap();
    let ran = project.run(&["verify_backups"]).exits(12);
    expect![[r#"
        ▶ Verify
          verify: b_STAMP.sql.gz is NOT intact: `PROJECT/backups/database/b_STAMP.sql.gz.sha256` holds no SHA-256 digest; b_STAMP.sql.gz.json is missing
          verify: a_STAMP.sql.gz is intact (SIZE; sha256, gzip, end marker, row counts and fingerprints, manifest)
        ✔ Verify (TIME)
        ▶ Report
        ❌ ERROR - b_STAMP.sql.gz: `PROJECT/backups/database/b_STAMP.sql.gz.sha256` holds no SHA-256 digest; b_STAMP.sql.gz.json is missing
        ✘ Report failed (TIME)
        warning: b_STAMP.sql.gz: `PROJECT/backups/database/b_STAMP.sql.gz.sha256` holds no SHA-256 digest; b_STAMP.sql.gz.json is missing
        error: 1 of 2 backups are not intact: b_STAMP.sql.gz
            ——▶ std/backup:N
            │
        N │             fail(#{
            │             ^
        while calling `std/backup::verify_all` at std/backup:N
        while calling `std/backup::verify_folders` at playbooks/verify_backups.rhai:N
        hint: Keep the damaged files for inquiry, and make a fresh backup now: lifeboat run backup_all
        ✘ verify_backups failed in step `Report` after TIME (exit 12)
    "#]].assert_eq(&project.steady(&ran.stderr));
}

#[test]
fn in_a_folder_that_cannot_be_written_the_result_is_told_and_not_recorded() {
    let project = TestProject::new().playbook("one", ONE);
    put(&project, FILE, &original().bytes, Sidecars::Original);
    let set_mode =
        |mode| std::fs::set_permissions(project.at(DIR), std::fs::Permissions::from_mode(mode)).unwrap();
    let before = std::fs::read(project.at(DIR).join(format!("{FILE}.json"))).unwrap();
    set_mode(0o555);
    let intact = project.run_as_nobody(&["verify_backups"]);
    set_mode(0o755);
    std::fs::write(project.at(DIR).join(FILE), &original().bytes[..700]).unwrap();
    set_mode(0o555);
    let damaged = project.run_as_nobody(&["one", &format!("{DIR}/{FILE}")]);
    set_mode(0o755);
    assert_eq!(std::fs::read(project.at(DIR).join(format!("{FILE}.json"))).unwrap(), before);
    expect![[r#"
        exit 3
        ▶ Verify
        ⚠️  WARN - the result for shop_db_STAMP.sql.gz could not be recorded: cannot create `PROJECT/backups/database/shop_db_STAMP.sql.gz.json`: permission denied
          verify: shop_db_STAMP.sql.gz is intact (SIZE; sha256, gzip, end marker, row counts and fingerprints, manifest)
        ✔ Verify (TIME)
        ▶ Report
          notify: alert `success`: Verified 1 backups: all are intact
        ✔ Report (TIME)
        ▶ Note
        ℹ️  INFO - Verify backups is done: 1 backup is intact
        ✔ Note (TIME)
        warning: the result for shop_db_STAMP.sql.gz could not be recorded: cannot create `PROJECT/backups/database/shop_db_STAMP.sql.gz.json`: permission denied
        ! verify_backups completed with 1 warning in TIME
    "#]].assert_eq(&format!("exit {}\n{}", intact.code, project.steady(&intact.stderr)));
    expect![[r#"
        exit 12
        warning: the result for shop_db_STAMP.sql.gz could not be recorded: cannot create `PROJECT/backups/database/shop_db_STAMP.sql.gz.json`: permission denied
        error: `shop_db_STAMP.sql.gz` is not intact
          ——▶ playbooks/one.rhai:3:17
          │
        N │ step "Verify" { verify(params.path); }
          │                 ^
        caused by: shop_db_STAMP.sql.gz is cut off at byte N
        caused by: shop_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256
        caused by: shop_db_STAMP.sql.gz has SIZE, its manifest says N
        hint: Do not restore it. `lifeboat backups backups/database --verified` lists the intact ones.
        ✘ one failed in step `Verify` after TIME (exit 12)
    "#]].assert_eq(&project.told(&damaged));
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let project = TestProject::new().playbook("one", ONE).file("backups/database/x", "");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        project.at("backups/database/pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink("nowhere", project.at("backups/database/dangling")).unwrap();
    let told: Vec<String> =
        ["pipe", "dangling", "absent"].iter().map(|name| verdict(&project, name)).collect();
    expect![[r#"
        [
            "1: cannot read `PROJECT/backups/database/FILE`; it is no file that has an end",
            "1: cannot read `PROJECT/backups/database/FILE`; no such file or folder",
            "1: there is no backup `PROJECT/backups/database/FILE`",
        ]
    "#]]
    .assert_debug_eq(&told);
    let ran = project.run(&["one", DIR]);
    expect![[r#"
        exit 1
        error: cannot read `PROJECT/backups/database`
          ——▶ playbooks/one.rhai:3:17
          │
        N │ step "Verify" { verify(params.path); }
          │                 ^
        caused by: it is a folder
        ✘ one failed in step `Verify` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran));
}

#[test]
fn an_uncompressed_dump_is_verified_by_its_content() {
    let source = database("plain");
    psql(&source, "CREATE TABLE t AS SELECT generate_series(1, 100) AS id");
    let project = TestProject::new().database(&source).playbook("one", ONE).playbook(
        "plain",
        r#"step "x" { verify(dump(postgres()).save("backups/database/plain_20250101_020000.sql")); }"#,
    );
    let ran = project.run(&["plain"]).exits(0);
    assert!(
        ran.stderr.contains("(sha256, end marker") || ran.stderr.contains("is intact ("),
        "{}",
        ran.stderr
    );
    let name = "plain_20250101_020000.sql";
    let at = project.at(DIR).join(name);
    let whole = std::fs::read_to_string(&at).unwrap();
    let verified = manifest(&project, name).verified.unwrap();
    assert_eq!(verified.checks, ["sha256", "end marker", "row counts and fingerprints", "manifest"]);
    let mut told = String::new();
    for (what, content) in [
        ("nothing", whole.clone()),
        ("a row changed", whole.replace("\n77\n", "\n78\n")),
        ("cut", whole[..whole.len() / 2].to_owned()),
        ("cut behind the end marker", whole[..whole.find("-- Lifeboat content").unwrap()].to_owned()),
        ("empty", String::new()),
    ] {
        std::fs::write(&at, &content).unwrap();
        told += &format!("{what}: {}\n", verdict(&project, name));
        std::fs::write(format!("{}.sha256", at.display()), sha256(content.as_bytes())).unwrap();
        let mut manifest = manifest(&project, name);
        (manifest.size, manifest.raw_size) = (content.len() as u64, content.len() as u64);
        manifest.sha256 = sha256(content.as_bytes());
        std::fs::write(format!("{}.json", at.display()), serde_json::to_vec(&manifest).unwrap()).unwrap();
        told += &format!("{what}, new sidecars: {}\n", verdict(&project, name));
    }
    expect![[r#"
        nothing: 0: 
        nothing, new sidecars: 0: 
        a row changed: 12: `FILE` is not intact; FILE has the SHA-256 SHA256 instead of SHA256; FILE: table public.t has other content than when it was dumped
        a row changed, new sidecars: 12: `FILE` is not intact; FILE: table public.t has other content than when it was dumped
        cut: 12: `FILE` is not intact; FILE has the SHA-256 SHA256 instead of SHA256; FILE: a statement, which begins at line 29, has no end; FILE has SIZE, its manifest says N
        cut, new sidecars: 12: `FILE` is not intact; FILE: a statement, which begins at line 29, has no end
        cut behind the end marker: 12: `FILE` is not intact; FILE has the SHA-256 SHA256 instead of SHA256; FILE has SIZE, its manifest says N; FILE: the content summary, which ends every dump of ours, is missing
        cut behind the end marker, new sidecars: 12: `FILE` is not intact; FILE: the content summary, which ends every dump of ours, is missing
        empty: 12: `FILE` is not intact; FILE has the SHA-256 SHA256 instead of SHA256; FILE: the dump's end marker is missing; FILE has SIZE, its manifest says N
        empty, new sidecars: 12: `FILE` is not intact; FILE: the dump's end marker is missing
    "#]].assert_eq(&told);
}

#[test]
fn the_roles_beside_a_dump_are_verified_too() {
    let project = TestProject::new().playbook(
        "one",
        "const PLAYBOOK = #{ summary: \"One\", params: #{ path: #{ positional: true } } };\nstep \"Verify\" { verify(params.path); }",
    );
    put(&project, FILE, &original().bytes, Sidecars::Original);
    assert!(original().manifest.globals.is_some());
    let sql = "CREATE ROLE a;\n";
    let globals = Globals { size: sql.len() as u64, sha256: sha256(sql.as_bytes()) };
    let manifest = Manifest { globals: Some(globals), ..manifest(&project, FILE) };
    let at = |suffix: &str| project.at(DIR).join(format!("{FILE}{suffix}"));
    std::fs::write(at(".json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    assert_eq!(verdict(&project, FILE), "12: `FILE` is not intact; FILE.globals.sql is missing");
    std::fs::write(at(".globals.sql"), sql).unwrap();
    assert_eq!(verdict(&project, FILE), "0: ");
    std::fs::write(at(".globals.sql"), "CREATE ROLE b;\n").unwrap();
    assert_eq!(
        verdict(&project, FILE),
        "12: `FILE` is not intact; FILE.globals.sql differs from the manifest"
    );
}
