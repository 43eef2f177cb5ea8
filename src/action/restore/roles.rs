//! The roles that a dump names: which are there, which are made from the saved ones, which are nowhere.

use crate::base::failure::{Code, Failure};
use crate::sys::effects::Effects;
use crate::sys::fs;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::exchange::own;
use crate::sys::postgres::quote::ident;
use crate::sys::postgres::saved_roles::SavedRoles;
use crate::sys::store;
use crate::sys::stream::{Control, hash};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// What is to become of the roles that a server misses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Those that are made as they were saved.
    pub saved: BTreeSet<String>,
    /// The digest of what they are made from.
    pub digest: Option<String>,
    /// Those that are made on a scratch server, which nobody may log in as.
    pub bare: BTreeSet<String>,
    /// Those that are nowhere.
    #[serde(skip)]
    pub nowhere: BTreeSet<String>,
}

/// The names of all roles of the server.
pub fn names(session: &Session) -> Result<BTreeSet<String>, Failure> {
    let found = session.rows("SELECT rolname FROM pg_catalog.pg_roles")?;
    Ok(found.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Decides about the roles in `needed`; those in `wanted` are made if they are saved, and otherwise done without.
pub fn decide(
    there: &BTreeSet<String>,
    needed: &BTreeSet<String>,
    wanted: &BTreeSet<String>,
    saved: &SavedRoles,
    digest: Option<String>,
    scratch: bool,
) -> Roles {
    let missing: BTreeSet<String> =
        needed.union(wanted).filter(|role| !there.contains(*role)).cloned().collect();
    let from_saved = saved.needed(&missing, &|role| there.contains(role));
    let rest: BTreeSet<String> =
        missing.difference(&from_saved).filter(|role| needed.contains(*role)).cloned().collect();
    let (bare, nowhere) = if scratch { (rest, BTreeSet::new()) } else { (BTreeSet::new(), rest) };
    Roles { digest: digest.filter(|_| !from_saved.is_empty()), saved: from_saved, bare, nowhere }
}

impl Roles {
    /// Whether nothing is to be made.
    pub fn is_empty(&self) -> bool {
        self.saved.is_empty() && self.bare.is_empty()
    }

    /// Their names, for people.
    pub fn names(&self) -> String {
        let names: Vec<String> =
            self.saved.iter().chain(&self.bare).map(|name| format!("`{name}`")).collect();
        names.join(", ")
    }
}

/// Makes the roles; those that were made meanwhile by others are not touched.
pub fn make(effects: &Effects, session: &Session, backup: &Path, roles: &Roles) -> Result<(), Failure> {
    if roles.is_empty() {
        return Ok(());
    }
    let at = store::sidecar(backup, ".globals.sql");
    let mut text = Vec::new();
    if let Some(expected) = &roles.digest {
        let control = Control { cancel: effects.facts().cancel(), progress: &|_| {} };
        let (_, digest) = hash(fs::open(&at)?, &at, control, &mut |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        if digest.to_string() != *expected {
            return Err(Failure::new(
                Code::NotIntact,
                format!("`{}` has changed since it was verified", at.display()),
            )
            .hint("Nothing was changed. Run it again."));
        }
    }
    let saved = SavedRoles::read(&String::from_utf8_lossy(&text));
    effects.intend(&format!("make the roles {}", roles.names()))?;
    let bare: Vec<String> = roles
        .bare
        .iter()
        .filter(|name| !there(session, name))
        .map(|name| format!("CREATE ROLE {} NOLOGIN", ident(name)))
        .collect();
    let statements = saved.statements(&roles.saved).map(str::to_owned).chain(bare);
    for sql in statements {
        // The statement itself holds the hash of a password, and is not told.
        if let Err(refused) = session.batch(&sql)? {
            return Err(own(&refused, format!("the roles {} cannot be made", roles.names())).hint(
                "Restore as a superuser, or make the missing roles by hand from the backup's `.globals.sql`.",
            ));
        }
    }
    effects.facts().host().info(&format!("made the roles {}", roles.names()));
    Ok(())
}

fn there(session: &Session, name: &str) -> bool {
    names(session).is_ok_and(|names| names.contains(name))
}
