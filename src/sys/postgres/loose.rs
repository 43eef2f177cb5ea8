//! What a dump holds outside of tables: where sequences stand, and what large objects hold.

use super::catalog::text;
use super::quote::literal;
use super::scan::Segment;
use super::statement::{Token, Tokens};
use crate::base::failure::Failure;
use crate::sys::postgres::connection::Session;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Sequences and large objects, as a dump or a database has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loose {
    /// Where each sequence stands: `3000`, or `5, not used yet`.
    pub sequences: BTreeMap<String, String>,
    /// The SHA-256 of each large object, by OID.
    pub objects: BTreeMap<u32, String>,
}

/// Learns them from a dump that passes by.
#[derive(Debug, Default)]
pub struct LooseReader {
    found: Loose,
    open: Option<(u32, Sha256)>,
}

impl LooseReader {
    /// Takes the next segment of the dump.
    pub fn observe(&mut self, segment: &Segment<'_>) {
        let Segment::Statement { text, .. } = *segment else { return };
        let Some(call) = text.strip_prefix(b"SELECT pg_catalog.") else { return };
        if call.starts_with(b"setval(") {
            let mut tokens = Tokens::of(call).filter(|token| !matches!(token, Token::Symbol(b'(' | b',')));
            let name = tokens.nth(1).and_then(|token| token.text());
            let rest = call.iter().rposition(|byte| *byte == b'\'').map_or(&[][..], |at| &call[at + 1..]);
            let rest = String::from_utf8_lossy(rest);
            let mut values = rest.split(',').map(|value| value.trim_matches([' ', ')', ';']));
            if let (Some(name), Some(last), Some(used)) = (name, values.nth(1), values.next()) {
                self.found.sequences.insert(name, stands(last, used == "true"));
            }
        } else if call.starts_with(b"lo_open(") {
            let oid = between_quotes(call).and_then(|oid| std::str::from_utf8(oid).ok()?.parse().ok());
            self.open = oid.map(|oid| (oid, Sha256::new()));
        } else if call.starts_with(b"lowrite(") {
            if let (Some((_, hasher)), Some(hex)) = (&mut self.open, between_quotes(call)) {
                let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
                let hex = hex.strip_prefix(b"\\x").unwrap_or(hex);
                hasher.update(
                    hex.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect::<Vec<u8>>(),
                );
            }
        } else if call.starts_with(b"lo_close(")
            && let Some((oid, hasher)) = self.open.take()
        {
            self.found.objects.insert(oid, hex(&hasher.finalize()));
        }
    }

    /// What was found.
    pub fn end(self) -> Loose {
        self.found
    }
}

fn between_quotes(text: &[u8]) -> Option<&[u8]> {
    let begin = text.iter().position(|byte| *byte == b'\'')? + 1;
    let end = text.iter().rposition(|byte| *byte == b'\'')?;
    text.get(begin..end)
}

fn stands(last: &str, used: bool) -> String {
    if used { last.to_owned() } else { format!("{last}, not used yet") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Loose {
    /// Those of the session's database that its role owns.
    ///
    /// # Errors
    /// Those of the questions to the server.
    fn of(session: &Session) -> Result<Self, Failure> {
        let names = session.rows(
            "SELECT c.oid::regclass FROM pg_catalog.pg_class c WHERE c.relkind = 'S' AND c.relpersistence <> 't' \
             AND c.relowner = current_user::regrole AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid \
             AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')",
        )?;
        let mut found = Self::default();
        for row in &names.rows {
            let name = text(row, 0);
            let at = session.one(&format!("SELECT last_value, is_called FROM {name}"))?;
            found.sequences.insert(name, stands(&text(&at, 0), text(&at, 1) == "t"));
        }
        let objects = session.rows(
            "SELECT oid, pg_catalog.encode(pg_catalog.sha256(pg_catalog.lo_get(oid)), 'hex') \
             FROM pg_catalog.pg_largeobject_metadata WHERE lomowner = current_user::regrole",
        )?;
        found.objects =
            objects.rows.iter().filter_map(|row| Some((text(row, 0).parse().ok()?, text(row, 1)))).collect();
        Ok(found)
    }

    /// Where the session's database, whose encoding is `encoding`, differs from it, as far as the session's role owns it.
    ///
    /// # Errors
    /// Those of the questions to the server.
    pub fn changes(&self, session: &Session, encoding: &str) -> Result<Vec<String>, Failure> {
        let now = Self::of(session)?;
        // A dump has names in the encoding of its database, and a session of ours has them in UTF-8.
        let is_read = |name: &&String| encoding.eq_ignore_ascii_case("UTF8") || name.is_ascii();
        let mut changes = Vec::new();
        for (name, at) in self.sequences.iter().filter(|(name, _)| is_read(name)) {
            match now.sequences.get(name) {
                Some(found) if found == at => {}
                Some(found) => changes.push(format!("sequence {name} stands at {found} instead of {at}")),
                None => {
                    let gone = format!("SELECT pg_catalog.to_regclass({}) IS NULL", literal(name));
                    if text(&session.one(&gone)?, 0) == "t" {
                        changes.push(format!("sequence {name} is not there any more"));
                    }
                }
            }
        }
        let made = now.sequences.keys().filter(is_read).filter(|name| !self.sequences.contains_key(*name));
        changes.extend(made.map(|name| format!("sequence {name} was made since")));
        for (oid, digest) in &self.objects {
            match now.objects.get(oid) {
                Some(found) if found == digest => {}
                Some(_) => changes.push(format!("large object {oid} has other content than the backup")),
                None => changes.push(format!("large object {oid} is not there any more")),
            }
        }
        let made = now.objects.keys().filter(|oid| !self.objects.contains_key(*oid));
        changes.extend(made.map(|oid| format!("large object {oid} was made since")));
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pg_dump_writes_is_read() {
        let mut reader = LooseReader::default();
        for text in [
            "SELECT pg_catalog.setval('public.lonely', 5, false);",
            "SELECT pg_catalog.setval('public.\"it''s, a (b)\"', -7, true);",
            "SELECT pg_catalog.lo_create('77');",
            "SELECT pg_catalog.lo_open('77', 131072);",
            "SELECT pg_catalog.lowrite(0, '\\x6162');",
            "SELECT pg_catalog.lowrite(0, '\\x63');",
            "SELECT pg_catalog.lo_close(0);",
            "SELECT pg_catalog.lo_open('78', 131072);",
            "SELECT pg_catalog.lo_close(0);",
            "SELECT pg_catalog.set_config('search_path', '', false);",
        ] {
            reader.observe(&Segment::Statement { text: text.as_bytes(), line: 1 });
        }
        let found = reader.end();
        let sequences: Vec<(&str, &str)> =
            found.sequences.iter().map(|(name, at)| (name.as_str(), at.as_str())).collect();
        assert_eq!(sequences, [("public.\"it's, a (b)\"", "-7"), ("public.lonely", "5, not used yet")]);
        assert_eq!(
            found.objects.into_iter().collect::<Vec<_>>(),
            [(77, hex(&Sha256::digest("abc"))), (78, hex(&Sha256::digest("")))]
        );
    }
}
