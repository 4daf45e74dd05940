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

/// What is left free of every window for what may come unplanned: a little more than the largest
/// surprise of the last minutes, so that few windows are over the budget however costs are
/// spread. What was learnt is doubted for a while where costs change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Margin {
    surprise: Peak,
    doubt: f64,
}

impl Margin {
    /// How much more than the largest surprise, and how much more still where that is large: the
    /// larger surprises are, the larger the next may be.
    const FACTOR: (f64, f64) = (1.1, 2.0);
    /// By how much more is left after a window that was over its budget.
    const STEP: f64 = 0.08;
    /// By how much a surprise fades in a second.
    const FADE: f64 = 0.01;
    /// The least and the most, in budgets.
    const BOUNDS: (f64, f64) = (0.02, 0.6);
    /// What is left where little is known, and over how many seconds that passes.
    const DOUBT: (f64, f64) = (0.5, 40.0);

    pub(super) fn new() -> Self {
        Self { surprise: Peak(0.1), doubt: 0.15 }
    }

    /// What was learnt may not hold any more.
    pub(super) fn doubt(&mut self) {
        self.doubt = Self::DOUBT.0;
    }

    /// Samples are taken in another way from now on: what was learnt is of the one before.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::new();
    }

    /// A window of so many seconds cost so much more than planned, in budgets, and was over its own or
    /// not.
    pub(super) fn observe(&mut self, surprise: f64, is_over: bool, seconds: f64) {
        // What was left was not enough, whatever the reason.
        let lacking = if is_over { self.surprise.get() + Self::STEP } else { 0.0 };
        let surprise = surprise.max(lacking).min(Self::BOUNDS.1);
        self.surprise.observe(surprise, seconds, Self::FADE);
        self.doubt *= (-seconds / Self::DOUBT.1).exp();
    }

    /// In budgets.
    pub(super) fn get(self) -> f64 {
        let (least, most) = Self::BOUNDS;
        let (factor, more) = Self::FACTOR;
        let surprise = self.surprise.get();
        ((factor + more * surprise) * surprise + self.doubt).clamp(least, most)
    }
}
