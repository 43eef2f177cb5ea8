//! The long-running service: starts the runs of schedules and of changed files, each in a process of its own.
//!
//! *Problem*: whatever happens to a run, to a playbook or to the clock, the next run must begin. *Decision*: the service only
//! starts processes and waits; they decide, record and alert as runs by hand do, so that nothing depends on who starts them.
//! It looks at the clock at least twice a minute, since a machine that slept, or a clock that was set, tells nobody.

use crate::base::cancel::{Cancel, Reason};
use crate::base::event::Level;
use crate::base::failure::{Code, Exit, Failure};
use crate::daemon::timer::{Job, Timer};
use crate::daemon::watch::{LOOK_EVERY, Notice};
use crate::daemon::watch_set::WatchSet;
use crate::daemon::watches::Watches;
use crate::journal::slots;
use crate::sys::env::Env;
use crate::sys::host::Host;
use crate::sys::notify_socket;
use crate::sys::own_process::{Ended, OwnProcess};
use crate::sys::state::schedule::DaemonLock;
use chrono::{DateTime, Local, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How instants are shown.
const TIME: &str = "%Y-%m-%d %H:%M:%S %:z";
/// So often the clock is looked at, at the least.
const LOOK: Duration = Duration::from_secs(30);
/// So often what could not be told is tried again.
const CATCH_UP: Duration = Duration::from_secs(600);
/// So often it is asked whether files have changed.
const LOOK_AT_FILES: Duration = Duration::from_millis(250);
/// What a target's lock kept from running after a change is tried again after this time.
const AGAIN: Duration = Duration::from_secs(30);
/// So much longer than its grace a child may take to end, before it is asked again, and before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// What wakes the service.
#[derive(Debug)]
pub enum Woken {
    /// It is asked to end: the first time after the current steps, the second time now.
    End,
    /// It is asked to read the playbooks again.
    Reload,
    /// A child has ended.
    Ended(u64, Ended),
    /// Files under watch have changed.
    Changed(String, Vec<PathBuf>),
    /// The system does not tell of the changes of a playbook's files, which are looked at now and then instead.
    Unwatched(String, Failure),
}

/// What is to be done: schedules, and playbooks that run when files change.
#[derive(Debug, Default)]
pub struct Orders {
    /// Schedules.
    pub jobs: Vec<Job>,
    /// Playbooks with what they watch.
    pub watches: BTreeMap<String, WatchSet>,
    /// Playbooks that are broken, and why; their schedules are not among the jobs.
    pub broken: Vec<(String, Failure)>,
    /// The names of the schedules of each playbook that was read and is not broken; empty for one that has none any more.
    pub schedules: BTreeMap<String, Vec<String>>,
    /// All playbooks of the project, if none was left out on purpose.
    pub all: Option<BTreeSet<String>>,
}

impl Orders {
    /// Fails when there is nothing to do.
    fn check(&self) -> Result<(), Failure> {
        if self.jobs.is_empty() && self.watches.is_empty() && self.broken.is_empty() {
            return Err(Failure::new(Code::Usage, "there is nothing to do for a daemon")
                .caused_by("no playbook has a `schedule` or a `watch` in its header")
                .hint("Add `schedule: [#{ cron: \"0 2 * * *\" }]` to the header of a playbook."));
        }
        Ok(())
    }
}

/// How the service works.
pub struct Service<'a> {
    /// The machine.
    pub host: Arc<Host>,
    /// The program that runs playbooks: this one.
    pub program: PathBuf,
    /// Arguments before all others: which project.
    pub args: Vec<String>,
    /// How long the current step of a run may go on when the service is to end.
    pub grace: Duration,
    /// Reads the playbooks.
    pub orders: &'a dyn Fn() -> Result<Orders, Failure>,
    /// Tells people what happens.
    pub tell: &'a dyn Fn(Level, &str),
    /// Something is wrong that nobody would notice: sends an alert, which is known by its first argument.
    pub alarm: &'a dyn Fn(&str, &str),
    /// Delivers what could not be told before, and tells of runs that were killed. It may take seconds, and has a thread of its
    /// own.
    pub catch_up: Arc<dyn Fn() + Send + Sync>,
    /// The state that `/healthz` shows.
    pub pulse: Arc<Pulse>,
}

/// Whether the service works; shared with whoever answers for it.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Seconds since 1970 when it last looked at the clock.
    looked: AtomicI64,
}

impl Pulse {
    fn beat(&self, now: DateTime<Utc>) {
        self.looked.store(now.timestamp(), Ordering::Relaxed);
    }

    /// Whether it has looked at the clock lately.
    pub fn is_alive(&self, now: DateTime<Utc>) -> bool {
        let age = now.timestamp() - self.looked.load(Ordering::Relaxed);
        age <= 4 * i64::try_from(LOOK.as_secs()).unwrap_or(i64::MAX)
    }
}

/// Why a child runs.
#[derive(Clone, Debug)]
enum Cause {
    /// The schedule, and when it was due.
    Schedule(Box<Job>, DateTime<Utc>),
    Change(String),
}

struct Child {
    process: OwnProcess,
    cause: Cause,
}

/// What is going on.
struct State<'a> {
    service: &'a Service<'a>,
    timer: Timer,
    watches: Arc<Mutex<Watches>>,
    children: BTreeMap<u64, Child>,
    /// Playbooks whose files changed while their run was on, or that are to be tried again, and from when on.
    pending: BTreeMap<String, Instant>,
    started: u64,
    /// When it was last caught up with what could not be told.
    caught_up: Instant,
    /// The latest time that the clock has shown.
    latest: DateTime<Utc>,
    send: Sender<Woken>,
}

impl Service<'_> {
    /// Works until it is asked to end. `woken` tells what happens, `send` is its other end.
    ///
    /// # Errors
    /// `Locked` if the project has a daemon already, `Usage` if there is nothing to do, and what keeps the schedules from
    /// being read.
    pub fn run(&self, woken: &Receiver<Woken>, send: Sender<Woken>) -> Result<Exit, Failure> {
        let _lock = DaemonLock::take(self.host.state())?;
        let orders = (self.orders)()?;
        orders.check()?;
        let cancel = Cancel::new();
        let watches = self.watches(&cancel, send.clone())?;
        let mut state = State {
            service: self,
            timer: Timer::default(),
            watches,
            children: BTreeMap::new(),
            pending: BTreeMap::new(),
            started: 0,
            caught_up: Instant::now(),
            latest: self.now(),
            send,
        };
        for (playbook, failure) in &orders.broken {
            self.broken(playbook, failure);
        }
        state.begin(orders)?;
        state.catch_up();
        notify_socket::ready(&state.next());
        (self.tell)(Level::Info, &format!("ready; {}", state.next()));
        let ended = state.until_the_end(woken);
        cancel.cancel(Reason::Terminated);
        ended
    }

    /// Looks after files on a thread of its own, until `cancel` is set.
    fn watches(&self, cancel: &Cancel, send: Sender<Woken>) -> Result<Arc<Mutex<Watches>>, Failure> {
        let (project, state) = (self.host.project().to_path_buf(), self.host.state().to_path_buf());
        let host = Arc::new(Host::new(project, state, Env::default()).ended_by(cancel));
        let watches = Arc::new(Mutex::new(Watches::new(host, BTreeMap::new(), Notice::Told)?));
        let (watched, cancel) = (watches.clone(), cancel.clone());
        std::thread::Builder::new()
            .name("lifeboat-watch".to_owned())
            .spawn(move || {
                while !cancel.is_cancelled() {
                    let mut watches = watched.lock().unwrap_or_else(PoisonError::into_inner);
                    let told = watches.poll().unwrap_or_default().into_iter();
                    let told = told.map(|(playbook, files)| Woken::Changed(playbook, files));
                    let unwatched = watches.unwatched().into_iter();
                    let unwatched = unwatched.map(|(playbook, failure)| Woken::Unwatched(playbook, failure));
                    if told.chain(unwatched).any(|woken| send.send(woken).is_err()) {
                        return;
                    }
                    drop(watches);
                    std::thread::sleep(LOOK_AT_FILES);
                }
            })
            .map_err(|error| Failure::new(Code::Internal, "cannot watch files").caused_by(error))?;
        Ok(watches)
    }

    fn broken(&self, playbook: &str, failure: &Failure) {
        let message = format!("{playbook} is broken, its schedules do not run: {failure}");
        (self.tell)(Level::Error, &message);
        (self.alarm)(&format!("broken {playbook}"), &message);
    }

    fn now(&self) -> DateTime<Utc> {
        self.host.clock().now().with_timezone(&Utc)
    }
}

impl State<'_> {
    /// Takes over schedules and watches.
    fn begin(&mut self, orders: Orders) -> Result<(), Failure> {
        let state = self.service.host.state();
        // A schedule that is there no longer is not missed.
        for (playbook, names) in &orders.schedules {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            slots::forget_others(state, playbook, &names)?;
        }
        if let Some(all) = &orders.all {
            slots::forget_gone(state, all)?;
        }
        self.timer = Timer::new(orders.jobs, state, self.service.now())?;
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).refresh(orders.watches)?;
        Ok(())
    }

    fn until_the_end(&mut self, woken: &Receiver<Woken>) -> Result<Exit, Failure> {
        let beat = notify_socket::watchdog().map_or(LOOK, |limit| (limit / 3).min(LOOK));
        loop {
            self.look();
            match woken.recv_timeout(self.idle().min(beat)) {
                Ok(Woken::End) => return Ok(self.end(woken)),
                Ok(Woken::Reload) => self.reload(),
                Ok(Woken::Ended(number, ended)) => self.ended(number, ended),
                Ok(Woken::Changed(playbook, files)) => self.changed(&playbook, &files),
                Ok(Woken::Unwatched(playbook, failure)) => {
                    let every = LOOK_EVERY.as_secs();
                    let message = format!("the files of {playbook} are looked at every {every} s: {failure}");
                    (self.service.tell)(Level::Warn, &message);
                    (self.service.alarm)(&format!("unwatched {playbook}"), &message);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(Code::Internal, "the daemon lost its own threads"));
                }
            }
        }
    }

    /// Starts what is due.
    fn look(&mut self) {
        let now = self.service.now();
        self.service.pulse.beat(now);
        notify_socket::alive();
        self.mind_the_clock(now);
        for job in self.timer.due(now) {
            self.start(Cause::Schedule(Box::new(job), now));
        }
        let now = Instant::now();
        let ready = |playbook: &str, from: Instant| from <= now && !self.is_changing(playbook);
        let pending = self.pending.iter().filter(|(playbook, from)| ready(playbook, **from));
        for playbook in pending.map(|(playbook, _)| playbook.clone()).collect::<Vec<_>>() {
            self.pending.remove(&playbook);
            self.start(Cause::Change(playbook));
        }
        if self.caught_up.elapsed() >= CATCH_UP {
            self.catch_up();
        }
        notify_socket::status(&self.next());
    }

    /// A clock that was ahead, and is set right, must not leave the next runs at a time that is far away now.
    fn mind_the_clock(&mut self, now: DateTime<Utc>) {
        if now + slots::AHEAD >= self.latest {
            self.latest = self.latest.max(now);
            return;
        }
        match self.timer.anew(self.service.host.state(), now) {
            Ok(timer) => {
                let latest = self.latest.with_timezone(&Local).format(TIME);
                self.timer = timer;
                self.latest = now;
                let message = format!("the clock was set back from {latest}; {}", self.next());
                (self.service.tell)(Level::Warn, &message);
            }
            Err(failure) => (self.service.tell)(Level::Error, &format!("the record of schedules: {failure}")),
        }
    }

    fn catch_up(&mut self) {
        self.caught_up = Instant::now();
        let catch_up = self.service.catch_up.clone();
        let begun = std::thread::Builder::new().name("lifeboat-alerts".to_owned()).spawn(move || catch_up());
        if let Err(error) = begun {
            (self.service.tell)(Level::Error, &format!("alerts that wait could not be sent: {error}"));
        }
    }

    /// So long nothing is to be done, as far as it is known.
    fn idle(&self) -> Duration {
        let until = |next: DateTime<Utc>| (next - self.service.now()).to_std().unwrap_or_default();
        let timer = self.timer.next().map(|(next, _)| until(next));
        let pending = self.pending.values().map(|from| from.saturating_duration_since(Instant::now())).min();
        let busy = self.pending.keys().any(|playbook| self.is_changing(playbook));
        timer.into_iter().chain(pending.filter(|_| !busy)).min().unwrap_or(LOOK).min(LOOK)
    }

    fn start(&mut self, cause: Cause) {
        let service = self.service;
        let mut args = service.args.clone();
        args.extend(["run".to_owned(), "--grace".to_owned(), format!("{}ms", service.grace.as_millis())]);
        let what = match &cause {
            Cause::Schedule(job, _) => {
                args.extend(["--scheduled".to_owned(), job.schedule.name.clone(), job.playbook.clone()]);
                format!("{} (`{}`)", job.playbook, job.schedule.name)
            }
            Cause::Change(playbook) => {
                args.push(playbook.clone());
                format!("{playbook} (files changed)")
            }
        };
        self.started += 1;
        let (number, send) = (self.started, self.send.clone());
        // Nobody is left to be told when the service has ended meanwhile.
        let ended = move |ended| drop(send.send(Woken::Ended(number, ended)));
        match OwnProcess::start(&service.program, &args, service.host.project(), ended) {
            Ok(process) => {
                (service.tell)(Level::Info, &format!("{what} starts, process {}", process.id()));
                self.children.insert(number, Child { process, cause });
            }
            Err(failure) => {
                let message = format!("{what} could not be started: {failure}");
                (service.tell)(Level::Error, &message);
                (service.alarm)("start", &message);
                self.settle(&cause);
            }
        }
    }

    fn ended(&mut self, number: u64, ended: Ended) {
        let Some(child) = self.children.remove(&number) else { return };
        let what = match &child.cause {
            Cause::Schedule(job, _) => format!("{} (`{}`)", job.playbook, job.schedule.name),
            Cause::Change(playbook) => format!("{playbook} (files changed)"),
        };
        match ended {
            Ended::Exit(0) => (self.service.tell)(Level::Success, &format!("{what} ended")),
            Ended::Exit(code) if code == Exit::Warnings.code() => {
                (self.service.tell)(Level::Warn, &format!("{what} completed with warnings (exit code 3)"));
            }
            Ended::Exit(code) => {
                (self.service.tell)(Level::Error, &format!("{what} ended with exit code {code}"));
            }
            Ended::Signal(signal) => {
                (self.service.tell)(Level::Error, &format!("{what} was killed by signal {signal}"));
                self.catch_up();
            }
        }
        if let (Cause::Change(playbook), Ended::Exit(code)) = (&child.cause, ended)
            && code == Exit::Locked.code()
        {
            self.pending.entry(playbook.clone()).or_insert_with(|| Instant::now() + AGAIN);
        }
        self.settle(&child.cause);
    }

    /// What a process left undecided is started again.
    fn settle(&mut self, cause: &Cause) {
        let Cause::Schedule(job, handed) = cause else { return };
        let (service, now) = (self.service, self.service.now());
        match self.timer.settle(job, *handed, service.host.state(), now) {
            Ok(true) => {}
            Ok(false) => (service.tell)(
                Level::Warn,
                &format!(
                    "{} (`{}`) did not begin, and is started again in a minute",
                    job.playbook, job.schedule.name
                ),
            ),
            Err(failure) => (service.tell)(Level::Error, &format!("the record of schedules: {failure}")),
        }
    }

    fn changed(&mut self, playbook: &str, files: &[PathBuf]) {
        let host = &self.service.host;
        let shown: Vec<String> = files.iter().take(3).map(|file| host.shown(file)).collect();
        let more = if files.len() > 3 { format!(" and {} more", files.len() - 3) } else { String::new() };
        (self.service.tell)(Level::Info, &format!("changed: {}{more}", shown.join(", ")));
        // A run that goes on may have read the files before; one more follows it.
        self.pending.entry(playbook.to_owned()).or_insert_with(Instant::now);
    }

    fn is_changing(&self, playbook: &str) -> bool {
        self.children.values().any(|child| matches!(&child.cause, Cause::Change(other) if other == playbook))
    }

    /// Reads the playbooks again. A set that does not lint changes nothing.
    fn reload(&mut self) {
        let service = self.service;
        notify_socket::reloading();
        let told = (service.orders)().and_then(|orders| match orders.broken.first() {
            Some((playbook, failure)) => {
                Err(Failure::new(Code::Playbook, format!("`{playbook}` is broken")).caused_by(failure))
            }
            // One whose playbooks are all gone is one whose disk is not mounted, more likely than one that nobody needs.
            None => orders.check().and_then(|()| self.begin(orders)),
        });
        match told {
            Ok(()) => (service.tell)(Level::Info, &format!("read again; {}", self.next())),
            Err(failure) => {
                let message = format!("the schedules of the daemon stay as they were: {failure}");
                (service.tell)(Level::Error, &message);
                (service.alarm)("reload", &message);
            }
        }
        notify_socket::ready(&self.next());
    }

    /// What comes next, in one line.
    fn next(&self) -> String {
        match self.timer.next() {
            Some((at, job)) => {
                let at = at.with_timezone(&Local).format(TIME);
                format!("next: {} (`{}`) at {at}", job.playbook, job.schedule.name)
            }
            None => "no schedule; watching files".to_owned(),
        }
    }

    /// Lets the current steps end within the grace, then ends the runs, then kills them.
    fn end(&mut self, woken: &Receiver<Woken>) -> Exit {
        let service = self.service;
        let runs = self.children.len();
        let told = if runs == 0 {
            "ends".to_owned()
        } else {
            format!("ends when {runs} current step(s) have ended")
        };
        self.children.values().for_each(|child| child.process.terminate());
        notify_socket::stopping(&told);
        (service.tell)(Level::Info, &told);
        let (mut deadline, mut asked) = (Instant::now() + service.grace + PATIENCE, 1);
        while !self.children.is_empty() {
            notify_socket::alive();
            let left = deadline.saturating_duration_since(Instant::now()).min(LOOK);
            let insisted = match woken.recv_timeout(left) {
                Ok(Woken::Ended(number, ended)) => {
                    self.ended(number, ended);
                    false
                }
                Ok(Woken::End) => true,
                _ => false,
            };
            if insisted || Instant::now() >= deadline {
                for child in self.children.values() {
                    if asked == 1 { child.process.terminate() } else { child.process.kill() }
                }
                asked += 1;
                deadline = Instant::now() + PATIENCE;
            }
        }
        (service.tell)(Level::Info, "ended");
        Exit::Success
    }
}

/// Both ends of what wakes a service.
pub fn wakes() -> (Sender<Woken>, Receiver<Woken>) {
    channel()
}

/// The arguments that name a project, so that a child works in the same one.
pub fn project_args(project: &Path) -> Vec<String> {
    vec!["--project".to_owned(), project.display().to_string()]
}
