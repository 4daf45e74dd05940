//! Profiles as text for people who debug a pipeline.
//!
//! Names and labels come from other people's programs, so control characters are escaped: a
//! sample cannot forge a log line or move a terminal's cursor.

use std::fmt::Write;

use profpipe_profile::{
    AttributeIx, Dictionary, Index, LocationIx, Profile, Profiles, Resource, Value,
};

/// How much is in a batch.
pub(super) struct Counts {
    pub(super) resources: usize,
    pub(super) profiles: usize,
    pub(super) samples: usize,
}

impl Counts {
    pub(super) fn of(profiles: &Profiles) -> Self {
        Self {
            resources: profiles.resources.len(),
            profiles: profiles.iter().count(),
            samples: profiles.sample_count(),
        }
    }
}

/// A line for each profile and, if `samples`, under it each sample and its stack, leaf first.
pub(super) fn of(profiles: &Profiles, samples: bool) -> String {
    let dictionary = &profiles.dictionary;
    let mut text = String::new();
    for (resource, _, profile) in profiles.iter() {
        push_profile(&mut text, dictionary, resource, profile);
        if !samples {
            continue;
        }
        for sample in profile.samples.iter() {
            let _ = write!(text, "  {}", sample.weight());
            push_attributes(&mut text, dictionary, sample.attributes);
            text.push('\n');
            for location in dictionary.stacks.get(sample.stack) {
                push_frames(&mut text, dictionary, *location);
            }
        }
    }
    text
}

fn push_profile(
    text: &mut String,
    dictionary: &Dictionary,
    resource: &Resource,
    profile: &Profile,
) {
    let strings = &dictionary.strings;
    let total = profile.samples.iter().fold(0_i64, |sum, one| sum.saturating_add(one.weight()));
    let _ = write!(
        text,
        "{}/{} samples={} total={total} start={} duration={}",
        strings.get(profile.sample_type.kind).escape_debug(),
        strings.get(profile.sample_type.unit).escape_debug(),
        profile.samples.len(),
        profile.time_unix_nano,
        profile.duration_nano,
    );
    push_attributes(text, dictionary, &profile.attributes);
    for attribute in &resource.attributes {
        let _ = write!(text, " {}=", attribute.key.escape_debug());
        push_value(text, &attribute.value);
    }
    text.push('\n');
}

fn push_attributes(text: &mut String, dictionary: &Dictionary, attributes: &[AttributeIx]) {
    for attribute in attributes {
        let key = dictionary.strings.get(dictionary.attributes.key(*attribute));
        let unit = dictionary.strings.get(dictionary.attributes.unit(*attribute));
        let _ = write!(text, " {}=", key.escape_debug());
        push_value(text, dictionary.attributes.value(*attribute));
        let _ = write!(text, "{}", unit.escape_debug());
    }
}

fn push_value(text: &mut String, value: &Value) {
    let _ = match value {
        Value::Empty => Ok(()),
        Value::String(value) => write!(text, "{}", value.escape_debug()),
        Value::Bool(value) => write!(text, "{value}"),
        Value::Int(value) => write!(text, "{value}"),
        Value::Double(value) => write!(text, "{value}"),
        Value::Bytes(bytes) => write!(text, "({} bytes)", bytes.len()),
        Value::Array(values) => write!(text, "({} values)", values.len()),
        Value::Map(pairs) => write!(text, "({} pairs)", pairs.len()),
    };
}

fn push_frames(text: &mut String, dictionary: &Dictionary, location: LocationIx) {
    let location = dictionary.locations.get(location);
    let mapping = dictionary.mappings.get(location.mapping);
    let module = dictionary.strings.get(mapping.filename).escape_debug();
    if location.lines.is_empty() {
        let _ = writeln!(text, "    {module} {:#x}", location.address);
    }
    for line in location.lines {
        let function = dictionary.functions.get(line.function);
        let name = dictionary.strings.get(function.name).escape_debug();
        let _ = write!(text, "    {name}");
        if !function.filename.is_none() {
            let file = dictionary.strings.get(function.filename).escape_debug();
            let _ = write!(text, " {file}:{}", line.line);
        }
        let _ = writeln!(text, " ({module})");
    }
}
