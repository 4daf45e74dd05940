#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::allocation::divide;
use super::random::Random;
use super::threshold::Threshold;
use super::{cube, rake, systematic};

/// Weights with a heavy tail.
fn weights(count: usize, seed: u64) -> Vec<u64> {
    let random = &mut Random::new(seed, 0);
    (0..count).map(|_| (1.0 / (random.unit() + 1e-4)) as u64 + 1).collect()
}

/// Scenario: thresholds for all numbers of kept items, of skewed, equal, huge and zero weights.
/// Guarantees: Σ min(1, w/τ) is that number; heavy items are those of at least τ; nothing is light
/// where all are kept.
#[test]
fn thresholds_keep_what_is_wanted() {
    let huge = vec![i64::MAX as u64; 50];
    for all in [weights(200, 1), vec![7; 100], huge, vec![1, 1, 1_000_000], vec![0, 5, 0, 3, 2]] {
        let positive = all.iter().filter(|weight| **weight > 0).count();
        for keep in 1..all.len() + 2 {
            let threshold = Threshold::of(all.clone(), keep);
            if keep >= positive {
                assert_eq!(threshold, Threshold { light: 0, draws: 0 });
                continue;
            }
            let tau = threshold.tau();
            let sum: f64 = all.iter().map(|weight| (*weight as f64 / tau).min(1.0)).sum();
            assert!((sum - keep as f64).abs() < 1e-6 * keep as f64, "{sum} {keep}");
            let heavy = all.iter().filter(|weight| threshold.is_heavy(**weight)).count();
            assert_eq!(heavy + threshold.draws, keep);
        }
    }
}

/// Scenario: choosing, sharing and rounding by even steps, many times.
/// Guarantees: the number and the sums are exact; every prefix is within one step; each item is
/// chosen as often as its weight says.
#[test]
fn even_steps_are_exact() {
    let all = weights(60, 2);
    let threshold = Threshold::of(all.clone(), 20);
    let light: Vec<u64> =
        all.iter().copied().filter(|weight| !threshold.is_heavy(*weight)).collect();
    let random = &mut Random::new(3, 0);
    let mut counts = vec![0.0; light.len()];
    for _ in 0..4000 {
        let chosen =
            systematic::choose(light.iter().copied(), threshold.light, threshold.draws, random);
        assert_eq!(chosen.iter().filter(|chosen| **chosen).count(), threshold.draws);
        let (mut weight, mut number) = (0.0, 0.0);
        for (at, chosen) in chosen.iter().enumerate() {
            weight += light[at] as f64 / threshold.tau();
            number += f64::from(u8::from(*chosen));
            assert!((weight - number).abs() < 1.0 + 1e-9);
            counts[at] += f64::from(u8::from(*chosen));
        }
    }
    for (count, weight) in counts.iter().zip(&light) {
        let expected = 4000.0 * *weight as f64 / threshold.tau();
        assert!((count - expected).abs() < 5.0 * expected.sqrt(), "{count} {expected}");
    }
    for (total, parts) in [(10, 3), (0, 2), (u128::from(u64::MAX) * 1000, 7), (5, 1)] {
        let shared: Vec<u128> = systematic::share(total, parts, random).collect();
        assert_eq!((shared.len(), shared.iter().sum::<u128>()), (parts, total));
        let even = total / parts as u128;
        assert!(shared.iter().all(|part| *part == even || *part == even + 1));
    }
    let values = [0.25, 3.7, 0.0, 1e15 + 0.5, 2.55];
    let rounded = systematic::round(&values, Some(1_000_000_000_000_007), random);
    assert_eq!(rounded.iter().sum::<u64>(), 1_000_000_000_000_007);
    assert!(rounded.iter().zip(values).all(|(whole, value)| (*whole as f64 - value).abs() <= 1.0));
    assert!(systematic::round(&[], None, random).is_empty());
    // What is missing goes to the last that is kept: one that is not never comes back.
    let values = [0.0, 2.5 - 1e-6, 0.0, 1.5 - 1e-6, 0.0];
    for _ in 0..1000 {
        let rounded = systematic::round(&values, Some(4), random);
        assert_eq!(rounded.iter().sum::<u64>(), 4);
        assert_eq!([rounded[0], rounded[2], rounded[4]], [0; 3]);
    }
}

/// Scenario: items that count for random sums, settled many times; as many left as there are sums,
/// and fewer.
/// Guarantees: each chance is kept on average; every sum is met exactly, the first ones where some
/// had to be given up; no more are left than may be.
#[test]
fn the_cube_is_fair_and_balanced() {
    let (count, sums) = (400_usize, 12_usize);
    let random = &mut Random::new(5, 0);
    let chances: Vec<f64> = (0..count).map(|_| 0.02 + 0.5 * random.unit()).collect();
    let columns: Vec<Vec<u16>> = (0..count)
        .map(|at| {
            // Nested runs, as nodes are, and sets across them, as functions are.
            let nested = (1..6).filter(|sum| at < count / sum);
            let across = (6..sums).filter(|sum| at % sum == 0 || (*sum == 11 && at % 2 == 0));
            let all = [0].into_iter().chain(nested).chain(across);
            all.map(|sum| sum as u16).collect()
        })
        .collect();
    let columns: Vec<&[u16]> = columns.iter().map(Vec::as_slice).collect();
    let sum_of = |chances: &[f64], sum: usize| -> f64 {
        let with = chances.iter().zip(&columns);
        with.filter(|(_, column)| column.contains(&(sum as u16))).map(|(chance, _)| chance).sum()
    };
    let expected: f64 = chances.iter().sum();
    for (most, exact) in [(count, sums), (expected.ceil() as usize + 2, 1)] {
        let mut means = vec![0.0; count];
        let trials = 600;
        for _ in 0..trials {
            let mut settled = chances.clone();
            cube::settle(&mut settled, &columns, sums, most, random);
            let left = settled.iter().filter(|chance| **chance > 0.0).count();
            let open = settled.iter().filter(|chance| !cube::is_settled(**chance)).count();
            assert!(left <= most && open <= sums, "{left} {open}");
            assert!(settled.iter().all(|chance| (0.0..=1.0).contains(chance)));
            for sum in 0..exact {
                let off = sum_of(&settled, sum) - sum_of(&chances, sum);
                assert!(off.abs() < 1e-6, "{sum} is off by {off}");
            }
            means.iter_mut().zip(&settled).for_each(|(mean, chance)| *mean += chance);
        }
        for (mean, chance) in means.iter().zip(&chances) {
            let off = mean / f64::from(trials) - chance;
            let deviation = (chance * (1.0 - chance) / f64::from(trials)).sqrt();
            assert!(off.abs() < 4.5 * deviation, "{off} {deviation}");
        }
    }
}

/// Scenario: sums of few items, one that depends on others, one that no item stands for, and one
/// that is far off.
/// Guarantees: factors meet the sums that can be met; factors out of bounds are none at all.
#[test]
fn calibration_meets_sums() {
    let patterns = [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 2], vec![0, 3]];
    let found = [10.0, 5.0, 4.0, 6.0, 0.0];
    let aims = [26.0, 9.5, 10.2, 1.0];
    let factors = rake::factors(&patterns, &found, &aims).unwrap();
    for (sum, aim) in aims.iter().enumerate().take(3) {
        let with = patterns.iter().zip(&found).zip(&factors);
        let met: f64 = with
            .filter(|((pattern, _), _)| pattern.contains(&(sum as u16)))
            .map(|((_, found), factor)| found * factor)
            .sum();
        assert!((met - aim).abs() < 1e-6, "{met} {aim}");
    }
    assert_eq!(rake::factors(&patterns, &found, &[25.0, 0.9, 10.0, 0.0]), None);
    assert_eq!(rake::factors(&patterns, &[0.0; 5], &[0.0; 4]).map(|all| all.len()), Some(5));
}

/// Scenario: an amount divided between strata of different sizes, some of which are full.
/// Guarantees: the sum is the amount, within bounds, larger ones get more; nobody gets nothing.
#[test]
fn amounts_are_divided() {
    assert_eq!(divide(100, &[1000], &[5.0]), [100]);
    let parts = divide(1000, &[5000, 5000, 5000], &[1.0, 4.0, 16.0]);
    assert_eq!(parts.iter().sum::<usize>(), 1000);
    assert!(parts[0] < parts[1] && parts[1] < parts[2] && parts[0] > 100, "{parts:?}");
    let parts = divide(1000, &[50, 5000, 5000], &[100.0, 1.0, 1.0]);
    assert_eq!((parts[0], parts.iter().sum::<usize>()), (50, 1000));
    assert_eq!(divide(100, &[10, 10], &[1.0, 1.0]), [10, 10]);
    assert_eq!(divide(2, &[10, 10, 10], &[0.0, 0.0, 0.0]).iter().min(), Some(&1));
    assert!(divide(5, &[], &[]).is_empty());
}
