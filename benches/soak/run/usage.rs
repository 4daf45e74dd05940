//! What the agent holds, and what the host does, as `/proc` tells it.

use std::fs;

use super::process::children;

/// One look at an agent and its worker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Seconds since its start.
    pub(crate) at: f64,
    /// Anonymous memory of the agent, in MiB.
    pub(crate) agent: f64,
    /// That of the worker beside it, 0 if there is none: of the largest child.
    pub(crate) worker: f64,
    /// Open descriptors of the agent.
    pub(crate) descriptors: usize,
    /// Processes that the host has started since it runs.
    pub(crate) forks: usize,
}

impl Usage {
    pub(crate) fn of(pid: u32, at: f64) -> Self {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let worker = children(pid).into_iter().map(anonymous).fold(0.0, f64::max);
        Self { at, agent: anonymous(pid), worker, descriptors, forks: forks() }
    }
}

fn anonymous(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    number.unwrap_or(0.0) / 1024.0
}

/// CPU seconds that all processes of the host have used.
pub(crate) fn busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = stat.lines().next().unwrap_or_default();
    let figures = all.split_whitespace().skip(1).map(|figure| figure.parse().unwrap_or(0.0));
    let figures: Vec<f64> = figures.collect();
    // user, nice, system, then idle and waiting, which are left out, interrupts.
    let of = |at: usize| figures.get(at).copied().unwrap_or(0.0);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    (of(0) + of(1) + of(2) + of(5) + of(6)) / ticks
}

fn forks() -> usize {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("processes "));
    line.and_then(|figure| figure.trim().parse().ok()).unwrap_or(0)
}

/// The first figure of the load average.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|figure| figure.parse().ok()).unwrap_or(f64::NAN)
}
