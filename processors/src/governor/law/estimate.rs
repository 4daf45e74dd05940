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

/// What is left free of every window for what may come unplanned: so much that of a hundred windows
/// about one is over its budget, however costs are spread; less than nothing where windows usually cost
/// less than planned. What was learnt is doubted for a while where costs change.
///
/// It is a quantile of surprises, followed step by step: a window that exceeds it raises it by most of
/// [`Margin::STEP`], every other second lowers it by the rest, so that both balance at the quantile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Margin {
    level: f64,
    doubt: f64,
}

impl Margin {
    /// The windows that may exceed it, of all.
    const OVER: f64 = 0.01;
    /// The difference between a second that exceeded it and one that did not, in budgets.
    const STEP: f64 = 0.12;
    /// What is left before anything is known.
    const AT_FIRST: f64 = 0.15;
    /// The least and the most, in budgets.
    const BOUNDS: (f64, f64) = (-0.2, 0.6);
    /// What is left where little is known, and over how many seconds that passes.
    const DOUBT: (f64, f64) = (0.5, 40.0);

    pub(super) fn new() -> Self {
        Self { level: Self::AT_FIRST, doubt: Self::AT_FIRST }
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
        // Where a window was over its budget, what was left was not enough, whatever the reason.
        self.level += if is_over || surprise > self.get() {
            Self::STEP * (1.0 - Self::OVER)
        } else {
            -Self::STEP * Self::OVER * seconds
        };
        let (least, most) = Self::BOUNDS;
        self.level = self.level.clamp(least, most);
        self.doubt *= (-seconds / Self::DOUBT.1).exp();
    }

    /// In budgets.
    pub(super) fn get(self) -> f64 {
        let (least, most) = Self::BOUNDS;
        (self.level + self.doubt).clamp(least, most)
    }
}
