//! An exporter's end of the engine: what waits for it, and the consumers that send it.
//!
//! Batches come in through a [`Way`], wait in a queue, and are taken by consumers: as many forks of
//! the exporter as it has and the configuration wants. All consumers of a destination share one
//! [gate](gate): when it fails for one it is paused for all. A batch that is refused costs itself
//! only, and nothing here ever makes another destination wait.

mod consumer;
mod counters;
mod cut;
mod gate;
mod gather;
mod item;
mod passage;
mod queue;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::consumer::Consumer;
use self::counters::Counters;
use self::gather::{Gather, Source};
use self::passage::Passage;
use self::queue::MemoryQueue;
use super::budget::Budget;
use super::settings::Delivery;
use crate::batch::Batch;
use crate::component::Exporter;
use crate::telemetry::Metrics;

/// A way into an exporter. When the last one is gone, nothing more will come.
#[derive(Debug, Clone)]
pub(super) struct Way(Arc<Entry>);

#[derive(Debug)]
struct Entry(Arc<MemoryQueue>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Way {
    pub(super) fn push(&self, batch: Batch) {
        self.0.0.push(batch);
    }
}

/// What the engine gives to every exporter.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) metrics: Arc<Metrics>,
    pub(super) budget: Arc<Budget>,
    /// Set when the engine stops: the instant by which everything must be over.
    pub(super) stop: watch::Receiver<Option<Instant>>,
    /// True once nothing more will come, whoever still holds a way in.
    pub(super) finish: watch::Receiver<bool>,
}

/// An exporter with its consumers, not running yet.
pub(super) struct Destination {
    consumer: Consumer,
    queue: Arc<MemoryQueue>,
    consumers: usize,
    finish: watch::Receiver<bool>,
}

impl Destination {
    /// Prepares the delivery of an exporter; with the way in.
    pub(super) fn new(
        id: &str,
        exporter: Box<dyn Exporter>,
        delivery: Delivery,
        around: &Surroundings,
    ) -> (Way, Self) {
        let id: Arc<str> = id.into();
        let label = format!("exporters::{id}");
        let capacity = delivery.queue.capacity;
        let counters = Arc::new(Counters::new(&around.metrics, &label, capacity));
        let policy = delivery.retry.unwrap_or_default();
        let stop = around.stop.clone();
        let passage = Passage::new(Arc::clone(&id), policy, Arc::clone(&counters), stop);
        let (consumers, batching) = (delivery.queue.consumers, delivery.queue.batch);
        let queue = Arc::new(MemoryQueue::new(id, delivery.queue, counters));
        let source = Source::Memory(Arc::clone(&queue));
        let consumer = Consumer {
            exporter,
            gather: Arc::new(Gather::new(source, batching, Arc::clone(&around.budget))),
            passage: Arc::new(passage),
            timeout: delivery.timeout,
            retry: delivery.retry,
            batching,
        };
        let way = Way(Arc::new(Entry(Arc::clone(&queue))));
        (way, Self { consumer, queue, consumers, finish: around.finish.clone() })
    }

    /// Runs until every way in is gone and everything is sent, or until the engine's last instant.
    pub(super) async fn run(self) {
        let Self { mut consumer, queue, consumers, mut finish } = self;
        let _rest = Rest(Arc::clone(&queue));
        let mut forks = JoinSet::new();
        for _ in 1..consumers {
            let Some(mut fork) = consumer.fork() else { break };
            forks.spawn(async move { fork.run().await });
        }
        let all = async {
            consumer.run().await;
            while forks.join_next().await.is_some() {}
        };
        let closing = async {
            if finish.wait_for(|finish| *finish).await.is_ok() {
                queue.close();
            }
            // An engine that was dropped drops its ways in, too.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = all => {}
            () = closing => {}
        }
        consumer.close().await;
    }
}

impl Consumer {
    fn fork(&self) -> Option<Self> {
        Some(Self {
            exporter: self.exporter.fork()?,
            gather: Arc::clone(&self.gather),
            passage: Arc::clone(&self.passage),
            timeout: self.timeout,
            retry: self.retry,
            batching: self.batching,
        })
    }

    /// Closes the exporter.
    async fn close(&mut self) {
        let stop = *self.passage.stop.borrow();
        let deadline = stop.unwrap_or_else(|| now() + Duration::from_secs(1));
        let close = AssertUnwindSafe(self.exporter.close(deadline)).catch_unwind();
        let problem = match tokio::time::timeout_at(deadline.into(), close).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.chain(),
            Ok(Err(panic)) => format!("it panicked: {}", panic_text(&*panic)),
            Err(_) => "it was not done in time".to_owned(),
        };
        self.passage.counters.edge.failed(1);
        tracing::error!("exporters::{}: closing failed: {problem}", self.passage.id);
    }
}

/// What is left in the queue when the task ends was not delivered.
struct Rest(Arc<MemoryQueue>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What a panic says.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").replace('\n', " ")
}

/// The time, as the runtime's clock has it: tests turn it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
