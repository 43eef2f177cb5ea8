//! One session that reads units under the snapshot of the dump.

use super::inventory::Inventory;
use super::shelves::{Piece, Shelves};
use super::text;
use super::units::Unit;
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::exchange::own;
use crate::sys::postgres::fingerprint::{Fingerprint, RowHasher};
use crate::sys::stream::{BLOCK, Block, Kind};
use std::sync::Arc;

/// Bytes of a large object that one statement writes, as in dumps of `pg_dump` (`LOBBUFSIZE`).
const OBJECT_PIECE: usize = 16 << 10;
/// Bytes of a large object that one question asks for.
const OBJECT_READ: usize = 16 * OBJECT_PIECE;

/// Reads units until there are none left.
pub(super) fn read(
    session: &Session,
    inventory: &Inventory,
    units: &[Unit],
    shelves: &Shelves,
) -> Result<(), Failure> {
    while let Some(number) = shelves.claim()? {
        let mut shelf = Shelf { number, shelves, kind: Kind::Schema, table: None, block: shelves.buffer() };
        let rows = match &units[number] {
            Unit::Rows { table, sql, first, last } => {
                let table = &inventory.tables[*table];
                shelf.kind = Kind::Rows;
                shelf.table = Some(Arc::from(table.qualified.as_str()));
                if *first {
                    shelf.block.extend_from_slice(text::copy(table).as_bytes());
                }
                let rows = rows(session, &table.qualified, sql, &mut shelf)?;
                if *last {
                    shelf.block.extend_from_slice(text::END_OF_ROWS);
                }
                rows
            }
            Unit::Objects(from, to) => {
                objects(session, *from, *to, &mut shelf)?;
                Fingerprint::default()
            }
        };
        shelf.push()?;
        shelves.put(number, Piece::End(rows))?;
    }
    // What broke without a word shows here at the latest.
    session.run("COMMIT")
}

/// Where the pieces of one unit go.
struct Shelf<'a> {
    number: usize,
    shelves: &'a Shelves,
    kind: Kind,
    table: Option<Arc<str>>,
    block: Vec<u8>,
}

impl Shelf<'_> {
    fn push(&mut self) -> Result<(), Failure> {
        if self.block.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.block, self.shelves.buffer());
        let block = Block { kind: self.kind, table: self.table.clone(), bytes };
        self.shelves.put(self.number, Piece::Block(block))
    }

    /// Appends whole rows or statements.
    fn add(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.block.len() + bytes.len() > BLOCK && !self.block.is_empty() {
            self.push()?;
        }
        self.block.extend_from_slice(bytes);
        Ok(())
    }
}

fn rows(session: &Session, name: &str, sql: &str, shelf: &mut Shelf<'_>) -> Result<Fingerprint, Failure> {
    let mut hasher = RowHasher::new();
    // The server sends whole rows; what is no whole row is put together all the same.
    let mut begun = Vec::new();
    let answer = session.copy_out_while(sql, &mut |bytes| {
        hasher.feed(bytes);
        if begun.is_empty() && bytes.ends_with(b"\n") {
            return shelf.add(bytes);
        }
        begun.extend_from_slice(bytes);
        if begun.ends_with(b"\n") {
            shelf.add(&begun)?;
            begun.clear();
        }
        Ok(())
    })?;
    if let Err(refused) = answer {
        return Err(own(&refused, format!("table {name} cannot be read")));
    }
    match hasher.end() {
        (rows, true) => Ok(rows),
        (_, false) => Err(Failure::new(Code::Query, format!("table {name} cannot be read"))
            .caused_by("the server ended its rows in the midst of one")),
    }
}

/// Reads large objects: the beginning of each by one query for all, and the rest of those that are longer.
fn objects(session: &Session, from: u32, to: u32, shelf: &mut Shelf<'_>) -> Result<(), Failure> {
    let found = session.rows(&format!(
        "SELECT oid, encode(lo_get(oid, 0, {OBJECT_PIECE}), 'hex') FROM pg_catalog.pg_largeobject_metadata \
         WHERE oid BETWEEN {from} AND {to} ORDER BY oid"
    ));
    let found = found.map_err(|failure| Failure {
        message: format!("the large objects from {from} to {to} cannot be read"),
        ..failure
    })?;
    for row in &found.rows {
        let (Some(oid), Some(hex)) = (row[0].as_deref().and_then(|oid| oid.parse().ok()), &row[1]) else {
            return Err(Failure::new(Code::Query, "the server does not tell which large object it sends"));
        };
        object(session, oid, hex, shelf)?;
    }
    Ok(())
}

fn object(session: &Session, oid: u32, beginning: &str, shelf: &mut Shelf<'_>) -> Result<(), Failure> {
    shelf.add(text::open_object(oid).as_bytes())?;
    if !beginning.is_empty() {
        shelf.add(text::write_object(beginning).as_bytes())?;
    }
    let mut offset = OBJECT_PIECE;
    let mut more = beginning.len() == 2 * OBJECT_PIECE;
    while more {
        let row = session.one(&format!("SELECT encode(lo_get({oid}, {offset}, {OBJECT_READ}), 'hex')"))?;
        let hex = row.into_iter().next().flatten().unwrap_or_default();
        let mut rest = hex.as_str();
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(rest.len().min(2 * OBJECT_PIECE));
            shelf.add(text::write_object(piece).as_bytes())?;
            rest = next;
        }
        more = hex.len() == 2 * OBJECT_READ;
        offset += OBJECT_READ;
    }
    shelf.add(text::CLOSE_OBJECT)
}
