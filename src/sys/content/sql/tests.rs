use super::*;
use crate::base::cancel::Cancel;
use crate::sys::postgres::summary;
use crate::sys::stream::{
    Block, BlockSink, Control, Inspection, Kind, Level, Stages, inspect, inspect_ahead, pour,
};
use proptest::prelude::*;

/// All that a reading tells: findings, lines, and tables also of a dump that is not whole.
fn told(reading: SqlReading) -> (Findings, u64, Vec<TableContent>) {
    let (line, tables) = (reading.scanner.line(), reading.contents.tables());
    (reading.end(), line, tables)
}

fn in_order(dump: &[u8]) -> (Findings, u64, Vec<TableContent>) {
    let mut reading = SqlReading::with_outline();
    reading.take(dump, None);
    told(reading)
}

fn with_ahead<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Findings, u64, Vec<TableContent>) {
    let mut reading = SqlReading::with_outline();
    for piece in pieces {
        reading.take(piece, ahead(Content::Sql, piece));
    }
    told(reading)
}

fn table(table: &str, rows: &[&str]) -> TableContent {
    let mut sum = crate::sys::postgres::fingerprint::Fingerprint::default();
    rows.iter().for_each(|row| sum.add_row(row.as_bytes()));
    sum.of_table(table)
}

const END: &str = "--\n-- PostgreSQL database dump complete\n--\n";

#[test]
fn rows_read_ahead_are_taken_where_rows_begin_and_nowhere_else() {
    let dump = b"COPY public.t (a) FROM stdin;\n1\n2\n3\n\\.\nSELECT 1;\n";
    let other = b"COPY public.t (a) FROM stdin;\n4\n5\n6\n\\.\nSELECT 1;\n";
    // What was said of other bytes shows that it is believed here, and not read again.
    let mut reading = SqlReading::default();
    reading.take(dump, ahead(Content::Sql, other));
    assert_eq!(reading.contents.tables(), [table("public.t", &["4", "5", "6"])]);
    assert_eq!(reading.scanner.line(), 7);
    // Lines in a string look like rows to whoever sees nothing else.
    let (string, lines) = (b"SELECT '\n", b"1\n2\n3\n");
    assert!(ahead(Content::Sql, lines).is_some());
    let told = with_ahead([&string[..], lines, b"';\n"].into_iter());
    assert_eq!((told.1, told.2), (6, vec![]));
    // Behind the first line, which ends a row, rows begin; within a row, they do not.
    let told = with_ahead([&dump[..31], b"\n2", b"2\n3\n4\n", b"\\.\n"].into_iter());
    assert_eq!(told.2, [table("public.t", &["1", "22", "3", "4"])]);
}

#[test]
fn a_row_larger_than_many_pieces_is_one_row() {
    let long = "x".repeat(50_000);
    let dump = format!("COPY public.t (a) FROM stdin;\n1\n{long}\n2\n3\n\\.\n{END}");
    for size in [7, 1000, 4096, 49_999, 50_001] {
        let (findings, _, tables) = with_ahead(dump.as_bytes().chunks(size));
        assert!(findings.complete, "{findings:?}");
        assert_eq!(tables, [table("public.t", &["1", &long, "2", "3"])]);
    }
}

#[test]
fn the_first_table_that_differs_is_named_among_many() {
    let tables: Vec<TableContent> =
        (0..50_000).map(|n| TableContent { rows: n, ..table(&format!("public.t{n:05}"), &[]) }).collect();
    assert_eq!(difference(&tables, &tables), None);
    let mut other = tables.clone();
    other[41_000].fingerprint = "f".repeat(32);
    other[40_000].rows = 7;
    let message = "table public.t40000 has 7 rows instead of 40000";
    assert_eq!(difference(&tables, &other).as_deref(), Some(message));
    other[40_000].rows = 40_000;
    let message = "table public.t41000 has other content than when it was dumped";
    assert_eq!(difference(&tables, &other).as_deref(), Some(message));
    let message = "table public.t49999 is missing";
    assert_eq!(difference(&tables, &tables[..49_999]).as_deref(), Some(message));
    let message = "table public.t49999 is not in the dump's summary";
    assert_eq!(difference(&tables[..49_999], &tables).as_deref(), Some(message));
}

/// Pieces of which dumps consist, whole, torn, and in places where they mean something else.
fn fragment() -> impl Strategy<Value = String> {
    let fixed = [
        "COPY public.t (a, b) FROM stdin;\n",
        "COPY public.\"u\nv\" (a) FROM stdin;\n",
        "COPY f.t FROM stdin;\n",
        "\\.\n",
        "\\.",
        "\\",
        "\n",
        "\n\n",
        "\\.x\n",
        "\\N\t\\\\.\n",
        ".\n",
        "1\t2\n",
        "row without an end",
        "-- comment\n",
        "/* COPY public.t FROM stdin;\n1\n",
        "*/",
        "'",
        "$body$",
        "SELECT 1;\n",
        "SELECT pg_catalog.setval('public.s', 5, false);\n",
        "CREATE FOREIGN TABLE f.t (a integer) SERVER s;\n",
        "CREATE ROLE x;\n",
        "ALTER TABLE public.t OWNER TO anna;\n",
        "\\restrict k3Y\n",
        "\\connect other\n",
        END,
    ];
    prop_oneof![
        4 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        2 => prop::collection::vec("[a-c\\\\.\t]{0,6}\n", 0..40).prop_map(|rows| rows.concat()),
        1 => prop::collection::vec("[a-c\t]{0,6}", 0..9).prop_map(|rows| {
            format!("COPY public.w (a) FROM stdin;\n{}\\.\n", rows.iter().map(|row| format!("{row}\n")).collect::<String>())
        }),
    ]
}

/// A dump that is right to its summary, in which at most one byte is another.
fn nearly_whole() -> impl Strategy<Value = String> {
    let tables = prop::collection::vec(prop::collection::vec("[a-c\t]{0,5}", 0..12), 0..5);
    (tables, any::<prop::sample::Index>(), prop::option::of(prop::sample::select(b"\\.\na;'".to_vec())))
        .prop_map(|(tables, at, change)| {
            let mut dump = String::from("SET a = 1;\n");
            let mut contents = Vec::new();
            for (n, rows) in tables.iter().enumerate() {
                let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
                let name = format!("public.t{n}");
                dump += &format!("COPY {name} (a) FROM stdin;\n");
                rows.iter().for_each(|row| dump += &format!("{row}\n"));
                dump += "\\.\n\n";
                contents.push(table(&name, &rows));
            }
            dump += END;
            dump += &summary::write(&contents);
            let mut bytes = dump.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = change.unwrap_or(bytes[at]);
            String::from_utf8(bytes).unwrap()
        })
}

fn dump() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => prop::collection::vec(fragment(), 0..14).prop_map(|parts| parts.concat()),
        1 => nearly_whole(),
    ]
}

/// `bytes` in pieces that end where `cuts` say.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn reading_ahead_changes_no_finding(
        dump in dump(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bytes = dump.as_bytes();
        let expected = in_order(bytes);
        prop_assert_eq!(&with_ahead(cut(bytes, &cuts).into_iter()), &expected);
        prop_assert_eq!(&with_ahead(bytes.chunks(64)), &expected);
        prop_assert_eq!(&with_ahead(std::iter::once(bytes)), &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_the_members_of_a_file_claim_to_hold_the_findings_are_the_same(
        dump in dump(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        kinds in prop::collection::vec(prop::sample::select(vec![Kind::Schema, Kind::Rows, Kind::Summary, Kind::Tar]), 9),
        damage in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = Vec::new();
        let cancel = Cancel::new();
        let control = Control { cancel: &cancel, progress: &|_| () };
        let stages = Stages { gzip: Level::new(1), threads: std::num::NonZeroUsize::new(2) };
        let parts = cut(dump.as_bytes(), &cuts);
        let source = |out: &mut dyn BlockSink| {
            parts.iter().zip(&kinds).try_for_each(|(part, kind)| {
                out.push(Block { kind: *kind, table: Some("public.t".into()), bytes: part.to_vec() })
            })
        };
        pour(source, &stages, &mut file, control).unwrap();
        if let Some(at) = damage {
            let at = at.index(file.len());
            file[at] ^= 4;
        }
        let mut raw = Vec::new();
        let serial = inspect(&file[..], &Inspection::default(), control, &mut |bytes| {
            raw.extend_from_slice(bytes);
            Ok(())
        });
        let mut reading = SqlReading::with_outline();
        let parallel = inspect_ahead(
            &file[..],
            &Inspection::default(),
            control,
            &|bytes| ahead(Content::Sql, bytes),
            &mut |bytes, ahead| {
                reading.take(bytes, ahead);
                Ok(())
            },
        );
        prop_assert_eq!(parallel, serial);
        prop_assert_eq!(told(reading), in_order(&raw));
    }
}
