//! An exact count and an order-free fingerprint of a table's rows.
//!
//! Each row's line of COPY text, without its newline, is hashed with XXH3 (128 bits), and the hashes are added modulo
//! 2^128. A sum does not depend on the order of rows, and counts duplicates, which an exclusive or would cancel. The
//! value is stored with backups: neither the hash nor the sum may ever change. It finds accidents; it is no proof
//! against someone who forges rows, for that is what the file's SHA-256 is for.

use crate::base::backup::TableContent;
use memchr::{memchr, memchr_iter};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The fingerprint of some rows of a table. The default is that of no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    rows: u64,
    sum: u128,
}

impl Fingerprint {
    /// Adds one row: its line of COPY text without the newline.
    pub fn add_row(&mut self, line: &[u8]) {
        self.add(xxh3_128(line));
    }

    /// Adds the rows of another part of the same table.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The fingerprint as 32 hex digits.
    pub fn to_hex(&self) -> String {
        format!("{:032x}", self.sum)
    }

    /// The content of the table named `table` (as the dump writes it) that has these rows.
    pub fn of_table(&self, table: impl Into<String>) -> TableContent {
        TableContent { table: table.into(), rows: self.rows, fingerprint: self.to_hex() }
    }

    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// Takes the fingerprint of a stream of COPY text that arrives in pieces of any size.
#[derive(Default)]
pub struct RowHasher {
    whole: Fingerprint,
    /// The beginning of a row whose end has not arrived.
    begun: Option<Box<Xxh3>>,
}

impl RowHasher {
    /// A hasher that has seen no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on: any number of lines, the last of which may be cut anywhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        if let Some(row) = &mut self.begun {
            let Some(length) = memchr(b'\n', bytes) else {
                row.update(bytes);
                return;
            };
            row.update(&bytes[..length]);
            self.whole.add(row.digest128());
            self.begun = None;
            bytes = &bytes[length + 1..];
        }
        let mut begin = 0;
        for end in memchr_iter(b'\n', bytes) {
            self.whole.add(xxh3_128(&bytes[begin..end]));
            begin = end + 1;
        }
        if begin < bytes.len() {
            let mut row = Box::new(Xxh3::new());
            row.update(&bytes[begin..]);
            self.begun = Some(row);
        }
    }

    /// Takes whole rows that were read elsewhere; the row before them must have ended.
    pub fn skip(&mut self, rows: &Fingerprint) {
        debug_assert!(self.begun.is_none());
        self.whole.merge(rows);
    }

    /// The fingerprint of all rows that have ended, and whether the last one has.
    pub fn end(&self) -> (Fingerprint, bool) {
        (self.whole, self.begun.is_none())
    }
}

impl std::fmt::Debug for RowHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowHasher").field("whole", &self.whole).field("begun", &self.begun.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(bytes: &[u8]) -> Fingerprint {
        let mut hasher = RowHasher::new();
        hasher.feed(bytes);
        let (fingerprint, ended) = hasher.end();
        assert!(ended);
        fingerprint
    }

    fn lines(rows: &[Vec<u8>]) -> Vec<u8> {
        rows.iter().flat_map(|row| row.iter().copied().chain([b'\n'])).collect()
    }

    /// These values are stored with backups; a change of this test is a change of the format on disk.
    #[test]
    fn values_on_disk_never_change() {
        assert_eq!(of(b"").to_hex(), "00000000000000000000000000000000");
        assert_eq!(of(b"\n").to_hex(), "99aa06d3014798d86001c324468d497f");
        assert_eq!(
            of(b"1\tone\n2\t\\N\n").of_table("public.t"),
            TableContent {
                table: "public.t".into(),
                rows: 2,
                fingerprint: "66d46ba54ddb3079d301b40820c9b93f".into()
            }
        );
    }

    #[test]
    fn rows_of_a_table_without_columns_are_counted() {
        let (none, one, three) = (of(b""), of(b"\n"), of(b"\n\n\n"));
        assert_eq!((none.rows(), one.rows(), three.rows()), (0, 1, 3));
        assert!(one.to_hex() != none.to_hex() && three.to_hex() != one.to_hex());
    }

    #[test]
    fn duplicates_count() {
        assert_ne!(of(b"a\na\n").to_hex(), of(b"").to_hex());
        assert_ne!(of(b"a\na\nb\n").to_hex(), of(b"a\nb\nb\n").to_hex());
    }

    #[test]
    fn a_row_cut_off_is_not_counted_as_a_row() {
        let mut hasher = RowHasher::new();
        hasher.feed(b"1\n2");
        let (fingerprint, ended) = hasher.end();
        assert_eq!((fingerprint.rows(), ended), (1, false));
    }

    fn row() -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<u8>().prop_map(|byte| if byte == b'\n' { b'\r' } else { byte });
        prop_oneof![
            4 => proptest::collection::vec(byte.clone(), 0..12),
            1 => proptest::collection::vec(byte, 200..600),
        ]
    }

    proptest! {
        #[test]
        fn order_and_cuts_do_not_matter(
            (rows, shuffled) in proptest::collection::vec(row(), 0..20)
                .prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
            cuts in proptest::collection::vec(1usize..300, 1..20),
        ) {
            let expected = rows.iter().fold(Fingerprint::default(), |mut sum, row| { sum.add_row(row); sum });
            let text = lines(&shuffled);
            let mut hasher = RowHasher::new();
            let mut rest = &text[..];
            for &cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, next) = rest.split_at(cut.min(rest.len()));
                hasher.feed(piece);
                rest = next;
            }
            prop_assert_eq!(hasher.end(), (expected, true));
        }

        #[test]
        fn parts_may_be_merged(rows in proptest::collection::vec(row(), 0..20), at in any::<prop::sample::Index>()) {
            let (left, right) = rows.split_at(at.index(rows.len() + 1));
            let mut merged = of(&lines(right));
            merged.merge(&of(&lines(left)));
            prop_assert_eq!(merged, of(&lines(&rows)));
        }

        #[test]
        fn one_changed_byte_or_row_shows(
            rows in proptest::collection::vec(row(), 1..20),
            at in any::<prop::sample::Index>(),
            byte in any::<prop::sample::Index>(),
        ) {
            let whole = of(&lines(&rows));
            let at = at.index(rows.len());
            let mut dropped = rows.clone();
            let row = dropped.remove(at);
            prop_assert_ne!(of(&lines(&dropped)).to_hex(), whole.to_hex());
            let mut doubled = rows.clone();
            doubled.push(row.clone());
            prop_assert_ne!(of(&lines(&doubled)).to_hex(), whole.to_hex());
            if !row.is_empty() {
                let mut changed = rows.clone();
                let place = &mut changed[at][byte.index(row.len())];
                *place = if *place == b'x' { b'y' } else { b'x' };
                prop_assert_ne!(of(&lines(&changed)).to_hex(), whole.to_hex());
            }
        }
    }
}
