//! profpipe: a continuous-profiling pipeline for OpenTelemetry, as a library.
//!
//! This crate is the facade: the engine, the data model, the codecs and every built-in component,
//! for use inside another program. The binary `profpipe` is a thin command line over it.
//!
//! # An engine inside a program
//! A configuration says which components there are and how they are connected; it is the YAML that
//! `profpipe run --config` takes, which is the Collector's. A program adds components of its own in
//! one of two ways: it hands over a finished one under an id ([`Builder::receiver`],
//! [`Builder::exporter`]), or it registers a type that configurations can use with settings
//! ([`Builder::with`]). The settings of such a type are a struct that derives the traits of `serde`
//! and `schemars`; `examples/embedding.rs` shows one whole.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! use profpipe::{Batch, Engine, Error, Exporter, Failure, Kind, Lifecycle, Profiles, Receiver, Sender};
//!
//! /// Gives one batch and ends.
//! struct Once;
//!
//! #[profpipe::async_trait]
//! impl Receiver for Once {
//!     async fn run(self: Box<Self>, out: Sender, _life: Lifecycle) -> Result<(), Error> {
//!         // An error means that the engine has stopped, which is no failure of ours.
//!         let _ = out.send(Batch::new(Profiles::new())).await;
//!         Ok(())
//!     }
//! }
//!
//! /// Counts what arrives.
//! struct Count(Arc<Mutex<usize>>);
//!
//! #[profpipe::async_trait]
//! impl Exporter for Count {
//!     async fn export(&mut self, _batch: &Batch) -> Result<(), Failure> {
//!         *self.0.lock().unwrap() += 1;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 1)]
//! # async fn main() -> Result<(), profpipe::EngineError> {
//! let count = Arc::new(Mutex::new(0));
//! let mut engine = Engine::builder()
//!     .receiver("once", Once)
//!     .exporter("count", Count(Arc::clone(&count)))
//!     .config_yaml("service: {pipelines: {profiles: {receivers: [once], exporters: [count]}}}")
//!     .start()?;
//! engine.wait().await?;
//! engine.stop(Duration::from_secs(5)).await?;
//! assert_eq!(*count.lock().unwrap(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What a program can rely on
//! - [`Engine::builder`] knows every built-in component; [`Builder::plan`] checks a configuration
//!   without starting anything and gives every mistake with its place.
//! - [`RunningEngine::wait`] returns when all receivers have ended or one has failed,
//!   [`RunningEngine::stop`] flushes and closes in order within the time it is given, and
//!   [`RunningEngine::metrics`] are the counters, by name ([`metric_names`]) and component.
//! - A receiver that attaches a [`Receipt`] to a batch learns what became of it: delivered, worth
//!   sending again, or rejected.
//!
//! The engine runs on the Tokio runtime that it is started in, installs no signal handler, no
//! logger (it logs through `tracing`) and no global of any kind; several can run in one process.

mod embed;
pub mod registry;

pub use async_trait::async_trait;
pub use embed::{Builder, Engine};
pub use profpipe_engine::batch::{self, Batch, Outcome, Receipt};
pub use profpipe_engine::component::{
    self, Config, Error, Exporter, ExporterConfig, Factory, Failure, Kind, Lifecycle, Outbox,
    Processor, ProcessorConfig, Receiver, ReceiverConfig, Setup, Stability,
};
pub use profpipe_engine::config::{self, ConfigError, ConfigErrors, Environment};
pub use profpipe_engine::{
    EngineError, Plan, RetryPolicy, RunningEngine, Sender, Services, WorkerCommand, settings,
    telemetry,
};
pub use profpipe_formats::{folded, otlp, pprof};
pub use profpipe_profile::{self as profile, Profiles};

/// The names of metrics: what the engine counts, and what each component counts itself.
pub mod metric_names {
    pub use profpipe_engine::overhead::metric_names as overhead;
    pub use profpipe_engine::telemetry::names as engine;
    pub use profpipe_exporters::file::metric_names as file;
    pub use profpipe_exporters::metric_names as exporters;
    pub use profpipe_exporters::pyroscope::metric_names as pyroscope;
    pub use profpipe_processors::downsample::metric_names as downsample;
    pub use profpipe_processors::filter::metric_names as filter;
    #[cfg(feature = "kubernetes")]
    pub use profpipe_processors::k8s_attributes::metric_names as k8s_attributes;
}

/// The model, the formats, the queue and the engine, under the paths that programs use.
pub mod pipeline {
    pub use profpipe_engine::{
        batch, budget, component, config, modules, overhead, settings, telemetry,
    };
    pub use profpipe_formats::{folded, otlp, pprof, report};

    /// The durable queue.
    pub mod delivery {
        pub use profpipe_queue::*;
    }

    /// Building, running and stopping an engine.
    pub mod engine {
        #[deprecated(note = "it is `OpenQueues` now")]
        pub use profpipe_engine::OpenQueues as Logs;
        pub use profpipe_engine::budget::{Budget, Charge};
        pub use profpipe_engine::{
            Backoff, Builder, Catalog, Closed, DeliveryDefaults, EngineError, Health, Leaving,
            Listeners, LogFormat, OtlpPush, PipelinePlan, Plan, Prepared, PrometheusEndpoint,
            RetryPolicy, RunningEngine, Sender, Services, Telemetry, WorkerCommand,
        };
    }

    /// The model, with the algorithm of the processor `downsample`.
    pub mod profile {
        pub use profpipe_processors::downsample::algorithm as downsample;
        pub use profpipe_profile::*;
    }
}
