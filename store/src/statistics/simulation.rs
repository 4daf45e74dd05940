//! Programs that are compared with themselves and with a slower build of themselves, by the random-effect
//! model: the share of a function differs from run to run by what the function does (`own`) and by what moves
//! many functions together (`mix`, four factors with random loadings); samples are drawn from that.

use crate::statistics::{Comparison, Side, compare};

/// SplitMix64: seeded, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 60.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        let (limit, mut count, mut product) = ((-mean).exp(), 0.0, self.unit());
        while product > limit {
            count += 1.0;
            product *= self.unit();
        }
        count
    }
}

/// A program and how it is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub(super) runs: usize,
    pub(super) samples: f64,
    /// Deviations of a function's logarithm from run to run.
    pub(super) mix: f64,
    pub(super) own: f64,
}

/// How often what was said was so.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) comparisons: usize,
    /// Comparisons of a program with itself in which any function was found.
    pub(super) alarms: usize,
    /// Intervals of functions that did not change with the difference in them, of how many.
    pub(super) covered: usize,
    pub(super) intervals: usize,
    /// The same of ratios.
    pub(super) covered_ratios: usize,
    /// Comparisons in which the slower function was found; and in which its difference was in the interval.
    pub(super) detected: usize,
    pub(super) covered_changes: usize,
    /// Comparisons with a slower build in which another function was found.
    pub(super) wrong: usize,
}

const FUNCTIONS: usize = 600;

/// Runs comparisons of a program with itself, and of it with a build in which the function that takes about
/// `share` takes longer by the factor `by`.
pub(super) fn simulate(program: Program, comparisons: usize, share: f64, by: f64) -> Outcome {
    let mut random = Random(0x5eed);
    let base = normalised((1..=FUNCTIONS).map(|rank| (rank as f64).powf(-1.05)).collect());
    let far = |at: &usize| (base[*at] - share).abs();
    let slow = (0..FUNCTIONS).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(0);
    let mut slower = base.clone();
    slower[slow] *= by;
    let slower = normalised(slower);
    let mut outcome = Outcome { comparisons, ..Outcome::default() };
    for _ in 0..comparisons {
        let loadings: Vec<[f64; 4]> = (0..FUNCTIONS)
            .map(|_| std::array::from_fn(|_| random.normal() * program.mix / 2.0))
            .collect();
        let mut side = |shares: &[f64]| side(&mut random, program, shares, &loadings);
        let (a, same, changed) = (side(&base), side(&base), side(&slower));
        let test = compare(&a, &same, FUNCTIONS);
        outcome.alarms += usize::from(is_any(&test, None));
        for (at, _) in base.iter().enumerate().filter(|(_, share)| **share > 0.002) {
            let one = &test.tests[at];
            outcome.intervals += 1;
            outcome.covered += usize::from(one.interval.0 <= 0.0 && 0.0 <= one.interval.1);
            outcome.covered_ratios += usize::from(one.effect.abs() <= one.margin);
        }
        let test = compare(&a, &changed, FUNCTIONS);
        let (found, delta) = (&test.tests[slow], slower[slow] - base[slow]);
        outcome.detected += usize::from(found.is_finding());
        outcome.covered_changes +=
            usize::from(found.interval.0 <= delta && delta <= found.interval.1);
        outcome.wrong += usize::from(is_any(&test, Some(slow)));
    }
    outcome
}

fn is_any(comparison: &Comparison, but: Option<usize>) -> bool {
    let mut others = comparison.tests.iter().enumerate().filter(|(at, _)| Some(*at) != but);
    others.any(|(_, test)| test.is_finding())
}

fn normalised(mut shares: Vec<f64>) -> Vec<f64> {
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    shares
}

fn side(random: &mut Random, program: Program, shares: &[f64], loadings: &[[f64; 4]]) -> Side {
    let mut side = Side { each: 1.0, ..Side::default() };
    for _ in 0..program.runs {
        let factors: [f64; 4] = std::array::from_fn(|_| random.normal());
        let of_run = shares.iter().zip(loadings).map(|(share, loadings)| {
            let mix: f64 = loadings.iter().zip(&factors).map(|(a, b)| a * b).sum();
            share * (mix + program.own * random.normal()).exp()
        });
        let of_run = normalised(of_run.collect());
        let values: Vec<f64> =
            of_run.iter().map(|share| random.poisson(share * program.samples)).collect();
        side.totals.push(values.iter().sum());
        side.values.push(values);
    }
    side
}
