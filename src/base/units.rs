//! Sizes and durations as people write and read them.

use chrono::{DateTime, Datelike, FixedOffset, Timelike};
use std::time::Duration;

/// The time that a clock there showed, to the second: `2025-11-10 02:00:00`. Lists of 100,000 lines are why it is not left to
/// a format that is read each time.
pub fn clock(time: DateTime<FixedOffset>) -> String {
    let local = time.naive_local();
    let (year, month, day) = (local.year(), local.month(), local.day());
    if !(0..=9999).contains(&year) {
        return local.format("%Y-%m-%d %H:%M:%S").to_string();
    }
    let mut text = *b"0000-00-00 00:00:00";
    let mut put = |at: usize, number: u32| {
        for (place, power) in [(at, 10), (at + 1, 1)] {
            text[place] = b"0123456789"[(number / power % 10) as usize];
        }
    };
    put(0, year.unsigned_abs() / 100);
    put(2, year.unsigned_abs() % 100);
    put(5, month);
    put(8, day);
    put(11, local.hour());
    put(14, local.minute());
    put(17, local.second() + local.nanosecond() / 1_000_000_000);
    String::from_utf8_lossy(&text).into_owned()
}

/// The same to the minute: `2025-11-10 02:00`.
pub fn clock_minute(time: DateTime<FixedOffset>) -> String {
    let mut text = clock(time);
    text.truncate(text.len() - ":00".len());
    text
}

/// Bytes with binary units: `1.5 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    // A value that rounds up to the next unit is shown in it.
    if value >= 1023.95 && unit != "EiB" {
        let index = UNITS.iter().position(|u| *u == unit).map_or(0, |i| i + 1);
        return format!("1.0 {}", UNITS[index]);
    }
    format!("{value:.1} {unit}")
}

/// A duration: `850 ms`, `4.2 s`, `3 min 42 s`, `2 h 5 min`.
pub fn duration(d: Duration) -> String {
    let millis = d.as_millis();
    if millis < 1000 {
        return format!("{millis} ms");
    }
    let tenths = (millis + 50) / 100;
    if tenths < 600 {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let seconds = (millis + 500) / 1000;
    if seconds < 3600 {
        return format!("{} min {} s", seconds / 60, seconds % 60);
    }
    let minutes = (seconds + 30) / 60;
    format!("{} h {} min", minutes / 60, minutes % 60)
}

/// Reads a size: `500`, `10 GiB`, `10GB`, `1.5M`. Without `i` and with `B` the unit is decimal, as on disks' labels; a
/// lone letter is binary, as in `du` and `df`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let factor: u64 = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    let value = number * factor as f64;
    (value.is_finite() && value < u64::MAX as f64).then_some(value.round() as u64)
}

/// Reads a duration: `30s`, `5m`, `2h`, `7d`, `250ms`, `1h30m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&n| n > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let millis: u64 = match &rest[..end] {
            "ms" => 1,
            "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = rest[end..].trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_shown_as_the_usual_format_shows_them() {
        let offset = |minutes: i32| FixedOffset::east_opt(minutes * 60).unwrap();
        for seconds in [0, 1, -1, 951_782_399, 1_762_739_999, -62_167_219_201, 253_402_300_800, 4_102_444_799]
        {
            for minutes in [0, 120, -570, 845] {
                let time = DateTime::from_timestamp(seconds, 999_999_999).unwrap();
                let time = time.with_timezone(&offset(minutes));
                assert_eq!(clock(time), time.format("%Y-%m-%d %H:%M:%S").to_string());
                assert_eq!(clock_minute(time), time.format("%Y-%m-%d %H:%M").to_string());
            }
        }
        let leap = DateTime::parse_from_rfc3339("2016-12-31T23:59:60Z").unwrap();
        assert_eq!(clock(leap), leap.format("%Y-%m-%d %H:%M:%S").to_string());
    }

    #[test]
    fn bytes_read_like_people_write_them() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn durations_read_like_people_write_them() {
        for (ms, text) in [
            (850, "850 ms"),
            (4_240, "4.2 s"),
            (59_960, "1 min 0 s"),
            (222_000, "3 min 42 s"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn sizes_parse() {
        assert_eq!(parse_bytes("10 GiB"), Some(10 << 30));
        assert_eq!(parse_bytes("1.5M"), Some(3 << 19));
        assert_eq!(parse_bytes("10GB"), Some(10_000_000_000));
        assert_eq!(parse_bytes("ten"), None);
        assert_eq!(parse_bytes("10 Gigs"), None);
    }

    #[test]
    fn durations_parse() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("30"), None);
        assert_eq!(parse_duration(""), None);
        assert_eq!(parse_duration("99999999999999999w"), None);
    }
}
