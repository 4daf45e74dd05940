//! Units, as pprof has them: which are of one dimension, and amounts as people read them.

/// What can be measured in several units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dimension {
    Time,
    Bytes,
}

/// A unit of a dimension.
struct Unit {
    /// The names that profiles have for it, in small letters and without an s at the end.
    names: &'static [&'static str],
    dimension: Dimension,
    /// How many of the finest unit one is.
    factor: i64,
    /// How amounts in it are shown: the scale, and where on it the unit is.
    shown: (Scale, usize),
}

/// Larger and larger units that an amount may be shown in: how many of the one before, and the name.
type Scale = &'static [(f64, &'static str)];

const TIME: Scale =
    &[(1.0, "ns"), (1e3, "us"), (1e3, "ms"), (1e3, "s"), (60.0, "min"), (60.0, "h"), (24.0, "d")];
const BYTES: Scale =
    &[(1.0, "B"), (1024.0, "KiB"), (1024.0, "MiB"), (1024.0, "GiB"), (1024.0, "TiB")];
/// Units that pprof has no larger ones for are shown by its names.
const MINUTES: Scale = &[(1.0, "minutes")];
const HOURS: Scale = &[(1.0, "hrs")];
const DAYS: Scale = &[(1.0, "days")];
const GIGABYTES: Scale = &[(1.0, "GB"), (1024.0, "TB"), (1024.0, "PB")];
const TERABYTES: Scale = &[(1.0, "TB"), (1024.0, "PB")];
const PETABYTES: Scale = &[(1.0, "PB")];

const SECOND: i64 = 1_000_000_000;

const fn unit(
    names: &'static [&'static str],
    dimension: Dimension,
    factor: i64,
    shown: (Scale, usize),
) -> Unit {
    Unit { names, dimension, factor, shown }
}

const UNITS: &[Unit] = &[
    unit(&["nanosecond", "ns"], Dimension::Time, 1, (TIME, 0)),
    unit(&["microsecond", "us", "\u{b5}s", "\u{3bc}s"], Dimension::Time, 1_000, (TIME, 1)),
    unit(&["millisecond", "ms"], Dimension::Time, 1_000_000, (TIME, 2)),
    unit(&["second", "s", "sec"], Dimension::Time, SECOND, (TIME, 3)),
    unit(&["minute", "min"], Dimension::Time, 60 * SECOND, (MINUTES, 0)),
    unit(&["hour", "h", "hr"], Dimension::Time, 3_600 * SECOND, (HOURS, 0)),
    unit(&["day", "d"], Dimension::Time, 86_400 * SECOND, (DAYS, 0)),
    unit(&["byte", "b", "by"], Dimension::Bytes, 1, (BYTES, 0)),
    unit(&["kilobyte", "kb", "kbyte", "kib", "kiby"], Dimension::Bytes, 1 << 10, (BYTES, 1)),
    unit(&["megabyte", "mb", "mbyte", "mib", "miby"], Dimension::Bytes, 1 << 20, (BYTES, 2)),
    unit(&["gigabyte", "gb", "gbyte", "gib", "giby"], Dimension::Bytes, 1 << 30, (GIGABYTES, 0)),
    unit(&["terabyte", "tb", "tbyte", "tib", "tiby"], Dimension::Bytes, 1 << 40, (TERABYTES, 0)),
    unit(&["petabyte", "pb", "pbyte", "pib", "piby"], Dimension::Bytes, 1 << 50, (PETABYTES, 0)),
];

/// A name in small letters and without an s at the end, as pprof compares them.
fn singular(name: &str) -> String {
    let name = name.to_lowercase();
    match name.strip_suffix('s') {
        Some(one) if one.chars().count() > 1 => one.to_owned(),
        _ => name,
    }
}

fn find(name: &str) -> Option<&'static Unit> {
    let (small, one) = (name.to_lowercase(), singular(name));
    let has = |unit: &&Unit, name: &str| unit.names.contains(&name);
    UNITS
        .iter()
        .find(|unit| has(unit, &small))
        .or_else(|| UNITS.iter().find(|unit| has(unit, &one)))
}

/// What amounts have to have in common to be added.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Addable {
    /// Once they are scaled by [`factor`].
    Of(Dimension),
    /// As they are: the unit in the singular.
    In(String),
}

/// What amounts in a unit can be added to.
pub(super) fn dimension(unit: &str) -> Addable {
    match find(unit) {
        Some(unit) => Addable::Of(unit.dimension),
        None => Addable::In(singular(unit)),
    }
}

/// Whether amounts in both units can be added.
pub(super) fn is_same_dimension(a: &str, b: &str) -> bool {
    a == b || dimension(a) == dimension(b)
}

/// How many of the finest unit of its dimension a unit is; 1 for a unit without others.
pub(super) fn factor(unit: &str) -> i64 {
    find(unit).map_or(1, |unit| unit.factor)
}

/// An amount with a unit in three digits or more, such as `1.23s` or `12.3MiB`; a number alone if
/// it is 0 or something is just counted.
pub fn amount(value: i64, unit: &str) -> String {
    if value == 0 {
        return "0".to_owned();
    }
    let Some(found) = find(unit) else {
        return match singular(unit).as_str() {
            "" | "count" | "sample" | "unit" | "1" => value.to_string(),
            _ => format!("{value}{}", super::text::printable(unit)),
        };
    };
    let (scale, at) = found.shown;
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
pub fn percent(part: i64, total: u128) -> String {
    let share = if total == 0 { 0.0 } else { 100.0 * part as f64 / total as f64 };
    format!("{share:.1}%")
}
