//! The text of a dump around its rows, as `pg_dump` writes it.

use super::inventory::{Sequence, Table};

/// The comment that stands before each entry. A line break in a name must not end the comment (CVE-2025-8715).
fn entry(what: &str, name: &str, kind: &str, schema: &str, owner: &str) -> String {
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    let (name, schema, owner) = (line(name), line(schema), line(owner));
    format!("--\n-- {what}: {name}; Type: {kind}; Schema: {schema}; Owner: {owner}\n--\n\n")
}

/// What stands before the rows of a table.
pub(super) fn table(table: &Table) -> String {
    entry("Data for Name", &table.name, "TABLE DATA", &table.schema, &table.owner)
}

/// The statement that the rows of a table follow.
pub(super) fn copy(table: &Table) -> String {
    let columns = list(&table.columns);
    format!("COPY {} {columns} FROM stdin;\n", table.qualified)
}

/// Columns in parentheses; nothing for a table without any.
pub(super) fn list(columns: &[String]) -> String {
    if columns.is_empty() { String::new() } else { format!("({})", columns.join(", ")) }
}

/// What ends the rows of a table.
pub(super) const END_OF_ROWS: &[u8] = b"\\.\n";

/// What stands behind each entry.
pub(super) const GAP: &[u8] = b"\n\n";

/// The statement that gives a sequence its position.
pub(super) fn sequence(sequence: &Sequence, last_value: &str, is_called: bool) -> String {
    let Sequence { schema, name, qualified, owner } = sequence;
    let head = entry("Name", name, "SEQUENCE SET", schema, owner);
    let qualified = qualified.replace('\'', "''");
    format!("{head}SELECT pg_catalog.setval('{qualified}', {last_value}, {is_called});\n\n\n")
}

/// What stands before the content of all large objects.
pub(super) fn objects() -> String {
    entry("Data for Name", "BLOBS", "BLOBS", "-", "-") + "BEGIN;\n\n"
}

/// What ends the content of all large objects.
pub(super) const END_OF_OBJECTS: &[u8] = b"COMMIT;\n\n";

/// What opens a large object for writing; `INV_WRITE` is 131072.
pub(super) fn open_object(oid: u32) -> String {
    format!("SELECT pg_catalog.lo_open('{oid}', 131072);\n")
}

/// What writes the next bytes, given in hex.
pub(super) fn write_object(hex: &str) -> String {
    format!("SELECT pg_catalog.lowrite(0, '\\x{hex}');\n")
}

/// What closes a large object.
pub(super) const CLOSE_OBJECT: &[u8] = b"SELECT pg_catalog.lo_close(0);\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_in_names_do_not_leave_the_comment() {
        let odd = Table {
            schema: "a\nb".into(),
            name: "c\r\nd".into(),
            owner: "e\n\\! f".into(),
            ..Table::default()
        };
        assert_eq!(
            table(&odd),
            "--\n-- Data for Name: c  d; Type: TABLE DATA; Schema: a b; Owner: e \\! f\n--\n\n"
        );
    }

    #[test]
    fn names_of_sequences_are_literals() {
        let odd = Sequence { qualified: "s.\"it's\\\"".into(), ..Sequence::default() };
        assert!(
            sequence(&odd, "-3", false)
                .ends_with("\nSELECT pg_catalog.setval('s.\"it''s\\\"', -3, false);\n\n\n")
        );
    }
}
