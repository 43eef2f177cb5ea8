//! A reader that can look ahead, knows its offset, and hashes all that passes.

use super::block::BLOCK;
use super::gzip::HEADER;
use super::hash::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, Read};

/// Must exceed the longest header, which is looked at as a whole.
const BUFFER: usize = BLOCK / 4;
const _: () = assert!(BUFFER > HEADER);

/// Reads `input` once. An error of `input` is kept in `error`, so that it is never taken for a defect of the
/// data, whatever a decoder in between makes of it.
pub(super) struct Tape<R> {
    input: R,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    read: u64,
    hasher: Sha256,
    pub(super) error: Option<io::Error>,
}

impl<R: Read> Tape<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: vec![0; BUFFER], from: 0, to: 0, read: 0, hasher: Sha256::new(), error: None }
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.read - (self.to - self.from) as u64
    }

    /// Bytes read so far; at the end, the size of the file.
    pub(super) fn size(&self) -> u64 {
        self.read
    }

    /// SHA-256 of all bytes read so far.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(self.hasher.clone())
    }

    /// The next `n` bytes without taking them; fewer only at the end of the file.
    pub(super) fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        while self.to - self.from < n && self.fill()? {}
        Ok(&self.buffer[self.from..self.to.min(self.from + n)])
    }

    /// Replaces `out` by the next `n` bytes; says whether there were as many.
    pub(super) fn cut(&mut self, n: usize, out: &mut Vec<u8>) -> io::Result<bool> {
        out.clear();
        while out.len() < n {
            let ready = self.fill_buf()?;
            if ready.is_empty() {
                return Ok(false);
            }
            let taken = ready.len().min(n - out.len());
            out.extend_from_slice(&ready[..taken]);
            self.consume(taken);
        }
        Ok(true)
    }

    /// Reads once more behind what is buffered; says whether anything came.
    fn fill(&mut self) -> io::Result<bool> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        loop {
            match self.input.read(&mut self.buffer[self.to..]) {
                Ok(n) => {
                    self.hasher.update(&self.buffer[self.to..self.to + n]);
                    self.to += n;
                    self.read += n as u64;
                    return Ok(n > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => {
                    let kind = error.kind();
                    self.error = Some(error);
                    return Err(kind.into());
                }
            }
        }
    }
}

impl<R: Read> Read for Tape<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl<R: Read> BufRead for Tape<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.from == self.to {
            self.fill()?;
        }
        Ok(&self.buffer[self.from..self.to])
    }

    fn consume(&mut self, n: usize) {
        self.from += n.min(self.to - self.from);
    }
}
