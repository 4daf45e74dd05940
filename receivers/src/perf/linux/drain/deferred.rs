//! Samples that wait until the unwinding tables that they need are read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Drain;
use super::heaped::HeapSample;
use super::taken::Taken;
use crate::perf::linux::looks::Look;
use crate::perf::linux::records::record::{self, Record, Sample};
use crate::perf::linux::runtimes::join::Managed;
use crate::perf::linux::runtimes::reader::Reading;

/// How long the end waits for files that are being read.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// How often it looks whether they are.
const LAST_PAUSE: Duration = Duration::from_millis(2);

/// A sample that was put off.
pub(super) enum Deferred {
    Record {
        bytes: Box<[u8]>,
        weight: u64,
        events: u64,
        /// What a reader has seen of it.
        reading: Option<Reading>,
    },
    /// What its process maps has been read again if that was doubtful.
    Look(Arc<Look>),
    Block(Arc<HeapSample>),
}

impl Drain {
    /// Tries again what was put off, for the last time what is not to be put off `again`.
    pub(super) fn retry(&mut self, again: impl Fn(&Sample<'_>) -> bool) {
        let records = std::mem::take(&mut self.deferred);
        if let Some(governed) = &mut self.governed {
            governed.begin_record();
        }
        let count = records.len() as u64;
        for deferred in records {
            match deferred {
                Deferred::Record { bytes, weight, events, reading } => {
                    let Ok(Record::Sample(sample)) = record::parse(&bytes, &self.layouts) else {
                        continue;
                    };
                    let retry = || {
                        let (bytes, reading) = (bytes.clone(), reading.clone());
                        Deferred::Record { bytes, weight, events, reading }
                    };
                    let retry: Option<&dyn Fn() -> Deferred> =
                        if again(&sample) { Some(&retry) } else { None };
                    let reading = reading.as_ref();
                    let taken = Taken { weight, events, reading, ..Taken::default() };
                    self.sample(&sample, taken, retry);
                }
                Deferred::Look(look) => self.look(look, true, &again),
                Deferred::Block(found) => self.block(&found, &again),
            }
        }
        if let Some(governed) = &mut self.governed {
            governed.end_retry(count);
        }
    }

    /// How many requests were answered that samples wait for.
    pub(super) fn responses(&mut self) -> u64 {
        self.host.images.responses() + self.managed.as_ref().map_or(0, Managed::responses)
    }

    /// At the end: waits for what is still being read, as short recordings of new programs have it,
    /// and tries what was put off with it.
    pub(super) fn retry_until_read(&mut self) {
        let deadline = Instant::now() + LAST_WAIT;
        self.loader_responses = self.responses();
        self.retry(|_| true);
        while !self.deferred.is_empty() && Instant::now() < deadline {
            if let Some(managed) = &mut self.managed {
                managed.read_code();
            }
            let responses = self.responses();
            if responses == self.loader_responses {
                std::thread::sleep(LAST_PAUSE);
                continue;
            }
            self.loader_responses = responses;
            self.retry(|_| true);
        }
    }
}
