//! Randomness as a parameter: the same seed gives the same choice, on every machine.
//!
//! xoshiro256++ (Blackman and Vigna), its state filled by SplitMix64 as its authors advise.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random([u64; 4]);

/// SplitMix64: the next state and its output.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A well mixed number of its own for every `at`.
pub(super) fn mixed(at: u64) -> u64 {
    let mut state = at;
    split_mix(&mut state)
}

impl Random {
    /// The stream number `stream` of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut state = seed ^ mixed(stream);
        Self(std::array::from_fn(|_| split_mix(&mut state)))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..end`, 0 if that is empty. Off by less than `end` / 2¹²⁸.
    pub(super) fn below(&mut self, end: u128) -> u128 {
        let wide = u128::from(self.bits()) << 64 | u128::from(self.bits());
        wide.checked_rem(end).unwrap_or(0)
    }
}
