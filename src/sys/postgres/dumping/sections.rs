//! The definitions of a dump: what `pg_dump` writes of one section, without what would stand twice in the whole.
//!
//! Each section that `pg_dump` writes alone is a dump of its own, with a head and an end. Put together, the first keeps its
//! head and the last its end, and the settings that the first has made are not made again. What comes out is what `pg_dump`
//! writes of the whole database, byte by byte, but for two settings of storage that may be repeated.

use crate::base::failure::{Code, Failure};
use crate::sys::postgres::contents::Contents;
use crate::sys::postgres::scan::{ScanError, Scanner, Segment};

/// The remedy when `pg_dump` says that all is well, and it is not.
const RUN_AGAIN: &str = "Run again; if it stays, check `pg_dump` and what wraps it.";

const END: &[u8] = b"--\n-- PostgreSQL database dump complete\n--";

/// Which section is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What comes before the rows; its end is left out.
    Before,
    /// What comes behind them; its head is left out.
    Behind,
}

/// What the first section hands to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The settings that it begins with.
    settings: Vec<Vec<u8>>,
    /// Its key of `\restrict`, which psql compares with that of the end.
    key: Option<Vec<u8>>,
    /// The grants, which `pg_dump` writes at the end of a section, and behind the rows in a whole dump: who has revoked
    /// rights from himself could not load his rows otherwise.
    grants: Vec<u8>,
}

/// Reads one section as it arrives.
pub(super) struct Section {
    part: Part,
    scanner: Scanner,
    contents: Contents,
    head: Head,
    /// Whether statements still belong to the head.
    in_head: bool,
    /// How many settings of the first section's head the last one has repeated.
    repeated: usize,
    /// Comments and white space that may turn out to be the end.
    held: Vec<u8>,
}

impl Section {
    pub(super) fn new(part: Part, head: Head) -> Self {
        Self {
            part,
            scanner: Scanner::new(),
            contents: Contents::new(),
            head,
            in_head: true,
            repeated: 0,
            held: Vec::new(),
        }
    }

    /// Reads on, and appends to `out` what the whole dump is to hold of it.
    pub(super) fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut scanner = std::mem::take(&mut self.scanner);
        loop {
            match scanner.next(&mut bytes) {
                Ok(Some(segment)) => self.segment(&segment, out)?,
                Ok(None) => break,
                Err(error) => return Err(not_a_dump(error)),
            }
        }
        self.scanner = scanner;
        Ok(())
    }

    /// Checks that the section is whole; returns what it held, and its head.
    pub(super) fn end(mut self, out: &mut Vec<u8>) -> Result<(Contents, Head), Failure> {
        let mut scanner = std::mem::take(&mut self.scanner);
        if let Some(segment) = scanner.end().map_err(not_a_dump)? {
            self.segment(&segment, out)?;
        }
        check_whole(&self.contents)?;
        match self.part {
            Part::Behind => {
                self.leave_head();
                self.insert_grants(out);
                out.extend_from_slice(&self.held);
            }
            Part::Before => {
                let end = memchr::memmem::rfind(&self.held, END).ok_or_else(end_is_missing)?;
                let gap = &self.held[..end];
                if self.head.grants.is_empty() {
                    out.extend_from_slice(gap);
                } else {
                    self.head.grants.extend_from_slice(gap);
                }
            }
        }
        Ok((self.contents, self.head))
    }

    fn segment(&mut self, segment: &Segment<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.contents.observe(segment);
        let bytes = segment.bytes();
        match segment {
            Segment::Space(_) | Segment::Comment { .. } => self.held.extend_from_slice(bytes),
            Segment::Meta { restrict: true, .. } => self.restrict(bytes, out),
            Segment::Statement { .. } if self.in_head && is_setting(bytes) => self.setting(bytes, out),
            Segment::CopyBegin { .. } | Segment::Rows(_) | Segment::CopyEnd(_) => {
                return Err(Failure::new(
                    Code::ProcessFailed,
                    "`pg_dump` wrote rows where definitions were asked for",
                )
                .hint(RUN_AGAIN));
            }
            Segment::Statement { .. } if self.part == Part::Before && is_grant(bytes) => {
                self.grant(bytes, out)
            }
            Segment::Statement { .. } if self.part == Part::Behind && comes_behind_grants(bytes) => {
                self.leave_head();
                self.insert_grants(out);
                self.pass(bytes, out);
            }
            Segment::Statement { .. } | Segment::Meta { .. } => {
                self.leave_head();
                if self.part == Part::Before {
                    // These were not the last ones: they stay where they are.
                    out.append(&mut self.head.grants);
                }
                self.pass(bytes, out);
            }
        }
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.append(&mut self.held);
        out.extend_from_slice(bytes);
    }

    fn grant(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.head.grants.is_empty() {
            self.pass_blanks(out);
        }
        self.head.grants.append(&mut self.held);
        self.head.grants.extend_from_slice(bytes);
    }

    /// Hands on the white space behind the last entry, which belongs to that.
    fn pass_blanks(&mut self, out: &mut Vec<u8>) {
        let blanks = self.held.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        out.extend(self.held.drain(..blanks));
    }

    fn insert_grants(&mut self, out: &mut Vec<u8>) {
        if !self.head.grants.is_empty() {
            self.pass_blanks(out);
            out.append(&mut self.head.grants);
        }
    }

    fn setting(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self.part {
            Part::Before => {
                self.head.settings.push(bytes.to_vec());
                self.pass(bytes, out);
            }
            Part::Behind if self.head.settings.get(self.repeated).is_some_and(|known| known == bytes) => {
                self.repeated += 1;
                self.held.clear();
            }
            Part::Behind => {
                self.leave_head();
                self.pass(bytes, out);
            }
        }
    }

    /// What stands before the first setting is said already; the white space behind the last one that was left out
    /// belongs to it.
    fn leave_head(&mut self) {
        if !std::mem::take(&mut self.in_head) || self.part == Part::Before {
            return;
        }
        if self.repeated == 0 {
            self.held.clear();
        } else {
            let blanks = self.held.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.held.drain(..blanks);
        }
    }

    fn restrict(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let is_end = bytes.starts_with(b"\\un");
        match (self.part, is_end) {
            (Part::Before, false) => {
                self.head.key = bytes.strip_prefix(b"\\restrict ").map(<[u8]>::to_vec);
                self.pass(bytes, out);
            }
            (Part::Before, true) => self.held.extend_from_slice(bytes),
            (Part::Behind, false) => self.held.clear(),
            (Part::Behind, true) => {
                self.leave_head();
                if let Some(key) = &self.head.key {
                    self.held.extend_from_slice(b"\\unrestrict ");
                    self.held.extend_from_slice(key);
                }
            }
        }
    }
}

/// Whether a statement is one of the settings that every dump begins with. Those of storage come later too, and may have
/// changed between the sections.
fn is_setting(statement: &[u8]) -> bool {
    statement.starts_with(b"SET ") && !statement.starts_with(b"SET default_")
        || statement.starts_with(b"SELECT pg_catalog.set_config('search_path'")
}

/// Whether a statement belongs to the grants.
fn is_grant(statement: &[u8]) -> bool {
    let beginnings =
        [&b"GRANT "[..], b"REVOKE ", b"SET SESSION AUTHORIZATION", b"RESET SESSION AUTHORIZATION"];
    beginnings.iter().any(|beginning| statement.starts_with(beginning))
}

/// Whether a statement stands behind the grants in a whole dump.
fn comes_behind_grants(statement: &[u8]) -> bool {
    let beginnings =
        [&b"ALTER DEFAULT PRIVILEGES "[..], b"REFRESH MATERIALIZED VIEW ", b"CREATE EVENT TRIGGER "];
    beginnings.iter().any(|beginning| statement.starts_with(beginning))
}

/// Checks what the segments of a dump said, once it has ended: no command that `pg_dump` does not write, and its end mark.
pub fn check_whole(contents: &Contents) -> Result<(), Failure> {
    if let Some(foreign) = contents.foreign_command() {
        return Err(Failure::new(
            Code::ProcessFailed,
            format!("line {} of the dump holds the command `{}`", foreign.line, foreign.text),
        )
        .hint(
            "No `pg_dump` writes that: look for an object with a line break in its name (CVE-2025-8715).",
        ));
    }
    if contents.ended() { Ok(()) } else { Err(end_is_missing()) }
}

fn end_is_missing() -> Failure {
    Failure::new(Code::ProcessFailed, "the dump's end marker is missing")
        .caused_by("`pg_dump` ended well, but did not write all of the dump")
        .hint(RUN_AGAIN)
}

/// The failure of a text that is no dump.
pub fn not_a_dump(error: ScanError) -> Failure {
    Failure::new(Code::ProcessFailed, "what `pg_dump` wrote is no whole dump")
        .caused_by(error)
        .hint(RUN_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\n-- Dumped from database version 15.18\n\n\
                        SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n";
    const END: &str = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict KEY\n\n";

    fn head(key: &str) -> String {
        HEAD.replace("KEY", key)
    }

    fn end(key: &str) -> String {
        END.replace("KEY", key)
    }

    /// What of a section reaches the dump when it arrives in pieces of `size` bytes.
    fn read(part: Part, head: Head, text: &str, size: usize) -> Result<(String, Head), Failure> {
        let mut section = Section::new(part, head);
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            section.take(piece, &mut out)?;
        }
        let (_, head) = section.end(&mut out)?;
        Ok((String::from_utf8(out).unwrap(), head))
    }

    #[test]
    fn two_sections_make_one_dump() {
        let first =
            "SET default_tablespace = '';\n\n--\n-- Name: t; Type: TABLE\n--\n\nCREATE TABLE t ();\n\n\n";
        let last = "--\n-- Name: i; Type: INDEX\n--\n\nCREATE INDEX i ON t (a);\n\n\n";
        for size in [1, 2, 7, 1000] {
            let (before, key) =
                read(Part::Before, Head::default(), &format!("{}{first}{}", head("one"), end("one")), size)
                    .unwrap();
            assert_eq!(before, format!("{}{first}", head("one")));
            let whole = format!("{}{last}{}", head("two"), end("two"));
            let (behind, _) = read(Part::Behind, key.clone(), &whole, size).unwrap();
            assert_eq!(behind, format!("{last}{}", end("one")), "pieces of {size}");
            // Where storage was set in the first section, the last one says what it needs, and keeps it.
            let set = format!("SET default_tablespace = '';\n\n{last}");
            let whole = format!("{}{set}{}", head("two"), end("two"));
            assert_eq!(read(Part::Behind, key, &whole, size).unwrap().0, format!("{set}{}", end("one")));
        }
    }

    #[test]
    fn sections_without_anything_make_an_empty_dump() {
        let (before, key) =
            read(Part::Before, Head::default(), &format!("{}{}", head("a"), end("a")), 64).unwrap();
        let (behind, _) = read(Part::Behind, key, &format!("{}{}", head("b"), end("b")), 64).unwrap();
        assert_eq!(format!("{before}{behind}"), format!("{}{}", head("a"), end("a")));
    }

    #[test]
    fn grants_come_behind_the_rows_as_in_a_whole_dump() {
        let entry = |name: &str, statement: &str| format!("--\n-- Name: {name}\n--\n\n{statement};\n\n\n");
        let table = entry("t; Type: TABLE", "CREATE TABLE t ()");
        let grants = [
            entry("TABLE t; Type: ACL", "REVOKE ALL ON TABLE t FROM x;\nGRANT SELECT ON TABLE t TO y"),
            entry("SCHEMA s; Type: ACL", "GRANT USAGE ON SCHEMA s TO y"),
        ]
        .concat();
        let defaults =
            entry("DEFAULT ACL", "ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT SELECT ON TABLES TO y");
        let index = entry("i", "CREATE INDEX i ON t (a)");
        let view = [entry("v", "REFRESH MATERIALIZED VIEW v"), entry("e", "CREATE EVENT TRIGGER e")].concat();
        for size in [1, 9, 1000] {
            let text = format!("{}{table}{grants}{}", head("a"), end("a"));
            let (before, key) = read(Part::Before, Head::default(), &text, size).unwrap();
            assert_eq!(before, format!("{}{table}", head("a")));
            for (whole, joined) in [
                (format!("{index}{view}"), format!("{index}{grants}{view}")),
                (view.clone(), format!("{grants}{view}")),
                (index.clone(), format!("{index}{grants}")),
                (format!("{index}{defaults}{view}"), format!("{index}{grants}{defaults}{view}")),
                (String::new(), grants.clone()),
            ] {
                let whole = format!("{}{whole}{}", head("b"), end("b"));
                let (behind, _) = read(Part::Behind, key.clone(), &whole, size).unwrap();
                assert_eq!(behind, format!("{joined}{}", end("a")));
            }
            // Statements that look alike in the midst of others stay there.
            let text = format!("{}{grants}{table}{}", head("a"), end("a"));
            let (before, _) = read(Part::Before, Head::default(), &text, size).unwrap();
            assert_eq!(before, format!("{}{grants}{table}", head("a")));
        }
    }

    #[test]
    fn an_older_pg_dump_has_no_key() {
        let plain = |text: String| text.replace("\\restrict a\n\n", "").replace("\\unrestrict a\n\n", "");
        let whole = plain(format!("{}CREATE TABLE t ();\n\n\n{}", head("a"), end("a")));
        let (before, key) = read(Part::Before, Head::default(), &whole, 64).unwrap();
        assert_eq!(before, plain(head("a")) + "CREATE TABLE t ();\n\n\n");
        let (behind, _) = read(Part::Behind, key, &whole, 64).unwrap();
        assert_eq!(behind, format!("CREATE TABLE t ();\n\n\n{}", plain(end("a"))));
    }

    #[test]
    fn a_setting_that_differs_stays() {
        let (_, key) =
            read(Part::Before, Head::default(), &format!("{}{}", head("a"), end("a")), 64).unwrap();
        let other = head("b").replace("timeout = 0", "timeout = 1");
        let (behind, _) = read(Part::Behind, key, &format!("{other}{}", end("b")), 64).unwrap();
        let kept = "SET statement_timeout = 1;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n";
        assert_eq!(behind, format!("{kept}{}", end("a")));
    }

    #[test]
    fn what_is_no_whole_section_is_refused() {
        let told = |text: &str| {
            let failure = read(Part::Behind, Head::default(), text, 64).unwrap_err();
            (failure.message, failure.causes.first().cloned().unwrap_or_default())
        };
        let missing = (
            "the dump's end marker is missing".to_owned(),
            "`pg_dump` ended well, but did not write all of the dump".to_owned(),
        );
        assert_eq!(told(""), missing);
        assert_eq!(told(&head("a")), missing);
        assert_eq!(told(&format!("{}{}SELECT 1;\n", head("a"), end("a"))), missing);
        assert_eq!(told("Welcome to 'pg_dump").0, "what `pg_dump` wrote is no whole dump");
        assert_eq!(
            told("COPY t (a) FROM stdin;\n1\n\\.\n").0,
            "`pg_dump` wrote rows where definitions were asked for"
        );
        assert_eq!(
            told(&format!("\\! echo owned\n{}", end("a"))).0,
            "line 1 of the dump holds the command `\\! echo owned`"
        );
    }
}
