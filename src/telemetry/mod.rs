//! What the program tells about itself while it runs: its log, and metrics for
//! Prometheus and by OTLP.

mod endpoint;
mod log;
mod push;

pub(crate) use endpoint::Endpoints;
pub(crate) use log::{Log, log_to};
