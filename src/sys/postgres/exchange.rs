//! What a session exchanges with the server when a dump is carried out: batches of statements, and COPY in both directions.
//!
//! A refusal of the server is a result here, for who loads a dump knows better than the session what it means.

use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::{Asked, Session};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use std::future::Future;
use std::pin::Pin;
use tokio_postgres::error::{DbError, ErrorPosition, Severity, SqlState};
use tokio_postgres::{CopyInSink, Error, SimpleQueryMessage};

/// Why the server refused a statement, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// SQLSTATE, as `42P01`.
    pub state: String,
    /// Its message.
    pub message: String,
    /// Its detail.
    pub detail: Option<String>,
    /// Its hint.
    pub hint: Option<String>,
    /// Where it happened: the functions, or the line of the data.
    pub context: Option<String>,
    /// At which character of the text that was sent, from 0.
    pub position: Option<usize>,
    /// How many statements of the batch were carried out before; they are rolled back with it.
    pub done: usize,
}

impl Refused {
    fn of(error: &DbError, done: usize) -> Self {
        Self {
            state: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            context: error.where_().map(str::to_owned),
            position: match error.position() {
                Some(ErrorPosition::Original(position)) => Some((*position as usize).saturating_sub(1)),
                _ => None,
            },
            done,
        }
    }

    /// Adds the server's words to a failure, but not those that show a row: whoever reads of the failure need not be one who may
    /// read the table.
    #[must_use]
    pub fn told(&self, failure: Failure) -> Failure {
        let failure = failure.caused_by(format!("{} ({})", self.message, self.state));
        let shows_row = [SqlState::NOT_NULL_VIOLATION, SqlState::CHECK_VIOLATION]
            .iter()
            .any(|state| self.state == state.code());
        let failure = match &self.detail {
            Some(detail) if !shows_row => failure.caused_by(detail.trim_end_matches('.')),
            _ => failure,
        };
        match &self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Whether the server has no room left.
    pub fn is_disk_full(&self) -> bool {
        self.state == SqlState::DISK_FULL.code()
    }
}

/// An answer, or the server's refusal.
pub type Answered<T> = Result<Result<T, Refused>, Failure>;

/// Parts the server's refusal from what went wrong on the way. A refusal that ends the session is no answer.
fn answered<T>(result: Result<T, Error>, done: usize) -> Result<Result<T, Refused>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => match error.as_db_error() {
            Some(said) if said.parsed_severity() != Some(Severity::Fatal) && !ends_session(said) => {
                Ok(Err(Refused::of(said, done)))
            }
            _ => Err(error),
        },
    }
}

fn ends_session(said: &DbError) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(said.code())
}

impl Session {
    /// Carries out statements as one batch, which is one transaction unless it holds BEGIN or COMMIT; returns how many
    /// rows each one touched.
    pub fn batch(&self, sql: &str) -> Answered<Vec<u64>> {
        self.ask(&Asked::plain(sql), async {
            let mut touched = Vec::new();
            let mut stream = std::pin::pin!(match self.client().simple_query_raw(sql).await {
                Ok(stream) => stream,
                Err(error) => return answered(Err(error), 0),
            });
            while let Some(message) = stream.next().await {
                match message {
                    Ok(SimpleQueryMessage::CommandComplete(rows)) => touched.push(rows),
                    Ok(_) => {}
                    Err(error) => return answered(Err(error), touched.len()),
                }
            }
            Ok(Ok(touched))
        })
    }

    /// The first value of the first row of a query.
    pub fn batch_value(&self, sql: &str) -> Answered<Option<String>> {
        self.ask(&Asked::plain(sql), async {
            let found = answered(self.client().simple_query(sql).await, 0)?;
            Ok(found.map(|messages| {
                messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_owned),
                    _ => None,
                })
            }))
        })
    }

    /// Begins a `COPY ... FROM stdin`.
    pub fn copy_in(&self, sql: &str) -> Answered<CopyIn<'_>> {
        let sink = self.ask(&Asked::plain(sql), async { answered(self.client().copy_in(sql).await, 0) })?;
        Ok(sink.map(|sink| CopyIn { session: self, sink: Box::pin(sink) }))
    }

    /// Runs a `COPY ... TO stdout`; `take` sees the text in pieces cut anywhere.
    pub fn copy_out(&self, sql: &str, take: &mut dyn FnMut(&[u8])) -> Answered<()> {
        self.copy_out_while(sql, &mut |bytes| {
            take(bytes);
            Ok(())
        })
    }

    /// Runs a `COPY ... TO stdout` for as long as `take`, which sees the text in pieces cut anywhere, does not fail.
    pub fn copy_out_while(
        &self,
        sql: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Answered<()> {
        let mut ended = Ok(());
        let answer = self.ask(&Asked::plain(sql), async {
            let mut stream = std::pin::pin!(match self.client().copy_out(sql).await {
                Ok(stream) => stream,
                Err(error) => return answered(Err(error), 0),
            });
            while let Some(piece) = stream.next().await {
                match piece {
                    Ok(bytes) => ended = take(&bytes),
                    Err(error) => return answered(Err(error), 0),
                }
                if ended.is_err() {
                    break;
                }
            }
            Ok(Ok(()))
        })?;
        if let Err(failure) = ended {
            // The server would send the rest for nobody.
            self.interrupt();
            return Err(failure);
        }
        Ok(answer)
    }
}

/// A COPY into a table that is under way; dropped, it is undone.
pub struct CopyIn<'a> {
    session: &'a Session,
    sink: Pin<Box<CopyInSink<Bytes>>>,
}

impl CopyIn<'_> {
    /// Sends data, cut anywhere.
    pub fn send(&mut self, bytes: Bytes) -> Answered<()> {
        let sent = self.sink.send(bytes);
        waited(self.session, async { answered(sent.await, 0) })
    }

    /// Ends the data; returns how many rows the table got.
    pub fn end(mut self) -> Answered<u64> {
        let ended = self.sink.as_mut().finish();
        waited(self.session, async { answered(ended.await, 0) })
    }
}

fn waited<T>(session: &Session, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    session.ask(&Asked::plain("COPY"), answer)
}

/// The failure of a statement of our own that the server refused.
pub fn own(refused: &Refused, doing: impl Into<String>) -> Failure {
    let code = if refused.is_disk_full() { Code::DiskFull } else { Code::Query };
    refused.told(Failure::new(code, doing))
}
