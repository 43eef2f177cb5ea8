//! Clients during a swap: they are ended and held back, and what cannot be ended is named.

use super::{Family, effects, new};
use crate::cluster::program;
use expect_test::expect;
use lifeboat::base::failure::{Code, Failure};
use lifeboat::sys::postgres::maintenance::Maintenance;
use lifeboat::sys::postgres::swap::{Named, Swap, Swapped};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn swap(maintenance: &Maintenance, order: &Swap) -> Result<Swapped, Failure> {
    let effects = effects();
    let token = effects.intend("swap").unwrap();
    effects.swap_databases(&token, maintenance, order)
}

/// A psql that runs `sql`.
fn client(variables: &[(&'static str, String)], sql: &str) -> Child {
    Command::new(program("psql"))
        .args(["-X", "-q", "-A", "-t", "-c", sql])
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A client that sleeps in a database; it is there when this returns.
fn sleeper(family: &Family, variables: &[(&'static str, String)]) -> Child {
    let database = variables.iter().find(|(name, _)| *name == "PGDATABASE").unwrap().1.clone();
    let count = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND datname = ";
        family.sql("postgres", &format!("{sql}'{}'", database.replace('\'', "''"))).parse::<u32>().unwrap()
    };
    let before = count();
    let child = client(variables, "SELECT pg_sleep(600)");
    let began = Instant::now();
    while count() == before {
        assert!(began.elapsed() < Duration::from_secs(30), "the sleeper never came");
    }
    child
}

#[test]
fn clients_that_come_back_and_sleepers_do_not_keep_the_owner_from_swapping() {
    let family = Family::new("crowd");
    let maintenance = family.maintenance();
    let staging = family.staged(&maintenance);
    let order = family.swap(&maintenance, &staging);
    let owner = family.owner(&family.live);
    let other = family.owner("postgres");
    let mut bystander = sleeper(&family, &other);
    let mut sleepers: Vec<Child> = (0..5).map(|_| sleeper(&family, &owner)).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hammers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut tries = 0_u32;
                    while !over.load(Ordering::Relaxed) {
                        client(&owner, "SELECT count(*) FROM pg_class").wait().unwrap();
                        tries += 1;
                    }
                    tries
                })
            })
            .collect();
        let swapped = swap(&maintenance, &order);
        over.store(true, Ordering::Relaxed);
        let tries: u32 = hammers.into_iter().map(|hammer| hammer.join().unwrap()).sum();
        let swapped = swapped.unwrap();
        assert!(swapped.ended >= 5 && tries > 0, "{swapped:?}, {tries} tries");
    });
    for sleeper in &mut sleepers {
        assert_ne!(sleeper.wait().unwrap().code(), Some(0));
    }
    assert_eq!(family.which(&family.live), "new");
    assert_eq!(bystander.try_wait().unwrap(), None, "a session of another database was ended");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn only_sessions_of_the_two_databases_are_ended() {
    // With and without a live database: the server plans the question for one database in another way.
    for absent in [false, true] {
        let family = Family::new("bystanders");
        let maintenance = family.as_superuser();
        let mut bystanders: Vec<Child> =
            [family.superuser("postgres"), family.owner("postgres"), family.owner("template1")]
                .iter()
                .map(|variables| sleeper(&family, variables))
                .collect();
        let staging = family.staged(&maintenance);
        if absent {
            family.sql("postgres", &format!("DROP DATABASE \"{}\"", family.live));
        }
        let mut inside = sleeper(&family, &family.superuser(&staging.name));
        let swapped = swap(&maintenance, &family.swap(&maintenance, &staging)).unwrap();
        assert_eq!(swapped.ended, 1);
        assert_ne!(inside.wait().unwrap().code(), Some(0));
        for bystander in &mut bystanders {
            assert_eq!(bystander.try_wait().unwrap(), None, "a session of another database was ended");
            bystander.kill().unwrap();
            bystander.wait().unwrap();
        }
        let sleeping = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND usename = ";
        family.sql("postgres", &format!("{sleeping}'{}'", family.role));
    }
}

#[test]
fn a_superusers_session_holds_on_against_an_owner_and_is_named() {
    let family = Family::new("held");
    let maintenance = family.maintenance();
    let staging = family.staged(&maintenance);
    let order = Swap { limit: Duration::from_millis(300), ..family.swap(&maintenance, &staging) };
    let mut held = sleeper(&family, &family.superuser(&family.live));
    let obstacles = maintenance.obstacles(&family.live, None).unwrap();
    expect![[r#"
        Failed: `LIVE` cannot be replaced as things are
          `ROLE` may not end process N of `postgres` (psql) in `LIVE`
          > End it as a superuser: `SELECT pg_terminate_backend(N);`.
    "#]]
    .assert_eq(&family.lines(&obstacles.refuse(&family.live).unwrap_err()));
    let failure = swap(&maintenance, &order).unwrap_err();
    expect![[r#"
        TimedOut: `LIVE_staging_20251110_020000_abcdef` did not get the name `LIVE`
          what is in use could not be renamed within 300 ms
          process N of `postgres` (psql) in `LIVE`
          > End what holds on, as a superuser, then run it again: `SELECT pg_terminate_backend(N);`.
          > `LIVE` is the same database as before.
    "#]]
    .assert_eq(&family.lines(&failure));
    assert_eq!(held.try_wait().unwrap(), None, "the session was ended");
    assert_eq!(family.names(), [family.live.clone(), staging.name.clone()]);
    assert_eq!(family.which(&family.live), "old");
    // A superuser may end it.
    let order = family.swap(&maintenance, &staging);
    swap(&family.as_superuser(), &order).unwrap();
    assert_eq!(family.which(&family.live), "new");
    held.wait().unwrap();
}

#[test]
fn a_lock_that_another_databases_session_holds_is_named_too() {
    let family = Family::new("locked");
    let maintenance = family.maintenance();
    let staging = family.staged(&maintenance);
    // Long enough for a look at who holds on, also on a busy machine.
    let order = Swap { limit: Duration::from_secs(2), ..family.swap(&maintenance, &staging) };
    let sql = format!("BEGIN; COMMENT ON DATABASE \"{}\" IS 'not yet'; SELECT pg_sleep(600)", family.live);
    let mut holder = client(&family.superuser("template1"), &sql);
    let waits = || {
        family.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; COMMENT%' AND wait_event = 'PgSleep'")
    };
    crate::aftermath::wait_for("the lock", || waits() != "0");
    let swapped = swap(&maintenance, &order);
    assert_eq!(holder.try_wait().unwrap(), None, "a session of another database was ended");
    // Whatever comes, it must not stand in the way of other tests.
    holder.kill().unwrap();
    holder.wait().unwrap();
    family.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; COMMENT%'",
    );
    let failure = swapped.unwrap_err();
    expect![[r#"
        TimedOut: `LIVE_staging_20251110_020000_abcdef` did not get the name `LIVE`
          what is in use could not be renamed within 2.0 s
          process N of `postgres` (psql) in `template1`
          > End what holds on, as a superuser, then run it again: `SELECT pg_terminate_backend(N);`.
          > `LIVE` is the same database as before.
    "#]]
    .assert_eq(&family.lines(&failure));
    assert_eq!(family.which(&family.live), "old");
}

#[test]
fn a_database_that_is_not_the_one_that_was_meant_is_left_alone() {
    let family = Family::new("other");
    let maintenance = family.maintenance();
    let staging = family.staged(&maintenance);
    let order = family.swap(&maintenance, &staging);
    let mut told = String::new();
    let mut tell = |order: Swap| told.push_str(&family.lines(&swap(&maintenance, &order).unwrap_err()));
    let incoming = |name: &str, oid| Some(Named { name: name.to_owned(), oid });
    tell(Swap { incoming: incoming(&staging.name, 1), ..order.clone() });
    tell(Swap { incoming: incoming("nowhere", 1), ..order.clone() });
    tell(Swap { outgoing: None, ..order.clone() });
    tell(Swap { outgoing: incoming(&staging.name, order.outgoing.as_ref().unwrap().oid), ..order.clone() });
    family.sql("postgres", &format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS false", staging.name));
    tell(order);
    expect![[r#"
        Failed: `LIVE_staging_20251110_020000_abcdef` did not get the name `LIVE`
          `LIVE_staging_20251110_020000_abcdef` is another database than before: OID N, not N
        Failed: `nowhere` did not get the name `LIVE`
          `nowhere` is not there
        Failed: `LIVE_staging_20251110_020000_abcdef` did not get the name `LIVE`
          `LIVE` is there by now (OID N)
        Failed: `LIVE_staging_20251110_020000_abcdef` did not get the name `LIVE`
          `LIVE_staging_20251110_020000_abcdef` is there by now (OID N)
        Failed: `LIVE_staging_20251110_020000_abcdef` did not get the name `LIVE`
          `LIVE_staging_20251110_020000_abcdef` accepts no connections
          > As its owner: `ALTER DATABASE "LIVE_staging_20251110_020000_abcdef" WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1;`.
    "#]].assert_eq(&told);
    assert_eq!(family.names(), [family.live.clone(), staging.name.clone()]);
}

#[test]
fn two_swaps_of_one_database_exclude_each_other() {
    let family = Family::new("twice");
    let (one, other) = (family.maintenance(), family.maintenance());
    let lock = one.lock(&family.live).unwrap();
    one.lock("another database").unwrap();
    lock.check().unwrap();
    let failure = other.lock(&family.live).map(|_| ()).unwrap_err();
    assert_eq!(failure.code, Code::Locked);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    expect![[r#"
        Locked: another run restores into `LIVE` at this moment
          held by `lifeboat on HOST, process N`, which is connected as `ROLE` from the server's machine
          > Wait until that run has ended; the lock never outlives its connection.
    "#]]
    .assert_eq(&family.lines(&failure).replace(&host, "HOST"));
    drop(lock);
    let lock = other.lock(&family.live).unwrap();
    drop((lock, other));
    // The end of the connection frees it too.
    let third = family.maintenance();
    std::mem::forget(third.lock(&family.live).unwrap());
    family.sql(
        "postgres",
        &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}' AND application_name LIKE 'lifeboat on %' \
                  AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')", family.role),
    );
    while one.lock(&family.live).is_err() {}
}

#[test]
fn two_swaps_at_once_without_the_lock_leave_one_of_them() {
    let family = Family::new("race");
    let maintenance = family.maintenance();
    let first = family.staged(&maintenance);
    let second = family.staged(&maintenance);
    assert_eq!(second.name, format!("{}_2", first.name));
    let one = family.swap(&maintenance, &first);
    let two = Swap { action: 4, ..family.swap(&maintenance, &second) };
    let results = std::thread::scope(|scope| {
        let running: Vec<_> = [&one, &two]
            .map(|order| scope.spawn(|| swap(&family.maintenance(), order)))
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        running
    });
    let done: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(done.iter().filter(|done| **done).count(), 1, "{results:?}");
    let winner = if done[0] { &first } else { &second };
    assert_eq!(maintenance.find(&family.live).unwrap().unwrap().oid, winner.oid);
    assert_eq!(family.names().len(), 3);
    let loser = results.iter().find_map(|result| result.as_ref().err()).unwrap();
    assert!(loser.hints.iter().all(|hint| !hint.contains("nobody can tell")), "{loser:?}");
}

#[test]
fn names_of_63_bytes_and_odd_ones_are_cut_between_characters() {
    for hint in ["x".repeat(60), format!("it's \"é\" {}", "ü".repeat(22))] {
        let family = Family::new(&hint);
        assert!(family.live.len() >= 54 && family.live.len() <= 63, "{}", family.live.len());
        let maintenance = family.maintenance();
        let staging = family.staged(&maintenance);
        let order = family.swap(&maintenance, &staging);
        swap(&maintenance, &order).unwrap();
        let kept = order.outgoing.unwrap().name;
        assert!(kept.ends_with("_before_20251110_020000") && kept.len() <= 63, "{kept}");
        assert_eq!((family.which(&family.live), family.which(&kept)), ("new".to_owned(), "old".to_owned()));
        let marked = maintenance.marked(Some(&family.live)).unwrap();
        assert_eq!(marked.iter().map(|found| &found.name).collect::<Vec<_>>(), [&kept]);
    }
}

#[test]
fn a_staging_database_whose_maker_died_before_marking_it_is_known_by_name_and_limit() {
    let family = Family::new("unmarked");
    let maintenance = family.maintenance();
    let name = format!("{}_staging_20251110_020000_abcdef", family.live);
    family.sql(
        "postgres",
        &format!(
            "CREATE DATABASE \"{name}\" OWNER \"{}\" TEMPLATE template0 CONNECTION LIMIT 47",
            family.role
        ),
    );
    let found = maintenance.marked(Some(&family.live)).unwrap();
    assert_eq!(found.len(), 1);
    let mark = found[0].mark.clone().unwrap();
    assert_eq!((mark.action, mark.run.as_str(), found[0].is_removable()), (0, super::RUN, true));
    // Without the limit it is somebody's own.
    family.sql("postgres", &format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT -1"));
    assert_eq!(maintenance.marked(Some(&family.live)).unwrap(), []);
}

#[test]
fn what_postgres_refuses_to_make_is_told_with_its_remedy() {
    let family = Family::new("refused");
    let maintenance = family.maintenance();
    let mut told = String::new();
    let mut tell = |new| {
        told.push_str(&family.lines(&effects().create_database(&maintenance, &new).unwrap_err()));
    };
    let name = format!("{}_staging_20251110_020000_abcdef", family.live);
    tell(lifeboat::sys::postgres::databases::NewDatabase {
        collate: "tlh_QO".to_owned(),
        ..new(&name, &family.live)
    });
    tell(new(&family.live, &family.live));
    family.sql("postgres", &format!("ALTER ROLE \"{}\" NOCREATEDB", family.role));
    tell(new(&name, &family.live));
    expect![[r#"
        Query: cannot make the database `LIVE_staging_20251110_020000_abcdef`
          invalid locale name: "tlh_QO" (42809)
        Query: cannot make the database `LIVE`
          database "LIVE" already exists (42P04)
        Query: cannot make the database `LIVE_staging_20251110_020000_abcdef`
          permission denied to create database (42501)
          > As a superuser: `ALTER ROLE "ROLE" CREATEDB;`.
    "#]]
    .assert_eq(&told);
}
