//! Estimates that err on the safe side.

/// A cost with its usual deviation: quick to rise, slow to fall.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    mean: f64,
    deviation: f64,
}

impl Cost {
    /// A first guess.
    pub(super) fn new(mean: f64, deviation: f64) -> Self {
        Self { mean, deviation }
    }

    /// Takes note of a measurement.
    pub(super) fn observe(&mut self, measured: f64) {
        let difference = measured - self.mean;
        let gain = if difference > 0.0 { 0.7 } else { 0.3 };
        self.mean += gain * difference;
        self.deviation = 0.8 * self.deviation + 0.2 * difference.abs();
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// What it rarely exceeds.
    pub(super) fn upper(&self) -> f64 {
        self.mean + 2.0 * self.deviation
    }

    /// The same cost where everything takes `factor` as long.
    pub(super) fn scale(&mut self, factor: f64) {
        self.mean *= factor;
        self.deviation *= factor;
    }
}

/// The highest of late: what is higher counts at once, what is lower gains by `fade` a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peak(f64);

impl Peak {
    pub(super) fn observe(&mut self, measured: f64, seconds: f64, fade: f64) {
        let faded = self.0 * (1.0 - fade).powf(seconds);
        self.0 = faded.max(measured);
    }

    pub(super) fn get(self) -> f64 {
        self.0
    }
}

/// A mean over about so many seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean(f64);

impl Mean {
    /// A first guess.
    pub(super) fn from(value: f64) -> Self {
        Self(value)
    }

    /// Takes note of what a window of so many seconds was like.
    pub(super) fn observe(&mut self, measured: f64, seconds: f64, time: f64) {
        let gain = 1.0 - (-seconds / time).exp();
        self.0 += gain * (measured - self.0);
    }

    pub(super) fn get(self) -> f64 {
        self.0
    }
}

/// What is left free of every window so that one in two hundred is over the budget: it grows by each
/// that is, and shrinks a little by each that is not (a stochastic approximation of that quantile;
/// Robbins and Monro 1951). So it needs no model of what costs are spread like. What was learnt is
/// doubted for a while where costs change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Margin {
    learnt: f64,
    doubt: f64,
}

impl Margin {
    /// The share of windows that may be over.
    const OVER: f64 = 0.005;
    /// By how much it grows, in budgets.
    const STEP: f64 = 0.2;
    /// The least and the most.
    const BOUNDS: (f64, f64) = (0.02, 0.6);
    /// What is left where little is known, and over how many seconds that passes.
    const DOUBT: (f64, f64) = (0.35, 20.0);

    pub(super) fn new() -> Self {
        Self { learnt: 0.15, doubt: 0.15 }
    }

    /// What was learnt may not hold any more.
    pub(super) fn doubt(&mut self) {
        self.doubt = Self::DOUBT.0;
    }

    /// Takes note of what a window of so many seconds cost, in budgets.
    pub(super) fn observe(&mut self, cost: f64, seconds: f64) {
        let step = if cost > 1.0 { 1.0 - Self::OVER } else { -Self::OVER * seconds };
        let (least, most) = Self::BOUNDS;
        self.learnt = (self.learnt + Self::STEP * step).clamp(least, most);
        self.doubt *= (-seconds / Self::DOUBT.1).exp();
    }

    /// In budgets.
    pub(super) fn get(self) -> f64 {
        (self.learnt + self.doubt).min(Self::BOUNDS.1)
    }
}
