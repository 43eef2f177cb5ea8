//! Where a database is, as a record may hold it: the password is no part of it, and is looked for again.

use crate::base::failure::Failure;
use crate::sys::host::Host;
use crate::sys::postgres::settings::{Explicit, Settings, reach};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Where a database is, and as whom it was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Host name, address or the folder of the socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
}

impl Address {
    /// That of settings.
    pub fn of(settings: &Settings) -> Self {
        Self {
            host: settings.named_host().to_owned(),
            port: settings.named_port(),
            user: settings.user.clone(),
            database: settings.database.clone(),
        }
    }

    /// How to reach it from here, now: password and encryption come from the environment and the files of this machine.
    ///
    /// # Errors
    /// As [`resolve`](crate::sys::postgres::settings::resolve).
    pub fn settings(&self, host: &Arc<Host>) -> Result<Settings, Failure> {
        let explicit = Explicit {
            host: Some(self.host.clone()),
            port: Some(self.port.to_string()),
            database: Some(self.database.clone()),
            user: Some(self.user.clone()),
            ..Explicit::default()
        };
        reach(host, &explicit)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{} as {}", self.database, self.host, self.port, self.user)
    }
}
