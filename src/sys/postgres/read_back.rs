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
use crate::base::event::{Progress, What};
use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use crate::sys::postgres::connection::{Session, connect};
use crate::sys::postgres::settings::Settings;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

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
struct Job {
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

/// How a session that reads is opened.
#[derive(Clone)]
pub struct Reader<'a> {
    /// The machine.
    pub host: &'a Arc<Host>,
    /// The database.
    pub settings: &'a Settings,
}

/// Reads all tables back over several connections, and compares.
///
/// # Errors
/// Those of the connection; differences are results.
pub fn read_back(reader: &Reader<'_>, expected: &Expected<'_>) -> Result<ReadBack, Failure> {
    let session = open(reader, expected)?;
    let jobs = jobs(&session, expected)?;
    let mut found = ReadBack::default();
    let mut counted = inserted(&session, expected, &mut found)?;
    let total = jobs.len() as u64;
    let left = Mutex::new(jobs);
    let results: Mutex<Vec<(Job, Outcome)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
    let work = |session: Session| -> Result<(), Failure> {
        loop {
            let Some(job) = left.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(()) };
            let outcome = compare(&session, expected, &job)?;
            let mut done = results.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((job, outcome));
            let label = "compare tables with the backup".to_owned();
            let done = done.len() as u64;
            reader.host.emit(What::Progress(Progress {
                label,
                done,
                total: Some(total),
                unit: "tables".to_owned(),
            }));
        }
    };
    std::thread::scope(|scope| -> Result<(), Failure> {
        let others: Vec<_> = (1..threads.min(total as usize))
            .map(|_| scope.spawn(|| open(reader, expected).and_then(&work)))
            .collect();
        let own = work(session);
        others.into_iter().try_for_each(|other| {
            other
                .join()
                .map_err(|_| Failure::new(Code::Internal, "a thread that compares tables panicked"))?
        })?;
        own
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let mut uncompared = Vec::new();
    for (job, outcome) in results {
        counted += 1;
        found.rows += job.expected.rows;
        match outcome {
            Outcome::Same => {}
            Outcome::CountOnly => uncompared.push(job.name),
            Outcome::Differs(how) => found.problems.push(how),
        }
    }
    if !uncompared.is_empty() {
        found.notes.push(format!(
            "{} compared by count only, since the dump does not tell the time zone or locale it was written in: {}",
            plural(uncompared.len(), "table was", "tables were"),
            uncompared.join(", ")
        ));
    }
    found.tables = counted;
    Ok(found)
}

/// Reads all tables back in a session that is in a transaction of its own, one after the other.
///
/// # Errors
/// Those of the connection; differences are results.
pub fn read_back_within(session: &Session, expected: &Expected<'_>) -> Result<ReadBack, Failure> {
    let mut found = ReadBack::default();
    pin(session, expected)?;
    found.tables = inserted(session, expected, &mut found)?;
    for job in jobs(session, expected)? {
        found.tables += 1;
        found.rows += job.expected.rows;
        match compare(session, expected, &job)? {
            Outcome::Same => {}
            Outcome::CountOnly => found.notes.push(format!("{} was compared by count only", job.name)),
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

fn open(reader: &Reader<'_>, expected: &Expected<'_>) -> Result<Session, Failure> {
    let session = connect(reader.host, reader.settings)?;
    session.run("SET default_transaction_read_only = on")?;
    pin(&session, expected)?;
    Ok(session)
}

fn pin(session: &Session, expected: &Expected<'_>) -> Result<(), Failure> {
    session.run(
        "SET search_path = ''; SET row_security = off; SET DateStyle = ISO; SET IntervalStyle = postgres; \
         SET extra_float_digits = 3; SET bytea_output = hex; SET TimeZone = 'UTC'; SET xmloption = content",
    )?;
    if let Some(monetary) = expected.monetary {
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

fn jobs(session: &Session, expected: &Expected<'_>) -> Result<Vec<Job>, Failure> {
    let copied = &expected.loaded.copied;
    let oids: Vec<String> = copied.values().map(|copied| copied.oid.to_string()).collect();
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    // Names that are no UTF-8 must not reach the client, which could not read them.
    let hex = |name: &str| {
        format!(
            "encode(convert_to({name}, CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'hex')"
        )
    };
    let found = session.rows(&format!(
        "{VARYING} SELECT c.oid, {}, {}, c.relkind, e.condition, \
         EXISTS (SELECT FROM pg_attribute a JOIN varying v ON v.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0), \
         CASE WHEN c.relkind = 'p' THEN 0 ELSE pg_table_size(c.oid) END \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN \
         (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_extension) e ON e.oid = c.oid \
         WHERE c.oid IN ({}) ORDER BY 7",
        hex("quote_ident(n.nspname)"),
        hex("quote_ident(c.relname)"),
        oids.join(", ")
    ))?;
    let known: BTreeMap<u32, Vec<Option<String>>> = found
        .rows
        .into_iter()
        .filter_map(|row| text(&row, 0).parse().ok().map(|oid: u32| (oid, row)))
        .collect();
    let mut jobs = Vec::new();
    for (name, table) in copied {
        let Some(row) = known.get(&table.oid) else {
            return Err(Failure::new(
                Code::NotIntact,
                format!("table {name}, which the dump filled, is not there"),
            ));
        };
        let none = || Fingerprint::default().of_table(name.clone());
        let content =
            expected.tables.iter().find(|content| content.table == *name).cloned().unwrap_or_else(none);
        let schema = unhex(&text(row, 1));
        let quoted = unhex(&text(row, 2));
        let columns_plain = table.columns.iter().all(|column| !column.contains('\\') && column.is_ascii());
        let as_utf8 = ["UTF8", "SQL_ASCII"].contains(&expected.loaded.encoding.to_ascii_uppercase().as_str());
        let plain = schema.is_some()
            && quoted.is_some()
            && (columns_plain || as_utf8 && !table.columns.iter().any(|column| column.contains("\\x")));
        jobs.push(Job {
            name: name.clone(),
            oid: table.oid,
            expected: content,
            columns: table.columns.clone(),
            kind: text(row, 3),
            condition: row.get(4).cloned().flatten(),
            varies: text(row, 5) == "t",
            plain,
            schema: schema.unwrap_or_default(),
            quoted: quoted.unwrap_or_default(),
        });
    }
    // The largest is begun first, from the end.
    let size = |job: &Job| known.get(&job.oid).and_then(|row| text(row, 6).parse::<u64>().ok()).unwrap_or(0);
    jobs.sort_by_key(size);
    Ok(jobs)
}

fn unhex(hex: &str) -> Option<String> {
    let bytes = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}

/// Rows that went by INSERT: how many the server took, and how many are there.
fn inserted(session: &Session, expected: &Expected<'_>, found: &mut ReadBack) -> Result<u64, Failure> {
    let mut tables = 0;
    for (table, rows) in &expected.loaded.inserted {
        if expected.loaded.copied.contains_key(table) {
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

enum Outcome {
    Same,
    CountOnly,
    Differs(String),
}

fn compare(session: &Session, expected: &Expected<'_>, job: &Job) -> Result<Outcome, Failure> {
    let wanted = &job.expected;
    let found = fingerprint(session, expected, job)?;
    if found.rows() != wanted.rows {
        return Ok(Outcome::Differs(format!(
            "table {} has {} rows instead of {}",
            job.name,
            found.rows(),
            wanted.rows
        )));
    }
    if found.to_hex() == wanted.fingerprint {
        return Ok(Outcome::Same);
    }
    if !expected.pinned && job.varies {
        // A dump of this very server was most likely written under the server's own settings.
        session.run("RESET TimeZone; RESET lc_monetary; RESET bytea_output")?;
        let again = fingerprint(session, expected, job);
        pin(session, expected)?;
        let same = again?.to_hex() == wanted.fingerprint;
        return Ok(if same { Outcome::Same } else { Outcome::CountOnly });
    }
    Ok(Outcome::Differs(format!("table {} has other content than the backup", job.name)))
}

fn fingerprint(session: &Session, expected: &Expected<'_>, job: &Job) -> Result<Fingerprint, Failure> {
    let mut hasher = RowHasher::new();
    let encoding = literal(&expected.loaded.encoding);
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
