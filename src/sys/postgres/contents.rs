//! What a dump holds, learnt from its segments as they pass.

use super::fingerprint::{Fingerprint, RowHasher};
use super::scan::Segment;
use super::summary::{SummaryError, SummaryReader};
use crate::base::backup::TableContent;
use std::collections::BTreeMap;

const FROM_VERSION: &[u8] = b"-- Dumped from database version ";
const BY_VERSION: &[u8] = b"-- Dumped by pg_dump version ";
const END_MARKERS: [&[u8]; 2] =
    [b"-- PostgreSQL database dump complete", b"-- PostgreSQL database cluster dump complete"];

/// A backslash command that a dump should not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignCommand {
    /// The line, from 1.
    pub line: u64,
    /// The command with its backslash.
    pub text: String,
}

/// What a dump holds: rows and fingerprint of each table, versions, end marker and summary.
///
/// Every segment of the dump is shown to it in order. Comments count only where nobody can have forged them through an
/// object's name, as servers before the cure of CVE-2025-8715 allow: the versions before the first statement, the
/// end marker and the summary behind the last one.
#[derive(Debug, Default)]
pub struct Contents {
    tables: BTreeMap<String, Fingerprint>,
    current: Option<(String, RowHasher)>,
    header: Header,
    ended: bool,
    summary: SummaryReader,
    foreign: Option<ForeignCommand>,
}

#[derive(Debug, Default)]
struct Header {
    over: bool,
    server: Option<String>,
    pg_dump: Option<String>,
}

impl Contents {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next segment of the dump.
    pub fn observe(&mut self, segment: &Segment<'_>) {
        match *segment {
            Segment::Rows(bytes) => {
                if let Some((_, hasher)) = &mut self.current {
                    hasher.feed(bytes);
                }
            }
            Segment::Space(_) => {}
            Segment::Comment { text, line } => self.comment(text, line),
            Segment::Statement { .. } => self.sql(),
            Segment::CopyBegin { head, .. } => {
                self.sql();
                self.current = Some((head.table.clone(), RowHasher::new()));
            }
            Segment::CopyEnd(_) => {
                if let Some((table, hasher)) = self.current.take() {
                    self.tables.entry(table).or_default().merge(&hasher.end().0);
                }
            }
            Segment::Meta { restrict: true, .. } => {}
            Segment::Meta { text, line, .. } => {
                self.sql();
                self.foreign.get_or_insert_with(|| ForeignCommand {
                    line,
                    text: String::from_utf8_lossy(text.trim_ascii_end()).into_owned(),
                });
            }
        }
    }

    /// Takes whole rows of the table whose data is being read, in place of their segment.
    pub fn skip_rows(&mut self, rows: &Fingerprint) {
        if let Some((_, hasher)) = &mut self.current {
            hasher.skip(rows);
        }
    }

    /// Adds rows that were not seen as segments.
    pub fn add(&mut self, table: &str, rows: &Fingerprint) {
        self.tables.entry(table.to_owned()).or_default().merge(rows);
    }

    /// The tables with data, in the order of their names.
    pub fn tables(&self) -> Vec<TableContent> {
        self.tables.iter().map(|(table, rows)| rows.of_table(table)).collect()
    }

    /// Whether the dump has its end marker, with no statement behind it.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The server's version, for example `15.18 (Debian 15.18-0+deb12u1)`.
    pub fn server_version(&self) -> Option<&str> {
        self.header.server.as_deref()
    }

    /// The version of the `pg_dump` that wrote the dump.
    pub fn pg_dump_version(&self) -> Option<&str> {
        self.header.pg_dump.as_deref()
    }

    /// The first backslash command other than `\restrict` and `\unrestrict`.
    pub fn foreign_command(&self) -> Option<&ForeignCommand> {
        self.foreign.as_ref()
    }

    /// The summary that stands behind the end marker; `None` if there is none.
    pub fn summary(&self) -> Result<Option<&[TableContent]>, SummaryError> {
        self.summary.end()
    }

    fn sql(&mut self) {
        self.header.over = true;
        self.ended = false;
        self.summary = SummaryReader::new();
    }

    fn comment(&mut self, text: &[u8], line: u64) {
        if self.ended {
            self.summary.comment(text, line);
        } else if END_MARKERS.contains(&text) {
            self.ended = true;
        } else if !self.header.over {
            let version = |version: &[u8]| String::from_utf8_lossy(version.trim_ascii()).into_owned();
            if let Some(server) = text.strip_prefix(FROM_VERSION) {
                self.header.server.get_or_insert_with(|| version(server));
            } else if let Some(pg_dump) = text.strip_prefix(BY_VERSION) {
                self.header.pg_dump.get_or_insert_with(|| version(pg_dump));
            }
        }
    }
}
