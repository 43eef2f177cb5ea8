//! A really full disk: a backup fails and says what to do, that remedy works, and the journal does not stand in its way.

use crate::aftermath::{all_intact, leftovers, next_second, runs};
use crate::cluster::{database, psql};
use crate::project::{Ran, TestProject};
use lifeboat::base::failure::{Code, Exit};
use lifeboat::journal::reader::{self, RunState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A small disk of its own in a mount namespace of its own, which ends with the process that holds it.
pub struct Disk {
    holder: Child,
    at: PathBuf,
}

impl Disk {
    /// Mounts a disk of so many MiB in a folder of a project; as an ordinary user in a user namespace.
    pub fn mount(project: &TestProject, folder: &str, size: u32) -> Self {
        let at = project.at(folder);
        std::fs::create_dir_all(&at).unwrap();
        let mut command = Command::new("unshare");
        command.args(if is_root() { &["-m"][..] } else { &["-m", "-r"] });
        // `cat` ends when this process does, and the namespace with it.
        let script = "mount -t tmpfs -o size=\"$1\"m none \"$2\" && echo mounted && exec cat";
        command.args(["sh", "-c", script, "sh", &size.to_string()]).arg(&at);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        if said != "mounted\n" {
            let output = holder.wait_with_output().unwrap();
            panic!(
                "these tests need a disk of their own: `unshare` and `mount -t tmpfs` must work, but: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Self { holder, at }
    }

    /// The disk's folder as seen from outside of the namespace.
    pub fn outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.at.strip_prefix("/").unwrap())
    }

    /// Runs the program where the disk is mounted.
    pub fn run(&self, project: &TestProject, args: &[&str]) -> Ran {
        let plain = project.command(args);
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m"]);
        if !is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.args(["sh", "-c", "cd \"$1\" && shift && exec \"$@\"", "sh"]).arg(project.path());
        command.arg(plain.get_program()).args(plain.get_args()).env_clear().stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ran::of(command.output().unwrap())
    }

    /// Mounts a file of the disk over another.
    pub fn bind(&self, file: &Path, over: &Path) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m"]);
        if !is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        let status = command.args(["mount", "--bind"]).args([file, over]).status().unwrap();
        assert!(status.success());
    }

    /// Fills the disk to its last byte.
    pub fn fill(&self) {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.outside().join("filler"))
            .unwrap();
        for size in [1 << 16, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Removes what fills it.
    fn empty(&self) {
        std::fs::remove_file(self.outside().join("filler")).unwrap();
    }

    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.outside().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

const REMEDY: &str = "`lifeboat run rotate_backups` removes backups that retention no longer keeps";

/// Code of the failure that ended the newest run.
fn code(project: &TestProject) -> Option<Code> {
    runs(project).remove(0).failure.map(|failure| failure.code)
}

#[test]
fn a_full_backup_disk_is_said_and_rotation_is_the_remedy() {
    let source = database("full");
    psql(
        &source,
        "CREATE TABLE noise AS SELECT i AS id, \
         (SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 64) j) AS text \
         FROM generate_series(1, 1500) i",
    );
    let project = TestProject::new().database(&source).playbook(
        "bare",
        r#"let db = postgres(); step "Dump" { dump(db).gzip().save("backups/database/bare.sql.gz", #{ tag: "daily" }); }"#,
    );
    let disk = Disk::mount(&project, "backups", 8);
    let dir = disk.outside().join("database");
    for _ in 0..3 {
        disk.run(&project, &["backup_database", "--tag", "daily"]).exits(0);
        next_second();
    }
    let whole = disk.names("database");
    assert_eq!((whole.len(), all_intact(&dir)), (12, 3));
    disk.fill();

    // It is seen before anything begins.
    disk.run(&project, &["backup_database", "--tag", "daily"])
        .exits(1)
        .says("insufficient disk space for `backups/database`")
        .says(REMEDY);
    assert_eq!(code(&project), Some(Code::DiskFull));
    assert_eq!(disk.names("database"), whole);

    // It is met at any point of a backup: at its first byte, in its middle, and where only the sidecars are missing.
    let size = std::fs::metadata(dir.join(&whole[0])).unwrap().len();
    for room in [0, 4096, size / 2, size - 4096, size + 4095] {
        let filler = std::fs::OpenOptions::new().write(true).open(disk.outside().join("filler")).unwrap();
        filler.set_len(filler.metadata().unwrap().len() - room).unwrap();
        drop(filler);
        let ran = disk.run(&project, &["bare"]);
        let names = disk.names("database");
        if ran.code == 0 {
            // Compression makes sizes that differ by some bytes: the last of them may just fit.
            assert!(room > size - 4097, "{room} of {size} bytes");
            for name in names.iter().filter(|name| name.starts_with("bare")) {
                std::fs::remove_file(dir.join(name)).unwrap();
            }
        } else {
            let ran = ran.exits(1).says(REMEDY);
            assert!(
                ran.stderr.contains("error: cannot write `") || ran.stderr.contains("error: cannot create `"),
                "{}",
                ran.stderr
            );
            assert_eq!(code(&project), Some(Code::DiskFull), "{}", ran.stderr);
        }
        assert_eq!(disk.names("database"), whole, "with room for {room} of {size} bytes");
        disk.fill();
    }

    // What a killed run left takes space too, and the usual rules free nothing but that.
    std::fs::remove_file(disk.outside().join("filler")).unwrap();
    let left = dir.join(".shop.sql.gz.20250101-000000-abcdef.part");
    std::fs::write(&left, vec![1; 1 << 20]).unwrap();
    disk.fill();
    disk.run(&project, &["rotate_backups"])
        .exits(0)
        .says("cleaned up after a run that was killed")
        .says("nothing was removed: --all-tags rotates the backups of every tag");
    assert_eq!(disk.names("database"), whole);
    disk.fill();

    disk.run(&project, &["rotate_backups", "--keep-last", "1", "--all-tags"])
        .exits(0)
        .says("removed 2 backups");
    assert_eq!(disk.names("database"), whole[8..]);
    assert_eq!(all_intact(&dir), 1);
    disk.run(&project, &["backup_database", "--tag", "daily"]).exits(0);
    assert_eq!((all_intact(&dir), leftovers(&dir)), (2, vec![]));
}

#[test]
fn what_was_not_verified_is_not_removed_for_space() {
    let project = TestProject::new().file("data", "x").playbook(
        "save",
        "step \"Save\" { for n in 1..=3 { file(\"data\").save(`backups/config/${n}`, #{ tag: \"manual\" }); } }",
    );
    let disk = Disk::mount(&project, "backups", 1);
    disk.run(&project, &["save"]).exits(0);
    disk.fill();
    disk.run(&project, &["rotate_backups", "--keep-last", "1"]).exits(0).says("nothing was removed");
    assert_eq!(all_intact(&disk.outside().join("config")), 3);
    // The result cannot be written down, which is said and breaks nothing.
    disk.run(&project, &["verify_backups"]).exits(3).says("could not be recorded: cannot");
    assert_eq!(all_intact(&disk.outside().join("config")), 3);
    assert_eq!(leftovers(&disk.outside().join("config")), [""; 0]);
}

/// A project whose journal is on a small disk, with three verified backups elsewhere.
fn with_small_journal(playbook: &str) -> (TestProject, Disk) {
    let project = TestProject::new()
        .file("data", "x")
        .playbook(
            "save",
            "step \"Save\" { for n in 1..=3 { verify(file(\"data\").save(`backups/config/${n}`, #{ tag: \"manual\" })); } }",
        )
        .playbook("mean", playbook);
    let state = project.at("state").display().to_string();
    let project = project.env("LIFEBOAT_STATE", state);
    let disk = Disk::mount(&project, "state", 3);
    disk.run(&project, &["save"]).exits(0);
    (project, disk)
}

const HOST_RESERVE: u64 = 1 << 20;

fn reserve(disk: &Disk) -> u64 {
    std::fs::metadata(disk.outside().join("reserve")).map_or(0, |meta| meta.blocks() * 512)
}

fn newest(disk: &Disk) -> RunState {
    reader::list(&disk.outside()).unwrap()[0].state
}

#[test]
fn a_full_journal_disk_stops_backups_and_not_rotation() {
    let (project, disk) = with_small_journal("step \"x\" { info(\"x\"); }");
    assert_eq!(reserve(&disk), HOST_RESERVE);
    disk.fill();
    let known = reader::runs(&disk.outside()).unwrap().len();
    let backups = project.tree(&["state", "logs"]);
    for args in [&["save"][..], &["backup_config"], &["verify_backups"], &["mean"]] {
        disk.run(&project, args)
            .exits(1)
            .says(&format!("error: there is no space for the journal in `{}`", disk.at.display()))
            .says("No space left on device")
            .says(&format!("hint: Free space on the file system of `{}`: ", disk.at.display()))
            .says(REMEDY);
    }
    assert_eq!(project.tree(&["state", "logs"]), backups, "what is not on record is not done");
    assert_eq!(reader::runs(&disk.outside()).unwrap().len(), known);
    assert_eq!(disk.names("runs").len(), known, "nothing half made is left");
    assert_eq!(reserve(&disk), HOST_RESERVE);

    disk.run(&project, &["rotate_backups", "--keep-last", "1"]).exits(0).says("removed 2 backups");
    assert_eq!(all_intact(&project.at("backups/config")), 1);
    assert_eq!(newest(&disk), RunState::Ended(Exit::Success));
    assert!(reserve(&disk) < HOST_RESERVE, "it could not have begun without it");

    disk.empty();
    disk.run(&project, &["mean"]).exits(0);
    assert_eq!(reserve(&disk), HOST_RESERVE, "there is space for the next time");
}

#[test]
fn a_disk_that_fills_up_while_a_run_works_does_not_hide_its_end() {
    // Some events still fit into what the run set aside.
    let (project, disk) = with_small_journal(
        r#"
        step "Fill" { exec(["sh", "-c", "cat /dev/zero > state/filler || true"]); }
        step "Talk" { for n in 1..100 { info(`event ${n}`); } }
        step "Rotate" { rotate("backups/config", #{ tag: "manual", keep_last: 2 }); }
        "#,
    );
    disk.run(&project, &["mean"]).exits(0);
    assert_eq!(newest(&disk), RunState::Ended(Exit::Success));
    assert_eq!(all_intact(&project.at("backups/config")), 2);
}

#[test]
fn without_a_durable_intent_nothing_is_destroyed() {
    // The talk uses up what the run set aside.
    let (project, disk) = with_small_journal(
        r#"
        step "Fill" { exec(["sh", "-c", "cat /dev/zero > state/filler || true"]); }
        step "Talk" { for n in 1..2000 { info(`event ${n} .......................................................`); } }
        step "Rotate" { rotate("backups/config", #{ tag: "manual", keep_last: 1 }); }
        "#,
    );
    let backups = project.tree(&["state", "logs"]);
    let ran = disk.run(&project, &["mean"]).exits(1);
    assert!(
        ran.stderr.contains("the journal cannot be written, so nothing is destroyed"),
        "{}",
        last(&ran.stderr)
    );
    assert!(ran.stderr.contains(REMEDY), "{}", last(&ran.stderr));
    assert!(ran.stderr.contains("mean failed in step `Rotate`"), "{}", last(&ran.stderr));
    assert_eq!(project.tree(&["state", "logs"]), backups);
    let newest = reader::runs(&disk.outside()).unwrap().remove(0);
    let summary = reader::summary(&disk.outside(), &newest);
    assert_eq!(summary.state, RunState::Ended(Exit::Failed), "its end is on record all the same");
    assert_eq!(summary.failure.unwrap().code, Code::Journal);
    let recording = reader::events(&disk.outside(), &newest).unwrap();
    assert!(recording.notes.is_empty() && recording.events.len() > 10, "half an event reads as a kill");
    disk.empty();
    disk.run(&project, &["rotate_backups", "--keep-last", "1"]).exits(0).says("removed 2 backups");
}

fn last(text: &str) -> &str {
    text.char_indices().rev().nth(2000).map_or(text, |(at, _)| &text[at..])
}

#[test]
fn a_full_project_disk_does_not_stop_rotation() {
    // Journal, log and backups are on one disk, as they are in most projects.
    let project = TestProject::new().file("seed", "x");
    let disk = Disk::mount(&project, "all", 20);
    let inner = disk.outside();
    std::fs::write(inner.join("lifeboat.toml"), "").unwrap();
    std::fs::write(inner.join("package.json"), "{}").unwrap();
    let all = disk.at.display().to_string();
    let run = |args: &[&str]| disk.run(&project, &[&["--project", &all], args].concat());
    for _ in 0..3 {
        run(&["backup_config"]).exits(0);
        next_second();
    }
    disk.fill();
    run(&["backup_config"]).exits(1).says(REMEDY);
    let ran = run(&["rotate_backups", "--keep-last", "1"]);
    assert!([0, 3].contains(&ran.code), "{}", ran.stderr);
    assert_eq!(all_intact(&inner.join("backups/config")), 1);
    disk.empty();
    run(&["backup_config"]).exits(0);
    assert_eq!(Path::new(&all), disk.at);
}
