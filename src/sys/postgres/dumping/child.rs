//! A `pg_dump` that works under the snapshot of a leader.

use super::Request;
use super::leader::Leader;
use super::trouble::{self, Trouble};
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::Session;
use crate::sys::process::{Child, ChildStdout, Command, Ended};
use std::io::Read as _;
use std::time::Duration;

/// How long `pg_dump` waits for a lock that our own session holds too: somebody else then waits for an exclusive one, and
/// would wait for us.
const LOCK_MILLIS: u32 = 2_000;

/// How long is waited before the next attempt: those who wait for a lock go first.
const PAUSE: Duration = Duration::from_secs(1);

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// A running `pg_dump`, and what it wrote last.
pub(super) struct Dumping {
    child: Child,
    stdout: ChildStdout,
    chunk: Vec<u8>,
    filled: usize,
}

/// What became of a `pg_dump` up to its first bytes, before which it takes all its locks.
enum Begun {
    Writing(Dumping),
    Ended(Ended),
}

impl Dumping {
    /// Starts `pg_dump` for all or one section, under the snapshot of `leader` if there is one.
    pub(super) fn start(
        request: &Request<'_>,
        leader: Option<&Leader>,
        section: Option<&str>,
    ) -> Result<Self, Failure> {
        let wait = match leader {
            Some(_) => u128::from(LOCK_MILLIS),
            None => request.lock_wait.as_millis(),
        };
        let mut command = Command::new(request.pg_dump.0)
            .args(["--format=plain", "--no-password"])
            .arg(format!("--lock-wait-timeout={wait}"))
            .args(request.selection.args())
            .args(section.map(|section| format!("--section={section}")))
            .args(leader.map(|leader| format!("--snapshot={}", leader.snapshot)))
            .unseen();
        for (name, value) in request.settings.child_env(request.pins) {
            command = command.env(name, value);
        }
        let (child, stdout) = command.spawn_streaming(request.host)?;
        Ok(Self { child, stdout, chunk: vec![0; CHUNK], filled: 0 })
    }

    fn first(mut self) -> Result<Begun, Failure> {
        self.fill()?;
        if self.filled > 0 {
            return Ok(Begun::Writing(self));
        }
        drop(self.stdout);
        self.child.wait().map(Begun::Ended)
    }

    /// Waits for the first bytes; fails if there are none.
    pub(super) fn begun(self) -> Result<Self, Failure> {
        match self.first()? {
            Begun::Writing(dumping) => Ok(dumping),
            Begun::Ended(ended) if ended.success() => {
                Err(Failure::new(Code::ProcessFailed, "`pg_dump` wrote nothing"))
            }
            Begun::Ended(ended) => Err(ended.failure()),
        }
    }

    /// What it wrote last; nothing at its end.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.chunk[..self.filled]
    }

    /// Reads on.
    pub(super) fn fill(&mut self) -> Result<(), Failure> {
        loop {
            match self.stdout.read(&mut self.chunk) {
                Ok(n) => self.filled = n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Failure::new(Code::Io, "cannot read what `pg_dump` writes").caused_by(error));
                }
            }
            return Ok(());
        }
    }

    /// Waits for its end, which must be a good one.
    pub(super) fn end(self) -> Result<(), Failure> {
        drop(self.stdout);
        let ended = self.child.wait()?;
        if ended.success() { Ok(()) } else { Err(ended.failure()) }
    }
}

/// One `pg_dump` that writes everything, under locks and a snapshot of ours where the role may take all of them: its own
/// snapshot is older than its locks.
pub struct Stream {
    dumping: Option<Dumping>,
    leader: Option<Leader>,
}

impl Stream {
    /// Starts it, and waits for its first bytes; `scout` is a session in the database.
    ///
    /// # Errors
    /// What `pg_dump` fails with before it writes, and locks that are not free for longer than is waited.
    pub fn start(request: &Request<'_>, scout: &Session) -> Result<Self, Failure> {
        let clock = request.host.clock();
        let deadline = clock.instant() + request.lock_wait;
        loop {
            let limit = deadline.saturating_duration_since(clock.instant());
            let busy = match Leader::take(request, scout, &[], limit) {
                Err(Trouble::Failed(failure)) => return Err(failure),
                Err(Trouble::Busy(failure)) => failure,
                Err(Trouble::Unfit(_)) => return Self::with(request, None),
                Ok(leader) => match Self::with(request, Some(leader)).map_err(Trouble::from) {
                    Ok(stream) => return Ok(stream),
                    Err(Trouble::Busy(failure)) => failure,
                    // It says itself best what it lacks.
                    Err(_) => return Self::with(request, None),
                },
            };
            pause(request, scout, busy, deadline)?;
        }
    }

    fn with(request: &Request<'_>, leader: Option<Leader>) -> Result<Self, Failure> {
        let dumping = match Dumping::start(request, leader.as_ref(), None)?.first()? {
            Begun::Writing(dumping) => Some(dumping),
            Begun::Ended(ended) if ended.success() => None,
            Begun::Ended(ended) => return Err(ended.failure()),
        };
        Ok(Self { dumping, leader })
    }

    /// Whether it goes by a snapshot of its own, in which a table that was truncated before it was locked looks empty.
    pub fn is_unguarded(&self) -> bool {
        self.leader.is_none()
    }

    /// What it wrote last; nothing at its end.
    pub fn bytes(&self) -> &[u8] {
        self.dumping.as_ref().map_or(&[], Dumping::bytes)
    }

    /// Reads on.
    ///
    /// # Errors
    /// What the system says.
    pub fn fill(&mut self) -> Result<(), Failure> {
        self.dumping.as_mut().map_or(Ok(()), Dumping::fill)
    }

    /// Waits for its end, which must be a good one.
    ///
    /// # Errors
    /// How it ended.
    pub fn end(self) -> Result<(), Failure> {
        self.dumping.map_or(Ok(()), Dumping::end)?;
        self.leader.map_or(Ok(()), Leader::end)
    }
}

/// Waits before the next attempt, or fails when there is to be none.
pub(super) fn pause(
    request: &Request<'_>,
    scout: &Session,
    busy: Failure,
    deadline: std::time::Instant,
) -> Result<(), Failure> {
    if request.host.clock().instant() >= deadline {
        return Err(trouble::busy(busy, scout));
    }
    request.host.wait(async { tokio::time::sleep(PAUSE).await })
}
