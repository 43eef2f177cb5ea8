//! SHA-256 of what is read.

use super::Control;
use super::block::BLOCK;
use crate::base::failure::Failure;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

/// A SHA-256; shown as 64 lower-case hex digits, as `sha256sum` does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads 64 hex digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The digest of bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(super) fn of(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no SHA-256")))
    }
}

/// Reads `input` to its end; returns its size and SHA-256. `consume` sees all bytes in order, and what it fails
/// with ends the reading; `path` is for messages. Progress counts the bytes read.
pub fn hash(
    mut input: impl Read,
    path: &Path,
    control: Control<'_>,
    consume: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(u64, Digest), Failure> {
    let mut buffer = vec![0; BLOCK / 4];
    let mut hasher = Sha256::new();
    let mut size = 0;
    loop {
        control.cancel.check()?;
        let n = match input.read(&mut buffer) {
            Ok(0) => return Ok((size, Digest::of(hasher))),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::io("read", path, &error)),
        };
        hasher.update(&buffer[..n]);
        consume(&buffer[..n])?;
        size += n as u64;
        (control.progress)(size);
    }
}
