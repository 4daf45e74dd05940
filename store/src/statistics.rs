//! Whether shares differ between two groups of runs: a ratio estimator whose error comes from the runs and
//! never from single samples, which are not independent.
//!
//! For each function: the cluster-robust variance of its share; the overdispersion that this means, drawn
//! towards that of all functions (`PRIOR` degrees of freedom, as limma does for genes), which gives power
//! with few runs; a size factor, so that one function that doubles does not make all others look faster;
//! Student's t; and the rate of false discoveries held by Benjamini and Hochberg.

#[cfg(test)]
mod tests;

/// The weight of what all functions have in common, in degrees of freedom.
const PRIOR: f64 = 8.0;
/// The rate of false discoveries.
pub(crate) const Q: f64 = 0.05;
/// Effects below this are no findings.
const MIN_EFFECT: f64 = 0.03;
/// Shares below this are not tested.
const MIN_SHARE: f64 = 0.002;

/// One side: runs by columns of functions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Side {
    /// The total of each run.
    pub(crate) totals: Vec<f64>,
    /// By run and function.
    pub(crate) values: Vec<Vec<f64>>,
    /// What one sample stands for.
    pub(crate) each: f64,
}

/// What is known of a function's difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Test {
    /// The ends of the 95 % interval of the difference of shares.
    pub(crate) interval: (f64, f64),
    /// The chance of a false discovery among all those that are at most as large; 1 if it was not tested.
    pub(crate) q: f64,
    /// The logarithm of the ratio of shares, against the usual one.
    pub(crate) effect: f64,
}

impl Test {
    /// Whether it is a finding.
    pub(crate) fn is_finding(&self) -> bool {
        self.q <= Q && self.effect.abs() > (1.0 + MIN_EFFECT).ln()
    }
}

struct Share {
    p: f64,
    variance: f64,
    /// How many samples the share is of.
    samples: f64,
}

impl Side {
    fn share(&self, function: usize) -> Share {
        let runs = self.totals.len() as f64;
        let total: f64 = self.totals.iter().sum();
        let value = |run: &Vec<f64>| run.get(function).copied().unwrap_or_default();
        let sum: f64 = self.values.iter().map(value).sum();
        let p = if total > 0.0 { sum / total } else { 0.0 };
        let residuals = self.values.iter().zip(&self.totals).map(|(run, n)| value(run) - n * p);
        let squares: f64 = residuals.map(|residual| residual * residual).sum();
        let variance = runs / (runs - 1.0) * squares / (total * total);
        Share { p, variance, samples: (total / self.each.max(1.0)).max(1.0) }
    }
}

/// Compares two sides, each of two runs or more, function by function.
pub(crate) fn compare(base: &Side, new: &Side, functions: usize) -> Vec<Test> {
    let shares: Vec<(Share, Share)> =
        (0..functions).map(|at| (base.share(at), new.share(at))).collect();
    let freedom = (base.totals.len() + new.totals.len()) as f64 - 2.0;
    let binomial = |of: &Share, p: f64| p * (1.0 - p) / of.samples;
    let pooled = |a: &Share, b: &Share| {
        let samples = a.samples + b.samples;
        (a.p * a.samples + b.p * b.samples) / samples
    };
    let dispersion = |(a, b): &(Share, Share)| {
        let p = pooled(a, b);
        let expected = binomial(a, p) + binomial(b, p);
        if expected > 0.0 { (a.variance + b.variance) / expected } else { 1.0 }
    };
    let dispersions: Vec<f64> = shares.iter().map(dispersion).collect();
    let common = running_median(&shares, &dispersions);
    let factor = size_factor(&shares);
    let degrees = freedom + PRIOR;
    let critical = t_quantile(0.975, degrees);
    let mut tests: Vec<Test> = Vec::with_capacity(functions);
    let mut tested: Vec<(usize, f64)> = Vec::new();
    for (at, (a, b)) in shares.iter().enumerate() {
        let phi = ((PRIOR * common[at] + freedom * dispersions[at]) / degrees).max(1.0);
        let p = pooled(a, b);
        let error = (phi * (binomial(a, p) + binomial(b, p))).sqrt();
        let delta = b.p - a.p;
        let interval = (delta - critical * error, delta + critical * error);
        // Half a sample for none at all, which has no logarithm.
        let floor = |of: &Share| of.p.max(0.5 / of.samples);
        let (low, high) = (floor(a), floor(b));
        let effect = (high / low).ln() - factor;
        let of_logs = phi * (binomial(a, low) / (low * low) + binomial(b, high) / (high * high));
        let mut q = 1.0;
        if p > MIN_SHARE && of_logs > 0.0 {
            let t = effect / of_logs.sqrt();
            q = t_two_sided(t, degrees);
            tested.push((at, q));
        }
        tests.push(Test { interval, q, effect });
    }
    for (at, q) in false_discovery_rates(tested) {
        tests[at].q = q;
    }
    tests
}

/// The dispersion of functions of like share: the median of the 51 nearest ones.
fn running_median(shares: &[(Share, Share)], dispersions: &[f64]) -> Vec<f64> {
    const NEAR: usize = 25;
    let mut order: Vec<usize> =
        (0..shares.len()).filter(|at| shares[*at].0.p + shares[*at].1.p > MIN_SHARE).collect();
    order.sort_by(|a, b| {
        let p = |at: &usize| shares[*at].0.p + shares[*at].1.p;
        p(a).total_cmp(&p(b))
    });
    let mut common = vec![1.0; shares.len()];
    for (rank, at) in order.iter().enumerate() {
        let near = rank.saturating_sub(NEAR)..(rank + NEAR + 1).min(order.len());
        let mut values: Vec<f64> = order[near].iter().map(|at| dispersions[*at]).collect();
        values.sort_by(f64::total_cmp);
        common[*at] = values[values.len() / 2];
    }
    common
}

/// By how much the shares of most functions differ, which is what one large change does to all others:
/// the weighted median of the logarithms of their ratios.
fn size_factor(shares: &[(Share, Share)]) -> f64 {
    let mut ratios: Vec<(f64, f64)> = shares
        .iter()
        .filter(|(a, b)| a.p > 0.0 && b.p > 0.0)
        .map(|(a, b)| ((b.p / a.p).ln(), a.p.min(b.p)))
        .collect();
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half: f64 = ratios.iter().map(|it| it.1).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    for (ratio, weight) in ratios {
        sum += weight;
        if sum >= half {
            return ratio;
        }
    }
    0.0
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

/// The chance that Student's t is at least so far from 0.
pub(crate) fn t_two_sided(t: f64, degrees: f64) -> f64 {
    if !t.is_finite() {
        return 0.0;
    }
    incomplete_beta(degrees / 2.0, 0.5, degrees / (degrees + t * t))
}

/// The value that Student's t is below with this chance, which is above one half.
pub(crate) fn t_quantile(chance: f64, degrees: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1000.0);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if 1.0 - t_two_sided(middle, degrees) / 2.0 < chance { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The regularized incomplete beta function, by its continued fraction (Numerical Recipes, 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front =
        (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let safe = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / safe(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..300 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / safe(1.0 + even * d);
        c = safe(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / safe(1.0 + odd * d);
        c = safe(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-14 {
            break;
        }
    }
    fraction
}

/// The logarithm of the gamma function, after Lanczos.
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        0.001_208_650_973_866_179,
        -0.000_005_395_239_384_953,
    ];
    let mut sum = 1.000_000_000_190_015;
    let mut y = x;
    for coefficient in COEFFICIENTS {
        y += 1.0;
        sum += coefficient / y;
    }
    let base = x + 5.5;
    (x + 0.5) * base.ln() - base + (2.506_628_274_631_000_5 * sum / x).ln()
}
