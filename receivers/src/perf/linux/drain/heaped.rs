//! Blocks of the heaps of programs, taken in as samples are, and those that are not freed.
//!
//! A sampled block is two samples: so many bytes and so many blocks, which it stands for. What is not freed
//! is told at the end of each window, or once for all, when its program ends.

use std::sync::Arc;
use std::time::Duration;

use ringbuf::traits::{Observer, Producer};

use super::Drain;
use super::deferred::Deferred;
use super::go_heaps::GoPrograms;
use super::taken::Taken;
use crate::perf::linux::events::session::Session;
use crate::perf::linux::handoff::{Counted, EventIx, Frame, Message, NO_THREAD};
use crate::perf::linux::heap::live::{Live, Origin, Stands};
use crate::perf::linux::heap::{Allocation, Found, Heap, HeapRecord, Snapshot};
use crate::perf::linux::records::record::Sample;
use crate::perf::linux::runtimes::reader::Reading;
use crate::perf::linux::runtimes::{ManagedThread, Runtime, Walk};

/// How often rings are read, at least: they hold a hundred samples of deep stacks.
const ROUND_TIMEOUT: Duration = Duration::from_millis(20);

/// A sampled block, until its stack is unwound.
#[derive(Debug)]
pub(super) struct HeapSample {
    program: u64,
    pid: u32,
    /// Tells it from earlier ones at its address.
    serial: u64,
    stands: Stands,
    allocation: Box<Allocation>,
    /// What a managed program was in there.
    reading: Option<Reading>,
}

/// The heaps of programs.
pub(super) struct Heaped {
    /// The numbers of what is allocated and what is not freed, in bytes and in blocks.
    events: [EventIx; 4],
    pub(super) heap: Option<Heap>,
    /// What is not freed is wanted, and only at the end of its program.
    is_live: bool,
    at_end: bool,
    serial: u64,
    random: u64,
    walk: Walk,
    /// Go programs, which sample themselves.
    pub(super) go: GoPrograms,
    /// The window that ends is the last one.
    is_last: bool,
    /// It was said that frees were lost.
    is_told: bool,
}

impl Heaped {
    pub(super) fn new(session: &Session, heap: Option<Heap>) -> Self {
        let options = session.chosen.heap.as_ref();
        Self {
            events: session.chosen.heap_numbers(),
            heap,
            is_live: options.is_some_and(|options| options.live),
            at_end: options.is_some_and(|options| options.at_end),
            serial: 0,
            walk: Walk::default(),
            go: GoPrograms::default(),
            is_last: false,
            random: 0x9e37_79b9_7f4a_7c15,
            is_told: false,
        }
    }

    /// The numbers of what is allocated and what is not freed, in bytes and in blocks.
    pub(super) fn events(&self) -> [EventIx; 4] {
        self.events
    }

    /// Whether what is not freed is wanted.
    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    /// How long a round may be.
    pub(super) fn round(&self, timeout: Duration) -> Duration {
        if self.heap.is_some() { timeout.min(ROUND_TIMEOUT) } else { timeout }
    }

    /// No window comes after the one that ends next.
    pub(super) fn finish(&mut self) {
        self.is_last = true;
    }

    /// Reads what programs have said.
    pub(super) fn poll(&mut self) {
        if let Some(heap) = &mut self.heap {
            heap.poll();
        }
    }

    /// When the next block was allocated or freed.
    pub(super) fn next_time(&self) -> Option<u64> {
        self.heap.as_ref()?.next_time()
    }

    /// What a sampled block stands for. Blocks are whole: what is left over is one more, as often as it
    /// should be.
    fn stands(&mut self, allocation: &Allocation) -> Stands {
        // xorshift64: the sums are right whatever its state is.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        let blocks = allocation.blocks();
        let bytes = (allocation.size as f64 * blocks).round();
        Stands { bytes: bytes as u64, blocks: (blocks + uniform) as u64 }
    }

    /// A sample was counted with its bytes: the same with its blocks. It is known now where it was
    /// allocated.
    pub(super) fn count(
        &mut self,
        found: &HeapSample,
        bytes: Counted,
        frames: &[Frame],
    ) -> Counted {
        let [_, blocks, ..] = self.events;
        if let Some(program) = self.heap.as_mut().and_then(|heap| heap.program(found.program)) {
            let (process, unwound) = (bytes.process, bytes.unwound);
            let origin = Origin { process, frames: frames.into(), unwound };
            program.live.unwound(found.allocation.address, found.serial, origin);
        }
        Counted { event: blocks, weight: found.stands.blocks, ..bytes }
    }
}

impl Drain {
    /// Takes the next block that was allocated or freed.
    pub(super) fn take_block(&mut self) {
        let Some(heap) = &mut self.heaped.heap else { return };
        heap.poll_again();
        let Some(Found { program: number, record }) = heap.take() else { return };
        let Some(program) = heap.program(number) else { return };
        let mut allocation = match record {
            HeapRecord::Freed { address, .. } => return program.live.freed(address),
            HeapRecord::Allocated(allocation) => allocation,
        };
        let pid = program.pid;
        let stands = self.heaped.stands(&allocation);
        self.heaped.serial += 1;
        let serial = self.heaped.serial;
        let is_live = self.heaped.is_live && allocation.is_followed;
        let program = self.heaped.heap.as_mut().and_then(|heap| heap.program(number));
        if let Some(program) = program
            && is_live
        {
            program.live.allocated(allocation.address, serial, stands);
        }
        if let Some(governed) = &mut self.governed {
            governed.begin_record();
        }
        let reading =
            allocation.python.take().and_then(|it| self.read_python(pid, &allocation, it));
        let found = HeapSample { program: number, pid, serial, stands, allocation, reading };
        self.block(&Arc::new(found), &|_| true);
        if let Some(governed) = &mut self.governed {
            governed.end_look();
        }
    }

    /// What the thread of an allocation runs in CPython, from what it has copied of it.
    fn read_python(
        &mut self,
        pid: u32,
        allocation: &Allocation,
        mut snapshot: Snapshot,
    ) -> Option<Reading> {
        let managed = self.managed.as_mut()?;
        let attached = Arc::clone(managed.attached().current().get(&pid)?);
        let mut thread = ManagedThread { tid: allocation.tid, state: Some(snapshot.state) };
        let walk = &mut self.heaped.walk;
        walk.restart(0);
        if attached.runtime.heap()?.walk(&mut thread, &mut snapshot, walk) != Ok(true) {
            return None;
        }
        let (time, tid) = (allocation.time, allocation.tid);
        let (frames, truncated) = (walk.frames.as_slice().into(), walk.truncated);
        let reading = Reading { time, tid, attached, frames, truncated };
        managed.ask_for_names(&reading);
        Some(reading)
    }

    /// Tells programs where their CPython has what they run, as soon as that is known.
    pub(super) fn tell_places(&mut self) {
        self.find_go_programs();
        let (Some(heap), Some(managed)) = (&mut self.heaped.heap, &self.managed) else { return };
        let attached = managed.attached().current();
        for program in heap.programs().iter_mut().filter(|program| !program.is_python) {
            let runtime = attached.get(&program.pid).and_then(|it| it.runtime.heap());
            if let Some(places) = runtime.and_then(Runtime::places) {
                program.set_python(&places);
            }
        }
    }

    /// Counts a block; puts it off if the rules that it needs are not read and it may be tried `again`.
    pub(super) fn block(&mut self, found: &Arc<HeapSample>, again: &dyn Fn(&Sample<'_>) -> bool) {
        let Allocation { time, tid, registers, ref stack, .. } = *found.allocation;
        let [bytes, ..] = self.heaped.events;
        let sample = Sample::found(bytes, (found.pid, tid), time, registers, stack);
        let weight = found.stands.bytes;
        let reading = found.reading.as_ref();
        let taken = Taken { weight, events: 1, reading, heap: Some(found), ..Taken::default() };
        let retry = || Deferred::Block(Arc::clone(found));
        let retry: Option<&dyn Fn() -> Deferred> = if again(&sample) { Some(&retry) } else { None };
        self.sample(&sample, taken, retry);
    }

    /// A thread has ended; with its process its heap has, which is told when the window ends: its samples may
    /// still wait for unwinding tables.
    pub(super) fn exit(&mut self, pid: u32, tid: u32) {
        self.processes.exit(pid, tid);
        if let Some(heap) = &mut self.heaped.heap
            && self.processes.id_of(pid).is_none()
        {
            heap.has_ended(pid);
        }
    }

    /// The heaps of a process that were begun before a time are no more.
    pub(super) fn end_heap(&mut self, pid: u32, before: u64) {
        let Some(heap) = &mut self.heaped.heap else { return };
        for program in heap.end(|program| program.is_of(pid, before)) {
            if self.heaped.at_end && self.heaped.is_live {
                let time = before.min(crate::perf::linux::thread::now());
                self.tell_in_use(program.pid, &program.live, time);
            }
        }
    }

    /// Tells what is not freed when a window ends, perhaps the last one.
    pub(super) fn end_heaps(&mut self, end: u64) {
        let Heaped { heap: Some(heap), is_live, at_end, is_last, is_told, .. } = &mut self.heaped
        else {
            return;
        };
        let losses = heap.take_losses();
        self.dropped += losses.samples;
        heap.unfollowed.add(losses.unfollowed);
        if losses.unfollowed > 0 && !std::mem::replace(is_told, true) {
            tracing::warn!(
                "perf: {} sampled blocks could not be followed until they are freed: what is in use is too \
                 large, or too small",
                losses.unfollowed
            );
        }
        let is_wanted = *is_live && (*is_last || !*at_end);
        let mut programs = heap.take_programs();
        for program in &mut programs {
            // Those that nobody has reported to have ended, too.
            if is_wanted || program.is_finished {
                self.tell_in_use(program.pid, &program.live, end);
            }
            program.live.shrink();
        }
        if let Some(heap) = &mut self.heaped.heap {
            heap.put_back(programs);
        }
        self.tell_go_heaps(end, is_wanted);
    }

    /// Tells what a program has not freed.
    fn tell_in_use(&mut self, pid: u32, live: &Live, time: u64) {
        let [_, _, bytes, blocks] = self.heaped.events;
        let is_known = |process| self.processes.id_of(pid) == Some(process);
        if live.sums().next().is_some_and(|(origin, _)| is_known(origin.process)) {
            self.announce(pid);
        }
        for (origin, sum) in live.sums() {
            self.tell_heap([bytes, blocks], origin, *sum, time);
        }
    }

    /// Tells bytes and blocks of an origin that have no sample of their own.
    pub(super) fn tell_heap(
        &mut self,
        [bytes, blocks]: [EventIx; 2],
        origin: &Origin,
        stands: Stands,
        time: u64,
    ) {
        if stands.blocks == 0 {
            return;
        }
        if self.out.vacant_len() < 16 {
            self.dropped += 1;
            return;
        }
        let Origin { process, ref frames, unwound } = *origin;
        let (stack, new) = self.stacks.intern(frames);
        if let Some(frames) = new {
            let _ = self.out.try_push(Message::Stack(stack, frames));
        }
        for (event, weight) in [(bytes, stands.bytes), (blocks, stands.blocks)] {
            let _ = self.out.try_push(Message::Sample(Counted {
                event,
                label: None,
                process,
                tid: NO_THREAD,
                stack,
                unwound,
                weight,
                events: 1,
                time,
            }));
        }
    }
}
