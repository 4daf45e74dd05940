//! The rungs of quality, from the best to the cheapest.
//!
//! Frequency is lowered first, because that costs variance and nothing else. Only when it would
//! fall below [`FEW`] is information given up, and only if that buys enough; it comes back when it
//! could be had at [`MANY`] for [`PATIENCE`] windows. The gap between the two is wider than a rung
//! is worth, so nothing swings.

/// Below so many samples a second and CPU the next rung down is tried.
const FEW: f64 = 9.5;
/// The next rung up must promise so many.
const MANY: f64 = 19.0;
/// For so many windows.
const PATIENCE: u32 = 20;
/// A rung down must give so many times the samples to be worth it.
const WORTH: f64 = 1.3;

/// How user stacks are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// As configured.
    Full,
    /// With at most 16 KiB of stack.
    Half,
    /// With at most 8 KiB of stack.
    Quarter,
    /// Along frame pointers.
    FramePointers,
    /// The interrupted function and the kernel's frames.
    Leaf,
}

impl Rung {
    /// From the best to the cheapest.
    pub const ALL: [Self; 5] =
        [Self::Full, Self::Half, Self::Quarter, Self::FramePointers, Self::Leaf];

    /// As an attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Half => "stack_16k",
            Self::Quarter => "stack_8k",
            Self::FramePointers => "frame_pointers",
            Self::Leaf => "leaf",
        }
    }

    /// What a sample costs user space and the kernel here, relative to the best rung: figures of
    /// one machine, used until there are measurements.
    pub(super) fn relative(self) -> (f64, f64) {
        match self {
            Self::Full => (1.0, 1.0),
            Self::Half => (0.85, 0.95),
            Self::Quarter => (0.7, 0.92),
            Self::FramePointers => (0.3, 0.9),
            Self::Leaf => (0.12, 0.8),
        }
    }

    pub(super) fn down(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    pub(super) fn up(self) -> Option<Self> {
        Self::ALL.get((self as usize).checked_sub(1)?).copied()
    }
}

/// The way up and down.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    pub(super) rung: Rung,
    /// Windows in a row in which the rung above looked good.
    good: u32,
}

impl Ladder {
    pub(super) fn new() -> Self {
        Self { rung: Rung::Full, good: 0 }
    }

    /// Decides where to stand; `predicted` is the frequency that a rung would allow. `cheapest` is
    /// as far as the receiver can go.
    pub(super) fn step(&mut self, predicted: impl Fn(Rung) -> f64) -> Rung {
        let here = predicted(self.rung);
        if let Some(up) = self.rung.up() {
            self.good = if predicted(up) >= MANY { self.good + 1 } else { 0 };
            if self.good >= PATIENCE {
                self.good = 0;
                self.rung = up;
                return up;
            }
        }
        if here < FEW {
            // The nearest that is worth it: some rungs alone buy little.
            let mut candidate = self.rung;
            while let Some(down) = candidate.down() {
                candidate = down;
                if predicted(down) >= here * WORTH {
                    self.good = 0;
                    self.rung = down;
                    break;
                }
            }
        }
        self.rung
    }
}
