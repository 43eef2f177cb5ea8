//! Rows of tables whose names are no UTF-8.

use super::Loader;
use crate::sys::postgres::quote::ident;

impl Loader<'_> {
    /// For a COPY whose names are no UTF-8, as in SQL_ASCII databases: names to use meanwhile, and the statements that give and
    /// take them. COPY cannot be executed from bytes.
    #[expect(clippy::type_complexity, reason = "one place makes it, one place takes it apart")]
    pub(super) fn renamed(&self, text: &[u8]) -> Option<(String, Vec<String>, Vec<Vec<u8>>, Vec<Vec<u8>>)> {
        let plain = matches!(self.done.encoding.to_ascii_uppercase().as_str(), "UTF8" | "SQL_ASCII");
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok() && (plain || bytes.is_ascii());
        if is_text(text) {
            return None;
        }
        let names = crate::sys::postgres::copy_head::raw_names(text)?;
        let (mut there, mut back, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        let last = names.table.len() - 1;
        let schema = &names.table[..last];
        let mut table = names.table[last].clone();
        let joined = |name: &[u8]| {
            let mut whole = Vec::new();
            for part in schema {
                whole.extend_from_slice(part);
                whole.push(b'.');
            }
            whole.extend_from_slice(name);
            whole
        };
        let statement = |parts: &[&[u8]]| parts.concat();
        if !is_text(&table) {
            let other = ident("lifeboat copies").into_bytes();
            there.push(statement(&[b"ALTER TABLE ", &joined(&table), b" RENAME TO ", &other]));
            back.push(statement(&[b"ALTER TABLE ", &joined(&other), b" RENAME TO ", &table]));
            table = other;
        }
        for (number, column) in names.columns.iter().enumerate() {
            if is_text(column) {
                columns.push(String::from_utf8_lossy(column).into_owned());
                continue;
            }
            let other = ident(&format!("lifeboat {number}"));
            let rename: &[u8] = b" RENAME COLUMN ";
            there.push(statement(&[
                b"ALTER TABLE ",
                &joined(&table),
                rename,
                column,
                b" TO ",
                other.as_bytes(),
            ]));
            back.insert(
                0,
                statement(&[b"ALTER TABLE ", &joined(&table), rename, other.as_bytes(), b" TO ", column]),
            );
            columns.push(other);
        }
        let whole = joined(&table);
        // A schema's name stays as it is: nothing is to be done for one that is no UTF-8.
        let whole = String::from_utf8(whole).ok()?;
        Some((whole, columns, there, back))
    }
}
