//! A session on a folder of its own, live or dry, whose events can be looked at.

use lifeboat::base::event::{Event, EventSink, What};
use lifeboat::base::failure::Failure;
use lifeboat::base::plan::Plan;
use lifeboat::engine::policy::{Grants, Policy};
use lifeboat::engine::session::{LiveRun, Session};
use lifeboat::sys::effects::IntentLog;
use lifeboat::sys::env::Env;
use lifeboat::sys::host::Host;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Sink(Mutex<Vec<What>>);

impl EventSink for Sink {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.what.clone());
    }
}

struct NoIntents;

impl IntentLog for NoIntents {
    fn record(&self, number: u64, intent: &str) -> Result<(), Failure> {
        panic!("action {number} intends `{intent}`")
    }
}

/// A session in a scratch folder.
pub struct Doors {
    dir: tempfile::TempDir,
    sink: Arc<Sink>,
    /// The session.
    pub session: Session,
}

impl Doors {
    /// A session that acts.
    pub fn live(env: &[(&str, &str)]) -> Self {
        Self::new(env, true)
    }

    /// A session that shows.
    pub fn dry(env: &[(&str, &str)]) -> Self {
        Self::new(env, false)
    }

    fn new(env: &[(&str, &str)], live: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut process: std::collections::BTreeMap<String, String> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        process.entry("PATH".to_owned()).or_insert_with(|| "/usr/bin:/bin".to_owned());
        let env = Env::of(process, [].into());
        let host = Arc::new(Host::new(dir.path().to_path_buf(), dir.path().join(".lifeboat"), env));
        let sink = Arc::new(Sink::default());
        host.listen(sink.clone());
        let grants = Grants {
            programs: ["sh", "echo", "./installed-later"].map(str::to_owned).into(),
            write: [dir.path().to_path_buf()].into(),
            env: ["TOKEN", "MODE", "ABSENT"].map(str::to_owned).into(),
            ..Grants::default()
        };
        let policy = Policy::new(grants);
        let run = LiveRun { run: "20251110-020000-abcdef".into(), intents: Arc::new(NoIntents) };
        let session = if live { Session::live(host, policy, run) } else { Session::dry(host, policy) };
        Self { dir, sink, session }
    }

    /// The project folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path below the project folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The events so far.
    pub fn events(&self) -> Vec<What> {
        self.sink.0.lock().unwrap().clone()
    }

    /// The plans so far.
    pub fn plans(&self) -> Vec<Plan<serde_json::Value>> {
        let plan = |what| match what {
            What::Planned { plan, .. } => Some(plan),
            _ => None,
        };
        self.events().into_iter().filter_map(plan).collect()
    }
}
