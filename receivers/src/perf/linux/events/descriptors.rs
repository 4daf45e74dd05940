//! The file descriptors that events of threads may take.
//!
//! There is one for each thread and CPU. Some are left for what cannot do without: mappings of
//! processes and the files that they show.

use std::fs;

use profpipe_engine::component::Error;

use rustix::process::{Resource, getrlimit};

use super::session::MAX_THREADS;

/// Descriptors that events leave free, at most; where there are few, a third of them.
const RESERVE: u64 = 512;

/// The descriptors that are left for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// The limit of this process.
    pub(crate) limit: u64,
    /// How many of them events may still take.
    pub(crate) left: u64,
}

impl Descriptors {
    /// Those of this process now.
    pub(crate) fn now() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        Self::of(limit, open)
    }

    fn of(limit: u64, open: u64) -> Self {
        let reserve = RESERVE.min(limit / 3);
        Self { limit, left: limit.saturating_sub(open).saturating_sub(reserve) }
    }

    /// Takes so many; false if there are not enough.
    pub(crate) fn take(&mut self, count: usize) -> bool {
        let left = self.left.checked_sub(count as u64);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Gives so many back.
    pub(crate) fn give_back(&mut self, count: usize) {
        self.left = self.left.saturating_add(count as u64).min(self.limit);
    }
}

/// Why a process cannot be attached to that has so many threads.
pub(super) fn too_many_threads(pid: u32, threads: usize, cpus: usize) -> Error {
    let descriptors = Descriptors::now();
    let most = (descriptors.left / cpus.max(1) as u64).min(MAX_THREADS as u64);
    Error::new(format!(
        "process {pid} has {threads} threads, and at most {most} can be profiled with {} open files on \
         {cpus} CPUs; raise the limit with `ulimit -n {}`, or run as root or with CAP_PERFMON",
        descriptors.limit,
        (threads.saturating_mul(cpus) * 3 / 2).next_power_of_two().max(4096)
    ))
}

/// That some threads are not attached to.
pub(super) fn few_descriptors(missing: u64, descriptors: &Descriptors) -> String {
    format!(
        "{missing} threads are not profiled: there are no descriptors left for them with {} open files; \
         raise the limit with `ulimit -n 65536`",
        descriptors.limit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: limits from small to none, events that come and go.
    /// Guarantees: enough is left for files; what is taken and given back balances; no overflow.
    #[test]
    fn some_are_left_for_files() {
        for (limit, open, left) in [(1024, 24, 659), (20_000, 0, 19_488), (90, 80, 0), (0, 5, 0)] {
            assert_eq!(Descriptors::of(limit, open).left, left, "{limit}");
        }
        let mut some = Descriptors::of(1024, 24);
        assert!(some.take(600) && !some.take(60) && some.take(59) && !some.take(1));
        some.give_back(4);
        assert!(some.take(4) && !some.take(1));
        assert!(Descriptors::of(u64::MAX, 3).take(1 << 20));
    }
}
