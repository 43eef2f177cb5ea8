//! The wall clock and the monotonic clock.

use chrono::{DateTime, Local};
use std::time::Instant;

/// Tells the time; tests fix it with `LIFEBOAT_NOW` (RFC 3339).
#[derive(Clone, Debug)]
pub struct Clock {
    fixed: Option<DateTime<Local>>,
}

impl Clock {
    /// The system's clock, unless `fixed` names an instant that is to be taken for now.
    pub fn new(fixed: Option<&str>) -> Self {
        let fixed = fixed.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        Self { fixed: fixed.map(|instant| instant.with_timezone(&Local)) }
    }

    /// Now, in the host's time zone.
    pub fn now(&self) -> DateTime<Local> {
        self.fixed.unwrap_or_else(Local::now)
    }

    /// A point to measure durations from.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }
}
