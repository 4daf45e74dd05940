//! Items that failed again and again, set aside for a while so that they do not keep all consumers
//! busy: what cannot be sent shall not hold up what can.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::item::Item;
use super::sleep_until;

/// The most items that are set aside.
const MAX_PARKED: usize = 256;
/// The most bytes of them.
const MAX_PARKED_BYTES: usize = 16 << 20;

/// Items that are set aside.
#[derive(Debug, Default)]
pub(super) struct Parked {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<(Instant, Item)>,
    bytes: usize,
    /// Whether the next turn is theirs.
    turn: bool,
}

impl Parked {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if there is room for an item of so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let state = self.lock();
        state.items.len() < MAX_PARKED && state.bytes.saturating_add(bytes) <= MAX_PARKED_BYTES
    }

    /// Sets an item aside until the instant.
    pub(super) fn park(&self, item: Item, until: Instant) {
        let mut state = self.lock();
        state.bytes += item.batch().bytes();
        state.items.push_back((until, item));
        drop(state);
        self.changed.notify_one();
    }

    /// True every other time, so that neither these nor others wait for ever.
    pub(super) fn is_their_turn(&self) -> bool {
        let mut state = self.lock();
        state.turn = !state.turn;
        state.turn
    }

    /// The first item that may be tried again.
    pub(super) fn take(&self, now: Instant) -> Option<Item> {
        let mut state = self.lock();
        let at = state.items.iter().position(|(until, _)| *until <= now)?;
        let (_, item) = state.items.remove(at)?;
        state.bytes -= item.batch().bytes();
        Some(item)
    }

    /// Any item, whatever its time.
    pub(super) fn take_any(&self) -> Option<Item> {
        let mut state = self.lock();
        let (_, item) = state.items.pop_front()?;
        state.bytes -= item.batch().bytes();
        Some(item)
    }

    /// Waits until there is one that may be tried again.
    pub(super) async fn due(&self) {
        loop {
            let first = self.lock().items.iter().map(|(until, _)| *until).min();
            tokio::select! {
                () = sleep_until(first) => return,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Lets go of all items.
    pub(super) fn clear(&self) {
        // Items end while nothing is locked.
        let items = std::mem::take(&mut *self.lock()).items;
        drop(items);
    }
}
