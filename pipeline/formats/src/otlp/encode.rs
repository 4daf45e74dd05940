//! Encoding a request: fields by ascending number, every table with its row 0, values inline.

use super::sink::{Counter, Sink};
use profpipe_profile::{
    AttributeIx, Dictionary, Function, FunctionIx, Index, KeyValue, Link, LinkIx, LocationIx,
    LocationRef, MappingIx, MappingRef, Profile, Profiles, ResourceProfiles, RowLengths, SampleRef,
    ScopeProfiles, StackIx, StringIx, Value, ValueType,
};

/// See [`super::encode`].
pub(super) fn encode(profiles: &Profiles) -> Vec<u8> {
    let mut out = Vec::with_capacity(expected(profiles));
    request(&mut out, profiles);
    out
}

/// See [`super::encoded_len`].
pub(super) fn encoded_len(profiles: &Profiles) -> usize {
    let mut counter = Counter::default();
    request(&mut counter, profiles);
    counter.0
}

fn request<S: Sink>(out: &mut S, profiles: &Profiles) {
    for resource in &profiles.resources {
        resource_profiles(out, resource);
    }
    out.message(2, expected_dictionary(&profiles.dictionary), |out| {
        dictionary(out, &profiles.dictionary);
    });
}

/// About the size of the request: allocating once matters more than being right.
fn expected(profiles: &Profiles) -> usize {
    let samples: usize = profiles.iter().map(|(_, _, profile)| expected_profile(profile)).sum();
    let resources = profiles.resources.len() * 512;
    expected_dictionary(&profiles.dictionary) + samples + resources + 1024
}

fn expected_profile(profile: &Profile) -> usize {
    let samples = &profile.samples;
    64 + samples.len() * 11
        + samples.attributes.items().len() * 2
        + samples.values.items().len() * 4
        + samples.timestamps.items().len() * 8
        + profile.original_payload.len()
}

fn expected_dictionary(dictionary: &Dictionary) -> usize {
    dictionary.strings.bytes()
        + dictionary.strings.len() * 2
        + dictionary.functions.len() * 14
        + dictionary.locations.len() * 20
        + dictionary.stacks.len() * 5
        + dictionary.stacks.locations.items().len() * 2
        + dictionary.attributes.len() * 40
        + dictionary.mappings.len() * 28
        + dictionary.links.len() * 30
}

fn dictionary<S: Sink>(out: &mut S, tables: &Dictionary) {
    for row in tables.mappings.iter() {
        mapping(out, row);
    }
    for row in tables.locations.iter() {
        location(out, row);
    }
    for row in tables.functions.rows() {
        function(out, row);
    }
    for (at, row) in tables.links.rows().iter().enumerate() {
        link(out, at, row);
    }
    for row in tables.strings.iter() {
        string(out, row);
    }
    for at in 0..tables.attributes.len() {
        attribute(out, tables, AttributeIx::new(at as u32));
    }
    for row in tables.stacks.iter() {
        stack(out, row);
    }
}

#[inline(always)]
fn mapping<S: Sink>(out: &mut S, row: MappingRef<'_>) {
    out.message(1, 0, |out| {
        out.number(1, row.memory_start);
        out.number(2, row.memory_limit);
        out.number(3, row.file_offset);
        out.number(4, u64::from(row.filename.raw()));
        out.indices(5, row.attributes);
    });
}

#[inline(always)]
fn location<S: Sink>(out: &mut S, row: LocationRef<'_>) {
    out.message(2, 0, |out| {
        out.number(1, u64::from(row.mapping.raw()));
        out.number(2, row.address);
        for line in row.lines {
            out.message(3, 0, |out| {
                out.number(1, u64::from(line.function.raw()));
                out.number(2, line.line as u64);
                out.number(3, line.column as u64);
            });
        }
        out.indices(4, row.attributes);
    });
}

#[inline(always)]
fn function<S: Sink>(out: &mut S, row: &Function) {
    out.message(3, 0, |out| {
        out.number(1, u64::from(row.name.raw()));
        out.number(2, u64::from(row.system_name.raw()));
        out.number(3, u64::from(row.filename.raw()));
        out.number(4, row.start_line as u64);
    });
}

/// Row 0 is written without ids: some readers refuse ids of zeros there.
fn link<S: Sink>(out: &mut S, at: usize, row: &Link) {
    out.message(4, 0, |out| {
        if at > 0 {
            out.bytes(1, &row.trace_id);
            out.bytes(2, &row.span_id);
        }
    });
}

#[inline(always)]
fn string<S: Sink>(out: &mut S, row: &str) {
    out.always_bytes(5, row.as_bytes());
}

/// Row 0 is written without a value, others have one even if it is empty: some readers refuse
/// an attribute without.
fn attribute<S: Sink>(out: &mut S, tables: &Dictionary, at: AttributeIx) {
    out.message(6, 0, |out| {
        out.number(1, u64::from(tables.attributes.key(at).raw()));
        if !at.is_none() {
            any_value(out, 2, tables.attributes.value(at));
        }
        out.number(3, u64::from(tables.attributes.unit(at).raw()));
    });
}

#[inline(always)]
fn stack<S: Sink>(out: &mut S, row: &[LocationIx]) {
    out.message(7, row.len() * 2 + 2, |out| out.indices(1, row));
}

fn any_value<S: Sink>(out: &mut S, field: u32, value: &Value) {
    out.message(field, 0, |out| match value {
        Value::Empty => {}
        Value::String(text) => out.always_bytes(1, text.as_bytes()),
        Value::Bool(truth) => out.always_number(2, u64::from(*truth)),
        Value::Int(number) => out.always_number(3, *number as u64),
        Value::Double(number) => out.fixed64(4, number.to_bits()),
        Value::Array(values) => out.message(5, 0, |out| {
            for value in values {
                any_value(out, 1, value);
            }
        }),
        Value::Map(pairs) => out.message(6, 0, |out| {
            for (key, value) in pairs {
                key_value(out, 1, key, value);
            }
        }),
        Value::Bytes(bytes) => out.always_bytes(7, bytes),
    });
}

fn key_value<S: Sink>(out: &mut S, field: u32, key: &str, value: &Value) {
    out.message(field, 0, |out| {
        out.bytes(1, key.as_bytes());
        any_value(out, 2, value);
    });
}

pub(super) fn attributes<S: Sink>(out: &mut S, field: u32, attributes: &[KeyValue]) {
    for attribute in attributes {
        key_value(out, field, &attribute.key, &attribute.value);
    }
}

fn resource_profiles<S: Sink>(out: &mut S, resource: &ResourceProfiles) {
    let profiles = resource.scopes.iter().flat_map(|scope| &scope.profiles);
    let expected = 300 + profiles.map(expected_profile).sum::<usize>();
    out.message(1, expected, |out| {
        resource_header(out, resource);
        for scope in &resource.scopes {
            scope_profiles(out, scope);
        }
        out.bytes(3, resource.schema_url.as_bytes());
    });
}

fn resource_header<S: Sink>(out: &mut S, resource: &ResourceProfiles) {
    out.message(1, 256, |out| {
        attributes(out, 1, &resource.resource.attributes);
        out.number(2, u64::from(resource.resource.dropped_attributes_count));
    });
}

fn scope_profiles<S: Sink>(out: &mut S, scope: &ScopeProfiles) {
    let expected = 64 + scope.profiles.iter().map(expected_profile).sum::<usize>();
    out.message(2, expected, |out| {
        scope_header(out, scope);
        for row in &scope.profiles {
            profile(out, row);
        }
        out.bytes(3, scope.schema_url.as_bytes());
    });
}

fn scope_header<S: Sink>(out: &mut S, scope: &ScopeProfiles) {
    out.message(1, 0, |out| {
        out.bytes(1, scope.scope.name.as_bytes());
        out.bytes(2, scope.scope.version.as_bytes());
        attributes(out, 3, &scope.scope.attributes);
        out.number(4, u64::from(scope.scope.dropped_attributes_count));
    });
}

fn profile<S: Sink>(out: &mut S, profile: &Profile) {
    out.message(2, expected_profile(profile), |out| {
        value_type(out, 1, profile.sample_type);
        for row in profile.samples.iter() {
            sample(out, row);
        }
        profile_tail(out, profile);
    });
}

/// The fields after the samples.
fn profile_tail<S: Sink>(out: &mut S, profile: &Profile) {
    if profile.time_unix_nano != 0 {
        out.fixed64(3, profile.time_unix_nano);
    }
    out.number(4, profile.duration_nano);
    value_type(out, 5, profile.period_type);
    out.number(6, profile.period as u64);
    if profile.profile_id != [0; 16] {
        out.bytes(7, &profile.profile_id);
    }
    out.number(8, u64::from(profile.dropped_attributes_count));
    out.bytes(9, profile.original_payload_format.as_bytes());
    out.bytes(10, &profile.original_payload);
    out.indices(11, &profile.attributes);
}

fn value_type<S: Sink>(out: &mut S, field: u32, row: ValueType) {
    let number = |row: StringIx| u64::from(row.raw());
    out.message(field, 0, |out| {
        out.number(1, number(row.kind));
        out.number(2, number(row.unit));
    });
}

#[inline(always)]
fn sample<S: Sink>(out: &mut S, row: SampleRef<'_>) {
    out.message(2, 0, |out| {
        out.number(1, u64::from(row.stack.raw()));
        out.indices(2, row.attributes);
        out.number(3, u64::from(row.link.raw()));
        out.packed(4, row.values.iter().map(|value| *value as u64));
        if !row.timestamps_unix_nano.is_empty() {
            out.message(5, row.timestamps_unix_nano.len() * 8, |out| {
                for time in row.timestamps_unix_nano {
                    out.raw(&time.to_le_bytes());
                }
            });
        }
    });
}

/// What rows take on the wire, for splitting.
pub(super) struct EncodedLengths<'a>(pub(super) &'a Dictionary);

/// The length field of a message and its tag, at most.
const FRAME: usize = 6;

fn counted(write: impl FnOnce(&mut Counter)) -> usize {
    let mut counter = Counter::default();
    write(&mut counter);
    counter.0
}

impl RowLengths for EncodedLengths<'_> {
    fn empty_dictionary(&self) -> usize {
        FRAME + 7 * 2
    }

    fn string(&self, row: StringIx) -> usize {
        counted(|out| string(out, self.0.strings.get(row)))
    }

    fn attribute(&self, row: AttributeIx) -> usize {
        counted(|out| attribute(out, self.0, row))
    }

    fn mapping(&self, row: MappingIx) -> usize {
        counted(|out| mapping(out, self.0.mappings.get(row)))
    }

    fn function(&self, row: FunctionIx) -> usize {
        counted(|out| function(out, &self.0.functions.get(row)))
    }

    fn location(&self, row: LocationIx) -> usize {
        counted(|out| location(out, self.0.locations.get(row)))
    }

    fn link(&self, row: LinkIx) -> usize {
        counted(|out| link(out, row.at(), &self.0.links.get(row)))
    }

    fn stack(&self, row: StackIx) -> usize {
        counted(|out| stack(out, self.0.stacks.get(row)))
    }

    fn sample(&self, row: SampleRef<'_>) -> usize {
        counted(|out| sample(out, row))
    }

    fn resource(&self, resource: &ResourceProfiles) -> usize {
        FRAME
            + counted(|out| {
                resource_header(out, resource);
                out.bytes(3, resource.schema_url.as_bytes());
            })
    }

    fn scope(&self, scope: &ScopeProfiles) -> usize {
        FRAME
            + counted(|out| {
                scope_header(out, scope);
                out.bytes(3, scope.schema_url.as_bytes());
            })
    }

    fn profile(&self, profile: &Profile) -> usize {
        FRAME
            + counted(|out| {
                value_type(out, 1, profile.sample_type);
                profile_tail(out, profile);
            })
    }
}
