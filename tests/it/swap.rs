//! The swap of databases: what stands in its way, what it does to clients, and what a kill leaves.

mod broken;
mod crowd;
mod obstacles;

use crate::cluster::{self, cluster, psql_output};
use crate::postgres::{host, quoted, settings_from};
use lifeboat::base::failure::Failure;
use lifeboat::sys::effects::{Effects, IntentLog};
use lifeboat::sys::facts::{Facts, Reality};
use lifeboat::sys::postgres::connection::connect;
use lifeboat::sys::postgres::databases::NewDatabase;
use lifeboat::sys::postgres::maintenance::{Maintenance, Standing};
use lifeboat::sys::postgres::mark::{Kind, Mark, staging_ending};
use lifeboat::sys::postgres::settings::Settings;
use lifeboat::sys::postgres::swap::{LIMIT, Named, Swap};
use lifeboat::sys::scratch::ScratchCluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub const RUN: &str = "20251110-020000-abcdef";

struct Intents;

impl IntentLog for Intents {
    fn record(&self, _: u64, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

pub fn effects() -> Effects {
    let facts = Facts::new(host(), Arc::new(Reality));
    Effects::new(facts, Arc::new(Intents), 3, RUN.to_owned(), Arc::default())
}

/// Databases whose names begin alike, and a role that owns them; all go with the value.
pub struct Family {
    /// The name that is swapped.
    pub live: String,
    /// The role.
    pub role: String,
    variables: Vec<(&'static str, String)>,
}

impl Family {
    /// A database `live` of a role that is no superuser.
    pub fn new(hint: &str) -> Self {
        Self::on(cluster().client_env("postgres"), hint)
    }

    pub fn on(variables: Vec<(&'static str, String)>, hint: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (live, role) = (format!("{hint}_{number}"), format!("swapper {number}"));
        let family = Self { live, role, variables };
        let password = cluster::PASSWORD;
        family.sql(
            "postgres",
            &format!("CREATE ROLE \"{}\" LOGIN CREATEDB PASSWORD '{password}'", family.role),
        );
        family.sql(
            "postgres",
            &format!("CREATE DATABASE {} OWNER \"{}\" TEMPLATE template0", quoted(&family.live), family.role),
        );
        family.sql(
            &family.live,
            "CREATE TABLE which AS SELECT 'old' AS which; GRANT SELECT ON which TO PUBLIC",
        );
        family
    }

    /// What psql prints as superuser in a database.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = psql_output(&self.superuser(database), sql, &[]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{sql}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub fn superuser(&self, database: &str) -> Vec<(&'static str, String)> {
        self.variables
            .iter()
            .map(|(name, value)| match *name {
                "PGDATABASE" => ("PGDATABASE", database.to_owned()),
                name => (name, value.clone()),
            })
            .collect()
    }

    /// The variables with which the owner reaches a database.
    pub fn owner(&self, database: &str) -> Vec<(&'static str, String)> {
        let mut variables = self.superuser(database);
        variables.retain(|(name, _)| !matches!(*name, "PGUSER" | "PGPASSWORD"));
        variables.extend([("PGUSER", self.role.clone()), ("PGPASSWORD", cluster::PASSWORD.to_owned())]);
        variables
    }

    pub fn owner_settings(&self) -> Settings {
        settings_from(self.owner(&self.live))
    }

    /// The maintenance session of the owner.
    pub fn maintenance(&self) -> Maintenance {
        Maintenance::connect(&host(), &self.owner_settings()).unwrap()
    }

    /// The maintenance session of a superuser.
    pub fn as_superuser(&self) -> Maintenance {
        Maintenance::connect(&host(), &settings_from(self.superuser(&self.live))).unwrap()
    }

    /// A staging database that is to take the place, with a table that tells so.
    pub fn staged(&self, maintenance: &Maintenance) -> Standing {
        let name = maintenance.free_name(&self.live, &staging_ending(RUN)).unwrap();
        let standing = effects().create_database(maintenance, &new(&name, &self.live)).unwrap();
        self.sql(&name, "CREATE TABLE which AS SELECT 'new' AS which; GRANT SELECT ON which TO PUBLIC");
        standing
    }

    pub fn swap(&self, maintenance: &Maintenance, staging: &Standing) -> Swap {
        let live = maintenance.find(&self.live).unwrap();
        let keep = maintenance.free_name(&self.live, "_before_20251110_020000").unwrap();
        Swap {
            live: self.live.clone(),
            incoming: Some(Named { name: staging.name.clone(), oid: staging.oid }),
            outgoing: live.map(|live| Named { name: keep, oid: live.oid }),
            comment: None,
            run: RUN.to_owned(),
            action: 3,
            at: chrono::DateTime::parse_from_rfc3339("2025-11-10T02:00:00+00:00").unwrap(),
            limit: LIMIT,
        }
    }

    /// Which database it is.
    #[track_caller]
    pub fn which(&self, database: &str) -> String {
        self.sql(database, "SELECT which FROM which")
    }

    /// Names of the databases of the family.
    pub fn names(&self) -> Vec<String> {
        let sql =
            format!("SELECT datname FROM pg_database WHERE datdba = '\"{}\"'::regrole ORDER BY 1", self.role);
        self.sql("postgres", &sql).lines().map(str::to_owned).collect()
    }

    /// The failure as lines, without what changes from run to run.
    pub fn lines(&self, failure: &Failure) -> String {
        let mut text = format!("{:?}: {}\n", failure.code, failure.message);
        failure.causes.iter().for_each(|cause| text.push_str(&format!("  {cause}\n")));
        failure.hints.iter().for_each(|hint| text.push_str(&format!("  > {hint}\n")));
        self.steady(&text)
    }

    pub fn steady(&self, text: &str) -> String {
        let text = text.replace(&self.live, "LIVE").replace(&self.role, "ROLE");
        let mut steady = String::new();
        let mut rest = text.as_str();
        while let Some(at) = ["process ", "backend(", "OID ", "not "]
            .iter()
            .filter_map(|w| Some(rest.find(w)? + w.len()))
            .min()
        {
            steady.push_str(&rest[..at]);
            let digits = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                steady.push('N');
            }
            rest = &rest[at + digits..];
        }
        steady + rest
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for name in self.names() {
            self.sql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", quoted(&name)));
        }
        self.sql("postgres", &format!("DROP ROLE \"{}\"", self.role));
    }
}

pub fn new(name: &str, database: &str) -> NewDatabase {
    NewDatabase {
        name: name.to_owned(),
        mark: Mark {
            kind: Kind::Staging,
            database: database.to_owned(),
            run: RUN.to_owned(),
            action: 3,
            at: chrono::DateTime::parse_from_rfc3339("2025-11-10T02:00:00+00:00").unwrap(),
            replaced_by: None,
        },
        owner: None,
        encoding: "UTF8".to_owned(),
        collate: "C".to_owned(),
        ctype: "C".to_owned(),
        provider: "libc".to_owned(),
        locale: None,
        icu_rules: None,
        tablespace: None,
    }
}

#[test]
fn the_owner_swaps_and_both_databases_stay_with_their_comments() {
    let family = Family::new("swap");
    family.sql("postgres", &format!("COMMENT ON DATABASE \"{}\" IS 'the shop'", family.live));
    let maintenance = family.maintenance();
    let staging = family.staged(&maintenance);
    assert_eq!((staging.accepts, staging.connection_limit, staging.is_own), (true, -1, true));
    let effects = effects();
    let order =
        Swap { comment: Some(Some("the new shop".to_owned())), ..family.swap(&maintenance, &staging) };
    let token = effects.intend("swap").unwrap();
    let swapped = effects.swap_databases(&token, &maintenance, &order).unwrap();
    let before = format!("{}_before_20251110_020000", family.live);
    assert_eq!(swapped.live_oid, Some(staging.oid));
    assert_eq!(swapped.kept.as_ref().map(|kept| kept.name.clone()), Some(before.clone()));
    assert_eq!((family.which(&family.live), family.which(&before)), ("new".to_owned(), "old".to_owned()));
    assert_eq!(family.names(), [family.live.clone(), before.clone()]);

    let live = maintenance.find(&family.live).unwrap().unwrap();
    assert_eq!((live.mark, live.comment.as_deref()), (None, Some("the new shop")));
    let kept = maintenance.kept_by(RUN, 3).unwrap().unwrap();
    assert_eq!((kept.name.as_str(), kept.comment.as_deref()), (before.as_str(), Some("the shop")));
    let mark = kept.mark.unwrap();
    assert_eq!(
        (mark.kind, mark.database, mark.replaced_by),
        (Kind::Kept, family.live.clone(), Some(staging.oid))
    );

    // Back again: the kept one gets its own comment, without the mark.
    let undone = format!("{}_undone_20251110_030000", family.live);
    let back = Swap {
        incoming: Some(Named { name: before, oid: kept.oid }),
        outgoing: Some(Named { name: undone.clone(), oid: staging.oid }),
        comment: None,
        ..order
    };
    effects.swap_databases(&token, &maintenance, &back).unwrap();
    let live = maintenance.find(&family.live).unwrap().unwrap();
    assert_eq!((live.oid, live.mark, live.comment.as_deref()), (kept.oid, None, Some("the shop")));
    assert_eq!(maintenance.find(&undone).unwrap().unwrap().comment.as_deref(), Some("the new shop"));
}

#[test]
fn a_database_that_was_absent_gets_its_name() {
    let family = Family::new("absent");
    let maintenance = family.maintenance();
    family.sql("postgres", &format!("DROP DATABASE \"{}\"", family.live));
    let staging = family.staged(&maintenance);
    let effects = effects();
    let token = effects.intend("swap").unwrap();
    let swapped = effects.swap_databases(&token, &maintenance, &family.swap(&maintenance, &staging)).unwrap();
    assert_eq!((swapped.live_oid, swapped.kept), (Some(staging.oid), None));
    assert_eq!(family.names(), std::slice::from_ref(&family.live));
    assert_eq!(maintenance.find(&family.live).unwrap().unwrap().mark, None);
    assert_eq!(family.which(&family.live), "new");
}

#[test]
fn a_superuser_ends_no_session_but_those_in_the_databases_that_are_swapped() {
    // On a server of its own, since every other test would feel it.
    let server = ScratchCluster::start(&cluster::options()).unwrap();
    let family = Family::on(server.client_env("postgres"), "elsewhere");
    let maintenance = family.as_superuser();
    let session = |database: &str| connect(&host(), &settings_from(family.superuser(database))).unwrap();
    let background = || {
        family.sql(
            "postgres",
            "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '%launcher' ORDER BY 1",
        )
    };
    let (before, elsewhere) = (background(), session("template1"));
    let effects = effects();
    let token = effects.intend("swap").unwrap();
    // A database that was absent, and one that is replaced: the planner orders the conditions of each its own way.
    for absent in [true, false] {
        if absent {
            family.sql("postgres", &format!("DROP DATABASE \"{}\"", family.live));
        }
        let staging = family.staged(&maintenance);
        let inside = session(&staging.name);
        effects.swap_databases(&token, &maintenance, &family.swap(&maintenance, &staging)).unwrap();
        assert_eq!(elsewhere.one("SELECT 1").unwrap(), [Some("1".to_owned())]);
        inside.one("SELECT 1").unwrap_err();
        assert_eq!(background(), before);
    }
}
