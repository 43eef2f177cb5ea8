//! The summary of a dump's content, which stands as SQL comments behind the dump itself:
//!
//! ```text
//! -- Lifeboat content summary, version 1
//! -- Lifeboat table: 1500 4f0c6a1be9d6f3a77f3a9c5be2d80417 ref.t1
//! -- Lifeboat summary complete: 1 tables, 1500 rows
//! ```
//!
//! It is pure ASCII on single lines, whatever a table is named: a name with a newline must not break out of its comment
//! (as in CVE-2025-8715), and psql sends comments to the server, which checks their encoding. Such a name is written as
//! `json:` and a JSON string.

use crate::base::backup::TableContent;
use std::collections::BTreeSet;
use std::fmt::Write;

const MARK: &str = "-- Lifeboat ";
const HEAD: &str = "content summary, version ";
const TABLE: &str = "table: ";
const COMPLETE: &str = "summary complete: ";
const VERSION: u32 = 1;

/// Why a summary cannot be trusted. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// It has a beginning and no end.
    #[error("the content summary, which begins at line {line}, has no end")]
    Torn {
        /// The line it begins at.
        line: u64,
    },
    /// A newer Lifeboat wrote it.
    #[error("line {line}: the content summary has version {version}, and this build reads version {VERSION}")]
    Version {
        /// The line.
        line: u64,
        /// The version.
        version: String,
    },
    /// A line that does not belong there, or says nothing that can be read.
    #[error("line {line}: `{text}` does not belong into a content summary")]
    Line {
        /// The line.
        line: u64,
        /// What it says.
        text: String,
    },
    /// A table that the summary names twice.
    #[error("line {line}: the content summary names table `{table}` twice")]
    Twice {
        /// The line.
        line: u64,
        /// The table.
        table: String,
    },
    /// Its last line counts other tables or rows than it names.
    #[error("line {line}: the content summary promises {promised}, and holds {found}")]
    Count {
        /// The line.
        line: u64,
        /// For example `2 tables, 7 rows`.
        promised: String,
        /// For example `1 tables, 3 rows`.
        found: String,
    },
}

/// The summary as lines of SQL comments.
pub fn write(tables: &[TableContent]) -> String {
    let mut text = format!("{MARK}{HEAD}{VERSION}\n");
    for table in tables {
        let TableContent { table, rows, fingerprint } = table;
        let _ = writeln!(text, "{MARK}{TABLE}{rows} {fingerprint} {}", encode(table));
    }
    let _ = writeln!(text, "{MARK}{COMPLETE}{}", totals(tables));
    text
}

fn totals(tables: &[TableContent]) -> String {
    let rows: u128 = tables.iter().map(|table| u128::from(table.rows)).sum();
    format!("{} tables, {rows} rows", tables.len())
}

/// Reads a summary from a dump's comments, one after the other.
#[derive(Clone, Debug, Default)]
pub struct SummaryReader {
    tables: Vec<TableContent>,
    names: BTreeSet<String>,
    begun: Option<u64>,
    complete: bool,
    error: Option<SummaryError>,
}

impl SummaryReader {
    /// A reader that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a comment that stands outside of statements and data; those of others do not matter.
    pub fn comment(&mut self, text: &[u8], line: u64) {
        if self.error.is_none()
            && let Some(said) = text.strip_prefix(MARK.as_bytes())
        {
            self.error = self.read(&String::from_utf8_lossy(said), line).err();
        }
    }

    /// The tables of the summary; `None` if there is no summary.
    pub fn end(&self) -> Result<Option<&[TableContent]>, SummaryError> {
        match (&self.error, self.begun) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(line)) if !self.complete => Err(SummaryError::Torn { line }),
            (None, Some(_)) => Ok(Some(&self.tables)),
            (None, None) => Ok(None),
        }
    }

    fn read(&mut self, said: &str, line: u64) -> Result<(), SummaryError> {
        let misplaced = || SummaryError::Line { line, text: format!("{MARK}{said}") };
        if let (Some(version), None) = (said.strip_prefix(HEAD), self.begun) {
            if version != VERSION.to_string() {
                return Err(SummaryError::Version { line, version: version.into() });
            }
            self.begun = Some(line);
            return Ok(());
        }
        if self.begun.is_none() || self.complete {
            return Err(misplaced());
        }
        if let Some(promised) = said.strip_prefix(COMPLETE) {
            let found = totals(&self.tables);
            if promised != found {
                return Err(SummaryError::Count { line, promised: promised.into(), found });
            }
            self.complete = true;
            return Ok(());
        }
        let table = said.strip_prefix(TABLE).and_then(table).ok_or_else(misplaced)?;
        if !self.names.insert(table.table.clone()) {
            return Err(SummaryError::Twice { line, table: table.table });
        }
        self.tables.push(table);
        Ok(())
    }
}

fn table(said: &str) -> Option<TableContent> {
    let mut parts = said.splitn(3, ' ');
    let (rows, fingerprint, name) = (parts.next()?, parts.next()?, parts.next()?);
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !rows.bytes().all(|byte| byte.is_ascii_digit())
        || fingerprint.len() != 32
        || !fingerprint.bytes().all(is_digit)
    {
        return None;
    }
    Some(TableContent { table: decode(name)?, rows: rows.parse().ok()?, fingerprint: fingerprint.into() })
}

const JSON: &str = "json:";

fn encode(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !name.is_empty()
        && name.trim() == name
        && !name.starts_with(JSON);
    if is_plain {
        return name.into();
    }
    let mut text = String::from(JSON);
    for character in serde_json::Value::from(name).to_string().chars() {
        if matches!(character, ' '..='~') {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

fn decode(text: &str) -> Option<String> {
    let name = match text.strip_prefix(JSON) {
        Some(json) => serde_json::from_str(json).ok()?,
        None => text.to_owned(),
    };
    // One name has one form, so that a summary that was tampered with cannot hide a table named twice.
    (encode(&name) == text).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(table: &str, rows: u64) -> TableContent {
        TableContent { table: table.into(), rows, fingerprint: format!("{:032x}", u128::from(rows) << 77) }
    }

    fn read(text: &str) -> Result<Option<Vec<TableContent>>, SummaryError> {
        let mut reader = SummaryReader::new();
        for (index, line) in text.lines().enumerate() {
            reader.comment(line.as_bytes(), index as u64 + 1);
        }
        reader.end().map(|tables| tables.map(<[_]>::to_vec))
    }

    #[test]
    fn the_form_on_disk() {
        let tables = [
            content("ref.t1", 1500),
            content(r#""Odd Schema"."a ""b"" c""#, 0),
            content("public.\"x\nDROP TABLE y;\"", 2),
            content("public.größe😀", 1),
            content("json:x", 1),
        ];
        let text = write(&tables);
        let expected = r#"-- Lifeboat content summary, version 1
-- Lifeboat table: 1500 0000000002ee00000000000000000000 ref.t1
-- Lifeboat table: 0 00000000000000000000000000000000 "Odd Schema"."a ""b"" c"
-- Lifeboat table: 2 00000000000100000000000000000000 json:"public.\"x\nDROP TABLE y;\""
-- Lifeboat table: 1 00000000000080000000000000000000 json:"public.gr\u00f6\u00dfe\ud83d\ude00"
-- Lifeboat table: 1 00000000000080000000000000000000 json:"json:x"
-- Lifeboat summary complete: 5 tables, 1504 rows
"#;
        assert_eq!(
            text,
            expected
                .replace("0000000002ee00000000000000000000", &tables[0].fingerprint)
                .replace("00000000000100000000000000000000", &tables[2].fingerprint)
                .replace("00000000000080000000000000000000", &tables[3].fingerprint)
        );
        assert_eq!(read(&text), Ok(Some(tables.to_vec())));
    }

    #[test]
    fn no_summary_is_not_an_error() {
        assert_eq!(read("--\n-- PostgreSQL database dump complete\n--\n"), Ok(None));
        assert_eq!(read(&write(&[])), Ok(Some(vec![])));
    }

    #[test]
    fn torn_anywhere_is_refused() {
        let text = write(&[content("a.b", 1), content("a.c", 2)]);
        let lines: Vec<&str> = text.lines().collect();
        for kept in 1..lines.len() {
            assert_eq!(read(&lines[..kept].join("\n")), Err(SummaryError::Torn { line: 1 }), "{kept} lines");
        }
        for lost in 0..lines.len() {
            let mut lines = lines.clone();
            lines.remove(lost);
            assert!(read(&lines.join("\n")).is_err(), "without line {lost}");
        }
        for cut in text.find('\n').unwrap() + 1..text.len() - 1 {
            assert!(read(&text[..cut]).is_err(), "cut at {cut}: {:?}", read(&text[..cut]));
        }
    }

    #[test]
    fn inconsistent_is_refused() {
        let good = write(&[content("a.b", 1), content("a.c", 2)]);
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(
            message(&good.replace("2 tables, 3 rows", "2 tables, 4 rows")),
            "line 4: the content summary promises 2 tables, 4 rows, and holds 2 tables, 3 rows"
        );
        assert_eq!(
            message(&good.replace("a.c", "a.b")),
            "line 3: the content summary names table `a.b` twice"
        );
        assert_eq!(
            message(&good.replace("version 1", "version 2")),
            "line 1: the content summary has version 2, and this build reads version 1"
        );
        assert_eq!(
            message(&good.replace("table: 1 ", "table: +1 ")),
            format!(
                "line 2: `-- Lifeboat table: +1 {:032x} a.b` does not belong into a content summary",
                1u128 << 77
            )
        );
        assert_eq!(
            message(&good.replace("a.b", r#"json:"a.b""#)),
            format!(
                "line 2: `-- Lifeboat table: 1 {:032x} json:\"a.b\"` does not belong into a content summary",
                1u128 << 77
            )
        );
        assert_eq!(
            message(&format!("{good}{good}")),
            "line 5: `-- Lifeboat content summary, version 1` does not belong into a content summary"
        );
        let tail = &good[good.find('\n').unwrap() + 1..];
        assert!(message(tail).starts_with("line 1: `-- Lifeboat table: 1 "));
    }

    proptest! {
        #[test]
        fn any_names_make_the_round_trip(names in proptest::collection::btree_set(any::<String>(), 0..6)) {
            let tables: Vec<_> = names.iter().map(|name| content(name, name.len() as u64)).collect();
            let text = write(&tables);
            prop_assert!(text.is_ascii());
            prop_assert_eq!(text.lines().count(), tables.len() + 2);
            prop_assert!(!text.contains('\r'));
            prop_assert_eq!(read(&text), Ok(Some(tables)));
        }
    }
}
