//! Looks at waiting threads, taken in as samples are.

use std::sync::Arc;

use hashbrown::HashMap;
use ringbuf::traits::{Observer, Producer};

use super::deferred::Deferred;
use super::taken::Taken;
use super::{Drain, facts};
use crate::perf::linux::events::session::Session;
use crate::perf::linux::handoff::{
    Counted, EventIx, Frame, Message, NAMED_ROW, NO_THREAD, Total, Unwound,
};
use crate::perf::linux::looks::{Blocked, Look, Looks};
use crate::perf::linux::processes::probe_page::STEP;
use crate::perf::linux::records::arch::{PROGRAM_COUNTER, STACK_POINTER};
use crate::perf::linux::records::record::Sample;
use crate::perf::linux::unwind::registers::RegisterSet;

/// The most names of kernel functions; there are some thousands that can be waited in.
const MAX_NAMES: usize = 1 << 14;
/// The most places where threads were seen to wait.
const MAX_PLACES: usize = 2048;
/// With fewer looks a process has the time that they stand for, and not what it was blocked exactly.
const MIN_LOOKS: u64 = 30;
/// The row of a process for the time that its threads were ready and had no CPU.
const READY: &str = "[runnable]";
/// The same for threads that have not run for long.
const PARKED: &str = "[parked]";

/// Where a thread was seen to wait: it, its stack pointer and its instruction.
type Place = (u32, u64, u64);

/// What looks have found, and what is known of the places.
pub(super) struct Looked {
    event: EventIx,
    looks: Option<Looks>,
    /// No event reports what processes map.
    is_alone: bool,
    names: HashMap<Box<str>, u32>,
    /// Names that the aggregation thread does not know.
    new_names: Vec<(u32, Arc<str>)>,
    /// The frames of a thread that waits where it has been seen to wait before.
    places: HashMap<Place, (Box<[Frame]>, Option<Unwound>)>,
    /// The names of events that are probes which programs were written with.
    points: Vec<Option<u64>>,
}

impl Looked {
    pub(super) fn new(session: &Session, looks: Option<Looks>) -> Self {
        let mut looked = Self {
            event: session.chosen.off_cpu_number(),
            looks,
            is_alone: session.has_no_events(),
            names: HashMap::new(),
            new_names: Vec::new(),
            places: HashMap::new(),
            points: Vec::new(),
        };
        // The first is `PROBE_NAME`.
        looked.number(STEP);
        let points = session.chosen.ring.iter().map(|it| it.point.as_deref());
        looked.points = points.map(|point| looked.number(point?)).collect();
        looked
    }

    /// A probe that the program was written with is what is innermost.
    pub(super) fn add_point(&self, event: EventIx, frames: &mut Vec<Frame>) {
        if let Some(number) = self.points.get(event.at()).copied().flatten() {
            frames.insert(0, Frame { row: NAMED_ROW, address: number });
        }
    }

    /// When the next look was.
    pub(super) fn next_time(&mut self) -> Option<u64> {
        let looks = self.looks.as_mut()?;
        looks.replace_stuck();
        looks.next_time()
    }

    /// No more looks.
    pub(super) fn stop(&mut self) {
        if let Some(looks) = &mut self.looks {
            looks.stop();
        }
    }

    /// Whether nothing reports what processes map, and that they end.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether a stack may be broken because the process has mapped something since its mappings were read.
    pub(super) fn doubts(&self, taken: &Taken<'_>) -> bool {
        self.is_alone && !taken.is_renewed && taken.look.is_some_and(|look| !look.blocked.is_torn)
    }

    /// The frames of a look from what unwinding has made of it: those of the kernel come before. Where the
    /// thread went on meanwhile, they are those with which it was seen at that place before.
    pub(super) fn finish(
        &mut self,
        look: &Look,
        is_managed: bool,
        frames: &mut Vec<Frame>,
        unwound: Option<Unwound>,
    ) -> Option<Unwound> {
        let Blocked { instruction, stack_pointer, ref kernel, is_torn, .. } = look.blocked;
        let place = (look.tid, stack_pointer, instruction);
        if is_torn {
            if let Some((known, unwound)) = self.places.get(&place) {
                frames.clear();
                frames.extend_from_slice(known);
                return *unwound;
            }
            return Some(Unwound::Broken);
        }
        let numbers: Vec<_> = kernel.iter().map_while(|name| self.number(name)).collect();
        let named = numbers.into_iter().map(|number| Frame { row: NAMED_ROW, address: number });
        frames.splice(0..0, named);
        if self.places.len() >= MAX_PLACES {
            self.places.clear();
        }
        if !is_managed {
            // What a managed program is in is not told by where its interpreter is.
            self.places.insert(place, (frames.as_slice().into(), unwound));
        }
        unwound
    }

    fn number(&mut self, name: &str) -> Option<u64> {
        if let Some(number) = self.names.get(name) {
            return Some((*number).into());
        }
        if self.names.len() >= MAX_NAMES {
            return None;
        }
        let number = self.names.len() as u32;
        self.names.insert(name.into(), number);
        self.new_names.push((number, name.into()));
        Some(number.into())
    }

    /// The names that are new since this was asked.
    pub(super) fn take_names(&mut self) -> Vec<(u32, Arc<str>)> {
        std::mem::take(&mut self.new_names)
    }
}

impl Drain {
    /// Takes the next look, and where there is a budget notes what that took.
    pub(super) fn take_look(&mut self) {
        let Some(look) = self.looked.looks.as_mut().and_then(Looks::take) else { return };
        if let Some(governed) = &mut self.governed {
            governed.begin_record();
        }
        self.look(Arc::new(look), false, &|_| true);
        if let Some(governed) = &mut self.governed {
            governed.end_look();
        }
    }

    /// Counts a look; puts it off if the rules that it needs are not read and it may be tried `again`. What
    /// its process maps may be `is_renewed`.
    pub(super) fn look(
        &mut self,
        look: Arc<Look>,
        is_renewed: bool,
        again: &dyn Fn(&Sample<'_>) -> bool,
    ) {
        let mut registers = RegisterSet::default();
        registers.set(PROGRAM_COUNTER, look.blocked.instruction);
        registers.set(STACK_POINTER, look.blocked.stack_pointer);
        let (event, of) = (self.looked.event, (look.pid, look.tid));
        let sample = Sample::found(event, of, look.time, registers, &look.blocked.stack);
        if let (Some(managed), Some(reading)) = (&mut self.managed, &look.reading) {
            managed.ask_for_names(reading);
        }
        let reading = look.reading.as_ref();
        let taken = Taken {
            weight: look.weight,
            events: 1,
            look: Some(&look),
            reading,
            is_renewed,
            ..Taken::default()
        };
        let retry = || Deferred::Look(Arc::clone(&look));
        let retry: Option<&dyn Fn() -> Deferred> = if again(&sample) { Some(&retry) } else { None };
        self.sample(&sample, taken, retry);
    }

    /// Tells of a process that has no sample; there is room for a message.
    pub(super) fn announce(&mut self, pid: u32) {
        let Some(process) = self.processes.unread(pid) else { return };
        process.announced.sampled_in(self.windows);
        if !std::mem::replace(&mut process.announced.process, true) {
            let _ = self.out.try_push(Message::Process(Box::new(facts(process))));
        }
    }

    /// Tells how the processes have spent the time until now that they did not run: rows for what has no
    /// place, and what the looks at each are to add up to.
    pub(super) fn tell_times(&mut self, end: u64) -> Vec<Total> {
        let Some(looks) = &self.looked.looks else { return Vec::new() };
        let event = self.looked.event;
        let mut totals = Vec::new();
        for (pid, times) in looks.take_times() {
            let Some(process) = self.processes.identified(pid, &mut self.host) else { continue };
            let id = process.id;
            if times.looks >= MIN_LOOKS && process.announced.process {
                totals.push(Total { event, process: Some(id), value: times.blocked });
            }
            for (name, weight) in [(READY, times.ready), (PARKED, times.parked)] {
                if weight == 0 || self.out.vacant_len() < 16 {
                    continue;
                }
                self.announce(pid);
                let Some(number) = self.looked.number(name) else { continue };
                for (number, name) in self.looked.take_names() {
                    let _ = self.out.try_push(Message::Name(number, name));
                }
                let (stack, new) = self.stacks.intern(&[Frame { row: NAMED_ROW, address: number }]);
                if let Some(frames) = new {
                    let _ = self.out.try_push(Message::Stack(stack, frames));
                }
                let _ = self.out.try_push(Message::Sample(Counted {
                    event,
                    label: None,
                    process: id,
                    tid: NO_THREAD,
                    stack,
                    unwound: Unwound::Complete,
                    weight,
                    events: 1,
                    time: end,
                }));
            }
        }
        totals
    }
}
