//! This very program as a child: the daemon runs each playbook in a process of its own, so that what goes wrong in a run
//! ends that run alone.

use crate::base::failure::{Code, Failure};
use crate::sys::notify_socket;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// A child in a process group of its own. Its output goes where the daemon's own goes.
#[derive(Debug)]
pub struct OwnProcess {
    pid: Pid,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exit(u8),
    /// By a signal.
    Signal(i32),
}

impl OwnProcess {
    /// Starts `program` with arguments in a folder; `ended` is called, on a thread of its own, when it has ended.
    ///
    /// # Errors
    /// `ProcessFailed` if it cannot be started.
    pub fn start(
        program: &Path,
        args: &[String],
        dir: &Path,
        ended: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<Self, Failure> {
        let refused = |error: std::io::Error| {
            Failure::new(Code::ProcessFailed, format!("cannot start `{}`", program.display())).caused_by(error).hint(
                "Check that the program is still there and that the machine has memory and processes left; it is \
                 tried again in a minute.",
            )
        };
        let mut command = Command::new(program);
        command.args(args).current_dir(dir).stdin(Stdio::null()).process_group(0);
        for name in notify_socket::VARIABLES {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(refused)?;
        let pid = Pid::from_child(&child);
        std::thread::Builder::new()
            .name("lifeboat-child".to_owned())
            .spawn(move || {
                let end = match child.wait() {
                    Ok(status) => match (status.code(), status.signal()) {
                        (Some(code), _) => Ended::Exit(u8::try_from(code).unwrap_or(u8::MAX)),
                        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
                    },
                    // Whoever else waited for it took its status along.
                    Err(_) => Ended::Exit(u8::MAX),
                };
                ended(end);
            })
            .map_err(refused)?;
        Ok(Self { pid })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Asks it to end; it tells its own children.
    pub fn terminate(&self) {
        let _ = kill_process(self.pid, Signal::TERM);
    }

    /// Ends it and what it started, without asking.
    pub fn kill(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}
