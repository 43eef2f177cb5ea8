//! The server's roles as SQL, like `pg_dumpall --globals-only`, but fit to be run again: only missing roles are made.
//!
//! *Problem*: `pg_dumpall` fails where `pg_authid` may not be read, as on managed servers, and what it writes fails or
//! overwrites passwords where roles exist. *Decision*: our own queries, one block per role that does nothing where the
//! role exists. *Rejected*: `pg_dumpall --no-role-passwords`, since it would lose passwords where they can be read.

use crate::base::failure::{Code, Failure};
use crate::sys::postgres::catalog::{text, value};
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::quote::{ident, literal, setting};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The roles of a server as SQL. It may hold hashes of passwords: keep it 0600.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    /// The SQL.
    pub sql: String,
    /// Whether everything could be read, passwords included.
    pub complete: bool,
    /// What could not be read and why, if something could not.
    pub note: Option<String>,
}

/// One role.
#[derive(Clone, Debug, Default)]
struct Role {
    name: String,
    attributes: Vec<&'static str>,
    connection_limit: Option<String>,
    password: Option<String>,
    valid_until: Option<String>,
    comment: Option<String>,
    settings: Vec<String>,
}

/// One membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Membership {
    role: String,
    member: String,
    /// Who granted it; `None` for the superuser the cluster began with, and where servers do not keep it rightly.
    grantor: Option<String>,
    admin: bool,
    inherit: Option<bool>,
    set: Option<bool>,
}

/// Reads the roles of the session's server.
///
/// # Errors
/// Only if the connection breaks or the run is asked to end: what may not be read is left out, and noted.
pub fn globals(session: &Session) -> Result<Globals, Failure> {
    let readable = session.one("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')")?;
    let passwords = value(&readable, 0).as_deref() == Some("t");
    let read = read(session, passwords);
    let header = format!(
        "-- Lifeboat globals: roles of the server at {}, PostgreSQL {}\n-- Only roles that are missing are made.\n",
        comment(&session.settings().server()),
        session.version()
    );
    let (roles, memberships, tablespaces) = match read {
        Ok(read) => read,
        Err(failure) if failure.code == Code::Query => {
            let note = format!("the server's roles could not be read: {failure}");
            return Ok(Globals {
                sql: format!("{header}-- {}\n", comment(&note)),
                complete: false,
                note: Some(note),
            });
        }
        Err(failure) => return Err(failure),
    };
    let note = (!passwords).then(|| {
        format!("passwords of roles are not saved: `{}` may not read pg_authid", session.settings().user)
    });
    let mut sql = header;
    if let Some(note) = &note {
        let _ = writeln!(sql, "-- {}", comment(note));
    }
    for tablespace in &tablespaces {
        let _ = writeln!(sql, "-- Lifeboat tablespace: {tablespace}");
    }
    for role in &roles {
        sql.push_str(&role_block(role));
    }
    for membership in in_order(memberships) {
        sql.push_str(&membership_block(&membership));
    }
    Ok(Globals { sql, complete: passwords, note })
}

type Read = (Vec<Role>, Vec<Membership>, Vec<String>);

fn read(session: &Session, passwords: bool) -> Result<Read, Failure> {
    // A role that is made between two questions would be granted, and not made.
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
    let read = (|| Ok((roles(session, passwords)?, memberships(session)?, tablespaces(session)?)))();
    session.run("ROLLBACK")?;
    read
}

fn roles(session: &Session, passwords: bool) -> Result<Vec<Role>, Failure> {
    let (table, password) = if passwords { ("pg_authid", "rolpassword") } else { ("pg_roles", "NULL") };
    // A role's name may begin with `pg_` only if the server made it.
    let found = session.rows(&format!(
        "SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, \
         rolconnlimit, {password}, rolvaliduntil, shobj_description(oid, 'pg_authid') \
         FROM {table} WHERE left(rolname, 3) <> 'pg_' ORDER BY rolname"
    ))?;
    let set = session.rows(
        "SELECT r.rolname, c FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, \
         unnest(s.setconfig) WITH ORDINALITY u(c, n) WHERE s.setdatabase = 0 ORDER BY 1, n",
    )?;
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &set.rows {
        settings.entry(text(row, 0)).or_default().push(text(row, 1));
    }
    let attributes = [
        ("SUPERUSER", "NOSUPERUSER"),
        ("INHERIT", "NOINHERIT"),
        ("CREATEROLE", "NOCREATEROLE"),
        ("CREATEDB", "NOCREATEDB"),
        ("LOGIN", "NOLOGIN"),
        ("REPLICATION", "NOREPLICATION"),
        ("BYPASSRLS", "NOBYPASSRLS"),
    ];
    let role = |row: &Vec<Option<String>>| Role {
        name: text(row, 0),
        attributes: attributes
            .iter()
            .enumerate()
            .map(|(at, (on, off))| if text(row, at + 1) == "t" { *on } else { *off })
            .collect(),
        connection_limit: value(row, 8).filter(|limit| limit != "-1"),
        password: value(row, 9),
        valid_until: value(row, 10),
        comment: value(row, 11),
        settings: settings.get(&text(row, 0)).cloned().unwrap_or_default(),
    };
    Ok(found.rows.iter().map(role).collect())
}

fn memberships(session: &Session) -> Result<Vec<Membership>, Failure> {
    // Before version 16 the grantor is not kept rightly, and there are no options but ADMIN.
    let sixteen = session.version().major() >= 16;
    let more = if sixteen {
        "CASE WHEN m.grantor <> 10 THEN g.rolname END, m.inherit_option, m.set_option"
    } else {
        "NULL, NULL, NULL"
    };
    let found = session.rows(&format!(
        "SELECT r.rolname, u.rolname, m.admin_option, {more} FROM pg_auth_members m \
         JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member \
         LEFT JOIN pg_roles g ON g.oid = m.grantor WHERE left(u.rolname, 3) <> 'pg_' ORDER BY 1, 2, 4 NULLS FIRST"
    ))?;
    let flag = |row: &[Option<String>], at| value(row, at).map(|value| value == "t");
    let membership = |row: &Vec<Option<String>>| Membership {
        role: text(row, 0),
        member: text(row, 1),
        admin: flag(row, 2) == Some(true),
        grantor: value(row, 3),
        inherit: flag(row, 4),
        set: flag(row, 5),
    };
    Ok(found.rows.iter().map(membership).collect())
}

fn tablespaces(session: &Session) -> Result<Vec<String>, Failure> {
    let found = session.rows(
        "SELECT spcname, pg_tablespace_location(oid), pg_get_userbyid(spcowner) FROM pg_tablespace \
         WHERE left(spcname, 3) <> 'pg_' ORDER BY 1",
    )?;
    let line = |row: &Vec<Option<String>>| {
        format!("{} at {} of {}", comment(&text(row, 0)), comment(&text(row, 1)), comment(&text(row, 2)))
    };
    Ok(found.rows.iter().map(line).collect())
}

/// A name inside a comment: in quotes and on one line, whatever it holds (CVE-2025-8715).
fn comment(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

fn role_block(role: &Role) -> String {
    let name = ident(&role.name);
    let mut create = format!("    CREATE ROLE {name} WITH {}", role.attributes.join(" "));
    for (word, value) in [("PASSWORD", &role.password), ("VALID UNTIL", &role.valid_until)] {
        if let Some(value) = value {
            let _ = write!(create, " {word} {}", literal(value));
        }
    }
    if let Some(limit) = &role.connection_limit {
        let _ = write!(create, " CONNECTION LIMIT {limit}");
    }
    let mut body = format!("{create};\n");
    for stored in role.settings.iter().filter_map(|stored| setting(stored)) {
        let _ = writeln!(body, "    ALTER ROLE {name} SET {stored};");
    }
    if let Some(text) = &role.comment {
        let _ = writeln!(body, "    COMMENT ON ROLE {name} IS {};", literal(text));
    }
    let missing =
        format!("NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {})", literal(&role.name));
    format!("\n-- Lifeboat role: {}\n{}", comment(&role.name), only_if(&missing, &body))
}

fn membership_block(membership: &Membership) -> String {
    let (role, member) = (&membership.role, &membership.member);
    let mut grant = format!("    GRANT {} TO {}", ident(role), ident(member));
    match (membership.inherit, membership.set) {
        (Some(inherit), Some(set)) => {
            let word = |on: bool| if on { "TRUE" } else { "FALSE" };
            let admin = word(membership.admin);
            let _ = write!(grant, " WITH ADMIN {admin}, INHERIT {}, SET {}", word(inherit), word(set));
        }
        _ if membership.admin => grant.push_str(" WITH ADMIN OPTION"),
        _ => {}
    }
    if let Some(grantor) = &membership.grantor {
        let _ = write!(grant, " GRANTED BY {}", ident(grantor));
    }
    // From version 16 on, one membership may be granted by several roles.
    let by = membership
        .grantor
        .as_ref()
        .map(|grantor| format!("\n      AND pg_catalog.pg_get_userbyid(m.grantor) = {}", literal(grantor)))
        .unwrap_or_default();
    let missing = format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid\n      \
         JOIN pg_catalog.pg_roles u ON u.oid = m.member WHERE r.rolname = {} AND u.rolname = {}{by})",
        literal(role),
        literal(member)
    );
    format!(
        "\n-- Lifeboat membership: {} in {}\n{}",
        comment(member),
        comment(role),
        only_if(&missing, &format!("{grant};\n"))
    )
}

/// What a block of the text is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// It makes this role.
    Role(String),
    /// It makes one role a member of another.
    Membership {
        /// The member.
        member: String,
        /// Of which role.
        role: String,
    },
}

/// What the comment above a block says; `None` for any other comment.
pub(super) fn about(comment: &str) -> Option<About> {
    if let Some(name) = comment.strip_prefix("-- Lifeboat role: ") {
        return serde_json::from_str(name).ok().map(About::Role);
    }
    let rest = comment.strip_prefix("-- Lifeboat membership: ")?;
    let mut names = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let member = names.next()?.ok()?;
    let role = serde_json::from_str(rest[names.byte_offset()..].strip_prefix(" in ")?).ok()?;
    Some(About::Membership { member, role })
}

/// A block that does something only under a condition. Its dollar tag stands nowhere inside.
fn only_if(condition: &str, body: &str) -> String {
    let mut tag = "$lifeboat$".to_owned();
    for number in 1.. {
        if !condition.contains(&tag) && !body.contains(&tag) {
            break;
        }
        tag = format!("$lifeboat{number}$");
    }
    format!("DO {tag} BEGIN\n  IF {condition} THEN\n{body}  END IF;\nEND {tag};\n")
}

/// Memberships so that each grantor holds ADMIN of the role before granting it; what no order satisfies comes last.
fn in_order(mut left: Vec<Membership>) -> Vec<Membership> {
    let mut ordered: Vec<Membership> = Vec::new();
    let mut admins: BTreeSet<(String, String)> = BTreeSet::new();
    loop {
        let able = |m: &Membership| {
            m.grantor.as_ref().is_none_or(|grantor| admins.contains(&(m.role.clone(), grantor.clone())))
        };
        let (ready, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(able);
        if ready.is_empty() {
            ordered.extend(rest);
            return ordered;
        }
        admins.extend(ready.iter().filter(|m| m.admin).map(|m| (m.role.clone(), m.member.clone())));
        ordered.extend(ready);
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_block_that_makes_it_only_if_it_is_missing() {
        let role = Role {
            name: "app \"one\"\n'x' $lifeboat$".into(),
            attributes: vec!["NOSUPERUSER", "LOGIN"],
            connection_limit: Some("5".into()),
            password: Some("SCRAM-SHA-256$4096:a=$b=:c=".into()),
            valid_until: Some("infinity".into()),
            comment: Some("it's\nmine".into()),
            settings: vec!["search_path=\"$user\", public".into()],
        };
        assert_eq!(
            role_block(&role),
            r#"
-- Lifeboat role: "app \"one\"\n'x' $lifeboat$"
DO $lifeboat1$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'app "one"
''x'' $lifeboat$') THEN
    CREATE ROLE "app ""one""
'x' $lifeboat$" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a=$b=:c=' VALID UNTIL 'infinity' CONNECTION LIMIT 5;
    ALTER ROLE "app ""one""
'x' $lifeboat$" SET "search_path" TO '$user', 'public';
    COMMENT ON ROLE "app ""one""
'x' $lifeboat$" IS 'it''s
mine';
  END IF;
END $lifeboat1$;
"#
        );
    }

    #[test]
    fn a_membership_keeps_its_options() {
        let old =
            Membership { role: "staff".into(), member: "ada".into(), admin: true, ..Membership::default() };
        assert_eq!(
            membership_block(&old),
            r#"
-- Lifeboat membership: "ada" in "staff"
DO $lifeboat$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
      JOIN pg_catalog.pg_roles u ON u.oid = m.member WHERE r.rolname = 'staff' AND u.rolname = 'ada') THEN
    GRANT "staff" TO "ada" WITH ADMIN OPTION;
  END IF;
END $lifeboat$;
"#
        );
        let new = Membership {
            grantor: Some("boss".into()),
            admin: false,
            inherit: Some(true),
            set: Some(false),
            ..old
        };
        assert!(membership_block(&new).contains(
            "    GRANT \"staff\" TO \"ada\" WITH ADMIN FALSE, INHERIT TRUE, SET FALSE GRANTED BY \"boss\";\n"
        ));
    }

    #[test]
    fn grantors_hold_admin_before_they_grant() {
        let grant = |member: &str, grantor: Option<&str>, admin| Membership {
            role: "staff".into(),
            member: member.into(),
            grantor: grantor.map(Into::into),
            admin,
            ..Membership::default()
        };
        let all = vec![
            grant("ann", Some("bob"), false),
            grant("bob", Some("cid"), true),
            grant("cid", None, true),
            grant("dan", Some("nobody"), false),
        ];
        let order: Vec<String> = in_order(all).into_iter().map(|m| m.member).collect();
        assert_eq!(order, ["cid", "bob", "ann", "dan"]);
    }
}
