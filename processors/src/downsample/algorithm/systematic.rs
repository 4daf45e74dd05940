//! Choosing and rounding by even steps along the order of items.
//!
//! One random number decides for all items: cumulative sums are cut wherever they pass a step. So a
//! run of neighbours, such as a subtree, gets its share to less than one step, surely.

use super::random::Random;

/// Which items are chosen: `draws` of them, each with a chance of its weight in `total` times
/// `draws`, which must not be above one. `total` is the sum of the weights.
pub(super) fn choose(
    weights: impl Iterator<Item = u64>,
    total: u128,
    draws: usize,
    random: &mut Random,
) -> Vec<bool> {
    let start = random.below(total);
    let (mut sum, mut passed) = (0_u128, 0_u128);
    weights
        .map(|weight| {
            sum += u128::from(weight);
            // Below 2⁹⁵ times 2³².
            let steps = (sum * draws as u128 + start).checked_div(total).unwrap_or(0);
            let chosen = steps > passed;
            passed = steps;
            chosen
        })
        .collect()
}

/// `total` in `parts` whole numbers that are all `total / parts` in expectation and differ from it
/// by less than one. Their sum is exactly `total`.
pub(super) fn share(total: u128, parts: usize, random: &mut Random) -> impl Iterator<Item = u128> {
    let parts = parts as u128;
    let start = random.below(parts);
    let step = move |at: u128| (total * at + start) / parts.max(1);
    (0..parts).map(move |at| step(at + 1) - step(at))
}

/// Bits behind the point in [`round`].
const FRACTION: u32 = 32;

/// Whole numbers that are `values` in expectation and differ from them by less than one. Their sum
/// is `exactly`, if given (and any value is above 0), else that of the values rounded up or down.
/// Values must be finite, not negative and below 2⁶³; those of 0 stay 0.
pub(super) fn round(values: &[f64], exactly: Option<u128>, random: &mut Random) -> Vec<u64> {
    let start = random.below(1 << FRACTION);
    let scale = (1_u64 << FRACTION) as f64;
    let (mut sum, mut passed) = (0_u128, 0_u128);
    // A value of 0 must stay 0: what is not kept would come back.
    let last = values.iter().rposition(|value| *value > 0.0).unwrap_or(0);
    let whole = |(at, value): (usize, &f64)| {
        if *value <= 0.0 {
            return 0;
        }
        sum += (value * scale) as u128;
        if let Some(exactly) = exactly {
            // What is lost by floating point shows at the end only.
            sum = if at == last { exactly << FRACTION } else { sum.min(exactly << FRACTION) };
        }
        let steps = (sum + start) >> FRACTION;
        let step = steps - passed;
        passed = steps;
        u64::try_from(step).unwrap_or(u64::MAX)
    };
    values.iter().enumerate().map(whole).collect()
}
