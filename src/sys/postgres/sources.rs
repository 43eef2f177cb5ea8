//! The sources that name a database: options, `DB_*`, `DATABASE_URL`, `PG*` with the service file.

use crate::base::failure::Failure;
use crate::sys::env::Env;
use crate::sys::postgres::connection_url;
use crate::sys::postgres::machine::Machine;
use crate::sys::postgres::service_file;
use crate::sys::postgres::settings::{Explicit, PORT, port_of};
use std::collections::BTreeMap;

/// A value and where it came from. It has no `Debug`, since it may be a password.
#[derive(Clone)]
pub(super) struct Found {
    pub value: String,
    /// For example `DB_HOST`, `PGPORT in .env` or `the option \`host\``.
    pub from: String,
}

/// What a source says, by the name of the part.
pub(super) type Parts = BTreeMap<&'static str, Found>;

/// The parts that settings know, by the names that libpq gives them, and by ours.
pub(super) const KEYWORDS: [(&str, &str); 12] = [
    ("host", "host"),
    ("hostaddr", "hostaddr"),
    ("port", "port"),
    ("dbname", "database"),
    ("user", "user"),
    ("password", "password"),
    ("passfile", "passfile"),
    ("sslmode", "sslmode"),
    ("sslrootcert", "sslrootcert"),
    ("channel_binding", "channel_binding"),
    ("connect_timeout", "connect_timeout"),
    ("options", "options"),
];

/// The name of the part that libpq's `keyword` sets; `None` if settings do not know it.
pub(super) fn part_of(keyword: &str) -> Option<&'static str> {
    KEYWORDS.iter().find(|(name, _)| *name == keyword).map(|(_, part)| *part)
}

/// One source of the environment.
pub(super) struct Source {
    /// As messages name it.
    pub name: &'static str,
    pub parts: Parts,
}

impl Source {
    /// Whether it says anything about which database is meant, rather than only how to log in.
    pub fn names_a_target(&self) -> bool {
        ["host", "port", "database"].iter().any(|part| self.parts.contains_key(part))
    }

    /// What it names, with defaults for host and port; `from` becomes a phrase.
    pub fn target(&self, part: &str, machine: &Machine) -> Result<Option<Found>, Failure> {
        let port = self.parts.get("port").map_or(Ok(PORT), port_of)?;
        let default = match part {
            "host" => Some(machine.default_host(port)),
            "port" => Some(PORT.to_string()),
            _ => None,
        };
        let said = self.parts.get(part).map(|found| Found {
            value: if part == "port" { port.to_string() } else { found.value.clone() },
            from: format!("from {}", found.from),
        });
        let silent = |value| Found { value, from: format!("by default (not in {})", self.name) };
        Ok(said.or_else(|| default.map(silent)))
    }
}

/// What options say; a URL or service among them counts as options, below those beside it.
pub(super) fn explicit(
    options: &Explicit,
    env: &Env,
    machine: &Machine,
    notes: &mut Vec<String>,
) -> Result<Parts, Failure> {
    let mut parts = Parts::new();
    let single = [
        ("host", options.host.as_deref()),
        ("port", options.port.as_deref()),
        ("database", options.database.as_deref()),
        ("user", options.user.as_deref()),
        ("password", options.password.as_ref().map(|password| password.expose())),
        ("sslmode", options.sslmode.as_deref()),
        ("sslrootcert", options.sslrootcert.as_deref()),
        ("connect_timeout", options.connect_timeout.as_deref()),
        ("options", options.options.as_deref()),
    ];
    for (part, value) in single {
        if let Some(value) = value {
            parts.insert(part, Found { value: value.to_owned(), from: format!("the option `{part}`") });
        }
    }
    if let Some(url) = &options.url {
        add(&mut parts, connection_url::parse(url.expose(), "the option `url`", notes)?);
        // A URL that names a host means that host's usual port, whatever the environment says of another server.
        if let (Some(host), None) = (parts.get("host"), parts.get("port")) {
            let from = format!("{}, by default", host.from);
            parts.insert("port", Found { value: PORT.to_string(), from });
        }
    }
    if let Some(service) = &options.service {
        add(&mut parts, service_file::look_up(service, env, machine, notes)?);
    }
    Ok(parts)
}

/// What the environment says, in the order in which passwords and the like are taken.
pub(super) fn of_environment(
    env: &Env,
    machine: &Machine,
    notes: &mut Vec<String>,
) -> Result<Vec<Source>, Failure> {
    let variables = |names: &[(&'static str, &str)]| {
        let found = names.iter().filter_map(|(part, name)| {
            let (value, origin) = env.get(name)?;
            Some((*part, Found { value: value.to_owned(), from: origin.describe(name) }))
        });
        found.collect::<Parts>()
    };
    let guide = variables(&[
        ("host", "DB_HOST"),
        ("port", "DB_PORT"),
        ("database", "DB_NAME"),
        ("user", "DB_USER"),
        ("password", "DB_PASSWORD"),
    ]);
    let url = match env.get("DATABASE_URL") {
        Some((value, origin)) => connection_url::parse(value, &origin.describe("DATABASE_URL"), notes)?,
        None => Parts::new(),
    };
    // As in libpq, a service overrides the variables beside it.
    let mut libpq = match env.value("PGSERVICE") {
        Some(service) => service_file::look_up(service, env, machine, notes)?,
        None => Parts::new(),
    };
    add(
        &mut libpq,
        variables(&[
            ("host", "PGHOST"),
            ("hostaddr", "PGHOSTADDR"),
            ("port", "PGPORT"),
            ("database", "PGDATABASE"),
            ("user", "PGUSER"),
            ("password", "PGPASSWORD"),
            ("passfile", "PGPASSFILE"),
            ("sslmode", "PGSSLMODE"),
            ("sslrootcert", "PGSSLROOTCERT"),
            ("channel_binding", "PGCHANNELBINDING"),
            ("connect_timeout", "PGCONNECT_TIMEOUT"),
            ("options", "PGOPTIONS"),
        ]),
    );
    let sources = [("the DB_* variables", guide), ("DATABASE_URL", url), ("the PG* variables", libpq)];
    let present = sources.into_iter().filter(|(_, parts)| !parts.is_empty());
    Ok(present.map(|(name, parts)| Source { name, parts: with_host(parts) }).collect())
}

/// Adds what is not yet said.
fn add(parts: &mut Parts, more: Parts) {
    for (part, found) in more {
        parts.entry(part).or_insert(found);
    }
}

/// An address without a name is the host.
fn with_host(mut parts: Parts) -> Parts {
    if let (false, Some(address)) = (parts.contains_key("host"), parts.get("hostaddr").cloned()) {
        parts.insert("host", address);
    }
    parts
}
