//! The runs of a side: what each cost, how long it took, how much it did.

use std::collections::BTreeSet;

use profpipe_profile::Value;

use super::{Cost, Per};
use crate::error::QueryError;
use crate::select::{Filter, Selected, Selection};
use crate::statistics::Side;
use crate::table::{Sampling, Table, TypeId};

/// A run.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    /// How long it took, in nanoseconds; 0 if it is not known.
    pub(super) duration: u64,
    /// How much it did, where that was asked for.
    pub(super) work: Option<f64>,
    pub(super) total: i64,
    /// By function that stands for all that are the same.
    pub(super) costs: Vec<i64>,
}

impl Table {
    /// The runs of a selection: its files.
    pub(super) fn runs(
        &self,
        selection: &Selection,
        by: Cost,
        per: &Per,
        same: &[u32],
    ) -> Result<Vec<Run>, QueryError> {
        let filter = Filter::new(self, selection)?;
        let accepted = (0..filter.rows.len()).filter(|row| filter.accepts(*row));
        let files: BTreeSet<u32> =
            accepted.map(|row| self.labels.file(filter.rows.labels[row])).collect();
        if files.len() > super::MAX_RUNS {
            return Ok(vec![Run::default(); files.len()]);
        }
        let mut runs = Vec::with_capacity(files.len());
        for file in files {
            let of_run = Selection { files: Some(vec![file]), ..selection.clone() };
            let selected = self.select(&of_run)?;
            runs.push(Run {
                duration: self.duration(&of_run)?,
                work: self.work(&of_run, per)?,
                total: selected.total,
                costs: costs(&selected, by, same),
            });
        }
        Ok(runs)
    }

    /// How long a selection was observed: what its profiles cover together.
    fn duration(&self, selection: &Selection) -> Result<u64, QueryError> {
        let filter = Filter::new(self, selection)?;
        let accepted = (0..filter.rows.len()).filter(|row| filter.accepts(*row));
        let profiles: BTreeSet<u32> = accepted.map(|row| filter.rows.profiles[row]).collect();
        let mut intervals: Vec<(i64, i64)> = profiles
            .iter()
            .filter_map(|at| self.intervals.get(*at as usize))
            .map(|it| (it.start, it.start.saturating_add(it.duration.max(0))))
            .collect();
        intervals.sort_unstable();
        let (mut covered, mut end) = (0_u64, i64::MIN);
        for (first, last) in intervals {
            let first = first.max(end);
            if last > first {
                covered = covered.saturating_add(last.abs_diff(first));
                end = last;
            }
        }
        Ok(covered)
    }

    /// How much was done in a selection.
    fn work(&self, selection: &Selection, per: &Per) -> Result<Option<f64>, QueryError> {
        match per {
            Per::Total => Ok(None),
            Per::Time => Ok(Some(self.duration(selection)? as f64 / 1e9)),
            Per::Named(name) => match self.type_named(name) {
                Some(id) => {
                    let of_type = Selection { profile_type: Some(id), ..selection.clone() };
                    Ok(Some(self.select(&of_type)?.total as f64))
                }
                None => self.attribute(selection, name).map(Some),
            },
        }
    }

    /// The type whose kind is called so.
    fn type_named(&self, name: &str) -> Option<TypeId> {
        self.types.iter().find(|of_type| of_type.kind() == name).map(|it| it.id.clone())
    }

    /// The sum of an attribute of the resources that are selected.
    fn attribute(&self, selection: &Selection, name: &str) -> Result<f64, QueryError> {
        let filter = Filter::new(self, selection)?;
        let accepted = (0..filter.rows.len()).filter(|row| filter.accepts(*row));
        let resources: BTreeSet<u32> =
            accepted.map(|row| self.labels.resource(filter.rows.labels[row])).collect();
        let mut sum = 0.0;
        let of_resources =
            resources.iter().filter_map(|at| self.profiles.resources.get(*at as usize));
        for attribute in of_resources.flat_map(|it| &it.resource.attributes) {
            if attribute.key == name {
                sum += number(&attribute.value).unwrap_or(0.0);
            }
        }
        Ok(sum)
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Int(number) => *number as f64,
        Value::Double(number) => *number,
        other => other.as_str()?.trim().parse().ok()?,
    };
    number.is_finite().then_some(number)
}

/// Why a side cannot be normalised; none if it can.
pub(super) fn unknown_work(runs: &[Run], per: &Per) -> Option<String> {
    let what = match per {
        Per::Total => return None,
        Per::Time => "how long a run took is not known of",
        Per::Named(_) => "",
    };
    let without = runs.iter().filter(|run| run.work.is_none_or(|work| work <= 0.0)).count();
    let of = format!("{without} of {} runs", runs.len());
    match (without, per) {
        (0, _) => None,
        (_, Per::Named(name)) => Some(format!(
            "`{name}` is neither a sample type nor a number among the attributes of {of}"
        )),
        _ => Some(format!("{what} {of}")),
    }
}

/// The runs as the statistics want them.
pub(super) fn side(runs: &[Run], sampling: Sampling) -> Side {
    let each = match sampling {
        Sampling::Exact => 1.0,
        Sampling::Each(each) => each as f64,
    };
    let work: Vec<f64> = runs.iter().filter_map(|run| run.work).collect();
    Side {
        each,
        totals: runs.iter().map(|run| run.total as f64).collect(),
        work: (work.len() == runs.len()).then_some(work),
        values: runs
            .iter()
            .map(|run| run.costs.iter().map(|cost| *cost as f64).collect())
            .collect(),
    }
}

/// The costs of all functions, by the number of the one that stands for all that are the same.
pub(super) fn costs(selected: &Selected<'_>, by: Cost, same: &[u32]) -> Vec<i64> {
    let mut costs = vec![0_i64; same.len()];
    let mut seen = vec![0_u32; costs.len()];
    for (stack, (path, weight)) in (1_u32..).zip(selected.iter()) {
        match by {
            Cost::Own => {
                if let Some(leaf) = path.last() {
                    let cost = &mut costs[same[*leaf as usize] as usize];
                    *cost = cost.saturating_add(weight);
                }
            }
            Cost::Total => {
                for function in path {
                    let function = same[*function as usize] as usize;
                    if std::mem::replace(&mut seen[function], stack) != stack {
                        costs[function] = costs[function].saturating_add(weight);
                    }
                }
            }
        }
    }
    costs
}
