//! Without the right to make databases: everything that the role owns in the live database is replaced, in one transaction.
//!
//! Nothing is kept, so only a backup can undo it. One is demanded that is fresh, intact, and of this very database.

use super::load::load;
use super::preflight::{Troubles, needs};
use super::{Basis, Restore, Restored, basis, roles};
use crate::base::backup::{DatabaseProperties, Source};
use crate::base::failure::{Code, Failure};
use crate::base::plan::Plan;
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs;
use crate::sys::postgres::catalog;
use crate::sys::postgres::checks::{self, Checked};
use crate::sys::postgres::connection::{Session, connect};
use crate::sys::postgres::load::Loaded;
use crate::sys::postgres::loose::Loose;
use crate::sys::postgres::maintenance::Maintenance;
use crate::sys::postgres::ownership;
use crate::sys::postgres::properties;
use crate::sys::postgres::quote::literal;
use crate::sys::postgres::read_back::{Expected, ReadBack, changes, read_back_within};
use crate::sys::postgres::settings::Settings;
use crate::sys::postgres::swap::Named;
use crate::sys::proof::{Checksum, Proof, Reread, prove};
use crate::sys::store;
use std::path::Path;
use std::time::{Duration, Instant};

/// How old the backup may be that a restore in place demands.
const FRESH: Duration = Duration::from_secs(15 * 60);

/// How long the server may take to tell what became of the transaction.
const ANSWER: Duration = Duration::from_secs(30);

/// Plans a restore in place.
pub(super) fn plan(
    restore: &Restore,
    facts: &Facts,
    path: &Path,
    proof: &Proof,
    plan: &mut Plan<Restored>,
) -> Result<Basis, Failure> {
    let settings = &restore.settings;
    let database = &settings.database;
    let session = connect(facts.host(), settings)?;
    let mut troubles = Troubles::default();
    let roles = needs(restore, facts, path, proof, &session, &mut troubles, plan)?;
    for (what, remedy) in ownership::strangers(&session)? {
        troubles.add(what, remedy);
    }
    let (undo, loose) = undo(restore, facts, &session, plan)?;
    troubles.refuse(&proof.verification.name, &settings.to_string())?;
    plan.details.push(format!(
        "drops all that `{}` owns in `{database}` and loads the dump, in one transaction; nothing is kept",
        settings.user
    ));
    plan.details.push(format!("only {undo} can undo it, by another restore"));
    let question = format!("replace everything in `{database}` in place? Only {undo} can undo it");
    plan.confirm = Some(match plan.confirm.take() {
        Some(other) => format!("{} And {question}?", capital(&other)),
        None => format!("{question}."),
    });
    let oid = session.one("SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()")?;
    let oid = oid.first().cloned().flatten().and_then(|oid| oid.parse().ok()).unwrap_or(0);
    let basis = basis(restore, facts, path, proof, Some(Named { name: database.clone(), oid }), roles);
    Ok(Basis { undo: loose, ..basis })
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The backup that can undo it, by its name, and what it holds outside of tables; refuses when there is none that could.
fn undo(
    restore: &Restore,
    facts: &Facts,
    session: &Session,
    plan: &mut Plan<Restored>,
) -> Result<(String, Option<Loose>), Failure> {
    let database = &restore.settings.database;
    let refused = |why: String| {
        Failure::new(Code::Usage, format!("`{database}` is not restored in place without a way back"))
            .caused_by(why)
            .hint(
                "Make a backup of it first, and name it: `restore(backup, db, #{ in_place: true, undo: fresh })`, where \
                 `fresh` is what `save` returned.",
            )
    };
    let Some(undo) = &restore.options.undo else {
        return Err(refused("the option `undo` names no fresh backup of it".to_owned()));
    };
    let path = facts.absolute(undo);
    let shown = format!("`{}`", facts.host().shown(&path));
    match facts.view().path(&path) {
        Seen::AsIs if fs::exists(&path)? => {}
        Seen::AsIs | Seen::Gone => return Err(refused(format!("{shown} is not there"))),
        Seen::Made | Seen::Unknown => {
            plan.unknown.push(format!("whether {shown}, which is to undo it, is intact"));
            return Ok((shown, None));
        }
    }
    let proof = prove(facts, &path, Checksum::Required, Reread::UnlessVerified)?;
    if !proof.verification.intact {
        return Err(refused(format!("{shown} is not intact: {}", proof.verification.problems.join("; "))));
    }
    let Some(manifest) = &proof.manifest else {
        return Err(refused(format!("{shown} has no manifest that tells what it is of")));
    };
    let here = Source::Database { system: catalog::system_identifier(session)?, name: database.clone() };
    if manifest.source != here || manifest.selection.is_some() {
        return Err(refused(format!("{shown} is not a backup of all of this database")));
    }
    let taken = manifest.recovery_point.as_ref().map_or(manifest.created, |point| point.time);
    let age = facts.now().fixed_offset().signed_duration_since(taken).to_std().unwrap_or_default();
    if age > FRESH {
        return Err(refused(format!(
            "{shown} is {} old, and what was written since would be lost; at most {} are allowed",
            units::duration(age),
            units::duration(FRESH)
        )));
    }
    Ok((shown, Some(proof.loose)))
}

/// Carries it out.
pub(super) fn execute(restore: &Restore, basis: &Basis, effects: &Effects) -> Result<Restored, Failure> {
    let facts = effects.facts();
    let host = facts.host();
    let settings = &restore.settings;
    let database = &settings.database;
    let maintenance = Maintenance::connect(host, settings)?;
    let lock = maintenance.lock(database)?;
    roles::make(effects, maintenance.session(), &basis.backup, &basis.roles)?;
    let session = connect(host, settings)?;
    let properties = catalog::properties(&session)?;
    let undo = restore.options.undo.as_deref().unwrap_or(Path::new("")).display().to_string();
    effects.intend(&format!("replace everything in `{database}`, which only {undo} can undo"))?;

    // What role or database set must not decide what is seen, nor whether anything may be written.
    session.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")?;
    let number = transaction(&session)?;
    let replaced = replace(restore, basis, facts, &session, &maintenance, &properties, &number)
        .and_then(|replaced| lock.check().and_then(|()| facts.cancel().check()).map(|()| replaced))
        .map_err(|failure| told(failure, facts, settings, &session, &number, &undo))?;
    let Replaced { loaded, found, checked, load_millis, check_millis } = replaced;

    let began = host.clock().instant();
    session.run("SET synchronous_commit = on")?;
    if let Err(failure) = session.run("COMMIT") {
        let mut unsure =
            Failure::new(failure.code, format!("nobody can tell whether `{database}` was restored"));
        unsure.causes = vec![failure.message].into_iter().chain(failure.causes).collect();
        return Err(
            unsure.hint(format!("Look into `{database}`: the transaction is in it whole, or not at all."))
        );
    }
    let mut notes: Vec<String> = loaded.notes.iter().chain(&found.notes).cloned().collect();
    notes.extend(checked.notes);
    for note in &notes {
        host.info(note);
    }
    for warning in &checked.warnings {
        host.warn(warning);
    }
    notes.extend(checked.warnings);
    Ok(Restored {
        backup: basis.backup.clone(),
        database: database.clone(),
        target: basis.target.clone(),
        kept: None,
        kept_oid: None,
        live_oid: basis.live.as_ref().map_or(0, |live| live.oid),
        tables: found.tables,
        rows: found.rows,
        compared: true,
        recovery_point: basis.recovery_point.clone(),
        load_millis,
        check_millis,
        swap_millis: millis(host.clock().instant(), began),
        notes,
    })
}

/// What was done within the transaction.
struct Replaced {
    loaded: Loaded,
    found: ReadBack,
    checked: Checked,
    load_millis: u64,
    check_millis: u64,
}

fn millis(now: Instant, began: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(began).as_millis()).unwrap_or(u64::MAX)
}

/// Locks, compares with the way back, drops, loads and reads back, all in the transaction that is open.
fn replace(
    restore: &Restore,
    basis: &Basis,
    facts: &Facts,
    session: &Session,
    maintenance: &Maintenance,
    properties: &DatabaseProperties,
    number: &str,
) -> Result<Replaced, Failure> {
    let clock = facts.host().clock();
    let began = clock.instant();
    let monetary = properties::monetary(properties);
    ownership::lock_own(session, maintenance.session())?;
    unchanged(restore, basis, facts, session, monetary)?;
    ownership::drop_own(session)?;
    if let Some(monetary) = monetary {
        session.run(&format!("SET lc_monetary = {}", literal(monetary)))?;
    }
    let (loaded, tables) = load(facts, basis, session, maintenance)?;
    let load_millis = millis(clock.instant(), began);

    let began = clock.instant();
    let expected = Expected { tables: &tables, loaded: &loaded, pinned: basis.ours, monetary };
    let found = read_back_within(session, &expected)?;
    let checked = checks::check(session, properties)?;
    let problems: Vec<String> = found.problems.iter().chain(&checked.problems).cloned().collect();
    if !problems.is_empty() {
        let mut failure = Failure::new(Code::NotIntact, "what was loaded is not what the backup holds");
        failure.causes = problems;
        return Err(failure);
    }
    session.run("ANALYZE")?;
    if transaction(session)? != number {
        return Err(Failure::new(Code::NotIntact, "the dump ended the transaction that it was loaded in"));
    }
    Ok(Replaced { loaded, found, checked, load_millis, check_millis: millis(clock.instant(), began) })
}

/// The number of the session's transaction, which the server assigns now if it has none.
fn transaction(session: &Session) -> Result<String, Failure> {
    Ok(session.one("SELECT pg_catalog.txid_current()")?.first().cloned().flatten().unwrap_or_default())
}

/// Refuses unless tables, sequences and large objects hold what the backup holds that is to undo it: what was written since would be lost.
fn unchanged(
    restore: &Restore,
    basis: &Basis,
    facts: &Facts,
    session: &Session,
    monetary: Option<&str>,
) -> Result<(), Failure> {
    let database = &restore.settings.database;
    let undo = facts.absolute(restore.options.undo.as_deref().unwrap_or(Path::new("")));
    let shown = facts.host().shown(&undo);
    let manifest = store::read_manifest(&undo)?
        .ok_or_else(|| Failure::new(Code::NotFound, format!("`{shown}` has no manifest any more")))?;
    let encoding = manifest.properties.as_ref().map_or("UTF8", |properties| properties.encoding.as_str());
    let mut changes = changes(session, &manifest.tables, encoding, monetary)?;
    if let Some(loose) = &basis.undo {
        changes.extend(loose.changes(session, encoding)?);
    }
    if changes.is_empty() {
        return Ok(());
    }
    let mut failure =
        Failure::new(Code::Failed, format!("`{database}` changed since the fresh backup `{shown}`"));
    failure.causes = changes;
    Err(failure.hint("Stop the services that write to it, back it up again, and run it again."))
}

/// Ends the transaction, and tells what became of it as the server recorded it.
fn told(
    failure: Failure,
    facts: &Facts,
    settings: &Settings,
    session: &Session,
    number: &str,
    undo: &str,
) -> Failure {
    let database = &settings.database;
    // The run may have been asked to end, and still it must be known.
    session.see_through(true);
    let ask = |session: &Session| -> Result<String, Failure> {
        let answer = session.one(&format!("SELECT pg_catalog.txid_status({number})"))?;
        Ok(answer.first().cloned().flatten().unwrap_or_default())
    };
    // A failed transaction takes no settings, and the limit counts on this side all the same.
    drop(session.limit(Some(ANSWER)));
    let status = session
        .run("ROLLBACK")
        .and_then(|()| ask(session))
        .or_else(|_| connect(facts.host(), settings).and_then(|session| ask(&session)));
    failure.hint(match status.as_deref() {
        Ok("aborted") => format!("All was rolled back: `{database}` is as it was."),
        Ok("committed") => format!(
            "A part of the dump was committed: `{database}` is neither what it was nor what the backup holds. Stop the services, \
             and restore `{undo}`."
        ),
        _ => format!(
            "The server could not be asked whether all was rolled back, as it does when a connection ends: look into \
             `{database}`. `{undo}` holds what was in it."
        ),
    })
}
