//! An exporter's end of the engine: what waits for it, and the consumers that send it.
//!
//! Batches come in through a [`ExporterInput`], wait in a queue in memory or on disk, and are taken by consumers: as many forks of
//! the exporter as it has and the configuration wants. All consumers of a destination share one
//! [gate](gate): when it fails for one it is paused for all. A batch that is refused costs itself
//! only, and nothing here ever makes another destination wait.

mod append;
mod consumer;
mod counters;
mod cut;
mod destination_gate;
mod gate;
mod gather;
mod item;
mod parked;
mod queue;
mod tries;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub(in crate::graph) use self::append::Appender;
use self::append::Depth;
use self::consumer::Consumer;
use self::counters::Counters;
use self::destination_gate::DestinationGate;
use self::gather::{Gather, Source};
use self::queue::MemoryQueue;
use super::plan::PipelinePlan;
use crate::batch::{Batch, Outcome};
use crate::budget::Budget;
use crate::component::{Durability, Error, Exporter};
use crate::delivery::Delivery;
use crate::overhead::Overhead;
use crate::storage::OpenQueue;
use crate::telemetry::Metrics;

/// How often the depth of a durable queue is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A way into one exporter, or into the durable queues of several. When the last one is gone,
/// nothing more will come.
#[derive(Debug, Clone)]
pub(super) enum ExporterInput {
    Memory(Arc<Entry>),
    Durable(mpsc::UnboundedSender<Batch>),
}

#[derive(Debug)]
pub(super) struct Entry(Arc<MemoryQueue>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl ExporterInput {
    pub(super) fn push(&self, batch: Batch) {
        match self {
            Self::Memory(entry) => entry.0.push(batch),
            Self::Durable(queue) => {
                if let Err(mpsc::error::SendError(batch)) = queue.send(batch) {
                    batch.receipt.settle(Outcome::Retry("the engine has stopped".into()));
                }
            }
        }
    }
}

/// What the engine gives to every exporter.
#[derive(Debug, Clone)]
pub(super) struct ExportContext {
    pub(super) metrics: Arc<Metrics>,
    pub(super) budget: Arc<Budget>,
    pub(super) overhead: Arc<Overhead>,
    /// Set when the engine stops: the instant by which everything must be over.
    pub(super) stop: watch::Receiver<Option<Instant>>,
    /// True once nothing more will come, whoever still holds a way in.
    pub(super) finish: watch::Receiver<bool>,
}

/// An exporter with its consumers, not running yet.
pub(super) struct Destination {
    consumer: Consumer,
    queue: Queue,
    consumers: usize,
    around: ExportContext,
}

/// Where batches wait.
#[derive(Debug)]
enum Queue {
    Memory(Arc<Entry>),
    Durable(Arc<OpenQueue>, Arc<Depth>),
}

impl Destination {
    /// Prepares the delivery of an exporter; `log` is where its queue is, if that is durable.
    pub(super) fn new(
        id: &str,
        exporter: Box<dyn Exporter>,
        delivery: Delivery,
        log: Option<Arc<OpenQueue>>,
        around: &ExportContext,
    ) -> Result<Self, Error> {
        let id: Arc<str> = id.into();
        let label = format!("exporters::{id}");
        let storage = log.as_ref().map(|log| log.max_bytes());
        let capacity = delivery.queue.capacity.or(storage);
        let counters = Arc::new(Counters::new(&around.metrics, &label, capacity));
        let policy = delivery.retry.unwrap_or_default();
        let stop = around.stop.clone();
        let passage = DestinationGate::new(Arc::clone(&id), policy, Arc::clone(&counters), stop);
        let (consumers, batching) = (delivery.queue.consumers, delivery.queue.batch);
        let (queue, source) = match log {
            None => {
                let queue = Arc::new(MemoryQueue::new(id, delivery.queue, counters));
                let entry = Arc::new(Entry(Arc::clone(&queue)));
                (Queue::Memory(entry), Source::Memory(queue))
            }
            Some(log) => {
                let (reader, waiting) = log.destination(&id)?;
                counters.enqueued.add(waiting);
                let place = &log.place;
                tracing::info!(
                    "exporters::{id}: its queue is in {} ({}); {} batches wait there",
                    place.directory.display(),
                    match place.durability {
                        Durability::Fsync => "survives a power cut",
                        Durability::Os => "survives the end of this program",
                    },
                    reader.pending().records
                );
                let depth =
                    Arc::new(Depth::new(id, (Arc::clone(&log), reader), counters, &delivery.queue));
                let source = Source::Durable(Arc::clone(&depth), around.stop.clone());
                (Queue::Durable(log, depth), source)
            }
        };
        let consumer = Consumer {
            exporter,
            gather: Arc::new(Gather::new(source, batching, Arc::clone(&around.budget))),
            passage: Arc::new(passage),
            overhead: Arc::clone(&around.overhead),
            timeout: delivery.timeout,
            retry: delivery.retry,
            batching,
        };
        Ok(Self { consumer, queue, consumers, around: around.clone() })
    }

    /// The directory of its queue, if that is durable.
    pub(super) fn place(&self) -> Option<PathBuf> {
        match &self.queue {
            Queue::Memory(_) => None,
            Queue::Durable(log, _) => Some(log.place.directory.clone()),
        }
    }

    /// Runs until every way in is gone and everything is sent, or until the engine's last instant.
    /// A durable queue stays as it is when the engine stops.
    pub(super) async fn run(self) {
        let Self { mut consumer, queue, consumers, around } = self;
        match queue {
            Queue::Memory(entry) => {
                let queue = Arc::clone(&entry.0);
                drop(entry);
                let _rest = AbandonOnDrop(Arc::clone(&queue));
                let mut finish = around.finish;
                let closing = async {
                    if finish.wait_for(|finish| *finish).await.is_ok() {
                        queue.close();
                    }
                    // An engine that was dropped drops its ways in, too.
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = consumer.run_all(consumers) => {}
                    () = closing => {}
                }
            }
            Queue::Durable(log, depth) => {
                let turn = log.turn(&depth.id);
                let mut stop = around.stop;
                let turn = tokio::select! {
                    biased;
                    () = async { drop(stop.wait_for(Option::is_some).await) } => None,
                    // Another engine may not be done with it.
                    turn = turn.lock() => Some(turn),
                };
                if turn.is_some() {
                    let watching = async {
                        loop {
                            // Dead letters are written, and old records dropped, behind our back.
                            tokio::time::sleep(LOOK_INTERVAL).await;
                            depth.update();
                        }
                    };
                    tokio::select! {
                        () = consumer.run_all(consumers) => {}
                        () = watching => {}
                    }
                    depth.settle().await;
                }
            }
        }
        consumer.close().await;
    }
}

/// The ways into exporters, for each pipeline those that it needs, and what writes into durable
/// queues.
pub(super) fn ways(
    destinations: &BTreeMap<String, Destination>,
    pipeline: &PipelinePlan,
) -> (Vec<ExporterInput>, Vec<(String, Appender)>) {
    let mut ways = Vec::new();
    let mut storages: Vec<(Arc<OpenQueue>, Vec<Arc<Depth>>, ExportContext)> = Vec::new();
    for destination in pipeline.exporters.iter().filter_map(|id| destinations.get(id)) {
        match &destination.queue {
            Queue::Memory(entry) => ways.push(ExporterInput::Memory(Arc::clone(entry))),
            Queue::Durable(log, depth) => {
                let known = storages.iter_mut().find(|(known, ..)| Arc::ptr_eq(known, log));
                match known {
                    Some((_, depths, _)) => depths.push(Arc::clone(depth)),
                    None => storages.push((
                        Arc::clone(log),
                        vec![Arc::clone(depth)],
                        destination.around.clone(),
                    )),
                }
            }
        }
    }
    let mut appenders = Vec::new();
    for (log, depths, around) in storages {
        let (sender, batches) = mpsc::unbounded_channel();
        ways.push(ExporterInput::Durable(sender));
        let names: Vec<&str> = depths.iter().map(|depth| &*depth.id).collect();
        let appender = Appender {
            log: Arc::clone(&log.log),
            batches,
            stop: around.stop,
            finish: around.finish,
            depths: depths.as_slice().into(),
        };
        appenders.push((names.join(", "), appender));
    }
    (ways, appenders)
}

impl Consumer {
    /// Runs as many consumers as there can be, until there is nothing more to take.
    async fn run_all(&mut self, consumers: usize) {
        let mut forks = JoinSet::new();
        for _ in 1..consumers {
            let Some(mut fork) = self.fork() else { break };
            forks.spawn(async move { fork.run().await });
        }
        self.run().await;
        while forks.join_next().await.is_some() {}
    }

    fn fork(&self) -> Option<Self> {
        Some(Self {
            exporter: self.exporter.fork()?,
            gather: Arc::clone(&self.gather),
            passage: Arc::clone(&self.passage),
            overhead: Arc::clone(&self.overhead),
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
struct AbandonOnDrop(Arc<MemoryQueue>);

impl Drop for AbandonOnDrop {
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
