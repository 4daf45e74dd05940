//! The wire and file formats of profiles, each to and from [`profpipe_profile`].
//!
//! Usable alone: no runtime, no configuration. Every decoder takes hostile bytes: it never panics,
//! and its memory and time are bounded by the input's length.
//!
//! # Layout
//! - [`otlp`]: OTLP profiles in protobuf and JSON, and the payload that is decoded only if need be.
//! - [`pprof`]: pprof's protobuf.
//! - [`folded`]: collapsed stacks.
//! - [`speedscope`], [`cpuprofile`]: what other tools write; only read.
//! - [`file`](mod@file): files of any of these formats, told by their content.
//! - [`pyroscope`]: what Pyroscope calls types and labels.
//! - [`report`]: which functions cost most, and the stacks of a flame graph.

pub mod cpuprofile;
mod draft;
pub mod file;
pub mod folded;
pub mod otlp;
pub mod pprof;
pub mod pyroscope;
pub mod report;
pub mod speedscope;
