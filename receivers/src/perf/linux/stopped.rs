//! Stacks of a process that somebody else has stopped, from registers and a copy of the stack that
//! were taken of it: the sampler's own unwinder without the sampler, to hold it against others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perf_event_open_sys::bindings::PERF_CONTEXT_USER;
use profpipe_engine::overhead::Overhead;
use profpipe_engine::telemetry::Counter;

use super::images::loader::Loader;
use super::processes::host::ThisHost;
use super::processes::process::Processes;
use super::records::arch::REGISTERS;
use super::records::record::Sample;
use super::unwind::Unwinding;

/// How long tables may take to be read.
const PATIENCE: Duration = Duration::from_secs(30);

/// Unwinds stacks of stopped processes; knows the files of those it has seen.
pub struct StoppedProcesses {
    processes: Processes,
    host: ThisHost,
    unwinding: Unwinding,
}

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedStack {
    /// Addresses in the memory of the process, leaf first: of the instruction, then where calls
    /// return to.
    pub frames: Vec<u64>,
    /// How far it goes: `complete`, `guessed`, `truncated`, `switched` or `broken`.
    pub state: &'static str,
}

impl StoppedProcesses {
    /// Knows no process yet.
    ///
    /// # Errors
    /// If the thread that reads files cannot be started.
    pub fn new() -> std::io::Result<Self> {
        let overhead = Arc::<Overhead>::default();
        let loader = Loader::start(PATIENCE, Counter::default(), overhead)?;
        Ok(Self {
            processes: Processes::default(),
            host: ThisHost::new(loader),
            unwinding: Unwinding::new(true),
        })
    }

    /// Unwinds the stack of a thread: its registers in the order of `linux/perf_event.h` (on x86-64
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, rip, r8 to r15), and the memory from its stack pointer
    /// up; and what the kernel would find along frame pointers, from the instruction on, which may be
    /// empty. None if the process is not there or the registers are not as many.
    pub fn unwind(
        &mut self,
        pid: u32,
        registers: &[u64],
        stack: &[u8],
        chain: &[u64],
    ) -> Option<StoppedStack> {
        let registers: &[u64; REGISTERS] = registers.try_into().ok()?;
        let chain = std::iter::once(PERF_CONTEXT_USER).chain(chain.iter().copied());
        let chain: Vec<u8> = chain.flat_map(u64::to_ne_bytes).collect();
        let sample = Sample::stopped(pid, *registers, stack, &chain);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Mappings may have changed since the last time.
            self.processes.invalidate();
            let process = self.processes.sampled(pid, pid, &mut self.host)?;
            let unwound =
                self.unwinding.unwind(&sample, process, &mut self.host.images, None, None)?;
            if !self.unwinding.waiting || Instant::now() > deadline {
                let state = unwound.state().unwrap_or("complete");
                return Some(StoppedStack { frames: self.unwinding.addresses().collect(), state });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl std::fmt::Debug for StoppedProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoppedProcesses").finish_non_exhaustive()
    }
}
