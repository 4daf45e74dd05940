//! Which events a receiver has: what its configuration asks for and the host allows.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use profpipe_engine::component::Error;

use super::attr::{Choices, Kind};
use super::probe_site::{self, ProbeSite};
use super::session::is_denied;
use super::target::Target;
use super::{counters, sys, tracefs};
use crate::perf::linux::handoff::EventIx;
use crate::perf::linux::looks::rights::Limit;
use crate::perf::linux::records::record::RawField;
use crate::perf::{Calls, Event, Every, Heap, OffCpu, PageFaults, Tracepoint};

/// A sample for so many faults where nothing else is said: of chosen processes for good, of the whole
/// host until it is known how many there are.
pub(crate) const FIRST_EVERY: u64 = 251;

/// The same of what the kernel and the processor count.
const OF_KERNEL: u64 = 61;
const OF_PROCESSOR: u64 = 100_003;
/// The tracepoint that a request for blocks passes in whose context it is made, and its length in sectors.
const REQUESTS: (&str, &str) = ("block:block_bio_queue", "nr_sector");
/// The tracepoint of what is done.
const DONE: &str = "block:block_rq_complete";
/// The bytes of a sector.
const SECTOR: u16 = 512;
/// How exactly the processor may say where it counted, the best first.
const PRECISIONS: [u8; 4] = [3, 2, 1, 0];

/// The share of a budget that looks, and listing what there is to look at, may take.
const LOOKS_SHARE: f64 = 0.25;
/// The share that samples of all events which are counted may take.
const COUNTED_SHARE: f64 = 0.1;

/// An event that writes into rings.
#[derive(Debug, Clone)]
pub(crate) struct RingEvent {
    pub(crate) kind: Kind,
    /// What was asked for; none of one that nobody has asked for.
    pub(crate) event: Option<Event>,
    /// What is shown as the innermost frame: the name of a probe that the program was written with.
    pub(crate) point: Option<Box<str>>,
}

impl RingEvent {
    fn new(kind: Kind, event: Option<Event>) -> Self {
        Self { kind, event, point: None }
    }
}

/// The events of a receiver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    /// Those that write into rings, in the order of their numbers; at least one.
    pub(crate) ring: Vec<RingEvent>,
    /// What looks at threads that wait, if that is wanted; its number is the next.
    pub(crate) off_cpu: Option<OffCpu>,
    /// The sum of both is wanted, too.
    pub(crate) wall: bool,
    /// The heaps of programs, if they are wanted; their numbers are the next.
    pub(crate) heap: Option<Heap>,
    /// Those that the host does not allow.
    pub(crate) missing: Vec<String>,
}

impl Chosen {
    /// What a configuration asks for, as far as this host knows it; what it does not know is said.
    pub(crate) fn new(
        events: &[Event],
        target: &Target,
        remarks: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let mut chosen = Self::default();
        let has_cpu = events.iter().any(|it| matches!(it, Event::Cpu | Event::Wall(_)));
        if has_cpu {
            // The first: what keeps a budget goes by it.
            chosen.ring.push(RingEvent::new(Kind::Cpu, Some(Event::Cpu)));
        }
        for event in events {
            let kind = match event {
                Event::Cpu => continue,
                Event::OffCpu(options) => {
                    chosen.off_cpu.get_or_insert(*options);
                    continue;
                }
                Event::Wall(options) => {
                    (chosen.off_cpu, chosen.wall) = (Some(*options), true);
                    continue;
                }
                Event::Heap(options) => {
                    chosen.heap = Some(options.clone());
                    continue;
                }
                Event::PageFaults(PageFaults { kind, every, .. }) => {
                    let every = match every {
                        Every::Auto => FIRST_EVERY,
                        Every::Count(every) => *every,
                    };
                    Ok(Kind::PageFaults { kind: *kind, every })
                }
                Event::Calls(options) => {
                    chosen.add_calls(event, options, target, remarks)?;
                    continue;
                }
                Event::BlockIo(options) => {
                    tracefs::find(REQUESTS.0, Some(REQUESTS.1)).map(|found| Kind::Tracepoint {
                        number: found.number,
                        every: options.every.unwrap_or(1),
                        value: found.value.map(|field| RawField { factor: SECTOR, ..field }),
                    })
                }
                Event::Tracepoint(options) => {
                    tracefs::find(&options.name, options.value.as_deref()).map(|found| {
                        let every = options.every.unwrap_or(1);
                        Kind::Tracepoint { number: found.number, every, value: found.value }
                    })
                }
                Event::Counter(options) => match counters::find(&options.name) {
                    Some(id) => {
                        let usual = if id.is_of_kernel() { OF_KERNEL } else { OF_PROCESSOR };
                        let every = options.every.unwrap_or(usual);
                        Ok(Kind::Counter { id, every, precise: 0 })
                    }
                    None => Err(format!(
                        "`{}` is not a counter; `perf list` names them, and r1b0 stands for a number of \
                         the processor's manual",
                        options.name
                    )),
                },
            };
            match kind {
                Ok(kind) => {
                    chosen.ring.push(RingEvent::new(kind, Some(event.clone())));
                    if matches!(event, Event::BlockIo(_)) {
                        let done = blocks_done();
                        let done = done.map(|kind| RingEvent::new(kind, Some(event.clone())));
                        chosen.ring.extend(done);
                    }
                }
                Err(why) => chosen.leave_out(event, &why, remarks)?,
            }
        }
        chosen.fill();
        Ok(chosen)
    }

    /// Adds an event for every place of every function whose calls are to be counted.
    fn add_calls(
        &mut self,
        event: &Event,
        options: &Calls,
        target: &Target,
        remarks: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(probes) = probe_type() else {
            return self.leave_out(event, "this kernel has no probes of programs", remarks);
        };
        for function in &options.functions {
            let one = Event::Calls(Calls { functions: vec![function.clone()], ..options.clone() });
            let sites = match probe_site::find(function, target) {
                Ok(sites) => sites,
                Err(why) => {
                    self.leave_out(&one, &why, remarks)?;
                    continue;
                }
            };
            if sites.iter().any(|site| !site.is_cheap) {
                remarks.push(format!(
                    "`{one}`: the kernel cannot emulate what the function begins with: each call takes it \
                     about 20 µs"
                ));
            }
            for ProbeSite { file, offset, semaphore, is_cheap } in sites {
                let Ok(path) = CString::new(file.into_os_string().into_encoded_bytes()) else {
                    continue;
                };
                // The kernel reads it whenever the event is opened; there are few.
                let path = Box::leak(path.into_boxed_c_str()).as_ptr().addr() as u64;
                let every = options.every.unwrap_or(OF_KERNEL);
                let kind = Kind::Call { probes, path, offset, semaphore, every, is_cheap };
                let point = probe_site::point(function).map(Into::into);
                self.ring.push(RingEvent { point, ..RingEvent::new(kind, Some(one.clone())) });
            }
        }
        Ok(())
    }

    /// Something has to report mappings and forks.
    fn fill(&mut self) {
        // What is of the whole host reports nothing.
        if self.ring.first().is_none_or(|first| first.kind.is_of_all()) {
            self.ring.insert(0, RingEvent::new(Kind::Nothing, None));
        }
    }

    /// An event cannot be had.
    fn leave_out(
        &mut self,
        event: &Event,
        why: &str,
        remarks: &mut Vec<String>,
    ) -> Result<(), Error> {
        if event.is_required() {
            return Err(Error::new(format!("`{event}` cannot be had here: {why}")));
        }
        remarks.push(format!("`{event}` cannot be had here and is left out: {why}"));
        self.missing.push(event.identity());
        Ok(())
    }

    /// Whether there are only looks, which need no event: an event of a thread makes each of its switches
    /// slower, even one that counts nothing.
    pub(crate) fn is_without_events(&self) -> bool {
        // Heaps need to know what programs map, and when they end.
        self.heap.is_none()
            && matches!(self.ring.as_slice(), [RingEvent { kind: Kind::Nothing, .. }])
    }

    /// Whether time on CPUs is sampled.
    pub(crate) fn has_cpu(&self) -> bool {
        self.ring.first().is_some_and(|first| first.kind == Kind::Cpu)
    }

    /// The number of what looks at waiting threads.
    pub(crate) fn off_cpu_number(&self) -> EventIx {
        EventIx(self.ring.len() as u8)
    }

    /// The numbers of what is allocated and of what is not freed, in bytes and in blocks.
    pub(crate) fn heap_numbers(&self) -> [EventIx; 4] {
        let first = self.ring.len() as u8 + 1;
        [0, 1, 2, 3].map(|number| EventIx(first + number))
    }

    /// Heaps cannot be had.
    pub(crate) fn leave_out_heap(
        &mut self,
        why: &str,
        remarks: &mut Vec<String>,
    ) -> Result<(), Error> {
        match self.heap.take() {
            Some(options) => self.leave_out(&Event::Heap(options), why, remarks),
            None => Ok(()),
        }
    }

    /// The events with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (EventIx, Kind)> + use<'_> {
        self.ring.iter().enumerate().map(|(at, it)| (EventIx(at as u8), it.kind))
    }

    /// The part of a budget that looks may take.
    pub(crate) fn looks_share(&self) -> f64 {
        match self.off_cpu {
            Some(options) => options.share.map_or(LOOKS_SHARE, |share| share.0),
            None => 0.0,
        }
    }

    /// The part of a budget that an event may take which is counted: what was asked for, or an equal part of
    /// what those have of which nothing was asked.
    pub(crate) fn counted_share(&self, event: EventIx) -> f64 {
        let asked = |at: EventIx| self.asked(at).map(Event::share);
        if let Some(Some(share)) = asked(event) {
            // Each function whose calls are counted has a part of what was asked for all.
            let name = self.asked(event).map(Event::name);
            let same = |other: EventIx| {
                asked(other) == asked(event) && self.asked(other).map(Event::name) == name
            };
            return share / self.numbered().filter(|(it, _)| same(*it)).count().max(1) as f64;
        }
        let others = self
            .numbered()
            .filter(|(it, kind)| kind.every().is_some() && matches!(asked(*it), Some(None)));
        COUNTED_SHARE / others.count().max(1) as f64
    }

    /// What was asked for by an event.
    pub(crate) fn asked(&self, event: EventIx) -> Option<&Event> {
        self.ring.get(event.at())?.event.as_ref()
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |it: &RingEvent| it.event.as_ref().map(Event::identity).unwrap_or_default();
        self.ring.iter().map(name).collect()
    }

    /// Those of them that are opened for each thread, where that is done.
    pub(crate) fn of_threads(&self) -> impl Iterator<Item = (EventIx, Kind)> + use<'_> {
        self.numbered().filter(|(_, kind)| !kind.is_of_all())
    }

    /// Those that count calls at instructions which the kernel steps over.
    pub(crate) fn stepped(&self) -> impl Iterator<Item = EventIx> + use<'_> {
        let is_stepped = |kind: &Kind| matches!(kind, Kind::Call { is_cheap: false, .. });
        self.numbered().filter(move |(_, kind)| is_stepped(kind)).map(|(event, _)| event)
    }

    /// Whether calls are counted.
    pub(crate) fn has_calls(&self) -> bool {
        self.numbered().any(|(_, kind)| kind.is_call())
    }

    /// Leaves out looks at threads of a scope where the host does not allow them; says so.
    pub(crate) fn leave_out_looks(
        &mut self,
        limit: Option<Limit>,
        remarks: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(options) = self.off_cpu else { return Ok(()) };
        let event = if self.wall { Event::Wall(options) } else { Event::OffCpu(options) };
        match limit {
            None => Ok(()),
            Some(Limit::Less(what)) => {
                remarks.push(format!("`{event}`: {what}"));
                Ok(())
            }
            Some(Limit::Nothing(why)) => {
                (self.off_cpu, self.wall) = (None, false);
                self.leave_out(&event, &why, remarks)
            }
        }
    }

    /// Leaves out what cannot be opened on a process and CPU although the clock can; says so.
    pub(crate) fn leave_out_missing(
        &mut self,
        choices: &Choices,
        target: &Target,
        cpu: i32,
        remarks: &mut Vec<String>,
    ) -> Result<(), Error> {
        for mut one in std::mem::take(&mut self.ring) {
            let Some(event) = &one.event else { continue };
            let target = if one.kind.is_of_all() { target.of_calls() } else { target.clone() };
            let open = |kind| target.open(&choices.sampling(kind, false), cpu).map(drop);
            let opened = match one.kind {
                // That has been tried.
                Kind::Cpu => Ok(()),
                Kind::Counter { id, every, .. } if !id.is_of_kernel() => {
                    let kinds = PRECISIONS.map(|precise| Kind::Counter { id, every, precise });
                    let found = kinds.into_iter().find(|kind| open(*kind).is_ok());
                    one.kind = found.unwrap_or(one.kind);
                    open(one.kind)
                }
                kind => open(kind),
            };
            let opened = opened.map_err(|error| explain(&error, one.kind));
            let opened = opened.and_then(|()| match one.kind {
                Kind::Counter { id, .. } if id.is_in_kernel() && !choices.kernel => {
                    Err("it happens in the kernel, of which this user may see nothing; run as root or with \
                         CAP_PERFMON, or: sudo sysctl kernel.perf_event_paranoid=1"
                        .into())
                }
                Kind::PageFaults { .. } if !choices.kernel => {
                    remarks.push(format!(
                        "`{event}`: those that happen in the kernel, as in `read` and `write`, are not \
                         permitted to be seen and are missing"
                    ));
                    Ok(())
                }
                _ => Ok(()),
            });
            let opened = opened.and_then(|()| match event {
                Event::Tracepoint(Tracepoint { filter: Some(filter), .. }) => {
                    let filtered =
                        target.open(&choices.sampling(one.kind, false), cpu).and_then(|it| {
                            sys::set_filter(it.as_fd(), &CString::new(filter.as_str())?)
                        });
                    filtered.map_err(|_| {
                        format!("the kernel does not understand the filter `{filter}`")
                    })
                }
                _ => Ok(()),
            });
            match opened {
                Ok(()) => self.ring.push(one),
                Err(error) if matches!(one.kind, Kind::BlocksDone { .. }) => {
                    remarks
                        .push(format!("`{event}`: how long requests take is not known: {error}"));
                }
                Err(error) => {
                    let event = event.clone();
                    self.leave_out(&event, &error, remarks)?;
                }
            }
        }
        self.fill();
        Ok(())
    }
}

/// What tells that blocks are done, if it can be matched with requests.
fn blocks_done() -> Option<Kind> {
    let (_, request) = tracefs::find_blocks(REQUESTS.0)?;
    let (number, done) = tracefs::find_blocks(DONE)?;
    Some(Kind::BlocksDone { number, request, done })
}

/// What probes of programs are to the kernel.
fn probe_type() -> Option<u32> {
    let text = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type").ok()?;
    text.trim().parse().ok()
}

/// Why an event cannot be opened, and what grants it.
fn explain(error: &io::Error, kind: Kind) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) => {
            "this machine does not have it (in most virtual machines the processor counts nothing)"
                .into()
        }
        Some(libc::EBUSY) => {
            "all counters of the processor are in use: by another profiler, or by the NMI watchdog \
             (`sudo sysctl kernel.nmi_watchdog=0`)"
                .into()
        }
        _ if is_denied(error) && kind.is_call() => {
            format!("not permitted ({error}); run as root or with CAP_SYS_ADMIN")
        }
        _ if is_denied(error) => {
            format!("not permitted ({error}); run as root or with CAP_PERFMON")
        }
        _ => error.to_string(),
    }
}
