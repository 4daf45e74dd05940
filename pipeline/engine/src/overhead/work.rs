//! Work that is measured, and waits for its turn if it can.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::ledger::thread_cpu;
use super::{Overhead, Stage};

/// A piece of work on this thread; what it took is told when it is dropped.
#[derive(Debug)]
pub struct Work {
    overhead: Arc<Overhead>,
    stage: Stage,
    since: u64,
}

impl Work {
    /// Begins now.
    pub fn now(overhead: &Arc<Overhead>, stage: Stage) -> Self {
        Self { overhead: Arc::clone(overhead), stage, since: thread_cpu() }
    }

    /// Begins when its turn has come.
    pub fn in_turn(overhead: &Arc<Overhead>, stage: Stage) -> Self {
        overhead.pause(stage);
        Self::now(overhead, stage)
    }

    /// Does the work, in which every [`checkpoint`] is a step as with [`Work::breathe`].
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        /// Puts back what was there before, also where the work panics.
        struct Restore(Option<Work>);
        impl Drop for Restore {
            fn drop(&mut self) {
                // What is taken out is told when it is dropped.
                drop(CURRENT.replace(self.0.take()));
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self)));
        work()
    }

    /// Between two steps of long work: tells what was taken so far, and waits for the next turn if
    /// that is enough for now. Cheap enough for every few microseconds of work.
    pub fn breathe(&mut self) {
        if !self.overhead.is_governed() {
            return;
        }
        let now = thread_cpu();
        let taken = now.saturating_sub(self.since);
        if taken < self.overhead.piece_nanoseconds() {
            return;
        }
        self.since = now;
        self.overhead.spend(self.stage, taken);
        self.overhead.pause(self.stage);
    }
}

/// Between two steps of long work, whoever it is done for: tells what was taken so far, and waits
/// for the next turn if that is enough for now. Does nothing where the work is not paced, and costs
/// next to nothing where there is no budget.
pub fn checkpoint() {
    CURRENT.with_borrow_mut(|work| {
        if let Some(work) = work {
            work.breathe();
        }
    });
}

impl Drop for Work {
    fn drop(&mut self) {
        self.overhead.spend(self.stage, thread_cpu().saturating_sub(self.since));
    }
}

thread_local! {
    /// The work that this thread does.
    static CURRENT: RefCell<Option<Work>> = const { RefCell::new(None) };
    /// What the future at hand is work of.
    static AT_HAND: RefCell<Option<(Arc<Overhead>, Stage)>> = const { RefCell::new(None) };
}

/// Does long work on a thread of its own, beside the connections; it counts as work of the stage
/// whose future asks for it.
pub fn aside<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> tokio::task::JoinHandle<R> {
    let at_hand = AT_HAND.with_borrow(Clone::clone);
    tokio::task::spawn_blocking(move || match at_hand {
        Some((overhead, stage)) => Work::now(&overhead, stage).run(work),
        None => work(),
    })
}

/// A future whose polls are work of a stage.
#[derive(Debug)]
pub struct Metered<F> {
    overhead: Arc<Overhead>,
    stage: Stage,
    future: F,
}

impl<F> Metered<F> {
    /// Counts what the future takes, on whatever threads it is polled.
    pub fn new(overhead: &Arc<Overhead>, stage: Stage, future: F) -> Self {
        Self { overhead: Arc::clone(overhead), stage, future }
    }
}

impl<F: Future + Unpin> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let since = thread_cpu();
        let own = self.overhead.is_governed().then(|| (Arc::clone(&self.overhead), self.stage));
        let before = AT_HAND.replace(own);
        let polled = Pin::new(&mut self.future).poll(context);
        AT_HAND.set(before);
        self.overhead.spend(self.stage, thread_cpu().saturating_sub(since));
        polled
    }
}
