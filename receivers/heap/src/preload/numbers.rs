//! Random gaps and weights: the few functions of real numbers that are needed, and random bits.
//!
//! There is no library for that here: a logarithm and an exponential function by their series, to twelve
//! digits.

/// The next random number of a state that is not 0, with 64 bits (xorshift64*).
pub(super) fn random(state: &mut u64) -> u64 {
    let mut bits = *state;
    bits ^= bits >> 12;
    bits ^= bits << 25;
    bits ^= bits >> 27;
    *state = bits;
    bits.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// Spreads a number over all bits, so that similar ones begin different rows; never 0.
pub(super) fn spread(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ bits >> 31) | 1
}

/// A random gap with an exponential distribution of this mean, rounded down: so many bytes pass, and the
/// next one is sampled. What is left of a gap has the same distribution at any time.
pub(super) fn gap(state: &mut u64, mean: u64) -> i64 {
    // 53 bits of (0, 1].
    let uniform = ((random(state) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let gap = -logarithm(uniform) * mean as f64;
    gap as i64
}

/// The bytes that a sampled block of `size` stands for.
pub(super) fn weight(size: u64, mean: u64) -> u64 {
    let size = size as f64;
    (size / chance(size / mean.max(1) as f64)) as u64
}

/// 1 − e^(−x) for x above 0.
fn chance(x: f64) -> f64 {
    if x > 40.0 {
        return 1.0;
    }
    // By halves, until the series is short: 1 − e^(−2y) = c (2 − c), c being 1 − e^(−y).
    let (mut y, mut doublings) = (x, 0);
    while y > 0.01 {
        y *= 0.5;
        doublings += 1;
    }
    let mut chance = y * (1.0 - y / 2.0 * (1.0 - y / 3.0 * (1.0 - y / 4.0 * (1.0 - y / 5.0))));
    for _ in 0..doublings {
        chance *= 2.0 - chance;
    }
    chance
}

/// The natural logarithm of a normal number above 0.
fn logarithm(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let mut fraction = f64::from_bits(bits & (u64::MAX >> 12) | 1023 << 52);
    let mut exponent = exponent as f64;
    if fraction > core::f64::consts::SQRT_2 {
        fraction *= 0.5;
        exponent += 1.0;
    }
    let ratio = (fraction - 1.0) / (fraction + 1.0);
    let square = ratio * ratio;
    let (mut sum, mut power, mut at) = (0.0, ratio, 1.0);
    while at < 20.0 {
        sum += power / at;
        power *= square;
        at += 2.0;
    }
    2.0 * sum + exponent * core::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: numbers over the whole range that is used.
    /// Guarantees: the functions are those of the standard library.
    #[test]
    fn functions_are_exact() {
        let mut x = 1e-16;
        while x < 1e6 {
            assert!((logarithm(x) - x.ln()).abs() <= 1e-12 * x.ln().abs().max(1e-3), "ln {x}");
            let expected = -(-x).exp_m1();
            assert!((chance(x) / expected - 1.0).abs() < 1e-11, "{x}");
            x *= 1.37;
        }
    }

    /// Scenario: a million gaps of a fixed seed.
    /// Guarantees: their mean, their mean square, and the share that is above the mean are those of the
    /// exponential distribution, within five standard errors.
    #[test]
    fn gaps_are_exponential() {
        let (mut state, mean, count) = (spread(1), 1_000_000_u64, 1_000_000);
        let (mut sum, mut squares, mut above) = (0.0, 0.0, 0);
        for _ in 0..count {
            let gap = gap(&mut state, mean) as f64 / mean as f64;
            sum += gap;
            squares += gap * gap;
            above += i32::from(gap > 1.0);
        }
        let count = f64::from(count);
        let root = count.sqrt();
        assert!((sum / count - 1.0).abs() < 5.0 / root, "{}", sum / count);
        assert!((squares / count - 2.0).abs() < 5.0 * 20_f64.sqrt() / root, "{}", squares / count);
        let share = (-1_f64).exp();
        assert!((f64::from(above) / count - share).abs() < 5.0 * 0.49 / root);
    }
}
