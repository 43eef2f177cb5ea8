//! Reads a database back that a dump was loaded into, and compares it with what the dump held.
//!
//! Every table is read as `pg_dump` reads it, several at once, and its rows are counted and fingerprinted as those of the dump
//! were. What is compared is the server's own text of what it stored, so a value that was changed on its way in is found.

use super::catalog::text;
use super::exchange::{Refused, own};
use super::fingerprint::{Fingerprint, RowHasher};
use super::load::{Copied, Loaded};
use super::ownership::own_tables;
use super::quote::literal;
use crate::base::backup::TableContent;
use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use crate::sys::postgres::connection::{Session, connect};
use crate::sys::postgres::settings::Settings;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a database is compared with.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// What the dump's stream held.
    pub tables: &'a [TableContent],
    /// What was loaded, under which names.
    pub loaded: &'a Loaded,
    /// Whether the dump was written under the settings that sessions of ours have, so that equal values have equal text.
    pub pinned: bool,
    /// The value of `lc_monetary` that the dump's `money` was written with, if it is known.
    pub monetary: Option<&'a str>,
}

/// Under which settings text is compared.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    /// The encoding of the dump.
    pub encoding: &'a str,
    /// As in [`Expected`].
    pub pinned: bool,
    /// As in [`Expected`].
    pub monetary: Option<&'a str>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// Tables that hold what the dump holds.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Where the database differs from the dump.
    pub problems: Vec<String>,
    /// What could not be compared.
    pub notes: Vec<String>,
}

/// One table to read.
#[derive(Clone, Debug)]
pub struct Job {
    name: String,
    oid: u32,
    expected: TableContent,
    columns: Vec<String>,
    kind: String,
    /// For a table of an extension: which rows a dump takes.
    condition: Option<String>,
    /// The same value may have another text in another session.
    varies: bool,
    plain: bool,
    schema: String,
    quoted: String,
}

impl Job {
    fn other_number(&self, rows: u64) -> Outcome {
        Outcome::Differs(format!("table {} has {rows} rows instead of {}", self.name, self.expected.rows))
    }
}

/// How a session that reads is opened.
#[derive(Clone)]
pub struct Reader<'a> {
    /// The machine.
    pub host: &'a Arc<Host>,
    /// The database.
    pub settings: &'a Settings,
}

/// What comparing tables one by one has found, in any order.
#[derive(Debug, Default)]
pub struct Compared {
    results: Vec<(Job, Outcome)>,
}

impl Compared {
    /// Adds what was found of a table.
    pub fn add(&mut self, job: Job, outcome: Outcome) {
        self.results.push((job, outcome));
    }

    /// How many tables were compared.
    pub fn tables(&self) -> u64 {
        self.results.len() as u64
    }

    /// All in all, together with the rows that went by INSERT.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn end(mut self, session: &Session, loaded: &Loaded) -> Result<ReadBack, Failure> {
        let mut found = ReadBack::default();
        found.tables = inserted(session, loaded, &mut found)? + self.tables();
        self.results.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let mut uncompared = Vec::new();
        let mut counted = 0;
        for (job, outcome) in self.results {
            found.rows += job.expected.rows;
            match outcome {
                Outcome::Same => {}
                Outcome::CountOnly => uncompared.push(job.name),
                Outcome::Counted => counted += 1,
                Outcome::Differs(how) => found.problems.push(how),
            }
        }
        if counted > 0 {
            found.notes.push(format!(
                "the rows of {} were counted as the server took them, and not read back",
                plural(counted, "table", "tables")
            ));
        }
        if !uncompared.is_empty() {
            found.notes.push(format!(
                "{} compared by count only, since the dump does not tell the time zone or locale it was written in: {}",
                plural(uncompared.len(), "table was", "tables were"),
                uncompared.join(", ")
            ));
        }
        Ok(found)
    }
}

/// Reads all tables back in a session that is in a transaction of its own, one after the other.
///
/// # Errors
/// Those of the connection; differences are results.
pub fn read_back_within(session: &Session, expected: &Expected<'_>) -> Result<ReadBack, Failure> {
    let mut found = ReadBack::default();
    pin(session, expected.monetary)?;
    let loaded = expected.loaded;
    found.tables = inserted(session, loaded, &mut found)?;
    let manner = Manner { encoding: &loaded.encoding, pinned: expected.pinned, monetary: expected.monetary };
    let described = Described::ask(session, loaded.copied.values().map(|copied| copied.oid))?;
    for (name, copied) in &loaded.copied {
        let content = expected.tables.iter().find(|content| content.table == *name);
        let job = described.job(name, copied, content, &manner)?;
        found.tables += 1;
        found.rows += job.expected.rows;
        match compare(session, &manner, &job)? {
            Outcome::Same => {}
            Outcome::CountOnly | Outcome::Counted => {
                found.notes.push(format!("{} was compared by count only", job.name));
            }
            Outcome::Differs(how) => found.problems.push(how),
        }
    }
    Ok(found)
}

/// Where the tables that the session's role owns differ from what a dump of ours in `encoding` held, read in the transaction
/// that is open.
///
/// # Errors
/// Those of the connection.
pub fn changes(
    session: &Session,
    tables: &[TableContent],
    encoding: &str,
    monetary: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let mut changes = Vec::new();
    let mut loaded = Loaded { encoding: encoding.to_owned(), ..Loaded::default() };
    for table in tables {
        let found = session.rows(&format!(
            "SELECT c.oid, quote_ident(a.attname) FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_attribute a \
             ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
             WHERE c.oid = pg_catalog.to_regclass({}) ORDER BY a.attnum",
            literal(&table.table)
        ))?;
        let Some(oid) = found.rows.first().and_then(|row| text(row, 0).parse().ok()) else {
            changes.push(format!("table {} is not there any more", table.table));
            continue;
        };
        let columns = found.rows.iter().filter_map(|row| row.get(1).cloned().flatten()).collect();
        loaded.copied.insert(table.table.clone(), Copied { oid, columns, rows: table.rows });
    }
    for (oid, name) in own_tables(session)? {
        if !loaded.copied.values().any(|copied| copied.oid == oid) {
            changes.push(format!("table {name} was made since"));
        }
    }
    let found = read_back_within(session, &Expected { tables, loaded: &loaded, pinned: true, monetary })?;
    changes.extend(found.problems);
    Ok(changes)
}

fn plural(n: usize, one: &str, more: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { more })
}

/// A session that reads, under the settings that the rows of a dump are written under.
pub fn open(reader: &Reader<'_>, monetary: Option<&str>) -> Result<Session, Failure> {
    let session = connect(reader.host, reader.settings)?;
    session.run("SET default_transaction_read_only = on")?;
    pin(&session, monetary)?;
    Ok(session)
}

fn pin(session: &Session, monetary: Option<&str>) -> Result<(), Failure> {
    session.run(
        "SET search_path = ''; SET row_security = off; SET DateStyle = ISO; SET IntervalStyle = postgres; \
         SET extra_float_digits = 3; SET bytea_output = hex; SET TimeZone = 'UTC'; SET xmloption = content",
    )?;
    if let Some(monetary) = monetary {
        session.run(&format!("SET lc_monetary = {}", literal(monetary)))?;
    }
    Ok(())
}

/// Types whose text depends on settings that a foreign dump does not tell, and all that is made of them.
const VARYING: &str = "\
WITH RECURSIVE varying(oid) AS (
  SELECT unnest(ARRAY['timestamptz', 'money', 'bytea', 'tstzrange', 'float4', 'float8', 'point', 'line', 'lseg', 'box',
    'path', 'polygon', 'circle']::regtype[])::oid
  UNION
  SELECT t.oid FROM varying v JOIN pg_type t ON t.typelem = v.oid OR t.typbasetype = v.oid
    OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.atttypid = v.oid AND NOT a.attisdropped)
    OR EXISTS (SELECT FROM pg_range r WHERE r.rngtypid = t.oid AND r.rngsubtype = v.oid)
)";

/// What the server's catalog says about tables that are read back, by their OIDs.
#[derive(Clone, Debug, Default)]
pub struct Described(BTreeMap<u32, Vec<Option<String>>>);

impl Described {
    /// Asks about the tables with these OIDs.
    pub fn ask(session: &Session, oids: impl Iterator<Item = u32>) -> Result<Self, Failure> {
        let oids: Vec<String> = oids.map(|oid| oid.to_string()).collect();
        if oids.is_empty() {
            return Ok(Self::default());
        }
        // Names that are no UTF-8 must not reach the client, which could not read them.
        let hex = |name: &str| {
            format!(
                "encode(convert_to({name}, CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'hex')"
            )
        };
        let found = session.rows(&format!(
            "{VARYING} SELECT c.oid, {}, {}, c.relkind, e.condition, \
             EXISTS (SELECT FROM pg_attribute a JOIN varying v ON v.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN \
             (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_extension) e ON e.oid = c.oid \
             WHERE c.oid IN ({})",
            hex("quote_ident(n.nspname)"),
            hex("quote_ident(c.relname)"),
            oids.join(", ")
        ))?;
        let by_oid = |row: Vec<Option<String>>| text(&row, 0).parse().ok().map(|oid: u32| (oid, row));
        Ok(Self(found.rows.into_iter().filter_map(by_oid).collect()))
    }

    /// The reading of a table: what was loaded into it, and what the dump held.
    pub fn job(
        &self,
        name: &str,
        table: &Copied,
        expected: Option<&TableContent>,
        manner: &Manner<'_>,
    ) -> Result<Job, Failure> {
        let Some(row) = self.0.get(&table.oid) else {
            return Err(Failure::new(
                Code::NotIntact,
                format!("table {name}, which the dump filled, is not there"),
            ));
        };
        let schema = unhex(&text(row, 1));
        let quoted = unhex(&text(row, 2));
        let columns_plain = table.columns.iter().all(|column| !column.contains('\\') && column.is_ascii());
        let as_utf8 = ["UTF8", "SQL_ASCII"].contains(&manner.encoding.to_ascii_uppercase().as_str());
        let plain = schema.is_some()
            && quoted.is_some()
            && (columns_plain || as_utf8 && !table.columns.iter().any(|column| column.contains("\\x")));
        Ok(Job {
            name: name.to_owned(),
            oid: table.oid,
            expected: expected.cloned().unwrap_or_else(|| Fingerprint::default().of_table(name)),
            columns: table.columns.clone(),
            kind: text(row, 3),
            condition: row.get(4).cloned().flatten(),
            varies: text(row, 5) == "t",
            plain,
            schema: schema.unwrap_or_default(),
            quoted: quoted.unwrap_or_default(),
        })
    }
}

fn unhex(hex: &str) -> Option<String> {
    let bytes = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}

/// Rows that went by INSERT: how many the server took, and how many are there.
fn inserted(session: &Session, loaded: &Loaded, found: &mut ReadBack) -> Result<u64, Failure> {
    let mut tables = 0;
    for (table, rows) in &loaded.inserted {
        if loaded.copied.contains_key(table) {
            continue;
        }
        let count = match session.batch_value(&format!("SELECT count(*) FROM ONLY {table}"))? {
            Ok(count) => count.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0),
            Err(refused) => return Err(unreadable(table, &refused)),
        };
        tables += 1;
        found.rows += count;
        if count != *rows {
            found.problems.push(format!("table {table} has {count} rows, and the dump inserted {rows}"));
        }
    }
    if tables > 0 {
        found.notes.push(format!(
            "{} compared by count only, since the dump holds INSERT statements",
            plural(tables as usize, "table was", "tables were")
        ));
    }
    Ok(tables)
}

fn unreadable(table: &str, refused: &Refused) -> Failure {
    own(refused, format!("table {table} cannot be read back"))
}

/// How a table compares with the dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds what the dump holds.
    Same,
    /// It has as many rows, whose text depends on settings that nobody knows.
    CountOnly,
    /// The server took as many rows, which were not read back.
    Counted,
    /// How it differs.
    Differs(String),
}

/// Compares how many rows the server took, and does not look at them.
pub fn counted(job: &Job, rows: u64) -> Outcome {
    if rows == job.expected.rows { Outcome::Counted } else { job.other_number(rows) }
}

/// Reads a table and compares it.
///
/// # Errors
/// Those of the connection; differences are results.
pub fn compare(session: &Session, manner: &Manner<'_>, job: &Job) -> Result<Outcome, Failure> {
    let wanted = &job.expected;
    let found = fingerprint(session, manner, job)?;
    if found.rows() != wanted.rows {
        return Ok(job.other_number(found.rows()));
    }
    if found.to_hex() == wanted.fingerprint {
        return Ok(Outcome::Same);
    }
    if !manner.pinned && job.varies {
        // A dump of this very server was most likely written under the server's own settings.
        session.run("RESET TimeZone; RESET lc_monetary; RESET bytea_output")?;
        let again = fingerprint(session, manner, job);
        pin(session, manner.monetary)?;
        let same = again?.to_hex() == wanted.fingerprint;
        return Ok(if same { Outcome::Same } else { Outcome::CountOnly });
    }
    Ok(Outcome::Differs(format!("table {} has other content than the backup", job.name)))
}

fn fingerprint(session: &Session, manner: &Manner<'_>, job: &Job) -> Result<Fingerprint, Failure> {
    let mut hasher = RowHasher::new();
    let encoding = literal(manner.encoding);
    let from = format!("{}.{}", job.schema, job.quoted);
    let list = job.columns.join(", ");
    let sql = match (&job.condition, job.kind.as_str()) {
        (Some(condition), _) => {
            let list = if list.is_empty() { "*" } else { &list };
            format!("(SELECT {list} FROM ONLY {from} {condition})")
        }
        // The rows of a partitioned table are those of its partitions, through which the dump did not go.
        (None, "p" | "f" | "v") => {
            format!("(SELECT {} FROM {from})", if list.is_empty() { "*" } else { &list })
        }
        (None, _) if list.is_empty() => from,
        (None, _) => format!("{from} ({list})"),
    };
    let answer = if job.plain {
        session.copy_out(&format!("COPY {sql} TO stdout WITH (ENCODING {encoding})"), &mut |bytes| {
            hasher.feed(bytes);
        })?
    } else {
        renamed(session, job, &encoding, &mut hasher)?
    };
    match answer {
        Ok(()) => Ok(hasher.end().0),
        Err(refused) => Err(unreadable(&job.name, &refused)),
    }
}

/// Reads a table whose name is no UTF-8: it bears another one in a transaction that is rolled back.
fn renamed(
    session: &Session,
    job: &Job,
    encoding: &str,
    hasher: &mut RowHasher,
) -> Result<Result<(), Refused>, Failure> {
    let oid = job.oid;
    session.run(&format!(
        "BEGIN READ WRITE; DO $lifeboat$ BEGIN \
         EXECUTE format('ALTER TABLE %s RENAME TO \"lifeboat reads\"', {oid}::regclass); END $lifeboat$"
    ))?;
    let schema = session.batch_value(&format!(
        "SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid}"
    ))?;
    let answer = match schema {
        Ok(schema) => session.copy_out(
            &format!(
                "COPY {}.\"lifeboat reads\" TO stdout WITH (ENCODING {encoding})",
                schema.unwrap_or_default()
            ),
            &mut |bytes| hasher.feed(bytes),
        ),
        Err(refused) => Ok(Err(refused)),
    };
    session.run("ROLLBACK")?;
    answer
}
