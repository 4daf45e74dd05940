//! The memory budget: how many bytes of batches may be in flight.
//!
//! There is one for the process: an engine that takes over from another shares it.
//!
//! Admission waits, in the order of arrival. What is already inside may grow without waiting: it
//! has to get out before anything else can, so it must never wait for room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify};

/// The memory that batches may take, if nobody says otherwise: 64 MiB.
pub(super) const DEFAULT_BYTES: usize = 64 << 20;

/// A number of bytes that batches in flight share.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
    freed: Notify,
    /// Held by the one who waits for room, so that a large batch is not overtaken for ever.
    turn: Mutex<()>,
}

/// Bytes taken from a budget, given back on drop.
///
/// A receiver takes them before it reads a request, takes more as the request unfolds, and hands
/// them on with the batch.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            freed: Notify::new(),
            turn: Mutex::new(()),
        })
    }

    /// How many bytes there may be.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }

    /// Changes how many bytes there may be. What is inside stays.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Release);
        self.freed.notify_one();
    }

    /// The bytes in flight.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Takes bytes, waiting for room. What is larger than the whole budget gets in alone.
    pub(crate) async fn admit(self: &Arc<Self>, bytes: usize) -> Charge {
        let _turn = self.turn.lock().await;
        loop {
            if let Some(charge) = self.try_admit(bytes) {
                return charge;
            }
            // Only the holder of the turn waits here, and a notification with nobody waiting is
            // kept for it: nothing freed between the attempt and here is missed.
            self.freed.notified().await;
        }
    }

    /// Takes bytes if there is room for them now. What is larger than the whole budget gets in
    /// when nothing else is inside.
    pub fn try_admit(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let fits = |used: usize| {
            let total = used.saturating_add(bytes);
            (used == 0 || total <= self.limit()).then_some(total)
        };
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Charge { budget: Arc::clone(self), bytes })
    }

    /// Takes bytes without asking whether there is room.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Charge { budget: Arc::clone(self), bytes }
    }
}

impl Charge {
    /// The bytes taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so many bytes more would make it more than the whole budget. It may have them once it is
    /// alone ([`Self::try_grow`]); who must stay within the budget asks here first.
    pub fn would_exceed(&self, more: usize) -> bool {
        self.bytes.saturating_add(more) > self.budget.limit()
    }

    /// Takes so many bytes more, if there is room.
    #[must_use]
    pub fn try_grow(&mut self, more: usize) -> bool {
        let fits = |used: usize| {
            let total = used.saturating_add(more);
            (used == self.bytes || total <= self.budget.limit()).then_some(total)
        };
        let grown =
            self.budget.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }

    /// Makes it so many bytes: what is too much is given back, what is missing is taken without
    /// asking.
    pub fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Ordering::AcqRel);
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
            self.budget.freed.notify_one();
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.freed.notify_one();
    }
}
