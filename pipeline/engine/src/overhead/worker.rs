//! The CPU time of other processes of ours: the symbolizer's workers.

use std::fs::File;

/// What the workers took, those included that have ended.
#[derive(Debug, Default)]
pub(super) struct Workers {
    running: Vec<Worker>,
    /// Nanoseconds of those that have ended.
    past: u64,
}

#[derive(Debug)]
struct Worker {
    pid: u32,
    /// The `schedstat` of its threads. The kernel brings one up to date when the thread is
    /// interrupted, waits or is held, no sooner.
    threads: Vec<File>,
    /// Nanoseconds when last read.
    seen: u64,
    /// Nanoseconds that are in the ledger.
    told: u64,
}

/// A worker has a thread that waits and one that works.
const THREADS: usize = 2;

impl Workers {
    pub(super) fn began(&mut self, pid: u32) {
        self.ends(pid);
        self.running.push(Worker { pid, threads: Vec::new(), seen: 0, told: 0 });
    }

    pub(super) fn ends(&mut self, pid: u32) {
        self.past += self.cpu_of(pid);
        self.running.retain(|worker| worker.pid != pid);
    }

    /// Nanoseconds of all so far.
    pub(super) fn cpu(&mut self) -> u64 {
        self.past + self.running.iter_mut().map(Worker::cpu).sum::<u64>()
    }

    /// Nanoseconds of one that runs.
    fn cpu_of(&mut self, pid: u32) -> u64 {
        self.running.iter_mut().find(|worker| worker.pid == pid).map_or(0, Worker::cpu)
    }

    /// What those that run have taken since they were last asked; one of them, or all.
    pub(super) fn untold(&mut self, pid: Option<u32>) -> u64 {
        let asked = |worker: &&mut Worker| pid.is_none_or(|pid| worker.pid == pid);
        self.running.iter_mut().filter(asked).map(Worker::untold).sum()
    }
}

impl Worker {
    fn untold(&mut self) -> u64 {
        let now = self.cpu();
        now.saturating_sub(std::mem::replace(&mut self.told, now))
    }

    fn cpu(&mut self) -> u64 {
        if self.threads.len() < THREADS {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid));
            let tasks = tasks.into_iter().flatten().flatten();
            self.threads =
                tasks.filter_map(|task| File::open(task.path().join("schedstat")).ok()).collect();
        }
        // One that has ended says nothing.
        self.seen = self.seen.max(self.threads.iter().filter_map(read).sum());
        self.seen
    }
}

#[cfg(unix)]
fn read(file: &File) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    let mut text = [0; 32];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(not(unix))]
fn read(_: &File) -> Option<u64> {
    None
}
