//! Lines of a cache: words apart by tabs, so that one line is read without looking at any other, and nothing is taken for it
//! but what is wanted of it.

use super::Stamp;
use chrono::{DateTime, FixedOffset};
use std::borrow::Cow;

const APART: u8 = b'\t';

/// Reads the words of a line one by one; `None` stands for a word that is not there or is no such word.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(Option<&'a str>);

impl<'a> Words<'a> {
    /// Those of a line.
    pub fn of(line: &'a str) -> Self {
        Self(Some(line))
    }

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0?;
        let Some(at) = memchr::memchr(APART, rest.as_bytes()) else { return self.0.take() };
        self.0 = Some(&rest[at + 1..]);
        Some(&rest[..at])
    }

    /// A number.
    pub fn number(&mut self) -> Option<u64> {
        let word = self.next().filter(|word| !word.is_empty() && word.len() <= 16)?;
        word.chars().try_fold(0, |number, digit| Some(number << 4 | u64::from(digit.to_digit(16)?)))
    }

    fn signed(&mut self) -> Option<i64> {
        self.number().map(u64::cast_signed)
    }

    /// A text.
    pub fn text(&mut self) -> Option<Cow<'a, str>> {
        let word = self.next()?;
        if word.starts_with('"') {
            serde_json::from_str(word).ok().map(Cow::Owned)
        } else {
            Some(word.into())
        }
    }

    /// What tells a file.
    pub fn stamp(&mut self) -> Option<Stamp> {
        let (device, inode, size) = (self.number()?, self.number()?, self.number()?);
        let mut time = || Some((self.signed()?, self.signed()?));
        Some(Stamp { device, inode, size, modified: time()?, changed: time()? })
    }

    /// An instant with its offset.
    pub fn time(&mut self) -> Option<DateTime<FixedOffset>> {
        let (seconds, nanos, offset) = (self.signed()?, self.number()?, self.signed()?);
        let instant = DateTime::from_timestamp(seconds, u32::try_from(nanos).ok()?)?;
        Some(instant.with_timezone(&FixedOffset::east_opt(i32::try_from(offset).ok()?)?))
    }
}

/// Writes lines, word by word.
#[derive(Clone, Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// A number.
    pub fn number(&mut self, number: u64) {
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
        let digit = |at: u32| b"0123456789abcdef"[(number >> (at * 4) & 15) as usize];
        self.0.extend((0..digits).rev().map(digit));
        self.0.push(APART);
    }

    fn signed(&mut self, number: i64) {
        self.number(number.cast_unsigned());
    }

    /// A text, in quotes if it could be taken for something else.
    pub fn text(&mut self, text: &str) {
        if text.starts_with('"') || text.bytes().any(|byte| byte < b' ') {
            self.0.extend(serde_json::Value::from(text).to_string().bytes());
        } else {
            self.0.extend(text.bytes());
        }
        self.0.push(APART);
    }

    /// What tells a file.
    pub fn stamp(&mut self, stamp: Stamp) {
        let Stamp { device, inode, size, modified, changed } = stamp;
        for number in [device, inode, size] {
            self.number(number);
        }
        for number in [modified.0, modified.1, changed.0, changed.1] {
            self.signed(number);
        }
    }

    /// An instant with its offset.
    pub fn time(&mut self, time: DateTime<FixedOffset>) {
        self.signed(time.timestamp());
        self.number(u64::from(time.timestamp_subsec_nanos()));
        self.signed(i64::from(time.offset().local_minus_utc()));
    }

    /// Ends a line.
    pub fn end(&mut self) {
        self.0.push(b'\n');
    }

    /// Adds lines that were written apart.
    pub fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// All of them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            text in ".*", number in any::<u64>(), seconds in -8_000_000_000_000_i64..8_000_000_000_000,
            nanos in 0_u32..1_000_000_000, offset in -86_399_i32..86_400, numbers in any::<[i64; 7]>(),
        ) {
            let time = DateTime::from_timestamp(seconds, nanos).unwrap();
            let time = time.with_timezone(&FixedOffset::east_opt(offset).unwrap());
            let [device, inode, size, ..] = numbers.map(i64::cast_unsigned);
            let [.., a, b, c, d] = numbers;
            let stamp = Stamp { device, inode, size, modified: (a, b), changed: (c, d) };
            let mut lines = Lines::default();
            lines.text(&text);
            lines.number(number);
            lines.stamp(stamp);
            lines.time(time);
            lines.text(&text);
            lines.end();
            let written = String::from_utf8(lines.as_bytes().to_vec()).unwrap();
            prop_assert_eq!(written.matches('\n').count(), 1);
            let mut words = Words::of(written.trim_end_matches('\n'));
            prop_assert_eq!(words.text().unwrap(), text.as_str());
            prop_assert_eq!(words.number(), Some(number));
            prop_assert_eq!(words.stamp(), Some(stamp));
            let read = words.time().unwrap();
            prop_assert_eq!((read, read.offset()), (time, time.offset()));
            prop_assert_eq!(words.text().unwrap(), text.as_str());
        }

        #[test]
        fn what_is_no_such_word_is_none(line in "[0-9a-g\t\"]{0,40}") {
            let _ = (Words::of(&line).stamp(), Words::of(&line).time(), Words::of(&line).text());
            prop_assert_eq!(Words::of("g").number(), None);
        }
    }
}
