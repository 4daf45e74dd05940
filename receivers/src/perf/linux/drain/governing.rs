//! What the drain thread does for a budget: it measures what records take, and ends the windows of the one who
//! keeps it.

use ringbuf::traits::Producer;

use super::Drain;
use crate::perf::linux::events::session::Session;
use crate::perf::linux::governed::govern::Governed;
use crate::perf::linux::handoff::Message;
use crate::perf::linux::records::record;
use crate::perf::linux::thread::now;

impl Drain {
    /// Whether reports have cost more than the budget bears.
    pub(super) fn is_storm(&self) -> bool {
        self.governed.as_ref().is_some_and(Governed::is_storm)
    }

    /// Takes a record, and where there is a budget notes what that took.
    pub(super) fn take_measured(&mut self, bytes: &[u8]) {
        let Some(governed) = &mut self.governed else { return self.take(bytes) };
        let is_sample = record::is_sample(bytes);
        governed.begin_record();
        self.take(bytes);
        if let Some(governed) = &mut self.governed {
            governed.end_record(is_sample);
        }
    }

    /// Tells the samples that were kept until their weight was certain.
    pub(super) fn flush_pending_samples(&mut self) {
        let Some(governed) = &mut self.governed else { return };
        for counted in governed.end_exposures(now()) {
            if self.out.try_push(Message::Sample(counted)).is_err() {
                self.dropped += 1;
            }
        }
    }

    /// Where there is a budget: ends its window if it is time, and sets what the next one may do.
    /// True if the aggregation thread has something to do.
    pub(super) fn govern(&mut self, session: &mut Session, last: bool) -> bool {
        let Some(governed) = &mut self.governed else { return true };
        if governed.is_storm() {
            governed.stop_reports(session);
            self.processes.invalidate();
        }
        if last {
            return true;
        }
        let now = now();
        if !governed.is_due(now) {
            return false;
        }
        self.flush_pending_samples();
        let Some(governed) = &mut self.governed else { return true };
        let change = governed.window(session, &mut self.unwinding);
        if change.invalidate {
            self.processes.invalidate();
        }
        let multiple = (change.profile / self.interval.max(1)).max(1);
        self.length = self.interval * multiple;
        if now + self.early() >= self.window + self.length {
            self.end_window(now);
        }
        true
    }

    /// How much earlier than planned a window may end.
    pub(super) fn early(&self) -> u64 {
        if self.governed.is_some() { self.interval / 8 } else { 0 }
    }
}
