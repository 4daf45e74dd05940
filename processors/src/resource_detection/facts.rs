//! What detectors found out: attributes in the order found, cleaned and cut.

use profpipe_profile::{KeyValue, Resource, Value};

/// The longest text of a value, in bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// Attributes that were found out; keys are unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facts(Vec<KeyValue>);

impl Facts {
    /// Notes a value, unless there is none or one is there already.
    pub(super) fn add(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value
            && self.get(key).is_none()
        {
            self.0.push(KeyValue { key: key.to_owned(), value: value.into() });
        }
    }

    /// Notes a text, cut to a sensible length and in one line.
    pub(super) fn text(&mut self, key: &str, text: Option<String>) {
        self.add(key, text.map(|text| clean(&text)).filter(|text| !text.is_empty()));
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|fact| fact.key == key).map(|fact| &fact.value)
    }

    /// Every attribute.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|fact| (fact.key.as_str(), &fact.value))
    }

    /// Keeps those of which this is true.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|fact| keep(&fact.key));
    }

    /// Adds those of another detector that are not there yet.
    pub(super) fn merge(&mut self, other: Self) {
        for fact in other.0 {
            self.add(&fact.key, Some(fact.value));
        }
    }

    /// Puts them into a resource; what is there already is replaced only if `replaces` its key.
    pub(super) fn apply(&self, resource: &mut Resource, replaces: impl Fn(&str) -> bool) {
        let before = resource.attributes.len();
        for fact in &self.0 {
            // Keys are unique here, so only what was there before is looked through.
            let there = resource.attributes.iter_mut().take(before);
            match there.into_iter().find(|attribute| attribute.key == fact.key) {
                Some(attribute) if replaces(&fact.key) => attribute.value.clone_from(&fact.value),
                Some(_) => {}
                None => resource.attributes.push(fact.clone()),
            }
        }
    }
}

/// A text in one line, cut in whole characters.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_TEXT));
    for char in text.trim().chars() {
        if clean.len() + char.len_utf8() > MAX_TEXT {
            break;
        }
        clean.push(if char.is_control() { ' ' } else { char });
    }
    clean
}
