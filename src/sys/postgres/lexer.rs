//! Tells where a SQL statement ends, one byte after the other, so that any cut of the input gives the same answer.
//!
//! It follows psql's own rules (`psqlscan.l`) with `standard_conforming_strings` on, except that `BEGIN` opens a
//! function body only when `ATOMIC` follows: psql also falls for a function that is merely named `begin`, which
//! `pg_dump` writes without quotes.

use memchr::{memchr, memchr2};

/// Why a piece of text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At its semicolon, which belongs to it.
    Statement {
        /// Whether its first word is `COPY`.
        copy: bool,
    },
    /// A comment that stands outside of any statement; the newline after `--` does not belong to it.
    Comment,
    /// A backslash command, without its newline.
    Meta,
    /// A backslash in the middle of a statement, where psql would run a command.
    MetaInStatement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Base,
    Word,
    Number,
    /// After one `-`.
    Dash,
    /// After one `/`.
    Slash,
    LineComment,
    BlockComment {
        depth: u32,
        previous: u8,
    },
    Single,
    /// In `E'...'`.
    Escaped,
    /// After a backslash in `E'...'`.
    EscapedByte,
    Double,
    /// After a `$` that begins a token.
    Dollar,
    DollarTag,
    DollarBody {
        matched: usize,
    },
    Meta,
}

/// What the words at the beginning of the statement say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Empty,
    Copy,
    Create,
    CreateOr,
    CreateOrReplace,
    /// `CREATE [OR REPLACE] FUNCTION` or `PROCEDURE`: only these have a body of statements.
    Routine,
    Other,
}

/// The last token that is neither space nor comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Other,
    /// `.` or `AS`: the next word is a name, whatever it looks like.
    BeforeName,
    Begin,
}

/// What stands since an `E'...'` closed: a quote right behind it, or on a later line, continues that string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    None,
    Adjacent,
    Spaced,
    NewLine,
}

/// Longest keyword that matters: `procedure`.
const LONGEST_WORD: usize = 9;

/// The state of one statement, comment or backslash command.
#[derive(Debug)]
pub(super) struct Lexer {
    state: State,
    significant: bool,
    parens: u32,
    bodies: u32,
    head: Head,
    previous: Token,
    tail: Tail,
    word: [u8; LONGEST_WORD],
    word_length: usize,
    delimiter: Vec<u8>,
}

impl Lexer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Base,
            significant: false,
            parens: 0,
            bodies: 0,
            head: Head::Empty,
            previous: Token::Other,
            tail: Tail::None,
            word: [0; LONGEST_WORD],
            word_length: 0,
            delimiter: Vec::new(),
        }
    }

    /// Makes ready for the next piece, whose first byte is no space.
    pub(super) fn reset(&mut self) {
        let mut delimiter = std::mem::take(&mut self.delimiter);
        delimiter.clear();
        *self = Self { delimiter, ..Self::new() };
    }

    /// Reads on; returns how many bytes of `input` belong to this piece, and why it ended if it did.
    pub(super) fn run(&mut self, input: &[u8]) -> (usize, Option<End>) {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Base => {
                    if let Some(end) = self.base(byte) {
                        let belongs = matches!(end, End::Statement { .. });
                        return (at + usize::from(belongs), Some(end));
                    }
                    at += 1;
                }
                State::Word => {
                    if is_word(byte) {
                        self.push_word(byte);
                        at += 1;
                    } else if byte == b'\'' && matches!(self.keyword(), b"e") {
                        self.token(Token::Other);
                        self.state = State::Escaped;
                        at += 1;
                    } else {
                        self.word_ended();
                        self.state = State::Base;
                    }
                }
                State::Number => {
                    if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' {
                        at += 1;
                    } else {
                        self.state = State::Base;
                    }
                }
                State::Dash if byte == b'-' => {
                    self.state = State::LineComment;
                    at += 1;
                }
                State::Slash if byte == b'*' => {
                    self.tail = Tail::None;
                    self.state = State::BlockComment { depth: 1, previous: 0 };
                    at += 1;
                }
                State::Dash | State::Slash => {
                    self.token(Token::Other);
                    self.state = State::Base;
                }
                State::LineComment => match memchr2(b'\n', b'\r', &input[at..]) {
                    Some(length) if !self.significant => return (at + length, Some(End::Comment)),
                    Some(length) => {
                        at += length;
                        self.state = State::Base;
                    }
                    None => at = input.len(),
                },
                State::BlockComment { depth, previous } => {
                    at = self.block_comment(input, at, depth, previous);
                    if self.state == State::Base && !self.significant {
                        return (at, Some(End::Comment));
                    }
                }
                State::Single | State::Double => {
                    // A doubled quote closes and opens again, which comes to the same.
                    let quote = if self.state == State::Single { b'\'' } else { b'"' };
                    match memchr(quote, &input[at..]) {
                        Some(length) => {
                            at += length + 1;
                            self.state = State::Base;
                        }
                        None => at = input.len(),
                    }
                }
                State::Escaped => match memchr2(b'\'', b'\\', &input[at..]) {
                    Some(length) => {
                        let closes = input[at + length] == b'\'';
                        at += length + 1;
                        if closes {
                            self.state = State::Base;
                            self.tail = Tail::Adjacent;
                        } else {
                            self.state = State::EscapedByte;
                        }
                    }
                    None => at = input.len(),
                },
                State::EscapedByte => {
                    self.state = State::Escaped;
                    at += 1;
                }
                State::Dollar => match byte {
                    b'$' => {
                        self.open_dollar();
                        at += 1;
                    }
                    b'0'..=b'9' => self.state = State::Number,
                    _ if is_word_begin(byte) => {
                        self.delimiter.push(byte);
                        self.state = State::DollarTag;
                        at += 1;
                    }
                    _ => self.state = State::Base,
                },
                State::DollarTag => match byte {
                    b'$' => {
                        self.open_dollar();
                        at += 1;
                    }
                    _ if is_word(byte) => {
                        self.delimiter.push(byte);
                        at += 1;
                    }
                    _ => self.state = State::Base,
                },
                State::DollarBody { matched } => at = self.dollar_body(input, at, matched),
                State::Meta => match memchr(b'\n', &input[at..]) {
                    Some(length) => return (at + length, Some(End::Meta)),
                    None => at = input.len(),
                },
            }
        }
        (at, None)
    }

    /// Whether the end of the input also ends this piece, and how.
    pub(super) fn end(&self) -> Option<End> {
        match self.state {
            State::LineComment if !self.significant => Some(End::Comment),
            State::Meta => Some(End::Meta),
            _ => None,
        }
    }

    /// What is open, for the message that it does not end.
    pub(super) fn open(&self) -> &'static str {
        match self.state {
            State::BlockComment { .. } => "a comment",
            State::Single | State::Escaped | State::EscapedByte => "a statement with an open string",
            State::Double => "a statement with an open identifier",
            State::DollarBody { .. } => "a statement with an open dollar quote",
            _ => "a statement",
        }
    }

    fn base(&mut self, byte: u8) -> Option<End> {
        match byte {
            _ if is_space(byte) => {
                self.tail = match self.tail {
                    Tail::None => Tail::None,
                    _ if byte == b'\n' || byte == b'\r' => Tail::NewLine,
                    Tail::Adjacent | Tail::Spaced => Tail::Spaced,
                    Tail::NewLine => Tail::NewLine,
                };
            }
            b';' => {
                if self.parens == 0 && self.bodies == 0 {
                    return Some(End::Statement { copy: self.head == Head::Copy });
                }
                self.token(Token::Other);
            }
            b'\\' if self.significant => return Some(End::MetaInStatement),
            b'\\' => self.state = State::Meta,
            b'-' => self.state = State::Dash,
            b'/' => self.state = State::Slash,
            b'\'' => {
                let continues = matches!(self.tail, Tail::Adjacent | Tail::NewLine);
                self.token(Token::Other);
                self.state = if continues { State::Escaped } else { State::Single };
            }
            b'"' => {
                self.token(Token::Other);
                self.state = State::Double;
            }
            b'$' => {
                self.token(Token::Other);
                self.delimiter.clear();
                self.delimiter.push(b'$');
                self.state = State::Dollar;
            }
            b'(' => {
                self.token(Token::Other);
                self.parens += 1;
            }
            b')' => {
                self.token(Token::Other);
                self.parens = self.parens.saturating_sub(1);
            }
            b'.' => self.token(Token::BeforeName),
            b'0'..=b'9' => {
                self.token(Token::Other);
                self.state = State::Number;
            }
            _ if is_word_begin(byte) => {
                self.significant = true;
                self.tail = Tail::None;
                self.word_length = 0;
                self.push_word(byte);
                self.state = State::Word;
            }
            _ => self.token(Token::Other),
        }
        None
    }

    fn token(&mut self, token: Token) {
        self.significant = true;
        self.tail = Tail::None;
        self.previous = token;
        if !matches!(self.head, Head::Copy | Head::Routine) {
            self.head = Head::Other;
        }
    }

    fn push_word(&mut self, byte: u8) {
        if let Some(place) = self.word.get_mut(self.word_length) {
            *place = byte.to_ascii_lowercase();
        }
        self.word_length = self.word_length.saturating_add(1);
    }

    /// The word in lower case; empty when it is longer than any keyword that matters.
    fn keyword(&self) -> &[u8] {
        self.word.get(..self.word_length).unwrap_or_default()
    }

    fn word_ended(&mut self) {
        let is_name = self.previous == Token::BeforeName;
        let after_begin = self.previous == Token::Begin;
        let mut token = Token::Other;
        let mut bodies = self.bodies;
        let mut head = self.head;
        let in_routine = head == Head::Routine && self.parens == 0 && !is_name;
        match (self.keyword(), head) {
            (b"copy", Head::Empty) => head = Head::Copy,
            (b"create", Head::Empty) => head = Head::Create,
            (b"or", Head::Create) => head = Head::CreateOr,
            (b"replace", Head::CreateOr) => head = Head::CreateOrReplace,
            (b"function" | b"procedure", Head::Create | Head::CreateOrReplace) => head = Head::Routine,
            (_, Head::Empty | Head::Create | Head::CreateOr | Head::CreateOrReplace) => head = Head::Other,
            (b"as", _) if !is_name => token = Token::BeforeName,
            (b"begin", _) if in_routine => token = Token::Begin,
            (b"atomic", _) if in_routine && after_begin => bodies += 1,
            (b"case", _) if in_routine && bodies > 0 => bodies += 1,
            (b"end", _) if in_routine => bodies = bodies.saturating_sub(1),
            _ => {}
        }
        self.head = head;
        self.bodies = bodies;
        self.previous = token;
    }

    fn block_comment(&mut self, input: &[u8], at: usize, depth: u32, previous: u8) -> usize {
        let Some(length) = memchr2(b'*', b'/', &input[at..]) else {
            self.state = State::BlockComment { depth, previous: 0 };
            return input.len();
        };
        let previous = if length == 0 { previous } else { 0 };
        let byte = input[at + length];
        self.state = match (previous, byte) {
            (b'/', b'*') => State::BlockComment { depth: depth + 1, previous: 0 },
            (b'*', b'/') if depth == 1 => State::Base,
            (b'*', b'/') => State::BlockComment { depth: depth - 1, previous: 0 },
            _ => State::BlockComment { depth, previous: byte },
        };
        at + length + 1
    }

    fn open_dollar(&mut self) {
        self.delimiter.push(b'$');
        self.state = State::DollarBody { matched: 0 };
    }

    fn dollar_body(&mut self, input: &[u8], at: usize, matched: usize) -> usize {
        if matched == 0 {
            return match memchr(b'$', &input[at..]) {
                Some(length) => {
                    self.state = State::DollarBody { matched: 1 };
                    at + length + 1
                }
                None => input.len(),
            };
        }
        // The delimiter holds `$` only at its two ends, so that a failed match can only begin again at this byte.
        let byte = input[at];
        self.state = if byte == self.delimiter[matched] {
            if matched + 1 == self.delimiter.len() {
                State::Base
            } else {
                State::DollarBody { matched: matched + 1 }
            }
        } else {
            State::DollarBody { matched: usize::from(byte == b'$') }
        };
        at + 1
    }
}

/// White space as PostgreSQL's own scanner knows it.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

pub(super) fn is_word_begin(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

pub(super) fn is_word(byte: u8) -> bool {
    is_word_begin(byte) || byte.is_ascii_digit() || byte == b'$'
}
