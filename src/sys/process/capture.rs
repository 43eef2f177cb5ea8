//! What is kept and shown of a child's output: masked, bounded, and free of control characters where people read it.

use super::child::Wake;
use crate::base::event::What;
use crate::base::secret::Masker;
use crate::base::units;
use crate::sys::host::Host;
use rustix::event::PollFlags;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Text beyond a cut that is masked with the rest before it is cut away, so that no half of a secret remains.
const MARGIN: usize = 16 * 1024;
/// Longest line in an event, in bytes.
const LONGEST_LINE: usize = 8 * 1024;
/// Most lines of one stream that become events: a chatty child must not fill the journal.
const MOST_LINES: usize = 10_000;

/// The end of one stream, masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The text; if something was left out, its first line says how much.
    pub text: String,
    /// Whether something was left out.
    pub truncated: bool,
}

/// The last bytes of a stream.
struct Tail {
    bytes: Vec<u8>,
    limit: usize,
    total: u64,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        // Cutting only now and then keeps the cost linear.
        if self.bytes.len() > 2 * (self.limit + MARGIN) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let beyond = self.bytes.len().saturating_sub(self.limit + MARGIN);
        self.bytes.drain(..beyond);
    }

    fn captured(mut self, masker: &Masker) -> Captured {
        self.cut();
        let mut text = masker.mask(&String::from_utf8_lossy(&self.bytes));
        if self.total <= self.limit as u64 {
            return Captured { text, truncated: false };
        }
        // Masking never lengthens a text, so this removes at least all that came before the limit.
        let mut start = self.bytes.len().saturating_sub(self.limit).min(text.len());
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text.drain(..start);
        let left_out = self.total.saturating_sub(self.limit as u64);
        Captured {
            text: format!("(the first {} are left out)\n{text}", units::bytes(left_out)),
            truncated: true,
        }
    }
}

/// Turns a stream into events, line by line.
struct Lines {
    program: String,
    stream: &'static str,
    line: Vec<u8>,
    begun: bool,
    count: usize,
}

impl Lines {
    fn push(&mut self, host: &Host, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = (LONGEST_LINE + MARGIN).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.begun = true;
            if ended {
                self.emit(host);
            }
        }
    }

    fn emit(&mut self, host: &Host) {
        if !std::mem::take(&mut self.begun) {
            return;
        }
        let bytes = std::mem::take(&mut self.line);
        self.count += 1;
        let line = match self.count.cmp(&(MOST_LINES + 1)) {
            std::cmp::Ordering::Greater => return,
            std::cmp::Ordering::Equal => "(further lines are not shown)".to_owned(),
            std::cmp::Ordering::Less => {
                shortened(host.masker().mask(&plain(&String::from_utf8_lossy(&bytes))))
            }
        };
        host.emit(What::Output { program: self.program.clone(), stream: self.stream.to_owned(), line });
    }
}

fn shortened(mut line: String) -> String {
    if line.len() > LONGEST_LINE {
        let mut end = LONGEST_LINE;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

/// One line as a person would see it on a terminal: what the last carriage return left, without escape sequences.
pub fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => while chars.next().is_some_and(|c| c != '\x07' && c != '\x1b') {},
                _ => {}
            },
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Reads a stream to its end, or until nobody waits for it any more.
pub(super) fn drain(
    mut pipe: impl Read + AsFd,
    wake: &Wake,
    host: &Arc<Host>,
    program: &str,
    stream: &'static str,
    kept: usize,
    shown: bool,
) -> Captured {
    let mut tail = Tail { bytes: Vec::new(), limit: kept, total: 0 };
    let mut lines = Lines { program: program.to_owned(), stream, line: Vec::new(), begun: false, count: 0 };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(true) = wake.ready(&pipe, PollFlags::IN) {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                tail.push(&buffer[..n]);
                if shown {
                    lines.push(host, &buffer[..n]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    lines.emit(host);
    tail.captured(host.masker())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    fn tail(limit: usize, pieces: &[&[u8]], masker: &Masker) -> Captured {
        let mut tail = Tail { bytes: Vec::new(), limit, total: 0 };
        pieces.iter().for_each(|piece| tail.push(piece));
        tail.captured(masker)
    }

    #[test]
    fn the_tail_is_kept_and_says_what_is_left_out() {
        let masker = Masker::new();
        assert_eq!(
            tail(8, &[b"1234", b"5678"], &masker),
            Captured { text: "12345678".into(), truncated: false }
        );
        assert_eq!(
            tail(8, &[b"1234", b"5678", b"9"], &masker),
            Captured { text: "(the first 1 B are left out)\n23456789".into(), truncated: true }
        );
        let many = vec![b'x'; 3 << 20];
        let captured = tail(10, &[&many, b"end"], &masker);
        assert_eq!(captured.text, "(the first 3.0 MiB are left out)\nxxxxxxxend");
    }

    #[test]
    fn no_half_of_a_secret_is_left_at_the_cut() {
        let masker = Masker::new();
        masker.add(&Secret::new("hunter22-hunter22"));
        for limit in 0..40 {
            let text = tail(limit, &[b"before hunter22-hun", b"ter22 after"], &masker).text;
            assert!(!text.contains("ter22"), "{limit}: {text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(tail(9, &[b"a\xffb"], &Masker::new()).text, "a\u{fffd}b");
    }

    #[test]
    fn a_line_is_shown_as_a_terminal_leaves_it() {
        assert_eq!(plain("10%\r20%\r100%\r"), "100%");
        assert_eq!(plain("\x1b[1;31merror\x1b[0m:\tno\x07"), "error:\tno");
        assert_eq!(plain("\x1b]0;title\x07text\x1b(B"), "textB");
        assert_eq!(plain("ends in escape \x1b["), "ends in escape ");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let line = shortened("é".repeat(LONGEST_LINE));
        assert_eq!(line.chars().count(), LONGEST_LINE / 2 + 1);
        assert!(line.ends_with("é…"));
    }
}
