//! What travels through profpipe, and what runs it.
//!
//! This crate knows no component: receivers, processors and exporters depend on it and never on each
//! other; the root package puts them together.
//!
//! # Layout
//! - [`batch`]: what travels between components: data, context and a receipt.
//! - [`component`]: the traits a receiver, a processor and an exporter implement, and the factory
//!   that registers one.
//! - `graph`: builds the graph of a configuration, runs it, stops it in order. Its public items are
//!   at the root of the crate.
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
mod graph;
pub mod modules;
pub mod overhead;
pub mod settings;
pub mod telemetry;

pub use graph::*;
