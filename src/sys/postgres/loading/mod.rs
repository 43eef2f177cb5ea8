//! Fills an empty database from a dump with several sessions at once, and compares what it holds then.
//!
//! *Problem*: one session leaves most of the machine idle, and the order of a dump is only one of those that lead to the same
//! database. *Decision*: what makes the tables is carried out in the dump's own order; then one schedule of steps decides what is
//! done next: rows, indexes, foreign keys, reading back, analyzing. Whatever cannot be told to be safe keeps the dump's order, and
//! a dump of another tool, which can only be read from its beginning to its end, has its rows loaded so.
//! *Rejected*: one phase after the other, which leaves a core idle at the end of each; several COPYs into one table, which are
//! slower than one.

pub mod facts;
pub mod kind;
pub mod outline;
pub mod schedule;
mod shared;
pub mod steps;
mod streamed;
mod tail;
mod worker;

use super::connection::{Session, connect};
use super::context::Context;
use super::load::{Copied, Deferred, LoadOptions, Loaded, Loader, Target, Terms};
use super::quote::literal;
use super::read_back::{Described, ReadBack, Reader, open};
use super::server_disk::DataDisk;
use super::settings::Settings;
use super::slots::when_free;
use crate::base::backup::TableContent;
use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use crate::sys::stream::{Section, Sections};
use kind::Kind;
use schedule::Step;
use shared::Shared;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use steps::{Circumstances, Table, Work, steps};
pub use streamed::Known;

/// How often a waiting thread looks whether the run is to end.
const POLL: Duration = Duration::from_millis(50);

/// Rows of fewer bytes are not worth a transaction in which their table is emptied first.
const WORTH_FREEZING: u64 = 1 << 20;

/// How much memory all sessions together may use to build indexes.
const INDEX_MEMORY_MIB: u64 = 256;

/// A database that is to be filled, and how.
pub struct Filling<'a> {
    /// The machine.
    pub host: &'a Arc<Host>,
    /// The database.
    pub settings: &'a Settings,
    /// The name of the dump, for messages.
    pub name: String,
    /// How many sessions work at once.
    pub jobs: usize,
    /// Whether the dump was written under the settings that sessions of ours have.
    pub pinned: bool,
    /// The value of `lc_monetary` that the dump was written with, if it is known.
    pub monetary: Option<&'a str>,
    /// Whether rows are read back and compared; else they are counted.
    pub compare: bool,
    /// The server's disk, if it is on this machine.
    pub disk: Option<DataDisk>,
    /// Told how many bytes of the file were read.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// What a database was filled with.
#[derive(Debug)]
pub struct Full {
    /// What was loaded.
    pub loaded: Loaded,
    /// What comparing it has found.
    pub found: ReadBack,
    /// What was analyzed already.
    pub analyzed: Vec<u32>,
}

/// Where the rows are that are still to be loaded.
struct Source<'a> {
    sections: &'a Sections,
    /// The sections of each table.
    rows: Vec<Vec<usize>>,
    targets: Vec<Target>,
    /// The sections that hold what else belongs to the data.
    rest: Vec<usize>,
}

/// What is left when the tables are made: rows, unless they are in already, and what stands behind them.
struct Left<'a> {
    source: Option<Source<'a>>,
    tables: Vec<Table>,
    copied: BTreeMap<String, Copied>,
    contents: Vec<TableContent>,
    statements: Cow<'a, [Deferred]>,
    terms: Terms,
    /// The settings that rows are loaded under.
    context: Arc<Context>,
    described: Described,
    /// The section that the statements begin with, and the lines before it once they were counted.
    behind: Option<&'a Section>,
    lines_before: OnceLock<u64>,
    data: u64,
}

/// What is left, with those who carry it out.
struct Ready<'a> {
    left: Left<'a>,
    work: Vec<Work>,
    steps: Vec<Step>,
    sessions: Vec<(Session, Session)>,
}

impl Filling<'_> {
    fn options(&self, known: bool) -> LoadOptions {
        LoadOptions { name: self.name.clone(), in_transaction: false, defer: false, known }
    }

    fn session(&self) -> Result<Session, Failure> {
        let session = connect(self.host, self.settings)?;
        session.run("SET lock_timeout = 0")?;
        if let Some(monetary) = self.monetary {
            session.run(&format!("SET lc_monetary = {}", literal(monetary)))?;
        }
        Ok(session)
    }

    /// Fills it from a file of ours, whose parts can be read apart.
    ///
    /// # Errors
    /// As [`Filling::from_stream`].
    pub fn from_sections(&self, sections: &Sections) -> Result<Full, Failure> {
        let list = &sections.list;
        let is_rows = |section: &Section| section.table.is_some();
        let first = list.iter().position(is_rows).unwrap_or(list.len());
        let session = self.session()?;
        let mut loader = Loader::begin(&session, LoadOptions { defer: true, ..self.options(false) })?;
        let feed = |loader: &mut Loader<'_>, part: &[Section]| {
            part.iter().try_for_each(|section| {
                sections.read(section, &mut |bytes| {
                    self.disk.as_ref().map_or(Ok(()), DataDisk::check)?;
                    loader.take(bytes)
                })?;
                (self.progress)(section.size);
                Ok(())
            })
        };
        feed(&mut loader, &list[..first])?;
        match self.apart(sections, first, &session, &mut loader)? {
            Ok(left) => {
                let (mut loaded, _) = loader.end()?;
                drop(session);
                loaded.copied = BTreeMap::new();
                self.carry_out(left, loaded)
            }
            Err(why) => {
                feed(&mut loader, &list[first..])?;
                let (left, loaded) = Self::rest(&session, loader)?;
                drop(session);
                let mut full = self.carry_out(left, loaded)?;
                if first < list.len() {
                    full.loaded.notes.push(format!("{} was loaded in its own order: {why}", self.name));
                }
                Ok(full)
            }
        }
    }

    /// What can be loaded apart behind the first `first` sections, or why nothing can.
    fn apart<'s>(
        &self,
        sections: &'s Sections,
        first: usize,
        session: &Session,
        loader: &mut Loader<'_>,
    ) -> Result<Result<Left<'s>, String>, Failure> {
        loader.pause()?;
        let Some(tail) = tail::read(sections, first, loader.context())? else {
            return Ok(Err("what stands between the rows and behind them needs their order".to_owned()));
        };
        let mut rows: Vec<Vec<usize>> = Vec::new();
        let mut tables: Vec<Table> = Vec::new();
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, section) in sections.list.iter().enumerate() {
            let Some(name) = &section.table else { continue };
            let table = *by_name.entry(name).or_insert(tables.len());
            if table == tables.len() {
                tables.push(Table { name: name.clone(), ..Table::default() });
                rows.push(Vec::new());
            }
            tables[table].size += section.raw_size;
            rows[table].push(number);
        }
        if tables.iter().any(|table| !tail.contents.iter().any(|content| content.table == table.name)) {
            return Ok(Err("it does not tell what its tables hold".to_owned()));
        }
        let (targets, described) = match Self::targets(session, loader, &mut tables)? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why.to_owned())),
        };
        Ok(Ok(Left {
            source: Some(Source { sections, rows, targets, rest: tail.data }),
            tables,
            copied: BTreeMap::new(),
            contents: tail.contents,
            statements: Cow::Owned(tail.statements),
            terms: loader.terms(),
            context: loader.context().clone(),
            described,
            behind: tail.begin.map(|begin| &sections.list[begin]),
            lines_before: OnceLock::new(),
            data: tail.data_size,
        }))
    }

    /// Looks at the tables whose rows are to come, or says why these cannot be loaded apart.
    fn targets(
        session: &Session,
        loader: &Loader<'_>,
        tables: &mut [Table],
    ) -> Result<Result<(Vec<Target>, Described), &'static str>, Failure> {
        let is_utf8 = loader.terms().encoding().eq_ignore_ascii_case("UTF8");
        if !is_utf8 && tables.iter().any(|table| table.name.contains('\\')) {
            return Ok(Err("it has names that are no UTF-8"));
        }
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let found = facts::tables(session, &names)?;
        let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(Err("the server does not find a table by the name it has in the dump"));
        };
        let mut targets = Vec::new();
        for (table, found) in tables.iter_mut().zip(&found) {
            table.late = found.late;
            table.analyze = found.alone;
            table.partitioned = found.partitioned;
            let freeze = found.freeze && table.size >= WORTH_FREEZING;
            targets.push(Target { name: table.name.clone(), oid: found.oid, freeze });
        }
        let described = Described::ask(session, found.iter().map(|found| found.oid))?;
        Ok(Ok((targets, described)))
    }

    /// All that is needed to carry out what is left, beside rows that are `streamed` if they are not in.
    fn ready<'l>(&self, left: Left<'l>, streamed: bool) -> Result<Ready<'l>, Failure> {
        // A session that has just ended may still be counted; where rows are to come, none has.
        let session = if streamed { self.session()? } else { when_free(self.host, || self.session())? };
        let kinds = kinds(&session, &left.statements)?;
        let views_run_code = facts::views_run_code(&session)?;
        let only_counted = !self.compare;
        let circumstances = Circumstances { data: left.data, views_run_code, only_counted, streamed };
        let (work, steps): (Vec<Work>, Vec<_>) =
            steps(&left.tables, &kinds, circumstances).into_iter().unzip();
        let sessions = self.sessions(session, work.len(), streamed)?;
        let memory = INDEX_MEMORY_MIB / sessions.len() as u64;
        for (session, reader) in &sessions {
            // Steps wait for each other here, and only for as long as they must.
            reader.run("SET lock_timeout = 0")?;
            session.run(&format!(
                "SELECT set_config('maintenance_work_mem', '{memory}MB', false) FROM pg_settings \
                 WHERE name = 'maintenance_work_mem' AND setting::bigint < {}",
                memory << 10
            ))?;
        }
        Ok(Ready { left, work, steps, sessions })
    }

    fn carry_out(&self, left: Left<'_>, loaded: Loaded) -> Result<Full, Failure> {
        let ready = self.ready(left, false)?;
        let shared = Shared::of(self, &ready);
        shared.run(&ready.sessions);
        shared.ended()?;
        shared.full(loaded, &ready.sessions[0].1)
    }

    /// Pairs of sessions, one that changes and one that reads, as many as the server lets in.
    fn sessions(
        &self,
        first: Session,
        steps: usize,
        streamed: bool,
    ) -> Result<Vec<(Session, Session)>, Failure> {
        let reader = Reader { host: self.host, settings: self.settings };
        let first_reader = || open(&reader, self.monetary);
        let first_reader = if streamed { first_reader()? } else { when_free(self.host, first_reader)? };
        let mut sessions = vec![(first, first_reader)];
        while sessions.len() < self.jobs.min(steps) {
            match self.session().and_then(|session| Ok((session, open(&reader, self.monetary)?))) {
                Ok(pair) => sessions.push(pair),
                Err(failure) if failure.code == Code::Connect => {
                    let (wanted, there) = (self.jobs, sessions.len());
                    self.host.info(&format!("loading with {there} jobs instead of {wanted}: {failure}"));
                    break;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(sessions)
    }
}

/// What the statements need of the others, after a look at the types that they name.
fn kinds(session: &Session, statements: &[Deferred]) -> Result<Vec<Kind>, Failure> {
    let named = statements.iter().filter_map(|statement| match &statement.kind {
        Kind::CastIndex { types, .. } => Some(types),
        _ => None,
    });
    let enums = facts::enums(session, &named.flatten().map(String::as_str).collect())?;
    let kind = |statement: &Deferred| match &statement.kind {
        Kind::CastIndex { table, types } if types.iter().all(|name| enums.contains(name)) => {
            Kind::Index(table.clone())
        }
        other => other.clone(),
    };
    Ok(statements.iter().map(kind).collect())
}

/// Analyzes all that is not analyzed yet.
///
/// # Errors
/// What the server refuses.
pub fn analyze(session: &Session, encoding: &str, done: &[u32]) -> Result<(), Failure> {
    // Names that are no UTF-8 cannot be read here.
    if !encoding.eq_ignore_ascii_case("UTF8") {
        return session.run("ANALYZE");
    }
    for names in facts::unanalyzed(session, done)?.chunks(100) {
        session.run(&format!("ANALYZE {}", names.join(", ")))?;
    }
    Ok(())
}
