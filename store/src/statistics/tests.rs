#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;

/// A generator of numbers that is the same everywhere: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.next()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next()).cos()
    }
}

/// Runs of functions whose shares vary from run to run by 5 %; one is larger by a factor.
fn side(numbers: &mut Numbers, runs: usize, functions: usize, factor: f64) -> Side {
    let mut side = Side { each: 1.0, ..Side::default() };
    for _ in 0..runs {
        let shares: Vec<f64> = (0..functions)
            .map(|at| {
                let zipf = 1.0 / (at as f64 + 1.0);
                let changed = if at == 5 { factor } else { 1.0 };
                zipf * changed * (0.05 * numbers.normal()).exp()
            })
            .collect();
        let sum: f64 = shares.iter().sum();
        let values: Vec<f64> = shares
            .iter()
            .map(|share| {
                let mean = 20_000.0 * share / sum;
                (mean + mean.sqrt() * numbers.normal()).round().max(0.0)
            })
            .collect();
        side.totals.push(values.iter().sum());
        side.values.push(values);
    }
    side
}

/// Scenario: 400 comparisons of equal sides of 5 runs each, and 200 in which a function of 3 % takes 50 %
/// more; the seed is fixed.
/// Guarantees: few of the equal ones have any finding, most of the others find it and nothing else.
#[test]
fn findings_are_real() {
    let mut numbers = Numbers(17);
    let functions = 100;
    let mut alarms = 0;
    for _ in 0..400 {
        let (a, b) = (side(&mut numbers, 5, functions, 1.0), side(&mut numbers, 5, functions, 1.0));
        alarms += usize::from(compare(&a, &b, functions).iter().any(Test::is_finding));
    }
    assert!(alarms <= 32, "{alarms} of 400 equal comparisons have a finding");
    let (mut found, mut others, mut covered) = (0, 0, 0);
    for _ in 0..200 {
        let (a, b) = (side(&mut numbers, 5, functions, 1.0), side(&mut numbers, 5, functions, 1.5));
        let tests = compare(&a, &b, functions);
        found += usize::from(tests[5].is_finding() && tests[5].effect > 0.0);
        others +=
            tests.iter().enumerate().filter(|(at, test)| *at != 5 && test.is_finding()).count();
        let sum: f64 = (0..functions).map(|at| 1.0 / (at as f64 + 1.0)).sum();
        let (before, after) = (1.0 / 6.0 / sum, 1.5 / 6.0 / (sum + 0.5 / 6.0));
        let (low, high) = tests[5].interval;
        covered += usize::from(low <= after - before && after - before <= high);
    }
    assert!(found >= 190, "{found} of 200 found");
    assert!(others <= 40, "{others} others");
    assert!(covered >= 180, "{covered} of 200 intervals have the difference in them");
}

/// Scenario: values of Student's t from tables.
/// Guarantees: the same to four digits.
#[test]
fn t_is_that_of_tables() {
    for (degrees, expected) in [(1.0, 12.7062), (5.0, 2.5706), (16.0, 2.1199), (100.0, 1.9840)] {
        assert!((t_quantile(0.975, degrees) - expected).abs() < 1e-3, "{degrees}");
    }
    assert!((t_two_sided(2.0, 10.0) - 0.07339).abs() < 1e-4);
    assert_eq!(t_two_sided(f64::INFINITY, 3.0), 0.0);
}
