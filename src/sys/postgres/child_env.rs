//! The variables by which other programs reach a database.

use crate::base::secret::Secret;
use crate::sys::postgres::machine::Machine;
use crate::sys::postgres::settings::{RootCertificates, Settings, SslMode};
use crate::sys::process::Value;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

impl Settings {
    /// The guide's variables for an application that is to work on this database: `DB_HOST` and its kin, and `DATABASE_URL`.
    /// A socket's folder cannot be the host of a URL, so it stands behind its `?`.
    pub fn application_env(&self) -> Vec<(&'static str, Value)> {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let password = self.password.clone().unwrap_or_else(|| Secret::new(""));
        let (user, secret, database) =
            (encoded(&self.user), encoded(password.expose()), encoded(&self.database));
        let login = if secret.is_empty() { user } else { format!("{user}:{secret}") };
        let port = self.port;
        let url = if self.is_socket() {
            format!("postgresql://{login}@/{database}?host={}&port={port}", encoded(&self.host))
        } else {
            format!("postgresql://{login}@{}:{port}/{database}", self.host)
        };
        vec![
            ("DB_HOST", Value::Plain(self.host.clone())),
            ("DB_PORT", Value::Plain(port.to_string())),
            ("DB_NAME", Value::Plain(self.database.clone())),
            ("DB_USER", Value::Plain(self.user.clone())),
            ("DB_PASSWORD", Value::Secret(password)),
            ("DATABASE_URL", Value::Secret(Secret::new(url))),
        ]
    }

    /// The variables with which PostgreSQL's own programs reach the same database as the same user, beside those that
    /// every child gets. `pins` are options of the session that every dump needs, as
    /// `catalog::dump_options` gives them.
    pub fn child_env(&self, pins: &str) -> Vec<(&'static str, Value)> {
        let mut env: Vec<(&'static str, String)> = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGDATABASE", self.database.clone()),
            ("PGUSER", self.user.clone()),
            ("PGSSLMODE", self.sslmode.name().to_owned()),
            ("PGCONNECT_TIMEOUT", self.connect_timeout.map_or(0, |limit| limit.as_secs().max(2)).to_string()),
            ("PGAPPNAME", "lifeboat".to_owned()),
            // The program must not take from a file what was decided here; libpq warns of what is there and no file.
            ("PGPASSFILE", "/dev/null/none".to_owned()),
        ];
        if let Some(address) = self.hostaddr {
            env.push(("PGHOSTADDR", address.to_string()));
        }
        let verifies = matches!(self.sslmode, SslMode::VerifyCa | SslMode::VerifyFull);
        match &self.sslrootcert {
            Some(RootCertificates::File(path)) => env.push(("PGSSLROOTCERT", path.display().to_string())),
            Some(RootCertificates::System) => env.push(("PGSSLROOTCERT", Machine::system_roots())),
            None if verifies => env.push(("PGSSLROOTCERT", Machine::system_roots())),
            None => {}
        }
        if let Some(binding) = &self.channel_binding {
            env.push(("PGCHANNELBINDING", binding.clone()));
        }
        let options = [self.options.as_deref().unwrap_or_default(), pins].join(" ");
        if !options.trim().is_empty() {
            env.push(("PGOPTIONS", options.trim().to_owned()));
        }
        let plain = env.into_iter().map(|(name, value)| (name, Value::Plain(value)));
        plain
            .chain(self.password.iter().map(|password| ("PGPASSWORD", Value::Secret(password.clone()))))
            .collect()
    }
}
