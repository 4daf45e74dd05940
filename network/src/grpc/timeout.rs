//! The `grpc-timeout` header: up to eight digits and a unit.

use std::time::Duration;

/// Reads the header; `None` if it is not a timeout, which a server treats as none given.
pub fn parse_timeout(header: &[u8]) -> Option<Duration> {
    let (unit, digits) = header.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes the header, with the finest unit that eight digits allow; never longer than `timeout`
/// but for one that is less than a nanosecond.
pub fn format_timeout(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let units = [
        (timeout.as_nanos().max(1), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
    ];
    match units.into_iter().find(|(number, _)| *number <= MOST) {
        Some((number, unit)) => format!("{number}{unit}"),
        None => format!("{}H", u128::from(timeout.as_secs() / 3600).min(MOST)),
    }
}
