//! One running child: its watcher, its pipes, its end.

use super::capture::{self, Captured};
use super::{Command, Input, cannot_start};
use crate::base::cancel::{Cancel, Reason};
use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::host::Host;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the pipes of an ended child may stay open in the hands of its descendants.
const LINGER: Duration = Duration::from_secs(1);
/// Longest pause between two looks at a child.
const LOOK: Duration = Duration::from_millis(20);
/// Most lines of output that a failure quotes.
const QUOTED: usize = 5;

/// Why a child was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Cancelled(Reason),
    TimedOut,
    Abandoned,
}

/// What watcher, pipes and owner of a child share.
#[derive(Default)]
struct Shared {
    why: AtomicU8,
    abandoned: AtomicBool,
}

impl Shared {
    fn set(&self, why: Why) {
        let value = match why {
            Why::Cancelled(Reason::Interrupted) => 1,
            Why::Cancelled(Reason::Terminated) => 2,
            Why::TimedOut => 3,
            Why::Abandoned => 4,
            Why::Cancelled(Reason::Overdue) => 5,
        };
        self.why.store(value, Ordering::SeqCst);
    }

    fn why(&self) -> Option<Why> {
        match self.why.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Why::Cancelled(Reason::Interrupted)),
            2 => Some(Why::Cancelled(Reason::Terminated)),
            3 => Some(Why::TimedOut),
            5 => Some(Why::Cancelled(Reason::Overdue)),
            _ => Some(Why::Abandoned),
        }
    }
}

/// Lets those who wait for a pipe know that nobody needs it any more: the other end of this one is closed then.
pub(super) struct Wake(OwnedFd);

impl Wake {
    fn pair() -> io::Result<(Self, OwnedFd)> {
        // A standard pipe is closed on exec, so no child keeps it open.
        let (read, write) = io::pipe()?;
        Ok((Self(read.into()), write.into()))
    }

    /// Waits until `fd` can be used; `false` when nobody needs it any more and it has nothing to offer.
    pub(super) fn ready(&self, fd: &impl AsFd, flags: PollFlags) -> io::Result<bool> {
        loop {
            let mut fds = [PollFd::new(fd, flags), PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => return Ok(!fds[0].revents().is_empty()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// A child that has ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The program as it was named.
    pub program: String,
    /// How it ended.
    pub status: Status,
    /// Its standard output, unless that was streamed.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
    /// How long it took.
    pub elapsed: Duration,
}

impl Ended {
    /// Whether it exited with status 0.
    pub fn success(&self) -> bool {
        self.status == Status::Code(0)
    }

    /// Itself, if it exited with status 0.
    ///
    /// # Errors
    /// [`Ended::failure`].
    pub fn checked(self) -> Result<Self, Failure> {
        if self.success() { Ok(self) } else { Err(self.failure()) }
    }

    /// The failure that another status than 0 stands for, with the last lines of output as causes.
    pub fn failure(&self) -> Failure {
        let message = match self.status {
            Status::Code(code) => format!("`{}` exited with status {code}", self.program),
            Status::Signal(signal) => {
                format!("`{}` was ended by {}", self.program, signal_name(signal))
            }
        };
        quoting(Failure::new(Code::ProcessFailed, message), &self.stdout, &self.stderr)
    }
}

/// Adds the last lines of standard error, or else of standard output, as causes.
fn quoting(failure: Failure, stdout: &Captured, stderr: &Captured) -> Failure {
    let lines = |captured: &Captured| -> Vec<String> {
        let lines: Vec<String> = captured
            .text
            .lines()
            .map(|line| capture::plain(line).trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(QUOTED)..].to_vec()
    };
    let said = [stderr, stdout].into_iter().map(lines).find(|lines| !lines.is_empty());
    said.unwrap_or_default().into_iter().fold(failure, |failure, line| failure.caused_by(line))
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

/// A running child. Dropped before its end, it is ended with its whole group.
pub struct Child {
    program: String,
    pid: u32,
    began: Instant,
    timeout: Option<Duration>,
    shared: Arc<Shared>,
    end: Receiver<io::Result<ExitStatus>>,
    readers: Option<(Option<JoinHandle<Captured>>, JoinHandle<Captured>)>,
    /// Dropped when the pipes are read to their end.
    reading: Option<Sender<()>>,
    watcher: Option<JoinHandle<()>>,
}

impl Child {
    /// The process id, which is the id of its session and group too.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Waits for the end. Returns promptly, with nothing of the child's group left, when the run is asked to end.
    ///
    /// # Errors
    /// `Interrupted` or `Terminated`; `TimedOut` when it took longer than it may.
    pub fn wait(mut self) -> Result<Ended, Failure> {
        let status = self
            .end
            .recv()
            .map_err(|_| Failure::new(Code::Internal, format!("`{}` was lost from sight", self.program)))?
            .map_err(|error| {
                Failure::new(Code::ProcessFailed, format!("cannot tell how `{}` ended", self.program))
                    .caused_by(error)
            })?;
        let elapsed = self.began.elapsed();
        let (stdout, stderr) = self.read_to_end();
        match self.shared.why() {
            None | Some(Why::Abandoned) => {}
            Some(Why::Cancelled(reason)) => return Err(Cancel::failure(reason)),
            Some(Why::TimedOut) => {
                return Err(quoting(timed_out(&self.program, self.timeout), &stdout, &stderr));
            }
        }
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => Status::Code(code),
            (None, signal) => Status::Signal(signal.unwrap_or_default()),
        };
        tracing::debug!(program = self.program, pid = self.pid, ?status, ?elapsed, "ended");
        Ok(Ended { program: self.program.clone(), status, stdout, stderr, elapsed })
    }

    fn read_to_end(&mut self) -> (Captured, Captured) {
        let captured = |reader: JoinHandle<Captured>| reader.join().unwrap_or_default();
        let (stdout, stderr) = self.readers.take().map_or_else(Default::default, |(stdout, stderr)| {
            (stdout.map(captured).unwrap_or_default(), captured(stderr))
        });
        self.reading = None;
        (stdout, stderr)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::SeqCst);
        self.reading = None;
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
        self.read_to_end();
    }
}

fn timed_out(program: &str, limit: Option<Duration>) -> Failure {
    let limit = units::duration(limit.unwrap_or_default());
    Failure::new(Code::TimedOut, format!("`{program}` did not end within {limit}"))
}

/// Standard output of a running child as a stream. A child that was ended before its time never looks like one that
/// had nothing more to say: the stream then ends in an error that carries the [`Failure`].
pub struct ChildStdout {
    pipe: std::process::ChildStdout,
    wake: Arc<Wake>,
    shared: Arc<Shared>,
    program: String,
    timeout: Option<Duration>,
}

impl ChildStdout {
    fn check(&self) -> io::Result<()> {
        match self.shared.why() {
            None => Ok(()),
            Some(Why::Cancelled(reason)) => Err(io::Error::other(Cancel::failure(reason))),
            Some(Why::TimedOut) => Err(io::Error::other(timed_out(&self.program, self.timeout))),
            Some(Why::Abandoned) => Err(io::Error::other("nobody waits for this program any more")),
        }
    }
}

impl Read for ChildStdout {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.wake.ready(&self.pipe, PollFlags::IN)?;
        self.check()?;
        let read = if ready { self.pipe.read(buffer)? } else { 0 };
        if read == 0 {
            self.check()?;
        }
        Ok(read)
    }
}

/// Starts a child: a thread of its own starts, watches and reaps it.
pub(super) fn start(
    command: Command,
    host: &Arc<Host>,
    streaming: bool,
) -> Result<(Child, Option<ChildStdout>), Failure> {
    host.cancel().check()?;
    let (mut system, path) = command.prepared(host)?;
    let has_input = command.input != Input::Nothing;
    system.stdin(if has_input { Stdio::piped() } else { Stdio::null() });
    system.stdout(Stdio::piped()).stderr(Stdio::piped());

    let no_pipe = |error: io::Error| {
        Failure::new(Code::ProcessFailed, format!("cannot run `{}`", command.program)).caused_by(error)
    };
    let (wake, waker) = Wake::pair().map_err(no_pipe)?;
    let wake = Arc::new(wake);
    let shared = Arc::new(Shared::default());
    let (started, starting) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    let (reading, read) = mpsc::channel();
    let began = host.clock().instant();
    let watch = Watch {
        cancel: host.cancel().clone(),
        deadline: command.timeout.and_then(|limit| began.checked_add(limit)),
        grace: command.grace,
        shared: shared.clone(),
        read,
        waker,
    };
    let watcher = thread("watch", move || match system.spawn() {
        Err(error) => drop(started.send(Err(error))),
        Ok(mut child) => {
            let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take(), child.id());
            if started.send(Ok(pipes)).is_ok() {
                watch.until_the_end(child, &ended);
            }
        }
    })
    .map_err(no_pipe)?;
    let (stdin, stdout, stderr, pid) = match starting.recv() {
        Ok(Ok((stdin, Some(stdout), Some(stderr), pid))) => (stdin, stdout, stderr, pid),
        Ok(Err(error)) => return Err(cannot_start(&path, &error)),
        _ => return Err(Failure::new(Code::Internal, "a child has no pipes")),
    };
    tracing::debug!(program = %path.display(), args = ?command.args, pid, "spawned");
    let mut child = Child {
        program: command.program.clone(),
        pid,
        began,
        timeout: command.timeout,
        shared: shared.clone(),
        end,
        readers: None,
        reading: Some(reading),
        watcher: Some(watcher),
    };
    if let Some(stdin) = stdin {
        let (input, wake) = (command.input.clone(), wake.clone());
        thread("stdin", move || feed(stdin, &input, &wake)).map_err(no_pipe)?;
    }
    let reader = |stream: &'static str| {
        let (wake, host, program) = (wake.clone(), host.clone(), command.program.clone());
        let (kept, shown) = (command.kept, command.shown);
        move |pipe: Pipe| capture::drain(pipe, &wake, &host, &program, stream, kept, shown)
    };
    let drain = reader("stderr");
    let stderr = thread("stderr", move || drain(Pipe(stderr.into()))).map_err(no_pipe)?;
    if streaming {
        // A larger pipe saves changes of context; the usual size will do where it is not allowed.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, 1 << 20);
        child.readers = Some((None, stderr));
        let (program, timeout) = (command.program, command.timeout);
        return Ok((child, Some(ChildStdout { pipe: stdout, wake, shared, program, timeout })));
    }
    let drain = reader("stdout");
    let stdout = thread("stdout", move || drain(Pipe(stdout.into()))).map_err(no_pipe)?;
    child.readers = Some((Some(stdout), stderr));
    Ok((child, None))
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(format!("child-{name}")).spawn(work)
}

/// The reading end of a pipe, whichever stream it is.
struct Pipe(OwnedFd);

impl AsFd for Pipe {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, buffer)?)
    }
}

/// Writes the input; a child that does not want it all is fine.
fn feed(mut stdin: std::process::ChildStdin, input: &Input, wake: &Wake) {
    let mut rest: &[u8] = match input {
        Input::Nothing => &[],
        Input::Bytes(bytes) => bytes,
        Input::Secret(secret) => secret.expose().as_bytes(),
    };
    // A pipe that is ready takes this much without blocking.
    const PIECE: usize = 4096;
    while !rest.is_empty() && wake.ready(&stdin, PollFlags::OUT).unwrap_or(false) {
        match stdin.write(&rest[..rest.len().min(PIECE)]) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// What the watcher of a child knows.
struct Watch {
    cancel: Cancel,
    deadline: Option<Instant>,
    grace: Duration,
    shared: Arc<Shared>,
    read: Receiver<()>,
    waker: OwnedFd,
}

impl Watch {
    fn until_the_end(self, mut child: std::process::Child, ended: &Sender<io::Result<ExitStatus>>) {
        let pid = Pid::from_child(&child);
        let mut pause = Duration::from_millis(1);
        let why = loop {
            if has_exited(pid) {
                break None;
            }
            if let Some(why) = self.why() {
                break Some(why);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK);
        };
        if let Some(why) = why {
            // Readers must know the reason before the pipe's end reaches them.
            self.shared.set(why);
            end_group(pid, self.grace);
        }
        let _ = ended.send(child.wait());
        if why.is_none() {
            // Descendants may hold the pipes and never write: their output is waited for, but not for ever.
            let _ = self.read.recv_timeout(LINGER);
        }
        drop(self.waker);
    }

    fn why(&self) -> Option<Why> {
        if let Some(reason) = self.cancel.reason() {
            return Some(Why::Cancelled(reason));
        }
        if self.shared.abandoned.load(Ordering::SeqCst) {
            return Some(Why::Abandoned);
        }
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline).then_some(Why::TimedOut)
    }
}

/// Whether the child has exited. It is not reaped, so that its id, which names its group, stays taken.
fn has_exited(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None) | Err(rustix::io::Errno::INTR))
}

/// Ends all processes of a group: SIGTERM, the grace, SIGKILL.
fn end_group(group: Pid, grace: Duration) {
    let signal = |signal| {
        let _ = rustix::process::kill_process_group(group, signal);
    };
    signal(Signal::TERM);
    // A process that is stopped takes no other signal.
    signal(Signal::CONT);
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline && (!has_exited(group) || group_lives(group)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(Signal::KILL);
}

/// Whether a process of the group still runs. Where `/proc` does not tell, only the leader counts.
fn group_lives(group: Pid) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    let group = group.as_raw_nonzero().to_string();
    entries.flatten().any(|entry| {
        entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
            && std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| {
                // `PID (NAME) STATE PPID PGRP ...`, where NAME may hold blanks and parentheses.
                let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
                let runs = fields.next().is_some_and(|state| state != "Z" && state != "X");
                runs && fields.nth(1) == Some(&group)
            })
    })
}
