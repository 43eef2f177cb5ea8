//! How fast one core makes the gzip members of a backup, reads them back, and reads what other tools made.

mod made;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::read::MultiGzDecoder;
use lifeboat::base::cancel::Cancel;
use lifeboat::base::failure::Failure;
use lifeboat::sys::stream::{
    BLOCK, Block, BlockSink, Control, Inspection, Kind, Level, Output, Stages, inspect, pour,
};
use std::hint::black_box;
use std::io;
use std::num::NonZeroUsize;

const BLOCKS: usize = 16;

#[derive(Default)]
struct Memory(Vec<u8>);

impl Output for Memory {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn packed(raw: &[u8], level: u8) -> Vec<u8> {
    let mut memory = Memory::default();
    let stages = Stages { gzip: Level::new(level), threads: NonZeroUsize::new(1) };
    let source = |out: &mut dyn BlockSink| {
        raw.chunks(BLOCK).try_for_each(|piece| {
            let mut bytes = out.buffer();
            bytes.extend_from_slice(piece);
            out.push(Block { kind: Kind::File, table: None, bytes })
        })
    };
    let control = Control { cancel: &Cancel::new(), progress: &|_| () };
    pour(source, &stages, &mut memory, control).unwrap();
    memory.0
}

fn codecs(criterion: &mut Criterion) {
    let raw = made::rows(BLOCKS * BLOCK, 200);
    let mut group = criterion.benchmark_group("codecs");
    group.sample_size(10).throughput(Throughput::Bytes(raw.len() as u64));
    for level in [1, 4, 6] {
        group.bench_function(format!("pack at level {level}, with SHA-256"), |b| {
            b.iter(|| packed(black_box(&raw), level));
        });
    }
    let file = packed(&raw, 6);
    group.bench_function("unpack members, with SHA-256", |b| {
        let inspection = Inspection { threads: NonZeroUsize::new(1), ..Inspection::default() };
        let control = Control { cancel: &Cancel::new(), progress: &|_| () };
        b.iter(|| {
            let inspected = inspect(black_box(&*file), &inspection, control, &mut |_| Ok(())).unwrap();
            assert!(inspected.is_intact());
        });
    });
    group.bench_function("inflate as a stream", |b| {
        b.iter(|| io::copy(&mut MultiGzDecoder::new(black_box(&*file)), &mut io::sink()).unwrap());
    });
    group.finish();
}

criterion_group!(benches, codecs);
criterion_main!(benches);
