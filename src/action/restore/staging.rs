//! The usual way: a staging database is made, filled, compared and equipped, and takes the live one's place at the end.

use super::load;
use super::preflight::kept_ending;
use super::{Basis, Restore, Restored, roles};
use crate::base::backup::DatabaseProperties;
use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::postgres::catalog;
use crate::sys::postgres::checks;
use crate::sys::postgres::connection::{Session, connect};
use crate::sys::postgres::databases::{Doomed, NewDatabase};
use crate::sys::postgres::loading::{self, Full};
use crate::sys::postgres::maintenance::{Maintenance, Standing};
use crate::sys::postgres::mark::{Kind, Mark, staging_ending};
use crate::sys::postgres::properties;
use crate::sys::postgres::read_back::ReadBack;
use crate::sys::postgres::slots::when_free;
use crate::sys::postgres::swap::{LIMIT, Named, Swap, Swapped};
use crate::sys::store;
use crate::sys::stream::cores;
use std::time::Instant;

/// Carries out a restore through a staging database.
pub(super) fn execute(restore: &Restore, basis: &Basis, effects: &Effects) -> Result<Restored, Failure> {
    let facts = effects.facts();
    let database = &restore.settings.database;
    let maintenance = Maintenance::connect(facts.host(), &restore.settings)?;
    let lock = maintenance.lock(database)?;
    let live = maintenance.find(database)?;
    if live.as_ref().map(|live| live.oid) != basis.live.as_ref().map(|live| live.oid) {
        return Err(Failure::new(
            Code::Failed,
            format!("`{database}` is another database than a moment ago"),
        )
        .hint("Nothing was changed. Find out who else restores, and run it again."));
    }
    clean(effects, &maintenance, database)?;
    let source = Source::look(&maintenance, basis, live.is_some())?;
    roles::make(effects, maintenance.session(), &basis.backup, &basis.roles)?;
    let staging = make(effects, &maintenance, database, &source)?;
    let filled = fill(basis, effects, &maintenance, &staging, &source).map_err(|failure| {
        let failure = on_disk(failure, &maintenance, database);
        match live {
            _ if failure.code == Code::DiskFull && !maintenance.survives_full_disk() => failure.hint(format!(
                "The server ended, since it found no room for its WAL: free some and start it. `{database}` is then as it was, \
                 and the next restore removes what this one left."
            )),
            Some(_) => failure.hint(format!("`{database}` is as it was.")),
            None => failure.hint(format!("There is still no `{database}`.")),
        }
    });
    let filled = filled.and_then(|filled| {
        lock.check()?;
        let swapped = swap(effects, &maintenance, basis, &staging, &source)?;
        Ok((filled, swapped))
    });
    match filled {
        Ok((filled, swapped)) => Ok(restored(basis, &staging, filled, swapped)),
        Err(failure) => {
            // Once it has the live name it is not found under its own, and stays.
            effects.withdraw_database(&maintenance, &staging);
            Err(failure)
        }
    }
}

/// Names the disk that is full, where that can be known.
fn on_disk(failure: Failure, maintenance: &Maintenance, database: &str) -> Failure {
    let is_named = failure.causes.iter().any(|cause| cause.contains(" free, and a server"));
    if failure.code != Code::DiskFull || is_named {
        return failure;
    }
    match maintenance.room(database) {
        Some((folder, free)) => failure.caused_by(format!(
            "the new database is in `{}`, where {} are free",
            folder.display(),
            units::bytes(free)
        )),
        None => failure,
    }
}

fn restored(basis: &Basis, staging: &Standing, filled: Filled, swapped: Swapped) -> Restored {
    Restored {
        backup: basis.backup.clone(),
        database: basis.target.database.clone(),
        target: basis.target.clone(),
        kept_oid: swapped.kept.as_ref().map(|kept| kept.oid),
        kept: swapped.kept.map(|kept| kept.name),
        live_oid: staging.oid,
        tables: filled.found.tables,
        rows: filled.found.rows,
        compared: !basis.skip_compare,
        recovery_point: basis.recovery_point.clone(),
        load_millis: filled.load_millis,
        check_millis: filled.check_millis,
        swap_millis: swapped.millis,
        notes: filled.notes,
    }
}

/// What the new database is to be like.
struct Source {
    /// What it is made with: of the backup, else of the live database, else of the dump.
    made: DatabaseProperties,
    /// What is carried over: of the live database, else of the backup.
    carried: DatabaseProperties,
    /// `lc_monetary` of the dump.
    monetary: Option<String>,
    notes: Vec<String>,
}

impl Source {
    fn look(maintenance: &Maintenance, basis: &Basis, is_live: bool) -> Result<Self, Failure> {
        let of = |name: &str| catalog::properties_of(maintenance.session(), name);
        let live = is_live.then(|| of(&basis.target.database)).transpose()?;
        let saved = store::read_manifest(&basis.backup)?.and_then(|manifest| manifest.properties);
        let made = saved.clone().or_else(|| live.clone()).unwrap_or_else(|| DatabaseProperties {
            encoding: basis.encoding.clone().unwrap_or_else(|| "UTF8".to_owned()),
            ..DatabaseProperties::default()
        });
        let monetary = saved.as_ref().or(live.as_ref()).and_then(properties::monetary).map(str::to_owned);
        let carried = live
            .or(saved)
            .unwrap_or_else(|| DatabaseProperties { connection_limit: -1, ..DatabaseProperties::default() });
        Ok(Self { made, carried, monetary, notes: Vec::new() })
    }
}

/// Removes what killed restores of the same database left: the lock is held, so that nobody is at it.
fn clean(effects: &Effects, maintenance: &Maintenance, database: &str) -> Result<(), Failure> {
    for standing in maintenance.marked(Some(database))? {
        let Some(mark) = standing.mark.as_ref().filter(|mark| mark.kind == Kind::Staging) else { continue };
        let name = &standing.name;
        let intent = effects.intend(&format!("drop `{name}`, which the killed run {} left", mark.run))?;
        let doomed = Doomed { name: name.clone(), oid: standing.oid, force: true };
        effects.drop_database(&intent, maintenance, &doomed)?;
        effects.facts().host().info(&format!("cleaned up after a run that was killed: dropped `{name}`"));
    }
    Ok(())
}

fn make(
    effects: &Effects,
    maintenance: &Maintenance,
    database: &str,
    source: &Source,
) -> Result<Standing, Failure> {
    let made = &source.made;
    let session = maintenance.session();
    // Where neither backup nor live database says anything, the new one is like those that the server makes, as far as their
    // locale goes with its encoding.
    let usual = session.one(
        "SELECT datcollate, datctype, pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = 'template1'",
    )?;
    let usual = |at: usize| usual.get(at).cloned().flatten().unwrap_or_default();
    let or_usual = |said: &str, at: usize| {
        if !said.is_empty() {
            said.to_owned()
        } else if usual(2).eq_ignore_ascii_case(&made.encoding) {
            usual(at)
        } else {
            "C".to_owned()
        }
    };
    let tablespaces = session.rows("SELECT spcname FROM pg_catalog.pg_tablespace")?;
    let is_there = |name: &str| tablespaces.rows.iter().flatten().flatten().any(|there| there == name);
    let tablespace = Some(&source.carried.tablespace).filter(|name| *name != "pg_default" && is_there(name));
    let new = NewDatabase {
        name: maintenance.free_name(database, &staging_ending(effects.run()))?,
        mark: Mark {
            kind: Kind::Staging,
            database: database.to_owned(),
            run: effects.run().to_owned(),
            action: effects.number(),
            at: effects.facts().now().fixed_offset(),
            replaced_by: None,
        },
        owner: None,
        encoding: made.encoding.clone(),
        collate: or_usual(&made.collate, 0),
        ctype: or_usual(&made.ctype, 1),
        provider: if made.locale_provider.is_empty() {
            "libc".to_owned()
        } else {
            made.locale_provider.clone()
        },
        locale: made.icu_locale.clone(),
        icu_rules: None,
        tablespace: tablespace.cloned(),
    };
    effects.create_database(maintenance, &new)
}

/// How many sessions load at once when nobody says how many.
const MOST_JOBS: usize = 8;

struct Filled {
    found: ReadBack,
    notes: Vec<String>,
    load_millis: u64,
    check_millis: u64,
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Loads, compares, checks and equips the staging database.
fn fill(
    basis: &Basis,
    effects: &Effects,
    maintenance: &Maintenance,
    staging: &Standing,
    source: &Source,
) -> Result<Filled, Failure> {
    let facts = effects.facts();
    let host = facts.host();
    let settings = maintenance.settings().with_database(&staging.name);
    // Who may not do the last step learns it before the long one.
    properties::rehearse(maintenance.session(), &staging.name, &fitting(maintenance, source)?.0)?;
    let began = host.clock().instant();
    // Each has two sessions, and the clients of the live database need theirs.
    let jobs = if basis.jobs == 0 { cores().min(MOST_JOBS) } else { basis.jobs };
    let Full { loaded, found, analyzed } =
        load::fill(facts, basis, &settings, maintenance, source.monetary.as_deref(), jobs)?;
    let load_millis = millis(began);

    let began = host.clock().instant();
    if !found.problems.is_empty() {
        let name = basis.backup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut failure =
            Failure::new(Code::NotIntact, format!("what was loaded is not what `{name}` holds"));
        failure.causes.clone_from(&found.problems);
        return Err(failure.hint("Look for triggers or rules in the dump that change rows."));
    }
    // All that was loaded would be lost if the sessions that have just ended were still counted.
    let session = when_free(host, || connect(host, &settings))?;
    let checked = checks::check(&session, &source.made)?;
    if !checked.problems.is_empty() {
        let mut failure = Failure::new(Code::NotIntact, "the restored database is not sound");
        failure.causes = checked.problems;
        return Err(failure);
    }
    session.run("RESET search_path")?;
    let analyzed = loading::analyze(&session, &loaded.encoding, &analyzed);
    session.run("SET search_path = ''")?;
    let mut notes = source.notes.clone();
    notes.extend(loaded.notes.iter().cloned());
    notes.extend(found.notes.iter().cloned());
    notes.extend(checked.notes);
    if let Err(failure) = analyzed {
        notes.push(format!("the planner has no statistics yet: {failure}"));
    }
    notes.extend(equip(maintenance, &session, staging, source)?);
    drop(session);
    for note in &notes {
        host.info(note);
    }
    for warning in &checked.warnings {
        host.warn(warning);
    }
    notes.extend(checked.warnings);
    Ok(Filled { found, notes, load_millis, check_millis: millis(began) })
}

/// What can be carried over, and what was left out.
fn fitting(maintenance: &Maintenance, source: &Source) -> Result<(DatabaseProperties, Vec<String>), Failure> {
    let there = roles::names(maintenance.session())?;
    Ok(properties::fitting(&source.carried, &|role| there.contains(role)))
}

/// Carries over owner, grants, settings and limit, and looks whether they arrived.
fn equip(
    maintenance: &Maintenance,
    session: &Session,
    staging: &Standing,
    source: &Source,
) -> Result<Vec<String>, Failure> {
    let (mut fitting, left_out) = fitting(maintenance, source)?;
    // A limit of one connection would keep our own next session out; it is the last to be set.
    let limit = std::mem::replace(&mut fitting.connection_limit, -1);
    properties::apply(maintenance.session(), &staging.name, &fitting)?;
    let differences = properties::differences(session, &fitting)?;
    if !differences.is_empty() {
        let mut failure = Failure::new(
            Code::Failed,
            format!("the properties of `{}` did not arrive at the restored database", staging.name),
        );
        failure.causes = differences;
        return Err(failure);
    }
    if limit != -1 {
        let only = DatabaseProperties { connection_limit: limit, ..DatabaseProperties::default() };
        properties::apply(maintenance.session(), &staging.name, &only)?;
    }
    Ok(left_out.into_iter().map(|what| format!("not carried over: {what}")).collect())
}

fn swap(
    effects: &Effects,
    maintenance: &Maintenance,
    basis: &Basis,
    staging: &Standing,
    source: &Source,
) -> Result<Swapped, Failure> {
    let database = &basis.target.database;
    let outgoing = match &basis.live {
        Some(live) => Some(Named {
            name: maintenance.free_name(database, &kept_ending(effects.facts()))?,
            oid: live.oid,
        }),
        None => None,
    };
    let intent = effects.intend(&match &outgoing {
        Some(kept) => format!("swap `{}` in as `{database}`, and keep that as `{}`", staging.name, kept.name),
        None => format!("rename `{}` to `{database}`", staging.name),
    })?;
    effects.swap_databases(
        &intent,
        maintenance,
        &Swap {
            live: database.clone(),
            incoming: Some(Named { name: staging.name.clone(), oid: staging.oid }),
            outgoing,
            comment: Some(source.carried.comment.clone()),
            run: effects.run().to_owned(),
            action: effects.number(),
            at: effects.facts().now().fixed_offset(),
            limit: LIMIT,
        },
    )
}
