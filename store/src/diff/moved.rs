//! Cost that moved: a function that was renamed, split or inlined takes what another one below the same
//! caller, or the caller itself, no longer does.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Class, Cost, DiffOptions, DiffRow, Per};
use crate::select::Selected;

/// How much of the largest change may be left of all changes together.
const MAX_REST: f64 = 0.25;

/// Calls findings that cancel out below one caller [`Class::Moved`]. `rows` are with their functions.
pub(super) fn mark(
    rows: &mut [(u32, DiffRow<'_>)],
    selected: &[Selected<'_>; 2],
    options: &DiffOptions,
    same: &[u32],
) {
    let by = options.by;
    let is_finding = |class: Class| !matches!(class, Class::Same | Class::Environment);
    let mut found = vec![false; same.len()];
    for (function, _) in rows.iter().filter(|(_, row)| is_finding(row.class)) {
        found[*function as usize] = true;
    }
    let callers = callers(selected, by, same, &found);
    // By caller: the rows that are its own or of what it calls.
    let mut families: HashMap<u32, Vec<usize>, RandomState> = HashMap::default();
    for (at, (function, row)) in rows.iter().enumerate().filter(|it| is_finding(it.1.1.class)) {
        if let Some(caller) = callers.get(function) {
            families.entry(*caller).or_default().push(at);
        }
        // What it takes with all that it calls does not change by what moves below it.
        if by == Cost::Own {
            families.entry(*function).or_default().push(at);
        }
        debug_assert!(row.q.is_some());
    }
    for members in families.into_values() {
        let delta = |row: &DiffRow<'_>| match (row.rate, &options.per) {
            (Some([base, new]), Per::Time | Per::Named(_)) => new - base,
            _ => row.delta(),
        };
        let deltas = || members.iter().map(|at| delta(&rows[*at].1));
        let (rest, largest) =
            deltas().fold((0.0, 0.0_f64), |(sum, most), it| (sum + it, most.max(it.abs())));
        let has_both = deltas().any(|it| it > 0.0) && deltas().any(|it| it < 0.0);
        if has_both && f64::abs(rest) <= MAX_REST * largest {
            members.iter().for_each(|at| rows[*at].1.class = Class::Moved);
        }
    }
}

/// Of each function that was found, the caller that it has most of its cost from.
fn callers(
    selected: &[Selected<'_>; 2],
    by: Cost,
    same: &[u32],
    found: &[bool],
) -> HashMap<u32, u32, RandomState> {
    let mut weights: HashMap<(u32, u32), u64, RandomState> = HashMap::default();
    for (path, weight) in selected.iter().flat_map(Selected::iter) {
        let pairs = path.windows(2).map(|pair| (pair[1], pair[0]));
        // Of what functions cost themselves only the last pair of a stack says whose it is.
        let skipped = if by == Cost::Own { path.len().saturating_sub(2) } else { 0 };
        for (function, caller) in pairs.skip(skipped) {
            let (function, caller) = (same[function as usize], same[caller as usize]);
            if found[function as usize] && function != caller {
                let sum = weights.entry((function, caller)).or_default();
                *sum = sum.saturating_add(weight.unsigned_abs());
            }
        }
    }
    let mut best: HashMap<u32, (u64, u32), RandomState> = HashMap::default();
    for ((function, caller), weight) in weights {
        let of = best.entry(function).or_default();
        *of = (*of).max((weight, caller));
    }
    best.into_iter().map(|(function, (_, caller))| (function, caller)).collect()
}
