//! How long Lifeboat takes to look over many backups and many runs.
//!
//!     cargo bench --bench lists -- [COUNT] [FOLDER]      100,000 in a new folder; one that is there is used as it is
//!
//! Each command runs several times with its cache removed and with it, and the medians are printed in seconds. `LIFEBOAT`
//! names another program to be measured. No time is asserted: a machine that does something else shows it here.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measures")]

#[path = "../tests/it/lists/make.rs"]
mod make;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

/// What asks for the newest backup, as playbooks do.
const PLAYBOOK: &str = "const PLAYBOOK = #{ summary: \"Tells the newest backup\" };
info(latest(\"backups/database\").name);
";
/// What looks over the folder before it saves one more; the file's name is the run's, so that it can be told and removed.
const SAVING: &str = "const PLAYBOOK = #{ summary: \"Saves one more\" };
step \"Save one more\" {
    archive(\"playbooks\").gzip().save(`backups/database/saved_${run_stamp()}.tar.gz`);
}
";

const COMMANDS: [&[&str]; 13] = [
    &["backups"],
    &["backups", "--json"],
    &["status"],
    &["status", "--nagios"],
    // What the daemon answers when it is asked for its metrics.
    &["status", "--prometheus"],
    &["history"],
    &["history", "-n", "0"],
    &["history", "--playbook", "none"],
    &["show", "latest"],
    &["run", "newest"],
    &["run", "save_one"],
    &["run", "rotate_backups", "--dry-run", "--all-tags", "--keep-last", "20000", "backups/database"],
    // With nothing to remove, so that each round finds the same.
    &["run", "rotate_backups", "--all-tags", "--keep-last", "1000000", "backups/database"],
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let count = words.first().map_or(100_000, |word| word.parse().unwrap());
    let kept = words.get(1).map(PathBuf::from);
    let scratch = tempfile::tempdir().unwrap();
    let project = kept.unwrap_or_else(|| scratch.path().join("project"));
    if !project.exists() {
        make::backups(&project.join("backups/database"), count);
        make::runs(&project.join(".lifeboat"), count);
        std::fs::write(project.join("lifeboat.toml"), "").unwrap();
        // What was made just now is not kept in a cache.
        std::thread::sleep(Duration::from_secs(5));
    }
    let playbooks = project.join("playbooks");
    std::fs::create_dir_all(&playbooks).unwrap();
    std::fs::write(playbooks.join("newest.rhai"), PLAYBOOK).unwrap();
    std::fs::write(playbooks.join("save_one.rhai"), SAVING).unwrap();
    let program = std::env::var("LIFEBOAT").unwrap_or_else(|_| env!("CARGO_BIN_EXE_lifeboat").to_owned());
    println!(
        "| {count} backups and runs, seconds | without a cache | with it | peak with it, MiB |\n|---|---|---|---|"
    );
    for words in COMMANDS {
        let cold = median(|| {
            let _ = std::fs::remove_dir_all(project.join(".lifeboat/cache"));
            seconds(&program, &project, words)
        });
        let warm = median(|| seconds(&program, &project, words));
        let peak = peak(&program, &project, words);
        println!("| `lifeboat {}` | {cold:.2} | {warm:.2} | {peak} |", words.join(" "));
    }
}

fn command(program: &str, project: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).current_dir(project).env("LIFEBOAT_NOW", make::NEWEST);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The most memory that a command takes, as far as looking every millisecond tells.
fn peak(program: &str, project: &Path, words: &[&str]) -> u64 {
    tidy(project, words);
    let mut child = command(program, project, words).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let most = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = most.map_or(peak, |kib| kib.parse().unwrap()).max(peak);
        std::thread::sleep(Duration::from_millis(1));
    }
    peak / 1024
}

/// Takes away what was saved before: the clock stands still, and Lifeboat overwrites no backup.
fn tidy(project: &Path, words: &[&str]) {
    if !words.contains(&"save_one") {
        return;
    }
    for entry in std::fs::read_dir(project.join("backups/database")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("saved_") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn seconds(program: &str, project: &Path, words: &[&str]) -> f64 {
    tidy(project, words);
    let mut command = command(program, project, words);
    let began = Instant::now();
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let took = began.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0..=4)), "{words:?}: {told}");
    took
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
