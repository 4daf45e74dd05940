//! How much memory tables occupy, counted by columns: cheap enough to ask for every batch.

use super::lists::Lists;
use super::{Dictionary, KeyValue, Profile, Profiles, Value};

fn column<T>(column: &[T]) -> usize {
    size_of_val(column)
}

fn lists<T>(lists: &Lists<T>) -> usize {
    lists.len() * size_of::<u32>() + column(lists.items())
}

fn value(of: &Value) -> usize {
    match of {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Array(values) => column(values) + values.iter().map(value).sum::<usize>(),
        Value::Map(pairs) => {
            column(pairs) + pairs.iter().map(|(key, of)| key.len() + value(of)).sum::<usize>()
        }
        Value::Empty | Value::Bool(_) | Value::Int(_) | Value::Double(_) => 0,
    }
}

fn attributes(attributes: &[KeyValue]) -> usize {
    let texts = attributes.iter().map(|pair| pair.key.len() + value(&pair.value));
    column(attributes) + texts.sum::<usize>()
}

impl Dictionary {
    /// The bytes that the columns of all tables occupy, without what is reserved.
    pub fn memory(&self) -> usize {
        let values = self.attributes.values.iter().map(value).sum::<usize>();
        self.strings.bytes()
            + self.strings.len() * size_of::<u32>()
            + column(&self.attributes.keys)
            + column(&self.attributes.units)
            + column(&self.attributes.values)
            + values
            + self.mappings.len() * 28
            + lists(&self.mappings.attributes)
            + column(self.functions.rows())
            + self.locations.len() * 12
            + lists(&self.locations.lines)
            + lists(&self.locations.attributes)
            + lists(&self.stacks.locations)
            + column(self.links.rows())
    }
}

impl Profile {
    /// The bytes that the profile occupies without its dictionary.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + column(&self.samples.stacks)
            + column(&self.samples.links)
            + lists(&self.samples.attributes)
            + lists(&self.samples.values)
            + lists(&self.samples.timestamps)
            + column(&self.attributes)
            + self.original_payload.len()
    }
}

impl Profiles {
    /// The bytes that the batch occupies, without what is reserved.
    pub fn memory(&self) -> usize {
        let resources = self.resources.iter().map(|resource| {
            let scopes = resource.scopes.iter().map(|scope| {
                column(std::slice::from_ref(scope)) + attributes(&scope.scope.attributes)
            });
            column(std::slice::from_ref(resource))
                + attributes(&resource.resource.attributes)
                + scopes.sum::<usize>()
        });
        let profiles = self.iter().map(|(_, _, profile)| profile.memory());
        self.dictionary.memory() + resources.sum::<usize>() + profiles.sum::<usize>()
    }
}
