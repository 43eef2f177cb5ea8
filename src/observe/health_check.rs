//! `health_check`'s question: how do the backups fare?
//!
//! It looks at folders of backups, at what they lie on, and at what restores have kept; the record of runs is given. What cannot
//! be looked at is told, and hides nothing else.

use crate::base::backup::Source;
use crate::base::failure::Failure;
use crate::base::health::copies::Place;
use crate::base::health::{
    self, Drilled, Folder, Kept as KeptThing, KeptKind, Live, Missed, NotSeen, Ran, Report, Seen, Space,
    Stored, Terms, Undelivered,
};
use crate::base::plan::{Later, Need, Target};
use crate::observe::Observation;
use crate::observe::kept::{Kept, KeptDatabase};
use crate::observe::kept_files::{AskKeptFiles, KeptFiles};
use crate::sys::env::Env;
use crate::sys::facts::Facts;
use crate::sys::kept::State;
use crate::sys::postgres::mark::Kind;
use crate::sys::postgres::settings::{Explicit, Settings, reach};
use crate::sys::storage;
use crate::sys::store::{Catalog, Depth, Listed, Listing};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Names folders of copies off-site, apart by `:`.
pub const OFFSITE_VARIABLE: &str = "BACKUP_OFFSITE_DIRS";
/// Names the folder where the database server keeps its data, if that is on this machine.
pub const PRODUCTION_VARIABLE: &str = "BACKUP_PRODUCTION_DIR";

/// Folders where the shipped playbooks put backups, and the variables that name others.
const FOLDERS: [(&str, &str); 2] =
    [("BACKUP_DIR", "backups/database"), ("CONFIG_BACKUP_DIR", "backups/config")];

/// How long a server may take to let somebody in who only wants to know what is kept there.
const PATIENCE: Duration = Duration::from_secs(3);

/// The folders where backups usually go.
pub fn usual(env: &Env) -> Vec<PathBuf> {
    FOLDERS.iter().map(|(variable, dir)| PathBuf::from(env.value(variable).unwrap_or(dir))).collect()
}

/// What the journal tells.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Runs, newest first.
    pub runs: Arc<Vec<Ran>>,
    /// The newest drill of each playbook.
    pub drills: Vec<Drilled>,
    /// Scheduled runs that were not made.
    pub missed: Vec<Missed>,
    /// Alerts that nobody has accepted yet.
    pub undelivered: Option<Undelivered>,
    /// What could not be read.
    pub unknown: Vec<NotSeen>,
}

/// Asks how the backups fare.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Folders of backups; the usual ones if none is named.
    pub dirs: Vec<PathBuf>,
    /// Folders of copies off-site, besides those that the environment names.
    pub offsite: Vec<PathBuf>,
    /// Where the database server keeps its data; what the environment says, if it is not given.
    pub production: Option<PathBuf>,
    /// From where on something is a finding.
    pub terms: Terms,
    /// What the journal tells.
    pub history: History,
    /// Whether the database server is not to be asked what is kept there.
    pub offline: bool,
}

/// The report, and what it rests on as far as it is shown.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// The report.
    pub report: Report,
    /// Databases that restores have kept.
    pub databases: Vec<KeptDatabase>,
    /// Files that restores have kept.
    pub files: Vec<KeptFiles>,
}

impl Observation for Health {
    const NAME: &'static str = "health_check";
    type Answer = Checkup;

    fn question(&self) -> String {
        let dirs: Vec<String> = self.dirs.iter().map(|dir| format!("`{}`", dir.display())).collect();
        let dirs = if dirs.is_empty() { "the usual folders".to_owned() } else { dirs.join(", ") };
        format!("how do the backups in {dirs} fare?")
    }

    fn answer(&self, answer: &Checkup) -> String {
        answer.report.headline()
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        // What the environment names is the machine's own configuration.
        self.dirs.iter().chain(&self.offsite).map(|dir| Need::Read(facts.absolute(dir))).collect()
    }

    fn concerns(&self, facts: &Facts) -> Vec<Target> {
        let env = facts.host().env();
        let dirs = if self.dirs.is_empty() { usual(&env) } else { self.dirs.clone() };
        dirs.iter().map(|dir| Target::Path(facts.absolute(dir))).collect()
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Checkup>, Failure> {
        self.look(facts, || self.history.clone()).map(Later::Now)
    }
}

impl Health {
    /// Asks, while `history` reads what the journal tells: with many backups and many runs each takes its time.
    ///
    /// # Errors
    /// Of what cannot even be asked; what cannot be looked at stands in the report.
    pub fn ask_beside(
        &self,
        facts: &Facts,
        history: impl FnOnce() -> History + Send,
    ) -> Result<Checkup, Failure> {
        let history = Mutex::new(Some(history));
        let read = || {
            let history = history.lock().unwrap_or_else(PoisonError::into_inner).take();
            history.map(|history| history())
        };
        std::thread::scope(|scope| {
            // Where no thread may be started, one thing comes after the other.
            let beside = std::thread::Builder::new().spawn_scoped(scope, read).ok();
            let told = || match beside.map(std::thread::ScopedJoinHandle::join) {
                Some(Ok(history)) => history.unwrap_or_default(),
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                None => read().unwrap_or_default(),
            };
            self.look(facts, told)
        })
    }

    fn look(&self, facts: &Facts, history: impl FnOnce() -> History) -> Result<Checkup, Failure> {
        let host = facts.host();
        let env = host.env();
        // A drill fills a scratch server for whoever names a database; nothing is kept there yet.
        let rehearsed = host.sandbox().is_some();
        let settings = (!rehearsed).then(|| reach(host, &Explicit::default()));
        let mut seen = Seen {
            now: facts.now().fixed_offset(),
            folders: Vec::new(),
            backups: Vec::new(),
            live: Vec::new(),
            database: reached(&settings).map(|settings| settings.database.clone()),
            runs: Arc::default(),
            drills: Vec::new(),
            kept: Vec::new(),
            missed: Vec::new(),
            undelivered: None,
            unknown: Vec::new(),
        };
        let mut looked = BTreeSet::new();
        let usual = usual(&env);
        let dirs = if self.dirs.is_empty() { &usual } else { &self.dirs };
        for dir in dirs {
            // Not everybody has a database and a configuration to back up.
            let is_named = !usual.contains(dir);
            look_at(facts, &facts.absolute(dir), (is_named, false), &mut looked, &mut seen);
        }
        let declared = env.value(OFFSITE_VARIABLE).unwrap_or_default();
        let declared = declared.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from);
        for dir in self.offsite.iter().cloned().chain(declared) {
            look_below(facts, &facts.absolute(dir), &mut looked, &mut seen);
        }
        let production =
            self.production.clone().or_else(|| env.value(PRODUCTION_VARIABLE).map(PathBuf::from));
        let production = production.map(|dir| storage::place_of(&host.original(&host.absolute(dir))));
        seen.live = live(facts, &seen, reached(&settings), production.as_ref());
        let (databases, files) = self.kept(facts, settings, &mut seen);
        let History { runs, drills, missed, undelivered, mut unknown } = history();
        unknown.append(&mut seen.unknown);
        let seen = Seen { runs, drills, missed, undelivered, unknown, ..seen };
        let report = health::judge(&seen, &self.terms);
        Ok(Checkup { report, databases, files })
    }

    /// What restores have kept. That it cannot be looked at says nothing about the backups.
    fn kept(
        &self,
        facts: &Facts,
        settings: Option<Result<Settings, Failure>>,
        seen: &mut Seen,
    ) -> (Vec<KeptDatabase>, Vec<KeptFiles>) {
        let host = facts.host();
        let dir = host.project().to_path_buf();
        let files = AskKeptFiles { dir }.ask(facts).map_or_else(
            |failure| {
                seen.unknown.push(not_seen("kept files", &host.masker().mask(&failure.to_string()), false));
                Vec::new()
            },
            |answer| answer.now().unwrap_or_default(),
        );
        seen.kept.extend(files.iter().map(|kept| KeptThing {
            name: host.shown(&kept.path),
            kind: match kept.state {
                State::Swapped | State::Undone => KeptKind::Replaced,
                State::Swapping | State::Undoing => KeptKind::Half,
                State::Staging => KeptKind::Left,
            },
            letters: letters(&kept.run),
            age: kept.age,
            size: Some(kept.size),
        }));
        let Some(settings) = settings.filter(|_| !self.offline) else { return (Vec::new(), files) };
        let databases = settings.and_then(|mut settings| {
            settings.connect_timeout =
                Some(settings.connect_timeout.map_or(PATIENCE, |limit| limit.min(PATIENCE)));
            Ok(Kept { settings }.ask(facts)?.now().unwrap_or_default())
        });
        let databases = databases.unwrap_or_else(|failure| {
            seen.unknown.push(not_seen("kept databases", &host.masker().mask(&failure.to_string()), false));
            Vec::new()
        });
        seen.kept.extend(databases.iter().filter(|kept| !kept.busy || kept.kind == Kind::Kept).map(|kept| {
            KeptThing {
                name: kept.name.clone(),
                kind: if kept.kind == Kind::Kept { KeptKind::Replaced } else { KeptKind::Left },
                letters: letters(&kept.run),
                age: kept.age,
                size: kept.size,
            }
        }));
        (databases, files)
    }
}

fn reached(settings: &Option<Result<Settings, Failure>>) -> Option<&Settings> {
    settings.as_ref()?.as_ref().ok()
}

/// The letters of a run's id, which are enough to name it.
fn letters(run: &str) -> String {
    run.rsplit('-').next().unwrap_or(run).to_owned()
}

fn not_seen(what: &str, why: &str, matters: bool) -> NotSeen {
    NotSeen { what: format!("{what}: {why}"), matters }
}

/// Looks at a folder of copies and at those below it. Those without backups are left out, unless none holds any.
fn look_below(facts: &Facts, dir: &Path, looked: &mut BTreeSet<PathBuf>, seen: &mut Seen) {
    let first = seen.folders.len();
    for below in storage::folders_below(dir) {
        look_at(facts, &below, (false, true), looked, seen);
    }
    if seen.backups.iter().all(|backup| backup.folder < first) {
        seen.folders.truncate(first + 1);
        return;
    }
    for index in (first..seen.folders.len()).rev() {
        if seen.backups.iter().all(|backup| backup.folder != index) {
            seen.folders.remove(index);
            seen.backups
                .iter_mut()
                .filter(|backup| backup.folder > index)
                .for_each(|backup| backup.folder -= 1);
        }
    }
}

fn look_at(
    facts: &Facts,
    dir: &Path,
    (is_named, is_offsite): (bool, bool),
    looked: &mut BTreeSet<PathBuf>,
    seen: &mut Seen,
) {
    if !looked.insert(dir.to_path_buf()) {
        return;
    }
    let host = facts.host();
    let shown = host.shown(dir);
    let mut unknown =
        |why: &Failure| seen.unknown.push(not_seen(&format!("`{shown}`"), &why.to_string(), true));
    let index = seen.folders.len();
    let listing = Listing::read(dir).inspect_err(&mut unknown).ok();
    let listing = listing.as_ref();
    let found = listing.map(|all| all.backups(Catalog::Cached(host.state()), Depth::Manifests));
    let own = host.resumes().map(|terms| terms.run.clone()).unwrap_or_default();
    let leftovers = listing.and_then(|all| all.leftovers(&own).ok()).map_or(0, |left| left.len());
    let lost = listing.and_then(|all| all.orphans().ok()).unwrap_or_default();
    let exists = crate::sys::fs::exists(dir).unwrap_or(true);
    seen.folders.push(Folder {
        path: shown,
        exists,
        is_named,
        is_offsite,
        place: storage::place_of(&host.original(dir)),
        space: facts.disk_space(dir).ok().map(|space| Space { free: space.available, total: space.total }),
        leftovers,
        lost,
    });
    seen.backups.extend(found.into_iter().flatten().map(|found| stored(index, found)));
}

fn stored(folder: usize, found: Listed) -> Stored {
    let Listed { backup, head, oddity, .. } = found;
    let verified = head.as_ref().and_then(|head| head.verified.as_ref());
    Stored {
        folder,
        problem: oddity.or_else(|| verified.and_then(|proof| proof.verdict.problems.first().cloned())),
        verified_at: verified.map(|verified| verified.at),
        intact: backup.verified.now().flatten(),
        drilled_at: head.as_ref().and_then(|head| Some(head.drilled.as_ref()?.at)),
        run: head.map(|head| head.run),
        name: backup.name,
        source: backup.source,
        content: backup.content,
        selection: backup.selection,
        complete: backup.complete,
        tag: backup.tag,
        created: backup.created,
        size: backup.size.now().unwrap_or_default(),
    }
}

/// Where production is. A tree of this host is where it is; a database is on its server, which is another host or, if somebody
/// says where, on a disk of this one.
fn live(
    facts: &Facts,
    seen: &Seen,
    settings: Option<&Settings>,
    production: Option<&Place>,
) -> Vec<(Source, Live)> {
    let sources: BTreeSet<&Source> = seen.backups.iter().map(|backup| &backup.source).collect();
    let here = crate::sys::fs::host_name();
    let is_remote = |settings: &&Settings| {
        !settings.is_socket()
            && !matches!(settings.host.as_str(), "localhost" | "127.0.0.1" | "::1")
            && settings.host != here
    };
    let of = |source: &Source| match source {
        Source::Tree { host, root } if *host == here => {
            Some(Live::At(storage::place_of(&facts.host().original(Path::new(root)))))
        }
        Source::Tree { host, .. } => Some(Live::Elsewhere(host.clone())),
        Source::Database { name, .. } => match (production, settings.filter(is_remote)) {
            (Some(place), _) => Some(Live::At(place.clone())),
            (None, Some(settings)) if settings.database == *name => Some(Live::Elsewhere(settings.server())),
            _ => None,
        },
        Source::Named { .. } => production.map(|place| Live::At(place.clone())),
    };
    sources.into_iter().filter_map(|source| Some((source.clone(), of(source)?))).collect()
}
