//! The seats of the readers: one for each CPU, as long as there is something to read.
//!
//! A process can make the kernel wait for it while its memory is read. The reader is then left behind
//! and another takes its seat, the process is barred; after a few no more are started, and managed
//! programs show as native code.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringbuf::traits::{Consumer, Split};
use ringbuf::{HeapCons, HeapRb};

use super::{Reading, Seat, Setup, run};
use crate::perf::linux::events::session::Session;
use crate::perf::linux::events::sys::Attr;
use crate::perf::linux::records::record::Layouts;
use crate::perf::linux::records::ring::Follower;
use crate::perf::linux::runtimes::attached::Versioned;
use crate::perf::linux::runtimes::discovery::{Discovery, Shared};

/// The readings that wait for the drain thread: a second at 1,000 Hz.
const MAX_READINGS: usize = 1024;
/// The stack of a reader.
const STACK: usize = 256 << 10;
/// How long a read may take before its reader is left behind, in nanoseconds.
pub(crate) const LONGEST_READ: u64 = 50_000_000;

/// The reader of a CPU.
struct Taken {
    cpu: u32,
    seat: Arc<Seat>,
    readings: HeapCons<Reading>,
    /// The one that came after the sample that was last asked for.
    next: Option<Reading>,
}

/// The readers that there are.
#[derive(Default)]
pub(crate) struct Seats {
    taken: Vec<Taken>,
    /// How records are to be read, and the version of that.
    layouts: Arc<Versioned<Layouts>>,
    version: u64,
    /// The CPU time of those that are gone.
    before: u64,
}

impl Seats {
    /// Whether there are readers.
    pub(crate) fn are_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Starts a reader on every CPU of a session that has none, but for those that are kept free of
    /// all but their own work.
    pub(crate) fn fill(
        &mut self,
        (session, layouts): (&Session, &Layouts),
        shared: &Shared,
        discovery: &Discovery,
    ) {
        if self.taken.is_empty() || self.version != layouts.version() {
            self.version = layouts.version();
            self.layouts.change(|_| layouts.clone());
        }
        let isolated = isolated();
        let places = session.cpus.iter().zip(&session.owners).zip(&session.rings);
        for ((cpu, owner), ring) in places {
            let cpu = cpu.cast_unsigned();
            if isolated.contains(&cpu.cast_signed()) || self.taken.iter().any(|it| it.cpu == cpu) {
                continue;
            }
            let Ok(event) = owner.as_fd().try_clone_to_owned() else { continue };
            self.taken.extend(start(
                cpu,
                (event, ring.follower(), Arc::clone(&self.layouts), session.choices.counting()),
                shared,
                discovery,
            ));
        }
    }

    /// Ends all readers.
    pub(crate) fn clear(&mut self) {
        for taken in &self.taken {
            taken.seat.leave();
            self.before += taken.seat.cpu_time.load(Ordering::Relaxed);
        }
        self.taken.clear();
    }

    /// Leaves the readers behind that a process keeps; returns those processes.
    pub(crate) fn leave_stuck(&mut self) -> Vec<u32> {
        let mut processes = Vec::new();
        self.taken.retain(|taken| match taken.seat.stuck(LONGEST_READ) {
            Some(process) => {
                taken.seat.leave();
                processes.push(process);
                false
            }
            None => true,
        });
        processes
    }

    /// What the reader of a CPU has seen of a sample.
    pub(crate) fn reading(&mut self, cpu: u32, tid: u32, time: u64) -> Option<Reading> {
        let taken = self.taken.iter_mut().find(|taken| taken.cpu == cpu)?;
        loop {
            let reading = taken.next.take().or_else(|| taken.readings.try_pop())?;
            if reading.time > time {
                taken.next = Some(reading);
                return None;
            }
            if reading.time == time && reading.tid == tid {
                return Some(reading);
            }
        }
    }

    /// The CPU time of all readers so far.
    pub(crate) fn cpu_time(&self) -> u64 {
        let now = self.taken.iter().map(|taken| taken.seat.cpu_time.load(Ordering::Relaxed));
        self.before + now.sum::<u64>()
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.clear();
    }
}

fn start(
    cpu: u32,
    (event, ring, layouts, counting): (OwnedFd, Follower, Arc<Versioned<Layouts>>, Attr),
    shared: &Shared,
    discovery: &Discovery,
) -> Option<Taken> {
    let (readings, consumer) = HeapRb::new(MAX_READINGS).split();
    let seat = Arc::<Seat>::default();
    let setup = Setup {
        cpu,
        event,
        ring,
        layouts,
        counting,
        readings,
        seat: Arc::clone(&seat),
        shared: shared.clone(),
        discovery: discovery.clone(),
    };
    let thread = std::thread::Builder::new().name("perf-reader".into()).stack_size(STACK);
    // Without the thread the stacks of this CPU are native.
    thread.spawn(move || run(setup)).ok()?;
    Some(Taken { cpu, seat, readings: consumer, next: None })
}

/// The CPUs that the scheduler keeps free.
fn isolated() -> Vec<i32> {
    let list = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/devices/system/cpu/{name}"));
        crate::perf::linux::events::tasks::parse_cpus(&text.unwrap_or_default())
    };
    let mut cpus = list("isolated");
    cpus.extend(list("nohz_full"));
    cpus
}
