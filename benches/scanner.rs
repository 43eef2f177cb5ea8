//! How fast a plain dump is read: data known from SQL, tables counted and fingerprinted.

mod made;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lifeboat::base::backup::Content;
use lifeboat::sys::content::{Findings, Reading, ahead};
use lifeboat::sys::postgres::scan::Scanner;
use std::fmt::Write as _;
use std::hint::black_box;

const PIECE: usize = 1 << 20;

/// The SQL and the data of so many tables, as pg_dump writes them.
fn dump(tables: usize, rows: &[u8]) -> Vec<u8> {
    let mut text =
        b"--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n\n".to_vec();
    text.extend_from_slice(b"SET client_encoding = 'UTF8';\n\n");
    for table in 0..tables {
        let mut head = String::new();
        let name = format!("public.\"table {table}\"");
        let _ = writeln!(
            head,
            "CREATE TABLE {name} (\n    id bigint NOT NULL,\n    note text DEFAULT 'a;b'::text\n);\n"
        );
        let _ = writeln!(
            head,
            "CREATE FUNCTION public.f{table}() RETURNS integer LANGUAGE sql AS $_$ SELECT 1; $_$;\n"
        );
        let _ = writeln!(head, "COPY {name} (id, note) FROM stdin;");
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(rows);
        text.extend_from_slice(b"\\.\n\n");
    }
    text.extend_from_slice(b"--\n-- PostgreSQL database dump complete\n--\n\n");
    text
}

fn scanned(dump: &[u8]) -> u64 {
    let mut scanner = Scanner::new();
    for mut piece in dump.chunks(PIECE) {
        while scanner.next(&mut piece).unwrap().is_some() {}
    }
    scanner.end().unwrap();
    scanner.line()
}

fn found(dump: &[u8], is_read_ahead: bool) -> Findings {
    let mut reading = Reading::of(Content::Sql);
    for piece in dump.chunks(PIECE) {
        let ahead = is_read_ahead.then(|| ahead(Content::Sql, piece)).flatten();
        reading.take(piece, ahead).unwrap();
    }
    let findings = reading.end().unwrap();
    assert!(findings.complete, "{:?}", findings.problems);
    findings
}

fn scanner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scanner");
    let cases = [
        ("mostly rows", dump(4, &made::rows(4 << 20, 120))),
        ("mostly SQL", dump(20_000, &made::rows(100, 40))),
    ];
    for (name, dump) in &cases {
        group.sample_size(20).throughput(Throughput::Bytes(dump.len() as u64));
        group.bench_function(format!("scan alone, {name}"), |b| b.iter(|| scanned(black_box(dump))));
        group.bench_function(format!("all findings, {name}"), |b| b.iter(|| found(black_box(dump), false)));
        group.bench_function(format!("all findings, rows read ahead, {name}"), |b| {
            b.iter(|| found(black_box(dump), true));
        });
    }
    group.finish();
}

criterion_group!(benches, scanner);
criterion_main!(benches);
