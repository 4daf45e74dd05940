//! The `attributes` processor: changes the attributes of samples, such as the thread's name.
//!
//! Samples refer to rows of a table, and few different sets of rows occur: each set is changed once.
//! Samples that are alike afterwards stay apart; their sum is the same.

mod config;
mod selection;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Stability};
use profpipe_profile::{
    AttributeIx, Dictionary, Profile, Profiles, SampleRef, Samples, StringIx, Value,
};

use self::selection::Selector;
use crate::actions::{Change, Target};

pub use config::Config;
pub use selection::{Library, MatchType, Pair, Selection};

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "attributes",
    Stability::Alpha,
    "changes the attributes of samples",
);

struct Attributes {
    changes: Vec<Change>,
    include: Option<Selector>,
    exclude: Option<Selector>,
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
        let mut known = Known::default();
        for group in resources {
            for scope in &mut group.scopes {
                let fits = |selector: &Selector| selector.fits(&group.resource, &scope.scope);
                if !self.include.as_ref().is_none_or(fits) {
                    continue;
                }
                // What is excluded by its attributes too is seen at the samples.
                let exclude = self.exclude.as_ref().filter(|selector| fits(selector));
                for profile in &mut scope.profiles {
                    self.change_profile(dictionary, profile, exclude, &mut known);
                }
            }
        }
    }

    fn change_profile(
        &self,
        dictionary: &mut Dictionary,
        profile: &mut Profile,
        exclude: Option<&Selector>,
        known: &mut Known,
    ) {
        let known = if exclude.is_some() { &mut known.excluding } else { &mut known.usual };
        let mut changed = Samples::default();
        changed.reserve(profile.samples.len());
        for sample in profile.samples.iter() {
            if !known.contains_key(sample.attributes) {
                let fits =
                    |selector: &Selector| selector.fits_sample(dictionary, sample.attributes);
                let is_meant = self.include.as_ref().is_none_or(fits) && !exclude.is_some_and(fits);
                let mut set = Set { dictionary, rows: sample.attributes.to_vec() };
                for change in self.changes.iter().filter(|_| is_meant) {
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

/// What sets of attributes become.
#[derive(Default)]
struct Known {
    usual: HashMap<Vec<AttributeIx>, Vec<AttributeIx>>,
    /// Where `exclude` may hold.
    excluding: HashMap<Vec<AttributeIx>, Vec<AttributeIx>>,
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
