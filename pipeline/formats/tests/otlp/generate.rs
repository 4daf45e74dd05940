//! Arbitrary valid requests as the generated types, from a seed.

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary,
    ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// Numbers from a seed: splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`, or 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn list<T>(&mut self, most: usize, mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| each(self)).collect()
    }

    /// A number of any size, small ones more often.
    fn number(&mut self) -> u64 {
        let bits = self.below(65);
        if bits == 0 { 0 } else { self.next() >> (64 - bits) }
    }

    fn text(&mut self) -> String {
        const WORDS: [&str; 8] = ["", "cpu", "main", "größe", "日本", "a b\"c\\", "🦀", "\u{7f}\n"];
        let mut text = WORDS[self.below(8)].to_owned();
        if self.chance(2) {
            text += &format!("-{}", self.below(1000));
        }
        text
    }

    fn index(&mut self, rows: usize) -> i32 {
        self.below(rows) as i32
    }
}

/// What a request may hold besides the ordinary.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// About how many rows and samples.
    pub(crate) size: usize,
    /// References into the string table in attributes.
    pub(crate) references: bool,
    /// Only what `profcheck` accepts: one value per sample or timestamps, unique keys, ordered
    /// addresses, no duplicate strings.
    pub(crate) strict: bool,
}

/// An arbitrary request with all indices in range.
pub(crate) fn request(random: &mut Random, shape: Shape) -> ExportProfilesServiceRequest {
    let dictionary = dictionary(random, shape);
    let resource_profiles = (0..random.below(3) + usize::from(shape.strict))
        .map(|_| ResourceProfiles {
            resource: (shape.strict || !random.chance(4)).then(|| Resource {
                attributes: key_values(random, shape, &dictionary),
                dropped_attributes_count: random.number() as u32,
                entity_refs: Vec::new(),
            }),
            scope_profiles: (0..random.below(3) + usize::from(shape.strict))
                .map(|_| scope(random, shape, &dictionary))
                .collect(),
            schema_url: random.text(),
        })
        .collect();
    let dictionary = (shape.strict || !random.chance(20)).then_some(dictionary);
    let mut request = ExportProfilesServiceRequest { resource_profiles, dictionary };
    if request.dictionary.is_none() {
        request.resource_profiles.clear();
    }
    request
}

fn scope(random: &mut Random, shape: Shape, tables: &ProfilesDictionary) -> ScopeProfiles {
    ScopeProfiles {
        scope: (shape.strict || !random.chance(4)).then(|| InstrumentationScope {
            name: random.text(),
            version: random.text(),
            attributes: key_values(random, shape, tables),
            dropped_attributes_count: random.number() as u32,
        }),
        profiles: (0..random.below(4) + usize::from(shape.strict))
            .map(|_| profile(random, shape, tables))
            .collect(),
        schema_url: random.text(),
    }
}

fn profile(random: &mut Random, shape: Shape, tables: &ProfilesDictionary) -> Profile {
    let strings = tables.string_table.len();
    let value_type = |random: &mut Random| {
        (shape.strict || !random.chance(5)).then(|| ValueType {
            type_strindex: random.index(strings),
            unit_strindex: random.index(strings),
        })
    };
    let timestamps = random.chance(3);
    let time = random.number() >> 1;
    let duration = 1 + (random.number() >> 2);
    let mut samples = random.list(shape.size * 2, |random| {
        let count = 1 + random.below(4);
        let times = if timestamps || (!shape.strict && random.chance(4)) { count } else { 0 };
        Sample {
            stack_index: random.index(tables.stack_table.len()),
            attribute_indices: attribute_indices(random, shape, tables),
            link_index: random.index(tables.link_table.len()),
            values: match times {
                0 => (0..if shape.strict { 1 } else { count })
                    .map(|_| random.number() as i64)
                    .collect(),
                // All samples of a strict profile have the same shape.
                _ if time.is_multiple_of(2) => (0..times).map(|_| random.number() as i64).collect(),
                _ => Vec::new(),
            },
            timestamps_unix_nano: (0..times)
                .map(|_| time + random.next() % duration.max(1))
                .collect(),
        }
    });
    // What the dialect detector takes for values of an older protocol is not generated.
    for sample in &mut samples {
        sample.attribute_indices.dedup();
    }
    Profile {
        sample_type: value_type(random),
        samples,
        time_unix_nano: time,
        duration_nano: duration,
        period_type: value_type(random),
        period: random.number() as i64,
        profile_id: if random.chance(2) {
            Vec::new()
        } else {
            (0..16).map(|_| random.next() as u8 | 1).collect()
        },
        dropped_attributes_count: random.number() as u32,
        original_payload_format: random.text(),
        original_payload: random.list(20, |random| random.next() as u8),
        attribute_indices: attribute_indices(random, shape, tables),
    }
}

fn attribute_indices(random: &mut Random, shape: Shape, tables: &ProfilesDictionary) -> Vec<i32> {
    let mut rows = random.list(3, |random| random.index(tables.attribute_table.len()));
    if shape.strict {
        let mut keys = std::collections::HashSet::new();
        rows.retain(|row| keys.insert(tables.attribute_table[*row as usize].key_strindex));
    }
    rows
}

/// A dictionary with row 0 in every table.
fn dictionary(random: &mut Random, shape: Shape) -> ProfilesDictionary {
    let size = shape.size;
    let mut tables = ProfilesDictionary {
        mapping_table: vec![Mapping::default()],
        location_table: vec![Location::default()],
        function_table: vec![Function::default()],
        link_table: vec![Link::default()],
        string_table: vec![String::new()],
        attribute_table: vec![KeyValueAndUnit::default()],
        stack_table: vec![Stack::default()],
    };
    tables.string_table.extend(random.list(size * 4, Random::text));
    if shape.strict {
        let mut seen = std::collections::HashSet::new();
        tables.string_table.retain(|text| seen.insert(text.clone()));
    }
    let strings = tables.string_table.len();
    for _ in 0..random.below(size * 2 + 1) {
        let row = KeyValueAndUnit {
            key_strindex: random.index(strings),
            value: random_value(random, shape, &tables, 3),
            unit_strindex: random.index(strings),
        };
        tables.attribute_table.push(row);
    }
    for _ in 0..random.below(size + 1) {
        let start = random.number() >> 1;
        let row = Mapping {
            memory_start: start,
            memory_limit: start + 1 + random.below(4096) as u64,
            file_offset: random.number(),
            filename_strindex: random.index(strings),
            attribute_indices: attribute_indices(random, shape, &tables),
        };
        tables.mapping_table.push(row);
    }
    let positive = |random: &mut Random| match shape.strict {
        true => (random.number() >> 1) as i64,
        false => random.number() as i64,
    };
    for _ in 0..random.below(size * 2 + 1) {
        let row = Function {
            name_strindex: random.index(strings),
            system_name_strindex: random.index(strings),
            filename_strindex: random.index(strings),
            start_line: positive(random),
        };
        tables.function_table.push(row);
    }
    for _ in 0..random.below(size * 3 + 1) {
        let functions = tables.function_table.len();
        let row = Location {
            mapping_index: random.index(tables.mapping_table.len()),
            address: random.number(),
            lines: random.list(3, |random| Line {
                function_index: random.index(functions),
                line: positive(random),
                column: positive(random),
            }),
            attribute_indices: attribute_indices(random, shape, &tables),
        };
        tables.location_table.push(row);
    }
    for _ in 0..random.below(3) {
        let mut id = |length| (0..length).map(|_| random.next() as u8).collect();
        tables.link_table.push(Link { trace_id: id(16), span_id: id(8) });
    }
    for _ in 0..random.below(size * 2 + 1) {
        let locations = tables.location_table.len();
        // Some are longer than a length of one byte.
        let most = if random.chance(8) { 300 } else { 8 };
        let row = Stack { location_indices: random.list(most, |random| random.index(locations)) };
        tables.stack_table.push(row);
    }
    tables
}

fn key_values(random: &mut Random, shape: Shape, tables: &ProfilesDictionary) -> Vec<KeyValue> {
    let mut pairs = random.list(4, |random| {
        let mut pair = KeyValue {
            key: random.text(),
            value: random_value(random, shape, tables, 4),
            key_strindex: 0,
        };
        if shape.references && random.chance(2) {
            pair.key.clear();
            pair.key_strindex = random.index(tables.string_table.len());
        }
        pair
    });
    if shape.strict {
        let mut keys = std::collections::HashSet::new();
        pairs.retain(|pair| keys.insert(pair.key.clone()));
    }
    pairs
}

fn random_value(
    random: &mut Random,
    shape: Shape,
    tables: &ProfilesDictionary,
    depth: usize,
) -> Option<AnyValue> {
    if !shape.strict && random.chance(10) {
        return None;
    }
    let value = match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => None,
        1 => Some(Value::BoolValue(random.chance(2))),
        2 => Some(Value::IntValue(random.number() as i64)),
        3 => Some(Value::DoubleValue(f64::from_bits(random.next()))),
        4 => Some(Value::BytesValue(random.list(9, |random| random.next() as u8))),
        6 => Some(Value::ArrayValue(ArrayValue {
            values: random.list(3, |random| {
                random_value(random, shape, tables, depth - 1).unwrap_or_default()
            }),
        })),
        7 => Some(Value::KvlistValue(KeyValueList {
            values: random.list(3, |random| KeyValue {
                key: random.text(),
                value: random_value(random, shape, tables, depth - 1),
                key_strindex: if shape.references {
                    random.index(tables.string_table.len())
                } else {
                    0
                },
            }),
        })),
        _ if shape.references && random.chance(2) => {
            Some(Value::StringValueStrindex(random.index(tables.string_table.len())))
        }
        _ => Some(Value::StringValue(random.text())),
    };
    Some(AnyValue { value })
}
