//! Collapsed stacks: what a flame graph is drawn from.

use std::collections::BTreeMap;

use super::ReportError;
use super::choice::Choice;
use super::frames::{Frame, Frames};
use super::weights::{FrameBudget, Processes, Weights};
use profpipe_profile::Profiles;

/// The most frames that the stacks of a report have together: 256 MiB of them.
const MAX_FRAMES: usize = 1 << 26;

/// Every different stack with its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollapsedStacks {
    /// The sample type reported.
    pub profile_type: String,
    /// The unit of all costs.
    pub unit: String,
    /// The names of functions, sorted, each once.
    names: Vec<String>,
    stacks: Vec<(Vec<u32>, i64)>,
}

impl CollapsedStacks {
    /// The stacks with their costs, sorted by name, each once. The names of a stack start with the
    /// root; they are none for samples without a stack.
    pub fn iter(&self) -> impl Iterator<Item = (impl ExactSizeIterator<Item = &str>, i64)> {
        let name = |number: &u32| self.names.get(*number as usize).map_or("", String::as_str);
        self.stacks.iter().map(move |(stack, cost)| (stack.iter().map(name), *cost))
    }

    /// The cost of all stacks together.
    pub fn total(&self) -> i64 {
        self.stacks.iter().fold(0, |sum, (_, cost)| sum.saturating_add(*cost))
    }

    /// The costs above zero together, and those below zero together, without their sign.
    pub fn gains_and_losses(&self) -> (u128, u128) {
        let (mut gains, mut losses) = (0, 0);
        for (_, cost) in &self.stacks {
            let of_sign = if *cost < 0 { &mut losses } else { &mut gains };
            *of_sign += u128::from(cost.unsigned_abs());
        }
        (gains, losses)
    }
}

/// Collapses the stacks of all profiles of one sample type. Stacks that cost nothing are left out.
///
/// # Errors
/// If there is no such sample type, or the stacks are too many.
pub fn collapse(profiles: &Profiles, wanted: Option<&str>) -> Result<CollapsedStacks, ReportError> {
    collapse_into(profiles, &Choice::new(profiles, wanted)?, Processes::new(false))
}

/// Collapses the stacks of every sample type, each by itself; types without samples are left out.
/// Types of one name in units of one dimension are one type.
///
/// # Errors
/// If there are more than `limit` types, or their stacks are too many.
pub fn collapse_all(
    profiles: &Profiles,
    limit: usize,
) -> Result<Vec<CollapsedStacks>, ReportError> {
    let types = Choice::all(profiles, limit)?;
    let collapsed = types
        .iter()
        .map(|choice| collapse_into(profiles, choice, Processes::new(false)))
        .filter(|one| !one.as_ref().is_ok_and(|one| one.stacks.is_empty()));
    collapsed.collect()
}

/// As [`collapse`], and where samples are from processes of several names, the name of the process
/// is the root of each stack: for looking at a whole host.
///
/// # Errors
/// As [`collapse`].
pub fn collapse_by_process(
    profiles: &Profiles,
    wanted: Option<&str>,
) -> Result<CollapsedStacks, ReportError> {
    collapse_into(profiles, &Choice::new(profiles, wanted)?, Processes::new(true))
}

fn collapse_into<'a>(
    profiles: &'a Profiles,
    choice: &Choice<'a>,
    mut processes: Processes<'a>,
) -> Result<CollapsedStacks, ReportError> {
    let mut frames = Frames::new(&profiles.dictionary);
    let mut sums: BTreeMap<Vec<u32>, i64> = BTreeMap::new();
    let mut budget = FrameBudget::new(MAX_FRAMES);
    for mut weights in Weights::of(&profiles.dictionary, choice, &mut processes) {
        for ((process, stack), weight) in weights.take() {
            budget.start_stack();
            let mut numbers = Vec::new();
            for (location, dropped) in weights.frames(stack) {
                let of_location = frames.of(location).iter().skip(dropped);
                budget.take(of_location.len())?;
                numbers.extend(of_location);
            }
            if let Some(name) = processes.name(process) {
                numbers.push(frames.number(Frame { name: name.to_owned(), module: String::new() }));
            }
            numbers.reverse();
            let sum = sums.entry(numbers).or_default();
            *sum = sum.saturating_add(weight);
        }
    }
    let frames = frames.into_frames();
    // By name, so that the order of the output does not depend on that of the input, and that
    // functions of one name in several modules are one.
    let mut names: Vec<_> = frames.iter().map(|frame| frame.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let rank = |name: &str| names.binary_search(&name).unwrap_or_default() as u32;
    let ranks: Vec<_> = frames.iter().map(|frame| rank(&frame.name)).collect();
    let mut stacks: BTreeMap<Vec<u32>, i64> = BTreeMap::new();
    for (mut stack, cost) in sums {
        for number in &mut stack {
            *number = ranks.get(*number as usize).copied().unwrap_or_default();
        }
        let sum = stacks.entry(stack).or_default();
        *sum = sum.saturating_add(cost);
    }
    Ok(CollapsedStacks {
        profile_type: choice.kind.to_owned(),
        unit: choice.unit.to_owned(),
        names: names.into_iter().map(str::to_owned).collect(),
        stacks: stacks.into_iter().filter(|(_, cost)| *cost != 0).collect(),
    })
}
