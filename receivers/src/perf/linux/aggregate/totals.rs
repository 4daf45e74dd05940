//! Sums that are as large as what was counted exactly.
//!
//! Samples tell how a total is distributed; where the total itself is known, all weights of a window
//! are multiplied so that they add up to it, to the last unit. What was counted of all processes in a
//! window without samples goes to the next one that has some. The total of one process has nothing to do
//! with what stands for no thread of it, and never changes its samples by more than a factor of two.

use hashbrown::HashMap;

use super::{Key, Sum};
use crate::perf::linux::handoff::{EventIx, NO_THREAD, Total};

/// How much larger or smaller the samples of one process may become.
const MOST_CHANGE: u128 = 2;

/// Totals of which there were no samples yet.
#[derive(Debug, Default)]
pub(super) struct Totals {
    waiting: HashMap<(EventIx, Option<u32>), u64>,
}

impl Totals {
    /// Multiplies the weights of a window; `sums` are those of all events and processes.
    pub(super) fn apply(&mut self, totals: &[Total], sums: &mut [(Key, Sum)]) {
        for Total { event, process, value } in totals {
            let of = (*event, *process);
            let value = value.saturating_add(self.waiting.remove(&of).unwrap_or(0));
            let is_of = |key: &Key| {
                let is_of_process = |process| process == key.process && key.tid != NO_THREAD;
                key.event == *event && process.is_none_or(is_of_process)
            };
            let weights = sums.iter().filter(|(key, _)| is_of(key)).map(|(_, sum)| sum.weight);
            let all: u128 = weights.map(u128::from).sum();
            if all > 0 {
                let value = match process {
                    Some(_) => u128::from(value).clamp(all / MOST_CHANGE, all * MOST_CHANGE),
                    None => value.into(),
                };
                let mut scale = Scale { value, all, passed: 0, given: 0 };
                for (_, sum) in sums.iter_mut().filter(|(key, _)| is_of(key)) {
                    scale.apply(sum);
                }
            } else if value > 0 && process.is_none() {
                self.waiting.insert(of, value);
            }
        }
    }
}

/// Multiplies by a fraction one number after the other, so that the sum is exact.
struct Scale {
    value: u128,
    all: u128,
    passed: u128,
    given: u128,
}

impl Scale {
    fn apply(&mut self, sum: &mut Sum) {
        if sum.times.is_empty() {
            sum.weight = self.next(sum.weight);
            return;
        }
        for (_, weight) in &mut sum.times {
            *weight = self.next(*weight);
        }
        sum.weight = sum.times.iter().map(|(_, weight)| *weight).sum();
    }

    fn next(&mut self, weight: u64) -> u64 {
        self.passed += u128::from(weight);
        // Both are below 2^64 times the number of rows: the product does not overflow in practice, and
        // where it would, the total is kept by what is given last.
        let until = self.passed.saturating_mul(self.value) / self.all;
        let given = until.saturating_sub(self.given);
        self.given = until;
        u64::try_from(given).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::perf::linux::handoff::Unwound;

    fn row(event: u8, process: u32, weights: &[u64], timed: bool) -> (Key, Sum) {
        let key = Key {
            process,
            event: EventIx(event),
            label: None,
            tid: process,
            name: 0,
            stack: 1,
            unwound: Unwound::Complete,
        };
        let times = if timed { weights.iter().map(|it| (1, *it)).collect() } else { Vec::new() };
        let (samples, weight) = (weights.len() as i64, weights.iter().sum());
        (key, Sum { samples, weight, events: 1, times })
    }

    proptest! {
        /// Scenario: rows of two events and two processes with any weights, with the times of samples and
        /// without, and any totals.
        /// Guarantees: the weights of what has a total add up to it exactly, each differs from its share by
        /// less than one for every sample; others are as they were; samples add up to their row.
        #[test]
        fn weights_add_up_to_the_total(
            weights in prop::collection::vec(1_u64..1_000_000, 1..40),
            value in 0_u64..1_000_000_000_000,
            timed: bool,
        ) {
            let mut rows: Vec<_> =
                weights.iter().map(|weight| row(1, 1, &[*weight, 7], timed)).collect();
            rows.push(row(1, 2, &[5], timed));
            rows.push(row(0, 1, &[9], timed));
            let all: u64 = weights.iter().map(|weight| weight + 7).sum();
            let value = all / 2 + value % all;
            let total = Total { event: EventIx(1), process: Some(1), value };
            Totals::default().apply(&[total], &mut rows);
            let sum: u64 = rows[..weights.len()].iter().map(|(_, sum)| sum.weight).sum();
            prop_assert_eq!(sum, value);
            for (weight, (_, sum)) in weights.iter().zip(&rows) {
                let share = (weight + 7) as f64 * value as f64 / all as f64;
                prop_assert!((sum.weight as f64 - share).abs() < 2.0 + 1e-9 * share);
                let of_samples: u64 = sum.times.iter().map(|(_, weight)| *weight).sum();
                prop_assert!(!timed || of_samples == sum.weight);
            }
            let others: Vec<_> = rows[weights.len()..].iter().map(|(_, sum)| sum.weight).collect();
            prop_assert_eq!(others, [5, 9]);
        }
    }

    /// Scenario: something is counted in a window without a sample, and then there is one.
    /// Guarantees: the sample's window has both totals.
    #[test]
    fn what_has_no_sample_waits_for_one() {
        let mut totals = Totals::default();
        let total = |value| Total { event: EventIx(1), process: None, value };
        totals.apply(&[total(10)], &mut []);
        let mut rows = [row(1, 1, &[61], false)];
        totals.apply(&[total(50)], &mut rows);
        assert_eq!(rows[0].1.weight, 60);
        let mut rows = [row(1, 1, &[61], false)];
        totals.apply(&[total(50)], &mut rows);
        assert_eq!(rows[0].1.weight, 50);
    }
}
