//! The rows of a dump, cut into pieces of work that several sessions read at once.

use super::inventory::{Inventory, Table};
use super::text;
use crate::sys::postgres::quote::literal;

/// Blocks of a table that are read as one piece: 2 MiB of the usual ones. What is read before its turn waits in memory,
/// and one question to the server costs nothing beside so many rows.
const BLOCKS: u64 = 256;
/// Large objects that are read as one piece.
const OBJECTS: usize = 64;

/// A piece of work; in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Rows of a table.
    Rows {
        /// Which of the inventory's tables.
        table: usize,
        /// The query that gives them.
        sql: String,
        /// Whether they are the table's first ones.
        first: bool,
        /// Whether they are the table's last ones.
        last: bool,
    },
    /// Large objects from one identifier to another, both included.
    Objects(u32, u32),
}

/// Cuts the inventory into units.
pub(super) fn cut(inventory: &Inventory) -> Vec<Unit> {
    let mut units = Vec::new();
    for (number, table) in inventory.tables.iter().enumerate() {
        let ranges = ranges(table);
        let count = ranges.len();
        units.extend(ranges.into_iter().enumerate().map(|(at, range)| Unit::Rows {
            table: number,
            sql: sql(table, range, &inventory.encoding),
            first: at == 0,
            last: at + 1 == count,
        }));
    }
    units.extend(
        inventory.objects.chunks(OBJECTS).map(|chunk| Unit::Objects(chunk[0], chunk[chunk.len() - 1])),
    );
    units
}

/// Where a part of a table begins and ends, in blocks; without an end it goes to the last one there is by then.
type Range = Option<(u64, Option<u64>)>;

/// Whether a table is read in parts.
pub(super) fn is_cut(table: &Table) -> bool {
    table.blocks.is_some_and(|blocks| blocks >= BLOCKS + BLOCKS / 2)
        && table.condition.is_none()
        && !table.columns.is_empty()
}

fn ranges(table: &Table) -> Vec<Range> {
    let Some(blocks) = table.blocks.filter(|_| is_cut(table)) else { return vec![None] };
    let parts = blocks.div_ceil(BLOCKS);
    (0..parts).map(|part| Some((part * BLOCKS, (part + 1 < parts).then(|| (part + 1) * BLOCKS)))).collect()
}

/// `FROM ONLY`, since a query would add the rows of tables that inherit, which the plain form of COPY leaves out.
fn sql(table: &Table, range: Range, encoding: &str) -> String {
    let name = &table.qualified;
    let columns = table.columns.join(", ");
    let what = match (range, &table.condition) {
        (Some((from, to)), _) => {
            let to = to.map(|to| format!(" AND ctid < '({to},0)'")).unwrap_or_default();
            format!("(SELECT {columns} FROM ONLY {name} WHERE ctid >= '({from},0)'{to})")
        }
        (None, Some(condition)) => format!("(SELECT {columns} FROM ONLY {name} {condition})"),
        (None, None) => format!("{name} {}", text::list(&table.columns)),
    };
    format!("COPY {what} TO stdout WITH (ENCODING {})", literal(encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(blocks: Option<u64>) -> Table {
        Table {
            qualified: "s.t".into(),
            columns: vec!["a".into(), "\"b c\"".into()],
            blocks,
            ..Table::default()
        }
    }

    fn queries(table: Table) -> Vec<String> {
        let inventory = Inventory { tables: vec![table], encoding: "UTF8".into(), ..Inventory::default() };
        let units = cut(&inventory).into_iter().map(|unit| match unit {
            Unit::Rows { sql, first, last, .. } => {
                let what =
                    sql.trim_start_matches("COPY ").trim_end_matches(" TO stdout WITH (ENCODING 'UTF8')");
                format!("{}{what}{}", if first { "[" } else { "" }, if last { "]" } else { "" })
            }
            Unit::Objects(..) => panic!("there are no large objects"),
        });
        units.collect()
    }

    #[test]
    fn large_tables_are_cut_by_block_and_the_last_part_is_open() {
        assert_eq!(queries(table(Some(383))), ["[s.t (a, \"b c\")]"]);
        assert_eq!(
            queries(table(Some(550))),
            [
                "[(SELECT a, \"b c\" FROM ONLY s.t WHERE ctid >= '(0,0)' AND ctid < '(256,0)')",
                "(SELECT a, \"b c\" FROM ONLY s.t WHERE ctid >= '(256,0)' AND ctid < '(512,0)')",
                "(SELECT a, \"b c\" FROM ONLY s.t WHERE ctid >= '(512,0)')]",
            ]
        );
    }

    #[test]
    fn some_tables_are_never_cut() {
        assert_eq!(queries(table(None)), ["[s.t (a, \"b c\")]"]);
        let nothing = Table { columns: Vec::new(), ..table(Some(1_000_000)) };
        assert_eq!(queries(nothing), ["[s.t ]"]);
        let some = Table { condition: Some("WHERE a > 1".into()), ..table(Some(1_000_000)) };
        assert_eq!(queries(some), ["[(SELECT a, \"b c\" FROM ONLY s.t WHERE a > 1)]"]);
    }

    #[test]
    fn large_objects_come_last() {
        let inventory = Inventory {
            tables: vec![table(None)],
            objects: (1..=130).map(|n| n * 10).collect(),
            ..Inventory::default()
        };
        assert_eq!(
            cut(&inventory)[1..],
            [Unit::Objects(10, 640), Unit::Objects(650, 1280), Unit::Objects(1290, 1300)]
        );
    }
}
