//! Amounts as people read them.

/// The larger units of an amount, the smallest first: how many of the one before, and the name.
type Scale = &'static [(f64, &'static str)];

const TIME: Scale =
    &[(1.0, "ns"), (1e3, "us"), (1e3, "ms"), (1e3, "s"), (60.0, "min"), (60.0, "h"), (24.0, "d")];
const BYTES: Scale =
    &[(1.0, "B"), (1024.0, "KiB"), (1024.0, "MiB"), (1024.0, "GiB"), (1024.0, "TiB")];

/// The scale of a unit of pprof, and where on it the unit is.
fn scale(unit: &str) -> Option<(Scale, usize)> {
    Some(match unit {
        "nanoseconds" | "nanosecond" | "ns" => (TIME, 0),
        "microseconds" | "microsecond" | "us" => (TIME, 1),
        "milliseconds" | "millisecond" | "ms" => (TIME, 2),
        "seconds" | "second" | "s" => (TIME, 3),
        "bytes" | "byte" | "B" | "By" => (BYTES, 0),
        "kilobytes" | "kilobyte" | "kb" | "KiB" => (BYTES, 1),
        "megabytes" | "megabyte" | "mb" | "MiB" => (BYTES, 2),
        _ => return None,
    })
}

/// An amount with a unit in three digits or more, such as `1.23s` or `12.3MiB`; a number alone if
/// it is 0 or the unit is none that has larger ones.
pub fn amount(value: i64, unit: &str) -> String {
    let Some((scale, at)) = scale(unit) else { return value.to_string() };
    if value == 0 {
        return "0".to_owned();
    }
    let mut amount = value as f64;
    let mut units = scale.iter().skip(at);
    let mut name = units.next().map_or(unit, |(_, name)| name);
    for (factor, larger) in units {
        if amount.abs() < *factor {
            break;
        }
        amount /= factor;
        name = larger;
    }
    let digits = match amount.abs() {
        whole if whole.fract() == 0.0 => 0,
        small if small < 10.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    format!("{amount:.digits$}{name}")
}

/// A share of a total, such as `71.8%`.
pub fn percent(part: i64, total: i64) -> String {
    let share = if total == 0 { 0.0 } else { 100.0 * part as f64 / total as f64 };
    format!("{share:.1}%")
}
