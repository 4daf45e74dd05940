//! The data model, codecs, component traits and engine of profpipe.
//!
//! This crate knows no component. Receivers, processors and exporters depend on it and never on
//! each other; the root package puts them together.
//!
//! # Layout
//! - [`profile`]: what a profile is, one table per file, and the pure operations over tables.
//! - [`otlp`], [`pprof`], [`folded`]: the wire and file formats, each to and from [`profile`].
//! - [`batch`]: what travels between components: data, context and a receipt.
//! - [`budget`]: the memory that everything on its way takes, counted in bytes.
//! - [`component`]: the traits a receiver, a processor and an exporter implement, and the factory
//!   that registers one.
//! - [`engine`]: builds the graph of a configuration, runs it, stops it in order.
//! - [`delivery`]: the queue on disk that survives this process and the machine.
//! - [`config`]: the Collector's YAML with exact error positions.
//! - [`modules`]: where receivers publish what a mapping is and symbolization finds it.
//! - [`overhead`]: what profiling costs, and what keeps that within a budget.
//! - [`report`]: which functions cost most, and the stacks of a flame graph.
//! - [`settings`]: value types that configurations share: durations, sizes.
//! - [`telemetry`]: the pipeline's counters about itself.

pub mod batch;
pub mod budget;
pub mod component;
pub mod config;
pub mod delivery;
pub mod engine;
pub mod folded;
pub mod modules;
pub mod otlp;
pub mod overhead;
pub mod pprof;
pub mod profile;
pub mod report;
pub mod settings;
pub mod telemetry;
