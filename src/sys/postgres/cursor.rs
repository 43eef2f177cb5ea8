//! Reads rows through a cursor, in a transaction that can only read.

use crate::base::failure::Failure;
use crate::sys::postgres::connection::{Asked, Session};
use bytes::BytesMut;
use std::error::Error;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// Comes before the text that is asked; the server's grammar lets only a SELECT or VALUES follow.
const DECLARE: &str = "DECLARE lifeboat NO SCROLL CURSOR FOR ";

/// What a cursor returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Names of their types, as `int4`.
    pub types: Vec<String>,
    /// Values as the server prints them, `None` for null.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether reading ended because the rows were larger than allowed.
    pub cut: bool,
}

/// The first `count` rows of one SELECT or VALUES, as far as they hold no more than `bytes`. Names are looked up as the
/// database and the role have it, and row policies apply as they do to the role. As `reader` the role is
/// `pg_read_all_data` meanwhile, where a row policy that would hide something is an error.
///
/// # Errors
/// `Query` for anything but one SELECT or VALUES, and for what the server refuses; `TimedOut` after the session's limit.
pub fn fetch(
    session: &Session,
    sql: &str,
    params: &[Option<String>],
    count: u64,
    bytes: u64,
    reader: bool,
) -> Result<Fetched, Failure> {
    session.run("BEGIN READ ONLY; RESET search_path; RESET row_security")?;
    if reader {
        // Rows that a policy would hide from the reader are an error rather than missing.
        session.run("SET LOCAL ROLE pg_read_all_data; SET LOCAL row_security = off")?;
    }
    let fetched = read(session, sql, params, count, bytes);
    // After a failure the session may be of no use; it is not used again.
    if fetched.is_ok() {
        session.run("ROLLBACK; SET search_path = ''; SET row_security = off")?;
    }
    fetched
}

fn read(
    session: &Session,
    sql: &str,
    params: &[Option<String>],
    count: u64,
    bytes: u64,
) -> Result<Fetched, Failure> {
    let asked = Asked { sql, before: DECLARE.chars().count() };
    // Prepared, because only then the server refuses a second statement in the text.
    let declare = format!("{DECLARE}{sql}");
    let texts: Vec<Text> = params.iter().map(|param| Text(param.as_deref())).collect();
    let texts: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
    session.ask(&asked, async {
        let statement = session.client().prepare(&declare).await?;
        session.client().execute(&statement, &texts).await
    })?;
    let fetch = format!("FETCH FORWARD {count} FROM lifeboat");
    let described = session.ask(&asked, session.client().prepare(&fetch))?;
    let (found, cut) = session.rows_within(&fetch, bytes)?;
    Ok(Fetched {
        columns: described.columns().iter().map(|column| column.name().to_owned()).collect(),
        types: described.columns().iter().map(|column| column.type_().name().to_owned()).collect(),
        rows: found.rows,
        cut,
    })
}

/// A parameter as text, of whatever type the server infers.
#[derive(Debug)]
struct Text<'a>(Option<&'a str>);

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
