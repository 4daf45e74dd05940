//! Evidence that a thread had not gone on between its sample and the end of the walk.
//!
//! A stack that was read a moment too late is a legal stack of another moment: nothing in it says that
//! it is wrong. So a walk is believed only if
//! - it began so soon after the sample that no other thread can have been given the CPU in between,
//!   and the reader did not wait for anything while it walked: then a reader that runs before all
//!   ordinary threads has kept the sampled one from running;
//! - and the part of the native stack that was copied with the sample is byte by byte what it was.
//!
//! A reader that comes later may still be in time: on a busy CPU others ran before it, or the whole CPU
//! stood still, and the sampled thread did not run. If the reader runs before all ordinary threads, it could
//! only have run on another CPU, which the kernel would say. Else, where the sample says how much the clock
//! had counted of the thread, a counter of the reader's own ([`Count`]) says how much it has run since.

use std::os::fd::{AsFd, OwnedFd};

use crate::perf::linux::events::sys::{self, Attr};
use crate::perf::linux::records::arch::STACK_POINTER;
use crate::perf::linux::records::record::Sample;
use crate::perf::linux::runtimes::Refusal;
use crate::perf::linux::runtimes::memory::Memory;
use crate::perf::linux::thread::{self, Precedence, now};

/// How late the first read may be after the sample, in nanoseconds. The scheduler moves no thread to
/// another CPU that has run within so much time.
const MAX_LATENCY: u64 = 500_000;
/// How late the last.
const MAX_AGE: u64 = 1_500_000;
/// How late the first read may be where it is counted how long the thread has run since: as long as the
/// drain thread waits.
pub(crate) const MAX_COUNTED_LATENCY: u64 = 20_000_000;
/// How late it may be of a reader that runs before all ordinary threads. Others like it may run before it,
/// but not for so long that the kernel gives ordinary threads a turn.
const MAX_REALTIME_LATENCY: u64 = 4_000_000;
/// How late a read may be to show how much a thread runs between a sample and the reader at least.
const PROMPT: u64 = 200_000;
/// How many such reads there must have been.
const PROMPTS: u32 = 2;
/// How much longer than at least a thread may have run, in what the clock counts (nanoseconds or, about,
/// thirds of them): in the interrupt that took the sample.
const MAX_RUN: i64 = 12_000;
/// How much of the native stack is compared.
const COMPARED: usize = 4096;

/// What was so when the walk began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence {
    precedence: Precedence,
    switches: (i64, i64),
    latency: u64,
}

impl Evidence {
    /// Before the first read.
    pub(crate) fn begin(
        precedence: Precedence,
        sample: &Sample<'_>,
        count: Option<&Count>,
        time: u64,
    ) -> Result<Self, Refusal> {
        let latency = time.saturating_sub(sample.time);
        let is_counted = sample.count.is_some() && count.is_some_and(Count::is_known);
        let longest = match precedence {
            Precedence::RealTime => MAX_REALTIME_LATENCY,
            _ if is_counted => MAX_COUNTED_LATENCY,
            _ => MAX_LATENCY,
        };
        if latency > longest {
            return Err(Refusal::Late);
        }
        Ok(Self { precedence, switches: thread::switches(), latency })
    }

    /// After the last read.
    pub(crate) fn check(
        &self,
        sample: &Sample<'_>,
        count: Option<&mut Count>,
        memory: &mut impl Memory,
        again: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let is_unchanged = is_unchanged(sample, memory, again)?;
        let run = count.zip(sample.count).and_then(|(count, at)| count.since(at, self.latency));
        if !is_unchanged {
            return Err(Refusal::Moved);
        }
        if self.latency > MAX_LATENCY && self.precedence == Precedence::RealTime {
            let waited = thread::switches().0 != self.switches.0;
            return match is_on(sample) {
                true if waited => Err(Refusal::Waited),
                true => Ok(()),
                false => Err(Refusal::Late),
            };
        }
        if self.latency > MAX_LATENCY {
            return match run {
                Some(run) if run <= MAX_RUN && is_on(sample) => Ok(()),
                Some(_) => Err(Refusal::Moved),
                None => Err(Refusal::Late),
            };
        }
        let (waits, preemptions) = thread::switches();
        let is_alone = self.precedence == Precedence::RealTime || preemptions == self.switches.1;
        if waits != self.switches.0 || !is_alone {
            return Err(Refusal::Waited);
        }
        if now().saturating_sub(sample.time) > MAX_AGE {
            return Err(Refusal::Late);
        }
        Ok(())
    }
}

/// Counts what the clock counts of a thread on a CPU. It began later than the clock, so that only
/// differences mean something: the least there was is that of a thread that did not go on.
#[derive(Debug)]
pub(crate) struct Count {
    event: OwnedFd,
    least: i64,
    prompts: u32,
}

impl Count {
    /// Begins to count; none where that is not permitted.
    pub(crate) fn open(attr: &Attr, tid: u32, cpu: u32) -> Option<Self> {
        let event = sys::open_event(attr, tid.cast_signed(), cpu.cast_signed()).ok()?;
        Some(Self { event, least: i64::MAX, prompts: 0 })
    }

    /// Whether it is known how much a thread runs at least.
    fn is_known(&self) -> bool {
        self.prompts >= PROMPTS
    }

    /// How much longer the thread has run since a sample than it does at least, if that is known.
    fn since(&mut self, sample: u64, latency: u64) -> Option<i64> {
        let mut value = [0; 8];
        let read = rustix::io::read(self.event.as_fd(), &mut value).ok()?;
        let count = (read == value.len()).then(|| u64::from_ne_bytes(value))?;
        self.note(count.wrapping_sub(sample).cast_signed(), latency)
    }

    /// Takes note of a difference.
    fn note(&mut self, difference: i64, latency: u64) -> Option<i64> {
        self.least = self.least.min(difference);
        self.prompts = self.prompts.saturating_add(u32::from(latency <= PROMPT));
        self.is_known().then(|| difference.saturating_sub(self.least))
    }
}

/// Whether a thread was last on the CPU of its sample. On another it may have run uncounted.
fn is_on(sample: &Sample<'_>) -> bool {
    let Ok(text) = std::fs::read(format!("/proc/{}/task/{}/stat", sample.pid, sample.tid)) else {
        return false;
    };
    let text = String::from_utf8_lossy(&text);
    // Behind the name, which may hold anything: the 37th is the CPU.
    let fields = text.rsplit_once(')').map(|(_, fields)| fields);
    let cpu = fields.and_then(|fields| fields.split_whitespace().nth(36)?.parse::<u32>().ok());
    cpu == Some(sample.cpu)
}

/// Whether the native stack is what it was.
fn is_unchanged(
    sample: &Sample<'_>,
    memory: &mut impl Memory,
    again: &mut Vec<u8>,
) -> Result<bool, Refusal> {
    let Some(registers) = &sample.registers else { return Ok(false) };
    let Some(pointer) = registers.get(STACK_POINTER) else { return Ok(false) };
    let before = sample.stack.get(..COMPARED.min(sample.stack.len())).unwrap_or_default();
    if before.is_empty() {
        return Ok(false);
    }
    again.resize(before.len(), 0);
    if !memory.read(pointer, again) {
        return Err(Refusal::Unreadable);
    }
    Ok(before == again.as_slice())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn count() -> Count {
        let nothing = std::fs::File::open("/dev/null").unwrap();
        Count { event: nothing.into(), least: i64::MAX, prompts: 0 }
    }

    /// Scenario: reads at once and late ones, of a thread that did not go on and of one that did; the
    /// counter began later than the clock.
    /// Guarantees: nothing is known before there were reads at once; then a thread that has run is told
    /// from one that has not, however late the read is.
    #[test]
    fn what_a_thread_has_run() {
        let mut count = count();
        let began = -5_000_000_000;
        assert_eq!(count.note(began + 9_000_000, 9_000_000), None);
        assert_eq!(count.note(began + 40_000, 90_000), None);
        assert!(!count.is_known());
        assert_eq!(count.note(began + 36_000, 70_000), Some(0));
        assert!(count.is_known());
        assert_eq!(count.note(began + 41_000, 15_000_000), Some(5_000));
        assert!(count.note(began + 2_000_000, 4_000_000).is_some_and(|run| run > MAX_RUN));
    }
}
