//! The queue in memory: the way into an exporter, and its consumers' way out.
//!
//! It has a size of its own, and what is in it counts in the memory budget. Where overflow waits,
//! what does not fit stays before the queue, in order: it holds its share of the budget and its
//! sender has no answer yet, so senders slow down.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::counters::Counters;
use super::item::Item;
use super::now;
use crate::batch::{Batch, Outcome};
use crate::delivery::Queueing;
use crate::graph::log_rate_limit::LogRateLimit;

/// The queue in memory of one exporter.
#[derive(Debug)]
pub(super) struct MemoryQueue {
    id: Arc<str>,
    settings: Queueing,
    counters: Arc<Counters>,
    state: Mutex<State>,
    /// Wakes one consumer.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// What does not fit yet.
    before: VecDeque<Item>,
    /// Of the items, as the queue's sizer counts.
    size: u64,
    closed: bool,
    quiet: LogRateLimit,
}

impl MemoryQueue {
    pub(super) fn new(id: Arc<str>, settings: Queueing, counters: Arc<Counters>) -> Self {
        let quiet = LogRateLimit::every(std::time::Duration::from_secs(60));
        let state = Mutex::new(State { quiet, ..State::default() });
        Self { id, settings, counters, state, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a batch counts.
    fn weight(&self, batch: &Batch) -> u64 {
        self.settings.sizer.weigh(batch)
    }

    /// True if there is room; one that is larger than the whole queue gets in alone.
    fn fits(&self, state: &State, weight: u64) -> bool {
        self.settings.capacity.is_none_or(|capacity| {
            state.size.saturating_add(weight) <= capacity || state.items.is_empty()
        })
    }

    /// Takes a batch. Its receipt says so if there is no room.
    pub(super) fn push(&self, batch: Batch) {
        let weight = self.weight(&batch);
        let mut state = self.lock();
        if state.closed {
            drop(state);
            batch.receipt.settle(Outcome::Retry("the exporter has stopped".into()));
            return;
        }
        let fits = state.before.is_empty() && self.fits(&state, weight);
        if !fits && !self.settings.block_on_overflow {
            let complaint = state.quiet.pass(now());
            drop(state);
            self.overflow(&batch, complaint);
            return;
        }
        self.counters.queued_bytes.add(batch.bytes() as u64);
        let item = Item::new(batch, Arc::clone(&self.counters));
        if fits {
            self.enter(&mut state, item, weight);
            drop(state);
            self.changed.notify_one();
        } else {
            state.before.push_back(item);
        }
    }

    fn overflow(&self, batch: &Batch, complaint: Option<String>) {
        self.counters.enqueue_failed.add(batch.samples() as u64);
        if let Some(more) = complaint {
            tracing::warn!(
                "exporters::{}: the queue is full, senders are told to try later{more}; make \
                 `sending_queue::queue_size` larger, or the destination faster",
                self.id
            );
        }
        batch.receipt.settle(Outcome::Retry(format!("the queue of {} is full", self.id)));
    }

    fn enter(&self, state: &mut State, mut item: Item, weight: u64) {
        state.size += weight;
        self.counters.queue_size.add(weight);
        if !self.settings.wait_for_result {
            item.answer_early();
        }
        state.items.push_back(item);
    }

    /// The oldest item; waits for one. `None` once the queue is closed and empty.
    pub(super) async fn pop(&self) -> Option<Item> {
        loop {
            {
                let mut state = self.lock();
                let item = self.take(&mut state);
                let more = !state.items.is_empty() || state.closed;
                let closed = state.closed;
                drop(state);
                if more {
                    // The next consumer shall see it, too.
                    self.changed.notify_one();
                }
                if item.is_some() || closed {
                    return item;
                }
            }
            // A notification with nobody waiting is kept: nothing is missed in between.
            self.changed.notified().await;
        }
    }

    fn take(&self, state: &mut State) -> Option<Item> {
        let item = state.items.pop_front()?;
        let weight = self.weight(item.batch());
        state.size = state.size.saturating_sub(weight);
        self.counters.queue_size.sub(weight);
        self.counters.queued_bytes.sub(item.batch().bytes() as u64);
        while let Some(next) = state.before.front() {
            let weight = self.weight(next.batch());
            if !self.fits(state, weight) {
                break;
            }
            let Some(next) = state.before.pop_front() else { break };
            self.enter(state, next, weight);
        }
        Some(item)
    }

    /// Takes nothing more; what is there still comes out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Takes nothing more, and what is there was not sent.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let items = std::mem::take(&mut state.items);
        let before = std::mem::take(&mut state.before);
        self.counters.queue_size.sub(std::mem::take(&mut state.size));
        drop(state);
        for item in items.into_iter().chain(before) {
            self.counters.queued_bytes.sub(item.batch().bytes() as u64);
        }
        self.changed.notify_one();
    }
}
