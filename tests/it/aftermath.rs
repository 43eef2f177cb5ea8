//! What a run left behind: processes, files, its record.

use crate::project::TestProject;
use lifeboat::journal::reader::{self, RunSummary};
use lifeboat::sys::env::Env;
use lifeboat::sys::facts::{Facts, Reality};
use lifeboat::sys::host::Host;
use lifeboat::sys::proof::{Reread, examine};
use lifeboat::sys::store;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long something may take that takes milliseconds on a machine at rest.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < PATIENCE, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for another second than this one, which makes names of runs and backups differ.
pub fn next_second() {
    let now = chrono::Local::now().timestamp();
    wait_for("the next second", || chrono::Local::now().timestamp() > now);
}

/// Processes that were started below a project, with their command lines: they alone have it for a home.
pub fn processes(project: &TestProject) -> Vec<(u32, String)> {
    let home = format!("HOME={}", project.path().display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        // A zombie has neither.
        if read("environ").split(|byte| *byte == 0).any(|variable| variable == home.as_bytes()) {
            found.push((pid, String::from_utf8_lossy(&read("cmdline")).replace('\0', " ")));
        }
    }
    found
}

/// Waits until a process of the project runs this command, whatever folder its program is in. Whoever kills a run while it starts
/// one leaves, for a moment, a copy of the run that holds its locks.
#[track_caller]
pub fn wait_for_child(project: &TestProject, command: &str) {
    wait_for(command, || processes(project).iter().any(|(_, line)| line.trim_end().ends_with(command)));
}

/// Asserts that no process of the project is left, or soon will be.
#[track_caller]
pub fn nobody_survives(project: &TestProject) {
    let began = Instant::now();
    loop {
        let left = processes(project);
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "still running: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that every file of a folder under a backup's final name is whole and intact; returns how many there are.
#[track_caller]
pub fn all_intact(dir: &Path) -> usize {
    let host = Host::new(dir.to_path_buf(), dir.join(".none"), Env::default());
    let facts = Facts::new(Arc::new(host), Arc::new(Reality));
    let found = store::scan(dir).unwrap();
    for found in &found {
        let (path, name) = (&found.backup.path, &found.backup.name);
        assert!(found.head.is_some() && found.oddity.is_none(), "{name} has no manifest: {found:?}");
        let verification = examine(&facts, path, Reread::Always).unwrap();
        assert!(verification.intact, "{name} is not intact: {:?}", verification.problems);
        if name.ends_with(".sql.gz") {
            assert!(store::sidecar(path, ".globals.sql").exists(), "{name} has no globals");
        }
    }
    found.len()
}

/// Names of what killed runs left in a folder: staged files, and sidecars without their backup.
pub fn leftovers(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.retain(|name| {
        let backup = store::SIDECARS.iter().find_map(|suffix| name.strip_suffix(suffix));
        name.ends_with(".part") || backup.is_some_and(|backup| !dir.join(backup).exists())
    });
    names
}

/// The runs on record, newest first.
pub fn runs(project: &TestProject) -> Vec<RunSummary> {
    reader::list(&project.at(".lifeboat")).unwrap()
}
