//! Taking some resources out of a batch.

use super::reach::Reached;
use super::remap::Remap;
use super::{Dictionary, Profiles};

impl Profiles {
    /// A copy of the resources at these positions as a batch of their own, whose dictionary has
    /// just the rows that they refer to. Positions that there are not are left out.
    ///
    /// The time is linear in what is taken, beside a flag for every row of the dictionary: a batch
    /// can be cut into many.
    pub fn pick(&self, positions: impl IntoIterator<Item = usize>) -> Self {
        let taken = positions.into_iter().filter_map(|at| self.resources.get(at).cloned());
        let mut part = Self { dictionary: Dictionary::default(), resources: taken.collect() };
        let mut reached = Reached::none(&self.dictionary);
        for (_, _, profile) in part.iter() {
            let attributes = profile.attributes.iter().copied();
            reached.profile(&self.dictionary, profile, attributes);
            for sample in profile.samples.iter() {
                reached.sample(&self.dictionary, sample);
            }
        }
        reached.sort();
        let mut switch = Remap::new(&self.dictionary);
        switch.absorb(&mut part.dictionary, &self.dictionary, &reached);
        for profile in part.profiles_mut() {
            switch.profile(profile);
        }
        part
    }
}
