//! Files from archives, put in their place and put back: what comes of honest archives, and of all others.

mod escapes;
mod interrupted;

use crate::archive::{portrait, set_mode};
use crate::project::TestProject;
use expect_test::expect;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Extracts the archive `in/a.tar.gz` into `tree`, and rolls back.
pub const EXTRACT: &str = r#"
const PLAYBOOK = #{
    summary: "Extract an archive",
    params: #{
        archive: #{ default_value: "in/a.tar.gz", path: true, help: "The archive" },
        dir: #{ default_value: "tree", path: true, help: "Where its files go" },
        only: #{ list: true, default_value: [], help: "What to take" },
        except: #{ list: true, default_value: [], help: "What to leave out" },
    },
};
step "Extract" {
    let made = extract(params.archive, params.dir, #{ only: params.only, except: params.except });
    info(`kept in ${made.kept}: ${made.added} new, ${made.changed} changed, ${made.same} same, ${made.others} others`);
}
"#;

pub const ROLLBACK: &str = r#"
const PLAYBOOK = #{ summary: "Roll back", params: #{ kept: #{ positional: true, type: "string", help: "What is kept" } } };
step "Roll back" { rollback_files(params.kept) }
"#;

pub const BACKUP: &str = r#"
step "Archive" { verify(archive("tree").gzip().save("in/a.tar.gz")); }
"#;

/// A project whose folder `tree` is to be backed up and extracted.
pub fn project() -> TestProject {
    let project = TestProject::new()
        .playbook("back", BACKUP)
        .playbook("extract", EXTRACT)
        .playbook("rollback_kept", ROLLBACK);
    std::fs::create_dir(project.at("tree")).unwrap();
    project
}

/// What is kept in a folder, by name.
pub fn kept(project: &TestProject, dir: &str) -> Vec<String> {
    project.names(&format!("{dir}/.lifeboat-kept"))
}

/// A tree without what is kept in it.
pub fn tree(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut portrait = portrait(root);
    portrait.retain(|name, _| !name.starts_with(b".lifeboat-kept"));
    portrait
}

/// The tree without the times of folders, which change with what is in them.
pub fn timeless(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut tree = tree(root);
    for text in tree.values_mut().filter(|text| text.starts_with("4")) {
        *text = text.split(" at ").next().unwrap().to_owned();
    }
    tree
}

fn modified(path: &Path, seconds: u64) {
    let when = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    std::fs::File::open(path).unwrap().set_modified(when).unwrap();
}

/// A configuration with everything that may be in one, whose times are old.
fn rich() -> TestProject {
    let project = project()
        .file("tree/.env", "DB_PASSWORD=the-old-s3cret\n")
        .file("tree/package.json", "{}")
        .file("tree/empty", "")
        .file("tree/script.sh", "#!/bin/sh\n")
        .file("tree/config/app.json", "{\"a\": 1}")
        .file("tree/config/deep/er/x", "x")
        .file("tree/ünï cödé \\ \n\t\"file\"", "odd")
        .file(&format!("tree/{}/{}", "deep".repeat(40), "n".repeat(200)), "long");
    let at = |name: &str| project.at("tree").join(name);
    std::fs::write(at("").join(std::ffi::OsStr::from_bytes(b"latin\xe9")), "latin").unwrap();
    std::fs::hard_link(at("package.json"), at("config/second name")).unwrap();
    std::fs::create_dir(at("empty folder")).unwrap();
    symlink("config/deep", at("link to folder")).unwrap();
    symlink("../package.json", at("config/up")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for (name, mode) in
        [(".env", 0o600), ("script.sh", 0o755), ("config", 0o750), ("empty folder", 0o555), ("empty", 0o400)]
    {
        set_mode(&at(name), mode);
    }
    for entry in walkdir::WalkDir::new(project.at("tree")).contents_first(true) {
        let entry = entry.unwrap();
        if !entry.path_is_symlink() {
            modified(entry.path(), 1_600_000_000);
        }
    }
    project
}

#[test]
fn a_changed_tree_becomes_again_what_was_backed_up_and_back() {
    let project = rich();
    let at = |name: &str| project.at("tree").join(name);
    let original = tree(&project.at("tree"));
    project.run(&["back"]).exits(0);
    // Nothing to do is nothing done.
    project.run(&["extract"]).exits(0).says("kept in : 0 new, 0 changed, 18 same, 0 others");
    assert_eq!(tree(&project.at("tree")), original);
    assert_eq!(kept(&project, "tree"), [""; 0]);

    std::fs::write(at(".env"), "DB_PASSWORD=a-new-s3cret\n").unwrap();
    std::fs::remove_dir_all(at("config")).unwrap();
    std::fs::remove_file(at("dangling")).unwrap();
    symlink("/etc/passwd", at("dangling")).unwrap();
    std::fs::remove_file(at("link to folder")).unwrap();
    std::fs::write(at("link to folder"), "no link any more").unwrap();
    set_mode(&at("script.sh"), 0o600);
    std::fs::remove_dir(at("empty folder")).unwrap();
    std::fs::remove_dir_all(at(&"deep".repeat(40))).unwrap();
    std::fs::write(at("own"), "only here").unwrap();
    let changed = tree(&project.at("tree"));

    let before = project.tree(&[".lifeboat", "logs"]);
    let dry = project.run(&["extract", "--dry-run"]).exits(0);
    expect![[r#"
        Dry run of extract

        Extract
          replace extract: extract `in/a.tar.gz` into `tree`: 10 new, 5 changed, 3 the same; 1 other is left alone
                    ~ .env (changed, SIZE → SIZE)
                    + config (new folder)
                    + config/app.json (new, SIZE)
                    + config/deep (new folder)
                    + config/deep/er (new folder)
                    + config/deep/er/x (new, SIZE)
                    + config/second name (new, SIZE)
                    + config/up (new link)
                    ~ dangling (the link leads elsewhere)
                    + deepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeep (new folder)
                    + deepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeep/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn (new, SIZE)
                    + empty folder (new folder)
                    ~ link to folder (a file there, a link in the archive)
                    ~ package.json (a second name of another file)
                    ~ script.sh (mode 600 → 755)
                    what is replaced is kept for `rollback_files`
        ℹ️  INFO - kept in (known after run): 10 new, 5 changed, 3 same, 1 others

        1 action planned; nothing was changed
    "#]].assert_eq(&project.steady(&dry.stdout));
    assert!(project.tree(&[".lifeboat", "logs"]) == before);

    let ran = project.run(&["extract"]).exits(0);
    let mut extracted = tree(&project.at("tree"));
    assert_eq!(extracted.remove(&b"own"[..]), changed.get(&b"own"[..]).cloned());
    assert_eq!(extracted, original);
    let name = kept(&project, "tree").remove(0);
    assert!(ran.stderr.contains(&format!("tree/.lifeboat-kept/{name}: ")), "{}", ran.stderr);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(project.at("tree/.lifeboat-kept")), 0o700);
    assert_eq!(mode(project.at("tree/.lifeboat-kept").join(&name).join("index.json")), 0o600);

    // Rolled back it is what it was, and rolled back once more what was extracted.
    let path = format!("tree/.lifeboat-kept/{name}");
    let dry = project.run(&["rollback_kept", &path, "--dry-run"]).exits(0);
    expect![[r#"
        Dry run of rollback_kept
        parameters: kept (kept from <KEPT>)

        Roll back
                    ~ .env (as it was before)
                    - config (goes: it was not there before)
                    - config/app.json (goes: it was not there before)
                    - config/deep (goes: it was not there before)
                    - config/deep/er (goes: it was not there before)
                    - config/deep/er/x (goes: it was not there before)
                    - config/second name (goes: it was not there before)
                    - config/up (goes: it was not there before)
                    ~ dangling (as it was before)
                    - deepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeep (goes: it was not there before)
                    - deepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeepdeep/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn (goes: it was not there before)
                    - empty folder (goes: it was not there before)
                    ~ link to folder (as it was before)
                    ~ package.json (as it was before)
                    ~ script.sh (as it was before)
                    both versions are kept

        1 action planned; nothing was changed
    "#]].assert_eq(&project.steady(&dry.stdout).replace(&name, "RUN"));
    project.run(&["rollback_kept", &path]).exits(0);
    assert_eq!(timeless(&project.at("tree")), without_folder_times(&changed));
    assert_eq!(kept(&project, "tree"), [format!("{name}.undone")]);
    project.run(&["rollback_kept", &path]).exits(0);
    extracted = tree(&project.at("tree"));
    extracted.remove(&b"own"[..]);
    assert_eq!(extracted, original);
    assert_eq!(kept(&project, "tree"), [name]);

    // No secret was told.
    let told: String = project
        .tree(&["tree", "in"])
        .into_iter()
        .map(|(name, content)| format!("{name}\n{}", String::from_utf8_lossy(&content)))
        .collect();
    assert!(!told.contains("s3cret"));
    assert!(
        !ran.stderr.contains("s3cret") && !ran.stdout.contains("s3cret") && !dry.stdout.contains("s3cret")
    );

    // What is kept belongs to no archive.
    std::fs::rename(project.at("in"), project.at("in.1")).unwrap();
    project.run(&["back"]).exits(0);
    let list = project.stock("in", "tar", &["-tzf", "a.tar.gz"]);
    assert!(list.contains("package.json") && !list.contains("lifeboat-kept"), "{list}");
}

fn without_folder_times(tree: &BTreeMap<Vec<u8>, String>) -> BTreeMap<Vec<u8>, String> {
    let mut tree = tree.clone();
    for text in tree.values_mut().filter(|text| text.starts_with("4")) {
        *text = text.split(" at ").next().unwrap().to_owned();
    }
    tree
}

/// Archives `in/src` by the stock tools, with the sidecar of the guide's scripts.
fn stock_archive(project: &TestProject, script: &str) {
    std::fs::create_dir_all(project.at("in")).unwrap();
    let status = Command::new("sh").args(["-ec", script]).current_dir(project.at("in")).status().unwrap();
    assert!(status.success());
    project.stock("in", "sh", &["-c", "sha256sum a.tar.gz > a.tar.gz.sha256"]);
}

#[test]
fn archives_of_the_stock_tools_work_as_well() {
    let long = "l".repeat(90);
    let longer = "n".repeat(60);
    for (format, sparse) in [("gnu", "-S"), ("posix", ""), ("ustar", "")] {
        let project = project();
        let script = format!(
            "mkdir -p src/a src/{long}; echo one > src/a/one; ln -s one src/a/link; ln src/a/one src/two; \
             echo ünï > src/{long}/{longer}ünï; truncate -s 300K src/holes; printf end >> src/holes; \
             tar --format={format} {sparse} -cf - -C src . | gzip > a.tar.gz"
        );
        stock_archive(&project, &script);
        let ran = project.run(&["extract"]).exits(0);
        assert!(ran.stderr.contains("0 changed, 0 same, 0 others"), "{}", ran.stderr);
        assert!(timeless(&project.at("tree")) == timeless(&project.at("in/src")), "{format}");
        project.run(&["extract"]).exits(0).says("0 new, 0 changed,");
        // The file alone, without compression.
        let plain = self::project();
        std::fs::create_dir(plain.at("in")).unwrap();
        let gz = project.at("in/a.tar.gz").display().to_string();
        plain.stock("in", "sh", &["-c", &format!("gunzip -c {gz} > a.tar; sha256sum a.tar > a.tar.sha256")]);
        plain.run(&["extract", "--archive", "in/a.tar"]).exits(0);
        assert!(timeless(&plain.at("tree")) == timeless(&project.at("in/src")), "{format}");
    }
}

#[test]
fn patterns_choose_what_is_extracted() {
    let project =
        project().file("tree/.env", "A=1").file("tree/a/b/c", "c").file("tree/a/d", "d").file("tree/e", "e");
    project.run(&["back"]).exits(0);
    let extracted = |args: &[&str]| {
        let _ = std::fs::remove_dir_all(project.at("out"));
        project.run(&[&["extract", "--dir", "out"], args].concat()).exits(0);
        let files = tree(&project.at("out")).into_keys().map(|name| String::from_utf8(name).unwrap());
        files.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(extracted(&["--only", ".env"]), ".env");
    assert_eq!(extracted(&["--only", "**/c"]), "a a/b a/b/c");
    assert_eq!(extracted(&["--only", "a", "--except", "a/b"]), "a a/d");
    assert_eq!(extracted(&["--except", "a"]), ".env e");
    let ran = project.run(&["extract", "--only", "nothing"]);
    expect![[r#"
        exit 1
        error: nothing of `a.tar.gz` is to be extracted
           ——▶ playbooks/extract.rhai:12:16
           │
        N │     let made = extract(params.archive, params.dir, #{ only: params.only, except: params.except });
           │                ^
        caused by: none of its 6 entries is meant
        hint: Check `only` and `except`: patterns are relative to the archive's root, and `**/` stands for any depth.
        ✘ extract failed in step `Extract` after TIME (exit 1)
    "#]].assert_eq(&project.told(&ran));
    let ran = project.run(&["extract", "--only", "../x"]);
    expect![[r#"
        exit 2
        error: the pattern `../x` cannot be understood
           ——▶ playbooks/extract.rhai:12:16
           │
        N │     let made = extract(params.archive, params.dir, #{ only: params.only, except: params.except });
           │                ^
        caused by: it leaves the archive's root
        hint: Patterns are globs relative to the archive's root: `*`, `?`, `[ab]`, `{a,b}`, and `**/` for any depth.
        ✘ extract failed in step `Extract` after TIME (exit 2)
    "#]].assert_eq(&project.told(&ran));
}

#[test]
fn a_run_that_extracted_is_rolled_back_by_its_name_and_cleaned_up() {
    let project = project().file("tree/a", "new");
    project.run(&["back"]).exits(0);
    std::fs::write(project.at("tree/a"), "old").unwrap();
    project.run(&["extract"]).exits(0);
    let run = crate::aftermath::runs(&project).remove(0).run.to_string();
    let a = || std::fs::read_to_string(project.at("tree/a")).unwrap();
    assert_eq!(a(), "new");
    // What changes nothing is not what `latest` means.
    project.run(&["extract"]).exits(0).says("0 new, 0 changed");
    project.run(&["rollback", "latest"]).exits(0);
    assert_eq!(a(), "old");
    let ran = project.run(&["rollback", &run]);
    let told = ran.stderr.replace(&run, "RUN");
    assert!(told.contains("error: run RUN did nothing that can be rolled back"), "{told}");
    assert!(told.contains("caused by: it was rolled back already"), "{told}");
    // The rollback is rolled back.
    project.run(&["rollback", "latest"]).exits(0);
    assert_eq!(a(), "new");
    project.run(&["rollback", &run]).exits(0);
    assert_eq!(a(), "old");

    let clean = |args: &[&str]| project.run(&[&["cleanup", "--no-db", "--dirs", "tree"], args].concat());
    clean(&[]).exits(0).says("files rolled back by run").says("nothing was removed");
    clean(&["--keep-days", "1", "--yes"]).exits(0).says("files rolled back by run");
    assert_eq!(kept(&project, "tree").len(), 1);
    clean(&["--all"]).exits(6).says(&format!(
        "Remove for good what run {run} had extracted into `tree`, and was rolled back (3 B)?"
    ));
    assert_eq!(kept(&project, "tree").len(), 1);
    clean(&["--all", "--yes"]).exits(0).says("had kept of replaced files (3 B)");
    assert!(!project.at("tree/.lifeboat-kept").exists());
    assert_eq!(a(), "old");
    let told = project.run(&["rollback", &run]).exits(1).stderr;
    assert!(told.contains("caused by: nothing is kept of what `extract` did"), "{told}");
}

#[test]
fn a_digest_is_not_compared_only_when_a_person_agrees() {
    let project = project()
        .file("tree/a", "new")
        .playbook("unchecked", r#"step "x" { extract("in/a.tar.gz", "tree", #{ skip_checksum: true }); }"#);
    project.run(&["back"]).exits(0);
    std::fs::write(project.at("tree/a"), "old").unwrap();
    std::fs::write(project.at("in/a.tar.gz.sha256"), format!("{}  a.tar.gz\n", "0".repeat(64))).unwrap();
    project.run(&["extract"]).exits(12);
    project.run(&["unchecked"]).exits(6).says("Extract `in/a.tar.gz` without comparing its SHA-256?");
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "old");
    project.run(&["unchecked", "--yes"]).exits(3).says("a.tar.gz is extracted without comparing its SHA-256");
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "new");
}

#[test]
fn a_playbook_restores_the_configuration_that_it_may_not_write() {
    let project = TestProject::new()
        .playbook("extract", EXTRACT)
        .playbook("rollback_kept", ROLLBACK)
        .file(".env", "TOKEN=one")
        .file("package.json", "{}");
    project.run(&["backup_config"]).exits(0);
    let file = format!("backups/config/{}", project.only("backups/config", ".tar.gz"));
    std::fs::write(project.at(".env"), "TOKEN=two-two").unwrap();
    project.run(&["extract", "--archive", &file, "--dir", "."]).exits(0).says("0 new, 1 changed");
    assert_eq!(std::fs::read_to_string(project.at(".env")).unwrap(), "TOKEN=one");
    // What decides about later runs is asked about.
    std::fs::write(project.at("lifeboat.toml"), "# changed").unwrap();
    project.run(&["extract", "--archive", &file, "--dir", "."]).exits(6);
    assert_eq!(std::fs::read_to_string(project.at("lifeboat.toml")).unwrap(), "# changed");
    let json = project.run(&["extract", "--archive", &file, "--dir", ".", "--dry-run", "--json"]).exits(0);
    let confirm = json.stdout.lines().find(|line| line.contains("\"planned\"")).unwrap();
    assert!(
        confirm.contains(
            "\"confirm\":\"This replaces what decides about later runs: lifeboat.toml. Replace it?\""
        ),
        "{confirm}"
    );
}
