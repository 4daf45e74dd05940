//! What we ask of the kernel: the attributes of the events, and the layout of records that follows
//! from them.
//!
//! Several events write into one ring. Every record begins or ends with the number that the kernel gave
//! its event, whatever else it holds, so that it can be told whose it is before it is read.

use perf_event_open_sys::bindings as perf;

use super::counters::CounterId;
use super::sys::Attr;
use crate::perf::linux::records::arch;
use crate::perf::linux::records::block::BlockFields;
use crate::perf::linux::records::record::{Layout, RawField};
use crate::perf::{Faults, Unwind};

/// What the fields of a sample are, in the order in which the kernel writes them: event, instruction
/// pointer, thread, time, CPU, period (of a clock only), call chain, user registers, user stack.
const SAMPLE: u32 = perf::PERF_SAMPLE_IDENTIFIER
    | perf::PERF_SAMPLE_IP
    | perf::PERF_SAMPLE_TID
    | perf::PERF_SAMPLE_TIME
    | perf::PERF_SAMPLE_CPU
    | perf::PERF_SAMPLE_CALLCHAIN;

/// Where the kernel wants the place of a probe's semaphore.
const SEMAPHORE_BITS: u32 = 32;

/// What a sampling event counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Time on a CPU, by the clock of the [`Choices`].
    Cpu,
    /// Page faults, a sample for so many.
    PageFaults { kind: Faults, every: u64 },
    /// Passing a tracepoint, a sample for so many; a field of it may be what is summed up.
    Tracepoint { number: u64, every: u64, value: Option<RawField> },
    /// Calls of a function, a sample for so many: what probes are to the kernel, the path of the file in our
    /// memory, where it stays, and the place in the file; where the program keeps the number of those who
    /// listen, in the file too, or 0.
    Call { probes: u32, path: u64, offset: u64, semaphore: u32, every: u64, is_cheap: bool },
    /// Blocks of a disk are done, on the whole host: the tracepoint, and where it and that of their request have
    /// what is needed.
    BlocksDone { number: u64, request: BlockFields, done: BlockFields },
    /// What the processor or the kernel counts, a sample for so many.
    Counter { id: CounterId, every: u64, precise: u8 },
    /// Nothing: the event is there for what it reports.
    Nothing,
}

impl Kind {
    /// The layout of its samples.
    pub(crate) fn layout(self, choices: &Choices) -> Layout {
        let is_clock = self == Self::Cpu;
        // The count, and how many samples were lost.
        let count =
            if is_clock && choices.counts_threads() { 1 + usize::from(choices.lost) } else { 0 };
        Layout {
            registers: choices.stack > 0 && !self.is_without_stack(),
            count,
            period: is_clock,
            has_raw: self.has_raw(),
            raw: self.value(),
        }
    }

    /// Whether it is calls of a function.
    pub(crate) fn is_call(self) -> bool {
        matches!(self, Self::Call { .. })
    }

    /// Whether it is of the whole host, whoever is meant.
    pub(crate) fn is_of_all(self) -> bool {
        self.is_call() || self.is_without_stack()
    }

    /// Whether nobody asks where it happened.
    fn is_without_stack(self) -> bool {
        matches!(self, Self::BlocksDone { .. })
    }

    /// Whether its samples have what the event says of itself.
    fn has_raw(self) -> bool {
        self.is_without_stack() || self.value().is_some()
    }

    /// How many events a sample stands for; none of a clock.
    pub(crate) fn every(self) -> Option<u64> {
        match self {
            Self::Cpu | Self::BlocksDone { .. } | Self::Nothing => None,
            Self::PageFaults { every, .. }
            | Self::Call { every, .. }
            | Self::Tracepoint { every, .. }
            | Self::Counter { every, .. } => Some(every),
        }
    }

    /// The field whose values are summed up.
    pub(crate) fn value(self) -> Option<RawField> {
        match self {
            Self::Tracepoint { value, .. } => value,
            _ => None,
        }
    }
}

/// What ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The hardware's cycle counter.
    Cycles,
    /// A timer of the kernel.
    Timer,
}

/// The choices an event is opened with. What a host does not allow is switched off one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choices {
    /// What ticks.
    pub(crate) clock: Clock,
    /// Samples a second.
    pub(crate) frequency: u32,
    /// Bytes of user stack to copy; 0 for none, and then no registers either.
    pub(crate) stack: u32,
    /// User frame-pointer chains.
    pub(crate) user_chain: bool,
    /// Samples in the kernel, and kernel frames.
    pub(crate) kernel: bool,
    /// Build ids in mapping records (kernel 5.12).
    pub(crate) build_id: bool,
    /// Exact counts of lost samples (kernel 6.0).
    pub(crate) lost: bool,
    /// Children are sampled too.
    pub(crate) inherit: bool,
    /// The sampling events themselves report mappings, names, forks and exits.
    pub(crate) sideband: bool,
    /// Bytes in the ring that wake the reader.
    pub(crate) watermark: u32,
    /// Samples of the clock say what it has counted of their thread (with inherited events kernel 6.12).
    pub(crate) count: bool,
    /// Every sample of the clock wakes who waits for the ring.
    pub(crate) wakeups: bool,
}

impl Choices {
    /// The stack dump and chain that an unwinding mode needs.
    pub(crate) fn unwinding(mut self, mode: Unwind, stack_size: u64) -> Self {
        // The kernel wants a multiple of 8 below 64 KiB.
        let stack = (stack_size.min(65_528) & !7) as u32;
        (self.stack, self.user_chain) = match mode {
            Unwind::Auto => (stack, true),
            Unwind::Dwarf => (stack, false),
            Unwind::FramePointers => (0, true),
        };
        self
    }

    /// The attributes of a sampling event. The first of several reports mappings and forks, if the
    /// choices say so.
    pub(crate) fn sampling(&self, kind: Kind, is_first: bool) -> Attr {
        let mut attr = self.common();
        match kind {
            Kind::Cpu => self.add_clock(&mut attr),
            Kind::PageFaults { kind, every } => {
                attr.type_ = perf::PERF_TYPE_SOFTWARE;
                attr.config = u64::from(match kind {
                    Faults::All => perf::PERF_COUNT_SW_PAGE_FAULTS,
                    Faults::Major => perf::PERF_COUNT_SW_PAGE_FAULTS_MAJ,
                });
                // With its period in the samples every single fault would make one.
                attr.__bindgen_anon_1.sample_period = every.max(1);
            }
            Kind::Tracepoint { number, every, value } => {
                attr.type_ = perf::PERF_TYPE_TRACEPOINT;
                attr.config = number;
                attr.__bindgen_anon_1.sample_period = every.max(1);
                if value.is_some() {
                    attr.sample_type |= u64::from(perf::PERF_SAMPLE_RAW);
                }
            }
            Kind::Call { probes, path, offset, semaphore, every, .. } => {
                // See `Target::of_calls`.
                attr.set_inherit(0);
                attr.type_ = probes;
                attr.config = u64::from(semaphore) << SEMAPHORE_BITS;
                attr.__bindgen_anon_3.uprobe_path = path;
                attr.__bindgen_anon_4.probe_offset = offset;
                attr.__bindgen_anon_1.sample_period = every.max(1);
            }
            Kind::Counter { id, every, precise } => {
                attr.type_ = id.kind;
                attr.config = id.config;
                attr.__bindgen_anon_1.sample_period = every.max(1);
                attr.set_precise_ip(precise.into());
                // There may be more events than counters, which then take turns.
                attr.read_format = u64::from(
                    perf::PERF_FORMAT_TOTAL_TIME_ENABLED | perf::PERF_FORMAT_TOTAL_TIME_RUNNING,
                );
            }
            Kind::BlocksDone { number, .. } => {
                attr.type_ = perf::PERF_TYPE_TRACEPOINT;
                attr.config = number;
                attr.__bindgen_anon_1.sample_period = 1;
                attr.set_inherit(0);
                attr.sample_type |= u64::from(perf::PERF_SAMPLE_RAW);
                let stack = perf::PERF_SAMPLE_REGS_USER | perf::PERF_SAMPLE_STACK_USER;
                attr.sample_type &= !u64::from(stack);
                (attr.sample_regs_user, attr.sample_stack_user) = (0, 0);
            }
            Kind::Nothing => {
                attr.type_ = perf::PERF_TYPE_SOFTWARE;
                attr.config = u64::from(perf::PERF_COUNT_SW_DUMMY);
            }
        }
        let has_chain = !kind.is_without_stack();
        attr.set_exclude_callchain_user(u64::from(!(self.user_chain && has_chain)));
        attr.set_exclude_callchain_kernel(u64::from(!(self.kernel && has_chain)));
        // Events that are not clocks may be many.
        if self.wakeups && kind == Kind::Cpu {
            attr.set_watermark(0);
            attr.__bindgen_anon_2.wakeup_events = 1;
        }
        if self.sideband && is_first {
            self.add_sideband(&mut attr);
        }
        attr
    }

    fn add_clock(&self, attr: &mut Attr) {
        match self.clock {
            Clock::Cycles => {
                attr.type_ = perf::PERF_TYPE_HARDWARE;
                attr.config = u64::from(perf::PERF_COUNT_HW_CPU_CYCLES);
            }
            Clock::Timer => {
                attr.type_ = perf::PERF_TYPE_SOFTWARE;
                attr.config = u64::from(perf::PERF_COUNT_SW_CPU_CLOCK);
            }
        }
        attr.sample_type |= u64::from(perf::PERF_SAMPLE_PERIOD);
        if self.counts_threads() {
            attr.sample_type |= u64::from(perf::PERF_SAMPLE_READ);
        }
        attr.set_freq(1);
        attr.__bindgen_anon_1.sample_freq = u64::from(self.frequency);
        // Without this an idle CPU gives as many samples as a busy one.
        attr.set_exclude_idle(1);
    }

    /// Whether samples of the clock say what it has counted of their thread: what an event of a whole CPU
    /// counts is not of one.
    pub(crate) fn counts_threads(&self) -> bool {
        self.count && self.inherit
    }

    /// The attributes of an event that counts for a thread what the clock counts.
    pub(crate) fn counting(&self) -> Attr {
        let clock = self.sampling(Kind::Cpu, false);
        let mut attr = Attr { type_: clock.type_, config: clock.config, ..Attr::default() };
        attr.set_exclude_idle(1);
        attr.set_exclude_kernel(u64::from(!self.kernel));
        attr.set_exclude_hv(u64::from(!self.kernel));
        attr
    }

    /// The attributes of the event that reports mappings, names, forks and exits, and owns a ring.
    pub(crate) fn reporting(&self, sideband: bool) -> Attr {
        let mut attr = self.common();
        attr.type_ = perf::PERF_TYPE_SOFTWARE;
        attr.config = u64::from(perf::PERF_COUNT_SW_DUMMY);
        attr.set_inherit(0);
        if sideband {
            self.add_sideband(&mut attr);
        }
        attr
    }

    fn common(&self) -> Attr {
        let mut attr = Attr { sample_type: u64::from(SAMPLE), ..Attr::default() };
        if self.stack > 0 {
            attr.sample_type |= u64::from(perf::PERF_SAMPLE_REGS_USER);
            attr.sample_type |= u64::from(perf::PERF_SAMPLE_STACK_USER);
            attr.sample_regs_user = arch::REGISTER_MASK;
            attr.sample_stack_user = self.stack;
        }
        if self.lost {
            attr.read_format = u64::from(perf::PERF_FORMAT_LOST);
        }
        attr.set_disabled(1);
        attr.set_exclude_kernel(u64::from(!self.kernel));
        attr.set_exclude_hv(u64::from(!self.kernel));
        attr.set_inherit(u64::from(self.inherit));
        attr.set_sample_id_all(1);
        attr.set_use_clockid(1);
        attr.clockid = libc::CLOCK_MONOTONIC;
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = self.watermark;
        attr
    }

    fn add_sideband(&self, attr: &mut Attr) {
        attr.set_mmap(1);
        attr.set_mmap2(1);
        attr.set_build_id(u64::from(self.build_id));
        attr.set_comm(1);
        attr.set_comm_exec(1);
        attr.set_task(1);
    }
}
