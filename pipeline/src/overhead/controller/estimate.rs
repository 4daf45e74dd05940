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
