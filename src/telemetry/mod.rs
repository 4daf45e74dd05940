//! What the program tells about itself while it runs: its log, and metrics for Prometheus.

mod endpoint;
mod log;

pub(crate) use endpoint::Endpoints;
pub(crate) use log::log_to;
