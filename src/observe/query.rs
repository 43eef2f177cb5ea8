//! Asks a database with SQL that can only read.
//!
//! *Problem*: READ ONLY does not hold back `COPY ... TO PROGRAM`, and a text may hold several statements. *Decision*:
//! the text is prepared as the query of a cursor, which the server accepts of one SELECT or VALUES only.
//! *Rejected*: looking for bad words in the text. A superuser asks as `pg_read_all_data`, where the server has that role
//! (14 and newer), for READ ONLY holds back none of the functions that are reserved for superusers.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need, Target};
use crate::base::units;
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::cursor::{self, Fetched};
use crate::sys::postgres::settings::Settings;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a query may take, unless it says otherwise.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How many rows a query may return, unless it says otherwise.
pub const ROW_LIMIT: u64 = 1000;

/// How large the answer may be in bytes of text.
const BYTE_LIMIT: u64 = 64 << 20;

/// The first major version of the server that has the role `pg_read_all_data`.
const READER_SINCE: u32 = 14;

/// One value of an answer. Numbers of arbitrary precision, times, JSON and all other types are texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// SQL's null.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `smallint`, `integer`, `bigint`, `oid`.
    Int(i64),
    /// `real`, `double precision`.
    Float(f64),
    /// Anything else, as the server prints it.
    Text(String),
}

/// The rows of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Names of the columns, each once.
    pub columns: Vec<String>,
    /// Rows with a value per column.
    pub rows: Vec<Vec<Value>>,
    /// Whether it was asked with the rights of a superuser, whose SELECT can call functions that write files or end
    /// sessions: worth a warning.
    pub superuser: bool,
}

/// A question in SQL.
pub struct Query {
    /// The database.
    pub settings: Settings,
    /// One SELECT or VALUES.
    pub sql: String,
    /// Texts for `$1`, `$2`, ...; `None` for null. The server takes them for the types that it infers.
    pub params: Vec<Option<String>>,
    /// How long it may take.
    pub time_limit: Duration,
    /// How many rows it may return.
    pub row_limit: u64,
    /// Whether the SQL stands literally in the playbook. A dry run asks nothing else, since text put together while
    /// a playbook runs may call functions that nobody has read.
    pub literal: bool,
    /// Whether a superuser keeps its rights. A dry run does not ask such a query.
    pub as_superuser: bool,
}

impl Query {
    /// A query with the usual limits, literal.
    pub fn new(settings: Settings, sql: impl Into<String>) -> Self {
        Self {
            settings,
            sql: sql.into(),
            params: Vec::new(),
            time_limit: TIME_LIMIT,
            row_limit: ROW_LIMIT,
            literal: true,
            as_superuser: false,
        }
    }
}

impl Observation for Query {
    const NAME: &'static str = "query";
    type Answer = Answer;

    fn question(&self) -> String {
        let line = self.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        let short: String = line.chars().take(100).collect();
        let more = if short.len() < line.len() { "..." } else { "" };
        format!("{}: {short}{more}", self.settings.database)
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        match (answer.rows.as_slice(), answer.columns.len()) {
            ([row], 1) => match &row[0] {
                Value::Null => "null".to_owned(),
                Value::Bool(value) => value.to_string(),
                Value::Int(value) => value.to_string(),
                Value::Float(value) => value.to_string(),
                Value::Text(value) => value.chars().take(100).collect(),
            },
            ([_], _) => "1 row".to_owned(),
            (rows, _) => format!("{} rows", rows.len()),
        }
    }

    fn needs(&self, _: &Facts) -> Vec<Need> {
        self.settings.needs()
    }

    fn concerns(&self, _: &Facts) -> Vec<Target> {
        vec![self.settings.target()]
    }

    fn is_literal(&self) -> bool {
        self.literal && !self.as_superuser
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        let session = connect(facts.host(), &self.settings)?;
        session.limit(Some(self.time_limit))?;
        let rows = self.row_limit.saturating_add(1);
        let reader =
            session.is_superuser() && !self.as_superuser && session.version().major() >= READER_SINCE;
        let fetched = cursor::fetch(&session, &self.sql, &self.params, rows, BYTE_LIMIT, reader)
            .map_err(|failure| if reader { with_remedy(failure) } else { failure })?;
        self.check(&fetched)?;
        let rows = fetched
            .rows
            .into_iter()
            .map(|row| row.into_iter().zip(&fetched.types).map(|(value, kind)| typed(value, kind)).collect());
        let (columns, rows) = (fetched.columns, rows.collect());
        Ok(Later::Now(Answer { columns, rows, superuser: session.is_superuser() && !reader }))
    }
}

impl Query {
    fn check(&self, fetched: &Fetched) -> Result<(), Failure> {
        let failed = || Failure::new(Code::Query, format!("a query on `{}` failed", self.settings.database));
        let mut names = fetched.columns.clone();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(failed()
                .caused_by(format!("two columns are named `{}`", pair[0]))
                .hint("Give each column a name of its own with `AS`."));
        }
        if fetched.rows.len() as u64 > self.row_limit {
            return Err(failed().caused_by(format!("it returns more than {} rows", self.row_limit)).hint(
                "Count or aggregate in SQL, add LIMIT, or allow more rows with the option `max_rows`.",
            ));
        }
        if fetched.cut {
            return Err(failed()
                .caused_by(format!("its rows are larger than {}", units::bytes(BYTE_LIMIT)))
                .hint("Select fewer columns, or aggregate in SQL."));
        }
        Ok(())
    }
}

/// Tells how a superuser keeps its rights, where what is missing is one.
fn with_remedy(failure: Failure) -> Failure {
    let refused = |cause: &String| cause.ends_with("(42501)");
    if !failure.causes.iter().any(refused) {
        return failure;
    }
    failure.hint(
        "A superuser's `query` has the rights of `pg_read_all_data` only; with the option `as_superuser: true` it has all \
         of them, and a dry run does not ask it.",
    )
}

fn typed(value: Option<String>, kind: &str) -> Value {
    let Some(text) = value else { return Value::Null };
    let typed = match kind {
        "bool" => Some(Value::Bool(text == "t")),
        "int2" | "int4" | "int8" | "oid" => text.parse().ok().map(Value::Int),
        "float4" | "float8" => text.parse().ok().map(Value::Float),
        _ => None,
    };
    typed.unwrap_or(Value::Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_get_the_types_that_scripts_know() {
        for (text, kind, value) in [
            (None, "int4", Value::Null),
            (Some("t"), "bool", Value::Bool(true)),
            (Some("-9223372036854775808"), "int8", Value::Int(i64::MIN)),
            (Some("1.5"), "float8", Value::Float(1.5)),
            (Some("-Infinity"), "float4", Value::Float(f64::NEG_INFINITY)),
            (Some("1.10"), "numeric", Value::Text("1.10".into())),
            (Some("{\"a\": 1}"), "jsonb", Value::Text("{\"a\": 1}".into())),
        ] {
            assert_eq!(typed(text.map(str::to_owned), kind), value, "{text:?} as {kind}");
        }
    }
}
