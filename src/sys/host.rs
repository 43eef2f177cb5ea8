//! What every part of one command shares: project, state, clock, environment, cancel token, masker, runtime, events.

use crate::base::cancel::Cancel;
use crate::base::confirm::{Answer, Asker};
use crate::base::event::{Alert, Event, Events, Level, What};
use crate::base::failure::{Code, Failure};
use crate::base::resume::Resuming;
use crate::base::schedule::Scheduled;
use crate::base::secret::Masker;
use crate::sys::beside;
use crate::sys::channel;
use crate::sys::clock::Clock;
use crate::sys::env::Env;
use crate::sys::postgres::settings::Settings;
use crate::sys::proof::Proved;
use crate::sys::sandbox::Sandbox;
use crate::sys::scratch::{ScratchCluster, ScratchTarget};
use crate::sys::store::Remembered;
use chrono::{DateTime, Local, LocalResult, TimeDelta, TimeZone};
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

/// The machine as one command of Lifeboat sees it.
pub struct Host {
    project: PathBuf,
    state: PathBuf,
    clock: Clock,
    env: RwLock<Arc<Env>>,
    cancel: Cancel,
    masker: Masker,
    began: DateTime<Local>,
    runtime: OnceLock<tokio::runtime::Runtime>,
    events: RwLock<Option<Events>>,
    asker: RwLock<Option<Arc<dyn Asker>>>,
    resumes: Option<Resuming>,
    scheduled: Option<Scheduled>,
    alert: Mutex<Option<Alert>>,
    troubled: AtomicBool,
    warnings: Mutex<Vec<String>>,
    scratch: Mutex<Vec<ScratchCluster>>,
    sandbox: Option<Arc<Sandbox>>,
    /// The backup that was proved last.
    pub(super) proved: Proved,
    before: Remembered,
}

impl Host {
    /// A host for a project folder; `state` is where journal and locks live.
    pub fn new(project: PathBuf, state: PathBuf, env: Env) -> Self {
        let masker = Masker::new();
        env.tell(&masker);
        let clock = Clock::new(env.value("LIFEBOAT_NOW"));
        Self {
            began: clock.now(),
            project,
            state,
            clock,
            env: RwLock::new(Arc::new(env)),
            cancel: Cancel::new(),
            masker,
            runtime: OnceLock::new(),
            events: RwLock::new(None),
            asker: RwLock::new(None),
            resumes: None,
            scheduled: None,
            alert: Mutex::new(None),
            troubled: AtomicBool::new(false),
            warnings: Mutex::default(),
            scratch: Mutex::default(),
            sandbox: None,
            proved: Proved::default(),
            before: Remembered::default(),
        }
    }

    /// The host of a drill: another project, another state, servers that stand in for real ones. Clock, cancel token and
    /// masker are those of the machine; `env` is what the drill finds of its environment.
    #[must_use]
    pub fn sandboxed(&self, sandbox: Arc<Sandbox>, env: &Env) -> Self {
        let text = |path: PathBuf| path.display().to_string();
        let env = env
            .clone()
            .with(&[("HOME", text(sandbox.home())), ("TMPDIR", text(sandbox.tmp()))])
            .without(&channel::VARIABLES);
        let mut host = Self::new(sandbox.project(), sandbox.state(), env);
        host.began = self.began;
        host.clock = self.clock.clone();
        host.cancel = self.cancel.clone();
        host.masker = self.masker.clone();
        host.sandbox = Some(sandbox);
        host
    }

    /// The sandbox, in a drill.
    pub fn sandbox(&self) -> Option<&Arc<Sandbox>> {
        self.sandbox.as_ref()
    }

    /// How long a drill's sandbox has worked for itself; what is measured goes without that.
    pub fn idle(&self) -> Duration {
        self.sandbox.as_ref().map_or(Duration::ZERO, |sandbox| sandbox.idle())
    }

    /// The path of the real machine that a path stands for.
    pub fn original(&self, path: &Path) -> PathBuf {
        self.sandbox.as_ref().map_or_else(|| path.to_path_buf(), |sandbox| sandbox.original(path))
    }

    /// This host, ended by another's token: when that is set, both end.
    #[must_use]
    pub fn ended_by(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// This host, for a run that goes on: its names and its retention stay those of its beginning.
    #[must_use]
    pub fn resuming(mut self, terms: Resuming, began: DateTime<Local>) -> Self {
        self.resumes = Some(terms);
        self.began = began;
        self
    }

    /// This host, for the run of a schedule: its time is the instant of the schedule, however late it begins.
    #[must_use]
    pub fn scheduled_for(mut self, scheduled: Scheduled) -> Self {
        self.began = scheduled.slot.with_timezone(&Local);
        if let LocalResult::Ambiguous(_, second) = Local.from_local_datetime(&self.began.naive_local())
            && second == self.began
        {
            // Names tell the time of day without its offset, and the hour that comes twice must not give one twice.
            self.began += TimeDelta::seconds(1);
        }
        self.scheduled = Some(scheduled);
        self
    }

    /// The schedule whose run this is, if it is one.
    pub fn scheduled(&self) -> Option<&Scheduled> {
        self.scheduled.as_ref()
    }

    /// The run that goes on, if it does: what that run has made itself is not in the way of its plans.
    pub fn resumes(&self) -> Option<&Resuming> {
        self.resumes.as_ref()
    }

    /// The project: the nearest ancestor of `start` with `lifeboat.toml` or `playbooks/`, else `start`.
    pub fn find_project(start: &Path) -> PathBuf {
        start
            .ancestors()
            .find(|dir| dir.join("lifeboat.toml").is_file() || dir.join("playbooks").is_dir())
            .unwrap_or(start)
            .to_path_buf()
    }

    /// Root folder of the project, absolute.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// Folder of journal, locks and caches.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The environment, as it was read last.
    pub fn env(&self) -> Arc<Env> {
        self.env.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Reads the project's `.env` again; returns the names of the variables whose values changed.
    ///
    /// # Errors
    /// If it cannot be read, or a line of it is malformed; then nothing changes.
    pub fn reread_env(&self) -> Result<Vec<String>, Failure> {
        let before = self.env();
        let mut now = before.reread(&self.project)?;
        if self.sandbox.is_some() {
            // A drill announces nothing, whatever is restored into it.
            now = now.without(&channel::VARIABLES);
        }
        now.tell(&self.masker);
        let changed = before.differs(&now);
        *self.env.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(now);
        Ok(changed)
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// When this command began; names and retention use it, so that a run has one time.
    pub fn began(&self) -> DateTime<Local> {
        self.began
    }

    /// The token that asks everything to end.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The masker that knows this run's secrets.
    pub fn masker(&self) -> &Masker {
        &self.masker
    }

    /// An absolute path: relative ones are taken from the project's root.
    pub fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        // In a drill too, `..` leads out of the project where it really lies.
        let joined = self.original(&self.project).join(path);
        let mut clean = PathBuf::new();
        for part in joined.components() {
            match part {
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir => {
                    clean.pop();
                }
                other => clean.push(other),
            }
        }
        match &self.sandbox {
            Some(sandbox) => sandbox.inside(&clean),
            None => clean,
        }
    }

    /// A path as shown to people: relative to the project where it lies below it.
    pub fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(&self.project) {
            Ok(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
            _ => self.original(path).display().to_string(),
        }
    }

    /// Sets who receives events.
    pub fn listen(&self, events: Events) {
        *self.events.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(events);
    }

    /// Sets who answers questions; without one nobody can be asked.
    pub fn answered_by(&self, asker: Arc<dyn Asker>) {
        *self.asker.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(asker);
    }

    /// Asks whether the run may go on; `None` when nobody can be asked. Fails when the run is asked to end meanwhile.
    pub fn ask(&self, question: &str) -> Result<Option<Answer>, Failure> {
        let asker = self.asker.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(asker) = asker else { return Ok(None) };
        let question = self.masker.mask(question);
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("lifeboat-asks".to_owned())
            .spawn(move || tell.send(asker.ask(&question)))
            .map_err(|error| Failure::new(Code::Internal, "cannot ask a question").caused_by(error))?;
        Ok(self.wait(told)?.ok().flatten())
    }

    /// Emits an event, masked.
    pub fn emit(&self, what: What) {
        let sink = self.events.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            let time = self.clock.now().fixed_offset();
            let event = Event { time, what, action: beside::number() };
            sink.event(&self.masked(event));
        }
    }

    fn masked(&self, event: Event) -> Event {
        // Progress carries no foreign text and comes often. An event may be long, so it is not copied without need.
        if matches!(event.what, What::Progress(_)) || self.masker.is_empty() {
            return event;
        }
        let Ok(mut value) = serde_json::to_value(&event) else { return event };
        if !self.masker.mask_json(&mut value) {
            return event;
        }
        // A secret such as `done` blots out one of our own words; better no event than one with a secret in it.
        serde_json::from_value(value).unwrap_or_else(|_| {
            let message = "(an event that held a secret)".to_owned();
            Event { what: What::Log { level: Level::Info, message }, ..event }
        })
    }

    /// Sets the alert that is sent when the run ends.
    pub fn set_alert(&self, alert: Alert) {
        self.emit(What::AlertSet(alert.clone()));
        *self.alert.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(alert);
    }

    /// Keeps a scratch server until this host ends.
    pub fn keep_scratch(&self, cluster: ScratchCluster) {
        self.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(cluster);
    }

    /// The scratch server that `settings` reach.
    pub fn scratch_server(&self, settings: &Settings) -> Option<ScratchTarget> {
        let kept = self.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_it = |cluster: &&ScratchCluster| {
            Path::new(&settings.host) == cluster.socket_dir() && settings.port == cluster.port()
        };
        kept.iter().find(is_it).map(|cluster| cluster.target(&settings.database))
    }

    /// What was seen before each backup that this run makes.
    pub fn before(&self) -> &Remembered {
        &self.before
    }

    /// Six letters that no other run is likely to have.
    pub fn letters(&self) -> String {
        // Each `RandomState` is seeded by the system's random numbers.
        let mut random = RandomState::new().build_hasher().finish();
        std::iter::repeat_with(|| {
            let letter = (b'a' + (random % 26) as u8) as char;
            random /= 26;
            letter
        })
        .take(6)
        .collect()
    }

    /// Says something worth knowing.
    pub fn info(&self, message: &str) {
        self.emit(What::Log { level: Level::Info, message: message.to_owned() });
    }

    /// Warns; the run then completes with warnings.
    pub fn warn(&self, message: &str) {
        let message = self.masker.mask(message);
        self.emit(What::Log { level: Level::Warn, message: message.clone() });
        self.add_warning(message);
    }

    /// Adds a warning that was said in another way already.
    pub fn add_warning(&self, message: String) {
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(message);
    }

    /// Warnings and tolerated failures so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Notes that a part of the run has failed; rotation then removes nothing.
    pub fn set_troubled(&self) {
        self.troubled.store(true, Ordering::Relaxed);
    }

    /// Whether a part of the run has failed.
    pub fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    /// The alert that is set.
    pub fn alert(&self) -> Option<Alert> {
        self.alert.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Waits for a future on the runtime, or fails when the run is asked to end.
    ///
    /// Must be called from a plain thread, never from a runtime worker.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let cancel = self.cancel.clone();
        self.runtime()?.block_on(async move {
            tokio::select! {
                biased;
                reason = cancel.cancelled() => Err(Cancel::failure(reason)),
                value = future => Ok(value),
            }
        })
    }

    /// Waits for a future even when the run is asked to end: for what must follow that end. The future must be bounded
    /// in time.
    pub fn wait_to_the_end<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        Ok(self.runtime()?.block_on(future))
    }

    /// Lets a future go on by itself, until this host is dropped.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), Failure> {
        self.runtime()?.spawn(future);
        Ok(())
    }

    fn runtime(&self) -> Result<&tokio::runtime::Runtime, Failure> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("lifeboat-io")
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Code::Internal, "cannot start the I/O threads").caused_by(error))?;
        Ok(self.runtime.get_or_init(|| runtime))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A name look-up that was given up still blocks its thread; the command's end does not wait for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
