//! profpipe: a continuous-profiling pipeline for OpenTelemetry.
//!
//! This crate is the facade: the engine, the model and every built-in component, for use inside
//! another program. The binary `profpipe` is a thin command line over it.

pub mod registry;

pub use profpipe_pipeline as pipeline;
