//! What of a database goes into a dump beside its definitions: tables with rows, sequences, large objects.
//!
//! The same as `pg_dump` takes (`selectDumpableTable`, `makeTableDataInfo` and `processExtensionTables` in its sources): no
//! system schemas, no members of extensions except the tables that an extension declares as its configuration, rows of
//! ordinary tables only (those of a partitioned table are in its partitions, foreign ones elsewhere), and on a standby no
//! rows of unlogged tables, which are not there.

use super::selection::{Relation, Selection};
use super::trouble::Trouble;
use crate::base::failure::Failure;
use crate::sys::postgres::catalog::{text, value};
use crate::sys::postgres::connection::Session;
use std::collections::{BTreeMap, BTreeSet};

/// Relations whose definition or rows are dumped, as `c` in `n`, and what extensions say about them, as `e`.
const RELATIONS: &str = "\
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_catalog.pg_extension) e ON e.oid = c.oid
WHERE (e.oid IS NOT NULL OR n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))";

/// A relation that is locked, and seen, under one name and one identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lockable {
    /// The schema's and the table's name, quoted where they must be.
    pub(super) name: String,
    /// What the server calls it.
    pub(super) oid: u32,
}

/// The tables that must not be dropped, truncated or rewritten while they are dumped. Asks catalogs alone, so that it
/// never waits for a lock.
pub(super) fn lockable(session: &Session, selection: &Selection<'_>) -> Result<BTreeSet<Lockable>, Trouble> {
    let picked = selection.pick(session)?;
    let found = session.rows(&format!(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.oid, n.oid, e.oid IS NOT NULL \
         {RELATIONS} AND c.relkind IN ('r', 'p')"
    ))?;
    let rows = found.rows.iter().filter(|row| picked.takes(relation(row, 1)));
    Ok(rows.map(|row| Lockable { name: text(row, 0), oid: oid(row, 1) }).collect())
}

/// The relation that a row tells of: its identity, that of its schema, and whether it is an extension's configuration.
fn relation(row: &[Option<String>], at: usize) -> Relation {
    Relation { oid: oid(row, at), schema: oid(row, at + 1), is_configuration: text(row, at + 2) == "t" }
}

fn oid(row: &[Option<String>], at: usize) -> u32 {
    text(row, at).parse().unwrap_or_default()
}

/// A table whose rows are dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Its schema's name as it is.
    pub(super) schema: String,
    /// Its name as it is.
    pub(super) name: String,
    /// Both as SQL.
    pub(super) qualified: String,
    /// The columns that are dumped, as SQL.
    pub(super) columns: Vec<String>,
    /// Its owner's name.
    pub(super) owner: String,
    /// Its blocks on the disk, if rows can be asked for by block.
    pub(super) blocks: Option<u64>,
    /// For the configuration of an extension: which rows are dumped, as `WHERE ...`.
    pub(super) condition: Option<String>,
    pub(super) oid: u32,
}

/// A sequence whose position is dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) qualified: String,
    pub(super) owner: String,
}

/// What is dumped beside definitions, in the order of the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    pub(super) tables: Vec<Table>,
    pub(super) sequences: Vec<Sequence>,
    /// The identifiers of large objects, rising.
    pub(super) objects: Vec<u32>,
    /// The encoding of the database, which is the encoding of its dump.
    pub(super) encoding: String,
    /// A partition that only the hash of an enum leads to.
    pub(super) hashed_enum: Option<String>,
}

/// Takes the inventory in the session's transaction.
pub(super) fn take(session: &Session, selection: &Selection<'_>) -> Result<Inventory, Trouble> {
    let picked = selection.pick(session)?;
    let row = session.one(
        "SELECT pg_encoding_to_char(encoding), pg_is_in_recovery() FROM pg_catalog.pg_database WHERE datname = current_database()",
    )?;
    let (encoding, is_standby) = (text(&row, 0), text(&row, 1) == "t");
    // The block of a row can be asked for since 14, and means something in heap tables.
    let by_block = session.version().major() >= 14;
    let found = session.rows(&format!(
        "SELECT c.relkind, c.oid, n.oid, e.oid IS NOT NULL, n.nspname, c.relname, \
         quote_ident(n.nspname) || '.' || quote_ident(c.relname), pg_get_userbyid(c.relowner), e.condition, \
         CASE WHEN c.relkind = 'r' AND {by_block} AND (SELECT amname FROM pg_catalog.pg_am a WHERE a.oid = c.relam) = 'heap' \
         THEN pg_relation_size(c.oid) / current_setting('block_size')::int END, c.relpersistence = 'u' \
         {RELATIONS} AND c.relkind IN ('r', 'p', 'f', 'S')"
    ))?;
    let (sequences, tables): (Vec<_>, Vec<_>) = found.rows.iter().partition(|row| text(row, 0) == "S");
    let taken: BTreeSet<u32> = tables
        .iter()
        .map(|row| relation(row, 1))
        .filter(|table| picked.takes(*table))
        .map(|table| table.oid)
        .collect();
    let has_rows =
        |row: &[Option<String>]| picked.takes_rows(oid(row, 1)) && !(is_standby && text(row, 10) == "t");
    let mut inventory = Inventory { encoding, ..Inventory::default() };
    let mut columns = columns(session)?;
    for row in tables {
        if text(row, 0) == "r" && taken.contains(&oid(row, 1)) && has_rows(row) {
            inventory.tables.push(Table {
                schema: text(row, 4),
                name: text(row, 5),
                qualified: text(row, 6),
                owner: text(row, 7),
                columns: columns.remove(&oid(row, 1)).unwrap_or_default(),
                blocks: value(row, 9).and_then(|blocks| blocks.parse().ok()),
                condition: value(row, 8).filter(|condition| !condition.is_empty()),
                oid: oid(row, 1),
            });
        }
    }
    let owners = owners(session)?;
    for row in sequences {
        let is_taken = match owners.get(&oid(row, 1)) {
            Some((table, _)) if taken.contains(table) => true,
            Some((_, true)) => false,
            _ => picked.takes(relation(row, 1)),
        };
        if is_taken && has_rows(row) {
            inventory.sequences.push(Sequence {
                schema: text(row, 4),
                name: text(row, 5),
                qualified: text(row, 6),
                owner: text(row, 7),
            });
        }
    }
    inventory.hashed_enum = hashed_enum(session, &inventory.tables)?;
    // As `pg_dump` sorts them: by the bytes of their names.
    inventory.tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    inventory.sequences.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    referenced_first(session, &mut inventory.tables)?;
    if picked.takes_everything() {
        let objects = session.rows("SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid")?;
        inventory.objects = objects.rows.iter().filter_map(|row| text(row, 0).parse().ok()).collect();
    }
    Ok(inventory)
}

/// A partition that only the hash of an enum leads to. Which one that is differs in each database, since the values of enums are
/// numbered anew: `pg_dump` has such rows go through the partitioned table (`getPartitioningInfo` of PostgreSQL 15.3 and later), and so only it can
/// write them.
fn hashed_enum(session: &Session, tables: &[Table]) -> Result<Option<String>, Failure> {
    let found = session.rows(
        "WITH RECURSIVE below(oid) AS (SELECT partrelid FROM pg_catalog.pg_partitioned_table WHERE \
         (SELECT o.oid FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod WHERE o.opcname = 'enum_ops' \
         AND o.opcnamespace = 'pg_catalog'::regnamespace AND a.amname = 'hash') = ANY (partclass) \
         UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON b.oid = i.inhparent) SELECT oid FROM below",
    )?;
    let below: BTreeSet<u32> = found.rows.iter().map(|row| oid(row, 0)).collect();
    Ok(tables.iter().find(|table| below.contains(&table.oid)).map(|table| table.qualified.clone()))
}

/// The tables that sequences belong to, and whether as an identity column, without which there is no such sequence.
fn owners(session: &Session) -> Result<BTreeMap<u32, (u32, bool)>, Failure> {
    let found = session.rows(
        "SELECT d.objid, d.refobjid, d.deptype = 'i' FROM pg_catalog.pg_depend d \
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
         AND d.objsubid = 0 AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')",
    )?;
    Ok(found.rows.iter().map(|row| (oid(row, 0), (oid(row, 1), text(row, 2) == "t"))).collect())
}

/// The columns of every table that a dump writes: neither dropped nor generated ones.
fn columns(session: &Session) -> Result<BTreeMap<u32, Vec<String>>, Failure> {
    let found = session.rows(&format!(
        "SELECT a.attrelid, quote_ident(a.attname) FROM pg_catalog.pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped \
         AND a.attgenerated = '' AND a.attrelid IN (SELECT c.oid {RELATIONS} AND c.relkind = 'r') ORDER BY a.attrelid, a.attnum"
    ))?;
    let mut columns: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for row in &found.rows {
        columns.entry(oid(row, 0)).or_default().push(text(row, 1));
    }
    Ok(columns)
}

/// Puts configuration tables of extensions behind those that they refer to: their foreign keys are there before the rows.
fn referenced_first(session: &Session, tables: &mut [Table]) -> Result<(), Failure> {
    let found = session.rows(
        "SELECT DISTINCT k.conrelid, k.confrelid FROM pg_catalog.pg_constraint k \
         WHERE k.contype = 'f' AND k.conrelid <> k.confrelid \
         AND k.conrelid IN (SELECT unnest(extconfig) FROM pg_catalog.pg_extension) \
         AND k.confrelid IN (SELECT unnest(extconfig) FROM pg_catalog.pg_extension)",
    )?;
    let keys: Vec<(u32, u32)> = found
        .rows
        .iter()
        .filter_map(|row| Some((text(row, 0).parse().ok()?, text(row, 1).parse().ok()?)))
        .collect();
    // Each round settles one more table of a chain; a cycle of keys cannot be loaded in any order, and ends it too.
    for _ in 0..keys.len() {
        let place = |oid: u32| tables.iter().position(|table| table.oid == oid);
        let wrong =
            keys.iter().find_map(|(from, to)| Some((place(*from)?, place(*to)?)).filter(|(a, b)| a < b));
        let Some((from, to)) = wrong else { break };
        tables[from..=to].rotate_right(1);
    }
    Ok(())
}

impl Inventory {
    /// A name that the session could read and the dump, in the database's own encoding, cannot hold as it was read.
    pub(super) fn unwritable(&self) -> Option<&str> {
        if matches!(self.encoding.as_str(), "UTF8" | "SQL_ASCII") {
            return None;
        }
        let tables = self.tables.iter().flat_map(|table| {
            let columns = table.columns.iter().chain(&table.condition);
            [&table.qualified, &table.owner].into_iter().chain(columns)
        });
        let sequences = self.sequences.iter().flat_map(|sequence| [&sequence.qualified, &sequence.owner]);
        tables.chain(sequences).find(|name| !name.is_ascii()).map(String::as_str)
    }
}
