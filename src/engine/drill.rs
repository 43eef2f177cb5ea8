//! What a drill found out: it listens to the run, and gives the verdict at its end.
//!
//! *Problem*: a rehearsal that skipped the hard part and says "passed" is worse than none. *Decision*: whatever was captured
//! or could not be known stands in the verdict by name, makes the recovery time a lower bound, and the pass one in part; a
//! drill in which nothing was done has failed.

mod load;

pub use load::FromBackups;

use crate::action::Action;
use crate::action::restore::{Restore, Restored};
use crate::base::backup::Drilled;
use crate::base::drill::{
    DrilledStep, NotRehearsed, Objective, Passed, RPO, RTO, RestoredData, Terms, Verdict,
};
use crate::base::event::{Alert, Event, EventSink, Outcome, What};
use crate::base::failure::{Code, Exit, Failure};
use crate::base::plan::Target;
use crate::base::units;
use crate::sys::fs;
use crate::sys::host::Host;
use crate::sys::lock::{FolderLocks, Lock};
use crate::sys::sandbox::Sandbox;
use crate::sys::store;
use chrono::{DateTime, FixedOffset};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Listens to a drill.
pub struct Rehearsal {
    began: DateTime<FixedOffset>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    steps: Vec<DrilledStep>,
    not_rehearsed: Vec<NotRehearsed>,
    announced: Option<Alert>,
    /// Actions that were carried out.
    acted: usize,
    data: Vec<RestoredData>,
    /// Files of the backups that data came from, in the sandbox, and their digests.
    used: Vec<(PathBuf, String)>,
    warnings: Vec<String>,
}

/// How the playbook's run in the sandbox ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// How long it took, without what the sandbox did for itself.
    pub took: Duration,
    /// What ended it early.
    pub failure: Option<&'a Failure>,
    /// What it warned of.
    pub warnings: &'a [String],
}

impl Rehearsal {
    /// Hears nothing yet; the drill began at `began`.
    pub fn new(began: DateTime<FixedOffset>) -> Self {
        Self { began, seen: Mutex::default() }
    }

    /// Notes that data was restored from the backup at `path`, a path of the sandbox.
    pub fn restored(&self, path: &Path, data: RestoredData) {
        let manifest = store::read_manifest(path).ok().flatten();
        let mut seen = self.seen();
        seen.used.extend(manifest.map(|manifest| (path.to_path_buf(), manifest.sha256)));
        seen.data.push(data);
    }

    /// Notes that something is wrong which does not keep the drill from going on.
    pub fn warn(&self, message: &str) {
        self.seen().warnings.push(message.to_owned());
    }

    /// What was wrong beside the playbook.
    pub fn warnings(&self) -> Vec<String> {
        self.seen().warnings.clone()
    }

    /// Whether an action was carried out.
    pub fn has_acted(&self) -> bool {
        self.seen().acted > 0
    }

    /// The verdict of a drill whose sandbox could not be made.
    pub fn not_begun(&self, failure: &Failure, terms: &Terms, took: Duration) -> Verdict {
        Verdict {
            result: Passed::Failed,
            reasons: vec![failure.to_string()],
            start: terms.start,
            millis: 0,
            at_least: true,
            sandbox_millis: millis(took),
            steps: Vec::new(),
            not_rehearsed: Vec::new(),
            ran: Vec::new(),
            doubts: Vec::new(),
            servers: Vec::new(),
            data: Vec::new(),
            objectives: objectives(terms, 0, true, &[]),
            announced: None,
            notes: Vec::new(),
        }
    }

    /// The failure of a playbook that ended without doing anything, or without trying to.
    pub fn did_nothing(&self) -> Option<Failure> {
        let seen = self.seen();
        (seen.acted == 0 && seen.not_rehearsed.is_empty()).then(|| {
            Failure::new(Code::Usage, "nothing was rehearsed: no action was carried out")
                .hint("Give the parameters with which the playbook does something.")
        })
    }

    /// The verdict.
    pub fn verdict(&self, ended: Ended<'_>, sandbox: &Sandbox) -> Verdict {
        let seen = self.seen();
        let terms = sandbox.terms();
        let millis = millis(ended.took);
        let broken = sandbox.broken();
        let mut not_rehearsed = seen.not_rehearsed.clone();
        not_rehearsed.extend(sandbox.without_rights().iter().map(|role| NotRehearsed {
            what: format!("the rights of `{role}`"),
            step: String::new(),
            why: "no backup tells what that role may do: in the drill it was a superuser".to_owned(),
        }));
        let at_least = !not_rehearsed.is_empty() || ended.failure.is_some() || broken.is_some();
        let objectives = objectives(terms, millis, at_least, &seen.data);
        let mut reasons = Vec::new();
        if let Some(failure) = broken {
            reasons.push(failure.to_string());
        }
        if let Some(failure) = ended.failure {
            let step = failure.step.as_ref().map(|step| format!("step `{step}`: ")).unwrap_or_default();
            let reason = format!("{step}{failure}");
            // What broke the sandbox mostly ended the playbook too.
            if !reasons.iter().any(|other| reason.ends_with(other.as_str())) {
                reasons.push(reason);
            } else if let Some(first) = reasons.first_mut() {
                *first = reason;
            }
        } else if seen.acted == 0 {
            reasons.push("nothing was rehearsed: no action was carried out".to_owned());
        }
        reasons.extend(objectives.iter().filter(|one| one.binding && one.met == Some(false)).map(missed));
        let ran = sandbox.ran();
        let doubts = doubts(&seen, ended.warnings, &objectives);
        let is_whole = not_rehearsed.is_empty() && ran.is_empty() && doubts.is_empty();
        let result = match (reasons.is_empty(), is_whole) {
            (false, _) => Passed::Failed,
            (true, false) => Passed::PassedInPart,
            (true, true) => Passed::Passed,
        };
        Verdict {
            result,
            reasons,
            start: terms.start,
            millis,
            at_least,
            sandbox_millis: self::millis(sandbox.idle()),
            steps: seen.steps.clone(),
            not_rehearsed,
            ran,
            doubts,
            servers: sandbox.stood_in(),
            data: seen.data.clone(),
            objectives,
            announced: seen.announced.clone(),
            notes: notes(sandbox),
        }
    }

    /// Writes into the manifests of the real backups that a drill restored them. It is left out where another run works
    /// in the folder, or the backup is not there any more as it was.
    pub fn mark(&self, host: &Host, sandbox: &Sandbox, run: &str) {
        for (path, sha256) in &self.seen().used {
            let real = sandbox.original(path);
            note(host, &real, mark(host, &real, sha256, run));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Rehearsal {
    fn event(&self, event: &Event) {
        let mut seen = self.seen();
        match &event.what {
            What::StepEnded { step, outcome, millis, .. } => {
                let within = |other: &str| other == step || other.starts_with(&format!("{step}/"));
                let partly = seen.not_rehearsed.iter().any(|one| within(&one.step));
                // A step that only went on without what was captured has not shown that it works.
                let outcome = if *outcome == Outcome::Done && partly { Outcome::Unknown } else { *outcome };
                seen.steps.push(DrilledStep { step: step.clone(), outcome, millis: *millis });
            }
            What::Captured { what, step, why } => {
                seen.not_rehearsed.push(NotRehearsed {
                    what: what.clone(),
                    step: step.clone(),
                    why: why.clone(),
                });
            }
            What::Incomplete { step, reason, at } => {
                let what = match (step.as_str(), at) {
                    ("", Some(at)) => format!("all from {at} on"),
                    ("", None) => "the rest of the playbook".to_owned(),
                    (step, _) => format!("the rest of step `{step}`"),
                };
                seen.not_rehearsed.push(NotRehearsed { what, step: step.clone(), why: reason.clone() });
            }
            What::AlertSet(alert) => seen.announced = Some(alert.clone()),
            What::ActionEnded { action, output, .. } => {
                seen.acted += 1;
                if action == Restore::NAME
                    && let Ok(restored) = serde_json::from_value::<Restored>(output.clone())
                {
                    drop(seen);
                    self.restored(&restored.backup, load::data(self.began, &restored, true));
                }
            }
            _ => {}
        }
    }
}

/// The exit code of a drill, and the failure that it ends with.
pub fn end(verdict: &Verdict, failure: Option<Failure>, warned: bool) -> (Exit, Option<Failure>) {
    match (verdict.result, failure) {
        (_, Some(failure)) if was_broken_off(&failure) => (failure.code.exit(), Some(failure)),
        (Passed::Failed, Some(failure)) => (Exit::Drill, Some(failure)),
        (Passed::Failed, None) => {
            let mut failure = Failure::new(Code::Expectation, "the drill failed");
            failure.causes.clone_from(&verdict.reasons);
            (Exit::Drill, Some(failure))
        }
        (_, None) if warned || verdict.steps.iter().any(|step| step.outcome == Outcome::Tolerated) => {
            (Exit::Warnings, None)
        }
        (_, failure) => (Exit::Success, failure),
    }
}

/// Whether somebody ended it: such a drill proves nothing.
pub fn was_broken_off(failure: &Failure) -> bool {
    matches!(failure.code, Code::Interrupted | Code::Terminated)
}

fn objectives(terms: &Terms, took: u64, at_least: bool, data: &[RestoredData]) -> Vec<Objective> {
    let objective =
        |name: &str, own: Option<Duration>, usual: Duration, reached: Option<u64>, at_least: bool| {
            let limit_millis = millis(own.unwrap_or(usual));
            let met = match reached {
                Some(reached) if reached > limit_millis => Some(false),
                Some(_) if at_least => None,
                Some(_) => Some(true),
                None => None,
            };
            Objective {
                name: name.to_owned(),
                limit_millis,
                reached_millis: reached,
                met,
                binding: own.is_some(),
            }
        };
    let oldest = data.iter().map(|data| data.age_millis).max();
    vec![
        objective("recovery time", terms.rto, RTO, Some(took), at_least),
        objective("recovery point", terms.rpo, RPO, oldest, false),
    ]
}

/// Why what passed may not be called a whole pass.
fn doubts(seen: &Seen, warnings: &[String], objectives: &[Objective]) -> Vec<String> {
    let tolerated = seen.steps.iter().filter(|step| step.outcome == Outcome::Tolerated);
    let mut doubts: Vec<String> =
        tolerated.clone().map(|step| format!("step `{}` failed, and the run went on", step.step)).collect();
    let is_told =
        |warning: &&String| tolerated.clone().any(|step| warning.starts_with(&format!("{}: ", step.step)));
    doubts.extend(warnings.iter().filter(|warning| !is_told(warning)).map(|text| format!("warning: {text}")));
    doubts.extend(objectives.iter().filter(|one| one.binding && one.met.is_none()).map(|one| {
        let limit = units::duration(Duration::from_millis(one.limit_millis));
        let how = if one.reached_millis.is_some() { "proven" } else { "measured" };
        format!("that the {} is at most {limit} was not {how}", one.name)
    }));
    doubts
}

fn missed(objective: &Objective) -> String {
    let time = |millis: u64| units::duration(Duration::from_millis(millis));
    format!(
        "the {} was to be at most {}, and is {}",
        objective.name,
        time(objective.limit_millis),
        time(objective.reached_millis.unwrap_or_default())
    )
}

fn notes(sandbox: &Sandbox) -> Vec<String> {
    let mut notes: Vec<String> = sandbox
        .stood_in()
        .iter()
        .filter_map(|server| {
            let original = server.original.as_ref()?;
            let major = |version: &str| version.split(['.', ' ']).next().unwrap_or_default().to_owned();
            (major(original) != major(&server.version)).then(|| {
                format!(
                    "PostgreSQL {} stood in for {} at {}: no {} is installed here",
                    server.version,
                    original,
                    server.server,
                    major(original)
                )
            })
        })
        .collect();
    notes.extend(sandbox.notes());
    let left_out = sandbox.left_out();
    if !left_out.is_empty() {
        notes.push(format!("the copy of the project went without {}", left_out.join(", ")));
    }
    notes
}

/// Writes into the manifests of backups that a live run restored them: no drill proves more. It is left out as for drills.
pub fn mark_restored(host: &Host, backups: &[PathBuf], run: &str) {
    for path in backups {
        let marked = store::read_manifest(path)
            .and_then(|manifest| manifest.map_or(Ok(()), |manifest| mark(host, path, &manifest.sha256, run)));
        note(host, path, marked);
    }
}

fn note(host: &Host, path: &Path, marked: Result<(), Failure>) {
    if let Err(failure) = marked {
        host.info(&format!("that `{}` was restored is not in its manifest: {failure}", host.shown(path)));
    }
}

fn mark(host: &Host, real: &Path, sha256: &str, run: &str) -> Result<(), Failure> {
    let Some(dir) = real.parent().map(Path::to_path_buf) else { return Ok(()) };
    let _lock = Lock::take(host.state(), &Target::Path(dir.clone()), run)?;
    let folders = FolderLocks::default();
    folders.hold(&dir)?;
    let Some(mut manifest) = store::read_manifest(real)? else { return Ok(()) };
    if manifest.sha256 != sha256 || !fs::exists(real)? {
        return Ok(());
    }
    manifest.drilled = Some(Drilled { at: host.clock().now().fixed_offset(), run: run.to_owned() });
    let json = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| Failure::new(Code::Internal, "cannot write the manifest").caused_by(error))?;
    fs::replace(&store::sidecar(real, ".json"), &json, run)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
