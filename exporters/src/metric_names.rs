//! The names of metrics that several exporters have.

/// Profiles that a destination took a request of and refused for good, by partial success
/// (exporter).
pub const PROFILES_REJECTED: &str = "profpipe_exporter_rejected_profiles_total";
