//! Which parts of a database are dumped, by `pg_dump`'s patterns.
//!
//! `pg_dump` gets the same patterns for the definitions, so what they pick must be the same here to the last case
//! (`patternToSQLRegex`, `selectDumpableTable`, `processExtensionTables` and `getOwnedSeqs` in its sources).

use super::trouble::Trouble;
use crate::sys::postgres::catalog::text;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::quote::literal;
use std::collections::BTreeSet;

/// Patterns of what is dumped; without any it is everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Schemas to take, as `--schema`.
    pub schemas: &'a [String],
    /// Tables to take, as `--table`.
    pub tables: &'a [String],
    /// Tables to leave out, as `--exclude-table`.
    pub exclude_tables: &'a [String],
    /// Tables whose rows are left out, as `--exclude-table-data`.
    pub exclude_table_data: &'a [String],
}

/// What the patterns pick at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picked {
    schemas: Option<BTreeSet<u32>>,
    tables: Option<BTreeSet<u32>>,
    excluded: BTreeSet<u32>,
    rowless: BTreeSet<u32>,
}

/// A relation, as far as it matters for what is picked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: u32,
    /// Whether an extension declares it as its configuration.
    pub(super) is_configuration: bool,
}

impl Selection<'_> {
    /// The same as arguments of `pg_dump`.
    pub fn args(&self) -> Vec<String> {
        let named = [
            ("--schema", self.schemas),
            ("--table", self.tables),
            ("--exclude-table", self.exclude_tables),
            ("--exclude-table-data", self.exclude_table_data),
        ];
        named.iter().flat_map(|(flag, list)| list.iter().map(move |item| format!("{flag}={item}"))).collect()
    }

    /// Asks what the patterns pick now.
    pub(super) fn pick(&self, session: &Session) -> Result<Picked, Trouble> {
        Ok(Picked {
            schemas: if self.schemas.is_empty() { None } else { Some(schemas(session, self.schemas)?) },
            tables: if self.tables.is_empty() { None } else { Some(wanted(session, self.tables)?) },
            excluded: tables(session, self.exclude_tables)?,
            rowless: tables(session, self.exclude_table_data)?,
        })
    }
}

impl Picked {
    /// Whether the definition of a relation is dumped.
    pub(super) fn takes(&self, relation: Relation) -> bool {
        let Relation { oid, schema, is_configuration } = relation;
        let by_table = || self.tables.as_ref().is_some_and(|tables| tables.contains(&oid));
        let by_schema = || self.schemas.as_ref().is_some_and(|schemas| schemas.contains(&schema));
        let is_wanted = match (self.takes_everything(), is_configuration) {
            (true, _) => true,
            (false, true) => by_table() || self.tables.is_none() && by_schema(),
            (false, false) if self.tables.is_some() => by_table(),
            (false, false) => by_schema(),
        };
        is_wanted && !self.excluded.contains(&oid)
    }

    /// Whether the rows of a relation whose definition is dumped are dumped too.
    pub(super) fn takes_rows(&self, oid: u32) -> bool {
        !self.rowless.contains(&oid)
    }

    /// Whether nothing but what is excluded is left out, so that large objects belong to it.
    pub(super) fn takes_everything(&self) -> bool {
        self.schemas.is_none() && self.tables.is_none()
    }
}

fn schemas(session: &Session, patterns: &[String]) -> Result<BTreeSet<u32>, Trouble> {
    let each = patterns.iter().map(|pattern| match Pattern::read(pattern) {
        Some(Pattern { schema: None, name }) => Ok(matches("n.nspname", &name)),
        _ => Err(unknown(pattern)),
    });
    let each = each.collect::<Result<Vec<String>, Trouble>>()?.join(" OR ");
    let found = session.rows(&format!("SELECT n.oid FROM pg_catalog.pg_namespace n WHERE {each}"))?;
    Ok(found.rows.iter().filter_map(|row| text(row, 0).parse().ok()).collect())
}

/// Tables that are to be dumped; those of the system, which `pg_dump` then takes too, are left to it.
fn wanted(session: &Session, patterns: &[String]) -> Result<BTreeSet<u32>, Trouble> {
    let picked = tables(session, patterns)?;
    let found = session.rows(
        "SELECT c.oid, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'information_schema' OR n.nspname LIKE 'pg\\_%'",
    )?;
    let of_system = found.rows.iter().find(|row| text(row, 0).parse().is_ok_and(|oid| picked.contains(&oid)));
    match of_system {
        Some(row) => Err(Trouble::Unfit(format!("a pattern picks tables of the schema {}", text(row, 1)))),
        None => Ok(picked),
    }
}

fn tables(session: &Session, patterns: &[String]) -> Result<BTreeSet<u32>, Trouble> {
    if patterns.is_empty() {
        return Ok(BTreeSet::new());
    }
    let each = patterns.iter().map(|pattern| match Pattern::read(pattern) {
        Some(Pattern { schema: None, name }) => {
            Ok(format!("({} AND pg_catalog.pg_table_is_visible(c.oid))", matches("c.relname", &name)))
        }
        Some(Pattern { schema: Some(schema), name }) => {
            Ok(format!("({} AND {})", matches("n.nspname", &schema), matches("c.relname", &name)))
        }
        None => Err(unknown(pattern)),
    });
    let each = each.collect::<Result<Vec<String>, Trouble>>()?.join(" OR ");
    // A name without a schema means what the role finds by it. Everything here is named in full meanwhile.
    session.run("RESET search_path")?;
    let found = session.rows(&format!(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
         ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'S', 'v', 'm', 'f', 'p']::pg_catalog.\"char\"[]) AND ({each})"
    ))?;
    session.run("SET search_path = ''")?;
    Ok(found.rows.iter().filter_map(|row| text(row, 0).parse().ok()).collect())
}

fn matches(column: &str, regex: &str) -> String {
    format!("{column} OPERATOR(pg_catalog.~) {} COLLATE pg_catalog.\"default\"", literal(regex))
}

fn unknown(pattern: &str) -> Trouble {
    Trouble::Unfit(format!("the pattern {pattern} can be read by `pg_dump` alone"))
}

/// A pattern as regular expressions.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    schema: Option<String>,
    name: String,
}

impl Pattern {
    /// Reads `NAME` or `SCHEMA.NAME`; `None` for what names a database too, or has an open quote.
    fn read(pattern: &str) -> Option<Self> {
        let mut parts = vec![String::new()];
        let mut is_quoted = false;
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            let part = parts.last_mut()?;
            match c {
                '"' if is_quoted && chars.next_if_eq(&'"').is_some() => part.push('"'),
                '"' => is_quoted = !is_quoted,
                '$' => part.push_str("\\$"),
                '.' if !is_quoted => parts.push(String::new()),
                '*' if !is_quoted => part.push_str(".*"),
                '?' if !is_quoted => part.push('.'),
                '[' if !is_quoted && chars.peek() == Some(&']') => part.push_str("\\["),
                _ if is_quoted && "|*+?()[]{}.^\\".contains(c) => part.extend(['\\', c]),
                _ if is_quoted => part.push(c),
                _ => part.push(c.to_ascii_lowercase()),
            }
        }
        let whole = |part: &String| format!("^({part})$");
        match parts.as_slice() {
            _ if is_quoted => None,
            [name] => Some(Self { schema: None, name: whole(name) }),
            [schema, name] => Some(Self { schema: Some(whole(schema)), name: whole(name) }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_psql() {
        let read = |pattern: &str| {
            Pattern::read(pattern).map(|pattern| match pattern.schema {
                Some(schema) => format!("{schema} {}", pattern.name),
                None => pattern.name,
            })
        };
        for (pattern, regex) in [
            ("users", "^(users)$"),
            ("Users", "^(users)$"),
            ("\"Users\"", "^(Users)$"),
            ("a*.b?c", "^(a.*)$ ^(b.c)$"),
            ("\"a.b\".\"c*\"", "^(a\\.b)$ ^(c\\*)$"),
            ("a\"\"\"\"", "^(a\")$"),
            ("log_[0-9]+|old", "^(log_[0-9]+|old)$"),
            ("int[]", "^(int\\[])$"),
            ("cash$", "^(cash\\$)$"),
            ("\"c$|\"", "^(c\\$\\|)$"),
        ] {
            assert_eq!(read(pattern).as_deref(), Some(regex), "{pattern}");
        }
        assert_eq!(read("db.schema.table"), None);
        assert_eq!(read("\"open"), None);
    }

    #[test]
    fn what_is_taken() {
        let set = |oids: &[u32]| oids.iter().copied().collect::<BTreeSet<u32>>();
        let of = |oid, schema| Relation { oid, schema, is_configuration: false };
        let configuration = |oid, schema| Relation { oid, schema, is_configuration: true };
        let all = Picked { excluded: set(&[2]), ..Picked::default() };
        assert!(all.takes(of(1, 9)) && !all.takes(of(2, 9)) && all.takes(configuration(1, 9)));
        assert!(!all.takes(configuration(2, 9)) && all.takes_everything());
        let schema = Picked { schemas: Some(set(&[9])), ..all.clone() };
        assert!(schema.takes(of(1, 9)) && !schema.takes(of(1, 8)) && !schema.takes(of(2, 9)));
        assert!(schema.takes(configuration(1, 9)) && !schema.takes(configuration(1, 8)));
        let table = Picked { tables: Some(set(&[1, 2])), ..schema };
        assert!(table.takes(of(1, 8)) && !table.takes(of(3, 9)) && !table.takes(of(2, 9)));
        assert!(table.takes(configuration(1, 8)) && !table.takes(configuration(3, 9)));
    }
}
