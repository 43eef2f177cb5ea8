//! Files of schedules: what was decided last of each, and the record of all decisions.

use super::read_text;
use crate::base::failure::{Code, Failure};
use crate::sys::flock::Held;
use crate::sys::stream::Digest;
use crate::sys::{fs, logs};
use std::io::Read as _;
use std::path::{Path, PathBuf};

const FOLDER: &str = "schedule";
const DECISIONS: &str = "decisions.jsonl";
/// What `decisions.jsonl` was before it grew too large.
const EARLIER: &str = "decisions.1.jsonl";
/// A file of decisions that is larger than this becomes the earlier one.
const LARGE: u64 = 1 << 20;

/// The lock of one schedule; dropping it frees it.
#[derive(Debug)]
pub struct ScheduleLock {
    _lock: Held,
    stamp: PathBuf,
}

/// The right to begin a run of a playbook; dropping it frees it.
#[derive(Debug)]
pub struct BeginLock(#[expect(dead_code, reason = "held, not read")] Held);

impl BeginLock {
    /// Takes the right; `None` while another process is beginning a run of this playbook.
    ///
    /// # Errors
    /// `Io` if the folder or the lock cannot be made.
    pub fn take(state: &Path, playbook: &str) -> Result<Option<Self>, Failure> {
        let dir = state.join(FOLDER);
        fs::create_dir(&dir)?;
        let path = dir.join(format!("{}.begin.lock", name_of(playbook, "")));
        let taken = Held::take(fs::open_lock(&path)?).map_err(|error| Failure::io("lock", &path, &error))?;
        Ok(taken.ok().map(Self))
    }
}

fn name_of(playbook: &str, schedule: &str) -> String {
    // Neither may hold what a file's name cannot, and together they may be long.
    let digest = Digest::of_bytes(format!("{playbook}\0{schedule}").as_bytes()).to_string();
    digest.chars().take(24).collect()
}

impl ScheduleLock {
    /// Takes the lock; `None` while another process decides about this schedule.
    ///
    /// # Errors
    /// `Io` if the folder or the lock cannot be made.
    pub fn take(state: &Path, playbook: &str, schedule: &str) -> Result<Option<Self>, Failure> {
        let dir = state.join(FOLDER);
        fs::create_dir(&dir)?;
        let name = name_of(playbook, schedule);
        let path = dir.join(format!("{name}.lock"));
        let taken = Held::take(fs::open_lock(&path)?).map_err(|error| Failure::io("lock", &path, &error))?;
        Ok(taken.ok().map(|lock| Self { _lock: lock, stamp: dir.join(format!("{name}.json")) }))
    }

    /// What was decided last, as it was written.
    pub fn read(&self) -> Result<Option<String>, Failure> {
        read_text(&self.stamp)
    }

    /// Writes what is decided now, atomically and durably.
    pub fn write(&self, content: &str) -> Result<(), Failure> {
        fs::replace(&self.stamp, content.as_bytes(), &super::process_id().to_string())
    }
}

/// What was decided last about a schedule, as it was written; without waiting for whoever decides just now.
pub fn read_stamp(state: &Path, playbook: &str, schedule: &str) -> Result<Option<String>, Failure> {
    read_text(&state.join(FOLDER).join(format!("{}.json", name_of(playbook, schedule))))
}

/// What was decided last about each schedule, as it was written.
pub fn stamps(state: &Path) -> Result<Vec<String>, Failure> {
    let dir = state.join(FOLDER);
    let names = fs::file_names(&dir)?;
    let texts = names.iter().filter(|name| name.ends_with(".json") && !name.starts_with('.'));
    Ok(texts.filter_map(|name| read_text(&dir.join(name)).ok().flatten()).collect())
}

/// Removes what was decided last about a schedule that is there no longer.
pub fn remove_stamp(state: &Path, playbook: &str, schedule: &str) -> Result<(), Failure> {
    let path = state.join(FOLDER).join(format!("{}.json", name_of(playbook, schedule)));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io("remove", &path, &error))
        }
        _ => Ok(()),
    }
}

/// Appends lines to the record of decisions, which stays bounded.
pub fn append_decisions(state: &Path, lines: &str) -> Result<(), Failure> {
    let path = state.join(FOLDER).join(DECISIONS);
    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > LARGE) {
        let earlier = path.with_file_name(EARLIER);
        std::fs::rename(&path, &earlier).map_err(|error| Failure::io("rename", &path, &error))?;
    }
    logs::append(&path, lines)
}

/// The record of decisions, the oldest first.
pub fn read_decisions(state: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    for name in [EARLIER, DECISIONS] {
        text += &read_text(&state.join(FOLDER).join(name))?.unwrap_or_default();
    }
    Ok(text)
}

/// That this process is the project's daemon; dropping it frees the place.
#[derive(Debug)]
pub struct DaemonLock(#[expect(dead_code, reason = "held, not read")] Held);

impl DaemonLock {
    /// Takes the place of the project's one daemon.
    ///
    /// # Errors
    /// `Locked` if it is taken.
    pub fn take(state: &Path) -> Result<Self, Failure> {
        let dir = state.join(FOLDER);
        fs::create_dir(&dir)?;
        let path = dir.join("daemon.lock");
        let file = fs::open_lock(&path)?;
        let mut held = match Held::take(file).map_err(|error| Failure::io("lock", &path, &error))? {
            Ok(held) => held,
            Err(mut file) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(Failure::new(Code::Locked, "the project has a daemon already")
                    .caused_by(format!("process {}", holder.trim()))
                    .hint(
                        "Stop that one first, or let it go on: one daemon runs all schedules of a project.",
                    ));
            }
        };
        held.say(&super::process_id().to_string());
        Ok(Self(held))
    }
}
