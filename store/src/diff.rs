//! Two selections compared.
//!
//! Runs are files: with two or more on either side the difference of a function comes with an interval and a
//! verdict (`statistics`); with one, whose samples are not independent, only with its size, and
//! [`Diff::why`] says so. What a program may conclude from it is [`Gate`].

mod gate;
mod matching;
mod moved;
mod runs;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;

pub use gate::{Gate, Verdict};
use runs::Run;

use crate::environment::{Difference, decides_speed, differences};
use crate::error::QueryError;
use crate::select::{Item, Loss, Selected, Selection};
use crate::statistics::{Comparison, ratio_of_totals};
use crate::table::{ProfileType, Table};
use crate::tree::{Tree, TreeOptions, grow};

/// The most runs of a side that are looked at one by one.
const MAX_RUNS: usize = 256;

/// What became of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It takes more, beyond chance.
    Slower,
    /// It takes less, beyond chance.
    Faster,
    /// It is not in the base.
    New,
    /// It is in the base only.
    Gone,
    /// What it takes more or less, others below the same caller take less or more.
    Moved,
    /// It differs beyond chance, and so does what the sides ran on.
    Environment,
    /// It cannot be told from the same.
    Same,
}

impl Class {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::New => "new",
            Self::Gone => "gone",
            Self::Moved => "moved",
            Self::Environment => "environment",
            Self::Same => "same",
        }
    }
}

/// A function on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffRow<'t> {
    /// The function's name.
    pub name: Cow<'t, str>,
    /// Its module.
    pub module: &'t str,
    /// What it costs, in the base and in the new one.
    pub cost: [i64; 2],
    /// Its shares.
    pub share: [f64; 2],
    /// What it costs for a second, or for a unit of work where [`DiffOptions::per`] names one; none if that is
    /// not known.
    pub rate: Option<[f64; 2]>,
    /// The ends of the 95 % interval of the difference, of shares or, with [`DiffOptions::per`], of rates;
    /// where there are runs enough.
    pub interval: Option<(f64, f64)>,
    /// The new one over the base: of shares without what changes all of them, with its 95 % interval. None
    /// where one is zero or the function was too small to be tested.
    pub ratio: Option<(f64, Option<(f64, f64)>)>,
    /// The rate of false discoveries, where there are runs enough.
    pub q: Option<f64>,
    /// The verdict.
    pub class: Class,
}

impl DiffRow<'_> {
    /// By how many points of the share it differs.
    pub fn delta(&self) -> f64 {
        self.share[1] - self.share[0]
    }

    /// Whether a test found it.
    pub fn is_finding(&self) -> bool {
        self.q.is_some() && self.class != Class::Same
    }
}

/// One side as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideTotal {
    /// The sum of all weights.
    pub total: i64,
    /// How many samples.
    pub samples: i64,
    /// How many runs.
    pub runs: usize,
    /// How long the runs took together, in nanoseconds; 0 if it is not known of one of them.
    pub duration: u64,
    /// What is not as it could be.
    pub loss: Loss,
}

/// What both sides cost in all: of a run, of a second or of a unit of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TotalChange {
    /// The means of the sides.
    pub means: [f64; 2],
    /// The new one over the base.
    pub ratio: f64,
    /// Its 95 % interval, where there are runs enough.
    pub interval: Option<(f64, f64)>,
    /// The chance of such a difference if there is none, likewise.
    pub chance: Option<f64>,
}

/// Two selections compared.
#[derive(Debug, Clone)]
pub struct Diff<'t> {
    /// The type that is compared.
    pub profile_type: &'t ProfileType,
    /// The base and the new one.
    pub sides: [SideTotal; 2],
    /// Both in all; none if one side has nothing.
    pub total: Option<TotalChange>,
    /// Why nothing can be said of significance; none if it can.
    pub why: Option<String>,
    /// What differs in what they ran on.
    pub environment: Vec<Difference>,
    /// The functions: findings first, then by how much their share differs.
    pub rows: Vec<DiffRow<'t>>,
    /// How many functions were tested.
    pub tested: usize,
    /// How many sources of variation that runs have in common were taken out.
    pub factors: usize,
    /// By how much a function differs from run to run beside what samples make, as a coefficient of variation.
    pub between: f64,
    /// How many standard errors the intervals of ratios reach.
    reach: f64,
    /// Both as one tree.
    pub tree: Tree<2>,
}

/// Which cost of functions is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cost {
    /// Their own.
    #[default]
    Own,
    /// That with everything they call.
    Total,
}

/// What costs are of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Per {
    /// Of all that a side cost: shares.
    #[default]
    Total,
    /// Of the time that a run took.
    Time,
    /// Of what a run did: the sum of a sample type or of an attribute of resources.
    Named(String),
}

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// Which cost.
    pub by: Cost,
    /// What it is of.
    pub per: Per,
    /// How the tree is to be.
    pub tree: TreeOptions,
}

impl Table {
    /// Compares two selections by shares.
    ///
    /// # Errors
    /// If one cannot be made.
    pub fn diff(
        &self,
        base: &Selection,
        new: &Selection,
        by: Cost,
        options: &TreeOptions,
    ) -> Result<Diff<'_>, QueryError> {
        self.compare(base, new, &DiffOptions { by, per: Per::Total, tree: *options })
    }

    /// Compares two selections.
    ///
    /// # Errors
    /// If one cannot be made, or it is not known what its costs are of.
    pub fn compare(
        &self,
        base: &Selection,
        new: &Selection,
        options: &DiffOptions,
    ) -> Result<Diff<'_>, QueryError> {
        let DiffOptions { by, per, tree } = options;
        let selected = [self.select(base)?, self.select(new)?];
        let same = matching::representatives(self);
        let runs = [self.runs(base, *by, per, &same)?, self.runs(new, *by, per, &same)?];
        if let Some(unknown) = runs.iter().find_map(|runs| runs::unknown_work(runs, per)) {
            return Err(QueryError::Invalid(format!("--per: {unknown}")));
        }
        let why = undecidable(&selected, [runs[0].len(), runs[1].len()]);
        let comparison = why.is_none().then(|| {
            let [base, new] = [0, 1].map(|at| runs::side(&runs[at], selected[at].of.sampling));
            crate::statistics::compare(&base, &new, self.functions.len())
        });
        let costs = [0, 1].map(|side| runs::costs(&selected[side], *by, &same));
        let environment = differences(&self.environment(base)?, &self.environment(new)?);
        let mut numbered = self.rows(&costs, &selected, &runs, comparison.as_ref());
        if comparison.is_some() {
            moved::mark(&mut numbered, &selected, options, &same);
            if environment.iter().any(decides_speed) {
                let is_speed = |class: Class| matches!(class, Class::Slower | Class::Faster);
                numbered
                    .iter_mut()
                    .filter(|(_, row)| is_speed(row.class))
                    .for_each(|(_, row)| row.class = Class::Environment);
            }
        }
        let mut rows: Vec<DiffRow<'_>> = numbered.into_iter().map(|(_, row)| row).collect();
        rows.sort_by(|a, b| {
            let by_size = b.delta().abs().total_cmp(&a.delta().abs());
            let by_kind = b.is_finding().cmp(&a.is_finding());
            by_kind.then(by_size).then_with(|| (&a.name, a.module).cmp(&(&b.name, b.module)))
        });
        let tree = grow(self, &both(&selected, tree.is_inverted, &same), tree)?;
        let side = |at: usize| SideTotal {
            total: selected[at].total,
            samples: selected[at].samples,
            runs: runs[at].len(),
            duration: duration(&runs[at]),
            loss: selected[at].loss,
        };
        Ok(Diff {
            profile_type: selected[1].of,
            sides: [side(0), side(1)],
            total: total(&runs),
            why,
            environment,
            rows,
            tested: comparison.as_ref().map_or(0, |it| it.tested),
            factors: comparison.as_ref().map_or(0, |it| it.factors),
            between: comparison.as_ref().map_or(0.0, |it| it.between.sqrt()),
            reach: comparison.as_ref().map_or(0.0, |it| it.reach),
            tree,
        })
    }

    /// The functions that cost anything, with their numbers.
    fn rows(
        &self,
        costs: &[Vec<i64>; 2],
        selected: &[Selected<'_>; 2],
        runs: &[Vec<Run>; 2],
        comparison: Option<&Comparison>,
    ) -> Vec<(u32, DiffRow<'_>)> {
        let ratio = |cost: i64, total: f64| if total > 0.0 { cost as f64 / total } else { 0.0 };
        let works = [work(&runs[0]), work(&runs[1])];
        let mut rows = Vec::new();
        for (at, function) in self.functions.iter().enumerate() {
            let cost = [costs[0][at], costs[1][at]];
            if cost == [0, 0] {
                continue;
            }
            let test = comparison.and_then(|it| it.tests.get(at));
            let is_finding = test.is_some_and(|test| test.is_finding());
            let class = match (cost, test) {
                // Without a test it is a fact of these two only.
                ([0, _], _) if test.is_none() || is_finding => Class::New,
                ([_, 0], _) if test.is_none() || is_finding => Class::Gone,
                (_, Some(test)) if is_finding && test.effect > 0.0 => Class::Slower,
                (_, Some(_)) if is_finding => Class::Faster,
                _ => Class::Same,
            };
            let share = [0, 1].map(|side| ratio(cost[side], selected[side].total as f64));
            let of_shares = (cost[0] > 0 && cost[1] > 0).then(|| share[1] / share[0]);
            let tested = test.filter(|test| test.margin.is_finite());
            let row = DiffRow {
                name: matching::shown(self, at as u32),
                module: &function.module,
                cost,
                share,
                rate: match works {
                    [Some(base), Some(new)] => Some([ratio(cost[0], base), ratio(cost[1], new)]),
                    _ => None,
                },
                interval: test.map(|test| test.interval),
                ratio: of_shares.map(|plain| match tested {
                    Some(test) => {
                        let (effect, margin) = (test.effect, test.margin);
                        let interval = ((effect - margin).exp(), (effect + margin).exp());
                        (effect.exp(), Some(interval))
                    }
                    None => (plain, None),
                }),
                q: test.map(|test| test.q),
                class,
            };
            rows.push((at as u32, row));
        }
        rows
    }
}

/// How long runs took together; 0 if it is not known of all.
fn duration(runs: &[Run]) -> u64 {
    match runs.iter().all(|run| run.duration > 0) {
        true => runs.iter().fold(0, |sum, run| sum.saturating_add(run.duration)),
        false => 0,
    }
}

/// How much runs did together, or how many seconds they took; none if neither is known.
fn work(runs: &[Run]) -> Option<f64> {
    let work: Option<f64> = runs.iter().map(|run| run.work).sum();
    work.or_else(|| Some(duration(runs) as f64 / 1e9)).filter(|work| *work > 0.0)
}

fn total(runs: &[Vec<Run>; 2]) -> Option<TotalChange> {
    let of_runs = runs.each_ref().map(|runs| {
        let of = |run: &Run| run.total as f64 / run.work.unwrap_or(1.0);
        runs.iter().map(of).collect::<Vec<f64>>()
    });
    let means = of_runs.each_ref().map(|all| all.iter().sum::<f64>() / all.len() as f64);
    if means.iter().any(|mean| mean.is_nan() || *mean <= 0.0) {
        return None;
    }
    let test = ratio_of_totals(&of_runs[0], &of_runs[1]);
    Some(TotalChange {
        means,
        ratio: test.map_or(means[1] / means[0], |test| test.0),
        interval: test.map(|test| test.1),
        chance: test.map(|test| test.2),
    })
}

/// Why nothing can be said of significance.
fn undecidable(selected: &[Selected<'_>; 2], runs: [usize; 2]) -> Option<String> {
    if selected.iter().any(|side| side.total <= 0) {
        return Some("one side has no samples".to_owned());
    }
    if runs.iter().any(|runs| *runs < 2) {
        let [base, new] =
            runs.map(|runs| format!("{runs} run{}", if runs == 1 { "" } else { "s" }));
        return Some(format!(
            "{base} against {new}: differences cannot be told from noise with one run a side; give 4 or \
             more files for each"
        ));
    }
    if runs.iter().any(|runs| *runs > MAX_RUNS) {
        return Some(format!("more than {MAX_RUNS} runs on one side"));
    }
    None
}

/// The paths of both sides, each with its cost in both, sorted.
pub(crate) fn both<'s>(
    selected: &'s [Selected<'_>; 2],
    is_inverted: bool,
    same: &[u32],
) -> Vec<Item<'s, 2>> {
    let mut of_paths: HashMap<Cow<'s, [u32]>, [i64; 2], foldhash::fast::RandomState> =
        HashMap::default();
    for (side, selected) in selected.iter().enumerate() {
        for (path, weight) in selected.iter() {
            let is_plain = !is_inverted && path.iter().all(|at| same[*at as usize] == *at);
            let functions = path.iter().map(|at| same[*at as usize]);
            let path = match (is_plain, is_inverted) {
                (true, _) => Cow::Borrowed(path),
                (false, true) => Cow::Owned(functions.rev().collect()),
                (false, false) => Cow::Owned(functions.collect()),
            };
            let sums = of_paths.entry(path).or_default();
            sums[side] = sums[side].saturating_add(weight);
        }
    }
    let mut items: Vec<Item<'s, 2>> = of_paths.into_iter().collect();
    items.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    items
}
