//! The crontab of the user who runs this, read and replaced by the program `crontab`.

use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use crate::sys::process::{Command, Input};
use std::io::Read;
use std::sync::Arc;

/// The crontab, not masked, since it is written back; empty if there is none.
///
/// # Errors
/// `ProgramMissing` without `crontab`; what it says when the user may not use it; a crontab that is not UTF-8.
pub fn read(host: &Arc<Host>) -> Result<String, Failure> {
    let (child, mut stdout) = Command::new("crontab").arg("-l").unseen().spawn_streaming(host)?;
    let mut bytes = Vec::new();
    let read = stdout.read_to_end(&mut bytes);
    let ended = child.wait()?;
    if !ended.success() {
        return match ended.stderr.text.contains("no crontab for") {
            true => Ok(String::new()),
            false => Err(ended.failure()),
        };
    }
    read.map_err(|error| Failure::new(Code::Io, "cannot read the crontab").caused_by(error))?;
    String::from_utf8(bytes).map_err(|error| {
        Failure::new(Code::Io, "cannot read the crontab")
            .caused_by(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()))
            .hint("Add the lines of `lifeboat schedule export cron` by `crontab -e`.")
    })
}

/// Replaces the crontab; an empty one is removed.
///
/// # Errors
/// As [`read`]; what `crontab` says of a line that it refuses.
pub fn write(host: &Arc<Host>, crontab: &str) -> Result<(), Failure> {
    let command = Command::new("crontab").unseen();
    let command = match crontab.is_empty() {
        true => command.arg("-r"),
        false => command.arg("-").input(Input::Bytes(crontab.as_bytes().to_vec())),
    };
    command.run(host)?.checked().map(drop)
}
