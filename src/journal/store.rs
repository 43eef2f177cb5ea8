//! Recording one run.

use crate::base::drill::{Passed, Verdict};
use crate::base::event::{Event, EventSink, Mode, What};
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::base::plan::Touch;
use crate::base::schedule::Scheduled;
use crate::base::secret::Masker;
use crate::base::task::SuccessRecord;
use crate::journal::reader::Owed;
use crate::journal::retention::{self, Keep};
use crate::journal::successes;
use crate::sys::clock::Clock;
use crate::sys::effects::IntentLog;
use crate::sys::host::Host;
use crate::sys::state::{self, Reserve, RunFiles};
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Version of the journal's format that this build writes.
pub const FORMAT: u32 = 1;

pub(crate) const RUN: &str = "run.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const ALERT: &str = "alert.json";

/// Children's output beyond this many bytes of a run is not recorded: a child that babbles must not fill the disk.
const OUTPUT_LIMIT: usize = 16 << 20;

/// `run.json`: what is known when a run begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Format version.
    pub version: u32,
    /// Its id.
    pub run: RunId,
    /// Playbook name.
    pub playbook: String,
    /// Process id.
    pub pid: u32,
    /// When it began.
    pub began: DateTime<FixedOffset>,
    /// Version of Lifeboat.
    #[serde(default)]
    pub lifeboat: String,
    /// Whether it was a drill.
    #[serde(default, skip_serializing_if = "is_false")]
    pub drill: bool,
    /// The schedule whose run it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
    /// Files as places name them, and where in the run's folder their text is kept.
    #[serde(default)]
    pub sources: BTreeMap<String, String>,
}

/// `exit.json`: how a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitFile {
    /// Format version.
    pub version: u32,
    /// How.
    pub exit: Exit,
    /// When.
    pub ended: DateTime<FixedOffset>,
    /// Milliseconds it took, as far as the run said so.
    #[serde(default)]
    pub millis: Option<u64>,
    /// Bytes of the backups it made.
    #[serde(default)]
    pub bytes: u64,
    /// Warnings and tolerated failures.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The failure that ended it.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// Paths of the blocks whose clean-up is owed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owes: Vec<String>,
    /// What a drill found out, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillResult>,
    /// How often the run was resumed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumed: u32,
}

/// A drill in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillResult {
    /// How it ended.
    pub result: Passed,
    /// The recovery time in milliseconds.
    pub millis: u64,
    /// Whether that is a lower bound.
    pub at_least: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// `alert.json`: what became of the run's alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertFile {
    /// Format version.
    pub version: u32,
    /// When.
    pub at: DateTime<FixedOffset>,
    /// Whether the receiver accepted it.
    pub delivered: bool,
    /// What became of it in short, or why it failed.
    pub detail: String,
    /// What became of it on each channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelResult>,
}

/// What became of an alert on one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelResult {
    /// `webhook`, `e-mail` or `command`.
    pub channel: String,
    /// Whether its receiver accepted it.
    pub delivered: bool,
    /// The receiver, or why it failed.
    pub detail: String,
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertResult {
    /// Whether anybody accepted it.
    pub delivered: bool,
    /// What became of it in short, or why it failed.
    pub detail: String,
    /// What became of it on each channel.
    pub channels: Vec<ChannelResult>,
}

/// What a record begins with.
#[derive(Clone, Debug)]
pub struct NewRun<'a> {
    /// Its id.
    pub run: &'a RunId,
    /// Playbook name.
    pub playbook: &'a str,
    /// The playbook's file as places name it.
    pub file: &'a str,
    /// Its text.
    pub source: &'a str,
    /// Modules: name as places say it, and text.
    pub modules: &'a [(String, String)],
    /// Live, or a drill.
    pub mode: Mode,
    /// What it may use when the journal's disk is full.
    pub reserve: Reserve,
}

#[derive(Debug, Default)]
struct Tally {
    /// Backups that the run planned to make, by path.
    planned: BTreeSet<PathBuf>,
    bytes: u64,
    output: usize,
    /// Those whose bytes were counted.
    counted: BTreeSet<PathBuf>,
    owed: Owed,
    resumed: u32,
    ended: Option<(Option<u64>, Vec<String>, Option<Failure>)>,
    lost: Option<Failure>,
    drill: Option<DrillResult>,
    /// Backups that it restored.
    restored: BTreeSet<PathBuf>,
}

/// Name of the action that loads a backup into a database and compares what is there with what the backup holds.
const RESTORE: &str = "restore";

/// The record of a run that is going on. Dropped without [`RunRecord::end`], it is the record of a killed run.
#[derive(Debug)]
pub struct RunRecord {
    run: RunId,
    files: RunFiles,
    clock: Clock,
    masker: Masker,
    tally: Mutex<Tally>,
    /// Playbook and beginning of a run that is no drill.
    live: Option<(String, DateTime<FixedOffset>)>,
    tidied: Tidied,
}

/// What became of old records when a new one began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// What was lost with those that were removed.
    pub lost: Vec<String>,
    /// What is wrong with the setting that says how long they are kept.
    pub wrong: Option<String>,
}

/// The playbook of a run, unless it is a drill.
fn live_run(events: &[Event]) -> Option<String> {
    events.iter().find_map(|event| match &event.what {
        What::RunBegun { playbook, mode: Mode::Live, .. } => Some(playbook.clone()),
        _ => None,
    })
}

impl RunRecord {
    /// Begins a record below the host's state folder. Old records beyond retention are removed on the way.
    pub fn begin(host: &Host, new: &NewRun<'_>) -> Result<Self, Failure> {
        let mut sources = BTreeMap::from([(new.file.to_owned(), "playbook.rhai".to_owned())]);
        let mut files = vec![(PathBuf::from("playbook.rhai"), new.source.to_owned())];
        for (name, text) in new.modules {
            let kept = format!("modules/{}.rhai", name.trim_end_matches(".rhai"));
            if sources.insert(name.clone(), kept.clone()).is_none() {
                files.push((kept.into(), text.clone()));
            }
        }
        let about = RunFile {
            version: FORMAT,
            run: new.run.clone(),
            playbook: new.playbook.to_owned(),
            pid: state::process_id(),
            began: host.began().fixed_offset(),
            lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
            drill: new.mode == Mode::Drill,
            scheduled: host.scheduled().cloned(),
            sources,
        };
        files.push((RUN.into(), json(&about)?));
        let (keep, wrong) = Keep::of(&host.env());
        // What cannot be tidied up now will be by a later run; it must not keep this one from its work.
        let lost = retention::apply(host.state(), host.clock().now(), keep).unwrap_or_default();
        let files = RunFiles::create(host.state(), new.run, &files, new.reserve)?;
        state::top_up_host(host.state());
        Ok(Self {
            run: new.run.clone(),
            live: (new.mode == Mode::Live).then(|| (new.playbook.to_owned(), host.began().fixed_offset())),
            files,
            clock: host.clock().clone(),
            masker: host.masker().clone(),
            tally: Mutex::default(),
            tidied: Tidied { lost, wrong },
        })
    }

    /// What became of old records when this one began.
    pub fn tidied(&self) -> &Tidied {
        &self.tidied
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Goes on with the record of a run that ended early: `events` are those that it holds, `sources` the files that run now,
    /// of which `changed` are not as recorded.
    ///
    /// # Errors
    /// `Locked` if the run still works.
    pub fn resume(
        host: &Host,
        run: &RunId,
        events: &[Event],
        sources: &[(String, String)],
        changed: &[String],
        reserve: Reserve,
    ) -> Result<Self, Failure> {
        let files = RunFiles::reopen(host.state(), run, &["alert", "exit"], reserve)?.ok_or_else(|| {
            Failure::new(Code::Locked, format!("the run `{run}` is still going on"))
                .hint(format!("`lifeboat logs -f {}` follows it.", run.letters()))
        })?;
        let mut tally = Tally::default();
        events.iter().for_each(|event| {
            tally.note(&event.what);
        });
        tally.ended = None;
        if !changed.is_empty() {
            record_changed(host, run, &files, tally.resumed + 1, sources, changed)?;
        }
        Ok(Self {
            run: run.clone(),
            live: live_run(events).map(|playbook| (playbook, host.began().fixed_offset())),
            files,
            clock: host.clock().clone(),
            masker: host.masker().clone(),
            tally: Mutex::new(tally),
            tidied: Tidied::default(),
        })
    }

    /// The run's folder.
    pub fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// Lets the run use the host's reserve from now on: for rotation and clean-up, which make space.
    pub fn allow_host_reserve(&self) {
        self.files.allow_host_reserve();
    }

    /// Notes what became of the run's alert.
    pub fn alert_sent(&self, result: &AlertResult) -> Result<(), Failure> {
        self.files.write(ALERT, &alert_file(&self.clock, result, |text| self.masker.mask(text))?)
    }

    /// Paths of the backups that it made so far.
    pub fn made(&self) -> Vec<PathBuf> {
        self.tally().counted.iter().cloned().collect()
    }

    /// Paths of the backups that it restored and compared.
    pub fn restored(&self) -> Vec<PathBuf> {
        self.tally().restored.iter().cloned().collect()
    }

    /// Ends the record. Milliseconds, warnings and failure are those of the `RunEnded` event, which comes before.
    pub fn end(&self, exit: Exit) -> Result<(), Failure> {
        let mut tally = self.tally();
        let (millis, warnings, failure) = tally.ended.take().unwrap_or_default();
        let file = ExitFile {
            version: FORMAT,
            exit,
            ended: self.clock.now().fixed_offset(),
            millis,
            bytes: tally.bytes,
            warnings,
            failure,
            owes: tally.owed.0.iter().cloned().collect(),
            drill: tally.drill.take(),
            resumed: tally.resumed,
        };
        drop(tally);
        self.files.write(EXIT, &json(&file)?)?;
        if let (Exit::Success, Some((playbook, began))) = (exit, &self.live) {
            // The run's own record says it as well; only after that is removed it counts.
            let _ = successes::keep(
                self.files.state(),
                &SuccessRecord::new(playbook, &self.run, *began, file.ended),
            );
        }
        self.files.end();
        Ok(())
    }

    /// The failure that lost an event, if one was lost.
    pub fn lost(&self) -> Option<Failure> {
        self.tally().lost.clone()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for RunRecord {
    fn event(&self, event: &Event) {
        if matches!(event.what, What::Progress(_)) || !self.tally().note(&event.what) {
            return;
        }
        let written = line(event).and_then(|line| self.files.append(&line, false));
        if let Err(failure) = written {
            self.tally().lost.get_or_insert(failure);
        }
    }
}

impl IntentLog for RunRecord {
    fn record(&self, number: u64, intent: &str) -> Result<(), Failure> {
        let broken = |failure: Failure| {
            let mut told =
                Failure::new(Code::Journal, "the journal cannot be written, so nothing is destroyed")
                    .caused_by(&failure);
            told.hints = failure.hints;
            told
        };
        if let Some(failure) = self.lost() {
            return Err(broken(failure));
        }
        let what = What::Intent { number, intent: self.masker.mask(intent) };
        let event = Event::new(self.clock.now().fixed_offset(), what);
        line(&event).and_then(|line| self.files.append(&line, true)).map_err(broken)
    }
}

impl Tally {
    /// Takes note of an event; false if it is not to be recorded.
    fn note(&mut self, what: &What) -> bool {
        self.owed.note(what);
        match what {
            What::Planned { plan, .. } => {
                self.planned.extend(plan.touches.iter().filter_map(|touch| match touch {
                    Touch::BackupMade(backup) => Some(backup.path.clone()),
                    _ => None,
                }))
            }
            What::ActionEnded { action, output, .. } | What::ActionKept { action, output, .. } => {
                self.bytes += self.made(output);
                let backup = output.get("backup").and_then(serde_json::Value::as_str);
                // Rows that were only counted prove less.
                let is_proof = action == RESTORE && output.get("compared") != Some(&false.into());
                self.restored.extend(backup.filter(|_| is_proof).map(PathBuf::from));
            }
            What::RunResumed { .. } => self.resumed += 1,
            What::Output { line, .. } => {
                self.output = self.output.saturating_add(line.len());
                return self.output <= OUTPUT_LIMIT;
            }
            What::Drilled(verdict) => {
                let Verdict { result, millis, at_least, .. } = **verdict;
                self.drill = Some(DrillResult { result, millis, at_least });
            }
            What::RunEnded { millis, warnings, failure, .. } => {
                self.ended = Some((Some(*millis), warnings.clone(), failure.clone()));
            }
            _ => {}
        }
        true
    }

    /// Bytes of the backup that an action made as planned; each counts once.
    fn made(&mut self, output: &serde_json::Value) -> u64 {
        let path = output.get("path").and_then(serde_json::Value::as_str).unwrap_or_default();
        let size = output.get("size").and_then(|size| size.as_u64().or_else(|| size.get("now")?.as_u64()));
        let planned = self.planned.remove(Path::new(path));
        if planned && self.counted.insert(path.into()) { size.unwrap_or_default() } else { 0 }
    }
}

/// Keeps the texts of files that changed since the run began beside the old ones, and names them in `run.json`.
fn record_changed(
    host: &Host,
    run: &RunId,
    files: &RunFiles,
    attempt: u32,
    sources: &[(String, String)],
    changed: &[String],
) -> Result<(), Failure> {
    let text = state::read(host.state(), run, Path::new(RUN))?.unwrap_or_default();
    let mut about: RunFile = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Code::Journal, format!("`{RUN}` cannot be read")).caused_by(error))?;
    about.sources.retain(|name, _| sources.iter().any(|(now, _)| now == name));
    for (index, (name, text)) in sources.iter().filter(|(name, _)| changed.contains(name)).enumerate() {
        let kept = format!("changed.{attempt}.{index}.rhai");
        files.write(&kept, text)?;
        about.sources.insert(name.clone(), kept);
    }
    files.write(RUN, &json(&about)?)
}

/// Content of `alert.json`.
pub(crate) fn alert_file(
    clock: &Clock,
    result: &AlertResult,
    mask: impl Fn(&str) -> String,
) -> Result<String, Failure> {
    let masked = |channel: &ChannelResult| ChannelResult { detail: mask(&channel.detail), ..channel.clone() };
    json(&AlertFile {
        version: FORMAT,
        at: clock.now().fixed_offset(),
        delivered: result.delivered,
        detail: mask(&result.detail),
        channels: result.channels.iter().map(masked).collect(),
    })
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(no_json)
}

fn line(event: &Event) -> Result<String, Failure> {
    serde_json::to_string(event).map(|text| text + "\n").map_err(no_json)
}

fn no_json(error: serde_json::Error) -> Failure {
    Failure::new(Code::Internal, "cannot write a record as JSON").caused_by(error)
}
