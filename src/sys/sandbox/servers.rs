//! Scratch servers in place of real ones.
//!
//! Settings that a playbook resolves keep their names, and reach a scratch server. Nothing here connects to the real one,
//! not even to ask what version it is: that, too, is read from the backups.

use crate::base::backup::{Backup, Content, Source};
use crate::base::drill::{Start, StoodIn};
use crate::base::failure::{Code, Failure};
use crate::sys::fs;
use crate::sys::host::Host;
use crate::sys::postgres::binaries;
use crate::sys::postgres::connection::{Session, connect};
use crate::sys::postgres::quote::{ident, literal};
use crate::sys::postgres::settings::{Settings, SslMode, StandsFor};
use crate::sys::postgres::version::Version;
use crate::sys::sandbox::Sandbox;
use crate::sys::scratch::{ScratchCluster, ScratchOptions};
use crate::sys::store::{self, Found, Listed};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Databases that every server has. They are never filled.
const OF_SERVER: [&str; 3] = ["postgres", "template0", "template1"];
/// Where programs reach scratch servers.
const LOOPBACK: &str = "127.0.0.1";
/// The role that scratch servers begin with.
const SUPERUSER: &str = "postgres";

/// Fills databases of scratch servers from backups.
pub trait Loader: Send + Sync {
    /// Makes the database of `to`, for its superuser, as the newest intact one of `backups` has it; they are newest first.
    ///
    /// # Errors
    /// `NotIntact` if none is, and whatever keeps it from being loaded.
    fn load(&self, to: &Settings, backups: &[Found]) -> Result<(), Failure>;
}

/// A scratch server.
pub(super) struct Server {
    /// The real one, as `db1:5432`.
    named: String,
    cluster: ScratchCluster,
    /// Version of the real one, as a backup tells it.
    original: Option<String>,
    /// Identity of the real one, as a backup tells it.
    system: Option<String>,
    /// Databases that are there or need not be.
    databases: BTreeSet<String>,
    roles: BTreeSet<String>,
    /// Roles whose rights no backup tells.
    pub without_rights: Vec<String>,
    pub notes: Vec<String>,
}

impl Server {
    pub fn told(&self) -> StoodIn {
        StoodIn {
            server: self.named.clone(),
            version: self.cluster.version().to_string(),
            original: self.original.clone(),
        }
    }

    /// What is to be known about it; `found` are all backups.
    pub fn all_notes(&self, found: &[Listed]) -> Vec<String> {
        let others: BTreeSet<&str> = found
            .iter()
            .filter_map(|found| match &found.backup.source {
                Source::Database { system, name } if Some(system) == self.system.as_ref() => {
                    Some(name.as_str())
                }
                _ => None,
            })
            .filter(|name| !self.databases.contains(*name))
            .collect();
        let mut notes = self.notes.clone();
        if !others.is_empty() {
            let others = others.into_iter().collect::<Vec<_>>().join(", ");
            notes.push(format!(
                "the scratch server for {} went without {others}, which nobody named",
                self.named
            ));
        }
        notes
    }

    /// Whether a client that takes `host` for the folder of a socket reaches it.
    pub fn is_at(&self, host: &str) -> bool {
        Path::new(host) == self.cluster.socket_dir()
    }

    fn answers(&self, settings: &Settings) -> bool {
        Path::new(&settings.host) == self.cluster.socket_dir() && settings.port == self.cluster.port()
    }
}

impl Sandbox {
    /// The settings of the scratch server that stands in for the one that `settings` name. It is started when it is first
    /// named, and so is the database made, unless the drill begins empty.
    ///
    /// # Errors
    /// `NotFound` if there is no backup to make the database from, and whatever keeps the server from starting. The drill
    /// has then failed, whatever becomes of the failure.
    pub fn stand_in(&self, host: &Arc<Host>, settings: &Settings) -> Result<Settings, Failure> {
        let began = Instant::now();
        let made = self.try_stand_in(host, settings);
        self.add_idle(began);
        made.inspect_err(|failure| {
            self.broken
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .get_or_insert(failure.clone());
        })
    }

    fn try_stand_in(&self, host: &Arc<Host>, settings: &Settings) -> Result<Settings, Failure> {
        let backups = self.backups_of(&settings.database);
        let ours = self.server(host, settings, &backups)?;
        let administrator =
            Settings { user: SUPERUSER.to_owned(), options: None, ..ours.with_database(SUPERUSER) };
        let name = self.name_of(settings);
        let is_new = |of: &dyn Fn(&mut Server) -> &mut BTreeSet<String>, key: &str| {
            let mut servers = self.servers();
            servers
                .iter_mut()
                .find(|server| server.named == name)
                .is_some_and(|server| of(server).insert(key.to_owned()))
        };
        if is_new(&|server| &mut server.roles, &settings.user) {
            let session = connect(host, &administrator)?;
            if !self.make_role(&session, &settings.user, backups.first())? {
                let mut servers = self.servers();
                let ours = servers.iter_mut().filter(|server| server.named == name);
                ours.for_each(|server| server.without_rights.push(settings.user.clone()));
            }
        }
        let database = settings.database.as_str();
        if self.terms.start == Start::Latest
            && !OF_SERVER.contains(&database)
            && is_new(&|server| &mut server.databases, database)
        {
            if backups.is_empty() {
                return Err(no_backup(database));
            }
            let loader = self.loader.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            if let Some(loader) = loader {
                loader.load(&administrator.with_database(database), &backups)?;
            }
        }
        Ok(ours)
    }

    /// The server that settings name; those of an `.env` that was led to a scratch server name the real one still.
    fn name_of(&self, settings: &Settings) -> String {
        let servers = self.servers();
        let is_it = |server: &&Server| settings.host == LOOPBACK && settings.port == server.cluster.port();
        servers.iter().find(is_it).map_or_else(|| settings.server(), |server| server.named.clone())
    }

    /// Starts the scratch server if it does not run yet; the same settings on it.
    fn server(&self, host: &Host, settings: &Settings, backups: &[Found]) -> Result<Settings, Failure> {
        let name = self.name_of(settings);
        let mut servers = self.servers();
        let at = match servers.iter().position(|server| server.named == name) {
            Some(at) => at,
            None => {
                let manifest = backups.iter().find_map(|found| found.manifest.as_ref());
                let original = manifest.and_then(|manifest| manifest.server.clone());
                let major = original.as_deref().and_then(Version::parse).map(Version::major);
                let programs =
                    binaries::find_server(major, &|name| host.env().value(name).map(str::to_owned))?;
                let mut options = ScratchOptions::new(programs);
                SUPERUSER.clone_into(&mut options.superuser);
                options.password = Some(self.password.clone());
                options.tcp = true;
                options.cancel = self.cancel.clone();
                let systems: BTreeSet<&Source> = backups
                    .iter()
                    .map(|found| &found.backup.source)
                    .filter(|source| matches!(source, Source::Database { .. }))
                    .collect();
                let notes = (systems.len() > 1).then(|| {
                    format!(
                        "there are backups of `{}` on {} servers: the newest was taken for {name}",
                        settings.database,
                        systems.len()
                    )
                });
                let system = manifest.and_then(|manifest| match &manifest.source {
                    Source::Database { system, .. } => Some(system.clone()),
                    _ => None,
                });
                servers.push(Server {
                    named: name,
                    cluster: ScratchCluster::start(&options)?,
                    original,
                    // A server that was lost comes back as another one.
                    system: system.filter(|_| self.terms.start == Start::Latest),
                    databases: BTreeSet::new(),
                    roles: [SUPERUSER.to_owned()].into(),
                    without_rights: Vec::new(),
                    notes: notes.into_iter().collect(),
                });
                servers.len() - 1
            }
        };
        let cluster = &servers[at].cluster;
        Ok(Settings {
            host: cluster.socket_dir().display().to_string(),
            hostaddr: None,
            port: cluster.port(),
            password: Some(self.password.clone()),
            sslmode: SslMode::Disable,
            sslrootcert: None,
            channel_binding: None,
            stands_for: Some(Box::new(StandsFor {
                host: settings.host.clone(),
                hostaddr: settings.hostaddr,
                port: settings.port,
                version: cluster.version().to_string(),
            })),
            ..settings.clone()
        })
    }

    /// Makes the role that the playbook logs in as, with the rights that the backup's globals tell; returns whether
    /// they do.
    fn make_role(&self, session: &Session, user: &str, backup: Option<&Found>) -> Result<bool, Failure> {
        let globals = backup.map(|found| store::sidecar(&found.backup.path, ".globals.sql"));
        let globals = globals.map(|path| fs::read_text(&path)).transpose()?.flatten();
        let rights = match globals {
            Some(sql) => self.rights(session, user, &sql),
            None => None,
        };
        let role = ident(user);
        let exists = "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = ";
        let exists = session.one(&format!("{exists}{}", literal(user)))?[0].as_deref() == Some("1");
        if !exists {
            let rights = rights.as_deref().unwrap_or("SUPERUSER");
            session.run(&format!("CREATE ROLE {role} {rights}"))?;
        }
        let password = literal(self.password.expose());
        session.run(&format!("ALTER ROLE {role} LOGIN PASSWORD {password} VALID UNTIL 'infinity'"))?;
        Ok(rights.is_some())
    }

    /// The attributes of a role as the saved globals make it. They stay when the drill begins with what the newest backups
    /// have; else they are only looked at.
    fn rights(&self, session: &Session, user: &str, globals: &str) -> Option<String> {
        let words = [
            ("rolsuper", "SUPERUSER"),
            ("rolinherit", "INHERIT"),
            ("rolcreaterole", "CREATEROLE"),
            ("rolcreatedb", "CREATEDB"),
            ("rolreplication", "REPLICATION"),
            ("rolbypassrls", "BYPASSRLS"),
        ];
        let asked: Vec<String> = words
            .iter()
            .map(|(column, word)| format!("CASE WHEN {column} THEN '{word}' ELSE 'NO{word}' END"))
            .collect();
        let sql = format!(
            "SELECT {} FROM pg_catalog.pg_roles WHERE rolname = {}",
            asked.join(" || ' ' || "),
            literal(user)
        );
        session.run("BEGIN").ok()?;
        let found = session.run(globals).and_then(|()| session.one(&sql));
        let keeps = found.is_ok() && self.terms.start == Start::Latest;
        session.run(if keeps { "COMMIT" } else { "ROLLBACK" }).ok()?;
        found.ok()?.into_iter().next().flatten()
    }

    /// Whether settings reach one of this sandbox's servers.
    pub fn serves(&self, settings: &Settings) -> bool {
        self.servers().iter().any(|server| server.answers(settings))
    }

    /// The identity of the server that stands behind `settings`, where a scratch server stands in for it.
    pub fn system_of(&self, settings: &Settings) -> Option<String> {
        self.servers().iter().find(|server| server.answers(settings))?.system.clone()
    }
}

/// Whether a backup is that of a whole database of this name.
pub(super) fn is_of(backup: &Backup, database: &str) -> bool {
    let named = match &backup.source {
        Source::Database { name, .. } => name == database,
        // The guide's scripts put the database's name, or that with `_db`, before the stamp.
        Source::Named { name } => name == database || name.strip_suffix("_db") == Some(database),
        Source::Tree { .. } => false,
    };
    named && backup.content == Content::Sql && backup.selection.is_none()
}

fn no_backup(database: &str) -> Failure {
    Failure::new(Code::NotFound, format!("there is no backup of `{database}` to rehearse with"))
        .caused_by("a drill never reads the real database: it begins with what the newest backup holds")
        .hint(
            "Make a backup first, for example `lifeboat backup_database`, and name its folder by a parameter if it is \
             not in the project.",
        )
        .hint("Or let the drill begin without databases, as a recovery does: `drill: #{ start: \"empty\" }` in the header.")
}
