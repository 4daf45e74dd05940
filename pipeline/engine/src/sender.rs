//! The way out of a receiver: admission to the memory budget, then a copy to every pipeline.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::batch::{Batch, Outcome};
use crate::budget::{Budget, Charge};
use crate::edge::Edge;

/// The way out of a receiver.
#[derive(Debug, Clone)]
pub struct Sender(SenderKind);

#[derive(Debug, Clone)]
enum SenderKind {
    /// Into a plain queue.
    Detached(mpsc::Sender<Batch>),
    /// Into the pipelines of an engine.
    Wired(Arc<Outlet>),
}

/// The way into a pipeline.
pub(crate) trait Inlet: fmt::Debug + Send + Sync {
    /// Takes a batch; never waits. Where the pipeline has stopped, the batch's receipt says so.
    fn push(&self, batch: Batch);
}

/// Where a receiver's batches go, shared by its senders.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) receiver: Arc<str>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) pipelines: Vec<Box<dyn Inlet>>,
    /// True once nothing is taken any more.
    pub(crate) closed: watch::Receiver<bool>,
    pub(crate) edge: Edge,
}

/// The pipeline behind a [`Sender`] is gone.
#[derive(Debug, thiserror::Error)]
#[error("the pipeline has stopped")]
pub struct Closed;

impl Sender {
    /// A sender on its own, for tests of receivers.
    pub fn detached(batches: usize) -> (Self, mpsc::Receiver<Batch>) {
        let (queue, receiver) = mpsc::channel(batches);
        (Self(SenderKind::Detached(queue)), receiver)
    }

    pub(crate) fn wired(outlet: Arc<Outlet>) -> Self {
        Self(SenderKind::Wired(outlet))
    }

    /// Passes a batch on; waits while the engine holds as much as it may.
    ///
    /// # Errors
    /// If the pipeline has stopped; the batch's receipt then says that it may be sent again.
    pub async fn send(&self, batch: Batch) -> Result<(), Closed> {
        match &self.0 {
            SenderKind::Detached(queue) => queue.send(batch).await.map_err(|_| Closed),
            SenderKind::Wired(outlet) => outlet.send(batch).await,
        }
    }

    /// The memory budget, for a receiver that wants room before it reads a request; then the bytes
    /// go with the batch into [`Sender::send_admitted`].
    pub fn budget(&self) -> Arc<Budget> {
        match &self.0 {
            SenderKind::Detached(_) => Budget::new(usize::MAX),
            SenderKind::Wired(outlet) => Arc::clone(&outlet.budget),
        }
    }

    /// Passes on a batch for which there is room already; does not wait.
    ///
    /// # Errors
    /// If the pipeline has stopped; the batch's receipt then says that it may be sent again.
    pub async fn send_admitted(&self, batch: Batch, mut charge: Charge) -> Result<(), Closed> {
        match &self.0 {
            SenderKind::Detached(queue) => queue.send(batch).await.map_err(|_| Closed),
            SenderKind::Wired(outlet) => {
                charge.resize(batch.bytes());
                outlet.pass(batch, charge)
            }
        }
    }
}

impl Outlet {
    async fn send(&self, batch: Batch) -> Result<(), Closed> {
        let mut closed = self.closed.clone();
        let charge = tokio::select! {
            biased;
            // The other end going away also means that nothing is taken any more.
            _ = closed.wait_for(|closed| *closed) => None,
            charge = self.budget.admit(batch.bytes()) => Some(charge),
        };
        let Some(charge) = charge else {
            batch.receipt.settle(Outcome::Retry(Closed.to_string()));
            return Err(Closed);
        };
        self.pass(batch, charge)
    }

    fn pass(&self, mut batch: Batch, charge: Charge) -> Result<(), Closed> {
        if *self.closed.borrow() {
            batch.receipt.settle(Outcome::Retry(Closed.to_string()));
            return Err(Closed);
        }
        batch.charge = Some(Arc::new(charge));
        if batch.context.receiver.is_empty() {
            batch.context.receiver = Arc::clone(&self.receiver);
        }
        self.edge.gave(&batch);
        for pipeline in &self.pipelines {
            pipeline.push(batch.clone());
        }
        Ok(())
    }
}
