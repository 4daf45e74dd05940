//! The `attributes` processor: changes the attributes of samples, such as the thread's name.
//!
//! Samples refer to rows of a table, and few different sets of rows occur: each set is changed once.
//! Samples that are alike afterwards stay apart; their sum is the same.

mod config;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use profpipe_pipeline::batch::Batch;
use profpipe_pipeline::component::{Access, Error, Factory, Outbox, Processor, Stability};
use profpipe_pipeline::profile::{
    AttributeIx, Dictionary, Profiles, SampleRef, Samples, StringIx, Value,
};

use crate::actions::{Change, Target};

pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "attributes",
    Stability::Alpha,
    "changes the attributes of samples",
);

struct Attributes {
    changes: Vec<Change>,
}

impl Processor for Attributes {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        if !self.changes.is_empty() {
            let profiles = batch
                .profiles_mut()
                .map_err(|cause| Error::with_source("cannot read the batch", cause))?;
            self.change(profiles);
        }
        out.push(batch);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn wants(&self) -> Access {
        Access::Samples
    }
}

impl Attributes {
    fn change(&self, profiles: &mut Profiles) {
        let Profiles { dictionary, resources } = profiles;
        let mut known: HashMap<Vec<AttributeIx>, Vec<AttributeIx>> = HashMap::new();
        let scopes = resources.iter_mut().flat_map(|resource| &mut resource.scopes);
        for profile in scopes.flat_map(|scope| &mut scope.profiles) {
            let mut changed = Samples::default();
            changed.reserve(profile.samples.len());
            for sample in profile.samples.iter() {
                if !known.contains_key(sample.attributes) {
                    let mut set = Set { dictionary, rows: sample.attributes.to_vec() };
                    for change in &self.changes {
                        change.apply(&mut set);
                    }
                    let rows = set.rows;
                    known.insert(sample.attributes.to_vec(), rows);
                }
                let attributes = known.get(sample.attributes).map_or(&[][..], Vec::as_slice);
                changed.push(SampleRef { attributes, ..sample });
            }
            profile.samples = changed;
        }
    }
}

/// The attributes of some samples.
struct Set<'a> {
    dictionary: &'a mut Dictionary,
    rows: Vec<AttributeIx>,
}

impl Set<'_> {
    fn position(&self, key: &str) -> Option<usize> {
        let Dictionary { strings, attributes, .. } = &*self.dictionary;
        self.rows.iter().position(|row| strings.get(attributes.key(*row)) == key)
    }
}

impl Target for Set<'_> {
    fn get(&self, key: &str) -> Option<Value> {
        let row = self.rows.get(self.position(key)?)?;
        Some(self.dictionary.attributes.value(*row).clone())
    }

    fn set(&mut self, key: &str, value: Value) {
        let at = self.position(key);
        let name = self.dictionary.strings.intern(key);
        let row = self.dictionary.attributes.intern(name, value, StringIx::default());
        match at.and_then(|at| self.rows.get_mut(at)) {
            Some(place) => *place = row,
            None => self.rows.push(row),
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(at) = self.position(key) {
            self.rows.remove(at);
        }
    }

    fn keys(&self) -> Vec<String> {
        let Dictionary { strings, attributes, .. } = &*self.dictionary;
        self.rows.iter().map(|row| strings.get(attributes.key(*row)).to_owned()).collect()
    }
}
