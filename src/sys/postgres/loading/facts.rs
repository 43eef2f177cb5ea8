//! What the catalog of a database says that was made and not yet filled, as far as the order of a load depends on it.

use crate::base::failure::Failure;
use crate::sys::postgres::catalog::text;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::quote::literal;
use std::collections::{BTreeMap, BTreeSet};

/// A table that is to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its OID.
    pub oid: u32,
    /// Whether it is empty and of nobody else, so that it may be emptied before it is filled.
    pub freeze: bool,
    /// Whether its rows may need those of others: it has triggers, as foreign keys are (the tables of extensions have them before
    /// their rows), or a constraint that calls a function that the dump has brought along.
    pub late: bool,
    /// Whether it is analyzed for itself, and not through its parent or together with its children.
    pub alone: bool,
    /// Whether it is a partitioned table, whose rows go to its partitions.
    pub partitioned: bool,
}

/// Functions and operators that the dump has brought along, directly or through an extension.
const OWN_CODE: &str =
    "d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384";

/// Looks at tables by their names in the dump; `None` for what is no table that rows can be put into.
pub fn tables(session: &Session, names: &[&str]) -> Result<Vec<Option<Found>>, Failure> {
    let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let found = session.rows(&format!(
        "WITH code AS MATERIALIZED (SELECT d.classid, d.objid FROM pg_depend d WHERE {OWN_CODE}), \
         late AS MATERIALIZED ( \
           SELECT c.conrelid AS oid, c.contypid <> 0 AS is_all FROM code JOIN pg_constraint c ON c.oid = code.objid \
             AND code.classid = 'pg_constraint'::regclass \
           UNION SELECT a.adrelid, false FROM code JOIN pg_attrdef a ON a.oid = code.objid AND code.classid = 'pg_attrdef'::regclass \
             JOIN pg_attribute t ON t.attrelid = a.adrelid AND t.attnum = a.adnum AND t.attgenerated <> '' \
           UNION SELECT code.objid, true FROM code JOIN pg_class p ON p.oid = code.objid AND p.relkind = 'p' \
             AND code.classid = 'pg_class'::regclass), \
         few AS MATERIALIZED (SELECT EXISTS (SELECT FROM late WHERE is_all) AS is_all), \
         members AS MATERIALIZED (SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e') \
         SELECT c.oid, c.relkind = 'r' AND NOT c.relhastriggers AND pg_relation_size(c.oid) = 0 \
           AND NOT EXISTS (SELECT FROM members m WHERE m.objid = c.oid) \
           AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid = c.oid), \
         few.is_all OR c.relhastriggers OR EXISTS (SELECT FROM late WHERE late.oid = c.oid), \
         c.relkind = 'r' AND NOT c.relispartition AND NOT c.relhassubclass, c.relkind = 'p' \
         FROM unnest(ARRAY[{}]::text[]) WITH ORDINALITY n(name, number) \
         CROSS JOIN few LEFT JOIN pg_class c ON c.oid = to_regclass(n.name) ORDER BY n.number",
        names.join(", ")
    ))?;
    let of = |row: &Vec<Option<String>>| {
        let is = |at: usize| text(row, at) == "t";
        let oid = text(row, 0).parse().ok()?;
        Some(Found { oid, freeze: is(1), late: is(2), alone: is(3), partitioned: is(4) })
    };
    Ok(found.rows.iter().map(of).collect())
}

/// Bytes of tables, by their OIDs.
pub fn sizes(session: &Session, oids: impl Iterator<Item = u32>) -> Result<BTreeMap<u32, u64>, Failure> {
    let oids: Vec<String> = oids.map(|oid| oid.to_string()).collect();
    let found = session.rows(&format!(
        "SELECT oid, pg_table_size(oid) FROM pg_class WHERE oid = ANY (ARRAY[{}]::oid[])",
        oids.join(", ")
    ))?;
    Ok(found
        .rows
        .iter()
        .filter_map(|row| Some((text(row, 0).parse().ok()?, text(row, 1).parse().ok()?)))
        .collect())
}

/// Whether the query of any view uses functions that the dump has brought along, or types, which can bring some: all but
/// enums and their arrays, which the server itself compares and prints.
pub fn views_run_code(session: &Session) -> Result<bool, Failure> {
    let found = session.one(&format!(
        "SELECT EXISTS (SELECT FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid LEFT JOIN pg_type t \
         ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid LEFT JOIN pg_type e ON e.typarray = t.oid \
         WHERE d.classid = 'pg_rewrite'::regclass AND ({OWN_CODE} \
         OR t.oid >= 16384 AND t.typtype <> 'e' AND e.typtype IS DISTINCT FROM 'e'))"
    ))?;
    Ok(text(&found, 0) == "t")
}

/// Which of these types are enums that nothing but the server converts to and from.
pub fn enums(session: &Session, types: &BTreeSet<&str>) -> Result<BTreeSet<String>, Failure> {
    if types.is_empty() {
        return Ok(BTreeSet::new());
    }
    let names: Vec<String> = types.iter().map(|name| literal(name)).collect();
    let found = session.rows(&format!(
        "SELECT n.name FROM unnest(ARRAY[{}]::text[]) n(name) JOIN pg_type t ON t.oid = to_regtype(n.name) AND t.typtype = 'e' \
         WHERE NOT EXISTS (SELECT FROM pg_cast c WHERE t.oid IN (c.castsource, c.casttarget))",
        names.join(", ")
    ))?;
    Ok(found.rows.iter().map(|row| text(row, 0)).collect())
}

/// The names of all that is analyzed beside the tables with these OIDs, as the server writes them. The catalog's own tables are
/// left to the server, which does it in a minute.
pub fn unanalyzed(session: &Session, done: &[u32]) -> Result<Vec<String>, Failure> {
    let done: Vec<String> = done.iter().map(u32::to_string).collect();
    let found = session.rows(&format!(
        "SELECT c.oid::regclass FROM pg_class c WHERE c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition \
         AND c.relpersistence <> 't' AND c.oid >= 16384 \
         AND NOT EXISTS (SELECT FROM unnest(ARRAY[{}]::oid[]) done(oid) WHERE done.oid = c.oid) ORDER BY c.oid",
        done.join(", ")
    ))?;
    Ok(found.rows.iter().map(|row| text(row, 0)).collect())
}
