//! What the host program offers to components.

use std::path::PathBuf;
use std::sync::Arc;

use super::health::Health;
use super::listeners::Listeners;
use crate::modules::ModuleStore;
use crate::telemetry::Metrics;

/// What the host program offers to components; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// What mappings are.
    pub modules: Arc<ModuleStore>,
    /// The engine's counters.
    pub metrics: Arc<Metrics>,
    /// Sockets that stay open while a new configuration takes over.
    pub listeners: Arc<Listeners>,
    /// Whether the pipelines run.
    pub health: Arc<Health>,
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
