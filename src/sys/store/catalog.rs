//! The catalog's cache: what the sidecars of a folder's backups said when they were read last.
//!
//! It spares reading, never looking: [`super::Listing::backups`] asks the file system for each backup and each sidecar, and
//! takes what is kept only for a sidecar that is the very file that was read.

use super::described;
use super::listing::{Kept, Looked};
use crate::base::backup::{Backup, Drilled, HeadRest, ManifestHead, Proof, Series, Verdict};
use crate::sys::cache::line::{Lines, Words};
use crate::sys::cache::{self, Cache, FEWEST, Stamp, is_worth_writing};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a listing may take from what it would have to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Catalog<'a> {
    /// From the files alone.
    Files,
    /// From the cache of this state folder as well, as far as that is not out of date.
    Cached(&'a Path),
}

/// What lines name by number.
#[derive(Default, Serialize, Deserialize)]
struct Glossary {
    series: Vec<Series>,
    verdicts: Vec<Verdict>,
}

/// What is kept of one folder.
pub(super) struct Catalogued {
    cache: Option<Cache>,
    kept: Option<cache::Kept>,
    series: Vec<Series>,
    verdicts: Vec<Arc<Verdict>>,
}

impl Catalogued {
    /// What is kept of a folder with so many files; a small one is read faster than any cache.
    pub fn of(catalog: Catalog<'_>, dir: &Path, files: usize) -> Self {
        let cache = match catalog {
            Catalog::Cached(state) if files >= FEWEST => Cache::new(state, "backups", dir),
            _ => None,
        };
        let kept = cache.as_ref().and_then(Cache::read);
        let (kept, Glossary { series, verdicts }) = kept
            .and_then(|kept| Some((kept.glossary()?, kept)))
            .map_or_else(Default::default, |(glossary, kept)| (Some(kept), glossary));
        Self { cache, kept, series, verdicts: verdicts.into_iter().map(Arc::new).collect() }
    }

    /// What is kept beside each of the names; both are sorted.
    pub fn beside<'a, 'k>(&'k self, names: &[&'a str]) -> Vec<(&'a str, Option<Words<'k>>)> {
        let named = |kept: &'k cache::Kept| {
            kept.lines().filter_map(|line| {
                let mut words = kept.words(line);
                Some((words.text()?, words))
            })
        };
        let mut lines = self.kept.iter().flat_map(named).peekable();
        let beside = |name: &&'a str| {
            while lines.next_if(|(kept, _)| kept.as_ref() < *name).is_some() {}
            (*name, lines.next_if(|(kept, _)| kept.as_ref() == *name).map(|(_, words)| words))
        };
        names.iter().map(beside).collect()
    }

    /// What a line says beyond its name.
    pub fn told(&self, mut words: Words<'_>) -> Kept {
        let parts = words.number().unwrap_or_default();
        let manifest = (parts & MANIFEST != 0).then(|| self.manifest(&mut words)).flatten();
        if parts & MANIFEST != 0 && manifest.is_none() {
            return Kept::default();
        }
        let sha256 =
            (parts & SHA256 != 0).then(|| Some((words.stamp()?, words.text()?.into_owned()))).flatten();
        Kept { manifest, sha256 }
    }

    fn manifest(&self, words: &mut Words<'_>) -> Option<(Stamp, ManifestHead)> {
        let stamp = words.stamp()?;
        let series = self.series.get(usize::try_from(words.number()?).ok()?)?.clone();
        let (created, size, raw_size) = (words.time()?, words.number()?, words.number()?);
        let (sha256, run) = (words.text()?.into_owned(), words.text()?.into_owned());
        let more = words.number()?;
        let has = |what: u64| more & what != 0;
        let file = if has(FILE) { Some(words.text()?.into_owned()) } else { None };
        let verified = if has(VERIFIED) {
            let at = words.time()?;
            let verdict = self.verdicts.get(usize::try_from(words.number()?).ok()?)?.clone();
            Some(Proof { at, verdict })
        } else {
            None
        };
        let drilled = if has(DRILLED) {
            Some(Drilled { at: words.time()?, run: words.text()?.into_owned() })
        } else {
            None
        };
        let rest = HeadRest { file, run, size, verified, drilled };
        Some((stamp, ManifestHead { series, created, raw_size, sha256, rest }))
    }

    /// Keeps what was read, if it was much. What was changed just before is left out: it may change once more without another
    /// time, so that nobody could tell.
    pub fn keep(&self, looked: &[Looked<'_>], settled: i64) {
        let Some(cache) = &self.cache else { return };
        let fresh =
            looked.iter().filter(|looked| looked.read > 0 && entry(looked, settled).is_some()).count();
        if !is_worth_writing(fresh, looked.len()) {
            return;
        }
        let names: Vec<&str> = looked.iter().map(|looked| looked.name).collect();
        let mut writing = Writing::default();
        for (looked, (_, kept)) in looked.iter().zip(self.beside(&names)) {
            if !looked.is_let_go {
                entry(looked, settled).iter().for_each(|entry| writing.add(entry));
                continue;
            }
            // It is still what is kept of it.
            let Some(Kept { manifest, sha256 }) = kept.map(|words| self.told(words)) else { continue };
            let again = Looked {
                name: looked.name,
                found: manifest.map(|(_, head)| {
                    Box::new(described(PathBuf::new(), looked.name.to_owned(), head.rest.size, head))
                }),
                manifest: looked.manifest,
                sha256: sha256.filter(|_| looked.sha256.is_some()),
                read: 0,
                is_let_go: false,
            };
            entry(&again, settled).iter().for_each(|entry| writing.add(entry));
        }
        cache.write(&writing.glossary, &writing.lines);
    }
}

// What a line tells of.
const MANIFEST: u64 = 1;
const SHA256: u64 = 2;
// What it tells of a manifest.
const FILE: u64 = 1;
const VERIFIED: u64 = 2;
const DRILLED: u64 = 4;

/// What is to be kept of one backup.
struct Entry<'a> {
    name: &'a str,
    manifest: Option<(Stamp, &'a Backup, &'a HeadRest)>,
    sha256: Option<&'a (Stamp, String)>,
}

fn entry<'a>(looked: &'a Looked<'_>, settled: i64) -> Option<Entry<'a>> {
    let head = looked.found.as_ref().and_then(|found| Some((&found.backup, found.head.as_ref()?)));
    let manifest = looked
        .manifest
        .filter(|stamp| stamp.is_settled(settled))
        .zip(head)
        .map(|(stamp, (backup, rest))| (stamp, backup, rest));
    let sha256 = looked.sha256.as_ref().filter(|(stamp, _)| stamp.is_settled(settled));
    (manifest.is_some() || sha256.is_some()).then_some(Entry { name: looked.name, manifest, sha256 })
}

/// A cache that is being written.
#[derive(Default)]
struct Writing {
    glossary: Glossary,
    series: HashMap<Series, u64>,
    verdicts: HashMap<Verdict, u64>,
    lines: Lines,
}

impl Writing {
    fn add(&mut self, entry: &Entry<'_>) {
        self.lines.text(entry.name);
        let parts = |is_there: bool, part: u64| if is_there { part } else { 0 };
        self.lines.number(parts(entry.manifest.is_some(), MANIFEST) | parts(entry.sha256.is_some(), SHA256));
        if let Some((stamp, backup, rest)) = entry.manifest {
            self.manifest(stamp, backup, rest);
        }
        if let Some((stamp, digest)) = entry.sha256 {
            self.lines.stamp(*stamp);
            self.lines.text(digest);
        }
        self.lines.end();
    }

    fn manifest(&mut self, stamp: Stamp, backup: &Backup, rest: &HeadRest) {
        let series = Series {
            content: backup.content,
            source: backup.source.clone(),
            selection: backup.selection.clone(),
            tag: backup.tag.clone(),
            complete: backup.complete,
        };
        let number = number(&mut self.series, &mut self.glossary.series, &series);
        let lines = &mut self.lines;
        lines.stamp(stamp);
        lines.number(number);
        lines.time(backup.created);
        lines.number(rest.size);
        lines.number(backup.raw_size.as_now().copied().unwrap_or_default());
        lines.text(backup.sha256.as_now().and_then(Option::as_deref).unwrap_or_default());
        lines.text(&rest.run);
        let parts = [(rest.file.is_some(), FILE), (rest.verified.is_some(), VERIFIED)];
        let parts = parts.into_iter().chain([(rest.drilled.is_some(), DRILLED)]);
        lines.number(parts.filter(|(is_there, _)| *is_there).map(|(_, part)| part).sum());
        if let Some(file) = &rest.file {
            lines.text(file);
        }
        if let Some(Proof { at, verdict }) = &rest.verified {
            lines.time(*at);
            lines.number(self::number(&mut self.verdicts, &mut self.glossary.verdicts, verdict));
        }
        if let Some(Drilled { at, run }) = &rest.drilled {
            lines.time(*at);
            lines.text(run);
        }
    }
}

/// The number of a value in the glossary, where it is added if need be.
fn number<T: Clone + Eq + Hash>(known: &mut HashMap<T, u64>, all: &mut Vec<T>, value: &T) -> u64 {
    if let Some(number) = known.get(value) {
        return *number;
    }
    let number = all.len() as u64;
    all.push(value.clone());
    known.insert(value.clone(), number);
    number
}

#[cfg(test)]
mod tests;
