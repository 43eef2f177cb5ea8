//! A year of the guide's schedules in simulated time, through the real timer and the real turns: no instant twice, none
//! lost in silence, and at the end the backups that the table promises.

use chrono::{DateTime, Datelike, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use lifeboat::base::backup::{Backup, Content, Source};
use lifeboat::base::failure::{Exit, Failure};
use lifeboat::base::ids::RunId;
use lifeboat::base::plan::Later;
use lifeboat::base::retention::{Keep, plan};
use lifeboat::base::schedule::{Missed, Overlap, Scheduled, Why};
use lifeboat::daemon::timer::{Job, Timer};
use lifeboat::daemon::turn::{Turn, World};
use lifeboat::journal::slots::{self, Became};
use lifeboat::script::header::Schedule;
use lifeboat::script::library::Library;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// The guide's table: playbook, schedule, tag, days kept.
const TABLE: [(&str, &str, &str, u32); 4] = [
    ("backup_database", "0 2 * * *", "daily", 30),
    ("backup_database", "0 9-17 * * *", "hourly", 7),
    ("backup_config", "30 2 * * *", "daily", 30),
    ("backup_all", "0 3 * * 0", "weekly", 60),
];

/// The schedules of the table in a zone, as a header gives them.
fn jobs(zone: Tz, missed: Missed, overlap: Overlap) -> Vec<Job> {
    let dir = tempfile::tempdir().unwrap();
    TABLE
        .iter()
        .map(|(playbook, cron, ..)| {
            let text =
                format!("const PLAYBOOK = #{{ summary: \"x\", schedule: [#{{ cron: \"{cron}\" }}] }};");
            std::fs::create_dir_all(dir.path().join("playbooks")).unwrap();
            std::fs::write(dir.path().join(format!("playbooks/{playbook}.rhai")), text).unwrap();
            let read = Library::of(dir.path(), &[], &[]).find(playbook).unwrap();
            let mut schedule: Schedule = lifeboat::script::header::header(&read).unwrap().schedule.remove(0);
            schedule.terms.missed = missed;
            schedule.terms.overlap = overlap;
            let timetable = schedule.timetable(zone).unwrap();
            Job { playbook: (*playbook).to_owned(), schedule, timetable, delay: Duration::ZERO }
        })
        .collect()
}

/// Numbers that look random and are the same each time.
struct Dice(Cell<u64>);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        let mut z = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(z);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A world in which time passes when it is told to.
struct Simulated {
    now: Cell<DateTime<Utc>>,
    /// Until when a playbook runs.
    busy: RefCell<BTreeMap<String, DateTime<Utc>>>,
}

impl World for Simulated {
    fn now(&self) -> DateTime<Utc> {
        self.now.get()
    }

    fn pause(&self, time: Duration) -> Result<(), Failure> {
        self.now.set(self.now.get() + TimeDelta::from_std(time).unwrap());
        Ok(())
    }

    fn running(&self, playbook: &str) -> Result<Option<RunId>, Failure> {
        let busy = self.busy.borrow().get(playbook).is_some_and(|until| *until > self.now.get());
        Ok(busy.then(|| RunId::parse("20260101-000000-abcdef").unwrap()))
    }

    fn end(&self, playbook: &str) -> Result<(), Failure> {
        self.busy.borrow_mut().remove(playbook);
        Ok(())
    }
}

/// A backup as a run at `created` makes it.
fn backup(playbook: &str, tag: &str, created: DateTime<chrono::FixedOffset>) -> Backup {
    let name = format!("{playbook}_{tag}_{}", created.with_timezone(&Utc).format("%Y%m%d_%H%M%S"));
    Backup {
        path: Path::new("/b").join(&name),
        name,
        content: Content::Tar,
        source: Source::Tree { host: "h".into(), root: playbook.to_owned() },
        selection: None,
        complete: true,
        tag: tag.to_owned(),
        created,
        size: Later::Now(1),
        raw_size: Later::Now(1),
        sha256: Later::Now(None),
        verified: Later::Now(Some(true)),
    }
}

/// What a year brings.
struct Weather {
    /// One in so many looks finds that the machine slept for up to a day and a half.
    sleeps: u64,
    /// One in so many looks the daemon is started anew.
    restarts: u64,
    /// One in so many runs takes up to three hours.
    slow: u64,
}

struct Year {
    ran: BTreeMap<usize, Vec<DateTime<Utc>>>,
    overlapped: usize,
    missed: usize,
    kept: BTreeMap<usize, BTreeSet<DateTime<Utc>>>,
    end: DateTime<Utc>,
}

/// Lets a year pass; every instant must be decided exactly once.
fn pass(zone: Tz, missed: Missed, overlap: Overlap, weather: &Weather) -> Year {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let state = dir.path();
    let dice = Dice(Cell::new(7));
    let begin = zone.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap().with_timezone(&Utc);
    let end = begin + TimeDelta::days(365);
    let world = Simulated { now: Cell::new(begin), busy: RefCell::default() };
    let all = jobs(zone, missed, overlap);
    let mut timer = Timer::new(all.clone(), state, begin).unwrap();
    let mut ran: BTreeMap<usize, Vec<DateTime<Utc>>> = BTreeMap::new();
    let mut folders: BTreeMap<&str, Vec<Backup>> = BTreeMap::new();
    loop {
        let next = timer.next().unwrap().0.max(world.now());
        if next > end {
            break;
        }
        world.now.set(next);
        if weather.sleeps > 0 && dice.below(weather.sleeps) == 0 {
            world.now.set(next + TimeDelta::minutes(dice.below(36 * 60) as i64));
        }
        if weather.restarts > 0 && dice.below(weather.restarts) == 0 {
            timer = Timer::new(all.clone(), state, world.now()).unwrap();
        }
        let handed = world.now();
        for job in timer.due(handed) {
            let index = all.iter().position(|other| other.name() == job.name()).unwrap();
            let (playbook, _, tag, days) = TABLE[index];
            let turn = Turn {
                state,
                playbook,
                schedule: &job.schedule,
                timetable: &job.timetable,
                delay: job.delay,
            };
            let mut run = |scheduled: &Scheduled, _| {
                ran.entry(index).or_default().push(scheduled.slot.with_timezone(&Utc));
                if weather.slow > 0 && dice.below(weather.slow) == 0 {
                    let until = world.now() + TimeDelta::minutes(dice.below(180) as i64);
                    world.busy.borrow_mut().insert(playbook.to_owned(), until);
                }
                let folder = folders.entry(playbook).or_default();
                folder.push(backup(playbook, tag, scheduled.slot));
                let of_tag: Vec<Backup> = folder.iter().filter(|backup| backup.tag == tag).cloned().collect();
                let keep = Keep { keep_days: Some(days), ..Keep::default() };
                let gone: BTreeSet<_> =
                    plan(&of_tag, &keep, scheduled.slot).remove.into_iter().map(|gone| gone.path).collect();
                folder.retain(|backup| !gone.contains(&backup.path));
                (None, Exit::Success)
            };
            turn.take(&world, &mut run).unwrap();
            assert!(timer.settle(&job, handed, state, world.now()).unwrap(), "{:?} is undecided", job.name());
        }
    }
    let (mut missed, mut overlapped) = (0, 0);
    let decisions = slots::decisions(state, begin.fixed_offset()).unwrap();
    for (index, job) in all.iter().enumerate() {
        let mut decided: Vec<DateTime<Utc>> = ran.get(&index).cloned().unwrap_or_default();
        let of_job = decisions
            .iter()
            .filter(|decision| (decision.playbook.as_str(), decision.schedule.as_str()) == job.name());
        let mut begun = 0;
        for decision in of_job {
            match &decision.what {
                Became::Begun => begun += 1,
                Became::Ended { .. } => {}
                Became::PassedOver { why, first, count, .. } => {
                    if *why == Why::Overlapped {
                        overlapped += count
                    } else {
                        missed += count
                    }
                    let mut slot = first.with_timezone(&Utc) - TimeDelta::milliseconds(1);
                    for _ in 0..*count {
                        slot = job.timetable.after(slot).unwrap().at.with_timezone(&Utc);
                        decided.push(slot);
                    }
                    assert_eq!(slot, decision.slot.with_timezone(&Utc));
                }
            }
        }
        assert_eq!(begun, ran.get(&index).map_or(0, Vec::len));
        decided.sort_unstable();
        let mut promised = Vec::new();
        let mut at = begin;
        while let Some(slot) = job.timetable.after(at).map(|slot| slot.at.with_timezone(&Utc)) {
            if slot > *decided.last().unwrap() {
                break;
            }
            promised.push(slot);
            at = slot;
        }
        assert_eq!(decided, promised, "{:?} in {zone}", job.name());
        assert!(end - *decided.last().unwrap() < TimeDelta::days(9));
    }
    let kept = TABLE.iter().enumerate().map(|(index, (playbook, _, tag, _))| {
        let of_tag = folders[playbook].iter().filter(|backup| backup.tag == *tag);
        (index, of_tag.map(|backup| backup.created.with_timezone(&Utc)).collect())
    });
    Year { kept: kept.collect(), ran, overlapped, missed, end }
}

/// The backups at the end are all that ran within the days that the table promises, counted from the newest of the tag.
fn kept_as_promised(year: &Year) {
    for (index, (.., days)) in TABLE.iter().enumerate() {
        let ran = &year.ran[&index];
        let from = *ran.last().unwrap() - TimeDelta::days(i64::from(*days));
        let promised: BTreeSet<DateTime<Utc>> = ran.iter().copied().filter(|slot| *slot > from).collect();
        assert_eq!(year.kept[&index], promised, "{:?}", TABLE[index]);
        assert!(*ran.last().unwrap() <= year.end);
    }
}

#[test]
fn a_quiet_year_runs_every_instant_over_both_changes_of_clocks() {
    let quiet = Weather { sleeps: 0, restarts: 0, slow: 0 };
    for (zone, spring, autumn) in
        [(Tz::Europe__Berlin, (3, 29), (10, 25)), (Tz::America__New_York, (3, 8), (11, 1))]
    {
        let year = pass(zone, Missed::Once, Overlap::Skip, &quiet);
        assert_eq!((year.missed, year.overlapped), (0, 0));
        let counts: Vec<usize> = year.ran.values().map(Vec::len).collect();
        assert_eq!(counts, [365, 365 * 9, 365, 52], "{zone}");
        let local = |index: usize, (month, day): (u32, u32)| {
            let slots = year.ran[&index].iter().map(|slot| slot.with_timezone(&zone));
            let of_day = slots.filter(|slot| (slot.month(), slot.day()) == (month, day));
            of_day.map(|slot| (slot.hour(), slot.minute())).collect::<Vec<_>>()
        };
        // Half past two is not there in spring, and twice in Berlin's autumn; New York's hour is the one before.
        assert_eq!(local(2, spring), [(3, 0)]);
        assert_eq!(local(2, autumn), [(2, 30)]);
        kept_as_promised(&year);
        let kept: Vec<usize> = year.kept.values().map(BTreeSet::len).collect();
        assert_eq!(kept, [30, 7 * 9, 30, 9], "{zone}");
    }
}

#[test]
fn a_rough_year_loses_nothing_in_silence() {
    let rough = Weather { sleeps: 20, restarts: 15, slow: 8 };
    for (zone, missed, overlap) in [
        (Tz::Europe__Berlin, Missed::Once, Overlap::Skip),
        (Tz::America__New_York, Missed::All, Overlap::Queue),
        (Tz::Europe__Berlin, Missed::Skip, Overlap::Kill),
    ] {
        let year = pass(zone, missed, overlap, &rough);
        assert!(year.missed > 0 || missed == Missed::All, "{zone}");
        assert!(year.overlapped > 0 || overlap != Overlap::Skip, "{zone}");
        kept_as_promised(&year);
    }
}

#[test]
fn a_clock_that_is_set_right_brings_the_next_instants_near_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = |day: u32, hour: u32| Utc.with_ymd_and_hms(2026, 5, day, hour, 10, 0).unwrap();
    let jobs = jobs(Tz::UTC, Missed::Once, Overlap::Skip);
    let mut timer = Timer::new(jobs, dir.path(), at(20, 8)).unwrap();
    assert_eq!(timer.due(at(20, 9)).len(), 1);
    assert!(timer.next().unwrap().0 > at(20, 9));
    let timer = timer.anew(dir.path(), at(3, 12)).unwrap();
    assert_eq!(timer.next().unwrap().0, Utc.with_ymd_and_hms(2026, 5, 3, 13, 0, 0).unwrap());
    // What is anchored now is not moved again.
    let timer = timer.anew(dir.path(), at(3, 12)).unwrap();
    assert_eq!(timer.next().unwrap().0, Utc.with_ymd_and_hms(2026, 5, 3, 13, 0, 0).unwrap());
}
