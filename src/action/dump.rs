//! `dump`: a PostgreSQL database as the source of a backup, through one `pg_dump`.
//!
//! The dump passes a scanner on its way: blocks are cut at row ends and typed by table, rows are counted and fingerprinted,
//! and the stream counts as whole only with `pg_dump`'s exit status, the end marker, and no open string or COPY block. The
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
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::contents::Contents;
use crate::sys::postgres::globals::globals;
use crate::sys::postgres::scan::{ScanError, Scanner, Segment};
use crate::sys::postgres::settings::Settings;
use crate::sys::postgres::summary;
use crate::sys::postgres::version::Version;
use crate::sys::process::Command;
use crate::sys::stream::{BLOCK, Block, BlockSink, Kind};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

/// How long `pg_dump` waits for a table's lock before it gives up: a queued ALTER TABLE would otherwise hold the backup, and
/// the backup everybody behind it.
const LOCK_WAIT_MILLIS: u32 = 300_000;

/// The remedy when `pg_dump` says that all is well, and it is not.
const RUN_AGAIN: &str = "Run again; if it stays, check `pg_dump` and what wraps it.";

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
}

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

    fn args(&self) -> Vec<String> {
        let named = [
            ("--schema", &self.schemas),
            ("--table", &self.tables),
            ("--exclude-table", &self.exclude_tables),
            ("--exclude-table-data", &self.exclude_table_data),
        ];
        named.iter().flat_map(|(flag, list)| list.iter().map(move |item| format!("{flag}={item}"))).collect()
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
        sourced.details.push(format!("argv: {}", self.argv(&program).join(" ")));
        sourced.raw_size = Some(size);
        Ok(sourced)
    }

    fn argv(&self, program: &std::path::Path) -> Vec<String> {
        let mut argv = vec![
            program.display().to_string(),
            "--format=plain".to_owned(),
            "--no-password".to_owned(),
            format!("--lock-wait-timeout={LOCK_WAIT_MILLIS}"),
        ];
        argv.extend(self.options.args());
        argv
    }

    /// Runs `pg_dump` and pushes what it writes.
    pub fn produce(&self, effects: &Effects, out: &mut dyn BlockSink) -> Result<Produced, Failure> {
        let facts = effects.facts();
        let session = connect(facts.host(), &self.settings)?;
        let server = session.version();
        let (program, version) = pg_dump(facts, &server)?;
        let properties = catalog::properties(&session)?;
        let recovery_point = catalog::recovery_point(&session)?;
        let globals = globals(&session)?;
        let pins = catalog::dump_options(&session)?;
        drop(session);

        let argv = self.argv(&program);
        let mut command = Command::new(argv[0].clone()).args(argv[1..].to_vec()).unseen();
        for (name, value) in self.settings.child_env(&pins) {
            command = command.env(name, value);
        }
        let (child, mut stdout) = command.spawn_streaming(facts.host())?;
        let mut writer = DumpWriter::new(out);
        let streamed = writer.pump(&mut stdout);
        drop(stdout);
        let ended = child.wait()?;
        // Whoever stops reading makes `pg_dump` fail: then the reason for stopping counts. Else the exit status tells why the
        // stream ended early, before what the stream lacks.
        streamed?;
        if !ended.success() {
            return Err(dump_failure(ended.failure(), &self.settings));
        }
        let contents = writer.end()?;
        Ok(Produced {
            pg_dump: Some(version.to_string()),
            server: Some(server.to_string()),
            recovery_point: Some(recovery_point),
            properties: Some(properties),
            tables: contents.tables(),
            globals: Some(globals.sql),
            notes: globals.note.into_iter().collect(),
            ..Produced::default()
        })
    }
}

/// The `pg_dump` for a server.
pub fn pg_dump(facts: &Facts, server: &Version) -> Result<(PathBuf, Version), Failure> {
    binaries::find_pg_dump(server.major(), &|name| facts.host().env().value(name).map(str::to_owned))
}

fn dump_failure(failure: Failure, settings: &Settings) -> Failure {
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
    if text.contains("canceling statement due to lock timeout") {
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

    fn pump(&mut self, stdout: &mut dyn Read) -> Result<(), Failure> {
        let mut chunk = vec![0; 256 << 10];
        loop {
            let n = match stdout.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                    self.out.check()?;
                    continue;
                }
                Err(error) => {
                    self.out.check()?;
                    return Err(Failure::new(Code::Io, "cannot read what `pg_dump` writes").caused_by(error));
                }
            };
            let mut rest = &chunk[..n];
            while let Some(segment) = self.scanner.next(&mut rest).map_err(not_a_dump)? {
                self.contents.observe(&segment);
                self.cutter.take(&segment, self.out)?;
            }
        }
    }

    /// Checks that the dump is whole, and adds the summary as its last member.
    fn end(mut self) -> Result<Contents, Failure> {
        if let Some(segment) = self.scanner.end().map_err(not_a_dump)? {
            self.contents.observe(&segment);
            self.cutter.take(&segment, self.out)?;
        }
        self.cutter.flush(self.out, true)?;
        if let Some(foreign) = self.contents.foreign_command() {
            return Err(Failure::new(
                Code::ProcessFailed,
                format!("line {} of the dump holds the command `{}`", foreign.line, foreign.text),
            )
            .hint(
                "No `pg_dump` writes that: look for an object with a line break in its name (CVE-2025-8715).",
            ));
        }
        if !self.contents.ended() {
            return Err(Failure::new(Code::ProcessFailed, "the dump's end marker is missing")
                .caused_by("`pg_dump` ended well, but did not write all of the dump")
                .hint(RUN_AGAIN));
        }
        let mut bytes = self.out.buffer();
        bytes.extend_from_slice(summary::write(&self.contents.tables()).as_bytes());
        self.out.push(Block { kind: Kind::Summary, table: None, bytes })?;
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

fn not_a_dump(error: ScanError) -> Failure {
    Failure::new(Code::ProcessFailed, "what `pg_dump` wrote is no whole dump")
        .caused_by(error)
        .hint(RUN_AGAIN)
}
