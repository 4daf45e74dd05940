//! What is sent: a valid OTLP request that is a function of its number, and the way back.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development as otlp;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

/// The resource attribute that holds the number.
const ID: &str = "chaos.id";

/// Requests from this number on have half a megabyte or more.
pub(crate) const LARGE: u64 = 1 << 40;

/// The meaning of one request, whatever its tables look like: stacks of function names, leaf first,
/// with their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Meaning {
    stacks: BTreeMap<Vec<String>, i64>,
    time: u64,
}

impl Meaning {
    pub(crate) fn of(id: u64) -> Self {
        let stacks = (0..1 + id % 5).map(|row| {
            let name = |depth: u64| format!("f{}_{row}_{depth}{}", id % 97, padding(id, row));
            ((0..3 + row).map(name).collect(), value(id, row))
        });
        Self { stacks: stacks.collect(), time: time(id) }
    }

    /// Adds a part of `whole` that is not there yet. False if it is none.
    pub(crate) fn add(&mut self, part: &Self, whole: &Self) -> bool {
        self.time = part.time;
        part.time == whole.time
            && part.stacks.iter().all(|(stack, value)| {
                let is_of_whole = whole.stacks.get(stack) == Some(value);
                is_of_whole && self.stacks.insert(stack.clone(), *value).is_none()
            })
    }

    /// As a request.
    pub(crate) fn request(&self, id: u64) -> Vec<u8> {
        let mut strings = vec![String::new()];
        let mut string = |text: &str| {
            let found = strings.iter().position(|known| known == text);
            found.unwrap_or_else(|| {
                strings.push(text.into());
                strings.len() - 1
            }) as i32
        };
        let mut dictionary = otlp::ProfilesDictionary {
            mapping_table: vec![otlp::Mapping::default()],
            location_table: vec![otlp::Location::default()],
            function_table: vec![otlp::Function::default()],
            link_table: vec![otlp::Link::default()],
            stack_table: vec![otlp::Stack::default()],
            attribute_table: vec![otlp::KeyValueAndUnit::default()],
            ..otlp::ProfilesDictionary::default()
        };
        let mut samples = Vec::new();
        for (names, value) in &self.stacks {
            let first = dictionary.location_table.len() as i32;
            for name in names {
                let function_index = dictionary.function_table.len() as i32;
                let name_strindex = string(name);
                dictionary
                    .function_table
                    .push(otlp::Function { name_strindex, ..otlp::Function::default() });
                let line = otlp::Line { function_index, line: 1, column: 0 };
                dictionary
                    .location_table
                    .push(otlp::Location { lines: vec![line], ..otlp::Location::default() });
            }
            let location_indices = (first..dictionary.location_table.len() as i32).collect();
            samples.push(otlp::Sample {
                stack_index: dictionary.stack_table.len() as i32,
                values: vec![*value],
                ..otlp::Sample::default()
            });
            dictionary.stack_table.push(otlp::Stack { location_indices });
        }
        let (kind, unit) = (string("samples"), string("count"));
        let profile = otlp::Profile {
            sample_type: Some(otlp::ValueType { type_strindex: kind, unit_strindex: unit }),
            samples,
            time_unix_nano: self.time,
            duration_nano: 1_000_000_000,
            ..otlp::Profile::default()
        };
        let attribute = |key: &str, value| KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let attributes = vec![
            attribute("service.name", Value::StringValue("chaos".into())),
            attribute(ID, Value::IntValue(id as i64)),
        ];
        let resource = otlp::ResourceProfiles {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_profiles: vec![otlp::ScopeProfiles {
                scope: Some(InstrumentationScope {
                    name: "chaos".into(),
                    ..InstrumentationScope::default()
                }),
                profiles: vec![profile],
                ..otlp::ScopeProfiles::default()
            }],
            ..otlp::ResourceProfiles::default()
        };
        dictionary.string_table = strings;
        let data =
            otlp::ProfilesData { resource_profiles: vec![resource], dictionary: Some(dictionary) };
        data.encode_to_vec()
    }
}

/// The request with this number.
pub(crate) fn request(id: u64) -> Vec<u8> {
    Meaning::of(id).request(id)
}

/// What a request, or a file, says, by number. Profiles of one number in several resources are put
/// together: they may have been cut.
pub(crate) fn read(data: &[u8]) -> BTreeMap<u64, Meaning> {
    let data = otlp::ProfilesData::decode(data).expect("OTLP protobuf");
    let tables = data.dictionary.unwrap_or_default();
    let name = |location: &i32| {
        let lines = &tables.location_table[*location as usize].lines;
        assert_eq!(lines.len(), 1, "a location that was never sent");
        let function = &tables.function_table[lines[0].function_index as usize];
        tables.string_table[function.name_strindex as usize].clone()
    };
    let mut found: BTreeMap<u64, Meaning> = BTreeMap::new();
    for resource in &data.resource_profiles {
        let attributes = &resource.resource.as_ref().expect("a resource").attributes;
        let text = |attribute: &KeyValue| match attribute.key_strindex {
            0 => attribute.key.clone(),
            at => tables.string_table[at as usize].clone(),
        };
        let id = attributes.iter().find(|attribute| text(attribute) == ID).expect("a number");
        let Some(Value::IntValue(id)) = id.value.as_ref().and_then(|value| value.value.as_ref())
        else {
            panic!("the number is none: {id:?}")
        };
        let meaning = found.entry(*id as u64).or_default();
        for profile in resource.scope_profiles.iter().flat_map(|scope| &scope.profiles) {
            meaning.time = profile.time_unix_nano;
            for sample in &profile.samples {
                let stack = &tables.stack_table[sample.stack_index as usize];
                let names = stack.location_indices.iter().map(name).collect();
                *meaning.stacks.entry(names).or_default() += sample.values.iter().sum::<i64>();
            }
        }
    }
    found
}

fn value(id: u64, row: u64) -> i64 {
    ((id * 31 + row * 7) % 1000 + 1) as i64
}

/// Any time will do, if a restart does not change it.
fn time(id: u64) -> u64 {
    1_764_000_000_000_000_000 + id % LARGE * 1_000_000
}

/// Most are small; every eleventh is some tens of kilobytes, so that writes are torn in their middle.
fn padding(id: u64, row: u64) -> String {
    let line = || format!("_{:032}", id * 131 + row);
    match id % 11 {
        _ if id >= LARGE => line().repeat(1600),
        0 => line().repeat(40 + (id % 60) as usize),
        _ => String::new(),
    }
}

/// Scenario: the payloads of some numbers, read back.
/// Guarantees: each says what was meant, so that the other tests compare something.
#[test]
fn payloads_are_read_back() {
    for id in 0..40 {
        let request = request(id);
        let read = read(&request);
        assert_eq!(read, BTreeMap::from([(id, Meaning::of(id))]));
    }
    assert_ne!(Meaning::of(5), Meaning::of(6));
    assert!(request(11).len() > 10_000, "{}", request(11).len());
}
