//! Without the right to make databases: everything that the role owns in the live database is replaced, in one transaction.
//!
//! Nothing is kept, so only a backup can undo it. One is demanded that is fresh, intact, and of this very database.

use super::load::load;
use super::preflight::{Troubles, needs};
use super::{Basis, Restore, Restored, basis, roles};
use crate::base::backup::Source;
use crate::base::failure::{Code, Failure};
use crate::base::plan::Plan;
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs;
use crate::sys::postgres::catalog;
use crate::sys::postgres::checks;
use crate::sys::postgres::connection::{Session, connect};
use crate::sys::postgres::maintenance::Maintenance;
use crate::sys::postgres::ownership;
use crate::sys::postgres::properties;
use crate::sys::postgres::quote::literal;
use crate::sys::postgres::read_back::{Expected, read_back_within};
use crate::sys::postgres::swap::Named;
use crate::sys::proof::{Checksum, Proof, prove};
use std::path::Path;
use std::time::Duration;

/// How old the backup may be that a restore in place demands.
const FRESH: Duration = Duration::from_secs(15 * 60);

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
    let undo = undo(restore, facts, &session, plan)?;
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
    Ok(basis(restore, path, proof, Some(Named { name: database.clone(), oid }), roles))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The backup that can undo it, by its name; refuses when there is none that could.
fn undo(
    restore: &Restore,
    facts: &Facts,
    session: &Session,
    plan: &mut Plan<Restored>,
) -> Result<String, Failure> {
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
            return Ok(shown);
        }
    }
    let proof = prove(facts, &path, Checksum::Required)?;
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
    Ok(shown)
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

    let rolled_back =
        |failure: Failure| failure.hint(format!("All was rolled back: `{database}` is as it was."));
    let began = host.clock().instant();
    let millis = |since: std::time::Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    session.run("BEGIN")?;
    ownership::drop_own(&session).map_err(rolled_back)?;
    if let Some(monetary) = properties::monetary(&properties) {
        session.run(&format!("SET lc_monetary = {}", literal(monetary)))?;
    }
    let (loaded, tables) = load(facts, basis, &session, true).map_err(rolled_back)?;
    let load_millis = millis(began);

    let began = host.clock().instant();
    let monetary = properties::monetary(&properties);
    let expected = Expected { tables: &tables, loaded: &loaded, pinned: basis.ours, monetary };
    let found = read_back_within(&session, &expected).map_err(rolled_back)?;
    let checked = checks::check(&session, &properties)?;
    let problems: Vec<String> = found.problems.iter().cloned().chain(checked.problems).collect();
    if !problems.is_empty() {
        let mut failure = Failure::new(Code::NotIntact, "what was loaded is not what the backup holds");
        failure.causes = problems;
        return Err(rolled_back(failure));
    }
    session.run("ANALYZE")?;
    let check_millis = millis(began);
    lock.check()?;
    facts.cancel().check()?;

    let began = host.clock().instant();
    session.run("SET synchronous_commit = on")?;
    if let Err(failure) = session.run("COMMIT") {
        let mut told =
            Failure::new(failure.code, format!("nobody can tell whether `{database}` was restored"));
        told.causes = vec![failure.message].into_iter().chain(failure.causes).collect();
        return Err(
            told.hint(format!("Look into `{database}`: the transaction is in it whole, or not at all."))
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
        recovery_point: basis.recovery_point.clone(),
        load_millis,
        check_millis,
        swap_millis: millis(began),
        notes,
    })
}
