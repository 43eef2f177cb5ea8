//! What the sessions of one load share: the schedule, what was done, and the first failure.

use super::schedule::Schedule;
use super::steps::Work;
use super::{Filling, Full, Left, POLL, Ready, worker};
use crate::base::backup::TableContent;
use crate::base::event::{Progress, What};
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::load::{Copied, Loaded};
use crate::sys::postgres::read_back::{Compared, Manner};
use crate::sys::postgres::server_disk::DataDisk;
use crate::sys::stream::guarded;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};

/// What changes while steps are carried out.
pub(super) struct State {
    pub schedule: Schedule,
    rows_left: usize,
    pub copied: BTreeMap<String, Copied>,
    pub failure: Option<Failure>,
    pub compared: Compared,
    pub analyzed: BTreeSet<u32>,
    pub notes: Vec<String>,
    /// Those who carry out steps, or hand rows over.
    working: usize,
}

/// What the workers share.
pub(super) struct Shared<'a> {
    pub filling: &'a Filling<'a>,
    pub manner: Manner<'a>,
    pub contents: BTreeMap<&'a str, &'a TableContent>,
    pub left: &'a Left<'a>,
    pub work: &'a [Work],
    state: Mutex<State>,
    turn: Condvar,
}

/// Somebody works, until this is dropped.
pub(super) struct Working<'s, 'a>(&'s Shared<'a>);

impl Drop for Working<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().working -= 1;
        self.0.turn.notify_all();
    }
}

impl<'a> Shared<'a> {
    pub fn of(filling: &'a Filling<'a>, ready: &'a Ready<'a>) -> Self {
        let Ready { left, work, steps, .. } = ready;
        let encoding = left.terms.encoding();
        Self {
            filling,
            manner: Manner { encoding, pinned: filling.pinned, monetary: filling.monetary },
            contents: left.contents.iter().map(|content| (content.table.as_str(), content)).collect(),
            state: Mutex::new(State {
                schedule: Schedule::new(steps.clone()),
                rows_left: work.iter().filter(|work| matches!(work, Work::Rows(_))).count(),
                copied: left.copied.clone(),
                failure: None,
                compared: Compared::default(),
                analyzed: BTreeSet::new(),
                notes: Vec::new(),
                working: 0,
            }),
            turn: Condvar::new(),
            work,
            left,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts somebody among those who work.
    pub fn working(&self) -> Working<'_, 'a> {
        self.lock().working += 1;
        Working(self)
    }

    /// Lets a worker for each pair of sessions carry out steps until all are done or one fails.
    pub fn run(&self, sessions: &[(Session, Session)]) {
        std::thread::scope(|scope| {
            for pair in sessions {
                self.begin(scope, pair);
            }
            self.oversee(sessions.iter().flat_map(|(session, reader)| [session, reader]));
        });
    }

    /// Fails if anything has failed.
    pub fn ended(&self) -> Result<(), Failure> {
        self.lock().failure.take().map_or(Ok(()), Err)
    }

    /// Lets another thread carry out steps by a pair of sessions; where no more threads may be started, fewer do the work.
    pub fn begin<'s, 'e>(&'e self, scope: &'s Scope<'s, 'e>, pair: &'e (Session, Session)) {
        let working = self.working();
        let work = move || {
            self.work(pair);
            drop(working);
        };
        let begun = Builder::new().spawn_scoped(scope, work);
        if let Err(error) = begun
            && self.lock().working == 0
        {
            self.fail(Failure::new(Code::Io, "cannot start a thread").caused_by(error));
        }
    }

    /// Carries out steps until there are none any more.
    pub fn work(&self, (session, reader): &(Session, Session)) {
        if let Err(failure) = guarded(|| worker::work(self, session, reader)) {
            self.fail(failure);
        }
    }

    /// Watches those who work until nobody does.
    pub fn oversee<'s>(&self, sessions: impl Iterator<Item = &'s Session> + Clone) {
        loop {
            if let Err(failure) = self.watch() {
                self.fail(failure);
            }
            let state = self.lock();
            if state.working == 0 {
                return;
            }
            if state.failure.is_none() {
                drop(self.turn.wait_timeout(state, POLL));
                continue;
            }
            drop(state);
            // A statement that takes long would keep a run going that has failed.
            sessions.clone().for_each(Session::interrupt);
            std::thread::sleep(POLL);
        }
    }

    fn watch(&self) -> Result<(), Failure> {
        self.filling.host.cancel().check()?;
        self.filling.disk.as_ref().map_or(Ok(()), DataDisk::check)
    }

    /// Ends the work of all; the first reason counts, and a run that is asked to end fails for that.
    pub fn fail(&self, failure: Failure) {
        let failure = self.filling.host.cancel().check().err().unwrap_or(failure);
        self.lock().failure.get_or_insert(failure);
        self.turn.notify_all();
    }

    /// Fails when another worker has failed.
    pub fn check(&self) -> Result<(), Failure> {
        self.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// The next step; `None` when there is none any more.
    pub fn next(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() || state.schedule.is_over() {
                return None;
            }
            if let Some(number) = state.schedule.take() {
                return Some(number);
            }
            state = self.turn.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn done(&self, number: usize) {
        let mut state = self.lock();
        state.schedule.done(number);
        state.rows_left -= usize::from(matches!(self.work[number], Work::Rows(_)));
        let done = state.compared.tables();
        let is_compared = state.rows_left == 0 && matches!(self.work[number], Work::Compare(_));
        drop(state);
        self.turn.notify_all();
        if is_compared {
            self.filling.host.emit(What::Progress(Progress {
                label: "compare tables with the backup".to_owned(),
                done,
                total: Some(self.left.tables.len() as u64),
                unit: "tables".to_owned(),
            }));
        }
    }

    /// What came about, when all steps are done.
    pub fn full(self, mut loaded: Loaded, reader: &Session) -> Result<Full, Failure> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        loaded.copied = state.copied;
        for note in state.notes {
            if !loaded.notes.contains(&note) {
                loaded.notes.push(note);
            }
        }
        let found = state.compared.end(reader, &loaded)?;
        Ok(Full { loaded, found, analyzed: state.analyzed.into_iter().collect() })
    }
}
