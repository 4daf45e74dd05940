//! What each stack costs, before stacks become functions.
//!
//! Most samples differ in labels only. Summing by stack first turns each stack into functions once.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::ReportError;
use super::choice::Choice;
use super::prune::Pruner;
use crate::profile::{Dictionary, LocationIx, StackIx};

/// Counts the frames that a report looks at, which can be many times what the stacks take: a location
/// stands for all functions inlined there.
#[derive(Debug)]
pub(super) struct FrameBudget {
    left: usize,
    of_stack: usize,
}

impl FrameBudget {
    /// The most frames that one stack may have.
    const MAX_STACK: usize = 1 << 20;

    pub(super) fn new(frames: usize) -> Self {
        Self { left: frames, of_stack: Self::MAX_STACK }
    }

    pub(super) fn start_stack(&mut self) {
        self.of_stack = Self::MAX_STACK;
    }

    pub(super) fn take(&mut self, frames: usize) -> Result<(), ReportError> {
        self.of_stack = self.of_stack.checked_sub(frames).ok_or(ReportError::TooLarge)?;
        self.left = self.left.checked_sub(frames).ok_or(ReportError::TooLarge)?;
        Ok(())
    }
}

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
