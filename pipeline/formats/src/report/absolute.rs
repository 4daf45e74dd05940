//! What shares are of: the sum of the absolute values of all samples, as in google/pprof.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::choice::Choice;
use profpipe_profile::{AttributeIx, LinkIx, StackIx};

/// The sum of absolute values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Absolute {
    pub(super) sum: u128,
    /// Whether any value is below zero.
    pub(super) has_negative: bool,
}

/// What tells samples apart: the attributes of the resource by their hash, since there are few of
/// them, and what a sample says itself.
type Identity<'a> = (u64, StackIx, &'a [AttributeIx], LinkIx);

impl Absolute {
    /// Of all samples of a choice. Equal samples are added up before, so that what one file has more
    /// and another less of is not there twice.
    pub(super) fn of(choice: &Choice<'_>) -> Self {
        let (mut sum, mut has_negative) = (0_u128, false);
        for one in &choice.profiles {
            for sample in one.profile.samples.iter() {
                let weight = sample.weight().saturating_mul(one.factor);
                has_negative |= weight < 0;
                sum += u128::from(weight.unsigned_abs());
            }
        }
        if !has_negative {
            return Self { sum, has_negative };
        }
        let state = RandomState::default();
        let mut sums: HashMap<Identity<'_>, i128, RandomState> = HashMap::default();
        for one in &choice.profiles {
            let attributes = one.resource.attributes.iter();
            let resource = attributes
                .map(|pair| state.hash_one((&pair.key, &pair.value)))
                .fold(0, u64::wrapping_add);
            for sample in one.profile.samples.iter() {
                let identity = (resource, sample.stack, sample.attributes, sample.link);
                let weight = sample.weight().saturating_mul(one.factor);
                *sums.entry(identity).or_default() += i128::from(weight);
            }
        }
        Self { sum: sums.into_values().map(i128::unsigned_abs).sum(), has_negative }
    }
}
