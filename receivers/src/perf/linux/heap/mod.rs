//! The heaps of programs that have loaded the library of `profpipe-heap`.
//!
//! Programs that nobody has started with the [`library`] find it beside the socket. Each program hands over a [`ring`] at a socket ([`listener`]); what it says there ([`mod@record`]) becomes
//! samples in the order of time, unwound as those of the kernel are. The blocks that were sampled and not
//! freed are kept ([`live`]) until they are, or their program ends.
//!
//! Programs of Go sample themselves: [`go`] reads what they have.
//!
//! What is kept of a program is bounded, and so is how many samples it takes: the mean gap between samples
//! grows where there are too many, and every sample says which gap it was taken with.

pub(super) mod go;
mod library;
mod listener;
pub(super) mod live;
mod record;
mod ring;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use profpipe_engine::telemetry::Counter;
use profpipe_heap::layout::place;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::listener::HeapListener;
use self::live::Live;
use self::ring::{Losses, ProgramRing};
use crate::perf::linux::thread::now;

pub(super) use self::library::write_beside;
pub(super) use self::record::{Allocation, HeapRecord, Snapshot};

/// The most programs at a time.
const MAX_PROGRAMS: usize = 1024;
/// The most bytes of samples that wait to be unwound.
const MAX_WAITING: usize = 64 << 20;
/// What a record takes beside its stack, about.
const RECORD: usize = 256;
/// With more samples of a program in a second the gap between them becomes larger, and with less than a quarter
/// it halves again.
const MAX_SAMPLES: u64 = 2_000;
/// How often rings are read while samples are unwound, in nanoseconds.
const POLL_NANOS: u64 = 5_000_000;
const SECOND: u64 = 1_000_000_000;

/// A record of a program.
#[derive(Debug)]
pub(super) struct Found {
    /// The number of the program.
    pub(super) program: u64,
    pub(super) record: HeapRecord,
}

/// A program.
#[derive(Debug)]
pub(super) struct Program {
    /// Its number.
    number: u64,
    pub(super) pid: u32,
    ring: ProgramRing,
    process: Option<OwnedFd>,
    /// It has ended, and its ring was read to the end.
    is_over: bool,
    /// And all of that was taken.
    pub(super) is_finished: bool,
    /// When the ring was made.
    created: u64,
    pub(super) live: Live,
    interval: u64,
    /// Samples in the second that began then.
    samples: u64,
    since: u64,
    /// It was told where its CPython has what it runs.
    pub(super) is_python: bool,
}

/// The programs, and what they have said that was not taken yet.
pub(super) struct Heap {
    listener: HeapListener,
    programs: Vec<Program>,
    last: u64,
    interval: u64,
    found: VecDeque<Found>,
    waiting: usize,
    /// When rings were read last.
    polled: u64,
    scratch: Vec<u8>,
    losses: Losses,
    /// Blocks that could not be followed.
    pub(super) unfollowed: Counter,
}

impl Heap {
    /// Listens at a path, for programs that take a sample in so many bytes.
    pub(super) fn listen(path: &Path, interval: u64, unfollowed: Counter) -> io::Result<Self> {
        Ok(Self {
            listener: HeapListener::bind(path)?,
            programs: Vec::new(),
            last: 0,
            interval,
            found: VecDeque::new(),
            waiting: 0,
            polled: 0,
            scratch: Vec::new(),
            losses: Losses::default(),
            unfollowed,
        })
    }

    /// The same if that was not done lately: what was taken may be much to unwind, and meanwhile rings fill.
    pub(super) fn poll_again(&mut self) {
        if now() >= self.polled + POLL_NANOS {
            self.poll();
        }
    }

    /// Takes what programs have said until now.
    pub(super) fn poll(&mut self) {
        let now = now();
        self.polled = now;
        for arrival in self.listener.accept() {
            let ring = match ProgramRing::map(&arrival.file) {
                Ok(ring) if self.programs.len() < MAX_PROGRAMS => ring,
                Ok(_) => {
                    self.losses.samples += 1;
                    continue;
                }
                Err(error) => {
                    tracing::warn!("perf: process {}: heap: {error}", arrival.pid);
                    continue;
                }
            };
            self.last += 1;
            ring.set_interval(self.interval);
            self.programs.push(Program {
                number: self.last,
                pid: arrival.pid,
                process: arrival.process,
                is_over: false,
                is_finished: false,
                created: ring.created().min(now),
                ring,
                live: Live::default(),
                interval: self.interval,
                samples: 0,
                since: now,
                is_python: false,
            });
        }
        let over = self.are_over();
        for (program, is_over) in self.programs.iter_mut().zip(over) {
            let (found, waiting, losses) = (&mut self.found, &mut self.waiting, &mut self.losses);
            let number = program.number;
            let mut samples = 0;
            let wrong = program.ring.read(now, is_over, &mut self.scratch, |kind, body| {
                let Some(record) = record::parse(kind, body, now) else {
                    losses.samples += 1;
                    return;
                };
                if let HeapRecord::Allocated(_) = record {
                    samples += 1;
                    if *waiting > MAX_WAITING {
                        losses.samples += 1;
                        return;
                    }
                }
                *waiting += size_of_record(&record);
                found.push_back(Found { program: number, record });
            });
            let lost = program.ring.take_losses();
            losses.samples += lost.samples + u64::from(wrong > 0);
            losses.unfollowed += lost.unfollowed;
            program.is_over |= is_over;
            program.pace(samples + lost.samples, now, self.interval);
        }
        // Of each program in the order in which it was said.
        self.found.make_contiguous().sort_by_key(|found| found.record.time());
    }

    /// Which programs have ended.
    fn are_over(&self) -> Vec<bool> {
        let processes = self.programs.iter().filter_map(|program| program.process.as_ref());
        let mut watched: Vec<_> =
            processes.map(|process| PollFd::new(process, PollFlags::IN)).collect();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_asked = poll(&mut watched, Some(&at_once)).is_ok();
        let mut ended = watched.iter().map(|it| is_asked && it.revents().contains(PollFlags::IN));
        self.programs
            .iter()
            .map(|program| program.process.is_none() || ended.next().unwrap_or(false))
            .collect()
    }

    /// When the next record was, if there is one.
    pub(super) fn next_time(&self) -> Option<u64> {
        self.found.front().map(|found| found.record.time())
    }

    /// Takes the next record.
    pub(super) fn take(&mut self) -> Option<Found> {
        let found = self.found.pop_front()?;
        self.waiting -= size_of_record(&found.record);
        Some(found)
    }

    /// The samples that were lost, and the blocks that may be freed and still be counted, since this was
    /// asked.
    pub(super) fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// A program.
    pub(super) fn program(&mut self, number: u64) -> Option<&mut Program> {
        self.programs.iter_mut().find(|program| program.number == number)
    }

    /// A process has ended.
    pub(super) fn has_ended(&mut self, pid: u32) {
        let programs = self.programs.iter_mut();
        programs.filter(|program| program.pid == pid).for_each(|program| program.is_over = true);
    }

    /// All of them.
    pub(super) fn programs(&mut self) -> &mut [Program] {
        &mut self.programs
    }

    /// All of them, to be put back: what is left to be taken is theirs.
    pub(super) fn take_programs(&mut self) -> Vec<Program> {
        let found = &self.found;
        for program in &mut self.programs {
            program.is_finished =
                program.is_over && !found.iter().any(|it| it.program == program.number);
        }
        std::mem::take(&mut self.programs)
    }

    /// Puts programs back, but for those that have ended and have nothing left to be taken.
    pub(super) fn put_back(&mut self, mut programs: Vec<Program>) {
        programs.retain(|program| !program.is_finished);
        self.programs = programs;
    }

    /// Forgets the programs that `is_ended` says, and returns them.
    pub(super) fn end(&mut self, mut is_ended: impl FnMut(&Program) -> bool) -> Vec<Program> {
        self.programs.extract_if(.., |program| is_ended(program)).collect()
    }
}

impl Program {
    /// Whether it is of a process, and its ring was made before a time.
    pub(super) fn is_of(&self, pid: u32, before: u64) -> bool {
        self.pid == pid && self.created <= before
    }

    /// Says where the program's CPython has what a thread runs.
    pub(super) fn set_python(&mut self, places: &[u64; place::COUNT]) {
        self.ring.set_python(places);
        self.is_python = true;
    }

    /// Takes fewer samples where there are too many: at once where they are far too many.
    fn pace(&mut self, samples: u64, now: u64, base: u64) {
        self.samples += samples;
        let elapsed = now.saturating_sub(self.since);
        let too_many = self.samples / (2 * MAX_SAMPLES);
        if elapsed < SECOND && too_many == 0 {
            return;
        }
        let rate = self.samples.saturating_mul(SECOND) / elapsed.max(SECOND);
        if rate > MAX_SAMPLES {
            let factor = (rate / MAX_SAMPLES).next_power_of_two().max(2);
            self.interval = self.interval.saturating_mul(factor).min(record::MAX_INTERVAL);
        } else if rate < MAX_SAMPLES / 4 {
            self.interval = (self.interval / 2).max(base);
        }
        self.ring.set_interval(self.interval);
        (self.samples, self.since) = (0, now);
    }
}

fn size_of_record(record: &HeapRecord) -> usize {
    match record {
        HeapRecord::Allocated(allocation) => {
            let python = allocation.python.as_ref().map_or(0, Snapshot::len);
            RECORD + allocation.stack.len() + python
        }
        HeapRecord::Freed { .. } => RECORD,
    }
}
