//! Filling a scratch database: the very restore that playbooks use, from the newest intact backup.

use crate::action::restore::{Restore, RestoreOptions, Restored};
use crate::base::drill::RestoredData;
use crate::base::event::{Event, EventSink, Events, Level, What};
use crate::base::failure::{Code, Failure};
use crate::base::plan::Later;
use crate::engine::drill::Rehearsal;
use crate::engine::policy::{Grants, Policy};
use crate::engine::session::{LiveRun, Session};
use crate::sys::host::Host;
use crate::sys::postgres::settings::Settings;
use crate::sys::sandbox::Loader;
use crate::sys::store::{self, Found};
use chrono::{DateTime, FixedOffset};
use std::path::Path;
use std::sync::Arc;

/// Restores backups into the scratch servers of a drill.
pub struct FromBackups {
    host: Arc<Host>,
    run: LiveRun,
    rehearsal: Arc<Rehearsal>,
}

impl FromBackups {
    /// A loader with a host of its own in the same sandbox: what it does is not the playbook's. `events` hear of it.
    pub fn new(host: Host, run: LiveRun, rehearsal: Arc<Rehearsal>, events: Events) -> Self {
        let host = Arc::new(host);
        host.listen(Arc::new(Preparing(events)));
        Self { host, run, rehearsal }
    }

    /// A session for one load. It does not outlive it: the playbook is to get the locks that it takes.
    fn session(&self) -> Session {
        let sandbox = self.host.sandbox();
        let mut grants = Grants::default();
        grants.read.extend(sandbox.iter().flat_map(|sandbox| sandbox.linked()));
        grants.write.extend(sandbox.map(|sandbox| sandbox.root().to_path_buf()));
        Session::drill(self.host.clone(), Policy::new(grants), self.run.clone())
    }
}

impl Loader for FromBackups {
    fn load(&self, to: &Settings, backups: &[Found]) -> Result<(), Failure> {
        let mut damaged = Vec::new();
        let session = self.session();
        for found in backups {
            let (backup, settings) = (found.backup.path.clone(), to.clone());
            let restore = Restore { backup, settings, options: RestoreOptions::default() };
            match session.perform(&restore, None) {
                Ok(Later::Now(restored)) => {
                    let data = data(self.host.began().fixed_offset(), &restored, false);
                    self.rehearsal.restored(&found.backup.path, data);
                    return Ok(());
                }
                Ok(Later::AfterRun) => {
                    return Err(Failure::new(Code::Internal, "a drill's restore was not carried out"));
                }
                Err(failure) if failure.code == Code::NotIntact => {
                    self.rehearsal.warn(&format!("{failure}: an older one was taken"));
                    damaged.push(failure.to_string());
                }
                Err(mut failure) => {
                    failure.message = format!(
                        "`{}` cannot be restored, so there is nothing to rehearse with: {}",
                        found.backup.name, failure.message
                    );
                    return Err(failure);
                }
            }
        }
        let failure = Failure::new(
            Code::NotIntact,
            format!("no backup of `{}` is intact, so there is nothing to rehearse with", to.database),
        );
        Err(damaged
            .into_iter()
            .fold(failure, Failure::caused_by)
            .hint("Make a fresh backup now: `lifeboat backup_database`."))
    }
}

/// What a verdict says of a restore.
pub fn data(began: DateTime<FixedOffset>, restored: &Restored, by_playbook: bool) -> RestoredData {
    let recovery_point = match &restored.recovery_point {
        Some(point) => point.time,
        None => made_at(&restored.backup).unwrap_or(began),
    };
    let age = began - recovery_point;
    RestoredData {
        database: restored.database.clone(),
        backup: restored.backup.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        recovery_point,
        age_millis: u64::try_from(age.num_milliseconds()).unwrap_or(0),
        by_playbook,
        tables: restored.tables,
        rows: restored.rows,
    }
}

/// When a backup without a recovery point was made.
fn made_at(path: &Path) -> Option<DateTime<FixedOffset>> {
    store::look_at_any(path).ok().flatten().map(|found| found.backup.created)
}

/// Passes on what preparing has to say; it is no part of the playbook.
struct Preparing(Events);

impl EventSink for Preparing {
    fn event(&self, event: &Event) {
        let what = match &event.what {
            What::Progress(_) | What::Log { .. } | What::Output { .. } => event.what.clone(),
            What::ActionEnded { summary, .. } => {
                What::Log { level: Level::Info, message: format!("the sandbox: {summary}") }
            }
            _ => return,
        };
        self.0.event(&Event { what, ..event.clone() });
    }
}
