//! Who was profiled: resources and instrumentation scopes.

use super::{Profile, Value};

/// A key with a value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeyValue {
    /// The name, from the semantic conventions where they have one.
    pub key: String,
    /// The value.
    pub value: Value,
}

/// What was profiled: a process, a container, a host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resource {
    /// What identifies and describes it; keys are unique.
    pub attributes: Vec<KeyValue>,
    /// Attributes that were lost on the way here.
    pub dropped_attributes_count: u32,
}

impl Resource {
    /// The value of an attribute.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|attribute| attribute.key == key).map(|found| &found.value)
    }

    /// Sets an attribute, replacing the value it may have.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.attributes.iter_mut().find(|attribute| attribute.key == key) {
            Some(attribute) => attribute.value = value,
            None => self.attributes.push(KeyValue { key: key.to_owned(), value }),
        }
    }
}

/// Who measured: the instrumentation scope.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    /// The name of the profiler.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What else is known of it.
    pub attributes: Vec<KeyValue>,
    /// Attributes that were lost on the way here.
    pub dropped_attributes_count: u32,
}

/// The profiles of one resource.
#[derive(Debug, Clone, Default)]
pub struct ResourceProfiles {
    /// Whose profiles they are.
    pub resource: Resource,
    /// The profiles, by scope.
    pub scopes: Vec<ScopeProfiles>,
    /// The schema of the resource's attributes.
    pub schema_url: String,
}

/// The profiles of one scope.
#[derive(Debug, Clone, Default)]
pub struct ScopeProfiles {
    /// Who measured.
    pub scope: Scope,
    /// The profiles.
    pub profiles: Vec<Profile>,
    /// The schema of the scope's attributes.
    pub schema_url: String,
}
