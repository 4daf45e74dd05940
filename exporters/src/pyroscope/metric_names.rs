//! The names of the metrics of `pyroscope`.

/// Samples that were not sent because no server of this kind keeps them: zero or negative
/// (exporter).
pub const SAMPLES_LEFT_OUT: &str = "profpipe_exporter_left_out_samples_total";
