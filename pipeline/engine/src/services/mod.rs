//! What the host program offers to components.

mod carried;
mod haste;
mod health;
mod listeners;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::carried::CarriedState;
pub use self::haste::Haste;
pub use self::health::Health;
pub use self::listeners::Listeners;
use crate::budget::{Budget, DEFAULT_BYTES};
use crate::modules::ModuleStore;
use crate::overhead::Overhead;
use crate::storage::OpenQueues;
use crate::telemetry::Metrics;

/// What the host program offers to components; cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    /// What mappings are.
    pub modules: Arc<ModuleStore>,
    /// The engine's counters.
    pub metrics: Arc<Metrics>,
    /// Sockets that stay open while a new configuration takes over.
    pub listeners: Arc<Listeners>,
    /// What components know and the next ones of their ids are to know, too.
    pub carried: Arc<CarriedState>,
    /// Durable queues that stay open while a new configuration takes over.
    pub queues: Arc<OpenQueues>,
    /// The memory that batches may take, shared by an engine and the one that takes over from it.
    pub budget: Arc<Budget>,
    /// Whether the pipelines run.
    pub health: Arc<Health>,
    /// Whether what is there is wanted at once.
    pub haste: Arc<Haste>,
    /// What profiling costs and may cost.
    pub overhead: Arc<Overhead>,
    /// How to start the symbolizer's worker process; without it nothing is symbolized from files.
    pub worker: Option<WorkerCommand>,
    /// A directory for what is found out once and kept for later processes of this user; components make
    /// theirs in it. Nothing is kept without.
    pub cache: Option<PathBuf>,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            modules: Arc::default(),
            metrics: Arc::default(),
            listeners: Arc::default(),
            carried: Arc::default(),
            queues: Arc::default(),
            budget: Budget::new(DEFAULT_BYTES),
            health: Arc::default(),
            haste: Arc::default(),
            overhead: Arc::default(),
            worker: None,
            cache: None,
        }
    }
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
