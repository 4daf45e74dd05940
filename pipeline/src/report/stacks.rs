//! Collapsed stacks: what a flame graph is drawn from.

use std::collections::BTreeMap;

use super::choice::{Choice, ChoiceError};
use super::frames::Frames;
use super::prune::Pruner;
use crate::profile::Profiles;

/// Every different stack with its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollapsedStacks {
    /// The sample type reported.
    pub profile_type: String,
    /// The unit of all costs.
    pub unit: String,
    /// The names of the functions, the root first, and the cost; sorted, each stack once.
    pub stacks: Vec<(Vec<String>, i64)>,
}

/// Collapses the stacks of all profiles of one sample type. Stacks that cost nothing are left out.
///
/// # Errors
/// If there is no such sample type.
pub fn collapse(profiles: &Profiles, wanted: Option<&str>) -> Result<CollapsedStacks, ChoiceError> {
    let choice = Choice::new(profiles, wanted)?;
    let dictionary = &profiles.dictionary;
    let mut frames = Frames::new(dictionary);
    let mut sums: BTreeMap<Vec<u32>, i64> = BTreeMap::new();
    for profile in &choice.profiles {
        let mut pruner = Pruner::new(dictionary, profile);
        for sample in profile.samples.iter() {
            let mut stack = Vec::new();
            for (location, dropped) in pruner.prune(dictionary.stacks.get(sample.stack)) {
                stack.extend(frames.of(location).iter().skip(dropped));
            }
            stack.reverse();
            let sum = sums.entry(stack).or_default();
            *sum = sum.saturating_add(sample.weight());
        }
    }
    // Functions of one name in several modules are different numbers but one line.
    let mut stacks: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    for (stack, cost) in sums {
        let name = |number: &u32| frames.get(*number).map(|frame| frame.name.clone());
        let sum = stacks.entry(stack.iter().filter_map(name).collect()).or_default();
        *sum = sum.saturating_add(cost);
    }
    stacks.retain(|_, cost| *cost != 0);
    Ok(CollapsedStacks {
        profile_type: choice.kind.to_owned(),
        unit: choice.unit.to_owned(),
        stacks: stacks.into_iter().collect(),
    })
}
