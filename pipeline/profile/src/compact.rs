//! Dropping what nobody refers to, and what is there twice.

use super::reach::Reached;
use super::remap::Remap;
use super::{Dictionary, Profiles};

impl Profiles {
    /// Drops rows of the dictionary that no profile refers to, and unites equal ones. Samples
    /// and what they say stay as they are; rows keep their order. Linear in the batch.
    pub fn compact(&mut self) {
        let mut reached = Reached::none(&self.dictionary);
        for (_, _, profile) in self.iter() {
            let attributes = profile.attributes.iter().copied();
            reached.profile(&self.dictionary, profile, attributes);
            for sample in profile.samples.iter() {
                reached.sample(&self.dictionary, sample);
            }
        }
        reached.sort();
        let mut switch = Remap::new(&self.dictionary);
        let mut dictionary = Dictionary::default();
        switch.absorb(&mut dictionary, &self.dictionary, &reached);
        for profile in self.profiles_mut() {
            switch.profile(profile);
        }
        self.dictionary = dictionary;
    }
}
