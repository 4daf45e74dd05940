//! What was stored of a batch that did not get through yet, so that trying again adds only the rest.
//!
//! Pyroscope has no key that makes a push idempotent, and a batch takes many pushes. This lives in
//! memory: what was stored of a batch before the process ended is not known afterwards.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;

use super::labels::Labels;
use super::series::Push;

/// How many batches that did not get through are remembered.
const MAX_BATCHES: usize = 4096;
/// How many times of profiles are remembered.
const MAX_TIMES: usize = 65_536;

const MILLISECOND: u64 = 1_000_000;

/// What became of one push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Not sent, or not known.
    Pending,
    /// The server has it.
    Stored,
    /// The server will never take it.
    Refused(String),
}

/// A batch under way.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    key: u128,
    /// The time of each push.
    pub(super) times: Vec<u64>,
    /// What became of each push.
    pub(super) states: Vec<State>,
}

/// All batches of one destination.
#[derive(Debug, Default)]
pub(super) struct Progress {
    inner: Mutex<Inner>,
    seeds: [RandomState; 2],
}

#[derive(Debug, Default)]
struct Inner {
    batches: HashMap<u128, Attempt>,
    order: VecDeque<u128>,
    /// Which milliseconds the labels of a series have had.
    times: HashSet<(u64, u64)>,
    time_order: VecDeque<(u64, u64)>,
}

impl Progress {
    /// Takes up a batch where it was left. The second of two equal batches at a time starts again.
    pub(super) fn begin(&self, pushes: &[Push], now: u64) -> Attempt {
        let content: Vec<_> =
            pushes.iter().map(|push| (&push.labels, push.time_nanos, &push.profile)).collect();
        let [high, low] = self.seeds.each_ref().map(|seed| u128::from(seed.hash_one(&content)));
        let key = high << 64 | low;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = inner.batches.remove(&key)
            && attempt.times.len() == pushes.len()
        {
            inner.order.retain(|other| *other != key);
            return attempt;
        }
        let times = pushes
            .iter()
            .map(|push| {
                // A time that no clock shows is as good as none.
                let is_known = (1..i64::MAX as u64 / 2).contains(&push.time_nanos);
                let time = if is_known { push.time_nanos } else { now };
                inner.unique(self.labels(&push.labels), time)
            })
            .collect();
        Attempt { key, times, states: vec![State::Pending; pushes.len()] }
    }

    /// Remembers a batch that is to be tried again.
    pub(super) fn keep(&self, attempt: Attempt) {
        if !attempt.states.contains(&State::Pending) {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.order.push_back(attempt.key);
        inner.batches.insert(attempt.key, attempt);
        if inner.order.len() > MAX_BATCHES
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.batches.remove(&oldest);
        }
    }

    fn labels(&self, labels: &Labels) -> u64 {
        self.seeds.first().map_or(0, |seed| seed.hash_one(labels))
    }
}

impl Inner {
    /// The time, or the first after it that these labels have not had. A server keeps one of
    /// two profiles of a series and a millisecond, although it is sent nanoseconds.
    fn unique(&mut self, labels: u64, mut time: u64) -> u64 {
        while !self.times.insert((labels, time / MILLISECOND)) {
            time = time.saturating_add(MILLISECOND);
        }
        self.time_order.push_back((labels, time / MILLISECOND));
        if self.time_order.len() > MAX_TIMES
            && let Some(oldest) = self.time_order.pop_front()
        {
            self.times.remove(&oldest);
        }
        time
    }
}
