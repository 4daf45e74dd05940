//! Who may fetch now: so many at a time, the tenant with the fewest under way first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Files that wait for their turn at most.
const MAX_WAITING: usize = 1024;

/// The slots; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    busy: HashMap<Arc<str>, usize>,
    waiting: VecDeque<(Arc<str>, oneshot::Sender<Slot>)>,
}

/// A turn; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    tenant: Arc<str>,
}

impl Slots {
    /// So many at a time.
    pub(super) fn new(count: usize) -> Self {
        let state = State { free: count.max(1), busy: HashMap::new(), waiting: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a turn; none if too many wait already.
    pub(super) async fn acquire(&self, tenant: &Arc<str>) -> Option<Slot> {
        let waiting = {
            let mut state = self.lock();
            if state.waiting.len() >= MAX_WAITING {
                state.waiting.retain(|(_, waiting)| !waiting.is_closed());
            }
            if state.waiting.len() >= MAX_WAITING {
                return None;
            }
            let (sender, waiting) = oneshot::channel();
            state.waiting.push_back((Arc::clone(tenant), sender));
            waiting
        };
        self.hand_out();
        waiting.await.ok()
    }

    fn hand_out(&self) {
        loop {
            let (tenant, waiting) = {
                let mut state = self.lock();
                if state.free == 0 {
                    return;
                }
                state.waiting.retain(|(_, waiting)| !waiting.is_closed());
                let busy = |tenant: &Arc<str>| state.busy.get(tenant).copied().unwrap_or(0);
                let next = state.waiting.iter().enumerate();
                let Some((at, _)) = next.min_by_key(|(at, (tenant, _))| (busy(tenant), *at)) else {
                    return;
                };
                let Some(next) = state.waiting.remove(at) else { return };
                state.free -= 1;
                *state.busy.entry(Arc::clone(&next.0)).or_default() += 1;
                next
            };
            // Who stopped waiting just now gives it back, by dropping it.
            let _ = waiting.send(Slot { slots: self.clone(), tenant });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.slots.lock();
            state.free += 1;
            if let Some(busy) = state.busy.get_mut(&self.tenant) {
                *busy -= 1;
                if *busy == 0 {
                    state.busy.remove(&self.tenant);
                }
            }
        }
        self.slots.hand_out();
    }
}
