//! How much memory `verify` takes at most, whatever the size of a backup, of its blocks and of its rows.

use crate::cluster::all_tests;
use crate::project::{Ran, TestProject};
use flate2::Compression;
use flate2::write::GzEncoder;
use lifeboat::base::cancel::Cancel;
use lifeboat::base::failure::Failure;
use lifeboat::sys::postgres::fingerprint::Fingerprint;
use lifeboat::sys::postgres::summary;
use lifeboat::sys::stream::{BLOCK, Block, BlockSink, Control, Kind, Level, Output, Stages, pour};
use std::fs::File;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// The goal on two cores; each further one has blocks of its own in its hands.
fn most_kib() -> u64 {
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get() as u64);
    (64 + 16 * cores.saturating_sub(2)) << 10
}

/// Digits that do not shrink much, `n` of them.
fn noise(n: usize, mut state: u64) -> Vec<u8> {
    let digit = |state: &mut u64| {
        *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        b'0' + ((*state >> 58) as u8 & 63)
    };
    (0..n).map(|_| digit(&mut state)).map(|byte| if byte == b'\\' { b'x' } else { byte }).collect()
}

/// A table of a dump: the blocks of its rows, and how often they come.
struct Table {
    name: &'static str,
    blocks: Vec<Vec<u8>>,
    times: usize,
}

/// Lines of about `length` bytes, cut into blocks at row ends.
fn rows(name: &'static str, length: usize, columns: usize, block: usize, times: usize) -> Table {
    let blocks = (0..2).map(|n| {
        let mut bytes = noise(block, n);
        bytes.iter_mut().skip(length - 1).step_by(length).for_each(|byte| *byte = b'\n');
        bytes.iter_mut().skip(length / columns).step_by(length / columns).for_each(|byte| {
            if *byte != b'\n' {
                *byte = b'\t';
            }
        });
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').unwrap() + 1);
        bytes
    });
    Table { name, blocks: blocks.collect(), times }
}

/// Takes a block: its kind, the table that its rows belong to, and its bytes.
type Take<'a> = dyn FnMut(Kind, Option<&str>, &[u8]) -> Result<(), Failure> + 'a;

/// Hands `take` the blocks of a whole dump of `tables`.
fn dump(tables: &[Table], take: &mut Take<'_>) -> Result<(), Failure> {
    take(Kind::Schema, None, b"--\n-- PostgreSQL database dump\n--\n\nSET a = 1;\n")?;
    let mut contents = Vec::new();
    for table in tables {
        let mut rows = Fingerprint::default();
        for block in &table.blocks {
            block.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').for_each(|row| rows.add_row(row));
        }
        let mut sum = Fingerprint::default();
        let mut head = format!("COPY {} (a) FROM stdin;\n", table.name).into_bytes();
        for _ in 0..table.times {
            for block in &table.blocks {
                head.extend_from_slice(block);
                take(Kind::Rows, Some(table.name), &head)?;
                head.clear();
            }
            sum.merge(&rows);
        }
        take(Kind::Rows, Some(table.name), b"\\.\n")?;
        contents.push(sum.of_table(table.name));
    }
    take(Kind::Schema, None, b"--\n-- PostgreSQL database dump complete\n--\n")?;
    take(Kind::Summary, None, summary::write(&contents).as_bytes())
}

struct Written(File);

impl Output for Written {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).unwrap();
        Ok(())
    }
}

/// Verifies with the program; returns what it said, and the most memory that it had, in KiB.
fn verify(project: &TestProject, file: &str) -> (Ran, u64) {
    let mut command = project.command(&["verify", file]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        most = peak.map_or(most, |peak| peak.trim().parse().unwrap());
        std::thread::sleep(Duration::from_millis(2));
    }
    (Ran::of(child.wait_with_output().unwrap()), most)
}

fn tables() -> Vec<Table> {
    let (many, long) = if all_tests() { (1000, 100 << 20) } else { (12, 12 << 20) };
    vec![
        rows("public.narrow", 90, 4, BLOCK, many),
        rows("public.wide", 1000, 200, BLOCK, 2),
        // The largest blocks there are.
        rows("public.large", 3 << 20, 1, 4 << 20, if all_tests() { 100 } else { 5 }),
        // A row larger than any block.
        rows("public.huge", long, 1, long + 1, 1),
    ]
}

#[test]
fn verifying_takes_little_memory_whatever_the_size() {
    let project = TestProject::new();
    let name = "shop_20250101_020000.sql.gz";
    let mut file = Written(File::create(project.at(name)).unwrap());
    let cancel = Cancel::new();
    let control = Control { cancel: &cancel, progress: &|_| () };
    let source = |out: &mut dyn BlockSink| {
        dump(&tables(), &mut |kind, table, bytes| {
            out.push(Block { kind, table: table.map(Arc::from), bytes: bytes.to_vec() })
        })
    };
    let stages = Stages { gzip: Level::new(1), threads: None };
    let ((), written) = pour(source, &stages, &mut file, control).unwrap();
    std::fs::write(project.at(format!("{name}.sha256")), format!("{}  {name}\n", written.sha256)).unwrap();
    let (ran, most) = verify(&project, name);
    // All is proved that can be; it only has no manifest.
    ran.exits(12).says(&format!("{name} is NOT intact: {name}.json is missing\n"));
    assert!(most > 4 << 10 && most < most_kib(), "{most} KiB for {} MiB", written.raw_size >> 20);
}

#[test]
fn verifying_what_others_made_takes_little_memory_too() {
    let project = TestProject::new();
    let name = "shop_20250101_020000.sql.gz";
    let mut gz = GzEncoder::new(File::create(project.at(name)).unwrap(), Compression::fast());
    dump(&tables(), &mut |_, _, bytes| {
        gz.write_all(bytes).unwrap();
        Ok(())
    })
    .unwrap();
    gz.finish().unwrap();
    project.stock(".", "sh", &["-c", &format!("sha256sum {name} > {name}.sha256")]);
    let (ran, most) = verify(&project, name);
    ran.exits(0).says("Verified 1 backups: all are intact");
    assert!(most > 4 << 10 && most < most_kib(), "{most} KiB");
}
