//! What the threads of the sampler ask of the kernel for themselves: precedence, their CPU time, and
//! the clock that they share with the events.
//!
//! Nothing here fails: a precedence that is not permitted is not taken, and the thread runs as any
//! other. What is asked for the events is in `events::sys`.
#![allow(unsafe_code, reason = "scheduling calls that no safe crate offers")]

/// Gives the calling thread precedence over ordinary ones: the real-time policy, else a low nice
/// value, else nothing. Says which.
pub(crate) fn raise_priority() -> &'static str {
    // SAFETY: an all-zero sched_param is valid, and the pointer outlives the call.
    let realtime = unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = 1;
        // Reset on fork: threads and processes started from here do not inherit it.
        let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
        libc::sched_setscheduler(0, policy, &raw const parameters)
    };
    if realtime == 0 {
        return "real-time";
    }
    // SAFETY: takes no pointer; 0 is the calling thread on Linux.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } == 0 {
        return "nice -20";
    }
    "normal"
}

/// Lets the calling thread wait less for the processor than others do, where that is allowed.
pub(crate) fn prefer() {
    // SAFETY: takes no pointer; 0 is the calling thread on Linux. Failing is harmless.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
}

/// How soon a thread runs when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precedence {
    /// Before any ordinary thread.
    RealTime,
    /// Among ordinary threads, soon because it asks for little.
    ShortSlice,
    /// As any other.
    Ordinary,
}

/// Gives the calling thread as much precedence as it can have for work of some microseconds.
pub(crate) fn run_at_once() -> Precedence {
    // SAFETY: an all-zero sched_param is valid, and the pointer outlives the call.
    let realtime = unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = 1;
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        libc::sched_setscheduler(0, policy, &raw const parameters)
    };
    if realtime == 0 {
        return Precedence::RealTime;
    }
    prefer();
    let attributes = SchedulingAttributes {
        size: size_of::<SchedulingAttributes>() as u32,
        runtime: SLICE_NANOS,
        ..SchedulingAttributes::default()
    };
    // SAFETY: the struct is of the size it states and outlives the call; 0 is the calling thread.
    let sliced = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) };
    if sliced == 0 { Precedence::ShortSlice } else { Precedence::Ordinary }
}

/// The slice that a reader asks for; kernels before 6.12 ignore it.
const SLICE_NANOS: u64 = 100_000;

/// `struct sched_attr` of the kernel, as it was first.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct SchedulingAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Keeps the calling thread on a CPU. False if it may not run there.
pub(crate) fn pin(cpu: u32) -> bool {
    let Ok(cpu) = usize::try_from(cpu) else { return false };
    if cpu >= libc::CPU_SETSIZE as usize {
        return false;
    }
    // SAFETY: an all-zero set is valid and empty, the CPU lies in it, and the pointer outlives the
    // call; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

/// How often the calling thread has given up the processor: to wait for something, and because
/// another was to run.
pub(crate) fn switches() -> (i64, i64) {
    // SAFETY: an all-zero rusage is valid, and the pointer outlives the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    (usage.ru_nvcsw, usage.ru_nivcsw)
}

/// The number of the calling thread.
pub(crate) fn id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

/// Whether another thread of this process waits for something. One that has no CPU does not.
pub(crate) fn is_waiting(thread: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")) else {
        return false;
    };
    // Behind the name, which may hold anything.
    let state = text.rsplit_once(')').and_then(|(_, fields)| fields.trim_start().chars().next());
    state.is_some_and(|state| state != 'R')
}

/// The CPU time that the calling thread has used, in nanoseconds.
pub(crate) fn thread_cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The monotonic clock, which the events use too.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    /// Scenario: a thread works all the time, then waits.
    /// Guarantees: the one is told from the other, however long the thread has had no CPU.
    #[test]
    fn waits_or_works() {
        let (thread, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                thread.store(id(), Ordering::Release);
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                std::thread::park();
            });
            while thread.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            let number = thread.load(Ordering::Acquire);
            assert!((0..100).all(|_| !is_waiting(number)));
            stop.store(true, Ordering::Relaxed);
            while !is_waiting(number) {
                std::thread::yield_now();
            }
            worker.thread().unpark();
        });
        assert!(!is_waiting(thread.load(Ordering::Acquire)));
    }
}
