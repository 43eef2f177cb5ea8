//! How fast a tree of small files becomes an archive, without compression and without a disk to write to.

mod made;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lifeboat::base::cancel::Cancel;
use lifeboat::base::failure::Failure;
use lifeboat::sys::stream::{BLOCK, Block, BlockSink};
use lifeboat::sys::tree::{Selection, archive};
use std::fs;
use std::path::Path;

const FILES: usize = 2000;

/// Counts the bytes of an archive and gives their buffers back.
#[derive(Default)]
struct Sink {
    size: u64,
    spare: Vec<Vec<u8>>,
}

impl BlockSink for Sink {
    fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK))
    }

    fn push(&mut self, block: Block) -> Result<(), Failure> {
        self.size += block.bytes.len() as u64;
        let mut bytes = block.bytes;
        bytes.clear();
        self.spare.push(bytes);
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }
}

fn archived(tree: &Path) -> u64 {
    let everything = Selection::new(&[], &[]).unwrap();
    let mut sink = Sink::default();
    let archived = archive(tree, &everything, &[], &Cancel::new(), &mut sink).unwrap();
    assert_eq!(archived.problems, Vec::<String>::new());
    sink.size
}

fn tar(criterion: &mut Criterion) {
    let tree = tempfile::tempdir().unwrap();
    let text = made::rows(1 << 20, 80);
    for number in 0..FILES {
        let folder = tree.path().join((number / 100).to_string());
        fs::create_dir_all(&folder).unwrap();
        let begin = number * 7907 % (text.len() / 2);
        let content = &text[begin..begin + number * 7919 % 29_000];
        fs::write(folder.join(format!("{number}.txt")), content).unwrap();
    }
    let mut group = criterion.benchmark_group("tar");
    group.sample_size(20).throughput(Throughput::Bytes(archived(tree.path())));
    group.bench_function(format!("{FILES} files"), |b| b.iter(|| archived(tree.path())));
    group.finish();
}

criterion_group!(benches, tar);
criterion_main!(benches);
