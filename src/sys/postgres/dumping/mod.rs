//! A dump that several sessions make at once, under one snapshot.
//!
//! `pg_dump` writes the definitions before and behind the rows, as two sections; sessions of ours read the rows by COPY, large
//! tables in parts; sequences and large objects, which `pg_dump` counts among the rows, are written here too. What comes out
//! is what one `pg_dump` of the same snapshot writes, in the same order.
//!
//! Nothing is handed on before every lock is held. Until then all can be given up, and tried again when somebody waits for
//! an exclusive lock, or left to one stream of `pg_dump`.

mod child;
mod inventory;
mod leader;
mod reader;
mod sections;
mod selection;
mod shelves;
mod text;
mod trouble;
mod units;

pub use child::Stream;
pub use sections::{check_whole, not_a_dump};
pub use selection::Selection;

use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::contents::Contents;
use crate::sys::postgres::fingerprint::Fingerprint;
use crate::sys::postgres::settings::Settings;
use crate::sys::postgres::version::Version;
use crate::sys::stream::{BLOCK, Block, BlockSink, Kind, guarded};
use child::Dumping;
use leader::Leader;
use sections::{Head, Part, Section};
use shelves::{Piece, Shelves};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trouble::Trouble;
use units::Unit;

/// From which version on `pg_dump` writes the owners of large objects in the same section as their content.
const OBJECTS_MOVED: u32 = 17;

/// What is dumped, and how.
pub struct Request<'a> {
    /// The machine.
    pub host: &'a Arc<Host>,
    /// The database.
    pub settings: &'a Settings,
    /// The program, and its version.
    pub pg_dump: (&'a str, Version),
    /// Options of its sessions, as `catalog::dump_options` gives them.
    pub pins: &'a str,
    /// What of it.
    pub selection: Selection<'a>,
    /// How many sessions read rows.
    pub jobs: usize,
    /// How long a table's lock is waited for.
    pub lock_wait: Duration,
}

/// How a dump came out.
pub enum Dumped {
    /// Everything was handed on, up to `pg_dump`'s end mark.
    Whole(Box<Contents>),
    /// Nothing was handed on, for this reason; one stream of `pg_dump` may do.
    NotSo(String),
}

/// Dumps a database into `out`; `scout` is a session in it.
///
/// # Errors
/// What the server or `pg_dump` fails with once it has begun, and locks that are not free for longer than is waited.
pub fn dump(request: &Request<'_>, scout: &Session, out: &mut dyn BlockSink) -> Result<Dumped, Failure> {
    let deadline = request.host.clock().instant() + request.lock_wait;
    let jobs = fitting(request.jobs, scout)?;
    if jobs < request.jobs {
        request.host.info(&format!(
            "dumping with {jobs} connections instead of {}: the server has no room for more locks (`max_locks_per_transaction`)",
            request.jobs
        ));
    }
    loop {
        match attempt(request, scout, out, deadline, jobs) {
            Ok(contents) => return contents.map(|contents| Dumped::Whole(Box::new(contents))),
            Err(Trouble::Unfit(why)) => return Ok(Dumped::NotSo(why)),
            Err(Trouble::Failed(failure)) => return Err(failure),
            Err(Trouble::Busy(failure)) => child::pause(request, scout, failure, deadline)?,
        }
    }
}

/// How many sessions may hold a lock on every table, beside leader and `pg_dump`, with half of the server's room for locks
/// left to others.
fn fitting(jobs: usize, scout: &Session) -> Result<usize, Failure> {
    let row = scout.one(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384), \
         current_setting('max_locks_per_transaction')::bigint * (current_setting('max_connections')::bigint \
         + current_setting('max_prepared_transactions')::bigint)",
    )?;
    let number =
        |at: usize| row.get(at).cloned().flatten().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    let (tables, room) = (number(0), number(1) / 2);
    Ok((room / tables.max(1)).saturating_sub(3).clamp(1, jobs))
}

/// The outer failure is one before anything was handed on, the inner one comes after that.
fn attempt(
    request: &Request<'_>,
    scout: &Session,
    out: &mut dyn BlockSink,
    deadline: Instant,
    jobs: usize,
) -> Result<Result<Contents, Failure>, Trouble> {
    let limit = deadline.saturating_duration_since(request.host.clock().instant());
    let readers = (0..jobs)
        .map(|_| leader::reading(request.host, request.settings))
        .collect::<Result<Vec<Session>, Failure>>()?;
    let leader = Leader::take(request, scout, &readers, limit)?;
    let inventory = &leader.inventory;
    if let Some(name) = inventory.unwritable() {
        let encoding = &inventory.encoding;
        return Err(Trouble::Unfit(format!("the name {name} is written in {encoding}")));
    }
    if let Some(name) = &inventory.hashed_enum {
        return Err(Trouble::Unfit(format!("which rows belong to {name} is told by the hash of an enum")));
    }
    if !inventory.objects.is_empty() && request.pg_dump.1.major() >= OBJECTS_MOVED {
        return Err(Trouble::Unfit("there are large objects".to_owned()));
    }
    let units = units::cut(inventory);
    let before = Dumping::start(request, Some(&leader), Some("pre-data"))?;
    let behind = Dumping::start(request, Some(&leader), Some("post-data"))?;
    let shelves = Shelves::new(units.len(), readers.len());
    let joined = std::thread::scope(|scope| {
        for session in &readers {
            let read = || {
                if let Err(failure) = guarded(|| reader::read(session, inventory, &units, &shelves)) {
                    shelves.fail(failure);
                }
            };
            if let Err(error) =
                std::thread::Builder::new().name("dump-reader".into()).spawn_scoped(scope, read)
            {
                let failure = Failure::new(Code::Io, "cannot start a thread").caused_by(error);
                shelves.fail(failure);
            }
        }
        // `pg_dump` has its locks when it writes.
        let begun = before.begun().and_then(|before| Ok((before, behind.begun()?)));
        let result = begun.map(|(before, behind)| {
            let parts = Parts { leader: &leader, units: &units, shelves: &shelves };
            Joiner { out, text: Vec::new(), rows: BTreeMap::new() }.join(before, parts, behind)
        });
        if !matches!(result, Ok(Ok(_))) {
            // Readers may be waiting for the server, or for somebody to take what they read.
            shelves.fail(Failure::new(Code::Failed, "the dump has ended"));
            readers.iter().for_each(Session::interrupt);
        }
        result
    })?;
    Ok(joined.and_then(|contents| {
        // A session that was not there at the end may not have been there before.
        shelves.check()?;
        leader.end()?;
        Ok(contents)
    }))
}

/// What comes between the sections.
struct Parts<'a> {
    leader: &'a Leader,
    units: &'a [Unit],
    shelves: &'a Shelves,
}

/// Puts sections and rows together, in the order of the file.
struct Joiner<'a> {
    out: &'a mut dyn BlockSink,
    /// Text that is no rows and was not pushed yet.
    text: Vec<u8>,
    rows: BTreeMap<usize, Fingerprint>,
}

impl Joiner<'_> {
    fn join(mut self, before: Dumping, parts: Parts<'_>, behind: Dumping) -> Result<Contents, Failure> {
        let (mut contents, head) = self.section(before, Part::Before, Head::default())?;
        let inventory = &parts.leader.inventory;
        let mut objects_begun = false;
        let mut sequences_done = false;
        for unit in parts.units {
            match unit {
                Unit::Rows { table, first: true, .. } => {
                    self.text.extend_from_slice(text::table(&inventory.tables[*table]).as_bytes());
                }
                Unit::Objects(..) if !objects_begun => {
                    self.sequences(parts.leader)?;
                    sequences_done = true;
                    self.text.extend_from_slice(text::objects().as_bytes());
                    objects_begun = true;
                }
                _ => {}
            }
            let rows = self.unit(parts.shelves)?;
            if let Unit::Rows { table, last, .. } = unit {
                self.rows.entry(*table).or_default().merge(&rows);
                if *last {
                    self.text.extend_from_slice(text::GAP);
                }
            }
        }
        if objects_begun {
            self.text.extend_from_slice(text::END_OF_OBJECTS);
        }
        if !sequences_done {
            self.sequences(parts.leader)?;
        }
        self.section(behind, Part::Behind, head)?;
        self.flush()?;
        for (table, rows) in &self.rows {
            contents.add(&inventory.tables[*table].qualified, rows);
        }
        Ok(contents)
    }

    /// Hands a whole section on.
    fn section(&mut self, mut from: Dumping, part: Part, head: Head) -> Result<(Contents, Head), Failure> {
        let mut section = Section::new(part, head);
        while !from.bytes().is_empty() {
            section.take(from.bytes(), &mut self.text)?;
            if self.text.len() >= BLOCK {
                self.flush()?;
            }
            self.out.check()?;
            from.fill()?;
        }
        from.end()?;
        section.end(&mut self.text)
    }

    /// Hands the pieces of the next unit on; returns the rows it held.
    fn unit(&mut self, shelves: &Shelves) -> Result<Fingerprint, Failure> {
        loop {
            let check = || self.out.check();
            match shelves.take(&check)? {
                Some(Piece::Block(block)) => {
                    self.flush()?;
                    shelves.give(self.out.buffer());
                    self.out.push(block)?;
                }
                Some(Piece::End(rows)) => return Ok(rows),
                None => {
                    return Err(Failure::new(Code::Internal, "a dump has fewer units than it was cut into"));
                }
            }
        }
    }

    fn sequences(&mut self, leader: &Leader) -> Result<(), Failure> {
        for (sequence, (last_value, is_called)) in leader.inventory.sequences.iter().zip(leader.positions()?)
        {
            let text = text::sequence(sequence, &last_value, is_called);
            self.text.extend_from_slice(text.as_bytes());
            if self.text.len() >= BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.text.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.text, self.out.buffer());
        self.out.push(Block { kind: Kind::Schema, table: None, bytes })
    }
}
