//! Builds the graph of a configuration, runs it and stops it in order.
//!
//! # The graph
//! A receiver and an exporter exist once for each id and are shared by pipelines; a processor
//! exists once for each id and pipeline. A receiver's batch goes to every pipeline that lists it
//! (copies share their content), and comes out of a pipeline into each of its exporters.
//!
//! # What runs where
//! A receiver and an exporter are a task each on the async runtime. The processors of one pipeline
//! are called one after the other on one thread of that pipeline, so that heavy ones never hold up
//! the network, nothing is queued between them, and a batch is seen by one of them at a time. The
//! thread also calls `tick`, about ten times a second.
//!
//! # Memory
//! Batches in flight count in bytes against one [budget](Budget) of the whole engine. Only the way
//! in waits: [`Sender::send`] returns when there is room. What processors make of a batch is counted
//! but never waits, so a pipeline cannot block on itself.
//!
//! # What goes wrong
//! A processor or exporter that fails or panics costs the batch at hand, whose receipt says so; the
//! pipeline goes on. A receiver that fails or panics ends [`RunningEngine::wait`] with its error.
//!
//! # Stopping
//! [`RunningEngine::stop`] asks receivers to end, then flushes processors from first to last, then
//! lets exporters send what is queued and closes them. Every step has a share of the time allowed,
//! and what is late is left behind, with its receipts saying so.
//!
//! # Taking over
//! For another configuration the next engine is [prepared](Builder::prepare) while this one runs.
//! [`RunningEngine::hand_over`] then ends the receivers only; the next engine starts, with the
//! sockets, durable queues and memory budget that both have from the same [`Services`], while what
//! is left of this one is flushed and delivered in the background.

mod addresses;
mod builder;
mod catalog;
mod chain;
mod check;
mod dot;
mod export;
mod left_behind;
mod log_rate_limit;
mod plan;
mod references;
mod running;
mod service_telemetry;

#[cfg(test)]
mod tests;

pub use builder::{Builder, EngineError, Prepared};
pub use catalog::Catalog;
pub use plan::{LogFormat, OtlpPush, PipelinePlan, Plan, PrometheusEndpoint, Telemetry};
pub use running::{Leaving, RunningEngine};
