//! Which backups rotation keeps: a pure plan over a list and a point in time.
//!
//! Buckets work as in restic: `daily: 7` keeps the newest backup of each of the last seven days that have one. Two rules
//! stand above every policy: only what has a newer verified backup of the same source may go, so the newest verified one
//! never does; and a backup goes only when no rule keeps it.

use crate::base::backup::{Backup, Source};
use crate::base::plan::Later;
use chrono::{DateTime, Datelike, FixedOffset, TimeDelta, Timelike};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What to keep. A rule that is `None` keeps nothing by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// The newest so many.
    pub keep_last: Option<u32>,
    /// The newest of each of so many hours.
    pub keep_hourly: Option<u32>,
    /// The newest of each of so many days.
    pub keep_daily: Option<u32>,
    /// The newest of each of so many ISO weeks.
    pub keep_weekly: Option<u32>,
    /// The newest of each of so many months.
    pub keep_monthly: Option<u32>,
    /// The newest of each of so many years.
    pub keep_yearly: Option<u32>,
    /// Everything made within so many days of 24 hours.
    pub keep_days: Option<u32>,
}

impl Keep {
    /// Whether any rule keeps anything.
    pub fn keeps_something(&self) -> bool {
        [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
            self.keep_days,
        ]
        .iter()
        .any(|rule| rule.is_some_and(|n| n > 0))
    }

    /// The rules as people say them: `30 days, 12 monthly`.
    pub fn describe(&self) -> String {
        let named = [
            (self.keep_last, "last"),
            (self.keep_hourly, "hourly"),
            (self.keep_daily, "daily"),
            (self.keep_weekly, "weekly"),
            (self.keep_monthly, "monthly"),
            (self.keep_yearly, "yearly"),
            (self.keep_days, "days"),
        ];
        let parts: Vec<String> = named
            .iter()
            .filter_map(|(n, name)| n.filter(|n| *n > 0).map(|n| format!("{n} {name}")))
            .collect();
        parts.join(", ")
    }
}

/// A backup that goes, and the newer verified one that lets it go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The file.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The newer verified backup of the same source.
    pub proof: PathBuf,
}

/// What rotation would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// What goes, oldest first.
    pub remove: Vec<Removal>,
    /// What stays, newest first, with the rule that keeps it.
    pub keep: Vec<(PathBuf, &'static str)>,
}

/// Made so long after now, a backup says that a clock is or was wrong.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// What of which source a backup holds: only what agrees in both can stand for another.
type Subject<'a> = (&'a Source, Option<&'a str>);

fn subject(backup: &Backup) -> Subject<'_> {
    (&backup.source, backup.selection.as_deref())
}

/// Plans over backups of one folder; sources, selections and tags are never mixed.
///
/// A backup that was made in the future proves nothing and takes no slot of a rule, nor does one that is not intact; both
/// stay. What could not be read whole is no proof either.
pub fn plan(backups: &[Backup], keep: &Keep, now: DateTime<FixedOffset>) -> RetentionPlan {
    let limit = now.checked_add_signed(TOLERANCE).unwrap_or(now);
    let is_future = |backup: &Backup| backup.created > limit;
    let mut newest_verified: BTreeMap<Subject<'_>, &Backup> = BTreeMap::new();
    let proofs = backups
        .iter()
        .filter(|backup| backup.verified == Later::Now(Some(true)) && backup.complete && !is_future(backup));
    for backup in proofs {
        newest_verified
            .entry(subject(backup))
            .and_modify(|known| {
                if order(backup) > order(known) {
                    *known = backup;
                }
            })
            .or_insert(backup);
    }
    let mut result = RetentionPlan::default();
    let mut groups: BTreeMap<(Subject<'_>, &str), Vec<&Backup>> = BTreeMap::new();
    for backup in backups {
        if is_future(backup) {
            result.keep.push((backup.path.clone(), "made in the future: is the clock right?"));
        } else if backup.verified == Later::Now(Some(false)) {
            result.keep.push((backup.path.clone(), "not intact; kept for inquiry"));
        } else {
            groups.entry((subject(backup), &backup.tag)).or_default().push(backup);
        }
    }
    let mut removals = Vec::new();
    for ((subject, _), mut group) in groups {
        group.sort_by_key(|backup| std::cmp::Reverse(order(backup)));
        for (backup, rule) in group.iter().zip(rules(&group, keep, now)) {
            match (rule, newest_verified.get(&subject)) {
                (Some(rule), _) => result.keep.push((backup.path.clone(), rule)),
                (None, Some(proof)) if order(proof) > order(backup) => removals.push((*backup, *proof)),
                (None, Some(proof)) if proof.path == backup.path => {
                    result.keep.push((backup.path.clone(), "newest verified backup of its source"));
                }
                (None, _) => {
                    result.keep.push((backup.path.clone(), "no newer verified backup of its source"))
                }
            }
        }
    }
    removals.sort_by_key(|(backup, _)| order(backup));
    result.remove = removals
        .into_iter()
        .map(|(backup, proof)| Removal {
            path: backup.path.clone(),
            name: backup.name.clone(),
            size: backup.size.as_now().copied().unwrap_or(0),
            proof: proof.path.clone(),
        })
        .collect();
    result
}

fn order(backup: &Backup) -> (DateTime<FixedOffset>, &str) {
    (backup.created, &backup.name)
}

/// For each backup of a group, newest first: the rule that keeps it.
fn rules(group: &[&Backup], keep: &Keep, now: DateTime<FixedOffset>) -> Vec<Option<&'static str>> {
    type Bucket = fn(&DateTime<FixedOffset>) -> (i32, u32);
    let buckets: [(Option<u32>, &'static str, Bucket); 5] = [
        (keep.keep_hourly, "hourly", |t| (t.date_naive().num_days_from_ce(), t.hour())),
        (keep.keep_daily, "daily", |t| (t.date_naive().num_days_from_ce(), 0)),
        (keep.keep_weekly, "weekly", |t| (t.iso_week().year(), t.iso_week().week())),
        (keep.keep_monthly, "monthly", |t| (t.year(), t.month())),
        (keep.keep_yearly, "yearly", |t| (t.year(), 0)),
    ];
    let mut kept = vec![None; group.len()];
    let mut mark = |index: usize, rule: &'static str| {
        kept[index].get_or_insert(rule);
    };
    for index in 0..group.len().min(keep.keep_last.unwrap_or(0) as usize) {
        mark(index, "last");
    }
    for (count, rule, bucket) in buckets {
        let mut left = count.unwrap_or(0);
        let mut previous = None;
        for (index, backup) in group.iter().enumerate() {
            let key = bucket(&backup.created);
            if left > 0 && previous != Some(key) {
                mark(index, rule);
                previous = Some(key);
                left -= 1;
            }
        }
    }
    if let Some(days) = keep.keep_days.filter(|days| *days > 0) {
        let oldest = TimeDelta::try_days(i64::from(days)).and_then(|days| now.checked_sub_signed(days));
        for (index, backup) in group.iter().enumerate() {
            // Before the calendar begins there is no backup.
            if oldest.is_none_or(|oldest| backup.created > oldest) {
                mark(index, "days");
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::backup::Content;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn at(text: &str) -> DateTime<FixedOffset> {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    fn backup(source: &str, tag: &str, created: DateTime<FixedOffset>, verified: Option<bool>) -> Backup {
        let name = format!("{source}_{}_{tag}.sql.gz", created.format("%Y%m%d_%H%M%S"));
        Backup {
            path: PathBuf::from("/b").join(&name),
            name,
            content: Content::Sql,
            source: Source::Named { name: source.into() },
            selection: None,
            complete: true,
            tag: tag.into(),
            created,
            size: Later::Now(10),
            raw_size: Later::Now(100),
            sha256: Later::Now(None),
            verified: Later::Now(verified),
        }
    }

    fn removed(plan: &RetentionPlan) -> Vec<&str> {
        plan.remove.iter().map(|removal| removal.name.as_str()).collect()
    }

    /// Ninety days of the guide's schedule table; each run rotates its own tag, as the playbooks do.
    #[test]
    fn ninety_days_of_the_guides_schedule() {
        let begin = at("2025-08-01T00:00:00+00:00");
        let daily = Keep { keep_days: Some(30), ..Keep::default() };
        let hourly = Keep { keep_days: Some(7), ..Keep::default() };
        let weekly = Keep { keep_days: Some(60), ..Keep::default() };
        let mut folder: Vec<Backup> = Vec::new();
        for hour in 0..90 * 24 {
            let now = begin + TimeDelta::hours(hour);
            let mut due = Vec::new();
            if now.hour() == 2 {
                due.push(("daily", daily));
            }
            if (9..=17).contains(&now.hour()) {
                due.push(("hourly", hourly));
            }
            if now.hour() == 3 && now.weekday() == chrono::Weekday::Sun {
                due.push(("weekly", weekly));
            }
            for (tag, keep) in due {
                folder.push(backup("shop", tag, now, Some(true)));
                let own: Vec<Backup> = folder.iter().filter(|b| b.tag == tag).cloned().collect();
                let gone: BTreeSet<PathBuf> =
                    plan(&own, &keep, now).remove.into_iter().map(|r| r.path).collect();
                folder.retain(|b| !gone.contains(&b.path));
            }
        }
        let count = |tag: &str| folder.iter().filter(|b| b.tag == tag).count();
        assert_eq!((count("daily"), count("hourly"), count("weekly")), (30, 7 * 9, 9));
        let oldest = |tag: &str| folder.iter().filter(|b| b.tag == tag).map(|b| b.created).min().unwrap();
        assert_eq!(oldest("daily"), at("2025-09-30T02:00:00+00:00"));
        assert_eq!(oldest("hourly"), at("2025-10-23T09:00:00+00:00"));
        assert_eq!(oldest("weekly"), at("2025-08-31T03:00:00+00:00"));
    }

    #[test]
    fn buckets_keep_the_newest_of_each() {
        let times = [
            "2024-12-30T10:00:00+00:00",
            "2024-12-31T10:00:00+00:00",
            "2025-01-01T10:00:00+00:00",
            "2025-01-01T12:00:00+00:00",
            "2025-01-01T12:30:00+00:00",
        ];
        let all: Vec<Backup> = times.iter().map(|t| backup("shop", "daily", at(t), Some(true))).collect();
        let kept = |keep: Keep| {
            let plan = plan(&all, &keep, at("2025-01-01T13:00:00+00:00"));
            let gone: BTreeSet<_> = plan.remove.iter().map(|r| r.path.clone()).collect();
            (0..5).filter(|i| !gone.contains(&all[*i].path)).collect::<Vec<_>>()
        };
        assert_eq!(kept(Keep { keep_last: Some(2), ..Keep::default() }), [3, 4]);
        assert_eq!(kept(Keep { keep_hourly: Some(2), ..Keep::default() }), [2, 4]);
        assert_eq!(kept(Keep { keep_daily: Some(2), ..Keep::default() }), [1, 4]);
        // The ISO week of the last days of 2024 is the first of 2025.
        assert_eq!(kept(Keep { keep_weekly: Some(5), ..Keep::default() }), [4]);
        assert_eq!(kept(Keep { keep_monthly: Some(2), ..Keep::default() }), [1, 4]);
        assert_eq!(kept(Keep { keep_yearly: Some(1), ..Keep::default() }), [4]);
        assert_eq!(kept(Keep { keep_days: Some(1), ..Keep::default() }), [2, 3, 4]);
        assert_eq!(kept(Keep { keep_last: Some(1), keep_daily: Some(3), ..Keep::default() }), [0, 1, 4]);
    }

    #[test]
    fn sources_and_tags_do_not_eat_each_other() {
        let now = at("2025-03-01T00:00:00+00:00");
        let old = at("2025-01-01T00:00:00+00:00");
        let older = at("2024-12-01T00:00:00+00:00");
        let all = [
            backup("shop", "daily", old, Some(true)),
            backup("shop", "daily", older, Some(true)),
            backup("shop", "weekly", older, Some(true)),
            backup("blog", "daily", older, Some(true)),
        ];
        let plan = plan(&all, &Keep { keep_last: Some(1), ..Keep::default() }, now);
        assert_eq!(removed(&plan), ["shop_20241201_000000_daily.sql.gz"]);
        assert_eq!(plan.remove[0].proof, all[0].path);
    }

    #[test]
    fn without_a_newer_verified_backup_nothing_goes() {
        let now = at("2025-03-01T00:00:00+00:00");
        let keep = Keep { keep_last: Some(1), ..Keep::default() };
        let times = ["2025-01-01T00:00:00+00:00", "2025-01-02T00:00:00+00:00", "2025-01-03T00:00:00+00:00"];
        let with = |states: [Option<bool>; 3]| {
            let all: Vec<Backup> =
                times.iter().zip(states).map(|(t, v)| backup("shop", "daily", at(t), v)).collect();
            removed(&plan(&all, &keep, now)).len()
        };
        assert_eq!(with([None, None, None]), 0);
        assert_eq!(with([Some(true), None, None]), 0, "the newest verified one stays, however old");
        assert_eq!(with([None, Some(true), Some(false)]), 1);
        assert_eq!(with([None, None, Some(true)]), 2);
        assert_eq!(with([None, Some(false), Some(true)]), 1, "what is not intact is kept for inquiry");
    }

    #[test]
    fn damaged_backups_take_no_slot() {
        let days = ["2025-01-01T00:00:00+00:00", "2025-01-02T00:00:00+00:00", "2025-01-03T00:00:00+00:00"];
        let states = [Some(true), Some(true), Some(false)];
        let all: Vec<Backup> =
            days.iter().zip(states).map(|(t, v)| backup("shop", "daily", at(t), v)).collect();
        let plan =
            plan(&all, &Keep { keep_last: Some(2), ..Keep::default() }, at("2025-03-01T00:00:00+00:00"));
        assert_eq!(removed(&plan), Vec::<&str>::new());
        assert_eq!(plan.keep[0], (all[2].path.clone(), "not intact; kept for inquiry"));
    }

    #[test]
    fn a_part_or_an_incomplete_archive_is_no_proof_for_the_whole() {
        let now = at("2025-03-01T00:00:00+00:00");
        let keep = Keep { keep_last: Some(1), ..Keep::default() };
        let whole = |day: &str| backup("shop", "daily", at(day), Some(true));
        let mut all = vec![
            whole("2025-01-01T00:00:00+00:00"),
            Backup { tag: "weekly".into(), ..whole("2025-01-02T00:00:00+00:00") },
            whole("2025-01-03T00:00:00+00:00"),
        ];
        let first = "shop_20250101_000000_daily.sql.gz";
        assert_eq!(removed(&plan(&all, &keep, now)), [first]);
        all[2].selection = Some("{\"tables\":[\"a\"]}".into());
        assert_eq!(removed(&plan(&all, &keep, now)), Vec::<&str>::new(), "each is the last of its selection");
        all.push(Backup { selection: all[2].selection.clone(), ..whole("2025-01-04T00:00:00+00:00") });
        assert_eq!(removed(&plan(&all, &keep, now)), ["shop_20250103_000000_daily.sql.gz"]);
        for backup in &mut all[2..] {
            backup.selection = None;
            backup.complete = false;
        }
        // The weekly one is the newest proof: it lets only the first go.
        assert_eq!(removed(&plan(&all, &keep, now)), [first]);
        all[1].complete = false;
        assert_eq!(removed(&plan(&all, &keep, now)), Vec::<&str>::new());
    }

    #[test]
    fn the_future_proves_nothing_and_takes_no_slot() {
        let now = at("2025-01-03T00:00:00+00:00");
        let keep = Keep { keep_last: Some(1), ..Keep::default() };
        let mut all: Vec<Backup> = ["2025-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"]
            .iter()
            .map(|t| backup("shop", "daily", at(t), Some(true)))
            .collect();
        let early = plan(&all, &keep, now);
        assert_eq!(
            early.keep,
            [(all[1].path.clone(), "made in the future: is the clock right?"), (all[0].path.clone(), "last"),]
        );
        all[1].created = now + TimeDelta::minutes(5);
        assert_eq!(removed(&plan(&all, &keep, now)), ["shop_20250101_000000_daily.sql.gz"]);
    }

    #[test]
    fn more_days_than_the_calendar_has_keep_all() {
        let all: Vec<Backup> = ["0001-01-01T00:00:00+00:00", "2025-01-01T00:00:00+00:00"]
            .iter()
            .map(|t| backup("shop", "daily", at(t), Some(true)))
            .collect();
        let keep = Keep { keep_days: Some(4_000_000_000), ..Keep::default() };
        assert_eq!(removed(&plan(&all, &keep, at("2025-03-01T00:00:00+00:00"))), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn the_newest_verified_backup_of_each_source_stays(
            specs in prop::collection::vec((0u8..3, 0u8..3, 0i64..2000, prop::option::of(any::<bool>())), 0..60),
            last in prop::option::of(0u32..4), daily in prop::option::of(0u32..4), days in prop::option::of(0u32..40),
        ) {
            let begin = at("2025-01-01T00:00:00+00:00");
            let all: Vec<Backup> = specs
                .iter()
                .map(|(s, t, h, v)| backup(&format!("s{s}"), &format!("t{t}"), begin + TimeDelta::hours(*h), *v))
                .collect();
            let keep = Keep { keep_last: last, keep_daily: daily, keep_days: days, ..Keep::default() };
            let plan = plan(&all, &keep, begin + TimeDelta::hours(2000));
            prop_assert_eq!(plan.remove.len() + plan.keep.len(), all.len());
            let gone: BTreeSet<_> = plan.remove.iter().map(|r| &r.path).collect();
            for source in all.iter().map(|b| &b.source).collect::<BTreeSet<_>>() {
                let newest = all
                    .iter()
                    .filter(|b| b.source == *source && b.verified == Later::Now(Some(true)))
                    .max_by_key(|b| (b.created, b.name.clone()));
                if let Some(newest) = newest {
                    prop_assert!(!gone.contains(&newest.path));
                } else {
                    prop_assert!(all.iter().filter(|b| b.source == *source).all(|b| !gone.contains(&b.path)));
                }
            }
        }
    }
}
