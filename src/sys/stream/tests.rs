//! What `inspect` finds in files of ours and of other tools, damaged in every way.

use super::*;
use crate::base::cancel::Reason;
use crate::base::failure::{Code, Failure};
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;

impl Output for Vec<u8> {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The file of ours that holds `blocks`.
fn ours(blocks: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    let source = |out: &mut dyn BlockSink| {
        for bytes in blocks {
            out.push(Block { kind: Kind::Rows, table: Some("public.t".into()), bytes: bytes.to_vec() })?;
        }
        Ok(())
    };
    let cancel = Cancel::new();
    let stages = Stages { gzip: Some(Level::default()), threads: NonZeroUsize::new(2) };
    pour(source, &stages, &mut file, Control { cancel: &cancel, progress: &|_| () }).unwrap();
    file
}

/// Where the members of a file of ours begin, by their index.
fn borders(file: &[u8]) -> Vec<usize> {
    let mut at = vec![0];
    while let Some(size) = file.get(at[at.len() - 1] + 16..).and_then(|rest| rest.first_chunk()) {
        at.push(at[at.len() - 1] + u32::from_le_bytes(*size) as usize);
    }
    at
}

fn small() -> Vec<u8> {
    ours(&[b"1\tone\n2\ttwo\n2\ttwo\n2\ttwo\n", &[b'x'; 900], b"a"])
}

fn foreign(raw: &[u8]) -> Vec<u8> {
    let mut gz = GzBuilder::new().write(Vec::new(), Compression::default());
    gz.write_all(raw).unwrap();
    gz.finish().unwrap()
}

fn digest(file: &[u8]) -> Digest {
    Digest(Sha256::digest(file).into())
}

fn inspected(file: impl Read + Send, expected: Option<Digest>) -> Result<(Inspected, Vec<u8>), Failure> {
    let mut raw = Vec::new();
    let cancel = Cancel::new();
    let inspection = Inspection { path: Some(Path::new("b/x.gz")), expected, threads: NonZeroUsize::new(1) };
    let control = Control { cancel: &cancel, progress: &|_| () };
    let found = inspect(file, &inspection, control, &mut |bytes| {
        raw.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok((found, raw))
}

fn defects(file: &[u8]) -> Vec<Defect> {
    let (found, _) = inspected(file, None).unwrap();
    assert_eq!((found.size, found.sha256), (file.len() as u64, digest(file)));
    found.defects
}

/// Asserts that `file` is intact and holds `raw`.
fn intact(file: &[u8], raw: &[u8]) -> Inspected {
    let (found, seen) = inspected(file, Some(digest(file))).unwrap();
    assert_eq!(found.defects, []);
    assert!(found.is_intact());
    assert!(seen == raw && found.raw_size == raw.len() as u64);
    assert_eq!((found.size, found.sha256), (file.len() as u64, digest(file)));
    found
}

#[test]
fn files_of_ours_are_intact_and_indexed() {
    let big: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
    for blocks in [&[][..], &[&b"x"[..]], &[b"ab", &big, b"", b"c"]] {
        let found = intact(&ours(blocks), &blocks.concat());
        let members = blocks.iter().filter(|bytes| !bytes.is_empty()).count() as u64 + 1;
        assert_eq!((found.members, found.indexed), (members, true));
    }
}

#[test]
fn every_truncation_of_a_file_of_ours_is_found() {
    let file = small();
    for at in 0..file.len() {
        let (found, _) = inspected(&file[..at], Some(digest(&file))).unwrap();
        let wrong = Defect::WrongDigest { expected: digest(&file), found: digest(&file[..at]) };
        assert_eq!(found.defects, [Defect::Truncated { at: at as u64 }, wrong]);
    }
}

#[test]
fn every_flipped_bit_of_a_file_of_ours_is_found() {
    for file in [small(), ours(&[])] {
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The digest is compared last, so that what stands before it was found without it.
            let (found, _) = inspected(&flipped[..], Some(digest(&file))).unwrap();
            let wrong = Defect::WrongDigest { expected: digest(&file), found: digest(&flipped) };
            assert_eq!(found.defects.len(), 2, "byte {} bit {}", bit / 8, bit % 8);
            assert_eq!(found.defects[1], wrong);
            assert!(!found.indexed && found.defects[0] != wrong);
        }
    }
}

#[test]
fn a_defect_names_the_member_and_what_came_before_is_seen() {
    let mut file = small();
    let second = borders(&file)[1];
    file[second + 40] ^= 1;
    let (found, raw) = inspected(&file[..], None).unwrap();
    let detail = "its checksum does not match".to_owned();
    assert_eq!(found.defects, [Defect::Corrupt { at: second as u64, detail }]);
    assert_eq!((raw.len(), found.raw_size, found.members, found.indexed), (24, 24, 1, false));
}

#[test]
fn lost_doubled_and_swapped_members_are_found() {
    let file = small();
    let at = borders(&file);
    let parts: Vec<&[u8]> = at.windows(2).map(|pair| &file[pair[0]..pair[1]]).collect();
    let [a, b, c, end] = parts[..] else { panic!("{at:?}") };
    for wrong in [[a, c, end].concat(), [a, b, b, c, end].concat(), [a, end, b, c].concat()] {
        let found = defects(&wrong);
        assert!(
            matches!(&found[..], [Defect::Corrupt { detail, .. }] if detail == "members are missing before the end mark"),
            "{found:?}"
        );
    }
    assert_eq!(defects(&[a, b, c].concat()), [Defect::Truncated { at: at[3] as u64 }]);
    let detail = "no member begins where the one before it ends".to_owned();
    let cut = [a, &foreign(b"x")].concat();
    assert_eq!(defects(&cut), [Defect::Corrupt { at: at[1] as u64, detail }]);
}

#[test]
fn files_of_other_tools_are_intact_and_not_indexed() {
    let rows = b"hello\n".repeat(400_000);
    let named = {
        let builder = GzBuilder::new().filename("dump.sql").comment("nightly").mtime(7);
        let mut gz = builder.extra(*b"XY\x02\0ab").write(Vec::new(), Compression::fast());
        gz.write_all(&rows).unwrap();
        gz.finish().unwrap()
    };
    let mut checked = foreign(b"checked");
    checked[3] |= 2;
    let crc = libdeflater::crc32(&checked[..10]) as u16;
    checked.splice(10..10, crc.to_le_bytes());
    let mut padded = foreign(b"padded");
    padded.extend_from_slice(&[0; 300_000]);
    for (file, raw, members) in [
        (foreign(b""), &b""[..], 1),
        (foreign(b"plain"), b"plain", 1),
        (named.clone(), &rows, 1),
        (checked.clone(), b"checked", 1),
        (padded, b"padded", 1),
        ([foreign(b"a"), named, foreign(b"b")].concat(), &[b"a", &rows[..], b"b"].concat(), 3),
        ([small(), foreign(b"!"), ours(&[b"?"])].concat(), &[&RAW[..], b"!?"].concat(), 4 + 1 + 2),
    ] {
        let found = intact(&file, raw);
        assert_eq!((found.members, found.indexed), (members, false));
    }
    assert!(intact(&[small(), ours(&[b"?"])].concat(), &[&RAW[..], b"?"].concat()).indexed);
    checked[10] ^= 1;
    assert_eq!(defects(&checked).len(), 1);
}

/// What [`small`] holds.
const RAW: [u8; 925] = {
    let mut raw = [b'x'; 925];
    let head = b"1\tone\n2\ttwo\n2\ttwo\n2\ttwo\n";
    let mut n = 0;
    while n < head.len() {
        raw[n] = head[n];
        n += 1;
    }
    raw[924] = b'a';
    raw
};

#[test]
fn every_truncation_of_a_foreign_file_is_found() {
    let file = [foreign(b"first member"), foreign(&[7; 5000])].concat();
    let border = foreign(b"first member").len();
    for at in 0..file.len() {
        let found = if at == border { vec![] } else { vec![Defect::Truncated { at: at as u64 }] };
        assert_eq!(defects(&file[..at]), found);
        assert!(!inspected(&file[..at], Some(digest(&file))).unwrap().0.is_intact());
    }
}

#[test]
fn without_a_digest_only_idle_bits_of_a_foreign_file_may_flip() {
    let file = foreign(b"first member first member");
    let mut unseen = BTreeSet::new();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (found, _) = inspected(&flipped[..], Some(digest(&file))).unwrap();
        let wrong = Defect::WrongDigest { expected: digest(&file), found: digest(&flipped) };
        assert_eq!(found.defects.last(), Some(&wrong));
        if found.defects.len() == 1 {
            unseen.insert((bit / 8, bit % 8));
        }
    }
    // The text flag, the time, the hint on the level, the system; then the bits behind the end of the last code.
    let last = file.len() - 9;
    let padding = unseen.split_off(&(10, 0));
    let idle = (4..10).flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
    assert_eq!(unseen, std::iter::once((3, 0)).chain(idle).collect());
    assert!(padding.iter().all(|&(byte, _)| byte == last) && padding.len() < 8, "{padding:?}");
}

#[test]
fn what_is_no_gzip_is_said_so() {
    assert_eq!(defects(b""), [Defect::Truncated { at: 0 }]);
    assert_eq!(defects(b"SELECT 1;"), [Defect::NotGzip]);
    assert_eq!(defects(&[0; 100_000]), [Defect::NotGzip]);
    let detail = |detail: &str| [Defect::Corrupt { at: 0, detail: detail.to_owned() }];
    assert_eq!(defects(b"\x1f\x8b\x07\0\0\0\0\0\0\0rest"), detail("unknown compression method"));
    assert_eq!(defects(b"\x1f\x8b\x08\x20\0\0\0\0\0\0rest"), detail("reserved flags are set"));
}

#[test]
fn trailing_garbage_is_found() {
    for file in [small(), foreign(b"x"), ours(&[])] {
        let at = file.len() as u64;
        for tail in [&b"\x01"[..], b"garbage", b"\0\0\0\0x", &[&[0; 200_000][..], b"x"].concat()] {
            assert_eq!(defects(&[&file, tail].concat()), [Defect::TrailingGarbage { at }]);
        }
        assert_eq!(defects(&[&file[..], &[0; 512]].concat()), []);
    }
}

#[test]
fn defects_read_as_ends_of_sentences() {
    let shown = [
        Defect::NotGzip,
        Defect::Truncated { at: 0 },
        Defect::Truncated { at: 7 },
        Defect::Corrupt { at: 9, detail: "its checksum does not match".to_owned() },
        Defect::TrailingGarbage { at: 3 },
        Defect::WrongDigest { expected: Digest([0xab; 32]), found: Digest([1; 32]) },
    ];
    let (ab, one) = ("ab".repeat(32), "01".repeat(32));
    let expected = [
        "is not a gzip file".to_owned(),
        "is empty".to_owned(),
        "is cut off at byte 7".to_owned(),
        "is damaged at byte 9: its checksum does not match".to_owned(),
        "has foreign bytes behind its end at byte 3".to_owned(),
        format!("has the SHA-256 {one} instead of {ab}"),
    ];
    assert_eq!(shown.map(|defect| defect.to_string()), expected);
}

/// Reads `bytes`, a few at a time, then fails.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            // The kind that a decoder would take for a truncation.
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "medium error"));
        }
        let n = out.len().min(11);
        self.0.read(&mut out[..n])
    }
}

#[test]
fn errors_of_the_reader_are_failures_and_no_defects() {
    let unreadable = Failure::new(Code::Io, "cannot read `b/x.gz`").caused_by("medium error");
    for file in [small(), foreign(&[7; 5000])] {
        for at in [0, 1, 5, 11, 30, file.len() - 1, file.len()] {
            assert_eq!(inspected(Failing(&file[..at]), None).unwrap_err(), unreadable, "{at}");
        }
        let mut damaged = file.clone();
        damaged[2] = 9;
        assert_eq!(inspected(Failing(&damaged), None).unwrap_err(), unreadable);
    }
    let cancel = Cancel::new();
    let control = Control { cancel: &cancel, progress: &|_| () };
    let failure = hash(Failing(b"x"), Path::new("b/x.gz"), control, &mut |_| Ok(()));
    assert_eq!(failure.unwrap_err(), unreadable);
}

#[test]
fn the_consumer_may_fail_and_cancelling_ends_the_inspection() {
    let half = vec![b'r'; BLOCK];
    let block = &half[..];
    for file in [ours(&[block; 30]), foreign(&block.repeat(30))] {
        let mut seen = 0;
        let cancel = Cancel::new();
        let control = Control { cancel: &cancel, progress: &|_| () };
        let failure = inspect(&file[..], &Inspection::default(), control, &mut |bytes| {
            seen += bytes.len();
            if seen > 3 * BLOCK { Err(Failure::new(Code::Version, "too new")) } else { Ok(()) }
        });
        assert_eq!((failure.unwrap_err().code, seen), (Code::Version, 4 * BLOCK));
        let failure = inspect(&file[..], &Inspection::default(), control, &mut |_| {
            cancel.cancel(Reason::Interrupted);
            Ok(())
        });
        assert_eq!(failure.unwrap_err().code, Code::Interrupted);
    }
}

#[test]
fn progress_counts_the_bytes_of_the_file() {
    let file = [ours(&[b"abc", b"d"]), foreign(b"x")].concat();
    let seen = RefCell::new(Vec::new());
    let cancel = Cancel::new();
    let progress = |n| seen.borrow_mut().push(n);
    let control = Control { cancel: &cancel, progress: &progress };
    inspect(&file[..], &Inspection::default(), control, &mut |_| Ok(())).unwrap();
    let size = file.len();
    let mut expected: Vec<u64> = borders(&file)[1..4].iter().map(|&at| at as u64).collect();
    expected.extend([size as u64; 2]);
    assert_eq!(seen.into_inner(), expected);
}

#[test]
fn a_hash_is_that_of_the_bytes() {
    let cancel = Cancel::new();
    let control = Control { cancel: &cancel, progress: &|_| () };
    let mut seen = 0;
    let found = hash(&[b'a'; 1_000_000][..], Path::new("a"), control, &mut |bytes| {
        seen += bytes.len();
        Ok(())
    });
    let (size, digest) = found.unwrap();
    // The third test vector of FIPS 180.
    let text = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    assert_eq!((size, seen, digest.to_string().as_str()), (1_000_000, 1_000_000, text));
    assert_eq!(Digest::parse(&text.to_uppercase()), Some(digest));
    for wrong in [&text[1..], &format!("{text}0"), &text.replace('c', "g"), &text.replace("cd", "+d")] {
        assert_eq!(Digest::parse(wrong), None);
    }
    cancel.cancel(Reason::Terminated);
    assert_eq!(hash(&b""[..], Path::new("a"), control, &mut |_| Ok(())).unwrap_err().code, Code::Terminated);
}
