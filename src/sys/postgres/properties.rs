//! Gives a database the properties that a plain dump does not hold: owner, grants, settings, limit of connections.

use super::catalog;
use super::exchange::own;
use super::quote::{ident, setting};
use crate::base::backup::DatabaseProperties;
use crate::base::failure::Failure;
use crate::sys::postgres::connection::Session;
use std::collections::{BTreeMap, BTreeSet};

/// One entry of a database's grants, as `app=Tc*/owner`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    /// `None` for everybody.
    to: Option<String>,
    by: String,
    /// Privileges, and whether they may be passed on.
    privileges: Vec<(&'static str, bool)>,
}

impl Grant {
    fn parse(item: &str) -> Option<Self> {
        let mut rest = item;
        let to = name(&mut rest)?;
        rest = rest.strip_prefix('=')?;
        let (letters, by) = rest.split_once('/')?;
        let mut privileges = Vec::new();
        let mut chars = letters.chars().peekable();
        while let Some(letter) = chars.next() {
            let word = match letter {
                'C' => "CREATE",
                'T' => "TEMPORARY",
                'c' => "CONNECT",
                _ => return None,
            };
            privileges.push((word, chars.next_if_eq(&'*').is_some()));
        }
        let mut by = by;
        Some(Self { to: (!to.is_empty()).then_some(to), by: name(&mut by)?, privileges })
    }

    fn statements(&self, database: &str, owner: &str) -> Vec<String> {
        let to = self.to.as_deref().map_or_else(|| "PUBLIC".to_owned(), ident);
        let list = |passed_on: bool| {
            let words: Vec<&str> = self
                .privileges
                .iter()
                .filter(|(_, star)| *star == passed_on)
                .map(|(word, _)| *word)
                .collect();
            words.join(", ")
        };
        let mut all = Vec::new();
        for (words, ending) in [(list(false), ""), (list(true), " WITH GRANT OPTION")] {
            if !words.is_empty() {
                all.push(format!("GRANT {words} ON DATABASE {} TO {to}{ending}", ident(database)));
            }
        }
        // Grants by others than the owner are made as those others.
        if self.by != owner && !all.is_empty() {
            all.insert(0, format!("SET LOCAL ROLE {}", ident(&self.by)));
            all.push("RESET ROLE".to_owned());
        }
        all
    }
}

/// A name of a grant, in double quotes if it needs them.
fn name(rest: &mut &str) -> Option<String> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = quoted.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != '"' {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                *rest = &quoted[at + 1..];
                return Some(name);
            }
        }
        return None;
    }
    let end = rest.find(['=', '/']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    Some(name.to_owned())
}

/// The roles that properties name.
pub fn roles(properties: &DatabaseProperties) -> BTreeSet<String> {
    let grants = properties.acl.iter().flatten().filter_map(|item| Grant::parse(item));
    let mut roles: BTreeSet<String> =
        grants.flat_map(|grant| grant.to.into_iter().chain([grant.by])).collect();
    roles.insert(properties.owner.clone());
    roles.extend(properties.settings.keys().filter(|role| !role.is_empty()).cloned());
    roles.remove("");
    roles
}

/// The properties without what names roles that `exists` does not know, and what was left out.
pub fn fitting(
    properties: &DatabaseProperties,
    exists: &dyn Fn(&str) -> bool,
) -> (DatabaseProperties, Vec<String>) {
    let mut fitting = properties.clone();
    let mut notes = Vec::new();
    if !fitting.owner.is_empty() && !exists(&fitting.owner) {
        notes.push(format!("its owner `{}` does not exist here", fitting.owner));
        fitting.owner.clear();
    }
    if let Some(acl) = &mut fitting.acl {
        acl.retain(|item| {
            let keep = Grant::parse(item)
                .is_some_and(|grant| grant.to.as_deref().is_none_or(exists) && exists(&grant.by));
            if !keep {
                notes.push(format!("the grant `{item}` names a role that does not exist here"));
            }
            keep
        });
    }
    fitting.settings.retain(|role, _| {
        let keep = role.is_empty() || exists(role);
        if !keep {
            notes.push(format!("settings of the role `{role}`, which does not exist here"));
        }
        keep
    });
    (fitting, notes)
}

/// The statements that give a database that was just made its properties.
fn statements(database: &str, properties: &DatabaseProperties) -> Vec<String> {
    let name = ident(database);
    let mut all = Vec::new();
    for (role, settings) in &properties.settings {
        for stored in settings.iter().filter_map(|stored| setting(stored)) {
            all.push(if role.is_empty() {
                format!("ALTER DATABASE {name} SET {stored}")
            } else {
                format!("ALTER ROLE {} IN DATABASE {name} SET {stored}", ident(role))
            });
        }
    }
    if properties.connection_limit != -1 {
        all.push(format!("ALTER DATABASE {name} CONNECTION LIMIT {}", properties.connection_limit));
    }
    if !properties.owner.is_empty() {
        all.push(format!("ALTER DATABASE {name} OWNER TO {}", ident(&properties.owner)));
    }
    if let Some(acl) = &properties.acl {
        all.push(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"));
        if !properties.owner.is_empty() {
            all.push(format!("REVOKE ALL ON DATABASE {name} FROM {}", ident(&properties.owner)));
        }
        let mut grants: Vec<Grant> = acl.iter().filter_map(|item| Grant::parse(item)).collect();
        grants.sort_by_key(|grant| grant.by != properties.owner);
        all.extend(grants.iter().flat_map(|grant| grant.statements(database, &properties.owner)));
    }
    all
}

/// Gives a database that was just made its properties, all or none. `session` may be in any database.
///
/// # Errors
/// `Query` with the server's words.
pub fn apply(session: &Session, database: &str, properties: &DatabaseProperties) -> Result<(), Failure> {
    give(session, database, properties, "COMMIT")
}

/// Gives a database the properties, and takes all of it back: whether this role may is known before the work is done.
///
/// # Errors
/// As [`apply`].
pub fn rehearse(session: &Session, database: &str, properties: &DatabaseProperties) -> Result<(), Failure> {
    give(session, database, properties, "ROLLBACK")
}

fn give(
    session: &Session,
    database: &str,
    properties: &DatabaseProperties,
    end: &str,
) -> Result<(), Failure> {
    let statements = statements(database, properties);
    if statements.is_empty() {
        return Ok(());
    }
    let sql = format!("BEGIN;\n{};\n{end}", statements.join(";\n"));
    match session.batch(&sql)? {
        Ok(_) => Ok(()),
        Err(refused) => {
            session.run("ROLLBACK")?;
            let failed = refused.done.checked_sub(1).and_then(|at| statements.get(at));
            let mut failure = own(&refused, format!("the properties of `{database}` cannot be carried over"));
            if refused.state == "42501" {
                failure = failure.hint("Connect as a superuser: others may not set what one has set.");
            }
            Err(failed.iter().fold(failure, |failure, statement| {
                // The value of a setting may be a secret.
                let shown = statement.split(" TO ").next().unwrap_or_default();
                failure.caused_by(format!("at `{shown}`"))
            }))
        }
    }
}

/// In what the database of the session differs from `expected`; extensions and versions of collations are not compared.
pub fn differences(session: &Session, expected: &DatabaseProperties) -> Result<Vec<String>, Failure> {
    let found = catalog::properties(session)?;
    let mut differences = Vec::new();
    let mut differ = |what: &str, wanted: String, found: String| {
        if wanted != found {
            differences.push(format!("{what}: {found} instead of {wanted}"));
        }
    };
    if !expected.owner.is_empty() {
        differ("owner", expected.owner.clone(), found.owner.clone());
    }
    differ("connection limit", expected.connection_limit.to_string(), found.connection_limit.to_string());
    let sorted = |acl: &Option<Vec<String>>| {
        acl.as_ref().map_or_else(
            || "default".to_owned(),
            |acl| {
                let mut acl = acl.clone();
                acl.sort();
                acl.join(", ")
            },
        )
    };
    if !expected.owner.is_empty() {
        differ("grants", sorted(&expected.acl), sorted(&found.acl));
    }
    let names = |settings: &BTreeMap<String, Vec<String>>, role: &String| -> BTreeSet<String> {
        settings.get(role).into_iter().flatten().cloned().collect()
    };
    let every: BTreeSet<&String> = expected.settings.keys().chain(found.settings.keys()).collect();
    for role in every {
        if names(&expected.settings, role) != names(&found.settings, role) {
            let whose = if role.is_empty() { "everybody" } else { role };
            differences.push(format!("settings of {whose}"));
        }
    }
    Ok(differences)
}

/// The value of `lc_monetary` that sessions in a database with these properties have, if they say.
pub fn monetary(properties: &DatabaseProperties) -> Option<&str> {
    properties.settings.get("")?.iter().find_map(|stored| {
        let (name, value) = stored.split_once('=')?;
        name.eq_ignore_ascii_case("lc_monetary").then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_and_written() {
        let grant = Grant::parse(r#""a ""b"""=c*T/"o=/w""#).unwrap();
        assert_eq!(grant.to.as_deref(), Some("a \"b\""));
        assert_eq!(grant.by, "o=/w");
        assert_eq!(
            grant.statements("d", "o=/w"),
            [
                r#"GRANT TEMPORARY ON DATABASE "d" TO "a ""b""""#,
                r#"GRANT CONNECT ON DATABASE "d" TO "a ""b""" WITH GRANT OPTION"#
            ]
        );
        assert_eq!(
            Grant::parse("=Tc/app").unwrap().statements("d", "postgres"),
            [
                r#"SET LOCAL ROLE "app""#,
                r#"GRANT TEMPORARY, CONNECT ON DATABASE "d" TO PUBLIC"#,
                "RESET ROLE"
            ]
        );
        assert_eq!(Grant::parse("x"), None);
    }

    #[test]
    fn what_names_roles_that_are_not_there_is_left_out_and_said() {
        let properties = DatabaseProperties {
            owner: "gone".into(),
            acl: Some(vec!["=c/here".into(), "gone=c/here".into()]),
            settings: [
                ("gone".to_owned(), vec!["x.y=1".to_owned()]),
                (String::new(), vec!["a=b".to_owned()]),
            ]
            .into(),
            ..DatabaseProperties::default()
        };
        assert_eq!(roles(&properties), ["gone".to_owned(), "here".to_owned()].into());
        let (fitting, notes) = fitting(&properties, &|role| role == "here");
        assert_eq!(fitting.acl, Some(vec!["=c/here".to_owned()]));
        assert_eq!(fitting.settings.len(), 1);
        assert_eq!(notes.len(), 3);
    }
}
