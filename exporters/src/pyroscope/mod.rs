//! The `pyroscope` exporter.
mod answer;
pub mod config;
mod labels;
mod naming;
mod pprof;
mod progress;
mod series;
mod wire;

#[cfg(test)]
mod tests;
