//! Where output goes: data to stdout, talk to stderr. A reader that went away ends no run.

use crate::sys::patient::Patient;
use std::io::{BufWriter, IsTerminal, Write};
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
        let mut stream = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = BufWriter::with_capacity(1 << 16, &mut **stream);
        let _ = serde_json::to_writer_pretty(&mut out, value)
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush());
    }
}

/// Errors are dropped: when the reader went away, there is nobody left to tell.
fn write(stream: &Stream, text: &str) {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// Rows of columns, each as wide as its widest cell; the last one is not padded.
pub fn columns(rows: &[Vec<String>]) -> String {
    let mut table = Table::default();
    rows.iter().for_each(|row| table.row(&row.iter().map(String::as_str).collect::<Vec<&str>>()));
    table.text()
}

/// Rows of columns that are being written, all in one text: of 100,000 rows each cell as a text of its own would take long.
#[derive(Debug, Default)]
pub struct Table {
    cells: String,
    /// Where each cell ends, and how wide it is.
    ends: Vec<(usize, usize)>,
    /// Where each row ends among the cells.
    rows: Vec<usize>,
    widths: Vec<usize>,
}

impl Table {
    /// One that begins with titles.
    pub fn with_titles<const N: usize>(titles: [&str; N], paint: Paint) -> Self {
        let mut table = Self::default();
        table.row(&titles.map(|title| paint.heading(title)).each_ref().map(String::as_str));
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[&str]) {
        for (column, cell) in cells.iter().enumerate() {
            let width = shown(cell);
            match self.widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => self.widths.push(width),
            }
            self.cells += cell;
            self.ends.push((self.cells.len(), width));
        }
        self.rows.push(self.ends.len());
    }

    /// All rows, each with its columns below those of the row before.
    pub fn text(&self) -> String {
        let line: usize = self.widths.iter().map(|width| width + 2).sum();
        let mut text = String::with_capacity(self.cells.len().max(self.rows.len() * line));
        let (mut first, mut at) = (0, 0);
        for end in &self.rows {
            let begin = text.len();
            for (column, (cell_end, width)) in self.ends[first..*end].iter().enumerate() {
                text += &self.cells[at..*cell_end];
                at = *cell_end;
                if first + column + 1 < *end {
                    text.extend(std::iter::repeat_n(' ', self.widths[column] - width + 2));
                }
            }
            first = *end;
            text.truncate(begin + text[begin..].trim_end().len());
            text.push('\n');
        }
        text
    }
}

/// Characters that a text takes on the screen, colours not counted.
fn shown(text: &str) -> usize {
    if text.is_ascii() && !text.contains('\x1b') {
        return text.len();
    }
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
