//! What restores keep is listed, and removed only when somebody says so.

use super::{Place, which};
use crate::aftermath::wait_for;
use crate::cluster::{TestDatabase, cluster, program, psql, psql_output};
use crate::project::Ran;
use expect_test::expect;
use std::process::{Command, Stdio};

/// What was told beside steps and the like.
fn said(place: &Place, ran: &Ran) -> String {
    let text = place.steady(&ran.stderr);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("  "));
    lines.map(|line| format!("{line}\n")).collect()
}

fn cleanup(place: &Place, args: &[&str]) -> Ran {
    place.project.run(&[&["cleanup", "--yes"], args].concat())
}

#[test]
fn what_is_kept_is_listed_and_removed_when_asked() {
    let place = Place::new("cleanup");
    place.restore();
    let kept = place.only_other();
    let listed = cleanup(&place, &[]).exits(0);
    expect![[r#"
        cleanup run RUN
        ▶ Remove files
        ✔ Remove files (TIME)
        postgres: shop at SERVER as postgres (host from DB_HOST, port from DB_PORT, database from DB_NAME, user from DB_USER, password from DB_PASSWORD)
        ℹ️  INFO - shop_before_STAMP: SIZE, kept by run RUN, TIME old
        ℹ️  INFO - nothing was removed: --keep-days N removes what is older, --all removes everything
        ✔ cleanup completed in TIME
    "#]].assert_eq(&said(&place, &listed));
    let young = cleanup(&place, &["--keep-days", "1"]).exits(0);
    expect![[r#"
        cleanup run RUN
        parameters: keep_days (keep_days from --keep-days)
        ▶ Remove files
        ✔ Remove files (TIME)
        postgres: shop at SERVER as postgres (host from DB_HOST, port from DB_PORT, database from DB_NAME, user from DB_USER, password from DB_PASSWORD)
        ℹ️  INFO - shop_before_STAMP: SIZE, kept by run RUN, TIME old
        ▶ Remove databases
        ✔ Remove databases (TIME)
        ✔ cleanup completed in TIME
    "#]].assert_eq(&said(&place, &young));
    assert_eq!(place.only_other(), kept);
    cleanup(&place, &["--keep-days", "0"]).exits(2);
    let shown = place.project.run(&["cleanup", "--all", "--dry-run"]).exits(0);
    expect![[r#"
        Dry run of cleanup
        parameters: all (all from --all)
        postgres: shop at SERVER as postgres (host from DB_HOST, port from DB_PORT, database from DB_NAME, user from DB_USER, password from DB_PASSWORD)

        Remove databases
          destroy remove_database: remove the database `shop_before_STAMP` at SERVER
                    what `shop` was before run RUN put another in its place
                    that run cannot be rolled back any more: `shop` stays what it is
          would ask: Remove the database `shop_before_STAMP` (SIZE) for good? It is what `shop` was before run RUN put another in its place.

        1 action planned; nothing was changed
    "#]].assert_eq(&place.steady(&shown.stdout));
    assert_eq!(place.only_other(), kept);
    // A day later it is old.
    let later = (chrono::Local::now() + chrono::TimeDelta::days(1)).to_rfc3339();
    let mut command = place.project.command(&["cleanup", "--yes", "--keep-days", "1"]);
    let old = Ran::of(command.env("LIFEBOAT_NOW", later).output().unwrap()).exits(0);
    expect![[r#"
        cleanup run RUN
        ℹ️  INFO - the clock stands at TIME.N+00:00, since LIFEBOAT_NOW is set
        parameters: keep_days (keep_days from --keep-days)
        ▶ Remove files
        ✔ Remove files (TIME)
        postgres: shop at SERVER as postgres (host from DB_HOST, port from DB_PORT, database from DB_NAME, user from DB_USER, password from DB_PASSWORD)
        ▶ Remove databases
        ✔ Remove databases (TIME)
        ✔ cleanup completed in TIME
    "#]].assert_eq(&said(&place, &old));
    assert_eq!(place.others(), [""; 0]);
    assert_eq!(place.which(), "old old old");
    cleanup(&place, &["--all"]).exits(0);
}

#[test]
fn sessions_in_what_is_kept_are_named_and_only_force_ends_them() {
    let place = Place::new("inside");
    place.restore();
    let kept = place.only_other();
    let mut client = Command::new(program("psql"))
        .args(["-X", "-q", "-c", "SELECT pg_sleep(600)"])
        .envs(cluster().client_env(&kept))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let inside =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{kept}' AND wait_event = 'PgSleep'");
    wait_for("the session", || psql(&place.database, &inside).trim() == "1");
    let refused = cleanup(&place, &["--all"]);
    expect![[r#"
        exit 1
        error: the database `shop_before_STAMP` is not removed
           ——▶ playbooks/cleanup.rhai:N
           │
        N │             remove_database(db, name, #{ force: params.force });
           │             ^
        caused by: sessions are in it
        caused by: process N of `postgres` (psql) in `shop_before_STAMP`, active
        hint: End them, or remove it with the option `force` (`lifeboat cleanup --force`), which ends them.
        ✘ cleanup failed in step `Remove databases` after TIME (exit 1)
    "#]]
    .assert_eq(&place.told(&refused));
    assert_eq!(client.try_wait().unwrap(), None);
    assert_eq!(place.only_other(), kept);
    cleanup(&place, &["--all", "--force"]).exits(0);
    assert_ne!(client.wait().unwrap().code(), Some(0));
    assert_eq!(place.others(), [""; 0]);
}

#[test]
fn only_what_bears_the_mark_is_removed() {
    let place = Place::new("unmarked");
    place.restore();
    let kept = place.only_other();
    let text = |name: &str| {
        format!(
            "const PLAYBOOK = #{{ summary: \"Remove\" }};\nstep \"Remove\" {{ remove_database(postgres(), \"{name}\"); }}\n"
        )
    };
    let admin = |sql: &str| {
        let output = psql_output(&cluster().client_env("postgres"), sql, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let foreign = TestDatabase { name: format!("{}_before_20251110_020000", place.database.name) };
    admin(&format!("CREATE DATABASE \"{}\" TEMPLATE template0", foreign.name));
    let mut told = String::new();
    for name in [place.database.name.as_str(), &foreign.name, "nowhere", "postgres"] {
        std::fs::write(place.project.at("playbooks/remove.rhai"), text(name)).unwrap();
        told.push_str(&place.told(&place.project.run(&["remove", "--yes"])));
    }
    expect![[r#"
        exit 1
        error: the database `shop` is not removed
          ——▶ playbooks/remove.rhai:2:17
          │
        N │ step "Remove" { remove_database(postgres(), "shop"); }
          │                 ^
        caused by: it has no mark that Lifeboat keeps or stages it
        hint: Lifeboat removes only databases that it made or kept itself; use `DROP DATABASE` if this one is meant.
        ✘ remove failed in step `Remove` after TIME (exit 1)
        exit 1
        error: the database `shop_before_STAMP` is not removed
          ——▶ playbooks/remove.rhai:2:17
          │
        N │ step "Remove" { remove_database(postgres(), "shop_before_STAMP"); }
          │                 ^
        caused by: it has no mark that Lifeboat keeps or stages it
        hint: Lifeboat removes only databases that it made or kept itself; use `DROP DATABASE` if this one is meant.
        ✘ remove failed in step `Remove` after TIME (exit 1)
        exit 1
        error: there is no database `nowhere` at SERVER
          ——▶ playbooks/remove.rhai:2:17
          │
        N │ step "Remove" { remove_database(postgres(), "nowhere"); }
          │                 ^
        hint: `lifeboat cleanup` lists what is kept.
        ✘ remove failed in step `Remove` after TIME (exit 1)
        exit 1
        error: the database `postgres` is not removed
          ——▶ playbooks/remove.rhai:2:17
          │
        N │ step "Remove" { remove_database(postgres(), "postgres"); }
          │                 ^
        caused by: it has no mark that Lifeboat keeps or stages it
        hint: Lifeboat removes only databases that it made or kept itself; use `DROP DATABASE` if this one is meant.
        ✘ remove failed in step `Remove` after TIME (exit 1)
    "#]].assert_eq(&told);
    cleanup(&place, &["--all"]).exits(0);
    assert_eq!(place.others(), std::slice::from_ref(&foreign.name));
    assert_ne!(kept, foreign.name);
    assert_eq!(which(&place.database.name), "old old old");
}

#[test]
fn what_is_left_of_an_interrupted_removal_is_removed() {
    let place = Place::new("invalid");
    place.restore();
    let kept = place.only_other();
    // What PostgreSQL itself writes when it begins to drop a database.
    let sql = format!("UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{kept}'");
    let output = psql_output(&cluster().client_env("postgres"), &sql, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let refused = place.rollback("latest");
    expect![[r#"
        exit 1
        error: what `shop` was before run RUN cannot be brought back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: the removal of `shop_before_STAMP` was begun and interrupted
        ✘ rollback failed in step `Roll back` after TIME (exit 1)
    "#]]
    .assert_eq(&place.told(&refused));
    cleanup(&place, &["--all"]).exits(0);
    assert_eq!(place.others(), [""; 0]);
}
