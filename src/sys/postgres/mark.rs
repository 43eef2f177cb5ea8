//! What Lifeboat writes on databases that it keeps or stages, so that they are known for what they are whatever machine
//! looks at them, and however the run ended that made them.
//!
//! *Problem*: a name tells what a database was meant to be; it survives no rename, and anybody may choose it.
//! *Decision*: a mark in front of the database's comment. It follows the OID, stands in the same transaction as a rename,
//! and every owner may write it. *Rejected*: `ALTER DATABASE ... SET lifeboat.mark`, which the server refuses to all but
//! superusers.

use chrono::{DateTime, FixedOffset, NaiveDateTime};
use serde::{Deserialize, Serialize};

/// What a marked comment begins with.
const BEGIN: &str = "lifeboat ";

/// The longest name of a database in bytes; the server cuts longer ones in silence, in the middle of a character even.
pub const LONGEST_NAME: usize = 63;

/// The limit of connections that tells a staging database which was just made and is not marked yet. Together with its
/// name, which holds the whole id of a run, it is enough to know it by.
pub(super) const UNMARKED_LIMIT: i32 = 47;

/// What a marked database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Being filled in order to take a database's place.
    Staging,
    /// What had a database's name before another one took its place.
    Kept,
}

/// What is written on a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What it is.
    pub kind: Kind,
    /// The name it is to get, or had.
    pub database: String,
    /// The run that made or kept it.
    pub run: String,
    /// Number of the action in that run; 0 when only the name tells.
    pub action: u64,
    /// When.
    pub at: DateTime<FixedOffset>,
    /// OID of the database that took its place; `None` for a staging database, and when nothing took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<u32>,
}

impl Mark {
    /// The comment with the mark in front of the database's own comment.
    pub fn before(&self, comment: Option<&str>) -> String {
        let mark = serde_json::to_string(self).unwrap_or_default();
        match comment {
            Some(comment) => format!("{BEGIN}{mark}\n{comment}"),
            None => format!("{BEGIN}{mark}"),
        }
    }
}

/// The mark in a comment, and the database's own comment.
pub fn split(comment: Option<&str>) -> (Option<Mark>, Option<String>) {
    let Some(comment) = comment else { return (None, None) };
    let (first, own) = comment.split_once('\n').map_or((comment, None), |(first, own)| (first, Some(own)));
    let mark = first.strip_prefix(BEGIN).and_then(|mark| serde_json::from_str(mark).ok());
    match mark {
        Some(mark) => (Some(mark), own.map(str::to_owned)),
        None => (None, Some(comment.to_owned())),
    }
}

/// `database`, cut between characters as far as needed, with `ending` at its end.
pub fn name(database: &str, ending: &str) -> String {
    let room = LONGEST_NAME.saturating_sub(ending.len());
    let cut = (0..=room.min(database.len())).rev().find(|at| database.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{ending}", &database[..cut])
}

/// The ending of a staging database of a run: `_staging_20251110_020000_abcdef`.
pub fn staging_ending(run: &str) -> String {
    format!("_staging_{}", run.replace('-', "_"))
}

/// The mark of a staging database that was made and not marked yet, as its name tells it.
pub(super) fn of_name(name: &str) -> Option<Mark> {
    let (database, rest) = name.rsplit_once("_staging_")?;
    let parts: Vec<&str> = rest.split('_').collect();
    let (run, at) = match parts[..] {
        [date, time, letters] | [date, time, letters, _] => {
            let at = NaiveDateTime::parse_from_str(&format!("{date}{time}"), "%Y%m%d%H%M%S").ok()?;
            (format!("{date}-{time}-{letters}"), at.and_local_timezone(chrono::Local).earliest()?)
        }
        _ => return None,
    };
    crate::base::ids::RunId::parse(&run)?;
    Some(Mark {
        kind: Kind::Staging,
        database: database.to_owned(),
        run,
        action: 0,
        at: at.fixed_offset(),
        replaced_by: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            kind: Kind::Kept,
            database: "shop".to_owned(),
            run: "20251110-020000-abcdef".to_owned(),
            action: 7,
            at: DateTime::parse_from_rfc3339("2025-11-10T02:00:00+01:00").unwrap(),
            replaced_by: Some(16386),
        }
    }

    #[test]
    fn a_mark_stands_before_the_comment_and_is_taken_off_again() {
        let text = mark().before(Some("the shop\nof ada"));
        assert_eq!(
            text,
            "lifeboat {\"kind\":\"kept\",\"database\":\"shop\",\"run\":\"20251110-020000-abcdef\",\"action\":7,\
             \"at\":\"2025-11-10T02:00:00+01:00\",\"replaced_by\":16386}\nthe shop\nof ada"
        );
        assert_eq!(split(Some(&text)), (Some(mark()), Some("the shop\nof ada".to_owned())));
        assert_eq!(split(Some(&mark().before(None))), (Some(mark()), None));
        assert_eq!(split(None), (None, None));
        for foreign in ["the shop", "lifeboat keeps this one", "lifeboat {}", ""] {
            assert_eq!(split(Some(foreign)), (None, Some(foreign.to_owned())), "{foreign}");
        }
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(name("shop", "_before_20251110_020000"), "shop_before_20251110_020000");
        let long = "x".repeat(LONGEST_NAME);
        assert_eq!(name(&long, "_before_20251110_020000").len(), LONGEST_NAME);
        let odd = format!("x{}", "é".repeat(31));
        let cut = name(&odd, "_before_20251110_020000");
        assert_eq!(cut, format!("x{}_before_20251110_020000", "é".repeat(19)));
        assert_eq!(cut.len(), 62);
    }

    #[test]
    fn the_name_of_a_staging_database_tells_its_run() {
        let run = "20251110-020000-abcdef";
        let staging = name("my_staging_shop", &staging_ending(run));
        assert_eq!(staging, "my_staging_shop_staging_20251110_020000_abcdef");
        let mark = of_name(&staging).unwrap();
        assert_eq!((mark.database.as_str(), mark.run.as_str(), mark.action), ("my_staging_shop", run, 0));
        assert!(of_name(&format!("{staging}_2")).is_some());
        for other in
            ["shop_staging_20251110_020000", "shop_staging_20251310_020000_abcdef", "shop_staging_x_y_z"]
        {
            assert_eq!(of_name(other), None, "{other}");
        }
    }
}
