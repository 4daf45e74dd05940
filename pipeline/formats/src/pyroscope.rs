//! What Pyroscope calls a profile and its labels: `__name__`, the types that go with it, and attributes
//! as labels. For what is sent to it, and for what asks us as it asks Pyroscope.
//!
//! | sample type | period type | name |
//! |---|---|---|
//! | cpu/nanoseconds, itimer, or samples/count | cpu | `process_cpu` |
//! | wall/nanoseconds, or samples/count | wall | `wall` |
//! | alloc, live, alloc_…, inuse_… | any | `memory` |
//! | contentions/count, delay/nanoseconds, mutex_…, block_… | any | `mutex` or `block` |
//! | lock | any | `block` |
//! | goroutine, goroutines | any | `goroutine` |
//! | off_cpu | any | `off_cpu` |
//! | page_faults, page_faults_major | any | `page_faults` |
//! | io_bytes, io_requests, io_time | any | `io` |
//! | calls | any | `calls` |
//! | any other | some | the period type |
//! | any other | none | the sample type |
//!
//! A name of the configuration goes before these, and so does the one that the profile's own
//! attribute `profpipe.profile.name` states, as profiles from Pyroscope's clients have it.
//! Those go on with their own types; all others are written with the words that Pyroscope's clients use
//! for the same: `itimer` of async-profiler is `cpu`, `ns` is `nanoseconds`.

use std::collections::BTreeMap;

use profpipe_profile::attribute_names::PROFILE_NAME;
use profpipe_profile::{Dictionary, Profile, Value, ValueType};

use crate::pprof::attribute_text;

/// What is counted, in which unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type<'a> {
    /// What is counted: `cpu`, `alloc_space` …
    pub kind: &'a str,
    /// In which unit.
    pub unit: &'a str,
}

/// The type of CPU time.
pub const CPU: Type<'static> = Type { kind: "cpu", unit: "nanoseconds" };
/// The type of samples of a clock.
pub const SAMPLES: Type<'static> = Type { kind: "samples", unit: "count" };

/// Names by `sample type:unit:period type:period unit` or `sample type:unit`.
pub type Names = BTreeMap<String, String>;

impl<'a> Type<'a> {
    /// The same in the words of Pyroscope's own clients, which its pages look for.
    pub fn usual(self) -> Self {
        let kind = match self.kind {
            "itimer" => "cpu",
            kind => kind,
        };
        let unit = match self.unit {
            "ns" => "nanoseconds",
            "us" | "µs" => "microseconds",
            "ms" => "milliseconds",
            "s" => "seconds",
            "By" => "bytes",
            unit => unit,
        };
        Self { kind, unit }
    }
}

/// What a profile of these types is called.
pub fn name(names: &Names, stated: &str, sample: Type<'_>, period: Type<'_>) -> String {
    let short = format!("{}:{}", sample.kind, sample.unit);
    let long = format!("{short}:{}:{}", period.kind, period.unit);
    if let Some(name) = names.get(&long).or_else(|| names.get(&short)) {
        return sanitized(name);
    }
    if !stated.is_empty() {
        return sanitized(stated);
    }
    let (sample, period) = (sample.usual(), period.usual());
    let kind = sample.kind;
    let known = match kind {
        "cpu" => "process_cpu",
        "samples" if period.kind == "cpu" => "process_cpu",
        "wall" => "wall",
        "samples" if period.kind == "wall" => "wall",
        "contentions" | "delay" => "mutex",
        "alloc" | "live" => "memory",
        "lock" => "block",
        "goroutine" | "goroutines" => "goroutine",
        "off_cpu" => "off_cpu",
        "page_faults" | "page_faults_major" => "page_faults",
        "io_bytes" | "io_requests" | "io_time" => "io",
        "calls" => "calls",
        _ if kind.starts_with("alloc_") || kind.starts_with("inuse_") => "memory",
        _ if kind.starts_with("mutex_") => "mutex",
        _ if kind.starts_with("block_") => "block",
        _ => "",
    };
    match (known, period.kind, kind) {
        ("", "", "") => "unknown".to_owned(),
        ("", "", kind) => sanitized(kind),
        ("", period, _) => sanitized(period),
        (known, _, _) => known.to_owned(),
    }
}

/// The period type that Pyroscope's readers expect with a name, for profiles that state none.
pub fn usual_period(name: &str) -> Type<'static> {
    let (kind, unit) = match name {
        "process_cpu" => ("cpu", "nanoseconds"),
        "memory" => ("space", "bytes"),
        "mutex" | "block" => ("contentions", "count"),
        "goroutine" => ("goroutine", "count"),
        "wall" => ("wall", "nanoseconds"),
        _ => ("", ""),
    };
    Type { kind, unit }
}

/// A type as it may stand between the colons of a profile type; a hyphen is refused there, too.
pub fn type_text(text: &str, default: &str) -> String {
    if text.is_empty() {
        return default.to_owned();
    }
    text.chars().map(|char| if matches!(char, ':' | '-') { '_' } else { char }).collect()
}

/// A text as the name of a metric.
fn sanitized(text: &str) -> String {
    let allowed = |char: char| if char.is_ascii_alphanumeric() { char } else { '_' };
    let name: String = text.chars().map(allowed).collect();
    if name.is_empty() || name.starts_with(|char: char| char.is_ascii_digit()) {
        return format!("_{name}");
    }
    name
}

/// The id of a profile's type: `name:sample type:unit:period type:period unit`.
pub fn type_id(dictionary: &Dictionary, profile: &Profile) -> String {
    let text = |of: ValueType| Type {
        kind: dictionary.strings.get(of.kind),
        unit: dictionary.strings.get(of.unit),
    };
    let stated = attribute_text(dictionary, &profile.attributes, PROFILE_NAME);
    let (sample, period) = (text(profile.sample_type), text(profile.period_type));
    let name = name(&Names::new(), stated, sample, period);
    let (sample, period) =
        if stated.is_empty() { (sample.usual(), period.usual()) } else { (sample, period) };
    let has_no_period = period.kind.is_empty() && period.unit.is_empty();
    let period = if has_no_period && stated.is_empty() { usual_period(&name) } else { period };
    let (kind, unit) = (type_text(sample.kind, "samples"), type_text(sample.unit, "count"));
    let (of, each) = (type_text(period.kind, ""), type_text(period.unit, ""));
    format!("{name}:{kind}:{unit}:{of}:{each}")
}

/// The longest name and the longest value of a label, in bytes.
pub const MAX_LABEL_NAME: usize = 1024;
/// See [`MAX_LABEL_NAME`].
pub const MAX_LABEL_VALUE: usize = 2048;

/// An attribute's name as that of a label: letters, digits and `_`; anything else becomes `_`.
pub fn label_name(key: &str) -> String {
    let allowed = |char: char| if char.is_ascii_alphanumeric() { char } else { '_' };
    let name: String = key.chars().map(allowed).collect();
    let name = if name.starts_with(|char: char| char.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    };
    cut(name, MAX_LABEL_NAME)
}

/// A value as a text; nothing for what has no short one.
pub fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Array(items) if items.len() <= 16 => {
            let items: Option<Vec<_>> = items.iter().map(text).collect();
            items?.join(",")
        }
        Value::Array(_) | Value::Map(_) | Value::Bytes(_) | Value::Empty => return None,
    })
}

/// A value as a label's, within the limit; nothing for an empty text.
pub fn label_value(value: &Value) -> Option<String> {
    text(value).filter(|text| !text.is_empty()).map(|text| cut(text, MAX_LABEL_VALUE))
}

/// The start of a text, in whole characters.
pub fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}
