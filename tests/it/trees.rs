//! Large trees of files, archived and extracted: very many small files, and holes.

use crate::archive::portrait;
use crate::cluster::all_tests;
use crate::extract::{kept, project, timeless};
use crate::project::TestProject;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Stdio;

const MIB: u64 = 1 << 20;

/// Extracts the archive into `out`, however many files it has.
const EXTRACT_ALL: &str = r#"
step "Extract" {
    let made = extract(backups("in")[0], "out", #{ max_entries: 10_000_000 });
    info(`${made.added} new, ${made.changed} changed, ${made.same} same, ${made.others} others`);
}
"#;

/// Runs the program; returns the most memory that it took, in bytes, as it was shortly before its end.
fn peak(project: &TestProject, args: &[&str]) -> u64 {
    let log = std::fs::File::create(project.at("peak.log")).unwrap();
    let mut command = project.command(args);
    let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let found = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = found.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            let said = std::fs::read_to_string(project.at("peak.log")).unwrap();
            assert!(status.success(), "{said}");
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Makes `files` small files, 100 of them in each folder but the first, which has half of all.
fn fill(root: &Path, files: usize) {
    for n in 0..files {
        let folder = if n % 2 == 0 { root.join("all") } else { root.join(format!("{:05}", n / 200)) };
        if n < 2 || n % 200 == 1 {
            std::fs::create_dir_all(&folder).unwrap();
        }
        let name = if n % 1000 == 7 { format!("{n} ünï \\ {}", "n".repeat(120)) } else { format!("{n}") };
        std::fs::write(folder.join(name), n.to_string().repeat(n % 50)).unwrap();
    }
    for n in (0..files).step_by(files / 10) {
        std::fs::hard_link(root.join(format!("all/{n}")), root.join(format!("second name of {n}"))).unwrap();
        symlink(format!("all/{n}"), root.join(format!("link to {n}"))).unwrap();
    }
}

#[test]
fn very_many_small_files_come_back() {
    let files = 20_000;
    let project = project();
    fill(&project.at("tree"), files);
    let original = portrait(&project.at("tree"));
    project.run(&["back"]).exits(0);
    let file = project.only("in", ".tar.gz");
    std::fs::create_dir(project.at("restored")).unwrap();
    project.stock("restored", "tar", &["-xpzf", &format!("../in/{file}")]);
    assert!(portrait(&project.at("restored")) == original);
    // Nothing to do is nothing done.
    let entries = original.len();
    project.run(&["extract"]).exits(0).says(&format!("0 new, 0 changed, {entries} same, 0 others"));
    std::fs::remove_dir_all(project.at("tree")).unwrap();
    std::fs::create_dir(project.at("tree")).unwrap();
    project.run(&["extract"]).exits(0).says(&format!("{entries} new, 0 changed, 0 same, 0 others"));
    assert!(timeless(&project.at("tree")) == timeless(&project.at("restored")));
    // A few of many that differ.
    for n in (0..files).step_by(files / 10) {
        std::fs::write(project.at(format!("tree/all/{n}")), "changed").unwrap();
    }
    project.run(&["extract"]).exits(0).says("0 new, 20 changed");
    assert!(timeless(&project.at("tree")) == timeless(&project.at("restored")));
    let kept = kept(&project, "tree");
    assert_eq!(kept.len(), 2, "{kept:?}");
    project.run(&["rollback_kept", &format!("tree/.lifeboat-kept/{}", kept[1])]).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("tree/all/0")).unwrap(), "changed");
}

#[test]
fn a_million_files_are_archived_in_little_memory() {
    let files = if all_tests() { 1_000_000 } else { 10_000 };
    let project = project();
    fill(&project.at("tree"), files);
    let peak = peak(&project, &["back"]);
    assert!(peak < 160 * MIB, "{} MiB", peak / MIB);
    let file = project.only("in", ".tar.gz");
    let list = project.stock("in", "tar", &["-tzf", &file]);
    assert_eq!(list.lines().filter(|name| !name.ends_with('/')).count(), files + 20);
    let mut sorted: Vec<&Path> = list.lines().map(Path::new).collect();
    sorted.sort();
    assert!(sorted == list.lines().map(Path::new).collect::<Vec<_>>());
    let project = project.playbook("extract_all", EXTRACT_ALL);
    for peak in extracted(&project, files) {
        assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
    }
}

/// Extracts the archive of `files` files into a new folder, and into that once more when every tenth file differs; returns the
/// most memory that each took, in bytes.
fn extracted(project: &TestProject, files: usize) -> [u64; 2] {
    let new = peak(project, &["extract_all"]);
    let log = |text: &str| {
        let told = std::fs::read_to_string(project.at("peak.log")).unwrap();
        assert!(told.contains(text), "{told}");
    };
    log(" new, 0 changed, 0 same, 0 others");
    let names = |root: &str| walkdir::WalkDir::new(project.at(root)).into_iter().flatten();
    let is_kept = |entry: &walkdir::DirEntry| entry.path().starts_with(project.at("out/.lifeboat-kept"));
    assert!(names("out").filter(|entry| !is_kept(entry)).count() == names("tree").count());
    for n in (0..files).step_by(10) {
        std::fs::write(project.at(format!("out/all/{n}")), "other").unwrap();
    }
    let over = peak(project, &["extract_all"]);
    // Those with a second name change under both.
    log(&format!("0 new, {} changed, ", files / 10 + 10));
    for n in (0..files).step_by(files / 20) {
        let read = |root: &str| std::fs::read_to_string(project.at(format!("{root}/all/{n}"))).unwrap();
        assert_eq!(read("out"), read("tree"));
    }
    [new, over]
}

#[test]
fn each_of_very_many_files_takes_little_memory_when_they_are_extracted() {
    let (few, many) = (12_000, 52_000);
    let [few_at, many_at] = [few, many].map(|files| {
        let project = project().playbook("extract_all", EXTRACT_ALL);
        fill(&project.at("tree"), files);
        project.run(&["back"]).exits(0);
        extracted(&project, files)
    });
    for (few_at, many_at) in few_at.into_iter().zip(many_at) {
        let each = many_at.saturating_sub(few_at) / (many - few) as u64;
        assert!(each < 500, "{each} bytes: {} MiB and {} MiB", few_at / MIB, many_at / MIB);
    }
}

#[test]
fn holes_cost_nothing_and_stay_holes() {
    let project = project().file("tree/plain", "plain");
    let size: u64 = 1 << 40;
    let file = std::fs::File::create(project.at("tree/disk")).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", size / 2 + 77).unwrap();
    file.write_all_at(b"end", size - 3).unwrap();
    let blocks = || std::fs::metadata(project.at("tree/disk")).unwrap().blocks();
    if blocks() > 1000 {
        // This file system has no holes.
        return;
    }
    project.run(&["back"]).exits(0);
    let archive = project.only("in", ".tar.gz");
    let list = project.stock("in", "tar", &["-tvzf", &archive]);
    assert!(list.contains(" 1099511627776 "), "{list}");
    project.run(&["extract"]).exits(0).says("0 new, 0 changed, 2 same, 0 others");
    file.write_all_at(b"Middle", size / 2 + 77).unwrap();
    project.run(&["extract"]).exits(0).says("0 new, 1 changed, 1 same, 0 others");
    let piece = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        std::fs::File::open(project.at("tree/disk")).unwrap().read_exact_at(&mut bytes, at).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(
        (piece(0, 6), piece(size / 2 + 76, 8), piece(size - 4, 4)),
        ("begin\0".into(), "\0middle\0".into(), "\0end".into())
    );
    assert_eq!(std::fs::metadata(project.at("tree/disk")).unwrap().len(), size);
    assert!(blocks() < 1000, "{}", blocks());
    let kept = kept(&project, "tree");
    project.run(&["rollback_kept", &format!("tree/.lifeboat-kept/{}", kept[0])]).exits(0);
    assert_eq!(piece(size / 2 + 77, 6), "Middle");
    assert_eq!(tree_names(&project), ["disk", "plain"]);
}

/// Names in the tree, without reading the files.
fn tree_names(project: &TestProject) -> Vec<String> {
    let mut names = project.names("tree");
    names.retain(|name| name != ".lifeboat-kept");
    names
}

#[test]
fn a_sparse_archive_of_the_stock_tar_is_extracted_with_its_holes() {
    let project = project();
    let file = std::fs::File::create(project.at("tree/disk")).unwrap();
    file.set_len(1 << 30).unwrap();
    for n in 0..100 {
        file.write_all_at(format!("piece {n}").as_bytes(), n * (10 * MIB) + n).unwrap();
    }
    let digest = project.stock("tree", "sha256sum", &["disk"]);
    std::fs::create_dir(project.at("in")).unwrap();
    project.stock("tree", "tar", &["--sparse", "--format=gnu", "-czf", "../in/a.tar.gz", "disk"]);
    std::fs::remove_file(project.at("tree/disk")).unwrap();
    project.run(&["extract"]).exits(0).says("1 new, 0 changed");
    assert_eq!(project.stock("tree", "sha256sum", &["disk"]), digest);
    assert!(std::fs::metadata(project.at("tree/disk")).unwrap().blocks() < 10_000);
}
