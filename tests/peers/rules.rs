//! The rules of the profiling SIG's `profcheck`, over the generated OTLP types, for machines that
//! cannot build that tool; and some that it leaves out (profile ids, paired payloads, references
//! within attribute values, duplicate table entries).

use std::collections::HashSet;
use std::hash::Hash;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, Link, Location, Mapping, Profile, ProfilesData, ProfilesDictionary, Stack,
};

/// What a file breaks, one line each.
pub(crate) fn broken(data: &ProfilesData) -> Vec<String> {
    let mut found = Found(Vec::new());
    let Some(dictionary) = &data.dictionary else { return vec!["no dictionary".into()] };
    found.dictionary(dictionary);
    found.check(!data.resource_profiles.is_empty(), || "no resource profiles".into());
    for (r, resource) in data.resource_profiles.iter().enumerate() {
        found.check(!resource.scope_profiles.is_empty(), || {
            format!("resource {r}: no scope profiles")
        });
        for (s, scope) in resource.scope_profiles.iter().enumerate() {
            found.check(!scope.profiles.is_empty(), || {
                format!("resource {r}, scope {s}: no profiles")
            });
            for (p, profile) in scope.profiles.iter().enumerate() {
                found.profile(
                    &format!("resource {r}, scope {s}, profile {p}"),
                    profile,
                    dictionary,
                );
            }
        }
    }
    found.0
}

struct Found(Vec<String>);

impl Found {
    fn check(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(message());
        }
    }

    fn index<T>(&mut self, place: &str, what: &str, index: i32, table: &[T]) {
        let inside = usize::try_from(index).is_ok_and(|index| index < table.len());
        self.check(inside, || format!("{place}: {what} {index} of {}", table.len()));
    }

    fn zero<T: PartialEq>(&mut self, table: &str, entries: &[T], zero: &T) {
        self.check(entries.first() == Some(zero), || format!("{table}[0] is not the zero entry"));
    }

    fn distinct<K: Hash + Eq>(&mut self, table: &str, keys: impl Iterator<Item = K>) {
        let mut seen = HashSet::new();
        for (position, key) in keys.enumerate() {
            self.check(seen.insert(key), || format!("{table}[{position}] stands there before"));
        }
    }

    fn attributes(&mut self, place: &str, indices: &[i32], dictionary: &ProfilesDictionary) {
        let mut keys = HashSet::new();
        for &index in indices {
            self.index(place, "attribute", index, &dictionary.attribute_table);
            if let Some(attribute) = dictionary.attribute_table.get(index as usize) {
                self.check(keys.insert(attribute.key_strindex), || {
                    format!("{place}: a key stands twice")
                });
            }
        }
    }

    fn dictionary(&mut self, dictionary: &ProfilesDictionary) {
        let strings = &dictionary.string_table;
        self.zero("string_table", strings, &String::new());
        self.zero("mapping_table", &dictionary.mapping_table, &Mapping::default());
        self.zero("location_table", &dictionary.location_table, &Location::default());
        self.zero("function_table", &dictionary.function_table, &Function::default());
        self.zero("link_table", &dictionary.link_table, &Link::default());
        self.zero("stack_table", &dictionary.stack_table, &Stack::default());
        self.distinct("string_table", strings.iter());
        self.distinct("function_table", dictionary.function_table.iter());
        self.distinct(
            "stack_table",
            dictionary.stack_table.iter().map(|stack| &stack.location_indices),
        );
        self.distinct(
            "mapping_table",
            dictionary.mapping_table.iter().map(|mapping| {
                let mut attributes = mapping.attribute_indices.clone();
                attributes.sort_unstable();
                (
                    mapping.memory_start,
                    mapping.memory_limit,
                    mapping.file_offset,
                    mapping.filename_strindex,
                    attributes,
                )
            }),
        );
        for (i, attribute) in dictionary.attribute_table.iter().enumerate() {
            let place = format!("attribute_table[{i}]");
            self.index(&place, "key", attribute.key_strindex, strings);
            self.index(&place, "unit", attribute.unit_strindex, strings);
            let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
            if i == 0 {
                let zero =
                    attribute.key_strindex == 0 && attribute.unit_strindex == 0 && value.is_none();
                self.check(zero, || format!("{place} is not the zero entry"));
            } else {
                self.check(attribute.key_strindex != 0, || format!("{place} has no key"));
            }
            if let Some(Value::StringValueStrindex(index)) = value {
                self.index(&place, "value", *index, strings);
            }
        }
        self.check(!dictionary.attribute_table.is_empty(), || "attribute_table is empty".into());
        for (i, mapping) in dictionary.mapping_table.iter().enumerate() {
            let place = format!("mapping_table[{i}]");
            self.index(&place, "filename", mapping.filename_strindex, strings);
            self.attributes(&place, &mapping.attribute_indices, dictionary);
            let (start, limit) = (mapping.memory_start, mapping.memory_limit);
            self.check((start == 0 && limit == 0) || start < limit, || {
                format!("{place}: {start:#x}-{limit:#x}")
            });
        }
        for (i, location) in dictionary.location_table.iter().enumerate() {
            let place = format!("location_table[{i}]");
            self.index(&place, "mapping", location.mapping_index, &dictionary.mapping_table);
            self.attributes(&place, &location.attribute_indices, dictionary);
            for line in &location.lines {
                self.index(&place, "function", line.function_index, &dictionary.function_table);
                self.check(line.line >= 0 && line.column >= 0, || {
                    format!("{place}: a negative line")
                });
            }
        }
        for (i, function) in dictionary.function_table.iter().enumerate() {
            let place = format!("function_table[{i}]");
            self.index(&place, "name", function.name_strindex, strings);
            self.index(&place, "system name", function.system_name_strindex, strings);
            self.index(&place, "filename", function.filename_strindex, strings);
            self.check(function.start_line >= 0, || format!("{place}: a negative line"));
        }
        for (i, link) in dictionary.link_table.iter().enumerate().skip(1) {
            let sound = link.trace_id.len() == 16 && link.span_id.len() == 8;
            self.check(sound, || format!("link_table[{i}]: ids of a wrong length"));
        }
        for (i, stack) in dictionary.stack_table.iter().enumerate() {
            for &location in &stack.location_indices {
                self.index(
                    &format!("stack_table[{i}]"),
                    "location",
                    location,
                    &dictionary.location_table,
                );
            }
        }
    }

    fn profile(&mut self, place: &str, profile: &Profile, dictionary: &ProfilesDictionary) {
        self.attributes(place, &profile.attribute_indices, dictionary);
        for value_type in profile.sample_type.iter().chain(&profile.period_type) {
            self.index(place, "type", value_type.type_strindex, &dictionary.string_table);
            self.index(place, "unit", value_type.unit_strindex, &dictionary.string_table);
        }
        self.check(matches!(profile.profile_id.len(), 0 | 16), || {
            format!("{place}: profile id of a wrong length")
        });
        let paired =
            profile.original_payload.is_empty() == profile.original_payload_format.is_empty();
        self.check(paired, || {
            format!("{place}: an original payload without format, or the reverse")
        });
        let end = profile.time_unix_nano.saturating_add(profile.duration_nano);
        let mut shapes = HashSet::new();
        for (i, sample) in profile.samples.iter().enumerate() {
            let place = format!("{place}, sample {i}");
            self.index(&place, "stack", sample.stack_index, &dictionary.stack_table);
            self.index(&place, "link", sample.link_index, &dictionary.link_table);
            self.attributes(&place, &sample.attribute_indices, dictionary);
            for &time in &sample.timestamps_unix_nano {
                let inside = (profile.time_unix_nano..end).contains(&time);
                self.check(inside, || format!("{place}: a timestamp outside the profile"));
            }
            let (values, times) = (sample.values.len(), sample.timestamps_unix_nano.len());
            let sound = match (values, times) {
                (0, 0) => false,
                (1, 0) | (0, _) => true,
                (values, times) => values == times,
            };
            self.check(sound, || format!("{place}: {values} values and {times} timestamps"));
            shapes.insert((values > 0, times > 0));
        }
        self.check(shapes.len() <= 1, || format!("{place}: samples of different shapes"));
    }
}
