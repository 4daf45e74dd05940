//! Builds the graph of a configuration, runs it and stops it in order.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::modules::ModuleStore;
use crate::telemetry::Metrics;

/// What the host program offers to components; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// What mappings are.
    pub modules: Arc<ModuleStore>,
    /// The engine's counters.
    pub metrics: Arc<Metrics>,
    /// How to start the symbolizer's worker process; without it nothing is symbolized from files.
    pub worker: Option<WorkerCommand>,
}

/// How to start a worker process: a program that, run with these arguments, calls the worker's
/// main function with standard input as its socket.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// The way out of a receiver.
#[derive(Debug, Clone)]
pub struct Sender {
    queue: mpsc::Sender<Batch>,
}

/// The pipeline behind a [`Sender`] is gone.
#[derive(Debug, thiserror::Error)]
#[error("the pipeline has stopped")]
pub struct Closed;

impl Sender {
    /// A sender on its own, for tests of receivers.
    pub fn detached(batches: usize) -> (Self, mpsc::Receiver<Batch>) {
        let (queue, receiver) = mpsc::channel(batches);
        (Self { queue }, receiver)
    }

    /// Passes a batch on; waits while the pipeline is full.
    ///
    /// # Errors
    /// If the pipeline has stopped.
    pub async fn send(&self, batch: Batch) -> Result<(), Closed> {
        self.queue.send(batch).await.map_err(|_| Closed)
    }
}
