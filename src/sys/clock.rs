//! The wall clock and the monotonic clock.

use crate::base::failure::{Code, Failure};
use chrono::{DateTime, FixedOffset, Local};
use chrono_tz::Tz;
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

    /// Refuses a text that is set and names no instant: it would silently be another time.
    ///
    /// # Errors
    /// `Usage`.
    pub fn check(fixed: Option<&str>) -> Result<(), Failure> {
        let Some(text) = fixed.filter(|text| !text.is_empty()) else { return Ok(()) };
        DateTime::parse_from_rfc3339(text).map(|_| ()).map_err(|error| {
            Failure::new(Code::Usage, format!("`LIFEBOAT_NOW` is no time: `{text}`"))
                .caused_by(error)
                .hint("Unset it, or give a time like `2025-11-10T02:00:00Z`.")
        })
    }

    /// The instant that is taken for now, if the system's clock is not asked.
    pub fn fixed(&self) -> Option<DateTime<Local>> {
        self.fixed
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

/// This machine's time zone by its IANA name: that which `tz`, the variable TZ, names, or else the system's own.
///
/// # Errors
/// `Usage` if TZ names none, `Io` if the system's own cannot be told.
pub fn zone(tz: Option<&str>) -> Result<Tz, Failure> {
    const HINT: &str = "Give the schedule a time zone in the header, for example `tz: \"Europe/Berlin\"`, or set TZ to such a name.";
    if let Some(name) = tz.map(|tz| tz.trim_start_matches(':')).filter(|name| !name.is_empty()) {
        return name.parse().map_err(|_| {
            Failure::new(Code::Usage, format!("`{name}` in TZ is not the name of a time zone")).hint(HINT)
        });
    }
    let unknown = |cause: String| {
        Failure::new(Code::Io, "the time zone of this machine cannot be told").caused_by(cause).hint(HINT)
    };
    let name = iana_time_zone::get_timezone().map_err(|error| unknown(error.to_string()))?;
    // Images without a zone call theirs so, and mean UTC.
    if name == "Etc/Unknown" {
        return Ok(Tz::UTC);
    }
    let zone: Tz = name.parse().map_err(|_| unknown(format!("`{name}` is not an IANA name")))?;
    agrees(zone, Local::now().fixed_offset()).map_err(unknown)?;
    Ok(zone)
}

/// Whether a zone is the one of the machine's clock: a container that got `/etc/localtime` of its host keeps the name of its own.
fn agrees(zone: Tz, now: DateTime<FixedOffset>) -> Result<(), String> {
    let there = now.with_timezone(&zone).fixed_offset();
    if there.offset() == now.offset() {
        return Ok(());
    }
    Err(format!(
        "its name is `{zone}`, where it is {}, and its clock says {}",
        there.format("%H:%M"),
        now.format("%H:%M")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_none_is_refused() {
        assert_eq!(Clock::check(None), Ok(()));
        assert_eq!(Clock::check(Some("")), Ok(()));
        assert_eq!(Clock::check(Some("2025-11-10T02:00:00Z")), Ok(()));
        let failure = Clock::check(Some("yesterday")).unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        assert_eq!(failure.message, "`LIFEBOAT_NOW` is no time: `yesterday`");
        assert_eq!(failure.hints, ["Unset it, or give a time like `2025-11-10T02:00:00Z`."]);
    }

    #[test]
    fn the_zone_is_that_of_tz_or_the_systems() {
        assert_eq!(zone(Some("Europe/Berlin")), Ok(Tz::Europe__Berlin));
        assert_eq!(zone(Some(":America/New_York")), Ok(Tz::America__New_York));
        if std::env::var_os("TZ").is_none() {
            zone(None).unwrap();
            zone(Some("")).unwrap();
        }
        let failure = zone(Some("CET-1CEST")).unwrap_err();
        assert_eq!(failure.message, "`CET-1CEST` in TZ is not the name of a time zone");
        assert_eq!(
            failure.hints,
            [
                "Give the schedule a time zone in the header, for example `tz: \"Europe/Berlin\"`, or set TZ to such a name."
            ]
        );
    }

    #[test]
    fn a_name_that_the_clock_belies_is_refused() {
        let now = DateTime::parse_from_rfc3339("2026-07-01T10:00:00+02:00").unwrap();
        assert_eq!(agrees(Tz::Europe__Berlin, now), Ok(()));
        assert_eq!(agrees(Tz::Africa__Johannesburg, now), Ok(()));
        let problem = "its name is `UTC`, where it is 08:00, and its clock says 10:00";
        assert_eq!(agrees(Tz::UTC, now), Err(problem.to_owned()));
    }
}
