//! What this program itself costs: CPU time and resident memory, its worker process included.

use std::time::Duration;

use profpipe_host::proc::Stat;
use rustix::time::{ClockId, clock_gettime};

/// Own cost at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU time since the start.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes, where the system tells.
    pub(crate) resident: Option<u64>,
    /// Resident memory of its children: mostly the binaries that the symbolizer's worker has
    /// mapped, which the system takes back when it needs the room.
    pub(crate) children_resident: u64,
}

/// Reads own cost.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of children, the highest seen: it must not go back when one ends.
    children: Duration,
}

impl Usage {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn read(&mut self) -> Cost {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let own = Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        );
        let mut cpu = Duration::ZERO;
        let mut children_resident = 0;
        for child in children() {
            cpu += cpu_of(&child).unwrap_or_default();
            children_resident += resident(&child).unwrap_or_default();
        }
        self.children = self.children.max(cpu);
        Cost { cpu: own + self.children, resident: resident("self"), children_resident }
    }
}

/// The processes that this one started; none where the system does not tell.
fn children() -> Vec<String> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let of_thread = |thread: std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("children")).unwrap_or_default()
    };
    let lists: Vec<String> = threads.flatten().map(of_thread).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect()
}

/// User and system time of a process.
fn cpu_of(process: &str) -> Option<Duration> {
    let ticks = Stat::read(process.parse().ok()?)?.cpu_time;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

fn resident(process: &str) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
