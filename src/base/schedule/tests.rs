use super::*;
use proptest::prelude::*;

const BERLIN: Tz = Tz::Europe__Berlin;
const NEW_YORK: Tz = Tz::America__New_York;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn table(cron: &str, zone: Tz) -> Timetable {
    Timetable::new(cron, false, zone).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

/// The instants from one time to another, with what a clock change does to them.
fn slots(cron: &str, zone: Tz, from: &str, until: &str) -> Vec<String> {
    let (slots, more) = table(cron, zone).between(at(from), at(until));
    assert!(!more);
    let change = |slot: &Slot| slot.change.map_or_else(String::new, |change| format!(" {change:?}"));
    slots.iter().map(|slot| format!("{}{}", slot.at.format("%d %H:%M %z"), change(slot))).collect()
}

#[test]
fn a_fixed_time_in_the_gap_runs_once_behind_it() {
    let spring = ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
    assert_eq!(slots("30 2 * * *", BERLIN, spring.0, spring.1), ["29 03:00 +0200 Moved", "30 02:30 +0200"]);
    let spring = ("2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z");
    assert_eq!(slots("30 2 * * *", NEW_YORK, spring.0, spring.1), ["08 03:00 -0400 Moved", "09 02:30 -0400"]);
}

#[test]
fn a_fixed_time_that_comes_twice_runs_once() {
    let autumn = ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(slots("30 2 * * *", BERLIN, autumn.0, autumn.1), ["25 02:30 +0200 First", "26 02:30 +0100"]);
    let autumn = ("2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z");
    assert_eq!(slots("30 1 * * *", NEW_YORK, autumn.0, autumn.1), ["01 01:30 -0400 First", "02 01:30 -0500"]);
}

#[test]
fn what_runs_every_so_often_runs_in_real_time() {
    assert_eq!(
        slots("0 * * * *", BERLIN, "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z"),
        ["25 02:00 +0200 First", "25 02:00 +0100 Second", "25 03:00 +0100", "25 04:00 +0100"]
    );
    assert_eq!(
        slots("*/30 * * * *", BERLIN, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
        ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200", "29 04:00 +0200"]
    );
}

#[test]
fn the_newest_instant_is_found_backwards() {
    let newest = |cron, zone, until| {
        table(cron, zone).newest(at(until)).map(|slot| slot.at.format("%Y-%m-%d %H:%M:%S").to_string())
    };
    let cases = [
        ("0 2 * * *", "2026-05-05T01:59:59Z", "2026-05-04 02:00:00"),
        ("0 2 * * *", "2026-05-05T02:00:00Z", "2026-05-05 02:00:00"),
        ("* * * * *", "2026-05-05T02:00:30Z", "2026-05-05 02:00:00"),
        ("0 3 * * 0", "2026-05-05T02:00:00Z", "2026-05-03 03:00:00"),
        ("0 4 1 1 *", "2026-12-31T02:00:00Z", "2026-01-01 04:00:00"),
        ("0 0 29 2 *", "2027-05-05T02:00:00Z", "2024-02-29 00:00:00"),
    ];
    for (cron, until, found) in cases {
        assert_eq!(newest(cron, Tz::UTC, until).as_deref(), Some(found), "{cron} until {until}");
    }
    assert_eq!(
        newest("30 2 * * *", BERLIN, "2026-03-29T01:00:00Z").as_deref(),
        Some("2026-03-29 03:00:00"),
        "behind the gap"
    );
}

#[test]
fn seconds_are_a_field_only_where_they_are_asked_for() {
    let wrong = |cron, seconds| Timetable::new(cron, seconds, Tz::UTC).unwrap_err();
    assert_eq!(wrong("* * * * * *", false), "is `* * * * * *`, which has 6 fields instead of five");
    assert_eq!(
        wrong("* * * * *", true),
        "is `* * * * *`, which has 5 fields instead of six, as `seconds: true` asks for"
    );
    assert_eq!(wrong("61 * * * * *", true), "is `61 * * * * *`, whose second `61` is not valid");
    assert_eq!(wrong("0 24 * * *", false), "is `0 24 * * *`, whose hour `24` is not valid");
    assert_eq!(wrong("0 0 30 2 *", false), "is `0 0 30 2 *`, which never comes");
    let every = Timetable::new("*/20 * * * * *", true, Tz::UTC).unwrap();
    assert_eq!(every.after(at("2026-05-05T02:00:01Z")).unwrap().at, at("2026-05-05T02:00:20Z"));
}

#[test]
fn the_widest_gap_is_the_night_of_an_hourly_schedule() {
    let widest = |crons: &[&str]| {
        let tables: Vec<Timetable> = crons.iter().map(|cron| table(cron, BERLIN)).collect();
        let gap = widest_gap(&tables, at("2026-05-05T12:00:00Z")).unwrap();
        (
            gap.from.format("%H:%M").to_string(),
            gap.to.format("%H:%M").to_string(),
            gap.length().as_secs() / 60,
        )
    };
    let gap = |from: &str, to: &str, hours: u64| (from.to_owned(), to.to_owned(), hours * 60);
    assert_eq!(widest(&["0 9-17 * * *"]), gap("17:00", "09:00", 17), "longer by the hour of a clock change");
    assert_eq!(widest(&["0 2 * * *", "0 9-17 * * *"]), gap("17:00", "02:00", 9));
    assert_eq!(widest(&["0 2 * * *"]), gap("02:00", "02:00", 25));
    assert_eq!(widest(&["0 3 * * 0"]).2, 7 * 24 * 60 + 60);
    assert!(widest_gap(&[], at("2026-05-05T12:00:00Z")).is_none());
}

fn decided(cron: &str, terms: &Terms, last: &str, now: &str) -> (Vec<String>, Vec<String>) {
    let due = due(&table(cron, Tz::UTC), terms, Duration::ZERO, at(last), at(now));
    let run = due.run.iter().map(|slot| slot.at.format("%d %H:%M").to_string()).collect();
    let shown = |time: &DateTime<FixedOffset>| time.format("%d %H:%M").to_string();
    let passed = due.passed.iter().map(|passed| {
        format!("{} to {}: {} {:?}", shown(&passed.first), shown(&passed.last), passed.count, passed.why)
    });
    (run, passed.collect())
}

#[test]
fn nothing_is_due_before_its_time_and_nothing_twice() {
    let terms = Terms::default();
    let none = (vec![], vec![]);
    assert_eq!(decided("0 2 * * *", &terms, "2026-05-05T02:00:00Z", "2026-05-06T01:59:59Z"), none);
    assert_eq!(
        decided("0 2 * * *", &terms, "2026-05-05T02:00:00Z", "2026-05-06T02:00:00Z"),
        (vec!["06 02:00".to_owned()], vec![])
    );
    assert_eq!(decided("0 2 * * *", &terms, "2026-05-06T02:00:00Z", "2026-05-06T02:00:00Z"), none);
    // A clock that was set back decides nothing again.
    assert_eq!(decided("0 2 * * *", &terms, "2026-05-06T02:00:00Z", "2026-05-05T01:00:00Z"), none);
}

#[test]
fn what_was_missed_is_made_up_for_as_the_schedule_says() {
    let (last, now) = ("2026-05-05T02:00:00Z", "2026-05-08T09:00:00Z");
    let terms = |missed| Terms { missed, ..Terms::default() };
    assert_eq!(
        decided("0 2 * * *", &terms(Missed::Once), last, now),
        (vec!["08 02:00".into()], vec!["06 02:00 to 07 02:00: 2 Missed".into()])
    );
    assert_eq!(
        decided("0 2 * * *", &terms(Missed::Skip), last, now),
        (vec![], vec!["06 02:00 to 08 02:00: 3 MissedAndSkipped".into()])
    );
    let all = Terms { window: Some(2 * DAY), ..terms(Missed::All) };
    assert_eq!(
        decided("0 2 * * *", &all, last, now),
        (vec!["07 02:00".into(), "08 02:00".into()], vec!["06 02:00 to 06 02:00: 1 BeyondWindow".into()])
    );
    let punctual = Terms { max_lateness: Some(Duration::from_secs(3600)), ..terms(Missed::Once) };
    assert_eq!(
        decided("0 2 * * *", &punctual, last, now),
        (vec![], vec!["06 02:00 to 08 02:00: 3 TooLate".into()])
    );
    // On time, the same terms run it.
    assert_eq!(
        decided("0 2 * * *", &punctual, "2026-05-07T02:00:00Z", "2026-05-08T02:00:20Z").0,
        ["08 02:00"]
    );
    assert_eq!(
        decided("0 2 * * *", &terms(Missed::Skip), "2026-05-07T02:00:00Z", "2026-05-08T02:00:20Z").0,
        ["08 02:00"]
    );
}

#[test]
fn years_of_absence_are_decided_in_a_moment() {
    let (run, passed) =
        decided("* * * * *", &Terms::default(), "2016-05-05T02:00:00Z", "2026-05-08T09:00:30Z");
    assert_eq!(run, ["08 09:00"]);
    assert_eq!(passed.len(), 1);
    assert!(passed[0].contains(&format!(": {MANY} Missed")), "{passed:?}");
}

#[test]
fn jitter_is_steady_and_moves_the_beginning_only() {
    let terms = Terms { jitter: Duration::from_secs(600), ..Terms::default() };
    let delay = terms.delay("db1 /srv/app backup_database daily");
    assert_eq!(delay, terms.delay("db1 /srv/app backup_database daily"));
    assert_ne!(delay, terms.delay("db2 /srv/app backup_database daily"));
    assert!(delay > Duration::ZERO && delay < Duration::from_secs(600));
    assert_eq!(Terms::default().delay("db1"), Duration::ZERO);
    let table = table("0 2 * * *", Tz::UTC);
    let (last, slot) = (at("2026-05-05T02:00:00Z"), at("2026-05-06T02:00:00Z"));
    let early = due(&table, &terms, delay, last, slot + delay - Duration::from_millis(1));
    assert_eq!(early, Due::default());
    assert_eq!(due(&table, &terms, delay, last, slot + delay).run[0].at, slot);
}

proptest! {
    /// However often and however irregularly it is looked, every instant is decided once.
    #[test]
    fn every_instant_is_decided_once(
        looks in prop::collection::vec(1_i64..200_000, 1..60),
        cron in prop::sample::select(vec!["0 2 * * *", "*/30 * * * *", "0 9-17 * * 1-5", "30 2 * * 0"]),
        zone in prop::sample::select(vec![BERLIN, NEW_YORK, Tz::UTC]),
        missed in prop::sample::select(vec![Missed::Once, Missed::Skip, Missed::All]),
    ) {
        let table = table(cron, zone);
        let terms = Terms { missed, ..Terms::default() };
        let begin = at("2026-03-20T00:00:00Z");
        let (mut now, mut last, mut decided) = (begin, begin, 0);
        for seconds in looks {
            now += Span::seconds(seconds);
            let due = due(&table, &terms, Duration::ZERO, last, now);
            decided += due.run.len() + due.passed.iter().map(|passed| passed.count).sum::<usize>();
            prop_assert!(missed == Missed::All || due.run.len() <= 1);
            if let Some(newest) = due.decided() {
                prop_assert!(newest > last.fixed_offset() && newest <= now.fixed_offset());
                last = newest.with_timezone(&Utc);
            }
        }
        let mut all = 0;
        let mut at = begin;
        while let Some(slot) = table.after(at).filter(|slot| slot.utc() <= now) {
            all += 1;
            at = slot.utc();
        }
        prop_assert_eq!(decided, all);
    }
}

#[test]
fn the_shortest_time_between_two_instants() {
    for (cron, minutes) in [
        ("* * * * *", 1),
        ("0 9-17 * * *", 60),
        ("0 2 * * *", 24 * 60),
        ("0 2,3 * * 1", 60),
        ("0 3 * * 0", 7 * 24 * 60),
        ("0 4 1 * *", 31 * 24 * 60),
    ] {
        let table = Timetable::new(cron, false, Tz::UTC).unwrap();
        assert_eq!(table.shortest_gap(), Some(Duration::from_secs(minutes * 60)), "{cron}");
    }
}
