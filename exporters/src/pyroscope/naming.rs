//! What Pyroscope calls a profile: `__name__` and the types that go with it.
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
//! | io_bytes, io_requests | any | `io` |
//! | calls | any | `calls` |
//! | any other | some | the period type |
//! | any other | none | the sample type |
//!
//! A name of the configuration goes before these, and so does the one that the profile's own
//! attribute `profpipe.profile.name` states, as profiles from Pyroscope's clients have it.
//! Those go on with their own types; all others are written with the words that Pyroscope's clients use
//! for the same: `itimer` of async-profiler is `cpu`, `ns` is `nanoseconds`.

use std::collections::BTreeMap;

/// What is counted, in which unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Type<'a> {
    pub(super) kind: &'a str,
    pub(super) unit: &'a str,
}

/// The type of CPU time.
pub(super) const CPU: Type<'static> = Type { kind: "cpu", unit: "nanoseconds" };
/// The type of samples of a clock.
pub(super) const SAMPLES: Type<'static> = Type { kind: "samples", unit: "count" };

/// Names by `sample type:unit:period type:period unit` or `sample type:unit`.
pub(super) type Names = BTreeMap<String, String>;

impl<'a> Type<'a> {
    /// The same in the words of Pyroscope's own clients, which its pages look for.
    pub(super) fn usual(self) -> Self {
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
pub(super) fn name(names: &Names, stated: &str, sample: Type<'_>, period: Type<'_>) -> String {
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
        "io_bytes" | "io_requests" => "io",
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
pub(super) fn usual_period(name: &str) -> Type<'static> {
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
pub(super) fn type_text(text: &str, default: &str) -> String {
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
