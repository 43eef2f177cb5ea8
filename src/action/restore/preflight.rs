//! What stands in the way of a restore, all of it named before anything is done.

use super::roles::{self, Roles};
use super::{Basis, Restore, Restored, basis, globals};
use crate::base::failure::{Code, Failure};
use crate::base::plan::Plan;
use crate::base::units;
use crate::sys::facts::Facts;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::maintenance::Maintenance;
use crate::sys::postgres::obstacles::ObstacleKind;
use crate::sys::postgres::properties;
use crate::sys::postgres::quote::{ident, literal};
use crate::sys::postgres::saved_roles::SavedRoles;
use crate::sys::postgres::swap::Named;
use crate::sys::postgres::version::Version;
use crate::sys::proof::Proof;
use crate::sys::stream::Digest;
use std::collections::BTreeSet;
use std::path::Path;

/// Plans a restore through a staging database.
pub(super) fn plan(
    restore: &Restore,
    facts: &Facts,
    path: &Path,
    proof: &Proof,
    plan: &mut Plan<Restored>,
) -> Result<Basis, Failure> {
    let settings = &restore.settings;
    let database = &settings.database;
    let maintenance = Maintenance::connect(facts.host(), settings)?;
    let live = maintenance.find(database)?;
    let size = live.as_ref().and_then(|live| live.size);
    let mut troubles = Troubles::default();
    let roles = needs(restore, facts, path, proof, maintenance.session(), &mut troubles, plan)?;
    // Indexes stand in no dump; what the dump's rows take is the least that is needed.
    let bytes = size.unwrap_or(0).max(proof.verification.raw_size);
    let obstacles = maintenance.obstacles(database, Some(bytes))?;
    plan.unknown.extend(obstacles.unknown);
    for obstacle in obstacles.found {
        troubles.add(obstacle.what, obstacle.remedy);
        if obstacle.kind == ObstacleKind::NoCreate && live.is_some() {
            troubles.hint(
                "Or load into the live database itself, which only a fresh backup can undo: the option `in_place` \
                 (`lifeboat restore --in-place`).",
            );
        }
    }
    locale(proof, maintenance.session(), &mut troubles, plan)?;
    troubles.refuse(&proof.verification.name, &settings.to_string())?;
    match &live {
        Some(live) => {
            let size = live.size.map(|size| format!(" ({})", units::bytes(size))).unwrap_or_default();
            plan.details.push(format!(
                "replaces `{database}`{size}, which is kept as `{}`",
                maintenance.free_name(database, &kept_ending(facts))?
            ));
            if live.sessions > 0 {
                plan.details.push(format!("ends its sessions at the swap: {} now", live.sessions));
            }
        }
        None => plan.details.push(format!("makes `{database}`, which is not there")),
    }
    let live = live.map(|live| Named { name: live.name, oid: live.oid });
    Ok(basis(restore, facts, path, proof, live, roles))
}

/// The ending of the name under which the database is kept that is there now.
pub(super) fn kept_ending(facts: &Facts) -> String {
    facts.began().format("_before_%Y%m%d_%H%M%S").to_string()
}

/// What the dump needs of the server: what is missing is added to the troubles, and what is done about it to the plan.
pub(super) fn needs(
    restore: &Restore,
    facts: &Facts,
    path: &Path,
    proof: &Proof,
    session: &Session,
    troubles: &mut Troubles,
    plan: &mut Plan<Restored>,
) -> Result<Roles, Failure> {
    let requirements = &proof.requirements;
    version(proof, session, troubles);
    let available = strings(session, "SELECT name FROM pg_catalog.pg_available_extensions")?;
    for extension in requirements.extensions.difference(&available) {
        troubles.add(
            format!("the server has no extension `{extension}`, which the dump makes"),
            format!("Install the package of `{extension}` on the database server."),
        );
    }
    let tablespaces = strings(session, "SELECT spcname FROM pg_catalog.pg_tablespace")?;
    for tablespace in requirements.tablespaces.difference(&tablespaces) {
        plan.details.push(format!(
            "there is no tablespace `{tablespace}` here: what was in it goes to the database's own"
        ));
    }
    for subscription in &requirements.subscriptions {
        plan.details.push(format!("makes the subscription `{subscription}`, which stays disabled"));
    }
    let text = globals(path, proof)?;
    let saved = text.as_deref().map(SavedRoles::read).unwrap_or_default();
    let digest = text.as_deref().map(|text| Digest::of_bytes(text.as_bytes()).to_string());
    let there = roles::names(session)?;
    let wanted = proof
        .manifest
        .as_ref()
        .and_then(|manifest| manifest.properties.as_ref())
        .map(properties::roles)
        .unwrap_or_default();
    let scratch = facts.host().scratch_server(&restore.settings).is_some();
    let roles = roles::decide(&there, &requirements.roles, &wanted, &saved, digest, scratch);
    for role in &roles.nowhere {
        troubles.add(
            format!("there is no role `{role}`, which the dump names, and none is saved beside it"),
            format!("Make it: `CREATE ROLE {};`.", ident(role)),
        );
    }
    if !roles.is_empty() {
        plan.details.push(format!("makes the missing roles {}", roles.names()));
        let may = session
            .one("SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user")?;
        if may.first().cloned().flatten().as_deref() != Some("t") {
            let user = &restore.settings.user;
            troubles.add(
                format!("the roles {} are missing, and `{user}` may not make roles", roles.names()),
                format!(
                    "As a superuser: `ALTER ROLE {} CREATEROLE;`, or make the roles by hand.",
                    ident(user)
                ),
            );
        }
    }
    Ok(roles)
}

fn version(proof: &Proof, session: &Session, troubles: &mut Troubles) {
    let Some(source) = proof.server.as_deref().and_then(Version::parse) else { return };
    let here = session.version();
    if source.major() > here.major() {
        troubles.code = Code::Version;
        troubles.add(
            format!("the dump is of PostgreSQL {}, and the server is {}", source.major(), here.major()),
            format!(
                "Restore on PostgreSQL {} or newer: dumps do not load into older versions.",
                source.major()
            ),
        );
    }
}

/// Whether the server can make a database like the source.
fn locale(
    proof: &Proof,
    session: &Session,
    troubles: &mut Troubles,
    plan: &mut Plan<Restored>,
) -> Result<(), Failure> {
    let Some(source) = proof.manifest.as_ref().and_then(|manifest| manifest.properties.as_ref()) else {
        return Ok(());
    };
    let since = match source.locale_provider.as_str() {
        "icu" => 15,
        "builtin" => 17,
        _ => 0,
    };
    if session.version().major() < since {
        troubles.code = Code::Version;
        troubles.add(
            format!(
                "the source's locale is of the provider `{}`, which PostgreSQL {} does not know",
                source.locale_provider,
                session.version().major()
            ),
            format!("Restore on PostgreSQL {since} or newer."),
        );
    }
    let known = strings(
        session,
        &format!("SELECT 'x' WHERE pg_catalog.pg_char_to_encoding({}) >= 0", literal(&source.encoding)),
    )?;
    if known.is_empty() {
        troubles.add(
            format!("the server does not know the source's encoding `{}`", source.encoding),
            "Restore on a server of the source's version.".to_owned(),
        );
    }
    let locales = strings(
        session,
        "SELECT collcollate FROM pg_catalog.pg_collation WHERE collprovider = 'c' \
         UNION SELECT datcollate FROM pg_catalog.pg_database UNION SELECT datctype FROM pg_catalog.pg_database",
    )?;
    // The names of one locale differ in how they write the encoding: `en_US.utf8`, `en_US.UTF-8`.
    let plain = |name: &str| name.to_lowercase().replace('-', "");
    for name in BTreeSet::from([&source.collate, &source.ctype]) {
        if !locales.iter().any(|locale| plain(locale) == plain(name)) {
            plan.unknown.push(format!("whether the server's system has the locale `{name}`"));
        }
    }
    Ok(())
}

fn strings(session: &Session, sql: &str) -> Result<BTreeSet<String>, Failure> {
    Ok(session.rows(sql)?.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Everything that stands in the way, for one failure.
#[derive(Debug)]
pub(super) struct Troubles {
    code: Code,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Default for Troubles {
    fn default() -> Self {
        Self { code: Code::Failed, causes: Vec::new(), hints: Vec::new() }
    }
}

impl Troubles {
    pub(super) fn add(&mut self, what: String, remedy: String) {
        self.causes.push(what);
        self.hints.push(remedy);
    }

    pub(super) fn hint(&mut self, hint: &str) {
        self.hints.push(hint.to_owned());
    }

    /// Fails when there is any.
    pub(super) fn refuse(self, dump: &str, settings: &str) -> Result<(), Failure> {
        if self.causes.is_empty() {
            return Ok(());
        }
        let failure =
            Failure::new(self.code, format!("`{dump}` cannot be restored into `{settings}` as things are"));
        let failure = self.causes.into_iter().fold(failure, Failure::caused_by);
        Err(self.hints.into_iter().fold(failure, Failure::hint))
    }
}
