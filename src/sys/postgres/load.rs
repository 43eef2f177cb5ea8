//! Carries out a plain dump over the wire protocol, without psql: nothing in a dump is a command of the client's
//! (CVE-2026-18408), and the bytes that are loaded are the bytes that were read.
//!
//! Statements go in batches, rows as they are, in the dump's own encoding. The session stays UTF-8, since its messages must be
//! readable; a statement in another encoding is handed over as bytes, for the server to convert and execute.

use super::contents::Contents;
use super::context::Context;
use super::exchange::Refused;
use super::quote::literal;
use super::rules::{Rule, rule};
use super::scan::{ScanError, Scanner, Segment};
use super::statement::describe;
use super::trouble;
use crate::base::backup::TableContent;
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::Session;
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod copying;
mod parts;
mod renamed;

use copying::Copying;
pub use parts::Deferred;

/// How many bytes of statements go in one batch.
const BATCH: usize = 64 << 10;
/// How many statements go in one batch: each holds its locks until the batch ends.
const STATEMENTS: usize = 100;
/// How many bytes of rows go in one message.
const MESSAGE: usize = 256 << 10;

/// How a dump is carried out.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The name of the dump, for messages.
    pub name: String,
    /// The caller's own transaction is open, and the dump's own ones are left out.
    pub in_transaction: bool,
    /// What stands behind the rows is kept for later, as far as it can be carried out apart.
    pub defer: bool,
    /// The tables' content is known, and not taken from the stream.
    pub known: bool,
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tables whose rows went by COPY, by the name in the dump.
    pub copied: BTreeMap<String, Copied>,
    /// Tables whose rows went by INSERT, and how many the server took.
    pub inserted: BTreeMap<String, u64>,
    /// The encoding of the dump.
    pub encoding: String,
    /// What was left out.
    pub notes: Vec<String>,
}

/// A table whose rows went by COPY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// What the server calls it.
    pub oid: u32,
    /// The columns as the dump writes them.
    pub columns: Vec<String>,
    /// Rows that the server took.
    pub rows: u64,
}

/// What all sessions that carry out one dump share: what the server knows, and the encoding that the dump has set.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    known: Arc<BTreeSet<String>>,
    tablespaces: Arc<BTreeSet<String>>,
    encoding: String,
}

impl Terms {
    /// The encoding of the dump.
    pub fn encoding(&self) -> &str {
        &self.encoding
    }
}

/// The one table whose rows a part of a dump holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name as the dump writes it.
    pub name: String,
    /// What the server calls it.
    pub oid: u32,
    /// Whether it is empty and may be emptied, so that its rows can be frozen as they are loaded.
    pub freeze: bool,
}

/// Tells how many lines of the dump stand before the part that is carried out.
pub type LinesBefore<'a> = Box<dyn Fn() -> u64 + Send + 'a>;

/// A statement of the batch.
struct Item {
    line: u64,
    describe: String,
    /// At which character of the batch it begins.
    begin: usize,
    /// Whether it was sent as it is, so that positions in it mean something.
    text: Option<String>,
    inserts: Option<String>,
}

/// Carries out a dump, piece by piece.
pub struct Loader<'a> {
    session: &'a Session,
    options: LoadOptions,
    scanner: Scanner,
    contents: Contents,
    known: Arc<BTreeSet<String>>,
    tablespaces: Arc<BTreeSet<String>>,
    context: Arc<Context>,
    target: Option<Target>,
    /// Tables whose rows are to come, by their names.
    expected: BTreeMap<String, Target>,
    before: LinesBefore<'a>,
    /// Rows have passed, so that what follows stands behind them.
    has_rows: bool,
    deferred: Vec<Deferred>,
    batch: String,
    /// Characters of the batch.
    length: usize,
    items: Vec<Item>,
    copying: Option<Copying<'a>>,
    rows: BytesMut,
    done: Loaded,
}

fn ready(session: &Session) -> Result<(), Failure> {
    // What role or database set must not hinder; the swap that follows makes all of it durable.
    session.run("SET default_transaction_read_only = off; SET synchronous_commit = off")?;
    // Materialized views are filled from views, which sessions of ours otherwise may not read.
    session
        .rows(
            "SELECT pg_catalog.set_config(name, '', false) FROM pg_catalog.pg_settings \
             WHERE name = 'restrict_nonsystem_relation_kind'",
        )
        .map(|_| ())
}

impl<'a> Loader<'a> {
    /// Makes a session ready to carry out a dump: what the dump sets stays set in it.
    pub fn begin(session: &'a Session, options: LoadOptions) -> Result<Self, Failure> {
        ready(session)?;
        let names = |sql: &str| -> Result<BTreeSet<String>, Failure> {
            Ok(session
                .rows(sql)?
                .rows
                .into_iter()
                .filter_map(|row| row.into_iter().next().flatten())
                .collect())
        };
        let terms = Terms {
            known: Arc::new(names("SELECT lower(name) FROM pg_catalog.pg_settings")?),
            tablespaces: Arc::new(names("SELECT spcname FROM pg_catalog.pg_tablespace")?),
            encoding: "UTF8".to_owned(),
        };
        Ok(Self::of(session, options, terms))
    }

    /// Makes one more session ready, for parts of a dump whose beginning another one has carried out.
    pub fn join(session: &'a Session, options: LoadOptions, terms: &Terms) -> Result<Self, Failure> {
        ready(session)?;
        Ok(Self::of(session, options, terms.clone()))
    }

    fn of(session: &'a Session, options: LoadOptions, terms: Terms) -> Self {
        Self {
            known: terms.known,
            tablespaces: terms.tablespaces,
            context: Arc::default(),
            target: None,
            expected: BTreeMap::new(),
            before: Box::new(|| 0),
            has_rows: false,
            deferred: Vec::new(),
            session,
            options,
            scanner: Scanner::new(),
            contents: Contents::new(),
            batch: String::new(),
            length: 0,
            items: Vec::new(),
            copying: None,
            rows: BytesMut::new(),
            done: Loaded { encoding: terms.encoding, ..Loaded::default() },
        }
    }

    /// Carries out the next bytes of the dump, cut anywhere.
    ///
    /// # Errors
    /// What the server refuses, with the line of the dump; what is no dump.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut scanner = std::mem::take(&mut self.scanner);
        let mut rest = bytes;
        loop {
            match scanner.next(&mut rest) {
                Ok(Some(segment)) => self.segment(&segment)?,
                Ok(None) => break,
                Err(error) => return Err(self.not_a_dump(&error)),
            }
        }
        self.scanner = scanner;
        Ok(())
    }

    /// Carries out what is left; returns what was loaded, and the tables as the dump's stream held them.
    pub fn end(mut self) -> Result<(Loaded, Vec<TableContent>), Failure> {
        self.end_scan()?;
        Ok((self.done, self.contents.tables()))
    }

    fn end_scan(&mut self) -> Result<(), Failure> {
        let mut scanner = std::mem::take(&mut self.scanner);
        match scanner.end() {
            Ok(Some(segment)) => self.segment(&segment)?,
            Ok(None) => {}
            Err(error) => return Err(self.not_a_dump(&error)),
        }
        self.flush()
    }

    fn not_a_dump(&self, error: &ScanError) -> Failure {
        Failure::new(Code::NotIntact, format!("`{}` is no whole dump", self.options.name)).caused_by(error)
    }

    fn segment(&mut self, segment: &Segment<'_>) -> Result<(), Failure> {
        let is_data = matches!(segment, Segment::Rows(_) | Segment::CopyBegin { .. } | Segment::CopyEnd(_));
        if !(is_data && self.options.known) {
            self.contents.observe(segment);
        }
        match *segment {
            Segment::Space(_) | Segment::Comment { .. } | Segment::Meta { restrict: true, .. } => Ok(()),
            Segment::Statement { text, line } => self.statement(text, line),
            Segment::CopyBegin { head, line, text } => self.copy_begin(head, text, line),
            Segment::Rows(bytes) => self.copy_rows(bytes),
            Segment::CopyEnd(_) => self.copy_end(),
            Segment::Meta { text, line, .. } => {
                Err(trouble::command(&self.options.name, text, self.line(line)))
            }
        }
    }

    fn statement(&mut self, text: &[u8], line: u64) -> Result<(), Failure> {
        if self.options.defer && self.has_rows && self.defers(text, line)? {
            return Ok(());
        }
        let mut inserts = None;
        let rule = rule(text);
        if let Some(context) = self.context.after(&rule, text, line) {
            self.context = Arc::new(context);
        }
        match rule {
            Rule::Refuse(why, hint) => {
                let line = self.line(line);
                return Err(trouble::forbidden(&self.options.name, line, &describe(text), why, hint));
            }
            Rule::Skip(why) => {
                let line = self.line(line);
                self.note(format!("line {line}: `{}` was left out: {why}", describe(text)));
                return Ok(());
            }
            Rule::Transaction if self.options.in_transaction => return Ok(()),
            // The server must end what came before by itself, not as a part of the dump's transaction.
            Rule::Transaction => self.flush()?,
            Rule::Set(name, value) => match name.as_str() {
                "client_encoding" => {
                    self.flush()?;
                    self.done.encoding = value;
                    return Ok(());
                }
                "default_tablespace" if !value.is_empty() && !self.tablespaces.contains(&value) => {
                    self.note(format!(
                        "there is no tablespace `{value}` here: what was in it goes to the database's own"
                    ));
                    return self.add("SET default_tablespace = ''".as_bytes(), line, None);
                }
                _ if !self.known.contains(&name.to_ascii_lowercase()) => {
                    self.note(format!("this server does not know the setting `{name}`"));
                    return Ok(());
                }
                _ => {}
            },
            Rule::Insert(table) => inserts = Some(table),
            Rule::Tolerate => return self.tolerated(text, line),
            Rule::Run => {}
        }
        self.add(text, line, inserts)
    }

    /// The line of the dump that a line of the part is.
    fn line(&self, line: u64) -> u64 {
        (self.before)() + line
    }

    fn note(&mut self, note: String) {
        if !self.done.notes.contains(&note) {
            self.done.notes.push(note);
        }
    }

    fn add(&mut self, text: &[u8], line: u64, inserts: Option<String>) -> Result<(), Failure> {
        let (sent, is_plain) = self.as_text(text);
        let begin = self.length;
        self.length += sent.chars().count() + 2;
        self.batch.push_str(&sent);
        self.batch.push_str(";\n");
        let describe = describe(text);
        self.items.push(Item { line, describe, begin, text: is_plain.then_some(sent), inserts });
        if self.batch.len() >= BATCH || self.items.len() >= STATEMENTS {
            self.flush()?;
        }
        Ok(())
    }

    /// The statement as it is sent, without its semicolon, and whether that is what stands in the dump.
    fn as_text(&self, text: &[u8]) -> (String, bool) {
        let text = text.strip_suffix(b";").unwrap_or(text);
        let reads_as_utf8 = matches!(
            self.done.encoding.to_ascii_uppercase().as_str(),
            "UTF8" | "UTF-8" | "UNICODE" | "SQL_ASCII"
        );
        match std::str::from_utf8(text) {
            Ok(sent) if reads_as_utf8 || sent.is_ascii() => (sent.to_owned(), true),
            _ => (self.executed(text), false),
        }
    }

    /// A block that executes the bytes, which the server converts.
    fn executed(&self, text: &[u8]) -> String {
        let mut hex = String::with_capacity(2 * text.len());
        for byte in text {
            hex.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            hex.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        format!(
            "DO $lifeboat$ BEGIN EXECUTE pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), {}); END $lifeboat$",
            literal(&self.done.encoding)
        )
    }

    /// Carries out a statement that this role may lack the right for, or whose object is there already.
    fn tolerated(&mut self, text: &[u8], line: u64) -> Result<(), Failure> {
        self.flush()?;
        self.steady()?;
        let (sent, _) = self.as_text(text);
        if self.options.in_transaction {
            self.session.run("SAVEPOINT lifeboat")?;
        }
        let answer = self.session.batch(&sent)?;
        if self.options.in_transaction {
            let end = if answer.is_ok() { "RELEASE" } else { "ROLLBACK TO" };
            self.session.run(&format!("{end} SAVEPOINT lifeboat"))?;
        }
        match answer {
            Ok(_) => Ok(()),
            Err(refused) if matches!(refused.state.as_str(), "42501" | "42P06") => {
                let line = self.line(line);
                self.note(format!("line {line}: `{}` was left out: {}", describe(text), refused.message));
                Ok(())
            }
            Err(refused) => {
                let item = Item { line, describe: describe(text), begin: 0, text: Some(sent), inserts: None };
                Err(self.failed(&item, &refused))
            }
        }
    }

    /// Lets the server read what comes next as it was read here, whatever a trigger or a default value has set meanwhile.
    fn steady(&self) -> Result<(), Failure> {
        self.session.run("SET standard_conforming_strings = on; SET client_encoding = UTF8")
    }

    /// Sends the batch.
    fn flush(&mut self) -> Result<(), Failure> {
        if self.items.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let items = std::mem::take(&mut self.items);
        self.length = 0;
        self.steady()?;
        match self.session.batch(&batch)? {
            Ok(touched) => {
                for (item, rows) in items.into_iter().zip(touched) {
                    if let Some(table) = item.inserts {
                        *self.done.inserted.entry(table).or_default() += rows;
                    }
                }
                Ok(())
            }
            Err(refused) => {
                // A text that cannot even be parsed is refused as a whole, and only the position tells where.
                let at = match refused.position {
                    Some(position) => items.iter().rposition(|item| item.begin <= position),
                    None => Some(refused.done),
                };
                let item = at.and_then(|at| items.get(at)).or(items.last());
                Err(item.map_or_else(
                    || Failure::new(Code::Internal, "an empty batch was refused"),
                    |item| self.failed(item, &refused),
                ))
            }
        }
    }

    fn failed(&self, item: &Item, refused: &Refused) -> Failure {
        let before = refused.position.zip(item.text.as_ref()).map_or(0, |(position, text)| {
            let within = position.saturating_sub(item.begin);
            text.chars().take(within).filter(|c| *c == '\n').count()
        });
        trouble::statement(&self.options.name, self.line(item.line + before as u64), &item.describe, refused)
    }
}
