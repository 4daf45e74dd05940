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
