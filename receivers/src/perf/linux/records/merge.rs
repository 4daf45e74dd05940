//! The records of several rings in the order of time.
//!
//! A mapping made on one CPU must be known before a sample of it taken on another. Records of one
//! ring are in order; of several, the one with the earliest time is next. What a CPU has written
//! but not published yet may be earlier than what another has published, so records younger than a
//! horizon, a little before the rings were looked at, wait for the next round.

use super::record;
use super::ring::Records;

const MINUTE: u64 = 60_000_000_000;

/// Merges sources; keeps what was learnt about their next records.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    /// The time of each source's next record, if known.
    next: Vec<Option<u64>>,
    scratch: Vec<u8>,
}

impl Merge {
    /// Forgets what it knows about next records: sources have new ones.
    pub(crate) fn restart(&mut self, sources: usize) {
        self.next.clear();
        self.next.resize(sources, None);
    }

    /// Hands the earliest record, if it is not after `horizon`, to `take` with the number of its
    /// source, and drops it. False if there was none.
    pub(crate) fn step<'r, R: Records + 'r>(
        &mut self,
        sources: &mut [R],
        horizon: u64,
        take: impl FnOnce(usize, &[u8]),
    ) -> bool {
        let mut earliest: Option<(u64, usize)> = None;
        for (at, (source, next)) in sources.iter().zip(&mut self.next).enumerate() {
            let time = match *next {
                Some(time) => time,
                None => {
                    let time = source.peek(&mut self.scratch).map_or(u64::MAX, |record| {
                        let time = record::time(record);
                        // A time that cannot be is a malformed record; it must not wait for ever.
                        if time > horizon.saturating_add(MINUTE) { 0 } else { time }
                    });
                    *next = Some(time);
                    time
                }
            };
            if time <= horizon && earliest.is_none_or(|(best, _)| time < best) {
                earliest = Some((time, at));
            }
        }
        let Some((_, at)) = earliest else { return false };
        let Some(source) = sources.get_mut(at) else { return false };
        let Some(record) = source.peek(&mut self.scratch) else { return false };
        let length = record.len();
        take(at, record);
        source.skip(length);
        if let Some(next) = self.next.get_mut(at) {
            *next = None;
        }
        true
    }
}
