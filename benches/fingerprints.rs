//! How fast the rows of a table are counted and fingerprinted.

mod made;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lifeboat::sys::postgres::fingerprint::RowHasher;
use std::hint::black_box;

fn fingerprints(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fingerprints");
    for (name, width) in
        [("short rows, 40 bytes", 40), ("rows of 1 KiB", 1 << 10), ("rows of 1 MiB", 1 << 20)]
    {
        let rows = made::rows(8 << 20, width);
        group.throughput(Throughput::Bytes(rows.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut hasher = RowHasher::new();
                // As it arrives in a verification: in pieces that end anywhere.
                black_box(&rows).chunks((1 << 20) - 7).for_each(|piece| hasher.feed(piece));
                hasher.end()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fingerprints);
criterion_main!(benches);
