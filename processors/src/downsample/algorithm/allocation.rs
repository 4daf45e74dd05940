//! How many samples each stratum keeps.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use profpipe_profile::ValueType;

use super::family::Family;
use super::{Keep, Stratum, group, stratum_rows};

/// How many samples each stratum keeps.
///
/// A share is of all strata of a sample type together. A quarter of it is divided evenly, the rest
/// by the square root of the total weight: then relative errors are about the same everywhere, and
/// small services are not lost beside large ones.
pub(super) fn keeps(families: &[Family], strata: &[Stratum], keep: Keep) -> Vec<usize> {
    let share = match keep {
        Keep::Stacks(count) => {
            return strata.iter().map(|stratum| count.max(1) * stratum.parts.len()).collect();
        }
        Keep::Share(share) => share.clamp(0.0, 1.0),
    };
    let mut by_type: HashMap<ValueType, Vec<usize>, RandomState> = HashMap::default();
    for (at, stratum) in strata.iter().enumerate() {
        if let Some(part) = stratum.parts.first() {
            let kind = families[part.0].types[group(families, *part).primary];
            by_type.entry(kind).or_default().push(at);
        }
    }
    let mut keeps = vec![0; strata.len()];
    for positions in by_type.into_values() {
        let rows: Vec<usize> =
            positions.iter().map(|at| stratum_rows(families, &strata[*at])).collect();
        let roots: Vec<f64> = positions
            .iter()
            .map(|at| {
                let parts = strata[*at].parts.iter();
                let weights =
                    parts.map(|part| families[part.0].total(group(families, *part).primary) as f64);
                weights.sum::<f64>().sqrt()
            })
            .collect();
        let all: usize = rows.iter().sum();
        let wanted = (share * all as f64).ceil() as usize;
        for (at, keep) in positions.into_iter().zip(divide(wanted, &rows, &roots)) {
            keeps[at] = keep;
        }
    }
    keeps
}

/// `all` in parts, none larger than its bound in `most`, by these proportions but for a quarter,
/// which is divided evenly.
pub(super) fn divide(all: usize, most: &[usize], proportions: &[f64]) -> Vec<usize> {
    let even = 0.25 / most.len().max(1) as f64;
    let sum: f64 = proportions.iter().sum();
    let proportions: Vec<f64> = proportions
        .iter()
        .map(|part| even + if sum > 0.0 { 0.75 * part / sum } else { 0.0 })
        .collect();
    let mut parts = vec![None; most.len()];
    let mut left = all as f64;
    // What is at its bound leaves the more to the others, which may bring them to theirs.
    loop {
        let open = |parts: &[Option<usize>]| {
            let open = proportions.iter().zip(parts).filter(|(_, part)| part.is_none());
            open.map(|(proportion, _)| *proportion).sum::<f64>()
        };
        let sum = open(&parts);
        let mut full = false;
        let before = left;
        for ((part, most), proportion) in parts.iter_mut().zip(most).zip(&proportions) {
            if part.is_none() && before * proportion / sum >= *most as f64 {
                *part = Some(*most);
                left -= *most as f64;
                full = true;
            }
        }
        if !full {
            break;
        }
    }
    let sum: f64 = proportions
        .iter()
        .zip(&parts)
        .filter(|(_, part)| part.is_none())
        .map(|(proportion, _)| *proportion)
        .sum();
    // Rounded so that the sum is right.
    let (mut exact, mut given) = (0.0, 0);
    parts
        .into_iter()
        .zip(proportions)
        .map(|(part, proportion)| {
            part.unwrap_or_else(|| {
                exact += left.max(0.0) * proportion / sum;
                let next = (exact + 1e-6).floor() as usize;
                let part = next.saturating_sub(given);
                given = next;
                part.max(1)
            })
        })
        .collect()
}
