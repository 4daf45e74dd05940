//! Calibration ("raking", Deville and Särndal 1992): factors that make balanced sums exact.
//!
//! The factor of an item is exp(Σ λ) over the sums that it counts for, λ found by Newton's method.
//! Estimates of other sums are then unbiased only as the number of items grows.

/// Newton's steps before it is given up.
const STEPS: usize = 30;
/// Factors beyond this, or below its inverse, are not believed.
const LARGEST: f64 = 3.0;
/// A sum is met if it is this close, relative to its aim.
const CLOSE: f64 = 1e-10;

/// A factor for each pattern, a set of sums, of which there are `found` items that count one each,
/// so that every sum is its aim, but for sums that no item or the same items as of others stand for.
/// `None` if there are no such factors within bounds.
pub(super) fn factors(patterns: &[Vec<u16>], found: &[f64], aims: &[f64]) -> Option<Vec<f64>> {
    let sums = aims.len();
    let mut lambda = vec![0.0; sums];
    let mut factors = vec![1.0; patterns.len()];
    for _ in 0..STEPS {
        let mut missing = aims.to_vec();
        let mut slope = vec![0.0; sums * sums];
        for ((pattern, found), factor) in patterns.iter().zip(found).zip(&factors) {
            let amount = found * factor;
            if amount == 0.0 {
                continue;
            }
            for (at, row) in pattern.iter().enumerate() {
                missing[*row as usize] -= amount;
                let slope = &mut slope[*row as usize * sums..];
                for column in &pattern[..=at] {
                    slope[*column as usize] += amount;
                }
            }
        }
        let mut by = missing.clone();
        let aimed_at = solve(&mut slope, &mut by);
        let is_met = |((missing, aim), aimed_at): ((&f64, &f64), &bool)| {
            !aimed_at || missing.abs() <= CLOSE * aim.max(1.0)
        };
        if missing.iter().zip(aims).zip(&aimed_at).all(is_met) {
            let within = |factor: &f64| (1.0 / LARGEST..=LARGEST).contains(factor);
            let used = factors.iter().zip(found).filter(|(_, found)| **found > 0.0);
            return used.map(|(factor, _)| factor).all(within).then_some(factors);
        }
        for (place, by) in lambda.iter_mut().zip(&by) {
            *place += by;
        }
        for (factor, pattern) in factors.iter_mut().zip(patterns) {
            *factor = pattern.iter().map(|row| lambda[*row as usize]).sum::<f64>().exp();
        }
        if factors.iter().any(|factor| !factor.is_finite()) {
            return None;
        }
    }
    None
}

/// Solves a symmetric system, of which the lower half is given, in place, by Cholesky's method.
/// Where a row depends on those before it, its unknown is 0. Returns which rows do not.
fn solve(slope: &mut [f64], values: &mut [f64]) -> Vec<bool> {
    let sums = values.len();
    for row in 0..sums {
        for column in 0..=row {
            let done = (0..column)
                .map(|at| slope[row * sums + at] * slope[column * sums + at])
                .sum::<f64>();
            let rest = slope[row * sums + column] - done;
            slope[row * sums + column] = if row != column {
                let pivot = slope[column * sums + column];
                if pivot > 0.0 { rest / pivot } else { 0.0 }
            } else if rest > 1e-7 * slope[row * sums + row].max(1e-300) {
                rest.sqrt()
            } else {
                0.0
            };
        }
    }
    let divide = |rest: f64, pivot: f64| if pivot > 0.0 { rest / pivot } else { 0.0 };
    for row in 0..sums {
        let done: f64 = (0..row).map(|at| slope[row * sums + at] * values[at]).sum();
        values[row] = divide(values[row] - done, slope[row * sums + row]);
    }
    for row in (0..sums).rev() {
        let done: f64 = (row + 1..sums).map(|at| slope[at * sums + row] * values[at]).sum();
        values[row] = divide(values[row] - done, slope[row * sums + row]);
    }
    (0..sums).map(|row| slope[row * sums + row] > 0.0).collect()
}
