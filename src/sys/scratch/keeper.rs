//! Starts processes that end with this one, however it ends.
//!
//! On Linux the kernel sends a signal to a child when its parent dies; even SIGKILL cannot prevent that. The parent in
//! question is the THREAD that started the child, so a thread of its own starts them all and lives as long as they are
//! wanted. Elsewhere a small shell waits at the other end of a pipe, which closes with this process.

use crate::sys::scratch::user::User;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// How long a process may take to end by itself once it was asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the rest of its group may take after that.
const PATIENCE_WITH_GROUP: Duration = Duration::from_secs(1);

type Request = (Command, Sender<io::Result<Child>>);

/// The thread that starts processes; they end when it is dropped, or with this process.
#[derive(Debug)]
pub(super) struct Keeper {
    requests: Sender<Request>,
}

impl Keeper {
    /// Starts the thread.
    pub fn begin() -> io::Result<Self> {
        let (requests, queue) = channel::<Request>();
        std::thread::Builder::new().name("scratch-keeper".to_owned()).spawn(move || {
            for (mut command, reply) in queue {
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts `command` as `user`, in a process group of its own, which a terminal's Ctrl-C does not reach. It gets
    /// SIGQUIT when this process ends.
    pub fn start(&self, mut command: Command, user: Option<User>) -> io::Result<Kept> {
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        command.process_group(0);
        end_with_parent(&mut command);
        let (reply, started) = channel();
        let gone = |_| io::Error::other("the thread that starts processes is gone");
        self.requests.send((command, reply)).map_err(|_| gone(()))?;
        let child = started.recv().map_err(|_| gone(()))??;
        let watchdog = if cfg!(target_os = "linux") { None } else { Some(watchdog(&child, user)?) };
        Ok(Kept { child, watchdog })
    }
}

/// A process that ends with this one, or when it is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    child: Child,
    watchdog: Option<Child>,
}

impl Kept {
    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, once it has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            // The number is free for other processes now.
            self.end_watchdog();
        }
        Ok(status)
    }

    fn end_watchdog(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
    }

    /// Ends the process and its group: by SIGQUIT, which PostgreSQL takes as "at once", then by SIGKILL.
    pub fn end(&mut self) {
        self.end_watchdog();
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let group = Pid::from_child(&self.child);
        // The server passes the signal on to its processes; initdb does not.
        let _ = kill_process_group(group, Signal::QUIT);
        let child = &mut self.child;
        if !within(PATIENCE, || !matches!(child.try_wait(), Ok(None))) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
        }
        // What else was in the group may still write into its folder.
        if !within(PATIENCE_WITH_GROUP, || test_kill_process_group(group).is_err()) {
            let _ = kill_process_group(group, Signal::KILL);
            within(PATIENCE, || test_kill_process_group(group).is_err());
        }
    }
}

/// Whether `condition` comes true within `limit`.
fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begin.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets the kernel end the child with the thread that starts it.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "only code between fork and exec can set the parent-death signal")]
fn end_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure makes two system calls and allocates nothing, so it is safe between fork and exec. It runs
    // after the change of user, which would clear the signal.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::QUIT))?;
            // The parent may have died before the signal was set.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(rustix::io::Errno::SRCH.into())
            }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_: &mut Command) {}

/// A shell that ends `child` when this process is gone: the pipe it reads from closes then.
fn watchdog(child: &Child, user: Option<User>) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "read -r _; kill -QUIT \"$0\"", &child.id().to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("/bin/sleep");
        command.arg("600");
        command
    }

    fn ends_soon(kept: &mut Kept) -> bool {
        within(Duration::from_secs(60), || kept.ended().unwrap().is_some())
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_outlives_the_thread_that_asked_for_it_but_not_its_keeper() {
        let (keeper, mut kept) = std::thread::spawn(|| {
            let keeper = Keeper::begin().unwrap();
            let kept = keeper.start(sleeper(), None).unwrap();
            (keeper, kept)
        })
        .join()
        .unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(kept.ended().unwrap().is_none());
        drop(keeper);
        assert!(ends_soon(&mut kept));
    }

    #[test]
    fn a_process_ends_when_dropped() {
        let keeper = Keeper::begin().unwrap();
        let kept = keeper.start(sleeper(), None).unwrap();
        let pid = Pid::from_raw(kept.id().cast_signed()).unwrap();
        drop(kept);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn the_watchdog_ends_a_process_when_its_pipe_closes() {
        let keeper = Keeper::begin().unwrap();
        let mut kept = keeper.start(sleeper(), None).unwrap();
        let mut watchdog = watchdog(&kept.child, None).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(kept.ended().unwrap().is_none());
        drop(watchdog.stdin.take());
        assert!(ends_soon(&mut kept));
        watchdog.wait().unwrap();
    }

    #[test]
    fn a_program_that_does_not_start_is_an_error() {
        let keeper = Keeper::begin().unwrap();
        let error = keeper.start(Command::new("/nonexistent/program"), None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
