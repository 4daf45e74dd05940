//! What each stack costs, before stacks become functions.
//!
//! Most samples differ in labels only. Summing by stack first turns each stack into functions once.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::choice::Choice;
use super::prune::Pruner;
use crate::profile::{Dictionary, LocationIx, StackIx};

/// The stacks of all profiles that leave out the same frames, each with its cost.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    dictionary: &'a Dictionary,
    pruner: Pruner<'a>,
    by_stack: HashMap<StackIx, i64, RandomState>,
}

impl<'a> Weights<'a> {
    pub(super) fn of(dictionary: &'a Dictionary, choice: &Choice<'a>) -> Vec<Self> {
        let mut groups = BTreeMap::new();
        for profile in &choice.profiles {
            let patterns = Pruner::patterns(dictionary, profile);
            let group = groups.entry(patterns).or_insert_with(|| Self {
                dictionary,
                pruner: Pruner::new(dictionary, patterns),
                by_stack: HashMap::default(),
            });
            for sample in profile.samples.iter() {
                let sum = group.by_stack.entry(sample.stack).or_default();
                *sum = sum.saturating_add(sample.weight());
            }
        }
        groups.into_values().collect()
    }

    /// Every stack with its cost; they are gone after that.
    pub(super) fn take(&mut self) -> HashMap<StackIx, i64, RandomState> {
        std::mem::take(&mut self.by_stack)
    }

    /// The locations of a stack that stay, see [`Pruner::prune`].
    pub(super) fn frames(
        &mut self,
        stack: StackIx,
    ) -> impl Iterator<Item = (LocationIx, usize)> + use<'_, 'a> {
        self.pruner.prune(self.dictionary.stacks.get(stack))
    }
}
