//! The native sampler: profiles a host, a user's processes or one process tree with the kernel's
//! perf events.
//!
//! Everything that talks to the kernel is in `linux`, which is the one platform boundary; the
//! configuration is the same everywhere, so that a file can be validated on any machine.

mod config;
mod event;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod linux;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod elsewhere;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
use elsewhere as linux;

#[cfg(test)]
mod tests;

pub use config::{Config, Match, Runtimes, Scope, Unwind};
pub use event::{
    BlockIo, Calls, Counter, Event, Every, Faults, Heap, OffCpu, PageFaults, Parked, Tracepoint,
};
pub use finding::{Finding, Level};
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[doc(hidden)]
pub use linux::{StoppedProcesses, StoppedStack};

mod finding;

use profpipe_engine::component::{Error, Factory, Receiver, ReceiverConfig, Setup, Stability};

/// Processes that the kernel does not let this user profile: they execute a program that has rights
/// which the user lacks.
pub const HIDDEN_PROCESSES: &str = "profpipe_perf_processes_hidden_total";

/// Whether an event that was asked for can be had here: 1, or 0; labelled with its name.
pub const EVENT_AVAILABLE: &str = "profpipe_perf_event_available";

/// How the component is registered.
pub const FACTORY: Factory = Factory::receiver::<Config>(
    "perf",
    Stability::Beta,
    "profiles this host, a user's processes or one process with the kernel's perf events",
)
.of_this_host();

/// Finds out what this host allows; for `profpipe doctor`.
pub fn probe() -> Vec<Finding> {
    linux::probe()
}

impl ReceiverConfig for Config {
    /// Opens the perf events, so that a lack of permission shows at once and a process given by
    /// [`Scope::Pid`] is under observation when this returns.
    fn build(self, setup: &Setup) -> Result<Box<dyn Receiver>, Error> {
        linux::build(self, setup)
    }
}
