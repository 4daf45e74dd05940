//! Two selections compared.
//!
//! Runs are files: with two or more on either side the difference of a function's share comes with an
//! interval and a verdict ([`crate::statistics`]); with one, whose samples are not independent, only with
//! its size, and [`Diff::why`] says so.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::environment::{Difference, differences};
use crate::error::QueryError;
use crate::select::{Filter, Item, Selected, Selection};
use crate::statistics::{Side, compare};
use crate::table::{Sampling, Table};
use crate::tree::{Tree, TreeOptions, grow};

/// The most runs of a side that are looked at one by one.
const MAX_RUNS: usize = 256;

/// What became of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It takes a larger share, beyond chance.
    Slower,
    /// It takes a smaller share, beyond chance.
    Faster,
    /// It is not in the base.
    New,
    /// It is in the base only.
    Gone,
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
            Self::Same => "same",
        }
    }
}

/// A function on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffRow<'t> {
    /// The function's name.
    pub name: &'t str,
    /// Its module.
    pub module: &'t str,
    /// What it costs, in the base and in the new one.
    pub cost: [i64; 2],
    /// Its shares.
    pub share: [f64; 2],
    /// The ends of the 95 % interval of the difference of shares, where there are runs enough.
    pub interval: Option<(f64, f64)>,
    /// The rate of false discoveries, likewise.
    pub q: Option<f64>,
    /// The verdict.
    pub class: Class,
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
}

/// Two selections compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff<'t> {
    /// The base and the new one.
    pub sides: [SideTotal; 2],
    /// Why nothing can be said of significance; none if it can.
    pub why: Option<String>,
    /// What differs in what they ran on.
    pub environment: Vec<Difference>,
    /// The functions: findings first, then by how much their share differs.
    pub rows: Vec<DiffRow<'t>>,
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

impl Table {
    /// Compares two selections of one type.
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
        let selected = [self.select(base)?, self.select(new)?];
        let runs = [self.runs(base)?, self.runs(new)?];
        let why = undecidable(&selected, [runs[0].len(), runs[1].len()]);
        let costs = [costs(&selected[0], by), costs(&selected[1], by)];
        let tests = match why {
            Some(_) => None,
            None => {
                let sides = [
                    self.side(base, &runs[0], by, &selected[0])?,
                    self.side(new, &runs[1], by, &selected[1])?,
                ];
                Some(compare(&sides[0], &sides[1], self.functions.len()))
            }
        };
        let totals = [selected[0].total, selected[1].total];
        let share =
            |cost: i64, total: i64| if total == 0 { 0.0 } else { cost as f64 / total as f64 };
        let mut rows = Vec::new();
        for (at, function) in self.functions.iter().enumerate() {
            let cost = [costs[0][at], costs[1][at]];
            if cost == [0, 0] {
                continue;
            }
            let test = tests.as_ref().map(|tests| tests[at]);
            let is_finding = test.is_some_and(|test| test.is_finding());
            let class = match (cost, test) {
                // Without a test it is a fact of these two only.
                ([0, _], _) if test.is_none() || is_finding => Class::New,
                ([_, 0], _) if test.is_none() || is_finding => Class::Gone,
                (_, Some(test)) if is_finding && test.effect > 0.0 => Class::Slower,
                (_, Some(_)) if is_finding => Class::Faster,
                _ => Class::Same,
            };
            rows.push(DiffRow {
                name: &function.name,
                module: &function.module,
                cost,
                share: [share(cost[0], totals[0]), share(cost[1], totals[1])],
                interval: test.map(|test| test.interval),
                q: test.map(|test| test.q),
                class,
            });
        }
        let is_finding = |row: &DiffRow<'_>| row.q.is_some() && row.class != Class::Same;
        rows.sort_by(|a, b| {
            let delta = |row: &DiffRow<'_>| (row.share[1] - row.share[0]).abs();
            let by_size = delta(b).total_cmp(&delta(a));
            is_finding(b)
                .cmp(&is_finding(a))
                .then(by_size)
                .then((a.name, a.module).cmp(&(b.name, b.module)))
        });
        let environment = differences(&self.environment(base)?, &self.environment(new)?);
        let tree = grow(self, &both(&selected, options.is_inverted), options)?;
        let side = |at: usize| SideTotal {
            total: totals[at],
            samples: selected[at].samples,
            runs: runs[at].len(),
        };
        Ok(Diff { sides: [side(0), side(1)], why, environment, rows, tree })
    }

    /// The files that a selection has samples of.
    fn runs(&self, selection: &Selection) -> Result<BTreeSet<u32>, QueryError> {
        let filter = Filter::new(self, selection)?;
        let accepted = (0..filter.rows.len()).filter(|row| filter.accepts(*row));
        Ok(accepted.map(|row| self.labels.file(filter.rows.labels[row])).collect())
    }

    /// A side, run by run.
    fn side(
        &self,
        selection: &Selection,
        runs: &BTreeSet<u32>,
        by: Cost,
        whole: &Selected<'_>,
    ) -> Result<Side, QueryError> {
        let each = match whole.of.sampling {
            Sampling::Exact => 1.0,
            Sampling::Each(each) => each as f64,
        };
        let mut side = Side { each, ..Side::default() };
        for run in runs {
            let selected =
                self.select(&Selection { files: Some(vec![*run]), ..selection.clone() })?;
            side.totals.push(selected.total as f64);
            side.values.push(costs(&selected, by).into_iter().map(|cost| cost as f64).collect());
        }
        Ok(side)
    }
}

/// Why nothing can be said of significance.
fn undecidable(selected: &[Selected<'_>; 2], runs: [usize; 2]) -> Option<String> {
    if selected.iter().any(|side| side.total <= 0) {
        return Some("one side has no samples".to_owned());
    }
    if runs.iter().any(|runs| *runs < 2) {
        let [base, new] = runs;
        return Some(format!(
            "{base} and {new} runs: differences cannot be told from noise with one run a side; give 4 or \
             more files for each"
        ));
    }
    if runs.iter().any(|runs| *runs > MAX_RUNS) {
        return Some(format!("more than {MAX_RUNS} runs on one side"));
    }
    None
}

/// The costs of all functions, by number.
fn costs(selected: &Selected<'_>, by: Cost) -> Vec<i64> {
    let mut costs = vec![0_i64; selected.table.functions.len()];
    let mut seen = vec![0_u32; costs.len()];
    for (stack, (path, weight)) in (1_u32..).zip(selected.iter()) {
        match by {
            Cost::Own => {
                if let Some(leaf) = path.last() {
                    let cost = &mut costs[*leaf as usize];
                    *cost = cost.saturating_add(weight);
                }
            }
            Cost::Total => {
                for function in path {
                    if std::mem::replace(&mut seen[*function as usize], stack) != stack {
                        let cost = &mut costs[*function as usize];
                        *cost = cost.saturating_add(weight);
                    }
                }
            }
        }
    }
    costs
}

/// The paths of both sides, each with its cost in both, sorted.
pub(crate) fn both<'s>(selected: &'s [Selected<'_>; 2], is_inverted: bool) -> Vec<Item<'s, 2>> {
    let mut of_paths: HashMap<Cow<'s, [u32]>, [i64; 2], foldhash::fast::RandomState> =
        HashMap::default();
    for (side, selected) in selected.iter().enumerate() {
        for (path, weight) in selected.iter() {
            let path = match is_inverted {
                true => Cow::Owned(path.iter().rev().copied().collect()),
                false => Cow::Borrowed(path),
            };
            let sums = of_paths.entry(path).or_default();
            sums[side] = sums[side].saturating_add(weight);
        }
    }
    let mut items: Vec<Item<'s, 2>> = of_paths.into_iter().collect();
    items.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    items
}
