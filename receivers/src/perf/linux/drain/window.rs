//! The end of a window in the drain thread: what was lost and counted in it is told, and what nobody
//! needs any more is forgotten.

use std::sync::Arc;

use ringbuf::traits::Producer;

use super::{Drain, SWEEP_INTERVAL_NANOS, SWEEPS_PER_SEARCH};
use crate::perf::linux::events::attr::Kind;
use crate::perf::linux::events::every::EveryMeter;
use crate::perf::linux::events::session::Session;
use crate::perf::linux::handoff::{EventIx, Message, Total};
use crate::perf::linux::thread::now;
use crate::perf::{Calls, Event, Every, PageFaults};

/// How long before the end of a window a sample may have been put off and be left for the next one, in
/// nanoseconds: what it waits for takes a round or two.
const KEPT_NANOS: u64 = 400_000_000;
/// The calls in a second that are counted, where nothing is said: a tenth of a core.
const MAX_HITS: u64 = 200_000;
const MAX_SLOW_HITS: u64 = 5_000;
/// What counting a call takes the program, about, in nanoseconds.
const HIT_NANOS: f64 = 600.0;
const SLOW_HIT_NANOS: f64 = 20_000.0;
/// What such a sample costs in all, about, in nanoseconds.
const COUNTED_SAMPLE_NANOS: f64 = 15_000.0;

/// Those of the events that are counted.
pub(super) fn meters(session: &Session) -> Vec<EveryMeter> {
    let usual = f64::from(session.choices.frequency) * session.cpus.len() as f64;
    let allowed = |event| session.budget.map(|budget| session.chosen.counted_share(event) * budget);
    let is_auto = |event: EventIx| {
        let asked = session.chosen.ring.get(event.at()).and_then(|it| it.event.as_ref());
        match asked {
            Some(Event::PageFaults(PageFaults { every: Every::Auto, .. })) => session.is_of_host(),
            // They are counted on the whole host.
            Some(Event::Calls(options)) => options.every.is_none(),
            Some(it) => session.budget.is_some() && is_without_number(it),
            None => false,
        }
    };
    let meter = |(event, kind): (EventIx, Kind)| {
        let every = kind.every()?;
        let allowed = allowed(event);
        let most = allowed.map_or(usual, |share| usual.min(share * 1e9 / COUNTED_SAMPLE_NANOS));
        let wanted = is_auto(event).then_some(most);
        let asked = session.chosen.ring.get(event.at()).and_then(|it| it.event.as_ref());
        let limit = match (asked, kind) {
            (Some(Event::Calls(options)), Kind::Call { is_cheap, .. }) => {
                Some(max_hits(options, is_cheap, allowed))
            }
            _ => None,
        };
        let meter = EveryMeter::new(event, every, wanted, kind.value().is_some(), now());
        let is_bounded = asked.is_some_and(is_without_number);
        Some(meter.limited(limit).not_below(is_bounded))
    };
    session.chosen.numbered().filter_map(meter).collect()
}

/// Whether it is left open how many events a sample stands for, of those of which it is few by default.
fn is_without_number(event: &Event) -> bool {
    match event {
        Event::BlockIo(options) => options.every.is_none(),
        Event::Tracepoint(options) => options.every.is_none(),
        Event::Counter(options) => options.every.is_none(),
        _ => false,
    }
}

/// The most calls in a second that are counted: not more than a share of a core pays for.
fn max_hits(options: &Calls, is_cheap: bool, allowed: Option<f64>) -> u64 {
    let (usual, cost) =
        if is_cheap { (MAX_HITS, HIT_NANOS) } else { (MAX_SLOW_HITS, SLOW_HIT_NANOS) };
    let allowed = allowed.map_or(u64::MAX, |share| (share * 1e9 / cost) as u64);
    options.max_hits.unwrap_or(usual).min(allowed)
}

impl Drain {
    /// Ends the window at a time.
    pub(super) fn end_window(&mut self, end: u64) {
        // What was put off just now goes with the next window, unless that would change what it weighs.
        let oldest = if self.governed.is_some() || self.is_ending {
            u64::MAX
        } else {
            end - KEPT_NANOS.min(end)
        };
        self.retry(|sample| sample.time >= oldest);
        self.end_heaps(end);
        let kernel = if self.lost_exactly > 0 { self.lost_exactly } else { self.lost_records };
        let lost = kernel + self.dropped;
        let new = lost.saturating_sub(self.lost_reported);
        self.counters.lost.add(new);
        let waiting = Some(self.ages.begin(end, self.interval));
        let mut totals = self.count_window();
        totals.extend(self.tell_times(end));
        let lacks_times = self.blocks.end_window(end, self.is_ending);
        let partial = self.take_partial(lacks_times.then_some("io_time"));
        let message =
            Message::Window { start: self.window, end, lost: new, totals, partial, waiting };
        if self.out.try_push(message).is_ok() {
            self.lost_reported = lost.max(self.lost_reported);
        }
        self.window = end;
        self.windows += 1;
        self.processes.forget_ended();
        self.stacks.end_window();
        if end >= self.swept.saturating_add(SWEEP_INTERVAL_NANOS) || self.host.has_grown() {
            self.swept = end;
            if self.sweeps.is_multiple_of(SWEEPS_PER_SEARCH) {
                self.processes.sweep(&mut self.host);
            }
            self.sweeps += 1;
            self.processes.forget_threads(self.windows);
            // Stacks with these rows are not seen again.
            self.forgotten_rows.extend(self.host.sweep(&self.processes));
        }
        self.send_forgotten();
    }

    /// Samples fewer of the events that are counted where there are far too many, and counts calls no longer
    /// that are more than was allowed.
    pub(super) fn adapt(&mut self, session: &mut Session) {
        let now = now();
        for meter in &mut self.meters {
            if let Some(every) = meter.end_round(now).or_else(|| meter.take_next(now)) {
                session.set_every(meter.event, every);
            }
            if meter.is_over(now) {
                session.stop_counting(meter.event);
                self.counters.detached.add(1);
            }
            if meter.may_go_on(now) {
                session.count_again(meter.event);
            }
        }
    }

    /// What was counted in the window that ends.
    fn count_window(&mut self) -> Vec<Total> {
        let now = now();
        let counted = self.meters.iter_mut().zip(&self.counted);
        let total = |(meter, counted): (&mut EveryMeter, &u64)| {
            let value = meter.end_window(*counted, now);
            Total { event: meter.event, process: None, value }
        };
        counted.map(total).collect()
    }

    /// The events that were not counted for all of the window that ends, with another that lacks something,
    /// with commas between them.
    fn take_partial(&mut self, other: Option<&'static str>) -> Option<Arc<str>> {
        let mut names: Vec<&str> = other.into_iter().collect();
        for meter in &mut self.meters {
            if meter.take_rested() {
                names.extend(self.names.get(meter.event.at()).map(String::as_str));
            }
        }
        (!names.is_empty()).then(|| names.join(", ").into())
    }

    /// Tells the aggregation thread what is forgotten here; if it has no room, the next time.
    fn send_forgotten(&mut self) {
        let stacks = self.stacks.take_forgotten();
        if !stacks.is_empty()
            && let Err(Message::ForgetStacks(stacks)) =
                self.out.try_push(Message::ForgetStacks(stacks))
        {
            self.stacks.put_back(stacks);
        }
        let rows = std::mem::take(&mut self.forgotten_rows);
        if !rows.is_empty()
            && let Err(Message::ForgetRows(rows)) = self.out.try_push(Message::ForgetRows(rows))
        {
            self.forgotten_rows = rows;
        }
        let processes = self.processes.take_forgotten();
        if !processes.is_empty()
            && let Err(Message::ForgetProcesses(processes)) =
                self.out.try_push(Message::ForgetProcesses(processes))
        {
            self.processes.put_back(processes);
        }
    }

    /// Says once which program could not be followed, and counts the others.
    pub(super) fn report_hidden(&mut self) {
        let hidden = self.processes.take_hidden();
        let Some((pid, name)) = hidden.first() else { return };
        if self.counters.hidden.get() == 0 {
            let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            tracing::warn!(
                "perf: the kernel does not let this user profile {name} (process {pid}) and what it \
                 starts: it is a set-user-ID program, has capabilities, or may not be read; run profpipe \
                 as root to see it"
            );
        }
        self.counters.hidden.add(hidden.len() as u64);
    }
}
