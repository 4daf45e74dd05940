//! What the open events count, and which of the kernel's numbers are theirs.

use std::os::fd::{AsFd, OwnedFd};

use super::session::Session;
use super::sys;
use crate::perf::linux::handoff::EventIx;
use crate::perf::linux::records::record::Layouts;

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
}
