//! A world of one action: a project folder, an environment with secrets in it, and a host that records what it says.

use crate::cluster::{self, TestDatabase, cluster, psql};
use lifeboat::action::Action;
use lifeboat::base::cancel::{Cancel, Reason};
use lifeboat::base::confirm::{Answer, Asker};
use lifeboat::base::event::{Event, EventSink, Events};
use lifeboat::base::failure::Failure;
use lifeboat::base::ids::RunId;
use lifeboat::base::plan::{Later, Plan};
use lifeboat::engine::policy::{Grants, Policy};
use lifeboat::engine::session::{LiveRun, Session};
use lifeboat::journal::store::{NewRun, RunRecord};
use lifeboat::sys::effects::IntentLog;
use lifeboat::sys::env::Env;
use lifeboat::sys::facts::Facts;
use lifeboat::sys::host::Host;
use lifeboat::sys::postgres::settings::{Explicit, Settings, resolve};
use lifeboat::sys::state::Reserve;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// The password of the database that is dumped. Its end marks it among those of other tests.
pub const PASSWORD: &str = "s3cr3t/p@ss w0rd'C0ntr4ct";
/// The receiver of alerts, whose path is a secret.
pub const WEBHOOK: &str = "https://hooks.example.com/services/T0/t0k3nC0ntr4ct";
/// When runs begin.
pub const NOW: &str = "2025-11-10T02:00:00+00:00";

/// The database that is dumped: one for all cases, since nothing changes it.
fn source() -> &'static TestDatabase {
    static SOURCE: OnceLock<TestDatabase> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let database = cluster::database("contract");
        psql(
            &database,
            &format!(
                "CREATE ROLE contract SUPERUSER LOGIN PASSWORD '{}'; \
                 CREATE TABLE t AS SELECT n, md5(n::text) || md5((n + 1)::text) AS text FROM generate_series(1, 60000) n",
                PASSWORD.replace('\'', "''")
            ),
        );
        database
    })
}

/// An action whose type is forgotten; its codecs are tried on the way.
pub trait AnyAction {
    /// Its NAME.
    fn verb(&self) -> &'static str;
    /// The plan, and what comes back from its codec.
    fn plan(&self, facts: &Facts) -> Result<(Value, Value), Failure>;
    /// The output, and what comes back from its codec.
    fn perform(&self, session: &Session) -> Result<Later<(Value, Value)>, Failure>;
}

impl<A: Action> AnyAction for A {
    fn verb(&self) -> &'static str {
        A::NAME
    }

    fn plan(&self, facts: &Facts) -> Result<(Value, Value), Failure> {
        let plan = Action::plan(self, facts)?;
        let (there, back) = round_trip(&plan);
        assert_eq!(serde_json::from_value::<Plan<A::Output>>(there.clone()).unwrap(), plan);
        Ok((there, back))
    }

    fn perform(&self, session: &Session) -> Result<Later<(Value, Value)>, Failure> {
        let output = session.perform(self, None)?;
        if let Later::Now(output) = &output {
            let (there, _) = round_trip(output);
            assert_eq!(serde_json::from_value::<A::Output>(there).unwrap(), *output);
        }
        Ok(output.map(|output| round_trip(&output)))
    }
}

/// A value as JSON, and the JSON of what is read from that.
fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> (Value, Value) {
    let there = serde_json::to_value(value).unwrap();
    let back: T = serde_json::from_value(there.clone()).unwrap();
    (there, serde_json::to_value(back).unwrap())
}

/// Keeps events, and at the one with the given number asks for the run's end.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
    cancel: Mutex<Option<(usize, Cancel, Reason)>>,
    journal: Mutex<Option<Arc<RunRecord>>>,
}

impl EventSink for Recorder {
    fn event(&self, event: &Event) {
        let mut events = self.events.lock().unwrap();
        if let Some((number, cancel, reason)) = &*self.cancel.lock().unwrap()
            && *number == events.len()
        {
            cancel.cancel(*reason);
        }
        events.push(event.clone());
        if let Some(journal) = &*self.journal.lock().unwrap() {
            journal.event(event);
        }
    }
}

/// A file or folder of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub changed: (i64, i64),
    pub content: Option<Vec<u8>>,
}

/// The world of one action.
pub struct World {
    dir: tempfile::TempDir,
    pub host: Arc<Host>,
    recorder: Arc<Recorder>,
}

impl World {
    /// An empty project, and an environment that names the database and the receiver of alerts.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("lifeboat-contract-").tempdir().unwrap();
        let host = host(dir.path(), NOW);
        host.answered_by(Arc::new(Yes));
        Self { dir, host, recorder: Arc::default() }
    }

    /// A path below the project.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file, which is of the same time in every world: archives hold that time.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), content).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_760_000_000);
        std::fs::File::open(self.at(path)).unwrap().set_modified(time).unwrap();
    }

    /// How to reach the database that is dumped.
    pub fn settings(&self) -> Settings {
        resolve(&Explicit::default(), &self.host.env(), None).unwrap()
    }

    /// Acts as an earlier run did, which began at `now`.
    pub fn earlier(&self, now: &str, action: &impl Action) {
        let host = host(self.dir.path(), now);
        let intents = Arc::new(Intents::default());
        let run = LiveRun { run: "20251101-000000-earlie".into(), intents };
        Session::live(host, self.policy(), run).perform(action, None).unwrap();
    }

    fn policy(&self) -> Policy {
        Policy::new(Grants {
            programs: ["sh".to_owned()].into(),
            write: [self.dir.path().to_path_buf()].into(),
            ..Grants::default()
        })
    }

    /// A session that shows.
    pub fn dry(&self) -> Session {
        self.host.listen(self.recorder.clone());
        Session::dry(self.host.clone(), self.policy())
    }

    /// A session that acts, with a journal.
    pub fn live(&self) -> Session {
        let run = run_id();
        let new = NewRun {
            run: &run,
            playbook: "contract",
            file: "playbooks/contract.rhai",
            source: "",
            modules: &[],
            mode: lifeboat::base::event::Mode::Live,
            reserve: Reserve::Own,
        };
        let record = Arc::new(RunRecord::begin(&self.host, &new).unwrap());
        *self.recorder.journal.lock().unwrap() = Some(record.clone());
        self.live_with(record)
    }

    /// A session that acts, with another log of intents.
    pub fn live_with(&self, intents: Arc<dyn IntentLog>) -> Session {
        let events: Events = self.recorder.clone();
        self.host.listen(events);
        Session::live(self.host.clone(), self.policy(), LiveRun { run: run_id().to_string(), intents })
    }

    /// Asks for the run's end when the event with this number, from 0, is emitted.
    pub fn cancel_at(&self, number: usize, reason: Reason) {
        *self.recorder.cancel.lock().unwrap() = Some((number, self.host.cancel().clone(), reason));
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        self.recorder.events.lock().unwrap().clone()
    }

    /// All files and folders but those of journal and locks.
    pub fn tree(&self) -> BTreeMap<String, Entry> {
        self.entries(|name| !name.starts_with(".lifeboat"))
    }

    /// The files alone: name, mode and content.
    pub fn files(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let file = |(name, entry): (String, Entry)| Some((name, (entry.mode, entry.content?)));
        self.tree().into_iter().filter_map(file).collect()
    }

    /// What journal and locks hold, as one text with the files' names.
    pub fn journal(&self) -> String {
        let text = |(name, entry): (String, Entry)| {
            format!("{name}\n{}\n", String::from_utf8_lossy(&entry.content.unwrap_or_default()))
        };
        self.entries(|name| name.starts_with(".lifeboat")).into_iter().map(text).collect()
    }

    fn entries(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Entry> {
        let mut tree = BTreeMap::new();
        for entry in walkdir::WalkDir::new(self.dir.path()).min_depth(1) {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(self.dir.path()).unwrap().display().to_string();
            if wanted(&name) {
                let metadata = entry.metadata().unwrap();
                let content = metadata.is_file().then(|| std::fs::read(entry.path()).unwrap());
                let changed = (metadata.mtime(), metadata.mtime_nsec());
                tree.insert(name, Entry { mode: metadata.mode(), changed, content });
            }
        }
        tree
    }
}

/// A person who agrees to everything.
struct Yes;

impl Asker for Yes {
    fn ask(&self, _: &str) -> Option<Answer> {
        Some(Answer { yes: true, by: "a person".to_owned() })
    }
}

fn run_id() -> RunId {
    RunId::parse("20251110-020000-abcdef").unwrap()
}

fn host(dir: &Path, now: &str) -> Arc<Host> {
    let mut env: BTreeMap<String, String> = [
        ("PATH", std::env::var("PATH").unwrap()),
        ("LIFEBOAT_NOW", now.to_owned()),
        ("BACKUP_WEBHOOK_URL", WEBHOOK.to_owned()),
        ("DB_HOST", cluster().socket_dir().display().to_string()),
        ("DB_PORT", cluster().port().to_string()),
        ("DB_NAME", source().name.clone()),
        ("DB_USER", "contract".to_owned()),
        ("DB_PASSWORD", PASSWORD.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    env.extend(cluster::env("LIFEBOAT_PG_BINDIR").map(|dir| ("LIFEBOAT_PG_BINDIR".to_owned(), dir)));
    let env = Env::of(env, BTreeMap::new());
    Arc::new(Host::new(dir.to_path_buf(), dir.join(".lifeboat"), env))
}

/// What happens when an intent is to be recorded; all intents are kept.
#[derive(Default)]
pub struct Intents {
    pub asked: Mutex<Vec<String>>,
    /// Fails with this.
    pub refusal: Option<Failure>,
    /// Asks for the run's end, and lets the intent pass.
    pub cancel: Option<Cancel>,
}

impl IntentLog for Intents {
    fn record(&self, _: u64, intent: &str) -> Result<(), Failure> {
        self.asked.lock().unwrap().push(intent.to_owned());
        if let Some(cancel) = &self.cancel {
            cancel.cancel(Reason::Terminated);
        }
        self.refusal.clone().map_or(Ok(()), Err)
    }
}
