//! Rows on their way into a table.

use super::{Item, Loader, MESSAGE, Target};
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::copy_head::CopyHead;
use crate::sys::postgres::exchange::{CopyIn, Refused};
use crate::sys::postgres::quote::literal;
use crate::sys::postgres::statement::describe;
use crate::sys::postgres::trouble;
use bytes::Bytes;

/// A COPY that is under way.
pub(super) struct Copying<'a> {
    line: u64,
    table: String,
    columns: Vec<String>,
    /// The server refused it; the rest of its rows is read past.
    sink: CopyIn<'a>,
    renamed: Option<Renamed>,
    oid: u32,
    /// A transaction of our own is open, which ends with the rows.
    frozen: bool,
}

/// A table whose name is no UTF-8 bears another one while rows go into it.
struct Renamed {
    back: Vec<Vec<u8>>,
}

impl Loader<'_> {
    pub(super) fn copy_begin(&mut self, head: &CopyHead, text: &[u8], line: u64) -> Result<(), Failure> {
        if !self.deferred.is_empty() {
            self.catch_up()?;
        }
        self.has_rows = true;
        self.flush()?;
        self.steady()?;
        let describe = describe(text);
        let refused = |loader: &Self, refused: &Refused| {
            let item = Item { line, describe: describe.clone(), begin: 0, text: None, inserts: None };
            loader.failed(&item, refused)
        };
        let (table, columns, renamed) = match self.renamed(text) {
            None => (head.table.clone(), head.columns.clone(), None),
            Some((table, columns, there, back)) => {
                for sql in there {
                    if let Err(error) = self.session.batch(&self.executed(&sql))? {
                        return Err(refused(self, &error));
                    }
                }
                (table, columns, Some(Renamed { back }))
            }
        };
        let of_part = self.target.take();
        let target = of_part.clone().or_else(|| self.expected.remove(&head.table));
        let oid = match &target {
            Some(target) if target.name != head.table => {
                return Err(Failure::new(
                    Code::NotIntact,
                    format!(
                        "`{}` holds rows of {} where its index says {}",
                        self.options.name, head.table, target.name
                    ),
                )
                .hint("Find out who wrote this file, and use another backup."));
            }
            Some(target) => target.oid,
            None => match self
                .session
                .batch_value(&format!("SELECT pg_catalog.to_regclass({})::oid", literal(&table)))?
            {
                Ok(oid) => oid.and_then(|oid| oid.parse().ok()).unwrap_or(0),
                Err(error) => return Err(refused(self, &error)),
            },
        };
        // More rows of the same table may follow, which must not empty it again.
        self.target = of_part.map(|target| Target { freeze: false, ..target });
        let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        let encoding = literal(&self.done.encoding);
        let options = if head.options.is_empty() {
            format!("WITH (ENCODING {encoding})")
        } else if self.done.encoding.eq_ignore_ascii_case("UTF8") {
            head.options.clone()
        } else {
            return Err(trouble::forbidden(
                &self.options.name,
                self.line(line),
                &describe,
                "it has options, which this encoding leaves no room for",
                "Make the dump again with `pg_dump`.",
            ));
        };
        let copy = format!("COPY {table}{list} FROM stdin");
        let mut frozen = None;
        if target.is_some_and(|target| target.freeze) && head.options.is_empty() {
            let emptied = self.session.batch(&format!("BEGIN; TRUNCATE ONLY {table}"))?;
            if emptied.is_ok() {
                frozen = self.session.copy_in(&format!("{copy} WITH (FREEZE, ENCODING {encoding})"))?.ok();
            }
            if frozen.is_none() {
                self.session.run("ROLLBACK")?;
            }
        }
        let is_frozen = frozen.is_some();
        let begun = match frozen {
            Some(sink) => Ok(sink),
            None => self.session.copy_in(&format!("{copy} {options}"))?,
        };
        match begun {
            Ok(sink) => {
                self.copying = Some(Copying {
                    line,
                    table: head.table.clone(),
                    columns: head.columns.clone(),
                    sink,
                    renamed,
                    oid,
                    frozen: is_frozen,
                });
                Ok(())
            }
            Err(error) => Err(refused(self, &error)),
        }
    }

    pub(super) fn copy_rows(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.rows.extend_from_slice(bytes);
        if self.rows.len() >= MESSAGE { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), Failure> {
        let bytes: Bytes = self.rows.split().freeze();
        let Some(copying) = &mut self.copying else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        match copying.sink.send(bytes)? {
            Ok(()) => Ok(()),
            Err(refused) => {
                let (line, table) = (copying.line, copying.table.clone());
                Err(trouble::rows(&self.options.name, self.line(line), &table, &refused))
            }
        }
    }

    pub(super) fn copy_end(&mut self) -> Result<(), Failure> {
        self.send()?;
        let Some(copying) = self.copying.take() else { return Ok(()) };
        let Copying { line, table, columns, sink, renamed, oid, frozen } = copying;
        let rows = match sink.end()? {
            Ok(rows) => rows,
            Err(refused) => return Err(trouble::rows(&self.options.name, self.line(line), &table, &refused)),
        };
        if frozen {
            self.session.run("COMMIT")?;
        }
        for sql in renamed.into_iter().flat_map(|renamed| renamed.back) {
            self.session.run(&self.executed(&sql))?;
        }
        let copied = self.done.copied.entry(table).or_default();
        copied.oid = oid;
        copied.columns = columns;
        copied.rows += rows;
        Ok(())
    }
}
