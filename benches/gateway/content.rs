//! What is in a request, however it is encoded: counts, sums, names. Both programs may write it with
//! other bytes (the Collector turns attributes into references), so contents are compared.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::profiles::v1development::{ProfilesData, ProfilesDictionary};
use prost::Message as _;

/// Sums over requests.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) samples: usize,
    profiles: usize,
    /// By the resource's `process.executable.name` and the leaf's function or address.
    weights: BTreeMap<(String, String), i64>,
}

impl Content {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let data = ProfilesData::decode(bytes).unwrap();
        let none = ProfilesDictionary::default();
        let dictionary = data.dictionary.as_ref().unwrap_or(&none);
        let string = |index: i32| dictionary.string_table[index as usize].clone();
        let mut content = Self::default();
        for resource in &data.resource_profiles {
            let attributes = resource.resource.iter().flat_map(|resource| &resource.attributes);
            let name = attributes
                .filter(|attribute| {
                    let key = match attribute.key_strindex {
                        0 => attribute.key.clone(),
                        index => string(index),
                    };
                    key == "process.executable.name"
                })
                .find_map(|attribute| match attribute.value.as_ref()?.value.as_ref()? {
                    Value::StringValue(text) => Some(text.clone()),
                    Value::StringValueStrindex(index) => Some(string(*index)),
                    _ => None,
                });
            let name = name.expect("the executable's name");
            for profile in resource.scope_profiles.iter().flat_map(|scope| &scope.profiles) {
                content.profiles += 1;
                content.samples += profile.samples.len();
                for sample in &profile.samples {
                    let stack = &dictionary.stack_table[sample.stack_index as usize];
                    let leaf = stack.location_indices.first().map(|&index| {
                        let location = &dictionary.location_table[index as usize];
                        match location.lines.first() {
                            Some(line) => {
                                let function =
                                    &dictionary.function_table[line.function_index as usize];
                                string(function.name_strindex)
                            }
                            None => format!("{:#x}", location.address),
                        }
                    });
                    let key = (name.clone(), leaf.unwrap_or_default());
                    *content.weights.entry(key).or_default() += sample.values.iter().sum::<i64>();
                }
            }
        }
        content
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.profiles += other.profiles;
        for (key, weight) in &other.weights {
            *self.weights.entry(key.clone()).or_default() += weight;
        }
    }

    /// Only the number of samples, which is quick: lengths are walked, nothing is decoded.
    pub(crate) fn samples_of(bytes: &[u8]) -> usize {
        // ProfilesData.resource_profiles, .scope_profiles, .profiles, .samples
        count(bytes, &[1, 2, 2, 2])
    }
}

fn count(mut bytes: &[u8], path: &[u64]) -> usize {
    let Some((&wanted, deeper)) = path.split_first() else { return 1 };
    let mut found = 0;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => {
                varint(&mut bytes);
            }
            1 => bytes = &bytes[8..],
            5 => bytes = &bytes[4..],
            2 => {
                let length = varint(&mut bytes) as usize;
                let (field, rest) = bytes.split_at(length);
                if tag >> 3 == wanted {
                    found += count(field, deeper);
                }
                bytes = rest;
            }
            kind => panic!("wire type {kind}"),
        }
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
