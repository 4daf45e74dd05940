//! The functions that cost most.

use super::ReportError;
use super::choice::Choice;
use super::frames::Frames;
use super::weights::{FrameBudget, Processes, Weights};
use crate::pprof::{attribute_text, find_attribute};
use profpipe_profile::attribute_names::{SAMPLES_LOST, STACK_STATE};
use profpipe_profile::{Profile, Profiles, Value};

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
    /// The number of samples: the sum of the `samples` in `count` where the batch has that type,
    /// else the number of sample rows of the reported type that are not 0.
    pub samples: i64,
    /// The number of samples that were lost while measuring.
    pub lost: i64,
    /// How far stacks reached, in samples counted as in `samples`.
    pub stacks: StackCounts,
    /// The functions that cost anything, the most expensive first; equal ones by name.
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
    for profile in &choice.profiles {
        let of_profile = find_attribute(dictionary, &profile.attributes, SAMPLES_LOST);
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
            Column::Own => (b.own, b.total).cmp(&(a.own, a.total)),
            Column::Total => (b.total, b.own).cmp(&(a.total, a.own)),
        };
        costs.then_with(|| (&a.name, &a.module).cmp(&(&b.name, &b.module)))
    });
    Ok(Top {
        profile_type: choice.kind.to_owned(),
        unit: choice.unit.to_owned(),
        total,
        samples,
        lost,
        stacks,
        functions,
    })
}

fn count_samples(profiles: &Profiles, choice: &Choice<'_>) -> (i64, StackCounts) {
    let counting = Choice::new(profiles, Some("samples/count")).ok();
    let counted: &[&Profile] = counting.as_ref().unwrap_or(choice).profiles.as_slice();
    let mut stacks = StackCounts::default();
    let mut samples = 0_i64;
    for sample in counted.iter().flat_map(|profile| profile.samples.iter()) {
        let weight = match &counting {
            Some(_) => sample.weight(),
            None => i64::from(sample.weight() != 0),
        };
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
    }
    (samples, stacks)
}
