//! What travels through profpipe, and what runs it.
//!
//! This crate knows no component: receivers, processors and exporters depend on it and never on each
//! other; the root package puts them together.
//!
//! # Layout
//! - [`batch`]: what travels between components: data, context and a receipt.
//! - [`component`]: the traits a receiver, a processor and an exporter implement, and the factory
//!   that registers one.
//! - [`Builder`], [`RunningEngine`] (`graph`): the graph of a configuration: built, run, stopped in
//!   order. [`Sender`]: the way into it. [`Services`]: what a program offers to components.
//! - [`budget`]: the memory that everything on its way takes, counted in bytes.
//! - [`config`]: the Collector's YAML with exact error positions.
//! - [`modules`]: where receivers publish what a mapping is and symbolization finds it.
//! - [`overhead`]: what profiling costs, and what keeps that within a budget.
//! - [`settings`]: value types that configurations share: durations, sizes.
//! - [`telemetry`]: the pipeline's counters about itself.

pub mod batch;
pub mod budget;
pub mod component;
pub mod config;
mod delivery;
mod edge;
mod graph;
pub mod modules;
pub mod overhead;
mod sender;
mod services;
pub mod settings;
mod storage;
pub mod telemetry;

pub use delivery::{Backoff, DeliveryDefaults, RetryPolicy};
pub use graph::{
    Builder, Catalog, EngineError, Leaving, LogFormat, OtlpPush, PipelinePlan, Plan, Prepared,
    PrometheusEndpoint, RunningEngine, Telemetry,
};
pub use sender::{Closed, Sender};
pub use services::{CarriedState, Haste, Health, Listeners, Services, WorkerCommand};
pub use storage::OpenQueues;
