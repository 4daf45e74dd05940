//! What a process of this host costs, as the kernel counts it: CPU time by process clocks, of one
//! process and of those that it started. Shared by the benchmarks that look at an agent from outside.
#![allow(unsafe_code, reason = "CPU clocks of other processes have no safe wrapper")]

use std::fs;
use std::mem::replace;

/// What a sample costs the kernel where the agent did not measure it, in nanoseconds.
pub(crate) const KERNEL_SAMPLE: f64 = 50_000.0;

/// CPU time of a process, in nanoseconds: its clock has the number that the kernel's headers state.
pub(crate) fn process_cpu(pid: u32) -> Option<u64> {
    clock((!(pid.cast_signed()) << 3) | 2)
}

/// The time of a clock, in nanoseconds.
pub(crate) fn clock(id: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer outlives the call.
    let result = unsafe { libc::clock_gettime(id, &raw mut time) };
    (result == 0).then(|| time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// The processes that a process has started and not yet waited for.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    for thread in threads.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    found
}

/// CPU time of a process and its children, step by step. What a child has used between the last step
/// and its end is not seen.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    seen: Vec<(u32, u64)>,
}

impl Meter {
    /// The nanoseconds since the last step; since their start for processes that were not there.
    pub(crate) fn step(&mut self, pid: u32) -> f64 {
        let mut sum = 0;
        for pid in children(pid).into_iter().chain([pid]) {
            let Some(now) = process_cpu(pid) else { continue };
            match self.seen.iter_mut().find(|(known, _)| *known == pid) {
                Some((_, before)) => sum += now.saturating_sub(replace(before, now)),
                None => {
                    self.seen.push((pid, now));
                    sum += now;
                }
            }
        }
        sum as f64
    }
}
