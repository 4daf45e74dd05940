//! What the open events count, of whom, and which of the kernel's numbers are theirs.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::attr::Kind;
use super::session::{HostEvents, Session};
use super::sys;
use crate::perf::linux::handoff::EventIx;
use crate::perf::linux::processes::selection::Selection;
use crate::perf::linux::records::record::Layouts;
use crate::perf::{Event, Tracepoint};

impl Session {
    /// Tells what the events that were opened write, and that those closed for a round write nothing
    /// any more.
    pub(crate) fn tell_layouts(&mut self, layouts: &mut Layouts) {
        for (number, event) in self.opened.drain(..) {
            layouts.insert(number, event);
        }
        let [now, before] = &mut self.closed;
        before.drain(..).for_each(|number| layouts.remove(number));
        std::mem::swap(now, before);
    }

    /// How often an event that is not a clock has happened since the beginning.
    pub(crate) fn count(&self, event: EventIx) -> u64 {
        let before = self.counted_before.get(&event).copied().unwrap_or(0);
        let host = self.others.iter().filter(|it| it.event == event);
        let host = host.flat_map(|it| &it.descriptors);
        let threads = self.threads.iter().flat_map(|it| &it.descriptors);
        let threads = threads.filter(|(other, _)| *other == event).map(|(_, it)| it);
        before + host.chain(threads).filter_map(|it| sys::count(it.as_fd())).sum::<u64>()
    }

    /// Lets an event of the whole host be sampled once in so many. False where it is one of chosen
    /// processes: the kernel changes nothing for the children they have.
    pub(crate) fn set_every(&self, event: EventIx, every: u64) -> bool {
        let events = self.others.iter().filter(|it| it.event == event);
        let mut any = false;
        for descriptor in events.flat_map(|it| &it.descriptors) {
            any |= sys::set_period(descriptor.as_fd(), every).is_ok();
        }
        any
    }

    /// The samples lost since the beginning, if the kernel counts them for every event.
    pub(crate) fn lost_samples(&self) -> Option<u64> {
        // Children's losses are not in their parents' counts.
        if !self.choices.lost || self.choices.inherit {
            return None;
        }
        let lost = |event: &OwnedFd| {
            let mut values = [0; 16];
            rustix::io::read(event, &mut values).ok().filter(|read| *read == 16)?;
            values.get(8..16)?.try_into().ok().map(u64::from_ne_bytes)
        };
        let others = self.others.iter().flat_map(|it| &it.descriptors);
        Some(self.lost_before + self.samplers.iter().chain(others).filter_map(lost).sum::<u64>())
    }

    /// Lets a tracepoint that was just opened be passed only by what is meant.
    pub(super) fn set_filter(&self, event: EventIx, descriptor: &OwnedFd) -> io::Result<()> {
        let Some(Event::Tracepoint(Tracepoint { filter: Some(filter), .. })) =
            self.chosen.ring.get(event.at()).and_then(|it| it.event.as_ref())
        else {
            return Ok(());
        };
        let filter = CString::new(filter.as_str())?;
        sys::set_filter(descriptor.as_fd(), &filter)
    }

    /// Whose calls are wanted, where calls are counted of others too.
    pub(crate) fn callers(&self) -> Option<Selection> {
        let is_chosen = self.chosen.has_calls() && !self.target.is_per_cpu();
        is_chosen.then(|| Selection::new(self.target.processes()))
    }

    /// Lets events that are not clocks rest, or go on.
    pub(crate) fn pause_others(&mut self, is_paused: bool) {
        if std::mem::replace(&mut self.is_paused, is_paused) == is_paused {
            return;
        }
        for event in self.others.iter().flat_map(|it| &it.descriptors) {
            // One that does not go on is missing until the next pause has ended.
            let _ = match is_paused {
                true => sys::disable(event.as_fd()),
                false => sys::enable(event.as_fd()),
            };
        }
    }

    /// Counts an event of the whole host no longer, and takes its probe out of the programs; says so.
    pub(crate) fn stop_counting(&mut self, event: EventIx) {
        let Some(at) = self.others.iter().position(|it| it.event == event) else { return };
        let HostEvents { descriptors, .. } = self.others.swap_remove(at);
        for descriptor in &descriptors {
            let _ = sys::disable(descriptor.as_fd());
            let count = sys::count(descriptor.as_fd()).unwrap_or(0);
            *self.counted_before.entry(event).or_default() += count;
            let [now, _] = &mut self.closed;
            now.extend(sys::number(descriptor.as_fd()));
        }
        // The kernel takes some eighty milliseconds for each.
        let spawned =
            std::thread::Builder::new().name("perf-close".into()).spawn(move || drop(descriptors));
        if let Err(error) = spawned {
            tracing::debug!(%error, "no thread to close probes: this one has done it");
        }
        if let Some(asked) = self.chosen.ring.get(event.at()).and_then(|it| it.event.as_ref()) {
            tracing::warn!(
                "perf: `{asked}`: there are more calls in a second than are allowed: for a minute they are \
                 not counted; allow more with `max_hits`"
            );
        }
    }

    /// Counts an event of the whole host again.
    pub(crate) fn count_again(&mut self, event: EventIx) {
        let is_it = |other: EventIx, _: Kind| other == event;
        let opened = self.open_host_events(is_it);
        let opened = opened.map_err(|error| error.to_string()).and_then(|()| {
            let descriptors = self.others.iter().filter(|it| it.event == event);
            let mut descriptors = descriptors.flat_map(|it| &it.descriptors);
            descriptors
                .try_for_each(|it| sys::enable(it.as_fd()))
                .map_err(|error| error.to_string())
        });
        if let Err(error) = opened {
            tracing::warn!("perf: calls cannot be counted again: {error}");
        }
    }
}
