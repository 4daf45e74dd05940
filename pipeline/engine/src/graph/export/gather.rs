//! What consumers take: items as they come, or put together to batches of a size.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::append::Depth;
use super::item::Item;
use super::parked::Parked;
use super::queue::MemoryQueue;
use super::{now, sleep_until};
use crate::batch::{Batch, Receipt};
use crate::budget::Budget;
use crate::delivery::Batching;
use profpipe_profile::merge;

/// What is sent at once.
#[derive(Debug)]
pub(super) struct Work {
    /// All items in one; none if they are sent one by one.
    pub(super) merged: Option<Batch>,
    pub(super) items: Vec<Item>,
}

/// Where items come from.
#[derive(Debug)]
pub(super) enum Source {
    Memory(Arc<MemoryQueue>),
    /// A durable queue, until the engine stops.
    Durable(Arc<Depth>, watch::Receiver<Option<Instant>>),
}

impl Source {
    /// The oldest item; waits for one. `None` at the end.
    async fn next(&self, budget: &Arc<Budget>) -> Option<Item> {
        match self {
            Self::Memory(queue) => queue.pop().await,
            Self::Durable(depth, stop) => {
                let mut stop = stop.clone();
                let lease = tokio::select! {
                    biased;
                    // An engine that was dropped takes nothing more, either.
                    () = async { drop(stop.wait_for(Option::is_some).await) } => None,
                    lease = depth.destination.next() => lease,
                }?;
                Some(Item::leased(lease, Arc::clone(depth), budget))
            }
        }
    }
}

/// The source of all consumers of one destination.
#[derive(Debug)]
pub(super) struct Gather {
    source: Source,
    batching: Option<Batching>,
    budget: Arc<Budget>,
    shelf: tokio::sync::Mutex<Shelf>,
    pub(super) parked: Parked,
}

impl Gather {
    pub(super) fn new(source: Source, batching: Option<Batching>, budget: Arc<Budget>) -> Self {
        let (shelf, parked) = (tokio::sync::Mutex::default(), Parked::default());
        Self { source, batching, budget, shelf, parked }
    }

    /// What to send next; waits for it. `None` at the end.
    pub(super) async fn next(&self) -> Option<Work> {
        let mut parked = self.parked.is_their_turn();
        loop {
            if parked && let Some(item) = self.parked.take(now()) {
                return Some(Work { merged: None, items: vec![item] });
            }
            let items = tokio::select! {
                biased;
                items = self.fresh() => items,
                () = self.parked.due() => {
                    parked = true;
                    continue;
                }
            };
            let Some(items) = items else { return self.last() };
            let merged = if items.len() > 1 { self.merge(&items).await } else { None };
            return Some(Work { merged, items });
        }
    }

    /// What is set aside is tried once more when nothing else comes; what is durable stays.
    fn last(&self) -> Option<Work> {
        match self.source {
            Source::Memory(_) => {
                let item = self.parked.take_any()?;
                Some(Work { merged: None, items: vec![item] })
            }
            Source::Durable(..) => {
                self.parked.clear();
                None
            }
        }
    }

    /// Items that were not tried yet. Dropping the future loses nothing.
    async fn fresh(&self) -> Option<Vec<Item>> {
        match self.batching {
            Some(batching) => self.full(batching).await,
            None => self.source.next(&self.budget).await.map(|item| vec![item]),
        }
    }

    /// Waits until there is enough for one batch, or time to send what there is.
    async fn full(&self, batching: Batching) -> Option<Vec<Item>> {
        // One consumer gathers, the others send or wait for their turn.
        let mut shelf = self.shelf.lock().await;
        loop {
            if !shelf.ended
                && let Some(items) = shelf.due(now(), batching)
            {
                return Some(items);
            }
            if shelf.ended {
                // What is durable stays in its queue.
                return match self.source {
                    Source::Memory(_) => shelf.any(),
                    Source::Durable(..) => {
                        shelf.piles.clear();
                        None
                    }
                };
            }
            tokio::select! {
                item = self.source.next(&self.budget) => match item {
                    Some(item) => shelf.add(item, now(), batching),
                    None => shelf.ended = true,
                },
                () = sleep_until(shelf.first_due(batching)) => {}
            }
        }
    }

    /// All in one, or nothing if one of them cannot be read.
    async fn merge(&self, items: &[Item]) -> Option<Batch> {
        let batches: Vec<Batch> = items.iter().map(|item| item.batch().clone()).collect();
        let merged = tokio::task::spawn_blocking(move || {
            let context = batches.first()?.context.clone();
            let tables: Option<Vec<_>> =
                batches.iter().map(|batch| batch.shared().ok().map(Arc::unwrap_or_clone)).collect();
            let mut merged = Batch::new(merge(tables?));
            merged.context = context;
            Some(merged)
        });
        let mut merged = merged.await.ok()??;
        merged.charge = Some(Arc::new(self.budget.charge(merged.bytes())));
        merged.receipt = Receipt::none();
        Some(merged)
    }
}

/// What is being put together: a pile for each tenant.
#[derive(Debug, Default)]
struct Shelf {
    piles: Vec<Pile>,
    /// True once nothing more comes.
    ended: bool,
}

#[derive(Debug)]
struct Pile {
    tenant: Option<Arc<str>>,
    since: Instant,
    size: u64,
    items: Vec<Item>,
}

impl Shelf {
    fn add(&mut self, item: Item, now: Instant, batching: Batching) {
        let size = batching.sizer.weigh(item.batch());
        let tenant = item.batch().context.tenant.clone();
        match self.piles.iter_mut().find(|pile| pile.tenant == tenant) {
            Some(pile) => {
                pile.size = pile.size.saturating_add(size);
                pile.items.push(item);
            }
            None => self.piles.push(Pile { tenant, since: now, size, items: vec![item] }),
        }
    }

    /// A pile that is large or old enough.
    fn due(&mut self, now: Instant, batching: Batching) -> Option<Vec<Item>> {
        let at = self.piles.iter().position(|pile| {
            pile.size >= batching.min_size
                || now.saturating_duration_since(pile.since) >= batching.flush_timeout
        })?;
        Some(self.piles.remove(at).items)
    }

    fn first_due(&self, batching: Batching) -> Option<Instant> {
        let first = self.piles.iter().map(|pile| pile.since).min()?;
        first.checked_add(batching.flush_timeout)
    }

    fn any(&mut self) -> Option<Vec<Item>> {
        self.piles.pop().map(|pile| pile.items)
    }
}
