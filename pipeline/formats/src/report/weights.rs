//! What each stack costs, before stacks become functions.
//!
//! Most samples differ in labels only. Summing by stack first turns each stack into functions once.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::ReportError;
use super::choice::{Choice, ChosenProfile};
use super::prune::Pruner;
use crate::pprof::attribute_text;
use profpipe_profile::attribute_names::PROCESS_EXECUTABLE_NAME;
use profpipe_profile::{AttributeIx, Dictionary, LocationIx, StackIx, Value};

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

/// A stack, and the number of the process it was seen in; all the same if nobody asks.
pub(super) type ProcessStack = (usize, StackIx);

/// The stacks of all profiles that leave out the same frames, each with its cost.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    dictionary: &'a Dictionary,
    pruner: Pruner<'a>,
    by_stack: HashMap<ProcessStack, i64, RandomState>,
}

impl<'a> Weights<'a> {
    pub(super) fn of(
        dictionary: &'a Dictionary,
        choice: &Choice<'a>,
        processes: &mut Processes<'a>,
    ) -> Vec<Self> {
        let mut groups = BTreeMap::new();
        for ChosenProfile { profile, resource, factor, .. } in choice.profiles.iter().copied() {
            let patterns = Pruner::patterns(dictionary, profile);
            let group = groups.entry(patterns).or_insert_with(|| Self {
                dictionary,
                pruner: Pruner::new(dictionary, patterns),
                by_stack: HashMap::default(),
            });
            let of_resource = resource.get(PROCESS_EXECUTABLE_NAME).and_then(Value::as_str);
            for sample in profile.samples.iter() {
                let process = processes.number(dictionary, of_resource, sample.attributes);
                let sum = group.by_stack.entry((process, sample.stack)).or_default();
                *sum = sum.saturating_add(sample.weight().saturating_mul(factor));
            }
        }
        groups.into_values().collect()
    }

    /// Every stack with its cost; they are gone after that.
    pub(super) fn take(&mut self) -> HashMap<ProcessStack, i64, RandomState> {
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

/// The names of the processes that samples are from.
#[derive(Debug)]
pub(super) struct Processes<'a> {
    is_asked: bool,
    names: Vec<&'a str>,
    numbers: HashMap<&'a str, usize, RandomState>,
}

impl<'a> Processes<'a> {
    /// Tells processes apart only if `is_asked`.
    pub(super) fn new(is_asked: bool) -> Self {
        Self { is_asked, names: Vec::new(), numbers: HashMap::default() }
    }

    fn number(
        &mut self,
        dictionary: &'a Dictionary,
        of_resource: Option<&'a str>,
        attributes: &[AttributeIx],
    ) -> usize {
        if !self.is_asked {
            return 0;
        }
        let own = attribute_text(dictionary, attributes, PROCESS_EXECUTABLE_NAME);
        let name = if own.is_empty() { of_resource.unwrap_or_default() } else { own };
        *self.numbers.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }

    /// The name of a process, if there are several and it has one.
    pub(super) fn name(&self, number: usize) -> Option<&'a str> {
        if self.names.len() < 2 {
            return None;
        }
        self.names.get(number).copied().filter(|name| !name.is_empty())
    }
}
