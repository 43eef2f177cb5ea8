//! Versions of PostgreSQL, as programs and servers print them.

use std::fmt;

/// How far a version had come when it was built; a released one is the greatest of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Devel,
    Alpha(u32),
    Beta(u32),
    Candidate(u32),
    Released,
}

/// A version of PostgreSQL. Versions compare by age: `17beta2 < 17rc1 < 17.0 < 17.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    number: u32,
    stage: Stage,
}

impl Version {
    /// The version in a text such as `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `postgres (PostgreSQL)
    /// 18beta1` or a server's `16.4`. What distributions append is ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // A program names its product in parentheses first; a server begins with the number.
        let after_product = match text.find(')') {
            Some(end) if !text.starts_with(|c: char| c.is_ascii_digit()) => &text[end + 1..],
            _ => text,
        };
        after_product.split_whitespace().next().and_then(Self::parse_word)
    }

    fn parse_word(word: &str) -> Option<Self> {
        let (major, rest) = leading_number(word)?;
        let (number, rest) = match rest.strip_prefix('.') {
            None => (major.checked_mul(10_000)?, rest),
            Some(rest) => {
                let (second, rest) = leading_number(rest)?;
                if major >= 10 {
                    (major.checked_mul(10_000)?.checked_add(second)?, rest)
                } else {
                    // Before version 10 the first two numbers were the major version.
                    let third = rest.strip_prefix('.').and_then(leading_number);
                    let (third, rest) = third.unwrap_or((0, rest));
                    (major * 10_000 + second.checked_mul(100)?.checked_add(third)?, rest)
                }
            }
        };
        let staged = |name| rest.strip_prefix(name).map(|n| leading_number(n).map_or(0, |(n, _)| n));
        let stage = if rest.starts_with("devel") {
            Stage::Devel
        } else if let Some(n) = staged("alpha") {
            Stage::Alpha(n)
        } else if let Some(n) = staged("beta") {
            Stage::Beta(n)
        } else if let Some(n) = staged("rc") {
            Stage::Candidate(n)
        } else {
            Stage::Released
        };
        Some(Self { number, stage })
    }

    /// The version of a server from its `server_version_num`, as 150018.
    pub fn from_number(number: u32) -> Self {
        Self { number, stage: Stage::Released }
    }

    /// The version as `server_version_num` gives it, as 150018.
    pub fn number(self) -> u32 {
        self.number
    }

    /// The major version: 15 of 15.18. All of 9.x, long out of support, are 9.
    pub fn major(self) -> u32 {
        self.number / 10_000
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.major(), self.number % 10_000);
        match self.stage {
            Stage::Released if major < 10 => write!(f, "{major}.{}.{}", minor / 100, minor % 100),
            Stage::Released => write!(f, "{major}.{minor}"),
            Stage::Devel => write!(f, "{major}devel"),
            Stage::Alpha(n) => write!(f, "{major}alpha{n}"),
            Stage::Beta(n) => write!(f, "{major}beta{n}"),
            Stage::Candidate(n) => write!(f, "{major}rc{n}"),
        }
    }
}

/// The number that `text` begins with, and what follows.
fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_kinds_parse() {
        for (text, shown, number) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18", 150_018),
            ("pg_dump (PostgreSQL) 16.4 (Ubuntu 16.4-1.pgdg22.04+2)", "16.4", 160_004),
            ("postgres (PostgreSQL) 14.12 (Homebrew)", "14.12", 140_012),
            ("postgres (PostgreSQL) 18beta1", "18beta1", 180_000),
            ("psql (PostgreSQL) 17rc2 (Debian 17~rc2-1.pgdg120+1)", "17rc2", 170_000),
            ("pg_dump (PostgreSQL) 19devel", "19devel", 190_000),
            ("pg_dump (PostgreSQL) 9.6.24", "9.6.24", 90_624),
            ("pg_dump (EnterpriseDB Advanced Server) 15.4.0", "15.4", 150_004),
            ("15.18 (Debian 15.18-0+deb12u1)", "15.18", 150_018),
            ("10.23", "10.23", 100_023),
        ] {
            let version = Version::parse(text).unwrap_or_else(|| panic!("{text} does not parse"));
            assert_eq!((version.to_string().as_str(), version.number()), (shown, number), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_versions() {
        for text in ["", "pg_dump", "pg_dump (PostgreSQL)", "pg_dump (PostgreSQL) fifteen", "99999999999.1"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn versions_compare_by_age() {
        let ages = ["9.6.24", "15.9", "15.18", "17devel", "17alpha1", "17beta2", "17rc1", "17.0", "17.1"];
        let versions: Vec<Version> = ages.iter().filter_map(|text| Version::parse(text)).collect();
        assert_eq!(versions.len(), ages.len());
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    }
}
