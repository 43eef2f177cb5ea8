//! The reading of a dump: in order, with the rows read beforehand by other threads.

use super::Findings;
use crate::base::backup::{Content, TableContent};
use crate::sys::postgres::ahead::RowsAhead;
use crate::sys::postgres::contents::Contents;
use crate::sys::postgres::loading::outline::OutlineReader;
use crate::sys::postgres::loose::LooseReader;
use crate::sys::postgres::requirements::Requirements;
use crate::sys::postgres::scan::{ScanError, Scanner};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a piece of content says by itself, before what stands ahead of it was read.
pub type Ahead = Option<RowsAhead>;

/// Reads a piece of that kind of content, cut anywhere, by itself.
pub fn ahead(content: Content, piece: &[u8]) -> Ahead {
    match content {
        Content::Sql => RowsAhead::read(piece),
        Content::Tar | Content::File => None,
    }
}

/// The reading of a dump.
#[derive(Debug, Default)]
pub struct SqlReading {
    scanner: Scanner,
    contents: Contents,
    requirements: Requirements,
    loose: LooseReader,
    /// The order of the dump, if it is asked for.
    outline: Option<OutlineReader>,
    error: Option<ScanError>,
    without_rows: bool,
}

impl SqlReading {
    pub(super) fn without_rows() -> Self {
        Self { without_rows: true, ..Self::default() }
    }

    pub(super) fn with_outline() -> Self {
        Self { outline: Some(OutlineReader::default()), ..Self::default() }
    }

    pub(super) fn take(&mut self, bytes: &[u8], ahead: Ahead) {
        let Some(ahead) = ahead else { return self.scan(bytes) };
        let (before, lines) = ahead.split(bytes);
        self.scan(before);
        // Only here, with all read that comes before them, is it known whether the lines are rows.
        if self.error.is_none() && self.scanner.skip_rows(ahead.rows().rows()) {
            let rest = ahead.rest(bytes);
            self.contents.skip_rows(ahead.rows());
            if let Some(outline) = &mut self.outline {
                outline.skip_rows(lines.len() - rest.len());
            }
            self.scan(rest);
        } else {
            self.scan(lines);
        }
    }

    fn scan(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let mut rest = bytes;
        loop {
            match self.scanner.next(&mut rest) {
                Ok(Some(segment)) => {
                    self.contents.observe(&segment);
                    self.requirements.observe(&segment);
                    self.loose.observe(&segment);
                    if let Some(outline) = &mut self.outline {
                        outline.observe(&segment);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
        }
    }

    pub(super) fn end(mut self) -> Findings {
        if self.error.is_none() {
            match self.scanner.end() {
                Ok(Some(segment)) => self.contents.observe(&segment),
                Ok(None) => {}
                Err(error) => self.error = Some(error),
            }
        }
        let mut findings = Findings {
            checks: vec!["end marker"],
            requirements: self.requirements,
            loose: self.loose.end(),
            server: self.contents.server_version().map(str::to_owned),
            ..Findings::default()
        };
        if let Some(error) = self.error {
            findings.problems.push(error.to_string());
            return findings;
        }
        if !self.contents.ended() {
            findings.problems.push("the dump's end marker is missing".to_owned());
        }
        if let Some(foreign) = self.contents.foreign_command() {
            findings
                .problems
                .push(format!("line {}: a dump does not hold the command `{}`", foreign.line, foreign.text));
        }
        findings.tables = self.contents.tables();
        match self.contents.summary() {
            Ok(None) => {}
            Ok(Some(summary)) if self.without_rows => {
                findings.summary = true;
                findings.tables = summary.to_vec();
            }
            Ok(Some(summary)) => {
                findings.summary = true;
                findings.checks.push("row counts and fingerprints");
                findings.problems.extend(difference(summary, &findings.tables));
            }
            Err(error) => findings.problems.push(error.to_string()),
        }
        findings.complete = findings.problems.is_empty();
        if findings.complete {
            findings.outline = self.outline.and_then(OutlineReader::end).map(Arc::new);
        }
        findings
    }
}

/// The first table in which a summary and what was read differ.
fn difference(summary: &[TableContent], read: &[TableContent]) -> Option<String> {
    let (expected, found) = (by_name(summary), by_name(read));
    for table in summary {
        let name = &table.table;
        match found.get(name.as_str()) {
            None => return Some(format!("table {name} is missing")),
            Some(found) if found.rows != table.rows => {
                return Some(format!("table {name} has {} rows instead of {}", found.rows, table.rows));
            }
            Some(found) if found.fingerprint != table.fingerprint => {
                return Some(format!("table {name} has other content than when it was dumped"));
            }
            Some(_) => {}
        }
    }
    let more = read.iter().find(|table| !expected.contains_key(table.table.as_str()))?;
    Some(format!("table {} is not in the dump's summary", more.table))
}

fn by_name(tables: &[TableContent]) -> BTreeMap<&str, &TableContent> {
    tables.iter().map(|table| (table.table.as_str(), table)).collect()
}

#[cfg(test)]
mod tests;
