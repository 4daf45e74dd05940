//! The rungs of quality, from the best to the cheapest.
//!
//! Frequency is lowered first, because that costs variance and nothing else. Only when it would
//! fall below [`Quality::few`] is information given up, and only if that buys enough; it comes back
//! when it could be had at [`MANY`] times that for [`PATIENCE`] windows. The gap between the two is wider than a rung
//! is worth, so nothing swings.

use profpipe_engine::overhead::Rung;

/// The next rung up must promise so many times [`Quality::few`] of the rung here.
const MANY: f64 = 2.0;
/// For so many windows.
const PATIENCE: u32 = 20;
/// A rung is left for a lower one after so many windows with too few samples.
const HASTE: u32 = 5;
/// A rung down must give so many times the samples to be worth it.
const WORTH: f64 = 1.3;

/// What a rung is worth.
pub(super) trait Quality: Sized {
    /// What a sample costs user space and the kernel here, relative to the best rung: figures of
    /// one machine, used until there are measurements.
    fn relative(self) -> (f64, f64);
    /// Samples a second and CPU below which this rung is better than the ones above: a shorter copy
    /// of the stack cuts the deepest only, frame pointers are wrong for much code, and a leaf says
    /// little.
    fn few(self) -> f64;
    /// The next cheaper one.
    fn down(self) -> Option<Self>;
    /// The next better one.
    fn up(self) -> Option<Self>;
}

impl Quality for Rung {
    fn relative(self) -> (f64, f64) {
        match self {
            Self::Full => (1.0, 1.0),
            Self::Half => (0.85, 0.95),
            Self::Quarter => (0.7, 0.92),
            Self::FramePointers => (0.3, 0.9),
            Self::Leaf => (0.12, 0.8),
        }
    }

    fn few(self) -> f64 {
        match self {
            Self::Full => 0.0,
            Self::Half | Self::Quarter => 9.5,
            Self::FramePointers => 3.0,
            Self::Leaf => 0.5,
        }
    }

    fn down(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    fn up(self) -> Option<Self> {
        Self::ALL.get((self as usize).checked_sub(1)?).copied()
    }
}

/// The way up and down.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    pub(super) rung: Rung,
    /// Windows in a row in which the rung above looked good.
    good: u32,
    /// And in which the one here looked bad.
    bad: u32,
}

impl Ladder {
    pub(super) fn new() -> Self {
        Self { rung: Rung::Full, good: 0, bad: 0 }
    }

    /// Decides where to stand; `predicted` is the frequency that a rung would allow.
    pub(super) fn step(&mut self, predicted: impl Fn(Rung) -> f64) -> Rung {
        let here = predicted(self.rung);
        let above = self.rung.up().filter(|up| predicted(*up) >= MANY * self.rung.few());
        self.good = if above.is_some() { self.good + 1 } else { 0 };
        if let Some(up) = above
            && self.good >= PATIENCE
        {
            return self.stand(up);
        }
        // The nearest that is worth it: some rungs alone buy little.
        let mut below = None;
        let mut candidate = self.rung;
        while let Some(down) = candidate.down() {
            candidate = down;
            if here < down.few() && predicted(down) >= here * WORTH {
                below = Some(down);
                break;
            }
        }
        self.bad = if below.is_some() { self.bad + 1 } else { 0 };
        if let Some(down) = below
            && self.bad >= HASTE
        {
            return self.stand(down);
        }
        self.rung
    }

    fn stand(&mut self, rung: Rung) -> Rung {
        (self.good, self.bad) = (0, 0);
        self.rung = rung;
        rung
    }
}
