//! The book of alerts, `alerts/book.json` below the state folder: what was sent lately, what is still to be delivered.

use super::{read_text, replace};
use crate::base::failure::{Code, Failure};
use crate::sys::flock::Held;
use crate::sys::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FOLDER: &str = "alerts";
const BOOK: &str = "book.json";
/// The name under which a book is kept that cannot be read.
pub const SET_ASIDE: &str = "book.json.unreadable";
/// How long the book is waited for: nobody holds it longer than it takes to write it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A lock on something of the alerts; dropping it frees it.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held, not read")] Held);

fn folder(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

fn claim(state: &Path, name: &str) -> Result<Option<Claim>, Failure> {
    let dir = folder(state);
    fs::create_dir(&dir)?;
    let path = dir.join(name);
    let taken = Held::take(fs::open_lock(&path)?).map_err(|error| Failure::io("lock", &path, &error))?;
    Ok(taken.ok().map(Claim))
}

/// Takes the right to deliver what is still to be delivered; `None` when another process does that just now.
pub fn claim_delivery(state: &Path) -> Result<Option<Claim>, Failure> {
    claim(state, "delivery.lock")
}

/// The book as text; `None` if there is none yet.
pub fn read_book(state: &Path) -> Result<Option<String>, Failure> {
    read_text(&folder(state).join(BOOK))
}

/// Keeps the book under [another name](SET_ASIDE), in the place of one that was kept so before.
///
/// # Errors
/// What the system says.
pub fn set_book_aside(state: &Path) -> Result<(), Failure> {
    let path = folder(state).join(BOOK);
    std::fs::rename(&path, folder(state).join(SET_ASIDE))
        .map_err(|error| Failure::io("rename", &path, &error))
}

/// Changes the book, alone: `change` gets its text and returns the new one, and something for the caller.
///
/// # Errors
/// `Locked` when it cannot be had in time; what the system says. Then nothing is changed.
pub fn change_book<T>(
    state: &Path,
    change: impl FnOnce(Option<String>) -> Result<(String, T), Failure>,
) -> Result<T, Failure> {
    let began = Instant::now();
    let _claim = loop {
        if let Some(claim) = claim(state, "book.lock")? {
            break claim;
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::new(Code::Locked, "another process holds the book of alerts"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (text, value) = change(read_book(state)?)?;
    replace(&folder(state), BOOK, &text)?;
    Ok(value)
}
