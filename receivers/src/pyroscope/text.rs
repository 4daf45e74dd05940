//! Profiles as text: the last part of the application's name says what the numbers count.
//!
//! Numbers of `cpu` and `wall` are samples; they become nanoseconds by the sample rate, as in
//! Pyroscope, where a period is a whole number of nanoseconds.

use bytes::Bytes;
use profpipe_formats::folded;
use profpipe_profile::{Profiles, SampleRef, Samples, ValueType};

use super::labels::quote;
use super::push::Malformed;
use super::query::{Format, Query};

/// What the numbers of a text count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// What the profile is called.
    name: &'static str,
    sample_type: &'static str,
    unit: &'static str,
}

/// The kind that a suffix stands for, and whether its numbers are samples of a clock.
fn kind(suffix: &str) -> Option<Kind> {
    let (name, sample_type, unit) = match suffix {
        "cpu" | "itimer" => ("process_cpu", "cpu", "nanoseconds"),
        "wall" | "seconds" | "milliseconds" | "microseconds" | "nanoseconds" => {
            ("wall", "wall", "nanoseconds")
        }
        "inuse_objects" => ("memory", "inuse_objects", "count"),
        "inuse_space" => ("memory", "inuse_space", "bytes"),
        "alloc_objects" => ("memory", "alloc_objects", "count"),
        "alloc_space" => ("memory", "alloc_space", "bytes"),
        "alloc_in_new_tlab_objects" => ("memory", "alloc_in_new_tlab_objects", "count"),
        "alloc_in_new_tlab_bytes" => ("memory", "alloc_in_new_tlab_bytes", "bytes"),
        "alloc_outside_tlab_objects" => ("memory", "alloc_outside_tlab_objects", "count"),
        "alloc_outside_tlab_bytes" => ("memory", "alloc_outside_tlab_bytes", "bytes"),
        "live" => ("memory", "live", "count"),
        "bytes" => ("memory", "samples", "bytes"),
        "goroutines" => ("goroutine", "goroutines", "count"),
        "mutex_count" => ("mutex", "contentions", "count"),
        "mutex_duration" => ("mutex", "delay", "nanoseconds"),
        "block_count" | "lock_count" => ("block", "contentions", "count"),
        "block_duration" | "lock_duration" => ("block", "delay", "nanoseconds"),
        "exceptions" => ("exceptions", "samples", "count"),
        _ => return None,
    };
    Some(Kind { name, sample_type, unit })
}

/// What a text is called, and the application without the part that says so.
///
/// # Errors
/// If the last part of the name is none that is known.
pub(super) fn named(app: &str) -> Result<(&'static str, &str), Malformed> {
    let (app, suffix) = app.rsplit_once('.').unwrap_or((app, "cpu"));
    let kind = kind(suffix)
        .ok_or_else(|| Malformed(format!("unknown profile type: {}", quote(suffix))))?;
    Ok((kind.name, app))
}

/// Reads a text.
///
/// # Errors
/// If it is not of the format, or the application's name says nothing that is known.
pub(super) fn decode(body: &Bytes, query: &Query) -> Result<Profiles, Malformed> {
    let suffix = query.app.rsplit_once('.').map_or("cpu", |(_, suffix)| suffix);
    let kind = kind(suffix).ok_or_else(|| Malformed(format!("unknown profile type: {suffix}")))?;
    let decoded = if query.format == Format::Lines {
        folded::decode(&counted(body))
    } else {
        folded::decode(body)
    };
    let mut profiles = decoded.map_err(|error| {
        Malformed(format!("not collapsed stacks (format pprof is accepted, too): {error}"))
    })?;
    let is_clock = matches!(kind.name, "process_cpu" | "wall") && query.rate != 0;
    let period = if is_clock { 1_000_000_000 / i64::from(query.rate) } else { 0 };
    let strings = &mut profiles.dictionary.strings;
    let mut value_type = |kind: &str, unit: &str| ValueType {
        kind: strings.intern(kind),
        unit: strings.intern(unit),
    };
    let sample_type = match kind.name {
        "process_cpu" | "wall" if !is_clock => value_type("samples", "count"),
        _ => value_type(kind.sample_type, kind.unit),
    };
    let period_type =
        if is_clock { value_type("cpu", "nanoseconds") } else { ValueType::default() };
    for profile in profiles.profiles_mut() {
        profile.sample_type = sample_type;
        profile.period_type = period_type;
        profile.period = period;
        profile.time_unix_nano = query.from;
        profile.duration_nano = query.until.saturating_sub(query.from);
        if is_clock {
            let mut scaled = Samples::default();
            scaled.reserve(profile.samples.len());
            for sample in profile.samples.iter() {
                let values = [sample.weight().saturating_mul(period)];
                scaled.push(SampleRef { values: &values, ..sample });
            }
            profile.samples = scaled;
        }
    }
    Ok(profiles)
}

/// Lines with a count of 1 added to each.
fn counted(lines: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.len() + lines.len() / 8);
    for line in lines.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if !line.is_empty() {
            text.extend_from_slice(line);
            text.extend_from_slice(b" 1\n");
        }
    }
    text
}
