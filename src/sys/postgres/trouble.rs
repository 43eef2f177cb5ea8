//! What goes wrong while a dump is carried out, told with the line of the dump and what helps.

use super::exchange::Refused;
use crate::base::failure::{Code, Failure};

/// What helps when the server's disk is full.
pub const DISK_FULL: &str = "Free space on the database server: while a restore runs, the old database and the new one need \
                             room, and so does the server's WAL. `lifeboat cleanup` removes databases that were kept.";

/// A statement that the server refused.
pub fn statement(dump: &str, line: u64, describe: &str, refused: &Refused) -> Failure {
    told(refused, format!("`{dump}` cannot be loaded: line {line}, `{describe}`"))
}

/// Rows that the server refused; `line` is that of the COPY statement.
pub fn rows(dump: &str, line: u64, table: &str, refused: &Refused) -> Failure {
    // COPY tells its own line of data: `COPY t, line 3, column id: "x"`.
    let within = refused.context.as_deref().and_then(|context| {
        let (_, rest) = context.split_once(", line ")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    });
    told(
        refused,
        format!("`{dump}` cannot be loaded: line {}, rows of `{table}`", line + within.unwrap_or(0)),
    )
}

fn told(refused: &Refused, message: String) -> Failure {
    let code = if refused.is_disk_full() { Code::DiskFull } else { Code::Query };
    let failure = refused.told(Failure::new(code, message));
    if refused.is_disk_full() {
        return failure.hint(DISK_FULL);
    }
    let in_function = refused.context.as_deref().is_some_and(|context| context.contains("function"));
    let unknown = matches!(refused.state.as_str(), "42883" | "42P01" | "42704" | "42703");
    if unknown && in_function {
        let context = refused.context.as_deref().unwrap_or_default();
        let function = context.lines().find(|line| line.contains("function")).unwrap_or_default();
        return failure
            .caused_by(format!("in {function}"))
            .caused_by(
                "dumps are loaded with an empty search_path, and this function names something without its schema",
            )
            .hint(
                "Give the function a path of its own in the source database, `ALTER FUNCTION name SET search_path = public`, \
                 and back up again; this backup restores only where its file is edited by hand.",
            );
    }
    match refused.state.as_str() {
        "42501" => failure.hint(
            "Restore as a superuser, or as a member of all roles that own something in the dump.",
        ),
        "22021" | "22P05" => failure.hint(
            "The dump's encoding does not fit the database's: restore into a database of the dump's encoding.",
        ),
        _ => failure,
    }
}

/// A backslash command.
pub fn command(dump: &str, text: &[u8], line: u64) -> Failure {
    let text = String::from_utf8_lossy(text.trim_ascii_end()).into_owned();
    Failure::new(Code::NotIntact, format!("line {line} of `{dump}` holds the command `{text}`"))
        .hint("No dump of one database holds that: do not trust this file, and use another backup.")
}

/// A statement that must not be carried out.
pub fn forbidden(dump: &str, line: u64, statement: &str, why: &str, hint: &str) -> Failure {
    Failure::new(Code::Usage, format!("line {line} of `{dump}` must not be carried out: `{statement}`"))
        .caused_by(why)
        .hint(hint)
}
