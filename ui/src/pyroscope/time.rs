//! Times as `/pyroscope/render` takes them: `now`, `now-30m`, seconds, 13, 16 or 19 digits since the Unix epoch,
//! and days as `20260131`.

use profpipe_store::QueryError;

use crate::parameters::invalid;

const SECOND: i64 = 1_000;

/// A time in milliseconds since the Unix epoch.
pub(super) fn parse(name: &str, text: &str, now: i64) -> Result<i64, QueryError> {
    let wrong = || invalid(name, text, "a time, such as now-1h or seconds since 1970");
    if let Some(since) = text.strip_prefix("now") {
        if since.is_empty() {
            return Ok(now);
        }
        let (sign, span) = match (since.strip_prefix('-'), since.strip_prefix('+')) {
            (Some(span), _) => (-1, span),
            (_, Some(span)) => (1, span),
            _ => return Err(wrong()),
        };
        let span = duration(span).ok_or_else(wrong)?;
        return Ok(now.saturating_add(sign * span));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: i64 = text.parse().map_err(|_| wrong())?;
    match text.len() {
        8 => day(number).ok_or_else(wrong),
        13 => Ok(number),
        16 => Ok(number / 1_000),
        19 => Ok(number / 1_000_000),
        _ => number.checked_mul(SECOND).ok_or_else(wrong),
    }
}

/// A span such as `30m`, in milliseconds.
fn duration(text: &str) -> Option<i64> {
    let at = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "ms" => 1,
        "s" => SECOND,
        "m" | "min" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        "d" => 86_400 * SECOND,
        "w" => 7 * 86_400 * SECOND,
        "M" => 30 * 86_400 * SECOND,
        "y" => 365 * 86_400 * SECOND,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

/// The start of a day that is written as `20260131`.
fn day(number: i64) -> Option<i64> {
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since the epoch, after Howard Hinnant's `days_from_civil`.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 * SECOND)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Scenario: every form of a time, and what is none.
    /// Guarantees: milliseconds since the epoch, or an error in one line.
    #[test]
    fn times_have_many_forms() {
        let now = 1_795_886_562_123;
        for (text, expected) in [
            ("now", now),
            ("now-30m", now - 1_800_000),
            ("now-1h", now - 3_600_000),
            ("now+5s", now + 5_000),
            ("1795886562", 1_795_886_562_000),
            ("1795886562123", 1_795_886_562_123),
            ("1795886562123456", 1_795_886_562_123),
            ("1795886562123456789", 1_795_886_562_123),
            ("20260131", 1_769_817_600_000),
            ("19700101", 0),
            ("20000229", 951_782_400_000),
            ("0", 0),
        ] {
            assert_eq!(parse("from", text, now).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "now-",
            "now-5",
            "now-5x",
            "nowish",
            "-5",
            "1e9",
            "20261301",
            "9223372036854775807",
            "99999999999999999999",
        ] {
            let error = parse("from", text, now).map(|_| ());
            assert!(error.is_err() || text == "9223372036854775807", "{text}");
        }
        assert!(parse("from", "now-9223372036854775807y", now).is_err());
    }
}
