//! What is told when a live run is over: its own alert, and what is unusual about what it made.

use super::announce::{Raised, announce, news, settle};
use super::courier::{PATIENT, Sent};
use super::{End, decide, recovered, well_again};
use crate::base::anomaly::{self, Anomaly, HISTORY, off_median};
use crate::base::backup::Backup;
use crate::base::event::{Alert, Level, What};
use crate::base::failure::Exit;
use crate::base::ids::RunId;
use crate::base::notice::{Kind, Notice};
use crate::base::units;
use crate::journal::daily;
use crate::journal::reader::{self, RunState, RunSummary};
use crate::sys::channel::{ANOMALY_PERCENT, DISK_PERCENT, number};
use crate::sys::fs;
use crate::sys::host::Host;
use crate::sys::spread;
use crate::sys::store::{self, Before, Catalog, Found, Listed, Listing};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Less free space than so many percent is told of, unless said otherwise.
const FREE_PERCENT: u32 = 10;
/// Most records of runs that are looked at for what came before.
const LOOKED_AT: usize = 400;
/// A duration is unusual only if it is off by as much in itself: half of a second is nothing.
const SLIGHT: u64 = 60_000;

/// A live run that is over.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// How it ended.
    pub end: End<'a>,
    /// Its id, unless it could not even begin.
    pub run: Option<&'a RunId>,
    /// Paths of the backups that it made.
    pub made: &'a [PathBuf],
    /// How long it took.
    pub took: Duration,
}

/// Sends what there is to tell of a run: what became of its own alert, if it has one.
pub fn finish(host: &Arc<Host>, finished: Finished<'_>) -> Option<Sent> {
    let earlier = Earlier { host, finished, ids: OnceCell::new() };
    let own = own_notice(host, finished, &earlier);
    let has_own = own.is_some();
    let mut notices: Vec<Notice> = own.into_iter().collect();
    for raised in conditions(host, finished, &earlier) {
        host.emit(What::Log { level: Level::Warn, message: raised.message.clone() });
        notices.extend(news(host, raised).map(|notice| about(host, notice, finished)));
    }
    if notices.is_empty() {
        return None;
    }
    let sent = announce(host, notices, PATIENT);
    sent.into_iter().next().filter(|_| has_own)
}

fn about(host: &Host, notice: Notice, finished: Finished<'_>) -> Notice {
    let notice = notice.of_playbook(finished.end.playbook);
    let Some(run) = finished.run else { return notice };
    let log = daily::file_of(&host.project().join("logs"), host.clock().now().date_naive());
    Notice { log: Some(log.display().to_string()), ..notice.of_run(run.as_str()) }
}

fn own_notice(host: &Arc<Host>, finished: Finished<'_>, earlier: &Earlier<'_>) -> Option<Notice> {
    let End { playbook, exit, .. } = finished.end;
    let recovery = (exit == Exit::Success).then(|| recovery(host, playbook, earlier)).flatten();
    let kind = match exit {
        Exit::Success if recovery.is_some() => Kind::Recovered,
        exit => super::kind(exit),
    };
    let alert = decide(host.alert().or(recovery), finished.end, host.clock().now())?;
    Some(about(host, Notice::new(kind, alert), finished))
}

/// The alert of a run that succeeded after somebody was told of others, or of an earlier attempt of its own, that did not.
fn recovery(host: &Host, playbook: &str, earlier: &Earlier<'_>) -> Option<Alert> {
    let now = host.clock().now();
    if let Some(resumed) = host.resumes() {
        let alarmed = reader::was_alarmed(host.state(), &RunId::parse(&resumed.run)?);
        return alarmed.then(|| recovered(playbook, &resumed.run, now));
    }
    let mut trouble = Trouble::default();
    for past in earlier.runs() {
        match past.state {
            RunState::Running | RunState::Ended(Exit::Partial | Exit::Confirm) => continue,
            RunState::Ended(Exit::Success) => break,
            RunState::Ended(Exit::Warnings) => trouble.warned += 1,
            RunState::Ended(_) | RunState::Killed => trouble.failed += 1,
        }
        trouble.since = past.began.or(trouble.since);
        trouble.told |= reader::alert(host.state(), &past.run).is_some_and(|alert| alert.delivered);
    }
    trouble.told.then(|| well_again(playbook, &trouble, now))
}

/// The runs of a playbook that did not succeed, since the last one that did.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// How many failed, were interrupted or killed.
    pub(super) failed: u32,
    /// How many completed with warnings.
    pub(super) warned: u32,
    /// When the first one began.
    pub(super) since: Option<chrono::DateTime<chrono::FixedOffset>>,
    /// Whether somebody was told of any of them.
    told: bool,
}

/// The runs of a playbook before the one that is over; the folder of the records is listed once.
struct Earlier<'a> {
    host: &'a Host,
    finished: Finished<'a>,
    ids: OnceCell<Vec<RunId>>,
}

impl Earlier<'_> {
    /// They, newest first, without drills.
    fn runs(&self) -> impl Iterator<Item = RunSummary> {
        let state = self.host.state();
        self.ids
            .get_or_init(|| reader::newest(state, LOOKED_AT).unwrap_or_default())
            .iter()
            .filter(|run| self.finished.run != Some(*run))
            .map(|run| reader::summary(state, run))
            .filter(|past| past.playbook == self.finished.end.playbook && !past.is_drill)
    }
}

/// What is not as it should be about what a run made. What is as it should be is settled.
fn conditions(host: &Arc<Host>, finished: Finished<'_>, earlier: &Earlier<'_>) -> Vec<Raised> {
    if finished.run.is_none() || finished.made.is_empty() {
        return Vec::new();
    }
    let mut found = disks(host, finished.made);
    if matches!(finished.end.exit, Exit::Success | Exit::Warnings) {
        found.extend(finished.made.iter().filter_map(|path| size(host, path)));
        found.extend(duration(host, finished, earlier));
    }
    found
}

fn disks(host: &Host, made: &[PathBuf]) -> Vec<Raised> {
    let (limit, _) = number(host, DISK_PERCENT, FREE_PERCENT);
    let folders: BTreeSet<&Path> = made.iter().filter_map(|path| path.parent()).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for folder in folders {
        let (Ok(device), Ok(space)) = (fs::device(folder), fs::disk_space(folder)) else { continue };
        if !seen.insert(device) {
            continue;
        }
        let key = device.to_string();
        if u128::from(space.available) * 100 >= u128::from(space.total) * u128::from(limit) {
            settle(host, Kind::Disk, &key);
            continue;
        }
        let (free, all) = (units::bytes(space.available), units::bytes(space.total));
        let message =
            format!("less than {limit} % of the disk of `{}` are free: {free} of {all}", host.shown(folder));
        found.push(Raised { kind: Kind::Disk, key, status: "warning".to_owned(), message });
    }
    found
}

fn size(host: &Host, path: &Path) -> Option<Raised> {
    let own = store::look(path).ok()??;
    let size = own.manifest.as_ref()?.size;
    let history = sizes_before(host, path, &own.backup)?;
    let key = serde_json::to_string(&(&own.backup.source, &own.backup.tag)).unwrap_or_default();
    let Some(found) = off_median(&history, size, percent(host)) else {
        settle(host, Kind::Anomaly, &key);
        return None;
    };
    let (off, word) = off(found, "larger", "smaller");
    let message = format!(
        "the backup `{}` is {off}{word} than usual: {}, while the median of {} earlier ones is {}",
        own.backup.name,
        units::bytes(found.newest),
        history.len(),
        units::bytes(found.median)
    );
    Some(Raised { kind: Kind::Anomaly, key, status: "warning".to_owned(), message })
}

/// Sizes of the newest backups before one that was made, newest first, as their files say now.
fn sizes_before(host: &Host, path: &Path, own: &Backup) -> Option<Vec<u64>> {
    let is_before = |backup: &Backup| {
        backup.path != path
            && backup.source == own.source
            && backup.tag == own.tag
            && backup.selection == own.selection
            && backup.created <= own.created
    };
    let remembered = host.before().of(path, host.clock().instant()).and_then(|Before { paths, are_all }| {
        let looked = spread::map(paths, |path| store::look(&path));
        let whole = |found: Found| {
            let size = found.manifest.filter(|_| found.oddity.is_none() && is_before(&found.backup))?.size;
            Some((found.backup.created, size))
        };
        let past: Vec<_> = looked.into_iter().filter_map(|found| whole(found.ok()??)).collect();
        // Without some that were to be compared, older ones come in.
        (are_all || past.len() >= HISTORY).then_some(past)
    });
    let mut past = match remembered {
        Some(past) => past,
        None => {
            let class = |found: &mut Listed| {
                let is_whole = found.oddity.is_none() && found.head.is_some();
                (is_whole && is_before(&found.backup)).then_some(0)
            };
            let listing = Listing::read(path.parent()?).ok()?;
            let newest = listing.newest(Catalog::Cached(host.state()), &[HISTORY], class).into_iter();
            newest.filter_map(|found| Some((found.backup.created, found.head?.size))).collect()
        }
    };
    past.sort_unstable();
    Some(past.into_iter().rev().take(HISTORY).map(|(_, size)| size).collect())
}

fn duration(host: &Host, finished: Finished<'_>, earlier: &Earlier<'_>) -> Option<Raised> {
    let playbook = finished.end.playbook;
    let good = |past: &RunSummary| {
        matches!(past.state, RunState::Ended(Exit::Success | Exit::Warnings))
            && past.bytes > 0
            && past.resumed == 0
    };
    // A run that went on took only the rest of the time.
    if host.resumes().is_some() {
        return None;
    }
    let history: Vec<u64> =
        earlier.runs().filter(good).filter_map(|past| past.millis).take(HISTORY).collect();
    let took = u64::try_from(finished.took.as_millis()).unwrap_or(u64::MAX);
    let key = format!("duration of {playbook}");
    let found = off_median(&history, took, percent(host))
        .filter(|found| found.newest.abs_diff(found.median) >= SLIGHT);
    let Some(found) = found else {
        settle(host, Kind::Anomaly, &key);
        return None;
    };
    let (off, word) = off(found, "longer", "shorter");
    let message = format!(
        "{playbook} took {off}{word} than usual: {}, while the median of {} earlier runs is {}",
        units::duration(Duration::from_millis(found.newest)),
        history.len(),
        units::duration(Duration::from_millis(found.median))
    );
    Some(Raised { kind: Kind::Anomaly, key, status: "warning".to_owned(), message })
}

fn percent(host: &Host) -> u32 {
    number(host, ANOMALY_PERCENT, anomaly::PERCENT).0
}

/// By how much, and the word for the direction.
fn off(found: Anomaly, more: &'static str, less: &'static str) -> (String, &'static str) {
    match found.percent {
        i64::MAX => (String::new(), more),
        percent => (format!("{} % ", percent.abs()), if percent < 0 { less } else { more }),
    }
}
