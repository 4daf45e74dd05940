//! What can be changed while the events of the whole host are open.
//!
//! Credits are the hard limit: the kernel stops a sampling event when they are used up. They are
//! counted here too, because the kernel only lets one add to them.

use std::os::fd::AsFd;
use std::time::Duration;

use profpipe_engine::component::Error;
use profpipe_engine::overhead::Rung;

use super::attr::{Choices, Clock, Kind};
use super::session::{REPORT, Session, unusable};
use super::sys;
use crate::perf::linux::records::ring::Ring;

/// The longest round where readers are at work.
pub(super) const READERS_ROUND: Duration = Duration::from_millis(40);
/// A stack dump that is none: it keeps the layout of the records.
const NO_STACK: u32 = 64;

impl Session {
    /// The frequency that an event would have: that of a counter is a whole number.
    pub(crate) fn possible(&self, hertz: f64) -> f64 {
        match self.choices.clock {
            Clock::Cycles => hertz.ceil().max(1.0),
            Clock::Timer => hertz,
        }
    }

    /// Sets samples a second and CPU. False if the kernel refuses.
    pub(crate) fn set_frequency(&self, hertz: f64) -> bool {
        let value = match self.choices.clock {
            Clock::Cycles => hertz as u64,
            Clock::Timer => period(hertz),
        };
        self.samplers.iter().all(|event| sys::set_period(event.as_fd(), value).is_ok())
    }

    /// Lets the sampler of the CPU at this place take so many samples more, at least one.
    pub(crate) fn refill(&self, at: usize, samples: u32) {
        if let Some(event) = self.samplers.get(at) {
            // An event whose CPU went offline takes no samples.
            let _ = sys::refresh(event.as_fd(), samples);
        }
    }

    /// Stops sampling until the next refill.
    pub(crate) fn hold(&self) {
        for event in &self.samplers {
            let _ = sys::disable(event.as_fd());
        }
    }

    /// Turns reports of mappings, names, forks and ends on or off.
    pub(crate) fn report(&self, on: bool) {
        for event in &self.reporters {
            let _ = if on { sys::enable(event.as_fd()) } else { sys::disable(event.as_fd()) };
        }
    }

    /// Drops the reports that were not read yet; returns about how many they are.
    pub(crate) fn drop_reports(&mut self) -> u64 {
        let first = self.rings.len().saturating_sub(self.reporters.len());
        let rings = self.rings.iter_mut().skip(first);
        let bytes: usize = rings.map(Ring::drop_all).sum();
        (bytes / REPORT) as u64
    }

    /// How often the rings are to be read where nobody says that they fill: in time for them, and to
    /// see soon that a reader is kept from going on.
    pub(super) fn round(&self) -> Duration {
        (self.slack() / 4).clamp(Duration::from_millis(2), READERS_ROUND)
    }

    /// Whether every sample wakes who waits for the rings.
    pub(crate) fn has_wakeups(&self) -> bool {
        self.choices.wakeups
    }

    /// Has every sample of the whole host wake who waits for the rings, or not; where there is a
    /// budget, with its next window. Sampling begins anew.
    pub(crate) fn set_wakeups(&mut self, wakeups: bool) {
        self.wanted_wakeups = wakeups;
        if self.is_governed() || self.samplers.is_empty() || self.choices.wakeups == wakeups {
            return;
        }
        let before = self.choices.wakeups;
        self.choices.wakeups = wakeups;
        let attr = self.choices.sampling(Kind::Cpu, true);
        let mut samplers = Vec::with_capacity(self.cpus.len());
        for (cpu, owner) in self.cpus.iter().zip(&self.owners) {
            let opened = sys::open_event(&attr, -1, *cpu).and_then(|event| {
                sys::set_output(event.as_fd(), owner.as_fd())?;
                sys::enable(event.as_fd())?;
                Ok(event)
            });
            match opened {
                Ok(event) => samplers.push(event),
                Err(error) => {
                    tracing::warn!("perf: managed stacks cannot be read: {}", unusable(&error));
                    self.choices.wakeups = before;
                    return;
                }
            }
        }
        self.lost_before = self.lost_samples().unwrap_or(self.lost_before);
        self.samplers = samplers;
    }

    /// Opens the sampling events again for a rung of quality; they do not run yet.
    pub(crate) fn reopen(&mut self, wanted: &Choices, rung: Rung, hertz: f64) -> Result<(), Error> {
        let choices = Choices { wakeups: self.wanted_wakeups, ..at_rung(*wanted, rung) };
        let mut attr = choices.sampling(Kind::Cpu, true);
        if choices.clock == Clock::Timer {
            attr.set_freq(0);
            attr.__bindgen_anon_1.sample_period = period(hertz);
        } else {
            attr.__bindgen_anon_1.sample_freq = hertz.ceil().max(1.0) as u64;
        }
        let mut samplers = Vec::with_capacity(self.cpus.len());
        for (cpu, owner) in self.cpus.iter().zip(&self.owners) {
            let event = self.target.open(&attr, *cpu).map_err(|error| unusable(&error))?;
            sys::set_output(event.as_fd(), owner.as_fd()).map_err(|error| unusable(&error))?;
            samplers.push(event);
        }
        self.lost_before = self.lost_samples().unwrap_or(self.lost_before);
        self.samplers = samplers;
        self.choices = Choices { watermark: self.choices.watermark, ..choices };
        Ok(())
    }
}

/// The period of a frequency, in nanoseconds.
pub(crate) fn period(hertz: f64) -> u64 {
    (1e9 / hertz.max(0.001)) as u64
}

/// The choices of a rung of quality.
pub(crate) fn at_rung(wanted: Choices, rung: Rung) -> Choices {
    let stack = |most: u32| wanted.stack.min(most);
    let (stack, user_chain) = match rung {
        Rung::Full => (wanted.stack, wanted.user_chain),
        Rung::Half => (stack(16 << 10), wanted.user_chain),
        Rung::Quarter => (stack(8 << 10), wanted.user_chain),
        Rung::FramePointers => (stack(NO_STACK), true),
        Rung::Leaf => (stack(NO_STACK), false),
    };
    Choices { stack, user_chain, ..wanted }
}
