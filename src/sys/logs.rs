//! The folder of logs: the daily files, and the one that cron's and systemd's lines append to.
//!
//! *Problem*: logs grow for ever, on the disk that backups need. *Decision*: a daily file is removed after some days; a file
//! that others append to is renamed when it is large, at most once a day, and removed after as many days. That is safe
//! without their help: a shell opens it for each run, and one that runs goes on writing into the renamed file. Only names of
//! our own pattern are touched. *Rejected*: compressing, which `grep` and `tail` in the guide do not expect.

use crate::base::failure::Failure;
use crate::sys::fs;
use chrono::{Days, NaiveDate};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The folder, below the project.
pub const DIR: &str = "logs";
/// For so many days logs are kept where `LIFEBOAT_LOG_DAYS` says nothing.
pub const DAYS: u64 = 30;
/// A file that others append to is renamed when it is larger, in bytes.
pub const LARGE: u64 = 10 << 20;

const DAILY: &str = "backup-";
/// What cron's lines and systemd's units append to, without the ending.
const APPENDED: [&str; 2] = ["cron-backup", "systemd-backup"];
const ENDING: &str = ".log";
const DATE: &str = "%Y%m%d";

/// The daily log file of a day.
pub fn file_of(dir: &Path, date: NaiveDate) -> PathBuf {
    dir.join(format!("{DAILY}{}{ENDING}", date.format(DATE)))
}

/// The daily log files, oldest first.
pub fn daily(dir: &Path) -> Result<Vec<(NaiveDate, PathBuf)>, Failure> {
    let names = fs::file_names(dir)?;
    let mut found: Vec<_> =
        names.iter().filter_map(|name| dated(name, DAILY).map(|date| (date, dir.join(name)))).collect();
    found.sort();
    Ok(found)
}

/// The date in a name that is nothing but `prefix`, eight digits and the ending.
fn dated(name: &str, prefix: &str) -> Option<NaiveDate> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(ENDING)?;
    let plain = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| NaiveDate::parse_from_str(digits, DATE).ok()).flatten()
}

/// Hands each line of a file to `each`. Bytes that are not UTF-8 are replaced; a file that has just been removed has none.
pub fn each_line(path: &Path, each: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::io("read", path, error);
    let mut lines = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).map_err(|error| failed(&error))? > 0 {
        each(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
    Ok(())
}

/// Appends text to a log file (0600) in one write, so that lines of several runs never mix; makes its folder (0700).
pub fn append(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(dir) = path.parent() {
        fs::create_dir(dir)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::io("write", path, &error))
}

/// Removes logs that are older than `days` days, and renames what has grown large. Returns the names of those that were
/// removed.
///
/// # Errors
/// The first thing that failed; the rest was done.
pub fn retire(dir: &Path, today: NaiveDate, days: u64) -> Result<Vec<String>, Failure> {
    let Some(oldest) = today.checked_sub_days(Days::new(days)) else { return Ok(Vec::new()) };
    let prefixes: Vec<String> =
        APPENDED.iter().map(|stem| format!("{stem}-")).chain([DAILY.to_owned()]).collect();
    let mut removed = Vec::new();
    let mut failed = None;
    for name in fs::file_names(dir)? {
        let date = prefixes.iter().find_map(|prefix| dated(&name, prefix));
        if date.is_none_or(|date| date >= oldest) {
            continue;
        }
        let path = dir.join(&name);
        match std::fs::remove_file(&path) {
            Ok(()) => removed.push(name),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => failed = failed.or(Some(Failure::io("remove", &path, &error))),
        }
    }
    for stem in APPENDED {
        let path = dir.join(format!("{stem}{ENDING}"));
        if let Err(error) = set_aside(&path, &dir.join(format!("{stem}-{}{ENDING}", today.format(DATE)))) {
            failed = failed.or(Some(Failure::io("rename", &path, &error)));
        }
    }
    failed.map_or(Ok(removed), Err)
}

/// Renames a file that is large, unless it was renamed today already.
fn set_aside(path: &Path, to: &Path) -> io::Result<()> {
    let size = std::fs::symlink_metadata(path).ok().filter(Metadata::is_file).map_or(0, |file| file.len());
    if size <= LARGE || to.exists() {
        return Ok(());
    }
    match renameat_with(CWD, path, CWD, to, RenameFlags::NOREPLACE) {
        // Another run was faster.
        Err(Errno::EXIST | Errno::NOENT) => Ok(()),
        renamed => renamed.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn old_logs_of_our_own_names_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let others = [
            "backup-20251011.log",
            "backup-20251110.log",
            "backup-20991231.log",
            "backup-20250101.log.gz",
            "backup-2025.log",
            "backup-20251332.log",
            "my-backup-20250101.log",
            "cron-backup.log",
            "notes.txt",
        ];
        let old = ["backup-20241231.log", "backup-20251010.log", "cron-backup-20251009.log"];
        for name in others.iter().chain(&old) {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(dir.path().join("backup-20200101.log")).unwrap();
        assert_eq!(retire(dir.path(), day("2025-11-10"), 30).unwrap(), old);
        let mut left = fs::file_names(dir.path()).unwrap();
        left.sort();
        let mut others = others.to_vec();
        others.sort_unstable();
        assert_eq!(left, others);
        assert!(dir.path().join("backup-20200101.log").is_dir());
        assert_eq!(retire(&dir.path().join("none"), day("2025-11-10"), 30).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_cron_appends_to_is_set_aside_once_a_day_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut writer = OpenOptions::new().append(true).create(true).open(at("cron-backup.log")).unwrap();
        writer.set_len(LARGE).unwrap();
        retire(dir.path(), day("2025-11-10"), 30).unwrap();
        assert!(!at("cron-backup-20251110.log").exists(), "it is not too large yet");
        writer.write_all(b"one\n").unwrap();
        retire(dir.path(), day("2025-11-10"), 30).unwrap();
        writer.write_all(b"two\n").unwrap();
        assert!(!at("cron-backup.log").exists());
        let mut last = String::new();
        each_line(&at("cron-backup-20251110.log"), &mut |line| line.clone_into(&mut last)).unwrap();
        assert_eq!(last, "two", "the run that goes on loses nothing");

        std::fs::File::create(at("cron-backup.log")).unwrap().set_len(LARGE + 1).unwrap();
        retire(dir.path(), day("2025-11-10"), 30).unwrap();
        assert!(at("cron-backup.log").exists(), "nothing is overwritten");
        retire(dir.path(), day("2025-11-11"), 30).unwrap();
        assert!(at("cron-backup-20251110.log").exists() && at("cron-backup-20251111.log").exists());
    }
}
