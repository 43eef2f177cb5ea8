//! `dump`: a PostgreSQL database as the source of a backup.
//!
//! Several sessions read it at once under one snapshot, and `pg_dump` writes the definitions. Where that cannot be, one
//! `pg_dump` writes it all, and that text is scanned on its way. In both ways blocks are cut at row ends and typed by table,
//! rows are counted and fingerprinted, and the dump counts as whole only with `pg_dump`'s exit status and end marker. The
//! counts and fingerprints are the dump's last lines, as SQL comments.

use crate::action::source::{Produced, Sourced, canonical};
use crate::base::backup::{Content, Source};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::postgres::binaries;
use crate::sys::postgres::catalog;
use crate::sys::postgres::connection::{Session, connect};
use crate::sys::postgres::contents::Contents;
use crate::sys::postgres::dumping::{self, Dumped, Request, Selection, Stream, check_whole, not_a_dump};
use crate::sys::postgres::globals::globals;
use crate::sys::postgres::scan::{Scanner, Segment};
use crate::sys::postgres::settings::Settings;
use crate::sys::postgres::summary;
use crate::sys::postgres::version::Version;
use crate::sys::stream::{BLOCK, Block, BlockSink, Kind};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is wrong with a dump that was made without locks of our own.
const UNGUARDED: &str = "its tables could not be locked before its snapshot was taken: one that was truncated or rewritten \
                         just then is empty in it";

/// What of a database is dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DumpOptions {
    /// Patterns of schemas to take, as `pg_dump --schema`; all if there are none.
    pub schemas: Vec<String>,
    /// Patterns of tables to take, as `pg_dump --table`; all if there are none.
    pub tables: Vec<String>,
    /// Patterns of tables to leave out.
    pub exclude_tables: Vec<String>,
    /// Patterns of tables whose rows are left out.
    pub exclude_table_data: Vec<String>,
    /// How many connections read rows, at most 64; 1 is one stream of `pg_dump`. As many as there are cores, from 2 to 8, if
    /// it is 0 or not given.
    pub jobs: Option<u8>,
    /// How many seconds a table's lock is waited for, 300 if it is not given: behind a queued ALTER TABLE a dump would
    /// otherwise hold everybody up.
    pub lock_wait: Option<u32>,
}

/// Seconds that a table's lock is waited for when nobody says.
const LOCK_WAIT: u32 = 300;

/// The most connections that one dump may ask for.
const MOST_JOBS: u8 = 64;

impl DumpOptions {
    /// What makes the dump another one than that of the whole database; `None` for that one.
    pub fn selection(&self) -> Option<String> {
        canonical(&[
            ("schemas", &self.schemas),
            ("tables", &self.tables),
            ("exclude_tables", &self.exclude_tables),
            ("exclude_table_data", &self.exclude_table_data),
        ])
    }

    /// How many connections read rows.
    fn jobs(&self) -> Result<usize, Failure> {
        match self.jobs {
            None | Some(0) => {
                Ok(std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8)))
            }
            Some(jobs) if jobs <= MOST_JOBS => Ok(usize::from(jobs)),
            Some(jobs) => Err(Failure::new(Code::Usage, format!("a dump cannot have {jobs} connections"))
                .hint(format!("Give `jobs` a number up to {MOST_JOBS}; 0 is one for each core."))),
        }
    }

    fn patterns(&self) -> Selection<'_> {
        Selection {
            schemas: &self.schemas,
            tables: &self.tables,
            exclude_tables: &self.exclude_tables,
            exclude_table_data: &self.exclude_table_data,
        }
    }
}

/// A database that is backed up.
#[derive(Clone, Debug)]
pub struct Dump {
    /// Where it is.
    pub settings: Settings,
    /// What of it.
    pub options: DumpOptions,
}

impl Dump {
    /// Asks the server what it is and how much there is.
    pub fn look(&self, facts: &Facts) -> Result<Sourced, Failure> {
        let settings = &self.settings;
        let mut sourced = Sourced {
            content: Content::Sql,
            source: Later::AfterRun,
            describe: format!("`{settings}`"),
            details: Vec::new(),
            unknown: Vec::new(),
            needs: vec![Need::Program("pg_dump".to_owned())],
            reads: vec![settings.target()],
            raw_size: None,
        };
        if facts.view().is_touched(&settings.target()) {
            sourced.unknown.push("what the database holds: this run makes or changes it".to_owned());
            return Ok(sourced);
        }
        let session = connect(facts.host(), settings)?;
        let server = session.version();
        let (program, version) = pg_dump(facts, &server)?;
        let size = catalog::database_size(&session)?;
        sourced.source = Later::Now(Source::Database {
            system: catalog::system_identifier(&session)?,
            name: settings.database.clone(),
        });
        sourced.details.push(format!(
            "PostgreSQL {server}, {} on the server; pg_dump {version} ({})",
            units::bytes(size),
            program.display()
        ));
        let program = program.display();
        let jobs = self.options.jobs()?;
        let args: String = self.options.patterns().args().iter().map(|arg| format!(" {arg}")).collect();
        if jobs == 1 {
            sourced.details.push(format!("one stream of `{program} --format=plain{args}`"));
        } else {
            sourced.details.push(format!(
                "rows by {jobs} connections at once; definitions by `{program}{args} --section=pre-data` and `post-data`"
            ));
        }
        sourced.raw_size = Some(size);
        Ok(sourced)
    }

    /// Dumps the database and pushes what comes of it.
    pub fn produce(&self, effects: &Effects, out: &mut dyn BlockSink) -> Result<Produced, Failure> {
        let facts = effects.facts();
        let session = connect(facts.host(), &self.settings)?;
        let server = session.version();
        let (program, version) = pg_dump(facts, &server)?;
        let properties = catalog::properties(&session)?;
        let recovery_point = catalog::recovery_point(&session)?;
        let globals = globals(&session)?;
        let pins = catalog::dump_options(&session)?;

        let mut notes: Vec<String> = globals.note.into_iter().collect();
        let mut warnings = Vec::new();
        let request = Request {
            host: facts.host(),
            settings: &self.settings,
            pg_dump: (&program.display().to_string(), version),
            pins: &pins,
            selection: self.options.patterns(),
            jobs: self.options.jobs()?,
            lock_wait: Duration::from_secs(u64::from(self.options.lock_wait.unwrap_or(LOCK_WAIT))),
        };
        let dumped = if request.jobs == 1 {
            Dumped::NotSo(String::new())
        } else {
            dumping::dump(&request, &session, out).map_err(|failure| dump_failure(failure, &self.settings))?
        };
        let contents = match dumped {
            Dumped::Whole(contents) => *contents,
            Dumped::NotSo(why) => {
                if !why.is_empty() {
                    notes.push(format!("dumped in one stream of `pg_dump`: {why}"));
                }
                let (contents, is_unguarded) = self.stream(&request, &session, out)?;
                if is_unguarded {
                    warnings.push(UNGUARDED.to_owned());
                }
                contents
            }
        };
        drop(session);
        let mut bytes = out.buffer();
        bytes.extend_from_slice(summary::write(&contents.tables()).as_bytes());
        out.push(Block { kind: Kind::Summary, table: None, bytes })?;
        Ok(Produced {
            pg_dump: Some(version.to_string()),
            server: Some(server.to_string()),
            recovery_point: Some(recovery_point),
            properties: Some(properties),
            tables: contents.tables(),
            globals: Some(globals.sql),
            notes,
            warnings,
            ..Produced::default()
        })
    }

    /// Hands on what one `pg_dump` writes; also tells whether that was without locks of our own.
    fn stream(
        &self,
        request: &Request<'_>,
        session: &Session,
        out: &mut dyn BlockSink,
    ) -> Result<(Contents, bool), Failure> {
        let mut stream =
            Stream::start(request, session).map_err(|failure| dump_failure(failure, &self.settings))?;
        let is_unguarded = stream.is_unguarded();
        let mut writer = DumpWriter::new(out);
        let streamed = writer.pump(&mut stream);
        if streamed.is_ok() {
            // The exit status tells why the stream ended early, before what the stream lacks.
            stream.end().map_err(|failure| dump_failure(failure, &self.settings))?;
        }
        streamed?;
        Ok((writer.end()?, is_unguarded))
    }
}

/// The `pg_dump` for a server.
pub fn pg_dump(facts: &Facts, server: &Version) -> Result<(PathBuf, Version), Failure> {
    binaries::find_pg_dump(server.major(), &|name| facts.host().env().value(name).map(str::to_owned))
}

fn dump_failure(failure: Failure, settings: &Settings) -> Failure {
    if matches!(failure.code, Code::Interrupted | Code::Terminated) {
        return failure;
    }
    let text = failure.causes.join("\n");
    let failure =
        Failure { message: format!("`dump` of `{settings}` failed: {}", failure.message), ..failure };
    if text.contains("permission denied") {
        return failure.hint(
            "Let the role read everything: `GRANT pg_read_all_data TO role`, or back up as the database's owner.",
        );
    }
    if text.contains("row-level security") {
        return failure
            .hint("Rows are hidden from this role by row security: back up as a role with BYPASSRLS.");
    }
    // What knows who holds the lock has said so.
    if failure.hints.is_empty() && text.contains("canceling statement due to lock timeout") {
        return failure
            .hint("Somebody holds or awaits an exclusive lock on a table: look at pg_locks, and run again.");
    }
    failure
}

/// Cuts a dump into typed blocks on its way.
struct DumpWriter<'a> {
    out: &'a mut dyn BlockSink,
    scanner: Scanner,
    contents: Contents,
    cutter: Cutter,
}

struct Cutter {
    block: Vec<u8>,
    /// The block may be cut behind this byte.
    cut: usize,
    table: Option<Arc<str>>,
}

impl Cutter {
    /// Pushes what may be cut; with `all`, the rest too.
    fn flush(&mut self, out: &mut dyn BlockSink, all: bool) -> Result<(), Failure> {
        let end = if all { self.block.len() } else { self.cut };
        if end == 0 {
            return Ok(());
        }
        let mut rest = out.buffer();
        rest.extend_from_slice(&self.block[end..]);
        self.block.truncate(end);
        let bytes = std::mem::replace(&mut self.block, rest);
        self.cut = 0;
        let kind = if self.table.is_some() { Kind::Rows } else { Kind::Schema };
        out.push(Block { kind, table: self.table.clone(), bytes })
    }
}

impl<'a> DumpWriter<'a> {
    fn new(out: &'a mut dyn BlockSink) -> Self {
        let block = out.buffer();
        Self {
            out,
            scanner: Scanner::new(),
            contents: Contents::new(),
            cutter: Cutter { block, cut: 0, table: None },
        }
    }

    fn pump(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        while !stream.bytes().is_empty() {
            let mut rest = stream.bytes();
            while let Some(segment) = self.scanner.next(&mut rest).map_err(not_a_dump)? {
                self.contents.observe(&segment);
                self.cutter.take(&segment, self.out)?;
            }
            self.out.check()?;
            stream.fill()?;
        }
        Ok(())
    }

    /// Checks that the dump is whole.
    fn end(mut self) -> Result<Contents, Failure> {
        if let Some(segment) = self.scanner.end().map_err(not_a_dump)? {
            self.contents.observe(&segment);
            self.cutter.take(&segment, self.out)?;
        }
        self.cutter.flush(self.out, true)?;
        check_whole(&self.contents)?;
        Ok(self.contents)
    }
}

impl Cutter {
    fn take(&mut self, segment: &Segment<'_>, out: &mut dyn BlockSink) -> Result<(), Failure> {
        if let Segment::CopyBegin { head, .. } = segment {
            self.flush(out, true)?;
            self.table = Some(Arc::from(head.table.as_str()));
        }
        let before = self.block.len();
        self.block.extend_from_slice(segment.bytes());
        if let Some(cut) = segment.cut() {
            self.cut = before + cut;
        }
        if matches!(segment, Segment::CopyEnd(_)) {
            self.flush(out, true)?;
            self.table = None;
        } else if self.block.len() >= BLOCK {
            self.flush(out, false)?;
        }
        Ok(())
    }
}
