//! All runs in short, without reading the record of each whenever somebody asks.
//!
//! *Problem*: with 100,000 runs on record, `status` and a filtered `history` would open twice as many files. *Decision*: what
//! the record of a run that ended says is kept in the disposable cache of the state folder, and counts as long as its files are
//! the very files that were read. Runs that go on, were killed or cannot be read are read anew each time. *Rejected*: an
//! index, which would have to be kept in step.

use crate::base::failure::{Exit, Failure};
use crate::base::ids::RunId;
use crate::journal::reader::{self, RunState, RunSummary};
use crate::journal::store::{EXIT, RUN};
use crate::sys::cache::line::{Lines, Words};
use crate::sys::cache::{self, Cache, FEWEST, Kept, Stamp};
use crate::sys::spread;
use crate::sys::state;
use crate::sys::state::stamps::Records;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The newest so many are read one by one: whoever asks for a few must not wait for others.
const ONE_BY_ONE: usize = 32;
/// Beyond them so many are read at once.
const AT_ONCE: usize = 4096;

/// Runs in short, newest first. They are read when they are asked for.
pub struct Summaries {
    state: PathBuf,
    left: std::vec::IntoIter<RunId>,
    ready: VecDeque<RunSummary>,
    taken: usize,
    /// What was changed before this moment is fit to be kept.
    settled: i64,
    ledger: Option<Ledger>,
}

/// What is kept of runs that ended.
struct Ledger {
    cache: Option<Cache>,
    kept: Option<Kept>,
    /// The line of each run that is still to be looked up, in the order of the runs.
    beside: std::vec::IntoIter<Option<Range<usize>>>,
    records: Option<Records>,
    settled: i64,
    /// Lines to be kept instead, if much had to be read.
    lines: Option<Lines>,
}

impl Summaries {
    /// All runs on record.
    ///
    /// # Errors
    /// `Io` if the folder of the records cannot be read.
    pub fn of(state: &Path) -> Result<Self, Failure> {
        let left = state::runs(state)?.into_iter();
        let settled = cache::settled();
        Ok(Self { state: state.to_path_buf(), left, ready: VecDeque::new(), taken: 0, settled, ledger: None })
    }

    fn fill(&mut self) {
        let at_once = if self.taken < ONE_BY_ONE { 1 } else { AT_ONCE };
        // Those that began in the same second are put in order by their exact times, and so read together.
        let mut runs: Vec<RunId> = self.left.by_ref().take(at_once).collect();
        while let Some(run) = self.left.as_slice().first()
            && runs.last().is_some_and(|last| last.second() == run.second())
        {
            runs.extend(self.left.next());
        }
        let mut found: Vec<RunSummary> = if self.taken < ONE_BY_ONE {
            self.taken += runs.len();
            runs.iter().map(|run| reader::summary(&self.state, run)).collect()
        } else {
            let (state, settled) = (&self.state, self.settled);
            let left = [runs.as_slice(), self.left.as_slice()];
            self.ledger.get_or_insert_with(|| Ledger::read(state, left, settled)).look_up(state, runs)
        };
        for same in found.chunk_by_mut(|a, b| a.run.second() == b.run.second()).filter(|same| same.len() > 1)
        {
            same.sort_by_key(|summary| Reverse(summary.began));
        }
        self.ready.extend(found);
        if let Some(ledger) = self.ledger.as_mut().filter(|_| self.left.as_slice().is_empty()) {
            ledger.write();
        }
    }
}

impl Iterator for Summaries {
    type Item = RunSummary;

    fn next(&mut self) -> Option<RunSummary> {
        if self.ready.is_empty() && !self.left.as_slice().is_empty() {
            self.fill();
        }
        self.ready.pop_front()
    }
}

impl Ledger {
    /// What is kept, to be looked up for these runs, which are newest first, as they are in the cache.
    fn read(state: &Path, runs: [&[RunId]; 2], settled: i64) -> Self {
        let count = runs.iter().map(|runs| runs.len()).sum();
        let cache = (count >= FEWEST).then(|| Cache::new(state, "runs", state)).flatten();
        let kept = cache.as_ref().and_then(Cache::read);
        let named =
            |kept: &'_ Kept, line: Range<usize>| Some((kept.words(line.clone()).text()?.into_owned(), line));
        let mut lines =
            kept.iter().flat_map(|kept| kept.lines().filter_map(move |line| named(kept, line))).peekable();
        let beside: Vec<Option<Range<usize>>> = runs
            .into_iter()
            .flatten()
            .map(|run| {
                while lines.next_if(|(kept, _)| kept.as_str() > run.as_str()).is_some() {}
                lines.next_if(|(kept, _)| kept == run.as_str()).map(|(_, line)| line)
            })
            .collect();
        drop(lines);
        let unknown = beside.iter().filter(|line| line.is_none()).count();
        let lines = (cache.is_some() && cache::is_worth_writing(unknown, count)).then(Lines::default);
        let records = Records::open(state);
        Self { cache, kept, beside: beside.into_iter(), records, settled, lines }
    }

    fn look_up(&mut self, state: &Path, runs: Vec<RunId>) -> Vec<RunSummary> {
        let beside: Vec<(RunId, Option<Range<usize>>)> =
            runs.into_iter().map(|run| (run, self.beside.next().flatten())).collect();
        let (records, settled, is_kept) = (self.records.as_ref(), self.settled, self.lines.is_some());
        let kept = self.kept.as_ref();
        let looked = spread::map(beside, |(run, line)| {
            let files =
                records.and_then(|records| Some((records.stamp(&run, RUN)?, records.stamp(&run, EXIT)?)));
            let told = line.zip(kept).and_then(|(line, kept)| told(&run, kept.words(line), files?));
            let summary = told.unwrap_or_else(|| reader::summary(state, &run));
            let files = files.filter(|(run, exit)| {
                let is_whole = matches!(summary.state, RunState::Ended(_)) && summary.notes.is_empty();
                is_kept && is_whole && run.is_settled(settled) && exit.is_settled(settled)
            });
            let line = files.map(|files| self::line(&summary, files));
            (summary, line)
        });
        let (summaries, lines): (Vec<RunSummary>, Vec<Option<Lines>>) = looked.into_iter().unzip();
        if let Some(kept) = &mut self.lines {
            lines.iter().flatten().for_each(|line| kept.append(line));
        }
        summaries
    }

    fn write(&mut self) {
        if let (Some(cache), Some(lines)) = (&self.cache, self.lines.take()) {
            cache.write(&(), &lines);
        }
    }
}

// What a line tells of a run that succeeded, and of one of which there is more to say.
const PLAIN: u64 = 0;
const WHOLE: u64 = 1;

/// The summary that a line tells, if it was read from the very files that are there.
fn told(run: &RunId, mut words: Words<'_>, files: (Stamp, Stamp)) -> Option<RunSummary> {
    let name = words.text()?;
    let is_of = (words.stamp()?, words.stamp()?) == files && name == run.as_str();
    is_of.then_some(())?;
    if words.number()? != PLAIN {
        return serde_json::from_str::<RunSummary>(&words.text()?).ok().filter(|summary| summary.run == *run);
    }
    Some(RunSummary {
        run: run.clone(),
        playbook: words.text()?.into_owned(),
        began: Some(words.time()?),
        state: RunState::Ended(Exit::Success),
        bytes: words.number()?,
        millis: Some(words.number()?),
        warnings: Vec::new(),
        failure: None,
        is_drill: false,
        drill: None,
        owes: Vec::new(),
        resumed: 0,
        notes: Vec::new(),
    })
}

/// The line that tells a summary.
fn line(summary: &RunSummary, files: (Stamp, Stamp)) -> Lines {
    let mut line = Lines::default();
    line.text(summary.run.as_str());
    line.stamp(files.0);
    line.stamp(files.1);
    match summary {
        RunSummary {
            run: _,
            playbook,
            began: Some(began),
            state: RunState::Ended(Exit::Success),
            millis: Some(millis),
            bytes,
            warnings,
            failure: None,
            is_drill: false,
            drill: None,
            owes,
            resumed: 0,
            notes,
        } if warnings.is_empty() && owes.is_empty() && notes.is_empty() => {
            line.number(PLAIN);
            line.text(playbook);
            line.time(*began);
            line.number(*bytes);
            line.number(*millis);
        }
        _ => {
            line.number(WHOLE);
            line.text(&serde_json::to_string(summary).unwrap_or_default());
        }
    }
    line.end();
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const RUNS: usize = 340;

    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..RUNS {
            let letters: String =
                [number / 26, number % 26].map(|n| (b'a' + n as u8) as char).iter().collect();
            let run = format!("20251110-{:02}{:02}00-aaaa{letters}", number / 60, number % 60);
            let folder = dir.path().join("runs").join(&run);
            fs::create_dir_all(&folder).unwrap();
            let time = "2025-11-10T02:00:00+00:00";
            let about =
                serde_json::json!({ "version": 1, "run": run, "playbook": "p", "pid": 1, "began": time });
            fs::write(folder.join(RUN), about.to_string()).unwrap();
            let exit = if number % 7 == 0 { "failed" } else { "success" };
            let ended = serde_json::json!({ "version": 1, "exit": exit, "ended": time, "bytes": number });
            // Some were killed, and one cannot be read.
            match number {
                11 => fs::write(folder.join(EXIT), "{").unwrap(),
                _ if number % 50 == 9 => {}
                _ => fs::write(folder.join(EXIT), ended.to_string()).unwrap(),
            }
        }
        dir
    }

    /// All runs by the cache, and how many of them were taken from it.
    fn listed(state: &Path) -> (Vec<RunSummary>, usize) {
        let mut all = Summaries::of(state).unwrap();
        all.settled = i64::MAX;
        let found: Vec<RunSummary> = all.by_ref().collect();
        let kept = Cache::new(state, "runs", state).unwrap().read();
        (found, kept.map_or(0, |kept| kept.lines().count()))
    }

    fn plainly(state: &Path) -> Vec<RunSummary> {
        reader::runs(state).unwrap().iter().map(|run| reader::summary(state, run)).collect()
    }

    #[test]
    fn what_is_kept_of_runs_is_what_their_records_say() {
        let dir = state();
        let state = dir.path();
        let (cold, kept) = listed(state);
        assert_eq!(cold, plainly(state));
        // The newest are not kept, nor are those that were killed or cannot be read.
        assert_eq!(kept, RUNS - ONE_BY_ONE - 1 - (0..RUNS - ONE_BY_ONE).filter(|n| n % 50 == 9).count());
        assert_eq!(listed(state).0, cold);

        let exit = |number: usize| state.join("runs").join(cold[number].run.as_str()).join(EXIT);
        // Edited in place, resumed, replaced by a file of the same length.
        let text = fs::read_to_string(exit(100)).unwrap();
        fs::write(exit(100), text.replace("\"bytes\":", "\"bytes\":4")).unwrap();
        fs::rename(exit(101), exit(101).with_file_name("exit.1.json")).unwrap();
        let text = fs::read_to_string(exit(102)).unwrap();
        fs::write(exit(102).with_file_name("new"), text.replace("success", "partial")).unwrap();
        fs::rename(exit(102).with_file_name("new"), exit(102)).unwrap();
        fs::remove_dir_all(exit(103).parent().unwrap()).unwrap();
        let changed = listed(state).0;
        assert_eq!(changed, plainly(state));
        assert_eq!(changed[101].state, RunState::Killed);
        assert_ne!((&changed[100], &changed[102]), (&cold[100], &cold[102]));
        assert_eq!(changed.len(), RUNS - 1);
    }

    #[test]
    fn what_lies_in_the_cache_is_looked_up_there() {
        let dir = state();
        let state = dir.path();
        listed(state);
        let cache = Cache::new(state, "runs", state).unwrap();
        let kept = cache.read().unwrap();
        let mut lines = Lines::default();
        let mut count = 0;
        for at in kept.lines() {
            let mut words = kept.words(at.clone());
            let run = RunId::parse(&words.text().unwrap()).unwrap();
            let files = (words.stamp().unwrap(), words.stamp().unwrap());
            let mut summary = told(&run, kept.words(at), files).unwrap();
            summary.bytes = 77;
            lines.append(&line(&summary, files));
            count += 1;
        }
        assert!(count > ONE_BY_ONE);
        cache.write(&(), &lines);
        let after = listed(state).0;
        assert_eq!(after.iter().filter(|run| run.bytes == 77).count(), count);
    }

    #[test]
    fn few_are_asked_for_and_few_are_read() {
        let dir = state();
        let state = dir.path();
        let mut all = Summaries::of(state).unwrap();
        assert_eq!(all.by_ref().take(ONE_BY_ONE).count(), ONE_BY_ONE);
        assert!(all.ledger.is_none());
        assert!(!state.join("cache").exists());
    }
}
