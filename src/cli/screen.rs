//! Where output goes: data to stdout, talk to stderr. A reader that went away ends no run.

use crate::sys::patient::Patient;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Whether to use colours on a stream; `refused` says that `NO_COLOR` is set.
    fn on(self, terminal: bool, refused: bool) -> bool {
        match self {
            Self::Auto => terminal && !refused,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Puts texts in colours, or leaves them as they are. What colours say, words or signs say too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Leaves texts as they are.
    pub const PLAIN: Self = Self { on: false };

    fn with(self, codes: &str, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\x1b[{codes}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What went wrong.
    pub fn error(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// What needs attention.
    pub fn warning(self, text: &str) -> String {
        self.with("1;33", text)
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What helps.
    pub fn hint(self, text: &str) -> String {
        self.with("36", text)
    }

    /// What is a heading.
    pub fn heading(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What matters less.
    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }
}

type Stream = Mutex<Box<dyn Write + Send>>;

/// The two streams of one command.
pub struct Screen {
    out: Stream,
    err: Stream,
    /// Colours of stdout.
    pub out_paint: Paint,
    /// Colours of stderr.
    pub err_paint: Paint,
    /// Whether stderr is a terminal, so that a live view makes sense.
    pub live: bool,
}

impl Screen {
    /// The streams of the process.
    pub fn of_process(color: Color, no_color: bool) -> Arc<Self> {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        Arc::new(Self {
            out_paint: Paint { on: color.on(out.is_terminal(), no_color) },
            err_paint: Paint { on: color.on(err.is_terminal(), no_color) },
            live: err.is_terminal(),
            out: Mutex::new(Box::new(out)),
            // A person who pages through what is told may take their time; a supervisor that does not read stops no backup.
            err: if err.is_terminal() || std::io::stdin().is_terminal() {
                Mutex::new(Box::new(err))
            } else {
                Mutex::new(Box::new(Patient::new(err)))
            },
        })
    }

    /// Writes data to stdout.
    pub fn data(&self, text: &str) {
        write(&self.out, text);
    }

    /// Writes talk to stderr.
    pub fn talk(&self, text: &str) {
        write(&self.err, text);
    }

    /// Writes one value as JSON to stdout, in lines that people can read too.
    pub fn json(&self, value: &impl serde::Serialize) {
        if let Ok(text) = serde_json::to_string_pretty(value) {
            self.data(&(text + "\n"));
        }
    }
}

/// Errors are dropped: when the reader went away, there is nobody left to tell.
fn write(stream: &Stream, text: &str) {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// Rows of columns, each as wide as its widest cell; the last one is not padded.
pub fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| shown(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(i, cell)| {
                let pad = if i + 1 == row.len() { 0 } else { widths[i] - shown(cell) };
                format!("{cell}{}", " ".repeat(pad))
            })
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Characters that a text takes on the screen, colours not counted.
fn shown(text: &str) -> usize {
    let mut count = 0;
    let mut escape = false;
    for c in text.chars() {
        match c {
            '\x1b' => escape = true,
            'm' if escape => escape = false,
            _ if !escape => count += 1,
            _ => {}
        }
    }
    count
}

/// Streams that tests read.
#[cfg(test)]
pub mod captured {
    use super::*;

    /// What was written to one stream.
    #[derive(Clone, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        /// The text so far.
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A screen without colours, and what is written to its stdout and stderr.
    pub fn screen() -> (Arc<Screen>, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let screen = Screen {
            out: Mutex::new(Box::new(out.clone())),
            err: Mutex::new(Box::new(err.clone())),
            out_paint: Paint::PLAIN,
            err_paint: Paint::PLAIN,
            live: false,
        };
        (Arc::new(screen), out, err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_they_are_refused() {
        assert!(Color::Auto.on(true, false));
        assert!(!Color::Auto.on(true, true));
        assert!(!Color::Auto.on(false, false));
        assert!(Color::Always.on(false, true));
        assert!(!Color::Never.on(true, false));
        assert_eq!(Paint { on: true }.error("x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Paint::PLAIN.error("x"), "x");
    }

    #[test]
    fn columns_line_up_whatever_their_colours() {
        let red = Paint { on: true }.error("no");
        let rows = [vec!["a".into(), "yes".into(), "x".into()], vec!["bcd".into(), red.clone(), "y".into()]];
        assert_eq!(columns(&rows), format!("a    yes  x\nbcd  {red}   y\n"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
        write(&Mutex::new(Box::new(Closed)), "x");
    }
}
