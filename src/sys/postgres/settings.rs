//! Which database is meant, as whom, and where each part of that was said. Nothing here connects.
//!
//! *Problem*: a backup or restore of the wrong database is worse than none, and a machine often says twice which one
//! is meant. *Decision*: an explicit option wins; of the environment's three sources (`DB_*`, `DATABASE_URL`, `PG*`)
//! any two that name different targets are an error. *Rejected*: a silent order of precedence among them.

use crate::base::diagnostic::did_you_mean;
use crate::base::event::What;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Need, Target};
use crate::base::secret::{Masker, Secret};
use crate::sys::env::Env;
use crate::sys::host::Host;
use crate::sys::postgres::machine::Machine;
use crate::sys::postgres::password_file;
use crate::sys::postgres::sources::{self, Found, Parts, Source};
pub use crate::sys::postgres::sslmode::SslMode;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to be made, unless the settings say otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a note says of a password that belongs to another user than the one who connects.
pub(super) const OF_ANOTHER: &str = "is not sent for";

/// The port of PostgreSQL.
pub const PORT: u16 = 5432;

/// What a playbook says in `postgres(#{ ... })`. Ports and times are texts, as everywhere else they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explicit {
    /// A connection URL, whose parts count as options; options beside it win.
    pub url: Option<Secret>,
    /// A service of `pg_service.conf`, whose parts count as options; options beside it win.
    pub service: Option<String>,
    /// Host name, address or socket folder.
    pub host: Option<String>,
    /// Port.
    pub port: Option<String>,
    /// Database name.
    pub database: Option<String>,
    /// Role name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// One of [`SslMode`]'s names.
    pub sslmode: Option<String>,
    /// A file of certificates, or `system`.
    pub sslrootcert: Option<String>,
    /// Seconds; 0 for no limit.
    pub connect_timeout: Option<String>,
    /// Options of the server session, as in `PGOPTIONS`.
    pub options: Option<String>,
}

/// Whom to trust to vouch for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificates {
    /// The certificates in this file.
    File(PathBuf),
    /// Those the system trusts.
    System,
}

/// A database, and how to log in to it. It prints as `shop at db1:5432 as app`, never with the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Host name, address, or the folder of a Unix socket.
    pub host: String,
    /// Address to connect to in place of looking up `host`.
    pub hostaddr: Option<IpAddr>,
    /// Port; part of the socket's name too.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// Role name.
    pub user: String,
    /// Password, if one was found; there is no default.
    pub password: Option<Secret>,
    /// Encryption.
    pub sslmode: SslMode,
    /// Roots of trust, if a file is there or was named.
    pub sslrootcert: Option<RootCertificates>,
    /// libpq's `channel_binding`: `disable`, `prefer` or `require`.
    pub channel_binding: Option<String>,
    /// Time limit of making a connection; `None` for no limit.
    pub connect_timeout: Option<Duration>,
    /// Options of the server session, as in `PGOPTIONS`.
    pub options: Option<String>,
    /// Each part and where it came from: `("host", "from DB_HOST")`, `("port", "by default")`.
    pub origin: Vec<(&'static str, String)>,
    /// What was found and is not used, and why.
    pub notes: Vec<String>,
    /// In a drill, the server that these settings name and never reach: a scratch server stands in for it.
    pub stands_for: Option<Box<StandsFor>>,
}

/// The server that a drill's scratch server stands in for. People, plans, locks and the policy see this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandsFor {
    /// Host name, address, or the folder of a Unix socket.
    pub host: String,
    /// Its address, if it was named.
    pub hostaddr: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Version of the scratch server.
    pub version: String,
}

impl Settings {
    /// Host and address as the playbook and the environment name them.
    fn named(&self) -> (&str, Option<IpAddr>, u16) {
        match &self.stands_for {
            Some(real) => (&real.host, real.hostaddr, real.port),
            None => (&self.host, self.hostaddr, self.port),
        }
    }

    /// The host as the playbook and the environment name it.
    pub fn named_host(&self) -> &str {
        self.named().0
    }

    /// The port as the playbook and the environment name it.
    pub fn named_port(&self) -> u16 {
        self.named().2
    }

    /// What the policy must allow before anybody connects: the host, unless the server is reached by a Unix socket.
    pub fn needs(&self) -> Vec<Need> {
        let (host, address, _) = self.named();
        let host = (!host.starts_with('/')).then(|| host.to_owned());
        let address = address.map(|address| address.to_string());
        host.into_iter().chain(address).map(Need::Host).collect()
    }
}

/// Resolves settings without connecting: options, then the environment, then defaults.
///
/// # Errors
/// `Usage` if two sources name different targets, if none names a database, or if a value is no port, mode or URL.
pub fn resolve(explicit: &Explicit, env: &Env, home: Option<&Path>) -> Result<Settings, Failure> {
    resolve_on(&Machine::here(home, env), explicit, env)
}

/// [`reach`] for a playbook: an event tells the target and where each part came from.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_for(host: &Arc<Host>, explicit: &Explicit) -> Result<Settings, Failure> {
    let settings = reach(host, explicit)?;
    host.emit(What::Resolved {
        what: "postgres".to_owned(),
        value: settings.to_string(),
        from: settings.lines(),
    });
    Ok(settings)
}

/// [`resolve`] for a run: the masker learns the password, and in a drill a scratch server stands in for the real one.
///
/// # Errors
/// As [`resolve`].
pub fn reach(host: &Arc<Host>, explicit: &Explicit) -> Result<Settings, Failure> {
    let home = host.env().value("HOME").map(PathBuf::from);
    let home = host.sandbox().map_or(home, |sandbox| sandbox.real_home().map(Path::to_path_buf));
    let mut settings = resolve(explicit, &host.env(), home.as_deref())?;
    settings.tell(host.masker());
    if let Some(sandbox) = host.sandbox() {
        settings = sandbox.stand_in(host, &settings)?;
    }
    Ok(settings)
}

fn resolve_on(machine: &Machine, explicit: &Explicit, env: &Env) -> Result<Settings, Failure> {
    let mut notes = Vec::new();
    let options = sources::explicit(explicit, env, machine, &mut notes)?;
    let sources = sources::of_environment(env, machine, &mut notes)?;
    agree(&options, &sources, machine)?;

    let all = || std::iter::once(&options).chain(sources.iter().map(|source| &source.parts));
    let find = |part: &str| all().find_map(|parts| parts.get(part));
    let Some(database) = find("database") else { return Err(no_database()) };
    let port = find("port").map(port_of).transpose()?;
    let mut origin = Vec::new();
    let mut told = |part: &'static str, found: Option<&Found>, default: &str| {
        let from = found.map_or_else(|| default.to_owned(), |found| format!("from {}", found.from));
        origin.push((part, from));
    };
    let host = match find("host") {
        Some(found) => found.value.clone(),
        None => machine.default_host(port.unwrap_or(PORT)),
    };
    if host.contains(',') {
        return Err(Failure::new(Code::Usage, format!("several hosts are named: `{host}`"))
            .hint("Name the one host whose database is meant."));
    }
    told("host", find("host"), "by default");
    told("port", find("port"), "by default");
    told("database", Some(database), "");
    told("user", find("user"), "the operating system's user");
    let user = match find("user") {
        Some(found) => found.value.clone(),
        None => machine.user.clone().ok_or_else(|| {
            Failure::new(Code::Usage, "no database user is named, and the system's user has no name")
                .hint("Set DB_USER or PGUSER, or name the user in DATABASE_URL.")
        })?,
    };
    let mut settings = Settings {
        host,
        // An address belongs to its name: that of another source may be another server.
        hostaddr: all()
            .find(|parts| parts.contains_key("host"))
            .and_then(|parts| parts.get("hostaddr"))
            .map(address_of)
            .transpose()?,
        port: port.unwrap_or(PORT),
        database: database.value.clone(),
        user,
        password: None,
        sslmode: find("sslmode").map_or(Ok(SslMode::Prefer), sslmode_of)?,
        sslrootcert: find("sslrootcert")
            .map(|found| root_of(found, machine))
            .or_else(|| machine.root_certificate()),
        channel_binding: find("channel_binding").map(channel_binding_of).transpose()?,
        connect_timeout: find("connect_timeout").map_or(Ok(Some(CONNECT_TIMEOUT)), timeout_of)?,
        options: find("options").map(|found| found.value.clone()),
        origin: Vec::new(),
        notes: Vec::new(),
        stands_for: None,
    };
    if settings.sslrootcert == Some(RootCertificates::System) {
        settings.sslmode = trust_of_system(find("sslmode"), settings.sslmode)?;
    }

    // A password belongs to its user: that of another user is not sent.
    let fits = |parts: &&Parts| parts.get("user").is_none_or(|found| found.value == settings.user);
    let theirs =
        all().filter(|parts| !fits(parts)).find_map(|parts| parts.get("password").zip(parts.get("user")));
    if let Some(found) = all().filter(fits).find_map(|parts| parts.get("password")) {
        told("password", Some(found), "");
        settings.password = Some(Secret::new(found.value.as_str()));
    } else {
        let file =
            find("passfile").map(|found| PathBuf::from(&found.value)).or_else(|| machine.password_file());
        let found =
            file.map(|file| password_file::look_up(&file, &settings, &mut notes)).transpose()?.flatten();
        if let Some((password, from)) = found {
            told("password", Some(&Found { value: String::new(), from }), "");
            settings.password = Some(password);
        }
    }
    if let Some((password, user)) = theirs.filter(|_| settings.password.is_none()) {
        notes.push(format!(
            "the password from {} is that of `{}` ({}), and {} `{}`",
            password.from, user.value, user.from, OF_ANOTHER, settings.user
        ));
    }
    if let Some(found) = find("sslmode") {
        told("sslmode", Some(found), "");
    }
    settings.origin = origin;
    settings.notes = notes;
    Ok(settings)
}

/// Refuses two sources of the environment that name different targets, as far as no option settles it.
fn agree(options: &Parts, sources: &[Source], machine: &Machine) -> Result<(), Failure> {
    let naming: Vec<&Source> = sources.iter().filter(|source| source.names_a_target()).collect();
    for (index, one) in naming.iter().enumerate() {
        for other in &naming[index + 1..] {
            let mut differences = Vec::new();
            for part in ["host", "port", "database"] {
                if options.contains_key(part) {
                    continue;
                }
                let (Some(mine), Some(theirs)) = (one.target(part, machine)?, other.target(part, machine)?)
                else {
                    continue;
                };
                let same =
                    mine.value == theirs.value || (part == "host" && same_host(&mine.value, &theirs.value));
                if !same {
                    differences.push(format!(
                        "the {part} is `{}` {}, but `{}` {}",
                        mine.value, mine.from, theirs.value, theirs.from
                    ));
                }
            }
            if !differences.is_empty() {
                let failure = Failure::new(
                    Code::Usage,
                    format!("{} and {} name different databases", one.name, other.name),
                );
                return Err(differences.into_iter().fold(failure, Failure::caused_by).hint(
                    "Unset the one that is not meant, or say in the playbook which one is: \
                     `postgres(#{ host: \"db1\", port: 5432, database: \"shop\" })`.",
                ));
            }
        }
    }
    Ok(())
}

/// Whether two spellings are one host: letter case and the names of this machine's loopback do not matter.
fn same_host(one: &str, other: &str) -> bool {
    let plain = |host: &str| {
        let host = host.to_ascii_lowercase();
        if matches!(host.as_str(), "127.0.0.1" | "::1") { "localhost".to_owned() } else { host }
    };
    plain(one) == plain(other)
}

fn no_database() -> Failure {
    Failure::new(Code::Usage, "no database is named")
        .caused_by("neither the playbook nor DB_NAME, DATABASE_URL, PGDATABASE or PGSERVICE says which one is meant")
        .hint(
            "Set DB_NAME (with DB_HOST, DB_PORT, DB_USER and DB_PASSWORD as needed), or DATABASE_URL, or PGDATABASE \
             (with PGHOST, PGPORT, PGUSER and PGPASSWORD), in the environment or in the project's `.env`.",
        )
        .hint("Or name it in the playbook: `postgres(#{ database: \"shop\" })`.")
}

fn malformed(found: &Found, what: &str) -> Failure {
    Failure::new(Code::Usage, format!("`{}` from {} is not {what}", found.value, found.from))
}

pub(super) fn port_of(found: &Found) -> Result<u16, Failure> {
    found
        .value
        .trim()
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| malformed(found, "a port").hint("A port is a number from 1 to 65535."))
}

fn address_of(found: &Found) -> Result<IpAddr, Failure> {
    found.value.parse().map_err(|_| malformed(found, "an IP address"))
}

fn sslmode_of(found: &Found) -> Result<SslMode, Failure> {
    let names = SslMode::ALL.map(SslMode::name);
    SslMode::ALL.into_iter().find(|mode| mode.name() == found.value).ok_or_else(|| {
        let failure = malformed(found, "an sslmode").hint(format!("The modes are {}.", names.join(", ")));
        match did_you_mean(&found.value, names) {
            Some(name) => failure.hint(format!("Did you mean `{name}`?")),
            None => failure,
        }
    })
}

fn channel_binding_of(found: &Found) -> Result<String, Failure> {
    match found.value.as_str() {
        "disable" | "prefer" | "require" => Ok(found.value.clone()),
        _ => Err(malformed(found, "a channel_binding").hint("It is one of disable, prefer, require.")),
    }
}

fn timeout_of(found: &Found) -> Result<Option<Duration>, Failure> {
    let seconds: i64 = found.value.trim().parse().map_err(|_| {
        malformed(found, "a number of seconds").hint("Give whole seconds; 0 waits without a limit.")
    })?;
    Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs))
}

fn root_of(found: &Found, machine: &Machine) -> RootCertificates {
    match found.value.as_str() {
        "system" => RootCertificates::System,
        path => RootCertificates::File(machine.expand(path)),
    }
}

/// With the system's roots anyone may have a certificate, so that only its name tells the server, as libpq says too.
fn trust_of_system(found: Option<&Found>, mode: SslMode) -> Result<SslMode, Failure> {
    match found {
        Some(found) if mode != SslMode::VerifyFull => Err(Failure::new(
            Code::Usage,
            format!("sslmode `{}` from {} is too weak for sslrootcert `system`", found.value, found.from),
        )
        .hint("Set sslmode to verify-full, or leave it out.")),
        _ => Ok(SslMode::VerifyFull),
    }
}

impl Settings {
    /// What locks, overlay and plans call this database.
    pub fn target(&self) -> Target {
        Target::Database(format!("{}/{}", self.server(), self.database))
    }

    /// The server, as `db1:5432`.
    pub fn server(&self) -> String {
        let (host, _, port) = self.named();
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether the server is reached through a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The same server and user, but another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        Self { database: name.to_owned(), ..self.clone() }
    }

    /// Where each part came from and what is not used, for people: `host from DB_HOST`, `port by default`.
    pub fn lines(&self) -> Vec<String> {
        let parts = self.origin.iter().map(|(part, from)| format!("{part} {from}"));
        parts.chain(self.notes.iter().cloned()).collect()
    }

    /// Where a part came from, as `from DB_HOST`.
    pub fn origin_of(&self, part: &str) -> Option<&str> {
        self.origin.iter().find(|(name, _)| *name == part).map(|(_, from)| from.as_str())
    }

    /// Makes the password known to a masker. One that is the user's or the database's name, as in many a development
    /// set-up, guards nothing: masking it would only blot out those names everywhere.
    pub fn tell(&self, masker: &Masker) {
        masker.exempt(&self.user);
        masker.exempt(&self.database);
        if let Some(password) = &self.password {
            masker.add(password);
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} as {}", self.database, self.server(), self.user)?;
        match &self.stands_for {
            Some(real) => write!(f, " (rehearsed on a scratch PostgreSQL {})", real.version),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
