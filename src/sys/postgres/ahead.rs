//! Reads rows ahead of the scanner, so that many threads can read one dump.
//!
//! Only what comes before a piece of a dump tells whether its lines are rows. But if they are, then what they add to
//! their table can be known beforehand. So a thread reads a piece on that guess, and whoever reads the pieces in order
//! takes its result, where the scanner stands between two rows, or else reads the lines once more. The guess needs no
//! label of the piece, and nothing is believed of it: a wrong one costs time, and changes no finding.

use super::fingerprint::Fingerprint;
use super::scan::END_MARKER;
use memchr::{memchr, memchr_iter};

/// Whole lines of a piece, as rows: none of them begins like the end of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsAhead {
    begin: usize,
    end: usize,
    rows: Fingerprint,
}

impl RowsAhead {
    /// Reads the lines of `piece` behind its first one, which may be the rest of a row or the COPY statement, up to the
    /// last newline or the end of the data; `None` if there is not one.
    pub fn read(piece: &[u8]) -> Option<Self> {
        let begin = memchr(b'\n', piece)? + 1;
        let lines = &piece[begin..];
        let mut rows = Fingerprint::default();
        let mut at = 0;
        for newline in memchr_iter(b'\n', lines) {
            let line = &lines[at..newline];
            if line.starts_with(END_MARKER) {
                break;
            }
            rows.add_row(line);
            at = newline + 1;
        }
        (at > 0).then_some(Self { begin, end: begin + at, rows })
    }

    /// What lies in the piece before the rows, and what from the first of them on.
    pub fn split<'a>(&self, piece: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        piece.split_at(self.begin)
    }

    /// What lies in the piece behind the rows.
    pub fn rest<'a>(&self, piece: &'a [u8]) -> &'a [u8] {
        &piece[self.end..]
    }

    /// Number and fingerprint of the rows.
    pub fn rows(&self) -> &Fingerprint {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies before the rows, their number, and what lies behind them.
    fn read(piece: &str) -> Option<(&str, u64, &str)> {
        let ahead = RowsAhead::read(piece.as_bytes())?;
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let (before, lines) = ahead.split(piece.as_bytes());
        let rest = ahead.rest(piece.as_bytes());
        let mut rows = Fingerprint::default();
        text(&lines[..lines.len() - rest.len()]).lines().for_each(|line| rows.add_row(line.as_bytes()));
        assert_eq!(ahead.rows(), &rows);
        Some((text(before), rows.rows(), text(rest)))
    }

    #[test]
    fn lines_behind_the_first_are_read_up_to_the_end_of_the_data() {
        assert_eq!(
            read("COPY t FROM stdin;\n1\n2\n\\.\n\nCOPY"),
            Some(("COPY t FROM stdin;\n", 2, "\\.\n\nCOPY"))
        );
        assert_eq!(read("1\n2\n\n\\N\n3"), Some(("1\n", 3, "3")));
        assert_eq!(read("1\n2\n\\.x\n"), Some(("1\n", 1, "\\.x\n")));
        assert_eq!(read("\n\n"), Some(("\n", 1, "")));
        for piece in ["", "1", "1\n", "1\n2", "\\.\n\\.\n", "1\n\\.\n2\n"] {
            assert_eq!(read(piece), None, "{piece}");
        }
    }
}
