//! Making a scratch cluster: its data folder with `initdb`, then its server.

use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::postgres::binaries::BINDIR;
use crate::sys::scratch::ScratchOptions;
use crate::sys::scratch::folder::Folder;
use crate::sys::scratch::keeper::{Keeper, Kept};
use crate::sys::scratch::user::User;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How many lines of a log are shown in a failure.
const TAIL_LINES: usize = 15;

/// The port in the socket's name when there is no TCP.
const DEFAULT_PORT: u16 = 5432;

/// How often a new port is tried when another process took the free one first.
const PORT_TRIES: u32 = 3;

/// Trades safety for speed; the data need not survive anything.
const THROW_AWAY: [&str; 12] = [
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "shared_buffers=64MB",
    "max_connections=100",
    "autovacuum_naptime=1h",
    "jit=off",
    "logging_collector=off",
    "log_destination=stderr",
    "log_line_prefix=",
];

/// What making a cluster works with.
pub(super) struct Making<'a> {
    pub options: &'a ScratchOptions,
    pub user: Option<User>,
    pub folder: &'a Folder,
    pub keeper: &'a Keeper,
}

impl Making<'_> {
    /// Makes the data folder, in the locale C.UTF-8, or C where the system does not know that one.
    pub fn initdb(&self) -> Result<(), Failure> {
        let password_file = match &self.options.password {
            None => None,
            Some(password) => {
                self.folder.file("password", self.user, password.expose().as_bytes())?;
                Some(self.folder.path().join("password"))
            }
        };
        let mut made = self.initdb_with("C.UTF-8", password_file.as_deref());
        if made.as_ref().is_err_and(|failure| failure.to_string().contains("invalid locale")) {
            made = self.initdb_with("C", password_file.as_deref());
        }
        if let Some(path) = password_file {
            std::fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, &error))?;
        }
        made
    }

    fn initdb_with(&self, locale: &str, password_file: Option<&Path>) -> Result<(), Failure> {
        let initdb = &self.options.programs.initdb;
        let log_name = format!("initdb-{locale}.log");
        let log = self.folder.file(&log_name, self.user, b"")?;
        let mut command = self.command(initdb, log)?;
        command
            .arg("-D")
            .arg(data_of(self.folder))
            .arg(format!("--username={}", self.options.superuser))
            .args(["--encoding=UTF8", &format!("--locale={locale}"), "--no-sync", "--no-instructions"]);
        match password_file {
            Some(path) => {
                command.args(["--auth-local=scram-sha-256", "--auth-host=scram-sha-256"]);
                command.arg("--pwfile").arg(path);
            }
            None => {
                command.args(["--auth-local=trust", "--auth-host=reject"]);
            }
        }
        let log = self.folder.path().join(log_name);
        let mut process = self.begin(command, initdb)?;
        let status = self.wait("initdb", &log, || process.ended())?;
        if status.success() { Ok(()) } else { Err(ended("initdb", status, &log)) }
    }

    /// Starts the server and waits until it accepts connections.
    pub fn server(&self) -> Result<(Kept, u16), Failure> {
        let mut tries = 1;
        loop {
            let port = if self.options.tcp { free_port()? } else { DEFAULT_PORT };
            match self.server_on(port) {
                Err(failure) if tries < PORT_TRIES && port_was_taken(&failure) => tries += 1,
                other => return other.map(|server| (server, port)),
            }
        }
    }

    fn server_on(&self, port: u16) -> Result<Kept, Failure> {
        let postgres = &self.options.programs.postgres;
        let log_path = log_of(self.folder);
        let _ = std::fs::remove_file(&log_path);
        let log = self.folder.file("server.log", self.user, b"")?;
        let mut command = self.command(postgres, log)?;
        let listen = if self.options.tcp { "127.0.0.1" } else { "" };
        command.arg("-D").arg(data_of(self.folder));
        for setting in THROW_AWAY {
            command.args(["-c", setting]);
        }
        command
            .args(["-c", &format!("listen_addresses={listen}"), "-c", &format!("port={port}")])
            .args(["-c", &format!("unix_socket_directories={}", self.folder.path().display())])
            .args(["-c", "unix_socket_permissions=0700", "-c", "timezone=UTC", "-c", "log_timezone=UTC"]);
        for (name, value) in &self.options.settings {
            command.args(["-c", &format!("{name}={value}")]);
        }
        let mut server = self.begin(command, postgres)?;
        let data = data_of(self.folder);
        let ready_or_ended = || match server.ended()? {
            Some(status) => Ok(Some(Some(status))),
            None => Ok(is_ready(&data).then_some(None)),
        };
        match self.wait("postgres", &log_path, ready_or_ended)? {
            None => Ok(server),
            Some(status) => Err(ended("postgres", status, &log_path)),
        }
    }

    /// A command with an environment of its own, in the cluster's folder, that writes to `log`.
    fn command(&self, program: &Path, log: File) -> Result<Command, Failure> {
        let errors = log.try_clone().map_err(|error| not_started(program, &error))?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        Ok(command)
    }

    fn begin(&self, command: Command, program: &Path) -> Result<Kept, Failure> {
        self.options.cancel.check()?;
        self.keeper.start(command, self.user).map_err(|error| {
            let failure = not_started(program, &error);
            match error.kind() {
                std::io::ErrorKind::PermissionDenied if self.user.is_some() => failure.hint(format!(
                    "Root lends the server an unprivileged user: let all users enter `{}` and run the programs in \
                     `{}`, or name others by {BINDIR}.",
                    self.options.parent.display(),
                    program.parent().unwrap_or(program).display()
                )),
                _ => failure,
            }
        })
    }

    /// Asks `answer` until it gives one, the time is up, or the run is cancelled.
    fn wait<T>(
        &self,
        what: &str,
        log: &Path,
        mut answer: impl FnMut() -> std::io::Result<Option<T>>,
    ) -> Result<T, Failure> {
        let begin = Instant::now();
        loop {
            let asked = answer();
            if let Some(answer) = asked.map_err(|error| not_started(Path::new(what), &error))? {
                return Ok(answer);
            }
            self.options.cancel.check()?;
            if begin.elapsed() >= self.options.ready_within {
                let limit = units::duration(self.options.ready_within);
                return Err(with_tail(
                    Failure::new(Code::TimedOut, format!("`{what}` was not ready within {limit}")),
                    log,
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where the server keeps its data.
pub(super) fn data_of(folder: &Folder) -> PathBuf {
    folder.path().join("data")
}

/// Where the server's log is.
pub(super) fn log_of(folder: &Folder) -> PathBuf {
    folder.path().join("server.log")
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The failure of a program that could not be started or waited for.
pub(super) fn not_started(program: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::ProcessFailed, format!("cannot run `{}`", program.display())).caused_by(error)
}

fn ended(program: &str, status: ExitStatus, log: &Path) -> Failure {
    with_tail(
        Failure::new(Code::ProcessFailed, format!("`{program}` of a scratch cluster failed: {status}")),
        log,
    )
}

fn with_tail(failure: Failure, log: &Path) -> Failure {
    match tail(log) {
        empty if empty.is_empty() => failure.caused_by("its log is empty"),
        lines => failure.caused_by(format!("its log ends with\n{lines}")),
    }
}

/// A port of 127.0.0.1 that nobody listens on at this moment.
fn free_port() -> Result<u16, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new(Code::Io, "cannot find a free port on 127.0.0.1").caused_by(error))
}

fn port_was_taken(failure: &Failure) -> bool {
    failure.causes.iter().any(|cause| cause.contains("could not create any TCP/IP sockets"))
}

/// Whether the server accepts connections: it says so in the eighth line of its lock file.
fn is_ready(data: &Path) -> bool {
    std::fs::read_to_string(data.join("postmaster.pid"))
        .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
}
