//! The names of the metrics of `file`.

/// Files written (exporter).
pub const FILES_WRITTEN: &str = "profpipe_exporter_files_written_total";

/// Bytes written to files (exporter).
pub const BYTES_WRITTEN: &str = "profpipe_exporter_file_bytes_written_total";
