//! Playbooks that run in a temporary project, and what they leave: events, values, failures.

mod bindings;
mod failures;
mod flow;
mod imports;
mod parallel;
pub mod probe;
mod steps;
mod unknowns;

use crate::base::cancel::Reason;
use crate::base::confirm::{Answer, Asker};
use crate::base::event::{Event, EventSink, Level, Outcome, What};
use crate::base::failure::Failure;
use crate::engine::policy::{Grants, Policy};
use crate::engine::session::{LiveRun, Session};
use crate::script::library::Library;
use crate::script::runtime;
use crate::sys::effects::IntentLog;
use crate::sys::env::Env;
use crate::sys::fs;
use crate::sys::host::Host;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Modules that are embedded in tests.
const MODULES: &[(&str, &str)] = &[("backup", "fn name() { \"shipped\" }"), ("checks", "fn fine() { true }")];

#[derive(Default)]
struct Recorder(Mutex<Vec<What>>);

impl EventSink for Recorder {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.what.clone());
    }
}

struct Person(bool);

impl Asker for Person {
    fn ask(&self, _: &str) -> Option<Answer> {
        Some(Answer { yes: self.0, by: "a person".to_owned() })
    }
}

struct Intents;

impl IntentLog for Intents {
    fn record(&self, _: u64, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

/// A project with one playbook, `playbooks/p.rhai`.
struct Project {
    dir: tempfile::TempDir,
    params: Map<String, Value>,
    env: Vec<(String, String)>,
    /// How long after its first step began the run is interrupted.
    interrupted: Option<Duration>,
    /// What a person answers.
    answer: Option<bool>,
}

/// What a run left.
struct Ran {
    result: Result<Value, Failure>,
    events: Vec<What>,
    incomplete: bool,
    warnings: Vec<String>,
}

impl Project {
    fn new(playbook: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let project = Self { dir, params: Map::new(), env: Vec::new(), interrupted: None, answer: None };
        project.with("playbooks/p.rhai", playbook)
    }

    fn with(self, file: &str, text: &str) -> Self {
        let path = self.dir.path().join(file);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::replace(&path, text.as_bytes(), "test").unwrap();
        self
    }

    fn param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), value.into());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn live(&self) -> Ran {
        self.run(true)
    }

    fn dry(&self) -> Ran {
        self.run(false)
    }

    fn run(&self, live: bool) -> Ran {
        let project = self.dir.path().to_path_buf();
        let mut env = self.env.clone();
        env.push(("LIFEBOAT_NOW".to_owned(), "2025-11-10T02:00:00+00:00".to_owned()));
        let env = Env::of(env.into_iter().collect(), Default::default());
        let host = Arc::new(Host::new(project.clone(), project.join(".lifeboat"), env));
        let recorder = Arc::new(Recorder::default());
        host.listen(recorder.clone());
        if let Some(after) = self.interrupted {
            let (cancel, events) = (host.cancel().clone(), recorder.clone());
            std::thread::spawn(move || {
                let begun = |what: &What| matches!(what, What::StepBegun { .. });
                while !events.0.lock().unwrap().iter().any(begun) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(after);
                cancel.cancel(Reason::Interrupted);
            });
        }
        if let Some(yes) = self.answer {
            host.answered_by(Arc::new(Person(yes)));
        }
        let policy = Policy::new(Grants {
            env: ["GRANTED".to_owned(), "MY_TOKEN".to_owned()].into(),
            write: [project.clone()].into(),
            ..Grants::default()
        });
        let session = Arc::new(if live {
            Session::live(host, policy, LiveRun { run: "r".to_owned(), intents: Arc::new(Intents) })
        } else {
            Session::dry(host, policy)
        });
        let library = Library::of(&project, &[], MODULES);
        let playbook = library.find("p").unwrap();
        let result = runtime::run(session.clone(), &library, &playbook, plain(&self.params));
        let events = recorder.0.lock().unwrap().clone();
        Ran { result, events, incomplete: session.is_incomplete(), warnings: session.warnings() }
    }
}

impl Ran {
    /// The value of a run that must have succeeded.
    #[track_caller]
    fn value(&self) -> Value {
        self.result.clone().unwrap_or_else(|failure| panic!("{failure:#?}"))
    }

    /// The failure of a run that must have failed.
    #[track_caller]
    fn failure(&self) -> Failure {
        self.result.clone().expect_err("the run must fail")
    }

    /// The failure in one text: code, place, message, causes, hints and trail.
    #[track_caller]
    fn told(&self) -> String {
        told(&self.failure())
    }

    fn steps(&self) -> Vec<(String, Outcome)> {
        let ended = |what: &What| match what {
            What::StepEnded { step, outcome, .. } => Some((step.clone(), *outcome)),
            _ => None,
        };
        self.events.iter().filter_map(ended).collect()
    }

    fn lines(&self) -> Vec<(Level, String)> {
        let line = |what: &What| match what {
            What::Log { level, message } => Some((*level, message.clone())),
            _ => None,
        };
        self.events.iter().filter_map(line).collect()
    }

    fn reasons(&self) -> Vec<String> {
        let reason = |what: &What| match what {
            What::Incomplete { step, reason, at } => {
                let at = at.as_ref().map(|at| format!(" @{}:{}", at.line, at.column)).unwrap_or_default();
                Some(format!("{step}: {reason}{at}"))
            }
            _ => None,
        };
        self.events.iter().filter_map(reason).collect()
    }
}

fn told(failure: &Failure) -> String {
    let at = failure.at.as_ref().map_or("nowhere".to_owned(), ToString::to_string);
    let mut text = format!("{} {at} {}", failure.code.as_str(), failure.message);
    for cause in &failure.causes {
        text += &format!("\n  because {cause}");
    }
    for hint in &failure.hints {
        text += &format!("\n  hint: {hint}");
    }
    for frame in &failure.trail {
        text += &format!("\n  in {} called at {}", frame.function, frame.at);
    }
    if let Some(step) = &failure.step {
        text += &format!("\n  step {step}");
    }
    text
}

fn plain(
    params: &serde_json::Map<String, serde_json::Value>,
) -> std::collections::BTreeMap<String, runtime::ScriptParam> {
    params.iter().map(|(name, value)| (name.clone(), runtime::ScriptParam::Plain(value.clone()))).collect()
}
