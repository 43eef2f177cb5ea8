//! Which paths of a tree are meant.

use crate::base::failure::{Code, Failure};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::path::{Path, PathBuf};

/// Which paths below a root are meant.
#[derive(Clone, Debug)]
pub struct Selection {
    include: GlobSet,
    exclude: GlobSet,
    reaches: Vec<Reach>,
    everything: bool,
}

/// Where an include pattern can match: folders elsewhere need not be entered.
#[derive(Clone, Debug)]
struct Reach {
    /// The part of the pattern before its first wildcard.
    prefix: PathBuf,
    /// How many names a path that it matches has; `None` for any number.
    depth: Option<usize>,
}

impl Reach {
    fn of(pattern: &str) -> Self {
        // Alternatives may hold separators.
        let any = pattern.contains("**") || pattern.contains('{');
        Self { prefix: literal_prefix(pattern), depth: (!any).then(|| pattern.split('/').count()) }
    }

    fn may_match_below(&self, folder: &Path) -> bool {
        self.prefix.starts_with(folder)
            || (folder.starts_with(&self.prefix)
                && self.depth.is_none_or(|depth| folder.components().count() < depth))
    }
}

impl Selection {
    /// Compiles the patterns; no include pattern means everything.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, Failure> {
        Ok(Self {
            include: globs(include)?,
            exclude: globs(exclude)?,
            reaches: include.iter().map(|pattern| Reach::of(trimmed(pattern))).collect(),
            everything: include.is_empty(),
        })
    }

    /// Whether it takes a path, given relative to the root.
    pub fn takes(&self, relative: &Path) -> bool {
        // A pattern that matches a folder takes all that is below it.
        self.everything || relative.ancestors().any(|path| self.include.is_match(path))
    }

    /// Whether an exclude pattern matches a path or a folder above it.
    pub fn leaves_out(&self, relative: &Path) -> bool {
        relative.ancestors().any(|path| self.exclude.is_match(path))
    }

    /// Whether an exclude pattern matches this very path.
    pub(super) fn is_excluded(&self, relative: &Path) -> bool {
        self.exclude.is_match(relative)
    }

    /// Whether something in a folder may be taken.
    pub fn may_hold(&self, folder: &Path) -> bool {
        self.everything
            || self.takes(folder)
            || self.reaches.iter().any(|reach| reach.may_match_below(folder))
    }

    /// The part of each include pattern before its first wildcard.
    pub fn prefixes(&self) -> impl Iterator<Item = &Path> {
        self.reaches.iter().map(|reach| reach.prefix.as_path())
    }
}

fn trimmed(pattern: &str) -> &str {
    pattern.trim_start_matches("./").trim_end_matches('/')
}

fn globs(patterns: &[String]) -> Result<GlobSet, Failure> {
    let wrong = |pattern: &str, cause: String| {
        Failure::new(Code::Usage, format!("the pattern `{pattern}` cannot be understood"))
            .caused_by(cause)
            .hint("Patterns are globs relative to the archive's root: `*`, `?`, `[ab]`, `{a,b}`, and `**/` for any depth.")
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if pattern.starts_with('/') || Path::new(pattern).components().any(|part| part.as_os_str() == "..") {
            return Err(wrong(pattern, "it leaves the archive's root".to_owned()));
        }
        let glob = GlobBuilder::new(trimmed(pattern))
            .literal_separator(true)
            .build()
            .map_err(|error| wrong(pattern, error.kind().to_string()))?;
        set.add(glob);
    }
    set.build().map_err(|error| wrong("", error.to_string()))
}

fn literal_prefix(pattern: &str) -> PathBuf {
    pattern.split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).collect()
}
