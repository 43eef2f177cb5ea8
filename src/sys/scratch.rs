//! A throw-away PostgreSQL server for demos, drills and tests: made in about a second, tuned for speed instead of
//! safety, reachable by this user only, and gone with its owner even if that is killed.
//!
//! `postgres` is started directly, because `pg_ctl` would detach it from its owner. It refuses to run as root, so root
//! lends it another user.

mod folder;
mod keeper;
mod making;
mod user;

use crate::base::cancel::Cancel;
use crate::base::failure::{Code, Failure};
use crate::base::secret::Secret;
use crate::sys::postgres::binaries::ServerPrograms;
use crate::sys::postgres::settings::{Explicit, Settings, resolve};
use crate::sys::postgres::version::Version;
use folder::{Folder, remove_ownerless};
use keeper::{Keeper, Kept};
use making::{Making, data_of, log_of, not_started, tail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use user::server_user;

/// A socket's path must fit into the kernel's structure, with its final zero; this is the smallest one in use.
const LONGEST_SOCKET: usize = 103;

/// How a scratch cluster is made.
#[derive(Clone, Debug)]
pub struct ScratchOptions {
    /// The programs to run.
    pub programs: ServerPrograms,
    /// The superuser's name: `postgres`.
    pub superuser: String,
    /// The superuser's password, asked for on every connection (SCRAM). Without one the socket trusts everybody who
    /// can reach it, which is its owner and root.
    pub password: Option<Secret>,
    /// Also listen on a free port of 127.0.0.1; needs a password.
    pub tcp: bool,
    /// Where the cluster's folder is made: `/tmp`. The path must be short, for the sake of the socket's.
    pub parent: PathBuf,
    /// More settings, as `("wal_level", "replica")`; they win over those chosen here.
    pub settings: Vec<(String, String)>,
    /// How long making and starting may take, each: a minute.
    pub ready_within: Duration,
    /// Asks the start to end early.
    pub cancel: Cancel,
}

impl ScratchOptions {
    /// The usual cluster of these programs: superuser `postgres` without password, reachable by socket only.
    pub fn new(programs: ServerPrograms) -> Self {
        Self {
            programs,
            superuser: "postgres".to_owned(),
            password: None,
            tcp: false,
            parent: PathBuf::from("/tmp"),
            settings: Vec::new(),
            ready_within: Duration::from_secs(60),
            cancel: Cancel::new(),
        }
    }
}

/// A running throw-away server. Dropping it ends the server and removes its folder.
#[derive(Debug)]
pub struct ScratchCluster {
    // The order matters: the server ends before its keeper, and both before the folder goes.
    server: Kept,
    _keeper: Keeper,
    folder: Folder,
    port: u16,
    tcp: bool,
    superuser: String,
    password: Option<Secret>,
    version: Version,
}

impl ScratchCluster {
    /// One of the server's databases.
    pub fn target(&self, database: &str) -> ScratchTarget {
        ScratchTarget {
            socket: self.socket_dir().to_path_buf(),
            port: self.port(),
            user: self.superuser().to_owned(),
            database: database.to_owned(),
            version: self.version().to_string(),
        }
    }

    /// Makes a cluster and starts its server, which accepts connections when this returns. What killed owners left
    /// behind in the same folder is removed first.
    ///
    /// # Errors
    /// `ProcessFailed` with the end of the log if a program fails, `TimedOut` if it takes too long, `Io` for the
    /// folder, `Usage` for options that do not fit together, and the reason of a cancellation.
    pub fn start(options: &ScratchOptions) -> Result<Self, Failure> {
        if options.tcp && options.password.is_none() {
            return Err(Failure::new(Code::Usage, "a scratch cluster that listens on TCP needs a password")
                .hint("Give the scratch cluster a password, or reach it by its socket only."));
        }
        let user = server_user()?;
        remove_ownerless(&options.parent, user);
        let folder = Folder::make(&options.parent, user)?;
        let socket = folder.path().join(".s.PGSQL.65535");
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(Failure::new(
                Code::Usage,
                format!("the path of `{}` is too long for a socket", options.parent.display()),
            )
            .hint(format!(
                "Choose a folder for the scratch cluster whose path has at most {} bytes.",
                options.parent.as_os_str().len() + LONGEST_SOCKET - socket.as_os_str().len()
            )));
        }
        let keeper = Keeper::begin().map_err(|error| not_started(&options.programs.postgres, &error))?;
        let making = Making { options, user, folder: &folder, keeper: &keeper };
        making.initdb()?;
        let (server, port) = making.server()?;
        Ok(Self {
            server,
            _keeper: keeper,
            folder,
            port,
            tcp: options.tcp,
            superuser: options.superuser.clone(),
            password: options.password.clone(),
            version: options.programs.version,
        })
    }

    /// The folder of the server's socket, which clients take as host.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The address to reach it by TCP, if it listens there.
    pub fn tcp_host(&self) -> Option<&'static str> {
        self.tcp.then_some("127.0.0.1")
    }

    /// The port, which is a part of the socket's name too.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        &self.superuser
    }

    /// The superuser's password.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// The server's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The server's data folder.
    pub fn data_dir(&self) -> PathBuf {
        data_of(&self.folder)
    }

    /// The process id of the server.
    pub fn server_pid(&self) -> u32 {
        self.server.id()
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        tail(&log_of(&self.folder))
    }

    /// The variables with which PostgreSQL's programs reach `database` as superuser through the socket. The password
    /// is among them, so that it never stands in an argv.
    pub fn client_env(&self, database: &str) -> Vec<(&'static str, String)> {
        let mut env = vec![
            ("PGHOST", self.socket_dir().display().to_string()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.superuser.clone()),
            ("PGDATABASE", database.to_owned()),
        ];
        env.extend(self.password.iter().map(|password| ("PGPASSWORD", password.expose().to_owned())));
        env
    }
}
/// A database on a scratch server. It needs no password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchTarget {
    /// Folder of the server's socket.
    pub socket: PathBuf,
    /// Port, which names the socket.
    pub port: u16,
    /// Superuser.
    pub user: String,
    /// The database.
    pub database: String,
    /// Version of the server.
    pub version: String,
}

impl ScratchTarget {
    /// How to reach it.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let explicit = Explicit {
            host: Some(self.socket.display().to_string()),
            port: Some(self.port.to_string()),
            database: Some(self.database.clone()),
            user: Some(self.user.clone()),
            ..Explicit::default()
        };
        resolve(&explicit, &crate::sys::env::Env::default(), None)
    }
}
