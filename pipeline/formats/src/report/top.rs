//! The functions that cost most.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::ReportError;
use super::absolute::Absolute;
use super::choice::Choice;
use super::frames::Frames;
use super::weights::{FrameBudget, Processes, Weights};
use crate::pprof::{attribute_text, find_attribute};
use profpipe_profile::attribute_names::{SAMPLES_LOST, STACK_STATE};
use profpipe_profile::{Profiles, SampleRef, ScopeProfiles, Value};

/// The most frames that are looked at, some seconds of work.
const MAX_FRAMES: usize = 1 << 28;

/// What the functions are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The function's own cost.
    Own,
    /// The cost with everything it calls.
    Total,
}

/// The cost of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionCost {
    /// The name; `module+0xoffset` if there is none.
    pub name: String,
    /// The last part of the path of the executable or library; empty if unknown.
    pub module: String,
    /// The cost of the function itself, in the unit of the report.
    pub own: i64,
    /// The cost with everything it calls; a recursive call counts once.
    pub total: i64,
}

/// How many samples have a stack that reaches its root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StackCounts {
    /// Those that do.
    pub complete: i64,
    /// Those that do, but along frame pointers through code without unwinding rules.
    pub guessed: i64,
    /// Those that end above the root.
    pub truncated: i64,
    /// Those that end where the program goes on to another stack.
    pub switched: i64,
    /// Those that could not be unwound.
    pub broken: i64,
}

impl StackCounts {
    /// The states with their counts, for people: those that are rare only if there are any.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let rare = |name, count: i64| (count != 0).then_some((name, count));
        [
            Some(("complete", self.complete)),
            rare("guessed", self.guessed),
            Some(("truncated", self.truncated)),
            rare("switched", self.switched),
            Some(("broken", self.broken)),
        ]
        .into_iter()
        .flatten()
    }
}

/// The functions of a batch with their costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// The sample type reported.
    pub profile_type: String,
    /// The unit of all costs.
    pub unit: String,
    /// The cost of everything, also of samples without a stack.
    pub total: i64,
    /// What shares are of: the sum of the absolute values of all samples. It is the total where no
    /// value is below zero, and never less.
    pub absolute_total: u128,
    /// Whether any value is below zero, as in the difference of two profiles.
    pub has_negative: bool,
    /// The number of samples: the sum of the `samples` in `count` where the scope of a profile has
    /// that type, else the number of its sample rows that are not 0.
    pub samples: i64,
    /// The number of samples that were lost while measuring.
    pub lost: i64,
    /// How far stacks reached, in samples counted as in `samples`.
    pub stacks: StackCounts,
    /// The functions that cost anything, the most expensive first, whatever its sign; equal ones by
    /// name.
    pub functions: Vec<FunctionCost>,
}

/// The cost of a function while it is summed up.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    own: i64,
    total: i64,
    /// The number, from 1, of the last stack that the function was in: so that it counts once.
    last_stack: usize,
}

/// Sums up the costs of functions, over all profiles of one sample type.
///
/// Functions are told apart by name and module. Inlined functions count as functions.
///
/// # Errors
/// If there is no such sample type.
pub fn top(profiles: &Profiles, wanted: Option<&str>, by: Column) -> Result<Top, ReportError> {
    let choice = Choice::new(profiles, wanted)?;
    let dictionary = &profiles.dictionary;
    let mut frames = Frames::new(dictionary);
    let mut costs: Vec<Cost> = Vec::new();
    let mut stacks_seen = 0;
    let (mut total, mut lost) = (0_i64, 0_i64);
    for one in &choice.profiles {
        let of_profile = find_attribute(dictionary, &one.profile.attributes, SAMPLES_LOST);
        lost = lost.saturating_add(of_profile.and_then(Value::as_int).unwrap_or(0));
    }
    let mut budget = FrameBudget::new(MAX_FRAMES);
    for mut weights in Weights::of(dictionary, &choice, &mut Processes::new(false)) {
        for ((_, stack), weight) in weights.take() {
            budget.start_stack();
            total = total.saturating_add(weight);
            stacks_seen += 1;
            let mut is_leaf = true;
            for (location, dropped) in weights.frames(stack) {
                let of_location = frames.of(location).iter().skip(dropped);
                budget.take(of_location.len())?;
                for number in of_location {
                    let at = *number as usize;
                    if costs.len() <= at {
                        costs.resize(at + 1, Cost::default());
                    }
                    let Some(cost) = costs.get_mut(at) else { continue };
                    if std::mem::replace(&mut is_leaf, false) {
                        cost.own = cost.own.saturating_add(weight);
                    }
                    if std::mem::replace(&mut cost.last_stack, stacks_seen) != stacks_seen {
                        cost.total = cost.total.saturating_add(weight);
                    }
                }
            }
        }
    }
    let (samples, stacks) = count_samples(profiles, &choice);
    let mut functions: Vec<_> = frames
        .into_frames()
        .into_iter()
        .zip(costs)
        .filter(|(_, cost)| (cost.own, cost.total) != (0, 0))
        .map(|(frame, Cost { own, total, .. })| FunctionCost {
            name: frame.name,
            module: frame.module,
            own,
            total,
        })
        .collect();
    functions.sort_by(|a, b| {
        let costs = match by {
            Column::Own => by_size(b.own, a.own).then(by_size(b.total, a.total)),
            Column::Total => by_size(b.total, a.total).then(by_size(b.own, a.own)),
        };
        costs.then_with(|| (&a.name, &a.module).cmp(&(&b.name, &b.module)))
    });
    let absolute = Absolute::of(&choice);
    Ok(Top {
        profile_type: choice.kind.to_owned(),
        unit: choice.unit.to_owned(),
        total,
        absolute_total: absolute.sum,
        has_negative: absolute.has_negative,
        samples,
        lost,
        stacks,
        functions,
    })
}

/// Compares two costs: by how far they are from zero, then by their sign.
fn by_size(a: i64, b: i64) -> Ordering {
    a.unsigned_abs().cmp(&b.unsigned_abs()).then(a.cmp(&b))
}

/// Counts samples by the profiles that say how many they were, of the scopes that have such.
fn count_samples(profiles: &Profiles, choice: &Choice<'_>) -> (i64, StackCounts) {
    // What counts the samples of a clock says nothing of the types beside it.
    let counting = Choice::new(profiles, Some("samples/count")).ok().filter(|counting| {
        let clock = counting
            .profiles
            .first()
            .map_or("", |one| profiles.dictionary.strings.get(one.profile.period_type.kind));
        clock.is_empty() || [clock, counting.kind].contains(&choice.kind)
    });
    let counting = counting.as_ref().map(|of| of.profiles.as_slice()).unwrap_or_default();
    let address = |scope: &ScopeProfiles| std::ptr::from_ref(scope).addr();
    let reported: HashSet<_> = choice.profiles.iter().map(|one| address(one.scope)).collect();
    let counted: HashSet<_> = counting.iter().map(|one| address(one.scope)).collect();
    let by_count = counting.iter().filter(|one| reported.contains(&address(one.scope)));
    let by_row = choice.profiles.iter().filter(|one| !counted.contains(&address(one.scope)));
    let mut stacks = StackCounts::default();
    let mut samples = 0_i64;
    let mut count = |sample: SampleRef<'_>, weight: i64| {
        samples = samples.saturating_add(weight);
        let state = attribute_text(&profiles.dictionary, sample.attributes, STACK_STATE);
        let count = match state {
            "guessed" => &mut stacks.guessed,
            "truncated" => &mut stacks.truncated,
            "switched" => &mut stacks.switched,
            "broken" => &mut stacks.broken,
            _ => &mut stacks.complete,
        };
        *count = count.saturating_add(weight);
    };
    for one in by_count {
        one.profile.samples.iter().for_each(|sample| count(sample, sample.weight()));
    }
    for one in by_row {
        let rows = one.profile.samples.iter();
        rows.for_each(|sample| {
            // Each value is of a time of its own.
            let values = sample.values.iter().filter(|value| **value != 0).count();
            count(sample, values as i64);
        });
    }
    (samples, stacks)
}
