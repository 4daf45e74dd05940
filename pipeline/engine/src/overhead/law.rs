//! The control law as the engine sees it: what a window was like goes in, what the next one may do
//! comes out.
//!
//! The law itself belongs to whoever installs one ([`Overhead::install`](super::Overhead::install)):
//! the processor `governor`. Time and measurements are parameters: the same observations give the same
//! levers.

use std::fmt;
use std::time::Duration;

use super::limits::Limits;

/// Decides what sampling and work that can wait may do. All times are in nanoseconds unless they are
/// [`Duration`]s.
pub trait ControlLaw: fmt::Debug + Send {
    /// The limits it keeps.
    fn limits(&self) -> &Limits;
    /// Learns from a window.
    fn observe(&mut self, window: &Observation);
    /// What the next window may do.
    fn plan(&mut self) -> Levers;
    /// A storm of reports was seen within a window, and they are off already.
    fn storm(&mut self);
    /// What is left over, in seconds of budget; negative: a debt.
    fn balance(&self) -> f64;
    /// What of the allowance for the start is still to be paid back.
    fn owed(&self) -> f64;
}

/// Makes a law for a sampler, before its first window; the last argument is the most that a sample may
/// cost the kernel.
pub type MakeLaw = fn(Limits, SamplingTarget, f64) -> Box<dyn ControlLaw>;

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
}

/// What a host is like, and what was wanted without a governor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingTarget {
    /// Samples a second and CPU.
    pub frequency: f64,
    /// CPUs.
    pub cpus: u32,
    /// How long a profile is.
    pub interval: Duration,
    /// Whether quality can be lowered.
    pub ladder: bool,
    /// The share of the budget that looks at waiting threads take, which keep to it by themselves; 0
    /// without such.
    pub looks: f64,
}

/// What a window was like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observation {
    /// Its length in seconds.
    pub seconds: f64,
    /// The CPU time of this process and its worker, without looks at waiting threads, in nanoseconds as are
    /// all below.
    pub user: f64,
    /// Of that, what samples took: reading and unwinding them.
    pub sampling: f64,
    /// Of that, work that can wait.
    pub deferrable: f64,
    /// Of that, what profiles cannot leave without: adding up, processing, sending.
    pub delivery: f64,
    /// What was taken of the allowance for the start.
    pub allowed: f64,
    /// The largest piece of work that can wait.
    pub lump: f64,
    /// The largest piece that waits now, as far as one knows before.
    pub pending: f64,
    /// For how much of the window delivery was kept waiting, of 1.
    pub delivery_waited: f64,
    /// The same for other work that can wait.
    pub rest_waited: f64,
    /// The age of the oldest window whose profile has not left, or has left in this window, in
    /// seconds since it ended.
    pub age: f64,
    /// Whether that is late.
    pub is_late: bool,
    /// Interruptions by samples.
    pub samples: f64,
    /// Samples that were unwound, those twice that had to wait for tables.
    pub processed: f64,
    /// Records of mappings, names, forks and ends.
    pub sideband: f64,
    /// The CPUs that were busy, as far as the samples say.
    pub busy: f64,
    /// CPUs whose credits were used up.
    pub capped: u32,
    /// The most that a sample costs the kernel on this host.
    pub kernel_sample: f64,
    /// The most that a record of the side band costs the kernel.
    pub kernel_record: f64,
    /// Resident bytes, where they were measured.
    pub resident: Option<u64>,
}

impl Observation {
    /// What it cost in all.
    pub fn total(&self) -> f64 {
        self.user + self.samples * self.kernel_sample + self.sideband * self.kernel_record
    }
}

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// At the frequency that was wished for.
    Steady,
    /// Slower than wished, to stay within the budget.
    Limited,
    /// Nothing is sampled until a debt is paid.
    Paying,
    /// The base alone takes too much of the budget, so that windows are longer; or what little is
    /// sampled cannot be sent in time.
    Infeasible,
    /// The budget cannot be kept: off.
    Stopped,
}

impl State {
    /// As an attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Limited => "limited",
            Self::Paying => "paying",
            Self::Infeasible => "infeasible",
            Self::Stopped => "stopped",
        }
    }
}

/// What the governor sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levers {
    /// Samples a second and CPU.
    pub frequency: f64,
    /// The samples that the kernel may take in the next window, on all CPUs; 0: none.
    pub credits: u32,
    /// How user stacks are taken.
    pub rung: Rung,
    /// Whether mappings, names, forks and ends are reported.
    pub sideband: bool,
    /// The records of the side band that the next window can bear.
    pub sideband_records: f64,
    /// CPU time that unwinding may take in the next window, in nanoseconds.
    pub unwinding: f64,
    /// CPU time for work that can wait in any second, in nanoseconds for each of time.
    pub pace: f64,
    /// The same in any ten seconds.
    pub pace_of_ten: f64,
    /// The share of the budget that is kept for work that can wait.
    pub reserve: f64,
    /// The length of the next window.
    pub window: Duration,
    /// The length of a profile.
    pub profile: Duration,
    /// Whether names may be looked for here.
    pub symbols: bool,
    /// How it goes.
    pub state: State,
}
