//! SIGKILL at any moment of a restore: the live name is the old or the new database, complete, and lets sessions in.

use super::Place;
use crate::aftermath::nobody_survives;
use crate::cluster::{PASSWORD, all_tests, cluster, psql, psql_output};
use crate::kill::Moments;
use std::time::{Duration, Instant};

/// What psql prints as superuser in the maintenance database.
#[track_caller]
fn admin(sql: &str) -> String {
    let output = psql_output(&cluster().client_env("postgres"), sql, &[]);
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
#[expect(clippy::print_stdout, reason = "tells at which moments it was killed")]
fn killed_at_any_moment_the_live_database_is_the_old_or_the_new_one() {
    let role = "killed_owner";
    admin(&format!("CREATE ROLE {role} LOGIN CREATEDB PASSWORD '{PASSWORD}'"));
    let mut place = Place::new("killed");
    let live = place.database.name.clone();
    admin(&format!("ALTER DATABASE {live} OWNER TO {role}"));
    psql(
        &place.database,
        &format!("ALTER TABLE which OWNER TO {role}; GRANT ALL ON SCHEMA public TO {role}"),
    );
    place.project = std::mem::replace(&mut place.project, crate::project::TestProject::new())
        .env("DB_USER", role)
        .env("DB_PASSWORD", PASSWORD);
    // A table that is large enough for a kill to find it half loaded.
    psql(&place.database, "INSERT INTO which SELECT 'new' FROM generate_series(4, 20000)");
    psql(&place.database, "UPDATE which SET which = 'old'");
    std::fs::remove_dir_all(place.project.at("backups")).unwrap();
    place.project.run(&["backup_database"]).exits(0);
    place.backup = format!("backups/database/{}", place.project.only("backups/database", ".sql.gz"));
    psql(&place.database, "UPDATE which SET which = 'new'");
    let says = |name: &str| {
        let sql = "SELECT count(*) || ' ' || min(which) || ' ' || max(which) FROM which";
        let output = psql_output(&cluster().client_env(name), sql, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (old, new) = ("20000 old old", "20000 new new");
    let began = Instant::now();
    let run = place.restore();
    let whole = began.elapsed();
    assert_eq!(says(&live), old);
    let began = Instant::now();
    place.rollback(&run).exits(0);
    let undoing = began.elapsed();
    place.project.run(&["cleanup", "--all", "--yes"]).exits(0);
    assert_eq!((says(&live).as_str(), place.others().len()), (new, 0));

    // The server ends by itself what a killed process had begun.
    let gone = || {
        let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
        let waiting = Instant::now();
        while admin(&alive) != "0" {
            assert!(waiting.elapsed() < Duration::from_secs(60), "sessions of the killed process stay");
        }
    };
    // Whether the run that was not there before has announced that it swaps.
    let intended = |before: &[String]| {
        let names = place.project.names(".lifeboat/runs");
        names.iter().filter(|name| !name.starts_with('.') && !before.contains(name)).any(|name| {
            let events = place.project.at(format!(".lifeboat/runs/{name}/events.jsonl"));
            let events = std::fs::read_to_string(events).unwrap_or_default();
            events.contains("\"event\":\"intent\"") && events.contains("swap `")
        })
    };
    let mut moments = Moments::new();
    let (mut swapped, mut left) = (0, 0);
    let rounds = if all_tests() { 50 } else { 6 };
    for round in 0..rounds {
        let (begun, before) = (Instant::now(), place.project.names(".lifeboat/runs"));
        let mut child = place.project.start(&["restore_file", &place.backup]);
        // Every other kill aims at the swap, which is short.
        let at = if round % 2 == 0 {
            moments.next(whole)
        } else {
            while !intended(&before) {
                // It may have announced it and ended since.
                let has_ended = child.try_wait().unwrap().is_some();
                assert!(!has_ended || intended(&before), "it ended without a swap");
            }
            begun.elapsed() + moments.next(Duration::from_millis(120))
        };
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        let _ = child.kill();
        let ended = child.wait().unwrap().success();
        nobody_survives(&place.project);
        gone();
        let found = says(&live);
        let others = place.others();
        println!("round {round}: killed after {at:?} of {whole:?}: {found}; beside it {others:?}");
        assert!(found == old || found == new, "{found}");
        left += others.len();
        if found == old {
            swapped += 1;
            let run = place.latest();
            let kept = others.iter().find(|name| says(name) == new).unwrap();
            assert!(kept.contains("_before_"), "{kept}");
            // The rollback is killed as well: what it is for is still to be had.
            let mut child = place.project.start(&["rollback", &run, "--yes"]);
            std::thread::sleep(moments.next(undoing));
            let _ = child.kill();
            let ended = child.wait().unwrap().success();
            nobody_survives(&place.project);
            gone();
            let found = says(&live);
            println!("round {round}: the rollback was killed: {found}");
            if found == old {
                assert!(!ended, "it ended well and did not roll back");
                place.rollback(&run).exits(0);
            }
            assert_eq!(says(&live), new);
        } else {
            assert!(!ended, "it ended well and did not restore");
        }
        let listed = place.project.run(&["cleanup", "--yes"]).exits(0).stderr;
        for other in place.others() {
            assert!(listed.contains(&other), "{other} is not listed:\n{listed}");
        }
        place.project.run(&["cleanup", "--all", "--yes"]).exits(0);
        assert_eq!(place.others(), [""; 0]);
        assert_eq!(says(&live), new);
    }
    println!("{swapped} of {rounds} had swapped; {left} databases were left behind in all");
    drop(place);
    admin(&format!("DROP OWNED BY {role}"));
    admin(&format!("DROP ROLE {role}"));
}
