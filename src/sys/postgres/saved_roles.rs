//! The roles saved beside a dump: which there are, and the SQL that makes those that a server misses.

use super::globals;
use super::scan::{Scanner, Segment};
use std::collections::{BTreeMap, BTreeSet};

/// The roles in a `FILE.globals.sql` of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedRoles {
    roles: BTreeMap<String, String>,
    memberships: Vec<Membership>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Membership {
    member: String,
    role: String,
    sql: String,
}

impl SavedRoles {
    /// Reads the file's text. What is not written as Lifeboat writes it is left out.
    pub fn read(text: &str) -> Self {
        let mut saved = Self::default();
        let mut scanner = Scanner::new();
        let mut rest = text.as_bytes();
        let mut about: Option<globals::About> = None;
        while let Ok(Some(segment)) = scanner.next(&mut rest) {
            match segment {
                Segment::Comment { text, .. } => about = globals::about(&String::from_utf8_lossy(text)),
                Segment::Statement { text, .. } => {
                    let sql = String::from_utf8_lossy(text).into_owned();
                    match about.take() {
                        Some(globals::About::Role(name)) => {
                            saved.roles.insert(name, sql);
                        }
                        Some(globals::About::Membership { member, role }) => {
                            saved.memberships.push(Membership { member, role, sql });
                        }
                        None => {}
                    }
                }
                Segment::Space(_) => {}
                _ => return saved,
            }
        }
        saved
    }

    /// Those of `missing` that are saved here, and the saved roles that they are members of and that `exists` does not know.
    pub fn needed(&self, missing: &BTreeSet<String>, exists: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
        let mut needed: BTreeSet<String> =
            missing.iter().filter(|name| self.roles.contains_key(*name)).cloned().collect();
        loop {
            let more: Vec<String> = self
                .memberships
                .iter()
                .filter(|membership| needed.contains(&membership.member))
                .map(|membership| membership.role.clone())
                .filter(|role| !needed.contains(role) && !exists(role) && self.roles.contains_key(role))
                .collect();
            if more.is_empty() {
                return needed;
            }
            needed.extend(more);
        }
    }

    /// The statements that make these roles, and then their memberships. Roles that exist are not touched, not even by
    /// becoming members of new ones.
    pub fn statements<'a>(&'a self, names: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
        let roles = names.iter().filter_map(|name| self.roles.get(name));
        let memberships =
            self.memberships.iter().filter(|membership| names.contains(&membership.member)).map(|m| &m.sql);
        roles.chain(memberships).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
-- Lifeboat globals: roles of the server at \"db:5432\", PostgreSQL 15.18
-- Only roles that are missing are made.

-- Lifeboat role: \"a \\\"b\\\"\"
DO $lifeboat$ BEGIN make a; END $lifeboat$;

-- Lifeboat role: \"staff\"
DO $lifeboat$ BEGIN make staff; END $lifeboat$;

-- Lifeboat role: \"ada\"
DO $lifeboat$ BEGIN make ada; END $lifeboat$;

-- Lifeboat membership: \"ada\" in \"staff\"
DO $lifeboat$ BEGIN ada to staff; END $lifeboat$;

-- Lifeboat membership: \"bob\" in \"staff\"
DO $lifeboat$ BEGIN bob to staff; END $lifeboat$;
";

    #[test]
    fn only_missing_roles_are_made_with_those_they_are_members_of() {
        let saved = SavedRoles::read(TEXT);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let missing = names(&["ada", "nobody", "a \"b\""]);
        assert_eq!(saved.needed(&missing, &|_| false), names(&["a \"b\"", "ada", "staff"]));
        assert_eq!(saved.needed(&missing, &|name| name == "staff"), names(&["a \"b\"", "ada"]));
        let made = names(&["ada", "staff"]);
        let sql: Vec<&str> = saved.statements(&made).collect();
        assert_eq!(
            sql,
            [
                "DO $lifeboat$ BEGIN make ada; END $lifeboat$;",
                "DO $lifeboat$ BEGIN make staff; END $lifeboat$;",
                "DO $lifeboat$ BEGIN ada to staff; END $lifeboat$;"
            ]
        );
    }
}
