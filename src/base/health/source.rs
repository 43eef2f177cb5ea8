//! The judgement about sources: each with its tags, its history and its copies.

use crate::base::anomaly::{self, HISTORY, off_median};
use crate::base::backup::{Content, Source};
use crate::base::failure::Exit;
use crate::base::health::copies::{self, Copies, Holder};
use crate::base::health::report::age;
use crate::base::health::{
    Chain, Finding, Newest, Problem, Ran, RanState, Seen, Severity, SourceReport, Stored, Terms,
};
use crate::base::units;
use chrono::{DateTime, FixedOffset};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Durations that differ by less differ by what else the machine did.
const NOISE: u64 = 60_000;

/// How much older than a source's newest backup a copy's newest may be and still be a copy of it.
const COPY_LAG: i64 = 7 * 24 * 3600;

/// The tag of what a person made, at no fixed times.
const BY_HAND: &str = "manual";

/// Most names that one finding tells.
const NAMED: usize = 3;

/// Judges every source.
pub fn judge(seen: &Seen, terms: &Terms, findings: &mut Vec<Finding>) -> Vec<SourceReport> {
    let runs: HashMap<&str, &Ran> = seen.runs.iter().map(|run| (run.run.as_str(), run)).collect();
    let mut by_source: BTreeMap<&Source, Vec<&Stored>> = BTreeMap::new();
    for backup in &seen.backups {
        by_source.entry(&backup.source).or_default().push(backup);
    }
    let spans: Vec<Span> = by_source.iter().filter_map(|(source, all)| Span::of(source, all)).collect();
    let labels: BTreeMap<&Source, String> = labels(&by_source);
    let mut reports = Vec::new();
    for (source, all) in &by_source {
        let label = labels.get(source).cloned().unwrap_or_default();
        let superseded =
            Span::of(source, all).is_some_and(|span| spans.iter().any(|other| other.follows(&span)));
        let mut own = Judgement { label: &label, seen, terms, runs: &runs, findings: Vec::new() };
        if let Some(mut report) = own.source(source, all) {
            if superseded {
                // What is broken in it is still worth knowing; that no more come is not.
                own.findings.retain(|finding| finding.code == Problem::NotIntact);
            }
            report.superseded = superseded;
            report.status = own.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
            findings.append(&mut own.findings);
            reports.push(report);
        }
    }
    reports.sort_by(|a, b| (a.superseded, &a.source).cmp(&(b.superseded, &b.source)));
    reports
}

/// Whether a backup is one of the database of this name, made by Lifeboat or by the guide's script.
pub fn is_of_database(backup: &Stored, database: &str) -> bool {
    place_of(&backup.source, backup.content) == ("database", database)
}

/// What a source is, without the machine it is on.
fn place_of(source: &Source, content: Content) -> (&'static str, &str) {
    match source {
        Source::Database { name, .. } => ("database", name),
        Source::Tree { root, .. } => ("tree", root),
        Source::Named { name } if content == Content::Sql => {
            ("database", name.strip_suffix("_db").unwrap_or(name))
        }
        Source::Named { name } => ("file", name),
    }
}

/// Names for people; the machine is told where only it tells two sources apart.
fn labels<'a>(by_source: &BTreeMap<&'a Source, Vec<&Stored>>) -> BTreeMap<&'a Source, String> {
    let plain = |source: &Source, all: &[&Stored]| match source {
        Source::Database { name, .. } => format!("database {name}"),
        Source::Tree { root, .. } => format!("tree {root}"),
        Source::Named { name } if all.first().is_some_and(|one| one.content == Content::Sql) => {
            format!("database {name}")
        }
        Source::Named { name } => name.clone(),
    };
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for (source, all) in by_source {
        *count.entry(plain(source, all)).or_default() += 1;
    }
    let label = |source: &Source, all: &[&Stored]| {
        let label = plain(source, all);
        if count.get(&label) == Some(&1) {
            return label;
        }
        match source {
            Source::Database { system, .. } => format!("{label} (system {system})"),
            Source::Tree { host, .. } => format!("{label} (host {host})"),
            Source::Named { .. } => format!("{label} (by name)"),
        }
    };
    by_source.iter().map(|(source, all)| (*source, label(source, all))).collect()
}

/// From when to when a source was backed up.
struct Span<'a> {
    place: (&'static str, &'a str),
    first: DateTime<FixedOffset>,
    last: DateTime<FixedOffset>,
}

impl<'a> Span<'a> {
    fn of(source: &'a Source, all: &[&'a Stored]) -> Option<Self> {
        let content = all.first()?.content;
        let first = all.iter().map(|backup| backup.created).min()?;
        let last = all.iter().map(|backup| backup.created).max()?;
        Some(Self { place: place_of(source, content), first, last })
    }

    /// Whether it began when the other had ended: two that are in use at the same time are two.
    fn follows(&self, other: &Span<'_>) -> bool {
        self.place == other.place && self.first > other.last
    }
}

struct Judgement<'a> {
    label: &'a str,
    seen: &'a Seen,
    terms: &'a Terms,
    runs: &'a HashMap<&'a str, &'a Ran>,
    findings: Vec<Finding>,
}

impl Judgement<'_> {
    fn add(&mut self, severity: Severity, code: Problem, tag: Option<&str>, message: String, hint: &str) {
        self.findings.push(Finding {
            severity,
            code,
            about: self.label.to_owned(),
            tag: tag.map(str::to_owned),
            message: format!("{}: {message}", self.label),
            hint: hint.to_owned(),
        });
    }

    fn since(&self, then: DateTime<FixedOffset>) -> u64 {
        u64::try_from((self.seen.now - then).num_seconds()).unwrap_or_default()
    }

    fn newest(&self, backup: &Stored) -> Newest {
        Newest {
            name: backup.name.clone(),
            folder: self
                .seen
                .folders
                .get(backup.folder)
                .map(|folder| folder.path.clone())
                .unwrap_or_default(),
            created: backup.created,
            age: self.since(backup.created),
            size: backup.size,
            verified: backup.intact,
        }
    }

    fn source(&mut self, source: &Source, all: &[&Stored]) -> Option<SourceReport> {
        let each = each_once(all, self.seen);
        let newest = *each.last()?;
        let mut tags: BTreeMap<&str, Vec<&Stored>> = BTreeMap::new();
        for backup in &each {
            tags.entry(&backup.tag).or_default().push(backup);
        }
        self.age(newest);
        let chains: Vec<Chain> = tags.iter().filter_map(|(tag, chain)| self.chain(tag, chain)).collect();
        let damaged = self.damaged(all);
        let verified = chains.iter().filter_map(|chain| chain.verified).max();
        let drilled = chains.iter().filter_map(|chain| chain.drilled).max();
        self.proofs(newest, verified, drilled);
        if !newest.complete {
            self.add(
                Severity::Warning,
                Problem::Incomplete,
                Some(&newest.tag),
                format!("{} does not hold all it should: something could not be read", newest.name),
                "Let the user that makes the backups read all of it; `lifeboat verify` tells what is missing.",
            );
        }
        let copies = self.copies(source, all, newest);
        Some(SourceReport {
            source: self.label.to_owned(),
            identity: source.clone(),
            status: Severity::Ok,
            superseded: false,
            backups: each.len(),
            damaged,
            newest: self.newest(newest),
            verified,
            drilled,
            copies,
            tags: chains,
        })
    }

    fn age(&mut self, newest: &Stored) {
        let seconds = self.since(newest.created);
        let (limit, critical) = (self.terms.max_age.as_secs(), self.terms.critical_age().as_secs());
        if seconds <= limit || (seconds <= critical && self.is_being_made(newest)) {
            return;
        }
        let severity = if seconds > critical { Severity::Critical } else { Severity::Warning };
        self.add(
            severity,
            Problem::Age,
            None,
            format!("the newest backup is {} old (limit {})", age(seconds), age(limit)),
            "Make one now, see with `lifeboat history` why none was made, and check the schedule.",
        );
    }

    /// Whether the playbook that made a backup is at work again.
    fn is_being_made(&self, newest: &Stored) -> bool {
        let made_by = newest.run.as_deref().and_then(|run| self.runs.get(run));
        made_by.is_some_and(|made_by| {
            self.seen.runs.iter().any(|run| {
                run.state == RanState::Running && !run.is_drill && run.playbook == made_by.playbook
            })
        })
    }

    fn chain(&mut self, tag: &str, chain: &[&Stored]) -> Option<Chain> {
        let (newest, before) = chain.split_last()?;
        // A backup of less, or one that is broken, is no measure.
        let history: Vec<&Stored> = before
            .iter()
            .rev()
            .filter(|one| one.selection == newest.selection && one.complete && one.intact != Some(false))
            .take(HISTORY)
            .copied()
            .collect();
        let sizes: Vec<u64> = history.iter().map(|one| one.size).collect();
        if let Some(off) = off_median(&sizes, newest.size, self.terms.max_change) {
            self.add(
                Severity::Warning,
                Problem::Size,
                Some(tag),
                format!(
                    "{} has {}, {} the usual {}",
                    newest.name,
                    units::bytes(off.newest),
                    than(off.percent, "larger", "smaller"),
                    units::bytes(off.median)
                ),
                "Find out what changed in the source: see with `lifeboat backups`, and rehearse with `lifeboat restore_test`.",
            );
        }
        let millis = self.millis(newest);
        let durations: Vec<u64> = history.iter().filter_map(|one| self.millis(one)).collect();
        if let Some(millis) = millis
            && let Some(off) = off_median(&durations, millis, self.terms.max_change)
            && off.newest.abs_diff(off.median) >= NOISE
        {
            let took = |millis: u64| units::duration(Duration::from_millis(millis));
            self.add(
                Severity::Warning,
                Problem::Duration,
                Some(tag),
                format!(
                    "the run that made {} took {}, {} the usual {}",
                    newest.name,
                    took(off.newest),
                    than(off.percent, "longer", "shorter"),
                    took(off.median)
                ),
                "Compare the steps of the two runs with `lifeboat show RUN`: server, network or disk are slower, or there is less to back up.",
            );
        }
        self.rhythm(tag, newest, before);
        Some(Chain {
            tag: tag.to_owned(),
            backups: chain.len(),
            newest: self.newest(newest),
            usual_size: usual(&sizes),
            millis,
            usual_millis: usual(&durations),
            verified: verified(chain),
            drilled: chain.iter().filter_map(|one| one.drilled_at).max(),
        })
    }

    /// A tag that comes regularly and stopped, while another tag of the source goes on.
    fn rhythm(&mut self, tag: &str, newest: &Stored, before: &[&Stored]) {
        if tag.is_empty() || tag == BY_HAND {
            return;
        }
        let mut times: Vec<DateTime<FixedOffset>> =
            before.iter().rev().take(HISTORY).map(|one| one.created).collect();
        times.insert(0, newest.created);
        let gaps: Vec<u64> = times
            .windows(2)
            .map(|pair| u64::try_from((pair[0] - pair[1]).num_seconds()).unwrap_or_default())
            .collect();
        let Some(usual) = usual(&gaps) else { return };
        let seconds = self.since(newest.created);
        if seconds > usual.saturating_mul(2) && seconds > self.terms.max_age.as_secs() {
            self.add(
                Severity::Warning,
                Problem::Late,
                Some(tag),
                format!(
                    "the newest backup tagged {tag} is {} old, one comes every {} otherwise",
                    age(seconds),
                    age(usual)
                ),
                "Check the schedule that makes them with `lifeboat schedule`, and its runs with `lifeboat history`.",
            );
        }
    }

    fn millis(&self, backup: &Stored) -> Option<u64> {
        let run = self.runs.get(backup.run.as_deref()?)?;
        let is_whole =
            matches!(run.state, RanState::Ended(Exit::Success | Exit::Warnings)) && !run.is_resumed;
        run.millis.filter(|_| is_whole)
    }

    fn damaged(&mut self, all: &[&Stored]) -> Vec<String> {
        let broken: Vec<&&Stored> = all.iter().filter(|one| one.intact == Some(false)).collect();
        let mut names: Vec<String> = broken.iter().map(|one| one.name.clone()).collect();
        names.sort();
        names.dedup();
        if let [first, others @ ..] = names.as_slice() {
            let listed: Vec<&str> =
                std::iter::once(first).chain(others).take(NAMED).map(String::as_str).collect();
            let more = if names.len() > NAMED {
                format!(" and {} more", names.len() - NAMED)
            } else {
                String::new()
            };
            let is = if names.len() == 1 { "is" } else { "are" };
            let why = match broken.as_slice() {
                [one] => one.problem.as_ref().map_or_else(String::new, |why| format!(" ({why})")),
                _ => String::new(),
            };
            self.add(
                Severity::Critical,
                Problem::NotIntact,
                None,
                format!("{}{more} {is} not intact{why}", listed.join(", ")),
                "Keep the damaged files for inquiry, and make a fresh backup now: `lifeboat backup_all`.",
            );
        }
        names
    }

    fn proofs(
        &mut self,
        newest: &Stored,
        verified: Option<DateTime<FixedOffset>>,
        drilled: Option<DateTime<FixedOffset>>,
    ) {
        let warn = Severity::Warning;
        const VERIFY: &str = "`lifeboat verify --all` proves what is there; schedule `verify_backups` daily.";
        if newest.intact.is_none() {
            self.add(
                warn,
                Problem::NotVerified,
                None,
                "the newest backup was never verified".to_owned(),
                VERIFY,
            );
        }
        if let Some(at) = verified
            && self.since(at) > self.terms.verify_age.as_secs()
        {
            let message = format!(
                "the last verification was {} ago (limit {})",
                age(self.since(at)),
                age(self.terms.verify_age.as_secs())
            );
            self.add(warn, Problem::VerifyOld, None, message, VERIFY);
        }
        const DRILL: &str = "`lifeboat restore_test` restores the newest; schedule it monthly, or `maintenance`, which tests weekly.";
        match drilled.map(|at| self.since(at)) {
            // A drill notes in a manifest only what it loaded into a database.
            None if newest.content == Content::Sql => self.add(
                warn,
                Problem::NeverDrilled,
                None,
                "none of its backups was ever restored, not even as a test".to_owned(),
                DRILL,
            ),
            Some(seconds) if seconds > self.terms.drill_age.as_secs() => {
                let limit = age(self.terms.drill_age.as_secs());
                let message = format!(
                    "the last restore of one, drill or test, was {} ago (limit {limit})",
                    age(seconds)
                );
                self.add(warn, Problem::DrillOld, None, message, DRILL);
            }
            Some(_) | None => {}
        }
    }

    fn copies(&mut self, source: &Source, all: &[&Stored], newest: &Stored) -> Copies {
        let recent = |one: &&&Stored| {
            one.intact != Some(false) && (newest.created - one.created).num_seconds() <= COPY_LAG
        };
        let folders: BTreeSet<usize> = all.iter().filter(recent).map(|one| one.folder).collect();
        let holders: Vec<Holder<'_>> = folders
            .iter()
            .filter_map(|index| self.seen.folders.get(*index))
            .map(|folder| Holder {
                folder: &folder.path,
                place: &folder.place,
                is_offsite: folder.is_offsite,
            })
            .collect();
        let live = self.seen.live.iter().find(|(of, _)| of == source).map(|(_, live)| live);
        let mut copies = copies::count(live, &holders);
        let stale: BTreeSet<usize> =
            all.iter().map(|one| one.folder).filter(|index| !folders.contains(index)).collect();
        let stale = stale.iter().filter_map(|index| self.seen.folders.get(*index));
        copies.notes.extend(stale.map(|folder| {
            format!("{} holds only backups that are damaged or a week older than the newest", folder.path)
        }));
        if let Some(missing) = copies.missing(self.terms) {
            self.add(
                Severity::Warning,
                Problem::Copies,
                None,
                format!("{missing} ({})", copies.told()),
                &format!(
                    "Copy the backups to another disk and to another site, and name those folders: as DIR, and in \
                     BACKUP_OFFSITE_DIRS. What is accepted as it is can be said in .env: BACKUP_COPIES={}, \
                     BACKUP_STORAGE_TYPES={}, BACKUP_OFFSITE_COPIES={}.",
                    copies.copies,
                    copies.storage.len(),
                    copies.offsite
                ),
            );
        }
        copies
    }
}

/// Each backup once, however many copies there are, oldest first; copies in folders that are looked at first win.
fn each_once<'a>(all: &[&'a Stored], seen: &Seen) -> Vec<&'a Stored> {
    let mut each = all.to_vec();
    let is_offsite = |one: &Stored| seen.folders.get(one.folder).is_some_and(|folder| folder.is_offsite);
    each.sort_by(|a, b| {
        (a.created, &a.name, is_offsite(a), a.folder).cmp(&(b.created, &b.name, is_offsite(b), b.folder))
    });
    each.dedup_by(|a, b| a.created == b.created && a.name == b.name);
    each
}

fn verified(chain: &[&Stored]) -> Option<DateTime<FixedOffset>> {
    chain.iter().filter(|one| one.intact == Some(true)).filter_map(|one| one.verified_at).max()
}

/// The lower median, if there are enough values.
fn usual(history: &[u64]) -> Option<u64> {
    if history.len() < anomaly::FEWEST {
        return None;
    }
    let mut sorted = history.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() - 1) / 2).copied()
}

/// `60 % smaller than`.
fn than(percent: i64, more: &str, less: &str) -> String {
    if percent < 0 {
        format!("{} % {less} than", percent.unsigned_abs())
    } else if percent == i64::MAX {
        format!("{more} than")
    } else {
        format!("{percent} % {more} than")
    }
}
