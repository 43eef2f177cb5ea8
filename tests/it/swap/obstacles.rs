//! What stands in the way of a restore, named before anything is done.

use super::Family;
use crate::cluster::{PASSWORD, options};
use expect_test::expect;
use lifeboat::base::secret::Secret;
use lifeboat::sys::postgres::obstacles::Obstacles;
use lifeboat::sys::scratch::ScratchCluster;

fn shown(family: &Family, obstacles: &Obstacles) -> String {
    let refused = obstacles
        .refuse(&family.live)
        .map_or_else(|failure| family.lines(&failure), |()| "none\n".to_owned());
    let unknown: String = obstacles.unknown.iter().map(|line| format!("  ? {line}\n")).collect();
    format!("{refused}{}", family.steady(&unknown))
}

#[test]
fn slots_subscriptions_and_prepared_transactions_are_named_with_what_removes_them() {
    let mut options = options();
    options.password = Some(Secret::new(PASSWORD));
    options.settings =
        [("wal_level", "logical"), ("max_prepared_transactions", "4"), ("max_replication_slots", "4")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    let cluster = ScratchCluster::start(&options).unwrap();
    let family = Family::on(cluster.client_env("postgres"), "bound");
    let maintenance = family.as_superuser();
    assert_eq!(shown(&family, &maintenance.obstacles(&family.live, None).unwrap()), "none\n");
    family.sql(&family.live, "SELECT pg_create_logical_replication_slot('warehouse', 'pgoutput')");
    family.sql(
        &family.live,
        "CREATE SUBSCRIPTION \"from north\" CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)",
    );
    family.sql(&family.live, "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'it''s \"half\" done'");
    let expected = expect![[r#"
        Failed: `LIVE` cannot be replaced as things are
          the logical replication slot `warehouse` would go on following the old database
          the subscription `from north` would go on filling the old database
          the prepared transaction `it's "half" done` of `postgres` holds on to `LIVE`
          > As a superuser: `SELECT pg_drop_replication_slot('warehouse');`, and make it again after the restore.
          > In `LIVE`: `ALTER SUBSCRIPTION "from north" DISABLE; ALTER SUBSCRIPTION "from north" SET (slot_name = NONE); DROP SUBSCRIPTION "from north";`, and make it again after the restore.
          > In `LIVE`, as `postgres` or a superuser: `COMMIT PREPARED 'it''s "half" done';` or `ROLLBACK PREPARED 'it''s "half" done';`.
    "#]];
    expected.assert_eq(&shown(&family, &maintenance.obstacles(&family.live, None).unwrap()));
    // The swap itself names what came since, at once.
    let staging = family.staged(&maintenance);
    let order = family.swap(&maintenance, &staging);
    let effects = super::effects();
    let token = effects.intend("swap").unwrap();
    let failure = effects.swap_databases(&token, &maintenance, &order).unwrap_err();
    expect![[r#"
        Failed: `LIVE_staging_20251110_020000_abcdef` did not get the name `LIVE`
          what is in use cannot be renamed
          the prepared transaction `it's "half" done` of `postgres` in `LIVE`
          > `COMMIT PREPARED 'it''s "half" done';` or `ROLLBACK PREPARED 'it''s "half" done';`, then run it again.
          > `LIVE` is the same database as before.
    "#]].assert_eq(&family.lines(&failure));
    // The remedies are exact.
    let found = maintenance.obstacles(&family.live, None).unwrap().found;
    let remedies: Vec<Vec<&str>> =
        found.iter().map(|obstacle| obstacle.remedy.split('`').collect()).collect();
    for remedy in &remedies {
        let sql = remedy.iter().rev().find(|part| part.contains("SELECT") || part.ends_with(';')).unwrap();
        for statement in sql.split_inclusive(';') {
            family.sql(&family.live, statement);
        }
    }
    assert_eq!(shown(&family, &maintenance.obstacles(&family.live, None).unwrap()), "none\n");
    effects.swap_databases(&token, &maintenance, &order).unwrap();
    assert_eq!(family.which(&family.live), "new");
}

#[test]
fn rights_names_and_space_are_looked_at_first() {
    let family = Family::new("rights");
    let mut told = String::new();
    let mut tell = |database: &str, bytes| {
        let found = family.maintenance().obstacles(database, bytes).unwrap();
        told.push_str(&shown(&family, &found));
    };
    tell(&family.live, None);
    tell("not there yet", None);
    tell("template1", None);
    tell(&"é".repeat(32), None);
    tell("postgres", None);
    family.sql("postgres", &format!("ALTER ROLE \"{}\" NOCREATEDB", family.role));
    family.sql("postgres", &format!("ALTER DATABASE \"{}\" OWNER TO postgres", family.live));
    tell(&family.live, None);
    family.sql("postgres", &format!("ALTER DATABASE \"{}\" IS_TEMPLATE true", family.live));
    tell(&family.live, None);
    family.sql("postgres", &format!("ALTER DATABASE \"{}\" IS_TEMPLATE false", family.live));
    family.sql("postgres", &format!("ALTER DATABASE \"{}\" OWNER TO \"{}\"", family.live, family.role));
    expect![[r#"
        none
          ? whether the server's disk has enough space: the server does not tell `ROLE` where its data is
        none
          ? whether the server's disk has enough space: the server does not tell `ROLE` where its data is
        Failed: `LIVE` cannot be replaced as things are
          `template1` is one of the server's own databases
          > Restore into a database of another name.
        Failed: `LIVE` cannot be replaced as things are
          the name `éééééééééééééééééééééééééééééééé` has 64 bytes, and the server knows 63
          > Restore into a database of another name.
        Failed: `LIVE` cannot be replaced as things are
          `postgres` is one of the server's own databases
          > Restore into a database of another name.
        Failed: `LIVE` cannot be replaced as things are
          the role `ROLE` may not make or rename databases
          `LIVE` belongs to `postgres`, so that `ROLE` may not rename it
          > As a superuser: `ALTER ROLE "ROLE" CREATEDB;`.
          > Connect as its owner or as a superuser.
          ? whether the server's disk has enough space: the server does not tell `ROLE` where its data is
        Failed: `LIVE` cannot be replaced as things are
          `LIVE` is a template of other databases
          > Restore into a database of another name.
    "#]]
    .assert_eq(&told);
    let found = family.as_superuser().obstacles(&family.live, Some(u64::MAX)).unwrap();
    let text = shown(&family, &found);
    let (before, rest) = text.split_once(" has ").unwrap();
    let rest = rest.split_once(" free").unwrap().1;
    let (takes, remedy) = rest.split_once(" and the server's WAL ").unwrap();
    let rest = format!("{takes}{}", remedy.split_once(" more").unwrap().1);
    expect![[r#"
        Failed: `LIVE` cannot be replaced as things are
          the server's disk has SIZE free, and the new database takes about 16.0 EiB
          > Free space on the server's disk: `lifeboat cleanup` removes databases that were kept.
    "#]]
    .assert_eq(&format!("{before} has SIZE free{rest}"));
}
