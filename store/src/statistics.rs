//! Whether costs differ between two groups of runs. The error comes from the runs and never from single
//! samples, which are not independent.
//!
//! For each function: the ratio of what it costs on both sides, as a logarithm; its variance between runs,
//! which is what samples make (`1/count`) and what runs add (a square of a coefficient of variation), drawn
//! towards that of all functions (limma's moderation: with as many degrees of freedom as the spread of the
//! functions' variances says), which gives power with few runs. Where costs are shares of a total, two things
//! are taken out by one regression over all functions that outliers do not pull: what one large change does
//! to the shares of all others (a size factor), and what runs have in common that moves many functions
//! together, as the mix of requests does. Those factors are found in how the runs of one side differ among
//! themselves; how far the sides differ in them follows from the functions that did not change (Wang, Zhao,
//! Hastie and Owen, "Confounder adjustment in multiple hypothesis testing", 2017). Student's t; the rate of
//! false discoveries held by Benjamini and Hochberg.

mod distributions;
mod linear;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use distributions::{median_of_variance, trigamma, trigamma_inverse};
pub(crate) use distributions::{t_quantile, t_two_sided};
use linear::{eigen, median, robust, weighted_median};

/// The weight of what all functions have in common, in degrees of freedom, where the functions are too few
/// to estimate it.
const PRIOR: f64 = 8.0;
/// The most weight that it gets: functions are never taken for equal.
const MAX_PRIOR: f64 = 64.0;
/// How many functions it takes to estimate it.
const ENOUGH_FUNCTIONS: usize = 50;
/// How many functions say whether their effects are larger than chance makes them.
const ENOUGH_FOR_SCALE: usize = 20;
/// How far beyond noise a factor must be: of less than that what is found is in part noise, and without it
/// the rest looks smaller than it is. 1.1 and 1.5 gave 9 % and 4 % of comparisons with a false alarm.
const EDGE: f64 = 1.5;
/// The rate of false discoveries. 0.05 gave more than 5 % of comparisons with a false alarm.
pub(crate) const Q: f64 = 0.025;
/// Effects below this are no findings.
pub(crate) const MIN_EFFECT: f64 = 0.03;
/// Shares below this are not tested.
pub(crate) const MIN_SHARE: f64 = 0.002;
/// Functions with fewer samples on either side say nothing of how runs differ.
const MIN_SAMPLES: f64 = 20.0;

/// One side: runs by columns of functions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Side {
    /// What each run costs in all.
    pub(crate) totals: Vec<f64>,
    /// How much each run did: work units or seconds. None: costs are shares of the total.
    pub(crate) work: Option<Vec<f64>>,
    /// By run and function.
    pub(crate) values: Vec<Vec<f64>>,
    /// What one sample stands for.
    pub(crate) each: f64,
}

/// What is known of a function's difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Test {
    /// The ends of the 95 % interval of the difference: of shares, or of costs for a unit of work.
    pub(crate) interval: (f64, f64),
    /// The chance of a false discovery among all those that are at most as large; 1 if it was not tested.
    pub(crate) q: f64,
    /// The logarithm of the ratio, without what is common to all.
    pub(crate) effect: f64,
    /// Half the width of its 95 % interval.
    pub(crate) margin: f64,
}

impl Test {
    /// Whether it is a finding.
    pub(crate) fn is_finding(&self) -> bool {
        self.q <= Q && self.effect.abs() > (1.0 + MIN_EFFECT).ln()
    }
}

/// Two sides compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comparison {
    /// By function; those that are too small are not tested.
    pub(crate) tests: Vec<Test>,
    /// How many standard errors a margin is.
    pub(crate) reach: f64,
    /// How many sources of variation that runs have in common were taken out.
    pub(crate) factors: usize,
    /// The variance of a function's logarithm from run to run, beside what samples make.
    pub(crate) between: f64,
    /// How many functions were tested.
    pub(crate) tested: usize,
}

/// A function on one side.
#[derive(Debug, Clone, Default)]
struct Ratio {
    /// What it costs for what it is of.
    p: f64,
    /// What half a sample is of it.
    least: f64,
    /// How many samples it is of, at least half of one.
    samples: f64,
    /// The variance of a run's logarithm that samples make.
    sampling: f64,
    /// By run: how far it is from the side, in parts.
    residuals: Vec<f64>,
}

impl Side {
    fn runs(&self) -> f64 {
        self.totals.len() as f64
    }

    /// What costs are of, by run.
    fn denominators(&self) -> &[f64] {
        self.work.as_ref().unwrap_or(&self.totals)
    }

    fn ratio(&self, function: usize) -> Ratio {
        let of = self.denominators();
        let whole: f64 = of.iter().sum();
        let value = |run: &Vec<f64>| run.get(function).copied().unwrap_or_default();
        let sum: f64 = self.values.iter().map(value).sum();
        if whole <= 0.0 {
            return Ratio {
                samples: 0.5,
                residuals: vec![0.0; self.totals.len()],
                ..Ratio::default()
            };
        }
        let p = sum / whole;
        let mean = whole / self.runs();
        let residual = |(run, n): (&Vec<f64>, &f64)| match p > 0.0 {
            true => (value(run) - n * p) / (mean * p),
            false => 0.0,
        };
        let samples = (sum / self.each.max(1.0)).max(0.5);
        // Of a function that is everything the share is as sure as one sample more would leave it.
        let rest = match self.work {
            None => (1.0 - p).clamp(0.5 / samples, 1.0),
            Some(_) => 1.0,
        };
        Ratio {
            p,
            least: 0.5 * self.each.max(1.0) / whole,
            samples,
            sampling: rest * self.runs() / samples,
            residuals: self.values.iter().zip(of).map(residual).collect(),
        }
    }
}

/// Compares two sides, each of two runs or more, function by function.
pub(crate) fn compare(base: &Side, new: &Side, functions: usize) -> Comparison {
    let ratios: Vec<[Ratio; 2]> =
        (0..functions).map(|at| [base.ratio(at), new.ratio(at)]).collect();
    let cost = |side: &Side, at: usize| -> f64 {
        side.values.iter().map(|run| run.get(at).copied().unwrap_or_default()).sum()
    };
    let whole: f64 = base.totals.iter().chain(&new.totals).sum();
    let has_both = [base, new].iter().all(|side| side.totals.iter().sum::<f64>() > 0.0);
    let is_tested = |at: &usize| has_both && cost(base, *at) + cost(new, *at) > MIN_SHARE * whole;
    let tested: Vec<usize> = (0..functions).filter(is_tested).collect();
    let model = Model::new(&ratios, &tested, [base.runs(), new.runs()], base.work.is_none());
    let mut comparison = Comparison {
        tests: ratios.iter().map(|pair| model.plain(pair)).collect(),
        reach: model.reach,
        factors: model.vectors.len(),
        between: model.between,
        tested: tested.len(),
    };
    for at in &tested {
        comparison.tests[*at] = model.test(&ratios[*at]);
    }
    let chances = model.chances(&comparison.tests, tested);
    for (at, q) in false_discovery_rates(chances) {
        comparison.tests[at].q = q;
    }
    comparison
}

/// The ratio of two totals with its 95 % interval and its chance if there is no difference, from runs; none
/// if they are too few or one cost nothing. Student's t of logarithms.
pub(crate) fn ratio_of_totals(base: &[f64], new: &[f64]) -> Option<(f64, (f64, f64), f64)> {
    let degrees = (base.len() + new.len()) as f64 - 2.0;
    if base.len() < 2 || new.len() < 2 || base.iter().chain(new).any(|total| *total <= 0.0) {
        return None;
    }
    let mean = |all: &[f64]| all.iter().map(|it| it.ln()).sum::<f64>() / all.len() as f64;
    let means = [mean(base), mean(new)];
    let squares =
        |all: &[f64], mean: f64| all.iter().map(|it| (it.ln() - mean).powi(2)).sum::<f64>();
    let variance = (squares(base, means[0]) + squares(new, means[1])) / degrees;
    let error = (variance * (1.0 / base.len() as f64 + 1.0 / new.len() as f64)).sqrt();
    let effect = means[1] - means[0];
    let reach = t_quantile(0.975, degrees) * error;
    let chance = match error > 0.0 {
        true => t_two_sided(effect / error, degrees),
        false => f64::from(effect == 0.0),
    };
    Some((effect.exp(), ((effect - reach).exp(), (effect + reach).exp()), chance))
}

/// What is common to all functions.
struct Model {
    runs: [f64; 2],
    /// Degrees of freedom of the runs, and what is left of them without factors.
    freedom: f64,
    left: f64,
    /// The variance between runs that samples do not make, without factors and with what they do.
    between: f64,
    with_factors: f64,
    /// The weight of what functions have in common, likewise.
    prior: f64,
    prior_with_factors: f64,
    /// The factors, by run, each of length 1.
    vectors: Vec<Vec<f64>>,
    /// How far the sides differ in them.
    differences: Vec<f64>,
    /// By how much the logarithms of most functions differ.
    size_factor: f64,
    /// How many standard errors the 95 % intervals reach, without factors and with them.
    reach: f64,
    reach_with_factors: f64,
}

impl Model {
    fn new(ratios: &[[Ratio; 2]], tested: &[usize], runs: [f64; 2], is_share: bool) -> Self {
        let freedom = runs[0] + runs[1] - 2.0;
        let mut model = Self {
            runs,
            freedom,
            left: freedom,
            between: 0.0,
            with_factors: 0.0,
            prior: PRIOR,
            prior_with_factors: PRIOR,
            vectors: Vec::new(),
            differences: Vec::new(),
            size_factor: 0.0,
            reach: 0.0,
            reach_with_factors: 0.0,
        };
        let known: Vec<&[Ratio; 2]> = tested
            .iter()
            .map(|at| &ratios[*at])
            .filter(|pair| pair.iter().all(|one| one.samples >= MIN_SAMPLES))
            .collect();
        model.estimate(&known);
        (model.with_factors, model.prior_with_factors) = (model.between, model.prior);
        if is_share {
            for _ in 0..2 {
                model.vectors = model.factors(&known);
                model.left = freedom - model.vectors.len() as f64;
                model.estimate(&known);
            }
            model.regress(&known);
        }
        model.reach = t_quantile(0.975, model.left + model.prior);
        model.reach_with_factors = t_quantile(0.975, freedom + model.prior_with_factors);
        model
    }

    /// The variance of a run's logarithm on each side.
    fn variances(&self, pair: &[Ratio; 2], between: f64) -> [f64; 2] {
        [pair[0].sampling + between, pair[1].sampling + between]
    }

    /// How far runs are from their sides, in standard deviations of one run.
    fn deviations(&self, pair: &[Ratio; 2], between: f64) -> Vec<f64> {
        let [base, new] = self.variances(pair, between);
        let scale = ((base + new) / 2.0).sqrt();
        pair.iter().flat_map(|one| &one.residuals).map(|residual| residual / scale).collect()
    }

    /// The mean square of what is left without factors, in variances of the model.
    fn dispersion(&self, pair: &[Ratio; 2], between: f64) -> f64 {
        let deviations = self.deviations(pair, between);
        let all: f64 = deviations.iter().map(|it| it * it).sum();
        let explained: f64 = self.vectors.iter().map(|it| product(it, &deviations).powi(2)).sum();
        (all - explained).max(1e-9) / self.left
    }

    /// Finds what runs add to the variance, and how alike functions are in that.
    fn estimate(&mut self, known: &[&[Ratio; 2]]) {
        if known.is_empty() {
            return;
        }
        let middle = median_of_variance(self.left);
        let is_above = |between: f64| {
            let all = known.iter().map(|pair| self.dispersion(pair, between)).collect();
            median(all) > middle
        };
        let (mut low, mut high) = (0.0, 10.0);
        if is_above(low) {
            for _ in 0..40 {
                let between = (low + high) / 2.0;
                if is_above(between) { low = between } else { high = between }
            }
        } else {
            high = 0.0;
        }
        self.between = high;
        if known.len() < ENOUGH_FUNCTIONS {
            self.prior = PRIOR.min(known.len() as f64);
            return;
        }
        let logs: Vec<f64> = known.iter().map(|pair| self.dispersion(pair, high).ln()).collect();
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let spread = logs.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let excess = spread - trigamma(self.left / 2.0);
        self.prior = match excess > 0.0 {
            true => (2.0 * trigamma_inverse(excess)).min(MAX_PRIOR),
            false => MAX_PRIOR,
        };
    }

    /// The directions in which runs differ more than functions do by themselves.
    fn factors(&self, known: &[&[Ratio; 2]]) -> Vec<Vec<f64>> {
        let runs = (self.runs[0] + self.runs[1]) as usize;
        let count = known.len() as f64;
        // As many as leave half of the degrees of freedom, and have twenty functions each to be seen in.
        let most = ((self.freedom / 2.0) as usize).min(known.len() / 20);
        if most == 0 {
            return Vec::new();
        }
        let mut covariance = vec![vec![0.0; runs]; runs];
        for pair in known {
            let deviations = self.deviations(pair, self.between);
            for (row, a) in covariance.iter_mut().zip(&deviations) {
                for (sum, b) in row.iter_mut().zip(&deviations) {
                    *sum += a * b / count;
                }
            }
        }
        let pairs = eigen(covariance);
        let freedom = self.freedom as usize;
        let mut vectors = Vec::new();
        for (at, (value, vector)) in pairs.iter().take(most).enumerate() {
            let others = &pairs[at + 1..freedom.max(at + 1)];
            let noise = others.iter().map(|it| it.0).sum::<f64>() / others.len().max(1) as f64;
            // What the largest eigenvalue of noise alone is (Marchenko and Pastur).
            let edge = (1.0 + ((freedom - at) as f64 / count).sqrt()).powi(2);
            if *value < EDGE * edge * noise {
                break;
            }
            vectors.push(vector.clone());
        }
        vectors
    }

    /// How far the sides differ in the factors and in what is common to all functions.
    fn regress(&mut self, known: &[&[Ratio; 2]]) {
        let difference = |pair: &[Ratio; 2]| (pair[1].p / pair[0].p).ln();
        let weight = |pair: &[Ratio; 2]| pair[0].p.min(pair[1].p);
        let start =
            weighted_median(known.iter().map(|pair| (difference(pair), weight(pair))).collect());
        let scale = |pair: &[Ratio; 2]| {
            let [base, new] = self.variances(pair, self.between);
            ((base + new) / 2.0).sqrt()
        };
        let values: Vec<f64> = known.iter().map(|pair| difference(pair) / scale(pair)).collect();
        let mut columns = vec![known.iter().map(|pair| 1.0 / scale(pair)).collect::<Vec<f64>>()];
        for vector in &self.vectors {
            let loading =
                |pair: &&[Ratio; 2]| product(vector, &self.deviations(pair, self.between));
            columns.push(known.iter().map(loading).collect());
        }
        let mut coefficients = vec![0.0; columns.len()];
        coefficients[0] = start;
        let coefficients = robust(&columns, &values, coefficients);
        self.size_factor = coefficients[0];
        self.differences = coefficients[1..].to_vec();
    }

    /// The test of a function, but for its rate of false discoveries.
    fn test(&self, pair: &[Ratio; 2]) -> Test {
        let [base, new] = self.variances(pair, self.between);
        let deviations = self.deviations(pair, self.between);
        let scale = ((base + new) / 2.0).sqrt();
        let of_factors: f64 = self
            .vectors
            .iter()
            .zip(&self.differences)
            .map(|(vector, by)| by * product(vector, &deviations) * scale)
            .sum();
        let effect = logarithm(pair) - self.size_factor - of_factors;
        // What is taken out has an error of its own.
        let taken: f64 = self.differences.iter().map(|by| by * by).sum::<f64>() * scale * scale;
        let degrees = self.left + self.prior;
        let phi = (self.prior + self.left * self.dispersion(pair, self.between)) / degrees;
        let modelled = base / self.runs[0] + new / self.runs[1] + taken;
        let sampled = pair[0].sampling / self.runs[0] + pair[1].sampling / self.runs[1];
        let error = (phi * modelled).max(sampled).sqrt();
        Test { effect, margin: self.reach * error, ..self.plain(pair) }
    }

    /// The chances of all tests, by function. Most functions do not change, so if effects are more errors
    /// from 0 than chance makes them, the errors are too small, by that factor (Efron's empirical null).
    fn chances(&self, tests: &[Test], tested: Vec<usize>) -> Vec<(usize, f64)> {
        let degrees = self.left + self.prior;
        let t = |at: usize| tests[at].effect / tests[at].margin * self.reach;
        let middle = median(tested.iter().map(|at| t(*at).abs()).collect());
        let excess = match tested.len() >= ENOUGH_FOR_SCALE {
            true => (middle / t_quantile(0.75, degrees)).max(1.0),
            false => 1.0,
        };
        tested.into_iter().map(|at| (at, t_two_sided(t(at) / excess, degrees))).collect()
    }

    /// What is known without taking anything out.
    fn plain(&self, pair: &[Ratio; 2]) -> Test {
        let between = self.with_factors;
        let degrees = self.freedom + self.prior_with_factors;
        let squares: f64 = self.deviations(pair, between).iter().map(|it| it * it).sum();
        let phi = (self.prior_with_factors + squares) / degrees;
        let variances = self.variances(pair, between);
        let squares: f64 = pair
            .iter()
            .zip(variances)
            .zip(self.runs)
            .map(|((one, variance), runs)| {
                let floor = one.sampling / runs;
                one.p * one.p * (phi * variance / runs).max(floor)
            })
            .sum();
        let (delta, error) = (pair[1].p - pair[0].p, squares.sqrt());
        let reach = self.reach_with_factors * error;
        let effect = logarithm(pair) - self.size_factor;
        Test { interval: (delta - reach, delta + reach), q: 1.0, effect, margin: f64::INFINITY }
    }
}

/// The logarithm of the ratio; of what is not there at all half a sample, which has one.
fn logarithm(pair: &[Ratio; 2]) -> f64 {
    let [base, new] = pair.each_ref().map(|one| one.p.max(one.least));
    if base > 0.0 && new > 0.0 { (new / base).ln() } else { 0.0 }
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Benjamini's and Hochberg's rates of chances.
fn false_discovery_rates(mut chances: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
    let count = chances.len() as f64;
    chances.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut least = 1.0_f64;
    let largest_first = chances.iter_mut().enumerate();
    for (place, (_, chance)) in largest_first {
        let rank = count - place as f64;
        least = least.min(*chance * count / rank);
        *chance = least;
    }
    chances
}
