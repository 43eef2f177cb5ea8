//! A stream whose reader may stop reading.
//!
//! *Problem*: where nobody is at a terminal, output goes into a pipe of a supervisor. When that stops reading, the pipe fills, and
//! whoever writes waits for ever: no backup is made any more. *Decision*: nobody waits longer than a moment; what was not read is
//! lost, and how much is told when the reader is back. *Rejected*: a thread that writes, which loses the last words at the end.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

/// So long a reader may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// A pipe that is ready takes so much without waiting (`PIPE_BUF`, pipe(7)).
const AT_ONCE: usize = 4096;

/// Writes to a stream, and waits for its reader a moment at most.
#[derive(Debug)]
pub struct Patient<W> {
    inner: W,
    patience: Duration,
    /// Bytes that nobody has read since the reader was given up.
    lost: usize,
}

impl<W: Write + AsFd> Patient<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, patience: PATIENCE, lost: 0 }
    }

    /// Whether the stream takes something now, or within `time`. What has no reader any more says so when it is written to.
    fn is_ready(&self, time: Duration) -> bool {
        let time = Timespec::try_from(time).unwrap_or_default();
        let mut fds = [PollFd::new(&self.inner, PollFlags::OUT)];
        loop {
            match poll(&mut fds, Some(&time)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(ready) => return ready > 0,
                // A stream that cannot be asked is written to, as ever.
                Err(_) => return true,
            }
        }
    }
}

impl<W: Write + AsFd> Write for Patient<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let patience = if self.lost > 0 { Duration::ZERO } else { self.patience };
        if !self.is_ready(patience) {
            self.lost += data.len();
            return Ok(data.len());
        }
        if self.lost > 0 {
            let told = format!("[{} bytes of output are lost: nobody read them]\n", self.lost);
            self.lost = 0;
            self.inner.write_all(told.as_bytes())?;
            self.inner.flush()?;
            return self.write(data);
        }
        let n = self.inner.write(&data[..data.len().min(AT_ONCE)])?;
        self.inner.flush()?;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read_and_what_is_lost_is_told() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut patient = Patient { patience: Duration::from_millis(50), ..Patient::new(File::from(writer)) };
        let line = "x".repeat(9_999) + "\n";
        let lines = 100;
        for _ in 0..lines {
            patient.write_all(line.as_bytes()).unwrap();
        }
        let lost = patient.lost;
        assert!(lost > 0);
        let mut reader = File::from(reader);
        let mut text = vec![0; lines * line.len() - lost];
        reader.read_exact(&mut text).unwrap();
        patient.write_all(b"back\n").unwrap();
        drop(patient);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, format!("[{lost} bytes of output are lost: nobody read them]\nback\n"));
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error_and_a_file_takes_all() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        let error = Patient::new(File::from(writer)).write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        let mut file = tempfile::tempfile().unwrap();
        Patient::new(&file).write_all(&vec![b'x'; 100_000]).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        assert_eq!(std::io::copy(&mut file, &mut std::io::sink()).unwrap(), 100_000);
    }
}
