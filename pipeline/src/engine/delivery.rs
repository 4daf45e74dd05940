//! An exporter's task: its queue, retries, receipts and end.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};

use super::quiet::Quiet;
use super::retry::{Backoff, RetryPolicy};
use super::sender::Edge;
use crate::batch::{Batch, Outcome};
use crate::component::{Exporter, Failure};
use crate::telemetry::Counter;

/// The longest wait between attempts once the engine is stopping.
const LAST_WAITS: Duration = Duration::from_millis(200);

/// The way into an exporter. Its length is bounded by the memory budget that batches hold.
#[derive(Debug, Clone)]
pub(super) struct ExportQueue {
    queue: mpsc::UnboundedSender<Batch>,
    queued: Counter,
}

impl ExportQueue {
    pub(super) fn new(queued: Counter) -> (Self, mpsc::UnboundedReceiver<Batch>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        (Self { queue, queued }, receiver)
    }

    pub(super) fn push(&self, batch: Batch) {
        let bytes = batch.bytes() as u64;
        self.queued.add(bytes);
        if let Err(mpsc::error::SendError(batch)) = self.queue.send(batch) {
            self.queued.sub(bytes);
            batch.receipt.settle(Outcome::Retry("the exporter has stopped".into()));
        }
    }
}

/// What an exporter's task owns.
pub(super) struct Delivery {
    pub(super) id: Arc<str>,
    pub(super) exporter: Box<dyn Exporter>,
    pub(super) policy: RetryPolicy,
    pub(super) edge: Edge,
    pub(super) queued: Counter,
    /// Set when the engine stops: the instant by which everything must be over.
    pub(super) stop: watch::Receiver<Option<Instant>>,
    /// True once nothing more will come, whoever still holds a way into the queue.
    pub(super) finish: watch::Receiver<bool>,
    pub(super) quiet: Quiet,
}

impl Delivery {
    /// Runs until every way into the queue is gone and the queue is empty, or until the engine's
    /// last instant.
    pub(super) async fn run(mut self, queue: mpsc::UnboundedReceiver<Batch>) {
        let mut queue = Queue(queue);
        while let Some(batch) = self.next(&mut queue).await {
            self.queued.sub(batch.bytes() as u64);
            self.edge.took(&batch);
            self.deliver(InFlight(Some(batch))).await;
        }
        let deadline = self.stop.borrow().unwrap_or_else(|| now() + Duration::from_secs(1));
        let close = AssertUnwindSafe(self.exporter.close(deadline)).catch_unwind();
        let problem = match tokio::time::timeout_at(deadline.into(), close).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.chain(),
            Ok(Err(panic)) => format!("it panicked: {}", panic_text(&*panic)),
            Err(_) => "it was not done in time".to_owned(),
        };
        self.edge.failed(1);
        tracing::error!("exporters::{}: closing failed: {problem}", self.id);
    }

    async fn next(&mut self, queue: &mut Queue) -> Option<Batch> {
        if !queue.0.is_closed() {
            tokio::select! {
                biased;
                batch = queue.0.recv() => return batch,
                Ok(_) = self.finish.wait_for(|finish| *finish) => queue.0.close(),
            }
        }
        queue.0.recv().await
    }

    /// Tries one batch until it is out, refused, or out of time.
    async fn deliver(&mut self, batch: InFlight) {
        let mut backoff = Backoff::new(self.policy, now());
        let mut stop = self.stop.clone();
        loop {
            let failure = match self.attempt(&batch, &mut stop).await {
                Ok(()) => {
                    if let Some(batch) = batch.delivered() {
                        self.edge.gave(&batch);
                    }
                    return;
                }
                Err(failure) => failure,
            };
            let (asked, cause) = match failure {
                Failure::Retry { after, cause } => (after, cause),
                Failure::Hold { cause } => (None, cause),
                Failure::Reject { cause } | Failure::TooLarge { cause } => {
                    let message = cause.chain();
                    self.edge.failed(1);
                    self.complain(&format!("a batch was dropped: {message}"));
                    batch.settle(Outcome::Rejected(message));
                    return;
                }
            };
            let wait = backoff.after_failure(now(), asked, random());
            let last = *stop.borrow();
            let wait = match (wait, last) {
                (Some(wait), None) => Some(wait),
                // In a hurry: shorter waits, and none that ends too late.
                (Some(wait), Some(last)) => {
                    Some(wait.min(LAST_WAITS)).filter(|wait| now() + *wait < last)
                }
                (None, _) => None,
            };
            // An engine that was dropped has no time left.
            let wait = wait.filter(|_| stop.has_changed().is_ok());
            let message = cause.chain();
            let Some(wait) = wait else {
                self.edge.failed(1);
                self.complain(&format!("a batch was given up: {message}"));
                batch.settle(Outcome::Retry(message));
                return;
            };
            self.complain(&format!("trying again in {wait:.1?}: {message}"));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Stopping cuts a long wait short.
                _ = stop.changed(), if last.is_none() => {}
            }
        }
    }

    fn complain(&mut self, what: &str) {
        if let Some(more) = self.quiet.pass(now()) {
            tracing::warn!("exporters::{}: {what}{more}", self.id);
        }
    }

    async fn attempt(
        &mut self,
        batch: &InFlight,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) -> Result<(), Failure> {
        let Some(batch) = &batch.0 else { return Ok(()) };
        let attempt = AssertUnwindSafe(self.exporter.export(batch)).catch_unwind();
        let out_of_time = async {
            // An engine that is gone sets no limit.
            let Ok(last) = stop.wait_for(Option::is_some).await.map(|last| *last) else {
                return std::future::pending().await;
            };
            if let Some(last) = last {
                tokio::time::sleep_until(last.into()).await;
            }
        };
        let problem = tokio::select! {
            attempted = attempt => match attempted {
                Ok(result) => return result,
                Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
            },
            () = out_of_time => {
                let cause = crate::component::Error::new("the engine stopped before it was done");
                return Err(Failure::Retry { after: None, cause });
            }
        };
        Err(Failure::Reject { cause: crate::component::Error::new(problem) })
    }
}

/// The receiving end; what is left in it when the task ends was not delivered.
struct Queue(mpsc::UnboundedReceiver<Batch>);

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.close();
        while let Ok(batch) = self.0.try_recv() {
            batch.receipt.settle(Outcome::Retry("the engine stopped before it was sent".into()));
        }
    }
}

/// A batch at hand; if the task is cancelled it was not delivered.
struct InFlight(Option<Batch>);

impl InFlight {
    fn delivered(mut self) -> Option<Batch> {
        self.0.take()
    }

    fn settle(mut self, outcome: Outcome) {
        if let Some(batch) = self.0.take() {
            batch.receipt.settle(outcome);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(batch) = self.0.take() {
            batch.receipt.settle(Outcome::Retry("the engine stopped before it was sent".into()));
        }
    }
}

/// What a panic says.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").replace('\n', " ")
}

/// From 0 to 1; good enough to spread retries.
fn random() -> f64 {
    use std::hash::BuildHasher;
    let bits = foldhash::fast::RandomState::default().hash_one(Instant::now());
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The time, as the runtime's clock has it: tests turn it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
