//! What several playbooks watch, for a service that runs each when its files change.
//!
//! *Problem*: a service has schedules to look after too, and cannot wait for files. *Decision*: it asks now and then, and is
//! told which playbooks are to be run. Only the files of a header's `watch` count: an edit of the playbook is no reason for a
//! live run. *Rejected*: a thread for each playbook, which would have to be ended and joined on every re-reading.

use crate::base::failure::{Code, Failure};
use crate::daemon::watch::{LOOK_EVERY, Notice, Watching};
use crate::daemon::watch_set::WatchSet;
use crate::sys::host::Host;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The files of several playbooks under watch.
pub struct Watches {
    host: Arc<Host>,
    notice: Notice,
    watched: BTreeMap<String, Watching>,
    /// Playbooks whose files the system does not tell of, and why.
    unwatched: Vec<(String, Failure)>,
}

impl Watches {
    /// Begins to watch for each playbook; the content of the files is what it is now. `sets` are those of
    /// [`WatchSet::of_header`], by playbook.
    pub fn new(host: Arc<Host>, sets: BTreeMap<String, WatchSet>, notice: Notice) -> Result<Self, Failure> {
        let mut watches = Self { host, notice, watched: BTreeMap::new(), unwatched: Vec::new() };
        watches.refresh(sets)?;
        Ok(watches)
    }

    /// Watches for these playbooks from now on. A change that was not told yet of one that is watched already is still told.
    pub fn refresh(&mut self, sets: BTreeMap<String, WatchSet>) -> Result<(), Failure> {
        self.watched.retain(|playbook, _| sets.contains_key(playbook));
        for (playbook, set) in sets {
            match self.watched.get_mut(&playbook) {
                Some(watching) => {
                    if let Err(failure) = watching.refresh(set) {
                        watching.look_instead();
                        self.unwatched.push((playbook, failure));
                    }
                }
                None => {
                    let watching = match Watching::new(self.host.clone(), set.clone(), self.notice) {
                        Ok(watching) => watching,
                        Err(failure) => {
                            self.unwatched.push((playbook.clone(), failure));
                            Watching::new(self.host.clone(), set, Notice::Looked(LOOK_EVERY))?
                        }
                    };
                    self.watched.insert(playbook, watching);
                }
            }
        }
        Ok(())
    }

    /// The playbooks that are to be run, each with the files that changed since it was told last; does not wait.
    ///
    /// # Errors
    /// `Interrupted` or `Terminated` when the end is asked for.
    pub fn poll(&mut self) -> Result<Vec<(String, Vec<PathBuf>)>, Failure> {
        let mut told = Vec::new();
        for (playbook, watching) in &mut self.watched {
            match watching.poll() {
                Ok(changed) => told.extend(changed.map(|changed| (playbook.clone(), changed))),
                Err(failure) if matches!(failure.code, Code::Interrupted | Code::Terminated) => {
                    return Err(failure);
                }
                // What the others are told of must not be lost for this one.
                Err(failure) => {
                    watching.look_instead();
                    self.unwatched.push((playbook.clone(), failure));
                }
            }
        }
        Ok(told)
    }

    /// The playbooks whose files are looked at now and then since this was asked last, because the system cannot tell of changes,
    /// and why it cannot: its limits, most likely.
    pub fn unwatched(&mut self) -> Vec<(String, Failure)> {
        std::mem::take(&mut self.unwatched)
    }

    /// So long [`Self::poll`] need not be called, unless the system tells something; never more than two seconds when the
    /// system tells of changes. A service that calls it every quarter of a second misses nothing.
    pub fn rest(&self) -> Option<Duration> {
        self.watched.values().map(Watching::rest).min()
    }

    /// Takes over, for all playbooks, what a run has written itself, which is no change.
    pub fn adopt(&mut self, written: &BTreeSet<PathBuf>) {
        self.watched.values_mut().for_each(|watching| watching.adopt(written));
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }
}
