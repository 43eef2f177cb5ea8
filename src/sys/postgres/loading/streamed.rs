//! Loads a dump that can only be read from its beginning to its end. Where its outline is known, tables whose rows are in get
//! their indexes, are read back and analyzed while the rows of others still arrive.

use super::outline::Outline;
use super::shared::Shared;
use super::steps::{Table, Work};
use super::{Filling, Full, Left, Ready, facts};
use crate::base::backup::TableContent;
use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::load::{LoadOptions, Loaded, Loader};
use crate::sys::postgres::read_back::Described;
use crate::sys::postgres::server_disk::DataDisk;
use crate::sys::stream::guarded;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter::once;
use std::sync::OnceLock;
use std::thread::Builder;

/// Takes the bytes of a dump in their order.
pub type Take<'a> = dyn FnMut(&[u8]) -> Result<(), Failure> + 'a;

/// What is known of a dump that was verified: its outline, and what its tables hold.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Its outline.
    pub outline: &'a Outline,
    /// What its tables hold.
    pub contents: &'a [TableContent],
}

/// How far a dump was handed over.
struct Stream<'a> {
    known: Known<'a>,
    /// Bytes.
    at: u64,
    /// The steps that are done when the rows of a table are in, in the order of the rows.
    steps: Vec<usize>,
    /// Tables whose rows are in.
    tables: usize,
}

impl<'a> Stream<'a> {
    fn of(known: Known<'a>) -> Self {
        Self { known, at: 0, steps: Vec::new(), tables: 0 }
    }

    /// Cuts off what lies before byte `end` of the dump.
    fn before<'b>(&mut self, end: u64, bytes: &mut &'b [u8]) -> &'b [u8] {
        let length = end.saturating_sub(self.at).min(bytes.len() as u64) as usize;
        let (before, behind) = bytes.split_at(length);
        self.at += length as u64;
        *bytes = behind;
        before
    }

    /// All rows that the outline tells of must have come, or others would wait for them for ever.
    fn end(&self) -> Result<(), Failure> {
        match self.known.outline.tables.get(self.tables) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Failure::new(Code::Internal, format!("no rows of {name} were handed over")))
            }
        }
    }

    /// Lets the others go on with the tables whose rows are in.
    fn hand_over(&mut self, loader: &Loader<'_>, shared: &Shared<'_>) {
        while let Some((name, _)) = self.known.outline.tables.get(self.tables)
            && let Some(copied) = loader.copied().get(name)
        {
            shared.lock().copied.insert(name.clone(), copied.clone());
            shared.done(self.steps[self.tables]);
            self.tables += 1;
        }
    }
}

impl Filling<'_> {
    /// Fills it from a stream: `feed` hands the dump's bytes over in their order, and fails when they are not those that were
    /// verified, of which something may be `known`.
    ///
    /// # Errors
    /// What the server refuses, with the line of the dump; what `feed` fails with; a difference is a result.
    pub fn from_stream(
        &self,
        known: Option<Known<'_>>,
        feed: impl FnOnce(&mut Take<'_>) -> Result<(), Failure>,
    ) -> Result<Full, Failure> {
        let session = self.session()?;
        let options = LoadOptions { defer: true, ..self.options(known.is_some()) };
        let mut loader = Loader::begin(&session, options)?;
        let (ready, shared) = (OnceLock::new(), OnceLock::new());
        std::thread::scope(|scope| {
            let mut stream = known.map(Stream::of);
            let mut working = None;
            let fed = guarded(|| {
                feed(&mut |mut bytes| {
                    self.disk.as_ref().map_or(Ok(()), DataDisk::check)?;
                    let Some(on) = &mut stream else { return loader.take(bytes) };
                    if shared.get().is_none() {
                        loader.take(on.before(on.known.outline.before, &mut bytes))?;
                        if on.at < on.known.outline.before {
                            return Ok(());
                        }
                        let Some(found) = self.beside(on.known, &session, &mut loader)? else {
                            stream = None;
                            return loader.take(bytes);
                        };
                        let ready: &Ready<'_> = ready.get_or_init(|| found);
                        let is_rows = |number: &usize| matches!(ready.work[*number], Work::Rows(_));
                        on.steps = (0..ready.work.len()).filter(is_rows).collect();
                        let shared = shared.get_or_init(|| Shared::of(self, ready));
                        working = Some(shared.working());
                        ready.sessions[1..].iter().for_each(|pair| shared.begin(scope, pair));
                        let pairs = ready.sessions.iter().flat_map(|(session, reader)| [session, reader]);
                        let watch = || shared.oversee(pairs.chain(once(&session)));
                        Builder::new().spawn_scoped(scope, watch).map_err(|error| {
                            Failure::new(Code::Io, "cannot start a thread").caused_by(error)
                        })?;
                    }
                    let Some(shared) = shared.get() else { return Ok(()) };
                    shared.check()?;
                    loader.take(on.before(on.known.outline.until, &mut bytes))?;
                    on.hand_over(&loader, shared);
                    Ok(())
                })
            });
            let (Some(shared), Some(ready), Some(on)) = (shared.get(), ready.get(), &stream) else {
                return fed;
            };
            let is_done = fed.and_then(|()| loader.pause()).and_then(|()| on.end());
            match is_done {
                Ok(()) => {
                    let data = ready.work.iter().position(|work| *work == Work::Data);
                    data.into_iter().for_each(|step| shared.done(step));
                    shared.work(&ready.sessions[0]);
                }
                Err(failure) => shared.fail(failure),
            }
            drop(working);
            Ok(())
        })?;
        if let (Some(shared), Some(ready)) = (shared.into_inner(), ready.get()) {
            shared.ended()?;
            let (loaded, _) = loader.end()?;
            return shared.full(loaded, &ready.sessions[0].1);
        }
        let (mut left, loaded) = Self::rest(&session, loader)?;
        if let Some(known) = known {
            left.contents = known.contents.to_vec();
        }
        drop(session);
        self.carry_out(left, loaded)
    }

    /// What can be done beside the rows that are to come; `None` if nothing can: the server knows a table by another name than the
    /// dump, or has no room for one more session.
    fn beside<'k>(
        &self,
        known: Known<'k>,
        session: &Session,
        loader: &mut Loader<'_>,
    ) -> Result<Option<Ready<'k>>, Failure> {
        loader.pause()?;
        let Known { outline, contents } = known;
        let table =
            |(name, size): &(String, u64)| Table { name: name.clone(), size: *size, ..Table::default() };
        let mut tables: Vec<Table> = outline.tables.iter().map(table).collect();
        let Ok((targets, described)) = Self::targets(session, loader, &mut tables)? else { return Ok(None) };
        let left = Left {
            source: None,
            tables,
            copied: BTreeMap::new(),
            contents: contents.to_vec(),
            statements: Cow::Borrowed(&outline.statements),
            terms: loader.terms(),
            context: loader.context().clone(),
            described,
            behind: None,
            lines_before: OnceLock::new(),
            data: 0,
        };
        match self.ready(left, true) {
            Ok(ready) => {
                loader.expect(targets);
                Ok(Some(ready))
            }
            Err(failure) if failure.code == Code::Connect => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What is left when all rows are in.
    pub(super) fn rest(
        session: &Session,
        mut loader: Loader<'_>,
    ) -> Result<(Left<'static>, Loaded), Failure> {
        loader.pause()?;
        let (statements, terms) = (loader.take_deferred(), loader.terms());
        let context = loader.context().clone();
        let (loaded, contents) = loader.end()?;
        let names: Vec<&str> = loaded.copied.keys().map(String::as_str).collect();
        let found = facts::tables(session, &names)?;
        let sizes = facts::sizes(session, loaded.copied.values().map(|copied| copied.oid))?;
        let mut tables = Vec::new();
        for ((name, copied), found) in loaded.copied.iter().zip(found) {
            let size = sizes.get(&copied.oid).copied().unwrap_or(0);
            let analyze = found.is_some_and(|found| found.alone);
            let partitioned = found.is_some_and(|found| found.partitioned);
            tables.push(Table { name: name.clone(), size, late: false, loaded: true, analyze, partitioned });
        }
        let described = Described::ask(session, loaded.copied.values().map(|copied| copied.oid))?;
        let copied = loaded.copied.clone();
        let left = Left {
            source: None,
            tables,
            copied,
            contents,
            statements: Cow::Owned(statements),
            terms,
            context,
            described,
            behind: None,
            lines_before: OnceLock::new(),
            data: 0,
        };
        Ok((left, loaded))
    }
}
