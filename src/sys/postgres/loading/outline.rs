//! What a dump holds, learnt while it is verified: one of another tool can only be loaded from its beginning to its end, but who
//! knows what stands behind its rows need not wait for them all.

use super::kind::{Kind, Place, place};
use crate::sys::postgres::context::Context;
use crate::sys::postgres::load::Deferred;
use crate::sys::postgres::rules::rule;
use crate::sys::postgres::scan::Segment;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many bytes of statements are kept at most.
const MOST: usize = 16 << 20;

/// The order of a dump whose rows stand together, and all that is made of them behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Bytes before the first rows.
    pub before: u64,
    /// Bytes before what is made of the rows.
    pub until: u64,
    /// The tables, as their rows follow each other, and how many bytes these have.
    pub tables: Vec<(String, u64)>,
    /// What is made of the rows.
    pub statements: Vec<Deferred>,
}

/// Learns it from the segments of a dump as they pass.
#[derive(Debug, Default)]
pub struct OutlineReader {
    at: u64,
    before: Option<u64>,
    until: Option<u64>,
    tables: Vec<(String, u64)>,
    names: BTreeSet<String>,
    statements: Vec<Deferred>,
    context: Arc<Context>,
    kept: usize,
    /// Something was found that needs the order of the dump.
    is_bound: bool,
}

impl OutlineReader {
    /// Takes the next segment.
    pub fn observe(&mut self, segment: &Segment<'_>) {
        let begin = self.at;
        let length = segment.bytes().len() as u64;
        self.at += length;
        match *segment {
            _ if self.is_bound => {}
            Segment::CopyBegin { head, .. } => {
                self.before.get_or_insert(begin);
                if self.until.is_some() || !self.names.insert(head.table.clone()) {
                    return self.give_up();
                }
                self.tables.push((head.table.clone(), 0));
            }
            Segment::Rows(_) => self.add(length),
            Segment::Statement { text, line } => self.statement(text, line, begin),
            Segment::Meta { restrict: false, .. } => self.give_up(),
            _ => {}
        }
    }

    /// Takes so many bytes of rows, in place of their segment.
    pub fn skip_rows(&mut self, length: usize) {
        self.at += length as u64;
        self.add(length as u64);
    }

    fn add(&mut self, length: u64) {
        if let Some((_, size)) = self.tables.last_mut() {
            *size += length;
        }
    }

    fn give_up(&mut self) {
        *self = Self { is_bound: true, ..Self::default() };
    }

    /// Keeps what a loader keeps for later, too.
    fn statement(&mut self, text: &[u8], line: u64, begin: u64) {
        if let Some(context) = self.context.after(&rule(text), text, line) {
            self.context = Arc::new(context);
        }
        if self.before.is_none() {
            return;
        }
        let kind = match place(text) {
            Place::Setting => return,
            Place::Data | Place::Transaction if self.until.is_none() => return,
            Place::Transaction | Place::Session => return self.give_up(),
            Place::Data => Kind::Light,
            Place::Made(kind) => kind,
        };
        self.kept += text.len() + size_of::<Deferred>();
        if self.kept > MOST {
            return self.give_up();
        }
        self.until.get_or_insert(begin);
        let context = self.context.clone();
        self.statements.push(Deferred { text: text.to_vec(), line, context, kind });
    }

    /// What was learnt; `None` if the dump must be carried out in its own order.
    pub fn end(self) -> Option<Outline> {
        if self.is_bound {
            return None;
        }
        let until = self.until.unwrap_or(self.at);
        Some(Outline { before: self.before?, until, tables: self.tables, statements: self.statements })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::postgres::scan::Scanner;

    fn outline(dump: &str) -> Option<Outline> {
        let (mut scanner, mut reader) = (Scanner::new(), OutlineReader::default());
        let mut rest = dump.as_bytes();
        while let Some(segment) = scanner.next(&mut rest).unwrap() {
            reader.observe(&segment);
        }
        if let Some(segment) = scanner.end().unwrap() {
            reader.observe(&segment);
        }
        reader.end()
    }

    const HEAD: &str = "SET default_tablespace = '';\nCREATE TABLE a (n int);\nCREATE TABLE b (n int);\n\n";
    const ROWS: &str =
        "COPY a (n) FROM stdin;\n1\n22\n\\.\nSET row_security = off;\nCOPY b (n) FROM stdin;\n\\.\n";
    const DATA: &str = "SELECT pg_catalog.setval('s', 7, true);\n-- index\n";

    #[test]
    fn rows_and_what_is_made_of_them_are_told_apart() {
        let behind = "CREATE INDEX i ON public.a USING btree (n);\nSELECT pg_catalog.setval('t', 7, true);\nSET default_tablespace = fast;\nALTER TABLE b ENABLE ROW LEVEL SECURITY;\n";
        let found = outline(&format!("{HEAD}{ROWS}{DATA}{behind}-- end")).unwrap();
        assert_eq!(found.before, HEAD.len() as u64);
        assert_eq!(found.until, (HEAD.len() + ROWS.len() + DATA.len()) as u64);
        assert_eq!(found.tables, [("a".to_owned(), 5), ("b".to_owned(), 0)]);
        let told: Vec<(&str, u64, usize)> = found
            .statements
            .iter()
            .map(|statement| {
                (
                    std::str::from_utf8(&statement.text).unwrap(),
                    statement.line,
                    statement.context.settings().len(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("CREATE INDEX i ON public.a USING btree (n);", 14, 2),
                ("SELECT pg_catalog.setval('t', 7, true);", 15, 2),
                ("ALTER TABLE b ENABLE ROW LEVEL SECURITY;", 17, 2)
            ]
        );
        assert_eq!(found.statements[0].kind, Kind::Index("public.a".to_owned()));
        assert_eq!(found.statements[1].kind, Kind::Light);
        let tablespace = |number: usize| &found.statements[number].context.settings()[0].text;
        assert_eq!(tablespace(1), b"SET default_tablespace = '';");
        assert_eq!(tablespace(2), b"SET default_tablespace = fast;");
    }

    #[test]
    fn where_nothing_is_made_of_rows_they_last_to_the_end() {
        let dump = format!("{HEAD}{ROWS}{DATA}");
        let found = outline(&dump).unwrap();
        assert_eq!((found.until, found.statements.len()), (dump.len() as u64, 0));
    }

    #[test]
    fn a_dump_that_needs_its_order_has_no_outline() {
        for dump in [
            HEAD.to_owned(),
            format!("{HEAD}{ROWS}{ROWS}"),
            format!("{HEAD}{ROWS}ALTER TABLE a ENABLE TRIGGER ALL;\nCOPY c (n) FROM stdin;\n\\.\n"),
            format!("{HEAD}{ROWS}INSERT INTO a VALUES (1);\n"),
            format!("{HEAD}{ROWS}SET SESSION AUTHORIZATION 'x';\n"),
            format!("{HEAD}{ROWS}CREATE INDEX i ON a (n);\nBEGIN;\nCOMMIT;\n"),
            format!("{HEAD}{ROWS}\\connect other\n"),
        ] {
            assert_eq!(outline(&dump), None, "{dump}");
        }
        let long = format!("CREATE INDEX i ON a ((n + {}));\n", "1".repeat(MOST));
        assert_eq!(outline(&format!("{HEAD}{ROWS}{long}")), None);
    }
}
