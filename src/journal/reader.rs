//! Reading the record of runs. A record is never refused as a whole: what cannot be read is said, the rest is shown.

use crate::base::event::{Alert, Event, What};
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::journal::store::{
    self, ALERT, AlertFile, AlertResult, DrillResult, EXIT, ExitFile, FORMAT, RUN, RunFile,
};
use crate::journal::summaries::Summaries;
use crate::sys::clock::Clock;
use crate::sys::spread;
use crate::sys::state::stamps::Records;
use crate::sys::state::{self, DeadRun, live};
use chrono::{DateTime, FixedOffset};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its process lives.
    Running,
    /// Its process is gone without having said how it ended.
    Killed,
    /// It ended.
    Ended(Exit),
}

/// A run in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its id.
    pub run: RunId,
    /// Playbook name; empty if `run.json` cannot be read.
    pub playbook: String,
    /// When it began.
    pub began: Option<DateTime<FixedOffset>>,
    /// Where it stands.
    pub state: RunState,
    /// Milliseconds it took, once it ended.
    pub millis: Option<u64>,
    /// Bytes of the backups it made.
    pub bytes: u64,
    /// Warnings and tolerated failures.
    pub warnings: Vec<String>,
    /// The failure that ended it.
    pub failure: Option<Failure>,
    /// Whether it was a drill.
    pub is_drill: bool,
    /// What a drill found out, in short, once it ended.
    pub drill: Option<DrillResult>,
    /// Paths of the blocks whose clean-up was begun or due, and did not end well.
    pub owes: Vec<String>,
    /// How often it was resumed.
    pub resumed: u32,
    /// What of the record cannot be read, and why.
    pub notes: Vec<String>,
}

/// The events of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Those that can be read.
    pub events: Vec<Event>,
    /// What cannot be read, and why.
    pub notes: Vec<String>,
}

/// A run that was killed and that nobody was told of.
#[derive(Debug)]
pub struct KilledRun {
    /// Its id.
    pub run: RunId,
    /// Playbook name.
    pub playbook: String,
    /// When it began.
    pub began: Option<DateTime<FixedOffset>>,
    /// Whether it was a drill.
    pub is_drill: bool,
    /// The alert that the playbook had set before.
    pub alert: Option<Alert>,
    dead: DeadRun,
}

impl KilledRun {
    /// Notes what became of the alert, so that it is sent once.
    pub fn alert_sent(&self, clock: &Clock, result: &AlertResult) -> Result<(), Failure> {
        self.dead.write(ALERT, &store::alert_file(clock, result, str::to_owned)?)?;
        self.dead.settle();
        Ok(())
    }
}

/// Notes that the alert of a run that is over was delivered after all. It does nothing when nothing was noted before, or when the
/// run is resumed just now.
pub fn alert_delivered_late(
    state: &Path,
    run: &RunId,
    clock: &Clock,
    result: &AlertResult,
) -> Result<(), Failure> {
    let Some(dead) = DeadRun::take(state, run)? else { return Ok(()) };
    match alert(state, run) {
        Some(noted) if !noted.delivered => {
            dead.write(ALERT, &store::alert_file(clock, result, str::to_owned)?)
        }
        _ => Ok(()),
    }
}

/// All runs on record in short, newest first.
pub fn list(state: &Path) -> Result<Vec<RunSummary>, Failure> {
    Ok(Summaries::of(state)?.collect())
}

/// Ids of all runs on record, newest first; those that began in the same second by their exact times.
pub fn runs(state: &Path) -> Result<Vec<RunId>, Failure> {
    let mut runs = state::runs(state)?;
    in_order(state, &mut runs);
    Ok(runs)
}

/// Ids of the newest so many runs, in the order of [`runs`].
pub fn newest(state: &Path, most: usize) -> Result<Vec<RunId>, Failure> {
    let mut runs = state::runs(state)?;
    // All of the last one's second, since any of them may be the newest.
    let last = runs.get(most.saturating_sub(1)).map(|last| last.second().to_owned());
    let enough = last.map_or(runs.len(), |last| runs.partition_point(|run| *run.second() >= *last));
    runs.truncate(enough);
    in_order(state, &mut runs);
    runs.truncate(most);
    Ok(runs)
}

/// Puts those that began in the same second in order.
fn in_order(state: &Path, runs: &mut [RunId]) {
    let is_same_second = |a: &RunId, b: &RunId| a.second() == b.second();
    for same in runs.chunk_by_mut(is_same_second).filter(|same| same.len() > 1) {
        same.sort_by_cached_key(|run| {
            std::cmp::Reverse(file::<RunFile>(state, run, RUN).ok().flatten().map(|about| about.began))
        });
    }
}

/// A run of a playbook that goes on, and its process, if there is one. What began before the newest thousand runs is not
/// looked at.
pub fn running(state: &Path, playbook: &str) -> Result<Option<(RunId, u32)>, Failure> {
    const NEWEST: usize = 1000;
    let live = running_among(state, playbook, live::marked(state).unwrap_or_default())?;
    // That of a Lifeboat which made no marks has none.
    if live.is_some() {
        return Ok(live);
    }
    running_among(state, playbook, state::runs(state)?.into_iter().take(NEWEST).collect())
}

fn running_among(state: &Path, playbook: &str, runs: Vec<RunId>) -> Result<Option<(RunId, u32)>, Failure> {
    for run in runs {
        if state::has(state, &run, EXIT) || !state::is_alive(state, &run)? {
            continue;
        }
        let about = file::<RunFile>(state, &run, RUN).ok().flatten();
        if let Some(about) = about.filter(|about| about.playbook == playbook && !about.drill) {
            return Ok(Some((run, about.pid)));
        }
    }
    Ok(None)
}

/// One run in short.
pub fn summary(state: &Path, run: &RunId) -> RunSummary {
    let mut notes = Vec::new();
    let about = file::<RunFile>(state, run, RUN).unwrap_or_else(|note| {
        notes.push(note);
        None
    });
    let mut exit = || {
        file::<ExitFile>(state, run, EXIT).unwrap_or_else(|note| {
            notes.push(note);
            None
        })
    };
    let mut ended = exit();
    let mut stands = RunState::Killed;
    if ended.is_none() {
        if state::is_alive(state, run).unwrap_or(false) {
            stands = RunState::Running;
        } else {
            // It may have ended between the two looks.
            ended = exit();
        }
    }
    notes.dedup();
    if let Some(ended) = &ended {
        stands = RunState::Ended(ended.exit);
    }
    let (owes, resumed) = match (&ended, stands) {
        // What a drill would have to clean up is gone with its sandbox.
        _ if about.as_ref().is_some_and(|about| about.drill) => (Vec::new(), 0),
        (Some(ended), _) => (ended.owes.clone(), ended.resumed),
        (None, RunState::Killed) => {
            let events = events(state, run).map(|recording| recording.events).unwrap_or_default();
            let resumed = events.iter().filter(|event| matches!(event.what, What::RunResumed { .. })).count();
            (owed(&events), u32::try_from(resumed).unwrap_or(u32::MAX))
        }
        (None, _) => (Vec::new(), 0),
    };
    RunSummary {
        run: run.clone(),
        playbook: about.as_ref().map(|about| about.playbook.clone()).unwrap_or_default(),
        is_drill: about.as_ref().is_some_and(|about| about.drill),
        began: about.map(|about| about.began),
        state: stands,
        millis: ended.as_ref().and_then(|ended| ended.millis),
        bytes: ended.as_ref().map_or(0, |ended| ended.bytes),
        warnings: ended.as_ref().map(|ended| ended.warnings.clone()).unwrap_or_default(),
        drill: ended.as_ref().and_then(|ended| ended.drill.clone()),
        failure: ended.and_then(|ended| ended.failure),
        owes,
        resumed,
        notes,
    }
}

/// Paths of the blocks whose clean-up is owed.
pub fn owed(events: &[Event]) -> Vec<String> {
    let mut owed = Owed::default();
    events.iter().for_each(|event| owed.note(&event.what));
    owed.0.into_iter().collect()
}

/// Blocks with a clean-up that has not ended well yet.
#[derive(Clone, Debug, Default)]
pub struct Owed(pub BTreeSet<String>);

impl Owed {
    /// Takes note of an event.
    pub fn note(&mut self, what: &What) {
        match what {
            What::EnsureBegun { ensure } => {
                self.0.insert(ensure.clone());
            }
            What::CleanUpEnded { ensure, failure: None } => {
                self.0.remove(ensure);
            }
            _ => {}
        }
    }
}

/// A JSON file of a run; `None` if it is not there, a note if it cannot be read.
fn file<T: DeserializeOwned>(state: &Path, run: &RunId, name: &str) -> Result<Option<T>, String> {
    let Some(text) = state::read(state, run, Path::new(name)).map_err(|failure| failure.to_string())? else {
        return Ok(None);
    };
    serde_json::from_str(&text).map(Some).map_err(|error| match format_of(&text) {
        Some(version) if version > FORMAT => newer(name, version),
        _ => format!("`{name}` cannot be read: {error}"),
    })
}

fn format_of(text: &str) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    u32::try_from(value.get("version")?.as_u64()?).ok()
}

fn newer(name: &str, version: u32) -> String {
    format!("`{name}` was written by a newer Lifeboat (format {version}, this one reads {FORMAT})")
}

/// The run that `name` means: `latest`, the whole id, or the shortest unique prefix of it or of its letters.
pub fn find(state: &Path, name: &str) -> Result<RunId, Failure> {
    let runs = state::runs(state)?;
    if runs.is_empty() {
        return Err(Failure::new(Code::Usage, format!("there is no run `{name}`"))
            .caused_by("no run is on record yet")
            .hint("Run a playbook first; `lifeboat playbooks` lists them."));
    };
    if name == "latest" {
        let is_newest = |run: &&RunId| run.second() == runs[0].second();
        let mut newest: Vec<RunId> = runs.iter().take_while(is_newest).cloned().collect();
        in_order(state, &mut newest);
        return Ok(newest.swap_remove(0));
    }
    let mut found: Vec<RunId> = runs.iter().filter(|run| run.answers_to(name)).cloned().collect();
    in_order(state, &mut found);
    match found.as_slice() {
        [run] => Ok(run.clone()),
        [] => {
            let known = runs.iter().flat_map(|run| [run.as_str(), run.letters()]);
            let meant = crate::base::diagnostic::did_you_mean(name, known);
            Err(Failure::new(Code::Usage, format!("there is no run `{name}`")).hint(match meant {
                Some(meant) => format!("Did you mean `{meant}`?"),
                None => "`lifeboat history` lists the runs.".to_owned(),
            }))
        }
        _ => {
            let mut failure = Failure::new(Code::Usage, format!("`{name}` names {} runs", found.len()));
            for run in found.iter().take(5) {
                failure = failure.caused_by(run);
            }
            if found.len() > 5 {
                failure = failure.caused_by(format!("and {} more", found.len() - 5));
            }
            Err(failure.hint("Name the run with more of its letters."))
        }
    }
}

/// The run that `name` means to whoever resumes one: `latest` is the newest of [`resumable`] that was more than a mistaken
/// command line.
///
/// # Errors
/// As [`find`], and `Usage` when no run can go on.
pub fn find_resumable(state: &Path, name: &str) -> Result<RunId, Failure> {
    if name != "latest" {
        return find(state, name);
    }
    // A command line that was mistaken since does not hide what it meant to go on with.
    let mut first = None;
    for summary in Summaries::of(state)?.filter(goes_on) {
        if summary.state != RunState::Ended(Exit::Usage) {
            return Ok(summary.run);
        }
        first.get_or_insert(summary.run);
    }
    if let Some(found) = first {
        return Ok(found);
    }
    let Some(newest) = Summaries::of(state)?.next() else { return find(state, name) };
    let failure =
        Failure::new(Code::Usage, "there is no run to resume: none failed, was interrupted or killed");
    Err(match newest.state {
        RunState::Running => failure
            .caused_by(format!("the newest, `{}` of `{}`, is still going on", newest.run, newest.playbook))
            .hint(format!("`lifeboat logs -f {}` follows it.", newest.run.letters())),
        _ => failure.hint("Run the playbook once more instead; `lifeboat history` lists the runs."),
    })
}

/// Runs that can be resumed, newest first, at most `most`: those that failed, were interrupted or killed, and are no drills.
///
/// # Errors
/// Those of reading the folder of the records.
pub fn resumable(state: &Path, most: usize) -> Result<Vec<RunSummary>, Failure> {
    Ok(Summaries::of(state)?.filter(goes_on).take(most).collect())
}

fn goes_on(summary: &RunSummary) -> bool {
    let ended_early = match summary.state {
        RunState::Running => false,
        RunState::Killed => true,
        RunState::Ended(exit) => !matches!(exit, Exit::Success | Exit::Warnings),
    };
    ended_early && !summary.is_drill
}

/// The events of a run, as far as they can be read.
pub fn events(state: &Path, run: &RunId) -> Result<Recording, Failure> {
    let version =
        state::read(state, run, Path::new(RUN))?.and_then(|text| format_of(&text)).unwrap_or(FORMAT);
    Ok(parse(&state::read_events(state, run)?, version))
}

/// Reads events, one a line. A last line without its newline was being written when the process died.
fn parse(text: &str, version: u32) -> Recording {
    let (whole, torn) = text.rsplit_once('\n').unwrap_or(("", text));
    let mut unreadable = 0_usize;
    let mut events: Vec<Event> = Vec::new();
    for line in whole.lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(event) => events.push(event),
            Err(_) => unreadable += 1,
        }
    }
    let mut notes = Vec::new();
    if unreadable > 0 {
        let lines = if unreadable == 1 { "1 event".to_owned() } else { format!("{unreadable} events") };
        notes.push(if version > FORMAT {
            format!("{lines} cannot be read: written by a newer Lifeboat (format {version}, this one reads {FORMAT})")
        } else {
            format!("{lines} cannot be read")
        });
    }
    if !torn.is_empty() {
        match serde_json::from_str(torn) {
            Ok(event) => events.push(event),
            Err(_) => notes.push("the last event is torn: the run ended while it was written".to_owned()),
        }
    }
    Recording { events, notes }
}

/// Text of a file of the run as places name it, as it was when it ran.
pub fn source(state: &Path, run: &RunId, name: &str) -> Option<String> {
    let about = file::<RunFile>(state, run, RUN).ok()??;
    state::read(state, run, Path::new(about.sources.get(name)?)).ok()?
}

/// Texts of all files of the run as places name them, as they were when it ran; empty if they cannot be read.
pub fn sources(state: &Path, run: &RunId) -> BTreeMap<String, String> {
    let Ok(Some(about)) = file::<RunFile>(state, run, RUN) else { return BTreeMap::new() };
    let text = |kept: &String| state::read(state, run, Path::new(kept)).ok().flatten();
    about.sources.iter().filter_map(|(name, kept)| Some((name.clone(), text(kept)?))).collect()
}

/// What became of a run's alert; `None` if nothing was sent.
pub fn alert(state: &Path, run: &RunId) -> Option<AlertFile> {
    file(state, run, ALERT).ok()?
}

/// Whether somebody received the alert of an earlier attempt of a run that was resumed.
pub fn was_alarmed(state: &Path, run: &RunId) -> bool {
    let last = (1..).take_while(|n: &u32| state::has(state, run, &format!("alert.{n}.json"))).last();
    let told = last.and_then(|n| file::<AlertFile>(state, run, &format!("alert.{n}.json")).ok()?);
    told.is_some_and(|told| told.delivered)
}

/// The runs whose process is gone without an end, and whose alert was not sent. Each is taken over: as long as the value
/// lives, no other process gets it. One whose record cannot be looked at, and why, is handed to `unread`: it hides no other.
///
/// # Errors
/// The records cannot be listed.
pub fn killed(state: &Path, unread: &mut dyn FnMut(&RunId, Failure)) -> Result<Vec<KilledRun>, Failure> {
    let mut found = Vec::new();
    let untold = |run: &RunId| !state::has(state, run, EXIT) && !state::has(state, run, ALERT);
    let mut open = if live::is_look_due(state) { look_at_all(state)? } else { live::marked(state)? };
    in_order(state, &mut open);
    for run in open {
        let dead = match DeadRun::take(state, &run) {
            Ok(Some(dead)) => dead,
            Ok(None) => {
                live::forget_gone(state, &run);
                continue;
            }
            Err(failure) => {
                unread(&run, failure);
                continue;
            }
        };
        // It may have ended, or been told of, before it was taken over.
        if !untold(&run) {
            dead.settle();
            continue;
        }
        let about = file::<RunFile>(state, &run, RUN).ok().flatten();
        let alert = events(state, &run).map(|recording| {
            recording.events.into_iter().rev().find_map(|event| match event.what {
                What::AlertSet(alert) => Some(alert),
                _ => None,
            })
        });
        // That it was killed is known all the same.
        let alert = alert.unwrap_or_else(|failure| {
            unread(&run, failure);
            None
        });
        found.push(KilledRun {
            playbook: about.as_ref().map(|about| about.playbook.clone()).unwrap_or_default(),
            is_drill: about.as_ref().is_some_and(|about| about.drill),
            began: about.map(|about| about.began),
            alert,
            run,
            dead,
        });
    }
    Ok(found)
}

/// Looks at all records for those without an end, which have marks from now on.
fn look_at_all(state: &Path) -> Result<Vec<RunId>, Failure> {
    let records = Records::open(state);
    let has_exit = |run: &RunId| records.as_ref().is_some_and(|records| records.stamp(run, EXIT).is_some());
    let is_open =
        |run: &RunId| !has_exit(run) && !state::has(state, run, EXIT) && !state::has(state, run, ALERT);
    let all = spread::map(state::runs(state)?, |run| is_open(&run).then_some(run));
    let mut open: Vec<RunId> = all.into_iter().flatten().collect();
    live::looked(state, &open);
    open.extend(live::marked(state).unwrap_or_default());
    open.sort_unstable_by(|a, b| b.cmp(a));
    open.dedup();
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Level;
    use proptest::prelude::*;

    fn recorded(n: usize) -> (Vec<Event>, String) {
        let time = DateTime::parse_from_rfc3339("2025-11-10T02:00:00+01:00").unwrap();
        let events: Vec<Event> = (0..n)
            .map(|i| {
                let message = format!("é {i}\n\"{i}\"");
                Event::new(time, What::Log { level: Level::Info, message })
            })
            .collect();
        let text = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
        (events, text)
    }

    #[test]
    fn events_of_a_newer_format_are_read_as_far_as_they_are_known() {
        let (events, mut text) = recorded(2);
        text.push_str("{\"time\":\"2025-11-10T02:00:00+01:00\",\"what\":{\"event\":\"unheard_of\"}}\n");
        assert_eq!(
            parse(&text, 7),
            Recording {
                events: events.clone(),
                notes: vec![
                    "1 event cannot be read: written by a newer Lifeboat (format 7, this one reads 1)".into()
                ]
            }
        );
        assert_eq!(parse(&text, 1).notes, ["1 event cannot be read"]);
    }

    fn begun(state: &Path, run: &RunId) -> state::RunFiles {
        let about = serde_json::json!({
            "version": 1, "run": run, "playbook": "nightly", "pid": 1, "began": "2025-11-10T02:00:00Z"
        });
        let files = [(RUN.into(), about.to_string())];
        state::RunFiles::create(state, run, &files, state::Reserve::Own).unwrap()
    }

    fn end(run: &state::RunFiles) {
        run.write(EXIT, r#"{"version": 1, "exit": "success", "ended": "2025-11-10T02:00:00Z"}"#).unwrap();
        run.end();
    }

    fn told(state: &Path) -> Vec<String> {
        killed(state, &mut |_, failure| panic!("{failure}"))
            .unwrap()
            .into_iter()
            .map(|killed| killed.run.letters().to_owned())
            .collect()
    }

    fn marked(state: &Path) -> Vec<String> {
        live::marked(state).unwrap().into_iter().map(|run| run.letters().to_owned()).collect()
    }

    fn run(letters: &str) -> RunId {
        RunId::parse(&format!("20251110-020000-{letters}")).unwrap()
    }

    #[test]
    fn a_record_that_cannot_be_read_hides_no_killed_run() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let all = [run("aalock"), run("aevent"), run("aaabad")];
        all.iter().for_each(|run| drop(begun(state, run)));
        for (run, file) in [(&all[0], "run.lock"), (&all[1], "events.jsonl")] {
            let at = state::folder(state, run).join(file);
            let _ = std::fs::remove_file(&at);
            std::os::unix::fs::symlink(&at, &at).unwrap();
        }
        let mut unread = Vec::new();
        let found =
            killed(state, &mut |run, failure| unread.push(format!("{}: {failure}", run.letters()))).unwrap();
        let mut found: Vec<&str> = found.iter().map(|killed| killed.run.letters()).collect();
        found.sort_unstable();
        unread.sort_unstable();
        assert_eq!(found, ["aaabad", "aevent"]);
        assert_eq!(unread.len(), 2, "{unread:?}");
        assert!(
            unread[0].starts_with("aalock: cannot ") && unread[1].starts_with("aevent: cannot read "),
            "{unread:?}"
        );
    }

    #[test]
    fn runs_that_were_killed_are_found_by_their_marks() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        assert!(live::is_look_due(state));
        assert!(told(state).is_empty());
        assert!(!live::is_look_due(state));
        let (good, bad, on) = (run("aagood"), run("aaabad"), run("aaaaon"));
        let on_files = begun(state, &on);
        assert_eq!(running(state, "nightly").unwrap(), Some((on.clone(), 1)));
        assert_eq!(running(state, "hourly").unwrap(), None);
        end(&begun(state, &good));
        drop(begun(state, &bad));
        assert_eq!(marked(state), ["aaabad", "aaaaon"]);
        assert_eq!(told(state), ["aaabad"]);
        // Until somebody was told of it, it is found again.
        let found = killed(state, &mut |_, failure| panic!("{failure}")).unwrap();
        let result = AlertResult { delivered: true, detail: String::new(), channels: Vec::new() };
        found[0].alert_sent(&Clock::new(None), &result).unwrap();
        drop(found);
        assert_eq!(marked(state), ["aaaaon"]);
        assert!(told(state).is_empty());
        // One that ended is taken up again, and killed then.
        let again = |run: &RunId| {
            state::RunFiles::reopen(state, run, &["alert", "exit"], state::Reserve::Own).unwrap().unwrap()
        };
        drop(again(&good));
        assert_eq!(told(state), ["aagood"]);
        end(&again(&good));
        // Its record is gone, its mark is not.
        let gone = begun(state, &run("aagone"));
        std::fs::remove_dir_all(gone.dir()).unwrap();
        drop(gone);
        assert!(told(state).is_empty());
        drop(on_files);
        assert_eq!(marked(state), ["aaaaon"]);
        assert_eq!(told(state), ["aaaaon"]);
    }

    #[test]
    fn runs_without_a_mark_are_found_when_all_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        assert!(told(state).is_empty());
        let (old, on) = (run("aaaold"), run("aaaaon"));
        drop(begun(state, &old));
        let on_files = begun(state, &on);
        let marks = state.join("live");
        for run in [&old, &on] {
            std::fs::remove_file(marks.join(run.as_str())).unwrap();
        }
        assert!(told(state).is_empty());
        assert_eq!(running(state, "nightly").unwrap(), Some((on.clone(), 1)));
        let looked = std::fs::File::options().write(true).open(marks.join(".looked")).unwrap();
        let hours = |hours: u64| std::time::Duration::from_secs(hours * 3600);
        looked.set_modified(std::time::SystemTime::now() - hours(1)).unwrap();
        assert_eq!(told(state), ["aaaold"]);
        assert!(!live::is_look_due(state));
        assert_eq!(marked(state), ["aaaold", "aaaaon"]);
        drop(on_files);
        assert_eq!(told(state), ["aaaold", "aaaaon"]);
        // Nobody has looked tomorrow.
        let looked = std::fs::File::options().write(true).open(marks.join(".looked")).unwrap();
        looked.set_modified(std::time::SystemTime::now() + hours(24)).unwrap();
        assert!(live::is_look_due(state));
        std::fs::remove_dir_all(&marks).unwrap();
        assert_eq!(told(state), ["aaaold", "aaaaon"]);
    }

    #[test]
    fn where_no_mark_can_be_made_all_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        std::fs::write(state.join("live"), "no folder").unwrap();
        drop(begun(state, &run("aaabad")));
        assert!(live::is_look_due(state));
        assert_eq!(running(state, "nightly").unwrap(), None);
        assert_eq!(told(state), ["aaabad"]);
        assert_eq!(told(state), ["aaabad"]);
    }

    proptest! {
        #[test]
        fn a_torn_tail_costs_at_most_the_last_event(n in 1_usize..8, cut in 0_usize..2000) {
            let (events, text) = recorded(n);
            let cut = cut % (text.len() + 1);
            // Cutting may tear a character; the reader sees what a lossy decoding makes of it.
            let left = String::from_utf8_lossy(&text.as_bytes()[..cut]).into_owned();
            let whole = text.as_bytes()[..cut].iter().filter(|&&byte| byte == b'\n').count();
            let read = parse(&left, 1);
            prop_assert!(read.events.len() == whole || (read.events.len() == whole + 1 && read.notes.is_empty()));
            prop_assert_eq!(&read.events[..], &events[..read.events.len()]);
            let torn = read.events.len() == whole && !left.is_empty() && !left.ends_with('\n');
            prop_assert_eq!(read.notes.len(), usize::from(torn));
        }

        #[test]
        fn garbage_in_the_middle_costs_only_itself(n in 1_usize..6, at in 0_usize..6, junk in "[^\n]{1,40}") {
            let (events, text) = recorded(n);
            let mut lines: Vec<&str> = text.lines().collect();
            lines.insert(at.min(n), &junk);
            let read = parse(&(lines.join("\n") + "\n"), 1);
            prop_assert_eq!(read.events, events);
            let blank = junk.trim().is_empty();
            prop_assert_eq!(read.notes.len(), usize::from(!blank));
        }
    }
}
