//! Proving a gzip file in one pass: its SHA-256, its framing, every length and every checksum.
//!
//! Members that carry our index field are cut out by their size and inflated in parallel. All others are streamed
//! through one decoder, since only inflating tells where they end. A file may mix both.
//!
//! In a file of ours every flipped bit and every cut is found, with or without an expected digest. In a file of
//! another tool, gzip's own checks see the content and its length; without an expected digest, flips in the
//! time, system, level hint, name, comment and text flag of the header, in deflate's padding, and a cut exactly
//! between two members go unseen.

use super::Control;
use super::block::{BLOCK, MAX_BLOCK, Pool};
use super::gzip::{HEADER, Member, Recognized, recognize};
use super::hash::Digest;
use super::ordered::{Feed, Width, ordered};
use super::pour::cores;
use super::tape::Tape;
use crate::base::failure::Failure;
use flate2::bufread::GzDecoder;
use libdeflater::Decompressor;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is wrong with a file. Shown as a fragment that follows the file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It does not begin like a gzip file.
    NotGzip,
    /// It ends before the stream does.
    Truncated {
        /// Where it ends.
        at: u64,
    },
    /// A member is damaged.
    Corrupt {
        /// Where the member begins, or for members of other tools, where the damage was noticed.
        at: u64,
        /// What does not fit.
        detail: String,
    },
    /// Something else than zeros follows the last member.
    TrailingGarbage {
        /// Where the last member ends.
        at: u64,
    },
    /// The bytes are not those that the digest was taken from.
    WrongDigest {
        /// The digest on record.
        expected: Digest,
        /// The digest of the file.
        found: Digest,
    },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGzip => write!(f, "is not a gzip file"),
            Self::Truncated { at: 0 } => write!(f, "is empty"),
            Self::Truncated { at } => write!(f, "is cut off at byte {at}"),
            Self::Corrupt { at, detail } => write!(f, "is damaged at byte {at}: {detail}"),
            Self::TrailingGarbage { at } => write!(f, "has foreign bytes behind its end at byte {at}"),
            Self::WrongDigest { expected, found } => {
                write!(f, "has the SHA-256 {found} instead of {expected}")
            }
        }
    }
}

/// What to inspect, and against what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inspection<'a> {
    /// Path of the file, for messages.
    pub path: Option<&'a Path>,
    /// The digest on record. Without one, all other checks are made.
    pub expected: Option<Digest>,
    /// Threads that inflate; all cores if not given.
    pub threads: Option<NonZeroUsize>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Bytes in the file.
    pub size: u64,
    /// Raw bytes that `consume` saw.
    pub raw_size: u64,
    /// gzip members found right, end marks included.
    pub members: u64,
    /// Whether all members carry our index field.
    pub indexed: bool,
    /// SHA-256 of the whole file, also of a damaged one.
    pub sha256: Digest,
    /// The first defect of the stream, and a wrong digest; empty for an intact file.
    pub defects: Vec<Defect>,
}

impl Inspected {
    /// Whether nothing is wrong.
    pub fn is_intact(&self) -> bool {
        self.defects.is_empty()
    }
}

/// Reads `input` once to its end and checks all that can be checked; progress counts bytes of the file.
///
/// `consume` sees the raw bytes in order, up to the first defect; what it fails with ends the inspection. Defects
/// are results, not failures: only errors of reading, of `consume`, and cancellation are.
pub fn inspect(
    input: impl Read + Send,
    inspection: &Inspection<'_>,
    control: Control<'_>,
    consume: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Inspected, Failure> {
    inspect_ahead(input, inspection, control, &|_| (), &mut |bytes, ()| consume(bytes))
}

/// Takes raw bytes in order, with what they say by themselves.
pub type Consume<'a, A> = dyn FnMut(&[u8], A) -> Result<(), Failure> + 'a;

/// As [`inspect`], where the threads that inflate also look `ahead`: what each piece of raw bytes says by itself comes
/// to `consume` with it. Pieces are cut anywhere.
pub fn inspect_ahead<A: Send>(
    input: impl Read + Send,
    inspection: &Inspection<'_>,
    control: Control<'_>,
    ahead: &(dyn Fn(&[u8]) -> A + Sync),
    consume: &mut Consume<'_, A>,
) -> Result<Inspected, Failure> {
    let pools = Pools::default();
    let broken = AtomicBool::new(false);
    let width =
        Width { threads: inspection.threads.map_or_else(cores, NonZeroUsize::get), cancel: control.cancel };
    let (mut raw_size, mut members) = (0, 0);
    let mut defects = Vec::new();
    let path = inspection.path.unwrap_or(Path::new("-"));
    let walked = ordered(
        &width,
        |feed| {
            let mut walk = Walk { tape: Tape::new(input), feed, pools: &pools, broken: &broken, path };
            walk.run()
        },
        || {
            let mut decompressor = Decompressor::new();
            let pools = &pools;
            move |piece| Ok(unpack(piece, &mut decompressor, pools, ahead))
        },
        |unpacked: Unpacked<A>| {
            // What follows the first defect is noise.
            if broken.load(Ordering::Relaxed) {
                return Ok(());
            }
            match unpacked.result {
                Ok((raw, ahead)) => {
                    consume(&raw, ahead)?;
                    raw_size += raw.len() as u64;
                    members += u64::from(unpacked.ends_member);
                    pools.raw.give(raw);
                }
                Err(defect) => {
                    defects.push(defect);
                    broken.store(true, Ordering::Relaxed);
                }
            }
            (control.progress)(unpacked.end);
            Ok(())
        },
    )?;
    control.cancel.check()?;
    if let Some(expected) = inspection.expected.filter(|expected| *expected != walked.sha256) {
        defects.push(Defect::WrongDigest { expected, found: walked.sha256 });
    }
    (control.progress)(walked.size);
    Ok(Inspected {
        size: walked.size,
        raw_size,
        members,
        indexed: walked.indexed && !broken.load(Ordering::Relaxed),
        sha256: walked.sha256,
        defects,
    })
}

/// Buffers to use again, apart, so that a raw one keeps its length and need not be zeroed anew.
#[derive(Default)]
struct Pools {
    raw: Pool,
    packed: Pool,
}

/// What the reading thread hands to the inflating ones.
struct Piece {
    /// Offset behind it in the file.
    end: u64,
    content: Content,
}

enum Content {
    /// A whole member of ours, and where it begins.
    Member(u64, Vec<u8>),
    /// Raw bytes of a foreign member, and whether it is complete and right with them.
    Raw(Vec<u8>, bool),
    /// Nothing can be read from here on.
    Defect(Defect),
}

struct Unpacked<A> {
    end: u64,
    ends_member: bool,
    /// Raw bytes, and what they say by themselves.
    result: Result<(Vec<u8>, A), Defect>,
}

fn unpack<A>(
    piece: Piece,
    decompressor: &mut Decompressor,
    pools: &Pools,
    ahead: &(dyn Fn(&[u8]) -> A + Sync),
) -> Unpacked<A> {
    let mut ends_member = true;
    let result = match piece.content {
        Content::Raw(raw, ends) => {
            ends_member = ends;
            Ok(raw)
        }
        Content::Defect(defect) => Err(defect),
        Content::Member(at, bytes) => {
            let mut raw = pools.raw.take();
            let unpacked = Member(&bytes).unpack(decompressor, &mut raw);
            pools.packed.give(bytes);
            match unpacked {
                Ok(()) => Ok(raw),
                Err(detail) => Err(Defect::Corrupt { at, detail: detail.to_owned() }),
            }
        }
    };
    let result = result.map(|raw| {
        let said = ahead(&raw);
        (raw, said)
    });
    Unpacked { end: piece.end, ends_member, result }
}

/// What the reading thread knows at the end.
struct Walked {
    size: u64,
    sha256: Digest,
    indexed: bool,
}

/// The reading thread: finds where members begin and end.
struct Walk<'a, 'c, R, A> {
    tape: Tape<R>,
    feed: &'a Feed<'c, Piece, Unpacked<A>>,
    pools: &'a Pools,
    broken: &'a AtomicBool,
    path: &'a Path,
}

/// Members of ours since the last end mark.
#[derive(Default)]
struct Open {
    raw_size: u64,
    members: u64,
}

impl<R: Read, A> Walk<'_, '_, R, A> {
    fn run(&mut self) -> Result<Walked, Failure> {
        let indexed = match self.members() {
            Ok(indexed) => indexed,
            Err(Ended::Defect(defect)) => {
                self.send(Content::Defect(defect))?;
                false
            }
            Err(Ended::Broken) => false,
            Err(Ended::Failed(failure)) => return Err(failure),
            Err(Ended::Io(error)) => return Err(self.failure(error)),
        };
        // The digest of a damaged file tells whether it was damaged before or after it was taken.
        loop {
            self.feed.check()?;
            match self.tape.fill_buf().map(<[u8]>::len) {
                Ok(0) => break,
                Ok(n) => self.tape.consume(n),
                Err(error) => return Err(self.failure(error)),
            }
        }
        Ok(Walked { size: self.tape.size(), sha256: self.tape.digest(), indexed })
    }

    /// Walks all members; says whether all are ours.
    fn members(&mut self) -> Result<bool, Ended> {
        let mut open = None;
        let mut indexed = true;
        while !self.broken.load(Ordering::Relaxed) {
            let at = self.tape.position();
            let corrupt = |detail: &str| Ended::Defect(Defect::Corrupt { at, detail: detail.to_owned() });
            let head = self.tape.peek(HEADER)?;
            if head.is_empty() {
                let whole = at > 0 && open.is_none();
                return if whole { Ok(indexed) } else { Err(self.truncated()) };
            }
            match recognize(head) {
                Recognized::Truncated => return Err(self.truncated()),
                Recognized::Damaged(detail) => return Err(corrupt(detail)),
                Recognized::Indexed(size) => {
                    let mut bytes = self.pools.packed.take();
                    if !self.tape.cut(size, &mut bytes)? {
                        return Err(self.truncated());
                    }
                    let member = Member(&bytes);
                    let followed = followed(open, &member);
                    // What it claims beyond the largest block is refused before memory is taken.
                    let taken = bytes.len() as u64 + member.raw_size().min(MAX_BLOCK as u64);
                    let end = self.tape.position();
                    self.feed.send_sized(Piece { end, content: Content::Member(at, bytes) }, taken)?;
                    open = followed.map_err(corrupt)?;
                }
                _ if open.is_some() => {
                    return Err(corrupt("no member begins where the one before it ends"));
                }
                Recognized::Foreign => {
                    indexed = false;
                    self.foreign()?;
                }
                Recognized::NotGzip if at == 0 => return Err(Ended::Defect(Defect::NotGzip)),
                Recognized::NotGzip => {
                    self.padding(at)?;
                    return Ok(indexed);
                }
            }
        }
        Err(Ended::Broken)
    }

    /// Streams one member of another tool, in blocks.
    fn foreign(&mut self) -> Result<(), Ended> {
        let mut decoder = GzDecoder::new(&mut self.tape);
        loop {
            let mut raw = self.pools.raw.take();
            raw.resize(BLOCK, 0);
            let mut filled = 0;
            let ended = loop {
                match decoder.read(&mut raw[filled..]) {
                    Ok(0) => break Ok(filled < BLOCK),
                    Ok(n) => filled += n,
                    Err(error) => break Err(error),
                }
            };
            raw.truncate(filled);
            let end = decoder.get_ref().position();
            self.feed.send(Piece { end, content: Content::Raw(raw, matches!(ended, Ok(true))) })?;
            match ended {
                Ok(false) if self.broken.load(Ordering::Relaxed) => return Err(Ended::Broken),
                Ok(false) => (),
                Ok(true) => return Ok(()),
                Err(error) => {
                    drop(decoder);
                    return Err(match error.kind() {
                        _ if self.tape.error.is_some() => Ended::Io(error),
                        io::ErrorKind::UnexpectedEof => self.truncated(),
                        _ => Ended::Defect(Defect::Corrupt { at: end, detail: error.to_string() }),
                    });
                }
            }
        }
    }

    /// What may follow the last member: zeros, as tapes and block devices leave them, and nothing else.
    fn padding(&mut self, at: u64) -> Result<(), Ended> {
        loop {
            let bytes = self.tape.peek(HEADER)?;
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.iter().any(|&byte| byte != 0) {
                return Err(Ended::Defect(Defect::TrailingGarbage { at }));
            }
            let n = bytes.len();
            self.tape.consume(n);
            self.feed.check()?;
        }
    }

    fn send(&mut self, content: Content) -> Result<(), Failure> {
        self.feed.send(Piece { end: self.tape.position(), content })
    }

    fn truncated(&self) -> Ended {
        Ended::Defect(Defect::Truncated { at: self.tape.size() })
    }

    fn failure(&mut self, error: io::Error) -> Failure {
        let error = self.tape.error.take().unwrap_or(error);
        Failure::io("read", self.path, &error)
    }
}

/// Counts `member` after those in `open`; an end mark must agree with them.
fn followed(open: Option<Open>, member: &Member<'_>) -> Result<Option<Open>, &'static str> {
    let open = open.unwrap_or_default();
    match member.totals() {
        None => {
            let raw_size = open.raw_size + member.raw_size();
            Ok(Some(Open { raw_size, members: open.members + 1 }))
        }
        Some(totals) if totals == (open.raw_size, open.members) => Ok(None),
        Some(_) => Err("members are missing before the end mark"),
    }
}

/// Why the walk over the members ended before the end of the file.
enum Ended {
    /// For this reason, which the consumer is yet to be told.
    Defect(Defect),
    /// For a defect that the consumer has seen.
    Broken,
    /// The file cannot be read.
    Io(io::Error),
    /// The map ended early.
    Failed(Failure),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
