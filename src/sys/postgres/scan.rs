//! Reads the text of a plain `pg_dump` as it streams by, and knows table data from SQL.
//!
//! A [`Scanner`] takes chunks cut anywhere and yields [`Segment`]s, whose bytes one after the other are the input: a
//! backup passes them through, a restore carries them out. Rows are borrowed from the chunk and never held back, so a
//! row may be as large as it likes; only a statement cut by the end of a chunk is put together in memory.
//!
//! Blocks of COPY data are what it is about. Text that merely looks like one may stand in strings, quoted names, dollar
//! quotes, comments and function bodies; and data may look like SQL or like psql's commands. Only a line that is `\.`
//! and nothing else ends a block.

use super::copy_head::{self, Copy, CopyHead};
use super::lexer::{End, Lexer, is_space};
use memchr::{memchr, memchr_iter, memmem, memrchr};
use std::sync::LazyLock;

/// Why a text is no plain dump, or not all of one. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The text ends inside a block of data.
    #[error("the data of table `{table}`, which begins at line {line}, has no end")]
    DataNotEnded {
        /// The table's name as the dump writes it.
        table: String,
        /// The line of its COPY statement.
        line: u64,
    },
    /// The text ends inside a statement or comment.
    #[error("{what}, which begins at line {line}, has no end")]
    NotEnded {
        /// For example `a statement with an open string`.
        what: &'static str,
        /// The line it begins at.
        line: u64,
    },
    /// A line of data begins with `\.` and goes on, which COPY never writes.
    #[error("line {line}: a row of table `{table}` begins like the end of the data")]
    EndMarker {
        /// The table's name as the dump writes it.
        table: String,
        /// The line.
        line: u64,
    },
    /// A backslash in the middle of a statement, where psql would run a command.
    #[error("line {line}: a backslash command inside a statement")]
    MetaInStatement {
        /// The line of the backslash.
        line: u64,
    },
    /// A COPY statement in a form that no dump has.
    #[error("line {line}: a COPY statement in a form that cannot be read")]
    Copy {
        /// The line it begins at.
        line: u64,
    },
    /// A statement longer than PostgreSQL takes.
    #[error("{what}, which begins at line {line}, is longer than {limit} bytes")]
    TooLong {
        /// For example `a statement with an open string`.
        what: &'static str,
        /// The line it begins at.
        line: u64,
        /// The limit.
        limit: usize,
    },
}

/// A piece of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// White space between the other pieces; a chunk's end may cut it.
    Space(&'a [u8]),
    /// A comment outside of any statement, without the newline that ends it.
    Comment {
        /// The comment with its `--` or `/* */`.
        text: &'a [u8],
        /// The line it begins at.
        line: u64,
    },
    /// A statement with its semicolon; comments within it belong to it.
    Statement {
        /// The statement.
        text: &'a [u8],
        /// The line it begins at.
        line: u64,
    },
    /// A `COPY ... FROM stdin;` with the rest of its line; data follows.
    CopyBegin {
        /// What it says.
        head: &'a CopyHead,
        /// The statement and its newline.
        text: &'a [u8],
        /// The line it begins at.
        line: u64,
    },
    /// Lines of COPY data. The last row may be cut anywhere, and goes on in the next segment; each newline ends a row.
    Rows(&'a [u8]),
    /// The line `\.`, with its newline.
    CopyEnd(&'a [u8]),
    /// A command of psql, without the newline that ends it.
    Meta {
        /// The command with its backslash.
        text: &'a [u8],
        /// The line.
        line: u64,
        /// Whether it is `\restrict KEY` or `\unrestrict KEY`, which `pg_dump` writes and only psql needs. Anything
        /// else must be refused by who carries out the dump.
        restrict: bool,
    },
}

impl<'a> Segment<'a> {
    /// The very bytes of the dump.
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::Space(bytes) | Self::Rows(bytes) | Self::CopyEnd(bytes) => bytes,
            Self::Comment { text, .. }
            | Self::Statement { text, .. }
            | Self::CopyBegin { text, .. }
            | Self::Meta { text, .. } => text,
        }
    }

    /// How many bytes of this segment may end a block: up to its last row end, or all of it if it ends a line. `None`
    /// if no block may be cut here.
    pub fn cut(&self) -> Option<usize> {
        match self {
            Self::Rows(bytes) => memrchr(b'\n', bytes).map(|at| at + 1),
            other => other.bytes().ends_with(b"\n").then(|| other.bytes().len()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Before the next piece of SQL.
    Between,
    /// In a piece of SQL.
    Piece,
    /// Behind the semicolon of a COPY statement, up to the end of the line.
    CopyLine,
    /// At the beginning of a row, after so many bytes of `\.`.
    RowBegin(usize),
    /// Within a row.
    Row,
}

/// How long a statement may be: what PostgreSQL takes in one query.
const LONGEST_STATEMENT: usize = 0x3fff_ffff;
/// A buffer larger than this is not kept for the next statement.
const KEPT_BUFFER: usize = 1 << 20;
pub(super) const END_MARKER: &[u8] = b"\\.";
static ROW_THEN_MARKER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\n\\."));

/// An incremental scanner over the text of a plain dump.
///
/// ```
/// # use lifeboat::sys::postgres::scan::{Scanner, ScanError, Segment};
/// let mut scanner = Scanner::new();
/// let mut rows = 0;
/// for chunk in [&b"COPY public.t (a) FROM std"[..], b"in;\n1\n2\n\\", b".\n"] {
///     let mut rest = chunk;
///     while let Some(segment) = scanner.next(&mut rest)? {
///         if let Segment::Rows(bytes) = segment {
///             rows += bytes.iter().filter(|&&byte| byte == b'\n').count();
///         }
///     }
/// }
/// assert_eq!((scanner.end()?, rows), (None, 2));
/// # Ok::<(), ScanError>(())
/// ```
#[derive(Debug)]
pub struct Scanner {
    mode: Mode,
    lexer: Lexer,
    /// What earlier chunks held of the piece that is open.
    buffer: Vec<u8>,
    /// The last segment was borrowed from the buffer, which is free now.
    spent: bool,
    copy: Option<CopyHead>,
    line: u64,
    piece_line: u64,
    longest: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner at the beginning of a dump.
    pub fn new() -> Self {
        Self {
            mode: Mode::Between,
            lexer: Lexer::new(),
            buffer: Vec::new(),
            spent: false,
            copy: None,
            line: 1,
            piece_line: 1,
            longest: LONGEST_STATEMENT,
        }
    }

    /// The line that is being read, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The COPY statement whose data is being read.
    pub fn copying(&self) -> Option<&CopyHead> {
        match self.mode {
            Mode::RowBegin(_) | Mode::Row => self.copy.as_ref(),
            _ => None,
        }
    }

    /// The next segment of `rest`, which is moved on behind it; `None` when `rest` is used up.
    pub fn next<'s, 'c: 's>(&'s mut self, rest: &mut &'c [u8]) -> Result<Option<Segment<'s>>, ScanError> {
        self.free_buffer();
        if rest.is_empty() {
            return Ok(None);
        }
        match self.mode {
            Mode::Between => {
                let spaces = rest.iter().take_while(|&&byte| is_space(byte)).count();
                if spaces > 0 {
                    return Ok(Some(Segment::Space(self.take(rest, spaces))));
                }
                self.lexer.reset();
                self.piece_line = self.line;
                self.mode = Mode::Piece;
                self.piece(rest)
            }
            Mode::Piece => self.piece(rest),
            Mode::CopyLine => self.copy_line(rest),
            Mode::RowBegin(held) => self.row_begin(rest, held),
            Mode::Row => Ok(Some(self.rows(rest))),
        }
    }

    /// Takes whole rows as read, so many that none begins like the end of the data, and says whether it did: it does not
    /// unless the next byte begins a row.
    pub fn skip_rows(&mut self, rows: u64) -> bool {
        let is_between_rows = self.mode == Mode::RowBegin(0);
        if is_between_rows {
            self.line += rows;
        }
        is_between_rows
    }

    /// Ends the dump: the last segment, if the end of the text is what ends it.
    pub fn end(&mut self) -> Result<Option<Segment<'_>>, ScanError> {
        self.free_buffer();
        match self.mode {
            Mode::Between => Ok(None),
            Mode::Piece => match self.lexer.end() {
                Some(end) => {
                    self.mode = Mode::Between;
                    Ok(Some(self.segment(&[], end)))
                }
                None => Err(ScanError::NotEnded { what: self.lexer.open(), line: self.piece_line }),
            },
            Mode::CopyLine | Mode::RowBegin(_) | Mode::Row => {
                Err(ScanError::DataNotEnded { table: self.table(), line: self.piece_line })
            }
        }
    }

    fn free_buffer(&mut self) {
        if std::mem::take(&mut self.spent) {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BUFFER);
        }
    }

    /// Takes bytes off the chunk, which is the only place that counts lines.
    fn take<'c>(&mut self, rest: &mut &'c [u8], length: usize) -> &'c [u8] {
        let (taken, left) = rest.split_at(length);
        *rest = left;
        self.line += memchr_iter(b'\n', taken).count() as u64;
        taken
    }

    /// The open piece with its last bytes: borrowed from the chunk if all of it is there.
    fn whole<'s, 'c: 's>(&'s mut self, last: &'c [u8]) -> &'s [u8] {
        if self.buffer.is_empty() {
            return last;
        }
        self.buffer.extend_from_slice(last);
        self.spent = true;
        &self.buffer
    }

    fn piece<'s, 'c: 's>(&'s mut self, rest: &mut &'c [u8]) -> Result<Option<Segment<'s>>, ScanError> {
        let (length, end) = self.lexer.run(rest);
        let taken = self.take(rest, length);
        if self.buffer.len() + taken.len() > self.longest {
            let (what, line, limit) = (self.lexer.open(), self.piece_line, self.longest);
            return Err(ScanError::TooLong { what, line, limit });
        }
        match end {
            None => {
                self.buffer.extend_from_slice(taken);
                Ok(None)
            }
            Some(End::MetaInStatement) => Err(ScanError::MetaInStatement { line: self.line }),
            Some(End::Statement { copy: true }) => {
                self.buffer.extend_from_slice(taken);
                match copy_head::read(&self.buffer) {
                    Copy::Data(head) => {
                        self.copy = Some(head);
                        self.mode = Mode::CopyLine;
                        self.copy_line(rest)
                    }
                    Copy::Statement => {
                        self.mode = Mode::Between;
                        Ok(Some(self.segment(&[], End::Statement { copy: true })))
                    }
                    Copy::Unreadable => Err(ScanError::Copy { line: self.piece_line }),
                }
            }
            Some(end) => {
                self.mode = Mode::Between;
                Ok(Some(self.segment(taken, end)))
            }
        }
    }

    fn segment<'s, 'c: 's>(&'s mut self, last: &'c [u8], end: End) -> Segment<'s> {
        let line = self.piece_line;
        let text = self.whole(last);
        match end {
            End::Comment => Segment::Comment { text, line },
            End::Meta | End::MetaInStatement => Segment::Meta { text, line, restrict: is_restrict(text) },
            End::Statement { .. } => Segment::Statement { text, line },
        }
    }

    fn copy_line<'s, 'c: 's>(&'s mut self, rest: &mut &'c [u8]) -> Result<Option<Segment<'s>>, ScanError> {
        let newline = memchr(b'\n', rest);
        let taken = self.take(rest, newline.map_or(rest.len(), |at| at + 1));
        // psql would go on with the rest of the line after the data, which no dump makes use of.
        if !taken.iter().all(|&byte| is_space(byte)) {
            return Err(ScanError::Copy { line: self.piece_line });
        }
        self.buffer.extend_from_slice(taken);
        let (Some(_), Some(head)) = (newline, &self.copy) else { return Ok(None) };
        self.mode = Mode::RowBegin(0);
        self.spent = true;
        Ok(Some(Segment::CopyBegin { head, text: &self.buffer, line: self.piece_line }))
    }

    fn row_begin<'s, 'c: 's>(
        &'s mut self,
        rest: &mut &'c [u8],
        mut held: usize,
    ) -> Result<Option<Segment<'s>>, ScanError> {
        while held < END_MARKER.len() {
            match rest.first() {
                None => {
                    self.mode = Mode::RowBegin(held);
                    return Ok(None);
                }
                Some(byte) if *byte == END_MARKER[held] => {
                    self.take(rest, 1);
                    held += 1;
                }
                Some(_) => {
                    self.mode = Mode::Row;
                    // A backslash may have been the last byte of its chunk, which is gone.
                    return Ok(Some(if held > 0 {
                        Segment::Rows(&END_MARKER[..held])
                    } else {
                        self.rows(rest)
                    }));
                }
            }
        }
        match rest.first() {
            None => {
                self.mode = Mode::RowBegin(held);
                Ok(None)
            }
            Some(b'\n') => {
                self.take(rest, 1);
                self.mode = Mode::Between;
                Ok(Some(Segment::CopyEnd(b"\\.\n")))
            }
            Some(_) => Err(ScanError::EndMarker { table: self.table(), line: self.line }),
        }
    }

    /// Rows up to the end of the chunk, or to where the end of the data may begin.
    fn rows<'c>(&mut self, rest: &mut &'c [u8]) -> Segment<'c> {
        let length = match ROW_THEN_MARKER.find(rest) {
            Some(at) => at + 1,
            None if rest.ends_with(b"\n\\") => rest.len() - 1,
            None => rest.len(),
        };
        let taken = self.take(rest, length);
        self.mode = if taken.ends_with(b"\n") { Mode::RowBegin(0) } else { Mode::Row };
        Segment::Rows(taken)
    }

    fn table(&self) -> String {
        self.copy.as_ref().map(|head| head.table.clone()).unwrap_or_default()
    }
}

/// Whether a backslash command is one of the pair that `pg_dump` writes around a dump.
fn is_restrict(text: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    [&b"\\restrict "[..], b"\\unrestrict "]
        .iter()
        .filter_map(|command| text.strip_prefix(*command))
        .any(|key| !key.is_empty() && key.iter().all(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
mod tests;
