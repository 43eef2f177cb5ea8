//! One gzip member per block, with a field that makes the file its own index.
//!
//! RFC 1952 lets a member carry extra subfields, which all tools skip. Ours has the id `LB` and holds:
//!
//! | bytes | meaning |
//! |---|---|
//! | 4 | size of the whole member, little endian |
//! | 4 | CRC-32 of the whole member without these four bytes |
//! | 1 | kind of block; 0 marks the end of the stream |
//! | rest | table name; in the end mark 8 bytes of raw size and 8 bytes of member count |
//!
//! gzip's own checksum covers the inflated bytes only: a flipped bit in padding, in an unused code or in the time
//! of the header goes unseen. The CRC of the member itself finds every such flip, and the end mark finds a file
//! that was cut between two members, which gzip takes for whole. All other header bytes are constant and compared.

use super::block::{Block, MAX_BLOCK};
use crate::base::failure::{Code, Failure};
use libdeflater::{CompressionLvl, Compressor, Crc, Decompressor};

const ID: [u8; 2] = *b"LB";
const END: u8 = 0;
/// Magic, deflate, FEXTRA only, no time, no hint on the level, unknown system.
const FIXED: [u8; 10] = [0x1f, 0x8b, 8, FEXTRA, 0, 0, 0, 0, 0, 255];
const FEXTRA: u8 = 4;
const RESERVED: u8 = 0xe0;
const SIZE: usize = 16;
const CHECK: usize = 20;
const KIND: usize = 24;
const LABEL: usize = 25;
const TRAILER: usize = 8;
const LONGEST_LABEL: usize = u16::MAX as usize - (LABEL - 12);
/// Deflate cannot shrink further than this.
const BEST_RATIO: u64 = 1032;
/// What the largest block can grow to, header included.
const MAX_MEMBER: usize = MAX_BLOCK + MAX_BLOCK / 8 + 2 * u16::MAX as usize;

/// How hard to compress: 1 is fastest, 6 as small as `gzip -6`, 12 smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    /// Level `n` from 1 to 12.
    pub fn new(n: u8) -> Option<Self> {
        (1..=12).contains(&n).then_some(Self(n))
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Default for Level {
    fn default() -> Self {
        Self(6)
    }
}

/// Makes members, one after the other.
pub(super) struct Packer {
    compressor: Compressor,
    /// Where it compresses to, with room for what does not shrink; members take their own size only.
    room: Vec<u8>,
}

impl Packer {
    pub(super) fn new(level: Level) -> Self {
        let level = CompressionLvl::new(i32::from(level.0)).unwrap_or_default();
        Self { compressor: Compressor::new(level), room: Vec::new() }
    }

    /// Replaces `out` by the member that holds `block`.
    pub(super) fn pack(&mut self, block: &Block, out: &mut Vec<u8>) -> Result<(), Failure> {
        let name = block.table.as_deref().unwrap_or_default();
        let label = &name[..name.floor_char_boundary(LONGEST_LABEL)];
        self.member(block.kind.code(), label.as_bytes(), &block.bytes, out)
    }

    /// Replaces `out` by the end mark of a stream with `members` members that hold `raw_size` bytes.
    pub(super) fn pack_end(&mut self, raw_size: u64, members: u64, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut label = raw_size.to_le_bytes().to_vec();
        label.extend_from_slice(&members.to_le_bytes());
        self.member(END, &label, &[], out)
    }

    fn member(&mut self, kind: u8, label: &[u8], raw: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let field = LABEL - SIZE + label.len();
        out.clear();
        out.extend_from_slice(&FIXED);
        out.extend_from_slice(&(field as u16 + 4).to_le_bytes());
        out.extend_from_slice(&ID);
        out.extend_from_slice(&(field as u16).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.push(kind);
        out.extend_from_slice(label);
        let bound = self.compressor.deflate_compress_bound(raw.len());
        if self.room.len() < bound {
            self.room.resize(bound, 0);
        }
        let deflated = self.compressor.deflate_compress(raw, &mut self.room).map_err(|error| {
            Failure::new(Code::Internal, format!("cannot compress a block of {} bytes", raw.len()))
                .caused_by(error)
        })?;
        out.extend_from_slice(&self.room[..deflated]);
        out.extend_from_slice(&libdeflater::crc32(raw).to_le_bytes());
        out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        let size = (out.len() as u32).to_le_bytes();
        out[SIZE..SIZE + 4].copy_from_slice(&size);
        let check = check_of(out).to_le_bytes();
        out[CHECK..CHECK + 4].copy_from_slice(&check);
        Ok(())
    }
}

fn check_of(member: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(&member[..CHECK]);
    crc.update(&member[CHECK + 4..]);
    crc.sum()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The most bytes of a member that [`recognize`] needs to see.
pub(super) const HEADER: usize = 12 + u16::MAX as usize;

/// What the first bytes of a member say about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recognized {
    /// No gzip member begins here.
    NotGzip,
    /// One of ours, of that many bytes in all.
    Indexed(usize),
    /// A member that another tool wrote.
    Foreign,
    /// The file ends inside the header.
    Truncated,
    /// A header that nobody wrote so.
    Damaged(&'static str),
}

/// Looks at the first bytes of a member; `bytes` are [`HEADER`] or all that are left.
pub(super) fn recognize(bytes: &[u8]) -> Recognized {
    let magic = bytes.len().min(2);
    if bytes[..magic] != FIXED[..magic] {
        return Recognized::NotGzip;
    }
    if bytes.len() < FIXED.len() {
        return Recognized::Truncated;
    }
    if bytes[2] != FIXED[2] {
        return Recognized::Damaged("unknown compression method");
    }
    if bytes[3] & RESERVED != 0 {
        return Recognized::Damaged("reserved flags are set");
    }
    // No registered id is one bit away from ours: a member that has one had ours.
    let id_distance = |at: usize| (bytes[at] ^ ID[0]).count_ones() + (bytes[at + 1] ^ ID[1]).count_ones();
    if bytes[3] & FEXTRA != 0 && bytes.len() < SIZE {
        return Recognized::Truncated;
    }
    if bytes[3] & FEXTRA == 0 || id_distance(12) > 1 {
        return Recognized::Foreign;
    }
    let extra = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    let field = usize::from(u16::from_le_bytes([bytes[14], bytes[15]]));
    if bytes[..FIXED.len()] != FIXED || id_distance(12) != 0 || extra != field + 4 || field < LABEL - SIZE {
        return Recognized::Damaged("its header was altered");
    }
    if bytes.len() < 12 + extra {
        return Recognized::Truncated;
    }
    let size = u32_at(bytes, SIZE) as usize;
    if size <= 12 + extra + TRAILER || size > MAX_MEMBER {
        return Recognized::Damaged("its index claims an impossible size");
    }
    Recognized::Indexed(size)
}

/// A whole member of ours, its framing not yet checked further than [`recognize`] did.
pub(super) struct Member<'a>(pub(super) &'a [u8]);

impl Member<'_> {
    /// Raw bytes that it claims to hold.
    pub(super) fn raw_size(&self) -> u64 {
        u64::from(u32_at(self.0, self.0.len() - 4))
    }

    /// The code of its kind of block; 0 for the end mark.
    pub(super) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    /// The table that its rows belong to, if it names one.
    pub(super) fn label(&self) -> &[u8] {
        &self.0[LABEL..self.payload_start()]
    }

    /// For the end mark, the raw size and the number of members that come before it.
    pub(super) fn totals(&self) -> Option<(u64, u64)> {
        let is_end = self.0[KIND] == END && self.payload_start() == LABEL + 16;
        is_end.then(|| (u64_at(self.0, LABEL), u64_at(self.0, LABEL + 8)))
    }

    /// Replaces `out` by the raw bytes, or says what is wrong with the member.
    pub(super) fn unpack(
        &self,
        decompressor: &mut Decompressor,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        if check_of(self.0) != u32_at(self.0, CHECK) {
            return Err("its checksum does not match");
        }
        let payload = &self.0[self.payload_start()..self.0.len() - TRAILER];
        let size = self.raw_size();
        if size > MAX_BLOCK as u64 || size > payload.len() as u64 * BEST_RATIO {
            return Err("it claims an impossible length");
        }
        out.resize(size as usize, 0);
        match decompressor.deflate_decompress(payload, out) {
            Ok(n) if n as u64 == size => (),
            Ok(_) => return Err("its length does not match"),
            Err(_) => return Err("its compressed data is invalid"),
        }
        if libdeflater::crc32(out) != u32_at(self.0, self.0.len() - TRAILER) {
            return Err("the checksum of its content does not match");
        }
        Ok(())
    }

    fn payload_start(&self) -> usize {
        12 + usize::from(u16::from_le_bytes([self.0[10], self.0[11]]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Kind;
    use super::*;

    fn member(raw: &[u8], table: Option<&str>) -> Vec<u8> {
        let block = Block { kind: Kind::Rows, table: table.map(Into::into), bytes: raw.to_vec() };
        let mut out = vec![9; 5];
        Packer::new(Level::default()).pack(&block, &mut out).unwrap();
        out
    }

    fn unpacked(member: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = vec![1; 3];
        Member(member).unpack(&mut Decompressor::new(), &mut out)?;
        Ok(out)
    }

    /// Changes bytes of a member and makes its own checksum right again.
    fn forged(mut member: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        change(&mut member);
        let check = check_of(&member).to_le_bytes();
        member[CHECK..CHECK + 4].copy_from_slice(&check);
        member
    }

    #[test]
    fn the_layout_is_fixed() {
        let member = member(b"1\n", Some("public.t"));
        assert_eq!(member[..16], *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x15\0LB\x11\0");
        assert_eq!(u32_at(&member, SIZE) as usize, member.len());
        assert_eq!(member[KIND..LABEL + 8], *b"\x02public.t");
        assert_eq!(recognize(&member), Recognized::Indexed(member.len()));
        assert_eq!(unpacked(&member), Ok(b"1\n".to_vec()));
        assert_eq!(Member(&member).totals(), None);
    }

    #[test]
    fn the_end_mark_holds_the_totals() {
        let mut end = Vec::new();
        Packer::new(Level::default()).pack_end(5 << 40, 77, &mut end).unwrap();
        assert_eq!(Member(&end).totals(), Some((5 << 40, 77)));
        assert_eq!(unpacked(&end), Ok(vec![]));
    }

    #[test]
    fn forged_claims_are_refused_before_memory_is_taken() {
        let good = member(&[b'x'; 5000], None);
        let end = good.len();
        let long = forged(good.clone(), |m| m[end - 4..].copy_from_slice(&u32::MAX.to_le_bytes()));
        assert_eq!(unpacked(&long), Err("it claims an impossible length"));
        let dense = forged(good.clone(), |m| m[end - 4..].copy_from_slice(&4_000_000_u32.to_le_bytes()));
        assert_eq!(unpacked(&dense), Err("it claims an impossible length"));
        for wrong in [4999_u32, 5001] {
            let off = forged(good.clone(), |m| m[end - 4..].copy_from_slice(&wrong.to_le_bytes()));
            assert!(unpacked(&off).is_err());
        }
        let crc = forged(good.clone(), |m| m[end - 5] ^= 1);
        assert_eq!(unpacked(&crc), Err("the checksum of its content does not match"));
        for size in [0, 33, MAX_MEMBER as u32 + 1, u32::MAX] {
            let wild = forged(good.clone(), |m| m[SIZE..SIZE + 4].copy_from_slice(&size.to_le_bytes()));
            assert_eq!(recognize(&wild), Recognized::Damaged("its index claims an impossible size"));
        }
        assert_eq!(unpacked(&good).map(|raw| raw.len()), Ok(5000));
    }

    #[test]
    fn the_largest_block_fits_though_it_does_not_shrink() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(MAX_BLOCK)
        .collect();
        let member = member(&noise, Some(&"t".repeat(70_000)));
        assert!(member.len() > MAX_BLOCK);
        assert_eq!(recognize(&member), Recognized::Indexed(member.len()));
        assert_eq!(unpacked(&member), Ok(noise));
    }

    #[test]
    fn levels_go_from_one_to_twelve() {
        assert_eq!([0, 1, 12, 13].map(|n| Level::new(n).is_some()), [false, true, true, false]);
        assert_eq!(Level::default(), Level(6));
    }
}
