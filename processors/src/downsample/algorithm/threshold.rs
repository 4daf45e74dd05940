//! The VarOpt threshold: which items are kept for sure, and what the others stand for.

/// How `k` of some items are kept: those that weigh at least `light / draws` for sure, and of the
/// others so many that each stands for that weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Threshold {
    /// The weight of all items below the threshold.
    pub(super) light: u128,
    /// How many of these are kept; 0 if there are none.
    pub(super) draws: usize,
}

impl Threshold {
    /// The threshold for keeping `keep` (at least one) of items with these weights: the τ for which
    /// Σ min(1, w/τ) = keep. Weights of 0 are never kept. Linear but for sorting the largest.
    pub(super) fn of(mut weights: Vec<u64>, keep: usize) -> Self {
        weights.retain(|weight| *weight > 0);
        let keep = keep.max(1);
        if keep >= weights.len() {
            return Self { light: 0, draws: 0 };
        }
        let mut light: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        weights.select_nth_unstable_by(keep, |a, b| b.cmp(a));
        weights.truncate(keep);
        weights.sort_unstable_by(|a, b| b.cmp(a));
        let mut draws = keep;
        for weight in weights {
            let weight = u128::from(weight);
            // The last draw is never of one item alone: more than `keep` are there.
            if draws == 1 || weight * (draws as u128) < light {
                break;
            }
            light -= weight;
            draws -= 1;
        }
        Self { light, draws }
    }

    /// True if an item of this weight is kept for sure.
    pub(super) fn is_heavy(&self, weight: u64) -> bool {
        weight > 0 && u128::from(weight) * (self.draws as u128) >= self.light
    }

    /// What a kept light item stands for; 0 if there are none.
    pub(super) fn tau(&self) -> f64 {
        if self.draws == 0 { 0.0 } else { self.light as f64 / self.draws as f64 }
    }
}
