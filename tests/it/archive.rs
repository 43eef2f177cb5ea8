//! Trees of files in archives, restored by the stock tar.

use crate::project::{TestProject, noise};
use expect_test::expect;
use lifeboat::base::backup::Manifest;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const TREE: &str = r#"
const PLAYBOOK = #{
    summary: "Archive a tree",
    params: #{
        include: #{ list: true, default_value: [], help: "What to take" },
        exclude: #{ list: true, default_value: ["no"], help: "What to leave out" },
    },
};
step "Archive" {
    let made = archive("tree", #{ include: params.include, exclude: params.exclude }).gzip().save(`out/t_${run_stamp()}.tar.gz`);
    verify(made);
}
"#;

fn project() -> TestProject {
    let project = TestProject::new().playbook("tree", TREE);
    std::fs::create_dir(project.at("tree")).unwrap();
    project
}

fn manifest(project: &TestProject) -> Manifest {
    let name = project.only("out", ".tar.gz.json");
    serde_json::from_slice(&std::fs::read(project.at("out").join(name)).unwrap()).unwrap()
}

fn listed(project: &TestProject) -> Vec<String> {
    let file = project.only("out", ".tar.gz");
    let list = project.stock("out", "tar", &["--quoting-style=escape", "-tzf", &file]);
    list.lines().map(str::to_owned).collect()
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
}

/// All that a tree is, for comparison: mode, owner, time, links and content by path.
pub fn portrait(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut inodes = BTreeMap::new();
    let mut portrait = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let meta = std::fs::symlink_metadata(entry.path()).unwrap();
        let mut text = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if !meta.is_symlink() {
            write!(text, " at {}", meta.mtime()).unwrap();
        }
        if meta.is_file() {
            let first = inodes.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
            let content = std::fs::read(entry.path()).unwrap();
            write!(text, " is {} with {content:?}", String::from_utf8_lossy(&first)).unwrap();
        } else if meta.is_symlink() {
            write!(text, " to {:?}", std::fs::read_link(entry.path()).unwrap()).unwrap();
        }
        portrait.insert(name, text);
    }
    portrait
}

#[test]
fn the_stock_tar_restores_the_tree_as_it_was() {
    let project = project()
        .file("tree/plain", "plain")
        .file("tree/empty", "")
        .file("tree/zeros", &"\0".repeat(5000))
        .file("tree/script.sh", "#!/bin/sh\n")
        .file("tree/ünï cödé \\ \n\t\"file\"", "odd")
        .file(&format!("tree/{}/{}", "deep".repeat(40), "n".repeat(200)), "long")
        .file("tree/folder/sub/a", "a")
        .file("tree/-rf", "no option");
    let at = |name: &str| project.at("tree").join(name);
    std::fs::write(at("").join(std::ffi::OsStr::from_bytes(b"latin\xe9")), "latin").unwrap();
    std::fs::hard_link(at("plain"), at("second name")).unwrap();
    std::fs::hard_link(at("plain"), at("folder/third name")).unwrap();
    symlink("folder/sub", at("link to folder")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("x".repeat(150), at("link to a long name")).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink(".", at("loop")).unwrap();
    symlink("loop 2", at("loop 1")).unwrap();
    symlink("loop 1", at("loop 2")).unwrap();
    fifo(&at("pipe"));
    std::fs::create_dir(at("empty folder")).unwrap();
    for (name, mode) in [
        ("script.sh", 0o4755),
        ("plain", 0o604),
        ("folder", 0o1777),
        ("empty folder", 0o2750),
        ("empty", 0o000),
    ] {
        set_mode(&at(name), mode);
    }
    for (name, seconds) in
        [("plain", 1_600_000_000), ("empty", -86_400 * 400), ("folder/sub", 1), ("folder", 5_000_000_000)]
    {
        let when = std::time::UNIX_EPOCH;
        let span = Duration::from_secs(i64::unsigned_abs(seconds));
        let when = if seconds < 0 { when - span } else { when + span };
        std::fs::File::open(at(name)).unwrap().set_modified(when).unwrap();
    }
    let ran = project.run(&["tree"]).exits(0);
    assert!(!ran.stderr.contains("WARN"), "{}", ran.stderr);
    std::fs::create_dir(project.at("restored")).unwrap();
    let file = project.only("out", ".tar.gz");
    project.stock("restored", "tar", &["-xpzf", &format!("../out/{file}")]);
    assert_eq!(portrait(&project.at("restored")), portrait(&project.at("tree")));
    let manifest = manifest(&project);
    assert_eq!(manifest.entries, Some(portrait(&project.at("tree")).len() as u64));
    assert_eq!(manifest.unreadable, [""; 0]);
}

#[test]
fn what_cannot_be_read_is_reported_and_the_rest_is_archived() {
    let project = project()
        .file("tree/a", "a")
        .file("tree/secret", "secret")
        .file("tree/closed/b", "b")
        .file("tree/listed/c", "c")
        .file("tree/z", "z");
    set_mode(&project.at("tree/secret"), 0o000);
    set_mode(&project.at("tree/closed"), 0o000);
    // Its names can be read, but nothing below it.
    set_mode(&project.at("tree/listed"), 0o444);
    let _socket = std::os::unix::net::UnixListener::bind(project.at("tree/socket")).unwrap();
    fifo(&project.at("tree/pipe"));
    let dry = project.run_as_nobody(&["tree", "--dry-run"]);
    expect![[r#"
        Dry run of tree

        Archive
          create  save: archive of `tree` → gzip (level 6) → sha256 → `out/t_STAMP.tar.gz` (about SIZE)
                    7 entries, SIZE of tar
                    cannot be read: closed: permission denied
                    cannot be read: listed/c: permission denied
                    about SIZE before compression
                    tag `manual`, sidecars .sha256 and .json
                    known after run: size and digest of the backup
          replace verify: verify `out/t_STAMP.tar.gz`: SHA-256, gzip members, content
                    record the result in the manifest
                    known after run: whether it is intact

        2 actions planned; nothing was changed
    "#]]
    .assert_eq(&project.steady(&format!("{}{}", dry.stdout, dry.stderr)));
    let ran = project.run_as_nobody(&["tree"]);
    set_mode(&project.at("tree/closed"), 0o755);
    set_mode(&project.at("tree/listed"), 0o755);
    expect![[r#"
        exit 3
        ▶ Archive
        ⚠️  WARN - t_STAMP.tar.gz: not in the archive as it is: closed: permission denied
        ⚠️  WARN - t_STAMP.tar.gz: not in the archive as it is: listed/c: permission denied
        ⚠️  WARN - t_STAMP.tar.gz: not in the archive as it is: secret: permission denied
        ⚠️  WARN - t_STAMP.tar.gz: not in the archive as it is: socket: a socket cannot be archived
          save: saved t_STAMP.tar.gz (SIZE)
          verify: t_STAMP.tar.gz is intact (SIZE; sha256, gzip, archive)
        ✔ Archive (TIME)
        warning: t_STAMP.tar.gz: not in the archive as it is: closed: permission denied
        warning: t_STAMP.tar.gz: not in the archive as it is: listed/c: permission denied
        warning: t_STAMP.tar.gz: not in the archive as it is: secret: permission denied
        warning: t_STAMP.tar.gz: not in the archive as it is: socket: a socket cannot be archived
        ! tree completed with 4 warnings in TIME
    "#]]
    .assert_eq(&format!("exit {}\n{}", ran.code, project.steady(&ran.stderr)));
    expect![[r#"
        [
            "closed: permission denied",
            "listed/c: permission denied",
            "secret: permission denied",
            "socket: a socket cannot be archived",
        ]
    "#]]
    .assert_debug_eq(&manifest(&project).unreadable);
    expect![[r#"
        [
            "a",
            "closed/",
            "listed/",
            "pipe",
            "z",
        ]
    "#]]
    .assert_debug_eq(&listed(&project));
    assert!(manifest(&project).verified.unwrap().intact);
}

#[test]
fn devices_are_reported_and_never_opened() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let project = project().file("tree/a", "a");
    let null = rustix::fs::makedev(1, 3);
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        project.at("tree/device"),
        rustix::fs::FileType::CharacterDevice,
        0o600.into(),
        null,
    );
    if made.is_err() {
        // Containers may forbid it.
        return;
    }
    project.run(&["tree"]).exits(3).says("device: a device cannot be archived");
    assert_eq!(manifest(&project).unreadable, ["device: a device cannot be archived"]);
    assert_eq!(listed(&project), ["a"]);
}

#[test]
fn a_tree_that_is_not_there_or_holds_nothing_leaves_nothing() {
    let project = project();
    let ran = project.run(&["tree"]);
    expect![[r#"
        exit 1
        error: no file below `PROJECT/tree` is to be archived
           ——▶ playbooks/tree.rhai:10:94
           │
        N │     let made = archive("tree", #{ include: params.include, exclude: params.exclude }).gzip().save(`out/t_${run_stamp()}.tar.gz`);
           │                                                                                              ^
        hint: Check `include` and `exclude`: patterns are relative to the root, and `**/` stands for any depth.
        ✘ tree failed in step `Archive` after TIME (exit 1)
    "#]].assert_eq(&project.told(&ran));
    std::fs::remove_dir(project.at("tree")).unwrap();
    let ran = project.run(&["tree"]);
    expect![[r#"
        exit 1
        error: there is no folder `PROJECT/tree`
           ——▶ playbooks/tree.rhai:10:94
           │
        N │     let made = archive("tree", #{ include: params.include, exclude: params.exclude }).gzip().save(`out/t_${run_stamp()}.tar.gz`);
           │                                                                                              ^
        hint: Give `archive` an existing folder; relative paths begin at the project's root.
        ✘ tree failed in step `Archive` after TIME (exit 1)
    "#]].assert_eq(&project.told(&ran));
    let ran = project.run(&["tree", "--include", "../secret"]);
    expect![[r#"
        exit 2
        error: the pattern `../secret` cannot be understood
           ——▶ playbooks/tree.rhai:10:94
           │
        N │     let made = archive("tree", #{ include: params.include, exclude: params.exclude }).gzip().save(`out/t_${run_stamp()}.tar.gz`);
           │                                                                                              ^
        caused by: it leaves the archive's root
        hint: Patterns are globs relative to the archive's root: `*`, `?`, `[ab]`, `{a,b}`, and `**/` for any depth.
        ✘ tree failed in step `Archive` after TIME (exit 2)
    "#]].assert_eq(&project.told(&ran));
    let ran = project.run(&["tree", "--include", "a[", "--include", "b"]);
    expect![[r#"
        exit 2
        error: the pattern `a[` cannot be understood
           ——▶ playbooks/tree.rhai:10:94
           │
        N │     let made = archive("tree", #{ include: params.include, exclude: params.exclude }).gzip().save(`out/t_${run_stamp()}.tar.gz`);
           │                                                                                              ^
        caused by: unclosed character class; missing ']'
        hint: Patterns are globs relative to the archive's root: `*`, `?`, `[ab]`, `{a,b}`, and `**/` for any depth.
        ✘ tree failed in step `Archive` after TIME (exit 2)
    "#]].assert_eq(&project.told(&ran));
    assert_eq!(project.names("out"), [""; 0]);
}

#[test]
fn flags_replace_the_patterns() {
    let files =
        ["tree/a.txt", "tree/b.json", "tree/no", "tree/sub/c.json", "tree/sub/d.txt", "tree/sub/no/e"];
    let taken = |args: &[&str]| {
        let project = files.iter().fold(project(), |project, path| project.file(path, path));
        project.run(&[&["tree"], args].concat()).exits(0);
        listed(&project).join(" ")
    };
    assert_eq!(taken(&[]), "a.txt b.json sub/ sub/c.json sub/d.txt sub/no/ sub/no/e");
    assert_eq!(
        taken(&["--include", "a.txt", "--include", "sub"]),
        "a.txt sub/ sub/c.json sub/d.txt sub/no/ sub/no/e"
    );
    assert_eq!(taken(&["--include", "**/*.json", "--exclude", "b.*"]), "sub/ sub/c.json");
    assert_eq!(taken(&["--exclude", "**/no", "--exclude", "*.txt"]), "b.json sub/ sub/c.json sub/d.txt");
    assert_eq!(taken(&["--include=*.{txt,json}"]), "a.txt b.json");
    assert_eq!(taken(&["--include", "./sub/", "--exclude", "sub/no/"]), "sub/ sub/c.json sub/d.txt");
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let project = project();
    for n in 0..5000 {
        let dir = project.at(format!("tree/{}/{}", n % 7, n % 91));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{}", n * 7919 % 5000)), format!("{n}")).unwrap();
    }
    let mut archives = Vec::new();
    for now in ["2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z"] {
        let mut command = project.command(&["tree"]);
        assert!(command.env("LIFEBOAT_NOW", now).output().unwrap().status.success());
    }
    for name in project.names("out").iter().filter(|name| name.ends_with(".gz")) {
        archives.push(std::fs::read(project.at("out").join(name)).unwrap());
    }
    assert_eq!(archives.len(), 2);
    assert!(archives[0] == archives[1]);
    let file = project.names("out").remove(0);
    let list = project.stock("out", "tar", &["-tzf", &file]);
    assert_eq!(list.lines().filter(|name| !name.ends_with('/')).count(), 5000);
    let mut sorted: Vec<&Path> = list.lines().map(Path::new).collect();
    sorted.sort();
    assert_eq!(sorted, list.lines().map(Path::new).collect::<Vec<_>>());
}

/// A file whose size changes while it is read; it is large enough for that to be in time.
fn while_it_changes(change: impl Fn(&std::fs::File)) -> (TestProject, String) {
    let project = project().file("tree/a", "a").file("tree/z", "z");
    std::fs::write(project.at("tree/m"), noise(96 << 20)).unwrap();
    let file = std::fs::OpenOptions::new().append(true).open(project.at("tree/m")).unwrap();
    let mut child = project.command(&["tree"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // The staged file grows once the archive is being read.
    let staged = |name: &String| {
        name.ends_with(".part") && project.at("out").join(name).metadata().is_ok_and(|meta| meta.len() > 0)
    };
    while !project.names("out").iter().any(staged) && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    change(&file);
    let output = child.wait_with_output().unwrap();
    let told = project.steady(&String::from_utf8(output.stderr).unwrap());
    (project, format!("exit {}\n{told}", output.status.code().unwrap()))
}

#[test]
fn a_file_that_grows_meanwhile_is_cut_where_it_ended() {
    use std::io::Write;
    let (project, told) = while_it_changes(|mut file| file.write_all(b"more").unwrap());
    expect![[r#"
        exit 3
        ▶ Archive
        ⚠️  WARN - t_STAMP.tar.gz: not in the archive as it is: m: it grew while it was read; the archive holds its beginning
          save: saved t_STAMP.tar.gz (SIZE)
          verify: t_STAMP.tar.gz is intact (SIZE; sha256, gzip, archive)
        ✔ Archive (TIME)
        warning: t_STAMP.tar.gz: not in the archive as it is: m: it grew while it was read; the archive holds its beginning
        ! tree completed with 1 warning in TIME
    "#]].assert_eq(&told);
    assert_eq!(listed(&project), ["a", "m", "z"]);
    assert!(manifest(&project).verified.unwrap().intact);
}

#[test]
fn a_file_that_shrinks_meanwhile_is_filled_up() {
    let (project, told) = while_it_changes(|file| file.set_len(10).unwrap());
    expect![[r#"
        exit 3
        ▶ Archive
        ⚠️  WARN - t_STAMP.tar.gz: not in the archive as it is: m: it shrank while it was read; the rest is filled with zeros
          save: saved t_STAMP.tar.gz (SIZE)
          verify: t_STAMP.tar.gz is intact (SIZE; sha256, gzip, archive)
        ✔ Archive (TIME)
        warning: t_STAMP.tar.gz: not in the archive as it is: m: it shrank while it was read; the rest is filled with zeros
        ! tree completed with 1 warning in TIME
    "#]].assert_eq(&told);
    assert_eq!(listed(&project), ["a", "m", "z"]);
    let file = project.only("out", ".tar.gz");
    assert_eq!(project.stock("out", "tar", &["-xzOf", &file, "z"]), "z");
    assert!(manifest(&project).verified.unwrap().intact);
}
