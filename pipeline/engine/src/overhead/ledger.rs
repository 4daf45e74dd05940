//! Who spends what: CPU time by stage, samples and bytes.
//!
//! A stage is a piece of work that some thread does; the thread says what it took by its own CPU
//! clock. What the process took and no stage has claimed is `base`: wake-ups, timers, logging. So
//! the sum is always what the process really took; the stages only tell it apart.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// A piece of the agent's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the rings and unwinding.
    Drain,
    /// Finding out about processes: their mappings, names and control groups.
    Discover,
    /// Reading the unwinding tables of programs.
    Load,
    /// Adding up samples and writing profiles.
    Aggregate,
    /// Finding names, the worker process included.
    Symbolize,
    /// The other processors of a pipeline.
    Process,
    /// Encoding, compressing and sending.
    Send,
    /// Measuring what a sample costs the kernel.
    Calibrate,
    /// Looking at threads that wait.
    Look,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Drain,
        Self::Discover,
        Self::Load,
        Self::Aggregate,
        Self::Symbolize,
        Self::Process,
        Self::Send,
        Self::Calibrate,
        Self::Look,
    ];

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Discover => "discover",
            Self::Load => "load",
            Self::Aggregate => "aggregate",
            Self::Symbolize => "symbolize",
            Self::Process => "process",
            Self::Send => "send",
            Self::Calibrate => "calibrate",
            Self::Look => "look",
        }
    }

    /// Whether the work can wait, so that the [pacer](super::Pacer) decides when it is done. The
    /// others follow from the number of samples, or keep to a share of the budget by themselves.
    pub fn is_deferrable(self) -> bool {
        !matches!(self, Self::Drain | Self::Look)
    }

    /// Whether profiles cannot leave without the work.
    pub fn is_delivery(self) -> bool {
        matches!(self, Self::Aggregate | Self::Process | Self::Send)
    }

    /// What somebody waits for who waits for the work, for people.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Drain => "sampling",
            Self::Discover => "processes",
            Self::Load => "unwinding tables",
            Self::Aggregate => "adding up",
            Self::Symbolize => "names",
            Self::Process => "processing",
            Self::Send => "sending",
            Self::Calibrate => "measuring",
            Self::Look => "waiting threads",
        }
    }
}

/// What was spent since the start.
#[derive(Debug, Default)]
pub struct Ledger {
    stages: [AtomicU64; Stage::ALL.len()],
    samples: AtomicU64,
    sideband: AtomicU64,
    bytes: AtomicU64,
}

impl Ledger {
    /// Adds CPU time of a stage, in nanoseconds.
    pub fn add(&self, stage: Stage, nanoseconds: u64) {
        if let Some(meter) = self.stages.get(stage as usize) {
            meter.fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }

    /// The CPU time of a stage so far, in nanoseconds.
    pub fn of(&self, stage: Stage) -> u64 {
        self.stages.get(stage as usize).map_or(0, |meter| meter.load(Ordering::Relaxed))
    }

    /// The CPU time of all stages that can wait.
    pub fn deferrable(&self) -> u64 {
        Stage::ALL.iter().filter(|stage| stage.is_deferrable()).map(|stage| self.of(*stage)).sum()
    }

    /// Adds interruptions of the profiled: samples, and records of mappings, names, forks and ends.
    pub fn add_kernel(&self, samples: u64, sideband: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
        self.sideband.fetch_add(sideband, Ordering::Relaxed);
    }

    /// The samples and the other records so far.
    pub fn kernel(&self) -> (u64, u64) {
        (self.samples.load(Ordering::Relaxed), self.sideband.load(Ordering::Relaxed))
    }

    /// Adds bytes that an exporter sent.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes sent so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The CPU time of the calling thread, in nanoseconds.
pub fn thread_cpu() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

/// The CPU time of this process, in nanoseconds.
pub fn process_cpu() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

/// The monotonic clock, in nanoseconds.
pub fn monotonic() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
